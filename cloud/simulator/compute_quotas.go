package simulator

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
)

func (n *computeService) quotaRoutes(rt *router) {
	n.handle(rt, "GET /v2.1/limits", n.showLimits)
	n.handle(rt, "GET /v2.1/os-quota-sets/{project}", n.showQuotas)
	n.handle(rt, "GET /v2.1/os-quota-sets/{project}/detail", n.showQuotaDetails)
	n.handle(rt, "GET /v2.1/os-quota-sets/{project}/defaults", n.showQuotaDefaults)
	n.handle(rt, "PUT /v2.1/os-quota-sets/{project}", n.updateQuotas)
	n.handle(rt, "DELETE /v2.1/os-quota-sets/{project}", n.deleteQuotas)
}

// novaQuotas are the resources of a quota set.
func novaQuotas() []string {
	return []string{"instances", "cores", "ram", "key_pairs", "metadata_items", "server_groups", "server_group_members"}
}

func (n *computeService) used(project string) map[string]int {
	u := n.usage[project]
	groups := keep(n.groups, func(g *serverGroup) bool { return g.project == project })
	return map[string]int{"instances": u.instances, "cores": u.cores, "ram": u.memoryMiB, "server_groups": len(groups)}
}

func (n *computeService) showLimits(c *call, version int) (reply, error) {
	project := c.project()
	if other := c.query("tenant_id"); other != "" && c.isAdmin() {
		project = other
	}
	used := n.used(project)
	absolute := fields{
		"maxTotalInstances": n.s.quota(project, "instances"), "totalInstancesUsed": used["instances"],
		"maxTotalCores": n.s.quota(project, "cores"), "totalCoresUsed": used["cores"],
		"maxTotalRAMSize": n.s.quota(project, "ram"), "totalRAMUsed": used["ram"],
		"maxTotalKeypairs": n.s.quota(project, "key_pairs"), "maxServerMeta": n.s.quota(project, "metadata_items"),
		"maxServerGroups": n.s.quota(project, "server_groups"), "totalServerGroupsUsed": used["server_groups"],
		"maxServerGroupMembers": n.s.quota(project, "server_group_members"),
	}
	if version < 36 { // of nova-network, gone since
		maps.Copy(absolute, fields{"maxSecurityGroups": 10, "maxSecurityGroupRules": 20, "maxTotalFloatingIps": 10, "totalFloatingIpsUsed": 0, "totalSecurityGroupsUsed": 0})
	}
	if version < 57 {
		maps.Copy(absolute, fields{"maxImageMeta": 128, "maxPersonality": 5, "maxPersonalitySize": 10240})
	}
	return ok(fields{"limits": fields{"rate": []fields{}, "absolute": absolute}})
}

// quotaProject is the project of a quota path; others than one's own only for admins.
func quotaProject(c *call, rule string) (string, error) {
	if c.id("project") != c.project() && !c.isAdmin() {
		return "", policyProblem(rule)
	}
	return c.id("project"), nil
}

func (n *computeService) showQuotas(c *call, _ int) (reply, error) {
	project, err := quotaProject(c, "os_compute_api:os-quota-sets:show")
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"quota_set": n.quotaSet(project, func(resource string) any { return n.s.quota(project, resource) })})
}

func (n *computeService) quotaSet(id string, value func(resource string) any) fields {
	set := fields{"id": id}
	for _, resource := range novaQuotas() {
		set[resource] = value(resource)
	}
	return set
}

func (n *computeService) showQuotaDetails(c *call, _ int) (reply, error) {
	project, err := quotaProject(c, "os_compute_api:os-quota-sets:detail")
	if err != nil {
		return reply{}, err
	}
	used := n.used(project)
	return ok(fields{"quota_set": n.quotaSet(project, func(resource string) any {
		return fields{"in_use": used[resource], "limit": n.s.quota(project, resource), "reserved": 0}
	})})
}

func (n *computeService) showQuotaDefaults(c *call, _ int) (reply, error) {
	return ok(fields{"quota_set": n.quotaSet(c.id("project"), func(resource string) any { return n.s.quotas.defaults[resource] })})
}

func (n *computeService) updateQuotas(c *call, _ int) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("os_compute_api:os-quota-sets:update")
	}
	var in struct {
		Set map[string]json.RawMessage `json:"quota_set"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	project := c.id("project")
	force := string(in.Set["force"]) == "true"
	used := n.used(project)
	limits := map[string]int{}
	for _, resource := range slices.Sorted(maps.Keys(in.Set)) {
		if !slices.Contains(novaQuotas(), resource) {
			continue // force, tenant_id and what other services own
		}
		limit := atoiOr(strings.Trim(string(in.Set[resource]), `"`), unlimited)
		if limit != unlimited && limit < used[resource] && !force {
			return reply{}, badRequest("Quota limit %d for %s must be greater than or equal to already used and reserved %d.", limit, resource, used[resource])
		}
		limits[resource] = limit
	}
	for resource, limit := range limits {
		n.s.quotas.set(project, resource, limit)
	}
	return ok(fields{"quota_set": n.quotaSet(project, func(resource string) any { return n.s.quota(project, resource) })})
}

func (n *computeService) deleteQuotas(c *call, _ int) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("os_compute_api:os-quota-sets:delete")
	}
	n.s.quotas.reset(c.id("project"), novaQuotas())
	return reply{status: http.StatusAccepted}, nil
}
