package sites

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
	"github.com/sendan-io/sendan/fleet/internal/refusal"
)

// +kubebuilder:webhook:verbs=create;update;delete,path=/validate-fleet-sendan-io-v1alpha1-site,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=fleet.sendan.io,resources=sites,versions=v1alpha1,name=validation.site.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1

// SetupWebhooksWithManager serves the webhook of Sites.
func SetupWebhooksWithManager(mgr ctrl.Manager) error {
	// Uncached: a Site must not go away under a Cluster that was made just before.
	err := ctrl.NewWebhookManagedBy(mgr, &fleetv1.Site{}).WithValidator(validator{reader: mgr.GetAPIReader()}).Complete()
	if err != nil {
		return fmt.Errorf("set up the webhook of Sites: %w", err)
	}
	return nil
}

type validator struct{ reader client.Reader }

var _ admission.Validator[*fleetv1.Site] = validator{}

// ValidateCreate implements [admission.Validator].
func (v validator) ValidateCreate(ctx context.Context, site *fleetv1.Site) (admission.Warnings, error) {
	return v.warn(ctx, site), refusal.Invalid(fleetv1.GroupVersion.WithKind("Site").GroupKind(), site, validate(site.Spec))
}

// ValidateUpdate implements [admission.Validator].
func (v validator) ValidateUpdate(ctx context.Context, _, site *fleetv1.Site) (admission.Warnings, error) {
	if !site.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	return v.ValidateCreate(ctx, site)
}

// ValidateDelete implements [admission.Validator].
func (v validator) ValidateDelete(ctx context.Context, site *fleetv1.Site) (admission.Warnings, error) {
	users, err := v.users(ctx, site.Name)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	if len(users) == 0 {
		return nil, nil
	}
	return nil, apierrors.NewForbidden(fleetv1.GroupVersion.WithResource("sites").GroupResource(), site.Name,
		fmt.Errorf("it is used by %s; delete them first", message.Some(users, ", ")))
}

func validate(spec fleetv1.SiteSpec) field.ErrorList {
	path := field.NewPath("spec")
	var wrong field.ErrorList
	if name := spec.IdentityRef.Name; len(validation.IsDNS1123Subdomain(name)) > 0 {
		wrong = append(wrong, field.Invalid(path.Child("identityRef", "name"), name, "cannot be the name of a SendanClusterIdentity; use lower-case letters, digits, - and ."))
	}
	wrong = append(wrong, validateCIDR(path.Child("networkCIDR"), spec.NetworkCIDR)...)
	for i, server := range spec.DNSNameservers {
		if _, err := netip.ParseAddr(server); err != nil {
			wrong = append(wrong, field.Invalid(path.Child("dnsNameservers").Index(i), server, "is not an IP address; write one such as 192.0.2.53 or 2001:db8::53"))
		}
	}
	return append(wrong, validateGPUs(path.Child("gpus"), spec.GPUs)...)
}

func validateCIDR(path *field.Path, text string) field.ErrorList {
	cidr, err := netip.ParsePrefix(text)
	switch {
	case text == "":
		return nil // its default
	case err != nil:
		return field.ErrorList{field.Invalid(path, text, "is not a CIDR; write one such as 10.6.0.0/20")}
	case cidr != cidr.Masked():
		return field.ErrorList{field.Invalid(path, text, fmt.Sprintf("has bits set after its prefix; write %s", cidr.Masked()))}
	}
	return nil
}

// resourceClass is how Placement names classes.
var resourceClass = regexp.MustCompile(`^[A-Z0-9_]+$`)

// validateGPUs sees that a flavor with GPUs is of one model.
func validateGPUs(path *field.Path, gpus []fleetv1.SiteGPU) field.ErrorList {
	var wrong field.ErrorList
	models := map[[2]string]string{}
	for i, gpu := range gpus {
		at := path.Index(i)
		if gpu.PCIAlias == "" && gpu.ResourceClass == "" {
			wrong = append(wrong, field.Required(at, fmt.Sprintf("set pciAlias or resourceClass, by which flavors ask for %s; both where they do either", gpu.Model)))
		}
		if gpu.ResourceClass != "" && !resourceClass.MatchString(gpu.ResourceClass) {
			wrong = append(wrong, field.Invalid(at.Child("resourceClass"), gpu.ResourceClass, "is no resource class; use upper-case letters, digits and _, such as CUSTOM_GPU_A100"))
		}
		for _, way := range [][2]string{{"pciAlias", gpu.PCIAlias}, {"resourceClass", gpu.ResourceClass}} {
			if other, taken := models[way]; taken && way[1] != "" {
				wrong = append(wrong, field.Invalid(at.Child(way[0]), way[1], fmt.Sprintf("is also that of %s; a flavor that asks for it would be of two models", other)))
			}
			models[way] = gpu.Model
		}
	}
	return wrong
}

// warn tells what is missing now and may come later: objects are applied in any order.
func (v validator) warn(ctx context.Context, site *fleetv1.Site) admission.Warnings {
	identity := &infrav1.SendanClusterIdentity{}
	err := v.reader.Get(ctx, client.ObjectKey{Name: site.Spec.IdentityRef.Name}, identity)
	switch {
	case apierrors.IsNotFound(err):
		return admission.Warnings{fmt.Sprintf("spec.identityRef.name: there is no SendanClusterIdentity %q yet; nothing is known of the site until there is", site.Spec.IdentityRef.Name)}
	case err == nil && identity.Spec.NamespaceSelector == nil:
		return admission.Warnings{fmt.Sprintf("spec.identityRef.name: SendanClusterIdentity %q has no spec.namespaceSelector, so that no cluster may use it", identity.Name)}
	}
	return nil
}

// users are the Clusters in a site, and the Releases that would be left without a site that has all they need.
func (v validator) users(ctx context.Context, site string) ([]string, error) {
	var users []string
	clusters := &clusterv1.ClusterList{}
	if err := v.reader.List(ctx, clusters, client.MatchingLabels{fleetv1.SiteLabel: site}); err != nil {
		return nil, fmt.Errorf("list Clusters: %w", err)
	}
	for _, cluster := range clusters.Items {
		users = append(users, fmt.Sprintf("Cluster %s/%s", cluster.Namespace, cluster.Name))
	}
	releases := &fleetv1.ReleaseList{}
	if err := v.reader.List(ctx, releases); err != nil {
		return nil, fmt.Errorf("list Releases: %w", err)
	}
	for _, release := range releases.Items {
		if onlyIn(release, site) {
			users = append(users, "Release "+release.Name+", which has no other site")
		}
	}
	slices.Sort(users)
	return users, nil
}

func onlyIn(release fleetv1.Release, site string) bool {
	usable := slices.DeleteFunc(slices.Clone(release.Status.Sites), func(s fleetv1.ReleaseSite) bool { return s.ClusterClass == "" })
	return release.Status.Phase != fleetv1.ReleaseExpired && len(usable) == 1 && usable[0].Site == site
}
