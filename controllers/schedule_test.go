package controllers

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

var (
	schedules = flag.Int("schedules", 5, "how many random schedules to play")
	firstSeed = flag.Uint64("seed", 1, "the seed of the first schedule; those of the others follow it")
)

// storm is what goes wrong at random while a cluster lives.
type storm struct {
	w   *world
	rng *rand.Rand
	// blows to requests, and how often each other misfortune happened.
	blows  atomic.Int64
	others map[string]int
	// staleFor is how many reconciles more the cache stays as it is. A patch that conflicts is tried again for some real seconds.
	staleFor int
}

// begin lets one request in seven fail, and one reconcile in eight be followed by another misfortune.
func (s *storm) begin() {
	hailing := hail(s.rng.Uint64(), 7, &s.blows)
	s.w.plan.Store(&hailing)
	s.w.after = func(work) {
		if s.staleFor--; s.staleFor == 0 {
			s.w.stale = nil
		}
		if s.rng.IntN(8) == 0 {
			s.strike()
		}
	}
}

func (s *storm) end() {
	s.w.plan.Store(nil)
	s.w.after = nil
	s.w.stale = nil
	s.w.pass(resyncPeriod) // events that were lost come again
}

func (s *storm) strike() {
	w := s.w
	misfortunes := map[string]func(){
		"stale cache":  func() { w.stale, s.staleFor = w.copyOfClient(), 1+s.rng.IntN(4) },
		"lost events":  func() { w.pending = nil },
		"clock jumps":  func() { w.clock.Advance(time.Duration(s.rng.Int64N(int64(3 * time.Hour)))) },
		"lost status":  func() { s.loseStatus() },
		"new process":  func() { w.start() },
		"tokens ended": func() { w.sim.RevokeTokens("") },
	}
	names := slices.Sorted(maps.Keys(misfortunes))
	name := names[s.rng.IntN(len(names))]
	s.others[name]++
	misfortunes[name]()
}

// loseStatus takes the status of one object. Notes of calls that are under way would be lost with it, which is why objects are paused
// before they are moved: objects that have some keep them.
func (s *storm) loseStatus() {
	w := s.w
	machines := w.machines()
	if i := s.rng.IntN(len(machines) + 1); i < len(machines) {
		machines[i].Status = infrav1.SendanMachineStatus{Attempts: machines[i].Status.Attempts}
		w.must(w.client.Status().Update(context.Background(), &machines[i]))
		return
	}
	for _, c := range w.clusters() {
		c.Status = infrav1.SendanClusterStatus{Attempts: c.Status.Attempts}
		w.must(w.client.Status().Update(context.Background(), &c))
	}
}

// copyOfClient has what the API server has now, and keeps it.
func (w *world) copyOfClient() client.Client {
	w.t.Helper()
	var objects []client.Object
	for _, list := range []client.ObjectList{
		&corev1.SecretList{}, &corev1.NamespaceList{}, &clusterv1.ClusterList{}, &clusterv1.MachineList{}, &infrav1.SendanClusterList{}, &infrav1.SendanMachineList{},
	} {
		w.must(w.client.List(context.Background(), list))
		w.must(meta.EachListItem(list, func(item runtime.Object) error {
			objects = append(objects, item.(client.Object))
			return nil
		}))
	}
	return newClient(w.t, objects...)
}

// life is made undisturbed or in a storm: a cluster grows, loses a server and a machine, and gets others for them.
func life(w *world, endpoint func(*infrav1.SendanCluster), between func()) {
	w.addCluster("tenant", "one", endpoint)
	w.addMachine("tenant", "one", "one-cp-0", controlPlane)
	w.addMachine("tenant", "one", worker)
	between()
	w.addMachine("tenant", "one", "one-worker-1")
	between()
	for _, server := range w.sim.Servers() {
		if server.Name == worker {
			w.must(w.sim.SetServer(server.ID, simulator.ServerChange{Status: "ERROR", Fault: "the hypervisor fell over"}))
		}
	}
	w.remove(w.machine("tenant", worker))
	w.addMachine("tenant", "one", "one-worker-2")
	between()
	w.addMachine("tenant", "one", "one-cp-1", controlPlane)
	between()
	w.remove(w.machine("tenant", "one-cp-0"))
}

// TestNoScheduleOfMisfortunesMakesADifference plays random schedules in which many things go wrong at once. Each is repeated by its
// seed: -run TestNoSchedule -seed N -schedules 1.
func TestNoScheduleOfMisfortunesMakesADifference(t *testing.T) {
	modes := slices.Sorted(maps.Keys(endpoints()))
	want := map[string]played{}
	for _, mode := range modes {
		w := newWorld(t)
		life(w, endpoints()[mode], func() { w.run("all ready", limit, w.allReady) })
		w.run("all ready", limit, func() bool { return len(w.machines()) == 3 && w.allReady() })
		w.pass(resyncPeriod)
		want[mode] = played{state: w.endState()}
	}
	var blows, others atomic.Int64
	t.Run("schedules", func(t *testing.T) {
		for seed := *firstSeed; seed < *firstSeed+uint64(*schedules); seed++ {
			t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
				t.Parallel()
				rng := rand.New(rand.NewPCG(seed, 2))
				mode := modes[rng.IntN(len(modes))]
				w := newWorld(t)
				w.patience = hangingPatience
				w.start()
				s := &storm{w: w, rng: rng, others: map[string]int{}}
				s.begin()
				life(w, endpoints()[mode], func() { w.pass(time.Duration(rng.Int64N(int64(40 * time.Minute)))) })
				w.pass(time.Duration(rng.Int64N(int64(time.Hour))))
				s.end()
				w.run("all ready", 4*time.Hour, func() bool { return len(w.machines()) == 3 && w.allReady() })
				w.pass(resyncPeriod)
				w.assertNoNotes(t)
				if text := difference(w.endState(), want[mode].state); text != "" {
					t.Errorf("the cloud differs from that of an undisturbed life:\n%s", text)
				}
				s.begin()
				w.removeAll()
				w.pass(time.Duration(rng.Int64N(int64(time.Hour))))
				s.end()
				w.run("all gone", 4*time.Hour, w.allGone)
				assertNothingLeft(t, w)
				blows.Add(s.blows.Load())
				for _, count := range s.others {
					others.Add(int64(count))
				}
			})
		}
	})
	t.Logf("%d schedules, %d blows to requests, %d other misfortunes", *schedules, blows.Load(), others.Load())
}
