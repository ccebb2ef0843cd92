package simulator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// listsOfTheCloud show everything that a project's user and an administrator see.
var listsOfTheCloud = []string{
	"/compute/v2.1/servers/detail", "/compute/v2.1/os-server-groups", "/compute/v2.1/os-keypairs", "/compute/v2.1/limits",
	"/compute/v2.1/os-hypervisors/detail", "/network/v2.0/networks", "/network/v2.0/subnets", "/network/v2.0/routers", "/network/v2.0/ports",
	"/network/v2.0/security-groups", "/network/v2.0/security-group-rules", "/network/v2.0/floatingips", "/network/v2.0/trunks",
	"/load-balancer/v2/lbaas/loadbalancers", "/load-balancer/v2/lbaas/listeners", "/load-balancer/v2/lbaas/pools",
	"/load-balancer/v2/lbaas/healthmonitors", "/image/v2/images",
}

// view is every list as two users see it.
func view(sessions ...*session) string {
	var b strings.Builder
	for _, s := range sessions {
		volumes := "/volume/v3/" + s.projectID() + "/volumes/detail"
		for _, path := range append(slices.Clone(listsOfTheCloud), volumes) {
			a := s.request("GET", path, "", "X-OpenStack-Nova-API-Version: 2.90")
			fmt.Fprintf(&b, "%s %d\n%s\n", path, a.status, strings.ReplaceAll(a.body, s.url, ""))
		}
	}
	return b.String()
}

// projectID is the project of the session's token.
func (s *session) projectID() string {
	s.t.Helper()
	var answer struct {
		Token struct{ Project struct{ ID string } }
	}
	a := s.request("GET", "/identity/v3/auth/tokens", "", "X-Subject-Token: "+s.provider.Token())
	if err := json.Unmarshal([]byte(a.body), &answer); err != nil {
		s.t.Fatal(err)
	}
	return answer.Token.Project.ID
}

// restarted is the cloud as another process has it after a restart.
func (c *testCloud) restarted(backend simulator.NodeBackend) *testCloud {
	c.t.Helper()
	snapshot, err := c.sim.Snapshot()
	if err != nil {
		c.t.Fatal(err)
	}
	return newTestCloud(c.t, func(opts *simulator.Options) {
		opts.Clock, opts.Backend, opts.Snapshot = c.clock, backend, snapshot
	}).withClockOf(c)
}

func (c *testCloud) withClockOf(other *testCloud) *testCloud {
	c.clock = other.clock
	return c
}

// in is the same session with another cloud, with the token it has.
func (s *session) in(c *testCloud) *session { return &session{testCloud: c, provider: s.provider} }

