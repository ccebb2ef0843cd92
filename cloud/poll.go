package cloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// PollingOptions says how often the inventory asks the cloud. A zero field takes its default.
type PollingOptions struct {
	// Building is the shortest time between two listings of a kind somebody waits for. Default 2 s.
	Building time.Duration
	// BuildingMax is the longest such time, for objects that have been changing for long. Default 30 s.
	BuildingMax time.Duration
	// Servers is the time between two incremental listings of settled servers. Default 2 min.
	Servers time.Duration
	// Sweep is the time between two complete listings of a settled kind. Default 10 min.
	Sweep time.Duration
	// SlowSweep replaces Sweep for the kinds that hardly anything but Sendan changes: networks,
	// subnets, routers, server groups and floating IPs. With thousands of projects,
	// most of what a settled fleet sends would be their lists. Never shorter than Sweep. Default 1 h.
	SlowSweep time.Duration
	// Jitter shortens settled intervals by up to this share of them, so that many projects do not
	// ask at the same moment. Default 0.1; a negative value turns it off.
	Jitter float64
	// PageSize is the number of objects asked for at once. Default 1000.
	PageSize int
}

func (o PollingOptions) withDefaults() PollingOptions {
	orDefault := func(value *time.Duration, otherwise time.Duration) {
		if *value <= 0 {
			*value = otherwise
		}
	}
	orDefault(&o.Building, 2*time.Second)
	orDefault(&o.BuildingMax, 30*time.Second)
	orDefault(&o.Servers, 2*time.Minute)
	orDefault(&o.Sweep, 10*time.Minute)
	orDefault(&o.SlowSweep, time.Hour)
	o.SlowSweep = max(o.SlowSweep, o.Sweep)
	if o.Jitter == 0 {
		o.Jitter = 0.1
	}
	if o.PageSize <= 0 {
		o.PageSize = 1000
	}
	return o
}

// An object that has been changing for a time t is looked at every t/patience, so that the delay
// until its end is noticed stays a small part of the whole.
const patience = 8

// kindState is what the inventory remembers about polling one kind. The inventory's lock guards it.
type kindState struct {
	kind     Kind
	inFlight bool
	// attempted, refreshed and completed are when the last listing, the last successful one and the
	// last successful complete one began.
	attempted, refreshed, completed time.Time
	// required is the time after which somebody wants a complete listing to begin.
	required time.Time
	failures int
	// quietUntil is when the cloud will take requests again, by its own account.
	quietUntil time.Time
	// jitter is the share by which the current settled interval is shortened.
	jitter float64
	// newest is the latest time of change among the servers listed, by the cloud's clock.
	newest time.Time
	// unsettled are our objects that are about to change by themselves.
	unsettled map[string]unsettledState
	// journal has, by object, the number of our last own write.
	journal   map[string]uint64
	suspicion *suspicion
	// assumed are, by object, the tags we were asked to set on a cloud that has none.
	assumed map[string]assumedTags
}

// unsettledState is what an object is going through, and since when it has been seen to.
type unsettledState struct {
	state string
	since time.Time
}

func newKindState(kind Kind) *kindState {
	return &kindState{kind: kind, unsettled: map[string]unsettledState{}, journal: map[string]uint64{}, assumed: map[string]assumedTags{}}
}

// track notes whether somebody waits for an object.
func (k *kindState) track(o object, now time.Time) {
	state := transition(o)
	if state == "" || o.mark().IsZero() {
		delete(k.unsettled, o.id())
		return
	}
	if k.unsettled[o.id()].state != state {
		k.unsettled[o.id()] = unsettledState{state: state, since: now}
	}
}

// faultPending is the transition of a server in ERROR whose fault Nova has not written yet.
const faultPending = "fault pending"

