package devices_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/devices"
	"github.com/sendan-io/sendan/fleet/visit"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	soon      = 30 * time.Second
	namespace = "ml-team"
	// grace is long enough for a test to add devices, and short enough to wait for its end.
	grace = 4 * time.Second
	// interval is short, so that a test sees many looks.
	interval = 200 * time.Millisecond
)

// world is a management cluster that is also the only tenant's cluster: the connection to it is a real one.
type world struct {
	*envtest.Env
	// writes of the controller to the management cluster so far, Events aside.
	writes *atomic.Int64
	// visits that ended, whatever their end was, by the cluster's name.
	visits  *sync.Map
	metrics *prometheus.Registry
}

func TestDevices(t *testing.T) {
	w := world{Env: envtest.Start(t), writes: &atomic.Int64{}, visits: &sync.Map{}, metrics: prometheus.NewRegistry()}
	w.startController(t)
	if err := w.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	w.cluster(t, "training")
	w.connect(t, "training")
	t.Run("a node takes pods once it has what was promised", w.gate)
	t.Run("a node that stays short is told of when its time is over", w.short)
	t.Run("a burn-in without a result fails at its deadline", w.burnIn)
	t.Run("a GPU that falls off later does not bring the taint back", w.fallsOff)
	t.Run("a promise that cannot be read is told of", w.unreadable)
	t.Run("machines of which nothing is promised are left alone", w.withoutPromise)
	t.Run("nothing changes while a cluster is paused, or not connected", w.outOfReach)
	t.Run("the conditions of others survive", w.conditionsOfOthers)
	t.Run("settled machines are not written to", w.settled)
	t.Run("the metrics count machines by template and reason", w.counted)
}

func (w world) startController(t *testing.T) {
	t.Helper()
	counted := rest.CopyConfig(w.Config)
	counted.Wrap(w.countWrites)
	mgr, err := ctrl.NewManager(counted, ctrl.Options{
		Scheme: w.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: ptr.To(true)}, // for -count
	})
	if err != nil {
		t.Fatal(err)
	}
	visitor := visit.New(w.Client, w.Scheme, "test")
	err = devices.SetupWithManager(t.Context(), mgr, devices.Options{
		Visit: func(ctx context.Context, cluster client.ObjectKey, look func(context.Context, client.Client) error) error {
			defer func() { w.looks(cluster.Name).Add(1) }()
			return visitor.Visit(ctx, cluster, look)
		},
		Clock: clockwork.NewRealClock(), Grace: grace, Interval: interval, Metrics: w.metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
}

// countWrites counts what is written over HTTP.
func (w world) countWrites(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(request *http.Request) (*http.Response, error) {
		if request.Method != http.MethodGet && !strings.Contains(request.URL.Path, "/events.k8s.io/") {
			w.writes.Add(1)
		}
		return next.RoundTrip(request)
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

func (w world) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := w.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// change patches an object, as its owner in a real cluster would.
func (w world) change(t *testing.T, object client.Object, change func()) {
	t.Helper()
	before := object.DeepCopyObject().(client.Object)
	change()
	after := object.DeepCopyObject().(client.Object)
	if err := w.Client.Patch(t.Context(), object, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Status().Patch(t.Context(), after, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatal(err)
	}
}

func (w world) cluster(t *testing.T, name string) *clusterv1.Cluster {
	t.Helper()
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: "infrastructure.cluster.x-k8s.io", Kind: "DockerCluster", Name: name}
	w.create(t, cluster)
	return cluster
}

// connect gives the cluster a kubeconfig, and says that it can be used.
func (w world) connect(t *testing.T, name string) {
	t.Helper()
	kubeconfig, err := os.ReadFile(w.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	w.create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name + "-kubeconfig", Labels: map[string]string{clusterv1.ClusterNameLabel: name}},
		Type:       clusterv1.ClusterSecretType, Data: map[string][]byte{"value": kubeconfig},
	})
	cluster := &clusterv1.Cluster{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, cluster); err != nil {
		t.Fatal(err)
	}
	w.change(t, cluster, func() { cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true) })
}

func (w world) machine(t *testing.T, cluster, node string, annotations map[string]string) *clusterv1.Machine {
	t.Helper()
	machine := &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{
		Namespace: namespace, Name: cluster + "-" + node, Annotations: annotations, Labels: map[string]string{fleetv1.NodeTemplateLabel: "a100"},
	}}
	machine.Spec.ClusterName = cluster
	machine.Spec.Bootstrap.DataSecretName = ptr.To("user-data")
	machine.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: "infrastructure.cluster.x-k8s.io", Kind: "DockerMachine", Name: node}
	w.create(t, machine)
	return machine
}

