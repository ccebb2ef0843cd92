package cloud

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/time/rate"
)

// A request waits for the limiter at most limiterLongestWait; beyond that its caller does better to
// come back later than to hold a worker.
const limiterLongestWait = 10 * time.Second

// longestPause bounds what a cloud may ask for with Retry-After: a wrong header must not stop a
// fleet for a day.
const longestPause = 5 * time.Minute

// cloudLabel names one cloud in metrics and messages: the host of its Keystone and the region.
func cloudLabel(authURL, region string) string {
	host := authURL
	if parsed, err := url.Parse(authURL); err == nil && parsed.Host != "" {
		host = parsed.Host
	}
	if region == "" {
		return host
	}
	return host + "/" + region
}

// governors holds one governor per cloud.
type governors struct {
	options Options
	metrics *requestMetrics

	mu      sync.Mutex
	byCloud map[string]*governor
}

func newGovernors(options Options, metrics *requestMetrics) *governors {
	return &governors{options: options, metrics: metrics, byCloud: map[string]*governor{}}
}

// of is the governor of one region, or of a cloud's Keystone when the region is empty: the regions
// of a cloud often share it.
func (g *governors) of(authURL, region string) *governor {
	key := strings.TrimRight(authURL, "/") + " " + region
	g.mu.Lock()
	defer g.mu.Unlock()
	existing, found := g.byCloud[key]
	if !found {
		existing = newGovernor(cloudLabel(authURL, region), g.options, g.metrics)
		g.byCloud[key] = existing
	}
	return existing
}

// keepOnly drops the governors nobody uses, with their metrics.
func (g *governors) keepOnly(inUse map[*governor]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	labels := map[string]bool{}
	for governor := range inUse {
		labels[governor.cloud] = true
	}
	for key, governor := range g.byCloud {
		if inUse[governor] {
			continue
		}
		delete(g.byCloud, key)
		if !labels[governor.cloud] {
			g.metrics.forget(governor.cloud)
		}
	}
}

// governor decides whether a request may go to a cloud now: the cloud's own Retry-After, a breaker
// per service and a token bucket, shared by all sessions of that cloud.
type governor struct {
	cloud   string
	clock   clockwork.Clock
	limiter *rate.Limiter
	metrics *requestMetrics

	mu          sync.Mutex
	pausedUntil time.Time
	breakers    map[service]*breaker
}

func newGovernor(cloud string, options Options, metrics *requestMetrics) *governor {
	return &governor{
		cloud:    cloud,
		clock:    options.Clock,
		limiter:  rate.NewLimiter(rate.Limit(options.RequestsPerSecond), options.Burst),
		metrics:  metrics,
		breakers: map[service]*breaker{},
	}
}

// admit waits for its turn. The error is a Throttled [Error] that says for how long, or that of ctx.
// After nil, the request's outcome must be reported to the breaker returned.
func (g *governor) admit(ctx context.Context, of service) (*breaker, error) {
	breaker := g.breaker(of)
	// Asked before the wait, so that a refused request takes nobody's turn, and again after it,
	// because the cloud may have failed meanwhile.
	if err := g.hold(of, breaker.wait()); err != nil {
		return nil, err
	}
	if err := g.takeTurn(ctx, of); err != nil {
		return nil, err
	}
	if err := g.hold(of, breaker.admit()); err != nil {
		return nil, err
	}
	return breaker, nil
}

// hold refuses a request while the cloud wants quiet or the breaker is open for some time yet.
func (g *governor) hold(of service, open time.Duration) error {
	if open > 0 {
		return g.refuse(of, "breaker", open, "the %s service of %s keeps failing", of, g.cloud)
	}
	if wait := g.pauseLeft(); wait > 0 {
		return g.refuse(of, "pause", wait, "%s asked for quiet", g.cloud)
	}
	return nil
}

// takeTurn waits for the token bucket.
func (g *governor) takeTurn(ctx context.Context, of service) error {
	now := g.clock.Now()
	reservation := g.limiter.ReserveN(now, 1)
	g.metrics.tokens.WithLabelValues(g.cloud).Set(g.limiter.TokensAt(now))
	wait := reservation.DelayFrom(now)
	if wait == 0 {
		return nil
	}
	if wait > limiterLongestWait {
		reservation.CancelAt(now)
		return g.refuse(of, "limiter", wait-limiterLongestWait, "too many requests to %s wait already", g.cloud)
	}
	select {
	case <-g.clock.After(wait):
		return nil
	case <-ctx.Done():
		reservation.CancelAt(g.clock.Now())
		return ctx.Err()
	}
}

// pause keeps every request from the cloud for a while, because it said so.
func (g *governor) pause(wait time.Duration) {
	until := g.clock.Now().Add(min(wait, longestPause))
	g.mu.Lock()
	defer g.mu.Unlock()
	if until.After(g.pausedUntil) {
		g.pausedUntil = until
		g.metrics.paused.WithLabelValues(g.cloud).Set(float64(until.Unix()))
	}
}

func (g *governor) pauseLeft() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.pausedUntil.Sub(g.clock.Now())
}

func (g *governor) breaker(of service) *breaker {
	g.mu.Lock()
	defer g.mu.Unlock()
	existing, found := g.breakers[of]
	if !found {
		gauge := g.metrics.breaker.WithLabelValues(g.cloud, string(of))
		existing = &breaker{clock: g.clock, report: gauge.Set}
		g.breakers[of] = existing
	}
	return existing
}

// refuse is the error of a request that was not sent.
func (g *governor) refuse(of service, reason string, wait time.Duration, format string, args ...any) *Error {
	g.metrics.refused.WithLabelValues(g.cloud, string(of), reason).Inc()
	until := g.clock.Now().Add(wait).UTC().Format(time.RFC3339)
	return &Error{
		Class:      Throttled,
		Message:    fmt.Sprintf(format, args...) + "; nothing is sent until " + until,
		RetryAfter: wait,
	}
}
