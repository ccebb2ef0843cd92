package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
	demomanifests "github.com/sendan-io/sendan/templates/demo"
)

const (
	// firstDeadline is a cluster's, and furtherDeadline is added for each that is on its way at the same time: a hang is to be told
	// from a slow machine.
	firstDeadline   = 20 * time.Minute
	furtherDeadline = 30 * time.Second
	// restFor is how long clusters are left alone before they count as settled.
	restFor = time.Minute
	// settledFor is as long as the provider's pause between two looks at servers when nothing is being built.
	settledFor = 2 * time.Minute
	// emptyWithin is how long the cloud may take to forget what was deleted.
	emptyWithin = 30 * time.Second
)

// measure brings up a plane, leads clusters through their lives on it, and takes it down.
func measure(ctx context.Context, out io.Writer, flags benchFlags, count int) (measurement, error) {
	b := &benchmark{out: out, concurrency: flags.concurrency}
	options, err := flags.plane.options(b.noteEvent)
	if err != nil {
		return measurement{}, err
	}
	options.Scenario = roomFor(count)
	b.profiler, err = newProfiler(flags.profiles, count)
	if err != nil {
		return measurement{}, err
	}
	options.ManagerArgs = append(slices.Clone(options.ManagerArgs), b.profiler.arguments()...)
	if err := plane.Discard(options.StateDir); err != nil {
		return measurement{}, err
	}
	if b.plane, err = plane.Start(ctx, options); err != nil {
		return measurement{}, err
	}
	defer b.plane.Stop()
	b.cloud, b.clock = newSimulatedCloud(b.plane), options.Clock
	b.watcher = newWatcher(b.clock, out, count)
	ctx, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	config, err := clientcmd.BuildConfigFromFlags("", b.plane.Layout().Kubeconfig())
	if err != nil {
		return measurement{}, fmt.Errorf("read kubeconfig: %w", err)
	}
	if err := b.watcher.watch(ctx, config, options.Scheme); err != nil {
		return measurement{}, err
	}
	return b.run(ctx, count)
}

// uncounted are the quotas of what clusters are made of: how many there are is up to the flags, and not to the project.
var uncounted = []string{
	"instances", "cores", "ram", "server_groups", "volumes", "gigabytes",
	"network", "subnet", "router", "port", "floatingip", "security_group", "security_group_rule",
	"loadbalancer", "listener", "pool", "member", "healthmonitor",
}

// roomFor is a scenario with hosts for that many clusters, and without quotas: a worker of the demo takes a whole GPU host.
func roomFor(clusters int) string {
	var scenario strings.Builder
	scenario.WriteString("quotas:\n")
	for _, quota := range uncounted {
		fmt.Fprintf(&scenario, "  %s: -1\n", quota)
	}
	scenario.WriteString("hosts:\n")
	zones := []string{"az1", "az2", "az3"}
	for i := range max(3, 2*clusters) {
		zone := zones[i%len(zones)]
		fmt.Fprintf(&scenario, "- {name: cpu-%s-%d, zone: %s, vcpus: 256, memoryMiB: 1048576, diskGiB: 20000}\n", zone, i, zone)
		fmt.Fprintf(&scenario, "- {name: a100-%s-%d, zone: %s, vcpus: 256, memoryMiB: 2097152, diskGiB: 20000, gpus: {a100: 8}}\n", zone, i, zone)
	}
	return scenario.String()
}

// benchmark is a plane that many clusters are made on.
type benchmark struct {
	plane       *plane.Plane
	cloud       simulatedCloud
	clock       clockwork.Clock
	out         io.Writer
	watcher     *watcher
	profiler    *profiler
	concurrency int
	restarts    atomic.Int64
}

// noteEvent passes on what is worth knowing: how long the programs take to start is no part of the measurement.
func (b *benchmark) noteEvent(event plane.Event) {
	if event.Kind == plane.Died {
		b.restarts.Add(1)
	}
	if event.Kind != plane.Ready {
		_, _ = fmt.Fprintf(b.out, "  %s\n", event)
	}
}

// benchCluster is one of the clusters.
type benchCluster struct {
	*tenant
	*timeline
	goneAfter time.Duration
}

func (b *benchmark) run(ctx context.Context, count int) (measurement, error) {
	m := measurement{clusters: count}
	clusters, err := b.newClusters(count)
	if err != nil {
		return m, err
	}
	for _, part := range []struct {
		name  string
		phase *phase
		do    func(context.Context, []*benchCluster) error
	}{
		{"make", &m.creation, b.createAll},
		{"let rest", &phase{}, b.rest},
		{"leave alone", &m.settled, b.leaveAlone},
		{"look again", &phase{}, b.allReady},
		{"delete", &m.deletion, b.deleteAll},
	} {
		if *part.phase, err = b.measurePhase(ctx, clusters, part.do); err != nil {
			return m, fmt.Errorf("%s: %w", part.name, err)
		}
		_, _ = fmt.Fprintf(b.out, "  %s: %.1fs, %d calls\n", part.name, part.phase.took.Seconds(), part.phase.calls)
	}
	err = b.conclude(ctx, &m, clusters)
	return m, err
}

func (b *benchmark) newClusters(count int) ([]*benchCluster, error) {
	clusters := make([]*benchCluster, count)
	for i := range clusters {
		t, err := newTenant(b.plane.Client(), fmt.Sprintf("bench-%03d", i+1), demomanifests.Cluster)
		if err != nil {
			return nil, err
		}
		clusters[i] = &benchCluster{tenant: t}
	}
	return clusters, nil
}

// counters are what a phase is the difference of.
type counters struct {
	calls    int
	usages   map[string]usage
	requests map[string]requests
}

