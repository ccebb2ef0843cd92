package conformance

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/sendan-io/sendan/test/envtest"
)

const (
	passed  = "passed"
	skipped = "skipped"
	failed  = "FAILED"
)

// line is what was found out about one feature.
type line struct{ feature, result, detail string }

// lineOf has the seconds of what passed, and the reason of what did not.
func lineOf(feature string, err error, note string, took time.Duration) line {
	var why skip
	switch {
	case errors.As(err, &why):
		return line{feature, skipped, string(why)}
	case err != nil:
		return line{feature, failed, err.Error()}
	}
	detail := fmt.Sprintf("%.1f s", took.Seconds())
	if note != "" {
		detail += ": " + note
	}
	return line{feature, passed, detail}
}

// report is the table.
type report struct{ lines []line }

func (r *report) add(l line) { r.lines = append(r.lines, l) }

func (r *report) of(feature string) line {
	i := slices.IndexFunc(r.lines, func(l line) bool { return l.feature == feature })
	if i < 0 {
		return line{}
	}
	return r.lines[i]
}

func (r *report) passed(feature string) bool { return r.of(feature).result == passed }

func (r *report) String() string {
	var b strings.Builder
	table := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	write := func(cells ...string) { fmt.Fprintf(table, "| %s |\n", strings.Join(cells, "\t| ")) }
	write("feature", "result", "seconds, or reason")
	write("---", "---", "---")
	for _, l := range r.lines {
		write(l.feature, l.result, strings.NewReplacer("\n", " ", "|", `\|`).Replace(l.detail))
	}
	_ = table.Flush() // a strings.Builder takes everything
	return b.String()
}

// publish prints the table, and writes it to a file if one is named, relative to the repository.
func (r *report) publish(t testing.TB, title, file string) {
	text := title + "\n\n" + r.String()
	t.Log("\n" + text)
	if file == "" {
		return
	}
	if err := os.WriteFile(fromRoot(t, file), []byte(text), 0o644); err != nil {
		t.Error(err)
	}
}

// fromRoot is a path as it was meant where make was run: tests run in the folder of their package.
func fromRoot(t testing.TB, path string) string {
	if strings.HasPrefix(path, "/") {
		return path
	}
	return envtest.RepositoryFile(t, path)
}
