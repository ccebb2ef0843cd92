package simulator

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
)

// virtualRouter is a Neutron router.
type virtualRouter struct {
	record
	Name                  string       `json:"name"`
	AdminStateUp          bool         `json:"admin_state_up"`
	Status                string       `json:"status"`
	Gateway               *gatewayInfo `json:"external_gateway_info"`
	Routes                []hostRoute  `json:"routes"`
	Distributed           bool         `json:"distributed"`
	HA                    bool         `json:"ha"`
	FlavorID              *string      `json:"flavor_id"`
	AvailabilityZoneHints []string     `json:"availability_zone_hints"`
	AvailabilityZones     []string     `json:"availability_zones"`
}

type gatewayInfo struct {
	NetworkID        string    `json:"network_id"`
	EnableSNAT       bool      `json:"enable_snat"`
	ExternalFixedIPs []fixedIP `json:"external_fixed_ips"`
}

type gatewayAttributes struct {
	NetworkID        optional[string]    `json:"network_id"`
	EnableSNAT       optional[bool]      `json:"enable_snat"`
	ExternalFixedIPs optional[[]fixedIP] `json:"external_fixed_ips"`
	QoSPolicyID      optional[string]    `json:"qos_policy_id"`
}

type routerSettings struct {
	AdminStateUp optional[bool]              `json:"admin_state_up"`
	Gateway      optional[gatewayAttributes] `json:"external_gateway_info"`
	Distributed  optional[bool]              `json:"distributed"`
	HA           optional[bool]              `json:"ha"`
}

type routerAttributes struct {
	common
	routerSettings
	AvailabilityZoneHints optional[[]string] `json:"availability_zone_hints"`
	FlavorID              optional[string]   `json:"flavor_id"`
}

type routerChange struct {
	routerSettings
	Name        optional[string]      `json:"name"`
	Description optional[string]      `json:"description"`
	Routes      optional[[]hostRoute] `json:"routes"`
}

func (n *networkService) routerResource() resource[*virtualRouter] {
	return resource[*virtualRouter]{
		singular: "router", plural: "routers", path: "routers", objects: &n.routers,
		missing: routerMissing, create: n.createRouter, update: n.updateRouter,
		blocked: n.routerBlocked, discard: n.discardRouter,
	}
}

func routerMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "RouterNotFound", "Router %s could not be found", id)
}

func badRouter(format string, args ...any) *problem {
	return networkProblem(http.StatusBadRequest, "BadRequest", "Bad router request: %s.", fmt.Sprintf(format, args...))
}

func (n *networkService) createRouter(c *call, body []byte) (*virtualRouter, error) {
	var asked routerAttributes
	if err := readNew(body, &asked, virtualRouter{}); err != nil {
		return nil, err
	}
	head, err := n.begin(c, asked.common, "router", n.routers.ofProject)
	if err != nil {
		return nil, err
	}
	r := &virtualRouter{
		record: head, Name: asked.Name.value, AdminStateUp: asked.AdminStateUp.or(true), Status: "ACTIVE", Routes: []hostRoute{},
		Distributed: asked.Distributed.value, HA: asked.HA.value,
		AvailabilityZoneHints: asked.AvailabilityZoneHints.or([]string{}), AvailabilityZones: []string{networkZone},
	}
	n.routers.add(r)
	if err := n.setRouterGateway(c, r, asked.Gateway); err != nil {
		n.discardRouter(r)
		return nil, err
	}
	return r, nil
}

// setRouterGateway connects a router to an external network, or disconnects it.
func (n *networkService) setRouterGateway(c *call, r *virtualRouter, asked optional[gatewayAttributes]) error {
	if !asked.set {
		return nil
	}
	wanted := asked.value.NetworkID.or("")
	if r.Gateway != nil && r.Gateway.NetworkID == wanted && !asked.value.ExternalFixedIPs.set {
		asked.value.EnableSNAT.to(&r.Gateway.EnableSNAT)
		return nil
	}
	if r.Gateway != nil && r.Gateway.NetworkID != wanted && n.gatewayNeeded(r) {
		return networkProblem(http.StatusConflict, "RouterExternalGatewayInUseByFloatingIp",
			"Gateway cannot be updated for router %s, since a gateway to external network %s is required by one or more floating IPs.", r.ID, r.Gateway.NetworkID)
	}
	if wanted == "" {
		n.dropGateway(r)
		return nil
	}
	external, err := n.visibleNetwork(c, wanted)
	if err != nil {
		return err
	}
	if !external.External {
		return badRouter("Network %s is not an external network", wanted)
	}
	n.dropGateway(r)
	p, err := n.makePort("", external, portSettings{
		FixedIPs: asked.value.ExternalFixedIPs,
		DeviceID: optional[string]{set: true, value: r.ID}, DeviceOwner: optional[string]{set: true, value: ownerRouterGateway},
	})
	if err != nil {
		return err
	}
	n.setHost(p, "network-node-1")
	r.Gateway = &gatewayInfo{NetworkID: wanted, EnableSNAT: asked.value.EnableSNAT.or(true), ExternalFixedIPs: p.FixedIPs}
	return nil
}

