package cloud_test

import (
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// simulated is a session with a simulated cloud on a fake clock.
type simulated struct {
	*cloud.Session
	t     *testing.T
	sim   *simulator.Simulator
	clock *clockwork.FakeClock
	mark  cloud.Mark
}

func newSimulated(t *testing.T, change ...func(*simulator.Scenario)) *simulated {
	t.Helper()
	clock := clockwork.NewFakeClockAt(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	scenario := simulator.DefaultScenario()
	for _, c := range change {
		c(&scenario)
	}
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Clock: clock, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		server.Close()
		sim.Close()
	})
	identity, err := cloud.ParseCloudsYAML(sim.CloudsYAML(server.URL, "sim"), "sim")
	if err != nil {
		t.Fatal(err)
	}
	// The fake clock hardly moves, so the limiter must not make anybody wait for it.
	sessions := cloud.NewSessions(cloud.Options{Clock: clock, ManualPolling: true, Burst: 10_000, Polling: cloud.PollingOptions{Jitter: -1}})
	session, err := sessions.Get(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	s := &simulated{Session: session, t: t, sim: sim, clock: clock, mark: cloud.Mark{Cluster: "6e0c3f0a-1111-4222-8333-444444444444"}}
	s.must(session.Inventory().Poll(t.Context()))
	return s
}

func (s *simulated) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// role is the mark of an object of machine m1.
func (s *simulated) role(role string) cloud.Mark {
	return cloud.Mark{Cluster: s.mark.Cluster, Machine: "m1", Role: role}
}

// until polls as the inventory wants it until something holds, and fails after 5 minutes of the
// cloud's time.
func (s *simulated) until(what string, holds func(*cloud.Snapshot) bool) {
	s.t.Helper()
	inventory := s.Inventory()
	for deadline := s.clock.Now().Add(5 * time.Minute); !holds(inventory.Snapshot()); {
		if s.clock.Now().After(deadline) {
			s.t.Fatalf("%s never happened: %s", what, inventory.Snapshot())
		}
		s.clock.Advance(max(0, inventory.NextPoll().Sub(s.clock.Now())))
		s.must(inventory.Poll(s.t.Context()))
	}
}

func one[T any](s *simulated, made T, err error) T {
	s.t.Helper()
	s.must(err)
	return made
}

// fleet is what the test makes.
type fleet struct {
	network  cloud.Network
	subnet   cloud.Subnet
	router   cloud.Router
	group    cloud.SecurityGroup
	balancer cloud.LoadBalancer
	address  cloud.FloatingIP
	placing  cloud.ServerGroup
	port     cloud.Port
	volume   cloud.Volume
	server   cloud.Server
}

func (s *simulated) build() fleet {
	s.t.Helper()
	ctx := s.t.Context()
	external := one(s, cloudNetworks(s), nil)[0]
	var f fleet
	made, err := s.CreateNetwork(ctx, cloud.NetworkRequest{Name: "net", Mark: s.mark})
	f.network = one(s, made, err)
	subnet, err := s.CreateSubnet(ctx, cloud.SubnetRequest{Name: "sub", Mark: s.mark, NetworkID: f.network.ID, CIDR: netip.MustParsePrefix("10.6.0.0/24"), DNSNameservers: []string{"9.9.9.9"}})
	f.subnet = one(s, subnet, err)
	router, err := s.CreateRouter(ctx, cloud.RouterRequest{Name: "router", Mark: s.mark, ExternalNetworkID: external.ID})
	f.router = one(s, router, err)
	s.must(s.AddRouterInterface(ctx, f.router.ID, f.subnet.ID))
	group, err := s.CreateSecurityGroup(ctx, cloud.SecurityGroupRequest{Name: "nodes", Mark: s.mark})
	f.group = one(s, group, err)
	_, err = s.CreateSecurityGroupRules(ctx, []cloud.SecurityGroupRule{
		{SecurityGroupID: f.group.ID, Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: 6443, PortMax: 6443},
		{SecurityGroupID: f.group.ID, Direction: "ingress", EtherType: "IPv6", RemoteGroupID: f.group.ID},
	})
	s.must(err)
	placing, err := s.CreateServerGroup(ctx, cloud.ServerGroupRequest{Mark: cloud.Mark{Cluster: s.mark.Cluster, Role: "workers"}, Policy: "soft-anti-affinity"})
	f.placing = one(s, placing, err)
	balancer, err := s.CreateLoadBalancer(ctx, cloud.LoadBalancerRequest{Name: "api", Mark: s.mark, VIPSubnetID: f.subnet.ID, Listeners: []cloud.ListenerRequest{{
		Name: "api", Protocol: "TCP", Port: 6443, AllowedCIDRs: []string{"10.0.0.0/8"},
		Pool: cloud.PoolRequest{Name: "api", Protocol: "TCP", Method: "SOURCE_IP_PORT", Monitor: &cloud.HealthMonitor{Type: "TCP", DelaySeconds: 10, TimeoutSeconds: 5, MaxRetries: 3}},
	}}})
	f.balancer = one(s, balancer, err)
	address, err := s.CreateFloatingIP(ctx, cloud.FloatingIPRequest{Mark: s.mark, FloatingNetworkID: external.ID, PortID: f.balancer.VIPPortID})
	f.address = one(s, address, err)
	groups := []string{f.group.ID}
	port, err := s.CreatePort(ctx, cloud.PortRequest{Name: "m1", Mark: s.role("port-0"), NetworkID: f.network.ID, SecurityGroups: &groups, AllowedAddressPairs: []cloud.AddressPair{{IPAddress: "10.6.0.99"}}})
	f.port = one(s, port, err)
	volume, err := s.CreateVolume(ctx, cloud.VolumeRequest{Name: "data", Mark: s.role("volume-0"), SizeGiB: 10})
	f.volume = one(s, volume, err)
	return f
}

func cloudNetworks(s *simulated) []cloud.Network {
	networks, err := s.ExternalNetworks(s.t.Context())
	if err != nil || len(networks) == 0 {
		s.t.Fatalf("external networks: %v, %v", networks, err)
	}
	return networks
}

func (s *simulated) boot(f *fleet) {
	s.t.Helper()
	ctx := s.t.Context()
	flavor, err := s.FlavorByName(ctx, "g1.a100.1")
	s.must(err)
	image, err := s.Image(ctx, cloud.ImageFilter{Name: "ubuntu-24.04-kube-v1.36.3"})
	s.must(err)
	server, err := s.CreateServer(ctx, cloud.ServerRequest{
		Name: "m1", Mark: s.role("server"), FlavorID: flavor.ID, ImageID: image.ID, PortIDs: []string{f.port.ID}, UserData: []byte("#cloud-config"),
		Volumes: []cloud.ServerVolume{{VolumeID: f.volume.ID}}, ServerGroupID: f.placing.ID, Tags: []string{"team-a"}, Metadata: map[string]string{"team": "a"},
	})
	f.server = one(s, server, err)
}

func TestAClusterLivesAndDiesInTheSimulator(t *testing.T) {
	s := newSimulated(t)
	ctx := t.Context()
	f := s.build()
	s.until("the volume is available", func(now *cloud.Snapshot) bool { v, _ := now.Volume(f.volume.ID); return v.Status == "available" })
	s.boot(&f)
	s.until("the server is active", func(now *cloud.Snapshot) bool { v, _ := now.Server(f.server.ID); return v.Status == "ACTIVE" })
	s.until("the load balancer is active", func(now *cloud.Snapshot) bool {
		lb, _ := now.LoadBalancer(f.balancer.ID)
		return lb.ProvisioningStatus == "ACTIVE" && lb.TreeKnown && len(lb.Listeners) == 1
	})
	s.checkBuilt(f)

	before := s.Inventory().Snapshot()
	lb, _ := before.LoadBalancer(f.balancer.ID)
	s.must(s.SetPoolMembers(ctx, lb.Pools[0].ID, []cloud.MemberRequest{{Name: "m1", Address: "10.6.0.50", Port: 6443, SubnetID: f.subnet.ID}}))
	s.until("the member is in service", func(now *cloud.Snapshot) bool {
		lb, _ := now.LoadBalancer(f.balancer.ID)
		return lb.ProvisioningStatus == "ACTIVE" && len(lb.Pools[0].Members) == 1 && lb.Pools[0].Members[0].ID != ""
	})
	s.must(s.SetTags(ctx, cloud.KindPort, f.port.ID, []string{"x"}))
	s.must(s.RebootServer(ctx, f.server.ID, cloud.HardReboot))
	s.until("the server is up again", func(now *cloud.Snapshot) bool {
		v, _ := now.Server(f.server.ID)
		return v.Status == "ACTIVE" && v.TaskState == ""
	})
	s.tearDown(f)
}

// checkBuilt looks at what the inventory made of the cloud's answers.
func (s *simulated) checkBuilt(f fleet) {
	s.t.Helper()
	now := s.Inventory().Snapshot()
	server, _ := now.Server(f.server.ID)
	if server.Flavor != "g1.a100.1" || server.FlavorID == "" || server.Mark != s.role("server") || len(server.Addresses) == 0 || server.Metadata["team"] != "a" || len(server.Tags) != 1 {
		s.t.Errorf("server %+v", server)
	}
	lb, _ := now.LoadBalancer(f.balancer.ID)
	listener, pool := lb.Listeners[0], lb.Pools[0]
	if listener.Port != 6443 || len(listener.AllowedCIDRs) != 1 || listener.DefaultPoolID != pool.ID || pool.Method != "SOURCE_IP_PORT" || pool.Monitor == nil || pool.Monitor.DelaySeconds != 10 {
		s.t.Errorf("load balancer %+v", lb)
	}
	group, _ := now.SecurityGroup(f.group.ID)
	if len(group.Rules) != 4 { // Neutron's two for egress and ours
		s.t.Errorf("rules %+v", group.Rules)
	}
	if interfaces := now.PortsOfDevice(f.router.ID); len(interfaces) == 0 {
		s.t.Error("the router has no interface")
	}
	if got := len(now.ServerGroupsOf(s.mark)); got != 1 {
		s.t.Errorf("%d server groups", got)
	}
}

func (s *simulated) tearDown(f fleet) {
	s.t.Helper()
	ctx := s.t.Context()
	s.must(s.DeleteServer(ctx, f.server.ID))
	s.must(s.DeleteFloatingIP(ctx, f.address.ID))
	s.must(s.DeleteLoadBalancer(ctx, f.balancer.ID))
	s.until("the server and the load balancer are gone", func(now *cloud.Snapshot) bool {
		_, server := now.Server(f.server.ID)
		_, balancer := now.LoadBalancer(f.balancer.ID)
		return !server && !balancer
	})
	s.must(s.DeletePort(ctx, f.port.ID))
	s.must(s.DeleteVolume(ctx, f.volume.ID))
	s.must(s.RemoveRouterInterface(ctx, f.router.ID, f.subnet.ID))
	s.must(s.DeleteRouter(ctx, f.router.ID))
	s.must(s.DeleteSecurityGroup(ctx, f.group.ID))
	s.must(s.DeleteServerGroup(ctx, f.placing.ID))
	s.must(s.DeleteNetwork(ctx, f.network.ID))
	s.until("the volume is gone", func(now *cloud.Snapshot) bool { _, there := now.Volume(f.volume.ID); return !there })
	if left := s.sim.Objects().Total; left.Sum() != 0 {
		s.t.Errorf("left in the cloud: %v", left)
	}
	now := s.Inventory().Snapshot()
	for _, left := range []int{
		len(now.NetworksOf(s.mark)), len(now.SubnetsOf(s.mark)), len(now.RoutersOf(s.mark)), len(now.SecurityGroupsOf(s.mark)), len(now.PortsOf(s.mark)),
		len(now.ServersOf(s.mark)), len(now.VolumesOf(s.mark)), len(now.FloatingIPsOf(s.mark)), len(now.LoadBalancersOf(s.mark)), len(now.ServerGroupsOf(s.mark)),
	} {
		if left != 0 {
			s.t.Errorf("left in the inventory: %s", now)
		}
	}
}

func TestALostReplyLeavesNoObjectUnknown(t *testing.T) {
	s := newSimulated(t)
	s.must(s.sim.AddFault(simulator.Fault{Service: "network", Method: "POST", Path: "/v2.0/floatingips*", AfterEffect: true, Status: 502}))
	asked := s.clock.Now()
	_, err := s.CreateFloatingIP(t.Context(), cloud.FloatingIPRequest{Mark: s.mark, FloatingNetworkID: cloudNetworks(s)[0].ID})
	if !cloud.IsUncertain(err) {
		t.Fatalf("error %v", err)
	}
	s.until("the floating IPs are listed again", func(now *cloud.Snapshot) bool { return now.ListedAfter(cloud.KindFloatingIP, asked) })
	if got := s.Inventory().Snapshot().FloatingIPsOf(s.mark); len(got) != 1 {
		t.Errorf("%d floating IPs found by their mark, want the one whose reply was lost", len(got))
	}
}
