package controllers

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"sigs.k8s.io/cluster-api/util/conditions"
)

// maxRounds bounds how often one reconcile plans again after it has acted. The longest chain of a
// plan (network, subnet, interface, load balancer, floating IP) has five links.
const maxRounds = 12

// owner is an API object that owns cloud objects.
type owner interface {
	client.Object
	conditions.Setter
	GetAttempts() []infrav1.Attempt
	SetAttempts(attempts []infrav1.Attempt)
}

// writer carries out plans. It is all there is of writing to the cloud.
type writer struct {
	client   client.Client
	recorder events.EventRecorder
	clock    clockwork.Clock
}

// carryOut plans and acts until nothing is left to do now. It returns the last plan and the notes to
// store with it. Each round sees what the one before made, since the session's operations put it
// into the inventory.
func (w *writer) carryOut(ctx context.Context, session *cloud.Session, obj owner, plan func(attempts) []step) ([]step, []infrav1.Attempt, error) {
	notes := currentNotes(obj)
	carriedOut := map[string]bool{}
	var steps []step
	for range maxRounds {
		now := w.clock.Now()
		steps = plan(attempts{notes: notes, snapshot: session.Inventory().Snapshot(), now: now})
		actions, ineffective := dueActions(steps, carriedOut)
		if len(ineffective) > 0 {
			for _, a := range ineffective {
				notes = noteFailure(notes, a, errIneffective(), now)
			}
			continue
		}
		if len(actions) == 0 {
			break
		}
		notes = noteAhead(notes, actions, now)
		if err := w.storeNotes(ctx, obj, notes, actions); err != nil {
			return nil, nil, err
		}
		for _, a := range actions {
			notes = w.run(ctx, session, obj, notes, a)
			carriedOut[a.key] = true
		}
	}
	for _, s := range steps {
		for _, l := range s.listings {
			session.Inventory().Require(l.kind, l.after)
		}
	}
	return steps, prune(notes, steps), nil
}

// currentNotes are the object's notes. What the cloud refused under an older spec says nothing about
// the present one, so it does not hold the next try back.
func currentNotes(obj owner) []infrav1.Attempt {
	notes := slices.Clone(obj.GetAttempts())
	if ready := conditions.Get(obj, infrav1.ReadyCondition); ready == nil || ready.ObservedGeneration >= obj.GetGeneration() {
		return notes
	}
	return slices.DeleteFunc(notes, func(n infrav1.Attempt) bool { return n.Outcome == infrav1.AttemptRefused })
}

// dueActions are the plan's actions, and those that were carried out a moment ago and are wanted again: they had no effect that the
// inventory shows. They are noted as failures, in the status since this process may end, or they would be made again and again.
func dueActions(steps []step, carriedOut map[string]bool) (due, ineffective []action) {
	for _, s := range steps {
		for _, a := range s.actions {
			if carriedOut[a.key] {
				ineffective = append(ineffective, a)
			} else {
				due = append(due, a)
			}
		}
	}
	return due, ineffective
}

func errIneffective() error {
	return cloud.Errorf(cloud.Conflict, "the cloud took the call, and its lists do not show what it did")
}

// storeNotes writes ahead which objects are about to be made. The write fails on a stale object,
// which then may lack notes of earlier tries: nothing is made on the strength of a stale read.
func (w *writer) storeNotes(ctx context.Context, obj owner, notes []infrav1.Attempt, actions []action) error {
	if !slices.ContainsFunc(actions, func(a action) bool { return a.creates != "" }) {
		return nil
	}
	before := obj.DeepCopyObject().(client.Object)
	obj.SetAttempts(slices.Clone(notes))
	if err := w.client.Status().Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("store what is about to be made: %w", err)
	}
	return nil
}

// run makes one call, tells of it, and returns the notes as they are then.
func (w *writer) run(ctx context.Context, session *cloud.Session, obj owner, notes []infrav1.Attempt, a action) []infrav1.Attempt {
	if err := a.run(ctx, session); err != nil {
		w.event(obj, corev1.EventTypeWarning, string(cloud.ClassOf(err)), "%s: %v", a.key, err)
		return noteFailure(notes, a, err, w.clock.Now())
	}
	if i := indexOfNote(notes, a.key); !a.lasting || i >= 0 && notes[i].Failures == 0 {
		notes = forget(notes, a.key)
	}
	if a.after != nil {
		notes = a.after(notes, w.clock.Now())
	}
	if a.event != "" {
		w.event(obj, corev1.EventTypeNormal, eventReason(a.key), "%s", a.event)
	}
	return notes
}

