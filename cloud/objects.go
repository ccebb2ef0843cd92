package cloud

import (
	"net/netip"
	"time"
)

// Kind names one kind of object the inventory holds.
type Kind string

// The kinds of the inventory.
const (
	KindNetwork       Kind = "network"
	KindSubnet        Kind = "subnet"
	KindRouter        Kind = "router"
	KindSecurityGroup Kind = "security group"
	KindServerGroup   Kind = "server group"
	KindPort          Kind = "port"
	KindVolume        Kind = "volume"
	KindServer        Kind = "server"
	KindFloatingIP    Kind = "floating IP"
	KindLoadBalancer  Kind = "load balancer"
)

// The Created times below are zero where the cloud does not tell.

// Network is a Neutron network.
type Network struct {
	ID, Name string
	Mark     Mark
	Status   string // ACTIVE, DOWN, BUILD, ERROR
	MTU      int
	External bool
	Shared   bool
	Tags     []string
	Subnets  []string // ids
	Created  time.Time
}

// Subnet is a Neutron subnet.
type Subnet struct {
	ID, Name       string
	Mark           Mark
	NetworkID      string
	CIDR           netip.Prefix
	GatewayIP      string
	DNSNameservers []string
	Tags           []string
	IPv6Mode       string // ipv6_address_mode and ipv6_ra_mode; empty for v4
	Created        time.Time
}

// Router is a Neutron router.
type Router struct {
	ID, Name          string
	Mark              Mark
	Status            string
	ExternalNetworkID string
	ExternalIPs       []string
	Tags              []string
	Created           time.Time
}

// SecurityGroup is a Neutron security group with its rules, as the list call returns it.
type SecurityGroup struct {
	ID, Name string
	Mark     Mark
	Tags     []string
	Rules    []SecurityGroupRule
	Created  time.Time
}

// SecurityGroupRule is one rule. Two rules with equal [SecurityGroupRule.Key] are the same rule to
// Neutron, which refuses a second one with 409 whatever its description.
type SecurityGroupRule struct {
	ID              string
	SecurityGroupID string
	Direction       string // ingress, egress
	EtherType       string // IPv4, IPv6
	Protocol        string // tcp, udp, icmp, ipv6-icmp, a number; empty for any
	PortMin         int    // 0 for any
	PortMax         int
	RemoteGroupID   string
	RemoteIPPrefix  string // empty for any
	Description     string
}

// ServerGroup is a Nova server group. Nova gives it neither description nor metadata, so its name
// is the mark: see [ServerGroupName].
type ServerGroup struct {
	ID, Name string
	Mark     Mark
	Policy   string // soft-anti-affinity, anti-affinity, soft-affinity, affinity
	Members  []string
}

// Port is a Neutron port.
type Port struct {
	ID, Name       string
	Mark           Mark
	NetworkID      string
	Status         string // ACTIVE, DOWN, BUILD
	MACAddress     string
	FixedIPs       []FixedIP
	SecurityGroups []string // ids
	DeviceID       string
	DeviceOwner    string
	VNICType       string
	Tags           []string
	TrunkID        string // the trunk of which this is the parent port
	// AllowedAddressPairs are the addresses the port may use besides its own.
	AllowedAddressPairs []AddressPair
	Created             time.Time
}

// Trunk is a Neutron trunk. The inventory knows it by its parent port: see [Port.TrunkID].
type Trunk struct {
	ID, Name string
	Mark     Mark
	PortID   string
	Status   string
}

// FixedIP is one address of a port.
type FixedIP struct {
	SubnetID  string
	IPAddress string
}

// Volume is a Cinder volume.
type Volume struct {
	ID, Name   string
	Mark       Mark
	Status     string // creating, available, in-use, error, deleting, …
	SizeGiB    int
	Type       string
	Zone       string
	AttachedTo []string // server ids
	Metadata   map[string]string
	Created    time.Time
}