func (b *benchmark) read(ctx context.Context) (c counters, err error) {
	if c.usages, err = b.usages(); err != nil {
		return c, err
	}
	c.requests = b.managementRequests(ctx)
	c.calls, err = b.cloud.calls(ctx)
	return c, err
}

func (b *benchmark) measurePhase(ctx context.Context, clusters []*benchCluster, do func(context.Context, []*benchCluster) error) (phase, error) {
	before, err := b.read(ctx)
	if err != nil {
		return phase{}, err
	}
	started := b.clock.Now()
	if err := do(ctx, clusters); err != nil {
		return phase{}, err
	}
	took := b.clock.Since(started)
	after, err := b.read(ctx)
	if err != nil {
		return phase{}, err
	}
	return after.since(before, took), nil
}

func (c counters) since(before counters, took time.Duration) phase {
	p := phase{took: took, calls: c.calls - before.calls, processor: map[string]time.Duration{}, requests: map[string]requests{}}
	for program, usage := range c.usages {
		p.processor[program] = usage.since(before.usages[program])
	}
	for program, requests := range c.requests {
		p.requests[program] = requests.since(before.requests[program])
	}
	return p
}

// eachCluster does something with all of them, with no more at once than asked for.
func (b *benchmark) eachCluster(ctx context.Context, clusters []*benchCluster, do func(context.Context, *benchCluster) error) error {
	atOnce := len(clusters)
	if b.concurrency > 0 {
		atOnce = min(atOnce, b.concurrency)
	}
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(atOnce)
	for _, cluster := range clusters {
		work.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, firstDeadline+time.Duration(atOnce)*furtherDeadline)
			defer cancel()
			if err := do(ctx, cluster); err != nil {
				return fmt.Errorf("%s: %w", cluster.namespace, err)
			}
			return nil
		})
	}
	return work.Wait()
}

func (b *benchmark) createAll(ctx context.Context, clusters []*benchCluster) error {
	cloudsYAML, err := os.ReadFile(b.plane.Layout().CloudsYAML())
	if err != nil {
		return fmt.Errorf("read the cloud's credentials: %w", err)
	}
	b.profiler.start(ctx)
	return b.eachCluster(ctx, clusters, func(ctx context.Context, cluster *benchCluster) error {
		cluster.timeline = b.watcher.expect(cluster.namespace)
		if err := cluster.apply(ctx, cloudsYAML); err != nil {
			return err
		}
		return b.await(ctx, cluster, cluster.ready)
	})
}

// rest makes sure that the Clusters did not promise too much, and lets the programs finish what they still had to do.
func (b *benchmark) rest(ctx context.Context, clusters []*benchCluster) error {
	if err := b.profiler.takeMemory(ctx); err != nil {
		return err
	}
	err := waitUntil(ctx, b.clock, readyDeadline, func(ctx context.Context) error { return b.allReady(ctx, clusters) })
	if err != nil {
		return err
	}
	return errors.Join(b.sleep(ctx, restFor), b.profiler.stop())
}

func (b *benchmark) leaveAlone(ctx context.Context, _ []*benchCluster) error {
	return b.sleep(ctx, settledFor)
}

func (b *benchmark) deleteAll(ctx context.Context, clusters []*benchCluster) error {
	return b.eachCluster(ctx, clusters, func(ctx context.Context, cluster *benchCluster) error {
		started := b.clock.Now()
		if err := cluster.delete(ctx); err != nil {
			return err
		}
		err := b.await(ctx, cluster, cluster.gone)
		cluster.goneAfter = b.clock.Since(started)
		return err
	})
}

// await tells what a cluster is stuck with when time is up.
func (b *benchmark) await(ctx context.Context, cluster *benchCluster, event <-chan struct{}) error {
	select {
	case <-event:
		return nil
	case <-ctx.Done():
	}
	asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	s, err := cluster.state(asking)
	if err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return errors.Join(ctx.Err(), s.unready())
}

// allReady looks closer at every cluster than its Cluster tells.
func (b *benchmark) allReady(ctx context.Context, clusters []*benchCluster) error {
	for _, cluster := range clusters {
		s, err := cluster.state(ctx)
		if err != nil {
			return err
		}
		if err := s.unready(); err != nil {
			return fmt.Errorf("%s was ready: %w", cluster.namespace, err)
		}
	}
	return nil
}

func (b *benchmark) sleep(ctx context.Context, period time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-b.clock.After(period):
		return nil
	}
}

// conclude adds what is known only at the end.
func (b *benchmark) conclude(ctx context.Context, m *measurement, clusters []*benchCluster) (err error) {
	var timelines []*timeline
	var goneAfter []time.Duration
	for _, cluster := range clusters {
		timelines, goneAfter = append(timelines, cluster.timeline), append(goneAfter, cluster.goneAfter)
	}
	m.stages, m.goneAfter = spreadsOf(timelines), newSpread(goneAfter)
	if m.left, err = b.objectsLeft(ctx); err != nil {
		return err
	}
	m.restarts = int(b.restarts.Load())
	m.peakMemoryMiB, err = b.peakMemory()
	return err
}

// objectsLeft in the cloud, which gets a moment to finish what was asked of it.
func (b *benchmark) objectsLeft(ctx context.Context) (int, error) {
	var objects objectCounts
	err := waitUntil(ctx, b.clock, emptyWithin, func(ctx context.Context) (err error) {
		if objects, err = b.cloud.objects(ctx); err == nil && objects.total() != 0 {
			err = fmt.Errorf("the cloud still has %s", objects)
		}
		return err
	})
	if err != nil && objects.total() == 0 {
		return 0, err // the cloud does not answer
	}
	if err != nil {
		_, _ = fmt.Fprintf(b.out, "  %v\n", err)
	}
	return objects.total(), nil
}
