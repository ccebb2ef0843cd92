package addons

import (
	"context"
	"fmt"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/refusal"
	builtins "github.com/sendan-io/sendan/templates/addons"
)

// +kubebuilder:webhook:verbs=create;update,path=/validate-fleet-sendan-io-v1alpha1-addon,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=fleet.sendan.io,resources=addons,versions=v1alpha1,name=validation.addon.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1

// SetupWebhooksWithManager serves the webhook from the manager's webhook server.
func SetupWebhooksWithManager(mgr ctrl.Manager) error {
	if err := ctrl.NewWebhookManagedBy(mgr, &fleetv1.Addon{}).WithValidator(validator{reader: mgr.GetClient()}).Complete(); err != nil {
		return fmt.Errorf("set up the webhook of Addons: %w", err)
	}
	return nil
}

type validator struct{ reader client.Reader }

var _ admission.Validator[*fleetv1.Addon] = validator{}

// ValidateCreate implements [admission.Validator].
func (v validator) ValidateCreate(ctx context.Context, addon *fleetv1.Addon) (admission.Warnings, error) {
	return v.validate(ctx, addon)
}

// ValidateUpdate implements [admission.Validator].
func (v validator) ValidateUpdate(ctx context.Context, _, addon *fleetv1.Addon) (admission.Warnings, error) {
	if !addon.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	return v.validate(ctx, addon)
}

// ValidateDelete implements [admission.Validator].
func (validator) ValidateDelete(context.Context, *fleetv1.Addon) (admission.Warnings, error) {
	return nil, nil
}

func (v validator) validate(ctx context.Context, addon *fleetv1.Addon) (admission.Warnings, error) {
	var others fleetv1.AddonList
	if err := v.reader.List(ctx, &others); err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("list Addons: %w", err))
	}
	wrong := validate(addon, others.Items)
	return warn(addon, others.Items), refusal.Invalid(fleetv1.GroupVersion.WithKind("Addon").GroupKind(), addon, wrong)
}

func validate(addon *fleetv1.Addon, others []fleetv1.Addon) field.ErrorList {
	path := field.NewPath("spec")
	var wrong field.ErrorList
	if _, err := metav1.LabelSelectorAsSelector(addon.Spec.ClusterSelector); err != nil {
		wrong = append(wrong, field.Invalid(path.Child("clusterSelector"), metav1.FormatLabelSelector(addon.Spec.ClusterSelector), err.Error()))
	}
	for i, version := range addon.Spec.Versions {
		wrong = append(wrong, validateVersion(path.Child("versions").Index(i), addon, version)...)
	}
	for i, variable := range addon.Spec.Variables {
		if isFact(variable.Name) {
			wrong = append(wrong, field.Invalid(path.Child("variables").Index(i).Child("name"), variable.Name,
				"is a fact that Sendan fills in for each cluster; choose another name"))
		}
	}
	dependsOn := dependenciesOf(others)
	dependsOn[addon.Name] = addon.Spec.DependsOn
	if circle := circleThrough(addon.Name, dependsOn); circle != nil {
		wrong = append(wrong, field.Invalid(path.Child("dependsOn"), strings.Join(addon.Spec.DependsOn, ", "),
			fmt.Sprintf("add-ons would depend on each other in a circle: %s; remove one of them", strings.Join(circle, " → "))))
	}
	return wrong
}

func validateVersion(path *field.Path, addon *fleetv1.Addon, version fleetv1.AddonVersion) field.ErrorList {
	var wrong field.ErrorList
	if version.KubernetesVersions != "" {
		if _, err := parseRange(version.KubernetesVersions); err != nil {
			wrong = append(wrong, field.Invalid(path.Child("kubernetesVersions"), version.KubernetesVersions, err.Error()))
		}
	}
	source, manifests := path.Child("source", "manifests"), version.Source.Manifests
	if name := version.Source.Builtin; name != "" {
		source = path.Child("source", "builtin")
		if !slices.Contains(builtins.Names(), name) {
			return append(wrong, field.NotSupported(source, name, builtins.Names()))
		}
		var err error
		if manifests, err = builtins.Manifests(name, version.Version); err != nil {
			return append(wrong, field.NotSupported(path.Child("version"), version.Version, builtins.Versions(name)))
		}
	}
	if version.Source.ConfigMap != nil {
		return wrong // it may come later, and change; the Addon's status tells
	}
	if _, err := render(addon.Name, manifests, exampleValues(addon)); err != nil {
		wrong = append(wrong, field.Invalid(source, field.OmitValueType{}, err.Error()))
	}
	return wrong
}

// warn tells of what may be right in a moment, when the rest is applied.
func warn(addon *fleetv1.Addon, others []fleetv1.Addon) admission.Warnings {
	var warnings admission.Warnings
	for _, name := range addon.Spec.DependsOn {
		if !slices.ContainsFunc(others, func(other fleetv1.Addon) bool { return other.Name == name }) {
			warnings = append(warnings, fmt.Sprintf("spec.dependsOn: there is no Addon %s; until there is, this one is not applied", name))
		}
	}
	return warnings
}
