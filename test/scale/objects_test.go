package scale

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/secret"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

const (
	kubernetesVersion = "v1.36.3" // of the release in templates/demo/platform.yaml
	infrastructure    = "infrastructure.cluster.x-k8s.io"
	controlPlaneNodes = 3
)

// pool is one of the two that each cluster has, of node templates in templates/demo/platform.yaml.
type pool struct {
	name, nodeTemplate, flavor, gpuModel string
	nodes                                int32
	device                               corev1.ResourceName
	count                                string
}

func pools() []pool {
	return []pool{
		{"mig", "a100-mig", "g1.a100.8", "A100-40GB", 2, "nvidia.com/mig-1g.5gb", "56"},
		{"big", "h100", "g1.h100.8", "H100-80GB", 2, "nvidia.com/gpu", "8"},
	}
}

func machinesOfCluster() int {
	count := controlPlaneNodes
	for _, pool := range pools() {
		count += int(pool.nodes)
	}
	return count
}

// clusterOfTenant is what a tenant writes.
func clusterOfTenant(tenant, name string) *clusterv1.Cluster {
	made := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: tenant, Name: name}}
	for _, pool := range pools() {
		made.Spec.Topology.Workers.MachineDeployments = append(made.Spec.Topology.Workers.MachineDeployments,
			clusterv1.MachineDeploymentTopology{Name: pool.name, Class: pool.nodeTemplate, Replicas: ptr.To(pool.nodes)})
	}
	return made
}

// provision sets what Cluster API writes to the spec while the cluster comes up.
func provision(cluster *clusterv1.Cluster) {
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: infrastructure, Kind: "SendanCluster", Name: cluster.Name}
	cluster.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{
		APIGroup: "controlplane.cluster.x-k8s.io", Kind: "KubeadmControlPlane", Name: cluster.Name,
	}
	cluster.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "192.0.2.10", Port: 6443}
	cluster.Finalizers = nil // nobody would take it away
}

func clusterStatus(workers int32) clusterv1.ClusterStatus {
	var status clusterv1.ClusterStatus
	status.Phase = string(clusterv1.ClusterPhaseProvisioned)
	status.Initialization = clusterv1.ClusterInitializationStatus{InfrastructureProvisioned: ptr.To(true), ControlPlaneInitialized: ptr.To(true)}
	counted := func(nodes int32) (desired, replicas, upToDate, ready, available *int32) {
		return ptr.To(nodes), ptr.To(nodes), ptr.To(nodes), ptr.To(nodes), ptr.To(nodes)
	}
	status.ControlPlane = &clusterv1.ClusterControlPlaneStatus{Versions: []clusterv1.StatusVersion{{Version: kubernetesVersion, Replicas: controlPlaneNodes}}}
	status.Workers = &clusterv1.WorkersStatus{}
	c, w := status.ControlPlane, status.Workers
	c.DesiredReplicas, c.Replicas, c.UpToDateReplicas, c.ReadyReplicas, c.AvailableReplicas = counted(controlPlaneNodes)
	w.DesiredReplicas, w.Replicas, w.UpToDateReplicas, w.ReadyReplicas, w.AvailableReplicas = counted(workers)
	status.Conditions = conditions(clusterv1.ClusterAvailableCondition, clusterv1.ClusterTopologyReconciledCondition, clusterv1.ClusterInfrastructureReadyCondition,
		clusterv1.ClusterControlPlaneInitializedCondition, clusterv1.ClusterControlPlaneAvailableCondition, clusterv1.ClusterWorkersAvailableCondition,
		clusterv1.ClusterControlPlaneMachinesReadyCondition, clusterv1.ClusterWorkerMachinesReadyCondition,
		clusterv1.ClusterControlPlaneMachinesUpToDateCondition, clusterv1.ClusterWorkerMachinesUpToDateCondition,
		clusterv1.ClusterRemoteConnectionProbeCondition)
	return status
}

func conditions(kinds ...string) []metav1.Condition {
	made := make([]metav1.Condition, 0, len(kinds))
	for _, kind := range kinds {
		made = append(made, metav1.Condition{Type: kind, Status: metav1.ConditionTrue, Reason: kind, LastTransitionTime: metav1.Now()})
	}
	return made
}

// part is an object of a cluster that is in the management cluster, with its status if it has one.
type part struct {
	object    client.Object
	setStatus func()
}

// partsOf are the objects of a cluster that the fleet manager looks at, and the nodes that the cluster has.
func partsOf(cluster *clusterv1.Cluster, kubeconfig []byte) []part {
	parts := []part{{object: &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: cluster.Namespace, Name: secret.Name(cluster.Name, secret.Kubeconfig), Labels: map[string]string{clusterv1.ClusterNameLabel: cluster.Name},
		},
		Type: clusterv1.ClusterSecretType, Data: map[string][]byte{secret.KubeconfigDataName: kubeconfig},
	}}}
	for _, pool := range pools() {
		parts = append(parts, deploymentPart(cluster, pool))
	}
	for _, m := range machinesOf(cluster.Name) {
		parts = append(parts, machinePart(cluster, m), serverPart(cluster, m))
	}
	return parts
}

// machine is one of a cluster's; its pool is nil in the control plane.
type machine struct {
	name, providerID string
	pool             *pool
}

func machinesOf(cluster string) []machine {
	var machines []machine
	add := func(name string, pool *pool) {
		machines = append(machines, machine{name: name, pool: pool, providerID: "openstack:///" + name})
	}
	for i := range controlPlaneNodes {
		add(fmt.Sprintf("%s-control-plane-%d", cluster, i), nil)
	}
	for _, pool := range pools() {
		for i := range pool.nodes {
			add(fmt.Sprintf("%s-%s-%d", cluster, pool.name, i), &pool)
		}
	}
	return machines
}

