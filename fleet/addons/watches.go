package addons

import (
	"context"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/controllers/clustercache"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// membersByAddon is an index, named after the package since all capabilities share the manager's cache.
const membersByAddon = "addons.name"

// gatherEvents is how long events of workloads are gathered before the cluster is looked at: a rollout makes one for each pod.
const gatherEvents = 5 * time.Second

func (r *reconciler) setUp(mgr ctrl.Manager) error {
	const name = "addons"
	var err error
	r.controller, err = ctrl.NewControllerManagedBy(mgr).
		For(&clusterv1.Cluster{}, builder.WithPredicates(updated(clusterFacts))).
		// They have the Cluster's name. Only their appearing and a lost section matter here.
		Watches(&fleetv1.FleetMember{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(updated(memberFacts))).
		Watches(&fleetv1.Addon{}, handler.EnqueueRequestsFromMapFunc(r.clustersOfAddon), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&fleetv1.Release{}, handler.EnqueueRequestsFromMapFunc(r.clustersLabeled(fleetv1.ReleaseLabel)),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&fleetv1.Site{}, handler.EnqueueRequestsFromMapFunc(r.clustersLabeled(fleetv1.SiteLabel)), builder.WithPredicates(updated(siteFacts))).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.clustersOfConfigMap)).
		WatchesRawSource(r.ClusterCache.GetClusterSource(name, func(_ context.Context, cluster client.Object) []ctrl.Request {
			return []ctrl.Request{{NamespacedName: client.ObjectKeyFromObject(cluster)}}
		})).
		WithOptions(r.Options.Controller).
		Named(name).
		Build(r)
	return err
}

// updated lets an update through only if the facts differ; objects that come and go always.
func updated(facts func(client.Object) any) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return !equality.Semantic.DeepEqual(facts(e.ObjectOld), facts(e.ObjectNew))
	}}
}

// clusterFacts is all that is read of a Cluster.
func clusterFacts(object client.Object) any {
	cluster := object.(*clusterv1.Cluster)
	return []any{
		cluster.Generation, cluster.Labels, cluster.Annotations, kubernetesVersion(cluster),
		ptr.Deref(cluster.Status.Initialization.ControlPlaneInitialized, false),
	}
}

func memberFacts(object client.Object) any {
	return len(object.(*fleetv1.FleetMember).Status.Addons) == 0
}

func siteFacts(object client.Object) any {
	return []any{object.GetGeneration(), object.(*fleetv1.Site).Status.Region}
}

// workloads are the kinds of which an add-on's objects are watched in tenant clusters.
func workloads() map[string]client.Object {
	return map[string]client.Object{"DaemonSet": &appsv1.DaemonSet{}, "Deployment": &appsv1.Deployment{}, "StatefulSet": &appsv1.StatefulSet{}}
}

// CachedWorkloads restricts what is kept of a tenant cluster's workloads to those of add-ons: a tenant may have thousands.
func CachedWorkloads() map[client.Object]cache.ByObject {
	ofAddons, err := labels.Parse(fleetv1.AddonLabel)
	if err != nil {
		panic(err) // a label is a selector
	}
	cached := map[client.Object]cache.ByObject{}
	for _, object := range workloads() {
		cached[object] = cache.ByObject{Label: ofAddons}
	}
	return cached
}

// watchWorkloads makes an event of what happens to the add-ons' workloads in a tenant cluster. Only their metadata is kept in
// memory, and only of the kinds that the add-ons have: each watch takes some hundred KiB. Without it the cluster is still looked
// at now and then.
func (r *reconciler) watchWorkloads(ctx context.Context, cluster client.ObjectKey, intent Intent) {
	for kind := range workloads() {
		if !intent.has(appsv1.SchemeGroupVersion.WithKind(kind)) {
			continue
		}
		workload := &metav1.PartialObjectMetadata{}
		workload.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(kind))
		err := r.ClusterCache.Watch(ctx, cluster, clustercache.NewWatcher(clustercache.WatcherOptions{
			Name: "addons-" + kind, Watcher: r.controller, Kind: workload,
			EventHandler: lookSoon(reconcile.Request{NamespacedName: cluster}),
			Predicates:   []predicate.TypedPredicate[client.Object]{workloadChanged()},
		}))
		if err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Watch workloads", "kind", kind)
		}
	}
}

