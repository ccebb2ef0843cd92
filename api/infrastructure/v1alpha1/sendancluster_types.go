package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// SendanClusterSpec is the wanted infrastructure of one cluster.
type SendanClusterSpec struct {
	// identityRef names the credentials and the cloud.
	// +required
	IdentityRef IdentityReference `json:"identityRef,omitzero"`

	// network the machines live in: one Sendan makes, or an existing one. Immutable, except for the
	// name servers of a managed network.
	// +required
	Network ClusterNetwork `json:"network,omitzero"`

	// endpoint says how the API server is reached. When unset: a load balancer with a floating IP.
	// +optional
	Endpoint Endpoint `json:"endpoint,omitempty,omitzero"`

	// securityGroups adds to the managed security groups.
	// +optional
	SecurityGroups SecurityGroups `json:"securityGroups,omitempty,omitzero"`

	// failureDomains the machines may be spread over. When unset they are discovered: one for each
	// available compute zone. Always refreshed, never frozen.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	FailureDomains []FailureDomain `json:"failureDomains,omitempty"`

	// serverGroupPolicy is the placement policy of the server groups Sendan makes for the control
	// plane and for each pool.
	// +optional
	// +default="SoftAntiAffinity"
	ServerGroupPolicy ServerGroupPolicy `json:"serverGroupPolicy,omitempty"`

	// providerIDFormat must be what the OpenStack cloud-controller-manager of the cluster writes.
	// +optional
	// +default="ServerID"
	ProviderIDFormat ProviderIDFormat `json:"providerIDFormat,omitempty"`

	// tags put on every cloud object of the cluster that can carry tags, for people and billing.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=40
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=60
	Tags []string `json:"tags,omitempty"`

	// deletion says what else goes with the cluster. May change at any time, during the deletion too.
	// +optional
	Deletion ClusterDeletion `json:"deletion,omitempty,omitzero"`

	// controlPlaneEndpoint is where the API server is reached. Written by Sendan unless the endpoint
	// mode is External. Immutable once set.
	// +optional
	ControlPlaneEndpoint APIEndpoint `json:"controlPlaneEndpoint,omitempty,omitzero"`
}

// ClusterDeletion says what else goes with a cluster.
// +kubebuilder:validation:MinProperties=1
type ClusterDeletion struct {
	// sweep names what is deleted with the cluster although its workloads made it, once all machines are
	// gone. When unset: nothing. Load balancers are then waited for, and volumes are told of and stay.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	Sweep []Leftover `json:"sweep,omitempty"`
}

// Leftover is something that workloads of a cluster make in the cloud, and that nobody removes when
// the cluster is gone.
// +kubebuilder:validation:Enum=LoadBalancers;Volumes
type Leftover string

// What may be swept.
const (
	// SweepLoadBalancers deletes the load balancers that the cluster's OpenStack cloud-controller-manager
	// made for Services, with the floating IPs it made for them. Only those on the network that Sendan
	// made for the cluster, and with the name "<namespace>-<name>" of the cluster in theirs.
	SweepLoadBalancers Leftover = "LoadBalancers"
	// SweepVolumes deletes the volumes that the cluster's Cinder CSI driver made, with the data on them.
	// Only those with the cluster's name in their metadata that are not attached; none while another
	// cluster of the project has the same name.
	SweepVolumes Leftover = "Volumes"
)

// ServerGroupPolicy is a placement policy of managed server groups.
// +kubebuilder:validation:Enum=SoftAntiAffinity;AntiAffinity;None
type ServerGroupPolicy string

// The policies of managed server groups.
const (
	// SoftAntiAffinity spreads over hosts where it can.
	SoftAntiAffinity ServerGroupPolicy = "SoftAntiAffinity"
	// AntiAffinity never puts two machines of a group on one host; the fourth of three hosts fails.
	AntiAffinity ServerGroupPolicy = "AntiAffinity"
	// NoServerGroup makes no server groups.
	NoServerGroup ServerGroupPolicy = "None"
)

// ProviderIDFormat is how provider ids are written.
// +kubebuilder:validation:Enum=ServerID;RegionalServerID
type ProviderIDFormat string

