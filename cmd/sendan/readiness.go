package main

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// unready says what is still missing until a cluster has the machines that it should have, all of
// them up to date and in use; nil when nothing is.
func (s *state) unready() error {
	if s.cluster == nil {
		return errors.New("the Cluster is not there")
	}
	if err := conditionIsTrue(s.cluster.Status.Conditions, clusterv1.ClusterAvailableCondition); err != nil {
		return fmt.Errorf("the Cluster is not %w", err)
	}
	for _, controlPlane := range s.controlPlanes {
		status := controlPlane.Status
		if err := replicasAreThere("KubeadmControlPlane "+controlPlane.Name, controlPlane.Spec.Replicas,
			status.Replicas, status.UpToDateReplicas, status.AvailableReplicas); err != nil {
			return err
		}
	}
	for _, pool := range s.pools {
		status := pool.Status
		if status.ObservedGeneration < pool.Generation {
			return fmt.Errorf("the latest change of MachineDeployment %s has not been seen yet", pool.Name)
		}
		if err := replicasAreThere("MachineDeployment "+pool.Name, pool.Spec.Replicas,
			status.Replicas, status.UpToDateReplicas, status.AvailableReplicas); err != nil {
			return err
		}
	}
	return s.machinesAreRunning(s.wantedMachines())
}

// wantedMachines is how many the specs ask for.
func (s *state) wantedMachines() int {
	wanted := 0
	for _, controlPlane := range s.controlPlanes {
		wanted += replicas(controlPlane.Spec.Replicas)
	}
	for _, pool := range s.pools {
		wanted += replicas(pool.Spec.Replicas)
	}
	return wanted
}

// readyMachines have a node that is ready.
func (s *state) readyMachines() int {
	ready := 0
	for _, machine := range s.machines {
		if meta.IsStatusConditionTrue(machine.Status.Conditions, clusterv1.MachineReadyCondition) {
			ready++
		}
	}
	return ready
}

func (s *state) machinesAreRunning(wanted int) error {
	for _, machine := range s.machines {
		if machine.Status.Phase != string(clusterv1.MachinePhaseRunning) {
			return fmt.Errorf("machine %s is %s", machine.Name, machine.Status.Phase)
		}
	}
	if len(s.machines) != wanted || len(s.servers) != wanted {
		return fmt.Errorf("there are %d Machines and %d SendanMachines, there should be %d", len(s.machines), len(s.servers), wanted)
	}
	return nil
}

func replicasAreThere(owner string, wanted, there, upToDate, available *int32) error {
	if w := replicas(wanted); replicas(there) != w || replicas(upToDate) != w || replicas(available) != w {
		return fmt.Errorf("%s has %d replicas, %d up to date, %d available; there should be %d",
			owner, replicas(there), replicas(upToDate), replicas(available), w)
	}
	return nil
}

func replicas(count *int32) int {
	if count == nil {
		return 0
	}
	return int(*count)
}

// conditionIsTrue is nil, or reads like "Available yet: WorkersNotReady: 1 of 2 …".
func conditionIsTrue(conditions []metav1.Condition, conditionType string) error {
	condition := meta.FindStatusCondition(conditions, conditionType)
	if condition == nil {
		return fmt.Errorf("%s yet: nothing is known", conditionType)
	}
	if condition.Status != metav1.ConditionTrue {
		return fmt.Errorf("%s yet: %s: %s", conditionType, condition.Reason, condition.Message)
	}
	return nil
}

// nodesUnready says what is missing until a cluster has exactly this many nodes, all of them ready.
func nodesUnready(nodes []corev1.Node, wanted int) error {
	for _, node := range nodes {
		if !nodeIsReady(node) {
			return fmt.Errorf("node %s is not ready", node.Name)
		}
	}
	if len(nodes) != wanted {
		return fmt.Errorf("the cluster has %d nodes, it should have %d", len(nodes), wanted)
	}
	return nil
}

func nodeIsReady(node corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
