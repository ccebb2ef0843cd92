package plane

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Discard removes what an earlier run left in a state directory. A directory that is in use, or that
// is none of a plane's, is left alone.
func Discard(stateDir string) error {
	layout := Layout{Dir: stateDir}
	entries, err := os.ReadDir(stateDir)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(entries) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look into state directory: %w", err)
	}
	if _, err := os.Stat(layout.lock()); err != nil {
		return fmt.Errorf("%s holds files but is no state directory of sendan: choose another --state-dir", stateDir)
	}
	unlock, err := lockState(layout.lock())
	if err != nil {
		return err
	}
	defer unlock()
	if err := os.RemoveAll(stateDir); err != nil {
		return fmt.Errorf("remove earlier state: %w", err)
	}
	return nil
}
