package simulator

import (
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The owners of ports that Neutron and Octavia use themselves.
const (
	ownerRouterInterface = "network:router_interface"
	ownerRouterGateway   = "network:router_gateway"
	ownerFloatingIP      = "network:floatingip"
	ownerSubPort         = "trunk:subport"
	ownerLoadBalancer    = "Octavia"
	ownerComputePrefix   = "compute:"
)

func isRouterOwned(owner string) bool {
	return owner == ownerRouterInterface || owner == ownerRouterGateway || owner == ownerFloatingIP
}

// port is a Neutron port.
type port struct {
	record
	Name                string         `json:"name"`
	NetworkID           string         `json:"network_id"`
	MACAddress          string         `json:"mac_address"`
	AdminStateUp        bool           `json:"admin_state_up"`
	Status              string         `json:"status"`
	DeviceID            string         `json:"device_id"`
	DeviceOwner         string         `json:"device_owner"`
	FixedIPs            []fixedIP      `json:"fixed_ips"`
	AllowedAddressPairs []addressPair  `json:"allowed_address_pairs"`
	ExtraDHCPOpts       []any          `json:"extra_dhcp_opts"`
	SecurityGroups      []string       `json:"security_groups"`
	PortSecurityEnabled bool           `json:"port_security_enabled"`
	VNICType            string         `json:"binding:vnic_type"`
	Profile             map[string]any `json:"binding:profile"`
	DNSName             string         `json:"dns_name"`
	DNSDomain           string         `json:"dns_domain"`
	IPAllocation        string         `json:"ip_allocation"`
	QoSPolicyID         *string        `json:"qos_policy_id"`
	QoSNetworkPolicyID  *string        `json:"qos_network_policy_id"`
	ResourceRequest     *string        `json:"resource_request"`

	host    string // the hypervisor the port is bound to
	network *network
	trunk   *trunk // the port is its parent
	carrier *trunk // the port is a sub port of it
	// bindings counts how often the port was bound and unbound, so that what was planned for one
	// binding does not reach the next.
	bindings int
}

type fixedIP struct {
	SubnetID  string `json:"subnet_id"`
	IPAddress string `json:"ip_address"`
}

type addressPair struct {
	MACAddress string `json:"mac_address"`
	IPAddress  string `json:"ip_address"`
}

// portView is a port as the API shows it. The binding is for administrators, as in Neutron's policy.
type portView struct {
	*port
	DNSAssignment []dnsAssignment   `json:"dns_assignment"`
	TrunkDetails  *trunkDetails     `json:"trunk_details,omitempty"`
	HostID        *string           `json:"binding:host_id,omitempty"`
	VIFType       string            `json:"binding:vif_type,omitempty"`
	VIFDetails    map[string]string `json:"binding:vif_details,omitempty"`
}

type dnsAssignment struct {
	Hostname  string `json:"hostname"`
	IPAddress string `json:"ip_address"`
	FQDN      string `json:"fqdn"`
}

// portSettings are the attributes that a port may be given and may change.
type portSettings struct {
	Name                optional[string]         `json:"name"`
	Description         optional[string]         `json:"description"`
	AdminStateUp        optional[bool]           `json:"admin_state_up"`
	MACAddress          optional[string]         `json:"mac_address"`
	DeviceID            optional[string]         `json:"device_id"`
	DeviceOwner         optional[string]         `json:"device_owner"`
	FixedIPs            optional[[]fixedIP]      `json:"fixed_ips"`
	AllowedAddressPairs optional[[]addressPair]  `json:"allowed_address_pairs"`
	ExtraDHCPOpts       optional[[]any]          `json:"extra_dhcp_opts"`
	SecurityGroups      optional[[]string]       `json:"security_groups"`
	PortSecurityEnabled optional[bool]           `json:"port_security_enabled"`
	VNICType            optional[string]         `json:"binding:vnic_type"`
	Profile             optional[map[string]any] `json:"binding:profile"`
	HostID              optional[string]         `json:"binding:host_id"`
	DNSName             optional[string]         `json:"dns_name"`
	DNSDomain           optional[string]         `json:"dns_domain"`
	QoSPolicyID         optional[string]         `json:"qos_policy_id"`
	PropagateUplink     optional[bool]           `json:"propagate_uplink_status"`
}

type portAttributes struct {
	portSettings
	ProjectID optional[string]   `json:"project_id"`
	TenantID  optional[string]   `json:"tenant_id"`
	NetworkID optional[string]   `json:"network_id"`
	Tags      optional[[]string] `json:"tags"`
}

func (n *networkService) portResource() resource[*port] {
	return resource[*port]{
		singular: "port", plural: "ports", path: "ports", objects: &n.ports,
		missing: portMissing, create: n.createPort, update: n.updatePort,
		blocked: n.portBlocked, discard: n.discardPort, view: n.viewPort, filter: filterPort,
	}
}

func portMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "PortNotFound", "Port %s could not be found.", id)
}

