package simulator

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
)

// subnet is a Neutron subnet. It knows which of its addresses are taken.
type subnet struct {
	record
	Name            string        `json:"name"`
	NetworkID       string        `json:"network_id"`
	IPVersion       int           `json:"ip_version"`
	CIDR            string        `json:"cidr"`
	GatewayIP       *string       `json:"gateway_ip"`
	EnableDHCP      bool          `json:"enable_dhcp"`
	AllocationPools []addressPool `json:"allocation_pools"`
	DNSNameservers  []string      `json:"dns_nameservers"`
	HostRoutes      []hostRoute   `json:"host_routes"`
	IPv6RAMode      *string       `json:"ipv6_ra_mode"`
	IPv6AddressMode *string       `json:"ipv6_address_mode"`
	SubnetPoolID    *string       `json:"subnetpool_id"`
	SegmentID       *string       `json:"segment_id"`
	ServiceTypes    []string      `json:"service_types"`
	DNSPublish      bool          `json:"dns_publish_fixed_ip"`

	network *network
	prefix  netip.Prefix
	gateway netip.Addr // not valid when the subnet has none
	pools   []addressRange
	taken   map[netip.Addr]*port
	// last is the address handed out last: the next one is looked for behind it, so that an address
	// just given back rests for a while.
	last netip.Addr
}

type addressPool struct {
	Start string `json:"start"`
	End   string `json:"end"`
}

// hostRoute is a static route of a subnet's hosts or of a router.
type hostRoute struct {
	Destination string `json:"destination"`
	NextHop     string `json:"nexthop"`
}

// addressRange is closed on both ends.
type addressRange struct{ first, last netip.Addr }

func (r addressRange) contains(a netip.Addr) bool {
	return r.first.Compare(a) <= 0 && a.Compare(r.last) <= 0
}

// size is a float because IPv6 ranges outgrow every integer.
func (r addressRange) size() float64 {
	first, last := r.first.As16(), r.last.As16()
	size := 0.0
	for i := range first {
		size = size*256 + float64(last[i]) - float64(first[i])
	}
	return size + 1
}

func (r addressRange) String() string { return r.first.String() + "-" + r.last.String() }

type subnetAttributes struct {
	common
	NetworkID       optional[string]        `json:"network_id"`
	IPVersion       optional[whole]         `json:"ip_version"`
	CIDR            optional[string]        `json:"cidr"`
	GatewayIP       optional[string]        `json:"gateway_ip"`
	EnableDHCP      optional[bool]          `json:"enable_dhcp"`
	AllocationPools optional[[]addressPool] `json:"allocation_pools"`
	DNSNameservers  optional[[]string]      `json:"dns_nameservers"`
	HostRoutes      optional[[]hostRoute]   `json:"host_routes"`
	IPv6RAMode      optional[string]        `json:"ipv6_ra_mode"`
	IPv6AddressMode optional[string]        `json:"ipv6_address_mode"`
	ServiceTypes    optional[[]string]      `json:"service_types"`
	DNSPublish      optional[bool]          `json:"dns_publish_fixed_ip"`
}

type subnetChange struct {
	Name            optional[string]        `json:"name"`
	Description     optional[string]        `json:"description"`
	GatewayIP       optional[string]        `json:"gateway_ip"`
	EnableDHCP      optional[bool]          `json:"enable_dhcp"`
	AllocationPools optional[[]addressPool] `json:"allocation_pools"`
	DNSNameservers  optional[[]string]      `json:"dns_nameservers"`
	HostRoutes      optional[[]hostRoute]   `json:"host_routes"`
	ServiceTypes    optional[[]string]      `json:"service_types"`
	DNSPublish      optional[bool]          `json:"dns_publish_fixed_ip"`
}

func (n *networkService) subnetResource() resource[*subnet] {
	return resource[*subnet]{
		singular: "subnet", plural: "subnets", path: "subnets", objects: &n.subnets,
		missing: subnetMissing, create: n.createSubnet, update: n.updateSubnet,
		blocked: n.subnetBlocked, discard: n.discardSubnet,
		shared: func(sub *subnet) bool { return sub.network.Shared },
	}
}

func subnetMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "SubnetNotFound", "Subnet %s could not be found.", id)
}

func newSubnet(head record, net *network, prefix netip.Prefix) *subnet {
	version := 6
	if prefix.Addr().Is4() {
		version = 4
	}
	return &subnet{
		record: head, NetworkID: net.ID, IPVersion: version, CIDR: prefix.String(), EnableDHCP: true,
		DNSNameservers: []string{}, HostRoutes: []hostRoute{}, ServiceTypes: []string{},
		network: net, prefix: prefix, taken: map[netip.Addr]*port{},
	}
}

