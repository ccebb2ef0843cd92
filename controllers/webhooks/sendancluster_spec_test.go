package webhooks

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// clusterSpec is a valid spec with a managed network, changed by the case.
func clusterSpec(change func(*infrav1.SendanClusterSpec)) *infrav1.SendanClusterSpec {
	spec := &infrav1.SendanClusterSpec{
		IdentityRef: infrav1.IdentityReference{Kind: infrav1.IdentitySecret, Name: "cloud", CloudName: "openstack"},
		Network:     infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}},
	}
	change(spec)
	return spec
}

func cidrs(values ...string) func(*infrav1.SendanClusterSpec) {
	return func(spec *infrav1.SendanClusterSpec) { spec.Network.Managed.CIDRs = values }
}

func existingNetwork(spec *infrav1.SendanClusterSpec) {
	spec.Network = infrav1.ClusterNetwork{Existing: &infrav1.ExistingNetwork{Network: infrav1.ResourceReference{Name: "provider"}}}
}

func virtualIP(endpoint infrav1.VirtualIPEndpoint) func(*infrav1.SendanClusterSpec) {
	return func(spec *infrav1.SendanClusterSpec) { spec.Endpoint.VirtualIP = &endpoint }
}

func loadBalancer(endpoint infrav1.LoadBalancerEndpoint) func(*infrav1.SendanClusterSpec) {
	return func(spec *infrav1.SendanClusterSpec) { spec.Endpoint.LoadBalancer = &endpoint }
}

func both(first, second func(*infrav1.SendanClusterSpec)) func(*infrav1.SendanClusterSpec) {
	return func(spec *infrav1.SendanClusterSpec) { first(spec); second(spec) }
}

