package simulator_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/listeners"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/loadbalancers"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/monitors"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/pools"
	"github.com/gophercloud/gophercloud/v2/openstack/loadbalancer/v2/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// settled is longer than any operation of the default scenario, heartbeat included.
const settled = 10 * time.Second

// apiBalancer is a load balancer with one listener, pool, monitor and the members given.
func apiBalancer(name, subnetID string, members ...pools.CreateMemberOpts) loadbalancers.CreateOpts {
	return loadbalancers.CreateOpts{
		Name: name, Description: "mine", VipSubnetID: subnetID, Tags: []string{"a", "b"},
		Listeners: []listeners.CreateOpts{{
			Name: "api", Protocol: listeners.ProtocolTCP, ProtocolPort: 6443,
			DefaultPool: &pools.CreateOpts{
				Name: "control-plane", Protocol: pools.ProtocolTCP, LBMethod: pools.LBMethodRoundRobin, Members: members,
				Monitor: monitors.CreateOpts{Type: monitors.TypeTCP, Delay: 5, Timeout: 2, MaxRetries: 2, MaxRetriesDown: 2},
			},
		}},
	}
}

func (c *networkCloud) balancer(opts loadbalancers.CreateOpts) *loadbalancers.LoadBalancer {
	c.t.Helper()
	return must[*loadbalancers.LoadBalancer](c.t)(loadbalancers.Create(c.ctx(), c.octavia, opts).Extract())
}

func (c *networkCloud) getBalancer(id string) *loadbalancers.LoadBalancer {
	c.t.Helper()
	return must[*loadbalancers.LoadBalancer](c.t)(loadbalancers.Get(c.ctx(), c.octavia, id).Extract())
}

func TestAWholeTreeIsMadeInOneCall(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	sub := cloud.subnet(net, "10.6.0.0/24")
	p := cloud.port(net)
	made := cloud.balancer(apiBalancer("lb", sub.ID, pools.CreateMemberOpts{Name: "cp-0", Address: p.FixedIPs[0].IPAddress, ProtocolPort: 6443, SubnetID: sub.ID}))
	if made.ProvisioningStatus != "PENDING_CREATE" || made.OperatingStatus != "OFFLINE" || made.Provider != "amphora" || made.VipAddress == "" {
		t.Errorf("new load balancer %+v", made)
	}
	pool := made.Listeners[0].DefaultPool
	if pool == nil || len(pool.Members) != 1 || pool.Members[0].Name != "cp-0" || pool.Monitor.Type != "TCP" || made.Listeners[0].ConnLimit != -1 {
		t.Fatalf("tree %+v", made.Listeners)
	}
	vip := must[*ports.Port](t)(ports.Get(cloud.ctx(), cloud.neutron, made.VipPortID).Extract())
	if vip.DeviceOwner != "Octavia" || vip.DeviceID != "lb-"+made.ID || vip.Name != "octavia-lb-"+made.ID {
		t.Errorf("VIP port %+v", vip)
	}
	cloud.pass(settled)
	cloud.pass(settled)
	lb := cloud.getBalancer(made.ID)
	if lb.ProvisioningStatus != "ACTIVE" || lb.OperatingStatus != "ONLINE" || fmt.Sprint(lb.Tags) != "[a b]" || lb.UpdatedAt.IsZero() {
		t.Errorf("settled load balancer %+v", lb)
	}
	tree := must[*loadbalancers.StatusTree](t)(loadbalancers.GetStatuses(cloud.ctx(), cloud.octavia, lb.ID).Extract())
	branch := tree.Loadbalancer.Listeners[0]
	if branch.OperatingStatus != "ONLINE" || branch.Pools[0].Members[0].OperatingStatus != "ONLINE" || branch.Pools[0].Members[0].Address != p.FixedIPs[0].IPAddress {
		t.Errorf("status tree %+v", tree.Loadbalancer)
	}
	vip = must[*ports.Port](t)(ports.Get(cloud.ctx(), cloud.neutron, made.VipPortID).Extract())
	if vip.Status != "DOWN" {
		t.Errorf("the VIP port is %s, a real one stays DOWN", vip.Status)
	}
	monitor := must[*monitors.Monitor](t)(monitors.Get(cloud.ctx(), cloud.octavia, pool.Monitor.ID).Extract())
	if monitor.Delay != 5 || monitor.MaxRetriesDown != 2 || monitor.Pools[0].ID != pool.ID {
		t.Errorf("monitor %+v", monitor)
	}
	cascaded(cloud, lb.ID)
}

