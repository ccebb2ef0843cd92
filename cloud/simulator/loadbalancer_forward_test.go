package simulator_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// eventually waits for a condition that real connections bring about.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("never happened: %s", what)
		}
	}
}

// greeter is a TCP server that greets with its name and then echoes until its client has finished,
// when it says goodbye.
type greeter struct {
	net.Listener
	port int
}

func greet(t *testing.T, name string) *greeter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = connection.Close() }()
				_, _ = fmt.Fprintln(connection, name)
				_, _ = io.Copy(connection, connection)
				_, _ = fmt.Fprintln(connection, "goodbye")
			}()
		}
	}()
	return &greeter{Listener: listener, port: listener.Addr().(*net.TCPAddr).Port}
}

// freePort is a port that nobody listens on for now.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

// caller is a client of a load balancer.
type caller struct {
	net.Conn
	lines *bufio.Reader
}

func call(address string) (*caller, string, error) {
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, "", err
	}
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return nil, "", err
	}
	c := &caller{connection, bufio.NewReader(connection)}
	greeting, err := c.lines.ReadString('\n')
	if err != nil {
		_ = connection.Close()
		return nil, "", err
	}
	return c, strings.TrimSpace(greeting), nil
}

// nodes is a backend whose servers are greeters.
type nodes struct {
	mu      sync.Mutex
	servers map[string]*greeter
}

func (n *nodes) Boot(context.Context, simulator.Node) error { return nil }
func (n *nodes) Shutdown(context.Context, string) error     { return nil }
func (n *nodes) PowerOff(context.Context, string) error     { return nil }
func (n *nodes) PowerOn(context.Context, string) error      { return nil }
func (n *nodes) Destroy(context.Context, string) error      { return nil }
func (n *nodes) ConsoleLog(string) string                   { return "" }
func (n *nodes) Dial(ctx context.Context, serverID string, port int) (net.Conn, error) {
	n.mu.Lock()
	server := n.servers[serverID]
	n.mu.Unlock()
	if server == nil || port != 6443 {
		return nil, errors.New("connection refused")
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", server.Addr().String())
}

func (n *nodes) set(serverID string, server *greeter) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.servers[serverID] = server
}

// forwarded is a load balancer with a floating IP on which this machine listens.
type forwarded struct {
	*networkCloud
	balancer *loadbalancers.LoadBalancer
	pool     string
	floating *floatingips.FloatingIP
	address  string
}

// forward makes a load balancer with a floating IP. Members are loopback addresses unless a backend
// serves them.
func forward(cloud *networkCloud, monitored bool, cidrs []string, members ...pools.CreateMemberOpts) *forwarded {
	cloud.t.Helper()
	_, sub, _ := cloud.routed("10.6.0.0/24")
	opts := apiBalancer("lb", sub.ID, members...)
	opts.Listeners[0].ProtocolPort = freePort(cloud.t)
	opts.Listeners[0].AllowedCIDRs = cidrs
	if !monitored {
		opts.Listeners[0].DefaultPool.Monitor = nil
	}
	f := &forwarded{networkCloud: cloud, balancer: cloud.balancer(opts)}
	f.pool = f.balancer.Listeners[0].DefaultPool.ID
	f.floating = must[*floatingips.FloatingIP](cloud.t)(floatingips.Create(cloud.ctx(), cloud.neutron, floatingips.CreateOpts{FloatingNetworkID: cloud.public(), PortID: f.balancer.VipPortID}).Extract())
	f.address = net.JoinHostPort(f.floating.FloatingIP, strconv.Itoa(opts.Listeners[0].ProtocolPort))
	return f
}

func loopback(server *greeter) pools.CreateMemberOpts {
	return pools.CreateMemberOpts{Address: "127.0.0.1", ProtocolPort: server.port}
}

