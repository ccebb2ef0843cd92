package addons

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// membersByAddon is an index, named after the package since all capabilities share the manager's cache.
const membersByAddon = "addons.name"

func (r *reconciler) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&clusterv1.Cluster{}, builder.WithPredicates(updated(clusterFacts))).
		// They have the Cluster's name. Only their appearing and a lost section matter here.
		Watches(&fleetv1.FleetMember{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(updated(memberFacts))).
		Watches(&fleetv1.Addon{}, handler.EnqueueRequestsFromMapFunc(r.clustersOfAddon), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&fleetv1.Release{}, handler.EnqueueRequestsFromMapFunc(r.clustersLabeled(fleetv1.ReleaseLabel)),
			builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&fleetv1.Site{}, handler.EnqueueRequestsFromMapFunc(r.clustersLabeled(fleetv1.SiteLabel)), builder.WithPredicates(updated(siteFacts))).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(r.clustersOfConfigMap)).
		WithOptions(r.Options.Controller).
		Named("addons").
		Complete(r)
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
