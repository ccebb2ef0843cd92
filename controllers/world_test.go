package controllers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// world is a whole installation on one fake clock: the real reconcilers, a simulated cloud over
// HTTP, and as much of Cluster API core as they can see. It runs one thing at a time, so that a
// failing run can be repeated.
type world struct {
	t      testing.TB
	clock  *clockwork.FakeClock
	sim    *simulator.Simulator
	url    string
	client client.Client

	process *process
	// patience is how long the provider waits for an answer, in real time: long enough for the busiest
	// machine, except where answers never come.
	patience time.Duration
	// running is the same process for the goroutines that serve the cloud.
	running atomic.Pointer[process]
	// versions are the resource versions the queue knows, to see what a watch would have told.
	versions map[string]string
	pending  []work
	// due are the times at which objects asked to be looked at again.
	due map[work]time.Time
	// resync is when every object comes again although nothing happened.
	resync time.Time
	// polls counts what the shared tick of the inventory cost.
	polls int
	// reconciles counts them by kind.
	reconciles map[string]int
	// requests counts what was sent to the cloud; plan says which of them do not fare well.
	requests atomic.Int64
	plan     atomic.Pointer[plan]
	sent     sentLog
	// told are the Events of the process.
	told *events.FakeRecorder
	// stale is what the manager's cache has, while that does not hear of changes.
	stale client.Client
	// nodesStayAway lets no node join any more.
	nodesStayAway bool
	// after is told of every reconcile.
	after func(work)
}

// sentLog remembers the bodies of all requests that had one, in order.
type sentLog struct {
	mu   sync.Mutex
	list []sentRequest
}

type sentRequest struct {
	method, path string
	body         []byte
}

func (l *sentLog) add(r *http.Request) {
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if err != nil || len(body) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, sentRequest{method: r.Method, path: r.URL.Path, body: body})
}

// process is what dies with a crash of the manager.
type process struct {
	dead     atomic.Bool
	sessions *cloud.Sessions
	open     []*cloud.Inventory
	clusters *SendanClusterReconciler
	machines *SendanMachineReconciler
}

type work struct {
	kind string
	key  types.NamespacedName
}

const (
	kindCluster = "SendanCluster"
	kindMachine = "SendanMachine"
	secretName  = "cloud"

	resyncPeriod = 10 * time.Minute
)

// quietScenario is the default cloud without jitter.
func quietScenario() simulator.Scenario {
	scenario := simulator.DefaultScenario()
	scenario.Latency.ServerBuild = simulator.Exactly(20 * time.Second)
	scenario.Latency.ServerDelete = simulator.Exactly(5 * time.Second)
	scenario.Latency.LoadBalancerCreate = simulator.Exactly(8 * time.Second)
	return scenario
}

func newWorld(t testing.TB, change ...func(*simulator.Scenario)) *world {
	t.Helper()
	scenario := quietScenario()
	for _, c := range change {
		c(&scenario)
	}
	// The fake client stamps deletions with the real time, so the fake clock starts there.
	clock := clockwork.NewFakeClockAt(time.Now())
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Clock: clock, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, clock: clock, sim: sim, patience: time.Minute,
		versions: map[string]string{}, due: map[work]time.Time{}, reconciles: map[string]int{},
	}
	server := httptest.NewServer(http.HandlerFunc(w.serveCloud))
	t.Cleanup(func() { server.Close(); sim.Close() })
	w.url = server.URL
	w.client = newClient(t)
	w.start()
	return w
}

// newClient is an API server with these objects.
func newClient(t testing.TB, objects ...client.Object) client.Client {
	t.Helper()
	scheme := testScheme(t)
	builder := fake.NewClientBuilder().WithScheme(scheme).
		// Nothing here applies server-side, so the tracker without managed fields, which is much
		// faster, will do.
		WithObjectTracker(clienttesting.NewObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder())).
		WithStatusSubresource(&infrav1.SendanCluster{}, &infrav1.SendanMachine{}, &clusterv1.Cluster{}, &clusterv1.Machine{}).
		WithObjects(objects...)
	for _, index := range fieldIndexes() {
		builder = builder.WithIndex(index.of, index.field, index.values)
	}
	return builder.Build()
}

func testScheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, clusterv1.AddToScheme, infrav1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// start begins a new manager process, which knows nothing of the one before.
func (w *world) start() {
	sessions := cloud.NewSessions(cloud.Options{
		Clock: w.clock, ManualPolling: true, RequestsPerSecond: 1e6, Burst: 1e6, RequestTimeout: w.patience,
		Polling: cloud.PollingOptions{Jitter: -1},
	})
	p := &process{sessions: sessions}
	kube := interceptor.NewClient(w.client.(client.WithWatch), w.through(p))
	inventory := NewInventoryEvents(w.client, sessions)
	inventory.sinks = append(inventory.sinks, func(changes []cloud.Change) {
		if w.process != p {
			return // it is dead
		}
		for _, change := range changes {
			for _, r := range clusterRequests(context.Background(), w.client, change) {
				w.enqueue(kindCluster, r)
			}
			for _, r := range machineRequests(context.Background(), w.client, change) {
				w.enqueue(kindMachine, r)
			}
		}
	})
	sessions.OnNewInventory(func(i *cloud.Inventory) { p.open = append(p.open, i) })
	identities := &Identities{Client: w.client, Secrets: w.client, Sessions: sessions}
	w.told = events.NewFakeRecorder(10_000)
	p.clusters = &SendanClusterReconciler{Client: kube, Clouds: identities, Recorder: w.told, Clock: w.clock}
	p.machines = &SendanMachineReconciler{Client: kube, Clouds: identities, Recorder: w.told, Clock: w.clock}
	w.process = p
	w.running.Store(p)
	w.pending, w.due, w.versions, w.stale = nil, map[work]time.Time{}, map[string]string{}, nil
	w.resync = w.clock.Now().Add(resyncPeriod)
}

// serveCloud is the way to the simulated cloud. Nothing that a dead process still tries gets through.
func (w *world) serveCloud(rw http.ResponseWriter, r *http.Request) {
	process := w.running.Load()
	if process.dead.Load() {
		panic(http.ErrAbortHandler)
	}
	w.sent.add(r)
	n := w.requests.Add(1)
	if plan := w.plan.Load(); plan != nil {
		if b := (*plan)(n, r); b.strike != nil {
			b.strike(w, rw, r)
			return
		}
	}
	w.sim.ServeHTTP(rw, r)
}

var errDead = errors.New("the process is dead")

