package templates

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
	"github.com/sendan-io/sendan/fleet/internal/refusal"
)

// +kubebuilder:webhook:verbs=create;update,path=/mutate-fleet-sendan-io-v1alpha1-release,mutating=true,failurePolicy=fail,matchPolicy=Equivalent,groups=fleet.sendan.io,resources=releases,versions=v1alpha1,name=default.release.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1
// +kubebuilder:webhook:verbs=create;update;delete,path=/validate-fleet-sendan-io-v1alpha1-release,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=fleet.sendan.io,resources=releases,versions=v1alpha1,name=validation.release.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1

// releaseDefaulter copies the NodeTemplates into a new Release. Nobody owns the copies, so that applying the same file
// again, which does not have them, leaves them.
type releaseDefaulter struct{ reader client.Reader }

var _ admission.Defaulter[*fleetv1.Release] = releaseDefaulter{}

// Default implements [admission.Defaulter].
func (d releaseDefaulter) Default(ctx context.Context, release *fleetv1.Release) error {
	old, err := oldObject[fleetv1.Release](ctx)
	if err != nil {
		return err
	}
	var wrong field.ErrorList
	for i := range release.Spec.NodeTemplates {
		template := &release.Spec.NodeTemplates[i]
		if template.Spec != nil {
			continue
		}
		if template.Spec = copyOf(old, template.Name); template.Spec != nil {
			continue
		}
		if template.Spec, err = d.current(ctx, template.Name); err != nil {
			return err
		}
		if template.Spec == nil {
			wrong = append(wrong, d.unknownTemplate(ctx, field.NewPath("spec", "nodeTemplates").Index(i).Child("name"), template.Name))
		}
	}
	return refusal.Invalid(fleetv1.GroupVersion.WithKind("Release").GroupKind(), release, wrong)
}

// oldObject is what is stored, nil for a create.
func oldObject[T any](ctx context.Context) (*T, error) {
	request, err := admission.RequestFromContext(ctx)
	if err != nil {
		return nil, err
	}
	if request.Operation != admissionv1.Update {
		return nil, nil
	}
	old := new(T)
	return old, json.Unmarshal(request.OldObject.Raw, old)
}

func copyOf(release *fleetv1.Release, template string) *fleetv1.NodeTemplateSpec {
	if release == nil {
		return nil
	}
	for _, kept := range release.Spec.NodeTemplates {
		if kept.Name == template {
			return kept.Spec
		}
	}
	return nil
}

func (d releaseDefaulter) current(ctx context.Context, name string) (*fleetv1.NodeTemplateSpec, error) {
	template := &fleetv1.NodeTemplate{}
	err := d.reader.Get(ctx, client.ObjectKey{Name: name}, template)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &template.Spec, err
}

func (d releaseDefaulter) unknownTemplate(ctx context.Context, path *field.Path, name string) *field.Error {
	var templates fleetv1.NodeTemplateList
	if err := d.reader.List(ctx, &templates); err != nil {
		return field.InternalError(path, err)
	}
	names := make([]string, 0, len(templates.Items))
	for _, template := range templates.Items {
		names = append(names, template.Name)
	}
	if len(names) == 0 {
		return field.Invalid(path, name, "there is no NodeTemplate of that name, nor any other; make it first, or give its spec")
	}
	return field.NotSupported(path, name, names)
}

type releaseValidator struct{ reader client.Reader }

var _ admission.Validator[*fleetv1.Release] = releaseValidator{}

// ValidateCreate implements [admission.Validator].
func (releaseValidator) ValidateCreate(_ context.Context, release *fleetv1.Release) (admission.Warnings, error) {
	return nil, refuseRelease(release, append(checkRelease(release), checkLifecycle(release)...))
}

// ValidateUpdate implements [admission.Validator].
func (releaseValidator) ValidateUpdate(_ context.Context, old, updated *fleetv1.Release) (admission.Warnings, error) {
	wrong := checkLifecycle(updated)
	before, after := old.Spec.DeepCopy(), updated.Spec.DeepCopy()
	before.Channels, before.Lifecycle = nil, fleetv1.ReleaseLifecycle{}
	after.Channels, after.Lifecycle = nil, fleetv1.ReleaseLifecycle{}
	if !equality.Semantic.DeepEqual(before, after) {
		wrong = append(wrong, field.Forbidden(field.NewPath("spec"), "a release never changes, but for channels and lifecycle; make a new one of another name"))
	}
	return nil, refuseRelease(updated, wrong)
}

