package cloud

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// treeReading says how well the tree of a load balancer is known.
//
// A tree has two halves. States and members come from Octavia's status call, one per load balancer;
// ports, protocols, allowed addresses and monitors come from lists of the whole project. The second
// half changes only when somebody changes it. We know our own changes, so it is read once, and again
// at most once per sweep for a load balancer that anybody has touched since.
type treeReading struct {
	// stale is set while the states are older than what the list says of the load balancer.
	stale bool
	// settings is the load balancer's time of change when the second half was read, and settingsAt
	// is when that was, by our clock.
	settings   string
	settingsAt time.Time
}

// createdTree is the load balancer as the creation of a whole tree returns it. Octavia does so; a
// service that returns only ids has its tree read when it has been built.
func (w wireLoadBalancer) createdTree(now time.Time) LoadBalancer {
	lb := w.summary()
	lb.tree.stale = true
	pools := w.Pools
	for _, listener := range w.Listeners {
		lb.Listeners = append(lb.Listeners, listener.listener())
		if pool := listener.DefaultPool; pool != nil && !slices.ContainsFunc(pools, func(p wirePool) bool { return p.ID == pool.ID }) {
			pools = append(pools, *pool)
		}
	}
	for _, pool := range pools {
		lb.Pools = append(lb.Pools, pool.pool())
	}
	lb.TreeKnown = len(lb.Listeners) > 0 && !lb.lacksSettings()
	if lb.TreeKnown {
		lb.tree.settings, lb.tree.settingsAt = lb.Updated, now
	}
	lb.sortTree()
	return lb
}

// lacksSettings reports that of some part only the id or the state is known.
func (lb LoadBalancer) lacksSettings() bool {
	return slices.ContainsFunc(lb.Listeners, func(l Listener) bool { return l.Port == 0 }) ||
		slices.ContainsFunc(lb.Pools, func(p Pool) bool {
			return p.Protocol == "" || p.Monitor != nil && p.Monitor.DelaySeconds == 0
		})
}

func (lb *LoadBalancer) sortTree() {
	sortListeners(lb.Listeners)
	slices.SortFunc(lb.Pools, func(a, b Pool) int { return cmp.Compare(a.ID, b.ID) })
}

func sortListeners(listeners []Listener) {
	slices.SortFunc(listeners, func(a, b Listener) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.ID, b.ID))
	})
}

func sortMembers(members []Member) {
	slices.SortFunc(members, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Port, b.Port))
	})
}

// withTreeOf is the load balancer with the tree it had before.
func (lb LoadBalancer) withTreeOf(old LoadBalancer) LoadBalancer {
	lb.TreeKnown, lb.Listeners, lb.Pools, lb.tree = old.TreeKnown, old.Listeners, old.Pools, old.tree
	return lb
}

// differsFrom reports that something in the tree may have changed.
func (lb LoadBalancer) differsFrom(old LoadBalancer) bool {
	return lb.Updated != old.Updated || lb.ProvisioningStatus != old.ProvisioningStatus || lb.OperatingStatus != old.OperatingStatus
}

// listLoadBalancers lists all load balancers, and reads the trees of ours that have changed and come
// to rest since.
func (s *Session) listLoadBalancers(ctx context.Context, known *Snapshot) ([]object, error) {
	var listed []LoadBalancer
	from := collection{loadBalancerService, "lbaas/loadbalancers", "loadbalancers", s.ofProject()}
	err := listPages(ctx, s, from, func(page []wireLoadBalancer) {
		for _, w := range page {
			if s.isOurs(w.project()) {
				listed = append(listed, w.summary())
			}
		}
	})
	if err != nil {
		return nil, err
	}
	var unread []*LoadBalancer
	for n := range listed {
		lb := &listed[n]
		old, _ := known.LoadBalancer(lb.ID)
		changed := lb.differsFrom(old)
		*lb = lb.withTreeOf(old)
		lb.tree.stale = lb.tree.stale || changed || !lb.TreeKnown
		if lb.Mark.IsZero() {
			lb.tree.stale = false
		} else if lb.tree.stale && !lb.IsPending() {
			unread = append(unread, lb)
		}
	}
	s.readTrees(ctx, unread)
	out := make([]object, 0, len(listed))
	for _, lb := range listed {
		out = append(out, lb)
	}
	return out, nil
}

// readTrees reads the trees of some load balancers. One that fails stays stale and is tried again
// soon; it does not keep the others from being known.
func (s *Session) readTrees(ctx context.Context, unread []*LoadBalancer) {
	var lacking []*LoadBalancer
	for _, lb := range unread {
		if err := s.readStates(ctx, lb); err != nil {
			s.logger.WarnContext(ctx, "reading a load balancer's tree failed", "loadBalancer", lb.ID, "error", err)
			continue
		}
		lb.tree.stale = false
		if s.needsSettings(*lb) {
			lacking = append(lacking, lb)
		}
	}
	if len(lacking) == 0 {
		return
	}
	settings, err := s.readSettings(ctx, lacking)
	if err != nil {
		s.logger.WarnContext(ctx, "reading the settings of load balancers failed", "count", len(lacking), "error", err)
	}
	for _, lb := range lacking {
		if err != nil {
			lb.tree.stale = true
			continue
		}
		settings.apply(lb)
		lb.TreeKnown = true
		lb.tree.settings, lb.tree.settingsAt = lb.Updated, s.clock.Now()
	}
}

func (s *Session) needsSettings(lb LoadBalancer) bool {
	if !lb.TreeKnown || lb.lacksSettings() {
		return true
	}
	aged := !s.clock.Now().Before(lb.tree.settingsAt.Add(s.Inventory().options.Sweep))
	return aged && lb.tree.settings != lb.Updated
}