// transition is what an object is going through by itself; empty when it is settled.
func transition(o object) string {
	switch o := o.(type) {
	case Server:
		switch {
		case o.Deleting:
			return "deleting"
		case o.Status == "BUILD":
			return o.Status
		case o.Status == "ERROR" && o.Fault == nil:
			return faultPending
		}
		return o.TaskState
	case LoadBalancer:
		switch {
		case o.IsPending():
			return o.ProvisioningStatus
		case o.tree.stale:
			return "tree unread"
		}
	case Volume:
		switch o.Status {
		case "creating", "downloading", "deleting":
			return o.Status
		}
	}
	return ""
}

// due is when the kind is to be listed next.
func (k *kindState) due(options PollingOptions) time.Time {
	next := k.wanted(options)
	if k.failures > 0 {
		next = latest(next, k.attempted.Add(retryDelay(k.failures, options)))
	}
	return latest(next, k.quietUntil)
}

// wanted is when the kind would be listed next if the cloud never failed.
func (k *kindState) wanted(options PollingOptions) time.Time {
	if k.refreshed.IsZero() {
		return time.Time{}
	}
	next := k.refreshed.Add(k.settledInterval(options))
	if since, waiting := k.youngest(options); waiting {
		interval := min(max(k.refreshed.Sub(since)/patience, options.Building), options.BuildingMax)
		next = earliest(next, k.refreshed.Add(interval))
	}
	if k.suspicion != nil {
		// More haste would not make the missing objects any more certain.
		return earliest(next, k.suspicion.listed.Add(suspicionInterval))
	}
	if !k.required.IsZero() && !k.completed.After(k.required) {
		next = earliest(next, latest(k.required.Add(time.Nanosecond), k.refreshed.Add(options.Building)))
	}
	return next
}

func (k *kindState) settledInterval(options PollingOptions) time.Duration {
	interval := options.SlowSweep
	switch k.kind {
	case KindServer:
		interval = min(options.Sweep, options.Servers)
	case KindPort, KindVolume, KindLoadBalancer, KindSecurityGroup:
		interval = options.Sweep
	}
	return interval - time.Duration(k.jitter*float64(interval))
}

// youngest is since when the object that began to change last has been doing so. It sets the pace:
// if the oldest did, one object stuck for an hour would make everybody else's wait long.
func (k *kindState) youngest(options PollingOptions) (since time.Time, waiting bool) {
	for _, entry := range k.unsettled {
		if entry.state == faultPending && k.refreshed.Sub(entry.since) > options.BuildingMax {
			continue // some clouds never say why
		}
		if !waiting || entry.since.After(since) {
			since, waiting = entry.since, true
		}
	}
	return since, waiting
}

// completeDue reports that the next listing has to be a complete one.
func (k *kindState) completeDue(options PollingOptions, now time.Time) bool {
	return k.kind != KindServer || k.newest.IsZero() || k.suspicion != nil ||
		!k.completed.After(k.required) || !now.Before(k.completed.Add(options.Sweep))
}

// retryDelay is how long to wait after a number of failures in a row.
func retryDelay(failures int, options PollingOptions) time.Duration {
	return min(options.Building<<min(failures-1, 10), options.Servers)
}

