package main

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sendan-io/sendan/bench"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

// benchReport is what was measured, with what a reader needs to compare it with another.
type benchReport struct {
	machine, versions string
	cores             int
	at                time.Time
	concurrency       int
	budgets           bench.Budgets
	runs              []measurement
}

// row of a table that has a column for each run.
type row struct {
	name  string
	value func(measurement) string
}

func (r benchReport) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "# Benchmark\n\nMeasured %s on %s.\n%s.\n\n", r.at.UTC().Format(time.DateOnly), r.machine, r.versions)
	fmt.Fprintf(&text, "Clusters of 3 control-plane nodes and 2 GPU workers; nodes exist in memory only. %s\n\n", r.together())
	r.writeTable(&text, overview())
	r.writeRatios(&text)
	text.WriteString("\n## Where the time goes\n\nFrom applied until the Cluster says so, p50 and p99.\n\n")
	r.writeTable(&text, stageRows())
	for _, m := range r.runs {
		m.writePrograms(&text, r.cores)
	}
	r.writeBudget(&text)
	return text.String()
}

func (r benchReport) together() string {
	if r.concurrency == 0 {
		return "All are applied at once, and deleted at once."
	}
	return fmt.Sprintf("At most %d are on their way to Ready at a time, or away.", r.concurrency)
}

func overview() []row {
	return []row{
		{"clusters made per minute", number("%.1f", measurement.clustersPerMinute)},
		{"ready after, p50 and p99", func(m measurement) string { return m.ready().String() }},
		{"calls to the cloud per cluster", number("%.1f", measurement.callsPerCluster)},
		{"calls in a settled minute", number("%.1f", func(m measurement) float64 { return m.settled.callsPerMinute() })},
		{"calls in a settled minute, per cluster", number("%.2f", func(m measurement) float64 { return m.perCluster(m.settled.callsPerMinute()) })},
		{"gone after, p50 and p99", func(m measurement) string { return m.goneAfter.String() }},
		{"all gone after", func(m measurement) string { return fmt.Sprintf("%.1f s", m.deletion.took.Seconds()) }},
		{"calls to the cloud per deleted cluster", number("%.1f", func(m measurement) float64 { return m.perCluster(float64(m.deletion.calls)) })},
		{"objects left in the cloud", number("%.0f", func(m measurement) float64 { return float64(m.left) })},
		{"programs that ended and were started again", number("%.0f", func(m measurement) float64 { return float64(m.restarts) })},
	}
}

func number(format string, value func(measurement) float64) func(measurement) string {
	return func(m measurement) string { return fmt.Sprintf(format, value(m)) }
}

func stageRows() []row {
	var rows []row
	for _, stage := range stages() {
		rows = append(rows, row{stage.name, func(m measurement) string { return m.stages[stage.name].String() }})
	}
	return rows
}

// String is the usual and nearly the worst.
func (s spread) String() string {
	return fmt.Sprintf("%.1f s, %.1f s", s.median().Seconds(), s.percentile(99).Seconds())
}

func (r benchReport) writeTable(text *strings.Builder, rows []row) {
	text.WriteString("| |")
	for _, m := range r.runs {
		fmt.Fprintf(text, " %s |", m.title())
	}
	text.WriteString("\n|---|" + strings.Repeat("---:|", len(r.runs)) + "\n")
	for _, row := range rows {
		fmt.Fprintf(text, "| %s |", row.name)
		for _, m := range r.runs {
			fmt.Fprintf(text, " %s |", row.value(m))
		}
		text.WriteString("\n")
	}
}

func (m measurement) title() string {
	if m.clusters == 1 {
		return "1 cluster"
	}
	return fmt.Sprintf("%d clusters", m.clusters)
}

func (r benchReport) bySize() []measurement {
	return slices.SortedFunc(slices.Values(r.runs), func(a, b measurement) int { return cmp.Compare(a.clusters, b.clusters) })
}

func (r benchReport) largest() measurement {
	sorted := r.bySize()
	return sorted[len(sorted)-1]
}

// writeRatios compares the largest run with the smallest: absolute times depend on the machine, ratios less so.
func (r benchReport) writeRatios(text *strings.Builder) {
	few, many := r.bySize()[0], r.largest()
	if few.clusters == many.clusters {
		return
	}
	fmt.Fprintf(text, "\n%s against %d: ready p50 × %.2f, slowest × %.2f, calls per cluster × %.2f.\n",
		many.title(), few.clusters,
		many.ready().median().Seconds()/few.ready().median().Seconds(),
		many.ready().slowest().Seconds()/few.ready().slowest().Seconds(),
		many.callsPerCluster()/few.callsPerCluster())
	fmt.Fprintf(text, "Time per cluster when made together: %.1f s against %.1f s alone.\n",
		many.perCluster(many.creation.took.Seconds()), few.perCluster(few.creation.took.Seconds()))
}

// writePrograms shows what each program took, the busiest first.
func (m measurement) writePrograms(text *strings.Builder, cores int) {
	fmt.Fprintf(text, "\n## What the programs take with %s\n\n", m.title())
	took, taken := m.creation.took.Seconds(), m.creation.total(allPrograms()).Seconds()
	fmt.Fprintf(text, "From the first one applied to all Ready: %.1f s, in which these took %.1f s of processor time, %.0f %% of %d cores. ",
		took, taken, 100*taken/took/float64(cores), cores)
	fmt.Fprintf(text, "The simulator is the cloud with its nodes, and no part of the plane.\n\n")
	text.WriteString("| program | processor time | per cluster | share | of the plane | requests to the API server | conflicts | of a core, settled | peak RSS |\n")
	text.WriteString("|---|---:|---:|---:|---:|---:|---:|---:|---:|\n")
	byTime := func(a, b string) int { return cmp.Compare(m.creation.processor[b], m.creation.processor[a]) }
	for _, program := range slices.SortedStableFunc(slices.Values(allPrograms()), byTime) {
		taken = m.creation.processor[program].Seconds()
		fmt.Fprintf(text, "| %s | %.1f s | %.2f s | %.1f %% | %s | %s | %.1f %% | %d MiB |\n", program, taken, m.perCluster(taken),
			m.creation.percentOf(program, allPrograms()), m.shareOfPlane(program), m.asked(program), m.settled.percentOfCore(program), m.peakMemoryMiB[program])
	}
}

// shareOfPlane is empty for what is no part of it.
func (m measurement) shareOfPlane(program string) string {
	if program == plane.Simulator {
		return ""
	}
	return fmt.Sprintf("%.1f %%", m.creation.percentOf(program, planePrograms()))
}

// asked is two cells, empty for programs that do not tell.
func (m measurement) asked(program string) string {
	r, tells := m.creation.requests[program]
	if !tells {
		return "|"
	}
	return fmt.Sprintf("%d | %d", r.all, r.conflicts)
}

// writeBudget shows how near the largest run comes to what it may.
func (r benchReport) writeBudget(text *strings.Builder) {
	m := r.largest()
	fmt.Fprintf(text, "\n## Budget with %s\n\n| figure | measured | budget |\n|---|---:|---:|\n", m.title())
	for _, figure := range figures() {
		fmt.Fprintf(text, "| %s | %.4g | %.4g |\n", figure.name, figure.value(m), r.budgets[figure.name].Limit)
	}
}

func versions() string {
	return fmt.Sprintf("%s, Cluster API %s, %s/%s", runtime.Version(), moduleVersion("sigs.k8s.io/cluster-api/api"), runtime.GOOS, runtime.GOARCH)
}
