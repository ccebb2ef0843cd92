package simulator

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// NodeBackend turns servers into something that runs. Its methods are called without the
// simulator's lock and may block; those of one server are never called at the same time.
type NodeBackend interface {
	// Boot starts a server whose build has finished. An error puts the server into ERROR.
	Boot(ctx context.Context, node Node) error
	// Shutdown asks its operating system to end, and cuts the power if it has not in time.
	Shutdown(ctx context.Context, serverID string) error
	// PowerOff and PowerOn cut the power and give it again; state on its disk survives.
	PowerOff(ctx context.Context, serverID string) error
	PowerOn(ctx context.Context, serverID string) error
	// Destroy removes it for good. A server that never booted is no error.
	Destroy(ctx context.Context, serverID string) error
	// Dial connects to a TCP port of the server, for load balancers and floating IPs.
	Dial(ctx context.Context, serverID string, port int) (net.Conn, error)
	// ConsoleLog is what the server printed so far.
	ConsoleLog(serverID string) string
}

// NetworkBackend is a backend whose servers have the addresses of their ports for real. What a load
// balancer or a floating IP listens on is then an address of the network it belongs to, and not of the
// machine that the simulator runs on.
type NetworkBackend interface {
	NodeBackend
	// Listen listens on an address of a network, which is given back when the listener is closed. It is
	// called with the simulator's lock held and must not wait for anybody.
	Listen(network Network, address netip.AddrPort) (net.Listener, error)
	// SetLink plugs in or pulls the cable of one port of a server.
	SetLink(ctx context.Context, serverID, portID string, up bool) error
}

// DeviceBackend is a backend whose nodes can be made to show devices that are not as they should be.
type DeviceBackend interface {
	NodeBackend
	// SetDeviceFault says what is wrong with a server's devices from now on, in place of what was before. A server that
	// never booted is no error.
	SetDeviceFault(ctx context.Context, serverID string, fault DeviceFault) error
}

// DeviceFault is how a server's devices differ from what they should be; the zero value is not at all.
type DeviceFault struct {
	// Lost is how many GPUs, or other devices, have fallen off the bus.
	Lost int `json:"lost,omitempty"`
	// NVIDIADriver is the version of the driver that runs instead of the image's.
	NVIDIADriver string `json:"nvidiaDriver,omitempty"`
}

// EndpointBackend is a backend that knows at which address servers mean to be reached besides their ports' own: one
// that they hold among themselves, as kube-vip and keepalived let them.
type EndpointBackend interface {
	NodeBackend
	// Endpoint is the one that a server's user data tell of; false for none. It is called with the simulator's lock held
	// and must not wait for anybody.
	Endpoint(node Node) (netip.AddrPort, bool)
}

// Node is a server as its backend sees it: what a hypervisor and the metadata service would give.
type Node struct {
	ServerID  string
	ProjectID string
	Name      string
	HostName  string // the hypervisor
	Zone      string
	Metadata  map[string]string
	UserData  []byte // decoded
	Image     string
	Flavor    string
	VCPUs     int
	MemoryMiB int
	DiskGiB   int
	// Resources are extended resources the node will advertise, such as nvidia.com/gpu, worked out
	// from the flavor's extra specs by the scenario.
	Resources map[string]int
	// GPUs counts what the flavor asks for as [Host.GPUs] does.
	GPUs map[string]int
	// NVIDIADriver is the driver's version in the image, empty where the image does not tell.
	NVIDIADriver string
	DeviceFault  DeviceFault
	Addresses    []string // fixed addresses, in port order
	Ports        []Port   // in the order of the server's interfaces
}

// Port is where a server is plugged into a network.
type Port struct {
	ID         string
	MACAddress string
	Network    Network
	// Addresses carry the prefix length of their subnet.
	Addresses []netip.Prefix
	// Up is false where the cable is not plugged in.
	Up bool
}

// Network is a Neutron network as it is when something is plugged into it or listens on it.
type Network struct {
	ID       string
	External bool
	MTU      int
	// Gateways are the addresses where a router answers, with the prefix length of their subnet.
	Gateways       []netip.Prefix
	DNSNameservers []netip.Addr
}

// noNodes is the backend `none`: servers become ACTIVE and nothing runs.
type noNodes struct{}

func (noNodes) Boot(context.Context, Node) error       { return nil }
func (noNodes) Shutdown(context.Context, string) error { return nil }
func (noNodes) PowerOff(context.Context, string) error { return nil }
func (noNodes) PowerOn(context.Context, string) error  { return nil }
func (noNodes) Destroy(context.Context, string) error  { return nil }
func (noNodes) ConsoleLog(string) string               { return "" }
func (noNodes) Dial(context.Context, string, int) (net.Conn, error) {
	return nil, errors.New("the simulator runs no nodes: nothing listens there")
}
