package tenancy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/test/envtest"
)

func identities() client.ObjectList { return &infrav1.SendanClusterIdentityList{} }

func setGPUNodes(n int32) func(*clusterv1.Cluster) {
	return func(c *clusterv1.Cluster) { c.Spec.Topology.Workers.MachineDeployments[0].Replicas = &n }
}

func (p platform) refusesClusters(t *testing.T) {
	p.newTenant(t, "refusals", nil)
	p.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "nobodys"}})
	for name, c := range map[string]struct {
		change func(*clusterv1.Cluster)
		want   string
	}{
		"a good one": {},
		"one without a topology": {
			change: func(c *clusterv1.Cluster) {
				c.Spec = clusterv1.ClusterSpec{InfrastructureRef: clusterv1.ContractVersionedObjectReference{
					APIGroup: infrav1.GroupVersion.Group, Kind: "SendanCluster", Name: "mine"}}
			},
			want: `spec.infrastructureRef: Invalid value: "mine": Clusters of tenants are made of Releases, since nothing counts others; remove spec.infrastructureRef`,
		},
		"one in a site of others": {
			change: func(c *clusterv1.Cluster) {
				c.Labels[fleetv1.SiteLabel], c.Spec.Topology.ClassRef.Name = "osaka", "r1-osaka"
			},
			want: `metadata.labels[fleet.sendan.io/site]: Invalid value: "osaka": tenant refusals may not use it; spec.sites of the Tenant has: tokyo`,
		},
		"one whose label says another site than its class": {
			change: func(c *clusterv1.Cluster) { c.Spec.Topology.ClassRef.Name = "r1-osaka" },
			want:   `spec.topology.classRef.name: Invalid value: "r1-osaka": is for site osaka, and the Cluster's label fleet.sendan.io/site says "tokyo"`,
		},
		"one without a site": {
			change: func(c *clusterv1.Cluster) { c.Labels = nil },
			want:   `metadata.labels[fleet.sendan.io/site]: Required value: spec.sites of Tenant refusals has: tokyo`,
		},
		"one of a node template of others": {
			change: func(c *clusterv1.Cluster) { c.Spec.Topology.Workers.MachineDeployments[0].Class = "mig" },
			want:   `spec.topology.workers.machineDeployments[0].class: Invalid value: "mig": tenant refusals may not use it; spec.nodeTemplates of the Tenant has: cpu, a100`,
		},
		"one of a node template that is not in the release": {
			change: func(c *clusterv1.Cluster) { c.Spec.Topology.Workers.MachineDeployments[0].Class = "h100" },
			want:   `spec.topology.workers.machineDeployments[0].class: Unsupported value: "h100": supported values: "a100", "cpu", "mig"`,
		},
		"one of a class of its own": {
			change: func(c *clusterv1.Cluster) { c.Spec.Topology.ClassRef.Namespace = "refusals" },
			want:   `spec.topology.classRef.namespace: Invalid value: "refusals": the ClusterClasses of Releases are in namespace sendan-fleet-system`,
		},
		"one of a class that no release was compiled to": {
			change: func(c *clusterv1.Cluster) { c.Spec.Topology.ClassRef.Name = "foreign" },
			want:   `spec.topology.classRef.name: Invalid value: "foreign": was not made from a Release`,
		},
		"one of a class that is not there": {
			change: func(c *clusterv1.Cluster) { c.Spec.Topology.ClassRef.Name = "r0-tokyo" },
			want:   `spec.topology.classRef.name: Invalid value: "r0-tokyo": is not there`,
		},
		"a single node of a template of the tenant": {change: func(c *clusterv1.Cluster) {
			c.Spec.Topology.ClassRef.Name, c.Spec.Topology.Workers.MachineDeployments = "r1-tokyo-a100", nil
		}},
		"one with the label of another tenant": {
			change: func(c *clusterv1.Cluster) { c.Labels[fleetv1.TenantLabel] = "others" },
			want:   `metadata.labels[fleet.sendan.io/tenant]: Invalid value: "others": namespace refusals is that of tenant refusals`,
		},
		"one of nobody": {change: func(c *clusterv1.Cluster) {
			c.Namespace, c.Labels, c.Spec.Topology.ClassRef.Name = "nobodys", nil, "foreign"
		}},
	} {
		t.Run(name, func(t *testing.T) {
			asked := cluster("refusals", "training", 1)
			if c.change != nil {
				c.change(asked)
			}
			err := p.Client.Create(t.Context(), asked, client.DryRunAll)
			if c.want == "" {
				must(t, err)
				return
			}
			expectRefused(t, err, c.want)
			if name == "one without a topology" && strings.Contains(err.Error(), "spec.sites") {
				t.Errorf("it is also told to name a site, which would not help: %v", err)
			}
		})
	}

	p.newTenant(t, "frugal", func(s *fleetv1.TenantSpec) { s.NodeTemplates = []string{"cpu"} })
	single := cluster("frugal", "single", 0)
	single.Spec.Topology.ClassRef.Name, single.Spec.Topology.Workers.MachineDeployments = "r1-tokyo-a100", nil
	expectRefused(t, p.Client.Create(t.Context(), single), `metadata.labels[fleet.sendan.io/single-node]: Invalid value: "a100": tenant frugal may not use it`)

	had := cluster("refusals", "had", 2)
	p.create(t, had)
	must(t, change(t, p, tenant("refusals", nil), func(x *fleetv1.Tenant) { x.Spec.Sites, x.Spec.NodeTemplates = nil, nil }))
	expectRefused(t, change(t, p, had, setGPUNodes(3)), "spec.nodeTemplates of the Tenant has: none")
	must(t, change(t, p, had, setGPUNodes(1)))
	expectRefused(t, change(t, p, had, func(c *clusterv1.Cluster) { c.Spec.Topology.Workers.MachineDeployments[0].Replicas = nil }),
		`spec.topology.workers.machineDeployments[0].replicas: Required value: it was given before`)
}

