package addons

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// An add-on is not larger than this once rendered. An inventory of several such still fits into a ConfigMap.
const (
	maxManifestBytes = 1 << 20
	maxObjects       = 500
)

// rendered is an add-on as it is applied.
type rendered struct {
	objects []*unstructured.Unstructured
	digest  string
}

// render turns manifests into the objects of the add-on of that name.
func render(name, manifests string, values map[string]string) (rendered, error) {
	text, err := substitute(manifests, values)
	if err != nil {
		return rendered{}, err
	}
	if len(text) > maxManifestBytes {
		return rendered{}, fmt.Errorf("the manifests have %d bytes, at most %d are taken; split the add-on", len(text), maxManifestBytes)
	}
	objects, err := decode(text)
	if err != nil {
		return rendered{}, err
	}
	if len(objects) == 0 {
		return rendered{}, errors.New("the manifests have no objects in them")
	}
	if len(objects) > maxObjects {
		return rendered{}, fmt.Errorf("the manifests have %d objects, at most %d are taken; split the add-on", len(objects), maxObjects)
	}
	seen := map[reference]bool{}
	hash := sha256.New()
	for _, object := range objects {
		labels := object.GetLabels()
		if labels == nil {
			labels = map[string]string{}
		}
		labels[fleetv1.AddonLabel] = name
		object.SetLabels(labels)
		key := referenceTo(object).key()
		if seen[key] {
			return rendered{}, fmt.Errorf("%s is there twice; remove one", referenceTo(object))
		}
		seen[key] = true
		encoded, err := object.MarshalJSON()
		if err != nil {
			return rendered{}, fmt.Errorf("encode %s: %w", referenceTo(object), err)
		}
		hash.Write(encoded)
	}
	return rendered{objects: objects, digest: "sha256:" + hex.EncodeToString(hash.Sum(nil))}, nil
}

// variable matches what is, or looks like, a variable: an escaped ${, or everything from ${ to the next }.
var variable = regexp.MustCompile(`\$\$\{|\$\{[^}\n]*\}?`)

// wellFormed is a variable that can be replaced.
var wellFormed = regexp.MustCompile(`^\$\{([A-Z][A-Z0-9_]*)(:=([^}]*))?\}$`)

// substitute replaces ${NAME} and ${NAME:=default}; $${ becomes ${. Nothing else of a shell's notation is taken: libraries
// for that replace, for instance, ${NAME%suffix} by nothing when NAME is unset.
func substitute(text string, values map[string]string) (string, error) {
	var missing, malformed []string
	replaced := variable.ReplaceAllStringFunc(text, func(match string) string {
		if match == "$${" {
			return "${"
		}
		parts := wellFormed.FindStringSubmatch(match)
		if parts == nil {
			malformed = append(malformed, match)
			return match
		}
		name, hasDefault := parts[1], parts[2] != ""
		value, set := values[name]
		switch {
		case set:
			return value
		case hasDefault:
			return parts[3]
		}
		missing = append(missing, name)
		return match
	})
	if len(malformed) > 0 {
		return "", fmt.Errorf("%s is not a variable; write ${NAME} or ${NAME:=default}, and $${ for a literal ${", malformed[0])
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return "", missingVariables(slices.Compact(missing))
	}
	return replaced, nil
}

// missingVariables are used without a default and have no value.
type missingVariables []string

func (m missingVariables) Error() string {
	return fmt.Sprintf("no value for ${%s}; declare it in spec.variables, or give it a default as in ${%s:=default}", strings.Join(m, "}, ${"), m[0])
}

// decode reads the documents of a YAML text. A key that is there twice is an error.
func decode(text string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for number := 1; ; number++ {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", number, err)
		}
		content := map[string]any{}
		if err := yaml.UnmarshalStrict(document, &content); err != nil {
			return nil, fmt.Errorf("document %d: %w", number, err)
		}
		if len(content) == 0 {
			continue
		}
		found, err := objectsIn(&unstructured.Unstructured{Object: content})
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", number, err)
		}
		objects = append(objects, found...)
	}
}

// objectsIn is the object itself, or the items of a List.
func objectsIn(object *unstructured.Unstructured) ([]*unstructured.Unstructured, error) {
	if !object.IsList() {
		return []*unstructured.Unstructured{object}, checkIdentity(object)
	}
	var items []*unstructured.Unstructured
	err := object.EachListItem(func(item runtime.Object) error {
		items = append(items, item.(*unstructured.Unstructured))
		return checkIdentity(items[len(items)-1])
	})
	return items, err
}

func checkIdentity(object *unstructured.Unstructured) error {
	for _, part := range []struct{ field, value string }{
		{"apiVersion", object.GetAPIVersion()}, {"kind", object.GetKind()}, {"metadata.name", object.GetName()},
	} {
		if part.value == "" {
			return fmt.Errorf("it has no %s; an object needs apiVersion, kind and metadata.name", part.field)
		}
	}
	return nil
}
