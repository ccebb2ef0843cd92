package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/sendan-io/sendan/test/envtest"
)

// page is one Markdown file.
type page struct {
	// name is its path below the root of the repository.
	name   string
	blocks []block
	// headings as they are linked to.
	headings []string
	// prose is everything outside of fenced blocks.
	prose string
}

// block is a fenced block.
type block struct {
	language string
	line     int
	text     string
}

var heading = regexp.MustCompile(`^#+ +(.*)$`)

// parsePage reads as much of Markdown as these pages use.
func parsePage(name, text string) page {
	p := page{name: name}
	var open *block
	var prose strings.Builder
	for i, line := range strings.Split(text, "\n") {
		fence, isFence := strings.CutPrefix(line, "```")
		switch {
		case isFence && open == nil:
			open = &block{language: strings.TrimSpace(fence), line: i + 1}
		case isFence:
			p.blocks = append(p.blocks, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		default:
			prose.WriteString(line + "\n")
			if match := heading.FindStringSubmatch(line); match != nil {
				p.headings = append(p.headings, anchor(match[1]))
			}
		}
	}
	p.prose = prose.String()
	return p
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N}\- _]`)

// anchor is how a heading is linked to: lower case, punctuation dropped, blanks as dashes.
func anchor(text string) string {
	return strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(text), ""), " ", "-")
}

// pages are README.md, CONTRIBUTING.md and everything below docs.
func pages(t *testing.T) []page {
	t.Helper()
	root := os.DirFS(envtest.RepositoryFile(t))
	names := []string{"README.md", "CONTRIBUTING.md"}
	err := fs.WalkDir(root, "docs", func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() && filepath.Ext(path) == ".md" {
			names = append(names, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []page
	for _, name := range names {
		text, err := fs.ReadFile(root, name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parsePage(name, string(text)))
	}
	return all
}

func pageNamed(t *testing.T, name string) page {
	t.Helper()
	all := pages(t)
	i := slices.IndexFunc(all, func(p page) bool { return p.name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return all[i]
}

// section is the prose below a heading, up to the next one of the same or a higher level.
func (p page) section(t *testing.T, title string) string {
	t.Helper()
	_, below, found := strings.Cut(p.prose, "\n"+title+"\n")
	if !found {
		t.Fatalf("%s has no heading %q", p.name, title)
	}
	level := strings.Repeat("#", strings.IndexFunc(title, func(r rune) bool { return r != '#' }))
	end := regexp.MustCompile(`(?m)^#{1,` + string('0'+rune(len(level))) + `} `).FindStringIndex(below)
	if end != nil {
		below = below[:end[0]]
	}
	return below
}

var firstCell = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|")

// firstCells are the code words in the first column of the tables of a text.
func firstCells(text string) []string {
	var cells []string
	for _, match := range firstCell.FindAllStringSubmatch(text, -1) {
		cells = append(cells, match[1])
	}
	slices.Sort(cells)
	return cells
}

var inlineCode = regexp.MustCompile("`([^`\n]+)`")

// code is everything of a page that a reader could type: fenced blocks and inline code.
func (p page) code() []string {
	var code []string
	for _, b := range p.blocks {
		code = append(code, b.text)
	}
	for _, match := range inlineCode.FindAllStringSubmatch(p.prose, -1) {
		code = append(code, match[1])
	}
	return code
}

func TestAPageIsTakenApart(t *testing.T) {
	p := parsePage("x.md", "# Title\n\ntext `make it`\n\n## Part `A`, and (B)\n\n| `one` | 1 |\n\n```yaml\n# no heading\na: 1\n```\n\n## Part C\n\n| `two` | 2 |\n")
	if want := []string{"title", "part-a-and-b", "part-c"}; !slices.Equal(p.headings, want) {
		t.Errorf("headings %q, want %q", p.headings, want)
	}
	if len(p.blocks) != 1 || p.blocks[0] != (block{language: "yaml", line: 9, text: "# no heading\na: 1\n"}) {
		t.Errorf("blocks %+v", p.blocks)
	}
	if got := firstCells(p.section(t, "## Part `A`, and (B)")); !slices.Equal(got, []string{"one"}) {
		t.Errorf("the section's table has %q, want one", got)
	}
	if got := p.code(); !slices.Contains(got, "make it") {
		t.Errorf("code %q", got)
	}
}
