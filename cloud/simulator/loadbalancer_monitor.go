package simulator

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"
)

// target is where a connection to a member goes.
type target struct {
	member  *member
	server  string // empty when no server has the address
	address netip.AddrPort
}

// target finds the server behind a member; port overrides the member's when not 0.
func (lb *loadBalancerService) target(m *member, port int) target {
	if port == 0 {
		port = m.ProtocolPort
	}
	address, _ := netip.ParseAddr(m.Address) // checked when the member was made
	t := target{member: m, address: netip.AddrPortFrom(address, uint16(port))}
	if p := lb.portOfMember(m); p != nil && strings.HasPrefix(p.DeviceOwner, ownerComputePrefix) {
		t.server = p.DeviceID
	}
	return t
}

// portOfMember looks on the member's subnet, else on the VIP's, else on all the project has.
func (lb *loadBalancerService) portOfMember(m *member) *port {
	network := &lb.s.network
	subnet := m.balancerOf().VIPSubnetID
	if m.SubnetID != nil {
		subnet = *m.SubnetID
	}
	if p, found := network.portAt(subnet, m.Address); found || m.SubnetID != nil {
		return p
	}
	for _, sub := range network.subnets.inOrder {
		if sub.ProjectID != m.ProjectID {
			continue
		}
		if p, found := network.portAt(sub.ID, m.Address); found {
			return p
		}
	}
	return nil
}

func (lb *loadBalancerService) runsNoNodes() bool {
	_, none := lb.s.backend.(noNodes)
	return none
}

// reachable says that a connection can be tried at all.
func (lb *loadBalancerService) reachable(t target) bool {
	return t.server != "" && !lb.runsNoNodes() || t.address.Addr().IsLoopback()
}

var errUnreachable = errors.New("no server has the address")

// dial connects to a member. The simulator's lock is not held.
func (lb *loadBalancerService) dial(ctx context.Context, t target) (net.Conn, error) {
	switch {
	case t.server != "" && !lb.runsNoNodes():
		return lb.s.backend.Dial(ctx, t.server, int(t.address.Port()))
	case t.address.Addr().IsLoopback():
		var dialer net.Dialer
		return dialer.DialContext(ctx, "tcp", t.address.String())
	}
	return nil, fmt.Errorf("%s: %w", t.address, errUnreachable)
}

// startChecks begins the round of a pool's monitor, if it has one that is not on its round already.
func (lb *loadBalancerService) startChecks(p *pool) {
	if h := p.monitor; h != nil && !h.checking {
		h.checking = true
		lb.check(h)
	}
}

// check tries all members of a monitor's pool and plans the next round. Members that cannot be tried
// because the simulator runs no nodes count as healthy when a port has their address.
func (lb *loadBalancerService) check(h *healthMonitor) {
	if !lb.monitors.has(h) || lb.closed {
		h.checking = false
		return
	}
	var targets []target
	for _, m := range h.pool.members {
		t := lb.target(m, h.portOf(m))
		if !lb.reachable(t) || !h.isTried() {
			m.health = health{checked: true, up: lb.portOfMember(m) != nil}
			continue
		}
		targets = append(targets, t)
	}
	lb.refresh(h.balancerOf())
	if len(targets) == 0 && lb.runsNoNodes() {
		h.checking = false // nothing to find out until the tree changes
		return
	}
	attempt := *h
	lb.s.background(func(ctx context.Context) {
		healthy := lb.tryAll(ctx, &attempt, targets)
		lb.s.mu.Lock()
		defer lb.s.mu.Unlock()
		lb.checked(h, targets, healthy)
	})
}

func (h *healthMonitor) portOf(m *member) int {
	if m.MonitorPort != nil {
		return *m.MonitorPort
	}
	return m.ProtocolPort
}

// isTried is false for kinds that are no TCP.
func (h *healthMonitor) isTried() bool {
	return h.Type != "PING" && h.Type != "UDP-CONNECT" && h.Type != "SCTP"
}

// checked takes over the results of one round. As in HAProxy, a member that was never checked goes
// either way at once; later it takes max_retries successes or max_retries_down failures in a row.
func (lb *loadBalancerService) checked(h *healthMonitor, targets []target, healthy []bool) {
	if lb.closed || !lb.monitors.has(h) {
		h.checking = false
		return
	}
	for i, t := range targets {
		known := &t.member.health
		if healthy[i] {
			known.successes, known.failures = known.successes+1, 0
			known.up = known.up || !known.checked || known.successes >= h.MaxRetries
		} else {
			known.successes, known.failures = 0, known.failures+1
			known.up = known.up && known.failures < h.MaxRetriesDown
		}
		known.checked = true
	}
	lb.refresh(h.balancerOf())
	lb.s.after(time.Duration(h.Delay)*time.Second, func() { lb.check(h) })
}

// tryAll tries targets side by side.
func (lb *loadBalancerService) tryAll(ctx context.Context, h *healthMonitor, targets []target) []bool {
	// The timeout bounds a real connection, so it runs on real time whatever clock drives the rest.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(h.Timeout)*time.Second)
	defer cancel()
	healthy := make([]bool, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() { healthy[i] = lb.try(ctx, h, t) == nil })
	}
	all.Wait()
	return healthy
}

// try is one check of one member.
func (lb *loadBalancerService) try(ctx context.Context, h *healthMonitor, t target) error {
	if h.Type == "HTTP" || h.Type == "HTTPS" {
		return lb.tryHTTP(ctx, h, t)
	}
	connection, err := lb.dial(ctx, t)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	if h.Type == "TLS-HELLO" {
		return tls.Client(connection, &tls.Config{InsecureSkipVerify: true}).HandshakeContext(ctx)
	}
	return nil
}

func (lb *loadBalancerService) tryHTTP(ctx context.Context, h *healthMonitor, t target) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return lb.dial(ctx, t) },
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	url := strings.ToLower(h.Type) + "://" + t.address.String() + textOf(h.URLPath)
	request, err := http.NewRequestWithContext(ctx, textOf(h.HTTPMethod), url, nil)
	if err != nil {
		return err
	}
	request.Host = textOf(h.DomainName)
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close()
	if !expects(textOf(h.ExpectedCodes), response.StatusCode) {
		return fmt.Errorf("status %d is not one of %s", response.StatusCode, textOf(h.ExpectedCodes))
	}
	return nil
}

func textOf(text *string) string {
	if text == nil {
		return ""
	}
	return *text
}

// expects reads "200", "200,202" and "200-204".
func expects(codes string, status int) bool {
	for part := range strings.SplitSeq(codes, ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(part), "-")
		least, err := strconv.Atoi(first)
		if err != nil {
			continue
		}
		most := least
		if isRange {
			if most, err = strconv.Atoi(last); err != nil {
				continue
			}
		}
		if least <= status && status <= most {
			return true
		}
	}
	return false
}