func (n *networkService) dropGateway(r *virtualRouter) {
	for _, p := range slices.Clone(n.portsOfDevice[r.ID]) {
		if p.DeviceOwner == ownerRouterGateway {
			n.discardPort(p)
		}
	}
	r.Gateway = nil
}

func (n *networkService) gatewayNeeded(r *virtualRouter) bool {
	return slices.ContainsFunc(n.floatingIPs.inOrder, func(f *floatingIP) bool { return f.RouterID != nil && *f.RouterID == r.ID })
}

func (n *networkService) updateRouter(c *call, r *virtualRouter, body []byte) error {
	var asked routerChange
	if err := readChange(body, &asked, virtualRouter{}); err != nil {
		return err
	}
	if err := checkRoutes(asked.Routes.value); err != nil {
		return err
	}
	if err := n.setRouterGateway(c, r, asked.Gateway); err != nil {
		return err
	}
	asked.Name.to(&r.Name)
	asked.Description.to(&r.Description)
	asked.AdminStateUp.to(&r.AdminStateUp)
	asked.Distributed.to(&r.Distributed)
	asked.HA.to(&r.HA)
	if asked.Routes.set {
		r.Routes = asked.Routes.or([]hostRoute{})
	}
	return nil
}

func checkRoutes(routes []hostRoute) error {
	for _, route := range routes {
		if _, err := netip.ParsePrefix(route.Destination); err != nil {
			return invalidInput("routes", "'%s' is not a valid IP subnet", route.Destination)
		}
		if _, err := netip.ParseAddr(route.NextHop); err != nil {
			return invalidInput("routes", "'%s' is not a valid IP address", route.NextHop)
		}
	}
	return nil
}

// changeRoutes adds to a router's routes or takes some away.
func (n *networkService) changeRoutes(c *call, change func(present, asked []hostRoute) []hostRoute) (reply, error) {
	r, err := n.routerResource().findToChange(c, "update")
	if err != nil {
		return reply{}, err
	}
	var body struct {
		Router struct {
			Routes []hostRoute `json:"routes"`
		} `json:"router"`
	}
	if err := c.decode(&body); err != nil {
		return reply{}, err
	}
	if err := checkRoutes(body.Router.Routes); err != nil {
		return reply{}, err
	}
	r.Routes = change(r.Routes, body.Router.Routes)
	n.touch(r)
	return reply{status: http.StatusOK, body: fields{"router": r}}, nil
}

func addRoutes(present, asked []hostRoute) []hostRoute {
	for _, route := range asked {
		present = append(without(present, route), route)
	}
	return present
}

func removeRoutes(present, asked []hostRoute) []hostRoute {
	for _, route := range asked {
		present = without(present, route)
	}
	return present
}

func (n *networkService) interfaces(r *virtualRouter) []*port {
	var ports []*port
	for _, p := range n.portsOfDevice[r.ID] {
		if p.DeviceOwner == ownerRouterInterface {
			ports = append(ports, p)
		}
	}
	return ports
}

func (n *networkService) routerBlocked(_ *call, r *virtualRouter) error {
	if len(n.interfaces(r)) > 0 {
		return networkProblem(http.StatusConflict, "RouterInUse", "Router %s still has ports", r.ID)
	}
	return nil
}

func (n *networkService) discardRouter(r *virtualRouter) {
	n.dropGateway(r)
	n.routers.remove(r)
}

func (n *networkService) routerInterfaceRoutes(rt *router) {
	k := n.routerResource()
	rt.handle("PUT /v2.0/routers/{id}/add_router_interface", func(c *call) (reply, error) {
		return n.changeInterface(c, k, n.addInterface)
	})
	rt.handle("PUT /v2.0/routers/{id}/remove_router_interface", func(c *call) (reply, error) {
		return n.changeInterface(c, k, n.removeInterface)
	})
	rt.handle("PUT /v2.0/routers/{id}/add_extraroutes", func(c *call) (reply, error) { return n.changeRoutes(c, addRoutes) })
	rt.handle("PUT /v2.0/routers/{id}/remove_extraroutes", func(c *call) (reply, error) { return n.changeRoutes(c, removeRoutes) })
}

type interfaceBody struct {
	SubnetID string `json:"subnet_id"`
	PortID   string `json:"port_id"`
}

func (n *networkService) changeInterface(c *call, k resource[*virtualRouter], change func(*call, *virtualRouter, interfaceBody) (*port, error)) (reply, error) {
	r, err := k.findToChange(c, "update")
	if err != nil {
		return reply{}, err
	}
	var asked interfaceBody
	if err := c.decode(&asked); err != nil {
		return reply{}, err
	}
	if asked.SubnetID == "" && asked.PortID == "" {
		return reply{}, badRouter("Either subnet_id or port_id must be specified")
	}
	p, err := change(c, r, asked)
	if err != nil {
		return reply{}, err
	}
	n.touch(r)
	body := fields{
		"id": r.ID, "tenant_id": r.TenantID, "project_id": r.ProjectID, "tags": r.Tags,
		"port_id": p.ID, "network_id": p.NetworkID, "subnet_id": "", "subnet_ids": []string{},
	}
	for _, ip := range p.FixedIPs {
		body["subnet_ids"] = append(body["subnet_ids"].([]string), ip.SubnetID)
		body["subnet_id"] = ip.SubnetID
	}
	return reply{status: http.StatusOK, body: body}, nil
}