// busy does something random with the cloud; what is refused is refused alike everywhere.
func (s *session) busy(random *rand.Rand, step int) {
	s.t.Helper()
	post := func(path, body string, args ...any) {
		s.request("POST", path, fmt.Sprintf(body, args...), "Content-Type: application/json", "X-OpenStack-Nova-API-Version: 2.90")
	}
	anyOf := func(path, collection string) string {
		var list map[string]json.RawMessage
		var items []struct{ ID string }
		if json.Unmarshal([]byte(s.request("GET", path, "").body), &list) != nil || json.Unmarshal(list[collection], &items) != nil || len(items) == 0 {
			return "none"
		}
		return items[random.IntN(len(items))].ID
	}
	network := func() string { return anyOf("/network/v2.0/networks?name=net", "networks") }
	subnet := func() string { return anyOf("/network/v2.0/subnets?ip_version=4&cidr=10.0.0.0/16", "subnets") }
	port := func() string { return anyOf("/network/v2.0/ports?device_owner=", "ports") }
	server := func() string { return anyOf("/compute/v2.1/servers", "servers") }
	volumes := "/volume/v3/" + s.projectID() + "/volumes"
	volume := func() string { return anyOf(volumes, "volumes") }
	balancer := func() string { return anyOf("/load-balancer/v2/lbaas/loadbalancers", "loadbalancers") }
	flavor, image := s.flavor("m1.small"), s.image(nodeImage)
	action := func(body string) { post("/compute/v2.1/servers/"+server()+"/action", "%s", body) }
	actions := []func(){
		func() { post("/network/v2.0/ports", `{"port":{"network_id":%q,"name":"p%d"}}`, network(), step) },
		func() {
			post("/network/v2.0/security-groups", `{"security_group":{"name":"g%d"}}`, step)
		},
		func() {
			post("/network/v2.0/floatingips", `{"floatingip":{"floating_network_id":%q}}`, anyOf("/network/v2.0/networks?name=public", "networks"))
		},
		func() {
			s.request("PUT", "/network/v2.0/floatingips/"+anyOf("/network/v2.0/floatingips", "floatingips"), fmt.Sprintf(`{"floatingip":{"port_id":%q}}`, port()))
		},
		func() {
			post("/compute/v2.1/os-server-groups", `{"server_group":{"name":"sg%d","policies":["soft-anti-affinity"]}}`, step)
		},
		func() { post("/compute/v2.1/os-keypairs", `{"keypair":{"name":"k%d"}}`, step) },
		func() { post(volumes, `{"volume":{"size":2,"name":"v%d"}}`, step) },
		func() {
			post("/compute/v2.1/servers", `{"server":{"name":"s%d","flavorRef":%q,"imageRef":%q,"networks":[{"port":%q}],"tags":["t"],"metadata":{"a":"b"},"user_data":"eA=="},
				"os:scheduler_hints":{"group":%q}}`, step, flavor, image, port(), anyOf("/compute/v2.1/os-server-groups", "server_groups"))
		},
		func() {
			post("/compute/v2.1/servers", `{"server":{"name":"n%d","flavorRef":%q,"imageRef":%q,"networks":[{"uuid":%q}]}}`, step, flavor, image, network())
		},
		func() { action(`{"os-stop":null}`) },
		func() { action(`{"os-start":null}`) },
		func() { action(`{"reboot":{"type":"HARD"}}`) },
		func() { action(fmt.Sprintf(`{"rebuild":{"imageRef":%q}}`, image)) },
		func() {
			post("/compute/v2.1/servers/"+server()+"/os-volume_attachments", `{"volumeAttachment":{"volumeId":%q}}`, volume())
		},
		func() { s.request("DELETE", "/compute/v2.1/servers/"+server()+"/os-volume_attachments/"+volume(), "") },
		func() { s.request("DELETE", "/compute/v2.1/servers/"+server(), "") },
		func() { s.request("DELETE", "/network/v2.0/ports/"+port(), "") },
		func() { s.request("DELETE", volumes+"/"+volume(), "") },
		func() {
			post("/load-balancer/v2/lbaas/loadbalancers", `{"loadbalancer":{"name":"lb%d","vip_subnet_id":%q,"listeners":[{"name":"l","protocol":"TCP","protocol_port":6443,
				"default_pool":{"name":"p","protocol":"TCP","lb_algorithm":"ROUND_ROBIN","members":[{"address":"10.0.0.9","protocol_port":6443}],
				"healthmonitor":{"type":"TCP","delay":5,"timeout":2,"max_retries":2}}}]}}`, step, subnet())
		},
		func() {
			post("/load-balancer/v2/lbaas/pools/"+anyOf("/load-balancer/v2/lbaas/pools", "pools")+"/members", `{"member":{"address":"10.0.1.%d","protocol_port":6443}}`, step%250+1)
		},
		func() { s.request("DELETE", "/load-balancer/v2/lbaas/loadbalancers/"+balancer()+"?cascade=true", "") },
		func() { s.advance(time.Duration(random.IntN(3000)) * time.Millisecond) },
		func() { s.advance(time.Duration(random.IntN(3000)) * time.Millisecond) },
	}
	actions[random.IntN(len(actions))]()
}

// busyCloud is a cloud in the middle of many things.
func busyCloud(t *testing.T, seed uint64) (cloud *testCloud, demo, admin *session) {
	t.Helper()
	cloud = newTestCloud(t)
	demo, admin = cloud.demo(), cloud.login("admin", "admin")
	net := demo.network()
	demo.request("POST", "/network/v2.0/routers", fmt.Sprintf(`{"router":{"name":"r","external_gateway_info":{"network_id":%q}}}`, demo.idOf("/network/v2.0/networks", "networks", "public")))
	router := demo.idOf("/network/v2.0/routers", "routers", "r")
	var subnets struct{ Subnets []struct{ ID string } }
	if err := json.Unmarshal([]byte(demo.request("GET", "/network/v2.0/subnets?network_id="+net, "").body), &subnets); err != nil {
		t.Fatal(err)
	}
	demo.request("PUT", "/network/v2.0/routers/"+router+"/add_router_interface", fmt.Sprintf(`{"subnet_id":%q}`, subnets.Subnets[0].ID))
	admin.request("GET", "/network/v2.0/security-groups", "") // makes the default group
	random := rand.New(rand.NewPCG(seed, 7))
	for step := range 120 {
		demo.busy(random, step)
	}
	return cloud, demo, admin
}

