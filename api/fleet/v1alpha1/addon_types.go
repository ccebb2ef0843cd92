package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// AddonSpec is something that clusters get, and which clusters.
type AddonSpec struct {
	// clusterSelector selects Clusters by their labels. A cluster whose Release names the add-on gets it in any case; other
	// clusters get none when unset, and every one gets it with {}.
	// +optional
	ClusterSelector *metav1.LabelSelector `json:"clusterSelector,omitempty"`

	// versions that there are. A Release pins one; a cluster without one gets the last whose kubernetesVersions it is in.
	// +required
	// +listType=map
	// +listMapKey=version
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Versions []AddonVersion `json:"versions,omitempty"`

	// dependsOn names Addons that are applied before, and have to be healthy, in clusters that have them.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	DependsOn []string `json:"dependsOn,omitempty"`

	// variables for ${NAME} in the manifests, besides the facts of cluster, site and tenant.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Variables []AddonVariable `json:"variables,omitempty"`

	// deletion says what happens in a cluster that no longer gets the add-on.
	// +optional
	// +default="Delete"
	Deletion AddonDeletion `json:"deletion,omitempty"`

	// suspended leaves clusters as they are, drift included.
	// +optional
	Suspended *bool `json:"suspended,omitempty"`
}

// AddonVersion is one version of an add-on.
type AddonVersion struct {
	// version, such as v1.2.0.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Version string `json:"version,omitempty"`

	// kubernetesVersions that it works with, such as ">=1.31 <1.38"; all when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	KubernetesVersions string `json:"kubernetesVersions,omitempty"`

	// source of the manifests.
	// +required
	Source AddonSource `json:"source,omitzero"`
}

// AddonSource is exactly one of builtin, configMap and manifests.
// +kubebuilder:validation:ExactlyOneOf=builtin;configMap;manifests
type AddonSource struct {
	// builtin is an add-on that ships with the fleet manager, by its name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Builtin string `json:"builtin,omitempty"`

	// configMap whose values are YAML; its keys are taken in alphabetical order.
	// +optional
	ConfigMap *ConfigMapReference `json:"configMap,omitempty"`

	// manifests as YAML.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=262144
	Manifests string `json:"manifests,omitempty"`
}

// ConfigMapReference names a ConfigMap.
type ConfigMapReference struct {
	// name of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// namespace of the ConfigMap.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// AddonVariable is a value for the manifests.
type AddonVariable struct {
	// name of the variable, as in ${NAME}.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Z][A-Z0-9_]*$`
	Name string `json:"name,omitempty"`

	// value of the variable. It may be empty.
	// +required
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=8192
	Value *string `json:"value,omitempty"`
}

// AddonDeletion says what happens in a cluster that no longer gets an add-on.
// +kubebuilder:validation:Enum=Delete;Orphan
type AddonDeletion string

// The ways to part with an add-on.
const (
	// AddonDelete removes its objects.
	AddonDelete AddonDeletion = "Delete"
	// AddonOrphan leaves them.
	AddonOrphan AddonDeletion = "Orphan"
)

// AddonStatus is how the add-on does in all clusters. Each cluster's is in its FleetMember.
type AddonStatus struct {
	// conditions: Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// clusters that get it.
	// +optional
	Clusters int32 `json:"clusters,omitempty"`

	// healthy of them.
	// +optional
	Healthy int32 `json:"healthy,omitempty"`
}

// Addon is something that clusters get: a network, a device plugin, an autoscaler.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=addons,scope=Cluster,categories=sendan
// +kubebuilder:storageversion
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="the name is also a label: use at most 63 lower-case letters, digits and -"
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.clusters`
// +kubebuilder:printcolumn:name="Healthy",type=integer,JSONPath=`.status.healthy`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Addon struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec says what and where.
	// +required
	Spec AddonSpec `json:"spec,omitzero"`
	// status is how it does.
	// +optional
	Status AddonStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (a *Addon) GetConditions() []metav1.Condition { return a.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (a *Addon) SetConditions(conditions []metav1.Condition) { a.Status.Conditions = conditions }

// AddonList is a list of Addons.
// +kubebuilder:object:root=true
type AddonList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Addon `json:"items"`
}
