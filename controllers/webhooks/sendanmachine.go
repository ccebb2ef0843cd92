package webhooks

import (
	"context"
	"fmt"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// +kubebuilder:webhook:verbs=create;update,path=/validate-infrastructure-cluster-x-k8s-io-v1alpha1-sendanmachine,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=infrastructure.cluster.x-k8s.io,resources=sendanmachines,versions=v1alpha1,name=validation.sendanmachine.infrastructure.cluster.x-k8s.io,sideEffects=None,admissionReviewVersions=v1

type machineValidator struct{}

var _ admission.Validator[*infrav1.SendanMachine] = machineValidator{}

// ValidateCreate implements [admission.Validator].
func (machineValidator) ValidateCreate(_ context.Context, machine *infrav1.SendanMachine) (admission.Warnings, error) {
	wrong := validateMachineSpec(&machine.Spec, field.NewPath("spec"))
	wrong = append(wrong, validateOwnerIDForm(machine)...)
	return nil, refuse("SendanMachine", machine, wrong)
}

// ValidateUpdate implements [admission.Validator].
func (machineValidator) ValidateUpdate(_ context.Context, old, updated *infrav1.SendanMachine) (admission.Warnings, error) {
	return nil, refuse("SendanMachine", updated, validateMachineUpdate(old, updated))
}

// ValidateDelete implements [admission.Validator].
func (machineValidator) ValidateDelete(context.Context, *infrav1.SendanMachine) (admission.Warnings, error) {
	return nil, nil
}

// validateMachineUpdate looks at the new spec only where it changed; see validateClusterUpdate.
func validateMachineUpdate(old, updated *infrav1.SendanMachine) field.ErrorList {
	path := field.NewPath("spec")
	wrong := validateOwnerIDUpdate(old, updated)
	if apiequality.Semantic.DeepEqual(old.Spec, updated.Spec) {
		return wrong
	}
	mutable := []string{"identityRef"}
	if old.Spec.ProviderID == "" {
		mutable = append(mutable, "providerID")
	}
	wrong = append(wrong, immutability{
		path:    path,
		mutable: mutable,
		instead: "restore it, or change the template of the machine's owner, which replaces the machine",
	}.violations(old.Spec, updated.Spec)...)
	if before, after := region(old.Spec.IdentityRef), region(updated.Spec.IdentityRef); before != after {
		wrong = append(wrong, field.Invalid(path.Child("identityRef", "region"), after,
			fmt.Sprintf("is immutable and was %q: the server cannot move; restore it", before)))
	}
	return append(wrong, validateMachineSpec(&updated.Spec, path)...)
}

func region(identity *infrav1.IdentityReference) string {
	if identity == nil {
		return ""
	}
	return identity.Region
}
