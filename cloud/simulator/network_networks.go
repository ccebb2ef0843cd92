package simulator

import (
	"net/http"
	"net/netip"
	"slices"
)

const (
	tenantMTU   = 1450 // VXLAN over 1500
	externalMTU = 1500
	largestMTU  = 9000
	// networkZone is the one zone of network nodes; compute zones are another matter.
	networkZone = "nova"
)

// network is a Neutron network.
type network struct {
	record
	Name                  string   `json:"name"`
	AdminStateUp          bool     `json:"admin_state_up"`
	Status                string   `json:"status"`
	MTU                   int      `json:"mtu"`
	Subnets               []string `json:"subnets"`
	Shared                bool     `json:"shared"`
	External              bool     `json:"router:external"`
	IsDefault             *bool    `json:"is_default,omitempty"` // external networks only
	PortSecurityEnabled   bool     `json:"port_security_enabled"`
	AvailabilityZoneHints []string `json:"availability_zone_hints"`
	AvailabilityZones     []string `json:"availability_zones"`
	DNSDomain             string   `json:"dns_domain"`
	QoSPolicyID           *string  `json:"qos_policy_id"`
	IPv4AddressScope      *string  `json:"ipv4_address_scope"`
	IPv6AddressScope      *string  `json:"ipv6_address_scope"`
	L2Adjacency           bool     `json:"l2_adjacency"`

	subnets []*subnet
	ports   []*port
	// virtual is where this machine listens for virtual IPs of the network; retrying says that one is to be tried again.
	virtual  map[front]*virtualFront
	retrying bool
}

type networkAttributes struct {
	common
	AdminStateUp          optional[bool]     `json:"admin_state_up"`
	MTU                   optional[whole]    `json:"mtu"`
	Shared                optional[bool]     `json:"shared"`
	External              optional[bool]     `json:"router:external"`
	IsDefault             optional[bool]     `json:"is_default"`
	PortSecurityEnabled   optional[bool]     `json:"port_security_enabled"`
	AvailabilityZoneHints optional[[]string] `json:"availability_zone_hints"`
	DNSDomain             optional[string]   `json:"dns_domain"`
}

type networkChange struct {
	Name                optional[string] `json:"name"`
	Description         optional[string] `json:"description"`
	AdminStateUp        optional[bool]   `json:"admin_state_up"`
	MTU                 optional[whole]  `json:"mtu"`
	Shared              optional[bool]   `json:"shared"`
	External            optional[bool]   `json:"router:external"`
	IsDefault           optional[bool]   `json:"is_default"`
	PortSecurityEnabled optional[bool]   `json:"port_security_enabled"`
	DNSDomain           optional[string] `json:"dns_domain"`
}

func (n *networkService) networkResource() resource[*network] {
	return resource[*network]{
		singular: "network", plural: "networks", path: "networks", objects: &n.networks,
		missing: networkMissing, create: n.createNetwork, update: n.updateNetwork,
		blocked: n.networkBlocked, discard: n.discardNetwork,
		shared: func(net *network) bool { return net.Shared || net.External },
	}
}

func networkMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "NetworkNotFound", "Network %s could not be found.", id)
}

func (n *networkService) newNetwork(head record, name string) *network {
	return &network{
		record: head, Name: name, AdminStateUp: true, Status: "ACTIVE", MTU: tenantMTU, Subnets: []string{},
		PortSecurityEnabled: true, AvailabilityZoneHints: []string{}, AvailabilityZones: []string{}, L2Adjacency: true,
	}
}

func (n *networkService) createNetwork(c *call, body []byte) (*network, error) {
	var asked networkAttributes
	if err := readNew(body, &asked, network{}); err != nil {
		return nil, err
	}
	if err := mayShare(c, "create_network", asked.Shared, asked.External); err != nil {
		return nil, err
	}
	if err := checkMTU(asked.MTU); err != nil {
		return nil, err
	}
	for _, zone := range asked.AvailabilityZoneHints.value {
		if zone != networkZone {
			return nil, networkProblem(http.StatusNotFound, "AvailabilityZoneNotFound", "AvailabilityZone %s could not be found.", zone)
		}
	}
	head, err := n.begin(c, asked.common, "network", n.networks.ofProject)
	if err != nil {
		return nil, err
	}
	n.defaultGroup(head.ProjectID)
	net := n.newNetwork(head, asked.Name.value)
	net.AdminStateUp = asked.AdminStateUp.or(true)
	net.MTU = int(asked.MTU.or(tenantMTU))
	net.PortSecurityEnabled = asked.PortSecurityEnabled.or(true)
	net.AvailabilityZoneHints = asked.AvailabilityZoneHints.or(net.AvailabilityZoneHints)
	net.DNSDomain = asked.DNSDomain.value
	net.Shared = asked.Shared.value
	if net.External = asked.External.value; net.External {
		isDefault := asked.IsDefault.value
		net.IsDefault = &isDefault
	}
	n.networks.add(net)
	return net, nil
}

