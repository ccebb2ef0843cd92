package simulator

import (
	"net/http"
	"strings"
)

// catalogService is one entry of the catalog. {project} in its path stands for the token's.
type catalogService struct{ kind, name, path string }

func catalogServices() []catalogService {
	return []catalogService{
		{"identity", "keystone", "/identity/v3"},
		{"compute", "nova", "/compute/v2.1"},
		{"network", "neutron", "/network"},
		{"load-balancer", "octavia", "/load-balancer"},
		{"image", "glance", "/image"},
		{"volumev3", "cinderv3", "/volume/v3/{project}"},
		{"block-storage", "cinder", "/volume/v3/{project}"},
		{"placement", "placement", "/placement"},
	}
}

func catalogInterfaces() []string { return []string{"public", "internal", "admin"} }

func (k *identityService) endpointViews(c *call, service catalogService, projectID string) []fields {
	url := origin(c.r) + strings.ReplaceAll(service.path, "{project}", projectID)
	views := []fields{}
	for _, region := range k.s.scenario.Regions {
		for _, access := range catalogInterfaces() {
			views = append(views, fields{"id": shortID("endpoint", service.kind, region, access), "interface": access, "region": region, "region_id": region, "url": url})
		}
	}
	return views
}

func (k *identityService) catalog(c *call, projectID string) []fields {
	views := []fields{}
	for _, service := range catalogServices() {
		views = append(views, fields{
			"id": shortID("service", service.kind), "type": service.kind, "name": service.name, "endpoints": k.endpointViews(c, service, projectID),
		})
	}
	return views
}

func (k *identityService) showCatalog(c *call) (reply, error) {
	if c.token.scope == nil {
		return reply{}, problemf(http.StatusForbidden, "Could not find service catalog: the token is not scoped.")
	}
	return reply{status: http.StatusOK, body: fields{
		"catalog": k.catalog(c, c.token.project),
		"links":   fields{"next": nil, "previous": nil, "self": c.base("identity") + "/v3/auth/catalog"},
	}}, nil
}

func (k *identityService) regionViews(c *call) []fields {
	views := []fields{}
	for _, region := range k.s.scenario.Regions {
		views = append(views, fields{
			"id": region, "description": "", "parent_region_id": nil, "links": fields{"self": c.base("identity") + "/v3/regions/" + region},
		})
	}
	return views
}

func (k *identityService) listRegions(c *call) (reply, error) {
	return k.list(c, "regions", k.regionViews(c))
}

func (k *identityService) showRegion(c *call) (reply, error) {
	return k.one("region", c.id("id"), k.regionViews(c))
}

func (k *identityService) serviceViews(c *call) []fields {
	views := []fields{}
	for _, service := range catalogServices() {
		id := shortID("service", service.kind)
		views = append(views, fields{
			"id": id, "type": service.kind, "name": service.name, "enabled": true, "description": "",
			"links": fields{"self": c.base("identity") + "/v3/services/" + id},
		})
	}
	return views
}

func (k *identityService) listServices(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:list_services"); err != nil {
		return reply{}, err
	}
	return k.list(c, "services", k.serviceViews(c))
}

func (k *identityService) showService(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:get_service"); err != nil {
		return reply{}, err
	}
	return k.one("service", c.id("id"), k.serviceViews(c))
}

func (k *identityService) listEndpoints(c *call) (reply, error) {
	if err := k.requireAdmin(c, "identity:list_endpoints"); err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, service := range catalogServices() {
		for _, view := range k.endpointViews(c, service, "$(project_id)s") {
			view["service_id"], view["enabled"] = shortID("service", service.kind), true
			views = append(views, view)
		}
	}
	return k.list(c, "endpoints", views)
}
