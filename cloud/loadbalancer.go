package cloud

import (
	"cmp"
	"context"
	"net/http"
	"slices"
)

// The provisioning status of a load balancer and its parts while Octavia works on a change of ours.
const (
	pendingUpdate = "PENDING_UPDATE"
	pendingDelete = "PENDING_DELETE"
)

type wireLoadBalancer struct {
	wireOwned
	Name               string   `json:"name"`
	Description        string   `json:"description"`
	ProvisioningStatus string   `json:"provisioning_status"`
	OperatingStatus    string   `json:"operating_status"`
	VIPAddress         string   `json:"vip_address"`
	VIPPortID          string   `json:"vip_port_id"`
	VIPSubnetID        string   `json:"vip_subnet_id"`
	VIPNetworkID       string   `json:"vip_network_id"`
	Provider           string   `json:"provider"`
	FlavorID           string   `json:"flavor_id"`
	Tags               []string `json:"tags"`
	Updated            string   `json:"updated_at"`
	// Only ids, except in the answer to the creation of a whole tree.
	Listeners []wireListener `json:"listeners"`
	Pools     []wirePool     `json:"pools"`
}

type wireListener struct {
	wireOwned
	Name               string    `json:"name"`
	Protocol           string    `json:"protocol"`
	Port               int       `json:"protocol_port"`
	AllowedCIDRs       []string  `json:"allowed_cidrs"`
	DefaultPoolID      string    `json:"default_pool_id"`
	DefaultPool        *wirePool `json:"default_pool"` // in the answer to the creation of a whole tree
	ProvisioningStatus string    `json:"provisioning_status"`
	OperatingStatus    string    `json:"operating_status"`
}

type wirePool struct {
	wireOwned
	Name               string       `json:"name"`
	Protocol           string       `json:"protocol"`
	Method             string       `json:"lb_algorithm"`
	Monitor            *wireMonitor `json:"healthmonitor"`
	MonitorState       *wireMonitor `json:"health_monitor"` // what the status call names it
	Members            []wireMember `json:"members"`
	ProvisioningStatus string       `json:"provisioning_status"`
	OperatingStatus    string       `json:"operating_status"`
}

type wireMonitor struct {
	wireOwned
	Type           string `json:"type"`
	Delay          int    `json:"delay"`
	Timeout        int    `json:"timeout"`
	MaxRetries     int    `json:"max_retries"`
	MaxRetriesDown int    `json:"max_retries_down"`
}

type wireMember struct {
	ID                 string `json:"id"`
	Name               string `json:"name"`
	Address            string `json:"address"`
	Port               int    `json:"protocol_port"`
	SubnetID           string `json:"subnet_id"`
	ProvisioningStatus string `json:"provisioning_status"`
	OperatingStatus    string `json:"operating_status"`
}

// summary is the load balancer without its tree.
func (w wireLoadBalancer) summary() LoadBalancer {
	return LoadBalancer{
		ID: w.ID, Name: w.Name, Mark: ParseMark(w.Description), ProvisioningStatus: w.ProvisioningStatus,
		OperatingStatus: w.OperatingStatus, VIPAddress: w.VIPAddress, VIPPortID: w.VIPPortID,
		VIPSubnetID: w.VIPSubnetID, VIPNetworkID: w.VIPNetworkID, Provider: w.Provider, FlavorID: w.FlavorID,
		Tags: sorted(w.Tags), Created: w.Created.Time, Updated: w.Updated,
	}
}

func (w wireListener) listener() Listener {
	listener := Listener{
		ID: w.ID, Name: w.Name, Protocol: w.Protocol, Port: w.Port, AllowedCIDRs: sorted(w.AllowedCIDRs),
		DefaultPoolID: w.DefaultPoolID, ProvisioningStatus: w.ProvisioningStatus, OperatingStatus: w.OperatingStatus,
	}
	if listener.DefaultPoolID == "" && w.DefaultPool != nil {
		listener.DefaultPoolID = w.DefaultPool.ID
	}
	return listener
}

