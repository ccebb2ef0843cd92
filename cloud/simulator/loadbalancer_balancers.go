package simulator

import (
	"net/http"
	"net/netip"
	"slices"
)

const balancerKind = "Load Balancer"

// loadBalancer is the root of an Octavia tree.
type loadBalancer struct {
	balancerRecord
	Description      string  `json:"description"`
	VIPAddress       string  `json:"vip_address"`
	VIPPortID        string  `json:"vip_port_id"`
	VIPSubnetID      string  `json:"vip_subnet_id"`
	VIPNetworkID     string  `json:"vip_network_id"`
	VIPQoSPolicyID   *string `json:"vip_qos_policy_id"`
	AdditionalVIPs   []any   `json:"additional_vips"`
	Provider         string  `json:"provider"`
	FlavorID         *string `json:"flavor_id"`
	AvailabilityZone *string `json:"availability_zone"`

	listeners []*listener
	pools     []*pool
	// ownsPort says that the VIP port goes away with the load balancer.
	ownsPort bool
	// operation counts changes, so that the end of one that was overtaken does nothing.
	operation int
	// stuck says that the operation under way never ends, by order of the control API.
	stuck bool
	// alive is set by the first heartbeat after creation.
	alive bool
	// heartbeats counts those that are on their way.
	heartbeats int
	// retrying says that addresses which could not be listened on will be tried again.
	retrying bool
}

func (b *loadBalancer) balancerOf() *loadBalancer { return b }

type balancerView struct {
	*loadBalancer
	Listeners []ref `json:"listeners"`
	Pools     []ref `json:"pools"`
}

// fullBalancerView is what the creation of a whole tree answers.
type fullBalancerView struct {
	*loadBalancer
	Listeners []any `json:"listeners"`
	Pools     []any `json:"pools"`
}

type balancerBody struct {
	balancerCommon
	Description      optional[string] `json:"description"`
	VIPAddress       optional[string] `json:"vip_address"`
	VIPPortID        optional[string] `json:"vip_port_id"`
	VIPSubnetID      optional[string] `json:"vip_subnet_id"`
	VIPNetworkID     optional[string] `json:"vip_network_id"`
	VIPQoSPolicyID   optional[string] `json:"vip_qos_policy_id"`
	Provider         optional[string] `json:"provider"`
	FlavorID         optional[string] `json:"flavor_id"`
	AvailabilityZone optional[string] `json:"availability_zone"`
	Listeners        []listenerBody   `json:"listeners"`
	Pools            []poolBody       `json:"pools"`
}

type balancerChange struct {
	balancerCommon
	Description    optional[string] `json:"description"`
	VIPQoSPolicyID optional[string] `json:"vip_qos_policy_id"`
}

func viewBalancer(b *loadBalancer) any {
	return balancerView{loadBalancer: b, Listeners: refs(b.listeners...), Pools: refs(b.pools...)}
}

func viewFullBalancer(b *loadBalancer) any {
	view := fullBalancerView{loadBalancer: b, Listeners: []any{}, Pools: []any{}}
	for _, l := range b.listeners {
		view.Listeners = append(view.Listeners, viewFullListener(l))
	}
	for _, p := range b.pools {
		view.Pools = append(view.Pools, viewFullPool(p))
	}
	return view
}

func (lb *loadBalancerService) balancerRoutes(rt *router) {
	lb.handle(rt, "GET /lbaas/loadbalancers", listBalancerObjects(lb, "loadbalancers", everyOne(&lb.balancers), viewBalancer))
	lb.handle(rt, "POST /lbaas/loadbalancers", lb.createBalancer)
	lb.handle(rt, "GET /lbaas/loadbalancers/{id}", showBalancerObject(lb, "loadbalancer", balancerKind, &lb.balancers, viewBalancer))
	lb.handle(rt, "PUT /lbaas/loadbalancers/{id}", lb.updateBalancer)
	lb.handle(rt, "DELETE /lbaas/loadbalancers/{id}", lb.deleteBalancer)
	lb.handle(rt, "GET /lbaas/loadbalancers/{id}/status", lb.balancerStatus)
	lb.handle(rt, "GET /lbaas/loadbalancers/{id}/statuses", lb.balancerStatus)
	lb.handle(rt, "GET /lbaas/loadbalancers/{id}/stats", lb.balancerStats)
	lb.handle(rt, "PUT /lbaas/loadbalancers/{id}/failover", lb.failover)
}

