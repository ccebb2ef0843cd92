package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// stepsOfRealNodes are those that nodes in memory have no use for.
func (c *checker) stepsOfRealNodes() []step {
	return []step{
		{name: "pods of different nodes talk", within: scaleDeadline, act: c.applyProbes, missing: c.probesDone},
		{name: "a host fails, the API server answers", within: scaleDeadline, act: c.failHost, missing: c.survived},
		{name: "the host comes back", within: scaleDeadline, act: c.recoverHost, missing: c.recovered},
	}
}

// failHost cuts the power of the hypervisor below one control-plane node.
func (c *checker) failHost(ctx context.Context) error {
	servers, err := c.cloud.servers(ctx)
	if err != nil {
		return err
	}
	s, err := c.tenant.state(ctx)
	if err != nil {
		return err
	}
	for _, server := range servers {
		if server.Name == s.machines[0].Name { // control-plane nodes come first
			c.failedHost = server.Host
		}
	}
	if c.failedHost == "" {
		return errors.New("no server has the name of a control-plane node")
	}
	for _, server := range servers {
		if server.Host == c.failedHost {
			c.failedServers++
		}
	}
	return c.cloud.switchHost(ctx, c.failedHost, false)
}

// survived asks the API server through the load balancer, which has to leave out the node that is gone.
func (c *checker) survived(ctx context.Context) error {
	if err := c.containersRun(ctx, controlPlaneNodes+c.workers()-c.failedServers); err != nil {
		return err
	}
	for range 2 * controlPlaneNodes {
		if _, err := c.tenant.nodes(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) recoverHost(ctx context.Context) error {
	return c.cloud.switchHost(ctx, c.failedHost, true)
}

func (c *checker) recovered(ctx context.Context) error {
	if err := c.containersRun(ctx, controlPlaneNodes+c.workers()); err != nil {
		return err
	}
	return c.clusterAsWanted(ctx)
}

func (c *checker) containersRun(ctx context.Context, wanted int) error {
	running, err := c.plane.ServerContainers(ctx, true)
	if err != nil {
		return err
	}
	if len(running) != wanted {
		return fmt.Errorf("%d containers run, %d should: %s", len(running), wanted, strings.Join(running, " "))
	}
	return nil
}

// containersAsWanted believes not even the cloud.
func (c *checker) containersAsWanted(ctx context.Context, wanted int) error {
	if !c.realNodes {
		return nil
	}
	names, err := c.plane.ServerContainers(ctx, false)
	if err != nil {
		return err
	}
	if len(names) != wanted {
		return fmt.Errorf("there are %d containers, there should be %d: %s", len(names), wanted, strings.Join(names, " "))
	}
	return nil
}
