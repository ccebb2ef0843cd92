package controllers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/paused"
	"sigs.k8s.io/cluster-api/util/predicates"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// capacityRecheck is how often the flavor and the image behind a template are looked at again. It is
// how long a session remembers them, so all templates of a project share one request for each.
const capacityRecheck = 10 * time.Minute

// SendanMachineTemplateReconciler tells in the status of a SendanMachineTemplate what a node made from it
// would offer, so that the cluster-autoscaler can scale from zero.
type SendanMachineTemplateReconciler struct {
	Client client.Client
	Clouds CloudGetter
	Clock  clockwork.Clock
	// WatchFilterValue restricts this process to objects with that value of the watch-filter label.
	WatchFilterValue string

	crowd *crowd
}

// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanmachinetemplates,verbs=get;list;watch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanmachinetemplates/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanclusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters,verbs=get;list;watch

// SetupWithManager makes the manager run the reconciler.
func (r *SendanMachineTemplateReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, options controller.Options) error {
	r.crowd = newCrowd(options.MaxConcurrentReconciles)
	log := ctrl.LoggerFrom(ctx)
	err := ctrl.NewControllerManagedBy(mgr).
		For(&infrav1.SendanMachineTemplate{}, builder.WithPredicates(predicates.ResourceHasFilterLabel(mgr.GetScheme(), log, r.WatchFilterValue))).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(r.templatesOfCluster),
			builder.WithPredicates(predicates.ClusterPausedTransitions(mgr.GetScheme(), log))).
		// Its status changes often and says nothing about templates.
		Watches(&infrav1.SendanCluster{}, handler.EnqueueRequestsFromMapFunc(r.templatesOfInfrastructure),
			builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		WatchesRawSource(r.crowd.calls()).
		WithOptions(options).
		Named("sendanmachinetemplate").
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of SendanMachineTemplates: %w", err)
	}
	return nil
}

// Reconcile implements [reconcile.Reconciler].
func (r *SendanMachineTemplateReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	visit := r.crowd.begin(request)
	defer visit.end()
	template := &infrav1.SendanMachineTemplate{}
	if err := r.Client.Get(ctx, request.NamespacedName, template); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !template.DeletionTimestamp.IsZero() || !isOurs(template, r.WatchFilterValue) {
		return ctrl.Result{}, nil
	}
	cluster, err := r.clusterOf(ctx, template)
	if err != nil {
		return ctrl.Result{}, err
	}
	if isPaused, requeue, err := paused.EnsurePausedCondition(ctx, r.Client, cluster, template); err != nil || isPaused || requeue {
		return ctrl.Result{}, err
	}
	identity, err := r.identityOf(ctx, template, cluster)
	if err != nil {
		return ctrl.Result{}, err
	}
	if identity != nil && !visit.enter(r.Clouds.Address(ctx, template.Namespace, *identity)) {
		return ctrl.Result{}, nil
	}
	var again time.Duration
	err = store(ctx, r.Client, template, func() { again = r.describe(ctx, template, identity) })
	return againIfStale(ctrl.Result{RequeueAfter: again}, client.IgnoreNotFound(err))
}

// describe sets the status and returns when to look again; never, if only an event can help.
func (r *SendanMachineTemplateReconciler) describe(ctx context.Context, template *infrav1.SendanMachineTemplate, identity *infrav1.IdentityReference) time.Duration {
	if identity == nil {
		r.setReady(template, metav1.ConditionUnknown, infrav1.WaitingForClusterReason,
			"no cluster uses the template yet, so its cloud is not known; capacity is read once one does, or when spec.template.spec.identityRef is set")
		return 0
	}
	capacity, nodeInfo, err := r.look(ctx, template, *identity)
	if err != nil {
		// The last known capacity stays: what a flavor offers does not change while its cloud is away.
		r.setReady(template, metav1.ConditionFalse, identityStep(infrav1.ReadyCondition, err, r.Clock.Now()).reason, err.Error())
		return r.retryAfter(template, err)
	}
	template.Status.Capacity, template.Status.NodeInfo = capacity, nodeInfo
	r.setReady(template, metav1.ConditionTrue, infrav1.AvailableReason, "")
	return capacityRecheck
}

func (r *SendanMachineTemplateReconciler) look(ctx context.Context, template *infrav1.SendanMachineTemplate, identity infrav1.IdentityReference) (corev1.ResourceList, infrav1.NodeInfo, error) {
	session, err := r.Clouds.Session(ctx, template.Namespace, identity)
	if err != nil {
		return nil, infrav1.NodeInfo{}, err
	}
	spec := template.Spec.Template.Spec
	flavor, err := flavorByNameOrID(ctx, session, spec.Flavor)
	if err != nil {
		return nil, infrav1.NodeInfo{}, err
	}
	image, err := session.Image(ctx, cloud.ImageFilter{ID: spec.Image.ID, Name: spec.Image.Name, Tags: spec.Image.Tags})
	if err != nil {
		return nil, infrav1.NodeInfo{}, err
	}
	capacity, nodeInfo := capacityOf(flavor, spec, image)
	return capacity, nodeInfo, nil
}