// The formats of provider ids.
const (
	// ProviderIDServer is openstack:///<server id>, the cloud-controller-manager's default.
	ProviderIDServer ProviderIDFormat = "ServerID"
	// ProviderIDRegional is openstack://<region>/<server id>, with OS_CCM_REGIONAL=true.
	ProviderIDRegional ProviderIDFormat = "RegionalServerID"
)

// ClusterNetwork is exactly one of managed and existing.
// +kubebuilder:validation:ExactlyOneOf=managed;existing
type ClusterNetwork struct {
	// managed makes a network, its subnets and a router, and removes them with the cluster.
	// +optional
	Managed *ManagedNetwork `json:"managed,omitempty"`

	// existing uses what is there and never changes it.
	// +optional
	Existing *ExistingNetwork `json:"existing,omitempty"`
}

// ManagedNetwork describes the network Sendan makes.
type ManagedNetwork struct {
	// cidrs of the subnets: one IPv4, one IPv6, or one of each for dual stack; the first is primary.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	CIDRs []string `json:"cidrs,omitempty"`

	// dnsNameservers of the subnets; each goes to the subnet of its family. May change.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=6
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=45
	DNSNameservers []string `json:"dnsNameservers,omitempty"`

	// mtu of the network; the cloud's default when unset.
	// +optional
	// +kubebuilder:validation:Minimum=576
	// +kubebuilder:validation:Maximum=65535
	MTU int32 `json:"mtu,omitempty"`

	// externalNetwork the router leads to and floating IPs come from. When unset, the only external
	// network there is; several are an error that lists them.
	// +optional
	ExternalNetwork ResourceReference `json:"externalNetwork,omitempty,omitzero"`

	// routerDisabled makes no router: an isolated network, which needs the endpoint mode External or
	// VirtualIP, or a load balancer without a floating IP.
	// +optional
	RouterDisabled *bool `json:"routerDisabled,omitempty"`
}

// ExistingNetwork names a network that is there.
type ExistingNetwork struct {
	// network the machines get a port on.
	// +required
	Network ResourceReference `json:"network,omitzero"`

	// subnets of the network to take addresses from; all of them when unset. The first is where the
	// load balancer's address comes from.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Subnets []ResourceReference `json:"subnets,omitempty"`

	// router that leads out of the network. Its outer addresses are added to the endpoint's
	// allowedCIDRs, since the machines' own traffic to a floating IP comes from there.
	// +optional
	Router ResourceReference `json:"router,omitempty,omitzero"`

	// externalNetwork floating IPs come from; as for a managed network.
	// +optional
	ExternalNetwork ResourceReference `json:"externalNetwork,omitempty,omitzero"`
}

// Endpoint is at most one of its modes. Immutable, except for allowedCIDRs.
// +kubebuilder:validation:ExactlyOneOf=loadBalancer;virtualIP;external
type Endpoint struct {
	// loadBalancer makes an Octavia load balancer.
	// +optional
	LoadBalancer *LoadBalancerEndpoint `json:"loadBalancer,omitempty"`

	// virtualIP is an address that the control-plane machines hold among themselves (kube-vip).
	// Sendan reserves it with a port and lets every control-plane port use it.
	// +optional
	VirtualIP *VirtualIPEndpoint `json:"virtualIP,omitempty"`

	// external: somebody else provides the endpoint. Set spec.controlPlaneEndpoint of this object or
	// of the Cluster.
	// +optional
	External *ExternalEndpoint `json:"external,omitempty"`
}

// LoadBalancerEndpoint describes the API server's load balancer.
type LoadBalancerEndpoint struct {
	// port the API server is reached at.
	// +optional
	// +default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// provider of the load balancer, such as amphora or ovn; the cloud's default when unset. An
	// unknown one is an error, never a silent fallback.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	Provider string `json:"provider,omitempty"`

	// flavor of the load balancer, by name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Flavor string `json:"flavor,omitempty"`

	// allowedCIDRs that may reach the API server; everybody when unset. May change.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=43
	AllowedCIDRs []string `json:"allowedCIDRs,omitempty"`

	// floatingIP gives the load balancer an address of the external network.
	// +optional
	FloatingIP FloatingIP `json:"floatingIP,omitempty,omitzero"`
}

// FloatingIP says whether and which.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!(has(self.disabled) && self.disabled && has(self.address))",message="address needs a floating IP: remove disabled or address"
type FloatingIP struct {
	// disabled: the endpoint is the address inside the network.
	// +optional
	Disabled *bool `json:"disabled,omitempty"`

	// address of an existing, unused floating IP. It is not removed with the cluster.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address,omitempty"`
}

