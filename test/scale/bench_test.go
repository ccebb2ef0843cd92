package scale

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

var (
	manyClusters = flag.Int("clusters", 1500, "how many clusters a manager's memory and requests are measured with")
	withAddons   = flag.Int("addon-clusters", 200, "how many clusters have add-ons where those are measured")
	window       = flag.Duration("window", 2*time.Minute, "how long the requests of a settled fleet manager are counted")
	operations   = flag.Int("operations", 300, "how many Clusters are created, and scaled, in each tenant")
	results      = flag.String("results", "", "file to write the tables to")
	profiles     = flag.String("profiles", "", "existing folder to write the heap and goroutines of a manager to")
)

// clustersOfFew is how many the other tenant has.
const clustersOfFew = 10

// requestsPerSecond is how many Clusters are created, deleted and scaled while admission is timed.
const requestsPerSecond = 4

// BenchmarkFleet measures once; run it with -benchtime=1x.
func BenchmarkFleet(b *testing.B) {
	text := &report{}
	fmt.Fprintf(text, "# The fleet manager\n\nMeasured %s on %d cores, load average %s at the start. %s, %s/%s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), loadAverage(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	text.WriteString("The program runs in a process of its own against a real kube-apiserver. Each cluster has 3 control-plane nodes and two pools of 2 GPU\n" +
		"nodes, and an API server of its own, in memory, that the fleet manager looks into.\n")
	b.Run("many", func(b *testing.B) { measureMany(b, text) })
	b.Run("addons", func(b *testing.B) { measureAddons(b, text) })
}

// report is what was measured so far.
type report struct{ strings.Builder }

func (r *report) save(b *testing.B) {
	b.Helper()
	if *results == "" {
		return
	}
	if err := os.WriteFile(*results, []byte(r.String()), 0o644); err != nil {
		b.Fatal(err)
	}
}

func measureMany(b *testing.B, text *report) {
	b.Setenv("GOGC", "300") // of the API server, and of the tenants' that this process has: what they tidy up is no part of admission
	defer debug.SetGCPercent(debug.SetGCPercent(300))
	f := startFleet(b)
	_, alone := f.manager.memoryMiB(b)
	f.addClusters(b, few, clustersOfFew)
	f.addClusters(b, crowd, *manyClusters-clustersOfFew)
	f.awaitSettled(b, addonsOfRelease)
	restarted := time.Now()
	f.restart(b)
	f.awaitSettled(b, addonsOfRelease)
	settledAfter := time.Since(restarted) - quietFor*time.Second
	cost := f.watch(b)
	if *profiles != "" {
		saveProfiles(b, f.manager, *profiles+"/")
	}

	fmt.Fprintf(text, "\n## Memory and requests with %d clusters\n\n", len(f.clusters))
	fmt.Fprintf(text, "After a restart of the program, with %d FleetMembers and %d Machines there, and an add-on in each cluster. A write to the\n"+
		"management cluster is that of the time at which a site was seen.\n\n", len(f.clusters), len(f.clusters)*machinesOfCluster())
	cost.write(text, "")
	fmt.Fprintf(text, "| most resident memory, without clusters | %d MiB | |\n", alone)
	fmt.Fprintf(text, "| settled, for each cluster | %.2f MiB | |\n", float64(cost.settledMiB-alone)/float64(len(f.clusters)))
	fmt.Fprintf(text, "| settled after the restart | %.0f s | |\n", settledAfter.Seconds())
	b.ReportMetric(float64(cost.peakMiB), "peak-MiB")
	b.ReportMetric(float64(cost.settledMiB), "settled-MiB")
	text.save(b)

	fmt.Fprintf(text, "\n## Admission with %d clusters\n\n%d requests a second, one after the other, as their client sees them. All quotas are set. Budget: p99 below 20 ms.\n",
		len(f.clusters), requestsPerSecond)
	f.measureAdmission(b, text, "visited", "While the fleet manager looks into all clusters, whose API servers share the cores with all that a request goes through")
	f.pauseClusters(b)
	f.measureAdmission(b, text, "paused", "While these clusters are paused, so that only admission is at work, as where their API servers are elsewhere")
}

// measureAdmission takes a word for the names of what it makes and measures.
func (f *fleet) measureAdmission(b *testing.B, text *report, word, when string) {
	b.Helper()
	before := f.webhooks(b)
	fmt.Fprintf(text, "\n%s; load average %s:\n\n| request | tenant has | p50 | p99 |\n|---|---:|---:|---:|\n", when, loadAverage())
	for _, timed := range f.timeAdmission(b, word) {
		slices.Sort(timed.took)
		fmt.Fprintf(text, "| %s | %s | %.1f ms | %.1f ms |\n", timed.what, timed.tenant, timed.percentile(50), timed.percentile(99))
		b.ReportMetric(timed.percentile(99), strings.ReplaceAll(strings.TrimSpace(timed.what+" "+timed.tenant), " ", "-")+"-"+word+"-p99-ms")
	}
	text.WriteString("\nOf that in the fleet manager, as the API server sees it. The API server asks the last two at the same time.\n\n| webhook | requests | mean | at most 25 ms |\n|---|---:|---:|---:|\n")
	after := f.webhooks(b)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		count, seconds := after[name].count-before[name].count, after[name].seconds-before[name].seconds
		fmt.Fprintf(text, "| %s | %d | %.1f ms | %.1f %% |\n", name, count, 1000*seconds/float64(count), 100*float64(after[name].quick-before[name].quick)/float64(count))
	}
	text.save(b)
}

