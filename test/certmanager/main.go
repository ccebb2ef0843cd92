// Command certmanager does the part of cert-manager that Cluster API's providers need, for tests on machines that reach no
// image registry: cert-manager's own programs cannot be built from its Go module. It is no replacement. It knows
// self-signed issuers only, and checks nothing that is applied. Use cert-manager itself wherever it can be had: the
// manifests of all providers are the same for both.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// healthAddress is where the Deployment's probes ask.
const healthAddress = ":9440"

func main() {
	if err := run(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "certmanager:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	ctrl.SetLogger(klog.Background())
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("find the cluster: %w", err)
	}
	manager, err := newManager(config, healthAddress)
	if err != nil {
		return err
	}
	return manager.Start(ctx)
}

func newManager(config *rest.Config, healthAddress string) (ctrl.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	onlyIssued := cache.ByObject{Label: labels.Set{issuedLabel: "true"}.AsSelector()}
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:                 scheme,
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: healthAddress,
		// Other people's Secrets are not kept in memory.
		Cache:  cache.Options{ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: onlyIssued}},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	if err := manager.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return manager, setUpControllers(manager)
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, apiextensionsv1.AddToScheme, cmapi.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("build the scheme: %w", err)
		}
	}
	return scheme, nil
}

func setUpControllers(manager ctrl.Manager) error {
	for _, kind := range []cmapi.GenericIssuer{&cmapi.Issuer{}, &cmapi.ClusterIssuer{}} {
		if err := setUpIssuers(manager, kind); err != nil {
			return err
		}
	}
	if err := (&certificates{Client: manager.GetClient(), now: time.Now}).setUp(manager); err != nil {
		return err
	}
	return setUpInjectors(manager)
}
