package cloud

import "net/netip"

// The requests below are what the operations of a [Session] take. A field left at its zero value is
// left out of the call, so that the cloud's own default holds.

// NetworkRequest creates a network.
type NetworkRequest struct {
	Name string
	Mark Mark
	MTU  int
	// PortSecurityDisabled turns port security off for the whole network.
	PortSecurityDisabled bool
}

// SubnetRequest creates a subnet.
type SubnetRequest struct {
	Name            string
	Mark            Mark
	NetworkID       string
	CIDR            netip.Prefix
	DNSNameservers  []string
	AllocationPools []AddressRange
	// IPv6Mode is dhcpv6-stateful, dhcpv6-stateless or slaac, for address and router advertisement
	// alike. Only for IPv6.
	IPv6Mode string
}

// AddressRange is a closed range of addresses.
type AddressRange struct{ Start, End string }

// RouterRequest creates a router with its external gateway.
type RouterRequest struct {
	Name              string
	Mark              Mark
	ExternalNetworkID string
}

// SecurityGroupRequest creates a security group. Neutron adds its two egress rules by itself.
type SecurityGroupRequest struct {
	Name string
	Mark Mark
}

// PortRequest creates a port.
type PortRequest struct {
	Name                string
	Mark                Mark
	NetworkID           string
	FixedIPs            []FixedIP // SubnetID, IPAddress or both
	SecurityGroups      *[]string // nil: the project's default group; empty: none
	VNICType            string    // normal, direct, macvtap, direct-physical, …
	Profile             map[string]any
	AllowedAddressPairs []AddressPair
	PortSecurity        *bool
	MACAddress          string
	AdminStateDown      bool
}

// AddressPair is an address a port may use besides its own; Neutron accepts a CIDR as well.
type AddressPair struct {
	IPAddress  string
	MACAddress string
}

// TrunkRequest makes a port the parent of a trunk.
type TrunkRequest struct {
	Name   string
	Mark   Mark
	PortID string
}

// FloatingIPRequest allocates a floating IP, associated at once when PortID is set.
type FloatingIPRequest struct {
	Mark              Mark
	FloatingNetworkID string
	PortID            string
	Address           string // a certain address; needs a right most projects lack
}

// LoadBalancerRequest creates a load balancer with its whole tree in one call.
type LoadBalancerRequest struct {
	Name         string
	Mark         Mark
	VIPSubnetID  string
	VIPNetworkID string
	VIPAddress   string
	Provider     string
	FlavorID     string
	Zone         string
	Tags         []string
	Listeners    []ListenerRequest
}

// ListenerRequest is a listener with the pool behind it.
type ListenerRequest struct {
	Name         string
	Protocol     string
	Port         int
	AllowedCIDRs []string
	Pool         PoolRequest
}

// PoolRequest is a pool with its members and monitor.
type PoolRequest struct {
	Name     string
	Protocol string
	Method   string
	Members  []MemberRequest
	Monitor  *HealthMonitor
}

// MemberRequest is one member of a pool.
type MemberRequest struct {
	Name     string
	Address  string
	Port     int
	SubnetID string
}

// ServerRequest creates a server on ports and volumes that exist already.
type ServerRequest struct {
	Name          string
	Mark          Mark
	FlavorID      string
	ImageID       string // empty when the server boots from a volume
	PortIDs       []string
	Volumes       []ServerVolume
	Zone          string
	KeyPair       string
	UserData      []byte // not yet encoded; Nova takes 65,535 bytes of base64
	ConfigDrive   *bool
	Metadata      map[string]string
	Tags          []string
	ServerGroupID string
	// SchedulerHints are passed on as they are.
	SchedulerHints map[string]any
}

// ServerVolume attaches an existing volume at boot.
type ServerVolume struct {
	VolumeID            string
	Boot                bool
	DeleteOnTermination bool
	Tag                 string
}

// VolumeRequest creates a volume.
type VolumeRequest struct {
	Name    string
	Mark    Mark
	SizeGiB int
	Type    string
	Zone    string
	ImageID string // bootable from this image when set
}

// ServerGroupRequest creates a server group.
type ServerGroupRequest struct {
	Mark   Mark
	Policy string
}

// The updates below change only the fields that are set.

// NetworkUpdate changes a network.
type NetworkUpdate struct {
	Name string
	MTU  int
}

// SubnetUpdate changes a subnet.
type SubnetUpdate struct {
	Name           string
	DNSNameservers *[]string // nil: unchanged; empty: none
}

// RouterUpdate changes a router.
type RouterUpdate struct {
	Name              string
	ExternalNetworkID string
}

// PortUpdate changes a port.
type PortUpdate struct {
	Name                string
	SecurityGroups      *[]string      // nil: unchanged; empty: none
	AllowedAddressPairs *[]AddressPair // nil: unchanged; empty: none
}

// RebootKind is how a server is rebooted.
type RebootKind string

// The two ways to reboot.
const (
	// SoftReboot asks the guest to shut down.
	SoftReboot RebootKind = "SOFT"
	// HardReboot cuts the power.
	HardReboot RebootKind = "HARD"
)
