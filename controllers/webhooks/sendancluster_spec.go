package webhooks

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// validateClusterSpec holds the rules that SendanClusters and their templates share.
func validateClusterSpec(spec *infrav1.SendanClusterSpec, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	var cidrs []netip.Prefix
	if managed := spec.Network.Managed; managed != nil {
		var bad field.ErrorList
		cidrs, bad = validateManagedNetwork(managed, path.Child("network", "managed"))
		wrong = append(wrong, bad...)
	}
	wrong = append(wrong, validateEndpoint(spec, cidrs, path)...)
	wrong = append(wrong, validateRules(spec.SecurityGroups.Rules, path.Child("securityGroups", "rules"))...)
	wrong = append(wrong, validateTags(spec.Tags, path.Child("tags"))...)
	return append(wrong, validateControlPlaneEndpoint(spec.ControlPlaneEndpoint, path.Child("controlPlaneEndpoint"))...)
}

func validateManagedNetwork(network *infrav1.ManagedNetwork, path *field.Path) ([]netip.Prefix, field.ErrorList) {
	cidrs, wrong := validateSubnetCIDRs(network.CIDRs, path.Child("cidrs"))
	readable := len(wrong) == 0
	for i, server := range network.DNSNameservers {
		at := path.Child("dnsNameservers").Index(i)
		address, bad := parseAddress(at, server)
		switch {
		case bad != nil:
			wrong = append(wrong, bad)
		case readable && !hasFamily(cidrs, address):
			wrong = append(wrong, field.Invalid(at, server, fmt.Sprintf("is %[1]s and no subnet is; remove it or add an %[1]s CIDR", family(address))))
		}
	}
	if isolated := ptr.Deref(network.RouterDisabled, false); isolated && !isZeroReference(network.ExternalNetwork) {
		wrong = append(wrong, field.Forbidden(path.Child("externalNetwork"), "no router leads to it; remove it or routerDisabled"))
	}
	return cidrs, wrong
}

// The prefix lengths a subnet may have.
const (
	// maxIPv4Bits leaves room for the gateway, the DHCP port, the endpoint and some machines.
	maxIPv4Bits = 29
	minIPv4Bits = 8
	// slaacBits is the only length that hosts can number themselves in (RFC 4862, section 5.5.3).
	slaacBits = 64
)

func validateSubnetCIDRs(values []string, path *field.Path) ([]netip.Prefix, field.ErrorList) {
	var cidrs []netip.Prefix
	var wrong field.ErrorList
	for i, value := range values {
		cidr, bad := parseSubnetCIDR(path.Index(i), value)
		if bad != nil {
			wrong = append(wrong, bad)
			continue
		}
		if len(cidrs) > 0 && hasFamily(cidrs, cidr.Addr()) {
			wrong = append(wrong, field.Invalid(path.Index(i), value, sameFamily(cidrs[0], cidr)))
			continue
		}
		cidrs = append(cidrs, cidr)
	}
	return cidrs, wrong
}

func parseSubnetCIDR(path *field.Path, value string) (netip.Prefix, *field.Error) {
	cidr, bad := parseCIDR(path, value)
	if bad != nil {
		return netip.Prefix{}, bad
	}
	switch {
	case cidr.Addr().IsMulticast():
		return netip.Prefix{}, field.Invalid(path, value, "is a multicast range; use a range of unicast addresses, such as 10.6.0.0/24")
	case cidr.Addr().Is6() && cidr.Bits() != slaacBits:
		return netip.Prefix{}, field.Invalid(path, value, fmt.Sprintf("has prefix length %d; an IPv6 subnet needs %d, or machines cannot number themselves", cidr.Bits(), slaacBits))
	case cidr.Addr().Is4() && (cidr.Bits() > maxIPv4Bits || cidr.Bits() < minIPv4Bits):
		return netip.Prefix{}, field.Invalid(path, value, fmt.Sprintf("has prefix length %d; an IPv4 subnet needs %d to %d", cidr.Bits(), minIPv4Bits, maxIPv4Bits))
	}
	return cidr, nil
}

func sameFamily(first, second netip.Prefix) string {
	overlap := ""
	if first.Overlaps(second) {
		overlap = fmt.Sprintf(" and overlaps %s", first)
	}
	return fmt.Sprintf("is a second %s range%s; give one, or one IPv4 and one IPv6 for dual stack", family(second.Addr()), overlap)
}

