package webhooks

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// immutability says which part of a value may change.
type immutability struct {
	// path of the value in its object.
	path *field.Path
	// mutable lists fields below path that may change, such as "network.managed.dnsNameservers".
	mutable []string
	// instead tells the reader how to get what the change was meant to bring.
	instead string
}

// violations lists each immutable field that differs. It compares the JSON of both, so the paths
// are those a user wrote and an unset field equals a missing one.
func (i immutability) violations(old, updated any) field.ErrorList {
	before, err := generic(old)
	if err != nil {
		return field.ErrorList{field.InternalError(i.path, err)}
	}
	after, err := generic(updated)
	if err != nil {
		return field.ErrorList{field.InternalError(i.path, err)}
	}
	return i.compare(i.path, "", before, after)
}

func (i immutability) compare(path *field.Path, relative string, before, after any) field.ErrorList {
	if slices.Contains(i.mutable, relative) || reflect.DeepEqual(before, after) {
		return nil
	}
	switch before := before.(type) {
	case map[string]any:
		if after, same := after.(map[string]any); same {
			return i.compareObjects(path, relative, before, after)
		}
	case []any:
		if after, same := after.([]any); same && len(before) == len(after) {
			return i.compareLists(path, relative, before, after)
		}
	}
	return field.ErrorList{field.Invalid(path, after, fmt.Sprintf("is immutable and was %s; %s", compact(before), i.instead))}
}

func (i immutability) compareObjects(path *field.Path, relative string, before, after map[string]any) field.ErrorList {
	keys := maps.Clone(before)
	maps.Copy(keys, after)
	var wrong field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		child := key
		if relative != "" {
			child = relative + "." + key
		}
		wrong = append(wrong, i.compare(path.Child(key), child, before[key], after[key])...)
	}
	return wrong
}

func (i immutability) compareLists(path *field.Path, relative string, before, after []any) field.ErrorList {
	var wrong field.ErrorList
	for index := range before {
		wrong = append(wrong, i.compare(path.Index(index), relative, before[index], after[index])...)
	}
	return wrong
}

// generic is a value as JSON sees it.
func generic(value any) (any, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, err
	}
	return out, nil
}
