package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// planMachineDeletion takes everything that carries the machine's mark out of the cloud.
func planMachineDeletion(in machineInput) step {
	const condition = infrav1.DeletingCondition
	if s, stale := inventoryStep(in.attempts, machineKinds(in)); stale {
		s.condition = condition
		return s
	}
	has := in.objects()
	for _, stage := range []func(machineInput, machineObjects) step{leaveLoadBalancer, deleteServer, deletePortsAndVolumes} {
		if s := stage(in, has); !s.done() {
			return s.as(infrav1.DeletingReason)
		}
	}
	return provenGone(in.attempts, condition)
}

// leaveLoadBalancer lets the cluster take a control-plane machine out of the load balancer first, so
// that no client is sent to it; but not for long, since the health monitor does the same.
func leaveLoadBalancer(in machineInput, has machineObjects) step {
	const condition = infrav1.DeletingCondition
	giveUp := in.machine.DeletionTimestamp.Add(memberPatience)
	if !isControlPlane(in.machine) || in.clusterDeleting || has.server == nil || has.server.Deleting || in.now.After(giveUp) {
		return done(condition)
	}
	if endpointMode(in.cluster) == modeLoadBalancer && !in.snapshot.Fresh(cloud.KindLoadBalancer) {
		return waiting(condition, infrav1.DeletingReason, "Waiting for the load balancers to be listed.").until(giveUp)
	}
	address := has.ports[portRole(0)].FixedIPs
	for _, lb := range in.snapshot.LoadBalancersOf(cloud.Mark{Cluster: in.mark.Cluster, Role: roleEndpoint}) {
		for _, pool := range lb.Pools {
			for _, member := range pool.Members {
				if slices.ContainsFunc(address, func(ip cloud.FixedIP) bool { return ip.IPAddress == member.Address }) {
					return waiting(condition, infrav1.DeletingReason, "Waiting for load balancer %s to let go of %s.", lb.ID, member.Address).until(giveUp)
				}
			}
		}
	}
	return done(condition)
}

func deleteServer(in machineInput, has machineObjects) step {
	const condition = infrav1.DeletingCondition
	asked := in.lookups.server
	switch {
	case has.server == nil && asked.err != nil && !cloud.IsNotFound(asked.err):
		return failing(condition, asked.err, in.now)
	case has.server == nil && asked.value.ID != "":
		return failing(condition, lostMark(in), in.now)
	case has.server == nil:
		return done(condition)
	case has.server.Deleting:
		return waiting(condition, infrav1.DeletingReason, "Nova is deleting server %s.", has.server.ID)
	}
	return acting(in.attempts, condition, "Deleting the server.",
		removals(cloud.KindServer, []cloud.Server{*has.server}, func(s cloud.Server) string { return s.ID }, (*cloud.Session).DeleteServer)...)
}

func deletePortsAndVolumes(in machineInput, has machineObjects) step {
	const condition = infrav1.DeletingCondition
	ports := in.snapshot.PortsOf(in.mark)
	var actions []action
	for _, port := range ports {
		if port.TrunkID != "" {
			actions = append(actions, action{
				key: "delete trunk of " + port.Mark.Role, event: "Deleted trunk " + port.TrunkID,
				run: func(ctx context.Context, s *cloud.Session) error { return s.DeleteTrunk(ctx, port.TrunkID) },
			})
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Deleting the trunks.", actions...)
	}
	actions = removals(cloud.KindPort, ports, func(p cloud.Port) string { return p.ID }, (*cloud.Session).DeletePort)
	for _, volume := range has.volumes {
		switch {
		case volume.Status == "deleting":
		case len(volume.AttachedTo) > 0: // Nova deletes it with the server; the listing is older
		default:
			actions = append(actions, removals(cloud.KindVolume, []cloud.Volume{volume}, func(v cloud.Volume) string { return v.ID }, (*cloud.Session).DeleteVolume)...)
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Deleting ports and volumes.", actions...)
	}
	if len(has.volumes) > 0 {
		return waiting(condition, infrav1.DeletingReason, "Waiting for Cinder to delete %s.", volumeNames(has.volumes)).
			requiring(cloud.KindVolume, in.now).until(in.now.Add(max(volumeRecheck, in.now.Sub(in.machine.DeletionTimestamp.Time)/4)))
	}
	return done(condition)
}

func volumeNames(volumes map[string]cloud.Volume) string {
	var names []string
	for _, role := range slices.Sorted(maps.Keys(volumes)) {
		names = append(names, fmt.Sprintf("volume %s (%s)", volumes[role].ID, volumes[role].Status))
	}
	return strings.Join(names, ", ")
}
