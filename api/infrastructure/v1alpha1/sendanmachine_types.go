package v1alpha1

import (
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// SendanMachineSpec is one wanted server. Immutable, except for providerID and identityRef.
type SendanMachineSpec struct {
	// providerID is what the Node will carry. Written by Sendan once the server exists.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	ProviderID string `json:"providerID,omitempty"`

	// identityRef replaces the cluster's credentials for this machine. May change.
	// +optional
	IdentityRef *IdentityReference `json:"identityRef,omitempty"`

	// flavor by name or id.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Flavor string `json:"flavor,omitempty"`

	// image to boot from. Exactly one must match.
	// +required
	Image ResourceReference `json:"image,omitzero"`

	// ports of the server, in order. When unset: one on the cluster's network.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Ports []Port `json:"ports,omitempty"`

	// rootVolume boots from a volume instead of the flavor's disk.
	// +optional
	RootVolume *RootVolume `json:"rootVolume,omitempty"`

	// volumes attached besides the root disk; they live and die with the machine.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Volumes []Volume `json:"volumes,omitempty"`

	// devices the node will advertise, such as nvidia.com/gpu or nvidia.com/mig-1g.10gb. They say
	// what a node of this shape offers before one exists (scale from zero). When unset they are read
	// from the flavor's extra specs.
	// +optional
	// +listType=map
	// +listMapKey=resourceName
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Devices []Device `json:"devices,omitempty"`

	// keyPair is the name of the Nova key pair.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	KeyPair string `json:"keyPair,omitempty"`

	// serverGroup is an existing server group to join, by id, instead of the managed one.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ServerGroup string `json:"serverGroup,omitempty"`

	// serverGroupPolicy of the managed server group of the machine's pool; the cluster's when unset.
	// +optional
	ServerGroupPolicy ServerGroupPolicy `json:"serverGroupPolicy,omitempty"`

	// schedulerHints passed to Nova as they are, such as {"different_host": ["…"]}.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:Schemaless
	SchedulerHints *apiextensionsv1.JSON `json:"schedulerHints,omitempty"`

	// metadata of the server. Keys that begin with "sendan-" are taken.
	// +optional
	// +listType=map
	// +listMapKey=key
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	Metadata []KeyValue `json:"metadata,omitempty"`

	// tags of the server and its ports, besides the cluster's.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=40
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=60
	Tags []string `json:"tags,omitempty"`

	// configDrive gives the server its user data on a drive; the cloud decides when unset.
	// +optional
	ConfigDrive *bool `json:"configDrive,omitempty"`
}

// Port is one network port of a server.
type Port struct {
	// network of the port; the cluster's when unset.
	// +optional
	Network ResourceReference `json:"network,omitempty,omitzero"`

	// subnets to take one address each from; the cluster's, or any, when unset.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Subnets []ResourceReference `json:"subnets,omitempty"`

	// vnicType: normal, direct (SR-IOV), macvtap, direct-physical, baremetal, virtio-forwarder, vdpa,
	// remote-managed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	VNICType string `json:"vnicType,omitempty"`

	// profile is binding:profile, such as {"capabilities": ["switchdev"]}.
	// +optional
	// +kubebuilder:pruning:PreserveUnknownFields
	// +kubebuilder:validation:Type=object
	// +kubebuilder:validation:Schemaless
	Profile *apiextensionsv1.JSON `json:"profile,omitempty"`

	// allowedAddressPairs the port may use besides its own.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	AllowedAddressPairs []AddressPair `json:"allowedAddressPairs,omitempty"`

	// securityGroups besides the managed ones, by id or name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	SecurityGroups []ResourceReference `json:"securityGroups,omitempty"`

	// portSecurityDisabled turns off filtering on the port; it then has no security groups.
	// +optional
	PortSecurityDisabled *bool `json:"portSecurityDisabled,omitempty"`

	// trunk makes the port the parent of a trunk.
	// +optional
	Trunk *bool `json:"trunk,omitempty"`
}

// AddressPair is an address and, optionally, the MAC address it is used with.
type AddressPair struct {
	// ipAddress is an address or a CIDR.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=43
	IPAddress string `json:"ipAddress,omitempty"`

	// macAddress; the port's own when unset.
	// +optional
	// +kubebuilder:validation:MinLength=17
	// +kubebuilder:validation:MaxLength=17
	MACAddress string `json:"macAddress,omitempty"`
}

// RootVolume is a bootable volume made from the image.
type RootVolume struct {
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

// Volume is a further disk.
type Volume struct {
	// name of the volume within the machine.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Name string `json:"name,omitempty"`

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

// MachinePhase tells in one word where a machine is on its way.
type MachinePhase string

// The phases, in the order a machine goes through them.
const (
	// PhasePending: something outside the machine has to happen first.
	PhasePending MachinePhase = "Pending"
	// PhaseVolumes: its volumes are being made.
	PhaseVolumes MachinePhase = "Volumes"
	// PhasePorts: its ports are being made.
	PhasePorts MachinePhase = "Ports"
	// PhaseBuilding: Nova is building the server.
	PhaseBuilding MachinePhase = "Building"
	// PhaseRunning: the server is ACTIVE.
	PhaseRunning MachinePhase = "Running"
	// PhaseFailed: a person or a remediation has to act; see the Ready condition.
	PhaseFailed MachinePhase = "Failed"
	// PhaseDeleting: it is going away.
	PhaseDeleting MachinePhase = "Deleting"
)

// SendanMachineStatus is what was last seen. Nothing here is needed to go on.
type SendanMachineStatus struct {
	// conditions: Ready, PortsReady, VolumesReady, ServerReady, BootSucceeded, Deleting, Paused.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// initialization is how Cluster API learns that the machine is there.
	// +optional
	Initialization SendanMachineInitialization `json:"initialization,omitempty,omitzero"`

	// addresses of the machine.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	Addresses []clusterv1.MachineAddress `json:"addresses,omitempty"`

	// failureDomain the machine really is in.
	// +optional
	// +kubebuilder:validation:MaxLength=256
	FailureDomain string `json:"failureDomain,omitempty"`

	// phase in one word.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Phase MachinePhase `json:"phase,omitempty"`

	// server as Nova shows it.
	// +optional
	Server ServerStatus `json:"server,omitempty,omitzero"`

	// attempts are notes about calls that have not succeeded yet.
	// +optional
	// +listType=map
	// +listMapKey=action
	// +kubebuilder:validation:MaxItems=64
	Attempts []Attempt `json:"attempts,omitempty"`
}

// SendanMachineInitialization is part of the contract.
// +kubebuilder:validation:MinProperties=1
type SendanMachineInitialization struct {
	// provisioned is true once the server runs. It never goes back.
	// +optional
	Provisioned *bool `json:"provisioned,omitempty"`
}

// ServerStatus is the Nova server.
// +kubebuilder:validation:MinProperties=1
type ServerStatus struct {
	// id of the server.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id,omitempty"`

	// state as Nova writes it: BUILD, ACTIVE, ERROR, SHUTOFF, …
	// +optional
	// +kubebuilder:validation:MaxLength=64
	State string `json:"state,omitempty"`

	// zone the server is in.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	Zone string `json:"zone,omitempty"`

	// hostID is Nova's opaque name for the hypervisor; equal ids are the same host.
	// +optional
	// +kubebuilder:validation:MaxLength=255
	HostID string `json:"hostID,omitempty"`
}

// SendanMachine is the infrastructure of a Machine: one server with its ports and volumes.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sendanmachines,scope=Namespaced,categories=cluster-api,shortName=sm
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:metadata:labels="cluster.x-k8s.io/provider=infrastructure-sendan"
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.metadata.labels.cluster\.x-k8s\.io/cluster-name`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Server",type=string,JSONPath=`.status.server.state`
// +kubebuilder:printcolumn:name="Flavor",type=string,JSONPath=`.spec.flavor`
// +kubebuilder:printcolumn:name="Zone",type=string,JSONPath=`.status.server.zone`
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.addresses[?(@.type=="InternalIP")].address`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="ProviderID",type=string,JSONPath=`.spec.providerID`,priority=1
type SendanMachine struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is the wanted server.
	// +required
	Spec SendanMachineSpec `json:"spec,omitzero"`
	// status is what was last seen.
	// +optional
	Status SendanMachineStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (m *SendanMachine) GetConditions() []metav1.Condition { return m.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (m *SendanMachine) SetConditions(conditions []metav1.Condition) {
	m.Status.Conditions = conditions
}

// GetAttempts are the notes about calls that have not succeeded yet.
func (m *SendanMachine) GetAttempts() []Attempt { return m.Status.Attempts }

// SetAttempts replaces the notes about calls that have not succeeded yet.
func (m *SendanMachine) SetAttempts(attempts []Attempt) { m.Status.Attempts = attempts }

// SendanMachineList is a list of SendanMachines.
// +kubebuilder:object:root=true
type SendanMachineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SendanMachine `json:"items"`
}
