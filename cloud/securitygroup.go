package cloud

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
)

type wireSecurityGroup struct {
	wireOwned
	Name        string                  `json:"name"`
	Description string                  `json:"description"`
	Tags        []string                `json:"tags"`
	Rules       []wireSecurityGroupRule `json:"security_group_rules"`
}

func (w wireSecurityGroup) object() object { return w.securityGroup() }

func (w wireSecurityGroup) securityGroup() SecurityGroup {
	group := SecurityGroup{ID: w.ID, Name: w.Name, Mark: ParseMark(w.Description), Tags: sorted(w.Tags), Created: w.Created.Time}
	for _, rule := range w.Rules {
		group.Rules = append(group.Rules, rule.rule())
	}
	sortRules(group.Rules)
	return group
}

// sortRules makes the rules of a group comparable; Neutron returns them in no particular order.
func sortRules(rules []SecurityGroupRule) {
	slices.SortFunc(rules, func(a, b SecurityGroupRule) int { return cmp.Compare(a.ID, b.ID) })
}

type wireSecurityGroupRule struct {
	ID              string `json:"id,omitempty"`
	SecurityGroupID string `json:"security_group_id"`
	Direction       string `json:"direction"`
	EtherType       string `json:"ethertype,omitempty"`
	Protocol        string `json:"protocol,omitempty"`
	PortMin         int    `json:"port_range_min,omitempty"`
	PortMax         int    `json:"port_range_max,omitempty"`
	RemoteGroupID   string `json:"remote_group_id,omitempty"`
	RemoteIPPrefix  string `json:"remote_ip_prefix,omitempty"`
	Description     string `json:"description,omitempty"`
}

func (w wireSecurityGroupRule) rule() SecurityGroupRule {
	return SecurityGroupRule(w)
}

// Key is what makes a rule unique to Neutron. Its different spellings of one thing are one key: no
// ether type is IPv4, protocol numbers are names, and the prefix of all addresses is none.
func (r SecurityGroupRule) Key() string {
	etherType := cmp.Or(r.EtherType, "IPv4")
	prefix := strings.ToLower(r.RemoteIPPrefix)
	if prefix == "0.0.0.0/0" || prefix == "::/0" {
		prefix = ""
	}
	return fmt.Sprintf("%s|%s|%s|%s|%d-%d|%s|%s", r.SecurityGroupID, strings.ToLower(r.Direction), etherType,
		protocolName(r.Protocol, etherType), r.PortMin, r.PortMax, r.RemoteGroupID, prefix)
}

// protocolName is one name for the several that Neutron takes for a protocol.
func protocolName(protocol, etherType string) string {
	protocol = strings.ToLower(protocol)
	switch protocol {
	case "6":
		return "tcp"
	case "17":
		return "udp"
	case "1":
		protocol = "icmp"
	case "58", "icmpv6":
		return "ipv6-icmp"
	case "any", "0":
		return ""
	}
	if protocol == "icmp" && etherType == "IPv6" {
		return "ipv6-icmp"
	}
	return protocol
}

// CreateSecurityGroup creates a security group.
func (s *Session) CreateSecurityGroup(ctx context.Context, request SecurityGroupRequest) (SecurityGroup, error) {
	body := map[string]any{"security_group": map[string]any{"name": request.Name, "description": request.Mark.String()}}
	var answer struct {
		SecurityGroup wireSecurityGroup `json:"security_group"`
	}
	if err := s.create(ctx, KindSecurityGroup, networkService, "security-groups", body, &answer); err != nil {
		return SecurityGroup{}, err
	}
	made := answer.SecurityGroup.securityGroup()
	s.Inventory().created(made)
	return made, nil
}

// DeleteSecurityGroup deletes a security group with its rules.
func (s *Session) DeleteSecurityGroup(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindSecurityGroup, networkService, "security-groups/"+id); err != nil {
		return err
	}
	s.Inventory().deleted(KindSecurityGroup, id)
	return nil
}

// CreateSecurityGroupRules creates rules, of one or several groups, in one call: all or none. A
// Conflict means that one of them is there already, so the groups should be listed again.
func (s *Session) CreateSecurityGroupRules(ctx context.Context, rules []SecurityGroupRule) ([]SecurityGroupRule, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	wanted := make([]wireSecurityGroupRule, 0, len(rules))
	for _, rule := range rules {
		wanted = append(wanted, wireSecurityGroupRule{
			SecurityGroupID: rule.SecurityGroupID, Direction: rule.Direction, EtherType: rule.EtherType,
			Protocol: rule.Protocol, PortMin: rule.PortMin, PortMax: rule.PortMax,
			RemoteGroupID: rule.RemoteGroupID, RemoteIPPrefix: rule.RemoteIPPrefix, Description: rule.Description,
		})
	}
	var answer struct {
		Rules []wireSecurityGroupRule `json:"security_group_rules"`
	}
	body := map[string]any{"security_group_rules": wanted}
	if err := s.create(ctx, KindSecurityGroup, networkService, "security-group-rules", body, &answer); err != nil {
		if ClassOf(err) == Conflict {
			s.Inventory().Require(KindSecurityGroup, s.clock.Now())
		}
		return nil, err
	}
	made := make([]SecurityGroupRule, 0, len(answer.Rules))
	byGroup := map[string][]SecurityGroupRule{}
	for _, rule := range answer.Rules {
		made = append(made, rule.rule())
		byGroup[rule.SecurityGroupID] = append(byGroup[rule.SecurityGroupID], rule.rule())
	}
	for id, added := range byGroup {
		amend(s.Inventory(), id, func(g *SecurityGroup) { g.Rules = withRules(g.Rules, added) })
	}
	return made, nil
}

// withRules is a copy of the rules with others added that may be there already.
func withRules(rules, added []SecurityGroupRule) []SecurityGroupRule {
	out := slices.Clone(rules)
	for _, rule := range added {
		if !slices.ContainsFunc(out, func(r SecurityGroupRule) bool { return r.ID == rule.ID }) {
			out = append(out, rule)
		}
	}
	sortRules(out)
	return out
}

// DeleteSecurityGroupRule deletes one rule.
func (s *Session) DeleteSecurityGroupRule(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindSecurityGroup, networkService, "security-group-rules/"+id); err != nil {
		return err
	}
	isRule := func(r SecurityGroupRule) bool { return r.ID == id }
	group, found := search(s.Inventory().Snapshot(), func(g SecurityGroup) bool { return slices.ContainsFunc(g.Rules, isRule) })
	if found {
		amend(s.Inventory(), group.ID, func(g *SecurityGroup) { g.Rules = slices.DeleteFunc(slices.Clone(g.Rules), isRule) })
	}
	return nil
}

// search looks through all objects of a kind. It is for writes, which are rare, and for kinds of
// which there are few.
func search[T object](s *Snapshot, is func(T) bool) (T, bool) {
	var found T
	ok := false
	s.tables[found.kind()].byID.walk("", func(_ string, o object) bool {
		if typed := o.(T); is(typed) {
			found, ok = typed, true
		}
		return !ok
	})
	return found, ok
}