// node registers with the taints that a kubelet of such a machine gives it, and Cluster API finds it.
func (w world) node(t *testing.T, machine *clusterv1.Machine, name string, allocatable map[corev1.ResourceName]string) *corev1.Node {
	t.Helper()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	node.Spec.Taints = []corev1.Taint{
		{Key: "example.com/team", Value: "ml", Effect: corev1.TaintEffectNoSchedule},
		{Key: fleetv1.DevicesTaint, Effect: corev1.TaintEffectNoSchedule},
	}
	w.create(t, node)
	w.advertise(t, node, allocatable)
	w.change(t, machine, func() { machine.Status.NodeRef.Name = name })
	return node
}

func (w world) advertise(t *testing.T, node *corev1.Node, allocatable map[corev1.ResourceName]string) {
	t.Helper()
	w.change(t, node, func() {
		node.Status.Allocatable = corev1.ResourceList{}
		for name, count := range allocatable {
			node.Status.Allocatable[name] = resource.MustParse(count)
		}
		node.Status.Capacity = node.Status.Allocatable
	})
}

func (w world) expect(t *testing.T, machine *clusterv1.Machine, reason, message string) {
	t.Helper()
	envtest.Eventually(t, soon, func() error {
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(machine), machine); err != nil {
			return err
		}
		condition := conditions.Get(machine, fleetv1.DevicesReadyCondition)
		if condition == nil || condition.Reason != reason || condition.Message != message || (condition.Status == metav1.ConditionTrue) != (reason == fleetv1.AvailableReason) {
			return fmt.Errorf("the condition of %s is %+v, want %s: %s", machine.Name, condition, reason, message)
		}
		return nil
	})
}

func (w world) taints(t *testing.T, node *corev1.Node) string {
	t.Helper()
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(node), node); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, taint := range node.Spec.Taints {
		if !strings.HasPrefix(taint.Key, "node.kubernetes.io/") { // the API server's, since there is no kubelet
			keys = append(keys, taint.Key)
		}
	}
	return strings.Join(keys, " ")
}

const (
	closed = "example.com/team " + fleetv1.DevicesTaint
	open   = "example.com/team"
)

func (w world) expectTaints(t *testing.T, node *corev1.Node, want string) {
	t.Helper()
	if got := w.taints(t, node); got != want {
		t.Errorf("the taints of %s are %s, want %s", node.Name, got, want)
	}
}

func (w world) expectEvent(t *testing.T, machine *clusterv1.Machine, kind, reason, note string) {
	t.Helper()
	envtest.Eventually(t, soon, func() error {
		var told eventsv1.EventList
		if err := w.Client.List(t.Context(), &told, client.InNamespace(namespace)); err != nil {
			return err
		}
		for _, event := range told.Items {
			if event.Regarding.Name == machine.Name && event.Type == kind && event.Reason == reason && event.Note == note {
				return nil
			}
		}
		return errors.New("there is no such Event")
	})
}

func (w world) looks(cluster string) *atomic.Int64 {
	looks, _ := w.visits.LoadOrStore(cluster, &atomic.Int64{})
	return looks.(*atomic.Int64)
}

// caughtUp returns when the controller has begun and ended a look at the cluster.
func (w world) caughtUp(t *testing.T, cluster string) {
	t.Helper()
	before := w.looks(cluster).Load()
	envtest.Eventually(t, soon, func() error {
		if now := w.looks(cluster).Load(); now < before+2 {
			return fmt.Errorf("%d looks at %s, want 2 more than %d", now, cluster, before)
		}
		return nil
	})
}

