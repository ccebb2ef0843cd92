package simulator

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

const listenerKind = "Listener"

// listener is an Octavia listener.
type listener struct {
	balancerRecord
	Description             string            `json:"description"`
	Protocol                string            `json:"protocol"`
	ProtocolPort            int               `json:"protocol_port"`
	ConnectionLimit         int               `json:"connection_limit"`
	DefaultPoolID           *string           `json:"default_pool_id"`
	AllowedCIDRs            []string          `json:"allowed_cidrs"`
	InsertHeaders           map[string]string `json:"insert_headers"`
	TimeoutClientData       int               `json:"timeout_client_data"`
	TimeoutMemberConnect    int               `json:"timeout_member_connect"`
	TimeoutMemberData       int               `json:"timeout_member_data"`
	TimeoutTCPInspect       int               `json:"timeout_tcp_inspect"`
	DefaultTLSContainerRef  *string           `json:"default_tls_container_ref"`
	SNIContainerRefs        []string          `json:"sni_container_refs"`
	ClientAuthentication    string            `json:"client_authentication"`
	ClientCATLSContainerRef *string           `json:"client_ca_tls_container_ref"`
	ClientCRLContainerRef   *string           `json:"client_crl_container_ref"`
	TLSCiphers              *string           `json:"tls_ciphers"`
	TLSVersions             []string          `json:"tls_versions"`
	ALPNProtocols           []string          `json:"alpn_protocols"`
	L7Policies              []ref             `json:"l7policies"`

	balancer *loadBalancer
	pool     *pool
	traffic  traffic
	// refused says that an address of the listener could not be listened on.
	refused bool
	// turn counts connections for the round robin.
	turn int
}

// traffic is counted without the simulator's lock.
type traffic struct{ active, total, bytesIn, bytesOut, errors atomic.Int64 }

func (l *listener) balancerOf() *loadBalancer { return l.balancer }

type listenerView struct {
	*listener
	LoadBalancers []ref `json:"loadbalancers"`
}

type fullListenerView struct {
	listenerView
	DefaultPool any `json:"default_pool"`
}

type listenerSettings struct {
	Description          optional[string]            `json:"description"`
	ConnectionLimit      optional[int]               `json:"connection_limit"`
	DefaultPoolID        optional[string]            `json:"default_pool_id"`
	AllowedCIDRs         optional[[]string]          `json:"allowed_cidrs"`
	InsertHeaders        optional[map[string]string] `json:"insert_headers"`
	TimeoutClientData    optional[int]               `json:"timeout_client_data"`
	TimeoutMemberConnect optional[int]               `json:"timeout_member_connect"`
	TimeoutMemberData    optional[int]               `json:"timeout_member_data"`
	TimeoutTCPInspect    optional[int]               `json:"timeout_tcp_inspect"`
	DefaultTLSContainer  optional[string]            `json:"default_tls_container_ref"`
	SNIContainerRefs     optional[[]string]          `json:"sni_container_refs"`
	ClientAuthentication optional[string]            `json:"client_authentication"`
	TLSCiphers           optional[string]            `json:"tls_ciphers"`
	TLSVersions          optional[[]string]          `json:"tls_versions"`
	ALPNProtocols        optional[[]string]          `json:"alpn_protocols"`
}

type listenerBody struct {
	balancerCommon
	listenerSettings
	LoadBalancerID optional[string] `json:"loadbalancer_id"`
	Protocol       optional[string] `json:"protocol"`
	ProtocolPort   optional[int]    `json:"protocol_port"`
	DefaultPool    *poolBody        `json:"default_pool"`
}

func viewListener(l *listener) any { return listenerView{l, refs(l.balancer)} }

func viewFullListener(l *listener) any {
	view := fullListenerView{listenerView: listenerView{l, refs(l.balancer)}}
	if l.pool != nil {
		view.DefaultPool = viewFullPool(l.pool)
	}
	return view
}

func (lb *loadBalancerService) listenerRoutes(rt *router) {
	lb.handle(rt, "GET /lbaas/listeners", listBalancerObjects(lb, "listeners", everyOne(&lb.listeners), viewListener))
	lb.handle(rt, "POST /lbaas/listeners", lb.createListener)
	lb.handle(rt, "GET /lbaas/listeners/{id}", showBalancerObject(lb, "listener", listenerKind, &lb.listeners, viewListener))
	lb.handle(rt, "PUT /lbaas/listeners/{id}", lb.updateListener)
	lb.handle(rt, "DELETE /lbaas/listeners/{id}", lb.deleteListener)
	lb.handle(rt, "GET /lbaas/listeners/{id}/stats", lb.listenerStats)
}