func (n *networkService) createSubnet(c *call, body []byte) (*subnet, error) {
	var asked subnetAttributes
	if err := readNew(body, &asked, subnet{}); err != nil {
		return nil, err
	}
	net, err := n.visibleNetwork(c, asked.NetworkID.value)
	if err != nil {
		return nil, err
	}
	if !owns(c, net) {
		return nil, disallowed("create_subnet and rule:create_subnet:network_id")
	}
	prefix, err := asked.prefix()
	if err != nil {
		return nil, err
	}
	if err := checkOverlap(net, prefix); err != nil {
		return nil, err
	}
	if err := asked.checkIPv6Modes(prefix); err != nil {
		return nil, err
	}
	head, err := n.begin(c, asked.common, "subnet", n.subnets.ofProject)
	if err != nil {
		return nil, err
	}
	sub := newSubnet(head, net, prefix)
	if err := asked.fill(sub); err != nil {
		return nil, err
	}
	n.addSubnet(sub)
	return sub, nil
}

// prefix checks the CIDR the way Neutron's validators do.
func (a *subnetAttributes) prefix() (netip.Prefix, error) {
	prefix, err := netip.ParsePrefix(a.CIDR.value)
	if err != nil {
		return prefix, invalidInput("cidr", "'%s' is not a valid IP subnet", a.CIDR.value)
	}
	if prefix != prefix.Masked() {
		return prefix, invalidInput("cidr", "'%s' isn't a recognized IP subnet cidr, '%s' is recommended", a.CIDR.value, prefix.Masked())
	}
	version := int(a.IPVersion.or(0))
	if version != 4 && version != 6 {
		return prefix, invalidInput("ip_version", "'%v' is not in [4, 6]", version)
	}
	if prefix.Addr().Is4() != (version == 4) {
		return prefix, badSubnet("'cidr' %s does not match the ip_version '%d'", prefix, version)
	}
	return prefix, nil
}

func badSubnet(format string, args ...any) *problem {
	return networkProblem(http.StatusBadRequest, "InvalidInput", "Invalid input for operation: %s.", fmt.Sprintf(format, args...))
}

func checkOverlap(net *network, prefix netip.Prefix) error {
	for _, other := range net.subnets {
		if other.prefix.Overlaps(prefix) {
			return badSubnet("Requested subnet with cidr: %s for network: %s overlaps with another subnet", prefix, net.ID)
		}
	}
	return nil
}

func (a *subnetAttributes) checkIPv6Modes(prefix netip.Prefix) error {
	for _, mode := range []struct {
		name  string
		value optional[string]
	}{{"ipv6_ra_mode", a.IPv6RAMode}, {"ipv6_address_mode", a.IPv6AddressMode}} {
		if mode.value.or("") == "" {
			continue
		}
		if prefix.Addr().Is4() {
			return badSubnet("Cannot set %s when ip_version is 4", mode.name)
		}
		if !slices.Contains([]string{"dhcpv6-stateful", "dhcpv6-stateless", "slaac"}, mode.value.value) {
			return invalidInput(mode.name, "'%s' is not in ['dhcpv6-stateful', 'dhcpv6-stateless', 'slaac']", mode.value.value)
		}
		if mode.value.value != "dhcpv6-stateful" && prefix.Bits() != 64 {
			return badSubnet("Invalid CIDR %s for IPv6 address mode. OpenStack uses the EUI-64 address format, which requires the prefix to be /64", prefix)
		}
	}
	if ra, address := a.IPv6RAMode.or(""), a.IPv6AddressMode.or(""); ra != "" && address != "" && ra != address {
		return badSubnet("ipv6_ra_mode set to '%s' with ipv6_address_mode set to '%s' is not valid. If both attributes are set, they must be the same value", ra, address)
	}
	return nil
}

// fill writes what was asked for into a new subnet.
func (a *subnetAttributes) fill(sub *subnet) error {
	a.Name.to(&sub.Name)
	sub.EnableDHCP = a.EnableDHCP.or(true)
	sub.DNSNameservers = a.DNSNameservers.or(sub.DNSNameservers)
	sub.HostRoutes = a.HostRoutes.or(sub.HostRoutes)
	sub.ServiceTypes = a.ServiceTypes.or(sub.ServiceTypes)
	sub.DNSPublish = a.DNSPublish.value
	sub.IPv6RAMode, sub.IPv6AddressMode = textOrNull(a.IPv6RAMode.value), textOrNull(a.IPv6AddressMode.value)
	if err := checkNameservers(sub.DNSNameservers); err != nil {
		return err
	}
	if !a.GatewayIP.set {
		sub.gateway = sub.prefix.Masked().Addr().Next()
	} else if err := sub.setGateway(a.GatewayIP); err != nil {
		return err
	}
	sub.GatewayIP = addressOrNull(sub.gateway)
	pools := defaultPools(sub.prefix, sub.gateway)
	if a.AllocationPools.set && !a.AllocationPools.null {
		var err error
		if pools, err = sub.readPools(a.AllocationPools.value); err != nil {
			return err
		}
	}
	sub.setPools(pools)
	return nil
}

func textOrNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func addressOrNull(a netip.Addr) *string {
	if !a.IsValid() {
		return nil
	}
	return textOrNull(a.String())
}

func checkNameservers(servers []string) error {
	for i, server := range servers {
		if _, err := netip.ParseAddr(server); err != nil {
			return invalidInput("dns_nameservers", "'%s' is not a valid nameserver. '%s' is not a valid IP address", server, server)
		}
		if slices.Contains(servers[:i], server) {
			return invalidInput("dns_nameservers", "Duplicate nameserver '%s'", server)
		}
	}
	return nil
}

// setGateway takes an address of the subnet, or none.
func (sub *subnet) setGateway(asked optional[string]) error {
	if asked.null || asked.value == "" {
		sub.gateway = netip.Addr{}
		return nil
	}
	gateway, err := netip.ParseAddr(asked.value)
	if err != nil {
		return invalidInput("gateway_ip", "'%s' is not a valid IP address", asked.value)
	}
	if gateway.Is4() != sub.prefix.Addr().Is4() {
		return badSubnet("'gateway_ip' %s does not match the ip_version '%d'", gateway, sub.IPVersion)
	}
	if sub.prefix.Contains(gateway) && !isHost(sub.prefix, gateway) {
		return badSubnet("Gateway is not valid on subnet")
	}
	sub.gateway = gateway
	return nil
}

// readPools checks that allocation pools lie in the subnet, apart from each other and from the
// gateway.
func (sub *subnet) readPools(asked []addressPool) ([]addressRange, error) {
	var pools []addressRange
	for _, pool := range asked {
		first, errFirst := netip.ParseAddr(pool.Start)
		last, errLast := netip.ParseAddr(pool.End)
		if errFirst != nil || errLast != nil || first.Is4() != last.Is4() || last.Less(first) {
			return nil, networkProblem(http.StatusBadRequest, "InvalidAllocationPool", "The allocation pool %s-%s is not valid.", pool.Start, pool.End)
		}
		span := addressRange{first, last}
		if !sub.prefix.Contains(first) || !sub.prefix.Contains(last) {
			return nil, networkProblem(http.StatusBadRequest, "OutOfBoundsAllocationPool", "The allocation pool %s spans beyond the subnet cidr %s.", span, sub.prefix)
		}
		if sub.gateway.IsValid() && span.contains(sub.gateway) {
			return nil, networkProblem(http.StatusConflict, "GatewayConflictWithAllocationPools", "Gateway ip %s conflicts with allocation pool %s.", sub.gateway, span)
		}
		for _, other := range pools {
			if span.contains(other.first) || other.contains(span.first) {
				return nil, networkProblem(http.StatusConflict, "OverlappingAllocationPools", "Found overlapping allocation pools: %s %s for subnet %s.", other, span, sub.prefix)
			}
		}
		pools = append(pools, span)
	}
	slices.SortFunc(pools, func(a, b addressRange) int { return a.first.Compare(b.first) })
	return pools, nil
}

// defaultPools are all hosts of a subnet but its gateway.
func defaultPools(prefix netip.Prefix, gateway netip.Addr) []addressRange {
	hosts := addressRange{prefix.Masked().Addr(), lastAddress(prefix)}
	if hosts.first != hosts.last && (prefix.Addr().Is6() || prefix.Bits() != 31) {
		hosts.first = hosts.first.Next()
		if prefix.Addr().Is4() {
			hosts.last = hosts.last.Prev() // broadcast
		}
	}
	if !gateway.IsValid() || !hosts.contains(gateway) {
		return []addressRange{hosts}
	}
	var pools []addressRange
	if hosts.first != gateway {
		pools = append(pools, addressRange{hosts.first, gateway.Prev()})
	}
	if hosts.last != gateway {
		pools = append(pools, addressRange{gateway.Next(), hosts.last})
	}
	return pools
}

