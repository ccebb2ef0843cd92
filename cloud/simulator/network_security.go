package simulator

import (
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const defaultGroupName = "default"

// securityGroup is a Neutron security group.
type securityGroup struct {
	record
	Name     string `json:"name"`
	Stateful bool   `json:"stateful"`
	Shared   bool   `json:"shared"`

	rules []*securityRule
}

// securityGroupView is a group with its rules, as the API shows it.
type securityGroupView struct {
	*securityGroup
	Rules []*securityRule `json:"security_group_rules"`
}

// securityRule is a rule of a security group.
type securityRule struct {
	record
	SecurityGroupID      string  `json:"security_group_id"`
	Direction            string  `json:"direction"`
	EtherType            string  `json:"ethertype"`
	Protocol             *string `json:"protocol"`
	PortRangeMin         *int    `json:"port_range_min"`
	PortRangeMax         *int    `json:"port_range_max"`
	RemoteIPPrefix       *string `json:"remote_ip_prefix"`
	RemoteGroupID        *string `json:"remote_group_id"`
	RemoteAddressGroupID *string `json:"remote_address_group_id"`
	NormalizedCIDR       *string `json:"normalized_cidr"`
}

type securityGroupAttributes struct {
	common
	Stateful optional[bool] `json:"stateful"`
}

type securityGroupChange struct {
	Name        optional[string] `json:"name"`
	Description optional[string] `json:"description"`
	Stateful    optional[bool]   `json:"stateful"`
}

type securityRuleAttributes struct {
	Description          optional[string] `json:"description"`
	ProjectID            optional[string] `json:"project_id"`
	TenantID             optional[string] `json:"tenant_id"`
	SecurityGroupID      optional[string] `json:"security_group_id"`
	Direction            optional[string] `json:"direction"`
	EtherType            optional[string] `json:"ethertype"`
	Protocol             optional[any]    `json:"protocol"`
	PortRangeMin         optional[whole]  `json:"port_range_min"`
	PortRangeMax         optional[whole]  `json:"port_range_max"`
	RemoteIPPrefix       optional[string] `json:"remote_ip_prefix"`
	RemoteGroupID        optional[string] `json:"remote_group_id"`
	RemoteAddressGroupID optional[string] `json:"remote_address_group_id"`
}

func (n *networkService) securityGroupResource() resource[*securityGroup] {
	return resource[*securityGroup]{
		singular: "security_group", plural: "security_groups", path: "security-groups", objects: &n.securityGroups,
		missing: groupMissing, create: n.createSecurityGroup, update: n.updateSecurityGroup,
		blocked: n.securityGroupBlocked, discard: n.discardSecurityGroup,
		view: func(_ *call, group *securityGroup) any {
			return securityGroupView{securityGroup: group, Rules: append([]*securityRule{}, group.rules...)}
		},
		beforeList: func(c *call) { n.defaultGroup(c.project()) },
	}
}

func (n *networkService) securityRuleResource() resource[*securityRule] {
	return resource[*securityRule]{
		singular: "security_group_rule", plural: "security_group_rules", path: "security-group-rules", objects: &n.securityRules,
		missing: ruleMissing, create: n.createSecurityRule, discard: n.discardSecurityRule, bare: true,
	}
}

func groupMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "SecurityGroupNotFound", "Security group %s does not exist", id)
}

func ruleMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "SecurityGroupRuleNotFound", "Security group rule %s does not exist", id)
}

// defaultGroup is the group that every project has, made when it is first needed.
func (n *networkService) defaultGroup(project string) *securityGroup {
	if group := n.defaultGroups[project]; group != nil {
		return group
	}
	head := n.newRecord(project)
	head.given, head.Description = true, "Default security group"
	group := &securityGroup{record: head, Name: defaultGroupName, Stateful: true}
	n.defaultGroups[project] = group
	n.securityGroups.add(group)
	for _, etherType := range []string{"IPv4", "IPv6"} {
		n.addRule(group, &securityRule{Direction: "egress", EtherType: etherType})
		n.addRule(group, &securityRule{Direction: "ingress", EtherType: etherType, RemoteGroupID: &group.ID})
	}
	return group
}

// addRule puts a rule that has been checked into its group.
func (n *networkService) addRule(group *securityGroup, rule *securityRule) {
	description := rule.Description
	rule.record = n.newRecord(group.ProjectID)
	rule.Description, rule.given, rule.SecurityGroupID = description, group.given, group.ID
	group.rules = append(group.rules, rule)
	n.securityRules.add(rule)
	n.touch(group)
}

