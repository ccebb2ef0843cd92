package scale

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/sendan-io/sendan/bench"
)

var (
	manyMachines = flag.Int("machines", 50_000, "how many machines the provider's clusters have in all; as many in each, rounded up")
	manyProjects = flag.Int("projects", 15, "how many projects of one cloud the provider's clusters are in")
	restFor      = flag.Duration("rest", 11*time.Minute, "how long a settled provider is watched; its defaults look at everything once in 10 minutes")
)

// resyncEvery is half of the default, since an informer's first resync comes after two periods: one is to be a part of the rest.
const resyncEvery = "5m"

// replacedPercent of all machines go and come while churn is measured.
const replacedPercent = 1

// BenchmarkProvider measures once; run it with -benchtime=1x. It fails when a budget of bench/budget.yaml is exceeded.
func BenchmarkProvider(b *testing.B) {
	budgets, err := bench.ReadBudgets()
	if err != nil {
		b.Fatal(err)
	}
	m := &providerMeasurement{size: fleetSize{projects: *manyProjects, clusters: *manyClusters, machinesOfCluster: (*manyMachines + *manyClusters - 1) / *manyClusters}, load: loadAverage()}
	b.Setenv("GOGC", "50") // of the API server: its objects take more memory than all else together
	began := time.Now()
	p := startProvider(b, m.size, "--sync-period="+resyncEvery)
	b.Logf("%d clusters of %d machines are there after %s", m.size.clusters, m.size.machinesOfCluster, time.Since(began).Round(time.Second))
	if first := p.restart(b); first.cloudWrites > 0 {
		b.Fatalf("the provider did not take the copies for its own:\n%s", p.cloud.table())
	}
	if err := p.unready(b); err != nil {
		b.Fatal(err)
	}
	m.restart = p.restart(b)
	_, m.peakMiB = p.manager.memoryMiB(b)
	m.profileAfter(b, p, "restart")
	m.rest = p.rest(b, *restFor)
	m.settledMiB, _ = p.manager.memoryMiB(b)
	m.profileAfter(b, p, "rest")
	m.replaced = m.size.machines() * replacedPercent / 100
	m.churn = p.churn(b, m.replaced)
	m.churnCalls = p.cloud.table()
	m.down, m.up, m.servers = p.outage(b, "az1")
	_, m.mostMiB = p.manager.memoryMiB(b)

	text := m.table(budgets)
	fmt.Print(text)
	if *results != "" {
		if err := os.WriteFile(*results, []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
	}
	if err := p.unready(b); err != nil {
		b.Error(err)
	}
	if err := budgets.Check(m.figures()); err != nil {
		b.Error(err)
	}
}

// providerMeasurement is what the provider came to.
type providerMeasurement struct {
	size                         fleetSize
	load                         string
	restart, rest, churn         spent
	down, up                     spent
	replaced, servers            int
	peakMiB, settledMiB, mostMiB int
	churnCalls                   string
}

func (m *providerMeasurement) profileAfter(b *testing.B, p *provider, phase string) {
	b.Helper()
	if *profiles != "" {
		saveProfiles(b, p.manager, *profiles+"/"+phase+"-")
	}
}

// figures are those that have a budget.
func (m *providerMeasurement) figures() map[string]float64 {
	each := func(count, of int) float64 { return float64(count) / float64(of) }
	return map[string]float64{
		"provider.restart.residentMiB":            float64(m.peakMiB),
		"provider.restart.cloudWrites":            float64(m.restart.cloudWrites),
		"provider.restart.pollsOfAProject":        float64(m.restart.cloudPolls),
		"provider.restart.kubernetesWrites":       float64(m.restart.writes),
		"provider.settled.residentMiB":            float64(m.settledMiB),
		"provider.settled.processorPercent":       100 * m.rest.processorSeconds / m.rest.after.Seconds(),
		"provider.settled.cloudRequestsPerSecond": float64(m.rest.cloudReads+m.rest.cloudWrites) / m.rest.after.Seconds(),
		"provider.settled.cloudWrites":            float64(m.rest.cloudWrites),
		"provider.settled.kubernetesWrites":       float64(m.rest.writes),
		"provider.churn.cloudWritesPerMachine":    each(m.churn.cloudWrites, m.replaced),
		"provider.churn.cloudRequestsPerMachine":  each(m.churn.cloudReads+m.churn.cloudWrites, m.replaced),
		"provider.outage.cloudWrites":             float64(m.down.cloudWrites + m.up.cloudWrites),
		"provider.outage.kubernetesWritesPerTurn": each(max(m.down.writes, m.up.writes), m.servers),
		"provider.outage.residentMiB":             float64(m.mostMiB),
	}
}

// table shows the figures beside their budgets, and what has none because it depends on the machine.
func (m *providerMeasurement) table(budgets bench.Budgets) string {
	text := &report{}
	fmt.Fprintf(text, "# The infrastructure provider\n\nMeasured %s on %d cores, load average %s at the start. %s, %s/%s.\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), m.load, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(text, "%d clusters with %d machines in %d projects of a simulated cloud. The program runs in a process of its own, with its default flags but\n"+
		"for a resync every "+resyncEvery+", against a real kube-apiserver. It made one cluster of each project itself; the others are copies of these. Nothing of Cluster API runs.\n\n",
		m.size.clusters, m.size.machines(), m.size.projects)
	text.WriteString("| figure | measured | budget |\n|---|---:|---:|\n")
	figures := m.figures()
	for _, name := range slices.Sorted(maps.Keys(figures)) {
		fmt.Fprintf(text, "| %s | %.4g | %.4g |\n", name, figures[name], budgets[name].Limit)
	}
	text.WriteString("\nWhat takes how long depends on the machine and has no budget:\n\n")
	text.WriteString("| what | seconds | of a core | reconciles | reads and writes of Kubernetes | of the cloud |\n|---|---:|---:|---:|---:|---:|\n")
	for _, phase := range []struct {
		what string
		spent
	}{
		{"restart, until everything has been looked at", m.restart},
		{"nothing happens", m.rest},
		{fmt.Sprintf("%d machines are replaced", m.replaced), m.churn},
		{fmt.Sprintf("a zone goes down: %d servers", m.servers), m.down},
		{"and comes up", m.up},
	} {
		s := phase.spent
		fmt.Fprintf(text, "| %s | %.0f | %.0f %% | %d | %d, %d | %d, %d |\n", phase.what, s.after.Seconds(), 100*s.processorSeconds/s.after.Seconds(), s.reconciles, s.reads, s.writes, s.cloudReads, s.cloudWrites)
	}
	fmt.Fprintf(text, "\nThe requests to the cloud while machines were replaced:\n\n```\n%s```\n", m.churnCalls)
	return text.String()
}
