package cloud

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// How long a failed look-up is answered from memory: a cloud that stumbled is back any moment, while a
// missing right stays missing until a person acts.
const (
	stumbleLife = 10 * time.Second
	refusalLife = 30 * time.Second
)

// cache remembers answers for a while, and failures for a shorter one: every reconciler that asks
// would otherwise repeat a request that cannot succeed. Callers that miss the same key at the same
// time share one request.
type cache[K comparable, V any] struct {
	clock clockwork.Clock
	life  time.Duration
	// patience bounds a shared request, which belongs to no caller.
	patience time.Duration

	mu      sync.Mutex
	entries map[K]cacheEntry[V]
	// failures do not replace entries: an old answer outlives a failure to get a newer one.
	failures map[K]failedLookup
	flights  map[K]*flight[V]
}

// cacheEntry is an answer to a question asked at a time.
type cacheEntry[V any] struct {
	value V
	asked time.Time
}

// failedLookup is a failure that need not be repeated for now.
type failedLookup struct {
	err   error
	until time.Time
}

// flight is a request under way.
type flight[V any] struct {
	asked time.Time
	done  chan struct{} // closed at the end; the rest is set before
	value V
	err   error
}

func newCache[K comparable, V any](clock clockwork.Clock, life, patience time.Duration) *cache[K, V] {
	return &cache[K, V]{
		clock: clock, life: life, patience: patience,
		entries: map[K]cacheEntry[V]{}, failures: map[K]failedLookup{}, flights: map[K]*flight[V]{},
	}
}

// get is the answer for key, at most a cache life old.
func (c *cache[K, V]) get(ctx context.Context, key K, ask func(context.Context) (V, error)) (V, error) {
	return c.getSince(ctx, key, c.clock.Now().Add(-c.life), ask)
}

// getSince is an answer asked for after a time, or at it, or the failure to get one just now.
func (c *cache[K, V]) getSince(ctx context.Context, key K, since time.Time, ask func(context.Context) (V, error)) (V, error) {
	for {
		c.mu.Lock()
		if entry, found := c.entries[key]; found && !entry.asked.Before(since) {
			c.mu.Unlock()
			return entry.value, nil
		}
		if failure, failed := c.failures[key]; failed && c.clock.Now().Before(failure.until) {
			c.mu.Unlock()
			var none V
			return none, failure.err
		}
		current, flying := c.flights[key]
		if !flying {
			current = c.depart(ctx, key, ask)
		}
		c.mu.Unlock()

		select {
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		case <-current.done:
		}
		if !current.asked.Before(since) {
			return current.value, current.err
		}
	}
}

// depart begins a request. The caller holds the lock.
func (c *cache[K, V]) depart(ctx context.Context, key K, ask func(context.Context) (V, error)) *flight[V] {
	started := &flight[V]{asked: c.clock.Now(), done: make(chan struct{})}
	c.flights[key] = started
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.patience)
		defer cancel()
		started.value, started.err = ask(ctx)
		c.land(key, started)
	}()
	return started
}

// land keeps the outcome of a request and drops those that are too old.
func (c *cache[K, V]) land(key K, ended *flight[V]) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer close(ended.done)
	if c.flights[key] == ended { // not forgotten meanwhile
		delete(c.flights, key)
		c.keep(key, ended)
	}
	now := c.clock.Now()
	for other, failure := range c.failures {
		if !now.Before(failure.until) {
			delete(c.failures, other)
		}
	}
	tooOld := now.Add(-c.life)
	for other, entry := range c.entries {
		if entry.asked.Before(tooOld) {
			delete(c.entries, other)
		}
	}
}

// keep remembers how a request ended. The caller holds the lock.
func (c *cache[K, V]) keep(key K, ended *flight[V]) {
	switch {
	case ended.err == nil:
		c.entries[key] = cacheEntry[V]{value: ended.value, asked: ended.asked}
		delete(c.failures, key)
	case errors.Is(ended.err, context.Canceled): // says nothing about the cloud
	default:
		c.failures[key] = failedLookup{err: ended.err, until: c.clock.Now().Add(failureLife(ended.err))}
	}
}

// failureLife is how long a failure is remembered.
func failureLife(err error) time.Duration {
	switch ClassOf(err) {
	case Transient, Throttled:
		return stumbleLife
	}
	return refusalLife
}

// forget drops every outcome; those under way are not kept either.
func (c *cache[K, V]) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.entries)
	clear(c.failures)
	clear(c.flights)
}
