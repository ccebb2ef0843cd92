package webhooks

import (
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// parseCIDR reads a CIDR in the one form that every service stores it in, since Sendan compares
// what it wants with what the cloud has.
func parseCIDR(path *field.Path, value string) (netip.Prefix, *field.Error) {
	prefix, err := netip.ParsePrefix(value)
	if err != nil {
		return netip.Prefix{}, field.Invalid(path, value, "is not a CIDR; write it like 10.6.0.0/24 or fd00:6::/64")
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, field.Invalid(path, value, "is an IPv4 range written as IPv6; write it as IPv4")
	}
	if canonical := prefix.Masked().String(); canonical != value {
		return netip.Prefix{}, field.Invalid(path, value, fmt.Sprintf("is not the range itself; write %s", canonical))
	}
	return prefix, nil
}

// parseAddress reads an IP address without a zone.
func parseAddress(path *field.Path, value string) (netip.Addr, *field.Error) {
	address, err := netip.ParseAddr(value)
	if err != nil || address.Zone() != "" || address.Is4In6() {
		return netip.Addr{}, field.Invalid(path, value, "is not an IP address; write it like 10.6.0.10 or fd00:6::10")
	}
	return address, nil
}

// family names the IP version of an address.
func family(address netip.Addr) string {
	if address.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// lastAddress is the highest address of a range: the broadcast address in IPv4.
func lastAddress(prefix netip.Prefix) netip.Addr {
	bytes := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(bytes)*8; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	address, _ := netip.AddrFromSlice(bytes)
	return address
}
