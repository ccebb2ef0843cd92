package controllers

import (
	"context"
	"net/netip"
	"slices"
	"strconv"

	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

func subnetRole(i int) string { return roleSubnet + strconv.Itoa(i) }

// networkStep sees to network, subnets, router and the router's interfaces.
func networkStep(in clusterInput, has clusterObjects) step {
	const condition = infrav1.NetworkReadyCondition
	if in.cluster.Spec.Network.Existing != nil {
		for _, err := range []error{in.lookups.network.err, in.lookups.subnets.err, in.lookups.router.err} {
			if err != nil {
				return failing(condition, err, in.now)
			}
		}
		return done(condition)
	}
	managed := in.cluster.Spec.Network.Managed
	if needsExternalNetwork(in.cluster) && in.lookups.externalNetwork.err != nil {
		return failing(condition, in.lookups.externalNetwork.err, in.now)
	}
	if gone := goneWithMachines(in, has); gone != "" { // seen again once somebody has restored it
		s := waiting(condition, infrav1.MissingReason,
			"The %s that Sendan made was removed in the cloud. The machines on it cannot be moved to a new one: restore it with its mark, or delete the cluster.", gone).
			requiring(gone, in.now).until(in.now.Add(paces[cloud.Suspicious].most))
		s.failed = true
		return s
	}
	var actions []action
	if has.network == nil {
		actions = append(actions, createNetwork(in))
	} else {
		for i, cidr := range managed.CIDRs {
			if len(in.snapshot.SubnetsOf(in.marked(subnetRole(i)))) == 0 {
				actions = append(actions, createSubnet(in, i, cidr, has.network.ID))
			}
		}
	}
	if !ptr.Deref(managed.RouterDisabled, false) {
		if has.router == nil {
			actions = append(actions, createRouter(in))
		} else {
			actions = append(actions, addInterfaces(in, has)...)
		}
	}
	actions = append(actions, updateNameServers(has, managed.DNSNameservers)...)
	actions = append(actions, tagNetwork(in, has)...)
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Making the network.", actions...)
	}
	return done(condition)
}

// goneWithMachines names the object of a provisioned cluster's network that is missing although
// nothing of ours is about to make it.
func goneWithMachines(in clusterInput, has clusterObjects) cloud.Kind {
	ran := slices.ContainsFunc(in.machines, func(m infrav1.SendanMachine) bool { return m.Spec.ProviderID != "" })
	if !ran && !isProvisioned(in.cluster) { // the status may be lost, a provider id is not
		return ""
	}
	managed := in.cluster.Spec.Network.Managed
	switch {
	case has.network == nil:
		return cloud.KindNetwork
	case len(has.subnets) < len(managed.CIDRs):
		return cloud.KindSubnet
	case has.router == nil && !ptr.Deref(managed.RouterDisabled, false):
		return cloud.KindRouter
	}
	return ""
}

func createNetwork(in clusterInput) action {
	request := cloud.NetworkRequest{Name: in.name, Mark: in.marked(roleNetwork), MTU: int(in.cluster.Spec.Network.Managed.MTU)}
	return action{
		key: "create network", creates: cloud.KindNetwork, event: "Created network " + in.name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateNetwork(ctx, request)
			return err
		},
	}
}

func createSubnet(in clusterInput, i int, cidr, networkID string) action {
	prefix, err := netip.ParsePrefix(cidr)
	request := cloud.SubnetRequest{
		Name: in.name + "-" + strconv.Itoa(i), Mark: in.marked(subnetRole(i)), NetworkID: networkID, CIDR: prefix,
		DNSNameservers: nameServersFor(prefix, in.cluster.Spec.Network.Managed.DNSNameservers),
	}
	if prefix.Addr().Is6() {
		request.IPv6Mode = "slaac" // ports then have an address that Neutron knows, without DHCP
	}
	return action{
		key: "create " + subnetRole(i), creates: cloud.KindSubnet, event: "Created subnet " + cidr,
		run: func(ctx context.Context, s *cloud.Session) error {
			if err != nil {
				return cloud.Errorf(cloud.Config, "spec.network.managed.cidrs[%d]: %q is not a CIDR; write it like 10.6.0.0/24", i, cidr)
			}
			_, err := s.CreateSubnet(ctx, request)
			return err
		},
	}
}

