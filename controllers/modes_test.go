package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// The tests below make one small cluster each in one of the ways that the API offers, and look at
// what the cloud was asked for and holds.

// ready makes a cluster of one control-plane machine and one worker and waits until it is ready.
func (w *world) ready(change func(*infrav1.SendanCluster), machine ...func(*infrav1.SendanMachine)) {
	w.t.Helper()
	w.addCluster("tenant", "one", with(change)...)
	w.addMachine("tenant", "one", "one-cp-0", append(machine, controlPlane)...)
	w.addMachine("tenant", "one", worker, machine...)
	w.run("all ready", 20*time.Minute, w.allReady)
	w.pass(time.Minute)
}

// gone deletes everything and waits until it is gone.
func (w *world) gone() {
	w.t.Helper()
	w.removeAll()
	w.run("all gone", 20*time.Minute, w.allGone)
}

// change updates the SendanCluster.
func (w *world) change(change func(*infrav1.SendanCluster)) {
	w.t.Helper()
	c := w.cluster("tenant", "one")
	change(c)
	w.must(w.client.Update(context.Background(), c))
}

// seen is what the project holds now.
func (w *world) seen() *cloud.Snapshot { return w.intruder().Inventory().Snapshot() }

// mark is the mark of the cluster's objects.
func (w *world) mark() cloud.Mark {
	return cloud.Mark{Cluster: w.cluster("tenant", "one").Annotations[infrav1.OwnerIDAnnotation]}
}

func (w *world) markOf(machine string) cloud.Mark {
	return cloud.Mark{Cluster: w.mark().Cluster, Machine: w.machine("tenant", machine).Annotations[infrav1.OwnerIDAnnotation]}
}

// bodies are what was sent with a method to paths that end in a certain way, below a key.
func (w *world) bodies(method, suffix, key string) []map[string]any {
	w.t.Helper()
	w.sent.mu.Lock()
	defer w.sent.mu.Unlock()
	var out []map[string]any
	for _, request := range w.sent.list {
		if request.method != method || !strings.HasSuffix(request.path, suffix) {
			continue
		}
		var body map[string]any
		w.must(json.Unmarshal(request.body, &body))
		if inner, found := body[key].(map[string]any); found {
			body = inner
		}
		out = append(out, body)
	}
	return out
}

// called are the paths, with their ids, that were called with a method.
func (w *world) called(method, part string) []string {
	var out []string
	for _, call := range w.sim.CallLog() {
		if call.Method == method && strings.Contains(call.URL, part) {
			out = append(out, call.URL)
		}
	}
	return out
}

func (w *world) condition(obj interface{ GetConditions() []metav1.Condition }, kind string) metav1.Condition {
	for _, c := range obj.GetConditions() {
		if c.Type == kind {
			return c
		}
	}
	return metav1.Condition{}
}