func TestAClusterSpecIsRefusedWhereItCannotWork(t *testing.T) {
	isolated := func(spec *infrav1.SendanClusterSpec) { spec.Network.Managed.RouterDisabled = ptr.To(true) }
	noFloatingIP := infrav1.FloatingIP{Disabled: ptr.To(true)}
	cases := map[string]struct {
		change func(*infrav1.SendanClusterSpec)
		want   []string
	}{
		"one IPv4 range":               {cidrs("10.6.0.0/24"), nil},
		"dual stack":                   {cidrs("10.6.0.0/24", "fd00:6::/64"), nil},
		"IPv6 without a floating IP":   {both(cidrs("fd00:6::/64"), loadBalancer(infrav1.LoadBalancerEndpoint{FloatingIP: noFloatingIP})), nil},
		"garbage for a CIDR":           {cidrs("ten dot six"), []string{`spec.network.managed.cidrs[0]: Invalid value: "ten dot six": is not a CIDR; write it like 10.6.0.0/24`}},
		"an address for a CIDR":        {cidrs("10.6.0.0"), []string{`is not a CIDR`}},
		"host bits":                    {cidrs("10.6.0.17/24"), []string{`spec.network.managed.cidrs[0]: Invalid value: "10.6.0.17/24": is not the range itself; write 10.6.0.0/24`}},
		"unusual spelling of IPv6":     {cidrs("10.6.0.0/24", "FD00:6::/64"), []string{`write fd00:6::/64`}},
		"IPv4 written as IPv6":         {cidrs("::ffff:10.6.0.0/120"), []string{`write it as IPv4`}},
		"two IPv4 ranges":              {cidrs("10.6.0.0/24", "10.7.0.0/24"), []string{`cidrs[1]: Invalid value: "10.7.0.0/24": is a second IPv4 range; give one`}},
		"overlapping ranges":           {cidrs("10.6.0.0/16", "10.6.4.0/24"), []string{`is a second IPv4 range and overlaps 10.6.0.0/16`}},
		"an IPv6 range that is no /64": {cidrs("10.6.0.0/24", "fd00:6::/56"), []string{`has prefix length 56; an IPv6 subnet needs 64`}},
		"an IPv4 range without room":   {cidrs("10.6.0.0/30"), []string{`has prefix length 30; an IPv4 subnet needs 8 to 29`}},
		"a multicast range":            {cidrs("224.0.0.0/24"), []string{`is a multicast range`}},
		"IPv6 first with a floating IP": {cidrs("fd00:6::/64", "10.6.0.0/24"),
			[]string{`spec.network.managed.cidrs[0]: Invalid value: "fd00:6::/64": the endpoint has a floating IP, which is IPv4`}},

		"a name for a name server": {func(s *infrav1.SendanClusterSpec) { s.Network.Managed.DNSNameservers = []string{"dns.example.com"} },
			[]string{`spec.network.managed.dnsNameservers[0]: Invalid value: "dns.example.com": is not an IP address`}},
		"a name server of another family": {func(s *infrav1.SendanClusterSpec) { s.Network.Managed.DNSNameservers = []string{"10.0.0.2", "fd00::2"} },
			[]string{`spec.network.managed.dnsNameservers[1]: Invalid value: "fd00::2": is IPv6 and no subnet is`}},
		"a router that leads nowhere to an external network": {func(s *infrav1.SendanClusterSpec) {
			isolated(s)
			s.Network.Managed.ExternalNetwork.Name = "public"
			s.Endpoint.External = &infrav1.ExternalEndpoint{}
		}, []string{`spec.network.managed.externalNetwork: Forbidden: no router leads to it`}},

		"an isolated network with the default endpoint": {isolated,
			[]string{`spec.network.managed.routerDisabled: Invalid value: true: the endpoint has a floating IP, which needs a router`}},
		"an isolated network with a load balancer and floating IP": {both(isolated, loadBalancer(infrav1.LoadBalancerEndpoint{})),
			[]string{`which needs a router`}},
		"an isolated network with a virtual IP and floating IP": {both(isolated, virtualIP(infrav1.VirtualIPEndpoint{FloatingIP: infrav1.FloatingIP{Disabled: ptr.To(false)}})),
			[]string{`which needs a router`}},
		"an isolated network with a load balancer inside": {both(isolated, loadBalancer(infrav1.LoadBalancerEndpoint{FloatingIP: noFloatingIP})), nil},
		"an isolated network with a virtual IP":           {both(isolated, virtualIP(infrav1.VirtualIPEndpoint{})), nil},
		"an external endpoint without an address yet":     {func(s *infrav1.SendanClusterSpec) { s.Endpoint.External = &infrav1.ExternalEndpoint{} }, nil},
		"a virtual IP inside the network":                 {virtualIP(infrav1.VirtualIPEndpoint{Address: "10.6.0.10"}), nil},
		"a virtual IP outside the network": {virtualIP(infrav1.VirtualIPEndpoint{Address: "10.7.0.10"}),
			[]string{`spec.endpoint.virtualIP.address: Invalid value: "10.7.0.10": is not in 10.6.0.0/24`}},
		"a virtual IP on the gateway":                   {virtualIP(infrav1.VirtualIPEndpoint{Address: "10.6.0.1"}), []string{`the gateway's`}},
		"a virtual IP on the broadcast address":         {virtualIP(infrav1.VirtualIPEndpoint{Address: "10.6.0.255"}), []string{`broadcast`}},
		"a virtual IP that is none":                     {virtualIP(infrav1.VirtualIPEndpoint{Address: "10.6.0"}), []string{`is not an IP address`}},
		"a virtual IP of an existing network":           {both(existingNetwork, virtualIP(infrav1.VirtualIPEndpoint{Address: "192.0.2.4"})), nil},
		"a picked virtual IP of an existing network":    {both(existingNetwork, virtualIP(infrav1.VirtualIPEndpoint{})), nil},
		"the default endpoint in an existing network":   {existingNetwork, nil},
		"a name for a floating IP":                      {loadBalancer(infrav1.LoadBalancerEndpoint{FloatingIP: infrav1.FloatingIP{Address: "api.example.com"}}), []string{`spec.endpoint.loadBalancer.floatingIP.address: Invalid value: "api.example.com": is not an IP address`}},
		"an IPv6 floating IP":                           {loadBalancer(infrav1.LoadBalancerEndpoint{FloatingIP: infrav1.FloatingIP{Address: "2001:db8::1"}}), []string{`floating IPs are IPv4`}},
		"a garbled range that may reach the API server": {loadBalancer(infrav1.LoadBalancerEndpoint{AllowedCIDRs: []string{"192.0.2.0/24", "office"}}), []string{`spec.endpoint.loadBalancer.allowedCIDRs[1]: Invalid value: "office": is not a CIDR`}},
		"a range of another family than the address's":  {loadBalancer(infrav1.LoadBalancerEndpoint{AllowedCIDRs: []string{"2001:db8::/32"}}), []string{`is IPv6, and the load balancer's address is in 10.6.0.0/24`}},
		"a tag with a comma":                            {func(s *infrav1.SendanClusterSpec) { s.Tags = []string{"gpu", "team,a"} }, []string{`spec.tags[1]: Invalid value: "team,a": has a comma`}},
		"an endpoint with a DNS name": {func(s *infrav1.SendanClusterSpec) {
			s.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "api.example.com", Port: 6443}
		}, nil},
		"an endpoint with an IPv6 address": {func(s *infrav1.SendanClusterSpec) {
			s.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "fd00:6::10", Port: 6443}
		}, nil},
		"an endpoint with a URL": {func(s *infrav1.SendanClusterSpec) {
			s.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "https://api", Port: 6443}
		}, []string{`spec.controlPlaneEndpoint.host: Invalid value: "https://api": is neither an IP address nor a DNS name`}},
		"an endpoint without a port": {func(s *infrav1.SendanClusterSpec) {
			s.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "api.example.com"}
		}, []string{`spec.controlPlaneEndpoint.port: Required value`}},
		"an endpoint without a host": {func(s *infrav1.SendanClusterSpec) { s.ControlPlaneEndpoint = infrav1.APIEndpoint{Port: 6443} }, []string{`spec.controlPlaneEndpoint.host: Required value`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			expectRefusals(t, validateClusterSpec(clusterSpec(c.change), field.NewPath("spec")), c.want...)
		})
	}
}

