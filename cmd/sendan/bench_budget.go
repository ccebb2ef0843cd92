package main

import (
	"fmt"
	"strings"

	"github.com/sendan-io/sendan/bench"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

// figure is one that has a budget.
type figure struct {
	name  string
	value func(measurement) float64
}

// figures are counts and ratios: they tell of the programs more than of the machine.
func figures() []figure {
	return []figure{
		{"plane.creation.providerPercent", measurement.providerPercent},
		{"plane.creation.cloudCallsPerCluster", measurement.callsPerCluster},
		{"plane.settled.cloudCallsPerMinute", func(m measurement) float64 { return m.settled.callsPerMinute() }},
		{"plane.deletion.cloudCallsPerCluster", func(m measurement) float64 { return m.perCluster(float64(m.deletion.calls)) }},
		{"plane.deletion.objectsLeft", func(m measurement) float64 { return float64(m.left) }},
		{"plane.providerPeakResidentMiB", func(m measurement) float64 { return float64(m.peakMemoryMiB[plane.InfrastructureManager]) }},
		{"plane.restarts", func(m measurement) float64 { return float64(m.restarts) }},
	}
}

// checkBudget tells every figure that is over its budget.
func (m measurement) checkBudget(budgets bench.Budgets) error {
	values := map[string]float64{}
	for _, figure := range figures() {
		values[figure.name] = figure.value(m)
	}
	if err := budgets.Check(values); err != nil {
		// One line, as other failures of the command are.
		return fmt.Errorf("%s over budget: %s", m.title(), strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return nil
}