func (w world) gate(t *testing.T) {
	machine := w.machine(t, "training", "gpu-1", map[string]string{
		fleetv1.DevicesAnnotation: "nvidia.com/gpu=8", fleetv1.DriverVersionAnnotation: "570.172.08", fleetv1.BurnInAnnotation: "GPUBurnIn=600",
	})
	w.expect(t, machine, fleetv1.WaitingForNodeReason, "the machine has no node yet")
	node := w.node(t, machine, "gpu-1", map[corev1.ResourceName]string{"nvidia.com/gpu": "8"})
	const burnIn = "burn-in runs: waiting until %s for node condition GPUBurnIn"
	deadline := fmt.Sprintf(burnIn, node.CreationTimestamp.Add(10*time.Minute).UTC().Format(time.RFC3339))
	w.expect(t, machine, fleetv1.WaitingForNodeReason, "waiting for driver 570.172.08: GPU feature discovery has not put the label "+
		"nvidia.com/cuda.driver-version.full on the node yet; "+deadline)
	w.change(t, node, func() { node.Labels = map[string]string{"nvidia.com/cuda.driver-version.full": "570.124.06"} })
	w.expect(t, machine, fleetv1.DriverDriftReason, "promised driver 570.172.08, the node runs 570.124.06; "+deadline)
	w.change(t, node, func() { node.Labels["nvidia.com/cuda.driver-version.full"] = "570.172.08" })
	w.expect(t, machine, fleetv1.BurnInRunningReason, deadline)
	w.expectTaints(t, node, closed)

	w.change(t, node, func() {
		node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{Type: "GPUBurnIn", Status: corev1.ConditionTrue})
	})
	w.expect(t, machine, fleetv1.AvailableReason, "")
	w.expectTaints(t, node, open)
	w.expectEvent(t, machine, corev1.EventTypeNormal, "DevicesReady", "node gpu-1 has what was promised and takes pods")
	w.expectEvent(t, machine, corev1.EventTypeWarning, "DriverDrift", "promised driver 570.172.08, the node runs 570.124.06; "+deadline)
}

func (w world) short(t *testing.T) {
	machine := w.machine(t, "training", "gpu-2", map[string]string{fleetv1.DevicesAnnotation: "nvidia.com/mig-1g.5gb=56"})
	node := w.node(t, machine, "gpu-2", map[corev1.ResourceName]string{"nvidia.com/gpu": "8"})
	w.expect(t, machine, fleetv1.DeviceShortReason, "promised 56 nvidia.com/mig-1g.5gb, found 0; found 8 nvidia.com/gpu that are not promised")
	w.expectTaints(t, node, closed)
	if age := time.Since(node.CreationTimestamp.Time); age < grace {
		t.Errorf("judged after %s", age)
	}
	w.advertise(t, node, map[corev1.ResourceName]string{"nvidia.com/gpu": "0", "nvidia.com/mig-1g.5gb": "56"})
	w.expect(t, machine, fleetv1.AvailableReason, "")
	w.expectTaints(t, node, open)
}

func (w world) burnIn(t *testing.T) {
	machine := w.machine(t, "training", "gpu-3", map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=2"})
	node := w.node(t, machine, "gpu-3", nil)
	w.expect(t, machine, fleetv1.BurnInFailedReason, "burn-in has no result after 2s: node condition GPUBurnIn is not there")
	w.expectTaints(t, node, closed)
}

func (w world) fallsOff(t *testing.T) {
	machine := w.machine(t, "training", "gpu-4", map[string]string{fleetv1.DevicesAnnotation: "nvidia.com/gpu=8"})
	node := w.node(t, machine, "gpu-4", map[corev1.ResourceName]string{"nvidia.com/gpu": "8"})
	w.expect(t, machine, fleetv1.AvailableReason, "")
	w.advertise(t, node, map[corev1.ResourceName]string{"nvidia.com/gpu": "7"})
	w.expect(t, machine, fleetv1.DeviceShortReason, "promised 8 nvidia.com/gpu, found 7")
	w.expectTaints(t, node, open)
	w.expectEvent(t, machine, corev1.EventTypeWarning, "DeviceShort", "promised 8 nvidia.com/gpu, found 7")
	if err := w.Client.Delete(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	w.expect(t, machine, fleetv1.WaitingForNodeReason, "node gpu-4 is not in the cluster")
}

func (w world) unreadable(t *testing.T) {
	machine := w.machine(t, "training", "gpu-5", map[string]string{fleetv1.DevicesAnnotation: "many"})
	w.expect(t, machine, fleetv1.InvalidReason, `annotation fleet.sendan.io/devices: "many" does not name a number; write <resource>=<count>, separated by commas`)
}

func (w world) withoutPromise(t *testing.T) {
	machine := w.machine(t, "training", "cpu-1", nil)
	node := w.node(t, machine, "cpu-1", nil)
	w.caughtUp(t, "training")
	w.expectTaints(t, node, closed)
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(machine), machine); err != nil || len(machine.Status.Conditions) > 0 {
		t.Errorf("the conditions are %+v (%v)", machine.Status.Conditions, err)
	}
}

func (w world) outOfReach(t *testing.T) {
	cluster := w.cluster(t, "far")
	machine := w.machine(t, "far", "gpu-6", map[string]string{fleetv1.DevicesAnnotation: "nvidia.com/gpu=8"})
	w.expect(t, machine, fleetv1.WaitingForNodeReason, "the machine has no node yet")
	node := w.node(t, machine, "gpu-6", map[corev1.ResourceName]string{"nvidia.com/gpu": "8"})
	w.caughtUp(t, "far")
	w.expect(t, machine, fleetv1.WaitingForNodeReason, "the machine has no node yet") // what was known
	w.change(t, cluster, func() { cluster.Spec.Paused = ptr.To(true) })
	w.connect(t, "far")
	w.caughtUp(t, "training")
	w.expectTaints(t, node, closed)
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(cluster), cluster); err != nil {
		t.Fatal(err)
	}
	w.change(t, cluster, func() { cluster.Spec.Paused = nil })
	w.expect(t, machine, fleetv1.AvailableReason, "")
	w.expectTaints(t, node, open)
}