func lastAddress(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// isHost reports whether a machine may have an address: the network and, in IPv4, the broadcast
// address are no machine's.
func isHost(prefix netip.Prefix, a netip.Addr) bool {
	if !prefix.Contains(a) {
		return false
	}
	if a.Is4() && prefix.Bits() < 31 {
		return a != prefix.Masked().Addr() && a != lastAddress(prefix)
	}
	return true
}

func (sub *subnet) setPools(pools []addressRange) {
	sub.pools = pools
	sub.GatewayIP = addressOrNull(sub.gateway)
	sub.AllocationPools = []addressPool{}
	for _, pool := range pools {
		sub.AllocationPools = append(sub.AllocationPools, addressPool{pool.first.String(), pool.last.String()})
	}
}

// assignsBySLAAC says that ports make their address from their MAC.
func (sub *subnet) assignsBySLAAC() bool {
	mode := sub.IPv6AddressMode
	return mode != nil && *mode != "dhcpv6-stateful"
}

// free finds the next free address of the pools.
func (sub *subnet) free() (netip.Addr, bool) {
	for _, behindLast := range []bool{true, false} {
		for _, pool := range sub.pools {
			a := pool.first
			if behindLast && sub.last.IsValid() {
				if pool.last.Compare(sub.last) <= 0 {
					continue
				}
				if pool.contains(sub.last) {
					a = sub.last.Next()
				}
			}
			for ; a.IsValid() && pool.contains(a); a = a.Next() {
				if sub.taken[a] == nil {
					return a, true
				}
			}
		}
	}
	return netip.Addr{}, false
}

func (n *networkService) addSubnet(sub *subnet) {
	n.subnets.add(sub)
	sub.network.subnets = append(sub.network.subnets, sub)
	sub.network.listSubnets()
}

// listSubnets writes the ids into the network, and the zone that serves them.
func (net *network) listSubnets() {
	net.Subnets, net.AvailabilityZones = []string{}, []string{}
	for _, sub := range net.subnets {
		net.Subnets = append(net.Subnets, sub.ID)
		net.AvailabilityZones = []string{networkZone}
	}
}

func (n *networkService) updateSubnet(_ *call, sub *subnet, body []byte) error {
	var asked subnetChange
	if err := readChange(body, &asked, subnet{}); err != nil {
		return err
	}
	if err := checkNameservers(asked.DNSNameservers.value); err != nil {
		return err
	}
	changed := *sub
	if asked.GatewayIP.set {
		if err := changed.setGateway(asked.GatewayIP); err != nil {
			return err
		}
	}
	pools := sub.AllocationPools
	if asked.AllocationPools.set {
		pools = asked.AllocationPools.value
	}
	spans, err := changed.readPools(pools)
	if err != nil {
		return err
	}
	if asked.GatewayIP.set && changed.gateway != sub.gateway {
		if holder := sub.taken[sub.gateway]; holder != nil {
			return networkProblem(http.StatusConflict, "GatewayIpInUse", "Current gateway ip %s already in use by port %s. Unable to update.", sub.gateway, holder.ID)
		}
	}
	sub.gateway = changed.gateway
	sub.setPools(spans)
	asked.Name.to(&sub.Name)
	asked.Description.to(&sub.Description)
	asked.EnableDHCP.to(&sub.EnableDHCP)
	asked.DNSPublish.to(&sub.DNSPublish)
	if asked.DNSNameservers.set {
		sub.DNSNameservers = asked.DNSNameservers.or([]string{})
	}
	if asked.HostRoutes.set {
		sub.HostRoutes = asked.HostRoutes.or([]hostRoute{})
	}
	if asked.ServiceTypes.set {
		sub.ServiceTypes = asked.ServiceTypes.or([]string{})
	}
	return nil
}

func (n *networkService) subnetBlocked(_ *call, sub *subnet) error {
	for _, p := range sub.network.ports {
		if slices.ContainsFunc(p.FixedIPs, func(ip fixedIP) bool { return ip.SubnetID == sub.ID }) && !sub.leavesAlone(p) {
			return networkProblem(http.StatusConflict, "SubnetInUse",
				"Unable to complete operation on subnet %s: One or more ports have an IP allocation from this subnet.", sub.ID)
		}
	}
	return nil
}

// leavesAlone says that a port loses its address of this subnet without being asked: those made by
// SLAAC go away with it.
func (sub *subnet) leavesAlone(p *port) bool {
	return sub.assignsBySLAAC() && !isRouterOwned(p.DeviceOwner)
}

func (n *networkService) discardSubnet(sub *subnet) {
	for _, p := range sub.network.ports {
		p.FixedIPs = slices.DeleteFunc(p.FixedIPs, func(ip fixedIP) bool { return ip.SubnetID == sub.ID })
	}
	sub.network.subnets = without(sub.network.subnets, sub)
	sub.network.listSubnets()
	n.subnets.remove(sub)
}

// subnetsByFamily are a network's subnets of IPv4 and of IPv6, oldest first.
func (net *network) subnetsByFamily() (v4, v6 []*subnet) {
	for _, sub := range net.subnets {
		if sub.prefix.Addr().Is4() {
			v4 = append(v4, sub)
		} else {
			v6 = append(v6, sub)
		}
	}
	return v4, v6
}

// compareAddresses orders texts of addresses by value.
func compareAddresses(a, b string) int {
	left, errLeft := netip.ParseAddr(a)
	right, errRight := netip.ParseAddr(b)
	if errLeft != nil || errRight != nil {
		return cmp.Compare(a, b)
	}
	return left.Compare(right)
}
