package controllers

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
	ctrl "sigs.k8s.io/controller-runtime"
)

// crowdedRecheck is when to look again for room: soon, since others leave all the time.
const crowdedRecheck = time.Second

// crowd keeps one cloud from taking all workers of a controller. While a cloud hangs, whoever works with it waits for as long as a
// request may take, and the objects of other clouds would wait with them. A nil crowd has room for everybody.
type crowd struct {
	most   int
	mu     sync.Mutex
	inside map[string]int // by the address of the cloud
}

// newCrowd leaves half of the workers to the other clouds.
func newCrowd(workers int) *crowd {
	return &crowd{most: max(1, workers/2), inside: map[string]int{}}
}

// enter reports whether there is room to work with a cloud. If there is, leave has to be called in the end.
func (c *crowd) enter(cloud string) (leave func(), isRoom bool) {
	if c == nil {
		return func() {}, true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inside[cloud] >= c.most {
		return nil, false
	}
	c.inside[cloud]++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.inside[cloud]--; c.inside[cloud] == 0 {
			delete(c.inside, cloud)
		}
	}, true
}

// lookForRoom comes back at different times, so that they do not all find it crowded again.
func lookForRoom() ctrl.Result { return ctrl.Result{RequeueAfter: wait.Jitter(crowdedRecheck, 1)} }
