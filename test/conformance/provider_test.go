package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/controllers"
	"github.com/sendan-io/sendan/test/envtest"
)

func provider() []feature {
	return []feature{{name: "provider/cluster", needs: []string{"network/router", "compute/server-deletion"}, check: liveAndDie}}
}

// managed is a cluster of one machine. Its owner id is that of the run, so that its objects carry the run's mark.
type managed struct {
	kube    client.Client
	cluster *clusterv1.Cluster
	infra   *infrav1.SendanCluster
	machine *infrav1.SendanMachine
}

// liveAndDie makes a cluster with one machine by the real controllers, and deletes it.
func liveAndDie(p *probe) error {
	if p.chosen.external.ID == "" {
		return skipf("the cloud has no external network")
	}
	env := envtest.Start(p)
	if err := p.control(env); err != nil {
		return err
	}
	m, err := p.manage(env.Client)
	if err != nil {
		return err
	}
	if err := m.becomesReady(p); err != nil {
		return err
	}
	p.note = "endpoint " + m.infra.Spec.ControlPlaneEndpoint.Host + ", " + m.machine.Spec.ProviderID
	now, err := p.relist(allKinds()...)
	if err != nil {
		return err
	}
	if len(now.ServersOf(p.mark())) != 1 || len(now.NetworksOf(p.mark())) != 1 {
		return fmt.Errorf("in the cloud there is %q", listed(now, p.mark()))
	}
	return firstOf(m.goes(p, m.machine), m.goes(p, m.infra))
}

// control runs the provider's controllers as its manager does.
func (p *probe) control(env *envtest.Env) error {
	mgr, err := ctrl.NewManager(env.Config, ctrl.Options{
		Scheme: env.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return err
	}
	ctx, clock, sessions := p.Context(), clockwork.NewRealClock(), cloud.NewSessions(p.options)
	inventory := controllers.NewInventoryEvents(mgr.GetClient(), sessions)
	identities := &controllers.Identities{Client: mgr.GetCache(), Secrets: mgr.GetAPIReader(), Sessions: sessions}
	recorder := mgr.GetEventRecorder("sendan")
	clusters := &controllers.SendanClusterReconciler{Client: mgr.GetClient(), Clouds: identities, Recorder: recorder, Clock: clock}
	machines := &controllers.SendanMachineReconciler{Client: mgr.GetClient(), Clouds: identities, Recorder: recorder, Clock: clock}
	if err := errors.Join(mgr.Add(sessions), controllers.IndexFields(ctx, mgr.GetFieldIndexer()),
		clusters.SetupWithManager(ctx, mgr, inventory, controller.Options{}), machines.SetupWithManager(ctx, mgr, inventory, controller.Options{})); err != nil {
		return err
	}
	envtest.Run(p, mgr)
	return nil
}

// manage writes what a user and Cluster API would.
func (p *probe) manage(kube client.Client) (managed, error) {
	name := "conformance-" + p.id[:8] // the controllers put the namespace before it
	meta := metav1.ObjectMeta{Namespace: "sendan", Name: name, Labels: map[string]string{clusterv1.ClusterNameLabel: name}}
	m := managed{kube: kube}
	m.cluster = &clusterv1.Cluster{ObjectMeta: meta, Spec: clusterv1.ClusterSpec{
		InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanCluster", Name: name},
	}}
	machine := &clusterv1.Machine{ObjectMeta: meta, Spec: clusterv1.MachineSpec{
		ClusterName: name, Bootstrap: clusterv1.Bootstrap{DataSecretName: ptr.To("bootstrap")},
		InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanMachine", Name: p.name("machine")},
	}}
	machine.Name = p.name("machine")
	machine.Labels = map[string]string{clusterv1.ClusterNameLabel: name, clusterv1.MachineDeploymentNameLabel: name}
	m.infra = &infrav1.SendanCluster{ObjectMeta: meta, Spec: infrav1.SendanClusterSpec{
		IdentityRef: infrav1.IdentityReference{Name: "cloud", CloudName: p.identity.CloudName},
		Network: infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{
			CIDRs: []string{providerCIDR}, ExternalNetwork: infrav1.ResourceReference{ID: p.chosen.external.ID},
		}},
		Endpoint: infrav1.Endpoint{LoadBalancer: &infrav1.LoadBalancerEndpoint{Provider: wishes.balancerProvider}},
	}}
	m.infra.Annotations = map[string]string{infrav1.OwnerIDAnnotation: p.id}
	if p.discovered.Endpoints["load-balancer"] == "" {
		m.infra.Spec.Endpoint = infrav1.Endpoint{VirtualIP: &infrav1.VirtualIPEndpoint{FloatingIP: infrav1.FloatingIP{Disabled: ptr.To(false)}}}
	}
	m.machine = &infrav1.SendanMachine{ObjectMeta: machine.ObjectMeta, Spec: infrav1.SendanMachineSpec{
		Flavor: p.chosen.flavor.Name, Image: infrav1.ResourceReference{ID: p.chosen.image.ID},
	}}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: meta.Namespace}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: meta.Namespace, Name: "cloud"}, Data: p.secret},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: meta.Namespace, Name: "bootstrap"}, Data: map[string][]byte{"value": []byte("#cloud-config\n")}},
		m.cluster, machine, m.infra, m.machine,
	} {
		switch object { // whose UIDs are known by now
		case m.infra:
			object.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: name, UID: m.cluster.UID}})
		case m.machine:
			object.SetOwnerReferences([]metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Machine", Name: machine.Name, UID: machine.UID}})
		}
		if err := kube.Create(p.Context(), object); err != nil {
			return m, err
		}
	}
	return m, nil
}

// becomesReady waits for both, and in between tells the Cluster what Cluster API would.
func (m *managed) becomesReady(p *probe) error {
	if err := m.ready(p.Context(), m.infra, func() bool { return ptr.Deref(m.infra.Status.Initialization.Provisioned, false) }); err != nil {
		return err
	}
	m.cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
	if err := m.kube.Status().Update(p.Context(), m.cluster); err != nil {
		return err
	}
	return m.ready(p.Context(), m.machine, func() bool { return m.machine.Spec.ProviderID != "" })
}

// ready waits for the condition and for what else Cluster API waits for, since they are not written at once.
func (m *managed) ready(ctx context.Context, object interface {
	client.Object
	conditions.Getter
}, provisioned func() bool) error {
	return eventually(ctx, look, fmt.Sprintf("%T %s is Ready", object, object.GetName()), func() error {
		err := m.kube.Get(ctx, client.ObjectKeyFromObject(object), object)
		return firstOf(err, expect(conditions.IsTrue(object, infrav1.ReadyCondition) && provisioned(), "its conditions are %+v", object.GetConditions()))
	})
}

// goes deletes an object and waits until its finalizer has let it go.
func (m *managed) goes(p *probe, object client.Object) error {
	if err := m.kube.Delete(p.Context(), object); err != nil {
		return err
	}
	return eventually(p.Context(), look, fmt.Sprintf("%T %s is gone", object, object.GetName()), func() error {
		err := m.kube.Get(p.Context(), client.ObjectKeyFromObject(object), object)
		if apierrors.IsNotFound(err) {
			return nil
		}
		return firstOf(err, fmt.Errorf("it is %+v", object))
	})
}
