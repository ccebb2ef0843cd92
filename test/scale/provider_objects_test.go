package scale

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterconditions "sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

const (
	// clusterUpWithin and machineUpWithin are for many at the same time, with the provider's own limit of requests to a cloud.
	clusterUpWithin = 10 * time.Minute
	machineUpWithin = 20 * time.Minute
	lookEvery       = 200 * time.Millisecond
	// userDataSize is about that of a kubeadm configuration without certificates.
	userDataSize = 2 << 10
)

// Copies are made by exchanging names, so all are as long as each other, and none is a part of an id.
func clusterName(number int) string   { return fmt.Sprintf("k%04d", number) }
func namespaceName(number int) string { return fmt.Sprintf("n%04d", number) }

func machineName(cluster string, index int) string {
	if index < controlPlaneNodes {
		return fmt.Sprintf("%s-control-plane-%d", cluster, index)
	}
	return fmt.Sprintf("%s-workers-%02d", cluster, index)
}

// makeCluster writes what a user and Cluster API do, until all machines are nodes.
func (p *provider) makeCluster(t testing.TB, number int, name string) error {
	clouds, err := p.cloud.cloudsYAML(number)
	if err != nil {
		return err
	}
	namespace := namespaceName(number)
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: infrastructure, Kind: "SendanCluster", Name: name}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "cloud"}, Data: map[string][]byte{"clouds.yaml": clouds}},
		cluster,
	} {
		if err := p.Client.Create(t.Context(), object); err != nil {
			return err
		}
	}
	infra := &infrav1.SendanCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{clusterv1.ClusterNameLabel: name}, OwnerReferences: ownedBy(cluster)},
		Spec: infrav1.SendanClusterSpec{
			IdentityRef: infrav1.IdentityReference{Name: "cloud", CloudName: "demo"},
			Network:     infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}},
			// An address of the external network would have to be another one in each copy.
			Endpoint: infrav1.Endpoint{LoadBalancer: &infrav1.LoadBalancerEndpoint{FloatingIP: infrav1.FloatingIP{Disabled: ptr.To(true)}}},
		},
	}
	if err := p.Client.Create(t.Context(), infra); err != nil {
		return err
	}
	if err := p.awaitCluster(t, infra); err != nil {
		return err
	}
	if err := p.provisioned(t, cluster, infra); err != nil {
		return err
	}
	return p.makeMachines(t, cluster)
}

// awaitCluster returns when a cluster has a network and an endpoint.
func (p *provider) awaitCluster(t testing.TB, infra *infrav1.SendanCluster) error {
	return p.until(t, clusterUpWithin, infra, func() error {
		if !ptr.Deref(infra.Status.Initialization.Provisioned, false) {
			return fmt.Errorf("the conditions are %+v", infra.Status.Conditions)
		}
		return nil
	})
}

// provisioned writes what Cluster API takes over from the provider.
func (p *provider) provisioned(t testing.TB, cluster *clusterv1.Cluster, infra *infrav1.SendanCluster) error {
	before := cluster.DeepCopy()
	cluster.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: infra.Spec.ControlPlaneEndpoint.Host, Port: infra.Spec.ControlPlaneEndpoint.Port}
	if err := p.Client.Patch(t.Context(), cluster, client.MergeFrom(before)); err != nil {
		return err
	}
	before = cluster.DeepCopy()
	cluster.Status = clusterStatus(int32(p.size.machinesOfCluster - controlPlaneNodes)) //nolint:gosec // a few dozen
	return p.Client.Status().Patch(t.Context(), cluster, client.MergeFrom(before))
}

func (p *provider) makeMachines(t testing.TB, cluster *clusterv1.Cluster) error {
	var made []*infrav1.SendanMachine
	for i := range p.size.machinesOfCluster {
		infra, err := p.createMachine(t, cluster, i)
		if err != nil {
			return err
		}
		made = append(made, infra)
	}
	for _, infra := range made {
		if err := p.joins(t, infra); err != nil {
			return err
		}
	}
	return nil
}

