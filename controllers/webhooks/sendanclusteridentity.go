package webhooks

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// +kubebuilder:webhook:verbs=create;update;delete,path=/validate-infrastructure-cluster-x-k8s-io-v1alpha1-sendanclusteridentity,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=infrastructure.cluster.x-k8s.io,resources=sendanclusteridentities,versions=v1alpha1,name=validation.sendanclusteridentity.infrastructure.cluster.x-k8s.io,sideEffects=None,admissionReviewVersions=v1

type identityValidator struct{ reader client.Reader }

var _ admission.Validator[*infrav1.SendanClusterIdentity] = identityValidator{}

// ValidateCreate implements [admission.Validator].
func (identityValidator) ValidateCreate(_ context.Context, identity *infrav1.SendanClusterIdentity) (admission.Warnings, error) {
	return warnIdentity(identity), refuse("SendanClusterIdentity", identity, validateIdentity(identity))
}

// ValidateUpdate implements [admission.Validator].
func (identityValidator) ValidateUpdate(_ context.Context, _, updated *infrav1.SendanClusterIdentity) (admission.Warnings, error) {
	return warnIdentity(updated), refuse("SendanClusterIdentity", updated, validateIdentity(updated))
}

// ValidateDelete implements [admission.Validator]. Without credentials nothing of a cluster could be
// removed from the cloud any more.
func (v identityValidator) ValidateDelete(ctx context.Context, identity *infrav1.SendanClusterIdentity) (admission.Warnings, error) {
	users, err := v.users(ctx, identity.Name)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if len(users) == 0 {
		return nil, nil
	}
	return nil, apierrors.NewForbidden(infrav1.GroupVersion.WithResource("sendanclusteridentities").GroupResource(), identity.Name,
		fmt.Errorf("it is used by %s; delete them or give them another identityRef first", someOf(users)))
}

func validateIdentity(identity *infrav1.SendanClusterIdentity) field.ErrorList {
	path := field.NewPath("spec")
	var wrong field.ErrorList
	secret := identity.Spec.SecretRef
	if len(validation.IsDNS1123Subdomain(secret.Name)) > 0 {
		wrong = append(wrong, field.Invalid(path.Child("secretRef", "name"), secret.Name, "cannot be the name of a Secret; use lower-case letters, digits, - and ."))
	}
	if len(validation.IsDNS1123Label(secret.Namespace)) > 0 {
		wrong = append(wrong, field.Invalid(path.Child("secretRef", "namespace"), secret.Namespace, "cannot be the name of a namespace; use lower-case letters, digits and -"))
	}
	if _, err := metav1.LabelSelectorAsSelector(identity.Spec.NamespaceSelector); err != nil {
		wrong = append(wrong, field.Invalid(path.Child("namespaceSelector"), compact(identity.Spec.NamespaceSelector), err.Error()))
	}
	return wrong
}

func warnIdentity(identity *infrav1.SendanClusterIdentity) admission.Warnings {
	if identity.Spec.NamespaceSelector != nil {
		return nil
	}
	return admission.Warnings{"spec.namespaceSelector is unset, so no namespace may use this identity; {} lets every namespace"}
}

// users names the clusters and machines that refer to the identity.
func (v identityValidator) users(ctx context.Context, name string) ([]string, error) {
	refersTo := func(reference *infrav1.IdentityReference) bool {
		return reference != nil && reference.Kind == infrav1.IdentityClusterIdentity && reference.Name == name
	}
	var users []string
	var clusters infrav1.SendanClusterList
	if err := v.reader.List(ctx, &clusters); err != nil {
		return nil, fmt.Errorf("list SendanClusters: %w", err)
	}
	for _, cluster := range clusters.Items {
		if refersTo(&cluster.Spec.IdentityRef) {
			users = append(users, fmt.Sprintf("SendanCluster %s/%s", cluster.Namespace, cluster.Name))
		}
	}
	var machines infrav1.SendanMachineList
	if err := v.reader.List(ctx, &machines); err != nil {
		return nil, fmt.Errorf("list SendanMachines: %w", err)
	}
	for _, machine := range machines.Items {
		if refersTo(machine.Spec.IdentityRef) {
			users = append(users, fmt.Sprintf("SendanMachine %s/%s", machine.Namespace, machine.Name))
		}
	}
	return users, nil
}

// someOf keeps a message short when there are many.
func someOf(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}
