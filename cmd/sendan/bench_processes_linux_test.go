package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcessorTimeIsReadFromStat(t *testing.T) {
	const fields = " S 1 42 42 0 -1 4194560 100 0 0 0 1234 66 7 8 20 0 9 0 100 1 1"
	for name, c := range map[string]struct {
		stat string
		want time.Duration
		fail string
	}{
		"user and system":                  {stat: "42 (etcd)" + fields, want: 13 * time.Second},
		"a name with blanks and brackets":  {stat: "42 (a) b (c) 1 2)" + fields, want: 13 * time.Second},
		"cut off":                          {stat: "42 (etcd) S 1 42", fail: "no processor times"},
		"something else":                   {stat: "no brackets", fail: "no processor times"},
		"a number that is none":            {stat: "42 (etcd)" + strings.Replace(fields, "1234", "many", 1), fail: "utime"},
		"another number that is none":      {stat: "42 (etcd)" + strings.Replace(fields, "66", "few", 1), fail: "stime"},
		"children that ended are not ours": {stat: "42 (etcd)" + strings.Replace(fields, "7 8", "700 800", 1), want: 13 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseProcessorTime(c.stat)
			switch {
			case c.fail != "":
				if err == nil || !strings.Contains(err.Error(), c.fail) {
					t.Errorf("got %v, want %q", err, c.fail)
				}
			case err != nil || got != c.want:
				t.Errorf("got %s, %v; want %s", got, err, c.want)
			}
		})
	}
}

// TestTheKernelAgrees compares what /proc says of this process with what getrusage(2) says of it.
func TestTheKernelAgrees(t *testing.T) {
	for taken := time.Duration(0); taken < 100*time.Millisecond; { // enough to see a wrong unit
		taken = rusage(t)
	}
	before := rusage(t)
	got, err := processorTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	// /proc rounds user and system time down to its ticks.
	if after := rusage(t); got < before-2*clockTick || got > after+2*clockTick {
		t.Errorf("/proc says %s, getrusage %s to %s", got, before, after)
	}
	if peak, err := peakMemoryMiB(os.Getpid()); err != nil || peak < 1 || peak > 1<<20 {
		t.Errorf("the most memory is %d MiB, %v", peak, err)
	}
}

func rusage(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func TestAProcessThatWasStartedAnewHasTakenAllOfIt(t *testing.T) {
	before := usage{pid: 7, processor: 30 * time.Second}
	if got := (usage{pid: 7, processor: 40 * time.Second}).since(before); got != 10*time.Second {
		t.Errorf("the same process took %s", got)
	}
	if got := (usage{pid: 8, processor: 4 * time.Second}).since(before); got != 4*time.Second {
		t.Errorf("the next process took %s", got)
	}
	if got := (usage{pid: 8, processor: 4 * time.Second}).since(usage{}); got != 4*time.Second {
		t.Errorf("a process that did not run before took %s", got)
	}
}
