package sites

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// world is the real reconciler, with simulated clouds over HTTP, on one fake clock.
type world struct {
	t      *testing.T
	clock  *clockwork.FakeClock
	client client.Client
	*Reconciler
	clouds map[string]*simulatedCloud
	// writes counts what reached the Kubernetes API.
	writes int
	events chan string
}

type simulatedCloud struct {
	*simulator.Simulator
	server *httptest.Server
}

func newWorld(t *testing.T) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, clusterv1.AddToScheme, infrav1.AddToScheme, fleetv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{t: t, clock: clockwork.NewFakeClockAt(noon), clouds: map[string]*simulatedCloud{}}
	w.client = fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&fleetv1.Site{}, &infrav1.SendanMachine{}, &clusterv1.MachineDeployment{}).
		WithIndex(&infrav1.SendanMachine{}, waitingIndex, indexWaiting).
		WithIndex(&clusterv1.MachineDeployment{}, waitingIndex, indexWaiting).
		Build()
	counted := interceptor.NewClient(w.client.(client.WithWatch), interceptor.Funcs{
		Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, opts ...client.PatchOption) error {
			w.writes++
			return c.Patch(ctx, obj, patch, opts...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, name string, obj client.Object, patch client.Patch, opts ...client.SubResourcePatchOption) error {
			w.writes++
			return c.SubResource(name).Patch(ctx, obj, patch, opts...)
		},
	})
	recorder := events.NewFakeRecorder(100)
	w.events = recorder.Events
	w.Reconciler = &Reconciler{
		Client: counted, Secrets: w.client, Recorder: recorder, Clock: w.clock, Interval: time.Minute, Patience: time.Minute,
		Sessions: cloud.NewSessions(cloud.Options{Clock: w.clock, ManualPolling: true, RequestsPerSecond: 1e6, Burst: 1e6, RequestTimeout: 30 * time.Second}),
	}
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) create(objects ...client.Object) {
	w.t.Helper()
	for _, object := range objects {
		status := object.DeepCopyObject().(client.Object)
		w.must(w.client.Create(w.t.Context(), object))
		status.SetResourceVersion(object.GetResourceVersion())
		if _, hasStatus := object.(conditions.Setter); hasStatus {
			w.must(client.IgnoreNotFound(w.client.Status().Update(w.t.Context(), status)))
		}
	}
}

// addCloud makes a cloud, credentials for it and a Site, all of that name.
func (w *world) addCloud(name string, change func(*simulator.Scenario), site ...func(*fleetv1.SiteSpec)) *simulatedCloud {
	w.t.Helper()
	scenario := simulator.DefaultScenario()
	change(&scenario)
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Clock: w.clock, Seed: 1})
	w.must(err)
	made := &simulatedCloud{Simulator: sim, server: httptest.NewServer(sim)}
	w.t.Cleanup(func() { made.server.Close(); sim.Close() })
	w.clouds[name] = made
	spec := fleetv1.SiteSpec{IdentityRef: fleetv1.SiteIdentityReference{Name: name, CloudName: "sim"}, GPUs: []fleetv1.SiteGPU{a100, h100}}
	for _, s := range site {
		s(&spec)
	}
	w.create(
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: name}, Data: map[string][]byte{secretKeyClouds: sim.CloudsYAML(made.server.URL, "sim")}},
		&infrav1.SendanClusterIdentity{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: infrav1.SendanClusterIdentitySpec{SecretRef: infrav1.IdentitySecretReference{Namespace: "system", Name: name}}},
		&fleetv1.Site{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec},
	)
	return made
}

func asItIs(*simulator.Scenario) {}

func openPlacement(scenario *simulator.Scenario) { scenario.PlacementReadable = true }

// look reconciles a Site once.
func (w *world) look(name string) *fleetv1.Site {
	w.t.Helper()
	result, err := w.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: name}})
	w.must(err)
	if result.RequeueAfter <= 0 || result.RequeueAfter > 66*time.Second {
		w.t.Errorf("site %s is looked at again in %s", name, result.RequeueAfter)
	}
	return w.site(name)
}