// lookSoon turns any number of events into one look.
func lookSoon(request reconcile.Request) handler.EventHandler {
	return handler.Funcs{
		UpdateFunc: func(_ context.Context, _ event.UpdateEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			queue.AddAfter(request, gatherEvents)
		},
		DeleteFunc: func(_ context.Context, _ event.DeleteEvent, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			queue.AddAfter(request, gatherEvents)
		},
	}
}

func workloadChanged() predicate.Predicate {
	return predicate.And[client.Object](predicate.ResourceVersionChangedPredicate{}, predicate.NewPredicateFuncs(func(object client.Object) bool {
		return object.GetLabels()[fleetv1.AddonLabel] != ""
	}))
}

// clustersOfAddon are those that have it, that it selects, and whose Release names it.
func (r *reconciler) clustersOfAddon(ctx context.Context, object client.Object) []reconcile.Request {
	addon := object.(*fleetv1.Addon)
	var members fleetv1.FleetMemberList
	if err := r.client.List(ctx, &members, client.MatchingFields{membersByAddon: addon.Name}, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List FleetMembers")
		return nil
	}
	var releases fleetv1.ReleaseList
	if err := r.client.List(ctx, &releases, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Releases")
		return nil
	}
	haveIt, pin := map[client.ObjectKey]bool{}, map[string]bool{}
	for i := range members.Items {
		haveIt[client.ObjectKeyFromObject(&members.Items[i])] = true
	}
	for _, release := range releases.Items {
		pin[release.Name] = slices.ContainsFunc(release.Spec.Addons, func(pinned fleetv1.ReleaseAddon) bool { return pinned.Name == addon.Name })
	}
	return r.clusters(ctx, func(cluster *clusterv1.Cluster) bool {
		return haveIt[client.ObjectKeyFromObject(cluster)] || pin[cluster.Labels[fleetv1.ReleaseLabel]] || selects(addon, cluster)
	})
}

func (r *reconciler) clustersLabeled(label string) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		return r.clusters(ctx, func(cluster *clusterv1.Cluster) bool { return cluster.Labels[label] == object.GetName() })
	}
}

func (r *reconciler) clustersOfConfigMap(ctx context.Context, object client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, addon := range addonsOfConfigMap(ctx, r.client, object) {
		requests = append(requests, r.clustersOfAddon(ctx, addon)...)
	}
	return requests
}

// addonsOfConfigMap are the Addons of which it holds manifests.
func addonsOfConfigMap(ctx context.Context, reader client.Reader, object client.Object) []*fleetv1.Addon {
	var addons fleetv1.AddonList
	if err := reader.List(ctx, &addons); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Addons")
		return nil
	}
	wanted := fleetv1.ConfigMapReference{Name: object.GetName(), Namespace: object.GetNamespace()}
	var found []*fleetv1.Addon
	for i := range addons.Items {
		if slices.ContainsFunc(addons.Items[i].Spec.Versions, func(version fleetv1.AddonVersion) bool {
			return version.Source.ConfigMap != nil && *version.Source.ConfigMap == wanted
		}) {
			found = append(found, &addons.Items[i])
		}
	}
	return found
}

func (r *reconciler) clusters(ctx context.Context, which func(*clusterv1.Cluster) bool) []reconcile.Request {
	var clusters clusterv1.ClusterList
	if err := r.client.List(ctx, &clusters, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Clusters")
		return nil
	}
	var requests []reconcile.Request
	for i := range clusters.Items {
		if which(&clusters.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&clusters.Items[i])})
		}
	}
	return requests
}