func nodesOf(cluster string) []corev1.Node {
	var nodes []corev1.Node
	for _, m := range machinesOf(cluster) {
		if m.pool == nil {
			nodes = append(nodes, node(m.name, m.providerID, "", nil))
		} else {
			nodes = append(nodes, node(m.name, m.providerID, m.pool.gpuModel, corev1.ResourceList{m.pool.device: resource.MustParse(m.pool.count)}))
		}
	}
	return nodes
}

func labelsOf(cluster *clusterv1.Cluster, pool *pool) map[string]string {
	labels := map[string]string{clusterv1.ClusterNameLabel: cluster.Name, clusterv1.ClusterTopologyOwnedLabel: ""}
	if pool == nil {
		labels[clusterv1.MachineControlPlaneLabel] = ""
		return labels
	}
	labels[clusterv1.ClusterTopologyMachineDeploymentNameLabel] = pool.name
	labels[clusterv1.MachineDeploymentNameLabel] = cluster.Name + "-" + pool.name
	labels[fleetv1.NodeTemplateLabel] = pool.nodeTemplate
	return labels
}

func deploymentPart(cluster *clusterv1.Cluster, pool pool) part {
	labels := labelsOf(cluster, &pool)
	made := &clusterv1.MachineDeployment{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: cluster.Name + "-" + pool.name, Labels: labels}}
	made.Spec.ClusterName, made.Spec.Replicas = cluster.Name, ptr.To(pool.nodes)
	made.Spec.Selector = metav1.LabelSelector{MatchLabels: labels}
	made.Spec.Template.Labels = labels
	made.Spec.Template.Spec = machineSpec(cluster, made.Name)
	return part{object: made, setStatus: func() {
		status := &made.Status
		status.Phase, status.Selector = string(clusterv1.MachineDeploymentPhaseRunning), metav1.FormatLabelSelector(&made.Spec.Selector)
		status.Replicas, status.ReadyReplicas, status.AvailableReplicas, status.UpToDateReplicas = ptr.To(pool.nodes), ptr.To(pool.nodes), ptr.To(pool.nodes), ptr.To(pool.nodes)
		status.Conditions = conditions(clusterv1.MachineDeploymentAvailableCondition, clusterv1.MachineDeploymentMachinesReadyCondition, clusterv1.MachineDeploymentMachinesUpToDateCondition)
	}}
}

func machineSpec(cluster *clusterv1.Cluster, template string) clusterv1.MachineSpec {
	return clusterv1.MachineSpec{
		ClusterName: cluster.Name, Version: kubernetesVersion, FailureDomain: "az1",
		Bootstrap: clusterv1.Bootstrap{ConfigRef: clusterv1.ContractVersionedObjectReference{
			APIGroup: "bootstrap.cluster.x-k8s.io", Kind: "KubeadmConfig", Name: template,
		}},
		InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrastructure, Kind: "SendanMachine", Name: template},
	}
}

func machinePart(cluster *clusterv1.Cluster, m machine) part {
	made := &clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{
		Namespace: cluster.Namespace, Name: m.name, Labels: labelsOf(cluster, m.pool), OwnerReferences: ownedBy(cluster),
	}}
	if m.pool != nil {
		made.Annotations = map[string]string{fleetv1.DevicesAnnotation: string(m.pool.device) + "=" + m.pool.count}
	}
	made.Spec = machineSpec(cluster, m.name)
	made.Spec.ProviderID = m.providerID
	return part{object: made, setStatus: func() { setRunning(made) }}
}

// setRunning writes the status of a machine whose node is there.
func setRunning(made *clusterv1.Machine) {
	status := &made.Status
	status.Phase, status.NodeRef.Name = string(clusterv1.MachinePhaseRunning), made.Name
	status.Initialization = clusterv1.MachineInitializationStatus{BootstrapDataSecretCreated: ptr.To(true), InfrastructureProvisioned: ptr.To(true)}
	status.Addresses = clusterv1.MachineAddresses{{Type: clusterv1.MachineInternalIP, Address: "10.6.0.17"}, {Type: clusterv1.MachineHostName, Address: made.Name}}
	info := node(made.Name, made.Spec.ProviderID, "", nil).Status.NodeInfo
	status.NodeInfo = &info
	status.Conditions = conditions(clusterv1.MachineAvailableCondition, clusterv1.MachineReadyCondition, clusterv1.MachineUpToDateCondition,
		clusterv1.MachineBootstrapConfigReadyCondition, clusterv1.MachineInfrastructureReadyCondition, clusterv1.MachineNodeHealthyCondition,
		clusterv1.MachineNodeReadyCondition)
}

func serverPart(cluster *clusterv1.Cluster, m machine) part {
	flavor := "m1.medium"
	if m.pool != nil {
		flavor = m.pool.flavor
	}
	made := &infrav1.SendanMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: m.name, Labels: labelsOf(cluster, m.pool), OwnerReferences: ownedBy(cluster)},
		Spec:       infrav1.SendanMachineSpec{Flavor: flavor, Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-" + kubernetesVersion}, ProviderID: m.providerID},
	}
	return part{object: made, setStatus: func() {
		made.Status.Initialization.Provisioned = ptr.To(true)
		made.Status.Addresses = []clusterv1.MachineAddress{{Type: clusterv1.MachineInternalIP, Address: "10.6.0.17"}}
		made.Status.Server = infrav1.ServerStatus{ID: m.name, State: "ACTIVE", Zone: "az1", HostID: "5f2c"}
		made.Status.Conditions = conditions(infrav1.ReadyCondition)
	}}
}

func ownedBy(cluster *clusterv1.Cluster) []metav1.OwnerReference {
	return []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: cluster.Name, UID: cluster.UID}}
}
