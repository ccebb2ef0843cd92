package controllers

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// uncertainty is how long after an attempt of unknown outcome the cloud may still be carrying it
// out. Only a listing that began later proves that it had no effect. Nova answers POST /servers
// within a second or two; a request that its API queued behind others can take several.
const uncertainty = 15 * time.Second

// attempts are the notes of one object, as a planner sees them.
type attempts struct {
	notes    []infrav1.Attempt
	snapshot *cloud.Snapshot
	now      time.Time
}

// gate says whether an action may be tried now. If not, the step tells why and until when.
func (in attempts) gate(condition string, a action) (step, bool) {
	i := slices.IndexFunc(in.notes, func(n infrav1.Attempt) bool { return n.Action == a.key })
	if i < 0 {
		return step{}, false
	}
	note := in.notes[i]
	if note.Failures > 0 {
		class := cloud.Class(note.Reason)
		if at := note.Time.Add(backoff(class, note.Failures)); in.now.Before(at) {
			return step{
				condition: condition, reason: note.Reason, retryAt: at, failed: !passesByItself(class),
				message: fmt.Sprintf("%s: %s. Trying again at %s (attempt %d).", a.key, strings.TrimSuffix(note.Message, "."), at.UTC().Format(time.TimeOnly), note.Failures+1),
			}, true
		}
	}
	return in.prove(condition, note)
}

// prove waits for a listing that shows what came of a creating call of unknown outcome.
func (in attempts) prove(condition string, note infrav1.Attempt) (step, bool) {
	if note.Creates == "" || note.Outcome == infrav1.AttemptRefused {
		return step{}, false
	}
	proof := note.Time.Add(uncertainty)
	if in.snapshot.ListedAfter(cloud.Kind(note.Creates), proof) {
		return step{}, false
	}
	return waiting(condition, infrav1.WaitingForInventoryReason,
		"%s: the outcome of the try at %s is unknown. Looking for it in the cloud before going on.", note.Action, note.Time.UTC().Format(time.TimeOnly)).
		requiring(cloud.Kind(note.Creates), proof).until(later(proof, in.now).Add(time.Second)), true
}

// provenGone waits until every creating call of unknown outcome is known to have left nothing.
func provenGone(in attempts, condition string) step {
	for _, note := range in.notes {
		if s, unproven := in.prove(condition, note); unproven {
			return s
		}
	}
	return done(condition)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// noteAhead writes the notes for calls that are about to be made.
func noteAhead(notes []infrav1.Attempt, actions []action, now time.Time) []infrav1.Attempt {
	for _, a := range actions {
		if a.creates == "" {
			continue
		}
		note := infrav1.Attempt{Action: a.key, Creates: string(a.creates), Outcome: infrav1.AttemptUnknown, Time: metav1.NewMicroTime(now)}
		if i := indexOfNote(notes, a.key); i >= 0 {
			note.Failures, note.Reason, note.Message = notes[i].Failures, notes[i].Reason, notes[i].Message
		}
		notes = putNote(notes, note)
	}
	return notes
}

// noteFailure remembers a failed call.
func noteFailure(notes []infrav1.Attempt, a action, err error, now time.Time) []infrav1.Attempt {
	note := infrav1.Attempt{
		Action: a.key, Creates: string(a.creates), Time: metav1.NewMicroTime(now), Outcome: infrav1.AttemptRefused,
		Reason: string(cloud.ClassOf(err)), Message: truncate(err.Error(), 2048), Failures: 1,
	}
	if cloud.IsUncertain(err) {
		note.Outcome = infrav1.AttemptUnknown
	}
	if i := indexOfNote(notes, a.key); i >= 0 {
		note.Failures = notes[i].Failures + 1
	}
	return putNote(notes, note)
}

// forget drops the note of a call that succeeded, or whose object turned out to be there.
func forget(notes []infrav1.Attempt, keys ...string) []infrav1.Attempt {
	return slices.DeleteFunc(notes, func(n infrav1.Attempt) bool { return slices.Contains(keys, n.Action) })
}

// maxNotes is what the API takes.
const maxNotes = 64

// prune drops what nobody will read again: all notes once nothing is open, and the oldest when there
// are too many, those of unknown outcome last.
func prune(notes []infrav1.Attempt, steps []step) []infrav1.Attempt {
	if _, open := firstOpen(steps); !open {
		return nil
	}
	if len(notes) <= maxNotes {
		return notes
	}
	slices.SortStableFunc(notes, func(a, b infrav1.Attempt) int {
		return cmp.Or(cmp.Compare(b2i(b.Outcome == infrav1.AttemptUnknown), b2i(a.Outcome == infrav1.AttemptUnknown)), b.Time.Compare(a.Time.Time))
	})
	return notes[:maxNotes]
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func indexOfNote(notes []infrav1.Attempt, key string) int {
	return slices.IndexFunc(notes, func(n infrav1.Attempt) bool { return n.Action == key })
}

func putNote(notes []infrav1.Attempt, note infrav1.Attempt) []infrav1.Attempt {
	if i := indexOfNote(notes, note.Action); i >= 0 {
		notes[i] = note
		return notes
	}
	return append(notes, note)
}

// truncate cuts a text to a number of bytes, between characters: the API server would replace half
// ones.
func truncate(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len("…")], "") + "…"
}
