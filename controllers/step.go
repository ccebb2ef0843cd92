package controllers

import (
	"context"
	"fmt"
	"time"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

const (
	// firstListing is how soon to look again while a project is listed for the first time.
	firstListing = time.Second
	// runningRecheck is how often a running machine looks whether the cloud can be relied on again. It
	// gets an event when its server is listed; tens of thousands must not ask every second until then.
	runningRecheck = time.Minute
	// strangerRecheck is how often to look whether somebody else's object is out of the way.
	strangerRecheck = time.Minute
	// leftoverRecheck is how often a cluster looks whether servers without a machine are gone, of which
	// it gets no event.
	leftoverRecheck = 10 * time.Second
	// volumeRecheck is how often to look whether Nova has removed the volumes of a deleted server.
	volumeRecheck = 5 * time.Second
	// faultPatience is how long to wait for the fault of a server in ERROR, which Nova writes after
	// the state.
	faultPatience = 30 * time.Second
	// otherSessionRecheck is how often to look for what another session is about to make.
	otherSessionRecheck = 10 * time.Second
	// memberPatience is how long the deletion of a control-plane machine waits for the load balancer
	// to let go of it.
	memberPatience = time.Minute
)

// step is what one part of a plan concludes. A step without a reason is done.
type step struct {
	// condition the step answers for.
	condition string
	// reason and message say what is missing, in the words the user will read.
	reason, message string
	// retryAt is when to look again if no event comes first; zero leaves it to events.
	retryAt time.Time
	// listings that have to be newer before the step can go on.
	listings []listing
	// actions to carry out now, in order.
	actions []action
	// failed says that a person or a remediation has to act, now or if it lasts.
	failed bool
	// lookUp says that an error in the way came from reading, of which no note counts the failures.
	lookUp bool
}

// listing asks for an inventory of a kind that began after a time.
type listing struct {
	kind  cloud.Kind
	after time.Time
}

// action is one call that changes the cloud.
type action struct {
	// key names the action within its owner, such as "create server". It is the key of its note.
	key string
	// creates is the kind of object the call makes; empty when it makes none. Only such a call needs
	// a note written ahead.
	creates cloud.Kind
	// event is recorded when the call succeeded.
	event string
	run   func(ctx context.Context, s *cloud.Session) error
	// lasting keeps the count of failures when the call succeeds, because its success shows later.
	lasting bool
	// after adds to the notes once the call has succeeded; nil adds nothing.
	after func(notes []infrav1.Attempt, now time.Time) []infrav1.Attempt
}

func (s step) done() bool { return s.reason == "" }

// done concludes that nothing is missing.
func done(condition string) step { return step{condition: condition} }

// waiting concludes that something else has to happen first.
func waiting(condition, reason, format string, args ...any) step {
	return step{condition: condition, reason: reason, message: fmt.Sprintf(format, args...)}
}

// failing concludes that an error stands in the way; its class decides when to look again.
func failing(condition string, err error, now time.Time) step {
	class := cloud.ClassOf(err)
	return step{
		condition: condition, reason: string(class), message: err.Error(),
		retryAt: now.Add(backoff(class, 1)), failed: !passesByItself(class), lookUp: true,
	}
}

// acting concludes that calls are to be made. Those that notes about earlier tries forbid for now are
// left out, and the first of them is what the step tells.
func acting(in attempts, condition, message string, actions ...action) step {
	out := step{condition: condition, reason: infrav1.CreatingReason, message: message}
	held := false
	var allowed []action
	for _, a := range actions {
		blocked, isBlocked := in.gate(condition, a)
		switch {
		case !isBlocked:
			allowed = append(allowed, a)
		case !held:
			held, out = true, blocked
		}
	}
	out.actions = allowed
	return out
}

// until makes a step look again at a certain time at the latest.
func (s step) until(at time.Time) step {
	s.retryAt = at
	return s
}

// requiring asks for a listing of a kind that begins after a time.
func (s step) requiring(kind cloud.Kind, after time.Time) step {
	s.listings = append(s.listings, listing{kind: kind, after: after})
	return s
}

// as replaces the reason, for steps whose actions do not create.
func (s step) as(reason string) step {
	if s.reason == infrav1.CreatingReason {
		s.reason = reason
	}
	return s
}

// firstOpen is the first step that is not done.
func firstOpen(steps []step) (step, bool) {
	for _, s := range steps {
		if !s.done() {
			return s, true
		}
	}
	return step{}, false
}
