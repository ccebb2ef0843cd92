// Package v1alpha1 holds the kinds of the fleet manager: who the tenants are, which clouds and machine shapes there are,
// what a release of clusters consists of, and what is known of each cluster.
// +kubebuilder:object:generate=true
// +groupName=fleet.sendan.io
package v1alpha1
