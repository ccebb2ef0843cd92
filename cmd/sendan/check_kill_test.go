package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

func TestKillMomentsDependOnTheSeedAlone(t *testing.T) {
	draw := func(seed uint64) []killMoment {
		return drawKillMoments(rand.New(rand.NewPCG(seed, 0)), 5, creationPhase())
	}
	if !slices.Equal(draw(7), draw(7)) {
		t.Error("the same seed gave other moments")
	}
	if slices.Equal(draw(7), draw(8)) {
		t.Error("another seed gave the same moments")
	}
}

func TestKillMomentsFitIntoTheirPhase(t *testing.T) {
	for _, phase := range []killPhase{creationPhase(), deletionPhase()} {
		for kills := range 30 {
			for seed := range uint64(50) {
				moments := drawKillMoments(rand.New(rand.NewPCG(seed, 0)), kills, phase)
				if len(moments) != kills {
					t.Fatalf("%d moments for %d kills", len(moments), kills)
				}
				writes, latest := 0, time.Duration(0)
				for _, moment := range moments {
					if moment.writes < 1 || moment.delay < 0 || moment.delay > maxKillDelay {
						t.Fatalf("moment %+v", moment)
					}
					writes, latest = writes+moment.writes, latest+moment.latest
				}
				if writes > max(phase.writes, kills) || latest > phase.takes {
					t.Fatalf("%d kills with seed %d take %d writes and %s, the phase has %d and %s", kills, seed, writes, latest, phase.writes, phase.takes)
				}
			}
		}
	}
}

func TestEveryKillHappensAndTheyAreSharedByThePhases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, 5)
		finish := v.killer.start(t.Context(), creationPhase())
		<-time.After(creationPhase().takes + time.Minute)
		if err := finish(); err != nil {
			t.Fatal(err)
		}
		if v.killer.done != 3 || v.killer.left != 2 {
			t.Errorf("%d kills in the first phase, %d left; want 3 and 2", v.killer.done, v.killer.left)
		}
		finish = v.killer.start(t.Context(), deletionPhase())
		<-time.After(deletionPhase().takes + time.Minute)
		if err := finish(); err != nil {
			t.Fatal(err)
		}
		if v.killer.done != 5 || v.killer.left != 0 || len(v.kills) != 5 {
			t.Errorf("%d kills, %d left, %d happened; want 5, 0 and 5", v.killer.done, v.killer.left, len(v.kills))
		}
		if lines := strings.Count(v.out.String(), "\n"); lines != 5 || !strings.Contains(v.out.String(), "kill 5 of 5") {
			t.Errorf("it was told as\n%s", v.out.String())
		}
	})
}

func TestKillsThatAPhaseIsTooShortForAreLeftToTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, 4)
		if err := v.killer.start(t.Context(), creationPhase())(); err != nil {
			t.Errorf("a phase that is over too soon is an error: %v", err)
		}
		if v.killer.done != 0 || v.killer.left != 4 {
			t.Errorf("%d kills, %d left; want 0 and 4", v.killer.done, v.killer.left)
		}
	})
}

func TestAKillFollowsTheWriteThatItIsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, 1)
		v.writeEvery = time.Second
		started := time.Now()
		if err := v.killer.killAt(t.Context(), killMoment{writes: 3, delay: 40 * time.Millisecond, latest: time.Hour}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(started); took < 3040*time.Millisecond || took > 3060*time.Millisecond {
			t.Errorf("killed after %s, want 40 ms after the third write", took)
		}
	})
}

func TestAKillWaitsForAProgramThatIsBeingStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, 1)
		v.startsAt = time.Now().Add(5 * time.Second)
		if err := v.killer.killAt(t.Context(), killMoment{writes: 1}); err != nil {
			t.Fatal(err)
		}
		if len(v.kills) != 1 || v.kills[0].Before(v.startsAt) {
			t.Errorf("kills at %v, the program starts at %v", v.kills, v.startsAt)
		}
	})
}

func TestAKillThatFailsIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVictim(t, 2)
		v.killer.kill = func() error { return errors.New("not permitted") }
		finish := v.killer.start(t.Context(), deletionPhase())
		<-time.After(time.Minute)
		if err := finish(); err == nil || err.Error() != "not permitted" {
			t.Errorf("error is %v", err)
		}
	})
}

func TestKillProviderIsRefusedWhereItMakesNoSense(t *testing.T) {
	for args, want := range map[string]string{
		"--kill-provider 3":          "--kill-provider goes with --check only",
		"--check --kill-provider -1": "cannot be negative",
	} {
		cmd := newDemoCommand()
		cmd.SetArgs(strings.Fields(args))
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&bytes.Buffer{})
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", args, err, want)
		}
	}
}

func TestASeedIsDrawnOnlyWhereNoneWasGiven(t *testing.T) {
	given, drawn := chaosFlags{kills: 1, seed: 42}, chaosFlags{kills: 1}
	if err := errors.Join(given.complete(true), drawn.complete(true)); err != nil {
		t.Fatal(err)
	}
	if given.seed != 42 || drawn.seed == 0 {
		t.Errorf("seeds are %d and %d", given.seed, drawn.seed)
	}
}

func TestAStateThatDoesNotLastIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock, started := clockwork.NewRealClock(), time.Now()
		lasting := func(context.Context) error { return nil }
		if err := staysSo(t.Context(), clock, 10*time.Second, lasting); err != nil || time.Since(started) < 10*time.Second {
			t.Errorf("got %v after %s", err, time.Since(started))
		}
		started = time.Now()
		brief := func(context.Context) error {
			if time.Since(started) > 4*time.Second {
				return errors.New("a second router appeared")
			}
			return nil
		}
		if err := staysSo(t.Context(), clock, 10*time.Second, brief); err == nil || err.Error() != "it did not stay so: a second router appeared" {
			t.Errorf("error is %v", err)
		}
	})
}

// victim is a program that writes to a cloud and can be killed.
type victim struct {
	killer *killer
	out    *bytes.Buffer
	born   time.Time
	// writeEvery is the pause between two writes; zero for no writes at all.
	writeEvery time.Duration
	startsAt   time.Time
	kills      []time.Time
}

func newVictim(t *testing.T, kills int) *victim {
	t.Helper()
	v := &victim{out: &bytes.Buffer{}, born: time.Now()}
	v.killer = &killer{
		clock: clockwork.NewRealClock(),
		out:   v.out,
		writes: func(context.Context) (int, error) {
			if v.writeEvery == 0 {
				return 0, nil
			}
			return int(time.Since(v.born) / v.writeEvery), nil
		},
		kill: func() error {
			if time.Now().Before(v.startsAt) {
				return fmt.Errorf("kill the victim: %w", plane.ErrNotRunning)
			}
			v.kills = append(v.kills, time.Now())
			return nil
		},
		random: rand.New(rand.NewPCG(1, 0)),
		left:   kills,
	}
	return v
}