// through is how a process sees Kubernetes: by a cache that may be stale. A dead one writes nothing.
func (w *world) through(p *process) interceptor.Funcs {
	return interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if w.stale != nil {
				return w.stale.Get(ctx, key, obj, opts...)
			}
			return c.Get(ctx, key, obj, opts...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if w.stale != nil {
				return w.stale.List(ctx, list, opts...)
			}
			return c.List(ctx, list, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			if p.dead.Load() {
				return errDead
			}
			return c.Patch(ctx, obj, patch, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			if p.dead.Load() {
				return errDead
			}
			return c.SubResource(name).Patch(ctx, obj, patch, opts...)
		},
	}
}

func (w *world) enqueue(kind string, r reconcile.Request) {
	item := work{kind: kind, key: r.NamespacedName}
	if !slices.Contains(w.pending, item) {
		w.pending = append(w.pending, item)
	}
}

// run works until a condition holds, or fails the test when it does not within the given time of
// the fake clock.
func (w *world) run(what string, limit time.Duration, until func() bool) {
	w.t.Helper()
	deadline := w.clock.Now().Add(limit)
	for {
		w.settle()
		if until() {
			return
		}
		next := w.nextTime()
		if next.After(deadline) {
			w.t.Fatalf("%s: not within %s\n%s", what, limit, w.describe())
		}
		w.advanceTo(next)
	}
}

// pass lets time go by with everything that happens in it.
func (w *world) pass(d time.Duration) {
	end := w.clock.Now().Add(d)
	for {
		w.settle()
		next := w.nextTime()
		if next.After(end) {
			w.advanceTo(end)
			w.settle()
			return
		}
		w.advanceTo(next)
	}
}

func (w *world) advanceTo(at time.Time) {
	if d := at.Sub(w.clock.Now()); d > 0 {
		w.clock.Advance(d)
	}
	w.sim.Settle()
	for _, inventory := range w.process.open {
		if !inventory.NextPoll().After(w.clock.Now()) {
			before := w.sim.TotalCalls()
			_ = inventory.Poll(context.Background()) // a failed listing is in the snapshot
			w.polls += w.sim.TotalCalls() - before
		}
	}
	if w.process.dead.Load() {
		w.start()
	}
	if !w.resync.After(w.clock.Now()) {
		w.resync = w.clock.Now().Add(resyncPeriod)
		w.versions = map[string]string{}
	}
	for item, at := range w.due {
		if !at.After(w.clock.Now()) {
			delete(w.due, item)
			w.enqueue(item.kind, reconcile.Request{NamespacedName: item.key})
		}
	}
	slices.SortFunc(w.pending, func(a, b work) int { return strings.Compare(a.kind+a.key.String(), b.kind+b.key.String()) })
}

// nextTime is when something will happen by itself.
func (w *world) nextTime() time.Time {
	next := w.clock.Now().Add(time.Hour)
	consider := func(at time.Time) {
		if at.After(w.clock.Now()) && at.Before(next) {
			next = at
		}
	}
	consider(w.resync)
	for _, at := range w.due {
		consider(at)
	}
	if at, pending := w.sim.NextTransition(); pending {
		consider(at)
	}
	for _, inventory := range w.process.open {
		consider(inventory.NextPoll())
		if !inventory.NextPoll().After(w.clock.Now()) {
			return w.clock.Now().Add(time.Millisecond)
		}
	}
	return next
}

// settle reconciles until nothing is queued. An object that comes back more than a thousand times
// without time going by is a hot loop.
func (w *world) settle() {
	w.t.Helper()
	w.core()
	w.watch()
	for n := 0; len(w.pending) > 0; n++ {
		if n > 20_000 {
			w.t.Fatalf("hot loop: %v\n%s", w.pending, w.describe())
		}
		item := w.pending[0]
		w.pending = w.pending[1:]
		w.reconcile(item)
		w.core()
		w.watch()
	}
}

func (w *world) reconcile(item work) {
	w.reconciles[item.kind]++
	var result ctrl.Result
	var err error
	ctx := context.Background()
	switch item.kind {
	case kindCluster:
		result, err = w.process.clusters.Reconcile(ctx, ctrl.Request{NamespacedName: item.key})
	case kindMachine:
		result, err = w.process.machines.Reconcile(ctx, ctrl.Request{NamespacedName: item.key})
	}
	delete(w.due, item)
	if w.after != nil {
		w.after(item)
	}
	switch {
	case w.process.dead.Load():
		w.start()
	case apierrors.IsConflict(err):
		w.t.Errorf("%s %s failed because it was stale: %v", item.kind, item.key, err)
	case err != nil:
		w.t.Logf("%s %s: %v", item.kind, item.key, err)
		w.due[item] = w.clock.Now().Add(5 * time.Second)
	case result.RequeueAfter > 0:
		w.due[item] = w.clock.Now().Add(result.RequeueAfter)
	}
}

// watch queues what a watch would have told about since the last look: more than the real
// predicates let through, so that call counts are upper bounds.
func (w *world) watch() {
	for _, c := range w.clusters() {
		if w.changed(kindCluster, &c) {
			w.enqueue(kindCluster, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&c)})
			for _, m := range w.machines() {
				if m.Namespace == c.Namespace && m.Labels[clusterv1.ClusterNameLabel] == c.Name {
					w.enqueue(kindMachine, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&m)})
				}
			}
		}
	}
	for _, m := range w.machines() {
		if w.changed(kindMachine, &m) {
			w.enqueue(kindMachine, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&m)})
			w.enqueue(kindCluster, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: m.Namespace, Name: m.Labels[clusterv1.ClusterNameLabel]}})
		}
	}
}

func (w *world) changed(kind string, obj client.Object) bool {
	key := kind + "/" + obj.GetNamespace() + "/" + obj.GetName()
	if w.versions[key] == obj.GetResourceVersion() {
		return false
	}
	w.versions[key] = obj.GetResourceVersion()
	return true
}

