package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

// killPhase is a part of a cluster's life over which kills are spread.
type killPhase struct {
	// phases are how many are left with this one; they share the kills evenly.
	phases int
	// writes to the cloud, a little fewer than the phase makes.
	writes int
	// takes is how long the kills may take at most.
	takes time.Duration
}

// The creation waits for servers to boot most of the time, and should rather be hit when it writes.
// What it is over too soon for is left to the deletion, which takes longer than its kills in any case.
func creationPhase() killPhase { return killPhase{phases: 2, writes: 20, takes: 90 * time.Second} }
func deletionPhase() killPhase { return killPhase{phases: 1, writes: 12, takes: 10 * time.Second} }

const (
	// killPollInterval is how exactly a kill follows the call that it is to follow.
	killPollInterval = 10 * time.Millisecond
	// maxKillDelay is about as long as the provider takes to store what a call's answer said: a kill
	// falls before that, or after it.
	maxKillDelay = 100 * time.Millisecond
	// quietPeriod is how long the state reached has to last, since a provider that was just started
	// again may still do something wrong.
	quietPeriod = 10 * time.Second
)

// chaosFlags say how to disturb a check.
type chaosFlags struct {
	// kills of the provider in total, half of them while the cluster is created and half while it is
	// deleted.
	kills int
	seed  uint64
}

func (f *chaosFlags) register(cmd *cobra.Command) {
	cmd.Flags().IntVar(&f.kills, "kill-provider", 0, "with --check: kill -9 the provider this often while the cluster is created and deleted")
	cmd.Flags().Uint64Var(&f.seed, "seed", 0, "draw the moments of --kill-provider from this; 0 stands for a seed of its own every time")
}

// complete checks the flags and draws a seed where none was given.
func (f *chaosFlags) complete(check bool) error {
	if f.kills < 0 {
		return fmt.Errorf("--kill-provider=%d: how often to kill cannot be negative", f.kills)
	}
	if f.kills > 0 && !check {
		return errors.New("--kill-provider goes with --check only: add --check")
	}
	if f.seed == 0 {
		f.seed = uint64(rand.Uint32())
	}
	return nil
}

// killMoment is when to kill, counted from the last kill: so many writes to the cloud later and
// then some, but no later than latest, so that kills also fall into the starts of a new process and
// into quiet times.
type killMoment struct {
	writes int
	delay  time.Duration
	latest time.Duration
}

// drawKillMoments spreads kills over a phase.
func drawKillMoments(random *rand.Rand, kills int, phase killPhase) []killMoment {
	moments := make([]killMoment, kills)
	for i := range moments {
		moments[i] = killMoment{
			writes: 1 + random.IntN(max(1, phase.writes/kills)),
			delay:  drawDuration(random, maxKillDelay),
			latest: drawDuration(random, phase.takes/time.Duration(kills)),
		}
	}
	return moments
}

func drawDuration(random *rand.Rand, below time.Duration) time.Duration {
	return time.Duration(random.Int64N(int64(below)))
}

// killer kills a program at moments that were drawn before.
type killer struct {
	clock clockwork.Clock
	out   io.Writer
	// writes is how many calls have changed the cloud; only the program killed makes any.
	writes func(context.Context) (int, error)
	// kill returns plane.ErrNotRunning while there is nothing to kill.
	kill   func() error
	random *rand.Rand
	// done and left are numbers of kills.
	done, left int
}

// newKiller of the provider of a demo; nil when nothing is to be killed.
func newKiller(d *demo, out io.Writer, chaos chaosFlags) *killer {
	if chaos.kills == 0 {
		return nil
	}
	_, _ = fmt.Fprintf(out, "  %d kills of %s to come, drawn with --seed=%d\n", chaos.kills, plane.InfrastructureManager, chaos.seed)
	return &killer{
		clock:  d.clock,
		out:    out,
		writes: d.cloud.writes,
		kill:   func() error { return d.plane.Kill(plane.InfrastructureManager) },
		random: rand.New(rand.NewPCG(chaos.seed, 0)),
		left:   chaos.kills,
	}
}

// start spreads kills over a phase that begins now. The function it returns ends that.
func (k *killer) start(ctx context.Context, phase killPhase) (finish func() error) {
	ctx, cancel := context.WithCancel(ctx)
	share := (k.left + phase.phases - 1) / phase.phases
	moments := drawKillMoments(k.random, share, phase)
	result := make(chan error, 1)
	go func() { result <- k.killAtAll(ctx, moments) }()
	return func() error {
		cancel()
		err := <-result
		if errors.Is(err, context.Canceled) {
			return nil // the phase was over before its last kill
		}
		return err
	}
}

func (k *killer) killAtAll(ctx context.Context, moments []killMoment) error {
	for _, moment := range moments {
		if err := k.killAt(ctx, moment); err != nil {
			return err
		}
		k.done, k.left = k.done+1, k.left-1
	}
	return nil
}

func (k *killer) killAt(ctx context.Context, moment killMoment) error {
	why, err := k.await(ctx, moment)
	if err != nil {
		return err
	}
	if err := k.killOnceItRuns(ctx); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(k.out, "  kill %d of %d: %s\n", k.done+1, k.done+k.left, why)
	return nil
}

// await returns at the moment, and says which it was.
func (k *killer) await(ctx context.Context, moment killMoment) (string, error) {
	before, err := k.writes(ctx)
	if err != nil {
		return "", err
	}
	started, made := k.clock.Now(), 0
	err = k.poll(ctx, func() (bool, error) {
		now, err := k.writes(ctx)
		made = now - before
		return made >= moment.writes || k.clock.Since(started) >= moment.latest, err
	})
	if err != nil {
		return "", err
	}
	if made < moment.writes {
		return fmt.Sprintf("after %s with %d writes to the cloud", moment.latest.Round(time.Millisecond), made), nil
	}
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case <-k.clock.After(moment.delay):
	}
	return fmt.Sprintf("%s after %d writes to the cloud", moment.delay.Round(time.Millisecond), made), nil
}

// killOnceItRuns also meets a program that has only just been started.
func (k *killer) killOnceItRuns(ctx context.Context) error {
	return k.poll(ctx, func() (bool, error) {
		err := k.kill()
		if errors.Is(err, plane.ErrNotRunning) {
			return false, nil
		}
		return true, err
	})
}

func (k *killer) poll(ctx context.Context, done func() (bool, error)) error {
	ticker := k.clock.NewTicker(killPollInterval)
	defer ticker.Stop()
	for {
		if over, err := done(); over || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.Chan():
		}
	}
}
