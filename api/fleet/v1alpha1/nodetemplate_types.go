package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeTemplateSpec describes one shape of machine. It may change at any time: a Release keeps the templates it was made
// with, so a change reaches clusters with the next Release.
type NodeTemplateSpec struct {
	// flavor by its logical name, which a Site may give another name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Flavor string `json:"flavor,omitempty"`

	// imageFamily is what a Release chooses an image by, together with the GPU's generation, such as ubuntu-24.04.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	ImageFamily string `json:"imageFamily,omitempty"`

	// gpu of the machine.
	// +optional
	GPU *GPU `json:"gpu,omitempty"`

	// devices that the node advertises besides those of gpu, such as 8 of example.com/npu. Any accelerator with a device
	// plugin works like this.
	// +optional
	// +listType=map
	// +listMapKey=resourceName
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Devices []Device `json:"devices,omitempty"`

	// generation chooses the image of a machine whose accelerator is in devices, or a gpu of a model that Sendan does not know. That
	// of a known model is known too.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Generation string `json:"generation,omitempty"`

	// network ports besides the one on the cluster's network.
	// +optional
	Network NodeNetwork `json:"network,omitempty,omitzero"`

	// labels of the nodes.
	// +optional
	// +kubebuilder:validation:MinProperties=1
	// +kubebuilder:validation:MaxProperties=32
	Labels map[string]string `json:"labels,omitempty"`

	// taints of the nodes.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Taints []Taint `json:"taints,omitempty"`

	// kubelet settings.
	// +optional
	Kubelet Kubelet `json:"kubelet,omitempty,omitzero"`

	// rootDisk is a volume to boot from instead of the flavor's disk.
	// +optional
	RootDisk RootDisk `json:"rootDisk,omitempty,omitzero"`

	// serverGroupPolicy of the pools; soft anti-affinity when unset.
	// +optional
	ServerGroupPolicy ServerGroupPolicy `json:"serverGroupPolicy,omitempty"`

	// burnIn has to succeed before a new node takes pods.
	// +optional
	BurnIn BurnIn `json:"burnIn,omitempty,omitzero"`

	// pricePerHour of one machine, in the currency that the platform counts in, such as "12.50".
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:Pattern=`^(0|[1-9][0-9]*)(\.[0-9]+)?$`
	PricePerHour string `json:"pricePerHour,omitempty"`

	// autoscaling of a pool that gives no number of replicas. A pool may narrow or widen it by Cluster API's annotations.
	// +optional
	Autoscaling Autoscaling `json:"autoscaling,omitempty,omitzero"`

	// singleNode lets clusters consist of one machine of this shape.
	// +optional
	SingleNode *bool `json:"singleNode,omitempty"`
}

// GPUVendor is who makes a GPU.
// +kubebuilder:validation:Enum=NVIDIA;AMD
type GPUVendor string

// The vendors whose device plugins' resource names are known.
const (
	GPUVendorNVIDIA GPUVendor = "NVIDIA"
	GPUVendorAMD    GPUVendor = "AMD"
)

// GPUSharing is how pods get GPUs.
// +kubebuilder:validation:Enum=Passthrough;MIG;TimeSlicing;VGPU
type GPUSharing string

// The ways to share a GPU.
const (
	// GPUPassthrough hands out whole GPUs.
	GPUPassthrough GPUSharing = "Passthrough"
	// GPUMIG partitions each GPU in hardware (Multi-Instance GPU).
	GPUMIG GPUSharing = "MIG"
	// GPUTimeSlicing lets several pods take turns on one GPU, without isolation of memory.
	GPUTimeSlicing GPUSharing = "TimeSlicing"
	// GPUVirtual is a GPU that the hypervisor has partitioned; the node sees whole, smaller ones.
	GPUVirtual GPUSharing = "VGPU"
)

