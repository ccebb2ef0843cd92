package kubeapi

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"

	"github.com/jonboulle/clockwork"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/client-go/applyconfigurations"
	"k8s.io/client-go/kubernetes/scheme"
)

// PortForward connects to a port of a pod, as the kubelet of the pod's node does.
type PortForward func(ctx context.Context, namespace, pod, port string) (net.Conn, error)

// Types is what all clusters of a process share: the built-in types and how their fields merge.
type Types struct {
	builtIn []resource
	apply   func() managedfields.TypeConverter
}

// NewTypes prepares the built-in types.
func NewTypes() *Types {
	return &Types{
		builtIn: builtIn(),
		// The schema of all types takes a while to parse, which only server-side apply needs.
		apply: sync.OnceValue(func() managedfields.TypeConverter { return applyconfigurations.NewTypeConverter(scheme.Scheme) }),
	}
}

// Cluster is the API of one cluster, served alike by each of its API servers.
type Cluster struct {
	types   *Types
	store   *store
	clock   clockwork.Clock
	forward PortForward
}

// NewCluster makes an empty cluster that has the namespaces every cluster has. newUID gives each object its identity.
func NewCluster(types *Types, clock clockwork.Clock, newUID func() types.UID, forward PortForward) *Cluster {
	return &Cluster{types: types, store: newStore(clock, newUID), clock: clock, forward: forward}
}

// resources are the types the cluster serves now, those of its CustomResourceDefinitions included.
func (c *Cluster) resources() []resource {
	all := c.types.builtIn
	definitions, _ := c.store.list(resource{group: apiextensionsGroup, plural: customResourceDefinitions}, everything())
	for _, definition := range definitions {
		if r, ok := definedBy(definition.decode()); ok {
			all = append(all[:len(all):len(all)], r)
		}
	}
	return all
}

func (c *Cluster) findResource(gv schema.GroupVersion, plural string) (resource, bool) {
	for _, r := range c.types.builtIn {
		if r.groupVersion() == gv && r.plural == plural {
			return r, true
		}
	}
	for _, r := range c.resources()[len(c.types.builtIn):] {
		if r.groupVersion() == gv && r.plural == plural {
			return r, true
		}
	}
	return resource{}, false
}

// ServeHTTP answers for the API server whose version the request's context names.
func (c *Cluster) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if c.serveDiscovery(w, r) {
		return
	}
	req, err := c.parse(r)
	if err == nil {
		err = c.serve(w, req) //nolint:contextcheck // the request carries it
	}
	if err != nil {
		writeError(w, err)
	}
}

// Put creates an object of a built-in type, or replaces the one of that name; it is how what runs inside the
// cluster (kubelet, kubeadm) writes.
func (c *Cluster) Put(obj runtime.Object) error {
	res, u, err := c.convert(obj)
	if err != nil {
		return err
	}
	_, err = c.store.create(res, u, false)
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	_, err = c.store.modify(res, key{u.GetNamespace(), u.GetName()}, false, func(live *unstructured.Unstructured) error {
		u.SetAnnotations(live.GetAnnotations())
		live.Object = u.Object
		return nil
	})
	return err
}

// Create makes an object of a built-in type unless one of that name exists.
func (c *Cluster) Create(obj runtime.Object) error {
	res, u, err := c.convert(obj)
	if err != nil {
		return err
	}
	if _, err = c.store.create(res, u, false); apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// Get reads an object of a built-in type into obj, which carries its name and namespace.
func Get[T any, P interface {
	*T
	runtime.Object
}](c *Cluster, namespace, name string, obj P) error {
	res, err := c.resourceOf(obj)
	if err != nil {
		return err
	}
	found, err := c.store.get(res, key{namespace, name})
	if err != nil {
		return err
	}
	return runtime.DefaultUnstructuredConverter.FromUnstructured(found.decode().Object, obj)
}

// Modify changes an object of a built-in type.
func Modify[T any, P interface {
	*T
	runtime.Object
}](c *Cluster, namespace, name string, edit func(P)) error {
	res, err := c.resourceOf(P(new(T)))
	if err != nil {
		return err
	}
	_, err = c.store.modify(res, key{namespace, name}, false, func(live *unstructured.Unstructured) error {
		obj := P(new(T))
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(live.Object, obj); err != nil {
			return err
		}
		edit(obj)
		edited, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
		live.Object = edited
		return err
	})
	return err
}

func (c *Cluster) resourceOf(obj runtime.Object) (resource, error) {
	kinds, _, err := scheme.Scheme.ObjectKinds(obj)
	if err != nil {
		return resource{}, err
	}
	for _, r := range c.types.builtIn {
		if r.gvk() == kinds[0] {
			return r, nil
		}
	}
	return resource{}, errors.New(kinds[0].String() + " is not served")
}

func (c *Cluster) convert(obj runtime.Object) (resource, *unstructured.Unstructured, error) {
	res, err := c.resourceOf(obj)
	if err != nil {
		return res, nil, err
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(obj)
	if err != nil {
		return res, nil, err
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(res.gvk())
	return res, u, nil
}