// cascaded deletes a load balancer with all it has and looks for leftovers.
func cascaded(cloud *networkCloud, id string) {
	cloud.t.Helper()
	if err := loadbalancers.Delete(cloud.ctx(), cloud.octavia, id, loadbalancers.DeleteOpts{Cascade: true}).ExtractErr(); err != nil {
		cloud.t.Fatal(err)
	}
	if lb := cloud.getBalancer(id); lb.ProvisioningStatus != "PENDING_DELETE" {
		cloud.t.Errorf("deleted load balancer is %s", lb.ProvisioningStatus)
	}
	cloud.expect("DELETE", "/load-balancer/v2/lbaas/loadbalancers/"+id+"?cascade=true", "", http.StatusConflict, "is immutable and cannot be updated.")
	cloud.pass(settled)
	cloud.expect("GET", "/load-balancer/v2.0/lbaas/loadbalancers/"+id, "", http.StatusNotFound, `"faultstring":"Load Balancer `+id+` not found."`)
	for _, kind := range []string{"loadbalancers", "listeners", "pools", "members", "healthmonitors"} {
		if count := cloud.sim.Objects().Total[kind]; count != 0 {
			cloud.t.Errorf("%d %s are left", count, kind)
		}
	}
}

func TestAPendingOrFailedTreeIsImmutable(t *testing.T) {
	cloud := startNetworkCloud(t)
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	lb := cloud.balancer(apiBalancer("lb", sub.ID))
	pool := lb.Listeners[0].DefaultPool.ID
	refused := func(why string) {
		t.Helper()
		text := `{"debuginfo":null,"faultcode":"Client","faultstring":"Load Balancer ` + lb.ID + ` is immutable and cannot be updated."}`
		for _, request := range []struct{ method, path, body string }{
			{"PUT", "loadbalancers/" + lb.ID, `{"loadbalancer":{"name":"x"}}`},
			{"POST", "listeners", `{"listener":{"loadbalancer_id":"` + lb.ID + `","protocol":"TCP","protocol_port":80}}`},
			{"PUT", "listeners/" + lb.Listeners[0].ID, `{"listener":{"allowed_cidrs":["10.0.0.0/8"]}}`},
			{"PUT", "pools/" + pool + "/members", `{"members":[]}`},
			{"POST", "pools/" + pool + "/members", `{"member":{"address":"10.6.0.9","protocol_port":1}}`},
			{"DELETE", "pools/" + pool, ""},
		} {
			t.Run(why+" "+request.method+" "+request.path, func(t *testing.T) {
				seen := *cloud
				seen.t = t
				seen.expect(request.method, "/load-balancer/v2/lbaas/"+request.path, request.body, http.StatusConflict, text)
			})
		}
	}
	refused("pending")
	cloud.pass(settled)
	if err := cloud.sim.SetLoadBalancer(lb.ID, simulator.LoadBalancerChange{ProvisioningStatus: "ERROR"}); err != nil {
		t.Fatal(err)
	}
	refused("failed")
	cloud.pass(settled)
	if got := cloud.getBalancer(lb.ID).ProvisioningStatus; got != "ERROR" {
		t.Errorf("a failed load balancer became %s by itself", got)
	}
	if err := loadbalancers.Failover(cloud.ctx(), cloud.octavia, lb.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
	cloud.pass(settled)
	if got := cloud.getBalancer(lb.ID).ProvisioningStatus; got != "ACTIVE" {
		t.Errorf("after the failover it is %s", got)
	}
	cascaded(cloud, lb.ID)
}

func TestAStuckLoadBalancerStaysPending(t *testing.T) {
	cloud := startNetworkCloud(t)
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	lb := cloud.balancer(apiBalancer("lb", sub.ID))
	if err := cloud.sim.SetLoadBalancer(lb.ID, simulator.LoadBalancerChange{ProvisioningStatus: "PENDING_UPDATE"}); err != nil {
		t.Fatal(err)
	}
	cloud.pass(10 * time.Minute)
	if got := cloud.getBalancer(lb.ID).ProvisioningStatus; got != "PENDING_UPDATE" {
		t.Errorf("a stuck load balancer became %s", got)
	}
	if err := cloud.sim.SetLoadBalancer(lb.ID, simulator.LoadBalancerChange{Lost: true}); err != nil {
		t.Fatal(err)
	}
	cloud.expect("GET", "/load-balancer/v2/lbaas/loadbalancers/"+lb.ID, "", 404, "not found")
}

func TestMembersAreReplacedAsOneSet(t *testing.T) {
	cloud := startNetworkCloud(t)
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	lb := cloud.balancer(apiBalancer("lb", sub.ID, pools.CreateMemberOpts{Address: "10.6.0.10", ProtocolPort: 6443}, pools.CreateMemberOpts{Address: "10.6.0.11", ProtocolPort: 6443}))
	pool := lb.Listeners[0].DefaultPool
	cloud.pass(settled)
	cloud.pass(settled)
	before := cloud.getBalancer(lb.ID).UpdatedAt
	cloud.pass(time.Second) // Octavia's times have no fractions
	kept := pool.Members[1]
	name := "renamed"
	err := pools.BatchUpdateMembers(cloud.ctx(), cloud.octavia, pool.ID, []pools.BatchUpdateMemberOpts{
		{Address: "10.6.0.11", ProtocolPort: 6443, Name: &name}, {Address: "10.6.0.12", ProtocolPort: 6443},
	}).ExtractErr()
	if err != nil {
		t.Fatal(err)
	}
	if got := cloud.getBalancer(lb.ID); got.ProvisioningStatus != "PENDING_UPDATE" || !got.UpdatedAt.After(before) {
		t.Errorf("during the change it is %s, updated %s (before %s)", got.ProvisioningStatus, got.UpdatedAt, before)
	}
	cloud.pass(settled)
	pages, err := pools.ListMembers(cloud.octavia, pool.ID, nil).AllPages(cloud.ctx())
	if err != nil {
		t.Fatal(err)
	}
	members := must[[]pools.Member](t)(pools.ExtractMembers(pages))
	if len(members) != 2 || members[0].ID != kept.ID || members[0].Name != "renamed" || members[1].Address != "10.6.0.12" {
		t.Errorf("members %+v", members)
	}
	if count := cloud.sim.Objects().Total["members"]; count != 2 {
		t.Errorf("%d members are counted", count)
	}
	cloud.expect("PUT", "/load-balancer/v2/lbaas/pools/"+pool.ID+"/members?additive_only=true", `{"members":[{"address":"10.6.0.13","protocol_port":6443}]}`, 202, "")
	cloud.pass(settled)
	if count := cloud.sim.Objects().Total["members"]; count != 3 {
		t.Errorf("%d members after an addition", count)
	}
}

func TestATreeIsBuiltAndTakenDownPieceByPiece(t *testing.T) {
	cloud := startNetworkCloud(t)
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	lb := cloud.balancer(loadbalancers.CreateOpts{Name: "lb", VipSubnetID: sub.ID})
	cloud.pass(settled)
	listener := must[*listeners.Listener](t)(listeners.Create(cloud.ctx(), cloud.octavia, listeners.CreateOpts{LoadbalancerID: lb.ID, Protocol: listeners.ProtocolTCP, ProtocolPort: 80}).Extract())
	cloud.pass(settled)
	pool := must[*pools.Pool](t)(pools.Create(cloud.ctx(), cloud.octavia, pools.CreateOpts{ListenerID: listener.ID, Protocol: pools.ProtocolTCP, LBMethod: pools.LBMethodRoundRobin}).Extract())
	cloud.pass(settled)
	member := must[*pools.Member](t)(pools.CreateMember(cloud.ctx(), cloud.octavia, pool.ID, pools.CreateMemberOpts{Address: "10.6.0.9", ProtocolPort: 80}).Extract())
	cloud.pass(settled)
	if got := must[*pools.Member](t)(pools.GetMember(cloud.ctx(), cloud.octavia, pool.ID, member.ID).Extract()).OperatingStatus; got != "NO_MONITOR" {
		t.Errorf("a member without monitor is %s", got)
	}
	monitor := must[*monitors.Monitor](t)(monitors.Create(cloud.ctx(), cloud.octavia, monitors.CreateOpts{PoolID: pool.ID, Type: "TCP", Delay: 5, Timeout: 2, MaxRetries: 1}).Extract())
	cloud.pass(settled)
	cloud.pass(settled)
	if got := cloud.getBalancer(lb.ID).OperatingStatus; got != "ERROR" {
		t.Errorf("with its only member at an address nobody has the load balancer is %s", got)
	}
	cloud.expect("DELETE", "/load-balancer/v2/lbaas/loadbalancers/"+lb.ID, "", 400, "Validation failure: Cannot delete Load Balancer "+lb.ID+" - it has children")
	for _, path := range []string{"healthmonitors/" + monitor.ID, "pools/" + pool.ID + "/members/" + member.ID, "pools/" + pool.ID, "listeners/" + listener.ID, "loadbalancers/" + lb.ID} {
		cloud.expect("DELETE", "/load-balancer/v2/lbaas/"+path, "", 204, "")
		cloud.pass(settled)
		cloud.expect("GET", "/load-balancer/v2/lbaas/"+path, "", 404, "not found")
	}
}

func TestOctaviaRefusesInItsOwnWords(t *testing.T) {
	cloud := startNetworkCloud(t)
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	lb := cloud.balancer(apiBalancer("lb", sub.ID, pools.CreateMemberOpts{Address: "10.6.0.10", ProtocolPort: 6443}))
	pool := lb.Listeners[0].DefaultPool.ID
	cloud.pass(settled)
	for _, test := range []struct {
		name, path, body string
		status           int
		fault            string
	}{
		{"no VIP", "loadbalancers", `{"loadbalancer":{}}`, 400, "Validation failure: VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id."},
		{"unknown subnet", "loadbalancers", `{"loadbalancer":{"vip_subnet_id":"nope"}}`, 400, "Subnet nope not found."},
		{"unknown provider", "loadbalancers", `{"loadbalancer":{"vip_subnet_id":"` + sub.ID + `","provider":"f5"}}`, 400, "Provider 'f5' is not enabled."},
		{"unknown attribute", "loadbalancers", `{"loadbalancer":{"vip_subnet_id":"` + sub.ID + `","shade":"red"}}`, 400, `Unknown attribute:\nshade`},
		{"bad listener in a tree", "loadbalancers", `{"loadbalancer":{"vip_subnet_id":"` + sub.ID + `","listeners":[{"protocol":"TCP"}]}}`, 400, "Invalid input for field/attribute protocol_port. Value: 'None'. Mandatory field missing."},
		{"CIDR of the wrong family", "loadbalancers", `{"loadbalancer":{"vip_subnet_id":"` + sub.ID + `","listeners":[{"protocol":"TCP","protocol_port":1,"allowed_cidrs":["fd00::/8"]}]}}`, 400, "The allowed CIDR fd00::/8 must be of the IP version of the VIP"},
		{"unknown load balancer", "listeners", `{"listener":{"loadbalancer_id":"nope","protocol":"TCP","protocol_port":80}}`, 404, "Load Balancer nope not found."},
		{"port of a listener taken", "listeners", `{"listener":{"loadbalancer_id":"` + lb.ID + `","protocol":"TCP","protocol_port":6443}}`, 409, "Another Listener on this Load Balancer is already using protocol_port 6443"},
		{"protocols that do not fit", "listeners", `{"listener":{"loadbalancer_id":"` + lb.ID + `","protocol":"UDP","protocol_port":53,"default_pool_id":"` + pool + `"}}`, 400, "The pool protocol 'TCP' is invalid while the listener protocol is 'UDP'."},
		{"member twice", "pools/" + pool + "/members", `{"member":{"address":"10.6.0.10","protocol_port":6443}}`, 409, "Another member on this pool is already using ip 10.6.0.10 on protocol_port 6443"},
		{"member with garbage", "pools/" + pool + "/members", `{"member":{"address":"ten","protocol_port":6443}}`, 400, "Invalid input for field/attribute address. Value: 'ten'."},
		{"second monitor", "healthmonitors", `{"healthmonitor":{"pool_id":"` + pool + `","type":"TCP","delay":5,"timeout":5,"max_retries":3}}`, 409, "This pool already has a health monitor"},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen := *cloud
			seen.t = t
			before := fmt.Sprint(cloud.sim.Objects())
			seen.expect("POST", "/load-balancer/v2/lbaas/"+test.path, test.body, test.status, test.fault)
			if after := fmt.Sprint(cloud.sim.Objects()); after != before {
				t.Errorf("a refused request changed the cloud from %s to %s", before, after)
			}
			if got := seen.getBalancer(lb.ID).ProvisioningStatus; got != "ACTIVE" {
				t.Errorf("a refused request made the load balancer %s", got)
			}
		})
	}
}

