package simulator

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/jonboulle/clockwork"
)

// Fault is one thing that goes wrong with requests, as posted to /_simulator/faults or written in a
// scenario. Empty match fields match everything.
type Fault struct {
	// Name is for people and for removing the fault again.
	Name string `json:"name,omitempty"`
	// Service is identity, compute, network, load-balancer, image, volume or placement.
	Service string `json:"service,omitempty"`
	// Method is GET, POST, PUT, PATCH or DELETE.
	Method string `json:"method,omitempty"`
	// Path is the route's template ("/v2.1/servers/{id}") or a glob of it ("/v2.1/servers*").
	Path string `json:"path,omitempty"`
	// Project limits the fault to one project id.
	Project string `json:"project,omitempty"`
	// Skip lets that many matching requests pass first: 2 means the third one fails.
	Skip int `json:"skip,omitempty"`
	// Times is how many requests fail; 0 means one, -1 every one.
	Times int `json:"times,omitempty"`
	// AfterEffect lets the request take effect before the answer is spoilt.
	AfterEffect bool `json:"afterEffect,omitempty"`
	// Status is the status the client sees instead: 409, 429, 500, 502, 503, …
	Status int `json:"status,omitempty"`
	// Message is the error's text; a fitting one when empty.
	Message string `json:"message,omitempty"`
	// RetryAfterSeconds is sent as Retry-After.
	RetryAfterSeconds int `json:"retryAfterSeconds,omitempty"`
	// DelaySeconds holds the answer back.
	DelaySeconds float64 `json:"delaySeconds,omitempty"`
	// Hang never answers: the client has to give up.
	Hang bool `json:"hang,omitempty"`
	// Reset drops the connection without an answer.
	Reset bool `json:"reset,omitempty"`
}

func (f Fault) validate() error {
	if f.Status == 0 && !f.Hang && !f.Reset && f.DelaySeconds == 0 {
		return fmt.Errorf("fault %q does nothing: set status, hang, reset or delaySeconds", f.Name)
	}
	if f.Status != 0 && (f.Status < 400 || f.Status > 599) {
		return fmt.Errorf("fault %q: status %d is no error: use 400 to 599", f.Name, f.Status)
	}
	if _, err := path.Match(f.Path, ""); err != nil {
		return fmt.Errorf("fault %q: path %q: %w", f.Name, f.Path, err)
	}
	return nil
}

// prevents reports that a request struck by the fault takes no effect. A mere delay prevents nothing.
func (f Fault) prevents() bool {
	return !f.AfterEffect && (f.Status != 0 || f.Hang || f.Reset)
}

// faultBook holds the faults that are waiting for their request.
type faultBook struct{ active []*activeFault }

type activeFault struct {
	Fault
	Seen int `json:"seen"`
	Hit  int `json:"hit"`
}

func (b *faultBook) add(f Fault) { b.active = append(b.active, &activeFault{Fault: f}) }

// remove ends the faults of a name, all of them for "".
func (b *faultBook) remove(name string) {
	b.active = keep(b.active, func(f *activeFault) bool { return name != "" && f.Name != name })
}

// match counts a request against every fault that fits and returns the first that strikes.
func (b *faultBook) match(key callKey, c *call) *Fault {
	var struck *Fault
	for _, f := range b.active {
		if !f.fits(key, c) {
			continue
		}
		f.Seen++
		if struck == nil && f.Seen > f.Skip && (f.Times < 0 || f.Hit < max(f.Times, 1)) {
			f.Hit++
			struck = &f.Fault
		}
	}
	return struck
}

func (f *activeFault) fits(key callKey, c *call) bool {
	if f.Project != "" && (c.token == nil || c.token.project != f.Project) {
		return false
	}
	return matches(f.Service, f.Method, f.Path, key)
}

// noAnswer is the status under which calls without an answer are counted.
const noAnswer = 0

// answer is what goes over the wire.
type answer struct {
	status      int
	contentType string
	body        []byte
	header      map[string]string
	delay       time.Duration
	clock       clockwork.Clock
	closing     <-chan struct{} // the simulator ends
	hang, reset bool
	// produce makes the body after the lock was given back.
	produce func() any
}

// faulty turns what would have been answered (nil when the request must not take effect) into what
// the fault makes of it.
func (rt *router) faulty(f *Fault, actual *answer, requestID string) answer {
	var a answer
	switch {
	case f.Status != 0:
		message := f.Message
		if message == "" {
			message = http.StatusText(f.Status)
		}
		a = rt.failed(problemf(f.Status, "%s", message), requestID)
		if f.RetryAfterSeconds > 0 {
			a.header = map[string]string{"Retry-After": strconv.Itoa(f.RetryAfterSeconds)}
		}
	case actual != nil:
		a = *actual
	}
	a.hang, a.reset = f.Hang, f.Reset
	if a.hang || a.reset {
		a.status = noAnswer
	}
	a.delay += time.Duration(f.DelaySeconds * float64(time.Second))
	return a
}

func (a answer) write(ctx context.Context, w http.ResponseWriter) {
	if a.delay > 0 {
		select {
		case <-a.clock.After(a.delay):
		case <-a.closing:
		case <-ctx.Done():
			return
		}
	}
	if a.hang {
		select {
		case <-a.closing:
		case <-ctx.Done():
		}
	}
	if a.hang || a.reset {
		panic(http.ErrAbortHandler) // net/http drops the connection without an answer
	}
	for key, value := range a.header {
		w.Header().Set(key, value)
	}
	if a.produce != nil {
		a.body, _ = encodeJSON(a.produce()) // what handlers produce consists of plain values
	}
	if len(a.body) > 0 && w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", a.contentType)
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(a.body) // the client may be gone, which is its own affair
}
