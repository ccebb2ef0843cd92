package simulator_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/attributestags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/floatingips"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/layer3/routers"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/quotas"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/groups"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/security/rules"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/extensions/trunks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/subnets"

	"github.com/sendan-io/sendan/cloud/simulator"
)

func TestAPortGetsAnAddressAMACAndTheDefaultGroup(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	sub := cloud.subnet(net, "10.6.0.0/24")
	if sub.GatewayIP != "10.6.0.1" || fmt.Sprint(sub.AllocationPools) != "[{10.6.0.2 10.6.0.254}]" {
		t.Fatalf("gateway %s, pools %v", sub.GatewayIP, sub.AllocationPools)
	}
	first, second := cloud.port(net), cloud.port(net)
	if first.FixedIPs[0].IPAddress != "10.6.0.2" || second.FixedIPs[0].IPAddress != "10.6.0.3" {
		t.Errorf("addresses %v and %v", first.FixedIPs, second.FixedIPs)
	}
	if first.MACAddress == second.MACAddress || first.Status != "DOWN" || len(first.SecurityGroups) != 1 {
		t.Errorf("port %+v", first)
	}
	group := must[*groups.SecGroup](t)(groups.Get(cloud.ctx(), cloud.neutron, first.SecurityGroups[0]).Extract())
	if group.Name != "default" || len(group.Rules) != 4 {
		t.Errorf("group %s has %d rules", group.Name, len(group.Rules))
	}
}