// ValidateDelete implements [admission.Validator]. The classes of a cluster would go with its release.
func (v releaseValidator) ValidateDelete(ctx context.Context, release *fleetv1.Release) (admission.Warnings, error) {
	var clusters clusterv1.ClusterList
	if err := v.reader.List(ctx, &clusters, client.MatchingLabels{fleetv1.ReleaseLabel: release.Name}); err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if len(clusters.Items) == 0 {
		return nil, nil
	}
	names := make([]string, 0, len(clusters.Items))
	for _, cluster := range clusters.Items {
		names = append(names, cluster.Namespace+"/"+cluster.Name)
	}
	return nil, apierrors.NewForbidden(fleetv1.GroupVersion.WithResource("releases").GroupResource(), release.Name,
		fmt.Errorf("it is what %s consist of; upgrade or delete them first", message.Some(names, ", ")))
}

func refuseRelease(release *fleetv1.Release, wrong field.ErrorList) error {
	return refusal.Invalid(fleetv1.GroupVersion.WithKind("Release").GroupKind(), release, wrong)
}

// checkRelease finds what no site could make good: templates that contradict themselves or that no image is for.
func checkRelease(release *fleetv1.Release) field.ErrorList {
	spec := field.NewPath("spec")
	wrong := checkImages(release.Spec.Images, spec.Child("images"))
	if _, err := chooseImage(release.Spec.Images, release.Spec.ControlPlane.ImageFamily, "", fleetv1.GPUDriver{}); err != nil {
		wrong = append(wrong, field.Invalid(spec.Child("controlPlane", "imageFamily"), release.Spec.ControlPlane.ImageFamily, err.Error()))
	}
	for i, template := range release.Spec.NodeTemplates {
		path := spec.Child("nodeTemplates").Index(i)
		if template.Spec == nil {
			wrong = append(wrong, field.Required(path.Child("spec"), "could not be copied from the NodeTemplate "+template.Name))
			continue
		}
		shape, bad := ShapeOf(template.Name, *template.Spec, path.Child("spec"))
		if len(bad) > 0 {
			wrong = append(wrong, bad...)
			continue
		}
		if _, err := resolveImage(release.Spec.Images, *template.Spec, shape); err != nil {
			wrong = append(wrong, field.Invalid(path.Child("name"), template.Name, err.Error()))
		}
	}
	return wrong
}

// checkImages refuses two images of which never the second would be chosen.
func checkImages(images []fleetv1.ReleaseImage, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	seen := map[string]int{}
	for i, image := range images {
		generations := image.Generations
		if len(generations) == 0 {
			generations = []string{""}
		}
		for _, generation := range generations {
			key := image.Family + "/" + generation + "/" + image.Driver.Version
			if first, taken := seen[key]; taken {
				wrong = append(wrong, field.Invalid(path.Index(i), image.Image, fmt.Sprintf(
					"is for the same family, generation and driver as %s at [%d]; leave one out", images[first].Image, first)))
				continue
			}
			seen[key] = i
		}
	}
	return wrong
}

func checkLifecycle(release *fleetv1.Release) field.ErrorList {
	lifecycle := release.Spec.Lifecycle
	last, lastName := lifecycle.SupportedFrom, "supportedFrom"
	for _, next := range []struct {
		name string
		at   metav1.Time
	}{{"deprecatedFrom", lifecycle.DeprecatedFrom}, {"expiredFrom", lifecycle.ExpiredFrom}} {
		if next.at.IsZero() {
			continue
		}
		if next.at.Before(&last) {
			path := field.NewPath("spec", "lifecycle", next.name)
			return field.ErrorList{field.Invalid(path, next.at.Format(time.RFC3339), "must not be before "+lastName+", which is "+last.Format(time.RFC3339))}
		}
		last, lastName = next.at, next.name
	}
	return nil
}

// phaseOf is where a release is in its life, and when that changes; zero when it does not.
func phaseOf(lifecycle fleetv1.ReleaseLifecycle, now time.Time) (fleetv1.ReleasePhase, time.Time) {
	phase, next := fleetv1.ReleasePreview, time.Time{}
	for _, step := range []struct {
		from  metav1.Time
		phase fleetv1.ReleasePhase
	}{{lifecycle.SupportedFrom, fleetv1.ReleaseSupported}, {lifecycle.DeprecatedFrom, fleetv1.ReleaseDeprecated}, {lifecycle.ExpiredFrom, fleetv1.ReleaseExpired}} {
		isUnset := step.from.IsZero()
		switch {
		case isUnset && step.phase != fleetv1.ReleaseSupported:
		case isUnset || !now.Before(step.from.Time):
			phase = step.phase
		default:
			return phase, step.from.Time
		}
	}
	return phase, next
}
