package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

// clockTick is the unit of times in /proc, the same on every Linux that Go runs on.
const clockTick = time.Second / 100

// planePrograms are those that do the work of a plane; the simulator is the cloud.
func planePrograms() []string {
	return []string{
		plane.InfrastructureManager, plane.FleetManager,
		plane.CoreManager, plane.BootstrapManager, plane.ControlPlaneManager,
		plane.APIServer, plane.Etcd, plane.ControllerManager,
	}
}

func allPrograms() []string { return append(planePrograms(), plane.Simulator) }

// usage is what a program's process has taken since it started; nothing while it does not run.
type usage struct {
	pid       int
	processor time.Duration
}

// since an earlier look. A process that was started meanwhile has taken all of it since.
func (u usage) since(before usage) time.Duration {
	if u.pid != before.pid {
		return u.processor
	}
	return u.processor - before.processor
}

// usages of all programs.
func (b *benchmark) usages() (map[string]usage, error) {
	usages := map[string]usage{}
	for _, program := range allPrograms() {
		pid, running := b.plane.PID(program)
		if !running {
			continue // it ended, which is counted elsewhere
		}
		processor, err := processorTime(pid)
		if err != nil {
			return nil, err
		}
		usages[program] = usage{pid: pid, processor: processor}
	}
	return usages, nil
}

// peakMemory of all programs, in MiB.
func (b *benchmark) peakMemory() (map[string]int, error) {
	peaks := map[string]int{}
	for _, program := range allPrograms() {
		pid, running := b.plane.PID(program)
		if !running {
			continue
		}
		peak, err := peakMemoryMiB(pid)
		if err != nil {
			return nil, err
		}
		peaks[program] = peak
	}
	return peaks, nil
}

// processorTime is what all threads of a process have taken, those that ended included.
func processorTime(pid int) (time.Duration, error) {
	file := fmt.Sprintf("/proc/%d/stat", pid)
	stat, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read processor time of process %d: %w", pid, err)
	}
	taken, err := parseProcessorTime(string(stat))
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return taken, nil
}

// parseProcessorTime reads utime and stime, fields 14 and 15 of proc_pid_stat(5). The second field is the program's name in
// parentheses, which may itself have blanks and parentheses.
func parseProcessorTime(stat string) (time.Duration, error) {
	const afterName, utime, stime = 3, 14, 15
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= stime-afterName {
		return 0, fmt.Errorf("%q has no processor times", stat)
	}
	user, err := strconv.ParseInt(fields[utime-afterName], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read utime: %w", err)
	}
	system, err := strconv.ParseInt(fields[stime-afterName], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read stime: %w", err)
	}
	return time.Duration(user+system) * clockTick, nil
}
