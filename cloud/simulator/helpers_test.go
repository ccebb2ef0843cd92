package simulator_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/jonboulle/clockwork"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// testCloud is a simulator on a fake clock, served over HTTP.
type testCloud struct {
	t     *testing.T
	sim   *simulator.Simulator
	clock *clockwork.FakeClock
	url   string
}

// newTestCloud serves the default scenario after the changes that the case is about.
func newTestCloud(t *testing.T, changes ...func(*simulator.Options)) *testCloud {
	t.Helper()
	scenario := simulator.DefaultScenario()
	clock := clockwork.NewFakeClockAt(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	opts := simulator.Options{Scenario: &scenario, Clock: clock, Seed: 1}
	for _, change := range changes {
		change(&opts)
	}
	sim, err := simulator.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		server.Close()
		sim.Close()
	})
	return &testCloud{t: t, sim: sim, clock: clock, url: server.URL}
}

// withScenario changes the scenario of a new cloud.
func withScenario(change func(*simulator.Scenario)) func(*simulator.Options) {
	return func(opts *simulator.Options) { change(opts.Scenario) }
}

func withHosts(hosts ...simulator.Host) func(*simulator.Options) {
	return withScenario(func(sc *simulator.Scenario) { sc.Hosts = hosts })
}

func withQuota(resource string, limit int) func(*simulator.Options) {
	return withScenario(func(sc *simulator.Scenario) { sc.Quotas = map[string]int{resource: limit} })
}

// session is one user's way into a test cloud.
type session struct {
	*testCloud
	provider *gophercloud.ProviderClient
}

