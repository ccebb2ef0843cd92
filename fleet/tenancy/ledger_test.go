package tenancy

import (
	"maps"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

var (
	start  = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	a, b   = client.ObjectKey{Namespace: "team", Name: "a"}, client.ObjectKey{Namespace: "team", Name: "b"}
	a100   = dimension{gpus, "A100-80GB"}
	inGPUs = func(n int64) amounts { return amounts{{what: clusters}: 1, a100: n} }
)

func at(age time.Duration) metav1.MicroTime { return metav1.NewMicroTime(start.Add(-age)) }

// admit is what admission does with the ledger of a Tenant.
func (l ledger) admit(key client.ObjectKey, before, after, limits amounts, now time.Time) (bool, []shortage) {
	entries := l.entries()
	others, own := tally(entries, key)
	e, grown, short := own.admit(others, before, after, limits, now)
	if grown {
		clear(l)
		maps.Copy(l, ledgerOf(write(entries, key, e)))
	}
	return grown, short
}

func TestOnlyWhatGrowsNeedsQuota(t *testing.T) {
	type want struct {
		written *entry // of b
		short   string
	}
	limits := amounts{{what: clusters}: 2, a100: 32}
	for name, c := range map[string]struct {
		ledger        ledger
		before, after amounts
		limits        amounts
		want          want
	}{
		"a new cluster that fits": {
			ledger: ledger{a: {usage: inGPUs(24)}}, after: inGPUs(8),
			want: want{written: &entry{inGPUs(8), at(0)}},
		},
		"a new cluster that does not": {
			ledger: ledger{a: {usage: inGPUs(24)}}, after: inGPUs(16),
			want: want{short: "GPUs A100-80GB: 24 of 32 used, 16 more asked, 8 left"},
		},
		"a growth counts on top of what there is": {
			ledger: ledger{a: {usage: inGPUs(16)}, b: {usage: inGPUs(8)}}, before: inGPUs(8), after: inGPUs(24),
			want: want{short: "GPUs A100-80GB: 24 of 32 used, 16 more asked, 8 left"},
		},
		"scaling down above a quota that was lowered": {
			ledger: ledger{a: {usage: inGPUs(24)}, b: {usage: inGPUs(24)}}, before: inGPUs(24), after: inGPUs(16),
		},
		"a dimension that grows is short although another shrinks": {
			ledger: ledger{b: {usage: amounts{{what: nodes}: 4, a100: 8}}},
			before: amounts{{what: nodes}: 4, a100: 8}, after: amounts{{what: nodes}: 2, a100: 40},
			want: want{short: "GPUs A100-80GB: 8 of 32 used, 32 more asked, 24 left"},
		},
		"a dimension that does not grow is not short, and what shrinks is held until it is stored": {
			ledger: ledger{b: {usage: amounts{{what: nodes}: 4, a100: 40}}},
			before: amounts{{what: nodes}: 4, a100: 40}, after: amounts{{what: nodes}: 5, a100: 16},
			want: want{written: &entry{amounts{{what: nodes}: 5, a100: 40}, at(0)}},
		},
		"growing back what the ledger still holds is written down, so that nobody lowers it meanwhile": {
			ledger: ledger{a: {usage: inGPUs(16)}, b: {usage: inGPUs(16)}}, before: inGPUs(8), after: inGPUs(16),
			want: want{written: &entry{inGPUs(16), at(0)}},
		},
		"what another request may still store is not taken off": {
			ledger: ledger{b: {inGPUs(24), at(time.Second)}}, before: inGPUs(8), after: inGPUs(16),
			want: want{written: &entry{inGPUs(24), at(0)}},
		},
		"what is not limited": {
			ledger: ledger{}, after: amounts{{gpus, "H100-80GB"}: 1000}, want: want{written: &entry{amounts{{gpus, "H100-80GB"}: 1000}, at(0)}},
		},
		"nothing may be had of a limit of 0": {
			ledger: ledger{}, limits: amounts{a100: 0}, after: inGPUs(8), want: want{short: "GPUs A100-80GB: 0 of 0 used, 8 more asked, 0 left"},
		},
		"memory is told in GiB": {
			ledger: ledger{a: {usage: amounts{{what: memory}: 1536}}}, limits: amounts{{what: memory}: 2048}, after: amounts{{what: memory}: 1024},
			want: want{short: "memory: 1.5 of 2 GiB used, 1 GiB more asked, 0.5 GiB left"},
		},
		"a cluster whose entry is lost counts with what it has": {
			ledger: ledger{a: {usage: inGPUs(24)}}, before: inGPUs(8), after: inGPUs(16),
			want: want{short: "GPUs A100-80GB: 32 of 32 used, 8 more asked, 0 left"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.limits == nil {
				c.limits = limits
			}
			before := maps.Clone(c.ledger)
			grown, short := c.ledger.admit(b, c.before, c.after, c.limits, start)
			message := ""
			for _, s := range short {
				message += s.String()
			}
			if message != c.want.short {
				t.Errorf("short: %s\n want: %s", message, c.want.short)
			}
			if grown != (c.want.written != nil) {
				t.Errorf("grown: %t", grown)
			}
			if grown {
				before[b] = *c.want.written
			}
			if !reflect.DeepEqual(before, c.ledger) {
				t.Errorf("ledger %v\n  want %v", c.ledger, before)
			}
		})
	}
}

func TestTheLedgerFollowsTheClusters(t *testing.T) {
	const young, old = 10 * time.Second, pendingLimit
	for name, c := range map[string]struct {
		entry *entry
		found *observed
		want  *entry
		again time.Duration
	}{
		"an unknown cluster is taken in":           {found: &observed{usage: inGPUs(8)}, want: &entry{usage: inGPUs(8)}},
		"a cluster that shrank":                    {entry: &entry{usage: inGPUs(16)}, found: &observed{usage: inGPUs(8)}, want: &entry{usage: inGPUs(8)}},
		"a cluster whose nodes became dearer":      {entry: &entry{usage: inGPUs(8)}, found: &observed{usage: inGPUs(16)}, want: &entry{usage: inGPUs(16)}},
		"a cluster that is gone":                   {entry: &entry{usage: inGPUs(8)}},
		"a growth that was stored":                 {entry: &entry{inGPUs(8), at(young)}, found: &observed{usage: inGPUs(8)}, want: &entry{usage: inGPUs(8)}},
		"a growth that may still be stored":        {entry: &entry{inGPUs(16), at(young)}, found: &observed{usage: inGPUs(8)}, want: &entry{inGPUs(16), at(young)}, again: pendingLimit - young},
		"a new cluster that may still be stored":   {entry: &entry{inGPUs(16), at(young)}, want: &entry{inGPUs(16), at(young)}, again: pendingLimit - young},
		"a growth that was never stored":           {entry: &entry{inGPUs(16), at(old)}, found: &observed{usage: inGPUs(8)}, want: &entry{usage: inGPUs(8)}},
		"a new cluster that was never stored":      {entry: &entry{inGPUs(16), at(old)}},
		"a cluster being deleted counts as before": {entry: &entry{usage: inGPUs(8)}, found: &observed{inGPUs(64), true}, want: &entry{usage: inGPUs(8)}},
		"a cluster being deleted confirms no new one of its name": {
			entry: &entry{inGPUs(8), at(young)}, found: &observed{inGPUs(8), true}, want: &entry{inGPUs(8), at(young)}, again: pendingLimit - young,
		},
	} {
		t.Run(name, func(t *testing.T) {
			l, found, want := ledger{}, map[client.ObjectKey]observed{}, ledger{}
			if c.entry != nil {
				l[a] = *c.entry
			}
			if c.found != nil {
				found[a] = *c.found
			}
			if c.want != nil {
				want[a] = *c.want
			}
			got, again := l.settle(found, start)
			if !reflect.DeepEqual(got, want) || again != c.again {
				t.Errorf("got %v and %s, want %v and %s", got, again, want, c.again)
			}
			if changed := len(l.differ(got)) > 0; changed == reflect.DeepEqual(l, got) {
				t.Errorf("a change is told wrongly: %t", changed)
			}
			if back := ledgerOf(got.entries()); !reflect.DeepEqual(back, got) {
				t.Errorf("written and read: %v, want %v", back, got)
			}
		})
	}
}

// TestNoOrderOfEventsGoesAboveTheQuota plays the protocol of ledger.go with the steps of many requests and of the controller in
// any order, as an API server lets them happen.
func TestNoOrderOfEventsGoesAboveTheQuota(t *testing.T) {
	for range 300 {
		seed := rand.Uint64()
		w := &world{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), now: start, objects: map[client.ObjectKey]object{}, ledger: ledger{}}
		for range 400 {
			w.step()
			w.check()
		}
		if t.Failed() {
			return
		}
	}
}