// createMachine makes the parts of a machine, with its bootstrap data.
func (p *provider) createMachine(t testing.TB, cluster *clusterv1.Cluster, index int) (*infrav1.SendanMachine, error) {
	name := machineName(cluster.Name, index)
	labels := map[string]string{clusterv1.ClusterNameLabel: cluster.Name}
	if index < controlPlaneNodes {
		labels[clusterv1.MachineControlPlaneLabel] = ""
	} else {
		labels[clusterv1.MachineDeploymentNameLabel] = cluster.Name + "-workers"
	}
	data := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: name, Labels: map[string]string{clusterv1.ClusterNameLabel: cluster.Name}},
		Type:       clusterv1.ClusterSecretType, Data: map[string][]byte{"value": []byte("#cloud-config\n" + strings.Repeat("# "+strings.Repeat("x", 61)+"\n", userDataSize/64))},
	}
	machine := &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: name, Labels: labels, OwnerReferences: ownedBy(cluster)}}
	machine.Spec = machineSpec(cluster, name)
	machine.Spec.FailureDomain = fmt.Sprintf("az%d", 1+index%3)
	machine.Spec.Bootstrap.DataSecretName = ptr.To(name)
	for _, object := range []client.Object{data, machine} {
		if err := p.Client.Create(t.Context(), object); err != nil {
			return nil, err
		}
	}
	infra := &infrav1.SendanMachine{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cluster.Namespace, Name: name, Labels: labels,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Machine", Name: name, UID: machine.UID, Controller: ptr.To(true)}},
		},
		Spec: infrav1.SendanMachineSpec{Flavor: "m1.medium", Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-" + kubernetesVersion}},
	}
	return infra, p.Client.Create(t.Context(), infra)
}

// joins waits for a server, writes what Cluster API does when its node is there, and waits for the machine to be Ready.
func (p *provider) joins(t testing.TB, infra *infrav1.SendanMachine) error {
	err := p.until(t, machineUpWithin, infra, func() error {
		if !ptr.Deref(infra.Status.Initialization.Provisioned, false) {
			return fmt.Errorf("the conditions are %+v", infra.Status.Conditions)
		}
		return nil
	})
	if err != nil {
		return err
	}
	machine := &clusterv1.Machine{}
	if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(infra), machine); err != nil {
		return err
	}
	before := machine.DeepCopy()
	machine.Spec.ProviderID = infra.Spec.ProviderID
	if err := p.Client.Patch(t.Context(), machine, client.MergeFrom(before)); err != nil {
		return err
	}
	before = machine.DeepCopy()
	setRunning(machine)
	if err := p.Client.Status().Patch(t.Context(), machine, client.MergeFrom(before)); err != nil {
		return err
	}
	return p.until(t, machineUpWithin, infra, func() error { return machineUnready(infra) })
}

func machineUnready(infra *infrav1.SendanMachine) error {
	if !clusterconditions.IsTrue(infra, infrav1.ReadyCondition) || infra.Status.Server.State != "ACTIVE" {
		return fmt.Errorf("%s is %s: %+v", client.ObjectKeyFromObject(infra), infra.Status.Phase, infra.Status.Conditions)
	}
	return nil
}

// replaceMachine deletes a machine as Cluster API does, and makes it anew.
func (p *provider) replaceMachine(t testing.TB, number int, clusterName string, index int) error {
	key := client.ObjectKey{Namespace: namespaceName(number), Name: machineName(clusterName, index)}
	infra, machine, cluster := &infrav1.SendanMachine{}, &clusterv1.Machine{}, &clusterv1.Cluster{}
	infra.Namespace, infra.Name = key.Namespace, key.Name
	machine.Namespace, machine.Name = key.Namespace, key.Name
	data := &corev1.Secret{ObjectMeta: machine.ObjectMeta}
	if err := p.Client.Get(t.Context(), client.ObjectKey{Namespace: key.Namespace, Name: clusterName}, cluster); err != nil {
		return err
	}
	if err := p.Client.Delete(t.Context(), infra); err != nil {
		return err
	}
	err := p.until(t, machineUpWithin, infra, func() error { return fmt.Errorf("it is still there: %+v", infra.Status.Conditions) })
	if !apierrors.IsNotFound(err) {
		return err
	}
	for _, object := range []client.Object{machine, data} {
		if err := p.Client.Delete(t.Context(), object); err != nil {
			return err
		}
	}
	made, err := p.createMachine(t, cluster, index)
	if err != nil {
		return err
	}
	return p.joins(t, made)
}

// until looks at an object again and again. What cannot be read ends it.
func (p *provider) until(t testing.TB, within time.Duration, object client.Object, check func() error) error {
	deadline, ticker := time.After(within), time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
			return err
		}
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-deadline:
			return fmt.Errorf("%s not within %s: %w", client.ObjectKeyFromObject(object), within, err)
		case <-ticker.C:
		}
	}
}