func TestOctaviaNeedsItsRole(t *testing.T) {
	cloud := startNetworkCloud(t, func(o *simulator.Options) {
		scenario := simulator.DefaultScenario()
		scenario.Users = append(scenario.Users, simulator.User{Name: "plain", Password: "plain", Roles: map[string][]string{"demo": {"member"}}})
		o.Scenario = &scenario
	})
	plain := cloud.as("plain", "demo")
	plain.expect("GET", "/load-balancer/v2/lbaas/loadbalancers", "", http.StatusForbidden, `"faultstring":"Policy does not allow this request to be performed."`)
}

func TestOctaviaQuotasCountTheWholeTree(t *testing.T) {
	cloud := startNetworkCloud(t, func(o *simulator.Options) {
		scenario := simulator.DefaultScenario()
		scenario.Quotas = map[string]int{"member": 1, "loadbalancer": 1}
		o.Scenario = &scenario
	})
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	_, err := loadbalancers.Create(cloud.ctx(), cloud.octavia, apiBalancer("lb", sub.ID, pools.CreateMemberOpts{Address: "10.6.0.10", ProtocolPort: 1}, pools.CreateMemberOpts{Address: "10.6.0.11", ProtocolPort: 1})).Extract()
	if !gophercloud.ResponseCodeIs(err, 403) || !strings.Contains(err.Error(), "Quota has been met for resources: Member") {
		t.Fatalf("two members: %v", err)
	}
	lb := cloud.balancer(apiBalancer("lb", sub.ID))
	_, err = loadbalancers.Create(cloud.ctx(), cloud.octavia, apiBalancer("lb", sub.ID)).Extract()
	if !gophercloud.ResponseCodeIs(err, 403) || !strings.Contains(err.Error(), "Quota has been met for resources: Load Balancer") {
		t.Errorf("second load balancer: %v", err)
	}
	got := must[*quotas.Quota](t)(quotas.Get(cloud.ctx(), cloud.octavia, lb.ProjectID).Extract())
	if got.Loadbalancer != 1 || got.Member != 1 {
		t.Errorf("quotas %+v", got)
	}
}

