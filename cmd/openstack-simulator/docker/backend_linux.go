package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moby/moby/client"
	"github.com/vishvananda/netns"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
)

const (
	// removeWithin bounds the clean-up when the simulator ends.
	removeWithin = 30 * time.Second
	// consoleWithin bounds how long a console log may take to be read.
	consoleWithin = 10 * time.Second
	consoleLines  = "5000"
	// longestConsoleBytes is what is kept of a console, as a real cloud keeps the end of it only.
	longestConsoleBytes = 1 << 20
)

// Options say which containers to make.
type Options struct {
	// Image is the node image that every server boots, whatever its Glance image is called.
	Image string
	// Region is what user data get to know as their region.
	Region string
	// Logger is told what happens to containers; nil means silence.
	Logger *slog.Logger
}

// Backend runs servers as containers.
type Backend struct {
	Options
	docker *client.Client
	// name is that of the simulator's own container, which its servers are known by.
	name   string
	wiring *wiring

	mu      sync.Mutex
	servers map[string]*server // by server id
}

// server is one container and what is plugged into it.
type server struct {
	node simulator.Node
	// container is an id, empty until it is created. A console may be read meanwhile.
	container atomic.Value
}

func (s *server) id() string {
	id, _ := s.container.Load().(string)
	return id
}

var (
	_ simulator.NetworkBackend  = (*Backend)(nil)
	_ simulator.EndpointBackend = (*Backend)(nil)
)

// New makes a backend without servers, and removes containers that an earlier run of the same name left. [Backend.Close]
// ends it. What is missing is said in one line.
func New(ctx context.Context, options Options) (*Backend, error) {
	if options.Logger == nil {
		options.Logger = slog.New(slog.DiscardHandler)
	}
	docker, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	b := &Backend{Options: options, docker: docker, servers: map[string]*server{}}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(err, docker.Close())
	}
	return b, nil
}

func (b *Backend) prepare(ctx context.Context) error {
	if _, err := b.docker.ImageInspect(ctx, b.Image); err != nil {
		return fmt.Errorf("find node image %s: %w; build it with `test/image/build.sh node`, or name another one with --node-image", b.Image, err)
	}
	var err error
	if b.name, err = b.ownName(ctx); err != nil {
		return err
	}
	own, err := netns.Get()
	if err != nil {
		return fmt.Errorf("find the simulator's own network: %w", err)
	}
	if b.wiring, err = newWiring(own); err != nil {
		return err
	}
	return b.removeAll(ctx)
}

// ExternalCIDR is where the cloud's external network has its addresses: the end of the network that the simulator's
// container is on, since Docker hands out addresses from the beginning.
func (b *Backend) ExternalCIDR() netip.Prefix { return lastPart(b.wiring.external.prefix) }

// lastPart is the last 256 addresses of a network, or the last quarter of a small one.
func lastPart(prefix netip.Prefix) netip.Prefix {
	bits := max(24, prefix.Bits()+2)
	address := prefix.Masked().Addr().As4()
	for i := prefix.Bits(); i < bits; i++ {
		address[i/8] |= 1 << (7 - i%8)
	}
	return netip.PrefixFrom(netip.AddrFrom4(address), bits)
}

// Close removes all servers.
func (b *Backend) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), removeWithin)
	defer cancel()
	if err := b.removeAll(ctx); err != nil {
		b.Logger.Warn("containers are left over", "error", err)
	}
	b.wiring.close()
	_ = b.docker.Close() // only idle connections are left
}

// Boot starts a server for the first time. What goes wrong with its user data shows on its console, as with a real one:
// the hypervisor does not know.
func (b *Backend) Boot(ctx context.Context, node simulator.Node) error {
	s := &server{node: node}
	b.mu.Lock()
	if _, exists := b.servers[node.ServerID]; exists {
		b.mu.Unlock()
		return fmt.Errorf("server %s runs already", node.ServerID)
	}
	b.servers[node.ServerID] = s
	b.mu.Unlock()
	err := b.boot(ctx, s)
	if err != nil {
		return errors.Join(fmt.Errorf("boot %s: %w", node.Name, err), b.Destroy(context.WithoutCancel(ctx), node.ServerID))
	}
	return nil
}

func (b *Backend) boot(ctx context.Context, s *server) error {
	id, err := b.create(ctx, s.node)
	if err != nil {
		return err
	}
	s.container.Store(id)
	if err := b.install(ctx, s); err != nil {
		return err
	}
	return b.start(ctx, s)
}

// start powers a server on and plugs it in.
func (b *Backend) start(ctx context.Context, s *server) error {
	if _, err := b.docker.ContainerStart(ctx, s.id(), client.ContainerStartOptions{}); err != nil {
		return fmt.Errorf("start container: %w", err)
	}
	state, err := b.state(ctx, s)
	if err != nil {
		return err
	}
	if !state.Running {
		return fmt.Errorf("the container ended at once with status %d: %s; its log ends with: %s",
			state.ExitCode, state.Error, lastLine(b.console(ctx, s)))
	}
	for i, port := range s.node.Ports {
		if err := b.wiring.plug(state.Pid, i, s.node.ServerID, port); err != nil {
			return fmt.Errorf("plug in port %s: %w", port.ID, err)
		}
	}
	b.Logger.Info("server runs", "server", s.node.Name, "id", s.node.ServerID, "addresses", s.node.Addresses)
	return nil
}

