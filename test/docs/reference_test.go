package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/sendan-io/sendan/test/envtest"
)

const (
	metricsPage = "docs/operations/metrics.md"
)

// runbooks are the sources of conditions and the pages about them.
func runbooks() map[string]string {
	return map[string]string{
		"api/infrastructure/v1alpha1/conditions.go": "docs/runbooks/conditions.md",
		"api/fleet/v1alpha1/conditions.go":          "docs/runbooks/fleet-conditions.md",
	}
}

func TestTheRunbookHasEveryConditionTypeAndReasonAndNoOther(t *testing.T) {
	for source, runbook := range runbooks() {
		page := pageNamed(t, runbook)
		for title, suffix := range map[string]string{"## Condition types": "Condition", "## Reasons": "Reason"} {
			declared := stringConstants(t, source, suffix)
			compareNames(t, runbook+", "+title, firstCells(page.section(t, title)), declared)
		}
	}
}

func TestTheMetricsPageHasEveryMetricAndNoOther(t *testing.T) {
	registered := registeredMetrics(t)
	page := pageNamed(t, metricsPage)
	compareNames(t, metricsPage, firstCells(page.section(t, "## Requests")+page.section(t, "## Inventory")+page.section(t, "## Fleet")), registered)

	for _, code := range page.code() {
		for _, name := range regexp.MustCompile(`sendan_[a-z_]+`).FindAllString(code, -1) {
			bare := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
			if !slices.Contains(registered, bare) {
				t.Errorf("%s names the metric %s, which does not exist", metricsPage, name)
			}
		}
	}
}

func TestEveryMakeTargetThatAPageNamesExists(t *testing.T) {
	makefile, err := os.ReadFile(envtest.RepositoryFile(t, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	call := regexp.MustCompile(`(?m)(?:^|[\s;&|])make ([a-z][a-z0-9-]*)`)
	named := 0
	for _, page := range pages(t) {
		for _, code := range page.code() {
			for _, match := range call.FindAllStringSubmatch(code, -1) {
				named++
				if !regexp.MustCompile(`(?m)^` + match[1] + `:`).Match(makefile) {
					t.Errorf("%s names make %s, which the Makefile does not have", page.name, match[1])
				}
			}
		}
	}
	if named == 0 {
		t.Error("no page names a target, so nothing was looked at")
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestEveryRelativeLinkLeadsSomewhere(t *testing.T) {
	all := pages(t)
	for _, from := range all {
		for _, match := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(from.prose, "code"), -1) {
			if strings.Contains(match[1], "://") {
				continue
			}
			file, fragment, _ := strings.Cut(match[1], "#")
			target := from.name
			if file != "" {
				target = filepath.Join(filepath.Dir(from.name), file)
			}
			if _, err := os.Stat(envtest.RepositoryFile(t, target)); err != nil {
				t.Errorf("%s links to %s: %v", from.name, match[1], err)
				continue
			}
			i := slices.IndexFunc(all, func(p page) bool { return p.name == target })
			if fragment != "" && (i < 0 || !slices.Contains(all[i].headings, fragment)) {
				t.Errorf("%s links to %s, and %s has no such heading", from.name, match[1], target)
			}
		}
	}
}

func TestEveryPageIsInTheIndex(t *testing.T) {
	index := pageNamed(t, "docs/README.md")
	for _, page := range pages(t) {
		if page.name == index.name || page.name == "README.md" {
			continue
		}
		path, err := filepath.Rel("docs", page.name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(index.prose, "("+path+")") {
			t.Errorf("%s does not link to %s", index.name, page.name)
		}
	}
}

// stringConstants are the values of a file's constants whose names end in a suffix.
func stringConstants(t *testing.T, file, suffix string) []string {
	t.Helper()
	var values []string
	ast.Inspect(parse(t, file), func(node ast.Node) bool {
		spec, isValue := node.(*ast.ValueSpec)
		if !isValue {
			return true
		}
		for i, name := range spec.Names {
			if strings.HasSuffix(name.Name, suffix) && i < len(spec.Values) {
				values = append(values, text(t, spec.Values[i]))
			}
		}
		return false
	})
	slices.Sort(values)
	return values
}

// registeredMetrics are the names in every prometheus options literal of package cloud.
func registeredMetrics(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, file := range sourceFiles(t, "cloud", "fleet/*") {
		ast.Inspect(parse(t, file), func(node ast.Node) bool {
			literal, isLiteral := node.(*ast.CompositeLit)
			if !isLiteral || !isPrometheusOptions(literal.Type) {
				return true
			}
			for _, element := range literal.Elts {
				if pair, isPair := element.(*ast.KeyValueExpr); isPair {
					if key, isName := pair.Key.(*ast.Ident); isName && key.Name == "Name" {
						names = append(names, text(t, pair.Value))
					}
				}
			}
			return true
		})
	}
	slices.Sort(names)
	return names
}

func isPrometheusOptions(expression ast.Expr) bool {
	selector, isSelector := expression.(*ast.SelectorExpr)
	if !isSelector {
		return false
	}
	from, isName := selector.X.(*ast.Ident)
	return isName && from.Name == "prometheus" && strings.HasSuffix(selector.Sel.Name, "Opts")
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), envtest.RepositoryFile(t, file), nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func text(t *testing.T, expression ast.Expr) string {
	t.Helper()
	literal, isLiteral := expression.(*ast.BasicLit)
	if !isLiteral {
		t.Fatalf("%#v is not a literal", expression)
	}
	value, err := strconv.Unquote(literal.Value)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// compareNames tells which names a page lacks, has twice, or has without need.
func compareNames(t *testing.T, where string, documented, declared []string) {
	t.Helper()
	if len(declared) == 0 {
		t.Fatalf("%s: nothing is declared, so nothing was compared", where)
	}
	for _, name := range declared {
		if !slices.Contains(documented, name) {
			t.Errorf("%s has no line for %s", where, name)
		}
	}
	for i, name := range documented {
		if !slices.Contains(declared, name) {
			t.Errorf("%s has a line for %s, which does not exist", where, name)
		}
		if i > 0 && documented[i-1] == name {
			t.Errorf("%s has two lines for %s", where, name)
		}
	}
}

// sourceFiles are those of directories, without tests, relative to the repository.
func sourceFiles(t *testing.T, directories ...string) []string {
	t.Helper()
	root := envtest.RepositoryFile(t)
	var files []string
	for _, directory := range directories {
		found, err := filepath.Glob(filepath.Join(root, directory, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range found {
			relative, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(file, "_test.go") {
				files = append(files, relative)
			}
		}
	}
	return files
}
