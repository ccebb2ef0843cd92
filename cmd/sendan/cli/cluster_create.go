package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// Values of --dry-run.
const (
	dryRunNone   = "none"
	dryRunClient = "client"
	dryRunServer = "server"
)

// createDeadline is how long a cluster with GPUs may take.
const createDeadline = 45 * time.Minute

// newCluster is what was asked for. What is left out, admission fills in.
type newCluster struct {
	namespace, name                 string
	site, release, channel, version string
	singleNode                      string
	controlPlaneReplicas            int32
	pools                           []newPool
}

// newPool scales by itself when it has no replicas.
type newPool struct {
	name, template string
	replicas       *int32
}

func (s *session) clusterCreate() *cobra.Command {
	var in newCluster
	var pools []string
	var dryRun string
	var wait bool
	var timeout time.Duration
	var out output
	cmd := &cobra.Command{
		Use:   "create NAME (--pool NAME=TEMPLATE[:REPLICAS]... | --single-node TEMPLATE)",
		Short: "Make a cluster",
		Long: `Makes a Cluster. What is left out comes from the tenant and from the release of the tenant's channel.
A pool without a number of replicas scales by itself between the bounds of its template.`,
		Example: `  sendan cluster create training --pool mig=a100-mig:2 --pool big=h100
  sendan cluster create training --pool mig=a100-mig:2 --dry-run > training.yaml
  sendan cluster create edge --single-node l4-single --site osaka --wait`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			in.name = args[0]
			if in.pools, err = parsePools(pools); err != nil {
				return err
			}
			if err := in.check(); err != nil {
				return err
			}
			if err := out.check(); err != nil {
				return err
			}
			if modes := []string{dryRunNone, dryRunClient, dryRunServer}; !slices.Contains(modes, dryRun) {
				return usagef("--dry-run %q is not known: choose %s", dryRun, strings.Join(modes, ", "))
			}
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			in.namespace = c.namespace
			if dryRun == dryRunClient {
				return c.showManifest(in, out)
			}
			if err := c.create(cmd.Context(), in, dryRun == dryRunServer, out); err != nil || !wait || dryRun != dryRunNone {
				return err
			}
			return c.waitUntilHealthy(cmd.Context(), in.name, timeout)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringArrayVar(&pools, "pool", nil, "pool of nodes as NAME=TEMPLATE:REPLICAS, or NAME=TEMPLATE for one that scales by itself; may be repeated")
	flags.StringVar(&in.singleNode, "single-node", "", "make a cluster of one machine of this template, which is control plane and worker")
	flags.Int32Var(&in.controlPlaneReplicas, "control-plane-replicas", 0, "nodes of the control plane: an odd number (default 3)")
	flags.StringVar(&in.site, "site", "", "site; needed where the tenant may use several")
	flags.StringVar(&in.release, "release", "", "release by name")
	flags.StringVar(&in.channel, "channel", "", "channel to take the release from (default: the tenant's)")
	flags.StringVar(&in.version, "version", "", "version of Kubernetes; takes the newest release that has it")
	flags.StringVar(&dryRun, "dry-run", dryRunNone, "client: print what would be applied; server: print what the API server would make of it")
	flags.Lookup("dry-run").NoOptDefVal = dryRunClient
	flags.BoolVar(&wait, "wait", false, "wait until the cluster is healthy")
	flags.DurationVar(&timeout, "timeout", createDeadline, "how long to wait")
	out.register(cmd, "", formatYAML, formatJSON, formatName)
	for flag, find := range map[string]candidates{"site": siteNames, "release": releaseNames, "single-node": templateNames} {
		offer(cmd, flag, s.completeFlag(find))
	}
	offer(cmd, "pool", s.completePool)
	offer(cmd, "dry-run", cobra.FixedCompletions([]string{dryRunNone, dryRunClient, dryRunServer}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// completePool offers templates once the pool has a name.
func (s *session) completePool(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	name, template, named := strings.Cut(typed, "=")
	if !named || strings.Contains(template, ":") {
		return nil, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	found := s.offered(cmd, args, template, templateNames)
	for i := range found {
		found[i] = name + "=" + found[i]
	}
	return found, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

func parsePools(flags []string) ([]newPool, error) {
	var pools []newPool
	for _, text := range flags {
		name, shape, named := strings.Cut(text, "=")
		template, size, sized := strings.Cut(shape, ":")
		pool := newPool{name: name, template: template}
		if !named || name == "" || template == "" {
			return nil, usagef("--pool %q is not of the form NAME=TEMPLATE:REPLICAS, such as mig=a100-mig:2, or NAME=TEMPLATE", text)
		}
		if sized {
			replicas, err := parseReplicas(size)
			if err != nil {
				return nil, usagef("--pool %q: %w", text, err)
			}
			pool.replicas = &replicas
		}
		if slices.ContainsFunc(pools, func(other newPool) bool { return other.name == name }) {
			return nil, usagef("--pool %q: there is a pool of that name already", text)
		}
		pools = append(pools, pool)
	}
	return pools, nil
}

func parseReplicas(text string) (int32, error) {
	replicas, err := strconv.ParseInt(text, 10, 32)
	if err != nil || replicas < 0 {
		return 0, fmt.Errorf("%q is not a number of nodes", text)
	}
	return int32(replicas), nil
}

func (n newCluster) check() error {
	switch {
	case n.singleNode != "" && len(n.pools) > 0:
		return usagef("--single-node and --pool exclude each other: a cluster of one machine has no pools")
	case n.singleNode == "" && len(n.pools) == 0:
		return usagef("say what the cluster is to have: --pool NAME=TEMPLATE:REPLICAS, or --single-node TEMPLATE; see: sendan template list")
	case n.controlPlaneReplicas < 0:
		return usagef("--control-plane-replicas %d is not a number of nodes", n.controlPlaneReplicas)
	}
	return nil
}

// object has only what was asked for, so that the rest stays the fleet manager's to decide.
func (n newCluster) object() (*unstructured.Unstructured, error) {
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Name: n.name, Namespace: n.namespace}}
	for label, value := range map[string]string{
		fleetv1.SiteLabel: n.site, fleetv1.ReleaseLabel: n.release, fleetv1.ChannelLabel: n.channel, fleetv1.SingleNodeLabel: n.singleNode,
	} {
		if value != "" {
			metav1.SetMetaDataLabel(&cluster.ObjectMeta, label, value)
		}
	}
	topology := &cluster.Spec.Topology
	topology.Version = n.version
	if n.controlPlaneReplicas > 0 {
		topology.ControlPlane.Replicas = &n.controlPlaneReplicas
	}
	for _, pool := range n.pools {
		topology.Workers.MachineDeployments = append(topology.Workers.MachineDeployments,
			clusterv1.MachineDeploymentTopology{Name: pool.name, Class: pool.template, Replicas: pool.replicas})
	}
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(cluster)
	if err != nil {
		return nil, fmt.Errorf("build the Cluster: %w", err)
	}
	if content["spec"] == nil {
		content["spec"] = map[string]any{} // the kind requires it
	}
	object := &unstructured.Unstructured{Object: content}
	object.SetGroupVersionKind(clusterv1.GroupVersion.WithKind("Cluster"))
	return object, nil
}

func (c *connection) showManifest(in newCluster, out output) error {
	object, err := in.object()
	if err != nil {
		return err
	}
	if out.format == "" {
		out.format = formatYAML
	}
	return out.objects(c.cmd.OutOrStdout(), c.Scheme(), object)
}

// create takes nothing from another owner, and never changes a cluster that is there: applying without a pool would remove
// the pool.
func (c *connection) create(ctx context.Context, in newCluster, dryRun bool, out output) error {
	object, err := in.object()
	if err != nil {
		return err
	}
	there := object.DeepCopy()
	if err := c.Get(ctx, c.key(in.name), there); err == nil {
		return fmt.Errorf("cluster %q is in namespace %s already; change it with sendan cluster scale, or with kubectl", in.name, in.namespace)
	} else if !apierrors.IsNotFound(err) {
		return fmt.Errorf("look for Cluster %s: %w", in.name, err)
	}
	options := []client.ApplyOption{fieldOwner}
	if dryRun {
		options = append(options, client.DryRunAll)
	}
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), options...); err != nil {
		return fmt.Errorf("create cluster %s: %w", in.name, err)
	}
	if out.format == "" && dryRun {
		out.format = formatYAML
	}
	if out.format != "" {
		return out.objects(c.cmd.OutOrStdout(), c.Scheme(), object)
	}
	version, _, _ := unstructured.NestedString(object.Object, "spec", "topology", "version")
	labels := object.GetLabels()
	c.printf("%s/%s created: site %s, release %s, Kubernetes %s\n", clusterResource, in.name,
		orDash(labels[fleetv1.SiteLabel]), orDash(labels[fleetv1.ReleaseLabel]), orDash(version))
	return nil
}

func (c *connection) waitUntilHealthy(ctx context.Context, name string, within time.Duration) error {
	return c.wait(ctx, within, func(ctx context.Context) (string, error) {
		member := &fleetv1.FleetMember{}
		err := c.Get(ctx, c.key(name), member)
		switch {
		case apierrors.IsNotFound(err):
			return "waiting for the fleet manager to record the cluster", nil
		case err != nil:
			return "", fmt.Errorf("get FleetMember %s: %w", name, err)
		case member.Status.Health == fleetv1.HealthHealthy:
			c.printf("%s/%s is healthy: %s nodes\n", clusterResource, name, member.Status.Nodes.Text)
			return "", nil
		}
		health := orDash(string(member.Status.Health))
		return strings.TrimSuffix(health+": "+oneLine(condition(member.Status.Conditions, fleetv1.ReadyCondition).Message), ": "), nil
	})
}
