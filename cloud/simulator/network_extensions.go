package simulator

import "net/http"

// networkExtensions are the extensions this Neutron has, by alias. Clients look for some of them by
// name. standard-attr-tag and trunk are among those that some clouds lack.
func networkExtensions() []fields {
	var extensions []fields
	for _, extension := range []struct{ alias, name string }{
		{"agent", "agent"},
		{"allowed-address-pairs", "Allowed Address Pairs"},
		{"availability_zone", "Availability Zone"},
		{"binding", "Port Binding"},
		{"dns-integration", "DNS Integration"},
		{"dvr", "Distributed Virtual Router"},
		{"empty-string-filtering", "Empty String Filtering Extension"},
		{"ext-gw-mode", "Neutron L3 Configurable external gateway mode"},
		{"external-net", "Neutron external network"},
		{"extraroute", "Neutron Extra Route"},
		{"extraroute-atomic", "Atomically add/remove extra routes"},
		{"fip-port-details", "Floating IP Port Details Extension"},
		{"ip-substring-filtering", "IP address substring filtering"},
		{"l3-ha", "HA Router extension"},
		{"net-mtu", "Network MTU"},
		{"net-mtu-writable", "Network MTU (writable)"},
		{"network-ip-availability", "Network IP Availability"},
		{"network_availability_zone", "Network Availability Zone"},
		{"pagination", "Pagination support"},
		{"port-security", "Port Security"},
		{"project-id", "project_id field enabled"},
		{"quota_details", "Quota details management support"},
		{"quotas", "Quota management support"},
		{"revision-if-match", "If-Match constraints based on revision_number"},
		{"router", "Neutron L3 Router"},
		{"router_availability_zone", "Router Availability Zone"},
		{"security-group", "security-group"},
		{"security-groups-normalized-cidr", "Normalized CIDR field for security group rules"},
		{"sorting", "Sorting support"},
		{"standard-attr-description", "standard-attr-description"},
		{"standard-attr-revisions", "Resource revision numbers"},
		{"standard-attr-tag", "Tag support for resources with standard attribute: network, port, subnet, router, security_group, floatingip, trunk"},
		{"standard-attr-timestamp", "Resource timestamps"},
		{"stateful-security-group", "Stateful security group"},
		{"subnet-service-types", "Subnet service types"},
		{"tag-ports-during-bulk-creation", "Tag Ports During Bulk Creation"},
		{"trunk", "Trunk Extension"},
		{"trunk-details", "Trunk port details"},
	} {
		extensions = append(extensions, fields{
			"alias": extension.alias, "name": extension.name, "description": extension.name + ".",
			"updated": "2018-01-01T10:00:00-00:00", "links": []any{},
		})
	}
	return extensions
}

func (n *networkService) extensionRoutes(rt *router) {
	rt.handle("GET /v2.0/extensions", func(*call) (reply, error) {
		return reply{status: http.StatusOK, body: fields{"extensions": networkExtensions()}}, nil
	})
	rt.handle("GET /v2.0/extensions/{alias}", func(c *call) (reply, error) {
		for _, extension := range networkExtensions() {
			if extension["alias"] == c.id("alias") {
				return reply{status: http.StatusOK, body: fields{"extension": extension}}, nil
			}
		}
		return reply{}, networkProblem(http.StatusNotFound, "ExtensionNotFound", "Extension with alias %s does not exist", c.id("alias"))
	})
	rt.handle("GET /v2.0/availability_zones", func(*call) (reply, error) {
		zone := func(resource string) fields {
			return fields{"name": networkZone, "resource": resource, "state": "available"}
		}
		return reply{status: http.StatusOK, body: fields{"availability_zones": []fields{zone("network"), zone("router")}}}, nil
	})
	rt.handle("GET /v2.0/agents", func(c *call) (reply, error) {
		agents := []fields{}
		if c.isAdmin() {
			agents = n.agents()
		}
		return reply{status: http.StatusOK, body: fields{"agents": agents}}, nil
	})
	rt.handle("GET /v2.0/network-ip-availabilities", n.listAvailabilities)
	rt.handle("GET /v2.0/network-ip-availabilities/{id}", n.showAvailability)
	// Collections that are known here but always empty.
	for path, name := range map[string]string{
		"subnetpools": "subnetpools", "address-scopes": "address_scopes", "address-groups": "address_groups",
		"rbac-policies": "rbac_policies", "segments": "segments",
	} {
		rt.handle("GET /v2.0/"+path, func(*call) (reply, error) {
			return reply{status: http.StatusOK, body: fields{name: []any{}}}, nil
		})
	}
}

