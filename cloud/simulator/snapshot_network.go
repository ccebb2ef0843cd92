package simulator

import (
	"fmt"
	"net/netip"
)

// savedNetwork holds Neutron's objects as its API shows them, oldest first. How they hang together
// follows from the ids in them; the other fields are what the API does not show.
type savedNetwork struct {
	Networks       []*network       `json:"networks"`
	Subnets        []*subnet        `json:"subnets"`
	Routers        []*virtualRouter `json:"routers"`
	Ports          []*port          `json:"ports"`
	SecurityGroups []*securityGroup `json:"securityGroups"`
	SecurityRules  []*securityRule  `json:"securityRules"`
	FloatingIPs    []*floatingIP    `json:"floatingIPs"`
	Trunks         []*trunk         `json:"trunks"`

	Given         map[string]bool       `json:"given"`         // ids of what nobody asked for
	PortHosts     map[string]string     `json:"portHosts"`     // by port id
	LastAddresses map[string]netip.Addr `json:"lastAddresses"` // by subnet id
	MACs          uint32                `json:"macs"`
}

func (n *networkService) save() savedNetwork {
	saved := savedNetwork{
		Networks: n.networks.inOrder, Subnets: n.subnets.inOrder, Routers: n.routers.inOrder, Ports: n.ports.inOrder,
		SecurityGroups: n.securityGroups.inOrder, SecurityRules: n.securityRules.inOrder, FloatingIPs: n.floatingIPs.inOrder, Trunks: n.trunks.inOrder,
		Given: map[string]bool{}, PortHosts: map[string]string{}, LastAddresses: map[string]netip.Addr{}, MACs: n.macs,
	}
	saved.eachRecord(func(r *record) {
		if r.given {
			saved.Given[r.ID] = true
		}
	})
	for _, p := range n.ports.inOrder {
		if p.host != "" {
			saved.PortHosts[p.ID] = p.host
		}
	}
	for _, sub := range n.subnets.inOrder {
		if sub.last.IsValid() {
			saved.LastAddresses[sub.ID] = sub.last
		}
	}
	return saved
}

func (saved *savedNetwork) eachRecord(do func(*record)) {
	recordsOf(saved.Networks, do)
	recordsOf(saved.Subnets, do)
	recordsOf(saved.Routers, do)
	recordsOf(saved.Ports, do)
	recordsOf(saved.SecurityGroups, do)
	recordsOf(saved.SecurityRules, do)
	recordsOf(saved.FloatingIPs, do)
	recordsOf(saved.Trunks, do)
}

func recordsOf[T networkObject](objects []T, do func(*record)) {
	for _, object := range objects {
		do(object.head())
	}
}

func (n *networkService) restore(saved savedNetwork) error {
	n.clear()
	n.macs = saved.MACs
	saved.eachRecord(func(r *record) { r.given = saved.Given[r.ID] })
	addAll(&n.networks, saved.Networks)
	addAll(&n.routers, saved.Routers)
	addAll(&n.trunks, saved.Trunks)
	for _, restore := range []func(savedNetwork) error{n.restoreSubnets, n.restorePorts, n.restoreSecurity, n.restoreFloatingIPs} {
		if err := restore(saved); err != nil {
			return err
		}
	}
	return nil
}

func addAll[T stored](objects *table[T], saved []T) {
	for _, object := range saved {
		objects.add(object)
	}
}

// danglingError is about a snapshot in which something is missing.
func danglingError(kind, id, missing, missingID string) error {
	return fmt.Errorf("%s %s: its %s %q is missing", kind, id, missing, missingID)
}

