package simulator

import (
	"cmp"
	"encoding/json"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// attributeIndex finds the attributes of objects by the names the API has for them, so that every
// list can be filtered and sorted by each of them. The simulator's lock guards it.
type attributeIndex map[reflect.Type]map[string][]int

// fieldsByJSONName maps the names of a struct's JSON fields, embedded ones included, to their index.
func fieldsByJSONName(t reflect.Type) map[string][]int {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	names := map[string][]int{}
	for _, field := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "" && name != "-" {
			names[name] = field.Index
		}
	}
	return names
}

// values are an attribute as query parameters write it; several when it is a list.
func (x attributeIndex) values(object any, name string) ([]string, bool) {
	value := reflect.ValueOf(object)
	if value.Kind() == reflect.Pointer {
		value = value.Elem()
	}
	if x[value.Type()] == nil {
		x[value.Type()] = fieldsByJSONName(value.Type())
	}
	index, known := x[value.Type()][name]
	if !known {
		return nil, false
	}
	return texts(value.FieldByIndex(index))
}

func texts(value reflect.Value) ([]string, bool) {
	switch value.Kind() {
	case reflect.String:
		return []string{value.String()}, true
	case reflect.Bool:
		return []string{strconv.FormatBool(value.Bool())}, true
	case reflect.Int:
		return []string{strconv.FormatInt(value.Int(), 10)}, true
	case reflect.Pointer:
		if value.IsNil() {
			return []string{""}, true
		}
		return texts(value.Elem())
	case reflect.Slice:
		list, ok := value.Interface().([]string)
		return list, ok
	}
	return nil, false
}

// selects reports whether an object fits all parameters of a list request that filter. special
// answers first, for parameters that are no plain attributes. What nobody knows filters nothing, as
// in Neutron and Octavia.
func (x attributeIndex) selects(query url.Values, object any, special func(name string, values []string) (matched, known bool)) bool {
	for name, wanted := range query {
		matched, known := special(name, wanted)
		if !known {
			var actual []string
			if actual, known = x.values(object, name); known {
				matched = slices.ContainsFunc(actual, func(value string) bool { return slices.ContainsFunc(wanted, sameAs(value)) })
			}
		}
		if known && !matched {
			return false
		}
	}
	return true
}

// sameAs compares exactly, but takes Python's and other spellings of a boolean.
func sameAs(value string) func(string) bool {
	return func(wanted string) bool {
		if value == "true" || value == "false" {
			truth, err := strconv.ParseBool(strings.ToLower(wanted))
			return err == nil && truth == (value == "true")
		}
		return value == wanted
	}
}

// selectsTags answers for tags, tags-any, not-tags and not-tags-any. Values are comma separated.
func selectsTags(tags []string, name string, values []string) (matched, known bool) {
	wanted := strings.Split(strings.Join(values, ","), ",")
	has := func(tag string) bool { return slices.Contains(tags, tag) }
	lacks := func(tag string) bool { return !has(tag) }
	switch name {
	case "tags":
		return !slices.ContainsFunc(wanted, lacks), true
	case "tags-any":
		return slices.ContainsFunc(wanted, has), true
	case "not-tags":
		return slices.ContainsFunc(wanted, lacks), true
	case "not-tags-any":
		return !slices.ContainsFunc(wanted, has), true
	}
	return false, false
}

// sort orders a list of count objects by the query's sort_key and sort_dir, if it has them. apply
// gets the positions in their new order.
func (x attributeIndex) sort(query url.Values, count int, object func(i int) any, apply func(order []int)) {
	keys, directions := query["sort_key"], query["sort_dir"]
	if len(keys) == 0 {
		return
	}
	order := make([]int, count)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		for i, key := range keys {
			left, _ := x.values(object(a), key)
			right, _ := x.values(object(b), key)
			result := slices.CompareFunc(left, right, compareTexts)
			if i < len(directions) && directions[i] == "desc" {
				result = -result
			}
			if result != 0 {
				return result
			}
		}
		return 0
	})
	apply(order)
}

// compareTexts orders numbers by value and everything else as text.
func compareTexts(a, b string) int {
	left, errLeft := strconv.Atoi(a)
	right, errRight := strconv.Atoi(b)
	if errLeft == nil && errRight == nil {
		return cmp.Compare(left, right)
	}
	return cmp.Compare(a, b)
}

// pick is a list in another order.
func pick[T any](list []T, order []int) []T {
	picked := make([]T, len(order))
	for i, at := range order {
		picked[i] = list[at]
	}
	return picked
}

// only cuts a view down to the attributes that the query's fields parameters ask for.
func (attributeIndex) only(c *call, view any) (any, error) {
	asked := c.r.URL.Query()["fields"]
	if len(asked) == 0 {
		return view, nil
	}
	data, err := json.Marshal(view)
	if err != nil {
		return nil, err
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, err
	}
	cut := map[string]json.RawMessage{}
	for _, names := range asked {
		for name := range strings.SplitSeq(names, ",") {
			if value, known := all[name]; known {
				cut[name] = value
			}
		}
	}
	return cut, nil
}

// listing says how a list is made of objects.
type listing[T stored] struct {
	visible func(object T) bool
	tags    func(object T) []string
	// filter answers for query parameters that are no plain attributes; may be nil.
	filter func(object T, name string, values []string) (matched, known bool)
	view   func(object T) any
}

// listReply filters, sorts, cuts and shows a collection the way Neutron and Octavia share.
func listReply[T stored](c *call, x attributeIndex, collection string, objects []T, how listing[T]) (reply, error) {
	query := c.r.URL.Query()
	seen := []T{}
	for _, object := range objects {
		if how.visible(object) && x.selects(query, object, how.special(object)) {
			seen = append(seen, object)
		}
	}
	x.sort(query, len(seen), func(i int) any { return seen[i] }, func(order []int) { seen = pick(seen, order) })
	cut, next, err := page(c, seen, 0, func(object T) string { id, _ := object.identity(); return id })
	if err != nil {
		return reply{}, err
	}
	views := make([]any, len(cut))
	for i, object := range cut {
		if views[i], err = x.only(c, how.view(object)); err != nil {
			return reply{}, err
		}
	}
	return pageReply(collection, views, next), nil
}

func (how listing[T]) special(object T) func(name string, values []string) (matched, known bool) {
	return func(name string, values []string) (bool, bool) {
		if matched, known := selectsTags(how.tags(object), name, values); known {
			return matched, true
		}
		if how.filter == nil {
			return false, false
		}
		return how.filter(object, name, values)
	}
}
