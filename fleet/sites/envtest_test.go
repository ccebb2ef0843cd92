package sites_test

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/fleet/sites"
	"github.com/sendan-io/sendan/test/envtest"
)

const patience = 30 * time.Second

// api is a real API server with the webhook and the controller of Sites.
type api struct {
	*envtest.Env
	warnings *warnings
}

// warnings collects what the API server warns of.
type warnings struct {
	mu  sync.Mutex
	all []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, text)
}

func (w *warnings) take() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := strings.Join(w.all, "\n")
	w.all = nil
	return text
}

func TestSitesOfARealAPIServer(t *testing.T) {
	a := &api{Env: envtest.Start(t, sites.SetupWebhooksWithManager), warnings: &warnings{}}
	config := rest.CopyConfig(a.Config)
	config.WarningHandler = a.warnings
	var err error
	if a.Client, err = client.New(config, client.Options{Scheme: a.Scheme}); err != nil {
		t.Fatal(err)
	}
	a.runController(t)
	t.Run("a site is described soon after its credentials are there", a.isDescribed)
	t.Run("a site that cannot be right is refused", a.isRefused)
	t.Run("what may come later is warned of", a.isWarned)
	t.Run("a site in use stays", a.staysWhileUsed)
}

func (a *api) runController(t *testing.T) {
	t.Helper()
	manager, err := ctrl.NewManager(a.Config, ctrl.Options{Scheme: a.Scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := sites.SetupWithManager(t.Context(), manager, sites.Options{Interval: time.Second}); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, manager)
}

func (a *api) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := a.Client.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

func siteNamed(name string) *fleetv1.Site {
	return &fleetv1.Site{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: fleetv1.SiteSpec{
			IdentityRef: fleetv1.SiteIdentityReference{Name: name, CloudName: "sim"},
			GPUs:        []fleetv1.SiteGPU{{Model: "A100-40GB", PCIAlias: "a100", ResourceClass: "CUSTOM_GPU_A100"}},
		},
	}
}

func identityNamed(name string) *infrav1.SendanClusterIdentity {
	return &infrav1.SendanClusterIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: infrav1.SendanClusterIdentitySpec{
			SecretRef: infrav1.IdentitySecretReference{Namespace: "default", Name: name}, NamespaceSelector: &metav1.LabelSelector{},
		},
	}
}

// reads waits for the Ready condition of a Site to have a reason and words.
func (a *api) reads(t *testing.T, name, reason string, words ...string) *fleetv1.Site {
	t.Helper()
	site := &fleetv1.Site{}
	envtest.Eventually(t, patience, func() error {
		if err := a.Client.Get(t.Context(), client.ObjectKey{Name: name}, site); err != nil {
			return err
		}
		ready := meta.FindStatusCondition(site.Status.Conditions, fleetv1.ReadyCondition)
		if ready == nil || ready.Reason != reason {
			return fmt.Errorf("Ready is %+v, want the reason %s", ready, reason)
		}
		for _, word := range words {
			if !strings.Contains(ready.Message, word) {
				return fmt.Errorf("%q is missing in %q", word, ready.Message)
			}
		}
		return nil
	})
	return site
}

func (a *api) isDescribed(t *testing.T) {
	scenario := simulator.DefaultScenario()
	scenario.PlacementReadable = true
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() { server.Close(); sim.Close() })

	a.create(t, siteNamed("tokyo"))
	a.reads(t, "tokyo", fleetv1.IdentityNotFoundReason, `SendanClusterIdentity "tokyo"`)
	a.create(t,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "tokyo"}, Data: map[string][]byte{"clouds.yaml": sim.CloudsYAML(server.URL, "sim")}},
		identityNamed("tokyo"),
	)
	site := a.reads(t, "tokyo", fleetv1.AvailableReason)
	if len(site.Status.Flavors) == 0 || len(site.Status.Images) == 0 || len(site.Status.Capacity) != 3 || site.Status.Quotas.Instances.Limit == nil || site.Status.ObservedTime.IsZero() {
		t.Errorf("status %+v", site.Status)
	}

	away := httptest.NewServer(nil)
	away.Close()
	a.create(t,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "away"}, Data: map[string][]byte{"clouds.yaml": sim.CloudsYAML(away.URL, "sim")}},
		identityNamed("away"), siteNamed("away"),
	)
	a.reads(t, "away", fleetv1.UnreachableReason, "connection refused")
}

