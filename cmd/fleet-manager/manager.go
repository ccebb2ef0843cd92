package main

import (
	"context"
	"fmt"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/controllers/clustercache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cmd/internal/manager"
	"github.com/sendan-io/sendan/fleet/templates"
)

// recorderName is who Events are from.
const recorderName = "sendan"

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
	}
	mgr, err := manager.New(&o.manager)
	if err != nil {
		return nil, err
	}
	clusters, err := connectToClusters(ctx, mgr, o)
	if err != nil {
		return nil, err
	}
	if err := setUpTemplates(mgr, o); err != nil {
		return nil, err
	}
	_ = clusters
	return mgr, nil
}

// setUpTemplates serves the catalogue: node templates, releases, and the clusters that are made of them.
func setUpTemplates(mgr ctrl.Manager, o *options) error {
	nodeTemplates := &templates.NodeTemplateReconciler{Client: mgr.GetClient()}
	if err := nodeTemplates.SetupWithManager(mgr, manager.Concurrency(o.concurrency)); err != nil {
		return err
	}
	releases := &templates.ReleaseReconciler{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder(recorderName), Clock: clockwork.NewRealClock(), Namespace: o.systemNamespace,
	}
	if err := releases.SetupWithManager(mgr, manager.Concurrency(o.concurrency)); err != nil {
		return err
	}
	return templates.SetupWebhooksWithManager(o.systemNamespace)(mgr)
}

// connectToClusters reaches tenant clusters as Cluster API's own controllers do.
func connectToClusters(ctx context.Context, mgr ctrl.Manager, o *options) (clustercache.ClusterCache, error) {
	clusters, err := clustercache.SetupWithManager(ctx, mgr, clustercache.Options{
		SecretClient:     mgr.GetAPIReader(),
		Cache:            clustercache.CacheOptions{Indexes: []clustercache.CacheOptionsIndex{clustercache.NodeProviderIDIndex}},
		Client:           clustercache.ClientOptions{UserAgent: o.manager.UserAgent(), Cache: clustercache.ClientCacheOptions{DisableFor: o.manager.Uncached}},
		WatchFilterValue: o.manager.WatchFilter,
	}, manager.Concurrency(100))
	if err != nil {
		return nil, fmt.Errorf("set up the connections to clusters: %w", err)
	}
	return clusters, nil
}
