package envtest_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	shardA = "shard-a"
	shardB = "shard-b"
)

func watchLabel(shard string) map[string]string {
	return map[string]string{clusterv1.WatchLabel: shard}
}

// TestShards runs managers that share a kube-apiserver and a project of a cloud. Each has a value of the watch label to itself.
func TestShards(t *testing.T) {
	s := shards{plane: plane{envtest.Start(t)}, sim: newCloud(t, "shared")}
	a := s.makeSet(t, "a", watchLabel(shardA))
	b := s.makeSet(t, "b", watchLabel(shardB))
	// Cluster API does not pass on a Cluster's labels, so this one has the label and nothing that was made for it.
	unlabeled := s.makeSet(t, "unlabeled", nil)
	s.change(t, s.clusterOf(unlabeled), func(obj client.Object) { obj.SetLabels(watchLabel(shardA)) })

	t.Run("a manager leaves alone what is not its own", func(t *testing.T) { s.leavesOthersAlone(t, a, b, unlabeled) })
	t.Run("managers at the same time", func(t *testing.T) { s.runSideBySide(t, a, b) })
	t.Run("a manager without a filter takes everything", func(t *testing.T) {
		s.start(t, "unsharded", "")
		s.provisioned(t, unlabeled.cluster)
		s.runs(t, unlabeled.machine)
		s.hasCondition(t, unlabeled.template, infrav1.ReadyCondition, metav1.ConditionTrue)
		unlabeled.visitors.areOnly(t, "unsharded")
	})
}

type shards struct {
	plane
	sim *simulator.Simulator
}

// set is one cluster with what belongs to it, and a way to the cloud that notes who takes it.
type set struct {
	name     string
	cluster  *infrav1.SendanCluster
	machine  *infrav1.SendanMachine
	template *infrav1.SendanMachineTemplate
	visitors *visitors
}

func (s set) objects() []client.Object { return []client.Object{s.cluster, s.machine, s.template} }

// start runs a manager as long as the test.
func (s shards) start(t *testing.T, name, watchFilter string) {
	t.Helper()
	s.startControllers(t, controllerOptions{name: name, watchFilter: watchFilter, workers: workers, patience: patience})
}

// makeSet makes a cluster with labels on Sendan's objects, not on Cluster API's.
func (s shards) makeSet(t *testing.T, name string, labels map[string]string) set {
	t.Helper()
	visitors := newVisitors(t, s.sim)
	s.tenant(t, name, cloudsYAML(t, s.sim, visitors.Server, "shared"))
	return set{
		name: name, visitors: visitors,
		cluster: s.cluster(t, name, labels), template: s.template(t, name, labels), machine: s.machine(t, name, name, labels),
	}
}

func (s shards) clusterOf(of set) *clusterv1.Cluster {
	return &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: of.name, Name: of.name}}
}

// comesUp ends when everything of a set works. The bootstrap data comes last, when only its Machine tells of it.
func (s shards) comesUp(t *testing.T, of set) {
	t.Helper()
	s.provisioned(t, of.cluster)
	s.hasCondition(t, of.template, infrav1.ReadyCondition, metav1.ConditionTrue)
	s.hasCondition(t, of.machine, infrav1.ReadyCondition, metav1.ConditionFalse)
	s.bootstrap(t, of.machine)
	s.runs(t, of.machine)
}

func (s shards) leavesOthersAlone(t *testing.T, a, b, unlabeled set) {
	others := []set{b, unlabeled}
	// As if the manager of the other shard had been here and is away.
	s.change(t, b.cluster, func(obj client.Object) { controllerutil.AddFinalizer(obj, infrav1.ClusterFinalizer) })
	s.change(t, b.machine, func(obj client.Object) { controllerutil.AddFinalizer(obj, infrav1.MachineFinalizer) })
	before := s.versions(t, others...)
	s.start(t, shardA, shardA)
	s.comesUp(t, a)

	// What is one's own comes last in each round, so that the rest has come by when it is done.
	s.pause(t, true, b, unlabeled, a)
	s.arePaused(t, a, metav1.ConditionTrue)
	s.pause(t, false, b, unlabeled, a)
	s.arePaused(t, a, metav1.ConditionFalse)
	for _, each := range []set{b, unlabeled, a} {
		s.change(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: each.name, Name: "cloud"}}, func(obj client.Object) { obj.SetLabels(map[string]string{"touched": ""}) })
	}
	for _, each := range others {
		s.bootstrap(t, each.machine)
		s.change(t, s.clusterOf(each), func(obj client.Object) { obj.SetLabels(with(obj.GetLabels(), "touched", "")) })
	}
	extra := s.machine(t, a.name, "a-extra", watchLabel(shardA))
	s.bootstrap(t, extra)
	s.runs(t, extra)
	if after := s.versions(t, others...); !maps.Equal(before, after) {
		t.Errorf("objects of others were written: %v, then %v", before, after)
	}

	s.delete(t, b.machine, b.cluster, extra)
	s.goes(t, extra)
	for _, object := range []client.Object{b.machine, b.cluster} {
		if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			t.Errorf("%T of the other shard: %v", object, err)
		}
	}
	b.visitors.areOnly(t)
	unlabeled.visitors.areOnly(t)
	a.visitors.areOnly(t, shardA)
}

