package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

const (
	controlPlaneNodes = 3
	firstFlavor       = "g1.a100.8"
	secondFlavor      = "g1.a100.4"
	// activeServer is how Nova calls a server that runs.
	activeServer = "ACTIVE"
)

// wantedPool is what a pool of workers should have.
type wantedPool struct {
	flavor string
	nodes  int
	// resource that each node offers, and how many.
	resource corev1.ResourceName
	count    int64
	// spread says that Sendan keeps a server group for it.
	spread bool
}

// How long each step may take. They are generous: a hang is to be told from a slow machine.
const (
	scaleDeadline   = 5 * time.Minute
	replaceDeadline = 8 * time.Minute
	deleteDeadline  = 8 * time.Minute
)

// verdictError is a failure that was already told, in the last line.
type verdictError struct{ error }

func (e verdictError) Unwrap() error { return e.error }

// verdict is what a check comes to.
type verdict struct {
	readyAfter time.Duration
	calls      int
	// kills of the provider; none unless asked for.
	kills       int
	objectsLeft int
	err         error
}

func (v verdict) String() string {
	if v.err != nil {
		reason, _, _ := strings.Cut(v.err.Error(), "\n")
		return "demo: FAIL " + reason
	}
	kills := ""
	if v.kills > 0 {
		kills = fmt.Sprintf("kills=%d ", v.kills)
	}
	return fmt.Sprintf("demo: PASS ready=%.0f calls=%d %sobjects_left=%d", v.readyAfter.Seconds(), v.calls, kills, v.objectsLeft)
}

// runCheck prints the verdict last, after everything has stopped.
func runCheck(ctx context.Context, out, errOut io.Writer, flags planeFlags, chaos chaosFlags) error {
	v := check(ctx, out, errOut, flags, chaos)
	_, _ = fmt.Fprintln(out, v)
	if v.err != nil {
		return verdictError{v.err}
	}
	return nil
}

func check(ctx context.Context, out, errOut io.Writer, flags planeFlags, chaos chaosFlags) verdict {
	remove := func() {}
	if flags.stateDir == "" {
		dir, err := os.MkdirTemp("", "sendan-check-")
		if err != nil {
			return verdict{err: fmt.Errorf("make a state directory: %w", err)}
		}
		flags.stateDir = dir
		remove = func() { _ = os.RemoveAll(dir) }
	}
	d, err := startDemo(ctx, flags, chaos.kills == 0, reportTo(out))
	if err != nil {
		_, _ = fmt.Fprintln(errOut, err)
		return verdict{err: err}
	}
	c := &checker{demo: d, out: out, realNodes: flags.backend == plane.DockerBackend, killer: newKiller(d, out, chaos)}
	v := c.run(ctx)
	if v.err != nil {
		d.diagnose(ctx, errOut)
	}
	d.plane.Stop()
	if v.err == nil {
		remove()
	} else {
		_, _ = fmt.Fprintf(errOut, "logs are kept in %s\n", d.plane.Layout().Logs())
	}
	return v
}

// checker leads one cluster through its life.
type checker struct {
	*demo
	out io.Writer
	// realNodes run pods, but have no GPUs: no container pretends to.
	realNodes bool
	// failedHost is a hypervisor without power, and failedServers how many servers it had.
	failedHost    string
	failedServers int
	// killer of the provider, nil when it is left alone.
	killer *killer
	// pools that the cluster should have now, by name.
	pools map[string]*wantedPool
	// notebook is a second cluster, of one machine.
	notebook *tenant
	// replaced is the worker that a new flavor has to replace.
	replaced   string
	readyAfter time.Duration
}

// step changes something and waits until nothing is missing.
type step struct {
	name    string
	within  time.Duration
	act     func(context.Context) error
	missing func(context.Context) error
	// killing of the provider while waiting; nil for none.
	killing *killPhase
}

// steps of a cluster's life. One during which the provider is killed has only a beginning and an end.
func (c *checker) steps() []step {
	create := step{name: "create", within: readyDeadline, act: c.create, missing: c.clusterAsWanted}
	remove := step{name: "delete", within: deleteDeadline, act: c.delete, missing: c.nothingLeft}
	if c.killer != nil {
		creation, deletion := creationPhase(), deletionPhase()
		create.killing, remove.killing = &creation, &deletion
		return []step{create, remove}
	}
	if c.isFleet() {
		return c.stepsOfFleet(create, remove)
	}
	steps := []step{create}
	if c.realNodes {
		steps = append(steps, c.stepsOfRealNodes()...)
	}
	return append(steps,
		step{name: "scale the workers to 5", within: scaleDeadline, act: c.scaleTo(5), missing: c.clusterAsWanted},
		step{name: "scale the workers to 1", within: scaleDeadline, act: c.scaleTo(1), missing: c.clusterAsWanted},
		step{name: "replace flavor " + firstFlavor + " by " + secondFlavor, within: replaceDeadline, act: c.changeFlavor, missing: c.flavorReplaced},
		remove,
	)
}

func (c *checker) run(ctx context.Context) verdict {
	for _, s := range c.steps() {
		if err := c.do(ctx, s); err != nil {
			return verdict{err: fmt.Errorf("%s: %w", s.name, err)}
		}
	}
	return c.conclude(ctx)
}

