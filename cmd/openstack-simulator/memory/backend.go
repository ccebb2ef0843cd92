package memory

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"google.golang.org/grpc"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

// Options say how machines behave. The zero value is quick and on the real clock.
type Options struct {
	// Clock is the time that everything follows but TLS; the real one when nil.
	Clock clockwork.Clock
	// Logger is told what happens to machines; nil means silence. The console log of a machine says more.
	Logger *slog.Logger
	// Seed makes jitter and identifiers repeat themselves.
	Seed uint64
	// Region is the one in the nodes' labels, RegionOne when empty.
	Region string
	// RegionInProviderID makes provider ids openstack://REGION/ID, as the cloud controller manager does when told so.
	RegionInProviderID bool
	// APIServerStart is how long the static pods of a control plane take to serve, KubeletStart how long a kubelet
	// takes to register its node, and NodeReady how long the node then takes to become Ready. Each varies by a
	// fifth. One second each when zero.
	APIServerStart, KubeletStart, NodeReady time.Duration
	// JoinTimeout is how long kubeadm join looks for its cluster, five minutes when zero.
	JoinTimeout time.Duration
	// DevicePlugin and MIGManager are the scenario's latencies of that name. At once when zero.
	DevicePlugin, MIGManager simulator.Range
	// GPUKinds, MIGLayouts and NVIDIADriver are the scenario's.
	GPUKinds     map[string]simulator.GPUKind
	MIGLayouts   map[string]map[string]int
	NVIDIADriver string
	// NodeMonitorGrace is after how long a silent node becomes Unknown, 50 s as in a real cluster when zero.
	NodeMonitorGrace time.Duration
}

func (o *Options) complete() {
	if o.Clock == nil {
		o.Clock = clockwork.NewRealClock()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Region = cmp.Or(o.Region, "RegionOne")
	o.APIServerStart = cmp.Or(o.APIServerStart, time.Second)
	o.KubeletStart = cmp.Or(o.KubeletStart, time.Second)
	o.NodeReady = cmp.Or(o.NodeReady, time.Second)
	o.JoinTimeout = cmp.Or(o.JoinTimeout, 5*time.Minute)
	o.NodeMonitorGrace = cmp.Or(o.NodeMonitorGrace, 50*time.Second)
}

// Backend runs the machines of one simulated cloud.
type Backend struct {
	Options

	types     *kubeapi.Types
	serverKey *ecdsa.PrivateKey
	listener  *pipeListener
	server    *http.Server
	etcd      *grpc.Server
	ctx       context.Context
	cancel    context.CancelFunc
	done      sync.WaitGroup

	random random

	// mu guards everything below and the mutable parts of machines and clusters.
	mu       sync.Mutex
	machines map[string]*machine // by server id
	clusters map[clusterID]*cluster
}

var (
	_ simulator.StatefulBackend = (*Backend)(nil)
	_ simulator.DeviceBackend   = (*Backend)(nil)
	_ simulator.EndpointBackend = (*Backend)(nil)
)

// New makes a backend without machines. [Backend.Close] ends it.
func New(options Options) (*Backend, error) {
	options.complete()
	serverKey, err := newServerKey()
	if err != nil {
		return nil, fmt.Errorf("make the servers' key: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	b := &Backend{
		Options: options, types: kubeapi.NewTypes(), serverKey: serverKey, listener: newPipeListener(),
		ctx: ctx, cancel: cancel, random: newRandom(options.Seed),
		machines: map[string]*machine{}, clusters: map[clusterID]*cluster{},
	}
	b.etcd = newEtcdServer(b)
	b.server = b.newHTTPServer()
	b.done.Go(func() { _ = b.server.ServeTLS(b.listener, "", "") }) // ends with ErrServerClosed
	return b, nil
}

// Close ends all machines.
func (b *Backend) Close() {
	b.cancel()
	b.mu.Lock()
	var open []net.Conn
	for _, c := range b.clusters {
		c.stopTimers()
	}
	for _, m := range b.machines {
		open = append(open, m.halt()...)
	}
	b.mu.Unlock()
	closeAll(open)
	_ = b.server.Close() // only ever returns the listener's error, which has none
	b.etcd.Stop()
	b.done.Wait()
}

// Boot starts a machine for the first time. What goes wrong with its user data shows on its console, as with a real
// one: the hypervisor does not know.
func (b *Backend) Boot(_ context.Context, node simulator.Node) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, exists := b.machines[node.ServerID]; exists {
		return fmt.Errorf("server %s runs already", node.ServerID)
	}
	m := newMachine(b, node)
	b.machines[node.ServerID] = m
	m.start() //nolint:contextcheck // a machine outlives the request that starts it
	return nil
}

// Shutdown is no gentler than PowerOff: a machine in memory has nothing to put in order.
func (b *Backend) Shutdown(ctx context.Context, serverID string) error {
	return b.PowerOff(ctx, serverID)
}

// PowerOff stops a machine at once.
func (b *Backend) PowerOff(_ context.Context, serverID string) error {
	m, open, err := b.haltMachine(serverID)
	if err != nil {
		return err
	}
	closeAll(open)
	<-m.idle
	return nil
}

func (b *Backend) haltMachine(serverID string) (*machine, []net.Conn, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, err := b.find(serverID)
	if err != nil {
		return nil, nil, err
	}
	open := m.halt()
	return m, open, nil
}

// PowerOn starts a machine that was powered off.
func (b *Backend) PowerOn(_ context.Context, serverID string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, err := b.find(serverID)
	if err != nil || m.powered {
		return err
	}
	m.start() //nolint:contextcheck // a machine outlives the request that starts it
	return nil
}

// Destroy removes a machine. Its Node and its etcd member stay until somebody deletes them, as in reality; the cluster
// itself goes with its last machine.
func (b *Backend) Destroy(_ context.Context, serverID string) error {
	m, open, err := b.haltMachine(serverID)
	if err != nil {
		return nil //nolint:nilerr // a server that never booted is no error
	}
	closeAll(open)
	<-m.idle
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.machines, serverID)
	if c := m.cluster; c != nil {
		delete(c.machines, serverID)
		if len(c.machines) == 0 {
			c.stopTimers()
			delete(b.clusters, c.id)
			b.Logger.Info("the last machine of a tenant cluster is gone", "endpoint", c.id.endpoint)
		}
	}
	return nil
}

