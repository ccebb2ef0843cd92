package memory

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// consoleLimitBytes is how much of a console's output is kept.
const consoleLimitBytes = 64 << 10

// console is what a machine prints, with seconds since its start as the kernel does.
type console struct {
	mu    sync.Mutex
	start time.Time
	text  strings.Builder
}

func (c *console) printf(now time.Time, format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text.Len() > consoleLimitBytes {
		kept := c.text.String()[c.text.Len()/2:]
		c.text.Reset()
		c.text.WriteString(kept)
	}
	fmt.Fprintf(&c.text, "[%12.6f] %s\n", now.Sub(c.start).Seconds(), fmt.Sprintf(format, args...))
}

func (c *console) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}
