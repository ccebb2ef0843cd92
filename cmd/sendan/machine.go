package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
)

// describeMachine says what figures were measured on.
func describeMachine() string {
	text := fmt.Sprintf("%d cores", runtime.NumCPU())
	if kib, err := procField("/proc/meminfo", "MemTotal"); err == nil {
		text += fmt.Sprintf(", %d GiB of memory", (kib+1<<19)>>20)
	}
	// Figures of a machine that does other work as well are not worth much.
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		oneMinute, _, _ := strings.Cut(string(load), " ")
		text += ", load average " + oneMinute + " at the start"
	}
	return text
}

// peakMemoryMiB is the most memory a process had resident.
func peakMemoryMiB(pid int) (int, error) {
	kib, err := procField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM")
	if err != nil {
		return 0, fmt.Errorf("read memory of process %d: %w", pid, err)
	}
	return kib >> 10, nil
}

// procField reads a field that Linux gives in kB, which there means KiB.
func procField(file, field string) (int, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if name == field {
			return strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, field)
}

// moduleVersion is the version of a module that this program was built with.
func moduleVersion(path string) string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, module := range info.Deps {
		if module.Path == path {
			return module.Version
		}
	}
	return "unknown"
}
