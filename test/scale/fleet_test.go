package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
	demomanifests "github.com/sendan-io/sendan/templates/demo"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	// crowd is a tenant that has nearly all clusters, few one that has ten.
	crowd = "crowd"
	few   = "few"

	platformReadyWithin = 3 * time.Minute
	settlesWithin       = 30 * time.Minute
	// atOnce is how many clusters are made at the same time.
	atOnce = 8
	// quietFor is how many looks in a row see no write of a settled fleet manager.
	quietFor = 5
)

// fleet is a management cluster with a fleet manager and its tenant clusters.
type fleet struct {
	*envtest.Env
	manager  *manager
	types    *kubeapi.Types
	clusters []*tenantCluster
}

// startFleet returns when tenants can make clusters. The platform is that of the demo, in a simulated cloud.
func startFleet(t testing.TB, arguments ...string) *fleet {
	t.Helper()
	program := buildProgram(t, "fleet-manager")
	f := &fleet{Env: envtest.Start(t), types: kubeapi.NewTypes()}
	cloudURL, cloud := startCloud(t)
	f.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}})
	f.create(t, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "tokyo-cloud"},
		Data:       map[string][]byte{"clouds.yaml": cloud.CloudsYAML(cloudURL, "demo")},
	})
	f.manager = newManager(t, f.Env, program, append(arguments, "--system-namespace="+systemNamespace)...)
	f.manager.start(t)
	f.CallFleetManager(t, f.manager.webhooks)
	for _, object := range platform(t) {
		if err := f.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("platform")); err != nil {
			t.Fatalf("apply %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
	for _, name := range []string{crowd, few} {
		f.create(t, tenant(name))
	}
	envtest.Eventually(t, platformReadyWithin, func() error { return f.PlatformUnready(t.Context()) })
	return f
}

func startCloud(t testing.TB) (string, *simulator.Simulator) {
	t.Helper()
	cloud, err := simulator.New(simulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(cloud)
	t.Cleanup(func() { server.Close(); cloud.Close() })
	return server.URL, cloud
}

func platform(t testing.TB) []*unstructured.Unstructured {
	t.Helper()
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(demomanifests.Platform), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, object)
	}
}

// tenant has a quota of everything, which all its clusters count against.
func tenant(name string) *fleetv1.Tenant {
	const plenty = 1_000_000
	made := &fleetv1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}}
	made.Spec.Sites, made.Spec.NodeTemplates = []string{"*"}, []string{"*"}
	made.Spec.Quota = fleetv1.TenantQuota{
		Clusters: ptr.To[int64](plenty), Nodes: ptr.To[int64](plenty), VCPUs: ptr.To[int64](plenty), MemoryGiB: ptr.To[int64](100 * plenty),
		GPUs:      []fleetv1.GPUQuota{{Model: "H100-80GB", Count: ptr.To[int64](plenty)}},
		MIGSlices: []fleetv1.MIGSliceQuota{{Profile: "1g.5gb", Count: ptr.To[int64](plenty)}},
	}
	return made
}

