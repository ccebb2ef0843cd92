package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/flags"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/controllers"
	"github.com/sendan-io/sendan/controllers/webhooks"
)

const (
	userAgent        = "sendan-infrastructure-manager"
	leaderElectionID = "sendan-infrastructure-manager"
)

// newManager wires the provider: sessions to the clouds, controllers, webhooks, health checks.
func newManager(ctx context.Context, o options) (ctrl.Manager, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	restConfig, err := loadConfig(o)
	if err != nil {
		return nil, err
	}
	managerOptions, err := o.managerOptions(scheme)
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(restConfig, managerOptions)
	if err != nil {
		return nil, err
	}
	if err := setUpControllers(ctx, mgr, o); err != nil {
		return nil, err
	}
	if err := webhooks.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("set up webhooks: %w", err)
	}
	if err := mgr.AddReadyzCheck("webhook", mgr.GetWebhookServer().StartedChecker()); err != nil {
		return nil, err
	}
	return mgr, mgr.AddHealthzCheck("webhook", mgr.GetWebhookServer().StartedChecker())
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, clusterv1.AddToScheme, infrav1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	return scheme, nil
}

func loadConfig(o options) (*rest.Config, error) {
	load := ctrl.GetConfig
	if o.kubeconfig != "" {
		load = func() (*rest.Config, error) { return clientcmd.BuildConfigFromFlags("", o.kubeconfig) }
	}
	restConfig, err := load()
	if err != nil {
		return nil, fmt.Errorf("find the management cluster: %w", err)
	}
	restConfig.QPS, restConfig.Burst, restConfig.UserAgent = o.kubeAPIQPS, o.kubeAPIBurst, userAgent
	return restConfig, nil
}

func (o options) managerOptions(scheme *runtime.Scheme) (ctrl.Options, error) {
	tlsOptions, metricsOptions, err := flags.GetManagerOptions(o.manager)
	if err != nil {
		return ctrl.Options{}, fmt.Errorf("invalid flags: %w", err)
	}
	out := ctrl.Options{
		Scheme: scheme,
		Controller: config.Controller{
			UsePriorityQueue: ptr.To(true),
			CacheSyncTimeout: 5 * time.Minute, // tens of thousands of objects take their time
		},
		LeaderElection: o.leaderElect, LeaderElectionID: leaderElectionID, LeaderElectionResourceLock: resourcelock.LeasesResourceLock,
		LeaseDuration: &o.leaseDuration, RenewDeadline: &o.renewDeadline, RetryPeriod: &o.retryPeriod,
		HealthProbeBindAddress: o.healthAddress, PprofBindAddress: o.profilerAddress, Metrics: *metricsOptions,
		Cache: cache.Options{SyncPeriod: &o.syncPeriod},
		// Secrets hold credentials and user data: only their metadata is kept in memory.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
		WebhookServer: webhook.NewServer(webhook.Options{
			Port: o.webhookPort, CertDir: o.webhookCertDir, CertName: o.webhookCertName, KeyName: o.webhookKeyName, TLSOpts: tlsOptions,
		}),
	}
	if o.namespace != "" {
		out.Cache.DefaultNamespaces = map[string]cache.Config{o.namespace: {}}
	}
	return out, nil
}

func setUpControllers(ctx context.Context, mgr ctrl.Manager, o options) error {
	clock := clockwork.NewRealClock()
	sessions := cloud.NewSessions(cloud.Options{
		Clock: clock, Registerer: metrics.Registry, Logger: slog.New(logr.ToSlogHandler(klog.Background())),
		RequestsPerSecond: o.cloudRequestsPerSec, Burst: o.cloudRequestBurst, RequestTimeout: o.cloudRequestTimeout, UserAgent: userAgent,
		Polling: cloud.PollingOptions{Building: o.inventoryPollBuilding, Servers: o.inventoryPollServers, Sweep: o.inventoryPollSweep, SlowSweep: o.inventoryPollSlow},
	})
	if err := mgr.Add(sessions); err != nil {
		return err
	}
	if err := controllers.IndexFields(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	inventory := controllers.NewInventoryEvents(mgr.GetClient(), sessions)
	identities := &controllers.Identities{Client: mgr.GetCache(), Secrets: mgr.GetAPIReader(), Sessions: sessions}
	recorder := mgr.GetEventRecorder("sendan")

	clusters := &controllers.SendanClusterReconciler{Client: mgr.GetClient(), Clouds: identities, Recorder: recorder, Clock: clock, WatchFilterValue: o.watchFilter}
	if err := clusters.SetupWithManager(ctx, mgr, inventory, concurrency(o.clusterConcurrency)); err != nil {
		return fmt.Errorf("set up SendanCluster controller: %w", err)
	}
	machines := &controllers.SendanMachineReconciler{Client: mgr.GetClient(), Clouds: identities, Recorder: recorder, Clock: clock, WatchFilterValue: o.watchFilter}
	if err := machines.SetupWithManager(ctx, mgr, inventory, concurrency(o.machineConcurrency)); err != nil {
		return fmt.Errorf("set up SendanMachine controller: %w", err)
	}
	templates := &controllers.SendanMachineTemplateReconciler{Client: mgr.GetClient(), Clouds: identities, Clock: clock, WatchFilterValue: o.watchFilter}
	if err := templates.SetupWithManager(ctx, mgr, concurrency(o.templateConcurrency)); err != nil {
		return fmt.Errorf("set up SendanMachineTemplate controller: %w", err)
	}
	return nil
}

func concurrency(n int) controller.Options { return controller.Options{MaxConcurrentReconciles: n} }
