package manager

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

func request(name string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Name: name}}
}

func aQueue(t *testing.T) *queue {
	limiter := workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]()
	return Concurrency(1).NewQueue(t.Name(), limiter).(*queue)
}

// TestAQueueEndsWhileItIsBusy shuts queues down between their workers' calls, again and again: one of controller-runtime hangs within a few.
func TestAQueueEndsWhileItIsBusy(t *testing.T) {
	for round := range 200 {
		q := aQueue(t)
		handed := make(chan struct{}, 1)
		var workers sync.WaitGroup
		for worker := range 20 {
			workers.Go(func() {
				for pass := 0; ; pass++ {
					name := fmt.Sprint(worker, "-", pass)
					q.AddWithOpts(priorityqueue.AddOpts{Priority: &pass}, request(name))
					item, _, shutdown := q.GetWithPriority()
					if shutdown {
						return
					}
					q.Add(item) // it is due again before it is given back
					q.Done(item)
					select {
					case handed <- struct{}{}:
					default:
					}
				}
			})
		}
		for range 50 { // under way
			<-handed
		}
		q.ShutDown()
		ended := make(chan struct{})
		go func() { workers.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			t.Fatalf("workers hang after queue %d was shut down", round)
		}
	}
}

func TestAQueueHandsOutByPriority(t *testing.T) {
	q := aQueue(t)
	defer q.ShutDown()
	low, high := -100, 0
	q.AddWithOpts(priorityqueue.AddOpts{Priority: &low}, request("one of many"))
	q.AddWithOpts(priorityqueue.AddOpts{Priority: &high}, request("changed"))
	for _, want := range []string{"changed", "one of many"} {
		item, shutdown := q.Get()
		if item.Name != want || shutdown {
			t.Errorf("got %q, shut down %t, want %q", item.Name, shutdown, want)
		}
		q.Done(item)
	}
}
