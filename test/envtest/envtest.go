// Package envtest starts a real kube-apiserver and etcd for tests, with the kinds of Sendan and of
// Cluster API and with Sendan's webhooks. Nothing else runs: no controllers, no garbage collection.
package envtest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	kuberuntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crenvtest "sigs.k8s.io/controller-runtime/pkg/envtest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/config"
	"github.com/sendan-io/sendan/controllers/webhooks"
)

// assets is where controller-runtime looks for etcd and kube-apiserver; `make test` sets it.
const assets = "KUBEBUILDER_ASSETS"

// webhookStartTimeout is how long the webhook server may take to answer.
const webhookStartTimeout = 30 * time.Second

// Env is a running API server.
type Env struct {
	// Config reaches it as an administrator.
	Config *rest.Config
	// Client reads and writes without a cache.
	Client client.Client
	// Scheme knows the kinds of Kubernetes, Cluster API and Sendan.
	Scheme *kuberuntime.Scheme
	// AssetsDir holds the programs it was started from, and the other pinned tools beside them.
	AssetsDir string
	// CertDir holds a serving certificate (tls.crt, tls.key) for the loopback addresses.
	CertDir string
	// EtcdURL is where the API server keeps everything.
	EtcdURL string
	// Kubeconfig is a file that reaches the API server as Config does, for programs.
	Kubeconfig string

	webhooks crenvtest.WebhookInstallOptions
}

// Start starts an API server that lives as long as the test. It takes seconds, so a package calls it
// from one test and runs the others as its subtests. Without the programs to start the test is
// skipped, except where CI=true: there it fails. The webhooks are those of the infrastructure provider,
// and of the fleet manager those that the given functions serve.
func Start(t testing.TB, fleet ...func(ctrl.Manager) error) *Env {
	t.Helper()
	env := &Env{Scheme: NewScheme(t), AssetsDir: AssetsDir(t)}
	ctrl.SetLogger(logr.Discard()) // refusals are looked at where they arrive
	server := &crenvtest.Environment{
		Scheme: env.Scheme,
		CRDInstallOptions: crenvtest.CRDInstallOptions{
			Scheme: env.Scheme,
			CRDs: slices.Concat(
				customResources(t, filepath.Join(root(t), "config", "infrastructure", "crd", "bases"), nil),
				customResources(t, filepath.Join(root(t), "config", "fleet", "crd", "bases"), nil),
				clusterAPIResources(t),
			),
		},
		WebhookInstallOptions: crenvtest.WebhookInstallOptions{
			Paths: []string{filepath.Join(root(t), "config", "infrastructure", "webhook", "manifests.yaml")},
		},
	}
	reached, err := server.Start()
	// Also after a failed start, which may leave one of the two running.
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	env.Config = reached
	if env.Client, err = client.New(reached, client.Options{Scheme: env.Scheme}); err != nil {
		t.Fatalf("make a client: %v", err)
	}
	env.EtcdURL = server.ControlPlane.Etcd.URL.String()
	env.webhooks = server.WebhookInstallOptions
	env.CertDir = env.webhooks.LocalServingCertDir
	env.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(env.Kubeconfig, server.KubeConfig, 0o600); err != nil {
		t.Fatal(err)
	}
	serveWebhooks(t, env, fleet)
	return env
}

// AssetsDir is the directory of the pinned tools; the test is skipped, or fails in CI, without it.
func AssetsDir(t testing.TB) string {
	t.Helper()
	directory := os.Getenv(assets)
	switch {
	case directory != "":
	case os.Getenv("CI") == "true":
		t.Fatalf("%s is not set: run `make test`, or set it to the output of hack/build-tools.sh --dir", assets)
	default:
		t.Skipf("%s is not set: run `make test`, or set it to the output of hack/build-tools.sh --dir", assets)
	}
	return directory
}

// NewScheme knows the kinds of Kubernetes, Cluster API and Sendan.
func NewScheme(t testing.TB) *kuberuntime.Scheme {
	t.Helper()
	scheme := kuberuntime.NewScheme()
	for _, add := range []func(*kuberuntime.Scheme) error{
		clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme,
		clusterv1.AddToScheme, bootstrapv1.AddToScheme, controlplanev1.AddToScheme, infrav1.AddToScheme, fleetv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatalf("build the scheme: %v", err)
		}
	}
	return scheme
}

// serveWebhooks returns when the webhooks answer, so that the first write of a test meets them.
func serveWebhooks(t testing.TB, env *Env, fleet []func(ctrl.Manager) error) {
	t.Helper()
	server := webhook.NewServer(webhook.Options{
		Host: env.webhooks.LocalServingHost, Port: env.webhooks.LocalServingPort, CertDir: env.CertDir,
	})
	manager, err := ctrl.NewManager(env.Config, ctrl.Options{
		Scheme: env.Scheme, WebhookServer: server, Metrics: metricsserver.Options{BindAddress: "0"},
	})
	if err != nil {
		t.Fatalf("make the webhook manager: %v", err)
	}
	for _, setUp := range append(fleet, webhooks.SetupWithManager) {
		if err := setUp(manager); err != nil {
			t.Fatal(err)
		}
	}
	Run(t, manager)
	Eventually(t, webhookStartTimeout, func() error { return server.StartedChecker()(nil) })
	if len(fleet) == 0 {
		return
	}
	mux := server.WebhookMux()
	installFleetWebhooks(t, env, env.webhooks, func(path string) bool {
		_, pattern := mux.Handler(&http.Request{Method: http.MethodPost, URL: &url.URL{Path: path}})
		return pattern != ""
	})
}