// inTransition finds objects that are on their way into another state.
var inTransition = regexp.MustCompile(`PENDING_[A-Z]+|"BUILD"|"(creating|deleting|attaching|detaching)"|"OS-EXT-STS:task_state":"[^"]+"`)

// moments are the times in a list: what begins anew after a restart ends later.
var moments = regexp.MustCompile(`"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z?"`)

func TestARestartedCloudShowsTheSameObjectsAndReachesTheSameState(t *testing.T) {
	caught := 0
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			cloud, demo, admin := busyCloud(t, seed)
			again := cloud.restarted(nil)
			demoAgain, adminAgain := demo.in(again), admin.in(again)
			before := view(demo, admin)
			if after := view(demoAgain, adminAgain); after != before {
				t.Fatal(firstDifference(before, after))
			}
			caught += len(inTransition.FindAllString(before, -1))

			cloud.advance(aWhile)
			again.sim.Settle()
			want := moments.ReplaceAllString(view(demo, admin), "then")
			got := moments.ReplaceAllString(view(demoAgain, adminAgain), "then")
			if got != want {
				t.Error(firstDifference(want, got))
			}
			if stuck := inTransition.FindString(got); stuck != "" {
				t.Errorf("still %s after a minute", stuck)
			}
		})
	}
	if caught < 20 {
		t.Errorf("only %d objects were caught in transition: the scenario is not busy enough to prove anything", caught)
	}
}

func firstDifference(want, got string) string {
	wanted, gotten := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(wanted), len(gotten)) {
		if wanted[i] == gotten[i] {
			continue
		}
		at := 0
		for at < min(len(wanted[i]), len(gotten[i])) && wanted[i][at] == gotten[i][at] {
			at++
		}
		from := max(0, at-200)
		return fmt.Sprintf("%s: before\n…%s\nafter\n…%s", wanted[max(0, i-1)], cut(wanted[i], from), cut(gotten[i], from))
	}
	return "one has more lists"
}

func cut(text string, from int) string { return text[from:min(len(text), from+400)] }

func TestADetachmentGoesOnAfterARestart(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.create(s.serverOpts("one"), nil)
	volumes := "/volume/v3/" + s.projectID() + "/volumes"
	s.request("POST", volumes, `{"volume":{"size":1,"name":"data"}}`)
	s.advance(aWhile)
	volume := s.idOf(volumes, "volumes", "data")
	attachments := "/compute/v2.1/servers/" + id + "/os-volume_attachments"
	s.request("POST", attachments, `{"volumeAttachment":{"volumeId":"`+volume+`"}}`)
	s.advance(aWhile)
	if a := s.request("DELETE", attachments+"/"+volume, ""); a.status != http.StatusAccepted {
		t.Fatalf("detach: %d %s", a.status, a.body)
	}

	again := s.in(s.restarted(nil))
	if a := again.request("GET", volumes+"/"+volume, ""); !strings.Contains(a.body, `"status":"detaching"`) {
		t.Fatalf("the restart did not catch the volume while it was detached: %s", a.body)
	}
	again.advance(aWhile)
	if a := again.request("GET", volumes+"/"+volume, ""); !strings.Contains(a.body, `"status":"available"`) {
		t.Errorf("the volume is still %s", a.body)
	}
	if a := again.request("GET", attachments, ""); !strings.Contains(a.body, `"volumeAttachments":[]`) {
		t.Errorf("the server still has it: %s", a.body)
	}
}

func TestASnapshotOfARestoredCloudIsTheSame(t *testing.T) {
	cloud, _, _ := busyCloud(t, 3)
	first, err := cloud.sim.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	// The transitions that begin anew have taken their random numbers.
	second, err := cloud.restarted(nil).sim.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	random := regexp.MustCompile(`"random":"[^"]*"`)
	if one, two := random.ReplaceAll(first, nil), random.ReplaceAll(second, nil); !bytes.Equal(one, two) {
		t.Error(firstDifference(string(one), string(two)))
	}
}

func TestNewIDsAfterARestartAreNew(t *testing.T) {
	cloud := newTestCloud(t)
	s := cloud.demo()
	net := s.network()
	seen := map[string]bool{}
	for range 3 {
		for range 5 {
			id := s.port(net)
			if seen[id] {
				t.Fatalf("port %s was made twice", id)
			}
			seen[id] = true
		}
		s = s.in(s.restarted(nil))
	}
}