func (w wirePool) pool() Pool {
	pool := Pool{
		ID: w.ID, Name: w.Name, Protocol: w.Protocol, Method: w.Method,
		ProvisioningStatus: w.ProvisioningStatus, OperatingStatus: w.OperatingStatus,
	}
	if monitor := cmp.Or(w.Monitor, w.MonitorState); monitor != nil {
		pool.Monitor = monitor.monitor()
	}
	for _, member := range w.Members {
		pool.Members = append(pool.Members, Member(member))
	}
	sortMembers(pool.Members)
	return pool
}

func (w wireMonitor) monitor() *HealthMonitor {
	return &HealthMonitor{
		ID: w.ID, Type: w.Type, DelaySeconds: w.Delay, TimeoutSeconds: w.Timeout,
		MaxRetries: w.MaxRetries, MaxRetriesDown: w.MaxRetriesDown,
	}
}

type wireLoadBalancerRequest struct {
	Name         string                `json:"name,omitempty"`
	Description  string                `json:"description,omitempty"`
	VIPSubnetID  string                `json:"vip_subnet_id,omitempty"`
	VIPNetworkID string                `json:"vip_network_id,omitempty"`
	VIPAddress   string                `json:"vip_address,omitempty"`
	Provider     string                `json:"provider,omitempty"`
	FlavorID     string                `json:"flavor_id,omitempty"`
	Zone         string                `json:"availability_zone,omitempty"`
	Tags         []string              `json:"tags,omitempty"`
	Listeners    []wireListenerRequest `json:"listeners,omitempty"`
}

type wireListenerRequest struct {
	LoadBalancerID string          `json:"loadbalancer_id,omitempty"`
	Name           string          `json:"name,omitempty"`
	Protocol       string          `json:"protocol"`
	Port           int             `json:"protocol_port"`
	AllowedCIDRs   []string        `json:"allowed_cidrs,omitempty"`
	DefaultPool    wirePoolRequest `json:"default_pool"`
}

type wirePoolRequest struct {
	Name     string              `json:"name,omitempty"`
	Protocol string              `json:"protocol"`
	Method   string              `json:"lb_algorithm"`
	Members  []wireMemberRequest `json:"members,omitempty"`
	Monitor  *wireMonitorRequest `json:"healthmonitor,omitempty"`
}

type wireMonitorRequest struct {
	Type           string `json:"type"`
	Delay          int    `json:"delay"`
	Timeout        int    `json:"timeout"`
	MaxRetries     int    `json:"max_retries"`
	MaxRetriesDown int    `json:"max_retries_down,omitempty"`
}

type wireMemberRequest struct {
	Name     string `json:"name,omitempty"`
	Address  string `json:"address"`
	Port     int    `json:"protocol_port"`
	SubnetID string `json:"subnet_id,omitempty"`
}

func wireListenerOf(request ListenerRequest) wireListenerRequest {
	pool := wirePoolRequest{
		Name: request.Pool.Name, Protocol: request.Pool.Protocol, Method: request.Pool.Method,
		Members: wireMembersOf(request.Pool.Members),
	}
	if monitor := request.Pool.Monitor; monitor != nil {
		pool.Monitor = &wireMonitorRequest{
			Type: monitor.Type, Delay: monitor.DelaySeconds, Timeout: monitor.TimeoutSeconds,
			MaxRetries: monitor.MaxRetries, MaxRetriesDown: monitor.MaxRetriesDown,
		}
	}
	return wireListenerRequest{
		Name: request.Name, Protocol: request.Protocol, Port: request.Port,
		AllowedCIDRs: request.AllowedCIDRs, DefaultPool: pool,
	}
}

func wireMembersOf(requests []MemberRequest) []wireMemberRequest {
	out := make([]wireMemberRequest, 0, len(requests))
	for _, request := range requests {
		out = append(out, wireMemberRequest(request))
	}
	return out
}

