package simulator

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

const poolKind = "Pool"

// pool is an Octavia pool.
type pool struct {
	balancerRecord
	Description        string              `json:"description"`
	Protocol           string              `json:"protocol"`
	LBAlgorithm        string              `json:"lb_algorithm"`
	SessionPersistence *sessionPersistence `json:"session_persistence"`
	HealthMonitorID    *string             `json:"healthmonitor_id"`
	TLSEnabled         bool                `json:"tls_enabled"`
	TLSContainerRef    *string             `json:"tls_container_ref"`
	CATLSContainerRef  *string             `json:"ca_tls_container_ref"`
	CRLContainerRef    *string             `json:"crl_container_ref"`
	TLSCiphers         *string             `json:"tls_ciphers"`
	TLSVersions        []string            `json:"tls_versions"`
	ALPNProtocols      []string            `json:"alpn_protocols"`

	balancer *loadBalancer
	members  []*member
	monitor  *healthMonitor
}

type sessionPersistence struct {
	Type               string  `json:"type"`
	CookieName         *string `json:"cookie_name"`
	PersistenceTimeout *int    `json:"persistence_timeout"`
	Granularity        *string `json:"persistence_granularity"`
}

func (p *pool) balancerOf() *loadBalancer { return p.balancer }

// listeners are those that send to the pool.
func (p *pool) listeners() []*listener {
	var using []*listener
	for _, l := range p.balancer.listeners {
		if l.pool == p {
			using = append(using, l)
		}
	}
	return using
}

type poolView struct {
	*pool
	LoadBalancers []ref `json:"loadbalancers"`
	Listeners     []ref `json:"listeners"`
	Members       []ref `json:"members"`
}

type fullPoolView struct {
	poolView
	Members []any `json:"members"`
	Monitor any   `json:"healthmonitor"`
}

type poolSettings struct {
	Description        optional[string]              `json:"description"`
	LBAlgorithm        optional[string]              `json:"lb_algorithm"`
	SessionPersistence *optional[sessionPersistence] `json:"session_persistence"`
	TLSEnabled         optional[bool]                `json:"tls_enabled"`
	TLSContainerRef    optional[string]              `json:"tls_container_ref"`
	CATLSContainerRef  optional[string]              `json:"ca_tls_container_ref"`
	CRLContainerRef    optional[string]              `json:"crl_container_ref"`
	TLSCiphers         optional[string]              `json:"tls_ciphers"`
	TLSVersions        optional[[]string]            `json:"tls_versions"`
	ALPNProtocols      optional[[]string]            `json:"alpn_protocols"`
}

type poolBody struct {
	balancerCommon
	poolSettings
	LoadBalancerID optional[string] `json:"loadbalancer_id"`
	ListenerID     optional[string] `json:"listener_id"`
	Protocol       optional[string] `json:"protocol"`
	Members        []memberBody     `json:"members"`
	Monitor        *monitorBody     `json:"healthmonitor"`
}

func viewPool(p *pool) any { return newPoolView(p) }

func newPoolView(p *pool) poolView {
	return poolView{pool: p, LoadBalancers: refs(p.balancer), Listeners: refs(p.listeners()...), Members: refs(p.members...)}
}

func viewFullPool(p *pool) any {
	view := fullPoolView{poolView: newPoolView(p), Members: []any{}}
	for _, m := range p.members {
		view.Members = append(view.Members, viewMember(m))
	}
	if p.monitor != nil {
		view.Monitor = viewMonitor(p.monitor)
	}
	return view
}

func (lb *loadBalancerService) poolRoutes(rt *router) {
	lb.handle(rt, "GET /lbaas/pools", listBalancerObjects(lb, "pools", everyOne(&lb.pools), viewPool))
	lb.handle(rt, "POST /lbaas/pools", lb.createPool)
	lb.handle(rt, "GET /lbaas/pools/{id}", showBalancerObject(lb, "pool", poolKind, &lb.pools, viewPool))
	lb.handle(rt, "PUT /lbaas/pools/{id}", lb.updatePool)
	lb.handle(rt, "DELETE /lbaas/pools/{id}", lb.deletePool)
}