// Server is a Nova server.
type Server struct {
	ID, Name  string
	Mark      Mark
	Status    string // BUILD, ACTIVE, SHUTOFF, ERROR, DELETED, …
	TaskState string // "deleting" while it goes
	VMState   string
	Power     string // Running, Shutdown, …
	FlavorID  string // empty where the microversion only names the flavor
	Flavor    string // name
	ImageID   string
	Zone      string
	HostID    string // an opaque, per-project hash of the hypervisor
	Addresses []ServerAddress
	Fault     *ServerFault
	Created   time.Time
	Updated   time.Time
	Metadata  map[string]string
	Tags      []string
	// Deleting is set from the moment our own delete call succeeded, and whenever Nova says that the
	// server is being deleted.
	Deleting bool
	// deleteSent is when our own delete call succeeded.
	deleteSent time.Time
}

// ServerAddress is an address Nova reports for a server.
type ServerAddress struct {
	Network string
	Address string
	Type    string // fixed, floating
}

// ServerFault is why a server is in ERROR, in Nova's own words.
type ServerFault struct {
	Code    int
	Message string
	Details string
	Created time.Time
}

// FloatingIP is a Neutron floating IP.
type FloatingIP struct {
	ID                string
	Mark              Mark
	Description       string
	Address           string
	FloatingNetworkID string
	PortID            string
	FixedIP           string
	Status            string
	Tags              []string
	Created           time.Time
}

// LoadBalancer is an Octavia load balancer with its whole tree.
type LoadBalancer struct {
	ID, Name           string
	Mark               Mark
	ProvisioningStatus string // ACTIVE, PENDING_CREATE, PENDING_UPDATE, PENDING_DELETE, ERROR
	OperatingStatus    string // ONLINE, OFFLINE, DEGRADED, ERROR, NO_MONITOR
	VIPAddress         string
	VIPPortID          string
	VIPSubnetID        string
	VIPNetworkID       string
	Provider           string
	FlavorID           string
	Tags               []string
	Created            time.Time
	Updated            string // as Octavia writes it; changes whenever the tree does
	// TreeKnown is false until the tree below has been read at least once.
	TreeKnown bool
	Listeners []Listener
	Pools     []Pool
	tree      treeReading
}

// Listener is one port a load balancer listens on.
type Listener struct {
	ID, Name           string
	Protocol           string
	Port               int
	AllowedCIDRs       []string
	DefaultPoolID      string
	ProvisioningStatus string
	OperatingStatus    string
}

// Pool is the set of members behind a listener.
type Pool struct {
	ID, Name           string
	Protocol           string
	Method             string
	Monitor            *HealthMonitor
	Members            []Member
	ProvisioningStatus string
	OperatingStatus    string
}

// HealthMonitor says how a pool's members are probed.
type HealthMonitor struct {
	ID             string
	Type           string // TCP, HTTPS, …
	DelaySeconds   int
	TimeoutSeconds int
	MaxRetries     int
	MaxRetriesDown int
}

// Member is one backend of a pool.
type Member struct {
	ID, Name           string
	Address            string
	Port               int
	SubnetID           string // empty where the tree came from Octavia's status, which leaves it out
	ProvisioningStatus string
	OperatingStatus    string
}

// IsPending reports that Octavia is still working on the load balancer and refuses changes (409).
func (lb LoadBalancer) IsPending() bool {
	switch lb.ProvisioningStatus {
	case "PENDING_CREATE", "PENDING_UPDATE", "PENDING_DELETE":
		return true
	}
	return false
}

// Flavor is a Nova flavor with its extra specs.
type Flavor struct {
	ID, Name     string
	VCPUs        int
	MemoryMiB    int
	DiskGiB      int
	EphemeralGiB int
	ExtraSpecs   map[string]string
}

// Image is a Glance image.
type Image struct {
	ID, Name     string
	Status       string // active, queued, …
	Tags         []string
	MinDiskGiB   int
	MinMemoryMiB int
	Architecture string // the architecture property: x86_64, aarch64; empty when unset
	OSType       string
}

// Zone is an availability zone of Nova or Cinder.
type Zone struct {
	Name      string
	Available bool
}

// QuotaUsage is one limit of a project. Limit -1 means unlimited.
type QuotaUsage struct {
	Resource string // instances, cores, ram (MiB), ports, floatingips, volumes, gigabytes, loadbalancers, …
	Used     int
	Limit    int
}
