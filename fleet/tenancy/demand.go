package tenancy

import (
	"encoding/json"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

var topologyPath = field.NewPath("spec", "topology")

// demand is what a cluster takes of its tenant's quota when it is as large as its spec lets it be. The machines that a rolling
// update adds for a while (maxSurge) are not in it.
type demand struct{ cluster, controlPlane, pools amounts }

func (d demand) total() amounts { return sum(d.cluster, d.controlPlane, d.pools) }

// poolSizes are the sizes that pools have, or may still be given by an autoscaler that has not heard of a lower maximum, by the
// name of the pool. They count where the topology does not decide the size: nodes above a lowered maximum go when they are
// idle, and not at once.
type poolSizes map[string]int64

func poolSizesOf(deployments []clusterv1.MachineDeployment) poolSizes {
	sizes := poolSizes{}
	for i := range deployments {
		maximum, _, _ := autoscalerMaximum(deployments[i].Annotations)
		pool := deployments[i].Labels[clusterv1.ClusterTopologyMachineDeploymentNameLabel]
		sizes[pool] = max(maximum, int64(ptr.Deref(deployments[i].Spec.Replicas, 0)))
	}
	return sizes
}

// demandOf also says what of the topology it cannot count; that counts as nodes and nothing else. Without a class everything
// does.
func demandOf(cluster *clusterv1.Cluster, class *clusterv1.ClusterClass, sizes poolSizes) (demand, field.ErrorList) {
	d := demand{cluster: amounts{{what: clusters}: 1}, pools: amounts{}}
	topology := &cluster.Spec.Topology
	if !topology.IsDefined() {
		return d, nil
	}
	if class == nil {
		class = &clusterv1.ClusterClass{}
	}
	path := topologyPath.Child("controlPlane", "replicas")
	replicas, wrong := replicasOf(topology.ControlPlane.Replicas, path)
	charge, err := chargeOf(class.Spec.ControlPlane.Metadata.Annotations)
	if err != nil {
		wrong = append(wrong, notCounted(cluster, "the control plane"))
	}
	d.controlPlane = nodesOf(replicas, charge)
	for i := range topology.Workers.MachineDeployments {
		pool, errs := poolDemand(cluster, &topology.Workers.MachineDeployments[i], class, sizes, poolPath(i))
		d.pools, wrong = sum(d.pools, pool), append(wrong, errs...)
	}
	if len(topology.Workers.MachinePools) > 0 {
		wrong = append(wrong, field.Forbidden(topologyPath.Child("workers", "machinePools"), "nothing counts them; use machineDeployments"))
	}
	return d, wrong
}

func poolPath(i int) *field.Path { return topologyPath.Child("workers", "machineDeployments").Index(i) }

func poolDemand(cluster *clusterv1.Cluster, pool *clusterv1.MachineDeploymentTopology, class *clusterv1.ClusterClass, sizes poolSizes, path *field.Path) (amounts, field.ErrorList) {
	poolClass := classOf(pool, class)
	count, wrong := poolCount(pool, poolClass, sizes, path)
	if poolClass == nil {
		return nodesOf(count, fleetv1.NodeCharge{}), append(wrong, field.NotSupported(path.Child("class"), pool.Class, classNames(class)))
	}
	charge, err := chargeOf(poolClass.Metadata.Annotations)
	if err != nil {
		wrong = append(wrong, notCounted(cluster, "class "+pool.Class))
	}
	return nodesOf(count, charge), wrong
}

// poolCount is the size of a pool at its largest.
func poolCount(pool *clusterv1.MachineDeploymentTopology, class *clusterv1.MachineDeploymentClass, sizes poolSizes, path *field.Path) (int64, field.ErrorList) {
	count, wrong := replicasOf(pool.Replicas, path.Child("replicas"))
	maximum, autoscaled, err := poolMaximum(pool, class)
	if err != nil {
		path = path.Child("metadata", "annotations").Key(clusterv1.AutoscalerMaxSizeAnnotation)
		wrong = append(wrong, field.Invalid(path, pool.Metadata.Annotations[clusterv1.AutoscalerMaxSizeAnnotation], "must be a number of nodes"))
	}
	switch {
	case pool.Replicas == nil && autoscaled:
		count = sizes[pool.Name]
	case pool.Replicas == nil:
		count = max(count, sizes[pool.Name])
	}
	return max(count, maximum), wrong
}

// replicasOf counts what is unset as Cluster API does. See refuseUnset for why that is safe.
func replicasOf(replicas *int32, path *field.Path) (int64, field.ErrorList) {
	if count := ptr.Deref(replicas, 1); count < 0 {
		return 0, field.ErrorList{field.Invalid(path, count, "must be 0 or more")}
	}
	return int64(ptr.Deref(replicas, 1)), nil
}

// poolMaximum reads the annotations that a MachineDeployment gets from its pool and from its class.
func poolMaximum(pool *clusterv1.MachineDeploymentTopology, class *clusterv1.MachineDeploymentClass) (int64, bool, error) {
	maximum, found, err := autoscalerMaximum(pool.Metadata.Annotations)
	if found || err != nil || class == nil {
		return maximum, found, err
	}
	return autoscalerMaximum(class.Metadata.Annotations)
}

func autoscalerMaximum(annotations map[string]string) (int64, bool, error) {
	text, found := annotations[clusterv1.AutoscalerMaxSizeAnnotation]
	if !found {
		return 0, false, nil
	}
	maximum, err := strconv.ParseUint(text, 10, 31)
	return int64(maximum), err == nil, err //nolint:gosec // 31 bits
}

func chargeOf(annotations map[string]string) (fleetv1.NodeCharge, error) {
	charge := fleetv1.NodeCharge{}
	err := json.Unmarshal([]byte(annotations[fleetv1.NodeChargeAnnotation]), &charge)
	return charge, err
}

func notCounted(cluster *clusterv1.Cluster, part string) *field.Error {
	return field.Invalid(topologyPath.Child("classRef", "name"), cluster.Spec.Topology.ClassRef.Name,
		"does not say what a node of "+part+" costs (annotation "+fleetv1.NodeChargeAnnotation+"); use the ClusterClass of a Release")
}

func classOf(pool *clusterv1.MachineDeploymentTopology, class *clusterv1.ClusterClass) *clusterv1.MachineDeploymentClass {
	for i := range class.Spec.Workers.MachineDeployments {
		if c := &class.Spec.Workers.MachineDeployments[i]; c.Class == pool.Class {
			return c
		}
	}
	return nil
}

func classNames(class *clusterv1.ClusterClass) []string {
	var names []string
	for _, c := range class.Spec.Workers.MachineDeployments {
		names = append(names, c.Class)
	}
	return names
}
