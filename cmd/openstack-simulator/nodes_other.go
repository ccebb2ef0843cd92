//go:build !linux

package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/sendan-io/sendan/cloud/simulator"
)

func (options) dockerBackend(context.Context, *simulator.Scenario, *slog.Logger) (simulator.NodeBackend, func(), error) {
	return nil, nil, errors.New("--backend docker needs Linux: run the simulator in a container")
}
