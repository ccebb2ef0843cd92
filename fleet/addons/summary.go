package addons

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// summaryDelay lets changes in many clusters be one change of the Addon.
const summaryDelay = time.Second

// summarizer keeps the status of Addons: how they do in all clusters.
type summarizer struct {
	client client.Client
	reads  reads
}

func (s *summarizer) setUp(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		For(&fleetv1.Addon{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		// An Addon may close, or break, the circle of another.
		Watches(&fleetv1.Addon{}, handler.EnqueueRequestsFromMapFunc(s.all), builder.WithPredicates(updated(dependencies))).
		Watches(&fleetv1.FleetMember{}, addonsOfMember(), builder.WithPredicates(updated(func(object client.Object) any {
			return object.(*fleetv1.FleetMember).Status.Addons
		}))).
		WatchesMetadata(&corev1.ConfigMap{}, handler.EnqueueRequestsFromMapFunc(s.ofConfigMap)).
		Named("addon").
		Complete(s)
}

func dependencies(object client.Object) any { return object.(*fleetv1.Addon).Spec.DependsOn }

// Reconcile implements [reconcile.Reconciler].
func (s *summarizer) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	addon := &fleetv1.Addon{}
	if err := s.client.Get(ctx, request.NamespacedName, addon); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var addons fleetv1.AddonList
	if err := s.client.List(ctx, &addons, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list Addons: %w", err)
	}
	var members fleetv1.FleetMemberList
	if err := s.client.List(ctx, &members, client.MatchingFields{membersByAddon: addon.Name}, client.UnsafeDisableDeepCopy); err != nil {
		return ctrl.Result{}, fmt.Errorf("list FleetMembers: %w", err)
	}
	var sources []fleetv1.AddonSource
	for _, version := range addon.Spec.Versions {
		sources = append(sources, version.Source)
	}
	configMaps, err := s.reads.configMaps(ctx, sources)
	if err != nil {
		return ctrl.Result{}, err
	}
	helper, err := patch.NewHelper(addon, s.client)
	if err != nil {
		return ctrl.Result{}, fmt.Errorf("prepare to patch: %w", err)
	}
	summarize(addon, addons.Items, members.Items, configMaps)
	err = helper.Patch(ctx, addon, patch.WithOwnedConditions{Conditions: []string{fleetv1.ReadyCondition}})
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// summarize sets the status of the Addon.
func summarize(addon *fleetv1.Addon, all []fleetv1.Addon, members []fleetv1.FleetMember, configMaps map[fleetv1.ConfigMapReference]map[string]string) {
	addon.Status.Clusters, addon.Status.Healthy = int32(len(members)), 0 //nolint:gosec // A fleet has not that many.
	var failing []string
	for i := range members {
		switch find(members[i].Status.Addons, addon.Name).Phase {
		case fleetv1.AddonHealthy:
			addon.Status.Healthy++
		case fleetv1.AddonFailed:
			failing = append(failing, members[i].Namespace+"/"+members[i].Name)
		}
	}
	condition := metav1.Condition{Type: fleetv1.ReadyCondition, Status: metav1.ConditionFalse}
	circle := circleThrough(addon.Name, dependenciesOf(all))
	err := checkSources(addon, configMaps)
	var notFound sourceNotFound
	switch {
	case circle != nil:
		condition.Reason = fleetv1.CyclicDependencyReason
		condition.Message = fmt.Sprintf("Addons depend on each other in a circle: %s; it is applied nowhere until one is removed from dependsOn", strings.Join(circle, " → "))
	case errors.As(err, &notFound):
		condition.Reason, condition.Message = fleetv1.SourceNotFoundReason, err.Error()
	case err != nil:
		condition.Reason, condition.Message = fleetv1.ManifestsInvalidReason, err.Error()
	case len(failing) > 0:
		condition.Reason = fleetv1.ClustersFailingReason
		condition.Message = fmt.Sprintf("it fails in %d of %d clusters: %s; status.addons of their FleetMembers says why",
			len(failing), len(members), message.Some(failing, ", "))
	default:
		condition.Status, condition.Reason = metav1.ConditionTrue, fleetv1.AvailableReason
	}
	conditions.Set(addon, condition)
}

// checkSources reads the manifests of every version as they would be somewhere.
func checkSources(addon *fleetv1.Addon, configMaps map[fleetv1.ConfigMapReference]map[string]string) error {
	for _, version := range addon.Spec.Versions {
		manifests, err := manifestsOf(version.Version, version.Source, configMaps)
		if err == nil {
			_, err = render(addon.Name, manifests, exampleValues(addon))
		}
		if err != nil {
			return fmt.Errorf("version %s: %w", version.Version, err)
		}
	}
	return nil
}

func dependenciesOf(addons []fleetv1.Addon) map[string][]string {
	dependsOn := map[string][]string{}
	for _, addon := range addons {
		dependsOn[addon.Name] = addon.Spec.DependsOn
	}
	return dependsOn
}

func (s *summarizer) all(ctx context.Context, _ client.Object) []reconcile.Request {
	var addons fleetv1.AddonList
	if err := s.client.List(ctx, &addons, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Addons")
		return nil
	}
	var requests []reconcile.Request
	for _, addon := range addons.Items {
		requests = append(requests, requestFor(addon.Name))
	}
	return requests
}

func (s *summarizer) ofConfigMap(ctx context.Context, object client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, addon := range addonsOfConfigMap(ctx, s.client, object) {
		requests = append(requests, requestFor(addon.Name))
	}
	return requests
}

func requestFor(addon string) reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKey{Name: addon}}
}

// addonsOfMember looks at the Addons that a FleetMember has or had.
func addonsOfMember() handler.EventHandler {
	type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]
	look := func(object client.Object, queue queue) {
		for _, addon := range object.(*fleetv1.FleetMember).Status.Addons {
			queue.AddAfter(requestFor(addon.Name), summaryDelay)
		}
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, queue queue) { look(e.Object, queue) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, queue queue) {
			look(e.ObjectOld, queue)
			look(e.ObjectNew, queue)
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, queue queue) { look(e.Object, queue) },
	}
}
