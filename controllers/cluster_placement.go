package controllers

import (
	"cmp"
	"context"
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
	"":                       "soft-anti-affinity",
	infrav1.SoftAntiAffinity: "soft-anti-affinity",
	infrav1.AntiAffinity:     "anti-affinity",
}

// serverGroupsStep keeps one server group for the control plane and for each pool that has
// machines. The cluster makes them, since many machines of a pool would each make one.
func serverGroupsStep(in clusterInput) step {
	const condition = infrav1.ServerGroupsReadyCondition
	policy := serverGroupPolicies[in.cluster.Spec.ServerGroupPolicy]
	wanted := wantedServerGroups(in)
	var actions []action
	for _, role := range wanted {
		if len(in.snapshot.ServerGroupsOf(in.marked(role))) == 0 {
			actions = append(actions, createServerGroup(in, role, policy))
		}
	}
	for _, group := range in.snapshot.ServerGroupsOf(in.mark) {
		if !slices.Contains(wanted, group.Mark.Role) {
			actions = append(actions, deleteServerGroup(group))
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Setting up the server groups.", actions...)
	}
	return done(condition)
}

func wantedServerGroups(in clusterInput) []string {
	var roles []string
	for _, machine := range in.machines {
		if role := serverGroupRole(in.cluster, &machine); role != "" && !slices.Contains(roles, role) {
			roles = append(roles, role)
		}
	}
	slices.Sort(roles)
	return roles
}

// serverGroupRole is the role of the managed server group a machine belongs to; empty for none.
func serverGroupRole(cluster *infrav1.SendanCluster, machine *infrav1.SendanMachine) string {
	if cluster.Spec.ServerGroupPolicy == infrav1.NoServerGroup || machine.Spec.ServerGroup != "" {
		return ""
	}
	if isControlPlane(machine) {
		return roleControlPlaneGroup
	}
	pool := cmp.Or(machine.Labels[clusterv1.MachineDeploymentNameLabel], machine.Labels[clusterv1.MachineSetNameLabel])
	if pool == "" {
		return "" // a machine of its own has nothing to be spread from
	}
	return rolePool + pool
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
