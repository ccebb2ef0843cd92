package sites

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// mostNames is how many flavors, and how many images, a Site's status holds besides those that somebody names: more would
// make a large object of a large cloud.
const mostNames = 200

// keepNames are the names of a cloud to tell of: those that are needed, and others as long as there is room. Sorted.
func keepNames(all, needed []string) []string {
	all = slices.Compact(slices.Sorted(slices.Values(all)))
	kept := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !slices.Contains(needed, name) })
	for _, name := range all {
		if len(kept) >= mostNames {
			break
		}
		if !slices.Contains(needed, name) {
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	return kept
}

// missing says that a field names something that is not there, and what comes near.
func missing(field, kind, name string, there []string) string {
	text := fmt.Sprintf("%s: the cloud has no %s %q", field, kind, name)
	if near := nearest(name, there); len(near) > 0 {
		text += "; it has " + strings.Join(near, ", ")
	}
	return text
}

// nearest are the names that a person may have meant, nearest first.
func nearest(name string, there []string) []string {
	const most = 3
	sorted := slices.Clone(there)
	slices.SortStableFunc(sorted, func(a, b string) int {
		return cmp.Or(cmp.Compare(distance(name, a), distance(name, b)), cmp.Compare(a, b))
	})
	return sorted[:min(len(sorted), most)]
}

// distance is how many letters have to be changed, added or left out to make one name of the other (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