func (n *networkService) restoreSubnets(saved savedNetwork) error {
	for _, sub := range saved.Subnets {
		var err error
		if sub.prefix, err = netip.ParsePrefix(sub.CIDR); err != nil {
			return fmt.Errorf("subnet %s: %w", sub.ID, err)
		}
		if sub.GatewayIP != nil {
			if sub.gateway, err = netip.ParseAddr(*sub.GatewayIP); err != nil {
				return fmt.Errorf("gateway of subnet %s: %w", sub.ID, err)
			}
		}
		for _, pool := range sub.AllocationPools {
			var r addressRange
			if r.first, err = netip.ParseAddr(pool.Start); err == nil {
				r.last, err = netip.ParseAddr(pool.End)
			}
			if err != nil {
				return fmt.Errorf("allocation pool of subnet %s: %w", sub.ID, err)
			}
			sub.pools = append(sub.pools, r)
		}
		sub.taken, sub.last = map[netip.Addr]*port{}, saved.LastAddresses[sub.ID]
		if sub.network = n.networks.byID[sub.NetworkID]; sub.network == nil {
			return danglingError("subnet", sub.ID, "network", sub.NetworkID)
		}
		sub.network.subnets = append(sub.network.subnets, sub)
		n.subnets.add(sub)
	}
	return nil
}

func (n *networkService) restorePorts(saved savedNetwork) error {
	for _, p := range saved.Ports {
		if p.network = n.networks.byID[p.NetworkID]; p.network == nil {
			return danglingError("port", p.ID, "network", p.NetworkID)
		}
		for _, ip := range p.FixedIPs {
			if n.subnets.byID[ip.SubnetID] == nil {
				return danglingError("port", p.ID, "subnet", ip.SubnetID)
			}
			if _, err := netip.ParseAddr(ip.IPAddress); err != nil {
				return fmt.Errorf("port %s: %w", p.ID, err)
			}
		}
		p.host = saved.PortHosts[p.ID]
		p.network.ports = append(p.network.ports, p)
		n.ports.add(p)
		n.claim(p)
		if p.DeviceID != "" {
			n.portsOfDevice[p.DeviceID] = append(n.portsOfDevice[p.DeviceID], p)
		}
	}
	for _, t := range saved.Trunks {
		if parent := n.ports.byID[t.PortID]; parent != nil {
			parent.trunk = t
		}
		for _, sub := range t.SubPorts {
			if p := n.ports.byID[sub.PortID]; p != nil {
				p.carrier = t
			}
		}
	}
	return nil
}

func (n *networkService) restoreSecurity(saved savedNetwork) error {
	for _, group := range saved.SecurityGroups {
		n.securityGroups.add(group)
		if group.given {
			n.defaultGroups[group.ProjectID] = group
		}
	}
	for _, rule := range saved.SecurityRules {
		group := n.securityGroups.byID[rule.SecurityGroupID]
		if group == nil {
			return danglingError("security group rule", rule.ID, "group", rule.SecurityGroupID)
		}
		group.rules = append(group.rules, rule)
		n.securityRules.add(rule)
	}
	return nil
}

func (n *networkService) restoreFloatingIPs(saved savedNetwork) error {
	owned := map[string]*port{}
	for _, p := range n.ports.inOrder {
		if p.DeviceOwner == ownerFloatingIP {
			owned[p.DeviceID] = p
		}
	}
	for _, f := range saved.FloatingIPs {
		if f.own = owned[f.ID]; f.own == nil {
			return danglingError("floating IP", f.ID, "port of device", f.ID)
		}
		if f.PortID != nil {
			n.floatingIPsOfPort[*f.PortID] = append(n.floatingIPsOfPort[*f.PortID], f)
		}
		n.floatingIPs.add(f)
	}
	return nil
}

func (n *networkService) resume() {
	for _, on := range n.networks.inOrder {
		n.syncVirtualIPs(on)
	}
	for _, p := range n.ports.inOrder {
		if p.host != "" && p.AdminStateUp && p.Status != "ACTIVE" {
			n.awaitPlugged(p)
		}
	}
	for _, f := range n.floatingIPs.inOrder {
		if (f.PortID != nil) != (f.Status == "ACTIVE") {
			n.followAssociation(f)
		}
	}
}
