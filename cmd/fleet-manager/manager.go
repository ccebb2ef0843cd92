package main

import (
	"context"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cmd/internal/manager"
	"github.com/sendan-io/sendan/fleet/addons"
	"github.com/sendan-io/sendan/fleet/devices"
	"github.com/sendan-io/sendan/fleet/members"
	"github.com/sendan-io/sendan/fleet/sites"
	"github.com/sendan-io/sendan/fleet/templates"
	"github.com/sendan-io/sendan/fleet/tenancy"
	"github.com/sendan-io/sendan/fleet/visit"
)

// newManager wires the capabilities. Each is on its own: they meet in the Kubernetes API.
func newManager(ctx context.Context, o *options) (ctrl.Manager, error) {
	var err error
	o.manager.Scheme, err = manager.NewScheme(clientgoscheme.AddToScheme, clusterv1.AddToScheme, bootstrapv1.AddToScheme,
		controlplanev1.AddToScheme, infrav1.AddToScheme, fleetv1.AddToScheme)
	if err != nil {
		return nil, err
	}
	o.manager.Uncached = []client.Object{&corev1.Secret{}, &corev1.ConfigMap{}}
	// Every cluster has copies of its templates, which are of no interest here.
	compiled := cache.ByObject{Namespaces: map[string]cache.Config{o.systemNamespace: {}}}
	o.manager.Cached = map[client.Object]cache.ByObject{
		&clusterv1.ClusterClass{}: compiled, &infrav1.SendanClusterTemplate{}: compiled, &infrav1.SendanMachineTemplate{}: compiled,
		&bootstrapv1.KubeadmConfigTemplate{}: compiled, &controlplanev1.KubeadmControlPlaneTemplate{}: compiled,
		&infrav1.SendanMachine{}: {Transform: sites.SlimMachine}, &clusterv1.Machine{}: {Transform: manager.SlimMachine},
		&clusterv1.MachineDeployment{}: {Transform: slimMachineDeployment},
	}
	mgr, err := manager.New(&o.manager)
	if err != nil {
		return nil, err
	}
	tenants := tenancy.Options{
		SystemNamespace: o.systemNamespace, Clock: clockwork.NewRealClock(), Turns: tenancy.NewTurns(), Controller: manager.Concurrency(o.concurrency),
	}
	if err := setUpControllers(ctx, mgr, tenants, o); err != nil {
		return nil, err
	}
	return mgr, setUpWebhooks(mgr, tenants, o)
}

func setUpControllers(ctx context.Context, mgr ctrl.Manager, tenants tenancy.Options, o *options) error {
	clock := clockwork.NewRealClock()
	few, many := manager.Concurrency(o.concurrency), manager.Concurrency(o.clusterConcurrency)
	filter := o.manager.WatchFilter
	clusters := visit.New(mgr.GetAPIReader(), mgr.GetScheme(), o.manager.UserAgent())
	if err := sites.SetupWithManager(ctx, mgr, sites.Options{Clock: clock, Interval: o.siteInterval, Cloud: o.cloud(clock)}); err != nil {
		return err
	}
	if err := templates.SetupWithManager(mgr, templates.Options{SystemNamespace: o.systemNamespace, Clock: clock, Controller: few}); err != nil {
		return err
	}
	if err := tenancy.SetupWithManager(ctx, mgr, tenants); err != nil {
		return err
	}
	if err := members.SetupWithManager(ctx, mgr, members.Options{Clock: clock, WatchFilterValue: filter, Controller: many}); err != nil {
		return err
	}
	if err := devices.SetupWithManager(ctx, mgr, devices.Options{
		Visit: clusters.Visit, Clock: clock, Interval: o.deviceInterval, Metrics: metrics.Registry, WatchFilterValue: filter, Controller: many,
	}); err != nil {
		return err
	}
	return addons.SetupWithManager(ctx, mgr, addons.Options{
		Clock: clock, Visit: clusters.Visit, WatchFilterValue: filter, Recheck: o.addonInterval, Controller: many,
	})
}

func setUpWebhooks(mgr ctrl.Manager, tenants tenancy.Options, o *options) error {
	for _, setUp := range []func(ctrl.Manager) error{
		sites.SetupWebhooksWithManager,
		templates.SetupWebhooksWithManager(o.systemNamespace),
		tenancy.SetupWebhooksWithManager(tenants),
		addons.SetupWebhooksWithManager,
	} {
		if err := setUp(mgr); err != nil {
			return err
		}
	}
	return nil
}

func (o *options) cloud(clock clockwork.Clock) cloud.Options {
	return cloud.Options{
		Clock: clock, Registerer: metrics.Registry, Logger: slog.New(logr.ToSlogHandler(klog.Background())), UserAgent: o.manager.UserAgent(),
	}
}
