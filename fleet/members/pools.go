package members

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/labels/format"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// maxPools is a limit of the API.
const maxPools = 200

// poolsOf are the MachineDeployments, and the pools of the topology that have none yet.
func poolsOf(in Input) []fleetv1.PoolStatus {
	pools := map[string]fleetv1.PoolStatus{}
	wanted := in.Cluster.Spec.Topology.Workers.MachineDeployments
	if !in.Cluster.DeletionTimestamp.IsZero() {
		wanted = nil
	}
	for _, asked := range wanted {
		pool := fleetv1.PoolStatus{
			Name:    asked.Name,
			Nodes:   counts(ptr.Deref(asked.Replicas, 0), 0),
			Message: "Cluster API makes it once the control plane is up",
		}
		if in.Cluster.Labels[fleetv1.ReleaseLabel] != "" { // then classes are NodeTemplates
			pool.NodeTemplate = message.Clip(asked.Class, maxName)
		}
		pools[asked.Name] = pool
	}
	for i := range in.MachineDeployments {
		made := &in.MachineDeployments[i]
		name := poolName(made)
		asked, inTopology := pools[name]
		desired := ptr.Deref(made.Spec.Replicas, 0)
		if replicas := topologyReplicas(in.Cluster, name); replicas != nil {
			desired = *replicas
		}
		pool := fleetv1.PoolStatus{
			Name:         name,
			NodeTemplate: cmp.Or(made.Labels[fleetv1.NodeTemplateLabel], asked.NodeTemplate),
			Nodes:        counts(desired, ptr.Deref(made.Status.ReadyReplicas, 0)),
			Message:      message.Clip(poolMessage(made, in.Machines), maxMessage),
		}
		if !made.DeletionTimestamp.IsZero() && !inTopology {
			pool.Nodes, pool.Message = counts(0, pool.Nodes.Ready), "being removed"
		}
		pools[name] = pool
	}
	if len(pools) == 0 {
		return nil
	}
	sorted := make([]fleetv1.PoolStatus, 0, len(pools))
	for _, name := range slices.Sorted(maps.Keys(pools)) {
		sorted = append(sorted, pools[name])
	}
	return sorted[:min(len(sorted), maxPools)]
}

// poolName is the one that the user gave it in the topology, and the MachineDeployment's own without one.
func poolName(made *clusterv1.MachineDeployment) string {
	return cmp.Or(made.Labels[clusterv1.ClusterTopologyMachineDeploymentNameLabel], format.MustFormatValue(made.Name))
}

func topologyReplicas(cluster *clusterv1.Cluster, pool string) *int32 {
	for _, asked := range cluster.Spec.Topology.Workers.MachineDeployments {
		if asked.Name == pool {
			return asked.Replicas
		}
	}
	return nil
}

// poolMessage is what holds the pool up, the cause before what follows from it.
func poolMessage(made *clusterv1.MachineDeployment, machines []clusterv1.Machine) string {
	if waiting := conditions.Get(made, fleetv1.CapacityAvailableCondition); waiting != nil && waiting.Status == metav1.ConditionFalse {
		return flat(waiting.Message)
	}
	ofPool := func(m *clusterv1.Machine) bool {
		return m.Labels[clusterv1.MachineDeploymentNameLabel] == format.MustFormatValue(made.Name)
	}
	if message := withoutDevices(machines, ofPool); message != "" {
		return message
	}
	for _, sign := range []struct {
		conditionType string
		trouble       metav1.ConditionStatus
	}{
		{clusterv1.MachineDeploymentMachinesReadyCondition, metav1.ConditionFalse},
		{clusterv1.MachineDeploymentScalingUpCondition, metav1.ConditionTrue},
		{clusterv1.MachineDeploymentScalingDownCondition, metav1.ConditionTrue},
		{clusterv1.MachineDeploymentRollingOutCondition, metav1.ConditionTrue},
		{clusterv1.MachineDeploymentAvailableCondition, metav1.ConditionFalse},
	} {
		condition := conditions.Get(made, sign.conditionType)
		if condition != nil && condition.Status == sign.trouble && condition.Message != "" {
			return flat(condition.Message)
		}
	}
	return ""
}

// withoutDevices names nodes that are there and not usable yet, or no more.
func withoutDevices(machines []clusterv1.Machine, counts func(*clusterv1.Machine) bool) string {
	const most = 3
	var all []string
	for i := range machines {
		machine := &machines[i]
		devices := conditions.Get(machine, fleetv1.DevicesReadyCondition)
		if devices != nil && devices.Status == metav1.ConditionFalse && counts(machine) {
			all = append(all, fmt.Sprintf("node %s: %s", cmp.Or(machine.Status.NodeRef.Name, machine.Name), flat(devices.Message)))
		}
	}
	slices.Sort(all)
	if len(all) > most {
		all = append(all[:most], fmt.Sprintf("and %d more nodes", len(all)-most))
	}
	return strings.Join(all, "; ")
}

func isControlPlane(machine *clusterv1.Machine) bool {
	_, labeled := machine.Labels[clusterv1.MachineControlPlaneLabel]
	return labeled
}

// nodesOf adds up the control plane, the pools, and what else Cluster API counts as workers: MachinePools and single Machines.
func nodesOf(in Input, pools []fleetv1.PoolStatus) fleetv1.NodeCounts {
	total := controlPlaneNodes(in.Cluster)
	for _, pool := range pools {
		total.Desired += pool.Nodes.Desired
		total.Ready += pool.Nodes.Ready
	}
	if workers := in.Cluster.Status.Workers; workers != nil {
		desired, ready := ptr.Deref(workers.DesiredReplicas, 0), ptr.Deref(workers.ReadyReplicas, 0)
		for i := range in.MachineDeployments {
			desired -= ptr.Deref(in.MachineDeployments[i].Spec.Replicas, 0)
			ready -= ptr.Deref(in.MachineDeployments[i].Status.ReadyReplicas, 0)
		}
		total.Desired += max(desired, 0)
		total.Ready += max(ready, 0)
	}
	return counts(total.Desired, total.Ready)
}

func controlPlaneNodes(cluster *clusterv1.Cluster) fleetv1.NodeCounts {
	desired, ready := ptr.Deref(cluster.Spec.Topology.ControlPlane.Replicas, 0), int32(0)
	if status := cluster.Status.ControlPlane; status != nil {
		desired, ready = ptr.Deref(status.DesiredReplicas, desired), ptr.Deref(status.ReadyReplicas, 0)
	}
	return counts(desired, ready)
}

func counts(desired, ready int32) fleetv1.NodeCounts {
	return fleetv1.NodeCounts{Desired: desired, Ready: ready, Text: fmt.Sprintf("%d/%d", ready, desired)}
}