// families are those of the rules for what comes in. Neutron by itself lets both out.
func families(rules []cloud.SecurityGroupRule) []string {
	var out []string
	for _, rule := range rules {
		if rule.Direction == "ingress" {
			out = append(out, rule.EtherType)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func addressFamilies(port cloud.Port) []string {
	var out []string
	for _, ip := range port.FixedIPs {
		out = append(out, familyOf(netip.PrefixFrom(netip.MustParseAddr(ip.IPAddress), 0)))
	}
	slices.Sort(out)
	return out
}

func wantEqual[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func wantList[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func noFloatingIP(c *infrav1.SendanCluster) {
	c.Spec.Endpoint.LoadBalancer = &infrav1.LoadBalancerEndpoint{Port: 6443, FloatingIP: infrav1.FloatingIP{Disabled: ptr.To(true)}}
}

func TestNetworkFamiliesReachPortsRulesAndEndpoint(t *testing.T) {
	for _, c := range []struct {
		name     string
		cidrs    []string
		families []string
		primary  string
		change   func(*infrav1.SendanCluster)
	}{
		{"IPv6 only", []string{"fd00:6::/64"}, []string{"IPv6"}, "fd00:6:", noFloatingIP},
		{"dual stack", []string{"10.6.0.0/24", "fd00:6::/64"}, []string{"IPv4", "IPv6"}, "10.6.0.", nil},
		{"dual stack, IPv6 first", []string{"fd00:6::/64", "10.6.0.0/24"}, []string{"IPv4", "IPv6"}, "fd00:6:", noFloatingIP},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.ready(func(obj *infrav1.SendanCluster) {
				obj.Spec.Network.Managed.CIDRs = c.cidrs
				obj.Spec.Network.Managed.DNSNameservers = []string{"192.0.2.53", "2001:db8::53"}
				if c.change != nil {
					c.change(obj)
				}
			})
			snapshot := w.seen()
			for _, machine := range []string{"one-cp-0", worker} {
				wantList(t, "families of "+machine, addressFamilies(snapshot.PortsOf(w.markOf(machine))[0]), c.families)
			}
			for _, group := range snapshot.SecurityGroupsOf(w.mark()) {
				wantList(t, "families of the rules of "+group.Name, families(group.Rules), c.families)
			}
			for _, subnet := range snapshot.SubnetsOf(w.mark()) {
				want := []string{"2001:db8::53"}
				if familyOf(subnet.CIDR) == "IPv4" {
					want = []string{"192.0.2.53"}
				}
				wantList(t, "name servers of "+subnet.CIDR.String(), subnet.DNSNameservers, want)
			}
			lb := snapshot.LoadBalancersOf(w.mark())[0]
			if !strings.HasPrefix(lb.VIPAddress, c.primary) {
				t.Errorf("the load balancer is at %s", lb.VIPAddress)
			}
			if members := lb.Pools[0].Members; len(members) != 1 || !strings.HasPrefix(members[0].Address, c.primary) {
				t.Errorf("the members are %v", members)
			}
			w.gone()
			assertNothingLeft(t, w)
		})
	}
}

// office makes a network that is somebody else's, with two subnets and a router.
func (w *world) office() (network cloud.Network, subnets []cloud.Subnet) {
	w.t.Helper()
	ctx, s := context.Background(), w.intruder()
	external, err := s.ExternalNetworks(ctx)
	w.must(err)
	network, err = s.CreateNetwork(ctx, cloud.NetworkRequest{Name: "office"})
	w.must(err)
	router, err := s.CreateRouter(ctx, cloud.RouterRequest{Name: "office", ExternalNetworkID: external[0].ID})
	w.must(err)
	for _, cidr := range []string{"10.8.1.0/24", "10.8.2.0/24"} {
		subnet, err := s.CreateSubnet(ctx, cloud.SubnetRequest{Name: "office-" + cidr[5:6], NetworkID: network.ID, CIDR: netip.MustParsePrefix(cidr)})
		w.must(err)
		w.must(s.AddRouterInterface(ctx, router.ID, subnet.ID))
		subnets = append(subnets, subnet)
	}
	return network, subnets
}

func TestAnExistingNetworkIsUsedAndNeverChanged(t *testing.T) {
	for _, c := range []struct {
		name    string
		subnets []infrav1.ResourceReference
		prefix  string   // of the addresses
		asked   []string // names of the subnets that ports ask for; none leaves it to Neutron
	}{
		{name: "all subnets", prefix: "10.8."},
		{name: "a named subnet", subnets: []infrav1.ResourceReference{{Name: "office-2"}}, prefix: "10.8.2.", asked: []string{"office-2"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.addNamespace("tenant")
			network, subnets := w.office()
			before := w.sim.Objects().Total
			w.sim.ResetCalls()
			w.ready(func(obj *infrav1.SendanCluster) {
				obj.Spec.Tags = []string{"team-a"}
				obj.Spec.Network = infrav1.ClusterNetwork{Existing: &infrav1.ExistingNetwork{Network: infrav1.ResourceReference{Name: "office"}, Subnets: c.subnets}}
			})
			port := w.seen().PortsOf(w.markOf(worker))[0]
			wantEqual(t, "the port's network", port.NetworkID, network.ID)
			if !strings.HasPrefix(port.FixedIPs[0].IPAddress, c.prefix) {
				t.Errorf("the port has %v", port.FixedIPs)
			}
			var asked []string
			for _, body := range w.bodies(http.MethodPost, "/ports", "port") {
				for _, ip := range asList(body["fixed_ips"]) {
					i := slices.IndexFunc(subnets, func(s cloud.Subnet) bool { return s.ID == ip["subnet_id"] })
					asked = append(asked, subnets[i].Name)
				}
			}
			wantList(t, "subnets asked for", slices.Compact(asked), c.asked)
			w.gone()
			assertSame(t, w, before)
			for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
				for _, part := range []string{"/networks", "/subnets", "/routers"} {
					if calls := w.called(method, part); len(calls) > 0 {
						t.Errorf("%s %v", method, calls)
					}
				}
			}
		})
	}
}

// asList reads a list of objects of a body.
func asList(value any) []map[string]any {
	var out []map[string]any
	items, _ := value.([]any)
	for _, item := range items {
		out = append(out, item.(map[string]any))
	}
	return out
}

// pairs are the addresses a port may use besides its own.
func pairs(port cloud.Port) []string {
	var out []string
	for _, pair := range port.AllowedAddressPairs {
		out = append(out, pair.IPAddress)
	}
	return out
}

func TestAVirtualIPIsReservedAndMayBeHeldByTheControlPlaneOnly(t *testing.T) {
	for _, floating := range []bool{false, true} {
		t.Run(map[bool]string{true: "with", false: "without"}[floating]+" a floating IP", func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.ready(func(c *infrav1.SendanCluster) {
				c.Spec.Endpoint.VirtualIP = &infrav1.VirtualIPEndpoint{Address: "10.6.0.100", Port: 443}
				if floating {
					c.Spec.Endpoint.VirtualIP.FloatingIP.Disabled = ptr.To(false)
				}
			})
			snapshot, cluster := w.seen(), w.cluster("tenant", "one")
			wantList(t, "pairs of the control plane", pairs(snapshot.PortsOf(w.markOf("one-cp-0"))[0]), []string{"10.6.0.100"})
			wantList(t, "pairs of the worker", pairs(snapshot.PortsOf(w.markOf(worker))[0]), nil)
			wantEqual(t, "load balancers", snapshot.Count(cloud.KindLoadBalancer), 0)
			endpoint := infrav1.APIEndpoint{Host: "10.6.0.100", Port: 443}
			wantEqual(t, "floating IPs", snapshot.Count(cloud.KindFloatingIP), map[bool]int{true: 1}[floating])
			if floating {
				ip := snapshot.FloatingIPsOf(w.mark())[0]
				endpoint.Host = ip.Address
				wantEqual(t, "the floating IP leads to", ip.PortID, cluster.Status.Endpoint.PortID)
			}
			wantEqual(t, "the endpoint", cluster.Spec.ControlPlaneEndpoint, endpoint)
			w.gone()
			assertNothingLeft(t, w)
		})
	}
}

func TestAnExternalEndpointIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one", func(c *infrav1.SendanCluster) { c.Spec.Endpoint.External = &infrav1.ExternalEndpoint{} })
	w.addMachine("tenant", "one", worker)
	w.pass(5 * time.Minute)
	c := w.cluster("tenant", "one")
	wantEqual(t, "reason", w.condition(c, infrav1.EndpointReadyCondition).Reason, infrav1.WaitingForEndpointReason)
	if c.Status.Initialization.Provisioned != nil {
		t.Error("it is provisioned without an endpoint")
	}
	cluster := &clusterv1.Cluster{}
	w.must(w.client.Get(context.Background(), client.ObjectKeyFromObject(c), cluster))
	cluster.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "api.example.com", Port: 443}
	w.must(w.client.Update(context.Background(), cluster))
	w.versions = map[string]string{} // the watch on Clusters
	w.run("all ready", 20*time.Minute, w.allReady)
	wantEqual(t, "the endpoint", w.cluster("tenant", "one").Spec.ControlPlaneEndpoint, infrav1.APIEndpoint{Host: "api.example.com", Port: 443})
	have := w.sim.Objects().Total
	wantEqual(t, "load balancers and floating IPs", have["loadbalancers"]+have["floatingips"], 0)
	w.gone()
	assertNothingLeft(t, w)
}

