package simulator

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
)

// floatingIP is a Neutron floating IP.
type floatingIP struct {
	record
	FloatingIPAddress string   `json:"floating_ip_address"`
	FloatingNetworkID string   `json:"floating_network_id"`
	PortID            *string  `json:"port_id"`
	FixedIPAddress    *string  `json:"fixed_ip_address"`
	RouterID          *string  `json:"router_id"`
	Status            string   `json:"status"`
	DNSName           string   `json:"dns_name"`
	DNSDomain         string   `json:"dns_domain"`
	QoSPolicyID       *string  `json:"qos_policy_id"`
	PortForwardings   []string `json:"port_forwardings"`

	// own is the port that holds the address on the external network.
	own *port
}

// floatingIPView adds what the API tells about the port.
type floatingIPView struct {
	*floatingIP
	PortDetails *portDetails `json:"port_details"`
}

type portDetails struct {
	Name         string `json:"name"`
	NetworkID    string `json:"network_id"`
	MACAddress   string `json:"mac_address"`
	AdminStateUp bool   `json:"admin_state_up"`
	Status       string `json:"status"`
	DeviceID     string `json:"device_id"`
	DeviceOwner  string `json:"device_owner"`
}

type floatingIPChange struct {
	Description    optional[string] `json:"description"`
	PortID         optional[string] `json:"port_id"`
	FixedIPAddress optional[string] `json:"fixed_ip_address"`
	QoSPolicyID    optional[string] `json:"qos_policy_id"`
}

type floatingIPAttributes struct {
	floatingIPChange
	ProjectID         optional[string] `json:"project_id"`
	TenantID          optional[string] `json:"tenant_id"`
	FloatingNetworkID optional[string] `json:"floating_network_id"`
	FloatingIPAddress optional[string] `json:"floating_ip_address"`
	SubnetID          optional[string] `json:"subnet_id"`
	DNSName           optional[string] `json:"dns_name"`
	DNSDomain         optional[string] `json:"dns_domain"`
}

func (n *networkService) floatingIPResource() resource[*floatingIP] {
	return resource[*floatingIP]{
		singular: "floatingip", plural: "floatingips", path: "floatingips", objects: &n.floatingIPs,
		missing: floatingIPMissing, create: n.createFloatingIP, update: n.updateFloatingIP,
		discard: n.discardFloatingIP, view: n.viewFloatingIP,
	}
}

func floatingIPMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "FloatingIPNotFound", "Floating IP %s could not be found", id)
}

func badFloatingIP(format string, args ...any) *problem {
	return networkProblem(http.StatusBadRequest, "BadRequest", "Bad floatingip request: %s.", fmt.Sprintf(format, args...))
}

func (n *networkService) viewFloatingIP(_ *call, f *floatingIP) any {
	view := floatingIPView{floatingIP: f}
	if f.PortID != nil {
		p := n.ports.byID[*f.PortID]
		view.PortDetails = &portDetails{p.Name, p.NetworkID, p.MACAddress, p.AdminStateUp, p.Status, p.DeviceID, p.DeviceOwner}
	}
	return view
}

func (n *networkService) createFloatingIP(c *call, body []byte) (*floatingIP, error) {
	var asked floatingIPAttributes
	if err := readNew(body, &asked, floatingIPView{floatingIP: &floatingIP{}}); err != nil {
		return nil, err
	}
	external, err := n.visibleNetwork(c, asked.FloatingNetworkID.value)
	if err != nil {
		return nil, err
	}
	if !external.External {
		return nil, badFloatingIP("Network %s is not a valid external network", external.ID)
	}
	if asked.FloatingIPAddress.or("") != "" && !c.isAdmin() {
		return nil, disallowed("create_floatingip and rule:create_floatingip:floating_ip_address")
	}
	head, err := n.begin(c, common{Description: asked.Description, ProjectID: asked.ProjectID, TenantID: asked.TenantID}, "floatingip", n.floatingIPs.ofProject)
	if err != nil {
		return nil, err
	}
	f := &floatingIP{
		record: head, FloatingNetworkID: external.ID, Status: "DOWN", DNSName: asked.DNSName.value, DNSDomain: asked.DNSDomain.value,
		PortForwardings: []string{},
	}
	if f.own, err = n.floatingPort(external, f.ID, asked); err != nil {
		return nil, err
	}
	f.FloatingIPAddress = f.own.FixedIPs[0].IPAddress
	n.floatingIPs.add(f)
	if asked.PortID.or("") != "" {
		if err := n.associate(c, f, asked.PortID.value, asked.FixedIPAddress.or("")); err != nil {
			n.discardFloatingIP(f)
			return nil, err
		}
	}
	return f, nil
}

// floatingPort takes an IPv4 address of the external network.
func (n *networkService) floatingPort(external *network, id string, asked floatingIPAttributes) (*port, error) {
	wanted := fixedIP{SubnetID: asked.SubnetID.or(""), IPAddress: asked.FloatingIPAddress.or("")}
	v4, _ := external.subnetsByFamily()
	if wanted.SubnetID == "" && wanted.IPAddress == "" {
		if len(v4) == 0 {
			return nil, badFloatingIP("Network %s does not contain any IPv4 subnet", external.ID)
		}
		wanted.SubnetID = v4[0].ID
		for _, sub := range v4 {
			if _, ok := sub.free(); ok {
				wanted.SubnetID = sub.ID
				break
			}
		}
	}
	return n.makePort("", external, portSettings{
		FixedIPs: optional[[]fixedIP]{set: true, value: []fixedIP{wanted}},
		DeviceID: optional[string]{set: true, value: id}, DeviceOwner: optional[string]{set: true, value: ownerFloatingIP},
	})
}

