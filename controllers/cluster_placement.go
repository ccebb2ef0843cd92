package controllers

import (
	"cmp"
	"context"
	"maps"
	"slices"

	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// failureDomainsStep sees that there is somewhere to put machines.
func failureDomainsStep(in clusterInput) step {
	const condition = infrav1.FailureDomainsReadyCondition
	if in.lookups.zones.err != nil {
		return failing(condition, in.lookups.zones.err, in.now)
	}
	if len(failureDomainsOf(in)) == 0 {
		return failing(condition, cloud.Errorf(cloud.Config,
			"spec.failureDomains: none given, and no compute zone of the cloud is available to this project"), in.now)
	}
	return done(condition)
}

// failureDomainsOf are the failure domains in the order of their names: those of the spec, or one
// for each compute zone that is available now.
func failureDomainsOf(in clusterInput) []clusterv1.FailureDomain {
	var domains []clusterv1.FailureDomain
	for _, domain := range in.cluster.Spec.FailureDomains {
		domains = append(domains, clusterv1.FailureDomain{
			Name: domain.Name, ControlPlane: ptr.To(ptr.Deref(domain.ControlPlane, true)),
			Attributes: map[string]string{"computeZone": cmp.Or(domain.ComputeZone, domain.Name)},
		})
	}
	if len(domains) == 0 {
		for _, zone := range in.lookups.zones.value {
			if zone.Available && zone.Name != "internal" { // Nova's own services live in "internal"
				domains = append(domains, clusterv1.FailureDomain{
					Name: zone.Name, ControlPlane: ptr.To(true), Attributes: map[string]string{"computeZone": zone.Name},
				})
			}
		}
	}
	slices.SortFunc(domains, func(a, b clusterv1.FailureDomain) int { return cmp.Compare(a.Name, b.Name) })
	return domains
}

// serverGroupPolicies are Nova's names of the policies.
var serverGroupPolicies = map[infrav1.ServerGroupPolicy]string{
	infrav1.SoftAntiAffinity: "soft-anti-affinity",
	infrav1.AntiAffinity:     "anti-affinity",
}

// serverGroupsStep keeps one server group for the control plane and for each pool that has
// machines. The cluster makes them, since many machines of a pool would each make one.
func serverGroupsStep(in clusterInput) step {
	const condition = infrav1.ServerGroupsReadyCondition
	wanted := wantedServerGroups(in)
	var actions []action
	for _, role := range slices.Sorted(maps.Keys(wanted)) {
		if len(in.snapshot.ServerGroupsOf(in.marked(role))) == 0 {
			actions = append(actions, createServerGroup(in, role, serverGroupPolicies[wanted[role]]))
		}
	}
	for _, group := range in.snapshot.ServerGroupsOf(in.mark) {
		if _, isWanted := wanted[group.Mark.Role]; !isWanted {
			actions = append(actions, deleteServerGroup(group))
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Setting up the server groups.", actions...)
	}
	return done(condition)
}

// wantedServerGroups are the policies of the managed server groups by their roles.
func wantedServerGroups(in clusterInput) map[string]infrav1.ServerGroupPolicy {
	wanted := map[string]infrav1.ServerGroupPolicy{}
	for _, machine := range in.machines {
		if role := serverGroupRole(in.cluster, &machine); role != "" {
			wanted[role] = serverGroupPolicy(in.cluster, &machine)
		}
	}
	return wanted
}

func serverGroupPolicy(cluster *infrav1.SendanCluster, machine *infrav1.SendanMachine) infrav1.ServerGroupPolicy {
	return cmp.Or(machine.Spec.ServerGroupPolicy, cluster.Spec.ServerGroupPolicy, infrav1.SoftAntiAffinity)
}

// serverGroupRole is the role of the managed server group a machine belongs to; empty for none. A policy of the machine's own
// is part of it, since the policy of a group cannot change: a pool that rolls to another one gets a second group meanwhile.
func serverGroupRole(cluster *infrav1.SendanCluster, machine *infrav1.SendanMachine) string {
	policy := serverGroupPolicy(cluster, machine)
	if policy == infrav1.NoServerGroup || machine.Spec.ServerGroup != "" {
		return ""
	}
	suffix := ""
	if policy != cmp.Or(cluster.Spec.ServerGroupPolicy, infrav1.SoftAntiAffinity) {
		suffix = "." + string(policy)
	}
	if isControlPlane(machine) {
		return roleControlPlaneGroup + suffix
	}
	pool := cmp.Or(machine.Labels[clusterv1.MachineDeploymentNameLabel], machine.Labels[clusterv1.MachineSetNameLabel])
	if pool == "" {
		return "" // a machine of its own has nothing to be spread from
	}
	return rolePool + pool + suffix
}

func createServerGroup(in clusterInput, role, policy string) action {
	request := cloud.ServerGroupRequest{Mark: in.marked(role), Policy: policy}
	return action{
		key: "create server group " + role, creates: cloud.KindServerGroup, event: "Created the server group of " + role,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateServerGroup(ctx, request)
			return err
		},
	}
}

func deleteServerGroup(group cloud.ServerGroup) action {
	return action{
		key: "delete server group " + group.Mark.Role, event: "Deleted the server group of " + group.Mark.Role,
		run: func(ctx context.Context, s *cloud.Session) error { return s.DeleteServerGroup(ctx, group.ID) },
	}
}
