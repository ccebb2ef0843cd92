package visit

import (
	"sync"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes/scheme"
)

// builtinKinds are the resources of Kubernetes' own kinds: a *meta.RESTMapping by its schema.GroupVersionKind. They are the same in
// all clusters, so only the first one is asked for each.
type builtinKinds struct{ sync.Map }

// mapper finds the resources of kinds in one cluster.
type mapper struct {
	// RESTMapper asks the cluster.
	meta.RESTMapper
	builtin *builtinKinds
}

// RESTMapping implements [meta.RESTMapper].
func (m mapper) RESTMapping(kind schema.GroupKind, versions ...string) (*meta.RESTMapping, error) {
	if len(versions) != 1 || !isBuiltin(kind.WithVersion(versions[0])) {
		return m.RESTMapper.RESTMapping(kind, versions...)
	}
	gvk := kind.WithVersion(versions[0])
	if known, found := m.builtin.Load(gvk); found {
		return known.(*meta.RESTMapping), nil //nolint:forcetypeassert // nothing else is stored
	}
	found, err := m.RESTMapper.RESTMapping(kind, versions...)
	if err == nil {
		m.builtin.Store(gvk, found)
	}
	return found, err
}

func isBuiltin(gvk schema.GroupVersionKind) bool {
	return scheme.Scheme.Recognizes(gvk) || gvk.GroupVersion() == apiextensionsv1.SchemeGroupVersion
}
