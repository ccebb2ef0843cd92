package main

import (
	"testing"
	"time"

	"github.com/sendan-io/sendan/bench"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

func TestTheReportShowsWhereTimeAndProcessorGo(t *testing.T) {
	golden(t, "bench.golden", benchReport{
		machine: "2 cores, 8 GiB of memory", cores: 2, versions: "go1.26, Cluster API v1.14.2",
		at:      time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC),
		budgets: someBudgets(), runs: []measurement{measured(4), measured(1)},
	}.String())
}

func TestTheReportOfOneRunHasNoRatiosAndSaysHowManyWereOnTheirWay(t *testing.T) {
	golden(t, "bench-one.golden", benchReport{
		machine: "2 cores", cores: 2, versions: "go1.26", at: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC),
		concurrency: 2, budgets: someBudgets(), runs: []measurement{measured(4)},
	}.String())
}

// measured is a run whose stages are five seconds apart, and a second more for each further cluster.
func measured(clusters int) measurement {
	m := measurement{clusters: clusters, restarts: 1, left: 2}
	var timelines []*timeline
	var goneAfter []time.Duration
	for i := range clusters {
		one := newTimeline(time.Time{})
		for j, stage := range stages() {
			one.reached[stage.name] = time.Duration(5*(j+1)+i) * time.Second
		}
		timelines, goneAfter = append(timelines, one), append(goneAfter, time.Duration(15+i)*time.Second)
	}
	m.stages, m.goneAfter = spreadsOf(timelines), newSpread(goneAfter)
	m.creation = phase{took: time.Duration(24+clusters) * time.Second, calls: 40 + 10*clusters, processor: map[string]time.Duration{}, requests: map[string]requests{}}
	m.settled = phase{took: 2 * time.Minute, calls: 6, processor: map[string]time.Duration{plane.InfrastructureManager: 1200 * time.Millisecond}}
	m.deletion = phase{took: time.Duration(15+clusters) * time.Second, calls: 12 * clusters}
	m.peakMemoryMiB = map[string]int{}
	for i, program := range allPrograms() {
		m.creation.processor[program] = time.Duration(i+clusters) * time.Second
		m.peakMemoryMiB[program] = 60 + i
	}
	for i, program := range managers() {
		m.creation.requests[program] = requests{all: (100 + i) * clusters, conflicts: i * clusters}
	}
	return m
}

func someBudgets() bench.Budgets {
	budgets := bench.Budgets{}
	for _, figure := range figures() {
		budgets[figure.name] = bench.Budget{Limit: 1000, MarginPercent: 10}
	}
	return budgets
}
