package envtest_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/controllers"
	"github.com/sendan-io/sendan/test/envtest"
)

// plane is a kube-apiserver for the provider's real controllers, and what Cluster API would write there.
type plane struct{ *envtest.Env }

// controllerOptions are those of one manager.
type controllerOptions struct {
	name        string // how it introduces itself, to Kubernetes and to clouds
	watchFilter string
	workers     int
	patience    time.Duration
	// onPass is told of every reconcile of a SendanMachine.
	onPass func(client.ObjectKey)
}

// startControllers runs all controllers of the provider as long as the test.
func (p plane) startControllers(t *testing.T, o controllerOptions) {
	t.Helper()
	reach := rest.CopyConfig(p.Config)
	reach.UserAgent = o.name
	mgr, err := ctrl.NewManager(reach, ctrl.Options{
		Scheme: p.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		// Up to v0.24.1 controller-runtime's priority queue may hang when it is shut down (issue 3538). The programs have one that does not.
		Controller: config.Controller{SkipNameValidation: ptr.To(true), UsePriorityQueue: ptr.To(false)},
		Client:     client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	clock := clockwork.NewRealClock()
	sessions := cloud.NewSessions(cloud.Options{
		Clock: clock, RequestTimeout: o.patience, UserAgent: o.name, RequestsPerSecond: 100, Burst: 100,
		Polling: cloud.PollingOptions{Building: 200 * time.Millisecond, BuildingMax: time.Second},
	})
	inventory := controllers.NewInventoryEvents(mgr.GetClient(), sessions)
	clouds := &controllers.Identities{Client: mgr.GetCache(), Secrets: mgr.GetAPIReader(), Sessions: sessions}
	recorder, many := mgr.GetEventRecorder("test"), controller.Options{MaxConcurrentReconciles: o.workers}
	clusters := &controllers.SendanClusterReconciler{Client: mgr.GetClient(), Recorder: recorder, Clock: clock, Clouds: clouds, WatchFilterValue: o.watchFilter}
	machines := &controllers.SendanMachineReconciler{Client: watchedClient{mgr.GetClient(), o.onPass}, Recorder: recorder, Clock: clock, Clouds: clouds, WatchFilterValue: o.watchFilter}
	templates := &controllers.SendanMachineTemplateReconciler{Client: mgr.GetClient(), Clock: clock, Clouds: clouds, WatchFilterValue: o.watchFilter}
	for _, setUp := range []func() error{
		func() error { return mgr.Add(sessions) },
		func() error { return controllers.IndexFields(t.Context(), mgr.GetFieldIndexer()) },
		func() error { return clusters.SetupWithManager(t.Context(), mgr, inventory, many) },
		func() error { return machines.SetupWithManager(t.Context(), mgr, inventory, many) },
		func() error { return templates.SetupWithManager(t.Context(), mgr, many) },
	} {
		if err := setUp(); err != nil {
			t.Fatal(err)
		}
	}
	envtest.Run(t, mgr)
}

// watchedClient tells of reconciles by what each of them reads first.
type watchedClient struct {
	client.Client
	onPass func(client.ObjectKey)
}

func (c watchedClient) Get(ctx context.Context, key client.ObjectKey, obj client.Object, options ...client.GetOption) error {
	if _, isMachine := obj.(*infrav1.SendanMachine); isMachine && c.onPass != nil {
		c.onPass(key)
	}
	return c.Client.Get(ctx, key, obj, options...)
}

// newCloud is a fast one with a project and a user of each name.
func newCloud(t *testing.T, names ...string) *simulator.Simulator {
	t.Helper()
	scenario := simulator.DefaultScenario()
	scenario.Latency = simulator.Latencies{ServerBuild: simulator.Exactly(200 * time.Millisecond), ServerDelete: simulator.Exactly(200 * time.Millisecond)}
	for _, name := range names {
		scenario.AddTenant(name)
	}
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Clock: clockwork.NewRealClock(), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

// cloudsYAML leads to the project of a name.
func cloudsYAML(t *testing.T, sim *simulator.Simulator, server *httptest.Server, name string) string {
	t.Helper()
	account, err := sim.Account(name, name)
	if err != nil {
		t.Fatal(err)
	}
	return string(account.CloudsYAML(server.URL, "sim"))
}

func (p plane) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := p.Client.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

// tenant makes a namespace with credentials.
func (p plane) tenant(t *testing.T, name, clouds string) {
	t.Helper()
	p.create(t,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "cloud"}, Data: map[string][]byte{"clouds.yaml": []byte(clouds)}},
	)
}

// cluster makes one that is named like its namespace, with labels for its SendanCluster. Its endpoint is somebody else's.
func (p plane) cluster(t *testing.T, name string, labels map[string]string) *infrav1.SendanCluster {
	t.Helper()
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanCluster", Name: name}
	p.create(t, cluster)
	infra := &infrav1.SendanCluster{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: name, Name: name, Labels: with(labels, clusterv1.ClusterNameLabel, name),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: name, UID: cluster.UID}},
		},
		Spec: infrav1.SendanClusterSpec{
			IdentityRef:          infrav1.IdentityReference{Name: "cloud", CloudName: "sim"},
			Network:              infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}},
			Endpoint:             infrav1.Endpoint{External: &infrav1.ExternalEndpoint{}},
			ControlPlaneEndpoint: infrav1.APIEndpoint{Host: "api.example.org", Port: 6443},
		},
	}
	p.create(t, infra)
	return infra
}

