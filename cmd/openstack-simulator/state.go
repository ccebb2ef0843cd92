package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// saveEvery bounds what a crash can lose.
const saveEvery = 5 * time.Second

// readState is the snapshot in a state file, nil when there is none.
func readState(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	snapshot, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--state: %w", err)
	}
	if len(snapshot) == 0 {
		return nil, fmt.Errorf("--state: %s is empty; delete it to start with an empty cloud", file)
	}
	return snapshot, nil
}

// stateKeeper writes a cloud to a file whenever it changed. Without a file it does nothing.
type stateKeeper struct {
	cloud *simulator.Simulator
	file  string
	every time.Duration
	log   *slog.Logger
	// written is the content of the file, nil before the first write. Only one goroutine saves at a time.
	written []byte
}

func (o options) keepState(cloud *simulator.Simulator, log *slog.Logger) *stateKeeper {
	return &stateKeeper{cloud: cloud, file: o.stateFile, every: saveEvery, log: log}
}

// start saves from time to time; stop ends that and returns when nothing is being saved any more.
func (k *stateKeeper) start(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.run(ctx)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (k *stateKeeper) run(ctx context.Context) {
	if k.file == "" {
		return
	}
	tick := time.NewTicker(k.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		// A full disk may have room again later, and the end of the program tries once more.
		if err := k.save(); err != nil {
			k.log.Error("the state of the cloud was not saved", "error", err)
		}
	}
}

// save writes the file anew, unless it has the same content already.
func (k *stateKeeper) save() error {
	if k.file == "" {
		return nil
	}
	snapshot, err := k.cloud.Snapshot()
	if err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	if bytes.Equal(snapshot, k.written) {
		return nil
	}
	if err := replaceFile(k.file, snapshot); err != nil {
		return fmt.Errorf("--state: %w", err)
	}
	k.written = snapshot
	return nil
}
