// Command sendan runs a management plane on this machine, shows Sendan at work, and measures it.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/sendan-io/sendan/cmd/sendan/cli"
)

func main() {
	// The first Ctrl-C stops everything in order; a second one, while that takes long, ends at once.
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		restore()
	}()
	err := newRootCommand(os.Stdout, os.Stderr).ExecuteContext(ctx)
	if _, told := errors.AsType[verdictError](err); told {
		os.Exit(1)
	}
	if errors.Is(err, context.Canceled) {
		// An interrupted start would look like a failure of each program.
		err = errors.New("interrupted")
	}
	os.Exit(cli.Report(os.Stderr, err))
}