// Dial connects to the API server of a control-plane machine; nothing else listens on machines.
func (b *Backend) Dial(ctx context.Context, serverID string, port int) (net.Conn, error) {
	return b.dial(ctx, func() (*machine, error) { return b.find(serverID) }, port)
}

// dial connects to a machine's port, from wherever.
func (b *Backend) dial(ctx context.Context, target func() (*machine, error), port int) (net.Conn, error) {
	b.mu.Lock()
	m, err := target()
	if err != nil {
		b.mu.Unlock()
		return nil, err
	}
	client, server, err := m.connect(port)
	b.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("connect to %s port %d: %w", m.spec.Name, port, err)
	}
	if err := b.listener.offer(ctx, server); err != nil {
		return nil, errors.Join(err, client.Close(), server.Close())
	}
	return client, nil
}

// Endpoint is the address that kubeadm is told to reach the API server at.
func (b *Backend) Endpoint(node simulator.Node) (netip.AddrPort, bool) {
	told, err := newMachine(b, node).parseUserData()
	if err != nil || told == nil {
		return netip.AddrPort{}, false
	}
	return told.SharedEndpoint()
}

// ConsoleLog is what the machine printed; empty for one that never booted.
func (b *Backend) ConsoleLog(serverID string) string {
	b.mu.Lock()
	m := b.machines[serverID]
	b.mu.Unlock()
	if m == nil {
		return ""
	}
	return m.console.String()
}

func (b *Backend) find(serverID string) (*machine, error) {
	if m := b.machines[serverID]; m != nil {
		return m, nil
	}
	return nil, fmt.Errorf("server %s never booted", serverID)
}

// random is a source that repeats itself under a seed, for any goroutine.
type random struct {
	mu     *sync.Mutex
	rng    *rand.Rand
	source *rand.PCG
}

func newRandom(seed uint64) random {
	source := rand.NewPCG(seed, ^seed)
	return random{mu: &sync.Mutex{}, rng: rand.New(source), source: source} //nolint:gosec // nothing secret comes from it
}

// save tells where in its sequence the source is, and restore goes on from there.
func (r random) save() ([]byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source.MarshalBinary()
}

func (r random) restore(saved []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.source.UnmarshalBinary(saved)
}

// jitter varies a duration by up to a fifth.
func (r random) jitter(d time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return d + time.Duration((r.rng.Float64()-0.5)*0.4*float64(d))
}

// between draws from a range.
func (r random) between(bounds simulator.Range) time.Duration {
	if bounds.Max <= bounds.Min {
		return time.Duration(bounds.Min)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Duration(bounds.Min) + time.Duration(r.rng.Int64N(int64(bounds.Max-bounds.Min)+1))
}

func (r random) uint64() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rng.Uint64()
}

func (r random) uid() types.UID {
	high, low := r.uint64(), r.uint64()
	// The version and variant of a random UUID.
	high, low = high&^0xf000|0x4000, low&^(3<<62)|2<<62
	return types.UID(fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", high>>32, high>>16&0xffff, high&0xffff, low>>48, low&0xffffffffffff))
}