func (n *networkService) viewPort(c *call, p *port) any {
	view := portView{port: p, DNSAssignment: []dnsAssignment{}}
	for _, ip := range p.FixedIPs {
		name := p.DNSName
		if name == "" {
			name = "host-" + strings.NewReplacer(".", "-", ":", "-").Replace(ip.IPAddress)
		}
		view.DNSAssignment = append(view.DNSAssignment, dnsAssignment{name, ip.IPAddress, name + ".openstacklocal."})
	}
	if p.trunk != nil {
		view.TrunkDetails = n.trunkDetailsOf(p.trunk)
	}
	if c.isAdmin() {
		view.HostID, view.VIFType, view.VIFDetails = &p.host, "unbound", map[string]string{}
		if p.host != "" {
			view.VIFType = "ovs"
		}
	}
	return view
}

// filterPort answers for fixed_ips=ip_address=…, ip_address_substr and security_groups.
func filterPort(p *port, name string, values []string) (matched, known bool) {
	switch name {
	case "fixed_ips":
		return slices.ContainsFunc(p.FixedIPs, func(ip fixedIP) bool { return ip.fits(values) }), true
	case "binding:host_id":
		return slices.Contains(values, p.host), true
	}
	return false, false
}

// fits says that an address agrees with every kind of condition; conditions of one kind are
// alternatives.
func (ip fixedIP) fits(conditions []string) bool {
	agreed := map[string]bool{}
	for _, condition := range conditions {
		kind, value, _ := strings.Cut(condition, "=")
		switch kind {
		case "ip_address":
			agreed[kind] = agreed[kind] || compareAddresses(value, ip.IPAddress) == 0
		case "ip_address_substr":
			agreed[kind] = agreed[kind] || strings.Contains(ip.IPAddress, value)
		case "subnet_id":
			agreed[kind] = agreed[kind] || value == ip.SubnetID
		}
	}
	for _, agrees := range agreed {
		if !agrees {
			return false
		}
	}
	return true
}

func (n *networkService) createPort(c *call, body []byte) (*port, error) {
	var asked portAttributes
	if err := readNew(body, &asked, portView{port: &port{}}); err != nil {
		return nil, err
	}
	net, err := n.visibleNetwork(c, asked.NetworkID.value)
	if err != nil {
		return nil, err
	}
	project, err := ownerOf(c, asked.ProjectID, asked.TenantID)
	if err != nil {
		return nil, err
	}
	p, err := n.makePort(project, net, asked.portSettings)
	if err != nil {
		return nil, err
	}
	p.Tags = asked.Tags.or(p.Tags)
	return p, nil
}

