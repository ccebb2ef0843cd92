package cloud

import (
	"errors"
	"fmt"
	"time"
)

// Class says what kind of trouble an error is, and so who can end it and how soon to try again.
type Class string

// The classes. Every error that leaves this package has exactly one.
const (
	// Auth: the credentials are wrong, expired, revoked or lack a right. A person has to act.
	Auth Class = "Auth"
	// Quota: the project's limit is reached.
	Quota Class = "Quota"
	// Capacity: no host can take the server now, or a network has no address left.
	Capacity Class = "Capacity"
	// Config: the request itself is wrong; sending it again cannot help.
	Config Class = "Config"
	// Conflict: the object's state forbids the change now (409).
	Conflict Class = "Conflict"
	// Transient: the cloud failed; the same request may work later.
	Transient Class = "Transient"
	// Throttled: the cloud, or our own limiter or breaker, asks to slow down.
	Throttled Class = "Throttled"
	// Suspicious: an answer that could be a lie, such as many objects gone at once.
	Suspicious Class = "Suspicious"
)

// Error is a classified error of the cloud.
type Error struct {
	Class Class
	// Operation is what was being done: "POST /servers".
	Operation string
	// Message is the cloud's own text, fit to show to a user.
	Message string
	// StatusCode is the HTTP status; 0 when no answer came.
	StatusCode int
	// RequestID is the cloud's id of the request (X-Openstack-Request-Id).
	RequestID string
	// RetryAfter is how long the cloud asked to wait; 0 when it did not say.
	RetryAfter time.Duration
	// Uncertain is set when the request may have taken effect although it failed: no answer came,
	// or a gateway answered for the service. What it would have made must be looked for.
	Uncertain bool
	// Err is the cause.
	Err error
}

// Error shows the cloud's words first, because they end up in a condition.
func (e *Error) Error() string {
	text := e.Message
	if text == "" && e.Err != nil {
		text = e.Err.Error()
	}
	switch {
	case e.StatusCode != 0 && e.RequestID != "":
		return fmt.Sprintf("%s (%s: HTTP %d, %s)", text, e.Operation, e.StatusCode, e.RequestID)
	case e.StatusCode != 0:
		return fmt.Sprintf("%s (%s: HTTP %d)", text, e.Operation, e.StatusCode)
	case e.Operation != "" && e.RequestID != "":
		return fmt.Sprintf("%s (%s: %s)", text, e.Operation, e.RequestID)
	case e.Operation != "":
		return fmt.Sprintf("%s (%s)", text, e.Operation)
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// ClassOf is the class of an error; an error nobody classified is Transient. A nil error has none.
func ClassOf(err error) Class {
	if err == nil {
		return ""
	}
	var classified *Error
	if errors.As(err, &classified) {
		return classified.Class
	}
	return Transient
}

// IsNotFound reports that the cloud said the object does not exist. It is not proof of deletion:
// a wrong project answers the same.
func IsNotFound(err error) bool {
	var classified *Error
	return errors.As(err, &classified) && classified.StatusCode == 404
}

// IsUncertain reports that a failed request may have taken effect.
func IsUncertain(err error) bool {
	var classified *Error
	return errors.As(err, &classified) && classified.Uncertain
}

// Errorf makes a classified error that did not come from a request.
func Errorf(class Class, format string, args ...any) *Error {
	return &Error{Class: class, Message: fmt.Sprintf(format, args...)}
}
