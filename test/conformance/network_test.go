package conformance

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sendan-io/sendan/cloud"
)

// The addresses of the run's network, which is nobody else's. The provider has the other one.
const (
	cidr         = "10.250.0.0/24"
	address      = "10.250.0.50" // of the server
	pairAddress  = "10.250.0.60"
	providerCIDR = "10.250.1.0/24"
)

func networking() []feature {
	return []feature{
		{name: "network/network", needs: []string{"network/extensions", "compute/offers"}, check: makeNetwork},
		{name: "network/router", needs: []string{"network/network"}, check: makeRouter},
		{name: "network/security-group", needs: []string{"network/extensions", "compute/offers"}, check: makeSecurityGroup},
		{name: "network/port", needs: []string{"network/network", "network/security-group"}, check: makePort},
		{name: "network/tags", extension: "standard-attr-tag", needs: []string{"network/port"}, check: tag},
		{name: "network/trunk", extension: "trunk", needs: []string{"network/port"}, check: makeTrunk},
	}
}

func makeNetwork(p *probe) (err error) {
	if p.made.network, err = p.session.CreateNetwork(p.Context(), cloud.NetworkRequest{Name: p.name("network"), Mark: p.role("network")}); err != nil {
		return err
	}
	if p.made.subnet, err = p.session.CreateSubnet(p.Context(), cloud.SubnetRequest{
		Name: p.name("subnet"), Mark: p.role("subnet"), NetworkID: p.made.network.ID, CIDR: netip.MustParsePrefix(cidr), DNSNameservers: []string{"192.0.2.53"},
	}); err != nil {
		return err
	}
	if _, err = p.session.UpdateSubnet(p.Context(), p.made.subnet.ID, cloud.SubnetUpdate{DNSNameservers: &[]string{"192.0.2.54"}}); err != nil {
		return err
	}
	now, err := p.relist(cloud.KindNetwork, cloud.KindSubnet)
	if err != nil {
		return err
	}
	network, _ := now.Network(p.made.network.ID)
	subnet, _ := now.Subnet(p.made.subnet.ID)
	p.note = fmt.Sprintf("MTU %d", network.MTU)
	return expect(network.Mark == p.role("network") && subnet.Mark == p.role("subnet") && subnet.NetworkID == network.ID && subnet.CIDR.String() == cidr &&
		slices.Equal(subnet.DNSNameservers, []string{"192.0.2.54"}) && slices.Equal(network.Subnets, []string{subnet.ID}), "they are listed as %+v and %+v", network, subnet)
}

func makeRouter(p *probe) (err error) {
	request := cloud.RouterRequest{Name: p.name("router"), Mark: p.role("router"), ExternalNetworkID: p.chosen.external.ID}
	if p.made.router, err = p.session.CreateRouter(p.Context(), request); err != nil {
		return err
	}
	for range 2 { // the second time changes nothing
		if err := p.session.AddRouterInterface(p.Context(), p.made.router.ID, p.made.subnet.ID); err != nil {
			return err
		}
	}
	now, err := p.relist(cloud.KindRouter, cloud.KindPort)
	if err != nil {
		return err
	}
	router, _ := now.Router(p.made.router.ID)
	atSubnet := func(port cloud.Port) bool {
		return slices.ContainsFunc(port.FixedIPs, func(ip cloud.FixedIP) bool { return ip.SubnetID == p.made.subnet.ID })
	}
	return expect(router.Mark == p.role("router") && router.ExternalNetworkID == p.chosen.external.ID && slices.ContainsFunc(now.PortsOfDevice(router.ID), atSubnet),
		"it is listed as %+v, with the ports %+v", router, now.PortsOfDevice(router.ID))
}

func makeSecurityGroup(p *probe) (err error) {
	if p.made.group, err = p.session.CreateSecurityGroup(p.Context(), cloud.SecurityGroupRequest{Name: p.name("group"), Mark: p.role("group")}); err != nil {
		return err
	}
	wanted := []cloud.SecurityGroupRule{
		{SecurityGroupID: p.made.group.ID, Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: 6443, PortMax: 6443, RemoteIPPrefix: "192.0.2.0/24", Description: "api"},
		{SecurityGroupID: p.made.group.ID, Direction: "ingress", EtherType: "IPv6", RemoteGroupID: p.made.group.ID},
		{SecurityGroupID: p.made.group.ID, Direction: "ingress", EtherType: "IPv4", Protocol: "icmp"},
	}
	made, err := p.session.CreateSecurityGroupRules(p.Context(), wanted)
	if err != nil {
		return err
	}
	_, err = p.session.CreateSecurityGroupRules(p.Context(), wanted[:1])
	if err := wantClass(err, cloud.Conflict, "the same rule again"); err != nil {
		return err
	}
	if err := p.session.DeleteSecurityGroupRule(p.Context(), made[2].ID); err != nil {
		return err
	}
	now, err := p.relist(cloud.KindSecurityGroup)
	if err != nil {
		return err
	}
	group, _ := now.SecurityGroup(p.made.group.ID)
	for i, rule := range wanted {
		there := slices.ContainsFunc(group.Rules, func(r cloud.SecurityGroupRule) bool { return r.Key() == rule.Key() })
		if there != (i < 2) {
			return fmt.Errorf("rule %s is there: %t; the group is listed as %+v", rule.Key(), there, group)
		}
	}
	return expect(group.Mark == p.role("group"), "it is listed as %+v", group)
}

