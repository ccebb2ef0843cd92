package simulator

// savedLoadBalancers holds Octavia's objects as its API shows them, oldest first, each with what the
// API does not show.
type savedLoadBalancers struct {
	Balancers []savedBalancer          `json:"balancers"`
	Listeners []savedBranch[*listener] `json:"listeners"`
	Pools     []savedBranch[*pool]     `json:"pools"`
	Members   []savedMember            `json:"members"`
	Monitors  []savedMonitor           `json:"monitors"`
}

type savedBalancer struct {
	Object   *loadBalancer `json:"object"`
	OwnsPort bool          `json:"ownsPort,omitempty"`
	Stuck    bool          `json:"stuck,omitempty"`
	Alive    bool          `json:"alive,omitempty"`
	// Heartbeat says that one is on its way.
	Heartbeat bool `json:"heartbeat,omitempty"`
}

// savedBranch is a listener or pool of a load balancer.
type savedBranch[T balancerObject] struct {
	Object T      `json:"object"`
	Parent string `json:"parent"`
}

type savedMember struct {
	Object    *member `json:"object"`
	Parent    string  `json:"parent"` // pool
	Checked   bool    `json:"checked,omitempty"`
	Up        bool    `json:"up,omitempty"`
	Successes int     `json:"successes,omitempty"`
	Failures  int     `json:"failures,omitempty"`
}

type savedMonitor struct {
	Object   *healthMonitor `json:"object"`
	Parent   string         `json:"parent"` // pool
	Checking bool           `json:"checking,omitempty"`
}

func (lb *loadBalancerService) save() savedLoadBalancers {
	var saved savedLoadBalancers
	for _, b := range lb.balancers.inOrder {
		saved.Balancers = append(saved.Balancers, savedBalancer{Object: b, OwnsPort: b.ownsPort, Stuck: b.stuck, Alive: b.alive, Heartbeat: b.heartbeats > 0})
	}
	for _, l := range lb.listeners.inOrder {
		saved.Listeners = append(saved.Listeners, savedBranch[*listener]{Object: l, Parent: l.balancer.ID})
	}
	for _, p := range lb.pools.inOrder {
		saved.Pools = append(saved.Pools, savedBranch[*pool]{Object: p, Parent: p.balancer.ID})
	}
	for _, m := range lb.members.inOrder {
		saved.Members = append(saved.Members, savedMember{
			Object: m, Parent: m.pool.ID, Checked: m.health.checked, Up: m.health.up, Successes: m.health.successes, Failures: m.health.failures,
		})
	}
	for _, h := range lb.monitors.inOrder {
		saved.Monitors = append(saved.Monitors, savedMonitor{Object: h, Parent: h.pool.ID, Checking: h.checking})
	}
	return saved
}

func (lb *loadBalancerService) restore(saved savedLoadBalancers) error {
	for _, one := range saved.Balancers {
		b := one.Object
		b.ownsPort, b.stuck, b.alive = one.OwnsPort, one.Stuck, one.Alive
		if one.Heartbeat {
			lb.awaitHeartbeat(b)
		}
		lb.balancers.add(b)
		lb.byVIPPort[b.VIPPortID] = b
	}
	if err := lb.restorePools(saved); err != nil {
		return err
	}
	for _, one := range saved.Listeners {
		l := one.Object
		if l.balancer = lb.balancers.byID[one.Parent]; l.balancer == nil {
			return danglingError("listener", l.ID, "load balancer", one.Parent)
		}
		l.pool = lb.pools.byID[textOf(l.DefaultPoolID)]
		l.balancer.listeners = append(l.balancer.listeners, l)
		lb.listeners.add(l)
	}
	return nil
}

func (lb *loadBalancerService) restorePools(saved savedLoadBalancers) error {
	for _, one := range saved.Pools {
		p := one.Object
		if p.balancer = lb.balancers.byID[one.Parent]; p.balancer == nil {
			return danglingError("pool", p.ID, "load balancer", one.Parent)
		}
		p.balancer.pools = append(p.balancer.pools, p)
		lb.pools.add(p)
	}
	for _, one := range saved.Members {
		m := one.Object
		if m.pool = lb.pools.byID[one.Parent]; m.pool == nil {
			return danglingError("member", m.ID, "pool", one.Parent)
		}
		m.health = health{checked: one.Checked, up: one.Up, successes: one.Successes, failures: one.Failures}
		m.pool.members = append(m.pool.members, m)
		lb.members.add(m)
	}
	for _, one := range saved.Monitors {
		h := one.Object
		if h.pool = lb.pools.byID[one.Parent]; h.pool == nil {
			return danglingError("health monitor", h.ID, "pool", one.Parent)
		}
		h.pool.monitor, h.checking = h, one.Checking
		lb.monitors.add(h)
	}
	return nil
}

// resume listens again, checks members again, and goes on with pending operations.
func (lb *loadBalancerService) resume() {
	latency := lb.s.scenario.Latency
	takes := map[string]Range{
		pendingCreate: latency.LoadBalancerCreate, pendingUpdate: latency.LoadBalancerUpdate, pendingDelete: latency.LoadBalancerDelete,
	}
	for _, b := range lb.balancers.inOrder {
		if wait, pending := takes[b.ProvisioningStatus]; pending && !b.stuck {
			lb.after(b, wait)
		}
		lb.syncForwarders(b)
	}
	for _, h := range lb.monitors.inOrder {
		if h.checking {
			lb.s.after(0, func() { lb.check(h) })
		}
	}
}
