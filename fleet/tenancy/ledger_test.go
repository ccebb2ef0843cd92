package tenancy

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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

// pending is a growth of b.
func pending(uid types.UID, gpus int64, age time.Duration) growth {
	return growth{b, uid, inGPUs(gpus), at(age)}
}

func TestOnlyWhatGrowsNeedsQuota(t *testing.T) {
	limits := amounts{{what: clusters}: 2, a100: 32}
	for name, c := range map[string]struct {
		ledger        ledger
		stored, after amounts // of b
		limits        amounts
		want          ledger
		short         string
	}{
		"a new cluster that fits": {
			ledger: ledger{used: inGPUs(24)}, after: inGPUs(8),
			want: ledger{amounts{{what: clusters}: 2, a100: 32}, []growth{pending("b", 8, 0)}},
		},
		"a new cluster that does not": {
			ledger: ledger{used: inGPUs(24)}, after: inGPUs(16), short: "GPUs A100-80GB: 24 of 32 used, 16 more asked, 8 left",
		},
		"a growth counts on top of what there is": {
			ledger: ledger{used: inGPUs(24)}, stored: inGPUs(8), after: inGPUs(24), short: "GPUs A100-80GB: 24 of 32 used, 16 more asked, 8 left",
		},
		"a dimension that grows is short although another shrinks": {
			ledger: ledger{used: amounts{{what: nodes}: 4, a100: 8}},
			stored: amounts{{what: nodes}: 4, a100: 8}, after: amounts{{what: nodes}: 2, a100: 40},
			short: "GPUs A100-80GB: 8 of 32 used, 32 more asked, 24 left",
		},
		"a dimension that does not grow is not short, and what shrinks counts until it is stored": {
			ledger: ledger{used: amounts{{what: nodes}: 4, a100: 40}},
			stored: amounts{{what: nodes}: 4, a100: 40}, after: amounts{{what: nodes}: 5, a100: 16},
			want: ledger{amounts{{what: nodes}: 5, a100: 40}, []growth{{b, "b", amounts{{what: nodes}: 5, a100: 16}, at(0)}}},
		},
		"what another request may still store is not counted twice": {
			ledger: ledger{inGPUs(24), []growth{pending("b", 24, time.Second)}}, stored: inGPUs(8), after: inGPUs(16),
			want: ledger{inGPUs(24), []growth{pending("b", 24, 0)}},
		},
		"two of a name, of which one can be stored": {
			ledger: ledger{inGPUs(24), []growth{pending("other", 24, time.Second)}}, after: inGPUs(28),
			want: ledger{inGPUs(28), []growth{pending("other", 24, time.Second), pending("b", 28, 0)}},
		},
		"what is not limited": {
			ledger: ledger{}, after: amounts{{gpus, "H100-80GB"}: 1000},
			want: ledger{amounts{{gpus, "H100-80GB"}: 1000}, []growth{{b, "b", amounts{{gpus, "H100-80GB"}: 1000}, at(0)}}},
		},
		"nothing may be had of a limit of 0": {
			ledger: ledger{}, limits: amounts{a100: 0}, after: inGPUs(8), short: "GPUs A100-80GB: 0 of 0 used, 8 more asked, 0 left",
		},
		"memory is told in GiB": {
			ledger: ledger{used: amounts{{what: memory}: 1536}}, limits: amounts{{what: memory}: 2048}, after: amounts{{what: memory}: 1024},
			short: "memory: 1.5 of 2 GiB used, 1 GiB more asked, 0.5 GiB left",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if c.limits == nil {
				c.limits = limits
			}
			if c.short != "" {
				c.want = c.ledger
			}
			got, short := c.ledger.admit(growth{b, "b", c.after, at(0)}, c.stored, c.limits)
			message := ""
			for _, s := range short {
				message += s.String()
			}
			if message != c.short || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %v, short %q\nwant %v, short %q", got, message, c.want, c.short)
			}
		})
	}
}

