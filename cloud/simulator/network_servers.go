package simulator

import (
	"context"
	"net/netip"
	"slices"
)

// What Nova and Octavia ask of Neutron in process, see serverNetworking.

func (n *networkService) findPort(project, portID string) (portFacts, bool) {
	p, known := n.ports.byID[portID]
	if !known || project != "" && p.ProjectID != project {
		return portFacts{}, false
	}
	return n.portFacts(p), true
}

func (n *networkService) portFacts(p *port) portFacts {
	facts := portFacts{
		id: p.ID, project: p.ProjectID, networkID: p.NetworkID, networkName: p.network.Name,
		deviceID: p.DeviceID, status: p.Status, macAddress: p.MACAddress, vnicType: p.VNICType,
		securityGroupIDs: slices.Clone(p.SecurityGroups),
	}
	for _, id := range p.SecurityGroups {
		facts.securityGroupNames = append(facts.securityGroupNames, n.securityGroups.byID[id].Name)
	}
	for _, ip := range p.FixedIPs {
		address := portAddress{subnetID: ip.SubnetID, address: ip.IPAddress, version: n.subnets.byID[ip.SubnetID].IPVersion}
		for _, f := range n.floatingIPsOfPort[p.ID] {
			if *f.FixedIPAddress == ip.IPAddress {
				address.floating = f.FloatingIPAddress
			}
		}
		facts.addresses = append(facts.addresses, address)
	}
	return facts
}

func (n *networkService) nodePort(portID string) Port {
	p := n.ports.byID[portID]
	found := Port{ID: p.ID, MACAddress: p.MACAddress, Network: p.network.forBackend(), Up: p.AdminStateUp}
	for _, ip := range p.FixedIPs {
		address, _ := netip.ParseAddr(ip.IPAddress) // checked when the port got it
		found.Addresses = append(found.Addresses, netip.PrefixFrom(address, n.subnets.byID[ip.SubnetID].prefix.Bits()))
	}
	return found
}

// forBackend is the network as a node backend sees it.
func (net *network) forBackend() Network {
	found := Network{ID: net.ID, External: net.External, MTU: net.MTU}
	for _, sub := range net.subnets {
		if p := sub.taken[sub.gateway]; p != nil && p.DeviceOwner == ownerRouterInterface {
			found.Gateways = append(found.Gateways, netip.PrefixFrom(sub.gateway, sub.prefix.Bits()))
		}
		for _, server := range sub.DNSNameservers {
			if address, err := netip.ParseAddr(server); err == nil {
				found.DNSNameservers = append(found.DNSNameservers, address)
			}
		}
	}
	return found
}

// switchLink lets the cable of a server's port follow the port's administrative state.
func (n *networkService) switchLink(p *port) {
	backend, wired := n.s.backend.(NetworkBackend)
	srv := n.s.compute.servers[p.DeviceID]
	if !wired || srv == nil {
		return
	}
	up := p.AdminStateUp
	n.s.compute.onNode(srv, func(ctx context.Context) error { return backend.SetLink(ctx, srv.id, p.ID, up) }, func(err error) {
		if err != nil {
			n.s.log.Warn("link not switched", "server", srv.id, "port", p.ID, "up", up, "error", err)
		}
	})
}

func (n *networkService) networksOf(project string) []networkFacts {
	var found []networkFacts
	for _, net := range n.networks.inOrder {
		if (net.ProjectID == project || net.Shared) && !net.External && len(net.subnets) > 0 {
			found = append(found, net.facts())
		}
	}
	return found
}

func (net *network) facts() networkFacts {
	return networkFacts{id: net.ID, name: net.Name, subnets: len(net.subnets)}
}

func (n *networkService) findNetwork(project, networkID string) (networkFacts, bool) {
	net, known := n.networks.byID[networkID]
	if !known || net.ProjectID != project && !net.Shared && !net.External {
		return networkFacts{}, false
	}
	return net.facts(), true
}

func (n *networkService) createServerPort(project, networkID, fixedAddress string, securityGroupIDs []string) (portFacts, error) {
	net, known := n.networks.byID[networkID]
	if !known {
		return portFacts{}, networkMissing(networkID)
	}
	var asked portSettings
	if fixedAddress != "" {
		asked.FixedIPs = optional[[]fixedIP]{set: true, value: []fixedIP{{IPAddress: fixedAddress}}}
	}
	if len(securityGroupIDs) > 0 {
		asked.SecurityGroups = optional[[]string]{set: true, value: securityGroupIDs}
	}
	p, err := n.makePort(project, net, asked)
	if err != nil {
		return portFacts{}, err
	}
	return n.portFacts(p), nil
}

func (n *networkService) bindPort(portID, serverID, hostName, zone string) {
	p, known := n.ports.byID[portID]
	if !known {
		return
	}
	n.setDevice(p, serverID, ownerComputePrefix+zone)
	n.setHost(p, hostName)
	n.touch(p)
	n.syncVirtualIPs(p.network)
}

func (n *networkService) unbindPort(portID string) {
	p, known := n.ports.byID[portID]
	if !known {
		return
	}
	n.setDevice(p, "", "")
	n.setHost(p, "")
	n.touch(p)
	n.syncVirtualIPs(p.network)
}

func (n *networkService) deleteServerPort(portID string) {
	if p, known := n.ports.byID[portID]; known {
		n.discardPort(p)
	}
}

func (n *networkService) findSecurityGroup(project, nameOrID string) (id string, ambiguous, found bool) {
	if group, known := n.securityGroups.byID[nameOrID]; known && group.ProjectID == project {
		return group.ID, false, true
	}
	if nameOrID == defaultGroupName {
		n.defaultGroup(project)
	}
	for _, group := range n.securityGroups.inOrder {
		if group.ProjectID != project || group.Name != nameOrID {
			continue
		}
		if found {
			return "", true, true
		}
		id, found = group.ID, true
	}
	return id, false, found
}

func (n *networkService) portQuotaLeft(project string) int {
	limit := n.s.quota(project, "port")
	if limit == unlimited {
		return unlimited
	}
	return max(limit-n.ports.ofProject[project], 0)
}

// portAt is the port that has an address on a subnet's network.
func (n *networkService) portAt(subnetID, address string) (*port, bool) {
	sub, known := n.subnets.byID[subnetID]
	a, err := netip.ParseAddr(address)
	if !known || err != nil {
		return nil, false
	}
	for _, neighbor := range sub.network.subnets {
		if p := neighbor.taken[a]; p != nil {
			return p, true
		}
	}
	return nil, false
}
