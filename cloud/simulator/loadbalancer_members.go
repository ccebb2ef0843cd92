package simulator

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	memberKind  = "Member"
	monitorKind = "Health Monitor"
)

// member is a backend of a pool.
type member struct {
	balancerRecord
	Address        string  `json:"address"`
	ProtocolPort   int     `json:"protocol_port"`
	Weight         int     `json:"weight"`
	Backup         bool    `json:"backup"`
	SubnetID       *string `json:"subnet_id"`
	MonitorAddress *string `json:"monitor_address"`
	MonitorPort    *int    `json:"monitor_port"`
	VNICType       string  `json:"vnic_type"`

	pool   *pool
	health health
}

// health is what the monitor knows of a member.
type health struct {
	checked             bool
	up                  bool
	successes, failures int // in a row
}

func (m *member) balancerOf() *loadBalancer { return m.pool.balancer }

// sameTarget says that two members stand for the same backend.
func (m *member) sameTarget(other *member) bool {
	return m.Address == other.Address && m.ProtocolPort == other.ProtocolPort
}

type memberBody struct {
	balancerCommon
	Address        optional[string] `json:"address"`
	ProtocolPort   optional[int]    `json:"protocol_port"`
	Weight         optional[int]    `json:"weight"`
	Backup         optional[bool]   `json:"backup"`
	SubnetID       optional[string] `json:"subnet_id"`
	MonitorAddress optional[string] `json:"monitor_address"`
	MonitorPort    optional[int]    `json:"monitor_port"`
	VNICType       optional[string] `json:"vnic_type"`
}

func viewMember(m *member) any { return m }

func (lb *loadBalancerService) memberRoutes(rt *router) {
	members := "/lbaas/pools/{id}/members"
	lb.handle(rt, "GET "+members, listBalancerObjects(lb, "members", func(c *call) ([]*member, error) {
		p, err := findBalancerObject(c, &lb.pools, poolKind, c.id("id"))
		if err != nil {
			return nil, err
		}
		return p.members, nil
	}, viewMember))
	lb.handle(rt, "POST "+members, lb.createMember)
	lb.handle(rt, "PUT "+members, lb.setMembers)
	lb.handle(rt, "GET "+members+"/{member}", func(c *call) (reply, error) {
		m, err := lb.findMember(c)
		if err != nil {
			return reply{}, err
		}
		view, err := lb.attributes.only(c, viewMember(m))
		return reply{status: http.StatusOK, body: fields{"member": view}}, err
	})
	lb.handle(rt, "PUT "+members+"/{member}", lb.updateMember)
	lb.handle(rt, "DELETE "+members+"/{member}", lb.deleteMember)
}

func (lb *loadBalancerService) findMember(c *call) (*member, error) {
	p, err := findBalancerObject(c, &lb.pools, poolKind, c.id("id"))
	if err != nil {
		return nil, err
	}
	m := lb.members.byID[c.id("member")]
	if m == nil || m.pool != p {
		return nil, balancerMissing(memberKind, c.id("member"))
	}
	return m, nil
}

func (lb *loadBalancerService) newMember(p *pool, asked memberBody) (*member, error) {
	if !asked.Address.set {
		return nil, missingField("address")
	}
	address, err := netip.ParseAddr(asked.Address.value)
	if err != nil {
		return nil, invalidField("address", asked.Address.value, "Value should be IPv4 or IPv6 format")
	}
	if !asked.ProtocolPort.set {
		return nil, missingField("protocol_port")
	}
	if port := asked.ProtocolPort.value; port < 1 || port > 65535 {
		return nil, invalidField("protocol_port", port, "Value should be between 1 and 65535")
	}
	if weight := asked.Weight.or(1); weight < 0 || weight > 256 {
		return nil, invalidField("weight", weight, "Value should be between 0 and 256")
	}
	if id := asked.SubnetID.or(""); id != "" && lb.s.network.subnets.byID[id] == nil {
		return nil, invalidReference("Subnet", id)
	}
	m := &member{
		balancerRecord: lb.newRecord(p.ProjectID, asked.balancerCommon), Address: address.String(), ProtocolPort: asked.ProtocolPort.value,
		Weight: 1, SubnetID: textOrNull(asked.SubnetID.value), VNICType: asked.VNICType.or("normal"), pool: p,
	}
	m.configure(asked)
	if slices.ContainsFunc(p.members, m.sameTarget) {
		return nil, problemf(http.StatusConflict, "Another member on this pool is already using ip %s on protocol_port %d", m.Address, m.ProtocolPort)
	}
	return m, nil
}