func (a *api) isRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*fleetv1.SiteSpec)
		words  []string
	}{
		"no CIDR":       {func(s *fleetv1.SiteSpec) { s.NetworkCIDR = "10.6.0.0" }, []string{"spec.networkCIDR", `"10.6.0.0"`, "write one such as 10.6.0.0/20"}},
		"bits set":      {func(s *fleetv1.SiteSpec) { s.NetworkCIDR = "10.6.0.1/20" }, []string{"spec.networkCIDR", "write 10.6.0.0/20"}},
		"no address":    {func(s *fleetv1.SiteSpec) { s.DNSNameservers = []string{"192.0.2.53", "dns.example"} }, []string{"spec.dnsNameservers[1]", `"dns.example"`}},
		"identity name": {func(s *fleetv1.SiteSpec) { s.IdentityRef.Name = "To Kyo" }, []string{"spec.identityRef.name", `"To Kyo"`}},
		"GPU by no way": {func(s *fleetv1.SiteSpec) { s.GPUs[0].PCIAlias, s.GPUs[0].ResourceClass = "", "" }, []string{"spec.gpus[0]", "set pciAlias or resourceClass", "A100-40GB"}},
		"class":         {func(s *fleetv1.SiteSpec) { s.GPUs[0].ResourceClass = "gpu" }, []string{"spec.gpus[0].resourceClass", "CUSTOM_GPU_A100"}},
		"alias twice": {func(s *fleetv1.SiteSpec) {
			s.GPUs = append(s.GPUs, fleetv1.SiteGPU{Model: "A100-80GB", PCIAlias: "a100"})
		}, []string{"spec.gpus[1].pciAlias", "A100-40GB"}},
		"flavor twice": {func(s *fleetv1.SiteSpec) {
			s.Flavors = []fleetv1.NameInCloud{{Name: "small", NameInCloud: "a"}, {Name: "small", NameInCloud: "b"}}
		}, []string{"spec.flavors[1]", "Duplicate"}},
	} {
		t.Run(name, func(t *testing.T) {
			site := siteNamed("refused")
			c.change(&site.Spec)
			err := a.Client.Create(t.Context(), site)
			if !apierrors.IsInvalid(err) {
				t.Fatalf("error %v, want one that says it is invalid", err)
			}
			for _, word := range c.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is missing in %q", word, err)
				}
			}
		})
	}
}

func (a *api) isWarned(t *testing.T) {
	a.warnings.take()
	a.create(t, siteNamed("early"))
	if got := a.warnings.take(); !strings.Contains(got, `no SendanClusterIdentity "early" yet`) {
		t.Errorf("warnings %q", got)
	}
	closed := identityNamed("closed")
	closed.Spec.NamespaceSelector = nil
	a.create(t, closed)
	a.warnings.take()
	a.create(t, siteNamed("closed"))
	if got := a.warnings.take(); !strings.Contains(got, "has no spec.namespaceSelector") {
		t.Errorf("warnings %q", got)
	}
}

func (a *api) staysWhileUsed(t *testing.T) {
	site := siteNamed("used")
	cluster := &clusterv1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one", Labels: map[string]string{fleetv1.SiteLabel: "used"}},
		Spec: clusterv1.ClusterSpec{
			Paused:            ptr.To(true),
			InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanCluster", Name: "one"},
		},
	}
	release := &fleetv1.Release{
		ObjectMeta: metav1.ObjectMeta{Name: "r1"},
		Spec: fleetv1.ReleaseSpec{
			KubernetesVersion: "v1.36.3", Images: []fleetv1.ReleaseImage{{Family: "ubuntu", Image: "node"}},
			ControlPlane: fleetv1.ReleaseControlPlane{Flavor: "m1.small", ImageFamily: "ubuntu"},
		},
	}
	a.create(t, site, cluster, release)
	release.Status.Sites = []fleetv1.ReleaseSite{{Site: "used", ClusterClass: "r1-used"}, {Site: "other"}}
	if err := a.Client.Status().Update(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	a.cannotDelete(t, site, "Cluster default/one", "Release r1, which has no other site")
	if err := a.Client.Delete(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	release.Status.Sites = slices.Insert(release.Status.Sites, 1, fleetv1.ReleaseSite{Site: "third", ClusterClass: "r1-third"})
	if err := a.Client.Status().Update(t.Context(), release); err != nil {
		t.Fatal(err)
	}
	if err := a.Client.Delete(t.Context(), site); err != nil {
		t.Errorf("a site that nobody uses cannot be deleted: %v", err)
	}
}

func (a *api) cannotDelete(t *testing.T, site *fleetv1.Site, words ...string) {
	t.Helper()
	err := a.Client.Delete(t.Context(), site)
	status := apierrors.APIStatus(nil)
	if !errors.As(err, &status) || status.Status().Code != 403 {
		t.Fatalf("error %v, want a refusal", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in %q", word, err)
		}
	}
}