// GPU describes the GPUs of a machine.
// +kubebuilder:validation:XValidation:rule="has(self.migLayout) == (has(self.sharing) && self.sharing == 'MIG')",message="migLayout and sharing MIG go together: set both or neither"
// +kubebuilder:validation:XValidation:rule="has(self.timeSlicingReplicas) == (has(self.sharing) && self.sharing == 'TimeSlicing')",message="timeSlicingReplicas and sharing TimeSlicing go together: set both or neither"
type GPU struct {
	// vendor of the GPU.
	// +optional
	// +default="NVIDIA"
	Vendor GPUVendor `json:"vendor,omitempty"`

	// model with the size of its memory, such as A100-40GB. MIG needs a model whose geometry is known.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	Model string `json:"model,omitempty"`

	// count of GPUs in one machine.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=64
	Count int32 `json:"count,omitempty"`

	// sharing is how pods get them.
	// +optional
	// +default="Passthrough"
	Sharing GPUSharing `json:"sharing,omitempty"`

	// migLayout of every GPU of the machine.
	// +optional
	MIGLayout *MIGLayout `json:"migLayout,omitempty"`

	// timeSlicingReplicas is how many pods take turns on one GPU.
	// +optional
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=64
	TimeSlicingReplicas int32 `json:"timeSlicingReplicas,omitempty"`

	// driver that the node must run. The image of a Release has to have it.
	// +optional
	Driver GPUDriver `json:"driver,omitempty,omitzero"`

	// fabricManager says whether the GPUs are connected by NVSwitch and need NVIDIA's fabric manager; by the model's
	// generation and the count when unset.
	// +optional
	FabricManager *bool `json:"fabricManager,omitempty"`
}

// MIGLayout is exactly one of uniform and instances.
// +kubebuilder:validation:ExactlyOneOf=uniform;instances
type MIGLayout struct {
	// uniform fills each GPU with instances of one profile: all-1g takes the smallest of one compute slice, all-1g.10gb
	// that one.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Uniform string `json:"uniform,omitempty"`

	// instances on each GPU.
	// +optional
	// +listType=map
	// +listMapKey=profile
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=8
	Instances []MIGInstances `json:"instances,omitempty"`
}

// MIGInstances is how many instances of one profile a GPU has.
type MIGInstances struct {
	// profile as NVIDIA names it, such as 2g.10gb.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Profile string `json:"profile,omitempty"`

	// count on each GPU.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=7
	Count int32 `json:"count,omitempty"`
}

// GPUDriver pins a driver.
// +kubebuilder:validation:MinProperties=1
type GPUDriver struct {
	// version in full, such as 570.172.08.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Version string `json:"version,omitempty"`

	// branch, such as 570, of which the image's version is taken. Ignored beside version.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Branch string `json:"branch,omitempty"`
}

// Device is a countable resource of a node.
type Device struct {
	// resourceName as the device plugin advertises it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`
	ResourceName string `json:"resourceName,omitempty"`

	// count of them on one node.
	// +required
	// +kubebuilder:validation:Minimum=1
	Count int32 `json:"count,omitempty"`
}

// NodeNetwork is what a machine is connected to besides the cluster's network.
// +kubebuilder:validation:MinProperties=1
type NodeNetwork struct {
	// sriov ports, in order.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=15
	SRIOV []SRIOVPort `json:"sriov,omitempty"`

	// rdma marks the nodes with the label fleet.sendan.io/rdma=true, for pods that need it.
	// +optional
	RDMA *bool `json:"rdma,omitempty"`
}

// SRIOVPort is a port with a virtual function of the host's network card.
type SRIOVPort struct {
	// network by name.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Network string `json:"network,omitempty"`

	// physical takes the whole card instead of a virtual function of it.
	// +optional
	Physical *bool `json:"physical,omitempty"`

	// trusted lets the machine change the function's MAC address and enter promiscuous mode.
	// +optional
	Trusted *bool `json:"trusted,omitempty"`
}

// Taint of a node.
type Taint struct {
	// key of the taint.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=317
	Key string `json:"key,omitempty"`

	// value of the taint.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Value string `json:"value,omitempty"`

	// effect of the taint.
	// +required
	// +kubebuilder:validation:Enum=NoSchedule;PreferNoSchedule;NoExecute
	Effect corev1.TaintEffect `json:"effect,omitempty"`
}

// Kubelet settings of a node.
// +kubebuilder:validation:MinProperties=1
type Kubelet struct {
	// systemReserved is kept from pods for the system: cpu, memory, ephemeral-storage, pid.
	// +optional
	SystemReserved corev1.ResourceList `json:"systemReserved,omitempty"`

	// kubeReserved is kept from pods for Kubernetes itself.
	// +optional
	KubeReserved corev1.ResourceList `json:"kubeReserved,omitempty"`

	// maxPods on one node; the kubelet's default when unset.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1024
	MaxPods int32 `json:"maxPods,omitempty"`
}