func TestALoadBalancerWithoutAFloatingIPKeepsItsAddressWhenItIsMadeAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(noFloatingIP)
	before := w.cluster("tenant", "one")
	wantEqual(t, "the endpoint", before.Spec.ControlPlaneEndpoint.Host, before.Status.Endpoint.Address)
	wantEqual(t, "floating IPs", w.sim.Objects().Total["floatingips"], 0)
	w.must(w.intruder().DeleteLoadBalancer(context.Background(), before.Status.Endpoint.LoadBalancerID))
	w.run("a new load balancer", 20*time.Minute, func() bool {
		id := w.cluster("tenant", "one").Status.Endpoint.LoadBalancerID
		return id != "" && id != before.Status.Endpoint.LoadBalancerID && w.allReady()
	})
	wantEqual(t, "the new address", w.cluster("tenant", "one").Status.Endpoint.Address, before.Status.Endpoint.Address)
	w.gone()
	assertNothingLeft(t, w)
}

func TestAFloatingIPTheUserNamesIsReleasedAndKept(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addNamespace("tenant")
	ctx, s := context.Background(), w.intruder()
	external, err := s.ExternalNetworks(ctx)
	w.must(err)
	ip, err := s.CreateFloatingIP(ctx, cloud.FloatingIPRequest{FloatingNetworkID: external[0].ID})
	w.must(err)
	w.ready(func(c *infrav1.SendanCluster) {
		c.Spec.Endpoint.LoadBalancer = &infrav1.LoadBalancerEndpoint{Port: 6443, FloatingIP: infrav1.FloatingIP{Address: ip.Address}}
	})
	c := w.cluster("tenant", "one")
	wantEqual(t, "the endpoint", c.Spec.ControlPlaneEndpoint.Host, ip.Address)
	used, _ := w.seen().FloatingIP(ip.ID)
	wantEqual(t, "it leads to", used.PortID, c.Status.Endpoint.PortID)
	w.gone()
	kept, there := w.seen().FloatingIP(ip.ID)
	if !there || kept.PortID != "" {
		t.Errorf("there=%t, leads to %q", there, kept.PortID)
	}
	wantEqual(t, "objects left", w.sim.Objects().Total.Sum(), 1)
}

func TestAFloatingIPThatIsAllocatedLaterIsFoundSoon(t *testing.T) {
	t.Parallel()
	const address = "127.64.0.3" // the simulator gives addresses in order, and the router takes the first
	w := newWorld(t)
	w.addCluster("tenant", "one", func(c *infrav1.SendanCluster) {
		c.Spec.Endpoint.LoadBalancer = &infrav1.LoadBalancerEndpoint{Port: 6443, FloatingIP: infrav1.FloatingIP{Address: address}}
	})
	w.run("it is told", 5*time.Minute, func() bool {
		return strings.Contains(w.condition(w.cluster("tenant", "one"), infrav1.EndpointReadyCondition).Message, address+" does not exist")
	})
	ctx, s := context.Background(), w.intruder()
	external, err := s.ExternalNetworks(ctx)
	w.must(err)
	ip, err := s.CreateFloatingIP(ctx, cloud.FloatingIPRequest{FloatingNetworkID: external[0].ID})
	w.must(err)
	wantEqual(t, "the address", ip.Address, address)
	w.run("it is found", 3*time.Minute, w.allReady)
}

func TestWhoMayReachTheApiServerCanChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(func(c *infrav1.SendanCluster) {
		c.Spec.Endpoint.LoadBalancer = &infrav1.LoadBalancerEndpoint{Port: 6443, AllowedCIDRs: []string{"198.51.100.0/24"}}
	})
	allowed := func() []string { return w.seen().LoadBalancersOf(w.mark())[0].Listeners[0].AllowedCIDRs }
	has := func(cidr string) bool { return slices.Contains(allowed(), cidr) }
	if !has("198.51.100.0/24") || !has("10.6.0.0/24") || len(allowed()) != 3 {
		t.Errorf("allowed are %v; want those given, the subnet's and the router's", allowed())
	}
	w.sim.ResetCalls()
	w.change(func(c *infrav1.SendanCluster) {
		c.Spec.Endpoint.LoadBalancer.AllowedCIDRs = []string{"192.0.2.0/24"}
	})
	w.pass(time.Minute)
	if has("198.51.100.0/24") || !has("192.0.2.0/24") || !has("10.6.0.0/24") {
		t.Errorf("allowed are %v", allowed())
	}
	w.change(func(c *infrav1.SendanCluster) { c.Spec.Endpoint.LoadBalancer.AllowedCIDRs = nil })
	w.pass(30 * time.Minute)
	wantList(t, "allowed without a wish", allowed(), nil)
	wantEqual(t, "changes of the listener", len(w.called(http.MethodPut, "/listeners/")), 2)
	w.gone()
	assertNothingLeft(t, w)
}

func TestNameServersCanChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(nil)
	for _, servers := range [][]string{{"192.0.2.53", "192.0.2.54"}, nil} {
		w.sim.ResetCalls()
		w.change(func(c *infrav1.SendanCluster) { c.Spec.Network.Managed.DNSNameservers = servers })
		w.pass(15 * time.Minute)
		wantList(t, "name servers", w.seen().SubnetsOf(w.mark())[0].DNSNameservers, servers)
		wantEqual(t, "changes of the subnet", len(w.called(http.MethodPut, "/subnets/")), 1)
	}
}

