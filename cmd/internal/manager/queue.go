package manager

import (
	"sync"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// queue is a priority queue that can be shut down at any time. That of controller-runtime up to v0.24.1, when it is shut down while it
// hands out an item, keeps its locks for ever, and every worker that comes to them hangs (issue 3538, mended in versions for Kubernetes
// 1.37). Here nobody waits for those locks after the end.
type queue struct {
	priorityqueue.PriorityQueue[reconcile.Request]

	mu    sync.RWMutex // held for reading while an item is given back
	ended chan struct{}
}

func newQueue(controllerName string, rateLimiter workqueue.TypedRateLimiter[reconcile.Request]) workqueue.TypedRateLimitingInterface[reconcile.Request] {
	return &queue{
		PriorityQueue: priorityqueue.New(controllerName, func(o *priorityqueue.Opts[reconcile.Request]) { o.RateLimiter = rateLimiter }),
		ended:         make(chan struct{}),
	}
}

// handedOut is an answer of the queue within.
type handedOut struct {
	item     reconcile.Request
	priority int
	shutdown bool
}

// GetWithPriority waits for an item or for the end.
func (q *queue) GetWithPriority() (reconcile.Request, int, bool) {
	answer := make(chan handedOut, 1)
	go func() {
		item, priority, shutdown := q.PriorityQueue.GetWithPriority()
		answer <- handedOut{item, priority, shutdown}
	}()
	select {
	case <-q.ended:
		return reconcile.Request{}, 0, true
	case a := <-answer:
		return a.item, a.priority, a.shutdown
	}
}

// Get waits for an item or for the end.
func (q *queue) Get() (reconcile.Request, bool) {
	item, _, shutdown := q.GetWithPriority()
	return item, shutdown
}

// Done gives an item back. After the end nobody will ask for it.
func (q *queue) Done(item reconcile.Request) {
	q.mu.RLock()
	defer q.mu.RUnlock()
	select {
	case <-q.ended:
	default:
		q.PriorityQueue.Done(item)
	}
}

// ShutDown ends it.
func (q *queue) ShutDown() {
	q.mu.Lock()
	defer q.mu.Unlock()
	close(q.ended)
	q.PriorityQueue.ShutDown()
}

// ShutDownWithDrain ends it as well: a priority queue is not drained.
func (q *queue) ShutDownWithDrain() { q.ShutDown() }
