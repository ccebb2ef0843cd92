package plane

import "time"

// Pauses before a program that died is started again.
const (
	firstBackoff = time.Second
	maxBackoff   = 30 * time.Second
	// steadyAfter is how long a program has to live until its next death counts as a first one.
	steadyAfter = time.Minute
)

// backoff doubles from pause to pause. The zero value is ready to use.
type backoff struct{ last time.Duration }

// next is the pause after a life of the given length.
func (b *backoff) next(lifetime time.Duration) time.Duration {
	if b.last == 0 || lifetime >= steadyAfter {
		b.last = firstBackoff
	} else {
		b.last = min(2*b.last, maxBackoff)
	}
	return b.last
}
