package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// processorProfileFor is how long one profile of processor time lasts. There are as many as it takes, since how long is not known
// before; `go tool pprof` adds them up.
const processorProfileFor = 30 * time.Second

// profiler takes profiles of the provider. A nil one takes none.
type profiler struct {
	address   string
	directory string
	// prefix of the files' names.
	prefix string
	// each is how long one profile of processor time lasts.
	each time.Duration

	end  chan struct{}
	done chan error
}

func newProfiler(directory string, clusters int) (*profiler, error) {
	if directory == "" {
		return nil, nil
	}
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return nil, fmt.Errorf("make directory for profiles: %w", err)
	}
	// Nobody else is likely to be given this port in the seconds until the provider takes it.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("choose a port for the profiler: %w", err)
	}
	defer func() { _ = listener.Close() }()
	return &profiler{
		address: listener.Addr().String(), directory: directory, prefix: fmt.Sprintf("%d-clusters", clusters), each: processorProfileFor,
		end: make(chan struct{}), done: make(chan error, 1),
	}, nil
}

// arguments that the provider needs.
func (p *profiler) arguments() []string {
	if p == nil {
		return nil
	}
	return []string{"--profiler-address=" + p.address}
}

// start takes profiles of processor time until stop.
func (p *profiler) start(ctx context.Context) {
	if p != nil {
		go func() { p.done <- p.takeProcessor(ctx) }()
	}
}

// stop returns when the last profile is written.
func (p *profiler) stop() error {
	if p == nil {
		return nil
	}
	close(p.end)
	return <-p.done
}

func (p *profiler) takeProcessor(ctx context.Context) error {
	for i := 1; ; i++ {
		path := fmt.Sprintf("/debug/pprof/profile?seconds=%.0f", p.each.Seconds())
		if err := p.take(ctx, path, fmt.Sprintf("cpu-%02d", i)); err != nil {
			return err
		}
		select {
		case <-p.end:
			return nil
		default:
		}
	}
}

func (p *profiler) takeMemory(ctx context.Context) error {
	if p == nil {
		return nil
	}
	return p.take(ctx, "/debug/pprof/heap", "heap")
}

func (p *profiler) take(ctx context.Context, path, kind string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+path, nil)
	if err != nil {
		return fmt.Errorf("take profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("take profile: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("take profile: GET %s: %s", path, response.Status)
	}
	file, err := os.Create(filepath.Join(p.directory, p.prefix+"-"+kind+".pprof"))
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	_, err = io.Copy(file, response.Body)
	if err := errors.Join(err, file.Close()); err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	return nil
}