func (n *networkService) addInterface(c *call, r *virtualRouter, asked interfaceBody) (*port, error) {
	if asked.PortID != "" {
		return n.addInterfaceByPort(c, r, asked.PortID)
	}
	sub, known := n.subnets.byID[asked.SubnetID]
	if !known || !n.subnetResource().visible(c, sub) {
		return nil, subnetMissing(asked.SubnetID)
	}
	if !sub.gateway.IsValid() {
		return nil, badRouter("Subnet for router interface must have a gateway IP")
	}
	if err := n.checkInterface(r, sub); err != nil {
		return nil, err
	}
	if holder := sub.taken[sub.gateway]; holder != nil {
		return nil, networkProblem(http.StatusConflict, "IpAddressAlreadyAllocated", "IP address %s already allocated in subnet %s", sub.gateway, sub.ID)
	}
	p, err := n.makePort(r.ProjectID, sub.network, portSettings{
		FixedIPs:    optional[[]fixedIP]{set: true, value: []fixedIP{{sub.ID, sub.gateway.String()}}},
		DeviceID:    optional[string]{set: true, value: r.ID},
		DeviceOwner: optional[string]{set: true, value: ownerRouterInterface},
	})
	if err != nil {
		return nil, err
	}
	n.setHost(p, "network-node-1")
	return p, nil
}

func (n *networkService) addInterfaceByPort(c *call, r *virtualRouter, portID string) (*port, error) {
	p, known := n.ports.byID[portID]
	if !known || !owns(c, p) {
		return nil, portMissing(portID)
	}
	if p.DeviceID != "" {
		return nil, portInUse(p)
	}
	if len(p.FixedIPs) == 0 {
		return nil, badRouter("Router port must have at least one fixed IP")
	}
	for _, ip := range p.FixedIPs {
		if err := n.checkInterface(r, n.subnets.byID[ip.SubnetID]); err != nil {
			return nil, err
		}
	}
	n.setDevice(p, r.ID, ownerRouterInterface)
	n.setHost(p, "network-node-1")
	n.touch(p)
	return p, nil
}

// checkInterface refuses a subnet that a router is on already or could not tell from another.
func (n *networkService) checkInterface(r *virtualRouter, sub *subnet) error {
	for _, p := range n.portsOfDevice[r.ID] {
		for _, ip := range p.FixedIPs {
			other := n.subnets.byID[ip.SubnetID]
			switch {
			case other == sub:
				return badRouter("Router already has a port on subnet %s", sub.ID)
			case other.prefix.Overlaps(sub.prefix):
				return badRouter("Cidr %s of subnet %s overlaps with cidr %s of subnet %s", sub.CIDR, sub.ID, other.CIDR, other.ID)
			}
		}
	}
	return nil
}

func (n *networkService) removeInterface(_ *call, r *virtualRouter, asked interfaceBody) (*port, error) {
	p, err := n.findInterface(r, asked)
	if err != nil {
		return nil, err
	}
	for _, ip := range p.FixedIPs {
		if n.subnetNeedsRouter(r, ip.SubnetID) {
			return nil, networkProblem(http.StatusConflict, "RouterInterfaceInUseByFloatingIP",
				"Router interface for subnet %s on router %s cannot be deleted, as it is required by one or more floating IPs.", ip.SubnetID, r.ID)
		}
	}
	n.discardPort(p)
	return p, nil
}

func (n *networkService) findInterface(r *virtualRouter, asked interfaceBody) (*port, error) {
	for _, p := range n.interfaces(r) {
		onSubnet := slices.ContainsFunc(p.FixedIPs, func(ip fixedIP) bool { return ip.SubnetID == asked.SubnetID })
		if p.ID == asked.PortID && (asked.SubnetID == "" || onSubnet) || asked.PortID == "" && onSubnet {
			return p, nil
		}
	}
	if asked.PortID != "" {
		return nil, networkProblem(http.StatusNotFound, "RouterInterfaceNotFound", "Router %s does not have an interface with id %s", r.ID, asked.PortID)
	}
	if _, known := n.subnets.byID[asked.SubnetID]; !known {
		return nil, subnetMissing(asked.SubnetID)
	}
	return nil, networkProblem(http.StatusNotFound, "RouterInterfaceNotFoundForSubnet", "Router %s has no interface on subnet %s", r.ID, asked.SubnetID)
}

// subnetNeedsRouter says that a floating IP reaches a port of a subnet through a router.
func (n *networkService) subnetNeedsRouter(r *virtualRouter, subnetID string) bool {
	for _, f := range n.floatingIPs.inOrder {
		if f.RouterID == nil || *f.RouterID != r.ID {
			continue
		}
		for _, ip := range n.ports.byID[*f.PortID].FixedIPs {
			if ip.SubnetID == subnetID && ip.IPAddress == *f.FixedIPAddress {
				return true
			}
		}
	}
	return false
}
