package controllers

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"regexp"
	"slices"
	"strings"
)

var (
	uuids     = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32,64}`)
	times     = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+(Z|[+-]\d\d:\d\d)?`)
	macs      = regexp.MustCompile(`([0-9a-f]{2}:){5}[0-9a-f]{2}`)
	addresses = regexp.MustCompile(`\d+\.\d+\.\d+\.\d+`)
	zones     = regexp.MustCompile(`compute:az\d`)
)

// endState is all that the cloud holds of its users' objects, without what chance decides: ids, times, addresses and places. Two clouds with
// the same end state have the same objects, with the same settings, which refer to each other in the same way.
func (w *world) endState() []string {
	w.t.Helper()
	text, err := w.sim.Snapshot()
	w.must(err)
	var saved map[string]any
	w.must(json.Unmarshal(text, &saved))
	objects := map[string]string{}
	for _, section := range []string{"compute", "network", "loadBalancer", "volumes"} {
		collect(section, saved[section], objects)
	}
	for _, volatile := range []*regexp.Regexp{times, macs, addresses, zones} {
		for id, object := range objects {
			objects[id] = volatile.ReplaceAllString(object, "·")
		}
	}
	// Objects get the names of what they refer to, which have those of what they refer to.
	names := map[string]string{}
	for range 4 {
		next := map[string]string{}
		for id, object := range objects {
			next[id] = nameOf(rename(object, names))
		}
		names = next
	}
	var state []string
	for _, object := range objects {
		state = append(state, rename(object, names))
	}
	slices.Sort(state)
	return state
}

// collect finds what has an id, wherever it is.
func collect(path string, value any, into map[string]string) {
	switch value := value.(type) {
	case []any:
		for _, item := range value {
			collect(path, item, into)
		}
	case map[string]any:
		id, _ := value["id"].(string)
		for _, key := range slices.Sorted(maps.Keys(value)) {
			if isVolatile(key) {
				delete(value, key)
				continue
			}
			collect(path+"."+key, value[key], into)
		}
		if uuids.MatchString(id) {
			text, err := json.Marshal(value)
			if err != nil {
				panic(err) // it was read from JSON
			}
			into[id] = path + " " + string(text)
		}
	}
}

// isVolatile is true of what the cloud decides by itself and may decide otherwise the next time.
func isVolatile(key string) bool {
	return slices.Contains([]string{"host", "adminPass", "reservation", "revision_number", "deleted"}, key)
}

func rename(object string, names map[string]string) string {
	return uuids.ReplaceAllStringFunc(object, func(id string) string {
		if name, found := names[id]; found {
			return name
		}
		return "#"
	})
}

func nameOf(object string) string {
	h := fnv.New64a()
	_, _ = h.Write([]byte(object))
	return fmt.Sprintf("<%x>", h.Sum64())
}

// difference is what two end states do not have in common; empty when they are the same.
func difference(have, want []string) string {
	count := map[string]int{}
	for _, object := range have {
		count[object]++
	}
	for _, object := range want {
		count[object]--
	}
	var lines []string
	for object, n := range count {
		switch {
		case n > 0:
			lines = append(lines, fmt.Sprintf("+%d %s", n, object))
		case n < 0:
			lines = append(lines, fmt.Sprintf("%d %s", n, object))
		}
	}
	slices.SortFunc(lines, func(a, b string) int { return strings.Compare(a[2:], b[2:]) })
	return strings.Join(lines, "\n")
}