// newListener makes a listener of a load balancer; its tree may not be in the tables yet.
func (lb *loadBalancerService) newListener(b *loadBalancer, asked listenerBody) (*listener, error) {
	if err := asked.check(); err != nil {
		return nil, err
	}
	l := &listener{
		balancerRecord: lb.newRecord(b.ProjectID, asked.balancerCommon),
		Protocol:       asked.Protocol.value, ProtocolPort: asked.ProtocolPort.value, ConnectionLimit: -1,
		InsertHeaders: map[string]string{}, SNIContainerRefs: []string{}, L7Policies: []ref{}, ClientAuthentication: "NONE",
		TimeoutClientData: 50_000, TimeoutMemberConnect: 5_000, TimeoutMemberData: 50_000, // milliseconds
		balancer: b,
	}
	if slices.ContainsFunc(b.listeners, l.collidesWith) {
		return nil, problemf(http.StatusConflict, "Another Listener on this Load Balancer is already using protocol_port %d", l.ProtocolPort)
	}
	if err := lb.configureListener(l, asked.listenerSettings); err != nil {
		return nil, err
	}
	if asked.DefaultPool != nil {
		p, err := lb.poolOfListener(b, *asked.DefaultPool)
		if err != nil {
			return nil, err
		}
		if err := l.usePool(p); err != nil {
			return nil, err
		}
	}
	b.listeners = append(b.listeners, l)
	return l, nil
}

// poolOfListener is the pool a listener's body describes, or the one it names: the tree's pools may
// come beside the listeners.
func (lb *loadBalancerService) poolOfListener(b *loadBalancer, asked poolBody) (*pool, error) {
	if asked.Protocol.set || asked.LBAlgorithm.set {
		return lb.newPool(b, asked)
	}
	for _, p := range b.pools {
		if p.Name == asked.Name.value {
			return p, nil
		}
	}
	return nil, validationFailure("Pool '%s' is not among the pools of the request", asked.Name.value)
}

func (asked listenerBody) check() error {
	protocols := []string{"HTTP", "HTTPS", "PROMETHEUS", "SCTP", "TCP", "TERMINATED_HTTPS", "UDP"}
	switch {
	case !asked.Protocol.set:
		return missingField("protocol")
	case !slices.Contains(protocols, asked.Protocol.value):
		return invalidField("protocol", asked.Protocol.value, "Value should be one of: "+strings.Join(protocols, ", "))
	case !asked.ProtocolPort.set:
		return missingField("protocol_port")
	case asked.ProtocolPort.value < 1 || asked.ProtocolPort.value > 65535:
		return invalidField("protocol_port", asked.ProtocolPort.value, "Value should be between 1 and 65535")
	}
	return nil
}

// collidesWith reports the same port over the same transport.
func (l *listener) collidesWith(other *listener) bool {
	return l.ProtocolPort == other.ProtocolPort && transport(l.Protocol) == transport(other.Protocol)
}

func transport(protocol string) string {
	if protocol == "UDP" || protocol == "SCTP" {
		return protocol
	}
	return "TCP"
}

func (lb *loadBalancerService) configureListener(l *listener, asked listenerSettings) error {
	for _, cidr := range asked.AllowedCIDRs.value {
		prefix, err := netip.ParsePrefix(cidr)
		if err != nil {
			return invalidField("allowed_cidrs", cidr, "Value should be IPv4 or IPv6 CIDR format")
		}
		if l.balancer.VIPAddress != "" && prefix.Addr().Is4() != l.balancer.isIPv4() {
			return validationFailure("The allowed CIDR %s must be of the IP version of the VIP %s.", cidr, l.balancer.VIPAddress)
		}
	}
	if asked.DefaultPoolID.set {
		p := lb.pools.byID[asked.DefaultPoolID.value]
		if asked.DefaultPoolID.value != "" && (p == nil || p.balancer != l.balancer) {
			return balancerMissing(poolKind, asked.DefaultPoolID.value)
		}
		if err := l.usePool(p); err != nil {
			return err
		}
	}
	asked.Description.to(&l.Description)
	asked.ConnectionLimit.to(&l.ConnectionLimit)
	asked.TimeoutClientData.to(&l.TimeoutClientData)
	asked.TimeoutMemberConnect.to(&l.TimeoutMemberConnect)
	asked.TimeoutMemberData.to(&l.TimeoutMemberData)
	asked.TimeoutTCPInspect.to(&l.TimeoutTCPInspect)
	asked.AllowedCIDRs.to(&l.AllowedCIDRs)
	asked.TLSVersions.to(&l.TLSVersions)
	asked.ALPNProtocols.to(&l.ALPNProtocols)
	if asked.InsertHeaders.set {
		l.InsertHeaders = asked.InsertHeaders.or(map[string]string{})
	}
	if asked.SNIContainerRefs.set {
		l.SNIContainerRefs = asked.SNIContainerRefs.or([]string{})
	}
	if asked.ClientAuthentication.set {
		l.ClientAuthentication = asked.ClientAuthentication.or("NONE")
	}
	if asked.DefaultTLSContainer.set {
		l.DefaultTLSContainerRef = textOrNull(asked.DefaultTLSContainer.value)
	}
	if asked.TLSCiphers.set {
		l.TLSCiphers = textOrNull(asked.TLSCiphers.value)
	}
	return nil
}

