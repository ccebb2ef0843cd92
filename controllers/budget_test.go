package controllers

import (
	"fmt"
	"testing"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// The budgets of design.md §4, counted at HTTP level: tokens, discovery and look-ups included. The
// shared tick of the inventory is counted apart, since it does not grow with machines.

func TestClusterInfrastructureIsCreatedWithinFifteenCalls(t *testing.T) {
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.run("cluster ready", 5*time.Minute, w.allReady)
	t.Logf("%d own calls, %d polled", w.ownCalls(), w.polls)
	assertAtMost(t, w, "create a cluster's infrastructure", w.ownCalls(), 15)
}

func TestSettledClusterAndMachinesCostNothing(t *testing.T) {
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", "cp-0", controlPlane)
	w.addMachine("tenant", "one", "worker-0")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)
	w.resetCalls()
	w.versions = map[string]string{} // resync: every object comes again
	w.settle()
	assertAtMost(t, w, "resync", w.ownCalls(), 0)
	w.pass(30 * time.Minute)
	assertAtMost(t, w, "three resyncs of a cluster", w.ownCalls(), 3*6)
	assertAtMost(t, w, "three resyncs of machines", w.ownCalls()-w.calls("/v2.1/os-availability-zone"), 0)
	t.Logf("half an hour of polling: %d calls", w.polls)
	assertAtMost(t, w, "half an hour of polling", w.polls, 60)
}

func TestWorkerIsCreatedWithinFourCallsHoweverLongItBuilds(t *testing.T) {
	for _, build := range []time.Duration{20 * time.Second, time.Minute, 10 * time.Minute} {
		t.Run(build.String(), func(t *testing.T) {
			w := newWorld(t, func(s *simulator.Scenario) { s.Latency.ServerBuild = simulator.Exactly(build) })
			w.addCluster("tenant", "one")
			w.run("cluster ready", 5*time.Minute, w.allReady)
			w.resetCalls()
			w.addMachine("tenant", "one", "worker-0")
			w.run("worker ready", build+5*time.Minute, w.allReady)
			t.Logf("%d own calls, %d polled", w.ownCalls(), w.polls)
			// The first of a pool also brings its server group.
			assertAtMost(t, w, "create the first worker", w.ownCalls()-w.calls("/v2.1/os-availability-zone"), 5)
			w.resetCalls()
			w.addMachine("tenant", "one", "worker-1")
			w.run("second worker ready", build+5*time.Minute, w.allReady)
			// Two posts and, when the session's catalog has grown old meanwhile, flavors and images. The
			// zones are the cluster's, part of its own budget.
			assertAtMost(t, w, "create a worker", w.ownCalls()-w.calls("/v2.1/os-availability-zone"), 4)
		})
	}
}

func TestFiftyWorkersAtOnceStayWithinTwoHundredCalls(t *testing.T) {
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.run("cluster ready", 5*time.Minute, w.allReady)
	w.resetCalls()
	for i := range 50 {
		w.addMachine("tenant", "one", fmt.Sprintf("worker-%d", i))
	}
	w.run("workers ready", 10*time.Minute, w.allReady)
	t.Logf("%d own calls, %d polled", w.ownCalls(), w.polls)
	assertAtMost(t, w, "50 workers, polling included", w.sim.TotalCalls(), 200)
}

func TestMachinesAreDeletedWithinTwoAndThreeCalls(t *testing.T) {
	w := newWorld(t)
	w.addCluster("tenant", "one")
	for i := range 3 {
		w.addMachine("tenant", "one", fmt.Sprintf("cp-%d", i), controlPlane)
	}
	w.addMachine("tenant", "one", "worker-0")
	w.addMachine("tenant", "one", "worker-1")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)

	w.resetCalls()
	w.remove(w.machine("tenant", "worker-0"))
	w.run("worker gone", 5*time.Minute, func() bool { return len(w.machines()) == 4 })
	w.pass(time.Minute)
	assertAtMost(t, w, "delete a worker", w.ownCalls(), 2)

	w.resetCalls()
	w.remove(w.machine("tenant", "cp-0"))
	w.run("control-plane machine gone", 5*time.Minute, func() bool { return len(w.machines()) == 3 })
	w.pass(time.Minute)
	assertAtMost(t, w, "delete a control-plane machine", w.ownCalls(), 3)
}

func TestDeletionLeavesNothingBehind(t *testing.T) {
	w := newWorld(t)
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", "cp-0", controlPlane)
	w.addMachine("tenant", "one", "worker-0")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.removeAll()
	w.run("all gone", 10*time.Minute, w.allGone)
	assertNothingLeft(t, w)
}

// calls is how often a path was called.
func (w *world) calls(path string) int {
	n := 0
	for _, row := range w.sim.Calls() {
		if row.Path == path {
			n += row.Count
		}
	}
	return n
}

func assertNothingLeft(t *testing.T, w *world) {
	t.Helper()
	if left := w.sim.Objects().Total; left.Sum() != 0 {
		t.Errorf("left in the cloud: %v", left)
	}
}

func assertAtMost(t *testing.T, w *world, what string, calls, most int) {
	t.Helper()
	if calls <= most {
		return
	}
	t.Errorf("%s: %d calls, at most %d allowed:", what, calls, most)
	for _, row := range w.sim.Calls() {
		t.Logf("%4d  %s %s %s → %d", row.Count, row.Service, row.Method, row.Path, row.Status)
	}
}
