// Package bench holds what measurements came to, and the budgets that they have to keep.
package bench

import (
	"cmp"
	_ "embed"
	"errors"
	"fmt"
	"slices"

	"sigs.k8s.io/yaml"
)

//go:embed budget.yaml
var budgetFile []byte

// Budget is what one figure may come to. Figures are counts and ratios: seconds tell more of the machine than of the program.
type Budget struct {
	// Limit is the budget, in the unit that the figure's name ends with.
	Limit float64 `json:"limit"`
	// MarginPercent is how much above its limit a figure may be on a noisy machine.
	MarginPercent float64 `json:"marginPercent,omitempty"`
	// Says why it is this limit.
	Says string `json:"says"`
}

// Budgets are those of budget.yaml, by the name of the figure.
type Budgets map[string]Budget

// ReadBudgets reads budget.yaml.
func ReadBudgets() (Budgets, error) {
	budgets := Budgets{}
	if err := yaml.UnmarshalStrict(budgetFile, &budgets); err != nil {
		return nil, fmt.Errorf("bench/budget.yaml: %w", err)
	}
	return budgets, nil
}

// Check tells every figure that is over its budget, or has none.
func (b Budgets) Check(figures map[string]float64) error {
	var over []error
	for name, value := range figures {
		budget, known := b[name]
		switch most := budget.Limit * (1 + budget.MarginPercent/100); {
		case !known:
			over = append(over, fmt.Errorf("%s has no budget in bench/budget.yaml", name))
		case value > most:
			over = append(over, fmt.Errorf("%s is %.4g: the budget is %.4g, with its margin %.4g (%s)", name, value, budget.Limit, most, budget.Says))
		}
	}
	slices.SortFunc(over, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return errors.Join(over...)
}
