package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
)

// balancerMinor is the newest minor version of the API: v2.26, as in Octavia 11.
const balancerMinor = 26

func (lb *loadBalancerService) versionRoutes(rt *router) {
	rt.open("GET /{$}", func(c *call) (reply, error) {
		versions := []fields{}
		for minor := range balancerMinor + 1 {
			status := "SUPPORTED"
			if minor == balancerMinor {
				status = "CURRENT"
			}
			versions = append(versions, fields{
				"id": fmt.Sprintf("v2.%d", minor), "status": status, "updated": "2022-08-29T00:00:00Z",
				"links": []fields{{"rel": "self", "href": c.base("load-balancer") + "/v2"}},
			})
		}
		return reply{status: http.StatusOK, body: fields{"versions": versions}}, nil
	})
}

// balancerFlavors are the flavors every project may use.
func balancerFlavors() []fields {
	flavor := func(name, description string) fields {
		return fields{
			"id": longID("load balancer flavor", name), "name": name, "description": description, "enabled": true,
			"flavor_profile_id": longID("load balancer flavor profile", name),
		}
	}
	return []fields{
		flavor("single", "One amphora."),
		flavor("active-standby", "Two amphorae, one of which stands by."),
	}
}

func (lb *loadBalancerService) catalogRoutes(rt *router) {
	lb.handle(rt, "GET /lbaas/providers", func(*call) (reply, error) {
		return reply{status: http.StatusOK, body: fields{"providers": []fields{
			{"name": "amphora", "description": "The Octavia Amphora driver."},
			{"name": "octavia", "description": "Deprecated alias of the Octavia Amphora driver."},
		}}}, nil
	})
	lb.handle(rt, "GET /lbaas/flavors", func(c *call) (reply, error) {
		flavors := slices.DeleteFunc(balancerFlavors(), func(f fields) bool {
			name, id := c.query("name"), c.query("id")
			return name != "" && name != f["name"] || id != "" && id != f["id"]
		})
		return reply{status: http.StatusOK, body: fields{"flavors": flavors}}, nil
	})
	lb.handle(rt, "GET /lbaas/flavors/{id}", func(c *call) (reply, error) {
		for _, f := range balancerFlavors() {
			if f["id"] == c.id("id") {
				return reply{status: http.StatusOK, body: fields{"flavor": f}}, nil
			}
		}
		return reply{}, balancerMissing("Flavor", c.id("id"))
	})
	lb.handle(rt, "GET /lbaas/availabilityzones", func(*call) (reply, error) {
		zones := []fields{}
		for _, zone := range lb.s.scenario.zones() {
			zones = append(zones, fields{"name": zone, "description": "", "enabled": true})
		}
		return reply{status: http.StatusOK, body: fields{"availability_zones": zones}}, nil
	})
	// Collections that are known here but always empty.
	for path, name := range map[string]string{"/lbaas/l7policies": "l7policies", "/octavia/amphorae": "amphorae"} {
		lb.handle(rt, "GET "+path, func(*call) (reply, error) {
			return reply{status: http.StatusOK, body: fields{name: []any{}}}, nil
		})
	}
}

// balancerQuotas maps Octavia's names of what it limits to those of the quota store.
func balancerQuotas() map[string]string {
	return map[string]string{
		"load_balancer": "loadbalancer", "listener": "listener", "pool": "pool", "member": "member",
		"health_monitor": "healthmonitor", "l7policy": "l7policy", "l7rule": "l7rule",
	}
}

func (lb *loadBalancerService) limits(project string) fields {
	limits := fields{}
	for name, resource := range balancerQuotas() {
		limits[name] = lb.s.quota(project, resource)
	}
	return limits
}

func (lb *loadBalancerService) quotaRoutes(rt *router) {
	lb.handle(rt, "GET /lbaas/quotas", func(c *call) (reply, error) {
		quotas := []fields{}
		for _, project := range lb.s.scenario.Projects {
			if !c.isAdmin() && project.ID != c.project() {
				continue
			}
			quota := lb.limits(project.ID)
			quota["project_id"], quota["tenant_id"] = project.ID, project.ID
			quotas = append(quotas, quota)
		}
		return reply{status: http.StatusOK, body: fields{"quotas": quotas}}, nil
	})
	lb.handle(rt, "GET /lbaas/quotas/defaults", func(*call) (reply, error) {
		return reply{status: http.StatusOK, body: fields{"quota": lb.limits("")}}, nil
	})
	// gophercloud leaves out "lbaas" here, which Octavia takes as well.
	for _, path := range []string{"/quotas/{project}", "/lbaas/quotas/{project}"} {
		lb.handle(rt, "GET "+path, lb.showQuota)
		lb.handle(rt, "PUT "+path, lb.setQuota)
	}
	lb.handle(rt, "DELETE /lbaas/quotas/{project}", func(c *call) (reply, error) {
		if !c.isAdmin() {
			return reply{}, policyForbids()
		}
		for _, resource := range balancerQuotas() {
			lb.s.quotas.reset(c.id("project"), []string{resource})
		}
		return reply{status: http.StatusNoContent}, nil
	})
}

func (lb *loadBalancerService) showQuota(c *call) (reply, error) {
	if !c.isAdmin() && c.id("project") != c.project() {
		return reply{}, policyForbids()
	}
	return reply{status: http.StatusOK, body: fields{"quota": lb.limits(c.id("project"))}}, nil
}

func (lb *loadBalancerService) setQuota(c *call) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyForbids()
	}
	var body struct {
		Quota map[string]json.RawMessage `json:"quota"`
	}
	if err := c.decode(&body); err != nil {
		return reply{}, err
	}
	names := balancerQuotas()
	names["loadbalancer"], names["healthmonitor"] = "loadbalancer", "healthmonitor" // older spellings
	limits := map[string]int{}
	for name, value := range body.Quota {
		var limit whole
		if json.Unmarshal(value, &limit) != nil || names[name] == "" {
			return reply{}, problemf(http.StatusBadRequest, "Unknown attribute:\n%s", name)
		}
		limits[names[name]] = int(limit)
	}
	for resource, limit := range limits {
		lb.s.quotas.set(c.id("project"), resource, limit)
	}
	return reply{status: http.StatusAccepted, body: fields{"quota": lb.limits(c.id("project"))}}, nil
}
