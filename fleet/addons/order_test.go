package addons

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// graph reads "a>b c>a d".
func graph(text string) map[string][]string {
	dependsOn := map[string][]string{}
	for _, term := range strings.Fields(text) {
		name, dependency, found := strings.Cut(term, ">")
		dependsOn[name] = dependsOn[name][:len(dependsOn[name]):len(dependsOn[name])]
		if found {
			dependsOn[name] = append(dependsOn[name], dependency)
		}
	}
	return dependsOn
}

func TestTheOrderOfAddons(t *testing.T) {
	for name, c := range map[string]struct{ graph, want, circles string }{
		"by the alphabet":                     {graph: "c a b", want: "a b c"},
		"dependencies first":                  {graph: "a>c b c>b", want: "b c a"},
		"others do not wait":                  {graph: "a>z b z", want: "b z a"},
		"what the cluster does not have":      {graph: "a>gone b", want: "a b"},
		"a circle is named, all others go on": {graph: "a>b b>c c>a d>a e", want: "e a b c d", circles: "a → b → c → a, b → c → a → b, c → a → b → c"},
		"itself":                              {graph: "a>a b", want: "b a", circles: "a → a"},
		"two circles":                         {graph: "a>b b>a c>d d>c", want: "a b c d", circles: "a → b → a, b → a → b, c → d → c, d → c → d"},
		"those behind a circle come after it": {graph: "a>b b>c c>b", want: "b c a", circles: "b → c → b, c → b → c"},
	} {
		t.Run(name, func(t *testing.T) {
			sorted, circles := sortByDependency(graph(c.graph))
			if got := strings.Join(sorted, " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			var named []string
			for _, name := range sorted {
				if circles[name] != "" {
					named = append(named, circles[name])
				}
			}
			if got := strings.Join(named, ", "); got != c.circles {
				t.Errorf("circles: got %q, want %q", got, c.circles)
			}
		})
	}
}

func TestAnyGraphIsOrderedWithItsDependenciesFirst(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, seed))
	for range 500 {
		dependsOn := map[string][]string{}
		count := 1 + random.IntN(12)
		for i := range count {
			name := strconv.Itoa(i)
			dependsOn[name] = nil
			for range random.IntN(3) {
				dependsOn[name] = append(dependsOn[name], strconv.Itoa(random.IntN(count)))
			}
		}
		sorted, circles := sortByDependency(dependsOn)
		if len(sorted) != count {
			t.Fatalf("seed %d: %v has %d names, want %d", seed, sorted, len(sorted), count)
		}
		for i, name := range sorted {
			for _, dependency := range dependsOn[name] {
				if slices.Index(sorted, dependency) > i && circles[name] == "" {
					t.Fatalf("seed %d: %s is before %s in %v of %v", seed, name, dependency, sorted, dependsOn)
				}
			}
		}
	}
}
