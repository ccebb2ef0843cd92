package controllers

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

const crowdWorkers = 20 // 10 places at a cloud, 5 for one tenant

// hall is a controller around a crowd, one step at a time: whoever is called comes to the end of the queue.
type hall struct {
	*crowd
	t      *testing.T
	queue  []reconcile.Request
	cloud  map[reconcile.Request]string // where each one works
	inside []*visit
	passes int
}

func newHall(t *testing.T) *hall {
	h := &hall{crowd: newCrowd(crowdWorkers), t: t, cloud: map[reconcile.Request]string{}}
	h.call = h.add
	return h
}

// add keeps a request once, as a controller's queue does.
func (h *hall) add(request reconcile.Request) {
	if !slices.Contains(h.queue, request) {
		h.queue = append(h.queue, request)
	}
}

func (h *hall) comes(cloud, tenant string, n int) reconcile.Request {
	request := reconcile.Request{NamespacedName: types.NamespacedName{Namespace: tenant, Name: fmt.Sprint(n)}}
	h.cloud[request] = cloud
	h.add(request)
	return request
}

// pass reports whether the first in the queue found room.
func (h *hall) pass() bool {
	h.passes++
	v := h.begin(h.queue[0])
	h.queue = h.queue[1:]
	cloud, exists := h.cloud[v.request]
	if !exists || !v.enter(cloud) {
		v.end()
		return false
	}
	h.inside = append(h.inside, v)
	h.checkLimits()
	return true
}

// leaves ends one of those inside and reports who it was.
func (h *hall) leaves(i int) reconcile.Request {
	v := h.inside[i]
	h.inside = slices.Delete(h.inside, i, i+1)
	v.end()
	return v.request
}

func (h *hall) runQueue() {
	for len(h.queue) > 0 {
		h.pass()
	}
}

func (h *hall) checkLimits() {
	h.t.Helper()
	clouds, tenants := map[string]int{}, map[[2]string]int{}
	for _, v := range h.inside {
		clouds[v.cloud]++
		tenants[[2]string{v.cloud, v.request.Namespace}]++
		if clouds[v.cloud] > crowdWorkers/2 || tenants[[2]string{v.cloud, v.request.Namespace}] > crowdWorkers/4 {
			h.t.Fatalf("too many inside: %v, %v", clouds, tenants)
		}
	}
}

func TestACrowdKeepsPlacesForOthers(t *testing.T) {
	for _, c := range []struct{ workers, perCloud, perTenant int }{{1, 1, 1}, {2, 1, 1}, {4, 2, 1}, {10, 5, 2}, {50, 25, 12}} {
		if got := newCrowd(c.workers); got.perCloud != c.perCloud || got.perTenant != c.perTenant {
			t.Errorf("%d workers: %d places at a cloud, %d for a tenant; want %d and %d", c.workers, got.perCloud, got.perTenant, c.perCloud, c.perTenant)
		}
	}
}

func TestATenantWithManyHoldsUpNoOther(t *testing.T) {
	h := newHall(t)
	for i := range 5000 {
		h.comes("cloud", "noisy", i)
	}
	h.runQueue()
	if len(h.inside) != crowdWorkers/4 {
		t.Fatalf("%d of the noisy tenant are inside", len(h.inside))
	}
	h.comes("cloud", "quiet", 0)
	if !h.pass() {
		t.Error("the quiet tenant found no room at the same cloud")
	}
	h.comes("other", "noisy", 5000)
	if !h.pass() {
		t.Error("the noisy tenant found no room at another cloud")
	}
}

func TestWhoWaitsComesBackOnlyWhenCalled(t *testing.T) {
	h := newHall(t)
	const many = 5000
	for i := range many {
		h.comes("cloud", "noisy", i)
	}
	h.runQueue()
	for i := range many {
		if len(h.inside) == 0 {
			t.Fatalf("%d of %d got in", i, many)
		}
		if left := h.leaves(0); left.Name != fmt.Sprint(i) {
			t.Fatalf("%s was inside before %d, which came earlier", left.Name, i)
		}
		if len(h.queue) > 1 {
			t.Fatalf("%d were called for one place", len(h.queue))
		}
		h.runQueue()
	}
	if most := 2 * many; h.passes > most {
		t.Errorf("it took %d passes, want at most %d: one to get in line, one when called", h.passes, most)
	}
}

func TestWhoIsWokenInLineKeepsOnePlaceThere(t *testing.T) {
	h := newHall(t)
	for range 3 {
		for i := range crowdWorkers {
			h.comes("cloud", "noisy", i)
		}
		h.queue = slices.DeleteFunc(h.queue, func(r reconcile.Request) bool {
			return slices.ContainsFunc(h.inside, func(v *visit) bool { return v.request == r })
		})
		h.runQueue()
	}
	if line := h.clouds["cloud"].lines["noisy"]; len(line) != crowdWorkers-crowdWorkers/4 {
		t.Errorf("%d stand in line: %v", len(line), line)
	}
}

