package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
	demomanifests "github.com/sendan-io/sendan/templates/demo"
)

// Names in templates/demo/platform.yaml.
const (
	fleetNamespace = "team-vision"
	fleetTenant    = "team-vision"
	fleetSecret    = "tokyo-cloud"
	fleetRelease   = "v1-36-3"
	fleetAddon     = "nvidia-device-plugin"
)

// platformDeadline is how long the fleet manager may take to look at the cloud and to compile the release.
const platformDeadline = 2 * time.Minute

// isFleet reports that the cluster is made of a release.
func (d *demo) isFleet() bool { return d.platform != nil }

func (d *demo) announcement() string {
	if d.isFleet() {
		return `Applying templates/demo/platform.yaml: a site, node templates, an add-on, a release and a tenant.
Then templates/demo/training.yaml, the tenant's cluster: a pool of A100s partitioned by seven, and one of H100s.`
	}
	return "Applying templates/demo/cluster.yaml: 3 control-plane nodes, 2 workers."
}

// applyFleet is two people's work: the platform team's, and when that has taken effect, the tenant's.
func (d *demo) applyFleet(ctx context.Context, cloudsYAML []byte) error {
	api := d.plane.Client()
	if err := storeCredentials(ctx, api, plane.FleetNamespace, fleetSecret, cloudsYAML); err != nil {
		return err
	}
	if err := applyAll(ctx, api, d.platform); err != nil {
		return err
	}
	if err := waitUntil(ctx, d.clock, platformDeadline, d.platformUnready); err != nil {
		return err
	}
	d.started = d.clock.Now()
	return applyAll(ctx, api, d.tenant.manifests)
}

func (d *demo) platformUnready(ctx context.Context) error {
	release, tenant := &fleetv1.Release{}, &fleetv1.Tenant{}
	for name, object := range map[string]client.Object{fleetRelease: release, fleetTenant: tenant} {
		if err := d.plane.Client().Get(ctx, client.ObjectKey{Name: name}, object); err != nil {
			return err
		}
	}
	if err := conditionIsTrue(release.Status.Conditions, fleetv1.ReadyCondition); err != nil {
		return fmt.Errorf("the Release is not %w", err)
	}
	if err := conditionIsTrue(tenant.Status.Conditions, fleetv1.ReadyCondition); err != nil {
		return fmt.Errorf("the Tenant is not %w", err)
	}
	return nil
}

// fleetPools are those of templates/demo/training.yaml.
func fleetPools() map[string]*wantedPool {
	return map[string]*wantedPool{
		"mig": {flavor: "g1.a100.8", nodes: 2, resource: "nvidia.com/mig-1g.5gb", count: 56, spread: true},
		"big": {flavor: "g1.h100.8", nodes: 1, resource: gpuResource, count: 8},
	}
}

// stepsOfFleet scale the way a tenant does, in the Cluster.
func (c *checker) stepsOfFleet(create, remove step) []step {
	return []step{
		create,
		{name: "the fleet knows the cluster", within: scaleDeadline, act: func(context.Context) error { return nil }, missing: c.fleetKnows},
		{name: "a pool beyond the quota is refused", within: scaleDeadline, act: c.exceedQuota, missing: c.clusterAsWanted},
		{name: "scale pool mig to 3", within: scaleDeadline, act: c.scalePool("mig", 3), missing: c.clusterAsWanted},
		{name: "scale pool big to 0", within: scaleDeadline, act: c.scalePool("big", 0), missing: c.clusterAsWanted},
		{name: "a cluster of one machine beside it", within: readyDeadline, act: c.applyNotebook, missing: c.notebookUnready},
		{name: "delete that", within: deleteDeadline, act: c.deleteNotebook, missing: c.clusterAsWanted},
		remove,
	}
}

func (c *checker) scalePool(name string, nodes int) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := c.patchPool(ctx, name, nodes); err != nil {
			return err
		}
		c.pools[name].nodes = nodes
		return nil
	}
}

