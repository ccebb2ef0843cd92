package kubeapi

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"

	"github.com/jonboulle/clockwork"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/json"
)

// historyLength is how many changes of a cluster a watcher may lag behind before it has to list again.
const historyLength = 256

// key names an object within its resource; namespace is empty for those of the cluster.
type key struct{ namespace, name string }

func (k key) String() string {
	if k.namespace == "" {
		return k.name
	}
	return k.namespace + "/" + k.name
}

// record is one version of an object. It never changes, so readers share it without copying: objects stay encoded,
// which is what nearly every reader wants and takes a fraction of the memory of decoded ones.
type record struct {
	key     key
	uid     types.UID
	version uint64
	labels  labels.Set
	owners  []types.UID
	data    []byte
}

func (r *record) decode() *unstructured.Unstructured {
	obj := &unstructured.Unstructured{}
	// What encode wrote can be read again.
	if err := json.Unmarshal(r.data, &obj.Object); err != nil {
		panic(fmt.Sprintf("stored object %s is not JSON: %v", r.key, err))
	}
	return obj
}

// change is one write. before is nil for a creation, after is nil for a deletion, in which case last is the object as
// it was, with the resource version of its deletion.
type change struct {
	resource            schema.GroupResource
	version             uint64
	before, after, last *record
}

// store holds the objects of one cluster.
type store struct {
	clock  clockwork.Clock
	newUID func() types.UID

	mu      sync.RWMutex
	version uint64
	objects map[schema.GroupResource]map[key]*record
	// history are the latest changes, oldest first; forgotten is the version of the newest one that is no longer there.
	history   []change
	forgotten uint64
	// changed is closed and replaced with every write.
	changed chan struct{}
}

func newStore(clock clockwork.Clock, newUID func() types.UID) *store {
	return &store{
		clock: clock, newUID: newUID,
		objects: map[schema.GroupResource]map[key]*record{},
		changed: make(chan struct{}),
	}
}

func (s *store) get(res resource, k key) (*record, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.find(res, k)
}

func (s *store) find(res resource, k key) (*record, error) {
	if found, ok := s.objects[res.groupResource()][k]; ok {
		return found, nil
	}
	return nil, apierrors.NewNotFound(res.groupResource(), k.name)
}

// list are the objects that match, by namespace and name, and the version of the cluster they belong to.
func (s *store) list(res resource, match filter) ([]*record, uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var found []*record
	for _, r := range s.objects[res.groupResource()] {
		if match.accepts(r) {
			found = append(found, r)
		}
	}
	slices.SortFunc(found, func(a, b *record) int {
		return cmp.Or(cmp.Compare(a.key.namespace, b.key.namespace), cmp.Compare(a.key.name, b.key.name))
	})
	return found, s.version
}

// since are the changes of a resource after a version, the newest version of the cluster, and a channel that is closed
// with the next change of any resource. It fails when the changes are no longer known.
func (s *store) since(res schema.GroupResource, version uint64) ([]change, uint64, <-chan struct{}, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if version < s.forgotten {
		return nil, 0, nil, apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", version, s.forgotten))
	}
	var found []change
	for _, c := range s.history {
		if c.version > version && c.resource == res {
			found = append(found, c)
		}
	}
	return found, s.version, s.changed, nil
}

// create stores a new object; dryRun only says what would be stored.
func (s *store) create(res resource, obj *unstructured.Unstructured, dryRun bool) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{obj.GetNamespace(), obj.GetName()}
	if k.namespace != "" {
		if _, ok := s.objects[schema.GroupResource{Resource: "namespaces"}][key{name: k.namespace}]; !ok {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "namespaces"}, k.namespace)
		}
	}
	if _, ok := s.objects[res.groupResource()][k]; ok {
		return nil, apierrors.NewAlreadyExists(res.groupResource(), k.name)
	}
	obj.SetUID(s.newUID())
	obj.SetCreationTimestamp(metav1.NewTime(s.clock.Now()))
	obj.SetDeletionTimestamp(nil)
	obj.SetGeneration(1)
	if dryRun {
		return s.encode(obj)
	}
	if err := s.settle(res, obj); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	next, err := s.encode(obj)
	if err != nil {
		return nil, err
	}
	s.put(res, nil, next)
	return next, nil
}

// modify replaces an object by what edit makes of it. The edited object keeps its identity; one that did not change
// is not written, as with a real API server. A deleted object whose last finalizer goes, goes too.
func (s *store) modify(res resource, k key, dryRun bool, edit func(*unstructured.Unstructured) error) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.find(res, k)
	if err != nil {
		return nil, err
	}
	old, obj := before.decode(), before.decode()
	if err := edit(obj); err != nil {
		return nil, err
	}
	keepIdentity(old, obj)
	if equality.Semantic.DeepEqual(old.Object, obj.Object) {
		return before, nil
	}
	if !equality.Semantic.DeepEqual(old.Object["spec"], obj.Object["spec"]) {
		obj.SetGeneration(old.GetGeneration() + 1)
	}
	if dryRun {
		return s.encode(obj)
	}
	if err := s.settle(res, obj); err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	next, err := s.encode(obj)
	if err != nil {
		return nil, err
	}
	if obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 {
		s.remove(res, before, obj)
		return next, nil
	}
	s.put(res, before, next)
	return next, nil
}