func (c *checker) do(ctx context.Context, s step) error {
	started := c.clock.Now()
	if err := s.act(ctx); err != nil {
		return err
	}
	if err := c.await(ctx, s); err != nil {
		return err
	}
	took := c.clock.Since(started)
	if c.readyAfter == 0 {
		c.readyAfter = took
	}
	calls, err := c.cloud.calls(ctx)
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(c.out, "  %-42s done after %5.1fs, %4d calls so far\n", s.name, took.Seconds(), calls)
	if s.killing == nil {
		return nil
	}
	return staysSo(ctx, c.clock, quietPeriod, s.missing)
}

// await waits for the end of a step, and kills the provider on the way if it has to.
func (c *checker) await(ctx context.Context, s step) error {
	if s.killing == nil {
		return waitUntil(ctx, c.clock, s.within, s.missing)
	}
	finishKilling := c.killer.start(ctx, *s.killing)
	err := waitUntil(ctx, c.clock, s.within, s.missing)
	return errors.Join(err, finishKilling())
}

func (c *checker) create(ctx context.Context) error {
	c.pools = map[string]*wantedPool{demoPool: {flavor: firstFlavor, nodes: 2, resource: gpuResource, count: 8, spread: true}}
	if c.isFleet() {
		c.pools = fleetPools()
	}
	return c.apply(ctx)
}

// workers of all pools.
func (c *checker) workers() int {
	workers := 0
	for _, pool := range c.pools {
		workers += pool.nodes
	}
	return workers
}

func (c *checker) scaleTo(workers int) func(context.Context) error {
	return func(ctx context.Context) error {
		c.pools[demoPool].nodes = workers
		return c.changePool(ctx, func(pool *clusterv1.MachineDeployment) {
			count := int32(workers)
			pool.Spec.Replicas = &count
		})
	}
}

// changeFlavor does what a user does: a template of another name, since templates do not change.
func (c *checker) changeFlavor(ctx context.Context) error {
	s, err := c.tenant.state(ctx)
	if err != nil {
		return err
	}
	for _, machine := range s.machines {
		if !isControlPlane(machine) {
			c.replaced = machine.Name
		}
	}
	pool, err := theOnlyPool(s)
	if err != nil {
		return err
	}
	current := &infrav1.SendanMachineTemplate{}
	key := client.ObjectKey{Namespace: c.tenant.namespace, Name: pool.Spec.Template.Spec.InfrastructureRef.Name}
	if err := c.tenant.client.Get(ctx, key, current); err != nil {
		return fmt.Errorf("get SendanMachineTemplate %s: %w", key.Name, err)
	}
	next := &infrav1.SendanMachineTemplate{Spec: *current.Spec.DeepCopy()}
	next.Namespace, next.Name = current.Namespace, current.Name+"-2"
	next.Spec.Template.Spec.Flavor = secondFlavor
	if err := c.tenant.client.Create(ctx, next); err != nil {
		return fmt.Errorf("create SendanMachineTemplate %s: %w", next.Name, err)
	}
	c.pools[demoPool].flavor, c.pools[demoPool].count = secondFlavor, 4
	return c.changePool(ctx, func(pool *clusterv1.MachineDeployment) {
		pool.Spec.Template.Spec.InfrastructureRef.Name = next.Name
	})
}

func (c *checker) changePool(ctx context.Context, change func(*clusterv1.MachineDeployment)) error {
	s, err := c.tenant.state(ctx)
	if err != nil {
		return err
	}
	pool, err := theOnlyPool(s)
	if err != nil {
		return err
	}
	before := client.MergeFrom(pool.DeepCopy())
	change(pool)
	if err := c.tenant.client.Patch(ctx, pool, before); err != nil {
		return fmt.Errorf("change MachineDeployment %s: %w", pool.Name, err)
	}
	return nil
}

func theOnlyPool(s *state) (*clusterv1.MachineDeployment, error) {
	if len(s.pools) != 1 {
		return nil, fmt.Errorf("there are %d MachineDeployments, there should be one", len(s.pools))
	}
	return &s.pools[0], nil
}

// clusterAsWanted looks at the management API, at the cluster's own API and at the cloud: all three
// have to agree.
func (c *checker) clusterAsWanted(ctx context.Context) error {
	s, err := c.tenant.state(ctx)
	if err != nil {
		return err
	}
	if err := s.unready(); err != nil {
		return err
	}
	nodes, err := c.tenant.nodes(ctx)
	if err != nil {
		return err
	}
	wanted := controlPlaneNodes + c.workers()
	if err := nodesUnready(nodes, wanted); err != nil {
		return err
	}
	if err := c.workersAsWanted(nodes); err != nil {
		return err
	}
	if err := c.serversAsWanted(ctx, wanted); err != nil {
		return err
	}
	objects, err := c.cloud.objects(ctx)
	if err != nil {
		return err
	}
	return objects.difference(clusterObjects(c.pools))
}

