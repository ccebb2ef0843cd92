package scale

import (
	"fmt"
	"slices"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	// passesWithin is how long several passes over all clusters may take on a machine that does other work as well.
	passesWithin = 10 * time.Minute
	somePasses   = 3
)

const console = `
apiVersion: v1
kind: ConfigMap
metadata: {name: console, namespace: kube-system}
data: {cluster: "${CLUSTER_NAMESPACE}/${CLUSTER_NAME}"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: console, namespace: kube-system}
spec:
  replicas: 2
  selector: {matchLabels: {app: console}}
  template:
    metadata: {labels: {app: console}}
    spec:
      containers:
      - {name: console, image: "example/console:v1"}
`

// addons that every cluster gets, beside the one that the demo's release has: another that ships with the fleet manager, and one
// of a platform team's own.
func addons() []*fleetv1.Addon {
	addon := func(name, version string, source fleetv1.AddonSource, variables ...fleetv1.AddonVariable) *fleetv1.Addon {
		return &fleetv1.Addon{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: fleetv1.AddonSpec{
			ClusterSelector: &metav1.LabelSelector{}, Variables: variables, Versions: []fleetv1.AddonVersion{{Version: version, Source: source}},
		}}
	}
	return []*fleetv1.Addon{
		addon("local-dns", "v1.26.4", fleetv1.AddonSource{Builtin: "local-dns"}, fleetv1.AddonVariable{Name: "LOCAL_DNS_IMAGE", Value: ptr.To("example/local-dns:v1.26.4")}),
		addon("console", "v1", fleetv1.AddonSource{Manifests: console}),
	}
}

// addonsOfRelease is how many the demo's has.
const addonsOfRelease = 1

// createAddons returns how many there are then in each cluster.
func (f *fleet) createAddons(t testing.TB) int {
	t.Helper()
	all := addons()
	for _, addon := range all {
		f.create(t, addon)
	}
	return addonsOfRelease + len(all)
}

func TestASettledFleetIsNotWrittenTo(t *testing.T) {
	const quietSite = "--site-interval=1h" // the time of a look is written
	f := startFleet(t, "--addon-interval=1s", quietSite)
	count := f.createAddons(t)
	f.addClusters(t, crowd, 17)
	f.addClusters(t, few, 3)
	f.awaitSettled(t, count)

	writesBefore := countObjectWrites(t, f.Env)
	_, managementBefore := f.manager.toManagement(t)
	_, _, _, tenantsBefore := f.requestsToTenants()
	versionsBefore := f.versions()
	f.awaitPasses(t, somePasses)
	if _, writes := f.manager.toManagement(t); writes != managementBefore {
		t.Errorf("the management cluster was written to %d times: %v", writes-managementBefore, countObjectWrites(t, f.Env).since(writesBefore))
	}
	if _, _, _, writes := f.requestsToTenants(); writes != tenantsBefore {
		t.Errorf("tenant clusters were written to %d times", writes-tenantsBefore)
	}
	if versions := f.versions(); !slices.Equal(versions, versionsBefore) {
		t.Errorf("tenant clusters went from the versions %d to %d", versionsBefore, versions)
	}

	// No pass is due now: the workload itself has to tell of the drift.
	f.manager.arguments = append(f.manager.arguments, "--addon-interval=1h")
	f.restart(t)
	f.awaitSettled(t, count)
	drifted := f.clusters[4]
	ownBefore := drifted.writes.Load()
	f.drift(t, drifted)
	_, _, _, tenantsAfter := f.requestsToTenants()
	if own, all := drifted.writes.Load()-ownBefore, tenantsAfter-tenantsBefore; own != 1 || all != 1 {
		t.Errorf("a drift in one cluster was corrected by %d writes to it and %d to all", own, all)
	}
}

// drift changes what an add-on has in a cluster, and returns when it is as before.
func (f *fleet) drift(t testing.TB, cluster *tenantCluster) {
	t.Helper()
	image := func(set *appsv1.DaemonSet) *string { return &set.Spec.Template.Spec.Containers[0].Image }
	err := kubeapi.Modify(cluster.api, metav1.NamespaceSystem, "node-local-dns", func(set *appsv1.DaemonSet) { *image(set) = "example/other:v1" })
	if err != nil {
		t.Fatal(err)
	}
	envtest.Eventually(t, passesWithin, func() error {
		set := &appsv1.DaemonSet{}
		if err := kubeapi.Get(cluster.api, metav1.NamespaceSystem, "node-local-dns", set); err != nil {
			return err
		}
		if got := *image(set); got != "example/local-dns:v1.26.4" {
			return fmt.Errorf("the image is %s", got)
		}
		return nil
	})
}

// awaitPasses returns when every cluster has been looked at that many times more.
func (f *fleet) awaitPasses(t testing.TB, count int64) {
	t.Helper()
	var before []int64
	for _, cluster := range f.clusters {
		before = append(before, cluster.passes.Load())
	}
	envtest.Eventually(t, passesWithin, func() error {
		for i, cluster := range f.clusters {
			if passes := cluster.passes.Load() - before[i]; passes < count {
				return fmt.Errorf("cluster %d was looked at %d times", i, passes)
			}
		}
		return nil
	})
}