func (p platform) holdsBackGrowth(t *testing.T) {
	made := p.newTenant(t, "growth", limited(32))
	training, serving := cluster("growth", "training", 2), cluster("growth", "serving", 1)
	p.create(t, training)
	p.create(t, serving)
	p.await(t, "growth", usesGPUs(24))
	expectRefused(t, p.Client.Create(t.Context(), cluster("growth", "notebooks", 2)),
		`spec.topology.workers.machineDeployments: Forbidden: quota of tenant growth is short: GPUs A100-80GB: 24 of 32 used, 16 more asked, 8 left; scale down, or ask for a larger quota`)
	expectRefused(t, change(t, p, serving, setGPUNodes(3)), "24 of 32 used, 16 more asked, 8 left")
	expectRefused(t, change(t, p, serving, func(c *clusterv1.Cluster) {
		pool := &c.Spec.Topology.Workers.MachineDeployments[0]
		pool.Replicas, pool.Metadata.Annotations = nil, map[string]string{clusterv1.AutoscalerMinSizeAnnotation: "0", clusterv1.AutoscalerMaxSizeAnnotation: "10"}
	}), "24 of 32 used, 72 more asked, 8 left")

	must(t, p.Client.Create(t.Context(), cluster("growth", "trial", 1), client.DryRunAll))
	p.get(t, made)
	if err := usesGPUs(24)(made); err != nil || made.Status.Usage.Clusters != 2 {
		t.Errorf("a dry run left its mark: %v", made.Status.Usage)
	}

	must(t, change(t, p, made, func(x *fleetv1.Tenant) { limited(8)(&x.Spec) }))
	p.await(t, "growth", has(fleetv1.WithinQuotaCondition, fleetv1.OverQuotaReason, "GPUs A100-80GB: 24 of 8 used"))
	must(t, change(t, p, training, setGPUNodes(1)))
	p.await(t, "growth", usesGPUs(16))
	expectRefused(t, change(t, p, training, setGPUNodes(2)), "16 of 8 used, 8 more asked, 0 left")
	must(t, change(t, p, training, func(c *clusterv1.Cluster) { c.Spec.Topology.ControlPlane.Replicas = ptr.To[int32](3) })) // not limited
	must(t, p.Client.Delete(t.Context(), serving))
	p.await(t, "growth", usesGPUs(8))
	p.await(t, "growth", has(fleetv1.WithinQuotaCondition, fleetv1.AvailableReason, ""))

	must(t, change(t, p, made, func(x *fleetv1.Tenant) {
		x.Spec.Quota = fleetv1.TenantQuota{Clusters: ptr.To[int64](1), Nodes: ptr.To[int64](4), MemoryGiB: ptr.To[int64](550)}
	}))
	expectRefused(t, p.Client.Create(t.Context(), cluster("growth", "notebooks", 1)),
		"clusters: 1 of 1 used, 1 more asked, 0 left; nodes: 4 of 4 used, 2 more asked, 0 left; memory: 536 of 550 GiB used, 520 GiB more asked, 14 GiB left")
	expectRefused(t, change(t, p, training, func(c *clusterv1.Cluster) { c.Spec.Topology.ControlPlane.Replicas = ptr.To[int32](5) }),
		"spec.topology.controlPlane.replicas: Forbidden: quota of tenant growth is short: nodes: 4 of 4 used, 2 more asked, 0 left; memory: 536 of 550 GiB used, 16 GiB more asked")
}

