package main

import (
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// The cache holds every machine of the fleet, so it keeps what is looked at. Changes are
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
