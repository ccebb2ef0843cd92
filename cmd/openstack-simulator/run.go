package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

const (
	readHeaderTimeout = 10 * time.Second
	// stopWithin is how long requests in flight may take once the process is told to end.
	stopWithin = 3 * time.Second
)

// run serves the cloud until ctx ends.
func run(ctx context.Context, o options, log *slog.Logger) error {
	if err := raiseOpenFileLimit(); err != nil {
		log.Warn("the limit of open files stays as it is", "error", err)
	}
	scenario, err := o.scenario()
	if err != nil {
		return err
	}
	backend, stopNodes, err := o.nodeBackend(ctx, scenario, log)
	if err != nil {
		return err
	}
	defer stopNodes()
	cloud, err := o.makeCloud(simulator.Options{Scenario: scenario, Seed: o.seed, Backend: backend, Logger: log})
	if err != nil {
		return err
	}
	keeper := o.keepState(cloud, log)
	// The last snapshot is taken once nobody can change the cloud any more, while its servers still run.
	return errors.Join(o.serveCloud(ctx, cloud, scenario, keeper, log), endCloud(cloud, keeper))
}

// makeCloud makes the cloud anew, or as the state file has it.
func (o options) makeCloud(cloud simulator.Options) (*simulator.Simulator, error) {
	var err error
	if cloud.Snapshot, err = readState(o.stateFile); err != nil {
		return nil, err
	}
	made, err := simulator.New(cloud)
	if err != nil && cloud.Snapshot != nil {
		return nil, fmt.Errorf("--state: %s cannot be used: %w; delete it to start with an empty cloud", o.stateFile, err)
	}
	if err != nil {
		return nil, fmt.Errorf("make the cloud: %w", err)
	}
	return made, nil
}

func endCloud(cloud *simulator.Simulator, keeper *stateKeeper) error {
	cloud.Close()
	return keeper.save()
}

func (o options) serveCloud(ctx context.Context, cloud *simulator.Simulator, scenario *simulator.Scenario, keeper *stateKeeper, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	url := "http://" + reachable(listener.Addr())
	if err := o.announce(scenario, url); err != nil {
		return errors.Join(err, listener.Close())
	}
	if err := serveProfiler(ctx, o.debugListen, log); err != nil {
		return errors.Join(err, listener.Close())
	}
	stopKeeping := keeper.start(ctx)
	defer stopKeeping()
	log.Info("the cloud is up", "url", url, "identity", url+"/identity/v3", "backend", o.backend)
	return serve(ctx, &http.Server{Handler: cloud, ReadHeaderTimeout: readHeaderTimeout}, listener)
}

// reachable is an address that others can use for what listens everywhere: the first of this machine that is not
// loopback.
func reachable(listening net.Addr) string {
	everywhere, err := netip.ParseAddrPort(listening.String())
	if err != nil || !everywhere.Addr().IsUnspecified() {
		return listening.String()
	}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return listening.String()
	}
	for _, address := range addresses {
		prefix, err := netip.ParsePrefix(address.String())
		if err == nil && prefix.Addr().Is4() && !prefix.Addr().IsLoopback() {
			return netip.AddrPortFrom(prefix.Addr(), everywhere.Port()).String()
		}
	}
	return listening.String()
}

// announce writes the files that tell others where the cloud is.
func (o options) announce(scenario *simulator.Scenario, url string) error {
	if o.cloudsYAML != "" {
		clouds, err := cloudsYAML(scenario, url)
		if err == nil {
			err = replaceFile(o.cloudsYAML, clouds)
		}
		if err != nil {
			return fmt.Errorf("--clouds-yaml: %w", err)
		}
	}
	if o.urlFile != "" {
		if err := replaceFile(o.urlFile, []byte(url+"\n")); err != nil {
			return fmt.Errorf("--url-file: %w", err)
		}
	}
	return nil
}

// serve ends in order when ctx does: no new requests, then those in flight, then whatever holds on.
func serve(ctx context.Context, server *http.Server, listener net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	if err := server.Shutdown(ending); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("stop serving: %w", err)
	}
	return server.Close()
}

func serveProfiler(ctx context.Context, address string, log *slog.Logger) error {
	if address == "" {
		return nil
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--debug-listen: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	log.Info("the profiler is up", "url", "http://"+listener.Addr().String()+"/debug/pprof/")
	go func() {
		if err := serve(ctx, &http.Server{Handler: mux, ReadHeaderTimeout: readHeaderTimeout}, listener); err != nil {
			log.Warn("the profiler ended", "error", err)
		}
	}()
	return nil
}
