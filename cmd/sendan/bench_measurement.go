package main

import (
	"time"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

// phase is what one part of a run took.
type phase struct {
	took time.Duration
	// calls that the cloud has answered.
	calls int
	// processor time by program.
	processor map[string]time.Duration
	// requests to the management API server, of the programs that tell.
	requests map[string]requests
}

// total processor time of some programs.
func (p phase) total(programs []string) time.Duration {
	var sum time.Duration
	for _, program := range programs {
		sum += p.processor[program]
	}
	return sum
}

// percentOf is a program's share of the processor time of some programs.
func (p phase) percentOf(program string, programs []string) float64 {
	total := p.total(programs)
	if total == 0 {
		return 0
	}
	return 100 * float64(p.processor[program]) / float64(total)
}

// percentOfCore is how much of one core a program took.
func (p phase) percentOfCore(program string) float64 {
	if p.took == 0 {
		return 0
	}
	return 100 * float64(p.processor[program]) / float64(p.took)
}

func (p phase) callsPerMinute() float64 { return float64(p.calls) / p.took.Minutes() }

// measurement is what one number of clusters came to.
type measurement struct {
	clusters int
	// stages are how long the clusters took to each, and goneAfter how long to disappear.
	stages    map[string]spread
	goneAfter spread

	creation, settled, deletion phase

	peakMemoryMiB map[string]int
	// restarts of any program, and objects that were in the cloud when all clusters were gone.
	restarts, left int
}

func (m measurement) ready() spread { return m.stages[readyStage] }

func (m measurement) clustersPerMinute() float64 {
	return float64(m.clusters) / m.creation.took.Minutes()
}

func (m measurement) perCluster(count float64) float64 { return count / float64(m.clusters) }

func (m measurement) callsPerCluster() float64 { return m.perCluster(float64(m.creation.calls)) }

// providerPercent is the provider's share of what the plane takes to make clusters.
func (m measurement) providerPercent() float64 {
	return m.creation.percentOf(plane.InfrastructureManager, planePrograms())
}
