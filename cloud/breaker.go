package cloud

import (
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// The breaker of a service opens after breakerThreshold failures in a row and lets one probe
// through after breakerFirstPause, which doubles with every failed probe up to breakerLongestPause.
const (
	breakerThreshold    = 10
	breakerFirstPause   = 5 * time.Second
	breakerLongestPause = time.Minute
)

// outcome is what a request says about the health of a service.
type outcome int

const (
	// outcomeUnknown says nothing: the caller gave up.
	outcomeUnknown outcome = iota
	outcomeHealthy
	outcomeFailed
)

// breaker keeps requests from a service that fails every one of them, so that a broken service is
// left in peace and its callers learn at once that they have to wait.
type breaker struct {
	clock clockwork.Clock
	// report is called under the lock with the state for the gauge.
	report func(state float64)

	mu       sync.Mutex
	failures int // in a row
	pause    time.Duration
	until    time.Time // open until then; zero when closed
	probing  bool
}

// The values of the breaker gauge.
const (
	breakerClosed   = 0
	breakerHalfOpen = 0.5
	breakerOpen     = 1
)

// wait says for how long the breaker refuses requests; 0 when it would let one through.
func (b *breaker) wait() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waitLocked()
}

func (b *breaker) waitLocked() time.Duration {
	switch wait := b.until.Sub(b.clock.Now()); {
	case b.until.IsZero():
		return 0
	case wait > 0:
		return wait
	case b.probing:
		return b.pause
	}
	return 0
}

// admit lets a request through and returns 0, or says for how long it refuses. The end of every
// request let through must be reported to settle.
func (b *breaker) admit() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	if wait := b.waitLocked(); wait > 0 {
		return wait
	}
	if !b.until.IsZero() {
		b.probing = true
		b.report(breakerHalfOpen)
	}
	return 0
}

// settle learns from the end of an admitted request.
func (b *breaker) settle(result outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	wasOpen := !b.until.IsZero()
	b.probing = false
	switch result {
	case outcomeUnknown:
		return
	case outcomeHealthy:
		b.failures, b.pause, b.until = 0, 0, time.Time{}
		b.report(breakerClosed)
	case outcomeFailed:
		b.failures++
		// A request that was under way when the breaker opened must not lengthen the pause.
		if b.failures < breakerThreshold || (wasOpen && b.clock.Now().Before(b.until)) {
			return
		}
		b.pause = min(max(2*b.pause, breakerFirstPause), breakerLongestPause)
		b.until = b.clock.Now().Add(b.pause)
		b.report(breakerOpen)
	}
}
