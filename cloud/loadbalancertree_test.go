package cloud

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// balancer puts an API load balancer of cluster c1 and its tree into the cloud.
func (c *storeCloud) balancer(id, status, updated string) {
	c.put(loadBalancersPath, fields{
		"id": id, "name": id, "description": Mark{Cluster: "c1", Role: "api"}.String(), "provisioning_status": status,
		"operating_status": "ONLINE", "updated_at": updated, "listeners": []fields{{"id": "l-" + id}}, "pools": []fields{{"id": "p-" + id}},
	})
	c.put(listenersPath, fields{"id": "l-" + id, "loadbalancer_id": id, "protocol": "TCP", "protocol_port": 6443, "allowed_cidrs": []string{"10.0.0.0/8"}, "default_pool_id": "p-" + id})
	c.put(poolsPath, fields{"id": "p-" + id, "loadbalancer_id": id, "protocol": "TCP", "lb_algorithm": "SOURCE_IP_PORT", "healthmonitor_id": "h-" + id})
	c.put(monitorsPath, fields{"id": "h-" + id, "type": "TCP", "delay": 10, "timeout": 5, "max_retries": 3})
	c.states(id, "10.0.0.5")
}

// states sets the members that the status call of a load balancer shows.
func (c *storeCloud) states(id string, members ...string) {
	var shown []fields
	for _, address := range members {
		shown = append(shown, fields{"id": "m-" + address, "address": address, "protocol_port": 6443, "provisioning_status": "ACTIVE", "operating_status": "ONLINE"})
	}
	pool := fields{
		"id": "p-" + id, "name": "pool", "provisioning_status": "ACTIVE", "operating_status": "ONLINE",
		"health_monitor": fields{"id": "h-" + id, "type": "TCP", "provisioning_status": "ACTIVE"}, "members": shown,
	}
	c.answerJSON("GET "+loadBalancersPath+"/"+id+"/status", fields{"statuses": fields{"loadbalancer": fields{
		"id": id, "provisioning_status": "ACTIVE", "operating_status": "ONLINE", "pools": []fields{pool},
		"listeners": []fields{{"id": "l-" + id, "name": "listener", "provisioning_status": "ACTIVE", "operating_status": "ONLINE", "pools": []fields{pool}}},
	}}})
}

func wantTree(t *testing.T, s *Session, id, member string) {
	t.Helper()
	lb, found := s.Inventory().Snapshot().LoadBalancer(id)
	if !found || !lb.TreeKnown || len(lb.Listeners) != 1 || len(lb.Pools) != 1 || len(lb.Pools[0].Members) != 1 || lb.Pools[0].Monitor == nil {
		t.Fatalf("the tree of %s is not known: %+v", id, lb)
	}
	listener, pool := lb.Listeners[0], lb.Pools[0]
	if listener.Port != 6443 || listener.Protocol != "TCP" || len(listener.AllowedCIDRs) != 1 || listener.DefaultPoolID != pool.ID || listener.ProvisioningStatus != "ACTIVE" {
		t.Errorf("listener %+v", listener)
	}
	if pool.Protocol != "TCP" || pool.Method != "SOURCE_IP_PORT" || pool.Monitor.DelaySeconds != 10 || pool.Monitor.MaxRetries != 3 {
		t.Errorf("pool %+v, monitor %+v", pool, pool.Monitor)
	}
	if pool.Members[0].Address != member || pool.Members[0].OperatingStatus != "ONLINE" {
		t.Errorf("member %+v", pool.Members[0])
	}
}

func TestUnknownTreesAreReadAtThePriceOfTheirStates(t *testing.T) {
	cloud := newStoreCloud(t)
	for _, id := range []string{"a", "b", "c"} {
		cloud.balancer(id, "ACTIVE", "2026-03-01T11:00:00")
	}
	cloud.put(loadBalancersPath, fields{"id": "stranger", "provisioning_status": "ACTIVE"})
	session := cloud.session(func(o *Options) { o.Polling.Jitter = -1 })
	calls := cloud.callsDuring(func() { cloud.poll(t, session) })
	if want := 1 + len(allKinds()) + 3 + 3; calls != want {
		t.Errorf("%d calls, want %d: one per kind, one state each, and listeners, pools and monitors once", calls, want)
	}
	for _, id := range []string{"a", "b", "c"} {
		wantTree(t, session, id, "10.0.0.5")
	}
	if calls := cloud.callsDuring(func() { cloud.pollAfter(t, session, 10*time.Minute) }); calls != 5 {
		t.Errorf("%d calls when nothing has changed, want the lists of servers, ports, volumes, load balancers and security groups alone", calls)
	}
}

func TestTheTreeOfOneLoadBalancerIsAskedForAlone(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.balancer("a", "ACTIVE", "x")
	cloud.poller(t)
	if got := cloud.lastQuery(listenersPath); !strings.Contains(got, "loadbalancer_id=a") {
		t.Errorf("query %q", got)
	}
}