// usePool makes a pool the listener's default; nil for none.
func (l *listener) usePool(p *pool) error {
	if p == nil {
		l.pool, l.DefaultPoolID = nil, nil
		return nil
	}
	fitting := map[string][]string{
		"TCP": {"TCP", "HTTP", "HTTPS", "PROXY", "PROXYV2"}, "HTTP": {"HTTP", "PROXY", "PROXYV2"},
		"HTTPS": {"HTTPS", "PROXY", "PROXYV2", "TCP"}, "TERMINATED_HTTPS": {"HTTP", "PROXY", "PROXYV2"}, "UDP": {"UDP"}, "SCTP": {"SCTP"},
	}
	if !slices.Contains(fitting[l.Protocol], p.Protocol) {
		return validationFailure("The pool protocol '%s' is invalid while the listener protocol is '%s'.", p.Protocol, l.Protocol)
	}
	l.pool, l.DefaultPoolID = p, &p.ID
	return nil
}

func (lb *loadBalancerService) createListener(c *call) (reply, error) {
	var asked listenerBody
	if err := readBalancerBody(c, "listener", &asked); err != nil {
		return reply{}, err
	}
	b, err := lb.parentBalancer(c, asked.LoadBalancerID.or(""))
	if err != nil {
		return reply{}, err
	}
	if err := lb.checkQuota(b.ProjectID, "listener", listenerKind, lb.listeners.ofProject[b.ProjectID], 1); err != nil {
		return reply{}, err
	}
	if err := b.mutable(); err != nil {
		return reply{}, err
	}
	known := len(b.pools)
	l, err := lb.newListener(b, asked)
	if err != nil {
		b.pools = b.pools[:known]
		return reply{}, err
	}
	for _, p := range b.pools[known:] {
		lb.adoptPool(p)
	}
	lb.listeners.add(l)
	lb.change(b)
	return reply{status: http.StatusCreated, body: fields{"listener": viewListener(l)}}, nil
}

// parentBalancer is the load balancer that a new child names.
func (lb *loadBalancerService) parentBalancer(c *call, id string) (*loadBalancer, error) {
	if id == "" {
		return nil, missingField("loadbalancer_id")
	}
	return findBalancerObject(c, &lb.balancers, balancerKind, id)
}

func (lb *loadBalancerService) updateListener(c *call) (reply, error) {
	l, err := findBalancerObject(c, &lb.listeners, listenerKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	var asked listenerBody
	if err := readBalancerBody(c, "listener", &asked); err != nil {
		return reply{}, err
	}
	if err := fixed(map[string]bool{"protocol": asked.Protocol.set, "protocol_port": asked.ProtocolPort.set, "loadbalancer_id": asked.LoadBalancerID.set, "default_pool": asked.DefaultPool != nil}); err != nil {
		return reply{}, err
	}
	if err := l.balancer.mutable(); err != nil {
		return reply{}, err
	}
	if err := lb.configureListener(l, asked.listenerSettings); err != nil {
		return reply{}, err
	}
	asked.change(&l.balancerRecord)
	lb.pending(l, pendingUpdate)
	lb.change(l.balancer)
	return reply{status: http.StatusOK, body: fields{"listener": viewListener(l)}}, nil
}

func (lb *loadBalancerService) deleteListener(c *call) (reply, error) {
	l, err := findBalancerObject(c, &lb.listeners, listenerKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	if err := l.balancer.mutable(); err != nil {
		return reply{}, err
	}
	lb.pending(l, pendingDelete)
	lb.change(l.balancer)
	return reply{status: http.StatusNoContent}, nil
}

func (lb *loadBalancerService) listenerStats(c *call) (reply, error) {
	l, err := findBalancerObject(c, &lb.listeners, listenerKind, c.id("id"))
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: fields{"stats": statsOf(l)}}, nil
}

// statsOf adds up what listeners carried.
func statsOf(listeners ...*listener) fields {
	var active, total, in, out, failed int64
	for _, l := range listeners {
		active += l.traffic.active.Load()
		total += l.traffic.total.Load()
		in += l.traffic.bytesIn.Load()
		out += l.traffic.bytesOut.Load()
		failed += l.traffic.errors.Load()
	}
	return fields{"active_connections": active, "total_connections": total, "bytes_in": in, "bytes_out": out, "request_errors": failed}
}