const quotaOfWorld = 20

// world is an API server with a Tenant and its Clusters, and what is under way.
type world struct {
	t        *testing.T
	seed     uint64
	random   *rand.Rand
	now      time.Time
	objects  map[client.ObjectKey]object
	versions int
	// ledger as it is stored. A ledger that was read is never written to.
	ledger        ledger
	ledgerVersion int
	requests      []*worldRequest
	controller    worldController
}

type object struct {
	size    int64
	version int
}

// worldRequest is a create or an update that was admitted against a version of the object.
type worldRequest struct {
	key     client.ObjectKey
	size    int64
	against int // version of the object, 0 for none
	begun   time.Time
}

// worldController has read the ledger, and then perhaps the Clusters.
type worldController struct {
	step    int
	ledger  ledger
	version int
	now     time.Time
	found   map[client.ObjectKey]observed
}

func (w *world) step() {
	key := []client.ObjectKey{a, b, {Namespace: "team", Name: "c"}}[w.random.IntN(3)]
	switch w.random.IntN(6) {
	case 0:
		w.admit(&worldRequest{key: key, size: 1 + w.random.Int64N(12), begun: w.now})
	case 1:
		w.store()
	case 2:
		// The name is free at once, and a request that was admitted before may use it. Cluster API takes longer to delete than
		// any request takes to be stored; see settle.
		if !w.isWaited(key) {
			delete(w.objects, key)
		}
	case 3, 4:
		w.control()
	case 5:
		w.now = w.now.Add(time.Duration(w.random.Int64N(int64(20 * time.Second))))
	}
}