func createRouter(in clusterInput) action {
	request := cloud.RouterRequest{Name: in.name, Mark: in.marked(roleRouter), ExternalNetworkID: in.lookups.externalNetwork.value.ID}
	return action{
		key: "create router", creates: cloud.KindRouter, event: "Created router " + in.name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateRouter(ctx, request)
			return err
		},
	}
}

// addInterfaces connects the router to each subnet it is not on yet. Neutron refuses a second
// interface on a subnet, so a lost reply does no harm.
func addInterfaces(in clusterInput, has clusterObjects) []action {
	var actions []action
	for _, subnet := range has.subnets {
		if isConnected(in.snapshot, has.router.ID, subnet.ID) {
			continue
		}
		routerID, subnetID := has.router.ID, subnet.ID
		actions = append(actions, action{
			key: "connect " + subnet.Mark.Role, event: "Connected the router to subnet " + subnet.CIDR.String(),
			creates: cloud.KindPort,
			run: func(ctx context.Context, s *cloud.Session) error {
				return s.AddRouterInterface(ctx, routerID, subnetID)
			},
		})
	}
	return actions
}

func isConnected(snapshot *cloud.Snapshot, routerID, subnetID string) bool {
	return slices.ContainsFunc(snapshot.PortsOfDevice(routerID), func(p cloud.Port) bool {
		return slices.ContainsFunc(p.FixedIPs, func(ip cloud.FixedIP) bool { return ip.SubnetID == subnetID })
	})
}

func updateNameServers(has clusterObjects, wanted []string) []action {
	var actions []action
	for _, subnet := range has.subnets {
		servers := nameServersFor(subnet.CIDR, wanted)
		if slices.Equal(servers, subnet.DNSNameservers) {
			continue
		}
		id := subnet.ID
		actions = append(actions, action{
			key: "update name servers of " + subnet.Mark.Role, event: "Changed the name servers of subnet " + subnet.CIDR.String(),
			run: func(ctx context.Context, s *cloud.Session) error {
				_, err := s.UpdateSubnet(ctx, id, cloud.SubnetUpdate{DNSNameservers: &servers})
				return err
			},
		})
	}
	return actions
}

// nameServersFor are the name servers of the subnet's own family.
func nameServersFor(prefix netip.Prefix, servers []string) []string {
	fitting := []string{}
	for _, server := range servers {
		if address, err := netip.ParseAddr(server); err == nil && address.Is4() == prefix.Addr().Is4() {
			fitting = append(fitting, server)
		}
	}
	return fitting
}

func tagNetwork(in clusterInput, has clusterObjects) []action {
	var actions []action
	if has.network != nil {
		actions = append(actions, retag(cloud.KindNetwork, roleNetwork, has.network.ID, has.network.Tags, in.cluster.Spec.Tags)...)
	}
	for _, subnet := range has.subnets {
		actions = append(actions, retag(cloud.KindSubnet, subnet.Mark.Role, subnet.ID, subnet.Tags, in.cluster.Spec.Tags)...)
	}
	if has.router != nil {
		actions = append(actions, retag(cloud.KindRouter, roleRouter, has.router.ID, has.router.Tags, in.cluster.Spec.Tags)...)
	}
	return actions
}

// retag adds the wanted tags that an object lacks. Tags that somebody else put there stay.
func retag(kind cloud.Kind, what, id string, have, want []string) []action {
	all := slices.Sorted(slices.Values(slices.Concat(have, want)))
	all = slices.Compact(all)
	if len(all) == len(slices.Compact(slices.Sorted(slices.Values(have)))) {
		return nil
	}
	return []action{{
		key: "tag " + string(kind) + " " + what,
		run: func(ctx context.Context, s *cloud.Session) error { return s.SetTags(ctx, kind, id, all) },
	}}
}