func (p platform) rebuildsTheLedger(t *testing.T) {
	made := p.newTenant(t, "forgetful", limited(32))
	p.create(t, cluster("forgetful", "training", 3))
	p.await(t, "forgetful", usesGPUs(24))
	p.get(t, made)
	made.Status = fleetv1.TenantStatus{}
	must(t, p.Client.Status().Update(t.Context(), made))
	expectRefused(t, p.Client.Create(t.Context(), cluster("forgetful", "serving", 2)), "24 of 32 used, 16 more asked, 8 left")
	p.await(t, "forgetful", usesGPUs(24))
}

func (p platform) givesBackWhatWasNeverStored(t *testing.T) {
	made := p.newTenant(t, "crashed", limited(32))
	p.get(t, made)
	made.Status.Usage = fleetv1.Usage{Clusters: 1, GPUs: map[string]int64{"A100-80GB": 32}}
	made.Status.PendingGrowths = []fleetv1.PendingGrowth{{Namespace: "crashed", Name: "lost", UID: "lost",
		Usage: made.Status.Usage, AdmittedTime: metav1.NewMicroTime(p.clock.Now())}}
	must(t, p.Client.Status().Update(t.Context(), made))
	expectRefused(t, p.Client.Create(t.Context(), cluster("crashed", "training", 1)), "32 of 32 used, 8 more asked, 0 left")
	p.clock.Advance(2 * time.Minute)
	must(t, change(t, p, made, func(x *fleetv1.Tenant) { x.Annotations = map[string]string{"look": "again"} }))
	p.await(t, "crashed", usesGPUs(0))
	p.create(t, cluster("crashed", "training", 1))
}

// keepsUp applies clusters one after the other for so long that the controller, which takes a moment to read them, never has the
// ledger to itself.
func (p platform) keepsUp(t *testing.T) {
	made := p.newTenant(t, "endless", limited(100_000))
	deadline := time.Now().Add(soon)
	for i := 0; ; i++ {
		p.create(t, cluster("endless", fmt.Sprint("training-", i), 1))
		if p.get(t, made); len(made.Status.PendingGrowths) <= i/2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d growths are pending", len(made.Status.PendingGrowths), i+1)
		}
	}
}

func (p platform) letsDeletedClustersGo(t *testing.T) {
	p.newTenant(t, "parting", limited(8))
	leaving := cluster("parting", "leaving", 1)
	leaving.Finalizers = []string{"example.com/machines"}
	p.create(t, leaving)
	p.await(t, "parting", usesGPUs(8))
	must(t, p.Client.Delete(t.Context(), leaving))
	expectRefused(t, change(t, p, leaving, setGPUNodes(0)), "spec.topology: Forbidden: the Cluster is being deleted, and counts until it is gone")
	expectRefused(t, p.Client.Create(t.Context(), cluster("parting", "next", 1)), "8 of 8 used, 8 more asked, 0 left") // until it is gone
	must(t, change(t, p, leaving, func(c *clusterv1.Cluster) { c.Finalizers = nil }))
	p.await(t, "parting", usesGPUs(0))
	p.create(t, cluster("parting", "next", 1))
}

