package tenancy

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// The ledger holds for each Cluster at least as much as the stored object may use, at every moment. So its sum never goes
// above the quota, except when somebody lowers the quota or a node becomes dearer.
//
// It is kept by admission and by the controller, in Tenant.status, and every write names the resourceVersion it was decided
// on. What keeps the promise:
//
//   - Admission writes a growth down before it lets it pass. Growth is measured against the object that the request replaces,
//     and not against the entry: an entry may be about to be lowered by a controller that has read a smaller object, and the
//     write makes that fail.
//   - A request that does not grow is not written down. It cannot make the stored object larger than the one it was compared
//     with: the API server decides again when that one has been replaced in the meantime.
//   - The controller reads the ledger first and the Clusters then, without a cache. Had it read a Cluster first, a growth
//     could be written down, stored and confirmed in between, and the old size would undo the entry. In this order every
//     growth is either in the ledger that was read, with its time, or it changes the resourceVersion and the write fails.
//   - An entry with a time is a growth that may not be stored yet. It is let be until the stored object is exactly as large,
//     or until the request must have ended. Whether it must have is asked before the Clusters are read, not after.

// pendingLimit is how long a request may take from its admission to being stored. The API server gives up after a minute
// (its flag request-timeout); the rest is for clocks that differ.
const pendingLimit = 90 * time.Second

type ledger map[client.ObjectKey]entry

type entry struct {
	usage amounts
	// admitted is when a growth was let pass that may not be stored yet; zero when there is none.
	admitted metav1.MicroTime
}

func ledgerOf(entries []fleetv1.ClusterUsage) ledger {
	l := ledger{}
	for _, e := range entries {
		l[client.ObjectKey{Namespace: e.Namespace, Name: e.Name}] = entry{amountsOf(e.Usage), e.AdmittedTime}
	}
	return l
}

// entries are in the order of their names, so that the same ledger is always written the same.
func (l ledger) entries() []fleetv1.ClusterUsage {
	var entries []fleetv1.ClusterUsage
	for _, key := range slices.SortedFunc(maps.Keys(l), compareKeys) {
		entries = append(entries, fleetv1.ClusterUsage{Namespace: key.Namespace, Name: key.Name, Usage: l[key].usage.usage(), AdmittedTime: l[key].admitted})
	}
	return entries
}

func compareKeys(a, b client.ObjectKey) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// tally adds up what is written of other Clusters, and finds the entry of one. It is for admission, where time counts and a
// whole ledger would be taken apart and put together again for one entry.
func tally(entries []fleetv1.ClusterUsage, key client.ObjectKey) (others amounts, own entry) {
	others = amounts{}
	for i := range entries {
		if e := &entries[i]; e.Namespace == key.Namespace && e.Name == key.Name {
			own = entry{amountsOf(e.Usage), e.AdmittedTime}
		} else {
			others.addUsage(e.Usage)
		}
	}
	return others, own
}

// write puts an entry into its place.
func write(entries []fleetv1.ClusterUsage, key client.ObjectKey, e entry) []fleetv1.ClusterUsage {
	written := ledger{key: e}.entries()[0]
	compare := func(e fleetv1.ClusterUsage, key client.ObjectKey) int {
		return compareKeys(client.ObjectKey{Namespace: e.Namespace, Name: e.Name}, key)
	}
	if at := slices.IndexFunc(entries, func(e fleetv1.ClusterUsage) bool { return compare(e, key) == 0 }); at >= 0 {
		entries[at] = written
		return entries
	}
	at, _ := slices.BinarySearchFunc(entries, key, compare)
	return slices.Insert(entries, at, written)
}

func (l ledger) total() amounts {
	total := amounts{}
	for _, e := range l {
		total.add(e.usage)
	}
	return total
}

// admit decides whether a Cluster with this entry that uses before, nothing when it is new, may use after, where others use as
// much as they do. Only a dimension that grows can be short, so that scaling down works whatever the quota has become. A growth
// has to be written down.
func (e entry) admit(others, before, after, limits amounts, now time.Time) (written entry, grown bool, short []shortage) {
	if !after.exceed(before) {
		return e, false, nil
	}
	held := larger(before, e.usage)
	for _, d := range slices.SortedFunc(maps.Keys(limits), compareDimensions) {
		used := others[d] + held[d]
		if asked := after[d] - held[d]; asked > 0 && used+asked > limits[d] {
			short = append(short, shortage{d, used, limits[d], asked})
		}
	}
	if len(short) > 0 {
		return e, false, short
	}
	return entry{larger(held, after), metav1.NewMicroTime(now)}, true, nil
}

// observed is a Cluster that was found.
type observed struct {
	usage amounts
	// kept says that the entry, where there is one, stays: the Cluster is being deleted and makes no more machines, whatever
	// its spec says, or its ClusterClass is gone. A new Cluster of the name may be waiting for it, so it confirms nothing.
	kept bool
}

// settle is the ledger that matches the Clusters, and how long until an entry has to be looked at again.
func (l ledger) settle(found map[client.ObjectKey]observed, now time.Time) (ledger, time.Duration) {
	settled, again := ledger{}, time.Duration(0)
	for key, cluster := range found {
		if _, known := l[key]; !known {
			settled[key] = entry{usage: cluster.usage}
		}
	}
	for key, e := range l {
		cluster, there := found[key]
		left := e.admitted.Add(pendingLimit).Sub(now)
		switch {
		case there && !cluster.kept && maps.Equal(cluster.usage, e.usage):
			settled[key] = entry{usage: e.usage}
		case !e.admitted.IsZero() && left > 0:
			settled[key] = entry{larger(e.usage, cluster.usage), e.admitted}
			again = earlier(again, left)
		case there && cluster.kept:
			settled[key] = entry{usage: e.usage}
		case there:
			settled[key] = entry{usage: cluster.usage}
		}
	}
	return settled, again
}

// including has everything that was found and what is not sure yet.
func (l ledger) including(found map[client.ObjectKey]observed) ledger {
	all := maps.Clone(l)
	for key, cluster := range found {
		all[key] = entry{larger(cluster.usage, l[key].usage), l[key].admitted}
	}
	return all
}

// earlier takes zero for never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// differ are the Clusters whose entries are not the same.
func (l ledger) differ(other ledger) []client.ObjectKey {
	var keys []client.ObjectKey
	for key := range l {
		if a, b := l[key], other[key]; !maps.Equal(a.usage, b.usage) || !a.admitted.Equal(&b.admitted) {
			keys = append(keys, key)
		}
	}
	for key := range other {
		if _, known := l[key]; !known {
			keys = append(keys, key)
		}
	}
	return keys
}