// createBalancer makes a load balancer with all that the body holds, or nothing.
func (lb *loadBalancerService) createBalancer(c *call) (reply, error) {
	var asked balancerBody
	if err := readBalancerBody(c, "loadbalancer", &asked); err != nil {
		return reply{}, err
	}
	project, err := balancerOwner(c, asked.balancerCommon)
	if err != nil {
		return reply{}, err
	}
	if err := lb.checkTreeQuota(project, asked); err != nil {
		return reply{}, err
	}
	b := &loadBalancer{
		balancerRecord: lb.newRecord(project, asked.balancerCommon), Description: asked.Description.value,
		Provider: asked.Provider.or("amphora"), AdditionalVIPs: []any{}, VIPQoSPolicyID: textOrNull(asked.VIPQoSPolicyID.value),
	}
	if err := lb.choosePlatform(b, asked); err != nil {
		return reply{}, err
	}
	if err := lb.takeVIP(c, b, asked); err != nil {
		return reply{}, err
	}
	if err := lb.plant(b, asked); err != nil {
		lb.returnVIP(b)
		return reply{}, err
	}
	lb.adopt(b)
	view := viewFullBalancer(b)
	lb.after(b, lb.s.scenario.Latency.LoadBalancerCreate)
	return reply{status: http.StatusCreated, body: fields{"loadbalancer": view}}, nil
}

// balancerOwner is the project of a new load balancer.
func balancerOwner(c *call, asked balancerCommon) (string, error) {
	project, err := ownerOf(c, asked.ProjectID, asked.TenantID)
	if err != nil {
		return "", policyForbids()
	}
	return project, nil
}