func TestAFreedAddressRestsBeforeItIsUsedAgain(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	cloud.subnet(net, "10.6.0.0/29") // .2 to .6
	gone := cloud.port(net)
	if err := ports.Delete(cloud.ctx(), cloud.neutron, gone.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 5 {
		got = append(got, cloud.port(net).FixedIPs[0].IPAddress)
	}
	if want := []string{"10.6.0.3", "10.6.0.4", "10.6.0.5", "10.6.0.6", "10.6.0.2"}; !slices.Equal(got, want) {
		t.Errorf("addresses %v, want %v", got, want)
	}
	cloud.expect("POST", "/network/v2.0/ports", `{"port":{"network_id":"`+net.ID+`"}}`, http.StatusConflict, "No more IP addresses available on network "+net.ID)
}

func TestADualStackPortGetsOneAddressOfEachFamily(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	must[*subnets.Subnet](t)(subnets.Create(cloud.ctx(), cloud.neutron, subnets.CreateOpts{
		NetworkID: net.ID, CIDR: "fd00:6::/64", IPVersion: gophercloud.IPv6, IPv6AddressMode: "slaac", IPv6RAMode: "slaac",
	}).Extract())
	cloud.subnet(net, "10.6.0.0/24")
	p := cloud.port(net)
	if len(p.FixedIPs) != 2 || p.FixedIPs[0].IPAddress != "10.6.0.2" || !strings.HasPrefix(p.FixedIPs[1].IPAddress, "fd00:6::f816:3eff:fe") {
		t.Errorf("addresses %v of MAC %s", p.FixedIPs, p.MACAddress)
	}
}

func TestAPortBecomesActiveOnlyAfterItIsBound(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	cloud.subnet(net, "10.6.0.0/24")
	p := cloud.port(net)
	cloud.pass(time.Minute)
	status := func() string {
		return must[*ports.Port](t)(ports.Get(cloud.ctx(), cloud.neutron, p.ID).Extract()).Status
	}
	if got := status(); got != "DOWN" {
		t.Fatalf("an unbound port is %s", got)
	}
	admin := cloud.as("admin", "admin")
	admin.expect("PUT", "/network/v2.0/ports/"+p.ID, `{"port":{"binding:host_id":"cpu-az1-1","device_id":"s","device_owner":"compute:az1"}}`, 200, `"binding:host_id":"cpu-az1-1"`)
	if got := status(); got != "DOWN" {
		t.Fatalf("the port is %s before the agent plugged it", got)
	}
	cloud.pass(2 * time.Second)
	if got := status(); got != "ACTIVE" {
		t.Errorf("the bound port is %s", got)
	}
	if answer := cloud.expect("GET", "/network/v2.0/ports/"+p.ID, "", 200, p.ID); strings.Contains(answer, "binding:host_id") {
		t.Errorf("a project sees the binding: %s", answer)
	}
}

func TestNeutronRefusesInItsOwnWords(t *testing.T) {
	cloud := startNetworkCloud(t)
	net, sub, router := cloud.routed("10.6.0.0/24")
	p := cloud.port(net)
	group := must[*groups.SecGroup](t)(groups.Create(cloud.ctx(), cloud.neutron, groups.CreateOpts{Name: "g"}).Extract())
	public := cloud.public()
	rule := func(rest string) string {
		return `{"security_group_rule":{"security_group_id":"` + group.ID + `","direction":"ingress"` + rest + `}}`
	}
	for _, test := range []struct {
		name, method, path, body string
		status                   int
		kind, message            string
	}{
		{"unknown network", "GET", "networks/nope", "", 404, "NetworkNotFound", "Network nope could not be found."},
		{"network in use", "DELETE", "networks/" + net.ID, "", 409, "NetworkInUse", "Unable to complete operation on network " + net.ID + ". There are one or more ports still in use on the network"},
		{"shared network", "POST", "networks", `{"network":{"shared":true}}`, 403, "PolicyNotAuthorized", "rule:create_network and rule:create_network:shared is disallowed by policy"},
		{"unknown attribute", "POST", "networks", `{"network":{"shade":"red"}}`, 400, "HTTPBadRequest", "Unrecognized attribute(s) 'shade'"},
		{"read-only attribute", "PUT", "networks/" + net.ID, `{"network":{"status":"DOWN"}}`, 400, "HTTPBadRequest", "Cannot update read-only attribute status"},
		{"someone else's project", "POST", "networks", `{"network":{"project_id":"x"}}`, 400, "HTTPBadRequest", "requires admin privileges"},
		{"huge MTU", "POST", "networks", `{"network":{"mtu":90000}}`, 400, "InvalidInput", "Requested MTU is too big"},
		{"foreign network", "DELETE", "networks/" + public, "", 403, "PolicyNotAuthorized", "rule:delete_network is disallowed by policy"},
		{"overlapping subnet", "POST", "subnets", `{"subnet":{"network_id":"` + net.ID + `","ip_version":4,"cidr":"10.6.0.128/25"}}`, 400, "InvalidInput", "Invalid input for operation: Requested subnet with cidr: 10.6.0.128/25 for network: " + net.ID + " overlaps with another subnet."},
		{"garbage CIDR", "POST", "subnets", `{"subnet":{"network_id":"` + net.ID + `","ip_version":4,"cidr":"10.6.0.0/99"}}`, 400, "HTTPBadRequest", "Invalid input for cidr. Reason: '10.6.0.0/99' is not a valid IP subnet."},
		{"host bits", "POST", "subnets", `{"subnet":{"network_id":"` + net.ID + `","ip_version":4,"cidr":"10.7.0.1/24"}}`, 400, "HTTPBadRequest", "'10.7.0.0/24' is recommended"},
		{"gateway in pool", "POST", "subnets", `{"subnet":{"network_id":"` + net.ID + `","ip_version":4,"cidr":"10.7.0.0/24","allocation_pools":[{"start":"10.7.0.1","end":"10.7.0.9"}]}}`, 409, "GatewayConflictWithAllocationPools", "Gateway ip 10.7.0.1 conflicts with allocation pool 10.7.0.1-10.7.0.9."},
		{"subnet in use", "DELETE", "subnets/" + sub.ID, "", 409, "SubnetInUse", "One or more ports have an IP allocation from this subnet."},
		{"address taken", "POST", "ports", `{"port":{"network_id":"` + net.ID + `","fixed_ips":[{"ip_address":"10.6.0.2"}]}}`, 409, "IpAddressAlreadyAllocated", "IP address 10.6.0.2 already allocated in subnet " + sub.ID},
		{"address of no subnet", "POST", "ports", `{"port":{"network_id":"` + net.ID + `","fixed_ips":[{"ip_address":"192.0.2.1"}]}}`, 400, "InvalidIpForNetwork", "IP address 192.0.2.1 is not a valid IP for any of the subnets"},
		{"MAC taken", "POST", "ports", `{"port":{"network_id":"` + net.ID + `","mac_address":"` + p.MACAddress + `"}}`, 409, "MacAddressInUse", "The mac address " + p.MACAddress + " is in use."},
		{"unknown group", "POST", "ports", `{"port":{"network_id":"` + net.ID + `","security_groups":["nope"]}}`, 404, "SecurityGroupNotFound", "Security group nope does not exist"},
		{"pairs without port security", "POST", "ports", `{"port":{"network_id":"` + net.ID + `","port_security_enabled":false,"allowed_address_pairs":[{"ip_address":"10.6.0.9"}]}}`, 409, "AddressPairAndPortSecurityRequired", "Port Security must be enabled"},
		{"unknown vnic type", "POST", "ports", `{"port":{"network_id":"` + net.ID + `","binding:vnic_type":"warp"}}`, 400, "HTTPBadRequest", "Invalid input for binding:vnic_type. Reason: 'warp' is not in ['normal'"},
		{"router with interfaces", "DELETE", "routers/" + router.ID, "", 409, "RouterInUse", "Router " + router.ID + " still has ports"},
		{"interface twice", "PUT", "routers/" + router.ID + "/add_router_interface", `{"subnet_id":"` + sub.ID + `"}`, 400, "BadRequest", "Bad router request: Router already has a port on subnet " + sub.ID + "."},
		{"interface that is not there", "PUT", "routers/" + router.ID + "/remove_router_interface", `{"port_id":"` + p.ID + `"}`, 404, "RouterInterfaceNotFound", "Router " + router.ID + " does not have an interface with id " + p.ID},
		{"floating IP of an internal network", "POST", "floatingips", `{"floatingip":{"floating_network_id":"` + net.ID + `"}}`, 400, "BadRequest", "Bad floatingip request: Network " + net.ID + " is not a valid external network."},
		{"floating IP for no port", "POST", "floatingips", `{"floatingip":{"floating_network_id":"` + public + `","port_id":"nope"}}`, 404, "PortNotFound", "Port nope could not be found."},
		{"chosen floating IP", "POST", "floatingips", `{"floatingip":{"floating_network_id":"` + public + `","floating_ip_address":"127.64.9.9"}}`, 403, "PolicyNotAuthorized", "rule:create_floatingip:floating_ip_address is disallowed by policy"},
		{"rule with ports but no protocol", "POST", "security-group-rules", rule(`,"port_range_min":1,"port_range_max":2`), 400, "SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given."},
		{"rule of the wrong family", "POST", "security-group-rules", rule(`,"remote_ip_prefix":"fd00::/8"`), 400, "SecurityGroupRuleParameterConflict", "Conflicting value ethertype IPv4 for CIDR fd00::/8"},
		{"rule with two remotes", "POST", "security-group-rules", rule(`,"remote_ip_prefix":"10.0.0.0/8","remote_group_id":"` + group.ID + `"`), 400, "SecurityGroupMultipleRemoteEntites", "may be provided"},
		{"group named default", "POST", "security-groups", `{"security_group":{"name":"default"}}`, 409, "SecurityGroupDefaultAlreadyExists", "Default security group already exists."},
		{"default group", "DELETE", "security-groups/" + p.SecurityGroups[0], "", 409, "SecurityGroupCannotRemoveDefault", "Insufficient rights"},
		{"unknown extension", "GET", "extensions/warp", "", 404, "ExtensionNotFound", "warp"},
		{"unknown tag", "GET", "ports/" + p.ID + "/tags/nope", "", 404, "TagNotFound", "Tag nope could not be found."},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen := *cloud
			seen.t = t
			before := cloud.sim.Objects()
			answer := seen.expect(test.method, "/network/v2.0/"+test.path, test.body, test.status, test.message)
			if got := decode[struct {
				NeutronError struct{ Type, Message, Detail string }
			}](t, answer).NeutronError; got.Type != test.kind {
				t.Errorf("type %s, want %s", got.Type, test.kind)
			}
			if after := cloud.sim.Objects(); fmt.Sprint(after) != fmt.Sprint(before) {
				t.Errorf("a refused request changed the cloud from %v to %v", before, after)
			}
		})
	}
}