func TestASecurityGroupRuleIsRefusedWhereNeutronWould(t *testing.T) {
	cases := map[string]struct {
		rule infrav1.SecurityGroupRule
		want []string
	}{
		"everything from everywhere": {infrav1.SecurityGroupRule{}, nil},
		"a port from a range":        {infrav1.SecurityGroupRule{Protocol: "tcp", PortMin: 30000, RemoteCIDR: "192.0.2.0/24"}, nil},
		"a protocol by number":       {infrav1.SecurityGroupRule{Protocol: "47"}, nil},
		"an unknown protocol":        {infrav1.SecurityGroupRule{Protocol: "http"}, []string{`rules[0].protocol: Invalid value: "http": is not a protocol; use tcp`}},
		"a number beyond the last":   {infrav1.SecurityGroupRule{Protocol: "256"}, []string{`is not a protocol`}},
		"a garbled range":            {infrav1.SecurityGroupRule{RemoteCIDR: "any"}, []string{`rules[0].remoteCIDR: Invalid value: "any": is not a CIDR`}},
		"IPv6 ICMP from IPv4":        {infrav1.SecurityGroupRule{Protocol: "ipv6-icmp", RemoteCIDR: "192.0.2.0/24"}, []string{`use protocol icmp or an IPv6 range`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			expectRefusals(t, validateRules([]infrav1.SecurityGroupRule{c.rule}, field.NewPath("rules")), c.want...)
		})
	}
}