// The cloud-controller-manager removes the listeners that it finds this way and did not ask for.
func TestChildrenAreListedByTheirParent(t *testing.T) {
	cloud := startNetworkCloud(t)
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	for _, lb := range []*loadbalancers.LoadBalancer{cloud.balancer(apiBalancer("one", sub.ID)), cloud.balancer(apiBalancer("two", sub.ID))} {
		own := lb.Listeners[0]
		ofBalancer := must[[]listeners.Listener](t)(listeners.ExtractListeners(
			must[pagination.Page](t)(listeners.List(cloud.octavia, listeners.ListOpts{LoadbalancerID: lb.ID}).AllPages(cloud.ctx()))))
		if len(ofBalancer) != 1 || ofBalancer[0].ID != own.ID {
			t.Errorf("listeners of %s are %+v", lb.Name, ofBalancer)
		}
		poolsOfBalancer := must[[]pools.Pool](t)(pools.ExtractPools(
			must[pagination.Page](t)(pools.List(cloud.octavia, pools.ListOpts{LoadbalancerID: lb.ID}).AllPages(cloud.ctx()))))
		if len(poolsOfBalancer) != 1 || poolsOfBalancer[0].ID != own.DefaultPool.ID {
			t.Errorf("pools of %s are %+v", lb.Name, poolsOfBalancer)
		}
		ofPool := must[[]monitors.Monitor](t)(monitors.ExtractMonitors(
			must[pagination.Page](t)(monitors.List(cloud.octavia, monitors.ListOpts{PoolID: own.DefaultPool.ID}).AllPages(cloud.ctx()))))
		if len(ofPool) != 1 || ofPool[0].ID != own.DefaultPool.Monitor.ID {
			t.Errorf("monitors of %s are %+v", lb.Name, ofPool)
		}
	}
}