// runSideBySide has both work in the same project, so that each sees in the cloud what the other makes and removes there.
func (s shards) runSideBySide(t *testing.T, a, b set) {
	s.start(t, shardA, shardA)
	s.start(t, shardB, shardB)
	s.goes(t, b.machine) // was held by the finalizers of its own manager
	s.goes(t, b.cluster)
	s.hasCondition(t, b.template, clusterv1.PausedCondition, metav1.ConditionFalse)

	c := s.makeSet(t, "c", watchLabel(shardB))
	s.comesUp(t, c)
	extra := s.machine(t, a.name, "a-more", watchLabel(shardA))
	s.bootstrap(t, extra)
	s.runs(t, extra)
	s.isWrittenOnlyBy(t, c, shardB)
	s.delete(t, extra, c.machine)
	s.goes(t, extra)
	s.goes(t, c.machine)
	s.delete(t, s.clusterOf(c), c.cluster)
	s.goes(t, c.cluster)

	s.isWrittenOnlyBy(t, a, shardA)
	a.visitors.areOnly(t, shardA)
	c.visitors.areOnly(t, shardB)
}

func (s shards) pause(t *testing.T, paused bool, all ...set) {
	t.Helper()
	for _, each := range all {
		s.change(t, s.clusterOf(each), func(obj client.Object) { obj.(*clusterv1.Cluster).Spec.Paused = ptr.To(paused) })
	}
}

func (s shards) arePaused(t *testing.T, of set, status metav1.ConditionStatus) {
	t.Helper()
	s.hasCondition(t, of.cluster, clusterv1.PausedCondition, status)
	s.hasCondition(t, of.machine, clusterv1.PausedCondition, status)
	s.hasCondition(t, of.template, clusterv1.PausedCondition, status)
}

// versions are the resource versions of all objects, which every write changes.
func (s shards) versions(t *testing.T, all ...set) map[string]string {
	t.Helper()
	versions := map[string]string{}
	for _, each := range all {
		for _, object := range each.objects() {
			if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
				t.Fatal(err)
			}
			versions[fmt.Sprintf("%T %s", object, each.name)] = object.GetResourceVersion()
		}
	}
	return versions
}

// isWrittenOnlyBy looks at who owns fields of the objects, beside the test itself.
func (s shards) isWrittenOnlyBy(t *testing.T, of set, manager string) {
	t.Helper()
	s.versions(t, of)
	for _, object := range of.objects() {
		writers := map[string]bool{}
		for _, entry := range object.GetManagedFields() {
			if strings.HasPrefix(entry.Manager, "shard-") {
				writers[entry.Manager] = true
			}
		}
		if !maps.Equal(writers, map[string]bool{manager: true}) {
			t.Errorf("%T %s was written by %v, want %s", object, of.name, writers, manager)
		}
	}
}

func (s shards) delete(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := s.Client.Delete(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func (s shards) goes(t *testing.T, object client.Object) {
	t.Helper()
	envtest.Eventually(t, inTime, func() error {
		if err := s.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return client.IgnoreNotFound(err)
		}
		return fmt.Errorf("%T %s is still there", object, object.GetName())
	})
}

// visitors notes who asks a cloud for anything.
type visitors struct {
	*httptest.Server
	mu    sync.Mutex
	names map[string]bool
}

func newVisitors(t *testing.T, sim *simulator.Simulator) *visitors {
	v := &visitors{names: map[string]bool{}}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, _ := strings.Cut(r.UserAgent(), " ")
		v.mu.Lock()
		v.names[name] = true
		v.mu.Unlock()
		sim.ServeHTTP(w, r)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *visitors) areOnly(t *testing.T, want ...string) {
	t.Helper()
	v.mu.Lock()
	defer v.mu.Unlock()
	if got := slices.Sorted(maps.Keys(v.names)); !slices.Equal(got, want) {
		t.Errorf("%q asked the cloud, want %q", got, want)
	}
}