func (n *networkService) updateFloatingIP(c *call, f *floatingIP, body []byte) error {
	var asked floatingIPChange
	if err := readChange(body, &asked, floatingIPView{floatingIP: &floatingIP{}}); err != nil {
		return err
	}
	if asked.PortID.set && asked.PortID.or("") == "" {
		n.detach(f)
	}
	if asked.PortID.or("") != "" {
		if err := n.associate(c, f, asked.PortID.value, asked.FixedIPAddress.or("")); err != nil {
			return err
		}
	}
	asked.Description.to(&f.Description)
	return nil
}

// associate puts a floating IP on an IPv4 address of a port.
func (n *networkService) associate(c *call, f *floatingIP, portID, fixed string) error {
	p, known := n.ports.byID[portID]
	if !known || !owns(c, p) {
		return portMissing(portID)
	}
	ip, err := ipv4Of(p, fixed)
	if err != nil {
		return err
	}
	for _, other := range n.floatingIPsOfPort[p.ID] {
		if other != f && *other.FixedIPAddress == ip.IPAddress && other.FloatingNetworkID == f.FloatingNetworkID {
			return networkProblem(http.StatusConflict, "FloatingIPPortAlreadyAssociated",
				"Cannot associate floating IP %s (%s) with port %s using fixed IP %s, as that fixed IP already has a floating IP on external network %s.",
				f.FloatingIPAddress, f.ID, p.ID, ip.IPAddress, f.FloatingNetworkID)
		}
	}
	r := n.routerBetween(n.subnets.byID[ip.SubnetID], f.FloatingNetworkID)
	if r == nil {
		return networkProblem(http.StatusNotFound, "ExternalGatewayForFloatingIPNotFound",
			"External network %s is not reachable from subnet %s.  Therefore, cannot associate Port %s with a Floating IP.", f.FloatingNetworkID, ip.SubnetID, p.ID)
	}
	if f.PortID != nil && *f.PortID == p.ID && *f.FixedIPAddress == ip.IPAddress {
		return nil
	}
	n.detach(f)
	f.PortID, f.FixedIPAddress, f.RouterID = &p.ID, &ip.IPAddress, &r.ID
	n.floatingIPsOfPort[p.ID] = append(n.floatingIPsOfPort[p.ID], f)
	n.followAssociation(f)
	n.addressesChanged(p)
	return nil
}

// ipv4Of is the address of a port that a floating IP goes to.
func ipv4Of(p *port, wanted string) (fixedIP, error) {
	var found []fixedIP
	for _, ip := range p.FixedIPs {
		if netip.MustParseAddr(ip.IPAddress).Is4() && (wanted == "" || ip.IPAddress == wanted) {
			found = append(found, ip)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case wanted != "":
		return fixedIP{}, badFloatingIP("Port %s does not have fixed ip %s", p.ID, wanted)
	case len(found) == 0:
		return fixedIP{}, badFloatingIP("Cannot add floating IP to port %s that has no fixed IPv4 addresses", p.ID)
	}
	return fixedIP{}, badFloatingIP("Port %s has multiple fixed IPv4 addresses.  Must provide a specific IPv4 address when assigning a floating IP", p.ID)
}

// routerBetween is the router that connects a subnet with an external network.
func (n *networkService) routerBetween(sub *subnet, externalID string) *virtualRouter {
	for _, p := range sub.network.ports {
		if p.DeviceOwner != ownerRouterInterface || !slices.ContainsFunc(p.FixedIPs, func(ip fixedIP) bool { return ip.SubnetID == sub.ID }) {
			continue
		}
		r := n.routers.byID[p.DeviceID]
		if r != nil && r.Gateway != nil && r.Gateway.NetworkID == externalID {
			return r
		}
	}
	return nil
}

// followAssociation lets the L3 agent report the floating IP up or down.
func (n *networkService) followAssociation(f *floatingIP) {
	n.s.after(n.s.scenario.Latency.PortActive.draw(n.s.rng), func() {
		status := "DOWN"
		if f.PortID != nil {
			status = "ACTIVE"
		}
		if n.floatingIPs.has(f) && f.Status != status {
			f.Status = status
			n.touch(f)
		}
	})
}

// detach takes a floating IP off its port.
func (n *networkService) detach(f *floatingIP) {
	if f.PortID == nil {
		return
	}
	id := *f.PortID
	if rest := without(n.floatingIPsOfPort[id], f); len(rest) > 0 {
		n.floatingIPsOfPort[id] = rest
	} else {
		delete(n.floatingIPsOfPort, id)
	}
	f.PortID, f.FixedIPAddress, f.RouterID = nil, nil, nil
	n.followAssociation(f)
	n.addressesChanged(n.ports.byID[id])
}

// disassociate takes all floating IPs off an address of a port; off all of its addresses when the
// address is empty.
func (n *networkService) disassociate(p *port, address string) {
	for _, f := range slices.Clone(n.floatingIPsOfPort[p.ID]) {
		if address == "" || *f.FixedIPAddress == address {
			n.detach(f)
			n.touch(f)
		}
	}
}

func (n *networkService) discardFloatingIP(f *floatingIP) {
	n.detach(f)
	n.discardPort(f.own)
	n.floatingIPs.remove(f)
}