// newPool makes a pool with members and monitor; its tree may not be in the tables yet.
func (lb *loadBalancerService) newPool(b *loadBalancer, asked poolBody) (*pool, error) {
	protocols := []string{"HTTP", "HTTPS", "PROXY", "PROXYV2", "SCTP", "TCP", "UDP"}
	switch {
	case !asked.Protocol.set:
		return nil, missingField("protocol")
	case !slices.Contains(protocols, asked.Protocol.value):
		return nil, invalidField("protocol", asked.Protocol.value, "Value should be one of: "+strings.Join(protocols, ", "))
	case !asked.LBAlgorithm.set:
		return nil, missingField("lb_algorithm")
	}
	p := &pool{balancerRecord: lb.newRecord(b.ProjectID, asked.balancerCommon), Protocol: asked.Protocol.value, balancer: b}
	if err := p.configure(asked.poolSettings); err != nil {
		return nil, err
	}
	for _, body := range asked.Members {
		m, err := lb.newMember(p, body)
		if err != nil {
			return nil, err
		}
		p.members = append(p.members, m)
	}
	if asked.Monitor != nil {
		if _, err := lb.newMonitor(p, *asked.Monitor); err != nil {
			return nil, err
		}
	}
	b.pools = append(b.pools, p)
	return p, nil
}

func (p *pool) configure(asked poolSettings) error {
	algorithms := []string{"LEAST_CONNECTIONS", "ROUND_ROBIN", "SOURCE_IP", "SOURCE_IP_PORT"}
	if asked.LBAlgorithm.set && !slices.Contains(algorithms, asked.LBAlgorithm.value) {
		return invalidField("lb_algorithm", asked.LBAlgorithm.value, "Value should be one of: "+strings.Join(algorithms, ", "))
	}
	asked.Description.to(&p.Description)
	asked.LBAlgorithm.to(&p.LBAlgorithm)
	asked.TLSEnabled.to(&p.TLSEnabled)
	asked.TLSVersions.to(&p.TLSVersions)
	asked.ALPNProtocols.to(&p.ALPNProtocols)
	if persistence := asked.SessionPersistence; persistence != nil {
		if p.SessionPersistence = nil; !persistence.null {
			p.SessionPersistence = &persistence.value
		}
	}
	for _, reference := range []struct {
		asked optional[string]
		field **string
	}{{asked.TLSContainerRef, &p.TLSContainerRef}, {asked.CATLSContainerRef, &p.CATLSContainerRef}, {asked.CRLContainerRef, &p.CRLContainerRef}, {asked.TLSCiphers, &p.TLSCiphers}} {
		if reference.asked.set {
			*reference.field = textOrNull(reference.asked.value)
		}
	}
	return nil
}

// adoptPool puts a pool with what it holds into the tables.
func (lb *loadBalancerService) adoptPool(p *pool) {
	lb.pools.add(p)
	for _, m := range p.members {
		lb.members.add(m)
	}
	if p.monitor != nil {
		lb.monitors.add(p.monitor)
	}
}

func (lb *loadBalancerService) createPool(c *call) (reply, error) {
	var asked poolBody
	if err := readBalancerBody(c, "pool", &asked); err != nil {
		return reply{}, err
	}
	var l *listener
	balancerID := asked.LoadBalancerID.or("")
	if id := asked.ListenerID.or(""); id != "" {
		var err error
		if l, err = findBalancerObject(c, &lb.listeners, listenerKind, id); err != nil {
			return reply{}, err
		}
		balancerID = l.balancer.ID
	}
	if balancerID == "" {
		return reply{}, validationFailure("Must provide at least one of: loadbalancer_id, listener_id")
	}
	b, err := lb.parentBalancer(c, balancerID)
	if err != nil {
		return reply{}, err
	}
	p, err := lb.addPool(b, l, asked)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusCreated, body: fields{"pool": viewPool(p)}}, nil
}

