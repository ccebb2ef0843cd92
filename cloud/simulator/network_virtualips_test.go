package simulator_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// endpointNodes are greeters on a port of the case's choice whose user data are the address they mean to be reached at.
type endpointNodes struct {
	nodes
	port int
}

func (n *endpointNodes) Endpoint(node simulator.Node) (netip.AddrPort, bool) {
	address, err := netip.ParseAddrPort(string(node.UserData))
	return address, err == nil
}

func (n *endpointNodes) Dial(ctx context.Context, serverID string, port int) (net.Conn, error) {
	if port == n.port {
		port = 6443
	}
	return n.nodes.Dial(ctx, serverID, port)
}

// cabledNodes have their ports' addresses for real, so that the cloud asks them where to listen.
type cabledNodes struct {
	*endpointNodes
	mu       sync.Mutex
	listened []simulator.Network
}

func (n *cabledNodes) Listen(network simulator.Network, address netip.AddrPort) (net.Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listened = append(n.listened, network)
	return net.Listen("tcp", address.String())
}

func (*cabledNodes) SetLink(context.Context, string, string, bool) error { return nil }

// virtual is a cloud with a reserved address and a floating IP on it.
type virtual struct {
	*session
	nodes                       *endpointNodes
	network, reserved, floating string
	endpoint                    string
}

func newVirtual(t *testing.T) *virtual {
	t.Helper()
	nodes := newEndpointNodes(t)
	return newVirtualOn(t, nodes, nodes)
}

func newEndpointNodes(t *testing.T) *endpointNodes {
	return &endpointNodes{nodes: nodes{servers: map[string]*greeter{}}, port: freePort(t)}
}

func newVirtualOn(t *testing.T, nodes *endpointNodes, backend simulator.NodeBackend) *virtual {
	t.Helper()
	v := &virtual{session: newTestCloud(t, func(o *simulator.Options) { o.Backend = backend }).demo(), nodes: nodes}
	v.network = v.network4("10.6.0.0/24")
	v.reserved = v.made("/network/v2.0/ports", "port", `{"port":{"network_id":%q,"fixed_ips":[{"ip_address":"10.6.0.100"}]}}`, v.network)
	v.floating = v.made("/network/v2.0/floatingips", "floatingip", `{"floatingip":{"floating_network_id":%q,"port_id":%q}}`, v.publicNetwork(), v.reserved)
	answer := v.request("GET", "/network/v2.0/floatingips/"+v.floating, "")
	address := decode[struct {
		FloatingIP struct {
			Address string `json:"floating_ip_address"`
		} `json:"floatingip"`
	}](t, answer.body).FloatingIP.Address
	v.endpoint = fmt.Sprintf("%s:%d", address, nodes.port)
	return v
}

// made creates something and answers with its id.
func (s *session) made(path, kind, body string, args ...any) string {
	s.t.Helper()
	a := s.request("POST", path, fmt.Sprintf(body, args...))
	if a.status >= 300 {
		s.t.Fatalf("POST %s: %d %s", path, a.status, a.body)
	}
	return decode[map[string]struct{ ID string }](s.t, a.body)[kind].ID
}

func (s *session) publicNetwork() string {
	s.t.Helper()
	return networkIDs(s.t, s.request("GET", "/network/v2.0/networks?name=public", "").body)[0]
}

// network4 is a network behind a router to the outside.
func (s *session) network4(cidr string) string {
	s.t.Helper()
	id := s.made("/network/v2.0/networks", "network", `{"network":{"name":"n"}}`)
	subnet := s.made("/network/v2.0/subnets", "subnet", `{"subnet":{"network_id":%q,"ip_version":4,"cidr":%q}}`, id, cidr)
	router := s.made("/network/v2.0/routers", "router", `{"router":{"external_gateway_info":{"network_id":%q}}}`, s.publicNetwork())
	s.request("PUT", "/network/v2.0/routers/"+router+"/add_router_interface", fmt.Sprintf(`{"subnet_id":%q}`, subnet))
	return id
}