// core does what Cluster API core would do: it copies what the contract says from infrastructure
// objects to Clusters and Machines.
func (w *world) core() {
	ctx := context.Background()
	w.nodesJoin()
	for _, infra := range w.clusters() {
		cluster := &clusterv1.Cluster{}
		if w.client.Get(ctx, client.ObjectKeyFromObject(&infra), cluster) != nil {
			continue
		}
		if ptr.Deref(infra.Status.Initialization.Provisioned, false) && !ptr.Deref(cluster.Status.Initialization.InfrastructureProvisioned, false) {
			cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
			w.must(w.client.Status().Update(ctx, cluster))
			cluster.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: infra.Spec.ControlPlaneEndpoint.Host, Port: infra.Spec.ControlPlaneEndpoint.Port}
			w.must(w.client.Update(ctx, cluster))
			for _, m := range w.machines() {
				if m.Namespace == infra.Namespace && m.Labels[clusterv1.ClusterNameLabel] == cluster.Name {
					w.enqueue(kindMachine, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&m)})
				}
			}
		}
	}
}

// nodesJoin does what Cluster API core does once a node with the provider id is there.
func (w *world) nodesJoin() {
	ctx := context.Background()
	for _, infra := range w.machines() {
		machine := &clusterv1.Machine{}
		if w.nodesStayAway || !ptr.Deref(infra.Status.Initialization.Provisioned, false) || w.client.Get(ctx, client.ObjectKeyFromObject(&infra), machine) != nil || machine.Status.NodeRef.IsDefined() {
			continue
		}
		machine.Status.NodeRef.Name = machine.Name
		w.must(w.client.Status().Update(ctx, machine))
		w.enqueue(kindMachine, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(machine)})
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) clusters() []infrav1.SendanCluster {
	list := &infrav1.SendanClusterList{}
	w.must(w.client.List(context.Background(), list))
	return list.Items
}

func (w *world) machines() []infrav1.SendanMachine {
	list := &infrav1.SendanMachineList{}
	w.must(w.client.List(context.Background(), list))
	return list.Items
}

// describe tells the state of everything, for the message of a failing test.
func (w *world) describe() string {
	var b strings.Builder
	fmt.Fprintf(&b, "at %s, cloud holds %v\n", w.clock.Now().Format(time.TimeOnly), w.sim.Objects().Total)
	for _, c := range w.clusters() {
		fmt.Fprintf(&b, "%s/%s attempts=%v\n", c.Namespace, c.Name, c.Status.Attempts)
		for _, condition := range c.Status.Conditions {
			fmt.Fprintf(&b, "   %s=%s %s: %s\n", condition.Type, condition.Status, condition.Reason, condition.Message)
		}
	}
	for _, m := range w.machines() {
		fmt.Fprintf(&b, "%s/%s phase=%s server=%v attempts=%v\n", m.Namespace, m.Name, m.Status.Phase, m.Status.Server, m.Status.Attempts)
		for _, condition := range m.Status.Conditions {
			fmt.Fprintf(&b, "   %s=%s %s: %s\n", condition.Type, condition.Status, condition.Reason, condition.Message)
		}
	}
	return b.String()
}

// ownCalls is the number of HTTP calls beyond the shared tick.
func (w *world) ownCalls() int { return w.sim.TotalCalls() - w.polls }

// resetCalls starts counting anew.
func (w *world) resetCalls() {
	w.sim.ResetCalls()
	w.polls = 0
}

// addNamespace makes a namespace with working credentials of the demo project.
func (w *world) addNamespace(name string) {
	ctx := context.Background()
	w.must(client.IgnoreAlreadyExists(w.client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}})))
	w.must(client.IgnoreAlreadyExists(w.client.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: secretName},
		Data:       map[string][]byte{secretKeyClouds: w.sim.CloudsYAML(w.url, "sim")},
	})))
}

// addCluster makes a Cluster with its SendanCluster.
func (w *world) addCluster(namespace, name string, change ...func(*infrav1.SendanCluster)) *infrav1.SendanCluster {
	w.addNamespace(namespace)
	ctx := context.Background()
	cluster := &clusterv1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid("c", namespace, name))},
		Spec:       clusterv1.ClusterSpec{InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: kindCluster, Name: name}},
	}
	w.must(w.client.Create(ctx, cluster))
	infra := &infrav1.SendanCluster{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(uid("ic", namespace, name)), Labels: map[string]string{clusterv1.ClusterNameLabel: name},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: name, UID: cluster.UID}},
		},
		Spec: infrav1.SendanClusterSpec{
			IdentityRef: infrav1.IdentityReference{Kind: infrav1.IdentitySecret, Name: secretName, CloudName: "sim"},
			Network:     infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}},
		},
	}
	for _, c := range change {
		c(infra)
	}
	w.must(w.client.Create(ctx, infra))
	return infra
}

