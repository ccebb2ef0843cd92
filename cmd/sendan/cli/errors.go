package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// Exit codes. The commands named diff follow diff(1): 0 when there is no difference, 1 when there is, 2 for any error.
const (
	exitFailure   = 1
	exitUsage     = 2
	exitDifferent = 1
	exitTrouble   = 2
)

// usageError is about what was typed, and not about what came of it.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errDifferent is the answer of a comparison that was shown already.
var errDifferent = errors.New("there are differences")

// troubleError keeps a comparison that failed from looking like one that found a difference.
type troubleError struct{ error }

func (e troubleError) Unwrap() error { return e.error }

// Report tells people of an error, a line for each thing that is wrong, and returns the exit code of the program.
func Report(out io.Writer, err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errDifferent):
		return exitDifferent
	}
	code := exitFailure
	if usage, isUsage := errors.AsType[usageError](err); isUsage {
		code, err = exitUsage, usage.error
	} else if trouble, isTrouble := errors.AsType[troubleError](err); isTrouble {
		code, err = exitTrouble, trouble.error
	}
	for _, line := range lines(err) {
		_, _ = fmt.Fprintln(out, "sendan:", line)
	}
	return code
}

// lines has one for each field that the API server refuses, in its words.
func lines(err error) []string {
	if joined, isJoined := err.(interface{ Unwrap() []error }); isJoined {
		var all []string
		for _, each := range joined.Unwrap() {
			all = append(all, lines(each)...)
		}
		return all
	}
	var fields []string
	var status apierrors.APIStatus
	if errors.As(err, &status) && status.Status().Details != nil {
		for _, cause := range status.Status().Details.Causes {
			if cause.Field != "" {
				fields = append(fields, oneLine(cause.Field+": "+cause.Message))
			}
		}
	}
	if len(fields) > 0 {
		return fields
	}
	return []string{oneLine(err.Error())}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