func TestWhoHasGoneToAnotherCloudIsNotCalled(t *testing.T) {
	h := newHall(t)
	for i := range crowdWorkers/4 + 1 {
		h.comes("old", "tenant", i)
	}
	h.runQueue()
	h.comes("new", "tenant", crowdWorkers/4) // the one in line
	if !h.pass() {
		t.Fatal("there was no room at the other cloud")
	}
	if h.leaves(0); len(h.queue) > 0 {
		t.Errorf("%v was called", h.queue)
	}
}

func TestTenantsInLineTakeTurns(t *testing.T) {
	h := newHall(t)
	const tenants = 8
	for tenant := range tenants {
		for i := range 100 {
			h.comes("cloud", fmt.Sprint("noisy-", tenant), i)
		}
	}
	h.runQueue()
	quiet := h.comes("cloud", "quiet", 0)
	h.runQueue()
	for left := 1; ; left++ {
		h.leaves(0)
		h.runQueue()
		if slices.ContainsFunc(h.inside, func(v *visit) bool { return v.request == quiet }) {
			return
		}
		if left > tenants {
			t.Fatalf("the quiet tenant still waits after %d places were free", left)
		}
	}
}

// TestEverybodyGetsIn lets objects come, go, change their cloud and be woken in any order, also while they wait.
func TestEverybodyGetsIn(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { everybodyGetsIn(t, rand.New(rand.NewPCG(seed, 0))) }) //nolint:gosec // it has to be repeatable
	}
}

func everybodyGetsIn(t *testing.T, random *rand.Rand) {
	h := newHall(t)
	clouds := []string{"", "a", "b"}
	were := map[reconcile.Request]bool{}
	var all []reconcile.Request
	for i := range 120 {
		all = append(all, h.comes(clouds[random.IntN(3)], fmt.Sprint("tenant-", random.IntN(4)), i))
	}
	for range 2000 {
		request := all[random.IntN(len(all))]
		isInside := slices.ContainsFunc(h.inside, func(v *visit) bool { return v.request == request })
		switch action := random.IntN(20); {
		case action < 4 && len(h.inside) > 0:
			were[h.leaves(random.IntN(len(h.inside)))] = true
		case action < 16 && len(h.queue) > 0 && !slices.ContainsFunc(h.inside, func(v *visit) bool { return v.request == h.queue[0] }):
			h.pass()
		case action == 16 && !isInside: // an event
			h.add(request)
		case action == 17 && !isInside: // an event, with other credentials
			if _, exists := h.cloud[request]; exists {
				h.cloud[request] = clouds[random.IntN(3)]
				h.add(request)
			}
		case action == 18 && random.IntN(10) == 0:
			delete(h.cloud, request)
		}
	}
	for len(h.queue)+len(h.inside) > 0 {
		for len(h.inside) > 0 {
			were[h.leaves(0)] = true
		}
		h.runQueue()
	}
	for _, request := range all {
		if _, exists := h.cloud[request]; exists && !were[request] {
			t.Errorf("%s never got in", request)
		}
	}
	if len(h.clouds)+len(h.called)+len(h.waiting) > 0 {
		t.Errorf("an empty hall remembers %v, %v, %v", h.clouds, h.called, h.waiting)
	}
}

// TestACrowdedQueueRunsEmpty is the same with a real queue and workers that run at the same time.
func TestACrowdedQueueRunsEmpty(t *testing.T) {
	c := newCrowd(crowdWorkers)
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	if err := c.calls().Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	const many = 1000
	var inside, done atomic.Int64
	var workers sync.WaitGroup
	work := func(request reconcile.Request) {
		v := c.begin(request)
		defer v.end()
		if !v.enter("cloud") {
			return
		}
		if n := inside.Add(1); n > crowdWorkers/2 {
			t.Errorf("%d are inside", n)
		}
		inside.Add(-1)
		if done.Add(1) == many {
			queue.ShutDown()
		}
	}
	for i := range many {
		queue.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: fmt.Sprint(i % 3), Name: fmt.Sprint(i)}})
	}
	for range crowdWorkers {
		workers.Go(func() {
			for request, isShut := queue.Get(); !isShut; request, isShut = queue.Get() {
				work(request)
				queue.Done(request)
			}
		})
	}
	workers.Wait()
	if len(c.waiting) > 0 {
		t.Errorf("%d still wait", len(c.waiting))
	}
}

func TestNoCrowdHasRoomForEverybody(t *testing.T) {
	var none *crowd
	var inside []*visit
	for range crowdWorkers + 1 {
		v := none.begin(reconcile.Request{})
		if !v.enter("cloud") {
			t.Error("there was no room")
		}
		inside = append(inside, v)
	}
	for _, v := range inside {
		v.end()
	}
}