// machine makes a worker without bootstrap data, with labels for its SendanMachine.
func (p plane) machine(t *testing.T, cluster, name string, labels map[string]string) *infrav1.SendanMachine {
	t.Helper()
	ofCluster := map[string]string{clusterv1.ClusterNameLabel: cluster, clusterv1.MachineDeploymentNameLabel: "workers"}
	machine := &clusterv1.Machine{
		ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: name, Labels: ofCluster},
		Spec: clusterv1.MachineSpec{
			ClusterName: cluster,
			// Whoever gives a Machine its data names the Secret here; so one is named from the start that comes later.
			Bootstrap:         clusterv1.Bootstrap{ConfigRef: clusterv1.ContractVersionedObjectReference{APIGroup: "bootstrap.cluster.x-k8s.io", Kind: "KubeadmConfig", Name: name}},
			InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanMachine", Name: name},
		},
	}
	p.create(t, machine)
	infra := &infrav1.SendanMachine{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cluster, Name: name, Labels: with(with(labels, clusterv1.ClusterNameLabel, cluster), clusterv1.MachineDeploymentNameLabel, "workers"),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Machine", Name: name, UID: machine.UID}},
		},
		Spec: infrav1.SendanMachineSpec{Flavor: "m1.small", Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-v1.36.3"}},
	}
	p.create(t, infra)
	return infra
}

// bootstrap gives a machine its data.
func (p plane) bootstrap(t *testing.T, machine *infrav1.SendanMachine) {
	t.Helper()
	data := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: machine.Namespace, Name: machine.Name + "-data"}, Data: map[string][]byte{"value": []byte("#cloud-config\n")}}
	p.create(t, data)
	p.change(t, &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{Namespace: machine.Namespace, Name: machine.Name}}, func(obj client.Object) {
		obj.(*clusterv1.Machine).Spec.Bootstrap.DataSecretName = ptr.To(data.Name)
	})
}

// template makes one that the cluster of its namespace uses.
func (p plane) template(t *testing.T, name string, labels map[string]string) *infrav1.SendanMachineTemplate {
	t.Helper()
	template := &infrav1.SendanMachineTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name, Labels: with(labels, clusterv1.ClusterNameLabel, name)}}
	template.Spec.Template.Spec = infrav1.SendanMachineSpec{Flavor: "m1.small", Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-v1.36.3"}}
	p.create(t, template)
	return template
}

func with(labels map[string]string, key, value string) map[string]string {
	all := map[string]string{key: value}
	for key, value := range labels {
		all[key] = value
	}
	return all
}

// change patches an object that is there.
func (p plane) change(t *testing.T, obj client.Object, change func(client.Object)) {
	t.Helper()
	if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
		t.Fatal(err)
	}
	before := obj.DeepCopyObject().(client.Object)
	change(obj)
	if err := p.Client.Patch(t.Context(), obj, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// provisioned waits for a cluster's infrastructure and tells its Cluster, as Cluster API does.
func (p plane) provisioned(t *testing.T, infra *infrav1.SendanCluster) {
	t.Helper()
	p.eventually(t, infra, func() error {
		if !ptr.Deref(infra.Status.Initialization.Provisioned, false) {
			return fmt.Errorf("it is not provisioned: %+v", infra.Status.Conditions)
		}
		return nil
	})
	cluster := &clusterv1.Cluster{}
	if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(infra), cluster); err != nil {
		t.Fatal(err)
	}
	cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
	if err := p.Client.Status().Update(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
}

// eventually looks at an object again and again until check passes.
func (p plane) eventually(t *testing.T, obj client.Object, check func() error) {
	t.Helper()
	envtest.Eventually(t, inTime, func() error {
		if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(obj), obj); err != nil {
			return err
		}
		if err := check(); err != nil {
			return fmt.Errorf("%T %s: %w", obj, client.ObjectKeyFromObject(obj), err)
		}
		return nil
	})
}

// runs waits until a machine has its server.
func (p plane) runs(t *testing.T, machine *infrav1.SendanMachine) {
	t.Helper()
	p.eventually(t, machine, func() error {
		if machine.Spec.ProviderID == "" {
			return fmt.Errorf("it has no server: %+v", machine.Status.Conditions)
		}
		return nil
	})
}

// hasCondition waits for a condition.
func (p plane) hasCondition(t *testing.T, obj interface {
	client.Object
	GetConditions() []metav1.Condition
}, of string, status metav1.ConditionStatus) {
	t.Helper()
	p.eventually(t, obj, func() error {
		if !meta.IsStatusConditionPresentAndEqual(obj.GetConditions(), of, status) {
			return fmt.Errorf("%s is not %s: %+v", of, status, obj.GetConditions())
		}
		return nil
	})
}
