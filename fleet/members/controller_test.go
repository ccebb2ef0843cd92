package members_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/members"
	"github.com/sendan-io/sendan/test/envtest"
)

const soon = 20 * time.Second

// world is a management cluster in which only FleetMembers are kept.
type world struct {
	*envtest.Env
	// writes of the controller so far, Events aside.
	writes *atomic.Int64
	// markers made so far.
	markers *atomic.Int64
}

func TestFleetMembers(t *testing.T) {
	w := world{Env: envtest.Start(t), writes: &atomic.Int64{}, markers: &atomic.Int64{}}
	w.startController(t)
	t.Run("kubectl get fleetmembers is the fleet at a glance", w.theFleetAtAGlance) // first, while there are no others
	t.Run("a Cluster of any provider gets a FleetMember that goes where it goes", w.aClusterOfAnyProvider)
	t.Run("what others change is told", w.changesOfOthers)
	t.Run("writers of other sections lose nothing, and neither do we", w.concurrentWriters)
	t.Run("a settled fleet is not written to", w.settled)
	t.Run("a paused Cluster gets none until it goes on", w.paused)
	t.Run("what an earlier Cluster left is left to the garbage collector", w.leftover)
	t.Run("a lock that ends before it begins is refused", w.locks)
}

func (w world) startController(t *testing.T) {
	t.Helper()
	counted := rest.CopyConfig(w.Config)
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{next: next, writes: w.writes} })
	mgr, err := ctrl.NewManager(counted, ctrl.Options{
		Scheme: w.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // for -count
	})
	if err != nil {
		t.Fatal(err)
	}
	// One worker takes Clusters in the order of their events, so that a marker tells when those before it are done.
	options := members.Options{Clock: clockwork.NewRealClock(), Controller: controller.Options{MaxConcurrentReconciles: 1}}
	if err := members.SetupWithManager(t.Context(), mgr, options); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
}

// counter counts what is written over HTTP.
type counter struct {
	next   http.RoundTripper
	writes *atomic.Int64
}

func (c counter) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet && !strings.Contains(request.URL.Path, "/events.k8s.io/") {
		c.writes.Add(1)
	}
	return c.next.RoundTrip(request)
}

// caughtUp returns when the controller has seen what was written before.
func (w world) caughtUp(t *testing.T) {
	t.Helper()
	marker := w.cluster(t, "markers", fmt.Sprintf("marker-%d", w.markers.Add(1)), nil)
	w.expect(t, marker, func(m *fleetv1.FleetMember) bool { return m.Status.Health != "" })
}