func TestSecurityGroupRulesFollowTheSpecWhateverOthersDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(nil)
	rules := func(role string) []cloud.SecurityGroupRule {
		return w.seen().SecurityGroupsOf(cloud.Mark{Cluster: w.mark().Cluster, Role: role})[0].Rules
	}
	on := func(rules []cloud.SecurityGroupRule, port int) (found []cloud.SecurityGroupRule) {
		return slices.DeleteFunc(slices.Clone(rules), func(r cloud.SecurityGroupRule) bool { return r.PortMin != port })
	}
	w.change(func(c *infrav1.SendanCluster) {
		c.Spec.SecurityGroups.Rules = []infrav1.SecurityGroupRule{
			{Name: "ssh", Target: infrav1.TargetAll, Direction: "ingress", Protocol: "tcp", PortMin: 22, RemoteCIDR: "192.0.2.0/24"},
			{Name: "bgp", Target: infrav1.TargetWorkers, Direction: "ingress", Protocol: "tcp", PortMin: 179, PortMax: 180},
		}
	})
	w.pass(time.Minute)
	for _, role := range []string{roleControlPlaneGroup, roleWorkerGroup} {
		ssh := on(rules(role), 22)
		if len(ssh) != 1 || ssh[0].PortMax != 22 || ssh[0].RemoteIPPrefix != "192.0.2.0/24" || ssh[0].Description != "ssh" {
			t.Errorf("%s: %+v", role, ssh)
		}
	}
	wantEqual(t, "bgp of the control plane", len(on(rules(roleControlPlaneGroup), 179)), 0)
	wantEqual(t, "bgp of the workers", len(on(rules(roleWorkerGroup), 179)), 1)

	ctx, s := context.Background(), w.intruder()
	groupID := on(rules(roleWorkerGroup), 22)[0].SecurityGroupID
	_, err := s.CreateSecurityGroupRules(ctx, []cloud.SecurityGroupRule{{SecurityGroupID: groupID, Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: 8080, PortMax: 8080}})
	w.must(err)
	w.must(s.DeleteSecurityGroupRule(ctx, on(rules(roleWorkerGroup), 22)[0].ID))
	w.pass(65 * time.Minute) // security groups are listed every hour
	wantEqual(t, "the rule somebody added", len(on(rules(roleWorkerGroup), 8080)), 0)
	wantEqual(t, "the rule somebody removed", len(on(rules(roleWorkerGroup), 22)), 1)

	w.change(func(c *infrav1.SendanCluster) { c.Spec.SecurityGroups.Rules = nil })
	w.pass(time.Minute)
	wantEqual(t, "rules taken back", len(on(rules(roleWorkerGroup), 22))+len(on(rules(roleControlPlaneGroup), 22))+len(on(rules(roleWorkerGroup), 179)), 0)
	wantEqual(t, "notes left", len(w.cluster("tenant", "one").Status.Attempts), 0)
}

// tagsOf are the tags of all objects of the cluster that can carry some, by name.
func tagsOf(s *cloud.Snapshot, mark cloud.Mark) map[string][]string {
	tags := map[string][]string{}
	for _, o := range s.NetworksOf(mark) {
		tags["network"] = o.Tags
	}
	for _, o := range s.SubnetsOf(mark) {
		tags["subnet"] = o.Tags
	}
	for _, o := range s.RoutersOf(mark) {
		tags["router"] = o.Tags
	}
	for _, o := range s.SecurityGroupsOf(mark) {
		tags["security group "+o.Mark.Role] = o.Tags
	}
	for _, o := range s.LoadBalancersOf(mark) {
		tags["load balancer"] = o.Tags
	}
	for _, o := range s.FloatingIPsOf(mark) {
		tags["floating IP"] = o.Tags
	}
	for _, o := range s.PortsOf(mark) {
		tags["port "+o.Name] = o.Tags
	}
	for _, o := range s.ServersOf(mark) {
		tags["server "+o.Name] = o.Tags
	}
	return tags
}

func TestTagsAreSetEverywhereAndThoseOfOthersStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(func(c *infrav1.SendanCluster) { c.Spec.Tags = []string{"team-a"} }, func(m *infrav1.SendanMachine) { m.Spec.Tags = []string{"gpu"} })
	for what, tags := range tagsOf(w.seen(), w.mark()) {
		want := []string{"team-a"}
		if strings.HasSuffix(what, worker) || strings.HasSuffix(what, worker+"-0") || strings.Contains(what, "one-cp-0") {
			want = []string{"gpu", "team-a"}
		}
		wantList(t, "tags of the "+what, tags, want)
	}
	ctx, s := context.Background(), w.intruder()
	w.must(s.SetTags(ctx, cloud.KindNetwork, w.cluster("tenant", "one").Status.Network.ID, []string{"audited", "team-a"}))
	w.pass(65 * time.Minute) // networks are listed every hour
	w.sim.ResetCalls()
	w.change(func(c *infrav1.SendanCluster) { c.Spec.Tags = []string{"team-a", "cost-7"} })
	w.pass(15 * time.Minute)
	tags := tagsOf(w.seen(), w.mark())
	wantList(t, "tags of the network", tags["network"], []string{"audited", "cost-7", "team-a"})
	for _, what := range []string{"subnet", "router", "security group worker", "security group control-plane", "load balancer", "floating IP"} {
		wantList(t, "tags of the "+what, tags[what], []string{"cost-7", "team-a"})
	}
	writes := len(w.called(http.MethodPut, "/tags")) + len(w.called(http.MethodPut, "/loadbalancers/"))
	wantEqual(t, "calls to set the tags of seven objects", writes, 7)
	w.gone()
	assertNothingLeft(t, w)
}

// inDomain gives the Machine a failure domain.
func (w *world) inDomain(name, domain string) {
	machine := &clusterv1.Machine{}
	w.must(w.client.Get(context.Background(), client.ObjectKey{Namespace: "tenant", Name: name}, machine))
	machine.Spec.FailureDomain = domain
	w.must(w.client.Update(context.Background(), machine))
}

