package addons

import (
	"maps"
	"slices"
	"strings"
)

// sortByDependency puts every name behind those that it depends on, and otherwise by the alphabet. Names in a circle come once
// nothing else can; circles tells, for each of them, which.
func sortByDependency(dependsOn map[string][]string) (sorted []string, circles map[string]string) {
	waiting := maps.Clone(dependsOn)
	isReady := func(name string) bool {
		return !slices.ContainsFunc(waiting[name], func(dependency string) bool {
			_, waits := waiting[dependency]
			return waits
		})
	}
	take := func(name string) {
		sorted = append(sorted, name)
		delete(waiting, name)
	}
	circles = map[string]string{}
	for len(waiting) > 0 {
		names := slices.Sorted(maps.Keys(waiting))
		if next := slices.IndexFunc(names, isReady); next >= 0 {
			take(names[next])
			continue
		}
		for _, name := range names {
			if circle := circleThrough(name, dependsOn); circle != nil {
				circles[name] = strings.Join(circle, " → ")
				take(name)
			}
		}
	}
	return sorted, circles
}

// circleThrough returns the names from name back to itself; nil when there is no such way.
func circleThrough(name string, dependsOn map[string][]string) []string {
	seen := map[string]bool{}
	var walk func(path []string) []string
	walk = func(path []string) []string {
		for _, dependency := range dependsOn[path[len(path)-1]] {
			if dependency == name {
				return append(slices.Clone(path), name)
			}
			if seen[dependency] {
				continue
			}
			seen[dependency] = true
			if circle := walk(append(slices.Clone(path), dependency)); circle != nil {
				return circle
			}
		}
		return nil
	}
	return walk([]string{name})
}
