package tenancy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
	"github.com/sendan-io/sendan/fleet/internal/refusal"
)

// +kubebuilder:webhook:verbs=create;update;delete,path=/validate-fleet-sendan-io-v1alpha1-tenant,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=fleet.sendan.io,resources=tenants,versions=v1alpha1,name=validation.tenant.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1

type tenantValidator struct {
	reads           reads
	systemNamespace string
}

var _ admission.Validator[*fleetv1.Tenant] = tenantValidator{}

// ValidateCreate implements [admission.Validator].
func (v tenantValidator) ValidateCreate(ctx context.Context, tenant *fleetv1.Tenant) (admission.Warnings, error) {
	return v.validate(ctx, tenant)
}

// ValidateUpdate implements [admission.Validator].
func (v tenantValidator) ValidateUpdate(ctx context.Context, _, tenant *fleetv1.Tenant) (admission.Warnings, error) {
	if !tenant.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	return v.validate(ctx, tenant)
}

// ValidateDelete implements [admission.Validator]. Clusters without a tenant would count against no quota.
func (v tenantValidator) ValidateDelete(ctx context.Context, tenant *fleetv1.Tenant) (admission.Warnings, error) {
	namespaces, err := v.reads.namespaces(ctx, tenant)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	found, err := clustersIn(ctx, v.reads.live, tenant.Name, namespaces)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if len(found) == 0 {
		return nil, nil
	}
	var names []string
	for i := range found {
		names = append(names, found[i].Namespace+"/"+found[i].Name)
	}
	slices.Sort(names)
	return nil, apierrors.NewForbidden(fleetv1.GroupVersion.WithResource("tenants").GroupResource(), tenant.Name,
		fmt.Errorf("it has Clusters: %s; delete them first", message.Some(names, ", ")))
}

func (v tenantValidator) validate(ctx context.Context, tenant *fleetv1.Tenant) (admission.Warnings, error) {
	var others fleetv1.TenantList
	if err := v.reads.cached.List(ctx, &others); err != nil {
		return nil, apierrors.NewInternalError(fmt.Errorf("list Tenants: %w", err))
	}
	wrong := validateTenant(tenant, others.Items, v.systemNamespace)
	return warnTenant(tenant), refusal.Invalid(fleetv1.GroupVersion.WithKind("Tenant").GroupKind(), tenant, wrong)
}

func validateTenant(tenant *fleetv1.Tenant, others []fleetv1.Tenant, systemNamespace string) field.ErrorList {
	path := field.NewPath("spec")
	wrong := validateNamespaces(tenant, others, systemNamespace)
	for i, member := range tenant.Spec.Members {
		if reason := refuseGroup(member.Group); reason != "" {
			wrong = append(wrong, field.Invalid(path.Child("members").Index(i).Child("group"), member.Group, reason))
		}
	}
	wrong = append(wrong, validateNames(path.Child("sites"), tenant.Spec.Sites, "Site")...)
	return append(wrong, validateNames(path.Child("nodeTemplates"), tenant.Spec.NodeTemplates, "NodeTemplate")...)
}

func validateNamespaces(tenant *fleetv1.Tenant, others []fleetv1.Tenant, systemNamespace string) field.ErrorList {
	var wrong field.ErrorList
	for i, name := range namespacesOf(tenant) {
		path := field.NewPath("spec", "namespaces").Index(i)
		if len(tenant.Spec.Namespaces) == 0 {
			path = field.NewPath("metadata", "name")
		}
		if len(validation.IsDNS1123Label(name)) > 0 {
			wrong = append(wrong, field.Invalid(path, name, "cannot be the name of a namespace; use lower-case letters, digits and -"))
			continue
		}
		if name == "default" || strings.HasPrefix(name, "kube-") || name == systemNamespace {
			wrong = append(wrong, field.Invalid(path, name, "belongs to Kubernetes or to the platform; give the tenant a namespace of its own in spec.namespaces"))
		}
		for j := range others {
			if others[j].Name != tenant.Name && slices.Contains(namespacesOf(&others[j]), name) {
				wrong = append(wrong, field.Invalid(path, name, fmt.Sprintf("is a namespace of Tenant %s; a namespace belongs to one tenant", others[j].Name)))
			}
		}
	}
	return wrong
}

// refuseGroup says why nobody should be let in by a group, if so.
func refuseGroup(group string) string {
	switch {
	case strings.TrimSpace(group) != group || strings.ContainsFunc(group, unicode.IsControl):
		return "has spaces at its ends, or control characters; the identity provider names no group like that"
	case strings.HasPrefix(group, "system:") && !strings.HasPrefix(group, "system:serviceaccounts:"):
		return "is a group of Kubernetes itself; name groups of the identity provider, or system:serviceaccounts:<namespace>"
	}
	return ""
}

func validateNames(path *field.Path, names []string, kind string) field.ErrorList {
	var wrong field.ErrorList
	for i, name := range names {
		switch {
		case name == "*" && len(names) > 1:
			wrong = append(wrong, field.Invalid(path.Index(i), name, "stands for every "+kind+", so it stands alone"))
		case name != "*" && len(validation.IsDNS1123Label(name)) > 0:
			wrong = append(wrong, field.Invalid(path.Index(i), name, "cannot be the name of a "+kind+`; use lower-case letters, digits and -, or "*" alone for every one`))
		}
	}
	return wrong
}

func warnTenant(tenant *fleetv1.Tenant) admission.Warnings {
	var warnings admission.Warnings
	if len(tenant.Spec.Sites) == 0 {
		warnings = append(warnings, `spec.sites is unset, so the tenant can make no Cluster; ["*"] lets it use every Site`)
	}
	if len(tenant.Spec.NodeTemplates) == 0 {
		warnings = append(warnings, `spec.nodeTemplates is unset, so the tenant's Clusters can have no pools; ["*"] lets it use every NodeTemplate`)
	}
	return warnings
}
