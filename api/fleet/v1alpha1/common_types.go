package v1alpha1

// Labels of a Cluster that say what it is to be made of. Where one is unset, admission fills it in.
const (
	// SiteLabel names the Site that a Cluster is in. Needed where its tenant may use several. It never changes.
	SiteLabel = "fleet.sendan.io/site"
	// ReleaseLabel names the Release that a Cluster is made of.
	ReleaseLabel = "fleet.sendan.io/release"
	// ChannelLabel names the channel that the Release of a new Cluster is taken from; the tenant's, or stable, when unset.
	ChannelLabel = "fleet.sendan.io/channel"
	// SingleNodeLabel makes a Cluster of one machine that is control plane and worker, without a load balancer. Its value
	// names the NodeTemplate of the machine. It never changes.
	SingleNodeLabel = "fleet.sendan.io/single-node"
	// TenantLabel names the Tenant of a namespace and of the Clusters in it. Written by the fleet manager only.
	TenantLabel = "fleet.sendan.io/tenant"
	// NodeTemplateLabel names, on machines and nodes, the NodeTemplate they were made from.
	NodeTemplateLabel = "fleet.sendan.io/node-template"
	// GPUModelLabel names, on nodes, the model of their GPUs.
	GPUModelLabel = "fleet.sendan.io/gpu-model"
	// AddonLabel names, on objects in tenant clusters, the Addon they came with.
	AddonLabel = "fleet.sendan.io/addon"
)

// Annotations by which the parts of the fleet manager tell each other what a machine shape means. They are on the classes
// of a compiled ClusterClass and, by Cluster API, on the machines made from them.
const (
	// NodeChargeAnnotation is what one node costs of a tenant's quota, as JSON of a [NodeCharge].
	NodeChargeAnnotation = "fleet.sendan.io/node-charge"
	// DevicesAnnotation is what the node must advertise before it takes pods, as "<resource>=<count>", separated by commas.
	DevicesAnnotation = "fleet.sendan.io/devices"
	// DriverVersionAnnotation is the version of the GPU driver that the node must run.
	DriverVersionAnnotation = "fleet.sendan.io/driver-version"
	// BurnInAnnotation is the node condition that has to be True before the node takes pods, and for how many seconds that
	// is waited for, as "<condition type>=<seconds>".
	BurnInAnnotation = "fleet.sendan.io/burn-in"
)

// DevicesTaint keeps pods off a node until its devices are what its NodeTemplate promises. The cluster-autoscaler knows the
// prefix: such a node is one that is still starting.
const DevicesTaint = "startup-taint.cluster-autoscaler.kubernetes.io/sendan-devices"

// NodeCharge is what one node costs of a tenant's quota. GPUs that are partitioned count as slices and not as GPUs.
type NodeCharge struct {
	// vcpus of the flavor.
	VCPUs int64 `json:"vcpus,omitempty"`
	// memoryMiB of the flavor.
	MemoryMiB int64 `json:"memoryMiB,omitempty"`
	// gpuModel names the model of the GPUs.
	GPUModel string `json:"gpuModel,omitempty"`
	// gpus that are handed out whole.
	GPUs int64 `json:"gpus,omitempty"`
	// migSlices by profile, such as 1g.5gb.
	MIGSlices map[string]int64 `json:"migSlices,omitempty"`
}
