package controllers

import (
	"context"
	"fmt"
	"slices"
	"strings"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// planClusterDeletion takes everything that carries the cluster's mark out of the cloud, in the order
// the cloud insists on. It is done when nothing is left, and names what blocks it until then.
func planClusterDeletion(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	if s, stale := inventoryStep(in.attempts, append(clusterKinds(in.cluster), cloud.KindServer, cloud.KindVolume)); stale {
		s.condition = condition
		return s
	}
	if len(in.machines) > 0 {
		return waiting(condition, infrav1.DeletingReason, "Waiting for %d machines to go: %s.", len(in.machines),
			someOf(in.machines, func(m infrav1.SendanMachine) string { return m.Name }))
	}
	for _, stage := range []func(clusterInput) step{
		deleteLeftoverServers, deleteLeftoverPortsAndVolumes, deleteEndpoint, deleteGroups, clearLeftovers, disconnectRouter, deleteNetworks, proveDeletion,
	} {
		if s := stage(in); !s.done() {
			s.message = strings.TrimSpace(s.message + " " + volumesThatStay(in))
			return s.as(infrav1.DeletingReason)
		}
	}
	return done(condition)
}

// removal is the call that deletes one object.
func removal(kind cloud.Kind, id string, run func(ctx context.Context, s *cloud.Session) error) action {
	return action{key: fmt.Sprintf("delete %s %s", kind, id), event: fmt.Sprintf("Deleted %s %s", kind, id), run: run}
}

// removals are the calls that delete some objects, one each.
func removals[T any](kind cloud.Kind, items []T, id func(T) string, run func(s *cloud.Session, ctx context.Context, id string) error) []action {
	var actions []action
	for _, item := range items {
		actions = append(actions, removal(kind, id(item), func(ctx context.Context, s *cloud.Session) error { return run(s, ctx, id(item)) }))
	}
	return actions
}

// deleteLeftoverServers ends servers whose SendanMachine is gone, such as those of machines somebody
// stripped of their finalizer.
func deleteLeftoverServers(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	servers := in.snapshot.ServersOf(in.mark)
	live := slices.DeleteFunc(slices.Clone(servers), func(s cloud.Server) bool { return s.Deleting })
	if len(live) > 0 {
		return acting(in.attempts, condition, "Deleting servers that no machine owns any more.",
			removals(cloud.KindServer, live, func(s cloud.Server) string { return s.ID }, (*cloud.Session).DeleteServer)...)
	}
	if len(servers) > 0 {
		return waiting(condition, infrav1.DeletingReason, "Waiting for Nova to delete %d servers, such as %s.", len(servers), servers[0].Name).
			until(in.now.Add(leftoverRecheck))
	}
	return done(condition)
}

func deleteLeftoverPortsAndVolumes(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	ports := slices.DeleteFunc(in.snapshot.PortsOf(in.mark), func(p cloud.Port) bool { return p.Mark.Machine == "" })
	volumes := slices.DeleteFunc(in.snapshot.VolumesOf(in.mark), func(v cloud.Volume) bool { return v.Status == "deleting" })
	actions := slices.Concat(
		removals(cloud.KindPort, ports, func(p cloud.Port) string { return p.ID }, (*cloud.Session).DeletePort),
		removals(cloud.KindVolume, volumes, func(v cloud.Volume) string { return v.ID }, (*cloud.Session).DeleteVolume),
	)
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Deleting ports and volumes that no machine owns any more.", actions...)
	}
	return done(condition)
}

// deleteEndpoint removes the load balancer or virtual IP, and the floating IP at the same time: the
// floating IP need not wait for the load balancer.
func deleteEndpoint(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	var actions []action
	if address := wantedFloatingIP(in.cluster).Address; address != "" {
		actions = append(actions, releaseFloatingIP(in, address)...)
	}
	actions = append(actions, removals(cloud.KindFloatingIP, in.snapshot.FloatingIPsOf(in.mark),
		func(f cloud.FloatingIP) string { return f.ID }, (*cloud.Session).DeleteFloatingIP)...)
	balancers := in.snapshot.LoadBalancersOf(in.mark)
	settled := slices.DeleteFunc(slices.Clone(balancers), cloud.LoadBalancer.IsPending)
	actions = append(actions, removals(cloud.KindLoadBalancer, settled,
		func(lb cloud.LoadBalancer) string { return lb.ID }, (*cloud.Session).DeleteLoadBalancer)...)
	actions = append(actions, removals(cloud.KindPort, in.snapshot.PortsOf(in.marked(roleEndpoint)),
		func(p cloud.Port) string { return p.ID }, (*cloud.Session).DeletePort)...)
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Deleting the endpoint.", actions...)
	}
	if len(balancers) > 0 {
		return waiting(condition, infrav1.DeletingReason, "Waiting for Octavia: load balancer %s is %s.", balancers[0].ID, balancers[0].ProvisioningStatus)
	}
	return done(condition)
}

