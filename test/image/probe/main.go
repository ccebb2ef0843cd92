// Command probe is what tests run in pods: a server that says who it is, and a client that asks.
//
//	probe serve              answer HTTP on port 8080 with the pod's host name; /healthz is always fine
//	probe get URL            print what a URL answers, trying for half a minute
//	probe resolve NAME       print the addresses of a name, trying for half a minute
//	probe pause              do nothing until told to end
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const (
	port       = ":8080"
	tryFor     = 30 * time.Second
	tryEvery   = 500 * time.Millisecond
	oneTry     = 3 * time.Second
	stopWithin = 2 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0 || args[0] == "serve":
		return serve(ctx)
	case args[0] == "pause":
		<-ctx.Done()
		return nil
	case args[0] == "get" && len(args) == 2:
		return try(ctx, func(ctx context.Context) error { return get(ctx, args[1]) })
	case args[0] == "resolve" && len(args) == 2:
		return try(ctx, func(ctx context.Context) error { return resolve(ctx, args[1]) })
	}
	return fmt.Errorf("%q is not understood: serve, get URL, resolve NAME or pause", strings.Join(args, " "))
}

func serve(ctx context.Context) error {
	name, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("find the name of the pod: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _, _ = fmt.Fprintf(w, "%s saw %s\n", name, r.RemoteAddr) })
	server := &http.Server{Addr: port, Handler: mux, ReadHeaderTimeout: oneTry}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	return server.Shutdown(ending)
}

// try does something until it works or time is up.
func try(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryFor)
	defer cancel()
	tick := time.NewTicker(tryEvery)
	defer tick.Stop()
	for {
		once, done := context.WithTimeout(ctx, oneTry)
		err := do(once)
		done()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

func get(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, response.Status)
	}
	fmt.Print(string(body))
	return nil
}

func resolve(ctx context.Context, name string) error {
	addresses, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return err
	}
	fmt.Println(strings.Join(addresses, " "))
	return nil
}