// later lets time go by and looks again.
func (w *world) later(name string, d time.Duration) *fleetv1.Site {
	w.t.Helper()
	w.clock.Advance(d)
	for _, cloud := range w.clouds {
		cloud.Settle()
	}
	return w.look(name)
}

func (w *world) site(name string) *fleetv1.Site {
	w.t.Helper()
	site := &fleetv1.Site{}
	w.must(w.client.Get(w.t.Context(), client.ObjectKey{Name: name}, site))
	return site
}

func (w *world) pool(name string) *clusterv1.MachineDeployment {
	w.t.Helper()
	pool := &clusterv1.MachineDeployment{}
	w.must(w.client.Get(w.t.Context(), client.ObjectKey{Namespace: "team", Name: name}, pool))
	return pool
}

// addPool makes a cluster of the site with one pool.
func (w *world) addPool(site, cluster, pool string) {
	w.t.Helper()
	w.create(
		&clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: cluster, Labels: map[string]string{fleetv1.SiteLabel: site}}},
		&clusterv1.MachineDeployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: pool, Labels: map[string]string{clusterv1.ClusterNameLabel: cluster}},
			Spec:       clusterv1.MachineDeploymentSpec{ClusterName: cluster},
		},
	)
}

// addWaiting makes a machine that Nova has refused.
func (w *world) addWaiting(cluster, pool, name, flavor, zone string) *infrav1.SendanMachine {
	w.t.Helper()
	labels := map[string]string{clusterv1.ClusterNameLabel: cluster, clusterv1.MachineDeploymentNameLabel: pool}
	owner := &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: "1", Labels: labels}, Spec: clusterv1.MachineSpec{FailureDomain: zone}}
	machine := &infrav1.SendanMachine{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: name, Labels: labels, CreationTimestamp: metav1.NewTime(w.clock.Now()),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Machine", Name: name, UID: "1"}},
		},
		Spec: infrav1.SendanMachineSpec{Flavor: flavor},
	}
	machine.Status.Conditions = []metav1.Condition{{Type: infrav1.ReadyCondition, Status: metav1.ConditionFalse, Reason: infrav1.CapacityReason, Message: "No valid host was found.", LastTransitionTime: metav1.NewTime(w.clock.Now())}}
	w.create(owner, machine)
	return machine
}

// condition of a Site or a MachineDeployment, as "True Reason: message".
func condition(object conditions.Getter, kind string) string {
	c := meta.FindStatusCondition(object.GetConditions(), kind)
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message)
}

func expect(t *testing.T, got string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(got, word) {
			t.Errorf("%q is missing in %q", word, got)
		}
	}
}

// serve makes a server with GPUs in a cloud, as somebody else would.
func (w *world) serve(in *simulatedCloud, flavor, zone string) {
	w.t.Helper()
	identity, err := cloud.ParseCloudsYAML(in.CloudsYAML(in.server.URL, "other"), "other")
	w.must(err)
	ctx, mark := w.t.Context(), cloud.Mark{Cluster: "6e0c3f0a-1111-4222-8333-444444444444", Machine: "m", Role: "server"}
	session, err := w.Sessions.Get(ctx, identity)
	w.must(err)
	asked, err := session.FlavorByName(ctx, flavor)
	w.must(err)
	images, err := session.Offers(ctx, cloud.OfferNames{})
	w.must(err)
	network, err := session.CreateNetwork(ctx, cloud.NetworkRequest{Name: "n", Mark: mark})
	w.must(err)
	_, err = session.CreateSubnet(ctx, cloud.SubnetRequest{Name: "s", Mark: mark, NetworkID: network.ID, CIDR: netip.MustParsePrefix("10.6.0.0/24")})
	w.must(err)
	port, err := session.CreatePort(ctx, cloud.PortRequest{Name: "p", Mark: mark, NetworkID: network.ID})
	w.must(err)
	_, err = session.CreateServer(ctx, cloud.ServerRequest{Name: "gpu", Mark: mark, FlavorID: asked.ID, ImageID: images.Images[0].ID, Zone: zone, PortIDs: []string{port.ID}})
	w.must(err)
}

// told are the events since the last look.
func (w *world) told() []string {
	var all []string
	for {
		select {
		case event := <-w.events:
			all = append(all, event)
		default:
			slices.Sort(all)
			return all
		}
	}
}
