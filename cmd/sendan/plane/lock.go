package plane

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// lockState makes sure that one process at a time uses a state directory. The kernel drops the lock
// when the process ends, however it ends.
func lockState(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		holder, _ := os.ReadFile(file)
		_ = f.Close()
		return nil, fmt.Errorf("state directory is in use by process %s (lock %s): stop it, or choose another --state-dir",
			strings.TrimSpace(string(holder)), file)
	}
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintln(f, os.Getpid())
	}
	return func() { _ = f.Close() }, nil
}