func (p platform) releasesNamespaces(t *testing.T) {
	made := p.newTenant(t, "moving", func(s *fleetv1.TenantSpec) {
		limited(16)(s)
		s.Namespaces = []string{"moving-old", "moving-new"}
	})
	left := cluster("moving-old", "left", 1)
	p.create(t, left)
	p.await(t, "moving", usesGPUs(8))
	must(t, change(t, p, made, func(x *fleetv1.Tenant) { x.Spec.Namespaces = []string{"moving-new"} }))
	p.await(t, "moving", has(fleetv1.ReadyCondition, fleetv1.AvailableReason, "namespace moving-old is not in spec.namespaces any more, and has Clusters that count until they are deleted: left"))
	var bindings rbacv1.RoleBindingList
	must(t, p.Client.List(t.Context(), &bindings, client.InNamespace("moving-old")))
	if len(bindings.Items) > 0 {
		t.Errorf("bindings: %v", bindings.Items)
	}
	expectRefused(t, p.Client.Create(t.Context(), cluster("moving-new", "more", 2)), "8 of 16 used, 16 more asked, 8 left")
	must(t, p.Client.Delete(t.Context(), left))
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "moving-old"}}
	envtest.Eventually(t, soon, func() error {
		if p.get(t, n); n.Labels[fleetv1.TenantLabel] != "" {
			return fmt.Errorf("labels %v", n.Labels)
		}
		return nil
	})
	if n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" || !n.DeletionTimestamp.IsZero() {
		t.Errorf("the namespace is %+v", n)
	}
}

func (p platform) deletesTenants(t *testing.T) {
	made := p.newTenant(t, "ending", nil)
	last := cluster("ending", "last", 1)
	p.create(t, last)
	p.await(t, "ending", usesGPUs(8))
	expectRefused(t, p.Client.Delete(t.Context(), made), `it has Clusters: ending/last; delete them first`)
	must(t, p.Client.Delete(t.Context(), last))
	p.await(t, "ending", usesGPUs(0))
	must(t, p.Client.Delete(t.Context(), made))
	envtest.Eventually(t, soon, func() error {
		if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(made), made); !apierrors.IsNotFound(err) {
			return fmt.Errorf("still there, error %w: %v", err, made.Status)
		}
		return nil
	})
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ending"}}
	p.get(t, n)
	if _, labeled := n.Labels[fleetv1.TenantLabel]; labeled || !n.DeletionTimestamp.IsZero() {
		t.Errorf("the namespace is %+v", n)
	}
	for _, list := range []client.ObjectList{&rbacv1.RoleBindingList{}, &rbacv1.RoleList{}, &rbacv1.ClusterRoleList{}, &rbacv1.ClusterRoleBindingList{}} {
		must(t, p.Client.List(t.Context(), list, client.MatchingLabels{fleetv1.TenantLabel: "ending"}, client.Limit(1)))
		if text := fmt.Sprintf("%+v", list); strings.Contains(text, "ending") {
			t.Errorf("left behind: %s", text)
		}
	}
}

func (p platform) settles(t *testing.T) {
	made := p.newTenant(t, "quiet", limited(32))
	p.create(t, cluster("quiet", "training", 1))
	p.await(t, "quiet", usesGPUs(8))
	p.get(t, made)
	// A note on the Tenant makes the controller look; what it then writes would follow.
	must(t, change(t, p, made, func(x *fleetv1.Tenant) { x.Annotations = map[string]string{"look": "again"} }))
	must(t, change(t, p, tenant("plain", nil), func(x *fleetv1.Tenant) { x.Spec.PodSecurity = fleetv1.PodSecurityBaseline }))
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "plain"}}
	envtest.Eventually(t, soon, func() error { // the next in the queue has been seen to
		if p.get(t, n); n.Labels["pod-security.kubernetes.io/enforce"] != "baseline" {
			return errors.New("not yet")
		}
		return nil
	})
	now := made.DeepCopy()
	if p.get(t, now); now.ResourceVersion != made.ResourceVersion {
		t.Errorf("written: %+v", now.ManagedFields)
	}
}

