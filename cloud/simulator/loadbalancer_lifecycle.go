package simulator

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// heartbeat is how long an amphora takes to report for the first time after a change. The real one
// does so every ten seconds.
const heartbeat = 2 * time.Second

// mutable refuses changes of a tree while another one is under way or after one failed.
func (b *loadBalancer) mutable() error {
	if b.ProvisioningStatus != stateActive {
		return immutable(balancerKind, b.ID)
	}
	return nil
}

func (lb *loadBalancerService) pending(object interface{ head() *balancerRecord }, status string) {
	object.head().ProvisioningStatus = status
	lb.touch(object)
}

// change makes a load balancer pending for an update somewhere in its tree.
func (lb *loadBalancerService) change(b *loadBalancer) {
	lb.pending(b, pendingUpdate)
	lb.after(b, lb.s.scenario.Latency.LoadBalancerUpdate)
}

// after ends the operation that has just begun, unless another one or the control API overtakes it.
func (lb *loadBalancerService) after(b *loadBalancer, takes Range) {
	b.operation++
	b.stuck = false
	operation := b.operation
	lb.s.after(takes.draw(lb.s.rng), func() {
		if b.operation == operation && lb.balancers.has(b) {
			lb.finish(b)
		}
	})
}

// finish carries out what was pending in a tree.
func (lb *loadBalancerService) finish(b *loadBalancer) {
	if b.ProvisioningStatus == pendingDelete {
		lb.discardBalancer(b)
		return
	}
	for _, l := range slices.Clone(b.listeners) {
		if !lb.settleObject(l) {
			lb.discardListener(l)
		}
	}
	for _, p := range slices.Clone(b.pools) {
		lb.finishPool(p)
	}
	lb.settleObject(b)
	lb.s.log.Info("load balancer settled", "id", b.ID, "name", b.Name)
	lb.syncForwarders(b)
	lb.awaitHeartbeat(b)
}

func (lb *loadBalancerService) finishPool(p *pool) {
	for _, m := range slices.Clone(p.members) {
		if !lb.settleObject(m) {
			lb.discardMember(m)
		}
	}
	if h := p.monitor; h != nil && !lb.settleObject(h) {
		lb.monitors.remove(h)
		p.monitor, p.HealthMonitorID = nil, nil
	}
	if !lb.settleObject(p) {
		lb.discardPool(p)
	}
}

// settleObject makes a pending object ACTIVE; false when it was to be deleted.
func (lb *loadBalancerService) settleObject(object interface{ head() *balancerRecord }) bool {
	head := object.head()
	if head.ProvisioningStatus == pendingDelete {
		return false
	}
	if head.ProvisioningStatus != stateActive {
		lb.pending(object, stateActive)
	}
	return true
}

func (lb *loadBalancerService) discardBalancer(b *loadBalancer) {
	for _, l := range slices.Clone(b.listeners) {
		lb.discardListener(l)
	}
	for _, p := range slices.Clone(b.pools) {
		lb.discardPool(p)
	}
	lb.balancers.remove(b)
	delete(lb.byVIPPort, b.VIPPortID)
	lb.syncForwarders(b)
	lb.returnVIP(b)
}

func (lb *loadBalancerService) discardListener(l *listener) {
	l.balancer.listeners = without(l.balancer.listeners, l)
	lb.listeners.remove(l)
}

func (lb *loadBalancerService) discardPool(p *pool) {
	for _, l := range p.listeners() {
		l.pool, l.DefaultPoolID = nil, nil
	}
	for _, m := range slices.Clone(p.members) {
		lb.discardMember(m)
	}
	if p.monitor != nil {
		lb.monitors.remove(p.monitor)
	}
	p.balancer.pools = without(p.balancer.pools, p)
	lb.pools.remove(p)
}

func (lb *loadBalancerService) discardMember(m *member) {
	m.pool.members = without(m.pool.members, m)
	lb.members.remove(m)
	lb.cutMember(m)
}

// awaitHeartbeat lets the amphora report, and the monitors check.
func (lb *loadBalancerService) awaitHeartbeat(b *loadBalancer) {
	b.heartbeats++
	lb.s.after(heartbeat, func() {
		b.heartbeats--
		if !lb.balancers.has(b) {
			return
		}
		b.alive = true
		for _, p := range b.pools {
			lb.startChecks(p)
		}
		lb.refresh(b)
	})
}