// agents are one Open vSwitch agent for each hypervisor and one L3 agent.
func (n *networkService) agents() []fields {
	now := n.s.now().UTC().Format("2006-01-02 15:04:05")
	agent := func(kind, binary, host, zone string) fields {
		return fields{
			"id": longID("agent", binary, host), "agent_type": kind, "binary": binary, "host": host, "topic": "N/A",
			"availability_zone": zone, "admin_state_up": true, "alive": true, "resources_synced": nil, "description": nil,
			"configurations": fields{}, "created_at": now, "started_at": now, "heartbeat_timestamp": now,
		}
	}
	agents := []fields{agent("L3 agent", "neutron-l3-agent", "network-node-1", networkZone)}
	for _, host := range n.s.scenario.Hosts {
		agents = append(agents, agent("Open vSwitch agent", "neutron-openvswitch-agent", host.Name, ""))
	}
	return agents
}

// versionRoutes answer what clients ask before anything else.
func (n *networkService) versionRoutes(rt *router) {
	versions := func(c *call) (reply, error) {
		return reply{status: http.StatusOK, body: fields{"versions": []fields{{
			"id": "v2.0", "status": "CURRENT", "links": []fields{{"rel": "self", "href": c.base("network") + "/v2.0/"}},
		}}}}, nil
	}
	resources := func(c *call) (reply, error) {
		list := []fields{}
		for _, name := range []string{"network", "subnet", "port", "router", "floatingip", "security-group", "trunk"} {
			list = append(list, fields{"name": name, "collection": name + "s", "links": []fields{{"rel": "self", "href": c.base("network") + "/v2.0/" + name + "s"}}})
		}
		return reply{status: http.StatusOK, body: fields{"resources": list}}, nil
	}
	rt.open("GET /{$}", versions)
	rt.handle("GET /v2.0", resources)
	rt.handle("GET /v2.0/{$}", resources)
}

// availability counts the addresses of a network, as administrators may see them.
func (n *networkService) availability(net *network) fields {
	all, used := 0.0, 0
	subnets := []fields{}
	for _, sub := range net.subnets {
		size := 0.0
		for _, pool := range sub.pools {
			size += pool.size()
		}
		subnets = append(subnets, fields{
			"subnet_id": sub.ID, "subnet_name": sub.Name, "cidr": sub.CIDR, "ip_version": sub.IPVersion, "total_ips": size, "used_ips": len(sub.taken),
		})
		all, used = all+size, used+len(sub.taken)
	}
	return fields{
		"network_id": net.ID, "network_name": net.Name, "project_id": net.ProjectID, "tenant_id": net.TenantID,
		"total_ips": all, "used_ips": used, "subnet_ip_availability": subnets,
	}
}

func (n *networkService) listAvailabilities(c *call) (reply, error) {
	if !c.isAdmin() {
		return reply{}, disallowed("get_network_ip_availabilities")
	}
	found := []fields{}
	for _, net := range n.networks.inOrder {
		name, id := c.query("network_name"), c.query("network_id")
		if (name == "" || name == net.Name) && (id == "" || id == net.ID) {
			found = append(found, n.availability(net))
		}
	}
	return reply{status: http.StatusOK, body: fields{"network_ip_availabilities": found}}, nil
}

func (n *networkService) showAvailability(c *call) (reply, error) {
	net := n.networks.byID[c.id("id")]
	if net == nil || !c.isAdmin() {
		return reply{}, networkMissing(c.id("id"))
	}
	return reply{status: http.StatusOK, body: fields{"network_ip_availability": n.availability(net)}}, nil
}