// CreateLoadBalancer begins to create a load balancer with its whole tree.
func (s *Session) CreateLoadBalancer(ctx context.Context, request LoadBalancerRequest) (LoadBalancer, error) {
	wanted := wireLoadBalancerRequest{
		Name: request.Name, Description: request.Mark.String(), VIPSubnetID: request.VIPSubnetID,
		VIPNetworkID: request.VIPNetworkID, VIPAddress: request.VIPAddress, Provider: request.Provider,
		FlavorID: request.FlavorID, Zone: request.Zone, Tags: request.Tags,
	}
	for _, listener := range request.Listeners {
		wanted.Listeners = append(wanted.Listeners, wireListenerOf(listener))
	}
	var answer struct{ LoadBalancer wireLoadBalancer }
	body := map[string]any{"loadbalancer": wanted}
	if err := s.create(ctx, KindLoadBalancer, loadBalancerService, "lbaas/loadbalancers", body, &answer); err != nil {
		return LoadBalancer{}, err
	}
	made := answer.LoadBalancer.createdTree(s.clock.Now())
	s.Inventory().created(made)
	return made, nil
}

// GetLoadBalancer asks for one load balancer. Its tree is as the inventory knows it.
func (s *Session) GetLoadBalancer(ctx context.Context, id string) (LoadBalancer, error) {
	var answer struct{ LoadBalancer wireLoadBalancer }
	if err := s.send(ctx, loadBalancerService, http.MethodGet, "lbaas/loadbalancers/"+id, nil, &answer); err != nil {
		return LoadBalancer{}, err
	}
	seen := answer.LoadBalancer.summary()
	if old, known := s.Inventory().Snapshot().LoadBalancer(id); known {
		seen = seen.withTreeOf(old)
		seen.tree.stale = seen.tree.stale || seen.differsFrom(old)
	}
	s.Inventory().observed(seen)
	return seen, nil
}

// DeleteLoadBalancer begins to delete a load balancer with its whole tree.
func (s *Session) DeleteLoadBalancer(ctx context.Context, id string) error {
	stays, err := s.removeSlowly(ctx, KindLoadBalancer, loadBalancerService, "lbaas/loadbalancers/"+id+"?cascade=true")
	if err != nil {
		return err
	}
	if !stays {
		s.Inventory().deleted(KindLoadBalancer, id)
		return nil
	}
	s.changing(id, func(lb *LoadBalancer) { lb.ProvisioningStatus = pendingDelete })
	return nil
}

// FailoverLoadBalancer begins to replace what a load balancer runs on. Most clouds leave that to
// administrators.
func (s *Session) FailoverLoadBalancer(ctx context.Context, id string) error {
	if err := s.send(ctx, loadBalancerService, http.MethodPut, "lbaas/loadbalancers/"+id+"/failover", nil, nil); err != nil {
		return err
	}
	s.changing(id, func(*LoadBalancer) {})
	return nil
}

// CreateListener begins to add a listener, with the pool behind it, to a load balancer.
func (s *Session) CreateListener(ctx context.Context, loadBalancerID string, request ListenerRequest) (Listener, error) {
	wanted := wireListenerOf(request)
	wanted.LoadBalancerID = loadBalancerID
	var answer struct{ Listener wireListener }
	if err := s.create(ctx, KindLoadBalancer, loadBalancerService, "lbaas/listeners", map[string]any{"listener": wanted}, &answer); err != nil {
		return Listener{}, err
	}
	made := answer.Listener.listener()
	s.changing(loadBalancerID, func(lb *LoadBalancer) {
		lb.Listeners = append(slices.Clone(lb.Listeners), made)
		sortListeners(lb.Listeners)
	})
	return made, nil
}

