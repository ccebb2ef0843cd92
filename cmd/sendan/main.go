// Command sendan runs a management plane on this machine, shows Sendan at work, and measures it.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// The first Ctrl-C stops everything in order; a second one, while that takes long, ends at once.
	ctx, restore := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ctx.Done()
		restore()
	}()
	err := newRootCommand(os.Stdout, os.Stderr).ExecuteContext(ctx)
	if err == nil {
		return
	}
	if _, told := errors.AsType[verdictError](err); !told {
		fmt.Fprintln(os.Stderr, "sendan:", describe(err))
	}
	os.Exit(1)
}

// describe keeps an interrupted start from looking like a failure of each program.
func describe(err error) string {
	if errors.Is(err, context.Canceled) {
		return "interrupted"
	}
	return err.Error()
}