// releaseFloatingIP frees a floating IP that is the user's own.
func releaseFloatingIP(in clusterInput, address string) []action {
	fip := in.snapshot.FloatingIPByAddress(address)
	if fip == nil || fip.PortID == "" || !in.isOurPort(fip.PortID) {
		return nil
	}
	id := fip.ID
	return []action{{
		key: "release floating IP", event: "Released floating IP " + address,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.AssociateFloatingIP(ctx, id, "")
			return err
		},
	}}
}

func deleteGroups(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	groups := in.snapshot.SecurityGroupsOf(in.mark)
	if user := portUsing(in.snapshot, groups, networkIDs(in)); user != "" {
		return waiting(condition, infrav1.DeletingReason, "The security groups are still used by %s, which Sendan did not make. Delete it to let them go.", user).
			until(in.now.Add(strangerRecheck)).requiring(cloud.KindPort, in.now)
	}
	actions := slices.Concat(
		removals(cloud.KindServerGroup, in.snapshot.ServerGroupsOf(in.mark), func(g cloud.ServerGroup) string { return g.ID }, (*cloud.Session).DeleteServerGroup),
		removals(cloud.KindSecurityGroup, groups, func(g cloud.SecurityGroup) string { return g.ID }, (*cloud.Session).DeleteSecurityGroup),
	)
	if len(actions) == 0 {
		return done(condition)
	}
	return acting(in.attempts, condition, "Deleting the security and server groups.", actions...)
}

// networkIDs are the networks the cluster's machines were on, its own or an existing one.
func networkIDs(in clusterInput) []string {
	var ids []string
	for _, network := range in.snapshot.NetworksOf(in.mark) {
		ids = append(ids, network.ID)
	}
	if used := in.cluster.Status.Network.ID; used != "" && !slices.Contains(ids, used) {
		ids = append(ids, used)
	}
	return ids
}

// portUsing names the first port on some networks that uses one of the groups.
func portUsing(snapshot *cloud.Snapshot, groups []cloud.SecurityGroup, networkIDs []string) string {
	for _, id := range networkIDs {
		for _, port := range snapshot.PortsOnNetwork(id) {
			if slices.ContainsFunc(groups, func(g cloud.SecurityGroup) bool { return slices.Contains(port.SecurityGroups, g.ID) }) {
				return portLabel(port)
			}
		}
	}
	return ""
}

func portLabel(port cloud.Port) string {
	label := "port " + port.ID
	if port.Name != "" {
		label += " (" + port.Name + ")"
	}
	if port.DeviceOwner != "" {
		label += " of " + port.DeviceOwner + " " + port.DeviceID
	}
	return label
}

func disconnectRouter(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	var actions []action
	for _, router := range in.snapshot.RoutersOf(in.mark) {
		connected := false
		for _, subnet := range in.snapshot.SubnetsOf(in.mark) {
			if !isConnected(in.snapshot, router.ID, subnet.ID) {
				continue
			}
			connected = true
			actions = append(actions, action{
				key: "disconnect " + subnet.Mark.Role, event: "Disconnected the router from subnet " + subnet.CIDR.String(),
				run: func(ctx context.Context, s *cloud.Session) error {
					return s.RemoveRouterInterface(ctx, router.ID, subnet.ID)
				},
			})
		}
		if !connected {
			actions = append(actions, removal(cloud.KindRouter, router.ID, func(ctx context.Context, s *cloud.Session) error { return s.DeleteRouter(ctx, router.ID) }))
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Removing the router.", actions...)
	}
	return done(condition)
}

func deleteNetworks(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	for _, network := range in.snapshot.NetworksOf(in.mark) {
		for _, port := range in.snapshot.PortsOnNetwork(network.ID) {
			if !strings.HasPrefix(port.DeviceOwner, "network:") && port.DeviceOwner != "Octavia" {
				return lookingAgain(in, waiting(condition, infrav1.DeletingReason,
					"Network %s is still used by %s, which Sendan did not make. Delete it to let the network go.", network.Name, portLabel(port)))
			}
		}
	}
	actions := removals(cloud.KindSubnet, in.snapshot.SubnetsOf(in.mark), func(s cloud.Subnet) string { return s.ID }, (*cloud.Session).DeleteSubnet)
	if len(actions) == 0 {
		actions = removals(cloud.KindNetwork, in.snapshot.NetworksOf(in.mark), func(n cloud.Network) string { return n.ID }, (*cloud.Session).DeleteNetwork)
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Deleting the network.", actions...)
	}
	return done(condition)
}

// proveDeletion waits until calls of unknown outcome are known to have left nothing behind.
func proveDeletion(in clusterInput) step {
	return provenGone(in.attempts, infrav1.DeletingCondition)
}
