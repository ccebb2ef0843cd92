package simulator

import (
	"context"
	"errors"
	"net"
)

// NodeBackend turns servers into something that runs. Its methods are called without the
// simulator's lock and may block; those of one server are never called at the same time.
type NodeBackend interface {
	// Boot starts a server whose build has finished. An error puts the server into ERROR.
	Boot(ctx context.Context, node Node) error
	// PowerOff and PowerOn stop and start it; state on its disk survives.
	PowerOff(ctx context.Context, serverID string) error
	PowerOn(ctx context.Context, serverID string) error
	// Destroy removes it for good. A server that never booted is no error.
	Destroy(ctx context.Context, serverID string) error
	// Dial connects to a TCP port of the server, for load balancers and floating IPs.
	Dial(ctx context.Context, serverID string, port int) (net.Conn, error)
	// ConsoleLog is what the server printed so far.
	ConsoleLog(serverID string) string
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
	Addresses []string // fixed addresses, in port order
}

// noNodes is the backend `none`: servers become ACTIVE and nothing runs.
type noNodes struct{}

func (noNodes) Boot(context.Context, Node) error       { return nil }
func (noNodes) PowerOff(context.Context, string) error { return nil }
func (noNodes) PowerOn(context.Context, string) error  { return nil }
func (noNodes) Destroy(context.Context, string) error  { return nil }
func (noNodes) ConsoleLog(string) string               { return "" }
func (noNodes) Dial(context.Context, string, int) (net.Conn, error) {
	return nil, errors.New("the simulator runs no nodes: nothing listens there")
}
