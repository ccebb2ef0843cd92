package tenancy

import (
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// The ledger holds at every moment at least what the stored Clusters of a tenant use together. So it never goes above the
// quota, except when somebody lowers the quota, gives the tenant a namespace that has Clusters, or a node becomes dearer.
//
// It is kept by admission and by the controller, in Tenant.status, and every write names the resourceVersion it was decided
// on. It is a sum, and not a list of Clusters, so that a write costs the same in a tenant of any size. What keeps the promise:
//
//   - Admission adds a growth to the sum, and writes down that it may not be stored yet, before it lets it pass. It adds what
//     is more than the sum has in it for that Cluster: the stored object, read after the ledger, or a growth that is pending.
//     The object that the request replaces would not do. It may be an older and larger one, from before the sum was lowered.
//   - A request that does not grow is not written down. It cannot make the stored object larger than the one it was compared
//     with: the API server decides again when that one has been replaced in the meantime.
//   - The controller reads the ledger first and the Clusters then, without a cache. Had it read a Cluster first, a growth
//     could be written down, stored and confirmed in between, and the old size would undo the entry. In this order every
//     growth is either pending in the ledger that was read, or it changes the resourceVersion and the write fails. What was read
//     of the Clusters then goes with the newer ledger as well, since nobody but the controller takes growths from it. But only
//     those may be taken from it that were pending before the Clusters were read: a newer one can be as large as what was read,
//     after the Cluster had become smaller in between, and still not be stored.
//   - What the controller has once read of a Cluster it may take again, as long as its cache shows the same: the Cluster cannot
//     have become larger but by a growth, which it would have found pending, and read the Cluster for.
//   - A growth is pending until the stored object is the same, by its UID, and exactly as large, or until the request must
//     have ended. Whether it must have is asked before the Clusters are read, not after.

// pendingLimit is how long a request may take from its admission to being stored. The API server gives up after a minute
// (its flag request-timeout); the rest is for clocks that differ.
const pendingLimit = 90 * time.Second

type ledger struct {
	used    amounts
	pending []growth
}

// growth is a Cluster as a request wants it.
type growth struct {
	key      client.ObjectKey
	uid      types.UID
	usage    amounts
	admitted metav1.MicroTime
}

func (g growth) equal(other growth) bool {
	return g.key == other.key && g.uid == other.uid && g.admitted.Time.Equal(other.admitted.Time) && maps.Equal(g.usage, other.usage)
}

// stored is a Cluster that was found.
type stored struct {
	uid   types.UID
	usage amounts
	// isUncounted says that it uses more, nobody knows how much: its ClusterClass is gone.
	isUncounted bool
}

func ledgerOf(status fleetv1.TenantStatus) ledger {
	l := ledger{used: amountsOf(status.Usage)}
	for _, p := range status.PendingGrowths {
		l.pending = append(l.pending, growth{client.ObjectKey{Namespace: p.Namespace, Name: p.Name}, p.UID, amountsOf(p.Usage), p.AdmittedTime})
	}
	return l
}

// writeTo keeps the order of growths, so that the same ledger is always written the same.
func (l ledger) writeTo(status *fleetv1.TenantStatus) {
	status.Usage, status.PendingGrowths = l.used.usage(), nil
	for _, g := range l.pending {
		status.PendingGrowths = append(status.PendingGrowths, fleetv1.PendingGrowth{
			Namespace: g.key.Namespace, Name: g.key.Name, UID: g.uid, Usage: g.usage.usage(), AdmittedTime: g.admitted,
		})
	}
}

// admit decides whether a Cluster that is stored with so much, nothing when it is new, may use as much as the growth says. Only a
// dimension that grows can be short, so that scaling down works whatever the quota has become.
func (l ledger) admit(want growth, stored, limits amounts) (ledger, []shortage) {
	held := larger(stored, l.pendingOf(want.key))
	var short []shortage
	for _, d := range slices.SortedFunc(maps.Keys(limits), compareDimensions) {
		if asked := want.usage[d] - held[d]; asked > 0 && l.used[d]+asked > limits[d] {
			short = append(short, shortage{d, l.used[d], limits[d], asked})
		}
	}
	if len(short) > 0 {
		return l, short
	}
	grown := ledger{used: sum(l.used)}
	for d, n := range want.usage {
		grown.used[d] += max(0, n-held[d])
	}
	for _, g := range l.pending {
		if g.key == want.key && g.uid == want.uid { // an earlier request, which may still be stored too
			want.usage = larger(want.usage, g.usage)
			if !want.admitted.After(g.admitted.Time) { // two are told apart by it
				want.admitted = metav1.NewMicroTime(g.admitted.Add(time.Microsecond))
			}
			continue
		}
		grown.pending = append(grown.pending, g)
	}
	grown.pending = append(grown.pending, want)
	return grown, nil
}

// pendingOf is the most that a name may come to use by requests that are not stored yet.
func (l ledger) pendingOf(key client.ObjectKey) amounts {
	most := amounts{}
	for _, g := range l.pending {
		if g.key == key {
			most = larger(most, g.usage)
		}
	}
	return most
}

// toRead are the Clusters whose size may be another than is known: memory shows another, or a growth is pending.
func (l ledger) toRead(known, inMemory map[client.ObjectKey]stored) []client.ObjectKey {
	keys := map[client.ObjectKey]bool{}
	for _, g := range l.pending {
		keys[g.key] = true
	}
	for _, clusters := range []map[client.ObjectKey]stored{known, inMemory} {
		for key := range clusters {
			if !known[key].equal(inMemory[key]) {
				keys[key] = true
			}
		}
	}
	return slices.Collect(maps.Keys(keys))
}

func (s stored) equal(other stored) bool {
	return s.uid == other.uid && s.isUncounted == other.isUncounted && maps.Equal(s.usage, other.usage)
}

// settle leaves out what is no longer pending, and says how long until that has to be looked at again. The Clusters were found after
// the growths asked for were pending, at the time now or later.
func (l ledger) settle(found map[client.ObjectKey]stored, asked []growth, now time.Time) (ledger, time.Duration) {
	settled, again := ledger{used: l.used}, time.Duration(0)
	for _, g := range l.pending {
		cluster, left := found[g.key], g.admitted.Add(pendingLimit).Sub(now)
		isStored := cluster.uid == g.uid && maps.Equal(cluster.usage, g.usage) && slices.ContainsFunc(asked, g.equal)
		if isStored || left <= 0 {
			continue
		}
		settled.pending = append(settled.pending, g)
		again = earlier(again, left)
	}
	return settled, again
}

// count is the ledger for these Clusters, which must be all of them.
func (l ledger) count(found map[client.ObjectKey]stored) ledger {
	most, isUncounted := map[client.ObjectKey]amounts{}, false
	for key, cluster := range found {
		most[key] = cluster.usage
		isUncounted = isUncounted || cluster.isUncounted
	}
	for _, g := range l.pending {
		most[g.key] = larger(most[g.key], g.usage)
	}
	counted := ledger{used: sum(slices.Collect(maps.Values(most))...), pending: l.pending}
	if isUncounted {
		counted.used = larger(counted.used, l.used)
	}
	return counted
}

// earlier takes zero for never.
func earlier(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}