// makePort makes a port for anybody: the API, Nova, routers and Octavia.
func (n *networkService) makePort(project string, net *network, asked portSettings) (*port, error) {
	if project != "" {
		if err := n.checkQuota(project, "port", n.ports.ofProject[project]); err != nil {
			return nil, err
		}
	}
	p := &port{
		record: n.newRecord(project), NetworkID: net.ID, AdminStateUp: true, Status: "DOWN", FixedIPs: []fixedIP{},
		AllowedAddressPairs: []addressPair{}, ExtraDHCPOpts: []any{}, SecurityGroups: []string{},
		PortSecurityEnabled: net.PortSecurityEnabled, VNICType: "normal", Profile: map[string]any{}, IPAllocation: "immediate",
		network: net,
	}
	if asked.DeviceOwner.value == ownerFloatingIP {
		p.Status = "N/A"
	}
	if !asked.SecurityGroups.set || asked.SecurityGroups.null {
		asked.SecurityGroups = optional[[]string]{set: true, value: n.groupsByDefault(project, net, asked)}
	}
	if !asked.MACAddress.set || asked.MACAddress.null {
		asked.MACAddress = optional[string]{set: true, value: n.newMAC()}
	}
	if !asked.FixedIPs.set || asked.FixedIPs.null {
		p.MACAddress = asked.MACAddress.value
		addresses, err := n.anyAddresses(p, isRouterOwned(asked.DeviceOwner.value))
		if err != nil {
			return nil, err
		}
		p.FixedIPs = addresses
	}
	if err := n.configurePort(p, asked); err != nil {
		return nil, err
	}
	n.ports.add(p)
	net.ports = append(net.ports, p)
	n.claim(p)
	return p, nil
}

// newMAC is an address of the range that Neutron uses by default.
func (n *networkService) newMAC() string {
	n.macs++
	var tail [4]byte
	binary.BigEndian.PutUint32(tail[:], n.macs)
	return net.HardwareAddr{0xfa, 0x16, 0x3e, tail[1], tail[2], tail[3]}.String()
}

// groupsByDefault is the project's default group, except for ports without port security and those of
// the network itself.
func (n *networkService) groupsByDefault(project string, net *network, asked portSettings) []string {
	if project == "" || !asked.PortSecurityEnabled.or(net.PortSecurityEnabled) || strings.HasPrefix(asked.DeviceOwner.value, "network:") {
		return []string{}
	}
	return []string{n.defaultGroup(project).ID}
}

// configurePort checks all settings before it takes over any.
func (n *networkService) configurePort(p *port, asked portSettings) error {
	mac, err := n.checkMAC(p, asked.MACAddress)
	if err != nil {
		return err
	}
	changed := *p
	changed.MACAddress = mac
	asked.PortSecurityEnabled.to(&changed.PortSecurityEnabled)
	if asked.FixedIPs.set && !asked.FixedIPs.null {
		if changed.FixedIPs, err = n.addresses(&changed, asked.FixedIPs.value); err != nil {
			return err
		}
	}
	if changed.SecurityGroups, err = n.checkGroups(p, asked.SecurityGroups); err != nil {
		return err
	}
	if changed.AllowedAddressPairs, err = checkPairs(p.AllowedAddressPairs, mac, asked.AllowedAddressPairs); err != nil {
		return err
	}
	if err := changed.checkPortSecurity(); err != nil {
		return err
	}
	if err := checkVNICType(asked.VNICType); err != nil {
		return err
	}
	n.release(p)
	p.MACAddress, p.PortSecurityEnabled, p.FixedIPs = mac, changed.PortSecurityEnabled, changed.FixedIPs
	p.SecurityGroups, p.AllowedAddressPairs = changed.SecurityGroups, changed.AllowedAddressPairs
	if n.ports.has(p) {
		n.claim(p)
	}
	asked.Name.to(&p.Name)
	asked.Description.to(&p.Description)
	asked.AdminStateUp.to(&p.AdminStateUp)
	asked.VNICType.to(&p.VNICType)
	asked.DNSName.to(&p.DNSName)
	asked.DNSDomain.to(&p.DNSDomain)
	if asked.Profile.set {
		p.Profile = asked.Profile.or(map[string]any{})
	}
	if asked.ExtraDHCPOpts.set {
		p.ExtraDHCPOpts = asked.ExtraDHCPOpts.or([]any{})
	}
	n.setDevice(p, askedOr(asked.DeviceID, p.DeviceID), askedOr(asked.DeviceOwner, p.DeviceOwner))
	if asked.HostID.set && asked.HostID.value != p.host {
		n.setHost(p, asked.HostID.value)
	}
	return nil
}

// askedOr is what was asked for, or what is there when nothing was.
func askedOr(asked optional[string], present string) string {
	asked.to(&present)
	return present
}

