package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
)

// networkQuotas are Neutron's names for what it limits.
func networkQuotas() []string {
	return []string{"network", "subnet", "subnetpool", "port", "router", "floatingip", "security_group", "security_group_rule", "rbac_policy", "trunk"}
}

// usedQuota is what a project holds of a limited resource.
func (n *networkService) usedQuota(project, resource string) int {
	switch resource {
	case "network":
		return n.networks.ofProject[project]
	case "subnet":
		return n.subnets.ofProject[project]
	case "port":
		return n.ports.ofProject[project]
	case "router":
		return n.routers.ofProject[project]
	case "floatingip":
		return n.floatingIPs.ofProject[project]
	case "security_group":
		return n.securityGroups.ofProject[project]
	case "security_group_rule":
		return n.securityRules.ofProject[project]
	case "trunk":
		return n.trunks.ofProject[project]
	}
	return 0
}

func (n *networkService) quotaRoutes(rt *router) {
	rt.handle("GET /v2.0/quotas", func(c *call) (reply, error) {
		if !c.isAdmin() {
			return reply{}, disallowed("get_quotas")
		}
		quotas := []fields{}
		for _, project := range n.s.scenario.Projects {
			quota := n.limits(project.ID)
			quota["project_id"], quota["tenant_id"] = project.ID, project.ID
			quotas = append(quotas, quota)
		}
		return reply{status: http.StatusOK, body: fields{"quotas": quotas}}, nil
	})
	rt.handle("GET /v2.0/quotas/{project}", n.quotaAnswer(n.limits))
	rt.handle("GET /v2.0/quotas/{project}/default", n.quotaAnswer(func(string) fields { return n.limits("") }))
	rt.handle("GET /v2.0/quotas/{project}/details.json", n.quotaAnswer(n.limitsAndUse))
	rt.handle("GET /v2.0/quotas/{project}/details", n.quotaAnswer(n.limitsAndUse))
	rt.handle("PUT /v2.0/quotas/{project}", n.setQuota)
	rt.handle("DELETE /v2.0/quotas/{project}", func(c *call) (reply, error) {
		if !c.isAdmin() {
			return reply{}, disallowed("delete_quota")
		}
		n.s.quotas.reset(c.id("project"), networkQuotas())
		return reply{status: http.StatusNoContent}, nil
	})
}

func (n *networkService) quotaAnswer(of func(project string) fields) handler {
	return func(c *call) (reply, error) {
		if !c.isAdmin() && c.id("project") != c.project() {
			return reply{}, disallowed("get_quota")
		}
		return reply{status: http.StatusOK, body: fields{"quota": of(c.id("project"))}}, nil
	}
}

func (n *networkService) limits(project string) fields {
	limits := fields{}
	for _, resource := range networkQuotas() {
		limits[resource] = n.s.quota(project, resource)
	}
	return limits
}

func (n *networkService) limitsAndUse(project string) fields {
	details := fields{}
	for _, resource := range networkQuotas() {
		details[resource] = fields{"limit": n.s.quota(project, resource), "used": n.usedQuota(project, resource), "reserved": 0}
	}
	return details
}

func (n *networkService) setQuota(c *call) (reply, error) {
	if !c.isAdmin() {
		return reply{}, disallowed("update_quota")
	}
	var body struct {
		Quota map[string]json.RawMessage `json:"quota"`
	}
	if err := c.decode(&body); err != nil {
		return reply{}, err
	}
	limits := map[string]int{}
	for resource, value := range body.Quota {
		if resource == "project_id" || resource == "tenant_id" || resource == "force" || resource == "check_limit" {
			continue
		}
		var limit whole
		if err := json.Unmarshal(value, &limit); err != nil || !slices.Contains(networkQuotas(), resource) {
			return reply{}, networkProblem(http.StatusBadRequest, "HTTPBadRequest", "Unrecognized attribute(s) '%s'", resource)
		}
		limits[resource] = int(limit)
	}
	for resource, limit := range limits {
		n.s.quotas.set(c.id("project"), resource, limit)
	}
	return reply{status: http.StatusOK, body: fields{"quota": n.limits(c.id("project"))}}, nil
}
