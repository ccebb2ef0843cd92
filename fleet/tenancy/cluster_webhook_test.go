package tenancy

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/keymutex"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// calls are what admission asks the API server for; what it reads from memory is not among them.
type calls struct{ reads, writes int }

// informer answers from memory does, with copies. Past an informer, count says how often it was asked.
type informer map[client.ObjectKey]client.Object

func (m informer) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	switch object := m[key].(type) {
	case *corev1.Namespace:
		object.DeepCopyInto(into.(*corev1.Namespace))
	case *clusterv1.ClusterClass:
		object.DeepCopyInto(into.(*clusterv1.ClusterClass))
	case *fleetv1.Tenant:
		object.DeepCopyInto(into.(*fleetv1.Tenant))
	case *clusterv1.Cluster:
		object.DeepCopyInto(into.(*clusterv1.Cluster))
	default:
		return apierrors.NewNotFound(schema.GroupResource{Resource: "things"}, key.Name)
	}
	return nil
}

func (informer) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return errors.New("nothing is to be listed")
}

// counted counts, and lets the first writes conflict.
type counted struct {
	informer
	client.SubResourceWriter
	calls
	conflicts int
}

func (c *counted) Get(ctx context.Context, key client.ObjectKey, into client.Object, options ...client.GetOption) error {
	c.reads++
	return c.informer.Get(ctx, key, into, options...)
}

func (c *counted) Update(_ context.Context, object client.Object, _ ...client.SubResourceUpdateOption) error {
	if _, found := c.informer[client.ObjectKeyFromObject(object)]; !found {
		return apierrors.NewNotFound(schema.GroupResource{Resource: "tenants"}, object.GetName())
	}
	c.writes++
	if c.writes <= c.conflicts {
		return apierrors.NewConflict(schema.GroupResource{Resource: "tenants"}, object.GetName(), nil)
	}
	return nil
}

// admissionFor has one tenant that uses so many nodes with 8 A100-80GB, and a quota for 100 nodes more. One of its Clusters has
// one of them.
func admissionFor(used int64) (clusterValidator, *counted) {
	tenant := team(func(t *fleetv1.Tenant) {
		t.Spec.NodeTemplates = []string{"*"}
		t.Spec.Quota.GPUs = []fleetv1.GPUQuota{{Model: "A100-80GB", Count: ptr.To(8 * (used + 100))}}
	})
	l := ledger{used: inGPUs(8 * used)}
	l.writeTo(&tenant.Status)
	conditions.Set(tenant, withinQuota(l.used, amounts{}))
	class := release()
	cached := informer{
		{Name: "team"}: namespace("team", "team-vision"), {Name: "nobodys"}: namespace("nobodys", ""),
		{Namespace: "sendan-fleet-system", Name: "r1-tokyo"}: class, {Name: "team-vision"}: tenant.DeepCopy(),
	}
	live := &counted{informer: informer{
		{Name: "team-vision"}: tenant, {Name: "nobodys"}: namespace("nobodys", ""), client.ObjectKeyFromObject(asked(1)): asked(1),
	}}
	return clusterValidator{
		reads: reads{cached: cached, live: live}, status: live, clock: clockwork.NewFakeClockAt(start),
		systemNamespace: "sendan-fleet-system", turns: keymutex.NewHashed(1), written: &sync.Map{},
	}, live
}

// asked is a Cluster with a pool of so many nodes with 8 A100-80GB.
func asked(gpuNodes int32) *clusterv1.Cluster {
	cluster := clusterWith(ptr.To[int32](1), pool("gpu", "a100", replicas(gpuNodes)))
	cluster.Labels = map[string]string{fleetv1.SiteLabel: "tokyo"}
	cluster.Spec.Topology.ClassRef.Namespace = "sendan-fleet-system"
	return cluster
}