func (n *networkService) checkMAC(p *port, asked optional[string]) (string, error) {
	if !asked.set {
		return p.MACAddress, nil
	}
	mac, err := net.ParseMAC(asked.value)
	if err != nil {
		return "", invalidInput("mac_address", "'%s' is not a valid MAC address", asked.value)
	}
	for _, other := range p.network.ports {
		if other != p && other.MACAddress == mac.String() {
			return "", networkProblem(http.StatusConflict, "MacAddressInUse",
				"Unable to complete operation for network %s. The mac address %s is in use.", p.NetworkID, mac)
		}
	}
	return mac.String(), nil
}

func (n *networkService) checkGroups(p *port, asked optional[[]string]) ([]string, error) {
	if !asked.set {
		return p.SecurityGroups, nil
	}
	groups := []string{}
	for _, id := range asked.value {
		group, known := n.securityGroups.byID[id]
		if !known || p.ProjectID != "" && group.ProjectID != p.ProjectID {
			return nil, groupMissing(id)
		}
		if !slices.Contains(groups, id) {
			groups = append(groups, id)
		}
	}
	return groups, nil
}

// checkPairs completes allowed address pairs with the port's own MAC.
func checkPairs(present []addressPair, mac string, asked optional[[]addressPair]) ([]addressPair, error) {
	if !asked.set {
		return present, nil
	}
	pairs := []addressPair{}
	for _, pair := range asked.value {
		if _, err := netip.ParseAddr(pair.IPAddress); err != nil {
			if _, err := netip.ParsePrefix(pair.IPAddress); err != nil {
				return nil, invalidInput("allowed_address_pairs", "'%s' is not a valid IP subnet", pair.IPAddress)
			}
		}
		if pair.MACAddress == "" {
			pair.MACAddress = mac
		}
		if slices.Contains(pairs, pair) {
			return nil, networkProblem(http.StatusBadRequest, "DuplicateAddressPairInRequest",
				"Request contains duplicate address pair: mac_address %s ip_address %s.", pair.MACAddress, pair.IPAddress)
		}
		pairs = append(pairs, pair)
	}
	return pairs, nil
}

func (p *port) checkPortSecurity() error {
	switch {
	case p.PortSecurityEnabled:
		return nil
	case len(p.SecurityGroups) > 0:
		return networkProblem(http.StatusConflict, "PortSecurityPortHasSecurityGroup",
			"Port has security group associated. Cannot disable port security or IP address until security group is removed.")
	case len(p.AllowedAddressPairs) > 0:
		return networkProblem(http.StatusConflict, "AddressPairAndPortSecurityRequired",
			"Port Security must be enabled in order to have allowed address pairs on a port.")
	}
	return nil
}

func checkVNICType(asked optional[string]) error {
	types := []string{"normal", "direct", "macvtap", "baremetal", "direct-physical", "virtio-forwarder", "smart-nic", "vdpa", "accelerator-direct", "accelerator-direct-physical", "remote-managed"}
	if asked.set && !slices.Contains(types, asked.value) {
		return invalidInput("binding:vnic_type", "'%s' is not in ['%s']", asked.value, strings.Join(types, "', '"))
	}
	return nil
}

// addresses turns what was asked for into addresses of the port's network.
func (n *networkService) addresses(p *port, asked []fixedIP) ([]fixedIP, error) {
	addresses := []fixedIP{}
	// Addresses taken for this request show only in the list so far, so keep the port's own ones and
	// mark the others for as long as this goes on.
	var marked []fixedIP
	defer func() {
		for _, ip := range marked {
			sub := n.subnets.byID[ip.SubnetID]
			if a := netip.MustParseAddr(ip.IPAddress); sub.taken[a] == p {
				delete(sub.taken, a)
			}
		}
	}()
	for _, wanted := range asked {
		sub, err := n.subnetFor(p.network, wanted)
		if err != nil {
			return nil, err
		}
		ip, err := sub.address(p, wanted.IPAddress)
		if err != nil {
			return nil, err
		}
		if slices.Contains(addresses, ip) {
			return nil, invalidInput("fixed_ips", "Duplicate IP address '%s'", ip.IPAddress)
		}
		if a := netip.MustParseAddr(ip.IPAddress); sub.taken[a] == nil {
			sub.taken[a] = p
			marked = append(marked, ip)
		}
		addresses = append(addresses, ip)
	}
	return addresses, nil
}

