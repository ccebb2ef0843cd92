package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory"
)

// Node backends.
const (
	noNodes     = "none"
	memoryNodes = "memory"
	dockerNodes = "docker"
)

type options struct {
	listen       string
	debugListen  string
	backend      string
	scenarioFile string
	seed         uint64
	urlFile      string
	cloudsYAML   string
	stateFile    string
	nodeImage    string
	logLevel     slog.Level
	nodes        memory.Options
}

func newCommand(output io.Writer) *cobra.Command {
	o := options{logLevel: slog.LevelInfo}
	command := &cobra.Command{
		Use:   "openstack-simulator",
		Short: "An OpenStack cloud in one process",
		Long: `Serves Keystone, Nova, Neutron, Octavia, Glance and Cinder as far as clusters need them, and a control API
under /_simulator. What the cloud consists of is read from a scenario file; without one it is a small cloud with GPU
hosts in three zones. With the backend "memory", servers become Kubernetes nodes that exist in this process only; with
"docker" they are containers that boot, and this program has to run in one itself:

  docker run --privileged --pid host --network NETWORK -v /var/run/docker.sock:/var/run/docker.sock IMAGE --backend docker

With --state the cloud and its nodes outlive the process; without it nothing is kept between runs.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(command *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(output, &slog.HandlerOptions{Level: o.logLevel}))
			return run(command.Context(), o, log)
		},
	}
	flags := command.Flags()
	flags.StringVar(&o.listen, "listen", "127.0.0.1:0", "address of the cloud's APIs; port 0 takes a free one")
	flags.StringVar(&o.debugListen, "debug-listen", "", "address of Go's profiler (default: none)")
	flags.StringVar(&o.backend, "backend", memoryNodes, "what servers run: none, memory for Kubernetes nodes in this process, or docker for real ones in containers")
	flags.StringVar(&o.nodeImage, "node-image", "sendan/node:v1.36.3", "image that servers boot with the backend docker; kind's node images work as well")
	flags.StringVar(&o.scenarioFile, "scenario", "", "file that says what the cloud consists of and how it behaves")
	flags.Uint64Var(&o.seed, "seed", 0, "makes ids, placement and jitter repeat themselves (default: the scenario's)")
	flags.StringVar(&o.urlFile, "url-file", "", "file to write the URL of the cloud to")
	flags.StringVar(&o.cloudsYAML, "clouds-yaml", "", "file to write the accounts to, one entry for each user, named as the user")
	flags.StringVar(&o.stateFile, "state", "", "file to keep the cloud in: read at the start when it exists, written when the program ends and every few seconds when something changed; it holds passwords and keys")
	flags.TextVar(&o.logLevel, "log-level", o.logLevel, "debug, info, warn or error")
	flags.DurationVar(&o.nodes.APIServerStart, "api-server-start", 0, "how long an API server takes to start (default 1s)")
	flags.DurationVar(&o.nodes.KubeletStart, "kubelet-start", 0, "how long a kubelet takes to register its node (default 1s)")
	flags.DurationVar(&o.nodes.NodeReady, "node-ready", 0, "how long a registered node takes to become Ready (default 1s)")
	return command
}

func (o options) scenario() (*simulator.Scenario, error) {
	if o.scenarioFile == "" {
		scenario := simulator.DefaultScenario()
		return &scenario, nil
	}
	return simulator.LoadScenario(o.scenarioFile)
}

// nodeBackend makes the backend that was asked for; stop ends it.
func (o options) nodeBackend(ctx context.Context, scenario *simulator.Scenario, log *slog.Logger) (backend simulator.NodeBackend, stop func(), err error) {
	switch o.backend {
	case noNodes:
		return nil, func() {}, nil
	case memoryNodes:
		o.nodes.Logger, o.nodes.Seed, o.nodes.Region = log, o.seed, region(scenario)
		o.nodes.DevicePlugin, o.nodes.MIGManager = scenario.Latency.DevicePlugin, scenario.Latency.MIGManager
		o.nodes.GPUKinds, o.nodes.MIGLayouts, o.nodes.NVIDIADriver = scenario.GPUKinds, scenario.MIGLayouts, scenario.NVIDIADriver
		nodes, err := memory.New(o.nodes)
		if err != nil {
			return nil, nil, fmt.Errorf("start node backend: %w", err)
		}
		return nodes, nodes.Close, nil
	case dockerNodes:
		return o.dockerBackend(ctx, scenario, log)
	}
	return nil, nil, fmt.Errorf("--backend %q: must be %s, %s or %s", o.backend, noNodes, memoryNodes, dockerNodes)
}