// keepIdentity restores what no writer may change.
func keepIdentity(old, obj *unstructured.Unstructured) {
	obj.SetGroupVersionKind(old.GroupVersionKind())
	obj.SetNamespace(old.GetNamespace())
	obj.SetName(old.GetName())
	obj.SetUID(old.GetUID())
	obj.SetResourceVersion(old.GetResourceVersion())
	obj.SetGeneration(old.GetGeneration())
	obj.SetCreationTimestamp(old.GetCreationTimestamp())
	obj.SetDeletionTimestamp(old.GetDeletionTimestamp())
}

// delete removes an object, or marks it when finalizers hold it. check may veto, having seen the object.
func (s *store) delete(res resource, k key, dryRun bool, check func(*record) error) (*record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.find(res, k)
	if err != nil {
		return nil, err
	}
	if err := check(before); err != nil || dryRun {
		return before, err
	}
	obj := before.decode()
	if len(obj.GetFinalizers()) == 0 {
		return s.remove(res, before, obj), nil
	}
	if obj.GetDeletionTimestamp() != nil {
		return before, nil
	}
	now := metav1.NewTime(s.clock.Now())
	obj.SetDeletionTimestamp(&now)
	next, err := s.encode(obj)
	if err != nil {
		return nil, err
	}
	s.put(res, before, next)
	return next, nil
}

// remove takes an object out for good, and with it what a cluster's garbage collectors would take. The lock is held.
func (s *store) remove(res resource, before *record, obj *unstructured.Unstructured) *record {
	s.version++
	last := before.asOf(obj, s.version)
	delete(s.objects[res.groupResource()], before.key)
	s.remember(change{resource: res.groupResource(), version: s.version, before: before, last: last})
	s.removeDependents(res, before)
	if res.groupResource() == nodes().groupResource() {
		s.followNode(before, nil)
	}
	return last
}

// asOf is the record, which obj was decoded from, with another version.
func (r *record) asOf(obj *unstructured.Unstructured, version uint64) *record {
	obj.SetResourceVersion(strconv.FormatUint(version, 10))
	other := *r
	if data, err := obj.MarshalJSON(); err == nil {
		other.data, other.version = data, version
	}
	return &other
}

// removeDependents does what three controllers of a real cluster do after a deletion: the garbage collector (owner
// references), the namespace controller (contents) and the pod garbage collector (pods of a node that is gone).
func (s *store) removeDependents(owner resource, gone *record) {
	for gr, objects := range s.objects {
		for _, r := range slices.Collect(maps.Values(objects)) {
			orphan := slices.Contains(r.owners, gone.uid) && !s.anyExists(r.owners)
			inside := owner.group == "" && owner.plural == "namespaces" && r.key.namespace == gone.key.name
			onNode := owner.group == "" && owner.plural == "nodes" && gr == schema.GroupResource{Resource: "pods"} &&
				nodeName(r.decode()) == gone.key.name
			if _, still := objects[r.key]; still && (orphan || inside || onNode) {
				s.remove(resource{group: gr.Group, plural: gr.Resource}, r, r.decode())
			}
		}
	}
}

func (s *store) anyExists(uids []types.UID) bool {
	for _, objects := range s.objects {
		for _, r := range objects {
			if slices.Contains(uids, r.uid) {
				return true
			}
		}
	}
	return false
}

func nodeName(pod *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(pod.Object, "spec", "nodeName")
	return name
}

// encode makes the record of the version after the current one. The lock is held.
func (s *store) encode(obj *unstructured.Unstructured) (*record, error) {
	obj.SetResourceVersion(strconv.FormatUint(s.version+1, 10))
	data, err := json.Marshal(obj.Object)
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return newRecord(obj, data)
}

// newRecord is the record of an object that was encoded as data.
func newRecord(obj *unstructured.Unstructured, data []byte) (*record, error) {
	version, err := strconv.ParseUint(obj.GetResourceVersion(), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("resource version of %s: %w", obj.GetName(), err)
	}
	r := &record{
		key: key{obj.GetNamespace(), obj.GetName()}, uid: obj.GetUID(), version: version,
		labels: obj.GetLabels(), data: data,
	}
	for _, owner := range obj.GetOwnerReferences() {
		r.owners = append(r.owners, owner.UID)
	}
	return r, nil
}

// put stores what encode made. The lock is held since.
func (s *store) put(res resource, before, next *record) {
	gr := res.groupResource()
	if s.objects[gr] == nil {
		s.objects[gr] = map[key]*record{}
	}
	s.version = next.version
	s.objects[gr][next.key] = next
	s.remember(change{resource: gr, version: next.version, before: before, after: next})
	if gr == nodes().groupResource() {
		s.followNode(before, next)
	}
}

func (s *store) remember(c change) {
	if len(s.history) >= historyLength {
		half := historyLength / 2
		s.forgotten = s.history[half-1].version
		s.history = slices.Clone(s.history[half:])
	}
	s.history = append(s.history, c)
	close(s.changed)
	s.changed = make(chan struct{})
}