func TestALoadBalancerWeMakeCostsOneCallOnceItIsActive(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.answer("POST "+loadBalancersPath, func(w http.ResponseWriter, _ *http.Request) {
		cloud.balancer("a", "PENDING_CREATE", "")
		pool := fields{"id": "p-a", "protocol": "TCP", "lb_algorithm": "SOURCE_IP_PORT", "members": []fields{},
			"healthmonitor": fields{"id": "h-a", "type": "TCP", "delay": 10, "timeout": 5, "max_retries": 3}}
		writeJSON(w, http.StatusCreated, fields{"loadbalancer": fields{
			"id": "a", "description": Mark{Cluster: "c1", Role: "api"}.String(), "provisioning_status": "PENDING_CREATE", "vip_port_id": "vip",
			"listeners": []fields{{"id": "l-a", "protocol": "TCP", "protocol_port": 6443, "allowed_cidrs": []string{"10.0.0.0/8"}, "default_pool_id": "p-a"}}, "pools": []fields{pool},
		}})
	})
	made, err := session.CreateLoadBalancer(t.Context(), LoadBalancerRequest{Mark: ofC1})
	if err != nil || made.VIPPortID != "vip" || !made.TreeKnown {
		t.Fatalf("%+v, %v", made, err)
	}
	if calls := cloud.callsDuring(func() { cloud.pollAfter(t, session, 2*time.Second) }); calls != 1 {
		t.Errorf("%d calls while it is being created", calls)
	}
	cloud.balancer("a", "ACTIVE", "2026-03-01T12:00:03")
	if calls := cloud.callsDuring(func() { cloud.pollAfter(t, session, 2*time.Second) }); calls != 2 {
		t.Errorf("%d calls when it is active, want the list and its states", calls)
	}
	wantTree(t, session, "a", "10.0.0.5")
	if got := session.Inventory().NextPoll().Sub(cloud.fake.Now()); got < time.Minute {
		t.Errorf("a settled load balancer is polled in %s", got)
	}
}

func TestMembersWeSetAreKnownAtOnceAndConfirmedInOneCall(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.balancer("a", "ACTIVE", "x")
	session := cloud.poller(t)
	var heard []Change
	session.Inventory().Subscribe(func(changes []Change) { heard = append(heard, changes...) })
	cloud.answer("PUT "+poolsPath+"/p-a/members", func(w http.ResponseWriter, _ *http.Request) {
		cloud.balancer("a", "PENDING_UPDATE", "y")
		w.WriteHeader(http.StatusAccepted)
	})
	if err := session.SetPoolMembers(t.Context(), "p-a", []MemberRequest{{Address: "10.0.0.6", Port: 6443}}); err != nil {
		t.Fatal(err)
	}
	lb, _ := session.Inventory().Snapshot().LoadBalancer("a")
	if !lb.IsPending() || len(lb.Pools[0].Members) != 1 || lb.Pools[0].Members[0].Address != "10.0.0.6" {
		t.Errorf("right after the call: %+v", lb)
	}
	cloud.balancer("a", "ACTIVE", "z")
	cloud.states("a", "10.0.0.6")
	if calls := cloud.callsDuring(func() { cloud.pollAfter(t, session, 2*time.Second) }); calls != 2 {
		t.Errorf("%d calls, want the list and the states", calls)
	}
	wantTree(t, session, "a", "10.0.0.6")
	if len(heard) != 2 || heard[0].ID != "a" || heard[0].Mark.Cluster != "c1" {
		t.Errorf("heard %+v", heard)
	}
}

func TestWhatOthersChangeInATreeIsNoticedBySweep(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.balancer("a", "ACTIVE", "x")
	session := cloud.poller(t)
	cloud.balancer("a", "ACTIVE", "y")
	cloud.put(listenersPath, fields{"id": "l-a", "loadbalancer_id": "a", "protocol": "TCP", "protocol_port": 6443, "default_pool_id": "p-a"})
	cloud.pollAfter(t, session, 10*time.Minute)
	lb, _ := session.Inventory().Snapshot().LoadBalancer("a")
	if len(lb.Listeners[0].AllowedCIDRs) != 0 {
		t.Errorf("listener %+v", lb.Listeners[0])
	}
}

func TestATreeThatCannotBeReadIsTriedAgainAndKeepsNoOtherFromBeingKnown(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.balancer("a", "ACTIVE", "x")
	cloud.balancer("b", "ACTIVE", "x")
	cloud.answerStatus("GET "+loadBalancersPath+"/a/status", http.StatusInternalServerError)
	session := cloud.poller(t)
	wantTree(t, session, "b", "10.0.0.5")
	if lb, _ := session.Inventory().Snapshot().LoadBalancer("a"); lb.TreeKnown {
		t.Error("the tree is known although it could not be read")
	}
	cloud.states("a", "10.0.0.5")
	cloud.pollAfter(t, session, 2*time.Second)
	wantTree(t, session, "a", "10.0.0.5")
}

func TestAskingForOneLoadBalancerKeepsItsTree(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.balancer("a", "ACTIVE", "x")
	session := cloud.poller(t)
	cloud.answerJSON("GET "+loadBalancersPath+"/a", fields{"loadbalancer": fields{"id": "a", "description": Mark{Cluster: "c1", Role: "api"}.String(), "provisioning_status": "ERROR", "operating_status": "ERROR", "updated_at": "y"}})
	lb, err := session.GetLoadBalancer(t.Context(), "a")
	if err != nil || lb.ProvisioningStatus != "ERROR" || !lb.TreeKnown {
		t.Fatalf("%+v, %v", lb, err)
	}
	wantTree(t, session, "a", "10.0.0.5")
}
