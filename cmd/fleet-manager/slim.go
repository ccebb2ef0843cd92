package main

import (
	corev1 "k8s.io/api/core/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// The cache holds every machine of the fleet and every node of its clusters, so it keeps what is looked at. Changes are
// written as patches, which leave alone what is not here.

// slimMachine also takes what an earlier version of the API says once more.
func slimMachine(object any) (any, error) {
	if machine, ok := object.(*clusterv1.Machine); ok {
		machine.Status.Deprecated, machine.Status.NodeInfo, machine.Status.Addresses = nil, nil, nil
	}
	return cache.TransformStripManagedFields()(object)
}

func slimMachineDeployment(object any) (any, error) {
	if pool, ok := object.(*clusterv1.MachineDeployment); ok {
		pool.Status.Deprecated = nil
	}
	return cache.TransformStripManagedFields()(object)
}

// slimNode leaves what is compared with a promise: labels, taints, conditions and what can be allocated.
func slimNode(object any) (any, error) {
	if node, ok := object.(*corev1.Node); ok {
		node.Annotations = nil
		node.Status = corev1.NodeStatus{Allocatable: node.Status.Allocatable, Conditions: node.Status.Conditions}
	}
	return cache.TransformStripManagedFields()(object)
}
