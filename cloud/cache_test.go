package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func TestACacheAsksOnceInItsLife(t *testing.T) {
	clock := clockwork.NewFakeClock()
	c := newCache[string, int](clock, time.Minute, time.Second)
	asked := 0
	ask := func(ctx context.Context) (int, error) { asked++; return asked, ctx.Err() }
	want := func(value, asks int) {
		t.Helper()
		got, err := c.get(t.Context(), "k", ask)
		if err != nil || got != value || asked != asks {
			t.Errorf("got %d after asking %d times (%v), want %d after %d", got, asked, err, value, asks)
		}
	}
	want(1, 1)
	clock.Advance(time.Minute)
	want(1, 1)
	clock.Advance(time.Second)
	want(2, 2)
	c.forget()
	want(3, 3)
	clock.Advance(time.Second)
	if got, _ := c.getSince(t.Context(), "k", clock.Now(), ask); got != 4 {
		t.Errorf("an answer older than wanted: %d", got)
	}
	if _, err := c.get(t.Context(), "other", ask); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Minute)
	want(6, 6)
	if len(c.entries) != 1 {
		t.Errorf("%d answers kept, want the fresh one", len(c.entries))
	}
}

func TestACacheRemembersFailuresForAShortTime(t *testing.T) {
	for _, c := range []struct {
		failure error
		life    time.Duration
	}{
		{Errorf(Transient, "out of order"), 10 * time.Second},
		{Errorf(Throttled, "slow down"), 10 * time.Second},
		{errors.New("unclassified"), 10 * time.Second},
		{Errorf(Auth, "not allowed"), 30 * time.Second},
		{Errorf(Config, "no such service"), 30 * time.Second},
		{fmt.Errorf("ask: %w", context.Canceled), 0},
	} {
		t.Run(c.failure.Error(), func(t *testing.T) {
			clock := clockwork.NewFakeClock()
			cache := newCache[string, int](clock, time.Hour, time.Second)
			asked := 0
			ask := func(context.Context) (int, error) { asked++; return 0, c.failure }
			for range 300 { // thirty seconds and a bit
				if _, err := cache.get(t.Context(), "k", ask); err != c.failure { //nolint:errorlint // the very same value
					t.Fatalf("got %v", err)
				}
				clock.Advance(100 * time.Millisecond)
			}
			want := 300
			if c.life > 0 {
				want = int(30 * time.Second / c.life)
			}
			if asked != want {
				t.Errorf("asked %d times in 30 s, want %d", asked, want)
			}
			clock.Advance(c.life)
			got, err := cache.get(t.Context(), "k", func(context.Context) (int, error) { return 7, nil })
			if err != nil || got != 7 || len(cache.failures) != 0 {
				t.Errorf("got %d, %v, and %d failures are kept", got, err, len(cache.failures))
			}
		})
	}
}

func TestAnOldAnswerOutlivesAFailureToGetANewerOne(t *testing.T) {
	clock := clockwork.NewFakeClock()
	c := newCache[string, int](clock, time.Hour, time.Second)
	if _, err := c.get(t.Context(), "k", func(context.Context) (int, error) { return 7, nil }); err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Minute)
	asked := 0
	ask := func(context.Context) (int, error) { asked++; return 0, Errorf(Transient, "out of order") }
	for range 3 {
		if _, err := c.getSince(t.Context(), "k", clock.Now(), ask); ClassOf(err) != Transient {
			t.Errorf("got %v", err)
		}
	}
	if got, err := c.get(t.Context(), "k", ask); err != nil || got != 7 || asked != 1 {
		t.Errorf("got %d, %v after asking %d times", got, err, asked)
	}
	c.forget()
	if _, err := c.get(t.Context(), "k", ask); err == nil || asked != 2 {
		t.Errorf("%v after asking %d times, want a failure that was forgotten to be asked for", err, asked)
	}
}

func TestWhoAsksACacheAtTheSameTimeSharesTheAnswer(t *testing.T) {
	c := newCache[string, int](clockwork.NewFakeClock(), time.Minute, time.Minute)
	var asked atomic.Int32
	asking, release := make(chan struct{}), make(chan struct{})
	ask := func(ctx context.Context) (int, error) {
		asked.Add(1)
		close(asking)
		<-release
		return 7, ctx.Err()
	}
	impatient, giveUp := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := c.get(impatient, "k", ask)
		first <- err
	}()
	<-asking
	giveUp() // the request goes on for the others
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that gave up got %v", err)
	}
	var others sync.WaitGroup
	for range 10 {
		others.Go(func() {
			if got, err := c.get(t.Context(), "k", ask); err != nil || got != 7 {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
	close(release)
	others.Wait()
	if got := asked.Load(); got != 1 {
		t.Errorf("asked %d times", got)
	}
}

func TestAnAnswerUnderWayIsNotNewEnoughForWhoCameLater(t *testing.T) {
	clock := clockwork.NewFakeClock()
	c := newCache[string, int](clock, time.Minute, time.Minute)
	var asked atomic.Int32
	asking, release := make(chan struct{}), make(chan struct{})
	ask := func(ctx context.Context) (int, error) {
		n := asked.Add(1)
		if n == 1 {
			close(asking)
			<-release
		}
		return int(n), ctx.Err()
	}
	first := make(chan int, 1)
	go func() {
		value, _ := c.get(t.Context(), "k", ask)
		first <- value
	}()
	<-asking
	clock.Advance(time.Second)
	second := make(chan int, 1)
	go func() {
		value, _ := c.getSince(t.Context(), "k", clock.Now(), ask)
		second <- value
	}()
	close(release)
	if one, two := <-first, <-second; one != 1 || two != 2 {
		t.Errorf("got %d and %d, want 1 and 2", one, two)
	}
}
