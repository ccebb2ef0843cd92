package bench

import (
	"strings"
	"testing"
)

func TestEveryBudgetSaysWhy(t *testing.T) {
	budgets, err := ReadBudgets()
	if err != nil || len(budgets) == 0 {
		t.Fatalf("%d budgets: %v", len(budgets), err)
	}
	for name, budget := range budgets {
		if budget.Says == "" || budget.Limit < 0 || budget.MarginPercent < 0 {
			t.Errorf("%s: %+v", name, budget)
		}
	}
}

func TestAFigureFailsBeyondItsMargin(t *testing.T) {
	budgets := Budgets{"a.requests": {Limit: 10, MarginPercent: 20, Says: "few is enough"}, "a.writes": {Says: "nothing to do"}}
	if err := budgets.Check(map[string]float64{"a.requests": 12, "a.writes": 0}); err != nil {
		t.Errorf("within the margin: %v", err)
	}
	err := budgets.Check(map[string]float64{"a.writes": 1, "a.requests": 12.01, "a.unknown": 0})
	want := []string{
		"a.requests is 12.01: the budget is 10, with its margin 12 (few is enough)",
		"a.unknown has no budget in bench/budget.yaml",
		"a.writes is 1: the budget is 0, with its margin 0 (nothing to do)",
	}
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("beyond: %v", err)
	}
}
