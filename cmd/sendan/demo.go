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
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
	demomanifests "github.com/sendan-io/sendan/templates/demo"
)

const (
	// cloudName is the entry of clouds.yaml that the simulator writes.
	cloudName     = "demo"
	demoNamespace = "default"
	// demoPool is the pool of templates/demo/cluster.yaml.
	demoPool = "demo-gpu"
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
		Long: `demo does what up does, then applies what a platform team describes (a site, node templates, a release and
a tenant) and the Cluster of that tenant, with a pool of partitioned A100s and one of H100s. It shows every
machine on its way, and stays up until Ctrl-C. Each demo starts from nothing.

With --backend=docker the Cluster is one without releases, since no container has a GPU.

With --check it goes on without a terminal: it scales the pools up and down, deletes the cluster, and verifies
each step and that nothing is left in the cloud. The Cluster without releases gets another flavor as well.

With --check --kill-provider it takes that one, only creates and deletes the cluster, and meanwhile ends the provider with
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
	// platform is what the cluster is made of, nil where it says all itself.
	platform []*unstructured.Unstructured
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
	d, err := startDemo(ctx, flags, true, reportTo(out))
	if err != nil {
		return err
	}
	defer stopPlane(out, d.plane)

	_, _ = fmt.Fprintf(out, "\n%s\n\n", d.announcement())
	if err := d.apply(ctx); err != nil {
		if errors.Is(err, context.Canceled) {
			return nil
		}
		d.diagnose(ctx, out)
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

// startDemo brings the plane up and reads the cluster's manifests: the one made of a release where that is wanted and nodes
// have devices, else the one that says all itself.
func startDemo(ctx context.Context, flags planeFlags, fleet bool, report func(plane.Event)) (*demo, error) {
	options, err := flags.options(report)
	if err != nil {
		return nil, err
	}
	options.Scenario = "placementReadable: true\n" // so that the site knows how many GPUs are free in each zone
	p, err := plane.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	d := &demo{plane: p, cloud: newSimulatedCloud(p), clock: options.Clock}
	if err := d.readManifests(fleet && flags.backend != plane.DockerBackend); err != nil {
		p.Stop()
		return nil, err
	}
	if flags.backend == plane.DockerBackend {
		d.tenant.addPodNetwork(demomanifests.PodNetwork)
	}
	return d, nil
}

func (d *demo) readManifests(fleet bool) (err error) {
	if !fleet {
		d.tenant, err = newTenant(d.plane.Client(), demoNamespace, demomanifests.Cluster)
		return err
	}
	if d.tenant, err = newTenant(d.plane.Client(), fleetNamespace, demomanifests.Training); err != nil {
		return err
	}
	d.platform, err = plane.ParseManifests(demomanifests.Platform)
	return err
}

func newSimulatedCloud(p *plane.Plane) simulatedCloud {
	return simulatedCloud{baseURL: p.SimulatorURL(), client: &http.Client{Timeout: callTimeout}}
}

func (d *demo) apply(ctx context.Context) error {
	cloudsYAML, err := os.ReadFile(d.plane.Layout().CloudsYAML())
	if err != nil {
		return fmt.Errorf("read the cloud's credentials: %w", err)
	}
	if d.isFleet() {
		return d.applyFleet(ctx, cloudsYAML)
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
	kubectl, fleetKinds := findKubectl(d.plane), ""
	if d.isFleet() {
		fleetKinds = "fleetmember,addon,"
	}
	_, _ = fmt.Fprintf(out, `
The management cluster, where clusters are made:
  export KUBECONFIG=%s
  %s get %scluster,machine,sendancluster,sendanmachine -A

The cluster itself:
  %s --kubeconfig %s get nodes,daemonsets -A

The cloud: %s
  export OS_CLIENT_CONFIG_FILE=%s OS_CLOUD=%s
  openstack server list

Logs are in %s. Ctrl-C stops everything.
`, layout.Kubeconfig(), kubectl, fleetKinds, kubectl, kubeconfig, d.plane.SimulatorURL(), layout.CloudsYAML(), cloudName, layout.Logs())
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
