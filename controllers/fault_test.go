package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// creating makes a cluster of one control-plane machine and one worker.
func (w *world) creating(namespace, name string) {
	w.addCluster(namespace, name)
	w.addMachine(namespace, name, name+"-cp-0", controlPlane)
	w.addMachine(namespace, name, name+"-worker-0")
}

// undisturbed is what the cloud holds after a creation during which nothing went wrong.
func undisturbed(t *testing.T) simulator.ObjectCount {
	t.Helper()
	w := newWorld(t)
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)
	return w.sim.Objects().Total
}

func assertSame(t *testing.T, w *world, want simulator.ObjectCount) {
	t.Helper()
	if have := w.sim.Objects().Total; !maps.Equal(have, want) {
		t.Errorf("the cloud holds\n%v, undisturbed it would hold\n%v\n%s", have, want, w.describe())
	}
}

// posts are the calls that create something.
var posts = []struct{ service, path string }{
	{"network", "/v2.0/networks"},
	{"network", "/v2.0/subnets"},
	{"network", "/v2.0/routers"},
	{"network", "/v2.0/security-groups"},
	{"network", "/v2.0/security-group-rules"},
	{"network", "/v2.0/ports"},
	{"network", "/v2.0/floatingips"},
	{"load-balancer", "/v2.0/lbaas/loadbalancers"},
	{"compute", "/v2.1/servers"},
	{"compute", "/v2.1/os-server-groups"},
}

func TestLostFirstReplyOfEveryPostMakesNoDuplicate(t *testing.T) {
	want := undisturbed(t)
	for _, post := range posts {
		for _, fault := range []simulator.Fault{
			{Name: "took-effect-then-502", AfterEffect: true, Status: http.StatusBadGateway},
			{Name: "took-effect-then-reset", AfterEffect: true, Reset: true},
			{Name: "took-effect-then-hang", AfterEffect: true, Hang: true},
			{Name: "503", Status: http.StatusServiceUnavailable},
			{Name: "409", Status: http.StatusConflict},
			{Name: "429", Status: http.StatusTooManyRequests, RetryAfterSeconds: 3},
		} {
			t.Run("create"+post.path+"#1/"+fault.Name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				if fault.Hang {
					w.patience = time.Second
					w.start()
				}
				fault.Service, fault.Method, fault.Path = post.service, http.MethodPost, post.path
				w.must(w.sim.AddFault(fault))
				w.creating("tenant", "one")
				w.run("all ready", 30*time.Minute, w.allReady)
				w.pass(time.Minute)
				assertStruck(t, w)
				assertSame(t, w, want)
				w.removeAll()
				w.run("all gone", 30*time.Minute, w.allGone)
				assertNothingLeft(t, w)
			})
		}
	}
}

// A lost reply is harmless as long as the next listing shows the object. Here none does for a while.
func TestLostReplyMakesNoDuplicateWhileTheCloudCannotBeListed(t *testing.T) {
	want := undisturbed(t)
	for _, post := range posts {
		t.Run("create"+post.path, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.must(w.sim.AddFault(simulator.Fault{Name: "lost", Service: post.service, Method: http.MethodPost, Path: post.path, AfterEffect: true, Status: http.StatusBadGateway}))
			w.must(w.sim.AddFault(simulator.Fault{Name: "unlisted", Service: post.service, Method: http.MethodGet, Path: post.path + "*", Skip: 2, Times: 8, Status: http.StatusInternalServerError}))
			w.creating("tenant", "one")
			w.run("all ready", time.Hour, w.allReady)
			w.pass(time.Minute)
			assertSame(t, w, want)
		})
	}
}

func TestLostFirstReplyOfEveryKindOfPostAtOnceMakesNoDuplicate(t *testing.T) {
	want := undisturbed(t)
	w := newWorld(t)
	for _, post := range posts {
		w.must(w.sim.AddFault(simulator.Fault{Name: post.path, Service: post.service, Method: http.MethodPost, Path: post.path, AfterEffect: true, Status: http.StatusBadGateway}))
	}
	w.creating("tenant", "one")
	w.run("all ready", 30*time.Minute, w.allReady)
	w.pass(time.Minute)
	assertStruck(t, w)
	assertSame(t, w, want)
	w.removeAll()
	w.run("all gone", 30*time.Minute, w.allGone)
	assertNothingLeft(t, w)
}