// subnetFor finds the subnet of a wanted address.
func (n *networkService) subnetFor(net *network, wanted fixedIP) (*subnet, error) {
	if wanted.SubnetID != "" {
		sub, known := n.subnets.byID[wanted.SubnetID]
		switch {
		case !known:
			return nil, subnetMissing(wanted.SubnetID)
		case sub.network != net:
			return nil, badSubnet("Failed to create port on network %s, because fixed_ips included invalid subnet %s", net.ID, wanted.SubnetID)
		}
		return sub, nil
	}
	a, err := netip.ParseAddr(wanted.IPAddress)
	if err != nil {
		return nil, invalidInput("fixed_ips", "'%s' is not a valid IP address", wanted.IPAddress)
	}
	for _, sub := range net.subnets {
		if sub.prefix.Contains(a) {
			return sub, nil
		}
	}
	return nil, networkProblem(http.StatusBadRequest, "InvalidIpForNetwork", "IP address %s is not a valid IP for any of the subnets on the specified network.", wanted.IPAddress)
}

// address is a certain address of the subnet, or any for an empty one.
func (sub *subnet) address(p *port, wanted string) (fixedIP, error) {
	if wanted == "" {
		if sub.assignsBySLAAC() && !isRouterOwned(p.DeviceOwner) {
			return fixedIP{sub.ID, sub.slaacAddress(p.MACAddress).String()}, nil
		}
		free, ok := sub.free()
		if !ok {
			return fixedIP{}, networkProblem(http.StatusConflict, "IpAddressGenerationFailure", "No more IP addresses available on network %s.", sub.NetworkID)
		}
		sub.last = free
		return fixedIP{sub.ID, free.String()}, nil
	}
	a, err := netip.ParseAddr(wanted)
	if err != nil {
		return fixedIP{}, invalidInput("fixed_ips", "'%s' is not a valid IP address", wanted)
	}
	if !isHost(sub.prefix, a) {
		return fixedIP{}, networkProblem(http.StatusBadRequest, "InvalidIpForSubnet", "IP address %s is not a valid IP for the specified subnet.", wanted)
	}
	if holder := sub.taken[a]; holder != nil && holder.ID != p.ID {
		return fixedIP{}, networkProblem(http.StatusConflict, "IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", wanted, sub.ID)
	}
	return fixedIP{sub.ID, a.String()}, nil
}

// slaacAddress makes an address from a MAC by EUI-64.
func (sub *subnet) slaacAddress(mac string) netip.Addr {
	hardware, _ := net.ParseMAC(mac) // checked when the port got it
	bytes := sub.prefix.Addr().As16()
	copy(bytes[8:], []byte{hardware[0] ^ 2, hardware[1], hardware[2], 0xff, 0xfe, hardware[3], hardware[4], hardware[5]})
	return netip.AddrFrom16(bytes)
}

// anyAddresses is what a port gets that asks for nothing: one IPv4 and one DHCPv6 address, and one
// of every subnet with SLAAC unless it is a router's.
func (n *networkService) anyAddresses(p *port, router bool) ([]fixedIP, error) {
	v4, v6 := p.network.subnetsByFamily()
	addresses := []fixedIP{}
	var stateful []*subnet
	for _, sub := range v6 {
		switch {
		case !sub.assignsBySLAAC() || router:
			stateful = append(stateful, sub)
		default:
			addresses = append(addresses, fixedIP{sub.ID, sub.slaacAddress(p.MACAddress).String()})
		}
	}
	for _, family := range [][]*subnet{stateful, v4} {
		if len(family) == 0 {
			continue
		}
		ip, err := n.firstFree(p, family)
		if err != nil {
			return nil, err
		}
		addresses = append([]fixedIP{ip}, addresses...)
	}
	return addresses, nil
}

func (n *networkService) firstFree(p *port, family []*subnet) (ip fixedIP, err error) {
	for _, sub := range family {
		if ip, err = sub.address(p, ""); err == nil {
			return ip, nil
		}
	}
	return fixedIP{}, err
}