// login authenticates a user of the default scenario in the project.
func (c *testCloud) login(user, project string) *session {
	c.t.Helper()
	provider, err := openstack.AuthenticatedClient(c.ctx(), gophercloud.AuthOptions{
		IdentityEndpoint: c.url + "/identity/v3", Username: user, Password: user, DomainName: "Default",
		TenantName: project, AllowReauth: false,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return &session{testCloud: c, provider: provider}
}

func (c *testCloud) demo() *session { return c.login("demo", "demo") }

func (c *testCloud) ctx() context.Context { return c.t.Context() }

// client is a service client; connect is one of gophercloud's openstack.New… functions.
func (s *session) client(connect func(*gophercloud.ProviderClient, gophercloud.EndpointOpts) (*gophercloud.ServiceClient, error)) *gophercloud.ServiceClient {
	s.t.Helper()
	client, err := connect(s.provider, gophercloud.EndpointOpts{Region: "RegionOne"})
	if err != nil {
		s.t.Fatal(err)
	}
	return client
}

// compute is a Nova client at a microversion.
func (s *session) compute(microversion string) *gophercloud.ServiceClient {
	s.t.Helper()
	client := s.client(openstack.NewComputeV2)
	client.Microversion = microversion
	return client
}

// answered is a plain HTTP answer.
type answered struct {
	status int
	header http.Header
	body   string
}

// request sends plain HTTP; headers are "Name: value" lines.
func (s *session) request(method, path, body string, headers ...string) answered {
	s.t.Helper()
	return s.send(method, path, body, append(headers, "X-Auth-Token: "+s.provider.Token())...)
}

func (c *testCloud) send(method, path, body string, headers ...string) answered {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.ctx(), method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answered{status: res.StatusCode, header: res.Header, body: string(text)}
}

// message is the text inside Nova's and Cinder's error envelope, checked to be of the kind.
func (a answered) message(t *testing.T, kind string) string {
	t.Helper()
	var envelope map[string]struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}
	if err := json.Unmarshal([]byte(a.body), &envelope); err != nil {
		t.Fatalf("error body %q: %v", a.body, err)
	}
	if envelope[kind].Code != a.status {
		t.Fatalf("body %s: want a %q envelope with code %d", a.body, kind, a.status)
	}
	return envelope[kind].Message
}

// advance moves the clock and lets everything due happen.
func (c *testCloud) advance(d time.Duration) {
	c.clock.Advance(d)
	c.sim.Settle()
}

// aWhile is longer than anything takes in the default scenario.
const aWhile = time.Minute

// network makes the network "net" with one subnet of 10.0.0.0/16.
func (s *session) network() string {
	s.t.Helper()
	client := s.client(openstack.NewNetworkV2)
	network, err := networks.Create(s.ctx(), client, networks.CreateOpts{Name: "net"}).Extract()
	if err != nil {
		s.t.Fatal(err)
	}
	_, err = subnets.Create(s.ctx(), client, subnets.CreateOpts{NetworkID: network.ID, CIDR: "10.0.0.0/16", IPVersion: 4}).Extract()
	if err != nil {
		s.t.Fatal(err)
	}
	return network.ID
}

func (s *session) port(networkID string) string {
	s.t.Helper()
	port, err := ports.Create(s.ctx(), s.client(openstack.NewNetworkV2), ports.CreateOpts{NetworkID: networkID}).Extract()
	if err != nil {
		s.t.Fatal(err)
	}
	return port.ID
}

// flavor and image are the ids of the default scenario's entries.
func (s *session) flavor(name string) string {
	return s.idOf("/compute/v2.1/flavors/detail", "flavors", name)
}
func (s *session) image(name string) string {
	return s.idOf("/image/v2/images", "images", name)
}

func (s *session) idOf(path, collection, name string) string {
	s.t.Helper()
	var list map[string]json.RawMessage
	if err := json.Unmarshal([]byte(s.request("GET", path, "").body), &list); err != nil {
		s.t.Fatal(err)
	}
	var items []struct{ ID, Name string }
	if err := json.Unmarshal(list[collection], &items); err != nil {
		s.t.Fatal(err)
	}
	for _, item := range items {
		if item.Name == name {
			return item.ID
		}
	}
	s.t.Fatalf("no %q in %s", name, path)
	return ""
}

const nodeImage = "ubuntu-24.04-kube-v1.36.3"

// serverOpts is a small server without network, named as the case wants.
func (s *session) serverOpts(name string) servers.CreateOpts {
	return servers.CreateOpts{Name: name, FlavorRef: s.flavor("m1.small"), ImageRef: s.image(nodeImage), Networks: "none"}
}

// create creates a server and does not wait for it.
func (s *session) create(opts servers.CreateOpts, hints servers.SchedulerHintOptsBuilder) string {
	s.t.Helper()
	server, err := servers.Create(s.ctx(), s.compute("2.90"), opts, hints).Extract()
	if err != nil {
		s.t.Fatal(err)
	}
	return server.ID
}

// created creates a server and lets it be built.
func (s *session) created(opts servers.CreateOpts) *servers.Server {
	s.t.Helper()
	id := s.create(opts, nil)
	s.advance(aWhile)
	return s.server(id)
}

func (s *session) server(id string) *servers.Server {
	s.t.Helper()
	server, err := servers.Get(s.ctx(), s.compute("2.90"), id).Extract()
	if err != nil {
		s.t.Fatal(err)
	}
	return server
}

func (s *session) expectStatus(id, want string) *servers.Server {
	s.t.Helper()
	server := s.server(id)
	if server.Status != want {
		s.t.Fatalf("server %s is %s (fault %q), want %s", server.Name, server.Status, server.Fault.Message, want)
	}
	return server
}

func (s *session) expectFault(id, want string) {
	s.t.Helper()
	server := s.expectStatus(id, "ERROR")
	if server.Fault.Message != want || server.Fault.Code != http.StatusInternalServerError {
		s.t.Fatalf("fault %d %q, want 500 %q", server.Fault.Code, server.Fault.Message, want)
	}
}

func (s *session) act(id, action string) {
	s.t.Helper()
	if a := s.request("POST", "/compute/v2.1/servers/"+id+"/action", action); a.status != http.StatusAccepted {
		s.t.Fatalf("action %s: %d %s", action, a.status, a.body)
	}
}

func expectCode(t *testing.T, err error, want int) {
	t.Helper()
	if !gophercloud.ResponseCodeIs(err, want) {
		t.Fatalf("error %v, want status %d", err, want)
	}
}