// VirtualIPEndpoint describes the shared address.
type VirtualIPEndpoint struct {
	// address inside the network; one is picked when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address,omitempty"`

	// port the API server is reached at.
	// +optional
	// +default=6443
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`

	// floatingIP in front of the address. None unless asked for.
	// +optional
	FloatingIP FloatingIP `json:"floatingIP,omitempty,omitzero"`
}

// ExternalEndpoint has no settings.
type ExternalEndpoint struct{}

// SecurityGroups adds to or turns off the managed security groups.
// +kubebuilder:validation:MinProperties=1
type SecurityGroups struct {
	// disabled makes none; machines get those their ports name, or the project's default.
	// +optional
	Disabled *bool `json:"disabled,omitempty"`

	// rules added to the managed security groups.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Rules []SecurityGroupRule `json:"rules,omitempty"`
}

// SecurityGroupTarget says whose security group a rule belongs to.
// +kubebuilder:validation:Enum=All;ControlPlane;Workers
type SecurityGroupTarget string

// The targets of a security group rule.
const (
	// TargetAll is every machine.
	TargetAll SecurityGroupTarget = "All"
	// TargetControlPlane is the control-plane machines.
	TargetControlPlane SecurityGroupTarget = "ControlPlane"
	// TargetWorkers is the workers.
	TargetWorkers SecurityGroupTarget = "Workers"
)

// SecurityGroupRule lets traffic in (or out) beyond the default rules, which let the cluster's
// machines talk to each other, everybody reach the API server, and nobody else in.
// +kubebuilder:validation:XValidation:rule="!has(self.portMax) || has(self.portMin)",message="portMax needs portMin"
// +kubebuilder:validation:XValidation:rule="!has(self.portMax) || self.portMax >= self.portMin",message="portMax must not be below portMin"
// +kubebuilder:validation:XValidation:rule="!has(self.portMin) || (has(self.protocol) && self.protocol in ['tcp','udp','sctp'])",message="ports need protocol tcp, udp or sctp"
type SecurityGroupRule struct {
	// name of the rule; becomes its description in the cloud.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// target is whose security group gets the rule.
	// +optional
	// +default="All"
	Target SecurityGroupTarget `json:"target,omitempty"`

	// direction of the traffic, seen from the machine.
	// +optional
	// +default="ingress"
	// +kubebuilder:validation:Enum=ingress;egress
	Direction string `json:"direction,omitempty"`

	// protocol: tcp, udp, sctp, icmp, ipv6-icmp, or a number; any when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=16
	Protocol string `json:"protocol,omitempty"`

	// portMin is the first port; any when unset.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PortMin int32 `json:"portMin,omitempty"`

	// portMax is the last port; portMin when unset.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PortMax int32 `json:"portMax,omitempty"`

	// remoteCIDR the traffic comes from or goes to; its family decides the rule's. Everywhere, in
	// the families of the cluster's network, when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=43
	RemoteCIDR string `json:"remoteCIDR,omitempty"`
}

// FailureDomain is a place machines can be put.
type FailureDomain struct {
	// name of the failure domain, as Machines refer to it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	Name string `json:"name,omitempty"`

	// computeZone is the Nova availability zone; the name when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	ComputeZone string `json:"computeZone,omitempty"`

	// volumeZone is the Cinder availability zone; the cloud's default when unset.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	VolumeZone string `json:"volumeZone,omitempty"`

	// subnets that ports of machines here take their addresses from; the cluster's when unset.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=4
	Subnets []ResourceReference `json:"subnets,omitempty"`

	// controlPlane says whether control-plane machines may be put here.
	// +optional
	// +default=true
	ControlPlane *bool `json:"controlPlane,omitempty"`
}

// APIEndpoint is a host and port.
// +kubebuilder:validation:MinProperties=1
type APIEndpoint struct {
	// host name or address.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=512
	Host string `json:"host,omitempty"`

	// port of the API server.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	Port int32 `json:"port,omitempty"`
}

// SendanClusterStatus is what was last seen. Nothing here is needed to go on.
type SendanClusterStatus struct {
	// conditions: Ready, IdentityReady, NetworkReady, SecurityGroupsReady, EndpointReady,
	// MembersReady, ServerGroupsReady, FailureDomainsReady, Deleting, Paused.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// initialization is how Cluster API learns that the infrastructure is there.
	// +optional
	Initialization SendanClusterInitialization `json:"initialization,omitempty,omitzero"`

	// failureDomains machines can be put in, as Cluster API reads them.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=100
	FailureDomains []clusterv1.FailureDomain `json:"failureDomains,omitempty"`

	// network is what the machines are put on.
	// +optional
	Network NetworkStatus `json:"network,omitempty,omitzero"`

	// endpoint is what the API server is reached through.
	// +optional
	Endpoint EndpointStatus `json:"endpoint,omitempty,omitzero"`

	// attempts are notes about calls that have not succeeded yet.
	// +optional
	// +listType=map
	// +listMapKey=action
	// +kubebuilder:validation:MaxItems=64
	Attempts []Attempt `json:"attempts,omitempty"`
}

// SendanClusterInitialization is part of the contract.
// +kubebuilder:validation:MinProperties=1
type SendanClusterInitialization struct {
	// provisioned is true once machines can be made. It never goes back.
	// +optional
	Provisioned *bool `json:"provisioned,omitempty"`
}

// NetworkStatus names the network objects in use.
// +kubebuilder:validation:MinProperties=1
type NetworkStatus struct {
	// id of the network.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id,omitempty"`

	// subnetIDs in order; the first is primary.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=64
	SubnetIDs []string `json:"subnetIDs,omitempty"`

	// routerID of the router.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	RouterID string `json:"routerID,omitempty"`

	// externalNetworkID of the network floating IPs come from.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ExternalNetworkID string `json:"externalNetworkID,omitempty"`

	// controlPlaneSecurityGroupID of the managed security group.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	ControlPlaneSecurityGroupID string `json:"controlPlaneSecurityGroupID,omitempty"`

	// workerSecurityGroupID of the managed security group.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	WorkerSecurityGroupID string `json:"workerSecurityGroupID,omitempty"`
}