// CallFleetManager makes the API server call all webhooks of the fleet manager, which a program serves at that port with the
// certificate in CertDir.
func (env *Env) CallFleetManager(t testing.TB, port int) {
	t.Helper()
	options := env.webhooks
	options.LocalServingPort = port
	installFleetWebhooks(t, env, options, func(string) bool { return true })
}

// PlatformUnready tells which Release or Tenant is not Ready yet, so that clusters cannot be made.
func (env *Env) PlatformUnready(ctx context.Context) error {
	var releases fleetv1.ReleaseList
	var tenants fleetv1.TenantList
	if err := errors.Join(env.Client.List(ctx, &releases), env.Client.List(ctx, &tenants)); err != nil {
		return err
	}
	for _, release := range releases.Items {
		if !meta.IsStatusConditionTrue(release.Status.Conditions, fleetv1.ReadyCondition) {
			return fmt.Errorf("release %s: %+v", release.Name, release.Status.Conditions)
		}
	}
	for _, tenant := range tenants.Items {
		if !meta.IsStatusConditionTrue(tenant.Status.Conditions, fleetv1.ReadyCondition) {
			return fmt.Errorf("tenant %s: %+v", tenant.Name, tenant.Status.Conditions)
		}
	}
	return nil
}

// Run runs a manager as long as the test.
func Run(t testing.TB, manager ctrl.Manager) {
	t.Helper()
	stopped := make(chan error, 1)
	go func() { stopped <- manager.Start(t.Context()) }()
	t.Cleanup(func() { // the test's context has ended
		if err := <-stopped; err != nil {
			t.Errorf("run the manager: %v", err)
		}
	})
}

// installFleetWebhooks makes the API server call those webhooks of the fleet manager that are served.
func installFleetWebhooks(t testing.TB, env *Env, options crenvtest.WebhookInstallOptions, isServed func(path string) bool) {
	t.Helper()
	packaged, err := config.FleetWebhooks()
	if err != nil {
		t.Fatal(err)
	}
	mutating, validating := &packaged.Mutating, &packaged.Validating
	mutating.Webhooks = slices.DeleteFunc(mutating.Webhooks, func(w admissionregistrationv1.MutatingWebhook) bool { return !isServed(*w.ClientConfig.Service.Path) })
	validating.Webhooks = slices.DeleteFunc(validating.Webhooks, func(w admissionregistrationv1.ValidatingWebhook) bool { return !isServed(*w.ClientConfig.Service.Path) })
	options.MutatingWebhooks = []*admissionregistrationv1.MutatingWebhookConfiguration{mutating}
	options.ValidatingWebhooks = []*admissionregistrationv1.ValidatingWebhookConfiguration{validating}
	if err := options.ModifyWebhookDefinitions(); err != nil {
		t.Fatal(err)
	}
	for _, configuration := range []client.Object{mutating, validating} {
		if err := env.Client.Create(t.Context(), configuration); err != nil {
			t.Fatalf("install the webhooks of the fleet manager: %v", err)
		}
	}
}

// Eventually polls until check passes, and fails the test with its last error at the deadline.
func Eventually(t testing.TB, timeout time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", timeout, err)
		case <-ticker.C:
		}
	}
}

// contractLabels are those that Cluster API's releases put on the kinds of its own providers; it
// resolves references to a kind by them.
func contractLabels() map[string]string {
	return map[string]string{"cluster.x-k8s.io/v1beta1": "v1beta1", "cluster.x-k8s.io/v1beta2": "v1beta2"}
}

// clusterAPIResources are the kinds of the Cluster API version that go.mod requires. They come
// without conversion webhooks, so only the stored version can be used.
func clusterAPIResources(t testing.TB) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	module := moduleDir(t, "sigs.k8s.io/cluster-api")
	var all []*apiextensionsv1.CustomResourceDefinition
	for provider, labels := range map[string]map[string]string{
		"core": nil, "bootstrap/kubeadm": contractLabels(), "controlplane/kubeadm": contractLabels(),
	} {
		all = append(all, customResources(t, filepath.Join(module, filepath.FromSlash(provider), "config", "crd", "bases"), labels)...)
	}
	return all
}

func customResources(t testing.TB, directory string, labels map[string]string) []*apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	files, err := fs.Glob(os.DirFS(directory), "*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no custom resource definitions in %s (%v)", directory, err)
	}
	var all []*apiextensionsv1.CustomResourceDefinition
	for _, file := range files {
		text, err := os.ReadFile(filepath.Join(directory, file))
		if err != nil {
			t.Fatal(err)
		}
		definition := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict(text, definition); err != nil {
			t.Fatalf("read %s: %v", file, err)
		}
		if labels != nil {
			definition.Labels = labels
		}
		all = append(all, definition)
	}
	return all
}

// root is the repository's, found from this file.
func root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("cannot tell where this package is")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// RepositoryFile is the path of a file of this repository.
func RepositoryFile(t testing.TB, elements ...string) string {
	t.Helper()
	return filepath.Join(append([]string{root(t)}, elements...)...)
}

func moduleDir(t testing.TB, module string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module)
	command.Dir = root(t)
	output, err := command.Output()
	if err != nil {
		t.Fatalf("find the module %s: %v", module, err)
	}
	return strings.TrimSpace(string(output))
}
