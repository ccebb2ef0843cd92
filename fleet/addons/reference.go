package addons

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// reference is where an object is.
type reference struct {
	schema.GroupVersionKind
	namespace, name string
}

func referenceTo(object *unstructured.Unstructured) reference {
	return reference{object.GroupVersionKind(), object.GetNamespace(), object.GetName()}
}

// key is the same for all versions of the kind.
func (r reference) key() reference {
	r.Version = ""
	return r
}

// String is for people: DaemonSet kube-system/sendan-cni.
func (r reference) String() string { return r.Kind + " " + r.path() }

func (r reference) path() string {
	if r.namespace == "" {
		return r.name
	}
	return r.namespace + "/" + r.name
}

// MarshalText writes "apps/v1 DaemonSet kube-system/sendan-cni". None of the parts can contain a space.
func (r reference) MarshalText() ([]byte, error) {
	return []byte(r.GroupVersion().String() + " " + r.String()), nil
}

// UnmarshalText reads what MarshalText writes.
func (r *reference) UnmarshalText(text []byte) error {
	parts := strings.Fields(string(text))
	if len(parts) != 3 {
		return fmt.Errorf("%q is not of the form <apiVersion> <kind> <namespace>/<name>", text)
	}
	version, err := schema.ParseGroupVersion(parts[0])
	if err != nil {
		return fmt.Errorf("read %q: %w", text, err)
	}
	r.GroupVersionKind, r.namespace, r.name = version.WithKind(parts[1]), "", parts[2]
	if namespace, name, isNamespaced := strings.Cut(parts[2], "/"); isNamespaced {
		r.namespace, r.name = namespace, name
	}
	return nil
}

// empty is the object without content, to read or remove it.
func (r reference) empty() *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	object.SetGroupVersionKind(r.GroupVersionKind)
	object.SetNamespace(r.namespace)
	object.SetName(r.name)
	return object
}