func TestLoadBalancersAreListedInPagesAndByFilter(t *testing.T) {
	cloud := startNetworkCloud(t)
	sub := cloud.subnet(cloud.network("n"), "10.6.0.0/24")
	for i := range 5 {
		cloud.balancer(loadbalancers.CreateOpts{Name: fmt.Sprint("lb", i), VipSubnetID: sub.ID, Description: fmt.Sprint("d", i), Tags: []string{fmt.Sprint("t", i)}})
	}
	pages, err := loadbalancers.List(cloud.octavia, loadbalancers.ListOpts{Limit: 2}).AllPages(cloud.ctx())
	if err != nil {
		t.Fatal(err)
	}
	if found := must[[]loadbalancers.LoadBalancer](t)(loadbalancers.ExtractLoadBalancers(pages)); len(found) != 5 || found[4].Name != "lb4" {
		t.Errorf("pages lead to %+v", found)
	}
	for _, opts := range []loadbalancers.ListOpts{{Name: "lb3"}, {Description: "d3"}, {Tags: []string{"t3"}}, {VipAddress: cloud.named("lb3").VipAddress}} {
		pages, err := loadbalancers.List(cloud.octavia, opts).AllPages(cloud.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if found := must[[]loadbalancers.LoadBalancer](t)(loadbalancers.ExtractLoadBalancers(pages)); len(found) != 1 || found[0].Name != "lb3" {
			t.Errorf("%+v finds %+v", opts, found)
		}
	}
}

func (c *networkCloud) named(name string) loadbalancers.LoadBalancer {
	c.t.Helper()
	pages, err := loadbalancers.List(c.octavia, loadbalancers.ListOpts{Name: name}).AllPages(c.ctx())
	if err != nil {
		c.t.Fatal(err)
	}
	found := must[[]loadbalancers.LoadBalancer](c.t)(loadbalancers.ExtractLoadBalancers(pages))
	if len(found) != 1 {
		c.t.Fatalf("%d load balancers are named %s", len(found), name)
	}
	return found[0]
}