func (w world) namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if err := w.Client.Create(t.Context(), namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// cluster makes a Cluster of three control-plane nodes, without a topology.
func (w world) cluster(t *testing.T, namespace, name string, change func(*clusterv1.Cluster)) *clusterv1.Cluster {
	t.Helper()
	w.namespace(t, namespace, nil)
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{
		APIGroup: "infrastructure.cluster.x-k8s.io", Kind: "SendanCluster", Name: name,
	}
	if change != nil {
		change(cluster)
	}
	if err := w.Client.Create(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	return cluster
}

func ofRelease(site, release string) func(*clusterv1.Cluster) {
	return func(cluster *clusterv1.Cluster) {
		cluster.Labels = map[string]string{fleetv1.SiteLabel: site, fleetv1.ReleaseLabel: release}
	}
}

// status changes the status of an object as Cluster API would.
func (w world) status(t *testing.T, object client.Object, change func()) {
	t.Helper()
	before := object.DeepCopyObject().(client.Object)
	change()
	if err := w.Client.Status().Patch(t.Context(), object, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func condition(object conditions.Setter, conditionType string, status metav1.ConditionStatus, message string) {
	conditions.Set(object, metav1.Condition{Type: conditionType, Status: status, Reason: "Because", Message: message})
}

func (w world) comesUp(t *testing.T, cluster *clusterv1.Cluster, version string) {
	t.Helper()
	w.status(t, cluster, func() {
		cluster.Status.Initialization.ControlPlaneInitialized = ptr.To(true)
		cluster.Status.ControlPlane = &clusterv1.ClusterControlPlaneStatus{
			DesiredReplicas: ptr.To[int32](3), ReadyReplicas: ptr.To[int32](3),
			Versions: []clusterv1.StatusVersion{{Version: version, Replicas: 3}},
		}
		condition(cluster, clusterv1.ClusterInfrastructureReadyCondition, metav1.ConditionTrue, "")
		condition(cluster, clusterv1.ClusterControlPlaneAvailableCondition, metav1.ConditionTrue, "")
		condition(cluster, clusterv1.ClusterRemoteConnectionProbeCondition, metav1.ConditionTrue, "")
	})
}

func machineSpec(cluster *clusterv1.Cluster) clusterv1.MachineSpec {
	return clusterv1.MachineSpec{
		ClusterName:       cluster.Name,
		Bootstrap:         clusterv1.Bootstrap{DataSecretName: ptr.To("user-data")},
		InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: "infrastructure.cluster.x-k8s.io", Kind: "SendanMachineTemplate", Name: "gpu"},
	}
}

// pool makes a MachineDeployment all of whose nodes are ready.
func (w world) pool(t *testing.T, cluster *clusterv1.Cluster, name string, replicas int32) *clusterv1.MachineDeployment {
	t.Helper()
	made := &clusterv1.MachineDeployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: cluster.Namespace, Name: cluster.Name + "-" + name,
		Labels: map[string]string{clusterv1.ClusterTopologyMachineDeploymentNameLabel: name, fleetv1.NodeTemplateLabel: "a100"},
	}}
	made.Spec.ClusterName = cluster.Name
	made.Spec.Replicas = ptr.To(replicas)
	made.Spec.Selector.MatchLabels = map[string]string{"pool": name}
	made.Spec.Template.Labels = made.Spec.Selector.MatchLabels
	made.Spec.Template.Spec = machineSpec(cluster)
	if err := w.Client.Create(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	w.status(t, made, func() { made.Status.ReadyReplicas = ptr.To(replicas) })
	return made
}

func (w world) member(ctx context.Context, cluster *clusterv1.Cluster) (*fleetv1.FleetMember, error) {
	member := &fleetv1.FleetMember{}
	return member, w.Client.Get(ctx, client.ObjectKeyFromObject(cluster), member)
}

func (w world) expect(t *testing.T, cluster *clusterv1.Cluster, is func(*fleetv1.FleetMember) bool) *fleetv1.FleetMember {
	t.Helper()
	var member *fleetv1.FleetMember
	envtest.Eventually(t, soon, func() error {
		var err error
		if member, err = w.member(t.Context(), cluster); err != nil {
			return err
		}
		if !is(member) {
			return fmt.Errorf("the FleetMember is %+v", member)
		}
		return nil
	})
	return member
}

func hasHealth(health fleetv1.FleetMemberHealth) func(*fleetv1.FleetMember) bool {
	return func(m *fleetv1.FleetMember) bool { return m.Status.Health == health }
}

func (w world) theFleetAtAGlance(t *testing.T) {
	w.namespace(t, "ml-team", map[string]string{fleetv1.TenantLabel: "ml-team"})
	w.namespace(t, "vision", map[string]string{fleetv1.TenantLabel: "vision"})

	healthy := w.cluster(t, "ml-team", "inference", ofRelease("osaka", "2026-10"))
	w.expect(t, healthy, hasHealth(fleetv1.HealthProvisioning))
	w.pool(t, healthy, "gpu", 24)
	w.comesUp(t, healthy, "v1.36.3")

	degraded := w.cluster(t, "ml-team", "training", ofRelease("osaka", "2026-09"))
	w.expect(t, degraded, hasHealth(fleetv1.HealthProvisioning))
	gpus := w.pool(t, degraded, "gpu", 8)
	w.comesUp(t, degraded, "v1.35.6")
	w.expect(t, degraded, hasHealth(fleetv1.HealthHealthy))
	w.status(t, gpus, func() {
		gpus.Status.ReadyReplicas = ptr.To[int32](7)
		condition(gpus, fleetv1.CapacityAvailableCondition, metav1.ConditionFalse, "2nd in the queue for A100-40GB in osaka")
	})

	provisioning := w.cluster(t, "vision", "labeling", ofRelease("tokyo", "2026-10"))
	w.status(t, provisioning, func() {
		condition(provisioning, clusterv1.ClusterInfrastructureReadyCondition, metav1.ConditionFalse, "waiting for the load balancer")
	})

	unreachable := w.cluster(t, "vision", "cameras", ofRelease("tokyo", "2026-10"))
	w.expect(t, unreachable, hasHealth(fleetv1.HealthProvisioning))
	w.comesUp(t, unreachable, "v1.36.3")
	w.expect(t, unreachable, hasHealth(fleetv1.HealthHealthy))
	w.status(t, unreachable, func() {
		condition(unreachable, clusterv1.ClusterRemoteConnectionProbeCondition, metav1.ConditionFalse, "Remote connection probe failed")
	})

	docker := w.cluster(t, "default", "docker-quick-start", func(c *clusterv1.Cluster) { c.Spec.InfrastructureRef.Kind = "DockerCluster" })
	w.expect(t, docker, hasHealth(fleetv1.HealthProvisioning))
	w.comesUp(t, docker, "v1.36.0")

	w.expect(t, healthy, hasHealth(fleetv1.HealthHealthy))
	w.expect(t, degraded, hasHealth(fleetv1.HealthDegraded))
	w.expect(t, provisioning, func(m *fleetv1.FleetMember) bool {
		return strings.Contains(conditions.GetMessage(m, fleetv1.ReadyCondition), "load balancer")
	})
	w.expect(t, unreachable, hasHealth(fleetv1.HealthUnreachable))
	w.expect(t, docker, hasHealth(fleetv1.HealthHealthy))

	kubectl := exec.CommandContext(t.Context(), filepath.Join(w.AssetsDir, "kubectl"), "--kubeconfig", w.Kubeconfig, "get", "fleetmembers", "-A")
	output, err := kubectl.Output()
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(envtest.RepositoryFile(t, "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, block, _ := strings.Cut(string(page), "kubectl get fleetmembers -A\n```\n\n```text\n")
	block, _, _ = strings.Cut(block, "```")
	if withoutAge(block) != withoutAge(string(output)) {
		t.Errorf("docs/fleet.md shows\n%s\nand kubectl\n%s", block, output)
	}
}

func withoutAge(table string) string {
	return regexp.MustCompile(`(?m) +\S+ *$`).ReplaceAllString(table, "")
}

func (w world) aClusterOfAnyProvider(t *testing.T) {
	cluster := w.cluster(t, "any", "docker", func(c *clusterv1.Cluster) {
		c.Spec.InfrastructureRef.Kind = "DockerCluster"
		c.Labels = map[string]string{clusterv1.WatchLabel: "shard-1"}
	})
	member := w.expect(t, cluster, hasHealth(fleetv1.HealthProvisioning))
	if member.Status.Infrastructure != "DockerCluster" || member.Labels[clusterv1.WatchLabel] != "shard-1" {
		t.Errorf("infrastructure is %q, labels are %v", member.Status.Infrastructure, member.Labels)
	}
	// clusterctl moves what the Cluster owns, of kinds that carry its label; the garbage collector goes by the owner too.
	if len(member.OwnerReferences) != 1 || member.OwnerReferences[0].UID != cluster.UID || member.OwnerReferences[0].Controller != nil {
		t.Errorf("the owners are %+v", member.OwnerReferences)
	}
	kind := &apiextensionsv1.CustomResourceDefinition{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "fleetmembers.fleet.sendan.io"}, kind); err != nil {
		t.Fatal(err)
	}
	if _, labeled := kind.Labels["clusterctl.cluster.x-k8s.io"]; !labeled {
		t.Errorf("the labels of the kind are %v", kind.Labels)
	}

	if err := w.Client.Delete(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	w.expect(t, cluster, func(m *fleetv1.FleetMember) bool { return m.UID != member.UID && m.Status.Health != "" })
}

func (w world) changesOfOthers(t *testing.T) {
	release := &fleetv1.Release{ObjectMeta: metav1.ObjectMeta{Name: "2026-10"}}
	release.Spec.KubernetesVersion = "v1.36.3"
	release.Spec.Images = []fleetv1.ReleaseImage{{Family: "ubuntu-24.04", Image: "ubuntu-24.04-kube-v1.36.3"}}
	release.Spec.ControlPlane = fleetv1.ReleaseControlPlane{Flavor: "c1.large", ImageFamily: "ubuntu-24.04"}
	if err := w.Client.Create(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	cluster := w.cluster(t, "changes", "training", ofRelease("osaka", "2026-10"))
	w.expect(t, cluster, hasHealth(fleetv1.HealthProvisioning))
	made := w.pool(t, cluster, "gpu", 2)
	w.comesUp(t, cluster, "v1.36.3")
	w.expect(t, cluster, hasHealth(fleetv1.HealthHealthy))

	w.status(t, release, func() { release.Status.Phase = fleetv1.ReleaseDeprecated })
	w.expect(t, cluster, func(m *fleetv1.FleetMember) bool { return m.Status.ReleasePhase == fleetv1.ReleaseDeprecated })

	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "changes"}}
	patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":{"`+fleetv1.TenantLabel+`":"ml-team"}}}`))
	if err := w.Client.Patch(t.Context(), namespace, patch); err != nil {
		t.Fatal(err)
	}
	w.expect(t, cluster, func(m *fleetv1.FleetMember) bool { return m.Status.Tenant == "ml-team" })

	machine := &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{
		Namespace: "changes", Name: "training-gpu-1", Labels: map[string]string{clusterv1.MachineDeploymentNameLabel: made.Name},
	}, Spec: machineSpec(cluster)}
	if err := w.Client.Create(t.Context(), machine); err != nil {
		t.Fatal(err)
	}
	w.status(t, machine, func() {
		machine.Status.NodeRef.Name = "gpu-1"
		condition(machine, fleetv1.DevicesReadyCondition, metav1.ConditionFalse, "promised 8 nvidia.com/gpu, found 7")
	})
	w.expect(t, cluster, func(m *fleetv1.FleetMember) bool {
		return m.Status.Pools[0].Message == "node gpu-1: promised 8 nvidia.com/gpu, found 7"
	})
	w.status(t, machine, func() { condition(machine, fleetv1.DevicesReadyCondition, metav1.ConditionTrue, "") })
	w.expect(t, cluster, func(m *fleetv1.FleetMember) bool { return m.Status.Pools[0].Message == "" })

	w.status(t, made, func() { made.Status.ReadyReplicas = ptr.To[int32](1) })
	w.expect(t, cluster, hasHealth(fleetv1.HealthDegraded))
	envtest.Eventually(t, soon, func() error {
		var told eventsv1.EventList
		if err := w.Client.List(t.Context(), &told, client.InNamespace("changes")); err != nil {
			return err
		}
		for _, event := range told.Items {
			if event.Type == corev1.EventTypeWarning && event.Reason == "Degraded" && event.Regarding.Kind == "FleetMember" &&
				event.Note == "the cluster is Degraded: 4 of 5 nodes are ready: pool gpu has 1 of 2" {
				return nil
			}
		}
		return fmt.Errorf("the Events are %+v", told.Items)
	})
}

// concurrentWriters lets the writer of status.addons write as fast as it can, while the cluster's facts change.
func (w world) concurrentWriters(t *testing.T) {
	const times = 40
	cluster := w.cluster(t, "concurrent", "training", nil)
	w.expect(t, cluster, hasHealth(fleetv1.HealthProvisioning))
	made := w.pool(t, cluster, "gpu", 1)
	w.comesUp(t, cluster, "v1.36.3")
	w.expect(t, cluster, hasHealth(fleetv1.HealthHealthy))

	written := make(chan error, 1)
	go func() { written <- w.writeAddons(t.Context(), cluster, times) }()
	for i := range times {
		w.status(t, made, func() { made.Status.ReadyReplicas = ptr.To(int32(i + 1)) })
		before := made.DeepCopy()
		made.Spec.Replicas = ptr.To(int32(i + 2))
		if err := w.Client.Patch(t.Context(), made, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	member := w.expect(t, cluster, func(m *fleetv1.FleetMember) bool {
		return m.Status.Addons[0].Version == fmt.Sprint(times) && m.Status.Pools[0].Nodes.Desired == times+1 &&
			conditions.GetMessage(m, fleetv1.AddonsHealthyCondition) == fmt.Sprintf("add-on cni is Progressing: version %d", times)
	})
	// Each operation begins where the one before it ended: none is lost, and none is told twice.
	reached := fmt.Sprint(times + 1)
	for _, operation := range member.Status.Operations {
		var from, to string
		if _, err := fmt.Sscanf(operation.Description, "pool gpu scaled from %s to %s nodes", &from, &to); err != nil || to != reached {
			t.Errorf("the operations are %+v", member.Status.Operations)
			break
		}
		reached = from
	}
}

// writeAddons writes add-ons, and a condition of its own, and fails when something that it wrote is gone.
func (w world) writeAddons(ctx context.Context, cluster *clusterv1.Cluster, times int) error {
	for i := 1; i <= times; {
		member, err := w.member(ctx, cluster)
		if err != nil {
			return err
		}
		version := fmt.Sprint(i)
		before := member.DeepCopy()
		member.Status.Addons = []fleetv1.MemberAddon{{Name: "cni", Version: version, Phase: fleetv1.AddonProgressing, Message: "version " + version}}
		if err := w.Client.Status().Patch(ctx, member, client.MergeFrom(before)); err != nil {
			return err
		}
		before = member.DeepCopy()
		condition(member, "SomebodyElses", metav1.ConditionTrue, version)
		err = w.Client.Status().Patch(ctx, member, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		switch {
		case apierrors.IsConflict(err):
			continue
		case err != nil:
			return err
		}
		if member, err = w.member(ctx, cluster); err != nil {
			return err
		}
		if len(member.Status.Addons) != 1 || member.Status.Addons[0].Version != version || conditions.GetMessage(member, "SomebodyElses") != version {
			return fmt.Errorf("version %s is lost: %+v", version, member.Status)
		}
		i++
	}
	return nil
}

func (w world) settled(t *testing.T) {
	var clusters clusterv1.ClusterList
	if err := w.Client.List(t.Context(), &clusters); err != nil {
		t.Fatal(err)
	}
	if len(clusters.Items) < 5 {
		t.Fatalf("there are only %d Clusters", len(clusters.Items))
	}
	w.caughtUp(t)
	before := w.writes.Load()
	for i := range clusters.Items {
		touched := &clusters.Items[i]
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"annotations":{"touched":"true"}}}`))
		if err := w.Client.Patch(t.Context(), touched, patch); err != nil {
			t.Fatal(err)
		}
	}
	w.caughtUp(t)
	const ofTheMarker = 2 // the FleetMember and its status
	if writes := w.writes.Load() - before - ofTheMarker; writes != 0 {
		t.Errorf("%d writes for %d settled Clusters", writes, len(clusters.Items))
	}
}

func (w world) paused(t *testing.T) {
	cluster := w.cluster(t, "paused", "training", func(c *clusterv1.Cluster) { c.Spec.Paused = ptr.To(true) })
	w.caughtUp(t)
	if _, err := w.member(t.Context(), cluster); !apierrors.IsNotFound(err) {
		t.Errorf("getting its FleetMember: %v, want that there is none", err)
	}
	before := cluster.DeepCopy()
	cluster.Spec.Paused = nil
	if err := w.Client.Patch(t.Context(), cluster, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	w.expect(t, cluster, hasHealth(fleetv1.HealthProvisioning))
}

func (w world) leftover(t *testing.T) {
	w.namespace(t, "again", nil)
	left := &fleetv1.FleetMember{ObjectMeta: metav1.ObjectMeta{Namespace: "again", Name: "training", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: "training", UID: "an-earlier-one"},
	}}}
	if err := w.Client.Create(t.Context(), left); err != nil {
		t.Fatal(err)
	}
	cluster := w.cluster(t, "again", "training", nil)
	w.caughtUp(t)
	if member, err := w.member(t.Context(), cluster); err != nil || len(member.OwnerReferences) != 1 || member.Status.Health != "" {
		t.Errorf("the FleetMember is %+v (%v), want it untouched", member, err)
	}
	if err := w.Client.Delete(t.Context(), left); err != nil { // as the garbage collector does
		t.Fatal(err)
	}
	w.expect(t, cluster, func(m *fleetv1.FleetMember) bool {
		return m.OwnerReferences[0].UID == cluster.UID && m.Status.Health != ""
	})
}

func (w world) locks(t *testing.T) {
	w.namespace(t, "locks", nil)
	since := metav1.NewTime(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))
	create := func(until metav1.Time) error {
		member := &fleetv1.FleetMember{ObjectMeta: metav1.ObjectMeta{Namespace: "locks", GenerateName: "m-"}}
		member.Spec.Locks = []fleetv1.FleetMemberLock{{Holder: "operator:aiko", Reason: "looks at gpu-7", Since: since, Until: until}}
		return w.Client.Create(t.Context(), member)
	}
	for _, until := range []metav1.Time{{}, metav1.NewTime(since.Add(time.Hour))} {
		if err := create(until); err != nil {
			t.Errorf("until %s: %v", until, err)
		}
	}
	for _, until := range []metav1.Time{since, metav1.NewTime(since.Add(-time.Hour))} {
		if err := create(until); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "until must be after since") {
			t.Errorf("until %s: %v", until, err)
		}
	}
}