// refresh works out the operating status of a tree from its members' health.
func (lb *loadBalancerService) refresh(b *loadBalancer) {
	if !b.alive {
		return
	}
	worst := online
	for _, p := range b.pools {
		status := lb.refreshPool(p)
		if status == stateError || status == degraded && worst == online {
			worst = status
		}
	}
	for _, l := range b.listeners {
		switch {
		case !l.AdminStateUp:
			lb.report(l, offline)
		case l.refused:
			lb.report(l, stateError)
			worst = stateError
		default:
			lb.report(l, online)
		}
	}
	if !b.AdminStateUp {
		worst = offline
	}
	lb.report(b, worst)
}

func (lb *loadBalancerService) refreshPool(p *pool) string {
	failing, serving := 0, 0
	for _, m := range p.members {
		status := m.status()
		lb.report(m, status)
		switch status {
		case stateError:
			failing++
		case online, noMonitor, draining:
			serving++
		}
	}
	if p.monitor != nil {
		lb.report(p.monitor, online)
	}
	status := online
	switch {
	case !p.AdminStateUp:
		status = offline
	case failing > 0 && serving == 0:
		status = stateError
	case failing > 0:
		status = degraded
	}
	lb.report(p, status)
	return status
}

// status is a member's operating status.
func (m *member) status() string {
	switch monitor := m.pool.monitor; {
	case !m.AdminStateUp:
		return offline
	case monitor == nil || !monitor.AdminStateUp:
		return noMonitor
	case !m.health.checked:
		return offline
	case !m.health.up:
		return stateError
	case m.Weight == 0:
		return draining
	}
	return online
}

// report writes an operating status that changed.
func (lb *loadBalancerService) report(object interface{ head() *balancerRecord }, status string) {
	if head := object.head(); head.OperatingStatus != status {
		head.OperatingStatus = status
		lb.touch(object)
	}
}

// LoadBalancerChange is what happens to a load balancer behind Octavia's back.
type LoadBalancerChange struct {
	// ProvisioningStatus is set as it is and stays: an operation under way never ends, so that
	// PENDING_UPDATE makes a stuck load balancer and ERROR a failed one. ACTIVE brings it back.
	ProvisioningStatus string `json:"provisioning_status,omitempty"`
	// OperatingStatus holds until the next heartbeat.
	OperatingStatus string `json:"operating_status,omitempty"`
	// Lost removes the load balancer with all it has, VIP port included.
	Lost bool `json:"lost,omitempty"`
}

// controlRoutes mounts POST /_simulator/loadbalancers/{id}.
func (lb *loadBalancerService) controlRoutes(mux *http.ServeMux) {
	control(mux, http.MethodPost, "/loadbalancers/{id}", changing(func(r *http.Request, change LoadBalancerChange) error {
		return lb.s.SetLoadBalancer(r.PathValue("id"), change)
	}))
}

// SetLoadBalancer changes a load balancer out of band.
func (s *Simulator) SetLoadBalancer(id string, change LoadBalancerChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	lb := &s.loadBalancer
	b, known := lb.balancers.byID[id]
	if !known {
		return fmt.Errorf("load balancer %s: %w", id, ErrNotFound)
	}
	states := []string{"", stateActive, stateError, pendingCreate, pendingUpdate, pendingDelete}
	if !slices.Contains(states, change.ProvisioningStatus) {
		return fmt.Errorf("provisioning_status %q: use one of %v", change.ProvisioningStatus, states[1:])
	}
	if change.Lost {
		lb.discardBalancer(b)
		return nil
	}
	if change.ProvisioningStatus != "" {
		b.operation++
		lb.pending(b, change.ProvisioningStatus)
		b.stuck = strings.HasPrefix(change.ProvisioningStatus, "PENDING_")
		if change.ProvisioningStatus == stateActive {
			lb.finish(b)
		}
	}
	if change.OperatingStatus != "" {
		lb.report(b, change.OperatingStatus)
	}
	return nil
}
