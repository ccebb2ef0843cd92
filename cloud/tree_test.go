package cloud

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func entries(t tree[int], prefix string) (keys []string, values map[string]int) {
	values = map[string]int{}
	t.walk(prefix, func(key string, value int) bool {
		keys = append(keys, key)
		values[key] = value
		return true
	})
	return keys, values
}

func TestATreeBehavesLikeAMapAndOldTreesNeverChange(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var now tree[int]
	want := map[string]int{}
	type version struct {
		tree tree[int]
		want map[string]int
	}
	var versions []version
	for step := range 4000 {
		key := fmt.Sprintf("%c/%03d", 'a'+random.IntN(4), random.IntN(300))
		if random.IntN(3) == 0 {
			now = now.without(key)
			delete(want, key)
		} else {
			now = now.with(key, step)
			want[key] = step
		}
		if step%200 == 0 {
			versions = append(versions, version{now, maps.Clone(want)})
		}
	}
	for n, version := range append(versions, version{now, want}) {
		keys, values := entries(version.tree, "")
		if !maps.Equal(values, version.want) || !slices.IsSorted(keys) || len(keys) != len(version.want) {
			t.Fatalf("version %d differs from its map", n)
		}
		for key, value := range version.want {
			if got, found := version.tree.get(key); !found || got != value {
				t.Fatalf("version %d: get(%q) = %d, %v", n, key, got, found)
			}
		}
	}
}

func TestAPrefixFindsItsKeysInOrderAndNoOthers(t *testing.T) {
	var all tree[int]
	for n := range 500 {
		all = all.with(fmt.Sprintf("%d/x", n), n)
	}
	for _, prefix := range []string{"1", "12", "49/", "499/x", "5", "", "zz"} {
		got, _ := entries(all, prefix)
		var want []string
		for n := range 500 {
			if key := fmt.Sprintf("%d/x", n); strings.HasPrefix(key, prefix) {
				want = append(want, key)
			}
		}
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("prefix %q: %d keys, want %d", prefix, len(got), len(want))
		}
	}
}

func TestAWalkEndsWhenItIsToldTo(t *testing.T) {
	var all tree[int]
	for n := range 100 {
		all = all.with(fmt.Sprint(n), n)
	}
	visits := 0
	all.walk("", func(string, int) bool { visits++; return visits < 7 })
	if visits != 7 {
		t.Errorf("%d visits, want 7", visits)
	}
}

func TestATreeStaysShallow(t *testing.T) {
	var all tree[int]
	for n := range 50_000 {
		all = all.with(fmt.Sprintf("server-%08d", n), n) // in order: the worst case of a plain tree
	}
	if depth := depthOf(all.root); depth > 60 {
		t.Errorf("depth %d of 50,000 keys", depth)
	}
}

func depthOf(n *treeNode[int]) int {
	if n == nil {
		return 0
	}
	return 1 + max(depthOf(n.left), depthOf(n.right))
}
