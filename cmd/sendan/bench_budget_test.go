package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/sendan-io/sendan/bench"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

func TestARunOverBudgetFailsWithFigureLimitAndMargin(t *testing.T) {
	m, budgets := measured(4), someBudgets()
	if err := m.checkBudget(budgets); err != nil {
		t.Errorf("a run within its budget fails: %v", err)
	}
	budgets["plane.creation.cloudCallsPerCluster"] = bench.Budget{Limit: 18, MarginPercent: 10, Says: "one tree for each load balancer"}
	budgets["plane.deletion.objectsLeft"] = bench.Budget{Says: "nothing is left"}
	const want = "4 clusters over budget: " +
		"plane.creation.cloudCallsPerCluster is 20: the budget is 18, with its margin 19.8 (one tree for each load balancer); " +
		"plane.deletion.objectsLeft is 2: the budget is 0, with its margin 0 (nothing is left)"
	if err := m.checkBudget(budgets); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	budgets["plane.creation.cloudCallsPerCluster"] = bench.Budget{Limit: 19, MarginPercent: 10}
	if err := m.checkBudget(budgets); err == nil || strings.Contains(err.Error(), "cloudCallsPerCluster") {
		t.Errorf("a figure within its margin is over budget: %v", err)
	}
}

func TestEveryFigureOfThePlaneHasABudgetAndEveryBudgetAFigure(t *testing.T) {
	budgets, err := bench.ReadBudgets()
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, figure := range figures() {
		named = append(named, figure.name)
		if budgets[figure.name].Says == "" {
			t.Errorf("%s has no budget that says why", figure.name)
		}
	}
	for name := range budgets {
		if strings.HasPrefix(name, "plane.") && !slices.Contains(named, name) {
			t.Errorf("bench/budget.yaml has %s, which nothing measures", name)
		}
	}
}

func TestTheProvidersShareIsThatOfThePlaneWithoutTheCloud(t *testing.T) {
	m := measured(4)
	withCloud := m.creation.percentOf(plane.InfrastructureManager, allPrograms())
	m.creation.processor[plane.Simulator] *= 100
	// 4 of 4+5+…+11 seconds.
	if got := m.providerPercent(); got < 6.66 || got > 6.67 {
		t.Errorf("the provider has %.2f %%", got)
	}
	if after := m.creation.percentOf(plane.InfrastructureManager, allPrograms()); after >= withCloud/2 {
		t.Errorf("of everything it has %.2f %% beside a busy cloud, and %.2f %% beside an idle one", after, withCloud)
	}
}
