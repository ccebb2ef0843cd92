package webhooks

import (
	"context"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/topology"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// +kubebuilder:webhook:verbs=create;update,path=/validate-infrastructure-cluster-x-k8s-io-v1alpha1-sendanclustertemplate,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=infrastructure.cluster.x-k8s.io,resources=sendanclustertemplates,versions=v1alpha1,name=validation.sendanclustertemplate.infrastructure.cluster.x-k8s.io,sideEffects=None,admissionReviewVersions=v1
// +kubebuilder:webhook:verbs=create;update,path=/validate-infrastructure-cluster-x-k8s-io-v1alpha1-sendanmachinetemplate,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=infrastructure.cluster.x-k8s.io,resources=sendanmachinetemplates,versions=v1alpha1,name=validation.sendanmachinetemplate.infrastructure.cluster.x-k8s.io,sideEffects=None,admissionReviewVersions=v1

type clusterTemplateValidator struct{}

var _ admission.Validator[*infrav1.SendanClusterTemplate] = clusterTemplateValidator{}

// ValidateCreate implements [admission.Validator].
func (clusterTemplateValidator) ValidateCreate(_ context.Context, template *infrav1.SendanClusterTemplate) (admission.Warnings, error) {
	return nil, refuse("SendanClusterTemplate", template, validateClusterTemplate(template))
}

// ValidateUpdate implements [admission.Validator].
func (clusterTemplateValidator) ValidateUpdate(ctx context.Context, old, updated *infrav1.SendanClusterTemplate) (admission.Warnings, error) {
	if apiequality.Semantic.DeepEqual(old.Spec, updated.Spec) {
		return nil, nil
	}
	changed, err := validateTemplateChange(ctx, updated, old.Spec.Template.Spec, updated.Spec.Template.Spec)
	if err != nil {
		return nil, err
	}
	return nil, refuse("SendanClusterTemplate", updated, append(changed, validateClusterTemplate(updated)...))
}

// ValidateDelete implements [admission.Validator].
func (clusterTemplateValidator) ValidateDelete(context.Context, *infrav1.SendanClusterTemplate) (admission.Warnings, error) {
	return nil, nil
}

type machineTemplateValidator struct{}

var _ admission.Validator[*infrav1.SendanMachineTemplate] = machineTemplateValidator{}

// ValidateCreate implements [admission.Validator].
func (machineTemplateValidator) ValidateCreate(_ context.Context, template *infrav1.SendanMachineTemplate) (admission.Warnings, error) {
	return nil, refuse("SendanMachineTemplate", template, validateMachineTemplate(template))
}

// ValidateUpdate implements [admission.Validator].
func (machineTemplateValidator) ValidateUpdate(ctx context.Context, old, updated *infrav1.SendanMachineTemplate) (admission.Warnings, error) {
	if apiequality.Semantic.DeepEqual(old.Spec, updated.Spec) {
		return nil, nil
	}
	changed, err := validateTemplateChange(ctx, updated, old.Spec.Template.Spec, updated.Spec.Template.Spec)
	if err != nil {
		return nil, err
	}
	return nil, refuse("SendanMachineTemplate", updated, append(changed, validateMachineTemplate(updated)...))
}

// ValidateDelete implements [admission.Validator].
func (machineTemplateValidator) ValidateDelete(context.Context, *infrav1.SendanMachineTemplate) (admission.Warnings, error) {
	return nil, nil
}

func validateClusterTemplate(template *infrav1.SendanClusterTemplate) field.ErrorList {
	path := field.NewPath("spec", "template")
	wrong := validateTemplateMetadata(&template.Spec.Template.ObjectMeta, path.Child("metadata"))
	spec := &template.Spec.Template.Spec
	if spec.ControlPlaneEndpoint != (infrav1.APIEndpoint{}) {
		wrong = append(wrong, field.Forbidden(path.Child("spec", "controlPlaneEndpoint"),
			"every cluster made from the template would have the same endpoint; set it on the cluster"))
	}
	return append(wrong, validateClusterSpec(spec, path.Child("spec"))...)
}

func validateMachineTemplate(template *infrav1.SendanMachineTemplate) field.ErrorList {
	path := field.NewPath("spec", "template")
	wrong := validateTemplateMetadata(&template.Spec.Template.ObjectMeta, path.Child("metadata"))
	spec := &template.Spec.Template.Spec
	if spec.ProviderID != "" {
		wrong = append(wrong, field.Forbidden(path.Child("spec", "providerID"),
			"every machine made from the template would be the same server; remove it"))
	}
	return append(wrong, validateMachineSpec(spec, path.Child("spec"))...)
}

func validateTemplateMetadata(metadata *clusterv1.ObjectMeta, path *field.Path) field.ErrorList {
	wrong := metadata.Validate(path)
	if _, set := metadata.Annotations[infrav1.OwnerIDAnnotation]; set {
		wrong = append(wrong, field.Forbidden(path.Child("annotations").Key(infrav1.OwnerIDAnnotation),
			"every object made from the template would own the same cloud objects; remove it"))
	}
	return wrong
}

// validateTemplateChange lets the topology controller's dry runs pass: it asks the API server what a
// template would look like with another spec, and then makes a new one under another name.
func validateTemplateChange(ctx context.Context, updated client.Object, oldSpec, newSpec any) (field.ErrorList, error) {
	request, err := admission.RequestFromContext(ctx)
	if err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("read the admission request: %w", err))
	}
	if topology.IsDryRunRequest(request, updated) {
		return nil, nil
	}
	return immutability{
		path:    field.NewPath("spec", "template", "spec"),
		instead: "make a new template under another name and refer to that one",
	}.violations(oldSpec, newSpec), nil
}