func hasFamily(cidrs []netip.Prefix, address netip.Addr) bool {
	for _, cidr := range cidrs {
		if cidr.Addr().Is4() == address.Is4() {
			return true
		}
	}
	return false
}

func isZeroReference(reference infrav1.ResourceReference) bool {
	return reference.ID == "" && reference.Name == "" && len(reference.Tags) == 0
}

// validateEndpoint takes the readable CIDRs of a managed network; none for an existing network.
func validateEndpoint(spec *infrav1.SendanClusterSpec, cidrs []netip.Prefix, path *field.Path) field.ErrorList {
	endpoint := spec.Endpoint
	at := path.Child("endpoint")
	var wrong field.ErrorList
	switch {
	case endpoint.External != nil:
		return nil
	case endpoint.VirtualIP != nil:
		at = at.Child("virtualIP")
		if address := endpoint.VirtualIP.Address; address != "" {
			wrong = append(wrong, validateVirtualIP(address, cidrs, at.Child("address"))...)
		}
		wrong = append(wrong, validateFloatingIP(endpoint.VirtualIP.FloatingIP, at.Child("floatingIP"))...)
	case endpoint.LoadBalancer != nil:
		at = at.Child("loadBalancer")
		wrong = append(wrong, validateAllowedCIDRs(endpoint.LoadBalancer.AllowedCIDRs, cidrs, at.Child("allowedCIDRs"))...)
		wrong = append(wrong, validateFloatingIP(endpoint.LoadBalancer.FloatingIP, at.Child("floatingIP"))...)
	}
	if wantsFloatingIP(endpoint) {
		wrong = append(wrong, validateFloatingIPReachable(spec, cidrs, path)...)
	}
	return wrong
}

// wantsFloatingIP: a load balancer has one unless it is disabled, a virtual IP only when asked for.
func wantsFloatingIP(endpoint infrav1.Endpoint) bool {
	switch {
	case endpoint.External != nil:
		return false
	case endpoint.VirtualIP != nil:
		floating := endpoint.VirtualIP.FloatingIP
		return floating.Address != "" || floating.Disabled != nil && !*floating.Disabled
	case endpoint.LoadBalancer != nil:
		return !ptr.Deref(endpoint.LoadBalancer.FloatingIP.Disabled, false)
	}
	return true
}

// validateFloatingIPReachable: a floating IP is an IPv4 address that a router translates.
func validateFloatingIPReachable(spec *infrav1.SendanClusterSpec, cidrs []netip.Prefix, path *field.Path) field.ErrorList {
	const remedy = "disable endpoint.loadBalancer.floatingIP, or choose endpoint.virtualIP without a floating IP or endpoint.external"
	managed := spec.Network.Managed
	if managed != nil && ptr.Deref(managed.RouterDisabled, false) {
		return field.ErrorList{field.Invalid(path.Child("network", "managed", "routerDisabled"), true,
			"the endpoint has a floating IP, which needs a router; enable the router, "+remedy)}
	}
	if len(cidrs) > 0 && cidrs[0].Addr().Is6() {
		return field.ErrorList{field.Invalid(path.Child("network", "managed", "cidrs").Index(0), cidrs[0].String(),
			"the endpoint has a floating IP, which is IPv4 and needs a primary IPv4 subnet; put an IPv4 CIDR first, "+remedy)}
	}
	return nil
}

func validateFloatingIP(floating infrav1.FloatingIP, path *field.Path) field.ErrorList {
	if floating.Address == "" {
		return nil
	}
	address, bad := parseAddress(path.Child("address"), floating.Address)
	switch {
	case bad != nil:
		return field.ErrorList{bad}
	case address.Is6():
		return field.ErrorList{field.Invalid(path.Child("address"), floating.Address, "is IPv6, and floating IPs are IPv4; give the address of an existing floating IP, or none to have one made")}
	}
	return nil
}