// flavorByNameOrID takes the id only when no flavor has that name; the error is about the name.
func flavorByNameOrID(ctx context.Context, session *cloud.Session, wanted string) (cloud.Flavor, error) {
	flavor, byName := session.FlavorByName(ctx, wanted)
	if byName == nil || cloud.ClassOf(byName) != cloud.Config {
		return flavor, byName
	}
	if flavor, err := session.Flavor(ctx, wanted); err == nil {
		return flavor, nil
	}
	return cloud.Flavor{}, byName
}

// retryAfter waits as long again as the trouble has lasted, within the bounds of its class.
func (r *SendanMachineTemplateReconciler) retryAfter(template *infrav1.SendanMachineTemplate, err error) time.Duration {
	class := cloud.ClassOf(err)
	wait := backoff(class, 1)
	if ready := conditions.Get(template, infrav1.ReadyCondition); ready != nil {
		wait = max(wait, r.Clock.Since(ready.LastTransitionTime.Time))
	}
	const untilTheEnd = 30 // doublings, more than any class needs
	wait = min(wait, backoff(class, untilTheEnd))
	var classified *cloud.Error
	if errors.As(err, &classified) {
		wait = max(wait, classified.RetryAfter)
	}
	return wait
}

func (r *SendanMachineTemplateReconciler) setReady(template *infrav1.SendanMachineTemplate, status metav1.ConditionStatus, reason, message string) {
	conditions.Set(template, metav1.Condition{Type: infrav1.ReadyCondition, Status: status, Reason: reason, Message: message})
}

// clusterOf is the Cluster that uses the template; nil when none does, as for a template that belongs
// to a ClusterClass.
func (r *SendanMachineTemplateReconciler) clusterOf(ctx context.Context, template *infrav1.SendanMachineTemplate) (*clusterv1.Cluster, error) {
	name, used := clusterNameOf(template)
	if !used {
		return nil, nil
	}
	cluster, err := util.GetClusterByName(ctx, r.Client, template.Namespace, name)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get Cluster %s: %w", name, err)
	}
	return cluster, nil
}

// clusterNameOf reads the owner that Cluster API gives a template in use, or the cluster's label.
func clusterNameOf(object client.Object) (string, bool) {
	for _, owner := range object.GetOwnerReferences() {
		version, err := schema.ParseGroupVersion(owner.APIVersion)
		if err == nil && version.Group == clusterv1.GroupVersion.Group && owner.Kind == "Cluster" {
			return owner.Name, true
		}
	}
	name, labeled := object.GetLabels()[clusterv1.ClusterNameLabel]
	return name, labeled && name != ""
}

// identityOf is the template's own identity, or that of the SendanCluster of its cluster.
func (r *SendanMachineTemplateReconciler) identityOf(ctx context.Context, template *infrav1.SendanMachineTemplate, cluster *clusterv1.Cluster) (*infrav1.IdentityReference, error) {
	if own := template.Spec.Template.Spec.IdentityRef; own != nil {
		return own, nil
	}
	if cluster == nil || cluster.Spec.InfrastructureRef.Kind != "SendanCluster" {
		return nil, nil
	}
	infrastructure := &infrav1.SendanCluster{}
	key := client.ObjectKey{Namespace: cluster.Namespace, Name: cluster.Spec.InfrastructureRef.Name}
	if err := r.Client.Get(ctx, key, infrastructure); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("get SendanCluster %s: %w", key.Name, err)
	}
	return &infrastructure.Spec.IdentityRef, nil
}

func (r *SendanMachineTemplateReconciler) templatesOfCluster(ctx context.Context, cluster client.Object) []reconcile.Request {
	return r.templatesOf(ctx, cluster.GetNamespace(), cluster.GetName())
}

func (r *SendanMachineTemplateReconciler) templatesOfInfrastructure(ctx context.Context, infrastructure client.Object) []reconcile.Request {
	name, used := clusterNameOf(infrastructure)
	if !used {
		return nil
	}
	return r.templatesOf(ctx, infrastructure.GetNamespace(), name)
}

func (r *SendanMachineTemplateReconciler) templatesOf(ctx context.Context, namespace, clusterName string) []reconcile.Request {
	var templates infrav1.SendanMachineTemplateList
	if err := r.Client.List(ctx, &templates, client.InNamespace(namespace)); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List SendanMachineTemplates", "namespace", namespace)
		return nil
	}
	var requests []reconcile.Request
	for i := range templates.Items {
		if name, used := clusterNameOf(&templates.Items[i]); used && name == clusterName {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&templates.Items[i])})
		}
	}
	return requests
}