// eventReason makes "SuccessfulCreate" and the like from an action's verb.
func eventReason(key string) string {
	verb, _, _ := strings.Cut(key, " ")
	return "Successful" + strings.ToUpper(verb[:1]) + verb[1:]
}

func (w *writer) event(obj runtime.Object, kind, reason, format string, args ...any) {
	w.recorder.Eventf(obj, nil, kind, reason, reason, "%s", truncate(fmt.Sprintf(format, args...), 1024))
}

// isUntrusted reports that a plan concluded nothing but that the cloud, or what was seen of it, cannot
// be relied on now.
func isUntrusted(steps []step) (step, bool) {
	if len(steps) == 1 && steps[0].condition == infrav1.IdentityReadyCondition {
		return steps[0], true
	}
	return step{}, false
}

// setUntrusted tells that the cloud cannot be relied on now. What is known of an object that works
// stays as it is: that Sendan cannot see a cluster does not make it unusable, and every condition that
// turned with each restart of the manager would shake rollouts and remediation.
func setUntrusted(obj owner, s step, ready []string, works bool, now time.Time) {
	switch {
	case !works:
		setConditions(obj, []step{s}, ready, now)
	case s.reason != infrav1.WaitingForInventoryReason:
		setCondition(obj, s, now)
	}
}

// setConditions writes the conclusions of a plan as conditions, and Ready as their sum.
func setConditions(obj owner, steps []step, ready []string, now time.Time) {
	for _, s := range steps {
		setCondition(obj, s, now)
	}
	sum := done(infrav1.ReadyCondition)
	for _, s := range steps {
		if !s.done() && slices.Contains(ready, s.condition) {
			sum.reason, sum.message = s.reason, s.message
			break
		}
	}
	setCondition(obj, sum, now)
}

// requestIDs differ with each try of the same thing. A condition that changed with them would wake its
// own object again and again.
var requestIDs = regexp.MustCompile(`req-[0-9a-f-]{36}`)

func setCondition(obj owner, s step, now time.Time) {
	if old := conditions.Get(obj, s.condition); old != nil && old.Reason == s.reason &&
		requestIDs.ReplaceAllString(old.Message, "") == requestIDs.ReplaceAllString(s.message, "") {
		s.message = old.Message
	}
	condition := metav1.Condition{Type: s.condition, Status: metav1.ConditionTrue, Reason: infrav1.AvailableReason, LastTransitionTime: metav1.NewTime(now)}
	if !s.done() {
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, s.reason, truncate(s.message, 8192)
	}
	conditions.Set(obj, condition)
}

// patient lets errors that came from reading be looked at again the later, the longer they last: after
// as long again as their condition has been false, within the bounds of their class.
func patient(obj owner, steps []step, now time.Time) []step {
	for i, s := range steps {
		c := conditions.Get(obj, s.condition)
		if !s.lookUp || c == nil || c.Status != metav1.ConditionFalse {
			continue
		}
		wait := max(now.Sub(c.LastTransitionTime.Time), backoff(cloud.Class(s.reason), 1))
		steps[i].retryAt = now.Add(min(wait, backoff(cloud.Class(s.reason), 1<<8)))
	}
	return steps
}

// requeue is when to look again if no event comes first.
func requeue(steps []step, now time.Time) ctrl.Result {
	var next time.Time
	for _, s := range steps {
		if !s.retryAt.IsZero() && (next.IsZero() || s.retryAt.Before(next)) {
			next = s.retryAt
		}
	}
	if next.IsZero() {
		return ctrl.Result{}
	}
	return ctrl.Result{RequeueAfter: max(next.Sub(now), time.Second)}
}

// identityStep is what an error on the way to a session means.
func identityStep(condition string, err error, now time.Time) step {
	s := failing(condition, err, now)
	if errors.Is(err, errNotAllowed) {
		s.reason = infrav1.IdentityNotAllowedReason
	}
	return s
}