func TestTheLedgerFollowsTheClusters(t *testing.T) {
	const young, old = 10 * time.Second, pendingLimit
	other := stored{uid: "a", usage: inGPUs(8)}
	for name, c := range map[string]struct {
		ledger ledger
		found  *stored // b; a is there too
		want   ledger
		again  time.Duration
	}{
		"an unknown cluster is taken in": {found: &stored{uid: "b", usage: inGPUs(8)}, want: ledger{used: sum(inGPUs(8), inGPUs(8))}},
		"a cluster that shrank":          {ledger: ledger{used: inGPUs(64)}, found: &stored{uid: "b", usage: inGPUs(8)}, want: ledger{used: sum(inGPUs(8), inGPUs(8))}},
		"a cluster that is gone":         {ledger: ledger{used: inGPUs(16)}, want: ledger{used: inGPUs(8)}},
		"a growth that was stored": {
			ledger: ledger{pending: []growth{pending("b", 8, young)}}, found: &stored{uid: "b", usage: inGPUs(8)},
			want: ledger{used: sum(inGPUs(8), inGPUs(8))},
		},
		"a growth that may still be stored": {
			ledger: ledger{pending: []growth{pending("b", 16, young)}}, found: &stored{uid: "b", usage: inGPUs(8)},
			want: ledger{sum(inGPUs(8), inGPUs(16)), []growth{pending("b", 16, young)}}, again: pendingLimit - young,
		},
		"a new cluster that may still be stored": {
			ledger: ledger{pending: []growth{pending("b", 16, young)}},
			want:   ledger{sum(inGPUs(8), inGPUs(16)), []growth{pending("b", 16, young)}}, again: pendingLimit - young,
		},
		"a new cluster that may still be stored, after one of its name": {
			ledger: ledger{pending: []growth{pending("b", 8, young)}}, found: &stored{uid: "earlier", usage: inGPUs(8)},
			want: ledger{sum(inGPUs(8), inGPUs(8)), []growth{pending("b", 8, young)}}, again: pendingLimit - young,
		},
		"a growth that was never stored": {
			ledger: ledger{inGPUs(24), []growth{pending("b", 16, old)}}, found: &stored{uid: "b", usage: inGPUs(8)}, want: ledger{used: sum(inGPUs(8), inGPUs(8))},
		},
		"a new cluster that was never stored":            {ledger: ledger{inGPUs(24), []growth{pending("b", 16, old)}}, want: ledger{used: inGPUs(8)}},
		"nothing is given back while one cannot be told": {ledger: ledger{used: inGPUs(64)}, found: &stored{"b", inGPUs(1), true}, want: ledger{used: amounts{{what: clusters}: 2, a100: 64}}},
	} {
		t.Run(name, func(t *testing.T) {
			found := map[client.ObjectKey]stored{a: other}
			if c.found != nil {
				found[b] = *c.found
			}
			got, again := c.ledger.settle(found, c.ledger.pending, start)
			if got = got.count(found); !reflect.DeepEqual(got, c.want) || again != c.again {
				t.Errorf("got %v and %s, want %v and %s", got, again, c.want, c.again)
			}
			status := fleetv1.TenantStatus{}
			got.writeTo(&status)
			if back := ledgerOf(status); !reflect.DeepEqual(back, got) {
				t.Errorf("written and read: %v, want %v", back, got)
			}
		})
	}
}

// TestNoOrderOfEventsGoesAboveTheQuota plays the protocol of ledger.go with the steps of many requests and of the controller in
// any order, as an API server lets them happen.
func TestNoOrderOfEventsGoesAboveTheQuota(t *testing.T) {
	stores := 0
	found := []uint64{15003116567827790288, 5298041033255348679} // what once went above the quota
	for i := range 3000 {
		seed := rand.Uint64()
		if i < len(found) {
			seed = found[i]
		}
		w := &world{t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 1)), now: start, objects: map[client.ObjectKey]object{}}
		for range 1000 {
			w.step()
			w.check()
		}
		if stores += w.versions; t.Failed() {
			return
		}
	}
	t.Logf("%d requests were stored", stores)
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
	memory        map[client.ObjectKey]stored
}

type object struct {
	uid     types.UID
	size    int64
	version int
}

// usage of no object is nothing.
func (o object) usage() amounts {
	if o.version == 0 {
		return amounts{}
	}
	return inGPUs(o.size)
}

// worldRequest is a create, when it replaces nothing, or an update.
type worldRequest struct {
	want     growth
	replaces object
	begun    time.Time
	step     int
	ledger   ledger
	version  int
	stored   amounts
}

// worldController is at a step of settleLedger.
type worldController struct {
	step    int
	ledger  ledger
	version int
	now     time.Time
	known   map[client.ObjectKey]stored
	toRead  []client.ObjectKey
	pending []growth
}

func (w *world) step() {
	key := []client.ObjectKey{a, b, {Namespace: "team", Name: "c"}}[w.random.IntN(3)]
	switch w.random.IntN(20) {
	case 0, 1:
		w.ask(key)
	case 2:
		if w.random.IntN(3) == 0 {
			delete(w.objects, key)
		}
	case 3:
		if w.random.IntN(3) == 0 {
			w.memory = w.found()
		}
	case 4:
		w.now = w.now.Add(time.Duration(w.random.Int64N(int64(10 * time.Second))))
	case 5, 6, 7, 8, 9, 10, 11:
		w.control()
	default:
		if len(w.requests) > 0 {
			w.goOn(w.random.IntN(len(w.requests)))
		}
	}
}

