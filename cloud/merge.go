package cloud

import (
	"reflect"
	"time"
)

// Law: a suspicious absence is not a deletion. A listing that misses more than suspiciousLoss of our
// objects, and more than half of them, is more likely a wrong project, a policy or a broken cell.
const (
	suspiciousLoss = 10
	// suspicionInterval is how often such objects are looked for.
	suspicionInterval = time.Minute
)

// suspicion is a mass disappearance that nobody has confirmed.
type suspicion struct {
	missing int
	of      int
	// began and listed are when the first and the last listing that missed them began.
	began, listed time.Time
}

func (s *suspicion) err(kind Kind) error {
	return Errorf(Suspicious, "%d of %d %ss of ours are missing from the cloud's list at once; they are kept as if they were there until they are back, or until a person confirms that they are gone",
		s.missing, s.of, kind)
}

// ConfirmMissing is a person's word that what was missing at that time, so many objects at once that they were kept, is really gone.
func (i *Inventory) ConfirmMissing(at time.Time) {
	i.mu.Lock()
	i.confirmed = latest(i.confirmed, at)
	i.mu.Unlock()
}

// differences is what a listing says against what was known when it began.
type differences struct {
	changed []object
	gone    []string // the cloud says that they are deleted
	missing []object // the cloud says nothing about them
	newest  time.Time
}

// merge publishes what a listing found.
func (i *Inventory) merge(request listRequest, objects []object) {
	// Comparing everything takes long for 50,000 servers, so it happens before the lock is taken.
	// Only our own writes can come in between, and the journal tells which.
	found := compare(request, objects)
	i.update(func(e *edit) {
		state := i.kinds[request.kind]
		newer := func(id string) bool { return state.journal[id] > request.writes }
		for _, o := range found.changed {
			if !newer(o.id()) {
				e.put(o)
			}
		}
		for _, id := range found.gone {
			if !newer(id) {
				e.remove(request.kind, id)
			}
		}
		var missing []object
		for _, o := range found.missing {
			if !newer(o.id()) {
				missing = append(missing, o)
			}
		}
		trusted := state.judge(request, missing, e.next, i.confirmed)
		if trusted {
			for _, o := range missing {
				e.remove(request.kind, o.id())
			}
		}
		state.newest = latest(state.newest, found.newest)
		state.settle(request, i.options)
		i.note(e, state, request)
	})
	if err := i.Snapshot().Suspicious(request.kind); err != nil {
		i.logger.Warn("suspicious listing", "kind", request.kind, "error", err)
	}
}

// note records the listing in the snapshot. One that is suspicious proves nothing about what it
// lacks, so it does not count as complete.
func (i *Inventory) note(e *edit, state *kindState, request listRequest) {
	listing := Listing{Kind: request.kind, Began: e.next.listings[request.kind].Began}
	missing := 0
	if state.suspicion != nil {
		listing.Suspicious, missing = state.suspicion.err(request.kind), state.suspicion.missing
	} else if request.complete {
		listing.Began = request.began
		state.completed = request.began
	}
	e.next.listings[request.kind] = listing
	i.metrics.suspect(request.kind, missing)
}

// compare finds what differs from the snapshot the listing began with.
func compare(request listRequest, objects []object) differences {
	known := request.known.tables[request.kind]
	var found differences
	listed := make(map[string]bool, len(objects))
	for _, o := range objects {
		if server, isServer := o.(Server); isServer {
			found.newest = latest(found.newest, server.Updated)
			if server.isGone() {
				found.gone = append(found.gone, server.ID)
				continue
			}
		}
		listed[o.id()] = true
		old, isKnown := known.byID.get(o.id())
		if isKnown {
			o = carryOver(old, o, request.began)
		}
		if !isKnown || !reflect.DeepEqual(old, o) {
			found.changed = append(found.changed, o)
		}
	}
	if request.complete {
		known.byID.walk("", func(id string, o object) bool {
			if !listed[id] {
				found.missing = append(found.missing, o)
			}
			return true
		})
	}
	return found
}

// deleteTrust is how long our own delete call outweighs a listing that does not show the server
// going. After that the deletion has failed in the cloud and has to be asked for again.
const deleteTrust = 2 * time.Minute

// carryOver adds to what the cloud says now what it said or we knew before.
func carryOver(old, now object, at time.Time) object {
	server, isServer := now.(Server)
	if !isServer {
		return now
	}
	before := old.(Server)
	if server.isPartial() {
		return before
	}
	if server.FlavorID == "" && (before.Flavor == "" || before.Flavor == server.Flavor) {
		server.FlavorID = before.FlavorID
	}
	if !before.deleteSent.IsZero() && at.Before(before.deleteSent.Add(deleteTrust)) {
		server.Deleting = true
	}
	if server.Deleting {
		server.deleteSent = before.deleteSent
	}
	return server
}

// judge decides whether objects missing from a complete listing are gone. The caller holds the
// inventory's lock.
func (k *kindState) judge(request listRequest, missing []object, snapshot *Snapshot, confirmed time.Time) bool {
	if !request.complete {
		return true // and nothing can be missing
	}
	lost := 0
	for _, o := range missing {
		if !o.mark().IsZero() && !isGoing(o, snapshot) {
			lost++
		}
	}
	ours := snapshot.tables[k.kind].marked
	if lost <= max(suspiciousLoss, ours/2) {
		k.suspicion = nil
		return true
	}
	if k.suspicion == nil {
		k.suspicion = &suspicion{began: request.began}
	}
	k.suspicion.missing, k.suspicion.of, k.suspicion.listed = lost, ours, request.began
	if !confirmed.After(k.suspicion.began) {
		return false
	}
	k.suspicion = nil
	return true
}

// isGoing reports that an object was expected to disappear.
func isGoing(o object, snapshot *Snapshot) bool {
	switch o := o.(type) {
	case Server:
		return o.Deleting
	case LoadBalancer:
		return o.ProvisioningStatus == pendingDelete
	case Volume:
		return o.Status == "deleting" || goesWithServer(o, snapshot)
	}
	return false
}

// goesWithServer reports that the servers a volume was attached to are gone or going: Nova may have
// been told to delete the volume with them.
func goesWithServer(volume Volume, snapshot *Snapshot) bool {
	for _, id := range volume.AttachedTo {
		if server, there := snapshot.Server(id); there && !server.Deleting {
			return false
		}
	}
	return len(volume.AttachedTo) > 0
}