// EndpointStatus names the endpoint's objects.
// +kubebuilder:validation:MinProperties=1
type EndpointStatus struct {
	// loadBalancerID of the load balancer.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	LoadBalancerID string `json:"loadBalancerID,omitempty"`

	// portID of the port that holds the address inside the network.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	PortID string `json:"portID,omitempty"`

	// address inside the network.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	Address string `json:"address,omitempty"`

	// floatingIPID of the floating IP.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	FloatingIPID string `json:"floatingIPID,omitempty"`

	// floatingIP is its address.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	FloatingIP string `json:"floatingIP,omitempty"`

	// members is how many control-plane machines are behind the endpoint.
	// +optional
	Members *int32 `json:"members,omitempty"`
}

// SendanCluster is the infrastructure of a Cluster.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sendanclusters,scope=Namespaced,categories=cluster-api,shortName=sc
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:metadata:labels="cluster.x-k8s.io/provider=infrastructure-sendan"
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.metadata.labels.cluster\.x-k8s\.io/cluster-name`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.spec.controlPlaneEndpoint.host`
// +kubebuilder:printcolumn:name="Network",type=string,JSONPath=`.status.network.id`,priority=1
// +kubebuilder:printcolumn:name="Cloud",type=string,JSONPath=`.spec.identityRef.cloudName`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SendanCluster struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is the wanted infrastructure.
	// +required
	Spec SendanClusterSpec `json:"spec,omitzero"`
	// status is what was last seen.
	// +optional
	Status SendanClusterStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (c *SendanCluster) GetConditions() []metav1.Condition { return c.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (c *SendanCluster) SetConditions(conditions []metav1.Condition) {
	c.Status.Conditions = conditions
}

// GetAttempts are the notes about calls that have not succeeded yet.
func (c *SendanCluster) GetAttempts() []Attempt { return c.Status.Attempts }

// SetAttempts replaces the notes about calls that have not succeeded yet.
func (c *SendanCluster) SetAttempts(attempts []Attempt) { c.Status.Attempts = attempts }

// SendanClusterList is a list of SendanClusters.
// +kubebuilder:object:root=true
type SendanClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SendanCluster `json:"items"`
}

// IsValid reports that both host and port are set.
func (e APIEndpoint) IsValid() bool { return e.Host != "" && e.Port != 0 }
