package docs_test

import (
	"go/ast"
	"go/types"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A reason that a call does not spell out is looked up here by its expression.
var (
	// conditionReasons are those of conditions, which have lines of their own, or come from a caller that is looked at too.
	conditionReasons = []string{"after.Reason", "intent.Reason", "string(cloud.ClassOf(err))", "reason"}
	// otherReasons are found in the source as well.
	otherReasons = map[string]func(*testing.T) []string{
		"string(health)":     func(t *testing.T) []string { return constants(t, "api/fleet/v1alpha1", "Health", "") },
		"eventReason(a.key)": actionReasons,
	}
)

func TestTheRunbookHasEveryReasonOfAnEventAndNoOther(t *testing.T) {
	for runbook, directory := range map[string]string{
		"docs/runbooks/conditions.md":       "controllers",
		"docs/runbooks/fleet-conditions.md": "fleet/*",
	} {
		compareNames(t, runbook+", ## Events", firstCells(pageNamed(t, runbook).section(t, "## Events")), emittedReasons(t, directory))
	}
}

// emittedReasons are the reasons of Events, other than those of conditions.
func emittedReasons(t *testing.T, directory string) []string {
	t.Helper()
	var reasons []string
	for _, file := range sourceFiles(t, directory) {
		ast.Inspect(parse(t, file), func(node ast.Node) bool {
			if call, isCall := node.(*ast.CallExpr); isCall {
				reasons = append(reasons, reasonsOf(t, file, call)...)
			}
			return true
		})
	}
	slices.Sort(reasons)
	return slices.Compact(reasons)
}

// reasonsOf looks at the recorder's Eventf(about, related, type, reason, …), and at the provider's event(about, type, reason, …).
func reasonsOf(t *testing.T, file string, call *ast.CallExpr) []string {
	t.Helper()
	function, isSelector := call.Fun.(*ast.SelectorExpr)
	at := map[string]int{"Eventf": 3, "event": 2}
	if !isSelector || at[function.Sel.Name] == 0 || len(call.Args) <= at[function.Sel.Name]+1 {
		return nil
	}
	expression := call.Args[at[function.Sel.Name]]
	if _, isLiteral := expression.(*ast.BasicLit); isLiteral {
		return []string{text(t, expression)}
	}
	switch source := types.ExprString(expression); {
	case otherReasons[source] != nil:
		return otherReasons[source](t)
	case strings.HasSuffix(source, "Reason") && source != "Reason" || slices.Contains(conditionReasons, source):
		return nil
	case strings.HasSuffix(source, "Condition"):
		_, name, _ := strings.Cut(source, ".")
		return constants(t, "api/*/v1alpha1", name, name)
	default:
		t.Errorf("%s: an Event has the reason %s; tell this test what that can be", file, source)
		return nil
	}
}

// constants are the values of a directory's string constants whose names have the prefix, and all of it where whole is given.
func constants(t *testing.T, directory, prefix, whole string) []string {
	t.Helper()
	var values []string
	for _, file := range sourceFiles(t, directory) {
		ast.Inspect(parse(t, file), func(node ast.Node) bool {
			spec, isValue := node.(*ast.ValueSpec)
			if !isValue {
				return true
			}
			for i, name := range spec.Names {
				if strings.HasPrefix(name.Name, prefix) && (whole == "" || name.Name == whole) && i < len(spec.Values) {
					values = append(values, text(t, spec.Values[i]))
				}
			}
			return false
		})
	}
	if len(values) == 0 {
		t.Errorf("%s has no constant %s", directory, prefix)
	}
	return values
}

// actionReasons are those that the provider makes of the first words of its actions' keys.
func actionReasons(t *testing.T) []string {
	t.Helper()
	var reasons []string
	for _, file := range sourceFiles(t, "controllers") {
		ast.Inspect(parse(t, file), func(node ast.Node) bool {
			literal, isLiteral := node.(*ast.CompositeLit)
			if !isLiteral {
				return true
			}
			fields := map[string]ast.Expr{}
			for _, element := range literal.Elts {
				if pair, isPair := element.(*ast.KeyValueExpr); isPair {
					fields[types.ExprString(pair.Key)] = pair.Value
				}
			}
			if fields["key"] != nil && fields["event"] != nil {
				verb, _, _ := strings.Cut(firstText(t, filepath.Dir(file), fields["key"]), " ")
				reasons = append(reasons, "Successful"+strings.ToUpper(verb[:1])+verb[1:])
			}
			return true
		})
	}
	return reasons
}

// firstText is what a string begins with that is put together.
func firstText(t *testing.T, directory string, expression ast.Expr) string {
	t.Helper()
	switch e := expression.(type) {
	case *ast.BinaryExpr:
		return firstText(t, directory, e.X)
	case *ast.CallExpr: // of a formatter
		return firstText(t, directory, e.Args[0])
	case *ast.Ident:
		return constants(t, directory, e.Name, e.Name)[0]
	}
	return text(t, expression)
}
