package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
	demomanifests "github.com/sendan-io/sendan/templates/demo"
)

const (
	// cloudName is the entry of clouds.yaml that the simulator writes.
	cloudName     = "demo"
	demoNamespace = "default"
	// readyDeadline of a cluster; it takes well under a minute on an idle machine.
	readyDeadline = 10 * time.Minute
	callTimeout   = 10 * time.Second
)

func newDemoCommand() *cobra.Command {
	var flags planeFlags
	var chaos chaosFlags
	var check bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Bring everything up and watch a GPU cluster become Ready",
		Long: `demo does what up does, then applies a Cluster of three control-plane nodes and two workers with eight
GPUs each, shows every machine on its way, and stays up until Ctrl-C. Each demo starts from nothing.

With --check it goes on without a terminal: it scales the workers to five and to one, gives them another
flavor, deletes the cluster, and verifies each step and that nothing is left in the cloud.

With --check --kill-provider it only creates and deletes the cluster, and meanwhile ends the provider with
kill -9 at moments drawn by chance: there should be no duplicates and nothing left over.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := chaos.complete(check); err != nil {
				return err
			}
			if check {
				return runCheck(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr(), flags, chaos)
			}
			return runDemo(cmd.Context(), cmd.OutOrStdout(), flags)
		},
	}
	flags.register(cmd, "", "where to keep state, logs and kubeconfigs (default .sendan/demo; with --check a temporary directory)")
	cmd.Flags().BoolVar(&check, "check", false, "verify the whole life of a cluster, print one verdict and exit")
	chaos.register(cmd)
	return cmd
}

// demo is a plane with one cluster on it.
type demo struct {
	plane   *plane.Plane
	cloud   simulatedCloud
	tenant  *tenant
	clock   clockwork.Clock
	started time.Time // when the cluster was applied
}

func runDemo(ctx context.Context, out io.Writer, flags planeFlags) error {
	if flags.stateDir == "" {
		flags.stateDir = filepath.Join(".sendan", "demo")
	}
	// A demo's cloud is not kept: clusters of an earlier one have lost their servers.
	if err := plane.Discard(flags.stateDir); err != nil {
		return err
	}
	_, _ = fmt.Fprintln(out, "Starting a management plane and a simulated cloud:")
	d, err := startDemo(ctx, flags, reportTo(out))
	if err != nil {
		return err
	}
	defer stopPlane(out, d.plane)

	_, _ = fmt.Fprintln(out, "\nApplying templates/demo/cluster.yaml: 3 control-plane nodes, 2 workers with 8 GPUs each.")
	_, _ = fmt.Fprintln(out)
	if err := d.apply(ctx); err != nil {
		return err
	}
	if err := d.awaitReady(ctx, newProgressWriter(out)); err != nil {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		d.diagnose(ctx, out)
		return err
	}
	if err := d.explain(ctx, out); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// startDemo brings the plane up and reads the cluster's manifests.
func startDemo(ctx context.Context, flags planeFlags, report func(plane.Event)) (*demo, error) {
	options, err := flags.options(report)
	if err != nil {
		return nil, err
	}
	p, err := plane.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	t, err := newTenant(p.Client(), demoNamespace, demomanifests.Cluster)
	if err != nil {
		p.Stop()
		return nil, err
	}
	if flags.backend == plane.DockerBackend {
		t.addPodNetwork(demomanifests.PodNetwork)
	}
	return &demo{plane: p, cloud: newSimulatedCloud(p), tenant: t, clock: options.Clock}, nil
}

func newSimulatedCloud(p *plane.Plane) simulatedCloud {
	return simulatedCloud{baseURL: p.SimulatorURL(), client: &http.Client{Timeout: callTimeout}}
}

func (d *demo) apply(ctx context.Context) error {
	cloudsYAML, err := os.ReadFile(d.plane.Layout().CloudsYAML())
	if err != nil {
		return fmt.Errorf("read the cloud's credentials: %w", err)
	}
	d.started = d.clock.Now()
	return d.tenant.apply(ctx, cloudsYAML)
}

func (d *demo) elapsed() time.Duration { return d.clock.Since(d.started) }

// awaitReady shows progress until the cluster and all its nodes are ready.
func (d *demo) awaitReady(ctx context.Context, writer progressWriter) error {
	return waitUntil(ctx, d.clock, readyDeadline, func(ctx context.Context) error {
		s, err := d.tenant.state(ctx)
		if err != nil {
			return err
		}
		calls, err := d.cloud.calls(ctx)
		if err != nil {
			return err
		}
		writer.show(newProgress(s, d.elapsed(), calls))
		if err := s.unready(); err != nil {
			return err
		}
		nodes, err := d.tenant.nodes(ctx)
		if err != nil {
			return err
		}
		return nodesUnready(nodes, len(s.machines))
	})
}

// explain tells what there is now and how to reach it.
func (d *demo) explain(ctx context.Context, out io.Writer) error {
	took := d.elapsed()
	calls, err := d.cloud.calls(ctx)
	if err != nil {
		return err
	}
	nodes, err := d.tenant.nodes(ctx)
	if err != nil {
		return err
	}
	layout := d.plane.Layout()
	kubeconfig := filepath.Join(layout.Dir, d.tenant.name+".kubeconfig")
	if err := d.tenant.writeKubeconfig(ctx, kubeconfig); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(out, "\nThe cluster is Ready after %.0f s and %d calls to the cloud. Its nodes:\n\n", took.Seconds(), calls)
	writeNodes(out, nodes)
	kubectl := findKubectl(d.plane)
	_, _ = fmt.Fprintf(out, `
The management cluster, where clusters are made:
  export KUBECONFIG=%s
  %s get cluster,machine,sendancluster,sendanmachine

The cluster itself:
  %s --kubeconfig %s get nodes

The cloud: %s
  export OS_CLIENT_CONFIG_FILE=%s OS_CLOUD=%s
  openstack server list

Logs are in %s. Ctrl-C stops everything.
`, layout.Kubeconfig(), kubectl, kubectl, kubeconfig, d.plane.SimulatorURL(), layout.CloudsYAML(), cloudName, layout.Logs())
	return nil
}

// findKubectl prefers the user's own, and falls back on the one among the tools.
func findKubectl(p *plane.Plane) string {
	if _, err := exec.LookPath("kubectl"); err == nil {
		return "kubectl"
	}
	return p.Tool("kubectl")
}

// newProgressWriter draws on a terminal and keeps a journal anywhere else.
func newProgressWriter(out io.Writer) progressWriter {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return newJournal(out)
	}
	return &screen{out: out, width: func() int {
		width, _, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 0
		}
		return width
	}}
}
