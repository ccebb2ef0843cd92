package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// ReleaseSpec is a set of versions that were tested together. Only channels and lifecycle may change.
type ReleaseSpec struct {
	// kubernetesVersion of the clusters, such as v1.36.3.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^v[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.+-]+)?$`
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`

	// channels that new clusters take this release from, such as stable and rapid. The newest supported release of a channel
	// is taken. May change.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Channels []string `json:"channels,omitempty"`

	// lifecycle says when the release changes its phase. May change.
	// +optional
	Lifecycle ReleaseLifecycle `json:"lifecycle,omitempty,omitzero"`

	// images of machines.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Images []ReleaseImage `json:"images,omitempty"`

	// controlPlane machines of clusters.
	// +required
	ControlPlane ReleaseControlPlane `json:"controlPlane,omitzero"`

	// nodeTemplates that pools can be made of.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=200
	NodeTemplates []ReleaseNodeTemplate `json:"nodeTemplates,omitempty"`

	// addons that clusters get, and their versions.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Addons []ReleaseAddon `json:"addons,omitempty"`
}

// ReleaseLifecycle are the moments at which a release changes its phase. It is a Preview before the first, and Supported
// from the beginning when supportedFrom is unset.
// +kubebuilder:validation:MinProperties=1
type ReleaseLifecycle struct {
	// supportedFrom is when new clusters get it.
	// +optional
	SupportedFrom metav1.Time `json:"supportedFrom,omitempty,omitzero"`

	// deprecatedFrom is when new clusters get it only by name, with a warning.
	// +optional
	DeprecatedFrom metav1.Time `json:"deprecatedFrom,omitempty,omitzero"`

	// expiredFrom is when no new cluster gets it. Clusters that have it go on.
	// +optional
	ExpiredFrom metav1.Time `json:"expiredFrom,omitempty,omitzero"`
}

// ReleaseImage is an image for the machines of a family and, where drivers are in the image, of a generation of GPUs.
type ReleaseImage struct {
	// family as NodeTemplates name it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Family string `json:"family,omitempty"`

	// generations of GPUs that it is for, such as Ampere; machines without a GPU, and generations that no other image of the
	// family names, when unset.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Generations []string `json:"generations,omitempty"`

	// image by its logical name, which a Site may give another name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Image string `json:"image,omitempty"`

	// driver that the image has.
	// +optional
	Driver ImageDriver `json:"driver,omitempty,omitzero"`
}

// ImageDriver is the tuple that was tested together with the image's kernel.
// +kubebuilder:validation:MinProperties=1
type ImageDriver struct {
	// version in full, such as 570.172.08.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Version string `json:"version,omitempty"`

	// cuda version that it brings.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	CUDA string `json:"cuda,omitempty"`

	// kernel that it was built for.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kernel string `json:"kernel,omitempty"`

	// fabricManager says whether the image has NVIDIA's fabric manager.
	// +optional
	FabricManager *bool `json:"fabricManager,omitempty"`
}

// ReleaseControlPlane is the shape of control-plane machines.
type ReleaseControlPlane struct {
	// flavor by its logical name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Flavor string `json:"flavor,omitempty"`

	// imageFamily of the machines.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	ImageFamily string `json:"imageFamily,omitempty"`

	// rootDisk is a volume to boot from instead of the flavor's disk.
	// +optional
	RootDisk RootDisk `json:"rootDisk,omitempty,omitzero"`
}

// ReleaseNodeTemplate is a NodeTemplate as it was when the release was made.
type ReleaseNodeTemplate struct {
	// name of the NodeTemplate, and of the class of pools.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// spec of the NodeTemplate. When unset, admission copies it once from the NodeTemplate of that name; later changes there
	// do not reach this release.
	// +optional
	Spec *NodeTemplateSpec `json:"spec,omitempty"`
}

// ReleaseAddon pins an add-on.
type ReleaseAddon struct {
	// name of the Addon.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// version of the Addon.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Version string `json:"version,omitempty"`

	// manifests that replace the Addon's, as YAML with the same variables.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=262144
	Manifests string `json:"manifests,omitempty"`
}

// ReleasePhase is where a release is in its life.
type ReleasePhase string

// The phases in their order.
const (
	// ReleasePreview is taken only by name.
	ReleasePreview ReleasePhase = "Preview"
	// ReleaseSupported is taken by new clusters.
	ReleaseSupported ReleasePhase = "Supported"
	// ReleaseDeprecated is taken only by name, with a warning.
	ReleaseDeprecated ReleasePhase = "Deprecated"
	// ReleaseExpired is not taken by new clusters.
	ReleaseExpired ReleasePhase = "Expired"
)

// ReleaseStatus is what has been made of the release.
type ReleaseStatus struct {
	// conditions: Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// phase at the moment.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Phase ReleasePhase `json:"phase,omitempty"`

	// clusters that are made of it.
	// +optional
	Clusters int32 `json:"clusters,omitempty"`

	// sites that it can be used in.
	// +optional
	// +listType=map
	// +listMapKey=site
	// +kubebuilder:validation:MaxItems=256
	Sites []ReleaseSite `json:"sites,omitempty"`
}

// ReleaseSite is what a release is in one site.
type ReleaseSite struct {
	// site it is about.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Site string `json:"site,omitempty"`

	// clusterClass that Clusters there refer to; empty where none can be made.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ClusterClass string `json:"clusterClass,omitempty"`

	// singleNodeClasses are for Clusters of one machine, by its NodeTemplate.
	// +optional
	// +listType=map
	// +listMapKey=nodeTemplate
	// +kubebuilder:validation:MaxItems=200
	SingleNodeClasses []SingleNodeClass `json:"singleNodeClasses,omitempty"`

	// nodeTemplates that the site has everything for.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=200
	// +kubebuilder:validation:items:MaxLength=63
	NodeTemplates []string `json:"nodeTemplates,omitempty"`

	// missing says what the site lacks, for the templates that are not offered there.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=200
	// +kubebuilder:validation:items:MaxLength=1024
	Missing []string `json:"missing,omitempty"`
}

// SingleNodeClass is the class of Clusters of one machine.
type SingleNodeClass struct {
	// nodeTemplate of the machine.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	NodeTemplate string `json:"nodeTemplate,omitempty"`

	// clusterClass that Clusters refer to.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	ClusterClass string `json:"clusterClass,omitempty"`
}

// Release is what clusters are made of.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=releases,scope=Cluster,categories=sendan,shortName=rel
// +kubebuilder:storageversion
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="the name is also a label: use at most 63 lower-case letters, digits and -"
// +kubebuilder:printcolumn:name="Kubernetes",type=string,JSONPath=`.spec.kubernetesVersion`
// +kubebuilder:printcolumn:name="Channels",type=string,JSONPath=`.spec.channels`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.clusters`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Release struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is the set of versions.
	// +required
	Spec ReleaseSpec `json:"spec,omitzero"`
	// status is what has been made of it.
	// +optional
	Status ReleaseStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (r *Release) GetConditions() []metav1.Condition { return r.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (r *Release) SetConditions(conditions []metav1.Condition) { r.Status.Conditions = conditions }

// ReleaseList is a list of Releases.
// +kubebuilder:object:root=true
type ReleaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Release `json:"items"`
}