// isQuick tells how long the API server takes to store a growth. How busy the machine is decides more than anything else, so
// nothing is asserted; TestAdmissionAsksForLittle counts what the time depends on.
func (p platform) isQuick(t *testing.T) {
	p.newTenant(t, "large", limited(4000))
	p.create(t, cluster("large", "mine", 1))
	p.create(t, classless("default", "nobodys"))
	for _, c := range []*clusterv1.Cluster{classless("default", "nobodys"), cluster("large", "mine", 1)} {
		var took []time.Duration
		for i := range 60 {
			begun := time.Now()
			must(t, p.Client.Patch(t.Context(), c, replicasPatch(int32(1+i%2))))
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		t.Logf("%s/%s: p50 %s, p99 %s", c.Namespace, c.Name, took[len(took)/2], took[len(took)*99/100])
	}
}

// classless is a Cluster of nobody.
func classless(namespace, name string) *clusterv1.Cluster {
	c := cluster(namespace, name, 1)
	c.Labels = nil
	return c
}

// withstandsAStorm makes, scales and deletes clusters from several sides at once, and adds up after every event what is stored.
func (p platform) withstandsAStorm(t *testing.T) {
	const quota, sides, rounds, names = 80, 8, 40, 5
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	p.newTenant(t, "storm", func(s *fleetv1.TenantSpec) {
		limited(quota)(s)
		s.Namespaces = []string{"storm-a", "storm-b"}
	})
	watching, stop := context.WithCancel(t.Context())
	watcher, err := client.NewWithWatch(p.Config, client.Options{Scheme: p.Scheme})
	must(t, err)
	events, err := watcher.Watch(watching, &clusterv1.ClusterList{})
	must(t, err)
	var watched sync.WaitGroup
	watched.Go(func() {
		stored, most := map[client.ObjectKey]int32{}, int32(0)
		for event := range events.ResultChan() {
			c, ok := event.Object.(*clusterv1.Cluster)
			if !ok || !strings.HasPrefix(c.Namespace, "storm-") {
				continue
			}
			if delete(stored, client.ObjectKeyFromObject(c)); event.Type != "DELETED" {
				stored[client.ObjectKeyFromObject(c)] = gpusOf(c)
			}
			total := int32(0)
			for _, count := range stored {
				total += count
			}
			if most = max(most, total); total > quota {
				t.Errorf("seed %d: %d GPUs are stored: %v", seed, total, stored)
			}
		}
		t.Logf("at most %d of %d GPUs were stored", most, quota)
	})

	var storming sync.WaitGroup
	var mutex sync.Mutex
	outcomes := map[string]int{}
	for side := range sides {
		storming.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(side))) //nolint:gosec // a test
			for range rounds {
				key := client.ObjectKey{Namespace: "storm-" + string("ab"[random.IntN(2)]), Name: fmt.Sprintf("c%d", random.IntN(names))}
				outcome, err := p.storm(t.Context(), random, key)
				mutex.Lock()
				outcomes[outcome+" "+string(apierrors.ReasonForError(err))]++
				mutex.Unlock()
			}
		})
	}
	storming.Wait()
	t.Logf("%v", outcomes)
	var left clusterv1.ClusterList
	must(t, p.Client.List(t.Context(), &left))
	sum := int64(0)
	for i := range left.Items {
		if strings.HasPrefix(left.Items[i].Namespace, "storm-") {
			sum += int64(gpusOf(&left.Items[i]))
		}
	}
	p.clock.Advance(2 * time.Minute)
	must(t, change(t, p, tenant("storm", nil), func(x *fleetv1.Tenant) { x.Annotations = map[string]string{"look": "again"} }))
	p.await(t, "storm", usesGPUs(sum))
	stop()
	watched.Wait()
	for _, must := range []string{"create ", "scale ", "delete ", "create Invalid", "scale Invalid"} {
		if outcomes[must] == 0 {
			t.Errorf("seed %d: a storm without %q: %v", seed, must, outcomes)
		}
	}
}

func gpusOf(c *clusterv1.Cluster) int32 {
	return 8 * ptr.Deref(c.Spec.Topology.Workers.MachineDeployments[0].Replicas, 1)
}

// storm does something to a cluster.
func (p platform) storm(ctx context.Context, random *rand.Rand, key client.ObjectKey) (string, error) {
	size := random.Int32N(6)
	switch random.IntN(5) {
	case 0, 1:
		return "create", p.Client.Create(ctx, cluster(key.Namespace, key.Name, size))
	case 2, 3:
		return "scale", p.Client.Patch(ctx, cluster(key.Namespace, key.Name, 0), replicasPatch(size))
	}
	return "delete", p.Client.Delete(ctx, cluster(key.Namespace, key.Name, 0))
}

func replicasPatch(n int32) client.Patch {
	return client.RawPatch(types.JSONPatchType, fmt.Appendf(nil, `[{"op":"replace","path":"/spec/topology/workers/machineDeployments/0/replicas","value":%d}]`, n))
}