func TestManyRulesComeIntoBeingTogetherOrNotAtAll(t *testing.T) {
	cloud := startNetworkCloud(t)
	group := must[*groups.SecGroup](t)(groups.Create(cloud.ctx(), cloud.neutron, groups.CreateOpts{Name: "g"}).Extract())
	if len(group.Rules) != 2 {
		t.Fatalf("a new group has %d rules, want the two egress rules", len(group.Rules))
	}
	opts := func(port int) rules.CreateOpts {
		return rules.CreateOpts{SecGroupID: group.ID, Direction: rules.DirIngress, EtherType: rules.EtherType4, Protocol: rules.ProtocolTCP, PortRangeMin: port, PortRangeMax: port}
	}
	made := must[[]rules.SecGroupRule](t)(rules.CreateBulk(cloud.ctx(), cloud.neutron, []rules.CreateOpts{opts(22), opts(6443)}).Extract())
	if len(made) != 2 {
		t.Fatalf("%d rules", len(made))
	}
	_, err := rules.CreateBulk(cloud.ctx(), cloud.neutron, []rules.CreateOpts{opts(80), opts(22)}).Extract()
	if !gophercloud.ResponseCodeIs(err, http.StatusConflict) || !strings.Contains(err.Error(), "Security group rule already exists. Rule id is "+made[0].ID+".") {
		t.Errorf("a duplicate in a bulk: %v", err)
	}
	group = must[*groups.SecGroup](t)(groups.Get(cloud.ctx(), cloud.neutron, group.ID).Extract())
	if len(group.Rules) != 4 {
		t.Errorf("%d rules after the refused bulk, want 4", len(group.Rules))
	}
}