func TestATokenAndWhatAnAdministratorDidOutliveARestart(t *testing.T) {
	cloud := newTestCloud(t)
	s := cloud.demo()
	no := false
	host := cloud.sim.Hosts()[0].Name
	for _, err := range []error{
		cloud.sim.SetPassword("admin", "changed"),
		cloud.sim.SetQuota("demo", "instances", 3),
		cloud.sim.SetHost(host, simulator.HostChange{Up: &no}),
		cloud.sim.AddFault(simulator.Fault{Name: "twice", Service: "compute", Path: "/v2.1/servers", Method: "GET", Status: 503, Times: 2}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	cloud.sim.AddImage(simulator.Image{Name: "extra"})
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != http.StatusServiceUnavailable {
		t.Fatalf("the fault did not strike: %d", a.status)
	}

	again := s.in(cloud.restarted(nil))
	if a := again.request("GET", "/compute/v2.1/servers", ""); a.status != http.StatusServiceUnavailable {
		t.Errorf("the fault had one strike left, but the answer is %d", a.status)
	}
	if a := again.request("GET", "/compute/v2.1/servers", ""); a.status != http.StatusOK {
		t.Errorf("the fault strikes a third time, or the token is gone: %d", a.status)
	}
	if a := again.request("GET", "/compute/v2.1/limits", ""); !strings.Contains(a.body, `"maxTotalInstances":3`) {
		t.Errorf("the quota is lost: %s", a.body)
	}
	again.image("extra")
	if account, err := again.sim.Account("admin", "admin"); err != nil || account.Password != "changed" {
		t.Errorf("account %+v, error %v: want the changed password", account, err)
	}
	if again.sim.Hosts()[0].Up {
		t.Error("the host that went down is up")
	}
}

func TestEventsOfAScenarioHappenOnceOverRestarts(t *testing.T) {
	scenario := func(sc *simulator.Scenario) {
		sc.Events = []simulator.Event{{AtSeconds: 10, RevokeTokens: true}, {AtSeconds: 20, RevokeTokens: true}}
	}
	cloud := newTestCloud(t, withScenario(scenario))
	cloud.advance(11 * time.Second)
	s := cloud.demo()
	snapshot, err := cloud.sim.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	again := s.in(newTestCloud(t, withScenario(scenario), func(opts *simulator.Options) { opts.Clock, opts.Snapshot = cloud.clock, snapshot }))
	again.clock = cloud.clock
	if a := again.request("GET", "/compute/v2.1/servers", ""); a.status != http.StatusOK {
		t.Errorf("the first event happened again: %d", a.status)
	}
	again.advance(10 * time.Second)
	if a := again.request("GET", "/compute/v2.1/servers", ""); a.status != http.StatusUnauthorized {
		t.Errorf("the second event did not happen: %d", a.status)
	}
}

func TestAStuckLoadBalancerStaysStuckAndOthersGoOn(t *testing.T) {
	cloud, demo, _ := busyCloud(t, 1)
	demo.request("POST", "/load-balancer/v2/lbaas/loadbalancers", fmt.Sprintf(`{"loadbalancer":{"name":"stuck","vip_subnet_id":%q}}`,
		demo.idOf("/network/v2.0/subnets", "subnets", "")))
	demo.advance(aWhile)
	id := demo.idOf("/load-balancer/v2/lbaas/loadbalancers", "loadbalancers", "stuck")
	if err := cloud.sim.SetLoadBalancer(id, simulator.LoadBalancerChange{ProvisioningStatus: "PENDING_UPDATE"}); err != nil {
		t.Fatal(err)
	}
	again := demo.in(cloud.restarted(nil))
	again.advance(aWhile)
	if a := again.request("GET", "/load-balancer/v2/lbaas/loadbalancers/"+id, ""); !strings.Contains(a.body, `"provisioning_status":"PENDING_UPDATE"`) {
		t.Errorf("the stuck load balancer went on: %s", a.body)
	}
}

func TestASnapshotThatDoesNotFitIsRefused(t *testing.T) {
	cloud := newTestCloud(t)
	snapshot, err := cloud.sim.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		snapshot   []byte
		change     func(*simulator.Options)
	}{
		{"another format", "format 99", bytes.Replace(snapshot, []byte(`"format":1`), []byte(`"format":99`), 1), nil},
		{"another scenario", "another scenario", snapshot, withQuota("instances", 1)},
		{"another node backend", "another node backend", snapshot, func(opts *simulator.Options) { opts.Backend = newKeptNodes() }},
		{"half of it", "not a snapshot", snapshot[:len(snapshot)/2], nil},
		{"something else", "not a snapshot", []byte("hello"), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			scenario := simulator.DefaultScenario()
			opts := simulator.Options{Scenario: &scenario, Snapshot: c.snapshot}
			if c.change != nil {
				c.change(&opts)
			}
			sim, err := simulator.New(opts)
			if err == nil {
				sim.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, want one line with %q", err, c.want)
			}
		})
	}
}

