package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
	demomanifests "github.com/sendan-io/sendan/templates/demo"
)

// benchDeadline is for each number of clusters.
const benchDeadline = 20 * time.Minute

func newBenchCommand() *cobra.Command {
	var flags planeFlags
	var clusters []int
	var file string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure time to Ready, calls to the cloud and memory",
		Long: `bench brings up a fresh plane for each number of clusters, applies that many clusters of three
control-plane nodes and two GPU workers at once, and waits until all are Ready. Nodes exist only in
memory, so the figures are those of the management plane and of the calls it makes.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runBench(cmd.Context(), cmd.OutOrStdout(), flags, clusters, file)
		},
	}
	flags.register(cmd, "", "where to keep state and logs (default a temporary directory)")
	cmd.Flags().IntSliceVar(&clusters, "clusters", []int{1, 20}, "how many clusters to make at once; one run for each number")
	cmd.Flags().StringVar(&file, "out", "", "also write the table to this file")
	return cmd
}

// measurement is what one number of clusters came to.
type measurement struct {
	clusters int
	// readyAfter is how long each cluster took, in ascending order.
	readyAfter []time.Duration
	calls      int
	// Peaks of resident memory, by program.
	peakMemoryMiB map[string]int
}

func (m measurement) median() time.Duration { return m.readyAfter[len(m.readyAfter)/2] }
func (m measurement) slowest() time.Duration {
	return m.readyAfter[len(m.readyAfter)-1]
}

func (m measurement) callsPerCluster() float64 { return float64(m.calls) / float64(m.clusters) }

func runBench(ctx context.Context, out io.Writer, flags planeFlags, clusters []int, file string) error {
	if slices.ContainsFunc(clusters, func(count int) bool { return count < 1 }) || len(clusters) == 0 {
		return fmt.Errorf("--clusters is %v: give numbers above zero, such as 1,20", clusters)
	}
	if flags.stateDir == "" {
		dir, err := os.MkdirTemp("", "sendan-bench-")
		if err != nil {
			return fmt.Errorf("make a state directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		flags.stateDir = dir
	}
	machine := describeMachine()
	base := flags.stateDir
	var measurements []measurement
	for _, count := range clusters {
		flags.stateDir = filepath.Join(base, fmt.Sprintf("%d-clusters", count))
		_, _ = fmt.Fprintf(out, "%d clusters\n", count)
		m, err := measure(ctx, out, flags, count)
		if err != nil {
			return fmt.Errorf("%d clusters: %w", count, err)
		}
		measurements = append(measurements, m)
	}
	report := benchReport(machine, time.Now(), versions(), measurements)
	_, _ = fmt.Fprint(out, "\n", report)
	if file == "" {
		return nil
	}
	if err := os.WriteFile(file, []byte(report), 0o644); err != nil {
		return fmt.Errorf("write results: %w", err)
	}
	return nil
}

// measure brings up a plane, makes clusters on it, and takes it down.
func measure(ctx context.Context, out io.Writer, flags planeFlags, count int) (measurement, error) {
	options, err := flags.options(func(event plane.Event) {
		// How long the programs take to start is no part of the measurement; deaths are.
		if event.Kind != plane.Ready {
			_, _ = fmt.Fprintf(out, "  %s\n", event)
		}
	})
	if err != nil {
		return measurement{}, err
	}
	options.Scenario = roomFor(count)
	if err := plane.Discard(options.StateDir); err != nil {
		return measurement{}, err
	}
	p, err := plane.Start(ctx, options)
	if err != nil {
		return measurement{}, err
	}
	defer p.Stop()
	b := &bench{plane: p, cloud: newSimulatedCloud(p), clock: options.Clock, out: out}
	return b.run(ctx, count)
}

// roomFor is a scenario with hosts for that many clusters: a worker of the demo takes a whole GPU host.
func roomFor(clusters int) string {
	var hosts strings.Builder
	hosts.WriteString("hosts:\n")
	zones := []string{"az1", "az2", "az3"}
	for i := range max(3, 2*clusters) {
		zone := zones[i%len(zones)]
		fmt.Fprintf(&hosts, "- {name: cpu-%s-%d, zone: %s, vcpus: 256, memoryMiB: 1048576, diskGiB: 20000}\n", zone, i, zone)
		fmt.Fprintf(&hosts, "- {name: a100-%s-%d, zone: %s, vcpus: 256, memoryMiB: 2097152, diskGiB: 20000, gpus: {a100: 8}}\n", zone, i, zone)
	}
	return hosts.String()
}

// bench is a plane that many clusters are made on.
type bench struct {
	plane *plane.Plane
	cloud simulatedCloud
	clock clockwork.Clock
	out   io.Writer
}

func (b *bench) run(ctx context.Context, count int) (measurement, error) {
	started, err := b.applyAll(ctx, count)
	if err != nil {
		return measurement{}, err
	}
	m := measurement{clusters: count, peakMemoryMiB: map[string]int{}}
	took := map[string]time.Duration{}
	err = waitUntil(ctx, b.clock, benchDeadline, func(ctx context.Context) error {
		return b.collectReady(ctx, started, took)
	})
	if err != nil {
		return measurement{}, err
	}
	for _, duration := range took {
		m.readyAfter = append(m.readyAfter, duration)
	}
	slices.Sort(m.readyAfter)
	if m.calls, err = b.cloud.calls(ctx); err != nil {
		return measurement{}, err
	}
	for _, program := range []string{plane.InfrastructureManager, plane.Simulator} {
		if m.peakMemoryMiB[program], err = b.peakMemory(program); err != nil {
			return measurement{}, err
		}
	}
	return m, nil
}

// applyAll makes the clusters, each in its own namespace, all at once, and tells when it began with
// each.
func (b *bench) applyAll(ctx context.Context, count int) (map[string]time.Time, error) {
	cloudsYAML, err := os.ReadFile(b.plane.Layout().CloudsYAML())
	if err != nil {
		return nil, fmt.Errorf("read the cloud's credentials: %w", err)
	}
	started := map[string]time.Time{}
	failures := make([]error, count)
	var wg sync.WaitGroup
	for i := range count {
		t, err := newTenant(b.plane.Client(), fmt.Sprintf("bench-%03d", i+1), demomanifests.Cluster)
		if err != nil {
			return nil, err
		}
		started[t.namespace] = b.clock.Now()
		wg.Go(func() { failures[i] = t.apply(ctx, cloudsYAML) })
	}
	wg.Wait()
	return started, errors.Join(failures...)
}

// collectReady notes how long each cluster took that is ready by now; nil when all are.
func (b *bench) collectReady(ctx context.Context, started map[string]time.Time, took map[string]time.Duration) error {
	clusters := &clusterv1.ClusterList{}
	if err := b.plane.Client().List(ctx, clusters); err != nil {
		return fmt.Errorf("list Clusters: %w", err)
	}
	for _, cluster := range clusters.Items {
		if _, noted := took[cluster.Namespace]; noted || conditionIsTrue(cluster.Status.Conditions, clusterv1.ClusterAvailableCondition) != nil {
			continue
		}
		ready, err := b.isReady(ctx, cluster)
		if err != nil {
			return err
		}
		if !ready {
			continue
		}
		took[cluster.Namespace] = b.clock.Since(started[cluster.Namespace])
		_, _ = fmt.Fprintf(b.out, "  %s ready after %.1fs (%d of %d)\n", cluster.Namespace, took[cluster.Namespace].Seconds(), len(took), len(started))
	}
	if len(took) < len(started) {
		return fmt.Errorf("%d of %d clusters are ready", len(took), len(started))
	}
	return nil
}

// isReady looks closer at a cluster that says it is available: a control plane is so before it has
// all its replicas.
func (b *bench) isReady(ctx context.Context, cluster clusterv1.Cluster) (bool, error) {
	t := &tenant{client: b.plane.Client(), namespace: cluster.Namespace, name: cluster.Name}
	s, err := t.state(ctx)
	if err != nil {
		return false, err
	}
	return s.unready() == nil, nil
}

func (b *bench) peakMemory(program string) (int, error) {
	pid, running := b.plane.PID(program)
	if !running {
		return 0, fmt.Errorf("%s does not run", program)
	}
	return peakMemoryMiB(pid)
}

// benchReport is the table, with what a reader needs to compare it with another.
func benchReport(machine string, at time.Time, versions string, measurements []measurement) string {
	var text strings.Builder
	fmt.Fprintf(&text, "# Benchmark\n\nMeasured %s on %s.\n%s.\n\n", at.UTC().Format(time.DateOnly), machine, versions)
	text.WriteString("Clusters of 3 control-plane nodes and 2 GPU workers, applied at once; nodes exist in memory only.\n\n")
	text.WriteString("| clusters | ready p50 | ready max | calls | calls per cluster | provider peak RSS | simulator peak RSS |\n")
	text.WriteString("|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, m := range measurements {
		fmt.Fprintf(&text, "| %d | %.1f s | %.1f s | %d | %.1f | %d MiB | %d MiB |\n",
			m.clusters, m.median().Seconds(), m.slowest().Seconds(), m.calls, m.callsPerCluster(),
			m.peakMemoryMiB[plane.InfrastructureManager], m.peakMemoryMiB[plane.Simulator])
	}
	writeRatios(&text, measurements)
	return text.String()
}

// writeRatios compares the largest run with the smallest: absolute times depend on the machine, ratios less so.
func writeRatios(text *strings.Builder, measurements []measurement) {
	bySize := func(a, b measurement) int { return cmp.Compare(a.clusters, b.clusters) }
	few, many := slices.MinFunc(measurements, bySize), slices.MaxFunc(measurements, bySize)
	if few.clusters == many.clusters {
		return
	}
	fmt.Fprintf(text, "\n%d clusters against %d: ready p50 × %.2f, ready max × %.2f, calls per cluster × %.2f.\n",
		many.clusters, few.clusters,
		many.median().Seconds()/few.median().Seconds(),
		many.slowest().Seconds()/few.slowest().Seconds(),
		many.callsPerCluster()/few.callsPerCluster())
	fmt.Fprintf(text, "Time per cluster when made together: %.1f s against %.1f s alone.\n",
		many.slowest().Seconds()/float64(many.clusters), few.slowest().Seconds()/float64(few.clusters))
}

func versions() string {
	return fmt.Sprintf("%s, Cluster API %s, %s/%s", runtime.Version(), moduleVersion("sigs.k8s.io/cluster-api/api"), runtime.GOOS, runtime.GOARCH)
}