// boot makes a server that greets with its name and means to be reached at the endpoint, on a port with address pairs.
func (v *virtual) boot(name, pairs string) (server, port string) {
	v.t.Helper()
	port = v.made("/network/v2.0/ports", "port", `{"port":{"network_id":%q,"allowed_address_pairs":%s}}`, v.network, pairs)
	server = v.made("/compute/v2.1/servers", "server", `{"server":{"name":%q,"flavorRef":%q,"imageRef":%q,"networks":[{"port":%q}],"user_data":%q}}`,
		name, v.flavor("m1.small"), v.image(nodeImage), port, base64.StdEncoding.EncodeToString([]byte(v.endpoint)))
	v.nodes.set(server, greet(v.t, name))
	v.advance(aWhile)
	v.eventuallyStatus(server, "ACTIVE")
	return server, port
}

// answer is who greets at the endpoint, nobody when none does.
func (v *virtual) answer() string {
	c, greeting, err := call(v.endpoint)
	if err != nil {
		return "nobody"
	}
	_ = c.Close()
	return greeting
}

func (v *virtual) expectAnswer(when, want string) {
	v.t.Helper()
	if got := v.answer(); got != want {
		v.t.Errorf("%s, %s answers, want %s", when, got, want)
	}
}

const mayHold = `[{"ip_address":"10.6.0.100"}]`

func TestAVirtualIPStaysWithItsHolderAndMovesWhenThatGoes(t *testing.T) {
	v := newVirtual(t)
	v.expectAnswer("without servers", "nobody")
	v.boot("stranger", `[]`)
	v.expectAnswer("without a server that may hold the address", "nobody")
	first, _ := v.boot("first", mayHold)
	v.boot("second", `[{"ip_address":"10.6.0.96/28"}]`)
	for range 3 {
		v.expectAnswer("with two holders", "first")
	}
	v.nodes.set(first, nil)
	v.expectAnswer("when the first refuses", "second")
	v.nodes.set(first, greet(t, "first"))
	v.expectAnswer("when the first is back", "second")
}

func TestAVirtualIPIsReachedOnlyWhileNeutronLetsIt(t *testing.T) {
	v := newVirtual(t)
	server, port := v.boot("one", mayHold)
	change := func(path, body string) {
		t.Helper()
		if a := v.request("PUT", "/network/v2.0/"+path, body); a.status >= 300 {
			t.Fatalf("%s: %d %s", path, a.status, a.body)
		}
	}
	v.expectAnswer("at first", "one")
	for _, c := range []struct{ what, path, off, on string }{
		{"the allowed address", "ports/" + port, `{"port":{"allowed_address_pairs":[]}}`, `{"port":{"allowed_address_pairs":` + mayHold + `}}`},
		{"the floating IP", "floatingips/" + v.floating, `{"floatingip":{"port_id":null}}`, `{"floatingip":{"port_id":"` + v.reserved + `"}}`},
		{"the port's link", "ports/" + port, `{"port":{"admin_state_up":false}}`, `{"port":{"admin_state_up":true}}`},
	} {
		change(c.path, c.off)
		v.expectAnswer("without "+c.what, "nobody")
		change(c.path, c.on)
		v.expectAnswer("again with "+c.what, "one")
	}
	connection, _, err := call(v.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	v.request("DELETE", "/network/v2.0/ports/"+v.reserved, "")
	if _, err := connection.lines.ReadString('\n'); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a connection outlives the reserved port: %v", err)
	}
	v.expectAnswer("without the reserved port", "nobody")
	v.request("DELETE", "/compute/v2.1/servers/"+server, "")
}

func TestAVirtualIPThatServersHaveForRealIsListenedOnAtItsFloatingIPOnly(t *testing.T) {
	wired := &cabledNodes{endpointNodes: newEndpointNodes(t)}
	v := newVirtualOn(t, wired.endpointNodes, wired)
	v.boot("one", mayHold)
	v.expectAnswer("at the floating IP", "one")
	wired.mu.Lock()
	defer wired.mu.Unlock()
	if len(wired.listened) != 1 || !wired.listened[0].External {
		t.Errorf("listened on %+v, want the external network once", wired.listened)
	}
}

func TestAnAddressInUseIsTriedAgain(t *testing.T) {
	v := newVirtual(t)
	other, err := net.Listen("tcp", v.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	v.boot("one", mayHold)
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	v.advance(aWhile)
	v.expectAnswer("after a while", "one")
}