// retryRejected makes kinds due that were not listed for want of good credentials, since there are
// others now.
func (i *Inventory) retryRejected() {
	i.mu.Lock()
	known := i.current.Load()
	for kind, state := range i.kinds {
		if ClassOf(known.Err(kind)) == Auth {
			state.failures, state.quietUntil = 0, time.Time{}
		}
	}
	i.mu.Unlock()
	i.wakeUp()
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// NextPoll is when the next kind becomes due; a time in the past means now.
func (i *Inventory) NextPoll() time.Time {
	next, _ := i.nextPoll()
	return next
}

// nextPoll leaves out kinds that are being listed right now; false when all of them are.
func (i *Inventory) nextPoll() (time.Time, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	var next time.Time
	found := false
	for _, state := range i.kinds {
		if state.inFlight {
			continue
		}
		if due := state.due(i.options); !found || due.Before(next) {
			next, found = due, true
		}
	}
	return next, found
}

// Poll lists every kind that is due now and returns when all of them have answered. A kind that
// fails does not stop the others; the errors are joined.
func (i *Inventory) Poll(ctx context.Context) error {
	requests := i.claimDue()
	failures := make([]error, len(requests))
	var listings sync.WaitGroup
	for n, request := range requests {
		listings.Go(func() { failures[n] = i.refresh(ctx, request) })
	}
	listings.Wait()
	return errors.Join(failures...)
}

// Run polls until ctx ends. Kinds are listed independently of each other, so that one service that
// hangs does not hold up the rest.
func (i *Inventory) Run(ctx context.Context) {
	var listings sync.WaitGroup
	defer i.metrics.forget()
	defer listings.Wait()
	for ctx.Err() == nil {
		for _, request := range i.claimDue() {
			listings.Go(func() {
				_ = i.refresh(ctx, request) // it is in the snapshot and in the log
				i.wakeUp()
			})
		}
		i.waitForWork(ctx)
	}
}

// waitForWork returns when a kind is due or may be due earlier than it was.
func (i *Inventory) waitForWork(ctx context.Context) {
	var due <-chan time.Time
	if next, found := i.nextPoll(); found {
		timer := i.clock.NewTimer(max(0, next.Sub(i.clock.Now())))
		defer timer.Stop()
		due = timer.Chan()
	}
	select {
	case <-ctx.Done():
	case <-due:
	case <-i.wake:
	}
}

// listRequest is one listing about to be made.
type listRequest struct {
	kind     Kind
	began    time.Time
	complete bool
	since    time.Time // for a listing that is not complete
	writes   uint64    // our own writes before it began
	known    *Snapshot
}

// claimDue marks what is due as being listed.
func (i *Inventory) claimDue() []listRequest {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.clock.Now()
	var requests []listRequest
	for _, kind := range allKinds() {
		state := i.kinds[kind]
		if state.inFlight || state.due(i.options).After(now) {
			continue
		}
		state.inFlight, state.attempted = true, now
		request := listRequest{kind: kind, began: now, writes: i.writes, known: i.current.Load(), complete: state.completeDue(i.options, now)}
		if !request.complete {
			request.since = state.newest.Add(-clockSkew)
		}
		requests = append(requests, request)
	}
	return requests
}

// clockSkew is how much the clocks of the cloud's own hosts may differ. Incremental listings
// overlap by it. Our clock plays no part: they count from the latest change the cloud told us of.
const clockSkew = time.Minute

// refresh lists one kind and merges what it finds.
func (i *Inventory) refresh(ctx context.Context, request listRequest) error {
	started := i.clock.Now()
	objects, err := i.source.list(ctx, request.kind, request.since, request.known)
	i.metrics.listed(request.kind, i.clock.Since(started), err == nil, i.clock.Now())
	if err != nil {
		err = fmt.Errorf("list %ss: %w", request.kind, err)
		i.fail(ctx, request, err)
		return err
	}
	i.merge(request, objects)
	return nil
}

// fail keeps what is known and notes why there is nothing newer.
func (i *Inventory) fail(ctx context.Context, request listRequest, err error) {
	i.update(func(e *edit) {
		state := i.kinds[request.kind]
		state.inFlight = false
		if ctx.Err() != nil {
			return // we were told to stop; the cloud did nothing wrong
		}
		state.failures++
		var classified *Error
		if errors.As(err, &classified) && classified.RetryAfter > 0 {
			state.quietUntil = e.now.Add(classified.RetryAfter)
		}
		listing := e.next.listings[request.kind]
		listing.Kind, listing.Err = request.kind, err
		e.next.listings[request.kind] = listing
	})
	if ctx.Err() == nil {
		i.logger.WarnContext(ctx, "listing failed", "kind", request.kind, "class", ClassOf(err), "error", err)
	}
}

// settle notes a listing that succeeded.
func (k *kindState) settle(request listRequest, options PollingOptions) {
	k.inFlight, k.failures, k.quietUntil = false, 0, time.Time{}
	k.refreshed = request.began
	if options.Jitter > 0 {
		k.jitter = rand.Float64() * options.Jitter
	}
	for id, written := range k.journal {
		if written <= request.writes {
			delete(k.journal, id)
		}
	}
}