// keptNodes is a backend whose servers outlive it.
type keptNodes struct {
	*recordedNodes
	mu     sync.Mutex
	booted map[string]bool
}

func newKeptNodes() *keptNodes {
	return &keptNodes{recordedNodes: newRecordedNodes(), booted: map[string]bool{}}
}

func (k *keptNodes) Boot(ctx context.Context, node simulator.Node) error {
	if k.has(node.ServerID) {
		return errors.New("it was booted before")
	}
	k.mu.Lock()
	k.booted[node.ServerID] = true
	k.mu.Unlock()
	return k.recordedNodes.Boot(ctx, node)
}

func (k *keptNodes) Destroy(ctx context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.booted, id)
	return k.recordedNodes.Destroy(ctx, id)
}

func (k *keptNodes) has(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.booted[id]
}

func (k *keptNodes) SaveServers() ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return json.Marshal(k.booted)
}

func (k *keptNodes) RestoreServers(saved []byte) ([]string, error) {
	if err := json.Unmarshal(saved, &k.booted); err != nil {
		return nil, err
	}
	var ids []string
	for id := range k.booted {
		ids = append(ids, id)
	}
	return ids, nil
}

func withKeptNodes(nodes *keptNodes) func(*simulator.Options) {
	return func(opts *simulator.Options) { opts.Backend = nodes }
}

func TestANodeThatBootedBeforeARestartIsNotBootedAgain(t *testing.T) {
	nodes := newKeptNodes()
	s := newTestCloud(t, withKeptNodes(nodes)).demo()
	running := s.create(s.serverOpts("running"), nil)
	s.advance(aWhile)
	s.eventuallyStatus(running, "ACTIVE")
	building := s.create(s.serverOpts("building"), nil)
	s.sim.Settle()

	later := newKeptNodes()
	again := s.in(s.restarted(later))
	again.expectStatus(building, "BUILD")
	again.advance(aWhile)
	again.eventuallyStatus(building, "ACTIVE")
	again.expectStatus(running, "ACTIVE")
	if log := later.log(); strings.Count(log, "boot") != 1 {
		t.Errorf("the backend was asked for %q, want one boot", log)
	}
}

func TestAServerWhoseNodeBootedJustBeforeTheRestartBecomesActive(t *testing.T) {
	nodes := newKeptNodes()
	reached, release := make(chan struct{}), make(chan struct{})
	nodes.boot = func(context.Context, simulator.Node) error {
		close(reached)
		<-release
		return nil
	}
	s := newTestCloud(t, withKeptNodes(nodes)).demo()
	id := s.create(s.serverOpts("one"), nil)
	s.advance(aWhile)
	<-reached
	// The node is there; the cloud has not heard of it yet.
	again := s.in(s.restarted(newKeptNodes()))
	close(release)
	again.advance(aWhile)
	again.eventuallyStatus(id, "ACTIVE")
}

func TestADeletionGoesOnAfterARestartAndTakesTheNodeAlong(t *testing.T) {
	nodes := newKeptNodes()
	s := newTestCloud(t, withKeptNodes(nodes)).demo()
	id := s.create(s.serverOpts("one"), nil)
	s.advance(aWhile)
	s.eventuallyStatus(id, "ACTIVE")
	if a := s.request("DELETE", "/compute/v2.1/servers/"+id, ""); a.status != http.StatusNoContent {
		t.Fatalf("delete: %d", a.status)
	}
	later := newKeptNodes()
	again := s.in(s.restarted(later))
	again.advance(aWhile)
	again.eventually("node destroyed", func() bool { return !later.has(id) })
	again.eventually("server gone", func() bool {
		return again.request("GET", "/compute/v2.1/servers/"+id, "").status == http.StatusNotFound
	})
}

func TestALoadBalancerListensAgainAfterARestart(t *testing.T) {
	cloud := startNetworkCloud(t)
	f := forward(cloud, true, nil, loopback(greet(t, "a")))
	cloud.pass(settled)
	cloud.sim.Close()
	snapshot, err := cloud.sim.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := call(f.address); err == nil {
		t.Fatal("a cloud that was closed takes connections")
	}
	startNetworkCloud(t, func(opts *simulator.Options) { opts.Clock, opts.Snapshot = cloud.clock, snapshot })
	c, greeting, err := call(f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if greeting != "a" {
		t.Errorf("%q answers", greeting)
	}
}
