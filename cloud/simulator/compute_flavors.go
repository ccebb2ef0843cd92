package simulator

import (
	"net/http"
	"slices"
	"strings"
)

func (n *computeService) flavorRoutes(rt *router) {
	n.handle(rt, "GET /v2.1/flavors", n.listFlavors)
	n.handle(rt, "GET /v2.1/flavors/detail", n.listFlavorsInDetail)
	n.handle(rt, "GET /v2.1/flavors/{id}", n.showFlavor)
	n.handle(rt, "GET /v2.1/flavors/{id}/os-extra_specs", n.showExtraSpecs)
	n.handle(rt, "GET /v2.1/flavors/{id}/os-extra_specs/{key}", n.showExtraSpec)
	n.handle(rt, "GET /v2.1/flavors/{id}/os-flavor-access", n.showFlavorAccess)
	n.handle(rt, "GET /v2.1/os-availability-zone", n.listZones)
	n.handle(rt, "GET /v2.1/os-availability-zone/detail", n.listZonesInDetail)
	n.handle(rt, "GET /v2.1/extensions", n.listExtensions)
}

func (f Flavor) isPublic() bool { return len(f.Projects) == 0 }

// seesFlavor reports that the caller may use a flavor. Scenarios name its projects by name or id.
func (n *computeService) seesFlavor(c *call, f Flavor) bool {
	return f.isPublic() || slices.Contains(f.Projects, c.token.scope.name) || slices.Contains(f.Projects, c.project())
}

// usableFlavor is a flavor by id, or by its URL as flavorRef may be.
func (n *computeService) usableFlavor(c *call, ref string) (Flavor, bool) {
	id := ref[strings.LastIndex(ref, "/")+1:]
	i := slices.IndexFunc(n.flavors, func(f Flavor) bool { return f.ID == id && n.seesFlavor(c, f) })
	if i < 0 {
		return Flavor{}, false
	}
	return n.flavors[i], true
}

func (n *computeService) flavorView(c *call, f Flavor, version int) fields {
	view := fields{
		"id": f.ID, "name": f.Name, "ram": f.MemoryMiB, "disk": f.DiskGiB, "vcpus": f.VCPUs, "rxtx_factor": 1.0,
		"OS-FLV-EXT-DATA:ephemeral": f.EphemeralGiB, "OS-FLV-DISABLED:disabled": false, "os-flavor-access:is_public": f.isPublic(),
		"links": computeLinks(c, "flavors", f.ID), "swap": any(f.SwapMiB),
	}
	if f.SwapMiB == 0 && version < 75 {
		view["swap"] = ""
	}
	if version >= 55 {
		view["description"] = nil
	}
	if version >= 61 {
		view["extra_specs"] = orEmpty(f.ExtraSpecs)
	}
	return view
}

func (n *computeService) listFlavors(c *call, version int) (reply, error) {
	return n.flavorList(c, func(f Flavor) fields {
		view := fields{"id": f.ID, "name": f.Name, "links": computeLinks(c, "flavors", f.ID)}
		if version >= 55 {
			view["description"] = nil
		}
		return view
	})
}

func (n *computeService) listFlavorsInDetail(c *call, version int) (reply, error) {
	return n.flavorList(c, func(f Flavor) fields { return n.flavorView(c, f, version) })
}

func (n *computeService) flavorList(c *call, view func(Flavor) fields) (reply, error) {
	onlyPublic, minDisk, minMemory := c.query("is_public"), atoiOr(c.query("minDisk"), 0), atoiOr(c.query("minRam"), 0)
	flavors := keep(n.flavors, func(f Flavor) bool {
		if f.DiskGiB < minDisk || f.MemoryMiB < minMemory {
			return false
		}
		if c.isAdmin() && onlyPublic != "" {
			return strings.EqualFold(onlyPublic, "none") || strings.EqualFold(onlyPublic, "true") == f.isPublic()
		}
		return n.seesFlavor(c, f)
	})
	slices.SortStableFunc(flavors, func(a, b Flavor) int { return strings.Compare(a.ID, b.ID) })
	flavors, next, err := page(c, flavors, maxPage, func(f Flavor) string { return f.ID })
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, f := range flavors {
		views = append(views, view(f))
	}
	return pageReply("flavors", views, next), nil
}

func (n *computeService) findFlavor(c *call) (Flavor, error) {
	i := slices.IndexFunc(n.flavors, func(f Flavor) bool { return f.ID == c.id("id") && (c.isAdmin() || n.seesFlavor(c, f)) })
	if i < 0 {
		return Flavor{}, problemf(http.StatusNotFound, "Flavor %s could not be found.", c.id("id"))
	}
	return n.flavors[i], nil
}

func (n *computeService) showFlavor(c *call, version int) (reply, error) {
	f, err := n.findFlavor(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"flavor": n.flavorView(c, f, version)})
}

func (n *computeService) showExtraSpecs(c *call, _ int) (reply, error) {
	f, err := n.findFlavor(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"extra_specs": orEmpty(f.ExtraSpecs)})
}

func (n *computeService) showExtraSpec(c *call, _ int) (reply, error) {
	f, err := n.findFlavor(c)
	if err != nil {
		return reply{}, err
	}
	value, set := f.ExtraSpecs[c.id("key")]
	if !set {
		return reply{}, problemf(http.StatusNotFound, "Flavor %s has no extra specs with key %s.", f.ID, c.id("key"))
	}
	return ok(fields{c.id("key"): value})
}

func (n *computeService) showFlavorAccess(c *call, _ int) (reply, error) {
	f, err := n.findFlavor(c)
	if err != nil {
		return reply{}, err
	}
	if f.isPublic() {
		return reply{}, problemf(http.StatusNotFound, "Access list not available for public flavors.")
	}
	views := []fields{}
	for _, nameOrID := range f.Projects {
		if p := find(n.s.identity.projects, func(p *project) bool { return p.name == nameOrID || p.id == nameOrID }); p != nil {
			views = append(views, fields{"flavor_id": f.ID, "tenant_id": p.id})
		}
	}
	return ok(fields{"flavor_access": views})
}

func (n *computeService) zoneViews(hostsOf func(zone string) any) []fields {
	views := []fields{}
	for _, zone := range n.s.scenario.zones() {
		available := slices.ContainsFunc(n.hosts, func(h *host) bool { return h.Zone == zone && !h.down && !h.disabled })
		views = append(views, fields{"zoneName": zone, "zoneState": fields{"available": available}, "hosts": hostsOf(zone)})
	}
	return views
}

func (n *computeService) listZones(*call, int) (reply, error) {
	return ok(fields{"availabilityZoneInfo": n.zoneViews(func(string) any { return nil })})
}

func (n *computeService) listZonesInDetail(c *call, _ int) (reply, error) {
	if !c.isAdmin() && !n.s.scenario.PlacementReadable {
		return reply{}, policyProblem("os_compute_api:os-availability-zone:detail")
	}
	service := func(h *host) fields {
		return fields{"nova-compute": fields{"available": !h.down, "active": !h.disabled, "updated_at": stampMicros(n.s.now())}}
	}
	return ok(fields{"availabilityZoneInfo": n.zoneViews(func(zone string) any {
		hosts := fields{}
		for _, h := range n.hosts {
			if h.Zone == zone {
				hosts[h.Name] = service(h)
			}
		}
		return hosts
	})})
}

func (n *computeService) listExtensions(*call, int) (reply, error) {
	return ok(fields{"extensions": []fields{}})
}
