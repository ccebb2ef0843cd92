package main

import (
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// slimMachineDeployment leaves out what an earlier version of the API says once more.
func slimMachineDeployment(object any) (any, error) {
	if pool, ok := object.(*clusterv1.MachineDeployment); ok {
		pool.Status.Deprecated = nil
	}
	return cache.TransformStripManagedFields()(object)
}