// checkTreeQuota counts the whole tree before any of it is made.
func (lb *loadBalancerService) checkTreeQuota(project string, asked balancerBody) error {
	pools := slices.Clone(asked.Pools)
	for _, l := range asked.Listeners {
		if l.DefaultPool != nil && l.DefaultPool.Protocol.set {
			pools = append(pools, *l.DefaultPool)
		}
	}
	members, monitors := 0, 0
	for _, p := range pools {
		members += len(p.Members)
		if p.Monitor != nil {
			monitors++
		}
	}
	return firstError(
		lb.checkQuota(project, "loadbalancer", balancerKind, lb.balancers.ofProject[project], 1),
		lb.checkQuota(project, "listener", listenerKind, lb.listeners.ofProject[project], len(asked.Listeners)),
		lb.checkQuota(project, "pool", poolKind, lb.pools.ofProject[project], len(pools)),
		lb.checkQuota(project, "member", memberKind, lb.members.ofProject[project], members),
		lb.checkQuota(project, "healthmonitor", monitorKind, lb.monitors.ofProject[project], monitors),
	)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// choosePlatform checks provider, flavor and zone.
func (lb *loadBalancerService) choosePlatform(b *loadBalancer, asked balancerBody) error {
	if !slices.Contains([]string{"amphora", "octavia"}, b.Provider) {
		return problemf(http.StatusBadRequest, "Provider '%s' is not enabled.", b.Provider)
	}
	if id := asked.FlavorID.or(""); id != "" {
		if !slices.ContainsFunc(balancerFlavors(), func(f fields) bool { return f["id"] == id }) {
			return validationFailure("Flavor not found: %s", id)
		}
		b.FlavorID = &id
	}
	if zone := asked.AvailabilityZone.or(""); zone != "" {
		if !slices.Contains(lb.s.scenario.zones(), zone) {
			return balancerMissing("Availability Zone", zone)
		}
		b.AvailabilityZone = &zone
	}
	return nil
}

// plant builds pools and listeners under a load balancer that nobody sees yet.
func (lb *loadBalancerService) plant(b *loadBalancer, asked balancerBody) error {
	for _, body := range asked.Pools {
		if _, err := lb.newPool(b, body); err != nil {
			return err
		}
	}
	for _, body := range asked.Listeners {
		if _, err := lb.newListener(b, body); err != nil {
			return err
		}
	}
	return nil
}

// adopt puts a tree into the tables.
func (lb *loadBalancerService) adopt(b *loadBalancer) {
	lb.balancers.add(b)
	lb.byVIPPort[b.VIPPortID] = b
	for _, p := range b.pools {
		lb.adoptPool(p)
	}
	for _, l := range b.listeners {
		lb.listeners.add(l)
	}
}

// takeVIP finds or makes the port of the VIP.
func (lb *loadBalancerService) takeVIP(c *call, b *loadBalancer, asked balancerBody) error {
	neutron := &lb.s.network
	if id := asked.VIPPortID.or(""); id != "" {
		return lb.takeVIPPort(c, b, id, asked)
	}
	var net *network
	wanted := fixedIP{SubnetID: asked.VIPSubnetID.or(""), IPAddress: asked.VIPAddress.or("")}
	switch {
	case wanted.SubnetID != "":
		sub, known := neutron.subnets.byID[wanted.SubnetID]
		if !known || !neutron.subnetResource().visible(c, sub) && !sub.network.External {
			return invalidReference("Subnet", wanted.SubnetID)
		}
		net = sub.network
	case asked.VIPNetworkID.or("") != "":
		found, err := neutron.visibleNetwork(c, asked.VIPNetworkID.value)
		if err != nil {
			return invalidReference("Network", asked.VIPNetworkID.value)
		}
		if net = found; len(net.subnets) == 0 {
			return validationFailure("Supplied network does not contain a subnet.")
		}
		if wanted.IPAddress == "" {
			wanted.SubnetID = net.subnets[0].ID
			if v4, _ := net.subnetsByFamily(); len(v4) > 0 {
				wanted.SubnetID = v4[0].ID
			}
		}
	default:
		return validationFailure("VIP must contain one of: vip_port_id, vip_network_id, vip_subnet_id.")
	}
	set := func(value string) optional[string] { return optional[string]{set: true, value: value} }
	p, err := neutron.makePort(b.ProjectID, net, portSettings{
		Name: set("octavia-lb-" + b.ID), DeviceID: set("lb-" + b.ID), DeviceOwner: set(ownerLoadBalancer),
		AdminStateUp: optional[bool]{set: true}, FixedIPs: optional[[]fixedIP]{set: true, value: []fixedIP{wanted}},
	})
	if err != nil {
		return problemf(http.StatusInternalServerError, "Provider '%s' reports error: %v", b.Provider, err)
	}
	b.ownsPort = true
	b.setVIP(p, p.FixedIPs[0])
	return nil
}

// takeVIPPort uses a port that is there already.
func (lb *loadBalancerService) takeVIPPort(c *call, b *loadBalancer, id string, asked balancerBody) error {
	p, known := lb.s.network.ports.byID[id]
	if !known || !owns(c, p) {
		return invalidReference("Port", id)
	}
	for _, ip := range p.FixedIPs {
		if address := asked.VIPAddress.or(ip.IPAddress); address != ip.IPAddress {
			continue
		}
		if subnet := asked.VIPSubnetID.or(ip.SubnetID); subnet == ip.SubnetID {
			b.setVIP(p, ip)
			return nil
		}
	}
	return validationFailure("VIP port's subnet could not be determined. Please specify either a VIP subnet or address.")
}

// returnVIP gives the port of the VIP back, unless it was somebody else's.
func (lb *loadBalancerService) returnVIP(b *loadBalancer) {
	if vip := lb.s.network.ports.byID[b.VIPPortID]; vip != nil && b.ownsPort {
		lb.s.network.discardPort(vip)
	}
}

func (b *loadBalancer) setVIP(p *port, ip fixedIP) {
	b.VIPPortID, b.VIPNetworkID, b.VIPSubnetID, b.VIPAddress = p.ID, p.NetworkID, ip.SubnetID, ip.IPAddress
}

// isIPv4 reports the family of the VIP.
func (b *loadBalancer) isIPv4() bool {
	a, err := netip.ParseAddr(b.VIPAddress)
	return err != nil || a.Is4()
}

// findBalancer is a load balancer of the caller.
func (lb *loadBalancerService) findBalancer(c *call) (*loadBalancer, error) {
	return findBalancerObject(c, &lb.balancers, balancerKind, c.id("id"))
}

func (lb *loadBalancerService) updateBalancer(c *call) (reply, error) {
	b, err := lb.findBalancer(c)
	if err != nil {
		return reply{}, err
	}
	var asked balancerChange
	if err := readBalancerBody(c, "loadbalancer", &asked); err != nil {
		return reply{}, err
	}
	if err := b.mutable(); err != nil {
		return reply{}, err
	}
	asked.change(&b.balancerRecord)
	asked.Description.to(&b.Description)
	if asked.VIPQoSPolicyID.set {
		b.VIPQoSPolicyID = textOrNull(asked.VIPQoSPolicyID.value)
	}
	lb.pending(b, pendingUpdate)
	lb.after(b, lb.s.scenario.Latency.LoadBalancerUpdate)
	return reply{status: http.StatusOK, body: fields{"loadbalancer": viewBalancer(b)}}, nil
}

func (lb *loadBalancerService) deleteBalancer(c *call) (reply, error) {
	b, err := lb.findBalancer(c)
	if err != nil {
		return reply{}, err
	}
	cascade := c.query("cascade") == "true" || c.query("cascade") == "True"
	if !cascade && len(b.listeners)+len(b.pools) > 0 {
		return reply{}, validationFailure("Cannot delete Load Balancer %s - it has children", b.ID)
	}
	if b.ProvisioningStatus != stateActive && b.ProvisioningStatus != stateError {
		return reply{}, immutable(balancerKind, b.ID)
	}
	lb.pending(b, pendingDelete)
	for _, l := range b.listeners {
		lb.pending(l, pendingDelete)
	}
	for _, p := range b.pools {
		lb.pending(p, pendingDelete)
	}
	lb.syncForwarders(b)
	lb.after(b, lb.s.scenario.Latency.LoadBalancerDelete)
	return reply{status: http.StatusNoContent}, nil
}

func (lb *loadBalancerService) failover(c *call) (reply, error) {
	b, err := lb.findBalancer(c)
	if err != nil {
		return reply{}, err
	}
	if b.ProvisioningStatus != stateActive && b.ProvisioningStatus != stateError {
		return reply{}, immutable(balancerKind, b.ID)
	}
	lb.pending(b, pendingUpdate)
	lb.after(b, lb.s.scenario.Latency.LoadBalancerCreate)
	return reply{status: http.StatusAccepted}, nil
}

// statusOf is an object in a status tree.
func statusOf(r *balancerRecord) fields {
	return fields{"id": r.ID, "name": r.Name, "provisioning_status": r.ProvisioningStatus, "operating_status": r.OperatingStatus}
}

func (lb *loadBalancerService) balancerStatus(c *call) (reply, error) {
	b, err := lb.findBalancer(c)
	if err != nil {
		return reply{}, err
	}
	tree := statusOf(&b.balancerRecord)
	listeners := []fields{}
	for _, l := range b.listeners {
		branch := statusOf(&l.balancerRecord)
		pools := []fields{}
		if l.pool != nil {
			pools = append(pools, poolStatus(l.pool))
		}
		branch["pools"] = pools
		listeners = append(listeners, branch)
	}
	tree["listeners"] = listeners
	return reply{status: http.StatusOK, body: fields{"statuses": fields{"loadbalancer": tree}}}, nil
}

func poolStatus(p *pool) fields {
	branch := statusOf(&p.balancerRecord)
	members := []fields{}
	for _, m := range p.members {
		leaf := statusOf(&m.balancerRecord)
		leaf["address"], leaf["protocol_port"] = m.Address, m.ProtocolPort
		members = append(members, leaf)
	}
	branch["members"] = members
	if p.monitor != nil {
		leaf := statusOf(&p.monitor.balancerRecord)
		leaf["type"] = p.monitor.Type
		branch["health_monitor"] = leaf
	}
	return branch
}

func (lb *loadBalancerService) balancerStats(c *call) (reply, error) {
	b, err := lb.findBalancer(c)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: fields{"stats": statsOf(b.listeners...)}}, nil
}