// DeleteListener begins to delete a listener. Its pool stays: see [Session.DeletePool].
func (s *Session) DeleteListener(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindLoadBalancer, loadBalancerService, "lbaas/listeners/"+id); err != nil {
		return err
	}
	is := func(l Listener) bool { return l.ID == id }
	s.changingWhere(func(lb LoadBalancer) bool { return slices.ContainsFunc(lb.Listeners, is) }, func(lb *LoadBalancer) {
		lb.Listeners = slices.DeleteFunc(slices.Clone(lb.Listeners), is)
	})
	return nil
}

// DeletePool begins to delete a pool with its members.
func (s *Session) DeletePool(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindLoadBalancer, loadBalancerService, "lbaas/pools/"+id); err != nil {
		return err
	}
	is := func(p Pool) bool { return p.ID == id }
	s.changingWhere(hasPool(id), func(lb *LoadBalancer) { lb.Pools = slices.DeleteFunc(slices.Clone(lb.Pools), is) })
	return nil
}

func hasPool(id string) func(LoadBalancer) bool {
	return func(lb LoadBalancer) bool {
		return slices.ContainsFunc(lb.Pools, func(p Pool) bool { return p.ID == id })
	}
}

// UpdateListenerAllowedCIDRs replaces the addresses that may use a listener; none means all.
func (s *Session) UpdateListenerAllowedCIDRs(ctx context.Context, listenerID string, cidrs []string) error {
	body := map[string]any{"listener": map[string]any{"allowed_cidrs": present(cidrs)}}
	if err := s.send(ctx, loadBalancerService, http.MethodPut, "lbaas/listeners/"+listenerID, body, nil); err != nil {
		return err
	}
	is := func(l Listener) bool { return l.ID == listenerID }
	s.changingWhere(func(lb LoadBalancer) bool { return slices.ContainsFunc(lb.Listeners, is) }, func(lb *LoadBalancer) {
		lb.Listeners = slices.Clone(lb.Listeners)
		lb.Listeners[slices.IndexFunc(lb.Listeners, is)].AllowedCIDRs = sorted(cidrs)
	})
	return nil
}

// SetPoolMembers begins to replace all members of a pool. Those whose address and port stay, stay.
func (s *Session) SetPoolMembers(ctx context.Context, poolID string, members []MemberRequest) error {
	body := map[string]any{"members": wireMembersOf(members)}
	if err := s.send(ctx, loadBalancerService, http.MethodPut, "lbaas/pools/"+poolID+"/members", body, nil); err != nil {
		return err
	}
	s.changingWhere(hasPool(poolID), func(lb *LoadBalancer) {
		lb.Pools = slices.Clone(lb.Pools)
		for n := range lb.Pools {
			if lb.Pools[n].ID == poolID {
				lb.Pools[n].Members = membersAfter(lb.Pools[n].Members, members)
			}
		}
	})
	return nil
}

// membersAfter are the members of a pool once Octavia has made the wanted set of them. The ids of
// new ones are known when the tree has been read again.
func membersAfter(before []Member, wanted []MemberRequest) []Member {
	var out []Member
	for _, request := range wanted {
		member := Member{Name: request.Name, Address: request.Address, Port: request.Port, SubnetID: request.SubnetID, ProvisioningStatus: pendingUpdate}
		for _, old := range before {
			if old.Address == request.Address && old.Port == request.Port {
				member = old
			}
		}
		out = append(out, member)
	}
	sortMembers(out)
	return out
}

// changing notes a change of ours that Octavia has begun to make.
func (s *Session) changing(id string, change func(*LoadBalancer)) {
	amend(s.Inventory(), id, func(lb *LoadBalancer) {
		lb.ProvisioningStatus = pendingUpdate
		lb.tree.stale = true
		change(lb)
	})
}

func (s *Session) changingWhere(is func(LoadBalancer) bool, change func(*LoadBalancer)) {
	if lb, found := search(s.Inventory().Snapshot(), is); found {
		s.changing(lb.ID, change)
	}
}