func TestMachinesArePutWhereTheirFailureDomainSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addNamespace("tenant")
	w.office()
	w.addCluster("tenant", "one", func(c *infrav1.SendanCluster) {
		c.Spec.Network = infrav1.ClusterNetwork{Existing: &infrav1.ExistingNetwork{Network: infrav1.ResourceReference{Name: "office"}}}
		c.Spec.FailureDomains = []infrav1.FailureDomain{
			{Name: "west", ComputeZone: "az3", VolumeZone: "az2", Subnets: []infrav1.ResourceReference{{Name: "office-2"}}, ControlPlane: ptr.To(true)},
			{Name: "az1", ControlPlane: ptr.To(false)},
		}
	})
	rootVolume := func(m *infrav1.SendanMachine) { m.Spec.RootVolume = &infrav1.RootVolume{SizeGiB: 20} }
	w.addMachine("tenant", "one", "in-west", rootVolume)
	w.inDomain("in-west", "west")
	w.addMachine("tenant", "one", "in-az1")
	w.inDomain("in-az1", "az1")
	w.addMachine("tenant", "one", "in-no-list")
	w.inDomain("in-no-list", "az2")
	w.run("all ready", 20*time.Minute, w.allReady)
	for name, want := range map[string][2]string{"in-west": {"az3", "west"}, "in-az1": {"az1", "az1"}, "in-no-list": {"az2", "az2"}} {
		m := w.machine("tenant", name)
		wantEqual(t, "zone of "+name, m.Status.Server.Zone, want[0])
		wantEqual(t, "failure domain of "+name, m.Status.FailureDomain, want[1])
	}
	snapshot := w.seen()
	if ip := snapshot.PortsOf(w.markOf("in-west"))[0].FixedIPs[0].IPAddress; !strings.HasPrefix(ip, "10.8.2.") {
		t.Errorf("in-west has address %s, which is not in its domain's subnet", ip)
	}
	wantEqual(t, "zone of the volume", snapshot.VolumesOf(w.markOf("in-west"))[0].Zone, "az2")
	var names []string
	for _, domain := range w.cluster("tenant", "one").Status.FailureDomains {
		names = append(names, domain.Name)
	}
	wantList(t, "failure domains", names, []string{"az1", "west"})
}

// inPool makes a machine one of another machine deployment.
func inPool(name string) func(*infrav1.SendanMachine) {
	return func(m *infrav1.SendanMachine) {
		m.Labels = map[string]string{clusterv1.ClusterNameLabel: m.Labels[clusterv1.ClusterNameLabel], clusterv1.MachineDeploymentNameLabel: name}
	}
}

func TestEachPoolHasItsServerGroup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(func(c *infrav1.SendanCluster) { c.Spec.ServerGroupPolicy = infrav1.AntiAffinity })
	w.addMachine("tenant", "one", "gpu-0", inPool("gpu"))
	w.run("all ready", 20*time.Minute, w.allReady)
	members := map[string]int{}
	for _, group := range w.seen().ServerGroupsOf(w.mark()) {
		wantEqual(t, "policy of "+group.Mark.Role, group.Policy, "anti-affinity")
		members[group.Mark.Role] = len(group.Members)
	}
	for _, role := range []string{roleControlPlaneGroup, rolePool + "one-md-0", rolePool + "gpu"} {
		wantEqual(t, "members of "+role, members[role], 1)
	}
	w.remove(w.machine("tenant", "gpu-0"))
	w.run("the pool's group gone", 5*time.Minute, func() bool {
		return w.sim.Objects().Total["server_groups"]+w.sim.Objects().Total["server-groups"]+w.sim.Objects().Total["os-server-groups"] == 2
	})
}

func TestAPoolMayHaveAServerGroupPolicyOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(nil)
	policy := func(name string, policy infrav1.ServerGroupPolicy) func(*infrav1.SendanMachine) {
		return func(m *infrav1.SendanMachine) {
			inPool(name)(m)
			m.Spec.ServerGroupPolicy = policy
		}
	}
	w.addMachine("tenant", "one", "apart-0", policy("apart", infrav1.AntiAffinity))
	w.addMachine("tenant", "one", "anywhere-0", policy("anywhere", infrav1.NoServerGroup))
	w.addMachine("tenant", "one", "same-0", policy("same", infrav1.SoftAntiAffinity))
	w.run("all ready", 20*time.Minute, w.allReady)
	policies := map[string]string{}
	for _, group := range w.seen().ServerGroupsOf(w.mark()) {
		policies[group.Mark.Role] = group.Policy
	}
	wantEqual(t, "policy of the pool that is kept apart", policies[rolePool+"apart.AntiAffinity"], "anti-affinity")
	wantEqual(t, "policy of the pool that says what the cluster says", policies[rolePool+"same"], "soft-anti-affinity")
	wantEqual(t, "server groups", len(policies), 4) // with those of the control plane and of its first pool
}

func TestNoServerGroupIsMadeWhenNoneIsWanted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(func(c *infrav1.SendanCluster) { c.Spec.ServerGroupPolicy = infrav1.NoServerGroup })
	wantEqual(t, "server groups", w.seen().Count(cloud.KindServerGroup), 0)
	for _, body := range w.bodies(http.MethodPost, "/servers", "") {
		if hints := body["os:scheduler_hints"]; hints != nil {
			t.Errorf("the scheduler is told %v", hints)
		}
	}
}

func TestAMachineBootsFromItsVolumeAndTakesItsVolumesWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", worker, func(m *infrav1.SendanMachine) {
		m.Spec.RootVolume = &infrav1.RootVolume{SizeGiB: 40, Type: "ssd"}
		m.Spec.Volumes = []infrav1.Volume{{Name: "etcd", SizeGiB: 10}}
	})
	w.run("all ready", 20*time.Minute, w.allReady)
	server := w.bodies(http.MethodPost, "/servers", "server")[0]
	if image, _ := server["imageRef"].(string); image != "" {
		t.Errorf("it boots from image %s", image)
	}
	byRole := map[string]cloud.Volume{}
	for _, volume := range w.seen().VolumesOf(w.markOf(worker)) {
		byRole[volume.Mark.Role] = volume
	}
	root, data := byRole[roleRootVolume], byRole[roleVolume+"data-etcd"]
	wantEqual(t, "size of the root volume", root.SizeGiB, 40)
	wantEqual(t, "type of the root volume", root.Type, "ssd")
	wantEqual(t, "size of the data volume", data.SizeGiB, 10)
	disks := asList(server["block_device_mapping_v2"])
	for i, want := range []struct {
		id    string
		index float64
	}{{root.ID, 0}, {data.ID, -1}} {
		if disk := disks[i]; disk["uuid"] != want.id || disk["boot_index"] != want.index || disk["delete_on_termination"] != true {
			t.Errorf("disk %d is %v", i, disk)
		}
	}
	w.gone()
	assertNothingLeft(t, w)
}

func TestAMachineWithoutAServerTakesItsVolumesWithIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.sim.SetQuota("demo", "instances", 0))
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", worker, func(m *infrav1.SendanMachine) {
		m.Spec.RootVolume = &infrav1.RootVolume{SizeGiB: 40}
		m.Spec.Ports = []infrav1.Port{{Trunk: ptr.To(true)}}
	})
	w.run("it fails", 20*time.Minute, func() bool { return w.machine("tenant", worker).Status.Phase == infrav1.PhaseFailed })
	wantEqual(t, "volumes", w.sim.Objects().Total["volumes"], 1)
	w.gone()
	assertNothingLeft(t, w)
}

func TestPortsAreMadeAsTheSpecSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addNamespace("tenant")
	network, _ := w.office()
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", worker, func(m *infrav1.SendanMachine) {
		m.Spec.Ports = []infrav1.Port{
			{Trunk: ptr.To(true), SecurityGroups: []infrav1.ResourceReference{{Name: "default"}}, AllowedAddressPairs: []infrav1.AddressPair{{IPAddress: "10.100.0.0/16"}}},
			{Network: infrav1.ResourceReference{Name: "office"}, VNICType: "direct", Profile: jsonOf(t, map[string]any{"capabilities": []string{"switchdev"}}), Subnets: []infrav1.ResourceReference{{Name: "office-2"}}},
			{Network: infrav1.ResourceReference{ID: network.ID}, PortSecurityDisabled: ptr.To(true)},
		}
	})
	w.run("all ready", 20*time.Minute, w.allReady)
	asked := w.bodies(http.MethodPost, "/ports", "port")
	if len(asked) != 3 {
		t.Fatalf("%d ports were asked for", len(asked))
	}
	snapshot, cluster := w.seen(), w.cluster("tenant", "one")
	byRole := map[string]cloud.Port{}
	for _, port := range snapshot.PortsOf(w.markOf(worker)) {
		byRole[port.Mark.Role] = port
	}
	first, second, third := byRole[portRole(0)], byRole[portRole(1)], byRole[portRole(2)]
	if first.TrunkID == "" || second.TrunkID != "" {
		t.Errorf("trunks %q and %q", first.TrunkID, second.TrunkID)
	}
	wantEqual(t, "security groups of the first", len(first.SecurityGroups), 2)
	if !slices.Contains(first.SecurityGroups, cluster.Status.Network.WorkerSecurityGroupID) {
		t.Error("the managed security group is not among them")
	}
	wantList(t, "pairs of the first", pairs(first), []string{"10.100.0.0/16"})
	wantEqual(t, "network of the second", second.NetworkID, network.ID)
	wantEqual(t, "kind of the second", asked[1]["binding:vnic_type"], any("direct"))
	if profile, _ := asked[1]["binding:profile"].(map[string]any); len(profile) != 1 || profile["capabilities"] == nil {
		t.Errorf("the profile sent is %v", asked[1]["binding:profile"])
	}
	if ip := second.FixedIPs[0].IPAddress; !strings.HasPrefix(ip, "10.8.2.") {
		t.Errorf("the second has address %s", ip)
	}
	wantEqual(t, "port security of the third", asked[2]["port_security_enabled"], any(false))
	wantEqual(t, "security groups of the third", len(third.SecurityGroups), 0)
	var order []string
	for _, nic := range asList(w.bodies(http.MethodPost, "/servers", "server")[0]["networks"]) {
		order = append(order, nic["port"].(string))
	}
	wantList(t, "order of the ports", order, []string{first.ID, second.ID, third.ID})
	wantEqual(t, "internal addresses", len(slices.DeleteFunc(slices.Clone(w.machine("tenant", worker).Status.Addresses), func(a clusterv1.MachineAddress) bool { return a.Type != clusterv1.MachineInternalIP })), 3)
	w.gone()
	wantEqual(t, "ports and trunks left", w.sim.Objects().Total["trunks"]+len(w.seen().PortsOf(cloud.Mark{})), 0)
}

func TestASecurityGroupThatIsMadeLaterIsFoundSoon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", worker, func(m *infrav1.SendanMachine) {
		m.Spec.Ports = []infrav1.Port{{SecurityGroups: []infrav1.ResourceReference{{Name: "storage"}}}}
	})
	w.run("it is told", 5*time.Minute, func() bool {
		c := w.condition(w.machine("tenant", worker), infrav1.ServerReadyCondition)
		return c.Reason == infrav1.ConfigReason && strings.Contains(c.Message, "storage") && strings.Contains(c.Message, "spec.ports[0]")
	})
	_, err := w.intruder().CreateSecurityGroup(context.Background(), cloud.SecurityGroupRequest{Name: "storage"})
	w.must(err)
	w.run("it is found", 3*time.Minute, w.allReady)
}

func TestWhatTheSpecSaysOfTheServerReachesNova(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one", func(c *infrav1.SendanCluster) { c.Spec.ProviderIDFormat = infrav1.ProviderIDRegional })
	w.addMachine("tenant", "one", worker, func(m *infrav1.SendanMachine) {
		m.Spec.KeyPair = "demo"
		m.Spec.ConfigDrive = ptr.To(true)
		m.Spec.SchedulerHints = jsonOf(t, map[string]any{"different_host": []string{"11111111-1111-4111-8111-111111111111"}})
		m.Spec.Metadata = []infrav1.KeyValue{{Key: "owner", Value: ptr.To("team-a")}, {Key: "empty", Value: ptr.To("")}}
	})
	w.run("all ready", 20*time.Minute, w.allReady)
	body := w.bodies(http.MethodPost, "/servers", "")[0]
	hints, _ := body["os:scheduler_hints"].(map[string]any)
	if hints["different_host"] == nil || hints["group"] == nil {
		t.Errorf("the scheduler is told %v", hints)
	}
	server, _ := body["server"].(map[string]any)
	metadata, _ := server["metadata"].(map[string]any)
	if empty, there := metadata["empty"]; metadata["owner"] != "team-a" || !there || empty != "" || metadata[cloud.MetadataCluster] == nil {
		t.Errorf("the metadata is %v", metadata)
	}
	wantEqual(t, "key pair", server["key_name"], any("demo"))
	wantEqual(t, "config drive", server["config_drive"], any(true))
	m := w.machine("tenant", worker)
	wantEqual(t, "provider id", m.Spec.ProviderID, "openstack://RegionOne/"+m.Status.Server.ID)
}

