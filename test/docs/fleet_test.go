package docs_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/addons"
	"github.com/sendan-io/sendan/fleet/sites"
	"github.com/sendan-io/sendan/fleet/templates"
	"github.com/sendan-io/sendan/fleet/tenancy"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	fleetNamespace = "sendan-fleet-system"
	platformReady  = time.Minute
	cachesCatchUp  = 10 * time.Second
)

func tenancyOptions() tenancy.Options {
	return tenancy.Options{SystemNamespace: fleetNamespace, Clock: clockwork.NewRealClock(), Turns: tenancy.NewTurns()}
}

// fleetWebhooks are all that the fleet manager serves.
func fleetWebhooks() []func(ctrl.Manager) error {
	return []func(ctrl.Manager) error{
		sites.SetupWebhooksWithManager, templates.SetupWebhooksWithManager(fleetNamespace),
		tenancy.SetupWebhooksWithManager(tenancyOptions()), addons.SetupWebhooksWithManager,
	}
}

// isOfPlatform reports that an example is something that clusters are made of.
func (e example) isOfPlatform() bool {
	return e.content["apiVersion"] == fleetv1.GroupVersion.String() && e.content["kind"] != "FleetMember"
}

// applyPlatform makes, for once not as a dry run, the sites, templates, releases and tenants of all pages, so that the
// clusters of the pages can be made of them.
func applyPlatform(t *testing.T, env *envtest.Env, all []example) {
	t.Helper()
	order := []string{"Site", "NodeTemplate", "Release", "Tenant", "Addon"}
	platform := slices.DeleteFunc(slices.Clone(all), func(e example) bool { return !e.isOfPlatform() })
	slices.SortStableFunc(platform, func(a, b example) int {
		return slices.Index(order, a.content["kind"].(string)) - slices.Index(order, b.content["kind"].(string))
	})
	ensureNamespaceNamed(t, env.Client, fleetNamespace)
	for _, e := range platform {
		object := &unstructured.Unstructured{Object: e.content}
		err := env.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.FieldOwner("platform"), client.ForceOwnership)
		if err != nil {
			t.Errorf("%s %s %s: %v", e.where, object.GetKind(), object.GetName(), err)
		}
	}
	describeSites(t, env)
	runPlatform(t, env)
}

// describeSites writes what the controller of Sites would read from clouds that have everything.
func describeSites(t *testing.T, env *envtest.Env) {
	t.Helper()
	var all fleetv1.SiteList
	var nodes fleetv1.NodeTemplateList
	var releases fleetv1.ReleaseList
	for _, list := range []client.ObjectList{&all, &nodes, &releases} {
		if err := env.Client.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
	}
	for _, site := range all.Items {
		add := func(flavor fleetv1.SiteFlavor) {
			flavor.Name = inCloud(site.Spec.Flavors, flavor.Name)
			if !slices.ContainsFunc(site.Status.Flavors, func(f fleetv1.SiteFlavor) bool { return f.Name == flavor.Name }) {
				site.Status.Flavors = append(site.Status.Flavors, flavor)
			}
		}
		for _, node := range nodes.Items {
			flavor := fleetv1.SiteFlavor{Name: node.Spec.Flavor, VCPUs: 64, MemoryMiB: 524_288}
			if node.Spec.GPU != nil {
				flavor.GPUModel, flavor.GPUs = node.Spec.GPU.Model, node.Spec.GPU.Count
			}
			add(flavor)
		}
		for _, release := range releases.Items {
			add(fleetv1.SiteFlavor{Name: release.Spec.ControlPlane.Flavor, VCPUs: 4, MemoryMiB: 8192})
			for _, image := range release.Spec.Images {
				site.Status.Images = append(site.Status.Images, inCloud(site.Spec.Images, image.Image))
			}
		}
		slices.Sort(site.Status.Images)
		site.Status.Images = slices.Compact(site.Status.Images)
		if err := env.Client.Status().Update(t.Context(), &site); err != nil {
			t.Fatal(err)
		}
	}
}

func inCloud(names []fleetv1.NameInCloud, name string) string {
	for _, entry := range names {
		if entry.Name == name {
			return entry.NameInCloud
		}
	}
	return name
}

// runPlatform returns when releases are compiled and tenants have their namespaces.
func runPlatform(t *testing.T, env *envtest.Env) {
	t.Helper()
	mgr, err := ctrl.NewManager(env.Config, ctrl.Options{
		Scheme: env.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := templates.SetupWithManager(mgr, templates.Options{SystemNamespace: fleetNamespace, Clock: clockwork.NewRealClock()}); err != nil {
		t.Fatal(err)
	}
	if err := tenancy.SetupWithManager(t.Context(), mgr, tenancyOptions()); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
	envtest.Eventually(t, platformReady, func() error { return env.PlatformUnready(t.Context()) })
}

// dryRun applies an example as a reader would. The caches of webhooks may still be a moment behind the platform.
func dryRun(t *testing.T, c client.Client, object *unstructured.Unstructured) error {
	t.Helper()
	apply := func() error {
		return c.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.DryRunAll, client.FieldOwner("reader"), client.ForceOwnership)
	}
	err := apply()
	if object.GetKind() != "Cluster" || err == nil || !apierrors.IsInvalid(err) && !strings.Contains(err.Error(), "denied") {
		return err
	}
	envtest.Eventually(t, cachesCatchUp, apply)
	return nil
}

// TestTheShortClusterOfThePagesIsAsShortAsPromised keeps what a tenant has to write to fifteen lines.
func TestTheShortClusterOfThePagesIsAsShortAsPromised(t *testing.T) {
	found := 0
	for _, page := range pages(t) {
		for _, block := range page.blocks {
			if page.name != "README.md" || block.language != "yaml" || !strings.Contains(block.text, "kind: Cluster\n") {
				continue
			}
			found++
			if lines := len(strings.Split(strings.TrimSpace(block.text), "\n")); lines > 15 {
				t.Errorf("%s:%d has %d lines", page.name, block.line, lines)
			}
		}
	}
	if found == 0 {
		t.Error("README.md shows no Cluster")
	}
}