func (w *world) isWaited(key client.ObjectKey) bool {
	for _, r := range w.requests {
		if r.key == key {
			return true
		}
	}
	return false
}

// admit is one decision of the webhook; the write that may be part of it succeeds, or else it would be another decision.
func (w *world) admit(r *worldRequest) {
	current := w.objects[r.key]
	r.against = current.version
	before := amounts{}
	if r.against > 0 {
		before = inGPUs(current.size)
	}
	l := maps.Clone(w.ledger)
	grown, short := l.admit(r.key, before, inGPUs(r.size), amounts{a100: quotaOfWorld}, w.now)
	if len(short) > 0 {
		return
	}
	if grown {
		w.ledger, w.ledgerVersion = l, w.ledgerVersion+1
	}
	w.requests = append(w.requests, r)
}

// store ends a request: it takes too long, or it is stored, or the object has changed and it is decided again.
func (w *world) store() {
	if len(w.requests) == 0 {
		return
	}
	i := w.random.IntN(len(w.requests))
	r := w.requests[i]
	w.requests = append(w.requests[:i:i], w.requests[i+1:]...)
	switch {
	case w.now.Sub(r.begun) >= pendingLimit-20*time.Second:
	case w.objects[r.key].version == r.against:
		w.versions++
		w.objects[r.key] = object{r.size, w.versions}
	case r.against > 0 && w.objects[r.key].version > 0: // an update
		w.admit(r)
	}
}

func (w *world) control() {
	c := &w.controller
	switch c.step {
	case 0:
		c.ledger, c.version, c.now, c.found = w.ledger, w.ledgerVersion, w.now, map[client.ObjectKey]observed{}
	case 1:
		for key, o := range w.objects {
			c.found[key] = observed{usage: inGPUs(o.size)}
		}
	case 2:
		settled, _ := c.ledger.settle(c.found, c.now)
		if c.version == w.ledgerVersion {
			w.ledger, w.ledgerVersion = settled, w.ledgerVersion+1
		}
	}
	c.step = (c.step + 1) % 3
}

func (w *world) check() {
	total := int64(0)
	for key, o := range w.objects {
		total += o.size
		if held := w.ledger[key].usage[a100]; held < o.size {
			w.t.Errorf("seed %d: %s has %d and the ledger holds %d", w.seed, key, o.size, held)
		}
	}
	if total > quotaOfWorld || w.ledger.total()[a100] > quotaOfWorld {
		w.t.Errorf("seed %d: %d stored, %d in the ledger, %d allowed", w.seed, total, w.ledger.total()[a100], quotaOfWorld)
	}
}

func TestUsageIsReadAsItIsWritten(t *testing.T) {
	usage := fleetv1.Usage{Clusters: 1, Nodes: 2, VCPUs: 3, MemoryMiB: 4, GPUs: map[string]int64{"A100-80GB": 5}, MIGSlices: map[string]int64{"1g.5gb": 6}}
	if got := amountsOf(usage).usage(); !reflect.DeepEqual(got, usage) {
		t.Errorf("got %+v, want %+v", got, usage)
	}
}