func TestAGroupInUseStays(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	group := must[*groups.SecGroup](t)(groups.Create(cloud.ctx(), cloud.neutron, groups.CreateOpts{Name: "g"}).Extract())
	p := must[*ports.Port](t)(ports.Create(cloud.ctx(), cloud.neutron, ports.CreateOpts{NetworkID: net.ID, SecurityGroups: &[]string{group.ID}}).Extract())
	cloud.expect("DELETE", "/network/v2.0/security-groups/"+group.ID, "", http.StatusConflict, "Security Group "+group.ID+" in use.")
	if err := ports.Delete(cloud.ctx(), cloud.neutron, p.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := groups.Delete(cloud.ctx(), cloud.neutron, group.ID).ExtractErr(); err != nil {
		t.Error(err)
	}
}

func TestAFloatingIPFollowsItsPort(t *testing.T) {
	cloud := startNetworkCloud(t)
	net, sub, router := cloud.routed("10.6.0.0/24")
	p := cloud.port(net)
	f := must[*floatingips.FloatingIP](t)(floatingips.Create(cloud.ctx(), cloud.neutron, floatingips.CreateOpts{FloatingNetworkID: cloud.public()}).Extract())
	if !strings.HasPrefix(f.FloatingIP, "127.64.0.") || f.Status != "DOWN" || f.PortID != "" {
		t.Fatalf("new floating IP %+v", f)
	}
	f = must[*floatingips.FloatingIP](t)(floatingips.Update(cloud.ctx(), cloud.neutron, f.ID, floatingips.UpdateOpts{PortID: &p.ID}).Extract())
	if f.FixedIP != p.FixedIPs[0].IPAddress || f.RouterID != router.ID {
		t.Errorf("associated floating IP %+v", f)
	}
	status := func() string {
		return must[*floatingips.FloatingIP](t)(floatingips.Get(cloud.ctx(), cloud.neutron, f.ID).Extract()).Status
	}
	cloud.pass(2 * time.Second)
	if got := status(); got != "ACTIVE" {
		t.Errorf("associated floating IP is %s", got)
	}
	other := must[*floatingips.FloatingIP](t)(floatingips.Create(cloud.ctx(), cloud.neutron, floatingips.CreateOpts{FloatingNetworkID: cloud.public()}).Extract())
	cloud.expect("PUT", "/network/v2.0/floatingips/"+other.ID, `{"floatingip":{"port_id":"`+p.ID+`"}}`, http.StatusConflict, "already has a floating IP on external network")
	cloud.expect("PUT", "/network/v2.0/routers/"+router.ID+"/remove_router_interface", `{"subnet_id":"`+sub.ID+`"}`, http.StatusConflict, "RouterInterfaceInUseByFloatingIP")
	cloud.expect("PUT", "/network/v2.0/routers/"+router.ID, `{"router":{"external_gateway_info":{}}}`, http.StatusConflict, "RouterExternalGatewayInUseByFloatingIp")
	if err := ports.Delete(cloud.ctx(), cloud.neutron, p.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	f = must[*floatingips.FloatingIP](t)(floatingips.Get(cloud.ctx(), cloud.neutron, f.ID).Extract())
	if f.PortID != "" || f.RouterID != "" || f.FixedIP != "" {
		t.Errorf("floating IP after its port went: %+v", f)
	}
	cloud.pass(2 * time.Second)
	if got := status(); got != "DOWN" {
		t.Errorf("floating IP without port is %s", got)
	}
}

func TestAFloatingIPNeedsARouterToItsNetwork(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	sub := cloud.subnet(net, "10.6.0.0/24")
	p := cloud.port(net)
	cloud.expect("POST", "/network/v2.0/floatingips", `{"floatingip":{"floating_network_id":"`+cloud.public()+`","port_id":"`+p.ID+`"}}`,
		http.StatusNotFound, "is not reachable from subnet "+sub.ID+".  Therefore, cannot associate Port "+p.ID+" with a Floating IP.")
	if count := cloud.sim.Objects().Total["floatingips"]; count != 0 {
		t.Errorf("%d floating IPs are left of the refused request", count)
	}
}

func TestListsAreCutFilteredAndOrdered(t *testing.T) {
	cloud := startNetworkCloud(t)
	var made []string
	for i := range 7 {
		net := cloud.network(fmt.Sprintf("n%d", i))
		made = append(made, net.ID)
		if i%2 == 0 {
			must[[]string](t)(attributestags.ReplaceAll(cloud.ctx(), cloud.neutron, "networks", net.ID, attributestags.ReplaceAllOpts{Tags: []string{"even", fmt.Sprint("n", i)}}).Extract())
		}
	}
	pages := 0
	var listed []string
	pager := networks.List(cloud.neutron, networks.ListOpts{Limit: 3, TenantID: must[*networks.Network](t)(networks.Get(cloud.ctx(), cloud.neutron, made[0]).Extract()).TenantID})
	all, err := pager.AllPages(cloud.ctx())
	if err != nil {
		t.Fatal(err)
	}
	for _, net := range must[[]networks.Network](t)(networks.ExtractNetworks(all)) {
		listed = append(listed, net.ID)
	}
	for _, call := range cloud.sim.Calls() {
		if call.Method == "GET" && call.Path == "/v2.0/networks" {
			pages += call.Count
		}
	}
	if !slices.Equal(listed, made) || pages != 3 {
		t.Errorf("%d pages with %v, want 3 with %v", pages, listed, made)
	}
	for query, want := range map[string][]string{
		"name=n3":                    {made[3]},
		"name=n3&name=n4":            {made[3], made[4]},
		"tags=even":                  {made[0], made[2], made[4], made[6]},
		"tags=even,n2":               {made[2]},
		"tags-any=n2,n4":             {made[2], made[4]},
		"not-tags=even&shared=False": {made[1], made[3], made[5]},
		"id=" + made[5]:              {made[5]},
		"admin_state_up=False":       nil,
		"name=n6&sort_key=name":      {made[6]},
	} {
		if got := networkIDs(t, cloud.expect("GET", "/network/v2.0/networks?router:external=false&"+query, "", 200, "networks")); !sameMembers(got, want) {
			t.Errorf("%s lists %v, want %v", query, got, want)
		}
	}
	sorted := networkIDs(t, cloud.expect("GET", "/network/v2.0/networks?router:external=false&sort_key=name&sort_dir=desc", "", 200, ""))
	slices.Reverse(sorted)
	if !slices.Equal(sorted, made) {
		t.Errorf("descending names: %v", sorted)
	}
	cloud.expect("GET", "/network/v2.0/networks?name=n1&fields=name", "", 200, `{"networks":[{"name":"n1"}]}`)
}

func TestPortsAreFoundByDeviceAndAddress(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	sub := cloud.subnet(net, "10.6.0.0/24")
	p := must[*ports.Port](t)(ports.Create(cloud.ctx(), cloud.neutron, ports.CreateOpts{NetworkID: net.ID, DeviceID: "machine", Description: "mine"}).Extract())
	cloud.port(net)
	for _, opts := range []ports.ListOpts{
		{DeviceID: "machine"},
		{Description: "mine"},
		{FixedIPs: []ports.FixedIPOpts{{IPAddress: p.FixedIPs[0].IPAddress, SubnetID: sub.ID}}},
	} {
		pages, err := ports.List(cloud.neutron, opts).AllPages(cloud.ctx())
		if err != nil {
			t.Fatal(err)
		}
		if found := must[[]ports.Port](t)(ports.ExtractPorts(pages)); len(found) != 1 || found[0].ID != p.ID {
			t.Errorf("%+v finds %d ports", opts, len(found))
		}
	}
}

func TestAProjectSeesOnlyItsOwn(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	service := cloud.as("admin", "admin")
	if got := networkIDs(t, service.expect("GET", "/network/v2.0/networks?name=n", "", 200, "")); len(got) != 1 {
		t.Errorf("an administrator sees %v", got)
	}
	foreign := must[*networks.Network](t)(networks.Create(service.ctx(), service.neutron, networks.CreateOpts{Name: "theirs"}).Extract())
	cloud.expect("GET", "/network/v2.0/networks/"+foreign.ID, "", 404, "NetworkNotFound")
	cloud.expect("POST", "/network/v2.0/ports", `{"port":{"network_id":"`+foreign.ID+`"}}`, 404, "NetworkNotFound")
	if got := networkIDs(t, cloud.expect("GET", "/network/v2.0/networks?router:external=False", "", 200, "")); !slices.Equal(got, []string{net.ID}) {
		t.Errorf("the project sees %v", got)
	}
}

func TestQuotasAreKeptAndExplained(t *testing.T) {
	cloud := startNetworkCloud(t, func(o *simulator.Options) {
		scenario := simulator.DefaultScenario()
		scenario.Quotas = map[string]int{"port": 1, "network": 2}
		o.Scenario = &scenario
	})
	net := cloud.network("n")
	cloud.port(net)
	cloud.expect("POST", "/network/v2.0/ports", `{"port":{"network_id":"`+net.ID+`"}}`, 409, `"message":"Quota exceeded for resources: ['port'].","type":"OverQuota"`)
	cloud.expect("POST", "/network/v2.0/networks", `{"networks":[{"name":"a"},{"name":"b"}]}`, 409, "['network']")
	if count := cloud.sim.Objects().Total["networks"]; count != 1 {
		t.Errorf("%d networks after a refused bulk, want 1", count)
	}
	project := must[*networks.Network](t)(networks.Get(cloud.ctx(), cloud.neutron, net.ID).Extract()).ProjectID
	details := must[*quotas.QuotaDetailSet](t)(quotas.GetDetail(cloud.ctx(), cloud.neutron, project).Extract())
	if details.Port.Limit != 1 || details.Port.Used != 1 || details.Network.Used != 1 {
		t.Errorf("quota details %+v", details)
	}
	five := 5
	if _, err := quotas.Update(cloud.ctx(), cloud.neutron, project, quotas.UpdateOpts{Port: &five}).Extract(); !gophercloud.ResponseCodeIs(err, 403) {
		t.Errorf("a member raised its quota: %v", err)
	}
	admin := cloud.as("admin", "admin")
	must[*quotas.Quota](t)(quotas.Update(admin.ctx(), admin.neutron, project, quotas.UpdateOpts{Port: &five}).Extract())
	cloud.port(net)
}

func TestATrunkCarriesPorts(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	parent, child := cloud.port(net), cloud.port(net)
	trunk := must[*trunks.Trunk](t)(trunks.Create(cloud.ctx(), cloud.neutron, trunks.CreateOpts{
		Name: "t", PortID: parent.ID, Subports: []trunks.Subport{{PortID: child.ID, SegmentationID: 7, SegmentationType: "vlan"}},
	}).Extract())
	if trunk.Status != "DOWN" || len(trunk.Subports) != 1 {
		t.Errorf("trunk %+v", trunk)
	}
	cloud.expect("GET", "/network/v2.0/ports/"+parent.ID, "", 200, `"trunk_details":{"trunk_id":"`+trunk.ID)
	cloud.expect("DELETE", "/network/v2.0/ports/"+parent.ID, "", 409, "is currently a parent port for trunk "+trunk.ID)
	cloud.expect("DELETE", "/network/v2.0/ports/"+child.ID, "", 409, "is currently a subport for trunk "+trunk.ID)
	admin := cloud.as("admin", "admin")
	admin.expect("PUT", "/network/v2.0/ports/"+parent.ID, `{"port":{"binding:host_id":"h"}}`, 200, "")
	cloud.pass(2 * time.Second)
	cloud.expect("GET", "/network/v2.0/trunks/"+trunk.ID, "", 200, `"status":"ACTIVE"`)
	cloud.expect("DELETE", "/network/v2.0/trunks/"+trunk.ID, "", 409, "TrunkInUse")
	admin.expect("PUT", "/network/v2.0/ports/"+parent.ID, `{"port":{"binding:host_id":""}}`, 200, "")
	must[*trunks.Trunk](t)(trunks.RemoveSubports(cloud.ctx(), cloud.neutron, trunk.ID, trunks.RemoveSubportsOpts{Subports: []trunks.RemoveSubport{{PortID: child.ID}}}).Extract())
	for _, path := range []string{"trunks/" + trunk.ID, "ports/" + parent.ID, "ports/" + child.ID} {
		cloud.expect("DELETE", "/network/v2.0/"+path, "", 204, "")
	}
}

func TestTagsAreSetOneByOneAndTogether(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	tag := func(name string) string { return "/network/v2.0/networks/" + net.ID + "/tags" + name }
	cloud.expect("PUT", tag("/a%2Fb"), "", 201, "")
	cloud.expect("PUT", tag("/c"), "", 201, "")
	cloud.expect("GET", tag("/a%2Fb"), "", 204, "")
	cloud.expect("GET", tag(""), "", 200, `{"tags":["a/b","c"]}`)
	cloud.expect("DELETE", tag("/c"), "", 204, "")
	cloud.expect("DELETE", tag("/c"), "", 404, "TagNotFound")
	cloud.expect("PUT", tag(""), `{"tags":["x","x","y"]}`, 200, `{"tags":["x","y"]}`)
	cloud.expect("DELETE", tag(""), "", 204, "")
	cloud.expect("GET", tag(""), "", 200, `{"tags":[]}`)
}

func TestALostUpdateIsRefusedByRevision(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	name := "renamed"
	if _, err := networks.Update(cloud.ctx(), cloud.neutron, net.ID, networks.UpdateOpts{Name: &name, RevisionNumber: &net.RevisionNumber}).Extract(); err != nil {
		t.Fatal(err)
	}
	_, err := networks.Update(cloud.ctx(), cloud.neutron, net.ID, networks.UpdateOpts{Name: &name, RevisionNumber: &net.RevisionNumber}).Extract()
	if !gophercloud.ResponseCodeIs(err, http.StatusPreconditionFailed) {
		t.Errorf("an update from an old revision: %v", err)
	}
}

func TestNothingIsLeftOfAClustersNetwork(t *testing.T) {
	cloud := startNetworkCloud(t)
	net, sub, router := cloud.routed("10.6.0.0/24")
	p := cloud.port(net)
	f := must[*floatingips.FloatingIP](t)(floatingips.Create(cloud.ctx(), cloud.neutron, floatingips.CreateOpts{FloatingNetworkID: cloud.public(), PortID: p.ID}).Extract())
	for _, path := range []string{"floatingips/" + f.ID, "ports/" + p.ID} {
		cloud.expect("DELETE", "/network/v2.0/"+path, "", 204, "")
	}
	if _, err := routers.RemoveInterface(cloud.ctx(), cloud.neutron, router.ID, routers.RemoveInterfaceOpts{SubnetID: sub.ID}).Extract(); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"routers/" + router.ID, "networks/" + net.ID} {
		cloud.expect("DELETE", "/network/v2.0/"+path, "", 204, "")
	}
	if objects := cloud.sim.Objects(); len(objects.Total) != 0 {
		t.Errorf("left over: %v", objects.Total)
	}
}

func TestExtensionsAreFoundByAlias(t *testing.T) {
	cloud := startNetworkCloud(t)
	for _, alias := range []string{"standard-attr-tag", "trunk", "security-group", "quotas"} {
		cloud.expect("GET", "/network/v2.0/extensions/"+alias, "", 200, `"alias":"`+alias+`"`)
		cloud.expect("GET", "/network/v2.0/extensions", "", 200, `"alias":"`+alias+`"`)
	}
	cloud.expect("GET", "/network/", "", 200, `"id":"v2.0"`)
}

func TestAddressesOfANetworkAreCounted(t *testing.T) {
	cloud := startNetworkCloud(t)
	net := cloud.network("n")
	cloud.subnet(net, "10.6.0.0/28")
	cloud.subnet(net, "fd00:6::/64")
	cloud.port(net)
	admin := cloud.as("admin", "admin")
	answer := admin.expect("GET", "/network/v2.0/network-ip-availabilities/"+net.ID, "", 200, `"used_ips":2`)
	if !strings.Contains(answer, `"total_ips":13,`) {
		t.Errorf("availability %s", answer)
	}
}

func TestRoutesAreAddedAndRemoved(t *testing.T) {
	cloud := startNetworkCloud(t)
	_, _, router := cloud.routed("10.6.0.0/24")
	path := "/network/v2.0/routers/" + router.ID
	body := `{"router":{"routes":[{"destination":"10.9.0.0/16","nexthop":"10.6.0.7"}]}}`
	cloud.expect("PUT", path+"/add_extraroutes", body, 200, `"nexthop":"10.6.0.7"`)
	cloud.expect("PUT", path+"/remove_extraroutes", body, 200, `"routes":[]`)
	cloud.expect("PUT", path, `{"router":{"routes":[{"destination":"x","nexthop":"y"}]}}`, 400, "'x' is not a valid IP subnet")
}