// workersAsWanted tells the pools apart by what the cloud controller manager labels nodes with.
func (c *checker) workersAsWanted(nodes []corev1.Node) error {
	if c.realNodes {
		return nil
	}
	for _, node := range nodes {
		if _, found := node.Labels[controlPlaneLabel]; found {
			continue
		}
		for _, pool := range c.pools {
			offered := node.Status.Allocatable[pool.resource]
			if pool.flavor == node.Labels[corev1.LabelInstanceTypeStable] && offered.Value() != pool.count {
				return fmt.Errorf("node %s offers %d %s, it should offer %d", node.Name, offered.Value(), pool.resource, pool.count)
			}
		}
	}
	return nil
}

// serversAsWanted believes neither API server and looks at what the cloud has.
func (c *checker) serversAsWanted(ctx context.Context, wanted int) error {
	servers, err := c.cloud.servers(ctx)
	if err != nil {
		return err
	}
	byFlavor := map[string]int{}
	for _, server := range servers {
		if server.Status != activeServer {
			return fmt.Errorf("server %s is %s", server.Name, server.Status)
		}
		byFlavor[server.Flavor]++
	}
	if err := c.containersAsWanted(ctx, wanted); err != nil {
		return err
	}
	for _, pool := range c.pools {
		if len(servers) != wanted || byFlavor[pool.flavor] != pool.nodes {
			return fmt.Errorf("the cloud has %d servers, %d of flavor %s; there should be %d and %d", len(servers), byFlavor[pool.flavor], pool.flavor, wanted, pool.nodes)
		}
	}
	return nil
}

func (c *checker) flavorReplaced(ctx context.Context) error {
	if err := c.clusterAsWanted(ctx); err != nil {
		return err
	}
	s, err := c.tenant.state(ctx)
	if err != nil {
		return err
	}
	for _, machine := range s.machines {
		if machine.Name == c.replaced {
			return fmt.Errorf("machine %s of the old flavor is still there", machine.Name)
		}
	}
	return nil
}

func (c *checker) delete(ctx context.Context) error { return c.tenant.delete(ctx) }

func (c *checker) nothingLeft(ctx context.Context) error {
	s, err := c.tenant.state(ctx)
	if err != nil {
		return err
	}
	if s.cluster != nil {
		return fmt.Errorf("the Cluster is still there: %s", deletionText(s.cluster))
	}
	if len(s.machines) != 0 || len(s.servers) != 0 || s.infrastructure != nil {
		return fmt.Errorf("%d Machines, %d SendanMachines or the SendanCluster are still there", len(s.machines), len(s.servers))
	}
	if err := c.dependentsGone(ctx); err != nil {
		return err
	}
	if err := c.fleetForgets(ctx); err != nil {
		return err
	}
	objects, err := c.cloud.objects(ctx)
	if err != nil {
		return err
	}
	if objects.total() != 0 {
		return fmt.Errorf("the cloud still has %s", objects)
	}
	return c.containersAsWanted(ctx, 0)
}

// dependentsGone looks for what garbage collection removes with a Cluster. The Secret with the
// credentials stays: it is the user's.
func (c *checker) dependentsGone(ctx context.Context) error {
	secrets := &corev1.SecretList{}
	if err := c.tenant.client.List(ctx, secrets, client.InNamespace(c.tenant.namespace), client.MatchingLabels{clusterv1.ClusterNameLabel: c.tenant.name}); err != nil {
		return fmt.Errorf("list Secrets: %w", err)
	}
	if len(secrets.Items) != 0 {
		return fmt.Errorf("%d Secrets of the cluster are still there, such as %s", len(secrets.Items), secrets.Items[0].Name)
	}
	templates := &infrav1.SendanMachineTemplateList{}
	if err := c.tenant.client.List(ctx, templates, client.InNamespace(c.tenant.namespace)); err != nil {
		return fmt.Errorf("list SendanMachineTemplates: %w", err)
	}
	if len(templates.Items) != 0 {
		return fmt.Errorf("%d SendanMachineTemplates are still there, such as %s", len(templates.Items), templates.Items[0].Name)
	}
	return nil
}

func deletionText(cluster *clusterv1.Cluster) string {
	if err := conditionIsTrue(cluster.Status.Conditions, clusterv1.DeletingCondition); err != nil {
		return err.Error()
	}
	for _, condition := range cluster.Status.Conditions {
		if condition.Type == clusterv1.DeletingCondition {
			return oneLine(condition.Message)
		}
	}
	return ""
}

func (c *checker) conclude(ctx context.Context) verdict {
	calls, err := c.cloud.calls(ctx)
	if err != nil {
		return verdict{err: err}
	}
	objects, err := c.cloud.objects(ctx)
	if err != nil {
		return verdict{err: err}
	}
	if objects.total() != 0 {
		err = fmt.Errorf("the cloud has %s again", objects)
	}
	v := verdict{readyAfter: c.readyAfter, calls: calls, objectsLeft: objects.total(), err: err}
	if c.killer == nil {
		return v
	}
	v.kills = c.killer.done
	if v.err == nil && c.killer.left != 0 {
		v.err = fmt.Errorf("the cluster was gone when %d kills were still to come", c.killer.left)
	}
	return v
}
