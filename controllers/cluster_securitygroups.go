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

// The ports Kubernetes gives to Services of type NodePort by default.
const (
	nodePortMin = 30000
	nodePortMax = 32767
)

// securityGroupsStep sees to the two managed security groups and their rules.
func securityGroupsStep(in clusterInput, has clusterObjects) step {
	const condition = infrav1.SecurityGroupsReadyCondition
	if !managesSecurityGroups(in.cluster) {
		return done(condition)
	}
	var actions []action
	if has.controlPlane == nil {
		actions = append(actions, createSecurityGroup(in, roleControlPlaneGroup))
	}
	if has.worker == nil {
		actions = append(actions, createSecurityGroup(in, roleWorkerGroup))
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Making the security groups.", actions...)
	}
	if len(has.subnets) < subnetsWanted(in.cluster) {
		return waiting(condition, infrav1.CreatingReason, "The rules follow once the subnets are there.")
	}
	wanted := wantedRules(in, has)
	missing, extra := compareRules(wanted, slices.Concat(has.controlPlane.Rules, has.worker.Rules))
	for _, rule := range extra {
		actions = append(actions, deleteRule(rule))
	}
	if len(missing) > 0 {
		actions = append(actions, createRules(missing))
	}
	actions = append(actions, retag(cloud.KindSecurityGroup, roleControlPlaneGroup, has.controlPlane.ID, has.controlPlane.Tags, in.cluster.Spec.Tags)...)
	actions = append(actions, retag(cloud.KindSecurityGroup, roleWorkerGroup, has.worker.ID, has.worker.Tags, in.cluster.Spec.Tags)...)
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Setting the rules of the security groups.", actions...)
	}
	return done(condition)
}

func managesSecurityGroups(cluster *infrav1.SendanCluster) bool {
	return !ptr.Deref(cluster.Spec.SecurityGroups.Disabled, false)
}

// subnetsWanted is how many subnets have to be there before their families are known.
func subnetsWanted(cluster *infrav1.SendanCluster) int {
	if cluster.Spec.Network.Managed != nil {
		return len(cluster.Spec.Network.Managed.CIDRs)
	}
	return 1
}

func createSecurityGroup(in clusterInput, role string) action {
	request := cloud.SecurityGroupRequest{Name: in.name + "-" + role, Mark: in.marked(role)}
	return action{
		key: "create security group " + role, creates: cloud.KindSecurityGroup, event: "Created security group " + request.Name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateSecurityGroup(ctx, request)
			return err
		},
	}
}

// createRules makes all missing rules in one call. Neutron refuses a rule that exists, so a lost
// reply does no harm: the conflict leads to a new listing.
func createRules(rules []cloud.SecurityGroupRule) action {
	return action{
		key: "create security group rules", creates: cloud.KindSecurityGroup,
		event: "Created " + strconv.Itoa(len(rules)) + " security group rules",
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateSecurityGroupRules(ctx, rules)
			return err
		},
	}
}

func deleteRule(rule cloud.SecurityGroupRule) action {
	return action{
		key: "delete security group rule " + rule.ID, event: "Deleted a security group rule that is not wanted",
		run: func(ctx context.Context, s *cloud.Session) error { return s.DeleteSecurityGroupRule(ctx, rule.ID) },
	}
}

// wantedRules are all rules of both groups: out to everywhere; between the cluster's machines
// everything; in to the API server from everywhere; to node ports from the cluster's own subnets,
// where load balancers sit; and what the spec adds.
func wantedRules(in clusterInput, has clusterObjects) []cloud.SecurityGroupRule {
	groups := []*cloud.SecurityGroup{has.controlPlane, has.worker}
	var rules []cloud.SecurityGroupRule
	for _, group := range groups {
		for _, family := range []string{"IPv4", "IPv6"} { // the two that Neutron makes by itself
			rules = append(rules, cloud.SecurityGroupRule{SecurityGroupID: group.ID, Direction: "egress", EtherType: family})
		}
	}
	for _, family := range has.families() {
		for _, group := range groups {
			for _, peer := range groups {
				rules = append(rules, cloud.SecurityGroupRule{SecurityGroupID: group.ID, Direction: "ingress", EtherType: family, RemoteGroupID: peer.ID, Description: "cluster machines"})
			}
		}
		rules = append(rules, cloud.SecurityGroupRule{
			SecurityGroupID: has.controlPlane.ID, Direction: "ingress", EtherType: family, Protocol: "tcp",
			PortMin: apiServerPort, PortMax: apiServerPort, Description: "Kubernetes API",
		})
	}
	for _, subnet := range has.subnets {
		for _, protocol := range []string{"tcp", "udp"} {
			rules = append(rules, cloud.SecurityGroupRule{
				SecurityGroupID: has.worker.ID, Direction: "ingress", EtherType: familyOf(subnet.CIDR), Protocol: protocol,
				PortMin: nodePortMin, PortMax: nodePortMax, RemoteIPPrefix: subnet.CIDR.String(), Description: "node ports",
			})
		}
	}
	for _, extra := range in.cluster.Spec.SecurityGroups.Rules {
		rules = append(rules, extraRules(extra, has)...)
	}
	return rules
}

func extraRules(extra infrav1.SecurityGroupRule, has clusterObjects) []cloud.SecurityGroupRule {
	families := has.families()
	if prefix, err := netip.ParsePrefix(extra.RemoteCIDR); err == nil {
		families = []string{familyOf(prefix)}
	}
	targets := map[infrav1.SecurityGroupTarget][]string{
		infrav1.TargetAll:          {has.controlPlane.ID, has.worker.ID},
		infrav1.TargetControlPlane: {has.controlPlane.ID},
		infrav1.TargetWorkers:      {has.worker.ID},
	}[extra.Target]
	var rules []cloud.SecurityGroupRule
	for _, group := range targets {
		for _, family := range families {
			rules = append(rules, cloud.SecurityGroupRule{
				SecurityGroupID: group, Direction: extra.Direction, EtherType: family, Protocol: extra.Protocol,
				PortMin: int(extra.PortMin), PortMax: int(max(extra.PortMin, extra.PortMax)),
				RemoteIPPrefix: extra.RemoteCIDR, Description: extra.Name,
			})
		}
	}
	return rules
}

// compareRules tells rules that are not there and rules that should not be. Rules are the same when
// Neutron says so, whatever their description.
func compareRules(wanted, have []cloud.SecurityGroupRule) (missing, extra []cloud.SecurityGroupRule) {
	wantedKeys, haveKeys := ruleKeys(wanted), ruleKeys(have)
	for _, rule := range wanted {
		if !haveKeys[rule.Key()] {
			haveKeys[rule.Key()] = true // an extra rule may repeat a default one
			missing = append(missing, rule)
		}
	}
	for _, rule := range have {
		if !wantedKeys[rule.Key()] {
			extra = append(extra, rule)
		}
	}
	return missing, extra
}

func ruleKeys(rules []cloud.SecurityGroupRule) map[string]bool {
	keys := map[string]bool{}
	for _, rule := range rules {
		keys[rule.Key()] = true
	}
	return keys
}
