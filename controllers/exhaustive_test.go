package controllers

import (
	"flag"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

var exhaustive = flag.Bool("exhaustive", false, "strike every call in every way, and not only some of them")

// stride is how many pairs of a call and a blow there are to one that is tried where not all are. It has no divisor in common with
// the number of blows, so that every blow and every call gets its turn.
const stride = 101

// endpoints are the ways to have an endpoint.
func endpoints() map[string]func(*infrav1.SendanCluster) {
	return map[string]func(*infrav1.SendanCluster){
		"load balancer": func(*infrav1.SendanCluster) {},
		"virtual IP": func(c *infrav1.SendanCluster) {
			c.Spec.Endpoint.VirtualIP = &infrav1.VirtualIPEndpoint{FloatingIP: infrav1.FloatingIP{Disabled: ptr.To(false)}}
		},
		"external": func(c *infrav1.SendanCluster) {
			c.Spec.Endpoint.External = &infrav1.ExternalEndpoint{}
			c.Spec.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "api.example.com", Port: 443}
		},
	}
}

// act is a part of a cluster's life. What it begins with was made undisturbed.
type act struct {
	name  string
	steps func(w *world, endpoint func(*infrav1.SendanCluster))
	// isFirst says that nothing is there before.
	isFirst bool
}

// limit is how long an act may take with one blow, on the fake clock.
const limit = 2 * time.Hour

func acts() []act {
	return []act{
		{name: "create", steps: create, isFirst: true},
		{name: "scale", steps: func(w *world, _ func(*infrav1.SendanCluster)) {
			w.addMachine("tenant", "one", "one-worker-1")
			w.addMachine("tenant", "one", "one-worker-2")
			w.run("scaled", limit, w.allReady)
		}},
		{name: "roll", steps: func(w *world, _ func(*infrav1.SendanCluster)) {
			w.replace("one-worker-0", "one-worker-1")
			w.replace("one-cp-0", "one-cp-1", controlPlane)
		}},
		{name: "repair", steps: func(w *world, _ func(*infrav1.SendanCluster)) {
			lost := w.machine("tenant", worker)
			w.must(w.sim.SetServer(lost.Status.Server.ID, simulator.ServerChange{Status: "ERROR", Fault: "the hypervisor fell over"}))
			w.run("told", limit, func() bool { return !isReady(w.machine("tenant", worker).Status.Conditions) })
			w.remove(lost) // as a MachineHealthCheck does: its MachineSet makes another at once
			w.addMachine("tenant", "one", "one-worker-1")
			w.run("repaired", limit, func() bool { return len(w.machines()) == 2 && w.allReady() })
		}},
		{name: "delete", steps: func(w *world, _ func(*infrav1.SendanCluster)) {
			w.removeAll()
			w.run("all gone", limit, w.allGone)
		}},
	}
}

func create(w *world, endpoint func(*infrav1.SendanCluster)) {
	w.addCluster("tenant", "one", endpoint)
	w.addMachine("tenant", "one", "one-cp-0", controlPlane)
	w.addMachine("tenant", "one", worker)
	w.run("all ready", limit, w.allReady)
}

// replace makes a machine before it deletes another, as a rollout does.
func (w *world) replace(old, name string, change ...func(*infrav1.SendanMachine)) {
	w.t.Helper()
	w.addMachine("tenant", "one", name, change...)
	w.run("the new machine is ready", limit, w.allReady)
	w.remove(w.machine("tenant", old))
	w.run("the old machine is gone", limit, func() bool {
		for _, m := range w.machines() {
			if m.Name == old {
				return false
			}
		}
		return true
	})
}

// played is a world after an act: what the act asked of the cloud, and what was left.
type played struct {
	calls int64
	// own are those beyond what the inventory's shared tick costs.
	own     int
	objects simulator.ObjectCount
	state   []string
}

// stage is what an act is played on.
type stage struct {
	endpoint func(*infrav1.SendanCluster)
	// patience is how long the provider waits for an answer.
	patience time.Duration
	// isNew says that the manager is started right before the act: it has to log in and to look around first.
	isNew bool
}