func (f *fleet) create(t testing.TB, object client.Object) {
	t.Helper()
	if err := f.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// addClusters makes that many clusters that are up.
func (f *fleet) addClusters(t testing.TB, tenant string, count int) {
	t.Helper()
	first := len(f.clusters)
	f.clusters = append(f.clusters, make([]*tenantCluster, count)...)
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(atOnce)
	for i := range count {
		name := fmt.Sprintf("%s-%04d", tenant, i)
		f.clusters[first+i] = startTenant(t, f.types, nodesOf(name))
		group.Go(func() error { return f.addCluster(ctx, tenant, name, f.clusters[first+i].kubeconfig) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

func (f *fleet) addCluster(ctx context.Context, tenant, name string, kubeconfig []byte) error {
	cluster := clusterOfTenant(tenant, name)
	provision(cluster)
	if err := f.Client.Create(ctx, cluster); err != nil {
		return fmt.Errorf("create the Cluster %s: %w", name, err)
	}
	var workers int32
	for _, pool := range pools() {
		workers += pool.nodes
	}
	status := part{object: cluster, setStatus: func() { cluster.Status = clusterStatus(workers) }}
	for _, part := range partsOf(cluster, kubeconfig) {
		if err := f.Client.Create(ctx, part.object); err != nil {
			return fmt.Errorf("create %T %s: %w", part.object, part.object.GetName(), err)
		}
		if err := f.writeStatus(ctx, part); err != nil {
			return err
		}
	}
	return f.writeStatus(ctx, status)
}

func (f *fleet) writeStatus(ctx context.Context, part part) error {
	if part.setStatus == nil {
		return nil
	}
	before := part.object.DeepCopyObject().(client.Object)
	part.setStatus()
	if err := f.Client.Status().Patch(ctx, part.object, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("write the status of %T %s: %w", part.object, part.object.GetName(), err)
	}
	return nil
}

// restart makes a fleet manager begin with all that there is.
func (f *fleet) restart(t testing.TB) {
	t.Helper()
	f.manager.stop(t)
	f.manager.start(t)
}

// awaitSettled returns when every cluster has its FleetMember, which is Healthy with so many add-ons, and the fleet manager
// writes nothing anymore.
func (f *fleet) awaitSettled(t testing.TB, addons int) {
	t.Helper()
	f.awaitQuiet(t, func() error { return f.unsettled(t.Context(), addons) })
}

// awaitQuiet returns when the fleet manager writes nothing any more and nothing else is wrong.
func (f *fleet) awaitQuiet(t testing.TB, wrong func() error) {
	t.Helper()
	quiet, before := 0, -1
	var last error
	each(t, settlesWithin, time.Second, func() bool {
		f.writeLease(t)
		if _, writes := f.manager.toManagement(t); writes != before {
			quiet, before = 0, writes
			last = fmt.Errorf("it has written %d times", writes)
			return false
		}
		if quiet++; quiet < quietFor {
			return false
		}
		last = wrong()
		return last == nil
	}, func() { t.Fatalf("the fleet does not settle: %v", last) })
}

// writeLease returns when what others wrote before is stored: a disk that stalls for some seconds is not silence of theirs.
func (f *fleet) writeLease(t testing.TB) {
	t.Helper()
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "settled"}}
	_, err := controllerutil.CreateOrUpdate(t.Context(), f.Client, lease, func() error {
		lease.Spec.RenewTime = ptr.To(metav1.NowMicro())
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// each looks again and again until done says so.
func each(t testing.TB, within, interval time.Duration, done func() bool, late func()) {
	t.Helper()
	deadline, ticker := time.After(within), time.NewTicker(interval)
	defer ticker.Stop()
	for !done() {
		select {
		case <-deadline:
			late()
		case <-ticker.C:
		}
	}
}

func (f *fleet) unsettled(ctx context.Context, addons int) error {
	var members fleetv1.FleetMemberList
	if err := f.Client.List(ctx, &members); err != nil {
		return err
	}
	if len(members.Items) != len(f.clusters) {
		return fmt.Errorf("there are %d FleetMembers", len(members.Items))
	}
	for i := range members.Items {
		member := &members.Items[i]
		isUp := func(addon fleetv1.MemberAddon) bool { return addon.Phase == fleetv1.AddonHealthy }
		if member.Status.Health != fleetv1.HealthHealthy || len(member.Status.Addons) != addons || slices.ContainsFunc(member.Status.Addons, func(a fleetv1.MemberAddon) bool { return !isUp(a) }) {
			return fmt.Errorf("%s is %s with the add-ons %+v: %+v", member.Name, member.Status.Health, member.Status.Addons, member.Status.Conditions)
		}
	}
	var tenants fleetv1.TenantList
	if err := f.Client.List(ctx, &tenants); err != nil {
		return err
	}
	for _, tenant := range tenants.Items {
		if growths := tenant.Status.PendingGrowths; len(growths) > 0 {
			return fmt.Errorf("of tenant %s are pending: %+v", tenant.Name, growths)
		}
	}
	return f.devicesUnready(ctx)
}

func (f *fleet) devicesUnready(ctx context.Context) error {
	var machines clusterv1.MachineList
	if err := f.Client.List(ctx, &machines, client.HasLabels{fleetv1.NodeTemplateLabel}); err != nil {
		return err
	}
	for i := range machines.Items {
		if !meta.IsStatusConditionTrue(machines.Items[i].Status.Conditions, fleetv1.DevicesReadyCondition) {
			return fmt.Errorf("%s: %+v", machines.Items[i].Name, machines.Items[i].Status.Conditions)
		}
	}
	return nil
}

// requestsToTenants adds up those to all tenant clusters.
func (f *fleet) requestsToTenants() (passes, reads, dryRuns, writes int64) {
	for _, cluster := range f.clusters {
		passes, reads = passes+cluster.passes.Load(), reads+cluster.reads.Load()
		dryRuns, writes = dryRuns+cluster.dryRuns.Load(), writes+cluster.writes.Load()
	}
	return passes, reads, dryRuns, writes
}

// versions are those of all tenant clusters' stores: any write changes one.
func (f *fleet) versions() []uint64 {
	var versions []uint64
	for _, cluster := range f.clusters {
		versions = append(versions, cluster.api.Save().Version)
	}
	return versions
}
