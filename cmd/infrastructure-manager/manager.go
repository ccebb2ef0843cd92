package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/go-logr/logr"
	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cmd/internal/manager"
	"github.com/sendan-io/sendan/controllers"
	"github.com/sendan-io/sendan/controllers/webhooks"
)

// newManager wires the provider: sessions to the clouds, controllers, webhooks.
func newManager(ctx context.Context, o *options) (ctrl.Manager, error) {
	var err error
	if o.manager.Scheme, err = manager.NewScheme(clientgoscheme.AddToScheme, clusterv1.AddToScheme, infrav1.AddToScheme); err != nil {
		return nil, err
	}
	// Secrets hold credentials and user data: only their metadata is kept in memory, and nothing of what Cluster API makes, which is at
	// least one for each machine.
	o.manager.Uncached = []client.Object{&corev1.Secret{}}
	o.manager.Cached = map[client.Object]cache.ByObject{
		&corev1.Secret{}:     {Field: fields.OneTermNotEqualSelector("type", string(clusterv1.ClusterSecretType))},
		&clusterv1.Machine{}: {Transform: manager.SlimMachine},
	}
	mgr, err := manager.New(&o.manager)
	if err != nil {
		return nil, err
	}
	if err := setUpControllers(ctx, mgr, o); err != nil {
		return nil, err
	}
	if err := webhooks.SetupWithManager(mgr); err != nil {
		return nil, fmt.Errorf("set up webhooks: %w", err)
	}
	return mgr, nil
}

func setUpControllers(ctx context.Context, mgr ctrl.Manager, o *options) error {
	clock := clockwork.NewRealClock()
	sessions := cloud.NewSessions(cloud.Options{
		Clock: clock, Registerer: metrics.Registry, Logger: slog.New(logr.ToSlogHandler(klog.Background())),
		RequestsPerSecond: o.cloudRequestsPerSec, Burst: o.cloudRequestBurst, RequestTimeout: o.cloudRequestTimeout, UserAgent: o.manager.UserAgent(), MayChange: o.manager.Leads,
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

	clusters := &controllers.SendanClusterReconciler{Client: mgr.GetClient(), Clouds: identities, Recorder: recorder, Clock: clock, WatchFilterValue: o.manager.WatchFilter}
	if err := clusters.SetupWithManager(ctx, mgr, inventory, manager.Concurrency(o.clusterConcurrency)); err != nil {
		return fmt.Errorf("set up SendanCluster controller: %w", err)
	}
	machines := &controllers.SendanMachineReconciler{Client: mgr.GetClient(), Clouds: identities, Recorder: recorder, Clock: clock, WatchFilterValue: o.manager.WatchFilter}
	if err := machines.SetupWithManager(ctx, mgr, inventory, manager.Concurrency(o.machineConcurrency)); err != nil {
		return fmt.Errorf("set up SendanMachine controller: %w", err)
	}
	templates := &controllers.SendanMachineTemplateReconciler{Client: mgr.GetClient(), Clouds: identities, Clock: clock, WatchFilterValue: o.manager.WatchFilter}
	if err := templates.SetupWithManager(ctx, mgr, manager.Concurrency(o.templateConcurrency)); err != nil {
		return fmt.Errorf("set up SendanMachineTemplate controller: %w", err)
	}
	return nil
}
