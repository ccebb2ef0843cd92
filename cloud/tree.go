package cloud

import "strings"

// tree is an immutable, ordered map from strings: a treap whose nodes are never changed. An update
// copies the path from the root to the changed node, O(log n), and shares all the rest with the
// tree before it. That is what makes a snapshot of 50,000 servers after one write cheap.
//
// The zero tree is empty.
type tree[V any] struct{ root *treeNode[V] }

type treeNode[V any] struct {
	key         string
	value       V
	priority    uint32
	left, right *treeNode[V]
}

func (t tree[V]) get(key string) (V, bool) {
	for n := t.root; n != nil; {
		switch {
		case key < n.key:
			n = n.left
		case key > n.key:
			n = n.right
		default:
			return n.value, true
		}
	}
	var none V
	return none, false
}

// with is the tree with key set to value.
func (t tree[V]) with(key string, value V) tree[V] {
	return tree[V]{insertNode(t.root, &treeNode[V]{key: key, value: value, priority: priorityOf(key)})}
}

// without is the tree without key.
func (t tree[V]) without(key string) tree[V] { return tree[V]{removeNode(t.root, key)} }

// walk calls visit with every entry whose key begins with prefix, in order of keys, until visit
// returns false.
func (t tree[V]) walk(prefix string, visit func(key string, value V) bool) {
	walkNode(t.root, prefix, visit)
}

func walkNode[V any](n *treeNode[V], prefix string, visit func(string, V) bool) bool {
	if n == nil {
		return true
	}
	matches := strings.HasPrefix(n.key, prefix)
	if (matches || n.key > prefix) && !walkNode(n.left, prefix, visit) {
		return false
	}
	if matches && !visit(n.key, n.value) {
		return false
	}
	// Keys with the prefix follow each other, so nothing to the right of a larger key has it.
	if matches || n.key < prefix {
		return walkNode(n.right, prefix, visit)
	}
	return true
}

func insertNode[V any](n, added *treeNode[V]) *treeNode[V] {
	switch {
	case n == nil:
		return added
	case n.key == added.key:
		added.left, added.right = n.left, n.right
		return added
	case added.priority > n.priority:
		// The priority belongs to the key, so the key cannot be further down.
		added.left, added.right = splitNode(n, added.key)
		return added
	}
	changed := *n
	if added.key < n.key {
		changed.left = insertNode(n.left, added)
	} else {
		changed.right = insertNode(n.right, added)
	}
	return &changed
}

// splitNode parts a subtree into the keys before and after key, which is not in it.
func splitNode[V any](n *treeNode[V], key string) (before, after *treeNode[V]) {
	if n == nil {
		return nil, nil
	}
	changed := *n
	if n.key < key {
		changed.right, after = splitNode(n.right, key)
		return &changed, after
	}
	before, changed.left = splitNode(n.left, key)
	return before, &changed
}

func removeNode[V any](n *treeNode[V], key string) *treeNode[V] {
	if n == nil {
		return nil
	}
	if n.key == key {
		return joinNodes(n.left, n.right)
	}
	left, right := n.left, n.right
	if key < n.key {
		left = removeNode(left, key)
	} else {
		right = removeNode(right, key)
	}
	if left == n.left && right == n.right {
		return n // the key is not there: nothing to copy
	}
	changed := *n
	changed.left, changed.right = left, right
	return &changed
}

// joinNodes joins two subtrees of which the first holds only smaller keys.
func joinNodes[V any](before, after *treeNode[V]) *treeNode[V] {
	switch {
	case before == nil:
		return after
	case after == nil:
		return before
	case before.priority > after.priority:
		changed := *before
		changed.right = joinNodes(before.right, after)
		return &changed
	}
	changed := *after
	changed.left = joinNodes(before, after.left)
	return &changed
}

// priorityOf scatters keys evenly: FNV-1a, and the last step of MurmurHash3 because the high bits
// of FNV alone are alike for keys that differ only at the end.
func priorityOf(key string) uint32 {
	hash := uint32(2166136261)
	for i := range len(key) {
		hash = (hash ^ uint32(key[i])) * 16777619
	}
	hash = (hash ^ hash>>16) * 0x85ebca6b
	hash = (hash ^ hash>>13) * 0xc2b2ae35
	return hash ^ hash>>16
}