// configure takes over what may change later.
func (m *member) configure(asked memberBody) {
	asked.change(&m.balancerRecord)
	if asked.Weight.set {
		m.Weight = asked.Weight.or(1)
	}
	asked.Backup.to(&m.Backup)
	if asked.MonitorAddress.set {
		m.MonitorAddress = textOrNull(asked.MonitorAddress.value)
	}
	if asked.MonitorPort.set {
		if m.MonitorPort = nil; !asked.MonitorPort.null {
			m.MonitorPort = &asked.MonitorPort.value
		}
	}
}

func (lb *loadBalancerService) createMember(c *call) (reply, error) {
	p, err := findBalancerObject(c, &lb.pools, poolKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	var asked memberBody
	if err := readBalancerBody(c, "member", &asked); err != nil {
		return reply{}, err
	}
	m, err := lb.newMember(p, asked)
	if err != nil {
		return reply{}, err
	}
	if err := lb.checkQuota(p.ProjectID, "member", memberKind, lb.members.ofProject[p.ProjectID], 1); err != nil {
		return reply{}, err
	}
	if err := p.balancer.mutable(); err != nil {
		return reply{}, err
	}
	p.members = append(p.members, m)
	lb.members.add(m)
	lb.changePool(p)
	return reply{status: http.StatusCreated, body: fields{"member": viewMember(m)}}, nil
}

func (lb *loadBalancerService) updateMember(c *call) (reply, error) {
	m, err := lb.findMember(c)
	if err != nil {
		return reply{}, err
	}
	var asked memberBody
	if err := readBalancerBody(c, "member", &asked); err != nil {
		return reply{}, err
	}
	if err := fixed(map[string]bool{"address": asked.Address.set, "protocol_port": asked.ProtocolPort.set, "subnet_id": asked.SubnetID.set}); err != nil {
		return reply{}, err
	}
	if err := m.pool.balancer.mutable(); err != nil {
		return reply{}, err
	}
	m.configure(asked)
	lb.pending(m, pendingUpdate)
	lb.changePool(m.pool)
	return reply{status: http.StatusOK, body: fields{"member": viewMember(m)}}, nil
}

func (lb *loadBalancerService) deleteMember(c *call) (reply, error) {
	m, err := lb.findMember(c)
	if err != nil {
		return reply{}, err
	}
	if err := m.pool.balancer.mutable(); err != nil {
		return reply{}, err
	}
	lb.pending(m, pendingDelete)
	lb.changePool(m.pool)
	return reply{status: http.StatusNoContent}, nil
}

// healthMonitor checks the members of a pool.
type healthMonitor struct {
	balancerRecord
	Type           string   `json:"type"`
	Delay          int      `json:"delay"`   // seconds between checks
	Timeout        int      `json:"timeout"` // seconds
	MaxRetries     int      `json:"max_retries"`
	MaxRetriesDown int      `json:"max_retries_down"`
	HTTPMethod     *string  `json:"http_method"`
	URLPath        *string  `json:"url_path"`
	ExpectedCodes  *string  `json:"expected_codes"`
	HTTPVersion    *float64 `json:"http_version"`
	DomainName     *string  `json:"domain_name"`

	pool *pool
	// checking says that the next check is on its way.
	checking bool
}

func (h *healthMonitor) balancerOf() *loadBalancer { return h.pool.balancer }

type monitorView struct {
	*healthMonitor
	Pools []ref `json:"pools"`
}

func viewMonitor(h *healthMonitor) any { return monitorView{h, refs(h.pool)} }

type monitorBody struct {
	balancerCommon
	PoolID         optional[string]  `json:"pool_id"`
	Type           optional[string]  `json:"type"`
	Delay          optional[int]     `json:"delay"`
	Timeout        optional[int]     `json:"timeout"`
	MaxRetries     optional[int]     `json:"max_retries"`
	MaxRetriesDown optional[int]     `json:"max_retries_down"`
	HTTPMethod     optional[string]  `json:"http_method"`
	URLPath        optional[string]  `json:"url_path"`
	ExpectedCodes  optional[string]  `json:"expected_codes"`
	HTTPVersion    optional[float64] `json:"http_version"`
	DomainName     optional[string]  `json:"domain_name"`
}

func (lb *loadBalancerService) monitorRoutes(rt *router) {
	lb.handle(rt, "GET /lbaas/healthmonitors", listBalancerObjects(lb, "healthmonitors", everyOne(&lb.monitors), viewMonitor))
	lb.handle(rt, "POST /lbaas/healthmonitors", lb.createMonitor)
	lb.handle(rt, "GET /lbaas/healthmonitors/{id}", showBalancerObject(lb, "healthmonitor", monitorKind, &lb.monitors, viewMonitor))
	lb.handle(rt, "PUT /lbaas/healthmonitors/{id}", lb.updateMonitor)
	lb.handle(rt, "DELETE /lbaas/healthmonitors/{id}", lb.deleteMonitor)
}

func (lb *loadBalancerService) newMonitor(p *pool, asked monitorBody) (*healthMonitor, error) {
	for _, required := range []struct {
		name string
		set  bool
	}{{"type", asked.Type.set}, {"delay", asked.Delay.set}, {"timeout", asked.Timeout.set}, {"max_retries", asked.MaxRetries.set}} {
		if !required.set {
			return nil, missingField(required.name)
		}
	}
	types := []string{"HTTP", "HTTPS", "PING", "SCTP", "TCP", "TLS-HELLO", "UDP-CONNECT"}
	if !slices.Contains(types, asked.Type.value) {
		return nil, invalidField("type", asked.Type.value, "Value should be one of: "+strings.Join(types, ", "))
	}
	h := &healthMonitor{balancerRecord: lb.newRecord(p.ProjectID, asked.balancerCommon), Type: asked.Type.value, MaxRetriesDown: 3, pool: p}
	if h.Type == "HTTP" || h.Type == "HTTPS" {
		method, path, codes, version := "GET", "/", "200", 1.0
		h.HTTPMethod, h.URLPath, h.ExpectedCodes, h.HTTPVersion = &method, &path, &codes, &version
	}
	if err := h.configure(asked); err != nil {
		return nil, err
	}
	p.monitor, p.HealthMonitorID = h, &h.ID
	return h, nil
}

func (h *healthMonitor) configure(asked monitorBody) error {
	for _, number := range []struct {
		name  string
		asked optional[int]
		most  int
		field *int
	}{
		{"delay", asked.Delay, 3600 * 24, &h.Delay}, {"timeout", asked.Timeout, 3600 * 24, &h.Timeout},
		{"max_retries", asked.MaxRetries, 10, &h.MaxRetries}, {"max_retries_down", asked.MaxRetriesDown, 10, &h.MaxRetriesDown},
	} {
		if !number.asked.set {
			continue
		}
		if value := number.asked.value; value < 1 || value > number.most {
			return invalidField(number.name, value, "Value should be greater or equal to 1 and in range")
		}
		*number.field = number.asked.value
	}
	asked.change(&h.balancerRecord)
	for _, text := range []struct {
		asked optional[string]
		field **string
	}{{asked.HTTPMethod, &h.HTTPMethod}, {asked.URLPath, &h.URLPath}, {asked.ExpectedCodes, &h.ExpectedCodes}, {asked.DomainName, &h.DomainName}} {
		if text.asked.set {
			*text.field = textOrNull(text.asked.value)
		}
	}
	if asked.HTTPVersion.set {
		h.HTTPVersion = &asked.HTTPVersion.value
	}
	return nil
}

func (lb *loadBalancerService) createMonitor(c *call) (reply, error) {
	var asked monitorBody
	if err := readBalancerBody(c, "healthmonitor", &asked); err != nil {
		return reply{}, err
	}
	if !asked.PoolID.set {
		return reply{}, missingField("pool_id")
	}
	p, err := findBalancerObject(c, &lb.pools, poolKind, asked.PoolID.value)
	if err != nil {
		return reply{}, err
	}
	if p.monitor != nil {
		return reply{}, problemf(http.StatusConflict, "This pool already has a health monitor")
	}
	if err := lb.checkQuota(p.ProjectID, "healthmonitor", monitorKind, lb.monitors.ofProject[p.ProjectID], 1); err != nil {
		return reply{}, err
	}
	if err := p.balancer.mutable(); err != nil {
		return reply{}, err
	}
	h, err := lb.newMonitor(p, asked)
	if err != nil {
		return reply{}, err
	}
	lb.monitors.add(h)
	lb.changePool(p)
	return reply{status: http.StatusCreated, body: fields{"healthmonitor": viewMonitor(h)}}, nil
}

func (lb *loadBalancerService) updateMonitor(c *call) (reply, error) {
	h, err := findBalancerObject(c, &lb.monitors, monitorKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	var asked monitorBody
	if err := readBalancerBody(c, "healthmonitor", &asked); err != nil {
		return reply{}, err
	}
	if err := fixed(map[string]bool{"type": asked.Type.set, "pool_id": asked.PoolID.set}); err != nil {
		return reply{}, err
	}
	if err := h.pool.balancer.mutable(); err != nil {
		return reply{}, err
	}
	if err := h.configure(asked); err != nil {
		return reply{}, err
	}
	lb.pending(h, pendingUpdate)
	lb.changePool(h.pool)
	return reply{status: http.StatusOK, body: fields{"healthmonitor": viewMonitor(h)}}, nil
}

func (lb *loadBalancerService) deleteMonitor(c *call) (reply, error) {
	h, err := findBalancerObject(c, &lb.monitors, monitorKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	if err := h.pool.balancer.mutable(); err != nil {
		return reply{}, err
	}
	lb.pending(h, pendingDelete)
	lb.changePool(h.pool)
	return reply{status: http.StatusNoContent}, nil
}