func TestConnectionsGoToTheMembersInTurn(t *testing.T) {
	cloud := startNetworkCloud(t)
	f := forward(cloud, false, nil, loopback(greet(t, "a")), loopback(greet(t, "b")))
	if _, _, err := call(f.address); err == nil {
		t.Fatal("a load balancer that is being made takes connections")
	}
	cloud.pass(settled)
	var seen []string
	for range 4 {
		c, greeting, err := call(f.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Close()
		seen = append(seen, greeting)
	}
	if got := strings.Join(seen, ""); got != "abab" {
		t.Errorf("connections went to %s", got)
	}
}

func TestOneDirectionMayEndBeforeTheOther(t *testing.T) {
	cloud := startNetworkCloud(t)
	f := forward(cloud, false, nil, loopback(greet(t, "a")))
	cloud.pass(settled)
	c, _, err := call(f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "hello\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	rest, err := io.ReadAll(c.lines)
	if err != nil || string(rest) != "hello\ngoodbye\n" {
		t.Errorf("after the client finished it read %q, %v", rest, err)
	}
	eventually(t, "the connection is in the statistics", func() bool {
		stats := must[*loadbalancers.Stats](t)(loadbalancers.GetStats(cloud.ctx(), cloud.octavia, f.balancer.ID).Extract())
		return stats.TotalConnections == 1 && stats.ActiveConnections == 0 && stats.BytesIn == 6 && stats.BytesOut == 16
	})
}

func TestOnlyAllowedClientsComeIn(t *testing.T) {
	cloud := startNetworkCloud(t)
	f := forward(cloud, false, []string{"192.0.2.0/24"}, loopback(greet(t, "a")))
	cloud.pass(settled)
	if _, greeting, err := call(f.address); err == nil {
		t.Fatalf("a client outside of allowed_cidrs was greeted with %s", greeting)
	}
	cidrs := []string{"192.0.2.0/24", "127.0.0.0/8"}
	if _, err := listeners.Update(cloud.ctx(), cloud.octavia, f.balancer.Listeners[0].ID, listeners.UpdateOpts{AllowedCIDRs: &cidrs}).Extract(); err != nil {
		t.Fatal(err)
	}
	cloud.pass(settled)
	c, _, err := call(f.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestRemovingAMemberCutsItsConnections(t *testing.T) {
	cloud := startNetworkCloud(t)
	a, b := greet(t, "a"), greet(t, "b")
	f := forward(cloud, false, nil, loopback(a), loopback(b))
	cloud.pass(settled)
	first, _, err := call(f.address)
	if err != nil {
		t.Fatal(err)
	}
	second, _, err := call(f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if err := pools.BatchUpdateMembers(cloud.ctx(), cloud.octavia, f.pool, []pools.BatchUpdateMemberOpts{{Address: "127.0.0.1", ProtocolPort: b.port}}).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	cloud.pass(settled)
	if _, err := first.lines.ReadString('\n'); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the connection to the removed member: %v", err)
	}
	if _, err := io.WriteString(second, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := second.lines.ReadString('\n'); err != nil || line != "still here\n" {
		t.Errorf("the other connection: %q, %v", line, err)
	}
}

func TestTheAddressClosesWithFloatingIPAdminStateAndLoadBalancer(t *testing.T) {
	cloud := startNetworkCloud(t)
	f := forward(cloud, false, nil, loopback(greet(t, "a")))
	cloud.pass(settled)
	open := func() bool {
		c, _, err := call(f.address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	nobody := ""
	attach := func(port *string) {
		t.Helper()
		if _, err := floatingips.Update(cloud.ctx(), cloud.neutron, f.floating.ID, floatingips.UpdateOpts{PortID: port}).Extract(); err != nil {
			t.Fatal(err)
		}
	}
	switchTo := func(up bool) {
		t.Helper()
		if _, err := loadbalancers.Update(cloud.ctx(), cloud.octavia, f.balancer.ID, loadbalancers.UpdateOpts{AdminStateUp: &up}).Extract(); err != nil {
			t.Fatal(err)
		}
		cloud.pass(settled)
	}
	if !open() {
		t.Fatal("an ACTIVE load balancer is closed")
	}
	attach(&nobody)
	if open() {
		t.Error("open without the floating IP")
	}
	attach(&f.balancer.VipPortID)
	if !open() {
		t.Error("closed although the floating IP is back")
	}
	switchTo(false)
	if open() {
		t.Error("open although switched off")
	}
	if got := cloud.getBalancer(f.balancer.ID).OperatingStatus; got != "OFFLINE" {
		t.Errorf("switched off it is %s", got)
	}
	switchTo(true)
	if !open() {
		t.Error("closed although switched on again")
	}
	cascaded(cloud, f.balancer.ID)
	if open() {
		t.Error("open although deleted")
	}
}

func TestAnAddressInUseIsReportedAndTriedAgain(t *testing.T) {
	cloud := startNetworkCloud(t)
	f := forward(cloud, false, nil, loopback(greet(t, "a")))
	intruder, err := net.Listen("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	cloud.pass(settled)
	cloud.pass(settled)
	status := func() string {
		return must[*listeners.Listener](t)(listeners.Get(cloud.ctx(), cloud.octavia, f.balancer.Listeners[0].ID).Extract()).OperatingStatus
	}
	if got := status(); got != "ERROR" {
		t.Errorf("the listener is %s", got)
	}
	if err := intruder.Close(); err != nil {
		t.Fatal(err)
	}
	cloud.pass(settled)
	if got := status(); got != "ONLINE" {
		t.Errorf("after the address became free the listener is %s", got)
	}
	c, _, err := call(f.address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestMonitorsFollowTheServersBehindTheMembers(t *testing.T) {
	backend := &nodes{servers: map[string]*greeter{}}
	cloud := startNetworkCloud(t, func(o *simulator.Options) { o.Backend = backend })
	net, sub, router := cloud.routed("10.7.0.0/24")
	_ = router
	var members []pools.CreateMemberOpts
	for _, name := range []string{"a", "b"} {
		p := must[*ports.Port](t)(ports.Create(cloud.ctx(), cloud.neutron, ports.CreateOpts{NetworkID: net.ID, DeviceID: name, DeviceOwner: "compute:az1"}).Extract())
		members = append(members, pools.CreateMemberOpts{Name: name, Address: p.FixedIPs[0].IPAddress, ProtocolPort: 6443, SubnetID: sub.ID})
	}
	backend.set("a", greet(t, "a"))
	f := forward(cloud, true, nil, members...)
	cloud.pass(settled)
	statuses := func() string {
		tree := must[*loadbalancers.StatusTree](t)(loadbalancers.GetStatuses(cloud.ctx(), cloud.octavia, f.balancer.ID).Extract()).Loadbalancer
		pool := tree.Listeners[0].Pools[0]
		return fmt.Sprint(tree.OperatingStatus, " ", pool.OperatingStatus, " ", pool.Members[0].OperatingStatus, " ", pool.Members[1].OperatingStatus)
	}
	becomes := func(want string) {
		t.Helper()
		eventually(t, want+", it is "+statuses(), func() bool {
			if statuses() == want {
				return true
			}
			cloud.pass(time.Second)
			return false
		})
	}
	becomes("DEGRADED DEGRADED ONLINE ERROR")
	for range 3 {
		c, greeting, err := call(f.address)
		if err != nil || greeting != "a" {
			t.Fatalf("greeted by %q, %v", greeting, err)
		}
		_ = c.Close()
	}
	backend.set("b", greet(t, "b"))
	becomes("ONLINE ONLINE ONLINE ONLINE")
	backend.set("a", nil)
	backend.set("b", nil)
	becomes("ERROR ERROR ERROR ERROR")
	if _, greeting, err := call(f.address); err == nil {
		t.Errorf("greeted by %s although all members are down", greeting)
	}
}

func TestAMonitorReadsStatusCodes(t *testing.T) {
	cloud := startNetworkCloud(t)
	healthz := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer healthz.Close()
	port := healthz.Listener.Addr().(*net.TCPAddr).Port
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	for path, want := range map[string]string{"/readyz": "ONLINE", "/other": "ERROR"} {
		opts := apiBalancer("lb"+strings.ReplaceAll(path, "/", "-"), sub.ID, pools.CreateMemberOpts{Address: "127.0.0.1", ProtocolPort: port})
		opts.Listeners[0].DefaultPool.Protocol = pools.ProtocolHTTPS
		opts.Listeners[0].DefaultPool.Monitor = monitors.CreateOpts{Type: monitors.TypeHTTPS, URLPath: path, ExpectedCodes: "200-204", Delay: 5, Timeout: 5, MaxRetries: 1}
		lb := cloud.balancer(opts)
		cloud.pass(settled)
		eventually(t, path+" makes the load balancer "+want, func() bool {
			cloud.pass(time.Second)
			return cloud.getBalancer(lb.ID).OperatingStatus == want
		})
	}
}

func TestClosingLeavesNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("a busy cloud", func(t *testing.T) {
		cloud := startNetworkCloud(t)
		f := forward(cloud, true, nil, loopback(greet(t, "a")))
		cloud.pass(settled)
		for range 3 {
			if _, _, err := call(f.address); err != nil {
				t.Fatal(err)
			}
		}
		cloud.sim.Close()
		if _, _, err := call(f.address); err == nil {
			t.Error("the address is open after Close")
		}
		http.DefaultClient.CloseIdleConnections()
		cloud.provider.HTTPClient.CloseIdleConnections()
	})
	eventually(t, "all goroutines end", func() bool {
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
		return runtime.NumGoroutine() <= before
	})
}