// conditionsOfOthers has Cluster API write its conditions while devices come and go.
func (w world) conditionsOfOthers(t *testing.T) {
	machine := w.machine(t, "training", "gpu-7", map[string]string{fleetv1.DevicesAnnotation: "nvidia.com/gpu=8"})
	node := w.node(t, machine, "gpu-7", map[corev1.ResourceName]string{"nvidia.com/gpu": "8"})
	w.expect(t, machine, fleetv1.AvailableReason, "")
	written := make(chan error, 1)
	const times = 30
	go func() { written <- w.writeConditions(t.Context(), client.ObjectKeyFromObject(machine), times) }()
	for i := range times {
		w.advertise(t, node, map[corev1.ResourceName]string{"nvidia.com/gpu": fmt.Sprint(7 + i%2)})
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	w.expect(t, machine, fleetv1.AvailableReason, "")
	if message := conditions.GetMessage(machine, clusterv1.MachineNodeHealthyCondition); message != fmt.Sprint(times) {
		t.Errorf("the last that Cluster API wrote is %q, want %d", message, times)
	}
}

// writeConditions writes as a patch helper does: the whole list, insisting on the version that it saw.
func (w world) writeConditions(ctx context.Context, key client.ObjectKey, times int) error {
	for i := 1; i <= times; {
		machine := &clusterv1.Machine{}
		if err := w.Client.Get(ctx, key, machine); err != nil {
			return err
		}
		if before := conditions.GetMessage(machine, clusterv1.MachineNodeHealthyCondition); i > 1 && before != fmt.Sprint(i-1) {
			return fmt.Errorf("message %d was lost: it is %q", i-1, before)
		}
		before := machine.DeepCopy()
		conditions.Set(machine, metav1.Condition{Type: clusterv1.MachineNodeHealthyCondition, Status: metav1.ConditionTrue, Reason: "NodeHealthy", Message: fmt.Sprint(i)})
		err := w.Client.Status().Patch(ctx, machine, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
		switch {
		case apierrors.IsConflict(err):
			continue
		case err != nil:
			return err
		}
		i++
	}
	return nil
}

func (w world) settled(t *testing.T) {
	var machines clusterv1.MachineList
	if err := w.Client.List(t.Context(), &machines); err != nil {
		t.Fatal(err)
	}
	if len(machines.Items) < 6 {
		t.Fatalf("there are only %d Machines", len(machines.Items))
	}
	w.caughtUp(t, "training")
	before, nodes := w.writes.Load(), w.versionsOfNodes(t)
	w.caughtUp(t, "training")
	if writes := w.writes.Load() - before; writes != 0 {
		t.Errorf("%d writes for %d settled Machines", writes, len(machines.Items))
	}
	if after := w.versionsOfNodes(t); after != nodes {
		t.Errorf("nodes were written to: they were %s and are %s", nodes, after)
	}
}

func (w world) versionsOfNodes(t *testing.T) string {
	t.Helper()
	var nodes corev1.NodeList
	if err := w.Client.List(t.Context(), &nodes); err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, node := range nodes.Items {
		versions = append(versions, node.Name+"="+node.ResourceVersion)
	}
	return strings.Join(versions, " ")
}

func (w world) counted(t *testing.T) {
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, label := range metric.GetLabel() {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			got[family.GetName()+" "+strings.Join(labels, " ")] = metric.GetGauge().GetValue()
		}
	}
	const name = "sendan_fleet_devices_machines"
	for series, want := range map[string]float64{
		name + " reason=Available template=a100":      4, // gpu-1, 2, 6 and 7
		name + " reason=BurnInFailed template=a100":   1,
		name + " reason=WaitingForNode template=a100": 1, // gpu-4, whose node is gone
		name + " reason=Invalid template=a100":        1,
	} {
		if got[series] != want {
			t.Errorf("%s is %v, want %v of %v", series, got[series], want, got)
		}
	}
}