func TestAdmissionAsksForLittle(t *testing.T) {
	leaving := func(cluster *clusterv1.Cluster) *clusterv1.Cluster {
		cluster.DeletionTimestamp = ptr.To(metav1.Now())
		return cluster
	}
	with := func(cluster *clusterv1.Cluster, change func(*clusterv1.Cluster)) *clusterv1.Cluster {
		change(cluster)
		return cluster
	}
	for name, c := range map[string]struct {
		old, cluster *clusterv1.Cluster
		conflicts    int
		want         calls
		refused      string
	}{
		"a new cluster":                {cluster: asked(1), want: calls{0, 1}},
		"a cluster that grows":         {old: asked(1), cluster: asked(2), want: calls{1, 1}},
		"a cluster that shrinks":       {old: asked(2), cluster: asked(1)},
		"a cluster that is refused":    {cluster: asked(2000), want: calls{1, 0}, refused: "quota of tenant team-vision is short"},
		"two who were faster":          {cluster: asked(1), conflicts: 2, want: calls{2, 3}},
		"a growth that is refused":     {old: asked(1), cluster: asked(2000), want: calls{3, 0}, refused: "800 left"},
		"a finalizer":                  {old: asked(2), cluster: with(asked(2), func(c *clusterv1.Cluster) { c.Finalizers = []string{"a/b"} })},
		"a label of the user's":        {old: asked(2), cluster: with(asked(2), func(c *clusterv1.Cluster) { c.Labels["team"] = "vision" })},
		"the cluster's infrastructure": {old: asked(2), cluster: with(asked(2), func(c *clusterv1.Cluster) { c.Spec.InfrastructureRef.Name = "made" })},
		"a variable of a cluster that is being deleted": {old: leaving(asked(2)), cluster: leaving(with(asked(2), func(c *clusterv1.Cluster) {
			c.Spec.Topology.Variables = []clusterv1.ClusterVariable{{Name: "a"}}
		}))},
		"the size of a cluster that is being deleted": {
			old: leaving(asked(2)), cluster: leaving(asked(1)), refused: "spec.topology: Forbidden: the Cluster is being deleted, and counts until it is gone",
		},
		"the class of a cluster that is being deleted": {
			old: leaving(asked(2)), cluster: leaving(with(asked(2), func(c *clusterv1.Cluster) { c.Spec.Topology.ClassRef.Name = "its-own" })), want: calls{1, 0},
			refused: "spec.topology: Forbidden: the Cluster is being deleted, and counts until it is gone",
		},
		"a cluster of no tenant": { // whose namespace may have become one
			cluster: with(asked(1), func(c *clusterv1.Cluster) { c.Namespace = "nobodys" }), want: calls{1, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			v, live := admissionFor(200)
			live.conflicts = c.conflicts
			var err error
			if c.old == nil {
				_, err = v.ValidateCreate(t.Context(), c.cluster)
			} else {
				_, err = v.ValidateUpdate(t.Context(), c.old, c.cluster)
			}
			expectWrong(t, err, c.refused)
			if live.calls != c.want {
				t.Errorf("%+v, want %+v", live.calls, c.want)
			}
		})
	}
}

func TestNothingGrowsWithoutATenant(t *testing.T) {
	v, live := admissionFor(1)
	delete(live.informer, client.ObjectKey{Name: "team-vision"})
	_, err := v.ValidateCreate(t.Context(), asked(1))
	expectWrong(t, err, "metadata.namespace: Forbidden: namespace team is that of Tenant team-vision, which is gone or being deleted")
	_, err = v.ValidateUpdate(t.Context(), asked(2), asked(1))
	expectWrong(t, err, "")
}

func TestARequestThatNobodyWaitsForIsGivenUp(t *testing.T) {
	v, live := admissionFor(1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := v.ValidateCreate(ctx, asked(1))
	expectWrong(t, err, context.Canceled.Error())
	if live.writes > 0 {
		t.Errorf("%d writes", live.writes)
	}
}

func TestAClusterOlderThanItsTenantKeepsItsClass(t *testing.T) {
	v, _ := admissionFor(1)
	foreign := func(pools int32, label string) *clusterv1.Cluster {
		cluster := asked(pools)
		cluster.Labels = map[string]string{fleetv1.TenantLabel: label}
		cluster.Spec.Topology.ClassRef.Name = "its-own"
		return cluster
	}
	_, err := v.ValidateUpdate(t.Context(), foreign(1, ""), foreign(1, "team-vision"))
	expectWrong(t, err, "")
	_, err = v.ValidateUpdate(t.Context(), foreign(1, ""), foreign(2, ""))
	expectWrong(t, err, `spec.topology.classRef.name: Invalid value: "its-own": does not say what a node of`)
}

// BenchmarkAdmission is the time that admission takes itself. A read and a write of small objects come on top.
func BenchmarkAdmission(b *testing.B) {
	v, live := admissionFor(1500)
	var took []time.Duration
	for i := 0; b.Loop(); i++ {
		begun := time.Now()
		if _, err := v.ValidateUpdate(b.Context(), asked(1), asked(int32(2+i%2))); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(live.reads)/float64(len(took)), "reads/op")
	b.ReportMetric(float64(live.writes)/float64(len(took)), "writes/op")
}
