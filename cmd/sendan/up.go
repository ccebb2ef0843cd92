package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

func newUpCommand() *cobra.Command {
	var flags planeFlags
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a management plane and a simulated cloud on this machine until Ctrl-C",
		Long: `up starts etcd, a Kubernetes API server with garbage collection, the managers of Cluster API, Sendan's
provider and a simulated OpenStack as child processes, and keeps them running until Ctrl-C.

With --backend=docker the servers are containers, which end with the cloud: each start begins anew.

The state directory holds management.kubeconfig, clouds.yaml, simulator.url and logs/. Starting again on
the same directory goes on with the same API objects, the same simulated cloud with its nodes and, where free,
the same ports. To begin anew, remove the directory.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			started := time.Now()
			out := cmd.OutOrStdout()
			options, err := flags.options(reportTo(out))
			if err != nil {
				return err
			}
			options.KeepCloud = flags.backend != plane.DockerBackend
			if !options.KeepCloud {
				if err := plane.Discard(flags.stateDir); err != nil {
					return err
				}
			}
			p, err := plane.Start(cmd.Context(), options)
			if err != nil {
				return err
			}
			defer stopPlane(out, p)
			_, _ = fmt.Fprintf(out, "\nready after %.0fs\n\n%s", time.Since(started).Seconds(), endpoints(p))
			<-cmd.Context().Done()
			return nil
		},
	}
	flags.register(cmd, ".sendan", "where to keep state, logs and kubeconfigs")
	return cmd
}

// reportTo writes one line for each event. A single write, since several programs report at once.
func reportTo(out io.Writer) func(plane.Event) {
	return func(event plane.Event) {
		_, _ = fmt.Fprintf(out, "  %s\n", event)
	}
}

func stopPlane(out io.Writer, p *plane.Plane) {
	_, _ = fmt.Fprintln(out, "\nstopping …")
	p.Stop()
	_, _ = fmt.Fprintln(out, "stopped")
}

// endpoints tells how to use a plane that runs.
func endpoints(p *plane.Plane) string {
	layout := p.Layout()
	return fmt.Sprintf(`  management API  %s
  cloud           %s
  logs            %s

  export KUBECONFIG=%s
  export OS_CLIENT_CONFIG_FILE=%s OS_CLOUD=%s

Ctrl-C stops everything.
`, p.APIServerURL(), p.SimulatorURL(), layout.Logs(), layout.Kubeconfig(), layout.CloudsYAML(), cloudName)
}
