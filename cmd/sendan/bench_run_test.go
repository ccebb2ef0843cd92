package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

func TestNoMoreClustersAreOnTheirWayThanAskedFor(t *testing.T) {
	for concurrency, want := range map[int]time.Duration{0: time.Minute, 1: 7 * time.Minute, 3: 3 * time.Minute, 9: time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b, started := &benchmark{concurrency: concurrency}, time.Now()
			err := b.eachCluster(t.Context(), someClusters(7), func(ctx context.Context, _ *benchCluster) error {
				<-time.After(time.Minute)
				return ctx.Err()
			})
			if took := time.Since(started); err != nil || took != want {
				t.Errorf("%d at once: took %s, want %s: %v", concurrency, took, want, err)
			}
		})
	}
}

func TestOneClusterThatFailsEndsTheWaitForTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started := time.Now()
		err := new(benchmark).eachCluster(t.Context(), someClusters(3), func(ctx context.Context, cluster *benchCluster) error {
			if cluster.namespace == "bench-001" {
				return errors.New("refused")
			}
			<-ctx.Done()
			return ctx.Err()
		})
		if err == nil || err.Error() != "bench-001: refused" || time.Since(started) != 0 {
			t.Errorf("after %s: %v", time.Since(started), err)
		}
	})
}

func TestAClusterThatIsStuckEndsARun(t *testing.T) {
	for concurrency, want := range map[int]time.Duration{0: 21 * time.Minute, 1: 20*time.Minute + 30*time.Second, 3: 21 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			b, started := &benchmark{concurrency: concurrency}, time.Now()
			err := b.eachCluster(t.Context(), someClusters(2), func(ctx context.Context, _ *benchCluster) error {
				<-ctx.Done()
				return ctx.Err()
			})
			if took := time.Since(started); !errors.Is(err, context.DeadlineExceeded) || took != want {
				t.Errorf("%d at once: after %s, want %s: %v", concurrency, took, want, err)
			}
		})
	}
}

func someClusters(count int) []*benchCluster {
	var clusters []*benchCluster
	for i := range count {
		clusters = append(clusters, &benchCluster{tenant: &tenant{namespace: fmt.Sprintf("bench-%03d", i)}})
	}
	return clusters
}

func TestOnlyDeathsCountAsRestarts(t *testing.T) {
	var out bytes.Buffer
	b := &benchmark{out: &out}
	for _, kind := range []plane.EventKind{plane.Ready, plane.Died, plane.Restarted, plane.Died, plane.Killed} {
		b.noteEvent(plane.Event{Program: plane.Etcd, Kind: kind})
	}
	if lines := strings.Count(out.String(), "\n"); b.restarts.Load() != 2 || lines != 4 {
		t.Errorf("%d restarts and %d lines, want 2 and 4", b.restarts.Load(), lines)
	}
}

func TestBenchRefusesNumbersThatMakeNoSense(t *testing.T) {
	for want, flags := range map[string]benchFlags{
		"--clusters is []: give":      {},
		"--clusters is [3 0]: give":   {clusters: []int{3, 0}},
		"--concurrency is -1: give a": {clusters: []int{1}, concurrency: -1},
	} {
		if err := runBench(t.Context(), io.Discard, flags); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