// play goes through an act. The plan gets the number of the request within the act, from 1.
func (a act) play(t testing.TB, on stage, p plan) played {
	t.Helper()
	w := newWorld(t)
	if on.patience > 0 {
		w.patience = on.patience
		w.start()
	}
	if !a.isFirst {
		create(w, on.endpoint)
		w.pass(time.Minute)
		if on.isNew {
			w.start()
		}
	}
	w.resetCalls()
	before := w.requests.Load()
	if p != nil {
		shifted := plan(func(n int64, r *http.Request) blow { return p(n-before, r) })
		w.plan.Store(&shifted)
	}
	a.steps(w, on.endpoint)
	w.plan.Store(nil)
	after := played{calls: w.requests.Load() - before, own: w.ownCalls()}
	w.pass(time.Minute)
	w.assertNoNotes(t)
	after.objects, after.state = w.sim.Objects().Total, w.endState()
	return after
}

// assertNoNotes makes sure that no call is thought to be under way.
func (w *world) assertNoNotes(t testing.TB) {
	t.Helper()
	for _, c := range w.clusters() {
		if len(c.Status.Attempts) > 0 {
			t.Errorf("cluster %s has attempts %v", c.Name, c.Status.Attempts)
		}
	}
	for _, m := range w.machines() {
		if len(m.Status.Attempts) > 0 {
			t.Errorf("machine %s has attempts %v", m.Name, m.Status.Attempts)
		}
	}
}

// TestNoBlowToAnyCallMakesADifference lets a cluster live, and has every call of it struck in every way: the end is the same, and
// took at most twice the calls. Where the manager is killed, those of one that was started for the act.
func TestNoBlowToAnyCallMakesADifference(t *testing.T) {
	var struck, missed, worst atomic.Int64
	t.Run("every", func(t *testing.T) {
		for mode, endpoint := range endpoints() {
			for _, a := range acts() {
				t.Run(mode+"/"+a.name, func(t *testing.T) {
					t.Parallel()
					want := a.play(t, stage{endpoint: endpoint}, nil)
					wantOfNew := a.play(t, stage{endpoint: endpoint, isNew: true}, nil)
					if a.name == "delete" && want.objects.Sum() > 0 {
						t.Fatalf("undisturbed it leaves %v", want.objects)
					}
					all := blows()
					for pair := range int(want.calls) * len(all) {
						if !*exhaustive && pair%stride != 0 {
							continue
						}
						number, b := int64(pair/len(all)+1), all[pair%len(all)]
						t.Run(fmt.Sprintf("call %d %s", number, b.name), func(t *testing.T) {
							undisturbed := want
							if b.kills {
								undisturbed = wantOfNew
							}
							ratio, hit := a.assertNoDifference(t, stage{endpoint: endpoint}, undisturbed, number, b)
							if !hit {
								missed.Add(1)
								return
							}
							struck.Add(1)
							for known := worst.Load(); ratio > known && !worst.CompareAndSwap(known, ratio); known = worst.Load() {
							}
						})
					}
				})
			}
		}
	})
	// A listing more or less is a matter of chance, so the last call of an act may not be made.
	if struck.Load() < 20*missed.Load() {
		t.Errorf("%d calls were struck, and %d not made", struck.Load(), missed.Load())
	}
	t.Logf("%d blows; at worst %d %% of the calls of an undisturbed run", struck.Load(), worst.Load())
}

// assertNoDifference returns the calls in percent of those of an undisturbed run, and whether the one to be struck was made.
func (a act) assertNoDifference(t *testing.T, on stage, want played, number int64, b blow) (ratio int64, hit bool) {
	t.Helper()
	var hits atomic.Int64
	if b.hangs {
		on.patience = hangingPatience
	}
	one := at(number, b)
	have := a.play(t, on, func(n int64, r *http.Request) blow {
		found := one(n, r)
		if found.strike != nil {
			hits.Add(1)
		}
		return found
	})
	if text := difference(have.state, want.state); text != "" {
		t.Errorf("the cloud differs from that of an undisturbed run:\n%s", text)
	}
	if have.own > 2*want.own {
		t.Errorf("%d calls, undisturbed %d", have.own, want.own)
	}
	return int64(100 * have.own / max(want.own, 1)), hits.Load() == 1
}