// RootDisk is a bootable volume made from the image.
// +kubebuilder:validation:MinProperties=1
type RootDisk struct {
	// sizeGiB of the volume.
	// +required
	// +kubebuilder:validation:Minimum=1
	SizeGiB int32 `json:"sizeGiB,omitempty"`

	// type of the volume; the cloud's default when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Type string `json:"type,omitempty"`
}

// ServerGroupPolicy says how machines of a pool are spread over hosts.
// +kubebuilder:validation:Enum=SoftAntiAffinity;AntiAffinity;None
type ServerGroupPolicy string

// The policies.
const (
	// ServerGroupSoftAntiAffinity spreads over hosts where it can.
	ServerGroupSoftAntiAffinity ServerGroupPolicy = "SoftAntiAffinity"
	// ServerGroupAntiAffinity never puts two machines of a pool on one host.
	ServerGroupAntiAffinity ServerGroupPolicy = "AntiAffinity"
	// ServerGroupNone puts machines anywhere, such as where a host has one machine of the shape anyway.
	ServerGroupNone ServerGroupPolicy = "None"
)

// BurnIn is a test that whoever runs it reports as a condition of the Node.
// +kubebuilder:validation:MinProperties=1
type BurnIn struct {
	// conditionType of the Node that becomes True when the test has passed and False when it has failed.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=316
	ConditionType string `json:"conditionType,omitempty"`

	// timeoutSeconds after which a test without a result counts as failed.
	// +optional
	// +default=1800
	// +kubebuilder:validation:Minimum=1
	TimeoutSeconds int32 `json:"timeoutSeconds,omitempty"`
}

// Autoscaling bounds a pool.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.minSize) || self.minSize <= self.maxSize",message="minSize must not be above maxSize"
type Autoscaling struct {
	// minSize of a pool; none when unset.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MinSize *int32 `json:"minSize,omitempty"`

	// maxSize of a pool. Quotas count it, whatever the pool's size is at the moment.
	// +required
	// +kubebuilder:validation:Minimum=1
	MaxSize int32 `json:"maxSize,omitempty"`
}

// NodeTemplateStatus is what the spec means.
type NodeTemplateStatus struct {
	// conditions: Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// generation of the GPU, by which a Release chooses an image.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Generation string `json:"generation,omitempty"`

	// devices that a node will advertise.
	// +optional
	// +listType=map
	// +listMapKey=resourceName
	// +kubebuilder:validation:MaxItems=16
	Devices []Device `json:"devices,omitempty"`

	// devicesText is devices for people, in one line.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	DevicesText string `json:"devicesText,omitempty"`

	// sites whose flavors include the template's.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	Sites []string `json:"sites,omitempty"`

	// releases that have a template of this name.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MaxLength=63
	Releases []string `json:"releases,omitempty"`
}

// NodeTemplate is an entry of the catalog of machine shapes. Its name is the class of a pool in a Cluster.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=nodetemplates,scope=Cluster,categories=sendan,shortName=nt
// +kubebuilder:storageversion
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="the name is also a label: use at most 63 lower-case letters, digits and -"
// +kubebuilder:printcolumn:name="Flavor",type=string,JSONPath=`.spec.flavor`
// +kubebuilder:printcolumn:name="GPU",type=string,JSONPath=`.spec.gpu.model`
// +kubebuilder:printcolumn:name="Sharing",type=string,JSONPath=`.spec.gpu.sharing`
// +kubebuilder:printcolumn:name="Devices",type=string,JSONPath=`.status.devicesText`
// +kubebuilder:printcolumn:name="Price",type=string,JSONPath=`.spec.pricePerHour`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec describes the machines.
	// +required
	Spec NodeTemplateSpec `json:"spec,omitzero"`
	// status is what the spec means.
	// +optional
	Status NodeTemplateStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (t *NodeTemplate) GetConditions() []metav1.Condition { return t.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (t *NodeTemplate) SetConditions(conditions []metav1.Condition) { t.Status.Conditions = conditions }

// NodeTemplateList is a list of NodeTemplates.
// +kubebuilder:object:root=true
type NodeTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeTemplate `json:"items"`
}
