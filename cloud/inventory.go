package cloud

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jonboulle/clockwork"
)

// Change tells that an object appeared, changed in a way somebody may care about, or went away.
type Change struct {
	Kind Kind
	ID   string
	Mark Mark
	Gone bool
}

// Inventory keeps a [Snapshot] of everything a project holds: it polls the cloud and adds what the
// operations of the project's sessions made or deleted. Its methods are safe for concurrent use.
type Inventory struct {
	source  source
	options PollingOptions
	clock   clockwork.Clock
	logger  *slog.Logger
	metrics *inventoryGauges

	current atomic.Pointer[Snapshot]
	// wake tells Run that something may have become due earlier than it thinks.
	wake chan struct{}

	mu sync.Mutex
	// writes counts our own writes, to tell which of them a listing cannot know of.
	writes uint64
	kinds  map[Kind]*kindState
	// confirmed is until when a person has confirmed that what is missing is gone.
	confirmed      time.Time
	subscribers    map[int]func([]Change)
	lastSubscriber int
	// news are changes not yet delivered; one goroutine at a time delivers them.
	news       [][]Change
	delivering bool
}

// source is where the inventory lists from.
type source interface {
	// list returns all objects of a kind or, for servers and a time other than zero, those that
	// changed or went away since.
	list(ctx context.Context, kind Kind, since time.Time, known *Snapshot) ([]object, error)
}

func newInventory(from source, options Options, logger *slog.Logger, metrics *inventoryGauges) *Inventory {
	i := &Inventory{
		source:      from,
		options:     options.Polling.withDefaults(),
		clock:       options.Clock,
		logger:      logger,
		metrics:     metrics,
		wake:        make(chan struct{}, 1),
		kinds:       map[Kind]*kindState{},
		subscribers: map[int]func([]Change){},
	}
	for _, kind := range allKinds() {
		i.kinds[kind] = newKindState(kind)
	}
	i.current.Store(emptySnapshot())
	return i
}

// Snapshot is the newest state; never nil.
func (i *Inventory) Snapshot() *Snapshot { return i.current.Load() }

// Subscribe calls changed with what differs between each snapshot and the one before, in order and
// outside of locks. It should return soon. After cancel, calls end; one may still be under way.
func (i *Inventory) Subscribe(changed func([]Change)) (cancel func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.lastSubscriber++
	id := i.lastSubscriber
	i.subscribers[id] = changed
	return func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		delete(i.subscribers, id)
	}
}

// Require asks for a complete listing of a kind that begins after notBefore, for whoever must know
// that something does not exist: see [Snapshot.ListedAfter]. Many who ask at once share a listing.
// Nobody needs it to follow an object that is building or going away, since those are polled fast
// in any case.
func (i *Inventory) Require(kind Kind, notBefore time.Time) {
	i.mu.Lock()
	state := i.kinds[kind]
	if notBefore.After(state.required) {
		state.required = notBefore
	}
	i.mu.Unlock()
	i.wakeUp()
}

func (i *Inventory) wakeUp() {
	select {
	case i.wake <- struct{}{}:
	default: // it is to wake up already
	}
}

// created adds what one of our own calls made. A listing may have found it before the call
// returned, and then knows it better.
func (i *Inventory) created(made object) {
	i.write(made.kind(), made.id(), func(e *edit) {
		if _, known := e.get(made.kind(), made.id()); !known {
			e.put(made)
		}
	})
}

// observed replaces an object by what a call about it alone returned.
func (i *Inventory) observed(seen object) {
	i.write(seen.kind(), seen.id(), func(e *edit) {
		if old, known := e.get(seen.kind(), seen.id()); known {
			seen = carryOver(old, seen, e.now)
		}
		e.put(seen)
	})
}

// deleted removes an object that one of our own calls deleted.
func (i *Inventory) deleted(kind Kind, id string) {
	i.write(kind, id, func(e *edit) { e.remove(kind, id) })
}

// amend changes one object, if it is known, after a call of ours that does not return it whole.
func amend[T object](i *Inventory, id string, change func(*T)) {
	var none T
	i.write(none.kind(), id, func(e *edit) {
		if old, known := e.get(none.kind(), id); known {
			changed := old.(T)
			change(&changed)
			e.put(changed)
		}
	})
}

// write publishes one of our own writes and notes it, so that a listing which began before it does
// not undo it.
func (i *Inventory) write(kind Kind, id string, change func(*edit)) {
	i.update(func(e *edit) {
		i.writes++
		i.kinds[kind].journal[id] = i.writes
		change(e)
	})
	i.wakeUp()
}

// update publishes a new snapshot.
func (i *Inventory) update(change func(*edit)) {
	i.mu.Lock()
	e := &edit{inventory: i, now: i.clock.Now(), next: i.current.Load().next()}
	change(e)
	i.current.Store(e.next)
	i.metrics.count(e.next)
	if len(e.changes) > 0 {
		i.news = append(i.news, e.changes)
	}
	i.mu.Unlock()
	i.deliver()
}

// deliver hands the news to the subscribers. While one goroutine does that, others leave theirs to
// it: that keeps the order, and lets a subscriber call operations.
func (i *Inventory) deliver() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.delivering {
		return
	}
	i.delivering = true
	defer func() { i.delivering = false }()
	for len(i.news) > 0 {
		changes := i.news[0]
		i.news = i.news[1:]
		order := slices.Sorted(maps.Keys(i.subscribers))
		for _, id := range order {
			if subscriber, subscribed := i.subscribers[id]; subscribed {
				i.mu.Unlock()
				subscriber(changes)
				i.mu.Lock()
			}
		}
	}
}

// edit is a snapshot in the making. The inventory is locked meanwhile.
type edit struct {
	inventory *Inventory
	now       time.Time
	next      *Snapshot
	changes   []Change
}

func (e *edit) get(kind Kind, id string) (object, bool) { return e.next.tables[kind].byID.get(id) }

func (e *edit) put(o object) {
	o = e.inventory.kinds[o.kind()].withAssumedTags(o, e.now)
	old, known := e.get(o.kind(), o.id())
	e.next.tables[o.kind()] = e.next.tables[o.kind()].with(o)
	e.inventory.kinds[o.kind()].track(o, e.now)
	if !known || !sameMeaning(old, o) {
		e.changes = append(e.changes, Change{Kind: o.kind(), ID: o.id(), Mark: o.mark()})
	}
}

func (e *edit) remove(kind Kind, id string) {
	old, known := e.get(kind, id)
	if !known {
		return
	}
	e.next.tables[kind] = e.next.tables[kind].without(id)
	delete(e.inventory.kinds[kind].unsettled, id)
	delete(e.inventory.kinds[kind].assumed, id)
	e.changes = append(e.changes, Change{Kind: kind, ID: id, Mark: old.mark(), Gone: true})
}
