package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/pprof"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestProfilesAreThoseOfTheProgramAtTheAddress takes profiles of this test, which serves them as managers do.
func TestProfilesAreThoseOfTheProgramAtTheAddress(t *testing.T) {
	p := newTestProfiler(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	program := httptest.NewServer(mux)
	defer program.Close()
	p.address = strings.TrimPrefix(program.URL, "http://")

	p.start(t.Context())
	if err := p.takeMemory(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"7-clusters-cpu-01.pprof", "7-clusters-heap.pprof"} {
		profile, err := os.ReadFile(filepath.Join(p.directory, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if gzip := []byte{0x1f, 0x8b}; len(profile) < 100 || !slices.Equal(profile[:2], gzip) {
			t.Errorf("%s with %d bytes is no profile", name, len(profile))
		}
	}
}

func newTestProfiler(t *testing.T) *profiler {
	t.Helper()
	p, err := newProfiler(filepath.Join(t.TempDir(), "new"), 7)
	if err != nil {
		t.Fatal(err)
	}
	if arguments := p.arguments(); len(arguments) != 1 || arguments[0] != "--profiler-address="+p.address {
		t.Errorf("the provider gets %q", arguments)
	}
	p.each = time.Second
	return p
}

func TestAProgramWithoutAProfilerFailsTheRun(t *testing.T) {
	p := newTestProfiler(t)
	program := httptest.NewServer(http.NotFoundHandler())
	defer program.Close()
	p.address = strings.TrimPrefix(program.URL, "http://")
	p.start(t.Context())
	if err := p.stop(); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutADirectoryNoProfileIsTaken(t *testing.T) {
	p, err := newProfiler("", 7)
	if err != nil || p.arguments() != nil {
		t.Errorf("got arguments %q, %v", p.arguments(), err)
	}
	p.start(t.Context())
	if err := p.takeMemory(t.Context()); err != nil {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}
