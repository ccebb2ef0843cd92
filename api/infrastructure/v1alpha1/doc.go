// Package v1alpha1 holds the kinds of the Cluster API infrastructure provider Sendan, contract
// v1beta2. A field of status may be lost at any time (clusterctl move drops it) and is worked out
// again from spec and the marks on cloud objects.
// +kubebuilder:object:generate=true
// +groupName=infrastructure.cluster.x-k8s.io
package v1alpha1