// claim and release mark the addresses of a port in its subnets.
func (n *networkService) claim(p *port) {
	for _, ip := range p.FixedIPs {
		n.subnets.byID[ip.SubnetID].taken[netip.MustParseAddr(ip.IPAddress)] = p
	}
}

func (n *networkService) release(p *port) {
	for _, ip := range p.FixedIPs {
		sub, a := n.subnets.byID[ip.SubnetID], netip.MustParseAddr(ip.IPAddress)
		if sub != nil && sub.taken[a] == p {
			delete(sub.taken, a)
		}
	}
}

// setDevice keeps the index by device.
func (n *networkService) setDevice(p *port, device, owner string) {
	if p.DeviceID != device {
		if rest := without(n.portsOfDevice[p.DeviceID], p); len(rest) > 0 {
			n.portsOfDevice[p.DeviceID] = rest
		} else {
			delete(n.portsOfDevice, p.DeviceID)
		}
		if device != "" {
			n.portsOfDevice[device] = append(n.portsOfDevice[device], p)
		}
	}
	p.DeviceID, p.DeviceOwner = device, owner
}

// setHost binds a port to a hypervisor, whose agent then plugs it, or unbinds it.
func (n *networkService) setHost(p *port, host string) {
	p.host = host
	p.bindings++
	if host == "" {
		p.Status = "DOWN"
		n.trunkFollows(p)
		return
	}
	n.awaitPlugged(p)
}

// awaitPlugged lets a bound port become ACTIVE in its time.
func (n *networkService) awaitPlugged(p *port) {
	binding := p.bindings
	n.s.after(n.s.scenario.Latency.PortActive.draw(n.s.rng), func() {
		if n.ports.has(p) && p.bindings == binding && p.AdminStateUp && p.Status != "ACTIVE" {
			p.Status = "ACTIVE"
			n.touch(p)
			n.s.log.Debug("port is active", "port", p.ID, "device", p.DeviceID)
			n.trunkFollows(p)
		}
	})
}

func (n *networkService) updatePort(_ *call, p *port, body []byte) error {
	var asked portSettings
	if err := readChange(body, &asked, portView{port: &port{}}); err != nil {
		return err
	}
	if isRouterOwned(p.DeviceOwner) && asked.DeviceID.set && asked.DeviceID.value != p.DeviceID {
		return portInUse(p)
	}
	before := slices.Clone(p.FixedIPs)
	wasUp := p.AdminStateUp
	if err := n.configurePort(p, asked); err != nil {
		return err
	}
	for _, ip := range before {
		if !slices.Contains(p.FixedIPs, ip) {
			n.disassociate(p, ip.IPAddress)
		}
	}
	if wasUp != p.AdminStateUp {
		n.setHost(p, p.host)
		if !p.AdminStateUp {
			p.Status = "DOWN"
		}
		n.switchLink(p)
	}
	n.addressesChanged(p)
	return nil
}

func portInUse(p *port) *problem {
	return networkProblem(http.StatusConflict, "PortInUse",
		"Unable to complete operation on port %s for network %s. Port already has an attached device %s.", p.ID, p.NetworkID, p.DeviceID)
}

func (n *networkService) portBlocked(_ *call, p *port) error {
	if isRouterOwned(p.DeviceOwner) {
		return networkProblem(http.StatusConflict, "ServicePortInUse",
			"Port %s cannot be deleted directly via the port API: has device owner %s.", p.ID, p.DeviceOwner)
	}
	if p.trunk != nil {
		return networkProblem(http.StatusConflict, "PortInUseAsTrunkParent", "Port %s is currently a parent port for trunk %s.", p.ID, p.trunk.ID)
	}
	if p.carrier != nil {
		return networkProblem(http.StatusConflict, "PortInUseAsSubPort", "Port %s is currently a subport for trunk %s.", p.ID, p.carrier.ID)
	}
	return nil
}

// discardPort takes a port away. Floating IPs on it stay, without it.
func (n *networkService) discardPort(p *port) {
	n.disassociate(p, "")
	n.release(p)
	n.setDevice(p, "", "")
	p.network.ports = without(p.network.ports, p)
	n.ports.remove(p)
	n.addressesChanged(p)
}