func TestUserDataThatNovaWouldRefuseIsToldBeforeAnythingIsMade(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", worker)
	secret := w.secret(worker)
	secret.Data["value"] = make([]byte, maxUserData*3/4+3)
	w.must(w.client.Update(context.Background(), secret))
	w.pass(10 * time.Minute)
	c := w.condition(w.machine("tenant", worker), infrav1.ServerReadyCondition)
	if c.Reason != infrav1.ConfigReason || !strings.Contains(c.Message, "65535") {
		t.Errorf("it says %s: %s", c.Reason, c.Message)
	}
	wantEqual(t, "servers asked for", len(w.bodies(http.MethodPost, "/servers", "server")), 0)
	secret.Data["value"] = make([]byte, maxUserData/4*3)
	w.must(w.client.Update(context.Background(), secret))
	w.run("all ready", 20*time.Minute, w.allReady)
}

func TestAMachineMayHaveCredentialsOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addNamespace("tenant")
	account, err := w.sim.CredentialAccount("demo")
	w.must(err)
	own := w.secret(secretName).DeepCopy()
	own.ObjectMeta = metav1.ObjectMeta{Namespace: "tenant", Name: "own"}
	own.Data = map[string][]byte{secretKeyClouds: account.CloudsYAML(w.url, "sim")}
	w.must(w.client.Create(context.Background(), own))
	ownIdentity := func(m *infrav1.SendanMachine) {
		m.Spec.IdentityRef = &infrav1.IdentityReference{Kind: infrav1.IdentitySecret, Name: "own", CloudName: "sim"}
	}
	w.addCluster("tenant", "one")
	w.run("cluster ready", 5*time.Minute, w.allReady)
	w.pass(time.Minute)
	w.addMachine("tenant", "one", worker, ownIdentity)
	w.run("all ready", 5*time.Minute, w.allReady)
	w.addMachine("tenant", "one", "one-cp-0", ownIdentity, controlPlane)
	w.run("all ready", 5*time.Minute, w.allReady)
	w.run("a member", 2*time.Minute, func() bool { return ptr.Deref(w.cluster("tenant", "one").Status.Endpoint.Members, 0) == 1 })
	w.gone()
	assertNothingLeft(t, w)
}

func TestInfrastructureIsTakenDownInTheOrderTheCloudInsistsOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(nil)
	w.sim.ResetCalls()
	w.gone()
	assertNothingLeft(t, w)
	order := []string{"/servers/", "/ports/", "/loadbalancers/", "/security-groups/", "/routers/", "/subnets/", "/networks/"}
	last := -1
	for _, call := range w.sim.CallLog() {
		if call.Method != http.MethodDelete {
			continue
		}
		i := slices.IndexFunc(order, func(part string) bool { return strings.Contains(call.URL, part) })
		if i >= 0 && i < last {
			t.Errorf("%s came after %s", call.URL, order[last])
		}
		last = max(last, i)
		if call.Status >= 400 {
			t.Errorf("the cloud refused to delete %s: %d", call.URL, call.Status)
		}
	}
}

func TestADeletionNamesTheStrangerInItsWayAndGoesOnWhenItIsGone(t *testing.T) {
	for _, c := range []struct {
		name     string
		existing bool
		groups   bool // the stranger uses the cluster's security group
	}{
		{"on the cluster's network", false, false},
		{"with the cluster's security group", false, true},
		{"with the cluster's security group on an existing network", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.addNamespace("tenant")
			var change func(*infrav1.SendanCluster)
			if c.existing {
				w.office()
				change = func(c *infrav1.SendanCluster) {
					c.Spec.Network = infrav1.ClusterNetwork{Existing: &infrav1.ExistingNetwork{Network: infrav1.ResourceReference{Name: "office"}}}
				}
			}
			before := w.sim.Objects().Total
			w.addCluster("tenant", "one", with(change)...)
			w.run("ready", 10*time.Minute, w.allReady)
			status := w.cluster("tenant", "one").Status
			request := cloud.PortRequest{Name: "printer", NetworkID: status.Network.ID}
			if c.groups {
				request.SecurityGroups = &[]string{status.Network.WorkerSecurityGroupID}
			}
			s := w.intruder()
			port, err := s.CreatePort(context.Background(), request)
			w.must(err)
			w.pass(15 * time.Minute)
			w.removeAll()
			w.run("the stranger is named", 10*time.Minute, func() bool {
				return strings.Contains(w.condition(w.cluster("tenant", "one"), infrav1.DeletingCondition).Message, port.ID+" (printer)")
			})
			w.sim.ResetCalls()
			w.polls = 0
			w.pass(30 * time.Minute)
			assertAtMost(t, w, "half an hour of waiting", w.ownCalls(), 8)
			w.must(s.DeletePort(context.Background(), port.ID))
			w.run("all gone", 2*strangerRecheck+10*time.Second, w.allGone) // a listing, and the look after it
			assertSame(t, w, before)
		})
	}
}

func TestPausedObjectsAreLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(nil)
	pause := func(paused bool) {
		cluster := &clusterv1.Cluster{}
		w.must(w.client.Get(context.Background(), client.ObjectKey{Namespace: "tenant", Name: "one"}, cluster))
		cluster.Spec.Paused = ptr.To(paused)
		w.must(w.client.Update(context.Background(), cluster))
		w.versions = map[string]string{} // the watch on Clusters
	}
	pause(true)
	w.settle()
	wantEqual(t, "the cluster's condition", w.condition(w.cluster("tenant", "one"), clusterv1.PausedCondition).Status, metav1.ConditionTrue)
	wantEqual(t, "the machine's condition", w.condition(w.machine("tenant", worker), clusterv1.PausedCondition).Status, metav1.ConditionTrue)
	w.resetCalls()
	w.change(func(c *infrav1.SendanCluster) { c.Spec.Network.Managed.DNSNameservers = []string{"192.0.2.53"} })
	w.addMachine("tenant", "one", "one-worker-1")
	w.remove(w.machine("tenant", worker))
	w.pass(30 * time.Minute)
	assertAtMost(t, w, "half an hour of pause", w.ownCalls(), 0)
	pause(false)
	w.run("the deletion", 10*time.Minute, func() bool { return len(w.machines()) == 2 && w.allReady() })
	wantList(t, "name servers", w.seen().SubnetsOf(w.mark())[0].DNSNameservers, []string{"192.0.2.53"})
	w.gone()
	assertNothingLeft(t, w)
}