func (n *networkService) createSecurityGroup(c *call, body []byte) (*securityGroup, error) {
	var asked securityGroupAttributes
	if err := readNew(body, &asked, securityGroupView{}); err != nil {
		return nil, err
	}
	if asked.Name.value == defaultGroupName {
		return nil, networkProblem(http.StatusConflict, "SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
	}
	project, err := ownerOf(c, asked.ProjectID, asked.TenantID)
	if err != nil {
		return nil, err
	}
	n.defaultGroup(project)
	head, err := n.begin(c, asked.common, "security_group", n.securityGroups.ofProject)
	if err != nil {
		return nil, err
	}
	group := &securityGroup{record: head, Name: asked.Name.value, Stateful: asked.Stateful.or(true)}
	n.securityGroups.add(group)
	for _, etherType := range []string{"IPv4", "IPv6"} {
		n.addRule(group, &securityRule{Direction: "egress", EtherType: etherType})
	}
	return group, nil
}

func (n *networkService) updateSecurityGroup(_ *call, group *securityGroup, body []byte) error {
	var asked securityGroupChange
	if err := readChange(body, &asked, securityGroupView{}); err != nil {
		return err
	}
	if group.given && asked.Name.set && asked.Name.value != group.Name {
		return networkProblem(http.StatusConflict, "SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
	}
	asked.Name.to(&group.Name)
	asked.Description.to(&group.Description)
	asked.Stateful.to(&group.Stateful)
	return nil
}

func (n *networkService) securityGroupBlocked(c *call, group *securityGroup) error {
	if group.given && !c.isAdmin() {
		return networkProblem(http.StatusConflict, "SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
	}
	for _, p := range n.ports.inOrder {
		if slices.Contains(p.SecurityGroups, group.ID) {
			return networkProblem(http.StatusConflict, "SecurityGroupInUse", "Security Group %s in use.", group.ID)
		}
	}
	return nil
}

// discardSecurityGroup takes a group away with its rules and those of others that name it.
func (n *networkService) discardSecurityGroup(group *securityGroup) {
	for _, rule := range slices.Clone(n.securityRules.inOrder) {
		if rule.SecurityGroupID == group.ID || rule.RemoteGroupID != nil && *rule.RemoteGroupID == group.ID {
			n.discardSecurityRule(rule)
		}
	}
	n.securityGroups.remove(group)
	if n.defaultGroups[group.ProjectID] == group {
		delete(n.defaultGroups, group.ProjectID)
	}
}

func (n *networkService) discardSecurityRule(rule *securityRule) {
	n.securityRules.remove(rule)
	if group := n.securityGroups.byID[rule.SecurityGroupID]; group != nil {
		group.rules = without(group.rules, rule)
		n.touch(group)
	}
}

func (n *networkService) createSecurityRule(c *call, body []byte) (*securityRule, error) {
	var asked securityRuleAttributes
	if err := readNew(body, &asked, securityRule{}); err != nil {
		return nil, err
	}
	group, known := n.securityGroups.byID[asked.SecurityGroupID.value]
	if !known || !owns(c, group) {
		return nil, groupMissing(asked.SecurityGroupID.value)
	}
	rule, err := n.checkedRule(c, asked)
	if err != nil {
		return nil, err
	}
	for _, other := range group.rules {
		if rule.sameAs(other) {
			return nil, networkProblem(http.StatusConflict, "SecurityGroupRuleExists", "Security group rule already exists. Rule id is %s.", other.ID)
		}
	}
	if err := n.checkQuota(group.ProjectID, "security_group_rule", n.securityRules.ofProject[group.ProjectID]); err != nil {
		return nil, err
	}
	n.addRule(group, rule)
	return rule, nil
}

// checkedRule makes a rule of what was asked for.
func (n *networkService) checkedRule(c *call, asked securityRuleAttributes) (*securityRule, error) {
	rule := &securityRule{Direction: asked.Direction.value, EtherType: asked.EtherType.or("IPv4")}
	asked.Description.to(&rule.Description)
	if rule.Direction != "ingress" && rule.Direction != "egress" {
		return nil, invalidInput("direction", "'%s' is not in ['ingress', 'egress']", rule.Direction)
	}
	switch strings.ToLower(rule.EtherType) {
	case "ipv4":
		rule.EtherType = "IPv4"
	case "ipv6":
		rule.EtherType = "IPv6"
	default:
		return nil, networkProblem(http.StatusBadRequest, "SecurityGroupRuleInvalidEtherType",
			"Security group rule for ethertype '%s' not supported. Allowed values are IPv4, IPv6.", rule.EtherType)
	}
	if err := rule.setProtocol(asked.Protocol); err != nil {
		return nil, err
	}
	if err := rule.setPorts(asked.PortRangeMin, asked.PortRangeMax); err != nil {
		return nil, err
	}
	return rule, n.setRemote(c, rule, asked)
}

// setProtocol takes a protocol's name or number; "any" stands for all of them.
func (rule *securityRule) setProtocol(asked optional[any]) error {
	if !asked.set || asked.null {
		return nil
	}
	var protocol string
	switch value := asked.value.(type) {
	case string:
		protocol = strings.ToLower(value)
	case float64:
		protocol = strconv.Itoa(int(value))
	}
	if protocol == "any" || protocol == "" {
		return nil
	}
	names := []string{"ah", "dccp", "egp", "esp", "gre", "hopopt", "icmp", "igmp", "ip", "ipip", "ipv6-encap", "ipv6-frag", "ipv6-icmp", "icmpv6", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite", "vrrp"}
	if number, err := strconv.Atoi(protocol); err == nil && number >= 0 && number <= 255 || slices.Contains(names, protocol) {
		rule.Protocol = &protocol
		return nil
	}
	return networkProblem(http.StatusBadRequest, "SecurityGroupRuleInvalidProtocol",
		"Security group rule protocol %s not supported. Only protocol values [None, '%s'] and integer representations [0 to 255] are supported.", protocol, strings.Join(names, "', '"))
}

func (rule *securityRule) setPorts(least, most optional[whole]) error {
	if (!least.set || least.null) && (!most.set || most.null) {
		return nil
	}
	if rule.Protocol == nil {
		return networkProblem(http.StatusBadRequest, "SecurityGroupProtocolRequiredWithPorts", "Must also specify protocol if port range is given.")
	}
	if slices.Contains([]string{"icmp", "icmpv6", "ipv6-icmp", "1", "58"}, *rule.Protocol) {
		rule.PortRangeMin, rule.PortRangeMax = numberOrNull(least), numberOrNull(most) // type and code
		return nil
	}
	if least.or(0) < 1 || most.or(0) > 65535 || least.value > most.or(0) {
		return networkProblem(http.StatusBadRequest, "SecurityGroupInvalidPortRange", "For TCP/UDP protocols, port_range_min must be <= port_range_max")
	}
	rule.PortRangeMin, rule.PortRangeMax = numberOrNull(least), numberOrNull(most)
	return nil
}

func numberOrNull(value optional[whole]) *int {
	if !value.set || value.null {
		return nil
	}
	number := int(value.value)
	return &number
}

// setRemote takes the peers of a rule: a prefix or a group.
func (n *networkService) setRemote(c *call, rule *securityRule, asked securityRuleAttributes) error {
	prefix, group := asked.RemoteIPPrefix.or(""), asked.RemoteGroupID.or("")
	if prefix != "" && group != "" {
		return networkProblem(http.StatusBadRequest, "SecurityGroupMultipleRemoteEntites", "Only one of remote_ip_prefix or remote_group_id or remote_address_group_id may be provided.")
	}
	if group != "" {
		remote, known := n.securityGroups.byID[group]
		if !known || !owns(c, remote) {
			return groupMissing(group)
		}
		rule.RemoteGroupID = &group
	}
	if prefix == "" {
		return nil
	}
	normal, err := netip.ParsePrefix(prefix)
	if err != nil {
		a, errAddress := netip.ParseAddr(prefix)
		if errAddress != nil {
			return invalidInput("remote_ip_prefix", "'%s' is not a valid IP subnet", prefix)
		}
		normal = netip.PrefixFrom(a, a.BitLen())
		prefix = normal.String()
	}
	if normal.Addr().Is4() != (rule.EtherType == "IPv4") {
		return networkProblem(http.StatusBadRequest, "SecurityGroupRuleParameterConflict", "Conflicting value ethertype %s for CIDR %s", rule.EtherType, prefix)
	}
	rule.RemoteIPPrefix, rule.NormalizedCIDR = &prefix, textOrNull(normal.Masked().String())
	return nil
}

// sameAs says that two rules let the same traffic pass; a rule for every address counts as one
// without a prefix.
func (rule *securityRule) sameAs(other *securityRule) bool {
	return rule.Direction == other.Direction && rule.EtherType == other.EtherType &&
		equal(rule.Protocol, other.Protocol) && equal(rule.PortRangeMin, other.PortRangeMin) && equal(rule.PortRangeMax, other.PortRangeMax) &&
		equal(rule.RemoteGroupID, other.RemoteGroupID) && rule.peers() == other.peers()
}

func (rule *securityRule) peers() string {
	if rule.NormalizedCIDR == nil || *rule.NormalizedCIDR == "0.0.0.0/0" || *rule.NormalizedCIDR == "::/0" {
		return ""
	}
	return *rule.NormalizedCIDR
}

func equal[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}
