package plane

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tailBytes is more than any sensible number of lines needs; logs themselves may be huge.
const tailBytes = 64 << 10

// Tail is the last lines of a file; what went wrong when it cannot be read.
func Tail(file string, lines int) string {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	defer func() { _ = f.Close() }()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-tailBytes), io.SeekStart)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		return fmt.Sprintf("(%v)", err)
	}
	data = bytes.TrimRight(data, "\n")
	if len(data) == 0 {
		return "(empty)"
	}
	all := strings.Split(string(data), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// rotateLogs keeps the logs of the run before, and of no earlier one.
func rotateLogs(dir string) error {
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil {
		return fmt.Errorf("list logs: %w", err)
	}
	for _, log := range logs {
		err := os.Rename(log, strings.TrimSuffix(log, ".log")+".previous")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("keep previous log: %w", err)
		}
	}
	return nil
}