// Shutdown lets systemd end what runs.
func (b *Backend) Shutdown(ctx context.Context, serverID string) error {
	s, err := b.find(serverID)
	if err != nil {
		return err
	}
	seconds := int(shutdownWithin.Seconds())
	if _, err := b.docker.ContainerStop(ctx, s.id(), client.ContainerStopOptions{Timeout: &seconds}); err != nil {
		return fmt.Errorf("stop container: %w", err)
	}
	return nil
}

// PowerOff cuts the power.
func (b *Backend) PowerOff(ctx context.Context, serverID string) error {
	s, err := b.find(serverID)
	if err != nil {
		return err
	}
	state, err := b.state(ctx, s)
	if err != nil || !state.Running {
		return err
	}
	if _, err := b.docker.ContainerKill(ctx, s.id(), client.ContainerKillOptions{Signal: "KILL"}); err != nil {
		return fmt.Errorf("kill container: %w", err)
	}
	return b.awaitStopped(ctx, s)
}

// PowerOn starts a server that was stopped, shut down or killed. Its user data are not carried out again.
func (b *Backend) PowerOn(ctx context.Context, serverID string) error {
	s, err := b.find(serverID)
	if err != nil {
		return err
	}
	state, err := b.state(ctx, s)
	if err != nil || state.Running {
		return err
	}
	return b.start(ctx, s)
}

// Destroy removes a server with its disk.
func (b *Backend) Destroy(ctx context.Context, serverID string) error {
	s, err := b.find(serverID)
	if err != nil {
		return nil //nolint:nilerr // a server that never booted is no error
	}
	if id := s.id(); id != "" {
		if err := b.remove(ctx, id); err != nil {
			return err
		}
	}
	for _, port := range s.node.Ports {
		b.wiring.forget(serverID, port)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.servers, serverID)
	return nil
}

// Dial connects to a server's first address.
func (b *Backend) Dial(ctx context.Context, serverID string, port int) (net.Conn, error) {
	s, err := b.find(serverID)
	if err != nil {
		return nil, err
	}
	for _, p := range s.node.Ports {
		if len(p.Addresses) > 0 {
			return b.wiring.dial(ctx, p.Network, netip.AddrPortFrom(p.Addresses[0].Addr(), uint16(port)))
		}
	}
	return nil, fmt.Errorf("server %s has no address", serverID)
}

// Endpoint is the address that kubeadm is told to reach the API server at.
func (b *Backend) Endpoint(node simulator.Node) (netip.AddrPort, bool) {
	config, err := b.firstBoot(node)
	if err != nil {
		return netip.AddrPort{}, false
	}
	told, err := kubeadm.Read(config)
	if err != nil || told == nil {
		return netip.AddrPort{}, false
	}
	return told.SharedEndpoint()
}

// Listen listens on an address of a network.
func (b *Backend) Listen(network simulator.Network, address netip.AddrPort) (net.Listener, error) {
	return b.wiring.listen(network, address)
}

// SetLink plugs in or pulls a server's cable.
func (b *Backend) SetLink(_ context.Context, serverID, portID string, up bool) error {
	s, err := b.find(serverID)
	if err != nil {
		return err
	}
	for i := range s.node.Ports {
		if port := &s.node.Ports[i]; port.ID == portID {
			port.Up = up
			return b.wiring.setLink(*port)
		}
	}
	return fmt.Errorf("server %s has no port %s", serverID, portID)
}

// ConsoleLog is what the server's console shows; empty for one that never booted.
func (b *Backend) ConsoleLog(serverID string) string {
	s, err := b.find(serverID)
	if err != nil || s.id() == "" {
		return ""
	}
	return b.console(context.Background(), s)
}

func (b *Backend) console(ctx context.Context, s *server) string {
	ctx, cancel := context.WithTimeout(ctx, consoleWithin)
	defer cancel()
	log, err := b.docker.ContainerLogs(ctx, s.id(), client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Tail: consoleLines})
	if err != nil {
		b.Logger.Warn("console not read", "server", s.node.Name, "error", err)
		return ""
	}
	defer func() { _ = log.Close() }()
	text, err := io.ReadAll(log)
	if err != nil {
		b.Logger.Warn("console not read to its end", "server", s.node.Name, "error", err)
	}
	return strings.ReplaceAll(string(text[max(0, len(text)-longestConsoleBytes):]), "\r\n", "\n")
}

func lastLine(text string) string {
	text = strings.TrimRight(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}

func (b *Backend) find(serverID string) (*server, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.servers[serverID]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("server %s never booted", serverID)
}
