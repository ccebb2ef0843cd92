package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jonboulle/clockwork"
)

const pollInterval = 500 * time.Millisecond

// waitUntil asks until missing returns nil. When that takes too long, or ctx ends, the error says
// what was missing last.
func waitUntil(ctx context.Context, clock clockwork.Clock, within time.Duration, missing func(context.Context) error) error {
	deadline := clock.After(within)
	ticker := clock.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		err := missing(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline:
			return fmt.Errorf("gave up after %s: %w", within, err)
		case <-ticker.Chan():
		}
	}
}

// staysSo keeps asking, and fails as soon as missing does.
func staysSo(ctx context.Context, clock clockwork.Clock, period time.Duration, missing func(context.Context) error) error {
	over := clock.After(period)
	ticker := clock.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if err := missing(ctx); err != nil {
			return fmt.Errorf("it did not stay so: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over:
			return nil
		case <-ticker.Chan():
		}
	}
}