// wireStates is the answer of the status call.
type wireStates struct {
	Statuses struct {
		LoadBalancer struct {
			Listeners []struct {
				wireListener
				Pools []wirePool `json:"pools"`
			} `json:"listeners"`
			Pools []wirePool `json:"pools"`
		} `json:"loadbalancer"`
	} `json:"statuses"`
}

// readStates reads the states of everything in a tree, and its members, in one call.
func (s *Session) readStates(ctx context.Context, lb *LoadBalancer) error {
	var answer wireStates
	if err := s.send(ctx, loadBalancerService, http.MethodGet, "lbaas/loadbalancers/"+lb.ID+"/status", nil, &answer); err != nil {
		return err
	}
	lb.mergeStates(answer)
	return nil
}

// mergeStates takes the shape of the tree, its states and its members from the status call, and keeps
// what that does not say.
func (lb *LoadBalancer) mergeStates(states wireStates) {
	before := *lb
	lb.Listeners, lb.Pools = nil, nil
	pools := slices.Clone(states.Statuses.LoadBalancer.Pools)
	for _, w := range states.Statuses.LoadBalancer.Listeners {
		listener := w.listener()
		if old, known := byID(before.Listeners, w.ID, func(l Listener) string { return l.ID }); known {
			listener = old
			listener.Name, listener.ProvisioningStatus, listener.OperatingStatus = w.Name, w.ProvisioningStatus, w.OperatingStatus
		}
		if listener.DefaultPoolID == "" && len(w.Pools) > 0 {
			listener.DefaultPoolID = w.Pools[0].ID
		}
		lb.Listeners = append(lb.Listeners, listener)
		pools = append(pools, w.Pools...)
	}
	for _, w := range pools {
		if _, known := byID(lb.Pools, w.ID, poolID); !known {
			old, _ := byID(before.Pools, w.ID, poolID)
			lb.Pools = append(lb.Pools, w.poolAfter(old))
		}
	}
	lb.sortTree()
}

func poolID(p Pool) string { return p.ID }

// poolAfter is the pool of a status call, with the settings it had before.
func (w wirePool) poolAfter(old Pool) Pool {
	pool := w.pool()
	pool.Protocol, pool.Method = cmp.Or(pool.Protocol, old.Protocol), cmp.Or(pool.Method, old.Method)
	if pool.Monitor != nil && old.Monitor != nil {
		monitor := *old.Monitor // the status call has its id and type only
		monitor.ID, monitor.Type = pool.Monitor.ID, pool.Monitor.Type
		pool.Monitor = &monitor
	}
	for n := range pool.Members {
		for _, before := range old.Members {
			if before.Address == pool.Members[n].Address && before.Port == pool.Members[n].Port {
				pool.Members[n].SubnetID = cmp.Or(pool.Members[n].SubnetID, before.SubnetID)
			}
		}
	}
	return pool
}

func byID[T any](list []T, id string, of func(T) string) (T, bool) {
	n := slices.IndexFunc(list, func(item T) bool { return of(item) == id })
	if n < 0 {
		var none T
		return none, false
	}
	return list[n], true
}

// treeSettings is the half of trees that the status call leaves out, by id.
type treeSettings struct {
	listeners map[string]wireListener
	pools     map[string]wirePool
	monitors  map[string]wireMonitor
}

// readSettings reads the settings of several trees at the price of one.
func (s *Session) readSettings(ctx context.Context, of []*LoadBalancer) (treeSettings, error) {
	settings := treeSettings{map[string]wireListener{}, map[string]wirePool{}, map[string]wireMonitor{}}
	within := func() url.Values {
		query := s.ofProject()
		if len(of) == 1 {
			query.Set("loadbalancer_id", of[0].ID)
		}
		return query
	}
	if err := gather(ctx, s, collection{loadBalancerService, "lbaas/listeners", "listeners", within()}, settings.listeners); err != nil {
		return settings, err
	}
	if err := gather(ctx, s, collection{loadBalancerService, "lbaas/pools", "pools", within()}, settings.pools); err != nil {
		return settings, err
	}
	if !slices.ContainsFunc(of, func(lb *LoadBalancer) bool { return lb.hasMonitors() }) {
		return settings, nil
	}
	return settings, gather(ctx, s, collection{loadBalancerService, "lbaas/healthmonitors", "healthmonitors", s.ofProject()}, settings.monitors)
}

// gather lists a collection into a map by id.
func gather[W interface{ identity() string }](ctx context.Context, s *Session, from collection, into map[string]W) error {
	return listPages(ctx, s, from, func(page []W) {
		for _, item := range page {
			into[item.identity()] = item
		}
	})
}

func (lb LoadBalancer) hasMonitors() bool {
	return slices.ContainsFunc(lb.Pools, func(p Pool) bool { return p.Monitor != nil })
}

// apply completes a tree. States and members stay as they are, since those are newer.
func (t treeSettings) apply(lb *LoadBalancer) {
	for n := range lb.Listeners {
		listener := &lb.Listeners[n]
		if w, found := t.listeners[listener.ID]; found {
			listener.Protocol, listener.Port = w.Protocol, w.Port
			listener.AllowedCIDRs, listener.DefaultPoolID = sorted(w.AllowedCIDRs), w.DefaultPoolID
		}
	}
	for n := range lb.Pools {
		pool := &lb.Pools[n]
		if w, found := t.pools[pool.ID]; found {
			pool.Protocol, pool.Method = w.Protocol, w.Method
		}
		if pool.Monitor == nil {
			continue
		}
		if w, found := t.monitors[pool.Monitor.ID]; found {
			pool.Monitor = w.monitor()
		}
	}
	sortListeners(lb.Listeners)
}