// addPool makes a pool of a load balancer that is there; l may be nil.
func (lb *loadBalancerService) addPool(b *loadBalancer, l *listener, asked poolBody) (*pool, error) {
	if l != nil && l.pool != nil {
		return nil, problemf(http.StatusConflict, "Listener %s already has a default pool", l.ID)
	}
	if err := lb.checkQuota(b.ProjectID, "pool", poolKind, lb.pools.ofProject[b.ProjectID], 1); err != nil {
		return nil, err
	}
	if err := b.mutable(); err != nil {
		return nil, err
	}
	p, err := lb.newPool(b, asked)
	if err != nil {
		return nil, err
	}
	if l != nil {
		if err := l.usePool(p); err != nil {
			b.pools = without(b.pools, p)
			return nil, err
		}
		lb.pending(l, pendingUpdate)
	}
	lb.adoptPool(p)
	lb.change(b)
	return p, nil
}

func (lb *loadBalancerService) updatePool(c *call) (reply, error) {
	p, err := findBalancerObject(c, &lb.pools, poolKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	var asked poolBody
	if err := readBalancerBody(c, "pool", &asked); err != nil {
		return reply{}, err
	}
	if err := fixed(map[string]bool{"protocol": asked.Protocol.set, "loadbalancer_id": asked.LoadBalancerID.set, "listener_id": asked.ListenerID.set, "members": asked.Members != nil, "healthmonitor": asked.Monitor != nil}); err != nil {
		return reply{}, err
	}
	if err := p.balancer.mutable(); err != nil {
		return reply{}, err
	}
	if err := p.configure(asked.poolSettings); err != nil {
		return reply{}, err
	}
	asked.change(&p.balancerRecord)
	lb.changePool(p)
	return reply{status: http.StatusOK, body: fields{"pool": viewPool(p)}}, nil
}

func (lb *loadBalancerService) deletePool(c *call) (reply, error) {
	p, err := findBalancerObject(c, &lb.pools, poolKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	if err := p.balancer.mutable(); err != nil {
		return reply{}, err
	}
	lb.changePool(p)
	lb.pending(p, pendingDelete)
	return reply{status: http.StatusNoContent}, nil
}

// changePool makes a pool and all above it pending.
func (lb *loadBalancerService) changePool(p *pool) {
	if p.ProvisioningStatus == stateActive {
		lb.pending(p, pendingUpdate)
	}
	for _, l := range p.listeners() {
		lb.pending(l, pendingUpdate)
	}
	lb.change(p.balancer)
}

// setMembers replaces the members of a pool in one go: those that stay keep their id and health.
func (lb *loadBalancerService) setMembers(c *call) (reply, error) {
	p, err := findBalancerObject(c, &lb.pools, poolKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	var body struct {
		Members json.RawMessage `json:"members"`
	}
	if err := c.decode(&body); err != nil {
		return reply{}, err
	}
	var asked []memberBody
	if err := json.Unmarshal(body.Members, &asked); err != nil {
		return reply{}, invalidField("members", string(body.Members), "Value should be a list of members")
	}
	additive := strings.EqualFold(c.query("additive_only"), "true")
	if err := p.balancer.mutable(); err != nil {
		return reply{}, err
	}
	if err := lb.replaceMembers(p, asked, additive); err != nil {
		return reply{}, err
	}
	lb.changePool(p)
	return reply{status: http.StatusAccepted}, nil
}

func (lb *loadBalancerService) replaceMembers(p *pool, asked []memberBody, additive bool) error {
	wanted := &pool{balancerRecord: p.balancerRecord, balancer: p.balancer}
	for _, body := range asked {
		m, err := lb.newMember(wanted, body)
		if err != nil {
			return err
		}
		wanted.members = append(wanted.members, m)
	}
	var added []*member
	stays := map[*member]memberBody{}
	for i, m := range wanted.members {
		if at := slices.IndexFunc(p.members, m.sameTarget); at >= 0 {
			stays[p.members[at]] = asked[i]
			continue
		}
		added = append(added, m)
	}
	if err := lb.checkQuota(p.ProjectID, "member", memberKind, lb.members.ofProject[p.ProjectID], len(added)); err != nil {
		return err
	}
	for _, m := range p.members {
		body, keeps := stays[m]
		switch {
		case keeps:
			m.configure(body)
			lb.pending(m, pendingUpdate)
		case !additive:
			lb.pending(m, pendingDelete)
		}
	}
	for _, m := range added {
		m.pool = p
		p.members = append(p.members, m)
		lb.members.add(m)
	}
	return nil
}
