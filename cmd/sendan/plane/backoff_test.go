package plane

import (
	"testing"
	"time"
)

func TestPauseDoublesUpToAMaximumAndStartsOverAfterASteadyLife(t *testing.T) {
	var b backoff
	for i, step := range []struct{ lifetime, want time.Duration }{
		{0, time.Second},
		{0, 2 * time.Second},
		{59 * time.Second, 4 * time.Second},
		{0, 8 * time.Second},
		{0, 16 * time.Second},
		{0, 30 * time.Second},
		{0, 30 * time.Second},
		{time.Minute, time.Second},
		{0, 2 * time.Second},
	} {
		if got := b.next(step.lifetime); got != step.want {
			t.Errorf("pause %d after a life of %s is %s, want %s", i, step.lifetime, got, step.want)
		}
	}
}
