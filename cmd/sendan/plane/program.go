package plane

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrNotRunning is returned where a program would have to run.
var ErrNotRunning = errors.New("it does not run")

// Program is one child process.
type Program struct {
	// Name is what it is called in logs and to the user.
	Name string
	// Path of the executable.
	Path string
	Args []string
	// Ready returns nil once the program does its work. It is asked over and over until then.
	Ready func(ctx context.Context) error
	// ReadyWithin is how long that may take.
	ReadyWithin time.Duration
	// StopWithin is how long it may take to end after SIGTERM before it is killed.
	StopWithin time.Duration
}

// EventKind is what happened to a program.
type EventKind string

// The kinds of events.
const (
	// Ready: it serves for the first time.
	Ready EventKind = "ready"
	// Died: it ended although nobody asked it to; it is started again after a while.
	Died EventKind = "died"
	// Restarted: it was started again and serves.
	Restarted EventKind = "restarted"
	// Killed: it did not end when asked to.
	Killed EventKind = "killed"
)

// Event is something a person who runs a plane wants to know.
type Event struct {
	Program string
	Kind    EventKind
	// Took is how long it took to become ready, or how long it had lived.
	Took time.Duration
	// Detail says more, such as how a program ended and when it is started again.
	Detail string
}

func (e Event) String() string {
	text := fmt.Sprintf("%s %s", e.Program, e.Kind)
	if e.Kind == Ready || e.Kind == Restarted {
		text += fmt.Sprintf(" after %.1fs", e.Took.Seconds())
	}
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	return text
}
