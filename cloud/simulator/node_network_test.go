package simulator_test

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// wiredNodes is a backend whose servers have their ports' addresses. Whatever it listens on is loopback in truth.
type wiredNodes struct {
	*recordedNodes

	listening sync.Mutex
	open      map[string]net.Listener // by network and address
	networks  map[string]simulator.Network
}

func newWiredNodes() *wiredNodes {
	return &wiredNodes{recordedNodes: newRecordedNodes(), open: map[string]net.Listener{}, networks: map[string]simulator.Network{}}
}

func (w *wiredNodes) Listen(network simulator.Network, address netip.AddrPort) (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	key := network.ID + " " + address.String()
	w.listening.Lock()
	defer w.listening.Unlock()
	w.open[key], w.networks[key] = listener, network
	return closing{listener, func() {
		w.listening.Lock()
		defer w.listening.Unlock()
		delete(w.open, key)
	}}, nil
}

type closing struct {
	net.Listener
	closed func()
}

func (c closing) Close() error {
	c.closed()
	return c.Listener.Close()
}

func (w *wiredNodes) addresses() []string {
	w.listening.Lock()
	defer w.listening.Unlock()
	var found []string
	for key := range w.open {
		found = append(found, key)
	}
	slices.Sort(found)
	return found
}

func (w *wiredNodes) SetLink(_ context.Context, id, portID string, up bool) error {
	call := "unplug "
	if up {
		call = "plug "
	}
	w.enter(id, call+portID)()
	return nil
}

func TestAWiredBackendListensWhereALoadBalancerIs(t *testing.T) {
	nodes := newWiredNodes()
	cloud := startNetworkCloud(t, func(o *simulator.Options) { o.Backend = nodes })
	network, subnet, _ := cloud.routed("10.6.0.0/24")
	nameservers := []string{"10.6.0.2", "10.6.0.3"}
	if err := subnets.Update(cloud.ctx(), cloud.neutron, subnet.ID, subnets.UpdateOpts{DNSNameservers: &nameservers}).Err; err != nil {
		t.Fatal(err)
	}
	balancer := cloud.balancer(apiBalancer("lb", subnet.ID))
	floating := must[*floatingips.FloatingIP](t)(floatingips.Create(cloud.ctx(), cloud.neutron, floatingips.CreateOpts{
		FloatingNetworkID: cloud.public(), PortID: balancer.VipPortID,
	}).Extract())
	cloud.pass(settled)

	vip := network.ID + " " + balancer.VipAddress + ":6443"
	outside := cloud.public() + " " + floating.FloatingIP + ":6443"
	want := []string{vip, outside}
	slices.Sort(want)
	if got := nodes.addresses(); !slices.Equal(got, want) {
		t.Errorf("it listens on %q, want %q", got, want)
	}
	private := nodes.networks[vip]
	if len(private.Gateways) != 1 || private.Gateways[0].String() != "10.6.0.1/24" || len(private.DNSNameservers) != 2 || private.External {
		t.Errorf("the VIP's network is %+v", private)
	}
	if !nodes.networks[outside].External {
		t.Errorf("the floating IP's network is %+v", nodes.networks[outside])
	}
	if err := floatingips.Delete(cloud.ctx(), cloud.neutron, floating.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if got := nodes.addresses(); !slices.Equal(got, []string{vip}) {
		t.Errorf("without the floating IP it listens on %q, want %q", got, vip)
	}
}

func TestABackendLearnsHowAServerIsPluggedIn(t *testing.T) {
	nodes := newRecordedNodes()
	s := newTestCloud(t, withNodes(nodes)).demo()
	network := s.network()
	opts := s.serverOpts("wired")
	opts.Networks = []servers.Network{{UUID: network}}
	s.eventuallyStatus(s.booting(opts), "ACTIVE")
	ports := nodes.nodes["wired"].Ports
	if len(ports) != 1 || ports[0].Network.ID != network || ports[0].MACAddress == "" || !ports[0].Up || ports[0].Network.MTU == 0 {
		t.Fatalf("ports %+v", ports)
	}
	if got, want := ports[0].Addresses[0].String(), nodes.nodes["wired"].Addresses[0]+"/16"; got != want {
		t.Errorf("address %s, want %s", got, want)
	}
	if len(ports[0].Network.Gateways) != 0 {
		t.Errorf("gateways %v without a router", ports[0].Network.Gateways)
	}
}

// booting is a server whose build has ended.
func (s *session) booting(opts servers.CreateOpts) string {
	s.t.Helper()
	id := s.create(opts, nil)
	s.advance(aWhile)
	return id
}

func TestAPortThatIsSwitchedOffUnplugsItsServer(t *testing.T) {
	nodes := newWiredNodes()
	s := newTestCloud(t, func(o *simulator.Options) { o.Backend = nodes }).demo()
	port := s.port(s.network())
	opts := s.serverOpts("wired")
	opts.Networks = []servers.Network{{Port: port}}
	s.eventuallyStatus(s.booting(opts), "ACTIVE")
	for _, up := range []string{"false", "true"} {
		if got := s.request("PUT", "/network/v2.0/ports/"+port, `{"port":{"admin_state_up":`+up+`}}`); got.status != 200 {
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	want := "boot unplug " + port + " plug " + port
	s.eventually("cable pulled and plugged in again", func() bool { return nodes.log() == want })
}

func TestStoppingIsGentleAndAHardRebootIsNot(t *testing.T) {
	nodes := newRecordedNodes()
	s := newTestCloud(t, withNodes(nodes)).demo()
	id := s.booting(s.serverOpts("node"))
	s.eventuallyStatus(id, "ACTIVE")
	for _, action := range []struct{ body, status string }{
		{`{"reboot":{"type":"SOFT"}}`, "ACTIVE"},
		{`{"reboot":{"type":"HARD"}}`, "ACTIVE"},
		{`{"os-stop":null}`, "SHUTOFF"},
		{`{"os-start":null}`, "ACTIVE"},
	} {
		s.act(id, action.body)
		s.advance(aWhile)
		s.eventuallyStatus(id, action.status)
	}
	if got, want := nodes.log(), strings.Join([]string{"boot", "shutdown on", "off on", "shutdown", "on"}, " "); got != want {
		t.Errorf("calls %q, want %q", got, want)
	}
}
