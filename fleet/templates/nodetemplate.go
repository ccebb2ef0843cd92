package templates

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/refusal"
)

// +kubebuilder:webhook:verbs=create;update,path=/validate-fleet-sendan-io-v1alpha1-nodetemplate,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=fleet.sendan.io,resources=nodetemplates,versions=v1alpha1,name=validation.nodetemplate.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1

type nodeTemplateValidator struct{}

var _ admission.Validator[*fleetv1.NodeTemplate] = nodeTemplateValidator{}

// ValidateCreate implements [admission.Validator].
func (nodeTemplateValidator) ValidateCreate(_ context.Context, template *fleetv1.NodeTemplate) (admission.Warnings, error) {
	return nil, refuseTemplate(template)
}

// ValidateUpdate implements [admission.Validator].
func (nodeTemplateValidator) ValidateUpdate(_ context.Context, _, updated *fleetv1.NodeTemplate) (admission.Warnings, error) {
	return nil, refuseTemplate(updated)
}

// ValidateDelete implements [admission.Validator]. Releases have copies of their own.
func (nodeTemplateValidator) ValidateDelete(context.Context, *fleetv1.NodeTemplate) (admission.Warnings, error) {
	return nil, nil
}

func refuseTemplate(template *fleetv1.NodeTemplate) error {
	_, wrong := ShapeOf(template.Name, template.Spec, field.NewPath("spec"))
	return refusal.Invalid(fleetv1.GroupVersion.WithKind("NodeTemplate").GroupKind(), template, wrong)
}

// nodeTemplateReconciler tells in the status of a NodeTemplate what it means, and where it is.
type nodeTemplateReconciler struct{ client client.Client }

// +kubebuilder:rbac:groups=fleet.sendan.io,resources=nodetemplates;releases;sites,verbs=get;list;watch
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=nodetemplates/status,verbs=get;update;patch

func (r *nodeTemplateReconciler) setUpWithManager(mgr ctrl.Manager, options controller.Options) error {
	err := ctrl.NewControllerManagedBy(mgr).
		For(&fleetv1.NodeTemplate{}).
		Watches(&fleetv1.Release{}, handler.EnqueueRequestsFromMapFunc(templatesOfRelease)).
		Watches(&fleetv1.Site{}, handler.EnqueueRequestsFromMapFunc(r.allTemplates)).
		WithOptions(options).
		Named("nodetemplate").
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of NodeTemplates: %w", err)
	}
	return nil
}

func templatesOfRelease(_ context.Context, object client.Object) []reconcile.Request {
	release, ok := object.(*fleetv1.Release)
	if !ok {
		return nil
	}
	requests := make([]reconcile.Request, 0, len(release.Spec.NodeTemplates))
	for _, template := range release.Spec.NodeTemplates {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Name: template.Name}})
	}
	return requests
}

func (r *nodeTemplateReconciler) allTemplates(ctx context.Context, _ client.Object) []reconcile.Request {
	var templates fleetv1.NodeTemplateList
	if err := r.client.List(ctx, &templates); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot list NodeTemplates")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(templates.Items))
	for _, template := range templates.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&template)})
	}
	return requests
}

// Reconcile implements [reconcile.Reconciler].
func (r *nodeTemplateReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	template := &fleetv1.NodeTemplate{}
	if err := r.client.Get(ctx, request.NamespacedName, template); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	var sites fleetv1.SiteList
	var releases fleetv1.ReleaseList
	for _, list := range []client.ObjectList{&sites, &releases} {
		if err := r.client.List(ctx, list); err != nil {
			return ctrl.Result{}, err
		}
	}
	helper, err := patch.NewHelper(template, r.client)
	if err != nil {
		return ctrl.Result{}, err
	}
	describeTemplate(template, sites.Items, releases.Items)
	return ctrl.Result{}, helper.Patch(ctx, template, patch.WithOwnedConditions{Conditions: []string{fleetv1.ReadyCondition}})
}

// describeTemplate works out the whole status.
func describeTemplate(template *fleetv1.NodeTemplate, sites []fleetv1.Site, releases []fleetv1.Release) {
	template.Status = fleetv1.NodeTemplateStatus{Conditions: template.Status.Conditions}
	shape, wrong := ShapeOf(template.Name, template.Spec, field.NewPath("spec"))
	if len(wrong) > 0 {
		// Only where the webhook was passed by, or its rules became stricter.
		conditions.Set(template, metav1.Condition{Type: fleetv1.ReadyCondition, Status: metav1.ConditionFalse, Reason: fleetv1.InvalidReason, Message: wrong.ToAggregate().Error()})
		return
	}
	template.Status.Generation = shape.Generation
	template.Status.Devices = shape.Devices
	template.Status.DevicesText = strings.ReplaceAll(devicesText(shape.Devices), ",", " ")
	template.Status.Sites = offeredIn(template, sites)
	template.Status.Releases = containedIn(template.Name, releases)
	conditions.Set(template, metav1.Condition{Type: fleetv1.ReadyCondition, Status: metav1.ConditionTrue, Reason: fleetv1.AvailableReason})
}

func offeredIn(template *fleetv1.NodeTemplate, sites []fleetv1.Site) []string {
	names := map[string]bool{}
	for i := range sites {
		flavor, err := siteFacts{&sites[i]}.flavor(template.Spec.Flavor)
		if err == nil && (siteFacts{&sites[i]}).checkGPUs(flavor, template.Spec.GPU) == nil {
			names[sites[i].Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func containedIn(template string, releases []fleetv1.Release) []string {
	var names []string
	for _, release := range releases {
		if slices.ContainsFunc(release.Spec.NodeTemplates, func(t fleetv1.ReleaseNodeTemplate) bool { return t.Name == template }) {
			names = append(names, release.Name)
		}
	}
	slices.Sort(names)
	return names
}