// killWithin lets the manager die with one of its next n calls, chosen by chance. It returns when that has happened, or when there
// was nothing left to call for.
func (w *world) killWithin(rng *rand.Rand, n int, settled func() bool) bool {
	number := w.requests.Load() + 1 + rng.Int64N(int64(n))
	fatal := at(number, killed())
	w.plan.Store(&fatal)
	w.run("the manager is killed", time.Hour, func() bool { return w.requests.Load() >= number || settled() })
	w.plan.Store(nil)
	return w.requests.Load() >= number
}

func TestKillingTheManagerAtTenRandomMomentsChangesNothing(t *testing.T) {
	want := undisturbed(t)
	for seed := range uint64(6) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			w.creating("tenant", "one")
			kills := 0
			for range 5 {
				if w.killWithin(rng, 25, w.allReady) {
					kills++
				}
			}
			w.run("all ready", 30*time.Minute, w.allReady)
			w.pass(time.Minute)
			assertSame(t, w, want)
			w.removeAll()
			for range 5 {
				if w.killWithin(rng, 12, w.allGone) {
					kills++
				}
			}
			w.run("all gone", 30*time.Minute, w.allGone)
			assertNothingLeft(t, w)
			if kills < 6 {
				t.Errorf("the manager was killed %d times only", kills)
			}
		})
	}
}

func TestLostStatusIsFoundAgainWithoutAnyWrite(t *testing.T) {
	w := newWorld(t)
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)
	before := w.sim.Objects().Total
	ctx := context.Background()
	for _, c := range w.clusters() {
		c.Status = emptyClusterStatus
		w.must(w.client.Status().Update(ctx, &c))
	}
	for _, m := range w.machines() {
		m.Status = emptyMachineStatus
		w.must(w.client.Status().Update(ctx, &m))
	}
	w.resetCalls()
	w.start()
	w.run("all ready again", 10*time.Minute, func() bool {
		return w.allReady() && w.cluster("tenant", "one").Status.Network.ID != "" && w.machine("tenant", "one-cp-0").Status.Server.ID != ""
	})
	assertSame(t, w, before)
	for _, row := range w.sim.Calls() {
		if row.Method != http.MethodGet && row.Path != "/v3/auth/tokens" {
			t.Errorf("a write after the status was lost: %s %s", row.Method, row.Path)
		}
	}
}

func TestClustersWithConfusableNamesShareNothing(t *testing.T) {
	w := newWorld(t)
	names := [][2]string{{"a-b", "c"}, {"a", "b-c"}, {"x", "same"}, {"y", "same"}}
	for _, n := range names {
		w.creating(n[0], n[1])
	}
	w.run("all ready", 20*time.Minute, w.allReady)
	seen := map[string]string{}
	for _, c := range w.clusters() {
		owner := c.Namespace + "/" + c.Name
		for _, id := range []string{c.Status.Network.ID, c.Status.Network.RouterID, c.Status.Network.WorkerSecurityGroupID, c.Status.Network.ControlPlaneSecurityGroupID, c.Status.Endpoint.LoadBalancerID, c.Status.Endpoint.FloatingIPID} {
			if other, taken := seen[id]; taken || id == "" {
				t.Errorf("%s and %s share %q", owner, other, id)
			}
			seen[id] = owner
		}
	}
	want := undisturbed(t)
	first := w.cluster("a-b", "c")
	for _, m := range w.machines() {
		if m.Namespace == "a-b" {
			w.remove(&m)
		}
	}
	w.remove(first)
	w.run("the first gone", 10*time.Minute, func() bool { return len(w.clusters()) == 3 })
	w.pass(time.Minute)
	if have := w.sim.Objects().Total; have["servers"] != 3*want["servers"] || have["networks"] != 3*want["networks"] || have["loadbalancers"] != 3*want["loadbalancers"] {
		t.Errorf("deleting one cluster touched others: %v", have)
	}
	if !w.allReady() {
		t.Errorf("the others are not ready:\n%s", w.describe())
	}
}

var (
	emptyClusterStatus infrav1.SendanClusterStatus
	emptyMachineStatus infrav1.SendanMachineStatus
)

// assertStruck makes sure that every fault has met its call; a test without its fault proves nothing.
func assertStruck(t *testing.T, w *world) {
	t.Helper()
	answer, err := http.Get(w.url + "/_simulator/faults")
	w.must(err)
	defer func() { _ = answer.Body.Close() }()
	var body struct {
		Faults []struct {
			Name string `json:"name"`
			Hit  int    `json:"hit"`
		} `json:"faults"`
	}
	w.must(json.NewDecoder(answer.Body).Decode(&body))
	if len(body.Faults) == 0 {
		t.Error("there are no faults")
	}
	for _, f := range body.Faults {
		if f.Hit == 0 {
			t.Errorf("fault %s never struck", f.Name)
		}
	}
}
