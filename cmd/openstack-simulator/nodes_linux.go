package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/docker"
)

// dockerBackend makes the backend of real nodes and fits the cloud to it.
func (o options) dockerBackend(ctx context.Context, scenario *simulator.Scenario, log *slog.Logger) (simulator.NodeBackend, func(), error) {
	if o.stateFile != "" {
		return nil, nil, errors.New("--state: containers end with the simulator, so --backend docker cannot keep a cloud; leave --state out")
	}
	if len(scenario.ExternalNetworks) != 1 {
		return nil, nil, fmt.Errorf("--scenario: externalNetworks has %d entries; with --backend docker it is one, the network that this container is on", len(scenario.ExternalNetworks))
	}
	nodes, err := docker.New(ctx, docker.Options{Image: o.nodeImage, Region: region(scenario), Logger: log})
	if err != nil {
		return nil, nil, err
	}
	scenario.ExternalNetworks[0].CIDR = nodes.ExternalCIDR().String()
	if o.scenarioFile == "" {
		// A container takes the time it takes.
		scenario.Latency.ServerBuild, scenario.Latency.ServerDelete, scenario.Latency.ServerPower = simulator.Range{}, simulator.Range{}, simulator.Range{}
	}
	return nodes, nodes.Close, nil
}