// The patch is that of clusterctl, which replaces all annotations. It pauses the Cluster as well, but nothing must hang on
// the order in which it removes objects.
func TestWhatWasMovedToAnotherManagerStaysInTheCloud(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ready(nil)
	w.settle()
	w.resetCalls()
	for _, obj := range []client.Object{w.machine("tenant", worker), w.cluster("tenant", "one")} {
		patch := fmt.Sprintf(`[{"op": "add", "path": "/metadata/annotations", "value": {%q: ""}}]`, clusterctlv1.DeleteForMoveAnnotation)
		w.must(w.client.Patch(context.Background(), obj, client.RawPatch(types.JSONPatchType, []byte(patch))))
		w.remove(obj)
	}
	w.pass(30 * time.Minute)
	assertAtMost(t, w, "half an hour after the move", w.ownCalls(), 0)
	wantList(t, "the machine's finalizers, which clusterctl removes", w.machine("tenant", worker).Finalizers, []string{infrav1.MachineFinalizer})
	wantList(t, "the cluster's finalizers, which clusterctl removes", w.cluster("tenant", "one").Finalizers, []string{infrav1.ClusterFinalizer})
}

func TestAnExternallyManagedClusterIsNeverTouched(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one", func(c *infrav1.SendanCluster) { c.Annotations = map[string]string{clusterv1.ManagedByAnnotation: ""} })
	before := w.cluster("tenant", "one").ResourceVersion
	w.pass(20 * time.Minute)
	after := w.cluster("tenant", "one")
	wantEqual(t, "version of the object", after.ResourceVersion, before)
	wantEqual(t, "calls", w.sim.TotalCalls(), 0)
	if len(after.Finalizers) > 0 {
		t.Errorf("it has the finalizers %v", after.Finalizers)
	}
}

func TestNothingIsDoneBeforeTheOwnersAreKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one", func(c *infrav1.SendanCluster) { c.OwnerReferences = nil })
	w.addMachine("tenant", "one", worker, func(m *infrav1.SendanMachine) { m.OwnerReferences = nil })
	w.pass(20 * time.Minute)
	wantEqual(t, "calls", w.sim.TotalCalls(), 0)
	if found := slices.Concat(w.cluster("tenant", "one").Finalizers, w.machine("tenant", worker).Finalizers); len(found) > 0 {
		t.Errorf("there are the finalizers %v", found)
	}
}

func TestNotesOfLostCallsAreDroppedOnceEverythingIsThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, post := range posts {
		w.must(w.sim.AddFault(lostReply(post.service, post.path)))
	}
	w.creating("tenant", "one")
	w.run("all ready", 30*time.Minute, w.allReady)
	w.pass(30 * time.Minute)
	wantEqual(t, "notes of the cluster", len(w.cluster("tenant", "one").Status.Attempts), 0)
	for _, m := range w.machines() {
		wantEqual(t, "notes of "+m.Name, len(m.Status.Attempts), 0)
	}
}

func lostReply(service, path string) simulator.Fault {
	return simulator.Fault{Name: path, Service: service, Method: http.MethodPost, Path: path, AfterEffect: true, Status: http.StatusBadGateway}
}

func jsonOf(t *testing.T, value any) *apiextensionsv1.JSON {
	t.Helper()
	raw, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return &apiextensionsv1.JSON{Raw: raw}
}

func (w *world) secret(name string) *corev1.Secret {
	w.t.Helper()
	secret := &corev1.Secret{}
	w.must(w.client.Get(context.Background(), client.ObjectKey{Namespace: "tenant", Name: name}, secret))
	return secret
}

// resetVolume puts a volume into a state as Cinder's administrator.
func (w *world) resetVolume(id, status string) {
	w.t.Helper()
	account, err := w.sim.Account("admin", "demo")
	w.must(err)
	login := `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"` + account.User + `","password":"` + account.Password + `","domain":{"name":"Default"}}}},"scope":{"project":{"id":"` + account.ProjectID + `"}}}}`
	answer, err := http.Post(w.url+"/identity/v3/auth/tokens", "application/json", strings.NewReader(login))
	w.must(err)
	w.must(answer.Body.Close())
	request, err := http.NewRequestWithContext(context.Background(), http.MethodPost, w.url+"/volume/v3/"+account.ProjectID+"/volumes/"+id+"/action", strings.NewReader(`{"os-reset_status":{"status":"`+status+`"}}`))
	w.must(err)
	request.Header.Set("X-Auth-Token", answer.Header.Get("X-Subject-Token"))
	request.Header.Set("Content-Type", "application/json")
	answer, err = http.DefaultClient.Do(request)
	w.must(err)
	w.must(answer.Body.Close())
	if answer.StatusCode != http.StatusAccepted {
		w.t.Fatalf("reset volume %s: %s", id, answer.Status)
	}
}

func TestAVolumeThatFailsIsMadeAgainWithGrowingPatience(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *simulator.Scenario) { s.Latency.VolumeCreate = simulator.Exactly(30 * time.Second) })
	w.addCluster("tenant", "one")
	w.run("cluster ready", 10*time.Minute, w.allReady)
	w.addMachine("tenant", "one", worker, func(m *infrav1.SendanMachine) { m.Spec.RootVolume = &infrav1.RootVolume{SizeGiB: 20} })
	failed := map[string]bool{}
	fail := func() {
		for _, volume := range w.seen().VolumesOf(w.markOf(worker)) {
			if volume.Status == "creating" && !failed[volume.ID] {
				failed[volume.ID] = true
				w.resetVolume(volume.ID, "error")
			}
		}
	}
	began := w.clock.Now()
	w.run("four volumes fail", 30*time.Minute, func() bool { fail(); return len(failed) == 4 })
	// Ten seconds, twenty and forty, besides the time it takes to see a failure.
	if took := w.clock.Since(began); took < 70*time.Second {
		t.Errorf("four volumes failed within %s", took)
	}
	w.run("all ready", 30*time.Minute, w.allReady)
	wantEqual(t, "volumes", w.sim.Objects().Total["volumes"], 1)
	wantEqual(t, "notes", len(w.machine("tenant", worker).Status.Attempts), 0)
	w.gone()
	assertNothingLeft(t, w)
}
