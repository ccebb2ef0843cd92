package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SiteSpec is one OpenStack cloud, region and project, and what things are called there.
type SiteSpec struct {
	// identityRef names the credentials.
	// +required
	IdentityRef SiteIdentityReference `json:"identityRef,omitzero"`

	// externalNetwork by name, that routers lead to and floating IPs come from; the only one there is when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	ExternalNetwork string `json:"externalNetwork,omitempty"`

	// networkCIDR of the network that each cluster gets. Clusters do not see each other, so it may be the same for all.
	// +optional
	// +default="10.6.0.0/20"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=43
	NetworkCIDR string `json:"networkCIDR,omitempty"`

	// dnsNameservers of the clusters' networks; the cloud's own when unset.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=45
	DNSNameservers []string `json:"dnsNameservers,omitempty"`

	// failureDomains are the compute zones that clusters may use; every available one when unset.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=255
	FailureDomains []string `json:"failureDomains,omitempty"`

	// flavors that have another name here than NodeTemplates and Releases call them by.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Flavors []NameInCloud `json:"flavors,omitempty"`

	// images that have another name here than Releases call them by.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	Images []NameInCloud `json:"images,omitempty"`

	// gpus that the cloud offers, with what it counts them by.
	// +optional
	// +listType=map
	// +listMapKey=model
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	GPUs []SiteGPU `json:"gpus,omitempty"`
}

// SiteIdentityReference names shared credentials. Tenants never see them: their Clusters refer to them through a Release.
type SiteIdentityReference struct {
	// name of the SendanClusterIdentity.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// cloudName is the entry of clouds.yaml to use.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	CloudName string `json:"cloudName,omitempty"`

	// region overrides the region that clouds.yaml names.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Region string `json:"region,omitempty"`
}

// NameInCloud is what a logical name stands for.
type NameInCloud struct {
	// name that the fleet uses.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name,omitempty"`

	// nameInCloud is the cloud's.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	NameInCloud string `json:"nameInCloud,omitempty"`
}

// SiteGPU is a model of GPU and how the cloud asks for it.
type SiteGPU struct {
	// model as NodeTemplates name it, such as A100-40GB.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Model string `json:"model,omitempty"`

	// pciAlias by which flavors ask for it (pci_passthrough:alias).
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	PCIAlias string `json:"pciAlias,omitempty"`

	// resourceClass by which flavors ask for it and Placement counts it, such as CUSTOM_GPU_A100.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	ResourceClass string `json:"resourceClass,omitempty"`
}

// SiteStatus is what was last seen of the cloud.
type SiteStatus struct {
	// conditions: Ready, Reachable.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// region that the credentials lead to.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Region string `json:"region,omitempty"`

	// failureDomains that are available and that clusters may use.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:MaxLength=255
	FailureDomains []string `json:"failureDomains,omitempty"`

	// flavors of the cloud, by their name there.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=1024
	Flavors []SiteFlavor `json:"flavors,omitempty"`

	// images of the cloud that are active, by their name there.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=4096
	// +kubebuilder:validation:items:MaxLength=255
	Images []string `json:"images,omitempty"`

	// capacity is how many GPUs are free, by model and zone.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=1024
	Capacity []GPUCapacity `json:"capacity,omitempty"`

	// quotas of the project that were last seen.
	// +optional
	Quotas SiteQuotas `json:"quotas,omitempty,omitzero"`

	// observedTime is when the cloud was last asked with success.
	// +optional
	ObservedTime metav1.Time `json:"observedTime,omitempty,omitzero"`

	// clusters that are there.
	// +optional
	Clusters int32 `json:"clusters,omitempty"`
}

// SiteFlavor is one flavor of the cloud.
type SiteFlavor struct {
	// name in the cloud.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name,omitempty"`

	// vcpus of it.
	// +optional
	VCPUs int32 `json:"vcpus,omitempty"`

	// memoryMiB of it.
	// +optional
	MemoryMiB int32 `json:"memoryMiB,omitempty"`

	// diskGiB of its root disk.
	// +optional
	DiskGiB int32 `json:"diskGiB,omitempty"`

	// gpuModel that it asks for, as far as the Site's gpus tell.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	GPUModel string `json:"gpuModel,omitempty"`

	// gpus that it asks for.
	// +optional
	GPUs int32 `json:"gpus,omitempty"`
}

// CapacitySource is how a number of free GPUs is known.
// +kubebuilder:validation:Enum=Placement;Limits;Failures
type CapacitySource string

// The sources, best first.
const (
	// CapacityFromPlacement is exact: the credentials may read Placement.
	CapacityFromPlacement CapacitySource = "Placement"
	// CapacityFromLimits is an upper bound: what the project's quota leaves for instances and cores.
	CapacityFromLimits CapacitySource = "Limits"
	// CapacityFromFailures is 0: Nova has just refused a machine with such a GPU there.
	CapacityFromFailures CapacitySource = "Failures"
)

// GPUCapacity is how many GPUs of a model are free.
type GPUCapacity struct {
	// model of the GPU.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Model string `json:"model,omitempty"`

	// failureDomain they are in; empty where it is not known by zone.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	FailureDomain string `json:"failureDomain,omitempty"`

	// free GPUs, as far as source tells.
	// +required
	// +kubebuilder:validation:Minimum=0
	Free *int32 `json:"free,omitempty"`

	// source of the number.
	// +required
	Source CapacitySource `json:"source,omitempty"`

	// waiting machines that found none.
	// +optional
	Waiting int32 `json:"waiting,omitempty"`
}

// SiteQuotas are the project's limits; -1 is none.
// +kubebuilder:validation:MinProperties=1
type SiteQuotas struct {
	// instances that may exist, and that do.
	// +optional
	Instances UsedOf `json:"instances,omitempty,omitzero"`
	// vcpus that may be used, and that are.
	// +optional
	VCPUs UsedOf `json:"vcpus,omitempty,omitzero"`
	// memoryMiB that may be used, and that is.
	// +optional
	MemoryMiB UsedOf `json:"memoryMiB,omitempty,omitzero"`
}

// UsedOf is a limit and how much of it is taken.
// +kubebuilder:validation:MinProperties=1
type UsedOf struct {
	// used at the moment.
	// +optional
	Used *int64 `json:"used,omitempty"`
	// limit; -1 is none.
	// +optional
	Limit *int64 `json:"limit,omitempty"`
}

// Site is a cloud that clusters can be made in.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sites,scope=Cluster,categories=sendan
// +kubebuilder:storageversion
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="the name is also a label: use at most 63 lower-case letters, digits and -"
// +kubebuilder:printcolumn:name="Region",type=string,JSONPath=`.status.region`
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.clusters`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Seen",type=date,JSONPath=`.status.observedTime`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Site struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec names the cloud.
	// +required
	Spec SiteSpec `json:"spec,omitzero"`
	// status is what was last seen of it.
	// +optional
	Status SiteStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (s *Site) GetConditions() []metav1.Condition { return s.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (s *Site) SetConditions(conditions []metav1.Condition) { s.Status.Conditions = conditions }

// SiteList is a list of Sites.
// +kubebuilder:object:root=true
type SiteList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Site `json:"items"`
}
