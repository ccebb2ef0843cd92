package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/external"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"
	"github.com/jonboulle/clockwork"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// networkCloud is a simulated cloud on a fake clock, with Neutron's and Octavia's clients of one
// user.
type networkCloud struct {
	t        *testing.T
	sim      *simulator.Simulator
	clock    *clockwork.FakeClock
	url      string
	provider *gophercloud.ProviderClient
	neutron  *gophercloud.ServiceClient
	octavia  *gophercloud.ServiceClient
}

// startNetworkCloud makes a cloud; change may adapt its options. The user is demo.
func startNetworkCloud(t *testing.T, change ...func(*simulator.Options)) *networkCloud {
	t.Helper()
	clock := clockwork.NewFakeClockAt(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	options := simulator.Options{Clock: clock, Seed: 1}
	for _, apply := range change {
		apply(&options)
	}
	sim, err := simulator.New(options)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() { server.Close(); sim.Close() })
	cloud := &networkCloud{t: t, sim: sim, clock: clock, url: server.URL}
	return cloud.as("demo", "demo")
}

// as is the same cloud seen by another user.
func (c *networkCloud) as(user, project string) *networkCloud {
	c.t.Helper()
	provider, err := openstack.AuthenticatedClient(c.t.Context(), gophercloud.AuthOptions{
		IdentityEndpoint: c.url + "/identity/v3", Username: user, Password: user, DomainName: "Default", TenantName: project,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	seen := *c
	seen.provider = provider
	if seen.neutron, err = openstack.NewNetworkV2(provider, gophercloud.EndpointOpts{}); err != nil {
		c.t.Fatal(err)
	}
	if seen.octavia, err = openstack.NewLoadBalancerV2(provider, gophercloud.EndpointOpts{}); err != nil {
		c.t.Fatal(err)
	}
	return &seen
}

func (c *networkCloud) ctx() context.Context { return c.t.Context() }

// pass lets time pass.
func (c *networkCloud) pass(d time.Duration) {
	c.clock.Advance(d)
	c.sim.Settle()
}

// must fails the test on an error.
func must[T any](t *testing.T) func(value T, err error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// raw sends a request as it is, and returns the status and the body.
func (c *networkCloud) raw(method, path, body string) (int, string) {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.ctx(), method, c.url+path, bytes.NewBufferString(body))
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", c.provider.Token())
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(data)
}

// expect sends a request and checks status and a part of the answer.
func (c *networkCloud) expect(method, path, body string, status int, part string) string {
	c.t.Helper()
	got, answer := c.raw(method, path, body)
	if got != status || !strings.Contains(answer, part) {
		c.t.Fatalf("%s %s %s\nanswered %d %s\nwant     %d with %q", method, path, body, got, answer, status, part)
	}
	return answer
}

// decode reads a part of an answer.
func decode[T any](t *testing.T, answer string) T {
	t.Helper()
	var value T
	if err := json.Unmarshal([]byte(answer), &value); err != nil {
		t.Fatalf("%v in %s", err, answer)
	}
	return value
}

func (c *networkCloud) network(name string) *networks.Network {
	c.t.Helper()
	return must[*networks.Network](c.t)(networks.Create(c.ctx(), c.neutron, networks.CreateOpts{Name: name}).Extract())
}

func (c *networkCloud) subnet(net *networks.Network, cidr string) *subnets.Subnet {
	c.t.Helper()
	version := gophercloud.IPv4
	if strings.Contains(cidr, ":") {
		version = gophercloud.IPv6
	}
	return must[*subnets.Subnet](c.t)(subnets.Create(c.ctx(), c.neutron, subnets.CreateOpts{NetworkID: net.ID, CIDR: cidr, IPVersion: version}).Extract())
}

func (c *networkCloud) port(net *networks.Network) *ports.Port {
	c.t.Helper()
	return must[*ports.Port](c.t)(ports.Create(c.ctx(), c.neutron, ports.CreateOpts{NetworkID: net.ID}).Extract())
}

// public is the scenario's external network.
func (c *networkCloud) public() string {
	c.t.Helper()
	isExternal := true
	pages, err := networks.List(c.neutron, external.ListOptsExt{ListOptsBuilder: networks.ListOpts{}, External: &isExternal}).AllPages(c.ctx())
	if err != nil {
		c.t.Fatal(err)
	}
	found := must[[]networks.Network](c.t)(networks.ExtractNetworks(pages))
	if len(found) != 1 || found[0].Name != "public" {
		c.t.Fatalf("external networks: %+v", found)
	}
	return found[0].ID
}

// routed is a network with a subnet behind a router to the external network.
func (c *networkCloud) routed(cidr string) (*networks.Network, *subnets.Subnet, *routers.Router) {
	c.t.Helper()
	net := c.network("n")
	sub := c.subnet(net, cidr)
	router := must[*routers.Router](c.t)(routers.Create(c.ctx(), c.neutron, routers.CreateOpts{
		Name: "r", GatewayInfo: &routers.GatewayInfo{NetworkID: c.public()},
	}).Extract())
	if _, err := routers.AddInterface(c.ctx(), c.neutron, router.ID, routers.AddInterfaceOpts{SubnetID: sub.ID}).Extract(); err != nil {
		c.t.Fatal(err)
	}
	return net, sub, router
}

// networkIDs are the ids of a list of networks.
func networkIDs(t *testing.T, answer string) []string {
	t.Helper()
	body := decode[map[string]json.RawMessage](t, answer)
	var found []string
	for _, object := range decode[[]struct{ ID string }](t, string(body["networks"])) {
		found = append(found, object.ID)
	}
	return found
}

func sameMembers(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
