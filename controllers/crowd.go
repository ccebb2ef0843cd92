package controllers

import (
	"context"
	"slices"
	"sync"

	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"
)

// crowd keeps one cloud from taking all workers of a controller, and one tenant from taking all places at a cloud. While a cloud
// hangs, whoever works with it waits for as long as a request may take, and the objects of other clouds would wait with them.
//
// Who finds no room stands in line without keeping a worker, and is called when a place is free. So nobody comes back to look for
// room, however many wait. A nil crowd has room for everybody.
type crowd struct {
	perCloud, perTenant int

	mu     sync.Mutex
	call   func(reconcile.Request) // puts a request into the controller's queue
	clouds map[string]*places      // by the address of the cloud
	// called are those for whom a place is kept until they come, and waiting those who stand in line; both with their cloud.
	called, waiting map[reconcile.Request]string
}

// places are those at one cloud. A tenant is a namespace.
type places struct {
	taken int
	by    map[string]int
	lines map[string][]reconcile.Request
	turns []string // the tenants with a line; the first is next
}

// newCrowd leaves half of the workers to the other clouds, and half of a cloud's places to its other tenants.
func newCrowd(workers int) *crowd {
	perCloud := max(1, workers/2)
	return &crowd{
		perCloud: perCloud, perTenant: max(1, perCloud/2), clouds: map[string]*places{},
		called: map[reconcile.Request]string{}, waiting: map[reconcile.Request]string{},
	}
}

// calls brings those who are called back into a controller's queue.
func (c *crowd) calls() source.Source {
	return source.Func(func(_ context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.call = queue.Add
		return nil
	})
}

// visit is one pass over one object. It begins before anything else, since a place may be kept for it, and has to end also if the
// object is gone: then the next one is called.
type visit struct {
	crowd    *crowd
	request  reconcile.Request
	cloud    string
	hasPlace bool
}

func (c *crowd) begin(request reconcile.Request) *visit {
	v := &visit{crowd: c, request: request}
	if c == nil {
		return v
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	v.cloud, v.hasPlace = c.called[request]
	delete(c.called, request)
	return v
}

// enter reports whether there is room to work with a cloud. If there is none, the pass is over: the object will be called.
func (v *visit) enter(cloud string) bool {
	c := v.crowd
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.hasPlace && v.cloud == cloud {
		return true
	}
	c.release(v) // it has moved to another cloud since it was called
	at := c.at(cloud)
	if c.isRoom(at, v.request.Namespace) {
		at.take(v.request.Namespace)
		v.cloud, v.hasPlace = cloud, true
		delete(c.waiting, v.request)
		return true
	}
	if !c.waitsAt(cloud, v.request) {
		c.waiting[v.request] = cloud
		at.join(v.request)
	}
	return false
}

func (v *visit) end() {
	if v.crowd == nil {
		return
	}
	v.crowd.mu.Lock()
	defer v.crowd.mu.Unlock()
	v.crowd.release(v)
}

// release gives the place of a visit, if it has one, to the next in line.
func (c *crowd) release(v *visit) {
	if !v.hasPlace {
		return
	}
	v.hasPlace = false
	at := c.at(v.cloud)
	at.leave(v.request.Namespace)
	c.callNext(v.cloud, at)
	if at.taken == 0 && len(at.turns) == 0 {
		delete(c.clouds, v.cloud)
	}
}

// callNext keeps a place for the tenant whose turn it is. One whose places are all taken stays first.
func (c *crowd) callNext(cloud string, at *places) {
	for i := 0; i < len(at.turns); {
		tenant := at.turns[i]
		if !c.isRoom(at, tenant) {
			i++
			continue
		}
		request := at.next(i)
		if !c.waitsAt(cloud, request) {
			continue // it has moved to another cloud meanwhile
		}
		delete(c.waiting, request)
		c.called[request] = cloud
		at.take(tenant)
		c.call(request)
		return
	}
}

func (c *crowd) waitsAt(cloud string, request reconcile.Request) bool {
	at, waits := c.waiting[request]
	return waits && at == cloud
}

func (c *crowd) isRoom(at *places, tenant string) bool {
	return at.taken < c.perCloud && at.by[tenant] < c.perTenant
}

func (c *crowd) at(cloud string) *places {
	if c.clouds[cloud] == nil {
		c.clouds[cloud] = &places{by: map[string]int{}, lines: map[string][]reconcile.Request{}}
	}
	return c.clouds[cloud]
}

func (p *places) take(tenant string) {
	p.taken++
	p.by[tenant]++
}

func (p *places) leave(tenant string) {
	p.taken--
	if p.by[tenant]--; p.by[tenant] == 0 {
		delete(p.by, tenant)
	}
}

func (p *places) join(request reconcile.Request) {
	if len(p.lines[request.Namespace]) == 0 {
		p.turns = append(p.turns, request.Namespace)
	}
	p.lines[request.Namespace] = append(p.lines[request.Namespace], request)
}

// next takes the first out of the line of a tenant, whose next turn comes after everybody else's.
func (p *places) next(turn int) reconcile.Request {
	tenant := p.turns[turn]
	p.turns = slices.Delete(p.turns, turn, turn+1)
	line := p.lines[tenant]
	if p.lines[tenant] = line[1:]; len(line) == 1 {
		delete(p.lines, tenant)
	} else {
		p.turns = append(p.turns, tenant)
	}
	return line[0]
}