func (w *world) ask(key client.ObjectKey) {
	r := &worldRequest{want: growth{key: key, usage: inGPUs(1 + w.random.Int64N(9))}, replaces: w.objects[key], begun: w.now}
	if r.want.uid = r.replaces.uid; r.want.uid == "" {
		r.want.uid = types.UID(fmt.Sprint("uid-", w.random.Uint64()))
	}
	w.requests = append(w.requests, r)
}

// goOn does the next step of a request: those of admission, and then it is stored.
func (w *world) goOn(i int) {
	r := w.requests[i]
	isOver := false
	switch r.step++; r.step {
	case 1:
		if !r.want.usage.exceed(r.replaces.usage()) {
			r.step = 3
		}
		r.ledger, r.version = w.ledger, w.ledgerVersion
	case 2:
		if r.replaces.version > 0 {
			r.stored = w.objects[r.want.key].usage()
		}
	case 3:
		r.want.admitted = metav1.NewMicroTime(w.now)
		grown, short := r.ledger.admit(r.want, r.stored, amounts{a100: quotaOfWorld})
		switch isOver = len(short) > 0; {
		case isOver:
		case w.ledgerVersion == r.version:
			w.ledger, w.ledgerVersion = grown, w.ledgerVersion+1
		default: // somebody was faster
			r.step = 0
		}
	case 4:
		isOver = w.store(r)
	}
	if isOver {
		w.requests = append(w.requests[:i:i], w.requests[i+1:]...)
	}
}

// store ends a request, if the object has not changed so that it is decided again.
func (w *world) store(r *worldRequest) bool {
	const requestTimeout = time.Minute
	current := w.objects[r.want.key]
	switch {
	case w.now.Sub(r.begun) >= requestTimeout:
	case current == r.replaces:
		w.versions++
		w.objects[r.want.key] = object{r.want.uid, r.want.usage[a100], w.versions}
	case r.replaces.version > 0 && current.uid == r.replaces.uid:
		r.replaces, r.step = current, 0
		return false
	}
	return true
}

func (w *world) found() map[client.ObjectKey]stored {
	found := map[client.ObjectKey]stored{}
	for key, o := range w.objects {
		found[key] = stored{uid: o.uid, usage: o.usage()}
	}
	return found
}

// control is settleLedger, and now and then another controller that begins.
func (w *world) control() {
	c := &w.controller
	switch c.step++; c.step {
	case 1:
		if w.random.IntN(40) == 0 {
			c.known = nil
		}
		c.ledger, c.version, c.pending, c.now, c.toRead = w.ledger, w.ledgerVersion, w.ledger.pending, w.now, nil
		if c.known != nil {
			c.toRead = c.ledger.toRead(c.known, w.memory)
		}
	case 2:
		if c.known == nil {
			c.known = w.found()
			return
		}
		if len(c.toRead) == 0 {
			return
		}
		key := c.toRead[0]
		if delete(c.known, key); w.objects[key].version > 0 {
			c.known[key] = w.found()[key]
		}
		c.toRead, c.step = c.toRead[1:], 1
	case 3:
		settled, _ := c.ledger.settle(c.known, c.pending, c.now)
		switch {
		case c.version == w.ledgerVersion:
			w.ledger, w.ledgerVersion = settled.count(c.known), w.ledgerVersion+1
		case w.random.IntN(3) > 0: // what was read goes with the newer ledger too
			c.ledger, c.version, c.step = w.ledger, w.ledgerVersion, 2
			return
		}
		c.step = 0
	}
}

func (w *world) check() {
	total := int64(0)
	for _, o := range w.objects {
		total += o.size
	}
	if used := w.ledger.used[a100]; total > used || used > quotaOfWorld {
		w.t.Errorf("seed %d: %d stored, %d in the ledger, %d allowed", w.seed, total, used, quotaOfWorld)
	}
}

func TestUsageIsReadAsItIsWritten(t *testing.T) {
	usage := fleetv1.Usage{Clusters: 1, Nodes: 2, VCPUs: 3, MemoryMiB: 4, GPUs: map[string]int64{"A100-80GB": 5}, MIGSlices: map[string]int64{"1g.5gb": 6}}
	if got := amountsOf(usage).usage(); !reflect.DeepEqual(got, usage) {
		t.Errorf("got %+v, want %+v", got, usage)
	}
}