// addMachine makes a Machine with its SendanMachine and bootstrap data.
func (w *world) addMachine(namespace, cluster, name string, change ...func(*infrav1.SendanMachine)) *infrav1.SendanMachine {
	ctx := context.Background()
	labels := map[string]string{clusterv1.ClusterNameLabel: cluster, clusterv1.MachineDeploymentNameLabel: cluster + "-md-0"}
	w.must(w.client.Create(ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{"value": []byte("#cloud-config\n")}}))
	machine := &clusterv1.Machine{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid("m", namespace, name)), Labels: labels},
		Spec: clusterv1.MachineSpec{
			ClusterName: cluster, Bootstrap: clusterv1.Bootstrap{DataSecretName: ptr.To(name)},
			InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: kindMachine, Name: name},
		},
	}
	infra := &infrav1.SendanMachine{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(uid("im", namespace, name)), Labels: labels,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Machine", Name: name, UID: machine.UID}},
		},
		Spec: infrav1.SendanMachineSpec{Flavor: "m1.small", Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-v1.36.3"}},
	}
	for _, c := range change {
		c(infra)
	}
	machine.Labels = infra.Labels
	w.must(w.client.Create(ctx, machine))
	w.must(w.client.Create(ctx, infra))
	return infra
}

// controlPlane makes a machine part of the control plane.
func controlPlane(m *infrav1.SendanMachine) {
	m.Labels = map[string]string{clusterv1.ClusterNameLabel: m.Labels[clusterv1.ClusterNameLabel], clusterv1.MachineControlPlaneLabel: ""}
}

func uid(kind, namespace, name string) string {
	const digits = "0123456789abcdef"
	var h uint64 = 14695981039346656037
	for _, b := range []byte(kind + "/" + namespace + "/" + name) {
		h = (h ^ uint64(b)) * 1099511628211
	}
	out := []byte("00000000-0000-4000-8000-000000000000")
	for i := len(out) - 1; i >= 24; i-- {
		out[i] = digits[h&15]
		h >>= 4
	}
	return string(out)
}

func (w *world) cluster(namespace, name string) *infrav1.SendanCluster {
	w.t.Helper()
	obj := &infrav1.SendanCluster{}
	w.must(w.client.Get(context.Background(), types.NamespacedName{Namespace: namespace, Name: name}, obj))
	return obj
}

func (w *world) machine(namespace, name string) *infrav1.SendanMachine {
	w.t.Helper()
	obj := &infrav1.SendanMachine{}
	w.must(w.client.Get(context.Background(), types.NamespacedName{Namespace: namespace, Name: name}, obj))
	return obj
}

// remove deletes an object as a user would; finalizers hold it.
func (w *world) remove(obj client.Object) {
	w.t.Helper()
	w.must(client.IgnoreNotFound(w.client.Delete(context.Background(), obj)))
}

func isReady(conditions []metav1.Condition) bool {
	for _, c := range conditions {
		if c.Type == infrav1.ReadyCondition {
			return c.Status == metav1.ConditionTrue
		}
	}
	return false
}

// allReady reports that everything there is is ready.
func (w *world) allReady() bool {
	for _, c := range w.clusters() {
		if !isReady(c.Status.Conditions) {
			return false
		}
	}
	for _, m := range w.machines() {
		if !isReady(m.Status.Conditions) || m.Spec.ProviderID == "" {
			return false
		}
	}
	return true
}

func (w *world) allGone() bool { return len(w.clusters())+len(w.machines()) == 0 }

// removeAll deletes machines and clusters the way core does: machines first.
func (w *world) removeAll() {
	for _, m := range w.machines() {
		w.remove(&m)
	}
	for _, c := range w.clusters() {
		w.remove(&c)
	}
}