// mayShare keeps sharing a network for administrators.
func mayShare(c *call, rule string, shared, external optional[bool]) error {
	switch {
	case c.isAdmin():
		return nil
	case shared.value:
		return disallowed(rule + " and rule:" + rule + ":shared")
	case external.value:
		return disallowed(rule + " and rule:" + rule + ":router:external")
	}
	return nil
}

func checkMTU(mtu optional[whole]) error {
	if mtu.set && mtu.value > largestMTU {
		return networkProblem(http.StatusBadRequest, "InvalidInput", "Invalid input for operation: Requested MTU is too big, maximum is %d.", largestMTU)
	}
	if mtu.set && mtu.value < 0 {
		return invalidInput("mtu", "'%d' is too small - must be at least '0'", mtu.value)
	}
	return nil
}

func (n *networkService) updateNetwork(c *call, net *network, body []byte) error {
	var asked networkChange
	if err := readChange(body, &asked, network{}); err != nil {
		return err
	}
	if err := mayShare(c, "update_network", asked.Shared, asked.External); err != nil {
		return err
	}
	if err := checkMTU(asked.MTU); err != nil {
		return err
	}
	asked.Name.to(&net.Name)
	asked.Description.to(&net.Description)
	asked.AdminStateUp.to(&net.AdminStateUp)
	asked.Shared.to(&net.Shared)
	asked.External.to(&net.External)
	asked.PortSecurityEnabled.to(&net.PortSecurityEnabled)
	asked.DNSDomain.to(&net.DNSDomain)
	if asked.MTU.set {
		net.MTU = int(asked.MTU.value)
	}
	if asked.IsDefault.set {
		net.IsDefault = &asked.IsDefault.value
	}
	return nil
}

func (n *networkService) networkBlocked(_ *call, net *network) error {
	if len(net.ports) == 0 {
		return nil
	}
	return networkProblem(http.StatusConflict, "NetworkInUse",
		"Unable to complete operation on network %s. There are one or more ports still in use on the network, id for these ports is: %s.", net.ID, net.ports[0].ID)
}

func (n *networkService) discardNetwork(net *network) {
	for _, sub := range slices.Clone(net.subnets) {
		n.discardSubnet(sub)
	}
	n.networks.remove(net)
}

// visibleNetwork is a network that a project may put things on.
func (n *networkService) visibleNetwork(c *call, id string) (*network, error) {
	net, known := n.networks.byID[id]
	if !known || !n.networkResource().visible(c, net) {
		return nil, networkMissing(id)
	}
	return net, nil
}

// seedExternalNetwork makes one of the scenario's provider networks.
func (n *networkService) seedExternalNetwork(external ExternalNetwork) {
	owner := n.adminProject()
	head := n.newRecord(owner)
	head.ID, head.given = external.ID, true
	net := n.newNetwork(head, external.Name)
	isDefault := len(n.networks.inOrder) == 0
	net.External, net.IsDefault, net.MTU = true, &isDefault, externalMTU
	n.networks.add(net)

	head = n.newRecord(owner)
	head.ID, head.given = longID("external subnet", external.Name), true
	prefix := netip.MustParsePrefix(external.CIDR).Masked()
	sub := newSubnet(head, net, prefix)
	sub.Name = external.Name + "-subnet"
	sub.gateway = prefix.Addr().Next()
	sub.setPools(defaultPools(prefix, sub.gateway))
	n.addSubnet(sub)
}

// adminProject owns the networks of the scenario.
func (n *networkService) adminProject() string {
	for _, project := range n.s.scenario.Projects {
		if project.Name == "admin" {
			return project.ID
		}
	}
	return ""
}
