package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package. The group is Cluster API's
// own for infrastructure, so that core's RBAC covers it.
var GroupVersion = schema.GroupVersion{Group: "infrastructure.cluster.x-k8s.io", Version: "v1alpha1"}

var schemeBuilder = runtime.NewSchemeBuilder(func(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&SendanCluster{}, &SendanClusterList{},
		&SendanClusterTemplate{}, &SendanClusterTemplateList{},
		&SendanMachine{}, &SendanMachineList{},
		&SendanMachineTemplate{}, &SendanMachineTemplateList{},
		&SendanClusterIdentity{}, &SendanClusterIdentityList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
})

// AddToScheme adds the kinds of this package to a scheme.
var AddToScheme = schemeBuilder.AddToScheme