// pauseClusters returns when none of them is visited any more.
func (f *fleet) pauseClusters(b *testing.B) {
	b.Helper()
	var clusters clusterv1.ClusterList
	if err := f.Client.List(b.Context(), &clusters); err != nil {
		b.Fatal(err)
	}
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(atOnce)
	for i := range clusters.Items {
		group.Go(func() error {
			before := clusters.Items[i].DeepCopy()
			clusters.Items[i].Spec.Paused = ptr.To(true)
			return f.Client.Patch(ctx, &clusters.Items[i], client.MergeFrom(before))
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	f.awaitQuiet(b, func() error { return nil })
}

func measureAddons(b *testing.B, text *report) {
	f := startFleet(b, "--addon-interval=20s")
	count := f.createAddons(b)
	f.addClusters(b, crowd, *withAddons)
	f.awaitSettled(b, count)
	f.restart(b)
	f.awaitSettled(b, count)
	before := f.versions()
	cost := f.watch(b)
	changed := 0
	for i, version := range f.versions() {
		if version != before[i] {
			changed++
		}
	}
	fmt.Fprintf(text, "\n## Add-ons in %d clusters\n\n", len(f.clusters))
	fmt.Fprintf(text, "%d add-ons in each, settled, compared every 20 s instead of every 10 min.\n\n", count)
	cost.write(text, "0")
	fmt.Fprintf(text, "| passes over a cluster, in all | %d | |\n| tenant clusters that changed | %d | 0 |\n", cost.passes, changed)
	b.ReportMetric(float64(cost.tenantWrites), "tenant-writes")
	b.ReportMetric(float64(cost.passes), "passes")
	text.save(b)
}

// cost is what a settled fleet manager takes while nothing happens.
type cost struct {
	settledMiB, peakMiB                        int
	processorSeconds                           float64
	managementReads, managementWrites          int
	passes, tenantReads, dryRuns, tenantWrites int64
	clusters                                   int
	// written are the management cluster's objects that anybody wrote, by kind.
	written objectWrites
}

// watch lets time go by.
func (f *fleet) watch(b *testing.B) cost {
	b.Helper()
	reads, writes := f.manager.toManagement(b)
	passes, tenantReads, dryRuns, tenantWrites := f.requestsToTenants()
	written, processor := countObjectWrites(b, f.Env), f.manager.processorSeconds(b)
	select {
	case <-time.After(*window):
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
	c := cost{
		clusters: len(f.clusters), written: countObjectWrites(b, f.Env).since(written), processorSeconds: f.manager.processorSeconds(b) - processor,
	}
	c.settledMiB, c.peakMiB = f.manager.memoryMiB(b)
	c.managementReads, c.managementWrites = f.manager.toManagement(b)
	c.passes, c.tenantReads, c.dryRuns, c.tenantWrites = f.requestsToTenants()
	c.managementReads, c.managementWrites = c.managementReads-reads, c.managementWrites-writes
	c.passes, c.tenantReads, c.dryRuns, c.tenantWrites = c.passes-passes, c.tenantReads-tenantReads, c.dryRuns-dryRuns, c.tenantWrites-tenantWrites
	return c
}

func (c cost) write(text *report, writesBudget string) {
	text.WriteString("| settled fleet manager | | budget |\n|---|---:|---:|\n")
	fmt.Fprintf(text, "| resident memory | %d MiB | 500 MiB |\n| most resident memory, while it started | %d MiB | 500 MiB |\n", c.settledMiB, c.peakMiB)
	fmt.Fprintf(text, "| processor time, of one core | %.1f %% | |\n", 100*c.processorSeconds/window.Seconds())
	minutes := window.Minutes()
	fmt.Fprintf(text, "| reads of the management cluster, a minute | %.1f | |\n", float64(c.managementReads)/minutes)
	fmt.Fprintf(text, "| writes to the management cluster | %d | 0 |\n", c.managementWrites)
	for _, resource := range slices.Sorted(maps.Keys(c.written)) {
		fmt.Fprintf(text, "| of %s, whoever wrote them | %d | |\n", resource, c.written[resource])
	}
	fmt.Fprintf(text, "| reads of a tenant cluster, a minute | %.1f | |\n", float64(c.tenantReads)/minutes/float64(c.clusters))
	fmt.Fprintf(text, "| dry runs in a tenant cluster, a minute | %.1f | |\n", float64(c.dryRuns)/minutes/float64(c.clusters))
	fmt.Fprintf(text, "| writes to tenant clusters | %d | %s |\n", c.tenantWrites, writesBudget)
}

// timed are requests of one kind.
type timed struct {
	what, tenant string
	took         []time.Duration
}

// percentile in milliseconds, of sorted times.
func (t timed) percentile(p int) float64 {
	at := (len(t.took)*p + 99) / 100
	return float64(t.took[max(at, 1)-1].Microseconds()) / 1000
}

// timeAdmission takes turns, so that what else the machine does meets all alike.
func (f *fleet) timeAdmission(b *testing.B, word string) []timed {
	b.Helper()
	var all []timed
	for _, what := range []string{"create a Cluster", "scale a pool"} {
		all = append(all, timed{what: what, tenant: fmt.Sprintf("%d clusters", *manyClusters-clustersOfFew)}, timed{what: what, tenant: fmt.Sprintf("%d clusters", clustersOfFew)})
	}
	all = append(all, timed{what: "create a ConfigMap, to compare"}, timed{what: "read it"})
	// What a request sets going must not be measured with the next: users of a settled fleet seldom meet.
	pace := time.NewTicker(time.Second / requestsPerSecond)
	defer pace.Stop()
	measure := func(into *timed, request func() error) {
		<-pace.C
		began := time.Now()
		if err := request(); err != nil {
			b.Fatalf("%s: %v", into.what, err)
		}
		into.took = append(into.took, time.Since(began))
	}
	scaled := []*clusterv1.Cluster{f.cluster(b, crowd), f.cluster(b, few)}
	for i := range *operations {
		for j, tenant := range []string{crowd, few} {
			probe := clusterOfTenant(tenant, fmt.Sprintf("%s-%d", word, i))
			measure(&all[j], func() error { return f.Client.Create(b.Context(), probe) })
			<-pace.C
			if err := f.Client.Delete(b.Context(), probe); err != nil {
				b.Fatal(err)
			}
			measure(&all[2+j], func() error { return f.scale(b, scaled[j]) })
		}
		compare := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: crowd, Name: fmt.Sprintf("%s-%d", word, i)}}
		measure(&all[4], func() error { return f.Client.Create(b.Context(), compare) })
		measure(&all[5], func() error { return f.Client.Get(b.Context(), client.ObjectKeyFromObject(compare), compare) })
	}
	return all
}

// calls of one webhook. The API server counts those that took at most 25 ms; its next bounds are 5 and 100 ms.
type calls struct {
	count, quick uint64
	seconds      float64
}

const quickSeconds = 0.025

// webhooks are the fleet manager's that Clusters go through.
func (f *fleet) webhooks(b *testing.B) map[string]calls {
	b.Helper()
	called := map[string]calls{}
	for _, series := range metric(b, apiServerMetrics(b, f.Env), "apiserver_admission_webhook_admission_duration_seconds") {
		if name := labels(series)["name"]; strings.HasSuffix(name, ".cluster.fleet.sendan.io") {
			histogram := series.GetHistogram()
			all := called[name]
			all.count, all.seconds = all.count+histogram.GetSampleCount(), all.seconds+histogram.GetSampleSum()
			for _, bucket := range histogram.GetBucket() {
				if bucket.GetUpperBound() == quickSeconds {
					all.quick += bucket.GetCumulativeCount()
				}
			}
			called[name] = all
		}
	}
	return called
}

func (f *fleet) cluster(b *testing.B, tenant string) *clusterv1.Cluster {
	b.Helper()
	cluster := &clusterv1.Cluster{}
	if err := f.Client.Get(b.Context(), client.ObjectKey{Namespace: tenant, Name: tenant + "-0000"}, cluster); err != nil {
		b.Fatal(err)
	}
	return cluster
}

// scale makes a pool of 2 nodes one of 3, and the other way round.
func (f *fleet) scale(b *testing.B, cluster *clusterv1.Cluster) error {
	b.Helper()
	before := cluster.DeepCopy()
	*cluster.Spec.Topology.Workers.MachineDeployments[0].Replicas ^= 1
	return f.Client.Patch(b.Context(), cluster, client.MergeFrom(before))
}

// saveProfiles tells where the memory of a manager is. The path begins the names of the files.
func saveProfiles(b *testing.B, m *manager, path string) {
	b.Helper()
	for file, of := range map[string]string{"heap": "heap?gc=1", "goroutine": "goroutine", "goroutine.txt": "goroutine?debug=1"} {
		text, err := fetch(b.Context(), m.profiler, "/debug/pprof/"+of)
		if err == nil {
			err = os.WriteFile(path+file, []byte(text), 0o600)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// loadAverage of the last minute. Figures of a machine that does other work as well are not worth much.
func loadAverage() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	oneMinute, _, _ := strings.Cut(string(text), " ")
	return oneMinute
}