func makePort(p *probe) (err error) {
	groups := []string{p.made.group.ID}
	request := cloud.PortRequest{
		Name: p.name("port"), Mark: p.role("port"), NetworkID: p.made.network.ID, SecurityGroups: &groups,
		FixedIPs:            []cloud.FixedIP{{SubnetID: p.made.subnet.ID, IPAddress: address}},
		AllowedAddressPairs: []cloud.AddressPair{{IPAddress: "10.250.0.61"}},
	}
	if p.made.port, err = p.session.CreatePort(p.Context(), request); err != nil {
		return err
	}
	if _, err = p.session.UpdatePort(p.Context(), p.made.port.ID, cloud.PortUpdate{AllowedAddressPairs: &[]cloud.AddressPair{{IPAddress: pairAddress}}}); err != nil {
		return err
	}
	port, err := p.session.GetPort(p.Context(), p.made.port.ID)
	if err != nil {
		return err
	}
	return expect(port.Mark == p.role("port") && slices.Equal(port.SecurityGroups, groups) && slices.Equal(port.FixedIPs, request.FixedIPs) &&
		len(port.AllowedAddressPairs) == 1 && port.AllowedAddressPairs[0].IPAddress == pairAddress, "it is %+v", port)
}

func tag(p *probe) error {
	objects := map[cloud.Kind]string{
		cloud.KindNetwork: p.made.network.ID, cloud.KindSubnet: p.made.subnet.ID, cloud.KindSecurityGroup: p.made.group.ID, cloud.KindPort: p.made.port.ID,
	}
	for kind, id := range objects {
		for _, tags := range [][]string{{"conformance", p.id}, {p.id}} { // the second set replaces the first
			if err := p.session.SetTags(p.Context(), kind, id, tags); err != nil {
				return err
			}
		}
	}
	port, err := p.session.GetPort(p.Context(), p.made.port.ID)
	if err != nil {
		return err
	}
	network, err := p.session.Network(p.Context(), cloud.NetworkFilter{Tags: []string{p.id}})
	if err != nil {
		return err
	}
	return expect(slices.Equal(port.Tags, []string{p.id}) && network.ID == p.made.network.ID, "the port has the tags %q, and the network found by its tag is %+v", port.Tags, network)
}

func makeTrunk(p *probe) error {
	request := cloud.PortRequest{Name: p.name("trunk"), Mark: p.role("trunk"), NetworkID: p.made.network.ID}
	port, err := p.session.CreatePort(p.Context(), request)
	if err != nil {
		return err
	}
	trunk, err := p.session.CreateTrunk(p.Context(), cloud.TrunkRequest{Name: p.name("trunk"), Mark: p.role("trunk"), PortID: port.ID})
	if err != nil {
		return err
	}
	parent, err := p.session.GetPort(p.Context(), port.ID)
	if err != nil {
		return err
	}
	if parent.TrunkID != trunk.ID {
		return fmt.Errorf("the trunk is %s, and its port is %+v", trunk.ID, parent)
	}
	if err := p.session.DeleteTrunk(p.Context(), trunk.ID); err != nil {
		return err
	}
	return p.session.DeletePort(p.Context(), port.ID)
}

func makeFloatingIP(p *probe) error {
	if p.chosen.external.ID == "" {
		return skipf("the cloud has no external network")
	}
	made, err := p.session.CreateFloatingIP(p.Context(), cloud.FloatingIPRequest{Mark: p.role("address"), FloatingNetworkID: p.chosen.external.ID, PortID: p.made.port.ID})
	if err != nil {
		return err
	}
	now, err := p.relist(cloud.KindFloatingIP)
	if err != nil {
		return err
	}
	seen, _ := now.FloatingIP(made.ID)
	if seen.Mark != p.role("address") || seen.PortID != p.made.port.ID || seen.FixedIP != address {
		return fmt.Errorf("it is listed as %+v", seen)
	}
	p.note = seen.Address
	seen, err = p.session.AssociateFloatingIP(p.Context(), made.ID, "")
	if err := firstOf(err, expect(seen.PortID == "", "after it has left its port it is %+v", seen)); err != nil {
		return err
	}
	return p.session.DeleteFloatingIP(p.Context(), made.ID)
}

// deleteNetwork takes the network down in the order that Neutron insists on, some of it twice as if a reply had been lost.
func deleteNetwork(p *probe) error {
	disconnect := func() error { return p.session.RemoveRouterInterface(p.Context(), p.made.router.ID, p.made.subnet.ID) }
	remove := func() error { return p.session.DeleteNetwork(p.Context(), p.made.network.ID) }
	for _, call := range []func() error{
		func() error { return p.session.DeletePort(p.Context(), p.made.port.ID) },
		disconnect, disconnect,
		func() error { return p.session.DeleteRouter(p.Context(), p.made.router.ID) },
		func() error { return p.session.DeleteSubnet(p.Context(), p.made.subnet.ID) },
		remove, remove,
		func() error { return p.session.DeleteSecurityGroup(p.Context(), p.made.group.ID) },
	} {
		if err := p.accepted("the network lets go", call); err != nil { // of ports that Octavia deletes later than its load balancers
			return err
		}
	}
	now, err := p.relist(cloud.KindNetwork, cloud.KindSubnet, cloud.KindRouter, cloud.KindPort, cloud.KindSecurityGroup)
	left := listed(now, p.mark())
	return firstOf(err, expect(len(left) == 0, "left: %q", left))
}