func (c *checker) patchPool(ctx context.Context, name string, nodes int) error {
	s, err := c.tenant.state(ctx)
	if err != nil {
		return err
	}
	if s.cluster == nil {
		return errors.New("the Cluster is not there")
	}
	before := client.MergeFrom(s.cluster.DeepCopy())
	count := int32(nodes) //nolint:gosec // a handful
	for i, pool := range s.cluster.Spec.Topology.Workers.MachineDeployments {
		if pool.Name == name {
			s.cluster.Spec.Topology.Workers.MachineDeployments[i].Replicas = &count
		}
	}
	return c.tenant.client.Patch(ctx, s.cluster, before)
}

// exceedQuota asks for more slices than the tenant may have.
func (c *checker) exceedQuota(ctx context.Context) error {
	err := c.patchPool(ctx, "mig", 4)
	if err == nil {
		return errors.New("four nodes of 56 slices were let in, and the quota is 168")
	}
	_, _ = fmt.Fprintf(c.out, "  %v\n", err)
	return nil
}

func (c *checker) applyNotebook(ctx context.Context) (err error) {
	if c.notebook, err = newTenant(c.tenant.client, fleetNamespace, demomanifests.Notebook); err != nil {
		return err
	}
	return applyAll(ctx, c.tenant.client, c.notebook.manifests)
}

// notebookUnready looks at the one node, which has a GPU and takes pods.
func (c *checker) notebookUnready(ctx context.Context) error {
	s, err := c.notebook.state(ctx)
	if err != nil {
		return err
	}
	if err := s.unready(); err != nil {
		return err
	}
	nodes, err := c.notebook.nodes(ctx)
	if err != nil {
		return err
	}
	if err := nodesUnready(nodes, 1); err != nil {
		return err
	}
	offered := nodes[0].Status.Allocatable[gpuResource]
	if offered.Value() != 1 || len(nodes[0].Spec.Taints) > 0 {
		return fmt.Errorf("node %s offers %d GPUs and has the taints %v", nodes[0].Name, offered.Value(), nodes[0].Spec.Taints)
	}
	return nil
}

// deleteNotebook is done when the cloud has the other cluster's objects alone.
func (c *checker) deleteNotebook(ctx context.Context) error { return c.notebook.delete(ctx) }

// fleetKnows looks at the record of the cluster and at the ledger of its tenant.
func (c *checker) fleetKnows(ctx context.Context) error {
	member, tenant := &fleetv1.FleetMember{}, &fleetv1.Tenant{}
	if err := c.tenant.client.Get(ctx, client.ObjectKey{Namespace: c.tenant.namespace, Name: c.tenant.name}, member); err != nil {
		return err
	}
	if member.Status.Health != fleetv1.HealthHealthy || member.Status.Release != fleetRelease {
		return fmt.Errorf("the FleetMember is %s, of release %s", member.Status.Health, member.Status.Release)
	}
	if addons := member.Status.Addons; len(addons) != 1 || addons[0].Name != fleetAddon || addons[0].Phase != fleetv1.AddonHealthy {
		return fmt.Errorf("the FleetMember has the add-ons %+v", addons)
	}
	if err := c.tenant.client.Get(ctx, client.ObjectKey{Name: fleetTenant}, tenant); err != nil {
		return err
	}
	wanted := fleetv1.Usage{Clusters: 1, Nodes: int64(controlPlaneNodes + c.workers())}
	if usage := tenant.Status.Usage; usage.Clusters != wanted.Clusters || usage.Nodes != wanted.Nodes || usage.MIGSlices["1g.5gb"] != 112 {
		return fmt.Errorf("the Tenant uses %+v", usage)
	}
	return nil
}

// fleetForgets is about a cluster that is gone.
func (c *checker) fleetForgets(ctx context.Context) error {
	if !c.isFleet() {
		return nil
	}
	members := &fleetv1.FleetMemberList{}
	if err := c.tenant.client.List(ctx, members); err != nil {
		return err
	}
	if len(members.Items) > 0 {
		return fmt.Errorf("the FleetMember %s is still there", members.Items[0].Name)
	}
	tenant := &fleetv1.Tenant{}
	if err := c.tenant.client.Get(ctx, client.ObjectKey{Name: fleetTenant}, tenant); err != nil {
		return err
	}
	if tenant.Status.Usage.Clusters != 0 {
		return fmt.Errorf("the Tenant still uses %+v", tenant.Status.Usage)
	}
	return nil
}
