package controllers

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// lookUpCluster asks the catalog for what the spec names. Only what a plan will look at is asked.
func lookUpCluster(ctx context.Context, session *cloud.Session, obj *infrav1.SendanCluster) clusterLookups {
	var found clusterLookups
	switch known := obj.Status.Network.ExternalNetworkID; {
	case !needsExternalNetwork(obj):
	case known != "": // immutable, so the cloud need not be asked again
		found.externalNetwork.value.ID = known
	default:
		found.externalNetwork = externalNetworkOf(ctx, session, obj)
	}
	if existing := obj.Spec.Network.Existing; existing != nil {
		found.network = look(session.Network(ctx, networkFilter(existing.Network)))
		if ref := existing.Router; ref.ID != "" || ref.Name != "" || len(ref.Tags) > 0 {
			found.router = look(session.Router(ctx, cloud.RouterFilter{ID: ref.ID, Name: ref.Name, Tags: ref.Tags}))
		}
		if found.network.err == nil {
			found.subnets = subnetsOf(ctx, session, found.network.value, existing.Subnets)
		}
	}
	if lb := obj.Spec.Endpoint.LoadBalancer; lb != nil {
		found.flavor = balancerFlavor(ctx, session, *lb)
	}
	if len(obj.Spec.FailureDomains) == 0 {
		found.zones = look(session.ComputeZones(ctx))
	}
	return found
}

func look[T any](value T, err error) lookup[T] { return lookup[T]{value: value, err: err} }

func networkFilter(ref infrav1.ResourceReference) cloud.NetworkFilter {
	return cloud.NetworkFilter{ID: ref.ID, Name: ref.Name, Tags: ref.Tags}
}

// externalNetworkOf is the network the spec names, or the only external one there is.
func externalNetworkOf(ctx context.Context, session *cloud.Session, obj *infrav1.SendanCluster) lookup[cloud.Network] {
	ref, field := infrav1.ResourceReference{}, "spec.network.managed.externalNetwork"
	switch {
	case obj.Spec.Network.Managed != nil:
		ref = obj.Spec.Network.Managed.ExternalNetwork
	case obj.Spec.Network.Existing != nil:
		ref, field = obj.Spec.Network.Existing.ExternalNetwork, "spec.network.existing.externalNetwork"
	}
	external, err := session.ExternalNetworks(ctx)
	if err != nil {
		return lookup[cloud.Network]{err: err}
	}
	var names []string
	var matches []cloud.Network
	for _, network := range external {
		names = append(names, fmt.Sprintf("%s (%s)", network.Name, network.ID))
		if (ref.ID == "" || ref.ID == network.ID) && (ref.Name == "" || ref.Name == network.Name) && hasAll(network.Tags, ref.Tags) {
			matches = append(matches, network)
		}
	}
	if len(matches) == 1 {
		return lookup[cloud.Network]{value: matches[0]}
	}
	return lookup[cloud.Network]{err: cloud.Errorf(cloud.Config,
		"%s: %d external networks match %s, one must: name it by id. The project sees: %s", field, len(matches), describe(ref), strings.Join(names, ", "))}
}

func describe(ref infrav1.ResourceReference) string {
	switch {
	case ref.ID != "":
		return fmt.Sprintf("id %q", ref.ID)
	case ref.Name == "" && len(ref.Tags) == 0:
		return "an empty reference"
	}
	return fmt.Sprintf("name %q and tags %q", ref.Name, ref.Tags)
}

func hasAll(have, want []string) bool {
	for _, tag := range want {
		found := false
		for _, other := range have {
			found = found || other == tag
		}
		if !found {
			return false
		}
	}
	return true
}

// subnetsOf are the subnets the spec names, or all of the network's.
func subnetsOf(ctx context.Context, session *cloud.Session, network cloud.Network, refs []infrav1.ResourceReference) lookup[[]cloud.Subnet] {
	filters := []cloud.SubnetFilter{}
	for _, ref := range refs {
		filters = append(filters, cloud.SubnetFilter{ID: ref.ID, Name: ref.Name, Tags: ref.Tags, NetworkID: network.ID})
	}
	if len(refs) == 0 {
		for _, id := range network.Subnets {
			filters = append(filters, cloud.SubnetFilter{ID: id})
		}
	}
	var subnets []cloud.Subnet
	for _, filter := range filters {
		subnet, err := session.Subnet(ctx, filter)
		if err != nil {
			return lookup[[]cloud.Subnet]{err: err}
		}
		subnets = append(subnets, subnet)
	}
	if len(subnets) == 0 {
		return lookup[[]cloud.Subnet]{err: cloud.Errorf(cloud.Config, "spec.network.existing.network: network %s (%s) has no subnet; add one, or name another network", network.Name, network.ID)}
	}
	return lookup[[]cloud.Subnet]{value: subnets}
}

// balancerFlavor checks provider and flavor, since Octavia would fall back in silence.
func balancerFlavor(ctx context.Context, session *cloud.Session, lb infrav1.LoadBalancerEndpoint) lookup[string] {
	if lb.Provider != "" {
		providers, err := session.LoadBalancerProviders(ctx)
		if err != nil {
			return lookup[string]{err: err}
		}
		if !hasAll(providers, []string{lb.Provider}) {
			return lookup[string]{err: cloud.Errorf(cloud.Config, "spec.endpoint.loadBalancer.provider: %q is not offered; use one of %s", lb.Provider, strings.Join(providers, ", "))}
		}
	}
	if lb.Flavor == "" {
		return lookup[string]{}
	}
	return look(session.LoadBalancerFlavor(ctx, lb.Flavor))
}

// onePerFamily keeps the first subnet of each IP family: a port takes one address from each.
func onePerFamily(subnets []cloud.Subnet) []cloud.Subnet {
	var kept []cloud.Subnet
	seen := map[bool]bool{}
	for _, subnet := range subnets {
		if is4 := isIPv4(subnet.CIDR); !seen[is4] {
			seen[is4] = true
			kept = append(kept, subnet)
		}
	}
	return kept
}

func isIPv4(prefix netip.Prefix) bool { return prefix.Addr().Is4() }
