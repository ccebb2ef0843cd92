// Command openstack-simulator is an OpenStack cloud in one process, for tests, demos and drills.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand(os.Stderr).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "openstack-simulator:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}