func validateVirtualIP(value string, cidrs []netip.Prefix, path *field.Path) field.ErrorList {
	address, bad := parseAddress(path, value)
	if bad != nil {
		return field.ErrorList{bad}
	}
	for _, cidr := range cidrs {
		if !cidr.Contains(address) {
			continue
		}
		// Neutron gives the first address to the gateway.
		if address == cidr.Addr() || address == cidr.Addr().Next() || address.Is4() && address == lastAddress(cidr) {
			return field.ErrorList{field.Invalid(path, value, fmt.Sprintf("is the network's own, the gateway's or the broadcast address of %s; choose another, or none to have one picked", cidr))}
		}
		return nil
	}
	if len(cidrs) > 0 {
		return field.ErrorList{field.Invalid(path, value, fmt.Sprintf("is not in %s; choose an address of the network, or none to have one picked", joinCIDRs(cidrs)))}
	}
	return nil
}

func joinCIDRs(cidrs []netip.Prefix) string {
	texts := make([]string, len(cidrs))
	for i, cidr := range cidrs {
		texts[i] = cidr.String()
	}
	return strings.Join(texts, " or ")
}

// validateAllowedCIDRs: Octavia refuses ranges of another family than the load balancer's address,
// which is taken from the first subnet.
func validateAllowedCIDRs(values []string, subnets []netip.Prefix, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	for i, value := range values {
		cidr, bad := parseCIDR(path.Index(i), value)
		switch {
		case bad != nil:
			wrong = append(wrong, bad)
		case len(subnets) > 0 && cidr.Addr().Is4() != subnets[0].Addr().Is4():
			wrong = append(wrong, field.Invalid(path.Index(i), value, fmt.Sprintf("is %s, and the load balancer's address is in %s; give ranges of that family", family(cidr.Addr()), subnets[0])))
		}
	}
	return wrong
}

func validateRules(rules []infrav1.SecurityGroupRule, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	for i, rule := range rules {
		if bad := validateProtocol(rule.Protocol, path.Index(i).Child("protocol")); bad != nil {
			wrong = append(wrong, bad)
		}
		if rule.RemoteCIDR == "" {
			continue
		}
		cidr, bad := parseCIDR(path.Index(i).Child("remoteCIDR"), rule.RemoteCIDR)
		switch {
		case bad != nil:
			wrong = append(wrong, bad)
		case rule.Protocol == "ipv6-icmp" && cidr.Addr().Is4():
			wrong = append(wrong, field.Invalid(path.Index(i).Child("remoteCIDR"), rule.RemoteCIDR, "is IPv4 and the protocol is ipv6-icmp; use protocol icmp or an IPv6 range"))
		}
	}
	return wrong
}

// validateProtocol knows the names that the field's documentation lists and Neutron accepts.
func validateProtocol(protocol string, path *field.Path) *field.Error {
	switch protocol {
	case "", "tcp", "udp", "sctp", "icmp", "ipv6-icmp":
		return nil
	}
	if number, err := strconv.Atoi(protocol); err == nil && number >= 0 && number <= 255 {
		return nil
	}
	return field.Invalid(path, protocol, "is not a protocol; use tcp, udp, sctp, icmp, ipv6-icmp or a number from 0 to 255")
}

// validateTags: Neutron separates tags with commas in queries and Nova separates them with slashes in
// paths, so neither may be in a tag.
func validateTags(tags []string, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	for i, tag := range tags {
		if strings.ContainsAny(tag, ",/") {
			wrong = append(wrong, field.Invalid(path.Index(i), tag, `has a comma or a slash, which OpenStack refuses in a tag; use another character, such as "-"`))
		}
	}
	return wrong
}

func validateControlPlaneEndpoint(endpoint infrav1.APIEndpoint, path *field.Path) field.ErrorList {
	switch {
	case endpoint == infrav1.APIEndpoint{}:
		return nil
	case endpoint.Host == "":
		return field.ErrorList{field.Required(path.Child("host"), "port alone is no endpoint; set host too")}
	case endpoint.Port == 0:
		return field.ErrorList{field.Required(path.Child("port"), "host alone is no endpoint; set port too")}
	}
	if _, err := netip.ParseAddr(endpoint.Host); err == nil {
		return nil
	}
	if len(validation.IsDNS1123Subdomain(endpoint.Host)) > 0 {
		return field.ErrorList{field.Invalid(path.Child("host"), endpoint.Host, "is neither an IP address nor a DNS name; write it without scheme, port and brackets")}
	}
	return nil
}
