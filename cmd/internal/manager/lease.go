package manager

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
)

// lease knows when the manager renewed its lease. The elector learns that it has lost it only when it gives up: a manager that was
// suspended, with its host for example, would go on for seconds beside the one that has taken over.
type lease struct {
	clock clockwork.Clock
	// deadline is for how long a lease certainly lasts: others wait longer than that.
	deadline time.Duration

	mu      sync.Mutex
	renewed time.Time
}

// held tells why the manager may not be the leader.
func (l *lease) held() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.renewed.IsZero() {
		return errors.New("this manager has no lease")
	}
	if age := wallTime(l.clock).Sub(l.renewed); age < 0 || age > l.deadline {
		return fmt.Errorf("the lease was renewed %s ago, so that another manager may lead by now", age.Round(time.Second))
	}
	return nil
}

// wallTime goes on while the host is suspended, unlike the monotonic clock.
func wallTime(clock clockwork.Clock) time.Time { return clock.Now().Round(0) }

// watch looks at the requests of the elector.
func (l *lease) watch(next http.RoundTripper) http.RoundTripper {
	return &leaseWatcher{lease: l, next: next}
}

type leaseWatcher struct {
	lease *lease
	next  http.RoundTripper
}

// RoundTrip notes when a request was sent that took or renewed the lease: the API server knows it since then at the earliest.
func (w *leaseWatcher) RoundTrip(request *http.Request) (*http.Response, error) {
	sent := wallTime(w.lease.clock)
	response, err := w.next.RoundTrip(request)
	isWrite := request.Method == http.MethodPost || request.Method == http.MethodPut
	if err == nil && isWrite && response.StatusCode < http.StatusMultipleChoices && strings.Contains(request.URL.Path, "/leases") {
		w.lease.mu.Lock()
		w.lease.renewed = sent
		w.lease.mu.Unlock()
	}
	return response, err
}
