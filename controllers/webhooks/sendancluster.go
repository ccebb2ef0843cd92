package webhooks

import (
	"context"

	apiequality "k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// +kubebuilder:webhook:verbs=create;update;delete,path=/validate-infrastructure-cluster-x-k8s-io-v1alpha1-sendancluster,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=infrastructure.cluster.x-k8s.io,resources=sendanclusters,versions=v1alpha1,name=validation.sendancluster.infrastructure.cluster.x-k8s.io,sideEffects=None,admissionReviewVersions=v1

type clusterValidator struct{ reader client.Reader }

var _ admission.Validator[*infrav1.SendanCluster] = clusterValidator{}

// ValidateCreate implements [admission.Validator].
func (v clusterValidator) ValidateCreate(ctx context.Context, cluster *infrav1.SendanCluster) (admission.Warnings, error) {
	wrong := validateClusterSpec(&cluster.Spec, field.NewPath("spec"))
	wrong = append(wrong, validateOwnerIDForm(cluster)...)
	wrong = append(wrong, validateMissingConfirmed(cluster)...)
	wrong = append(wrong, validateOwnerIDUnique(ctx, v.reader, cluster)...)
	return nil, refuse("SendanCluster", cluster, wrong)
}

// ValidateUpdate implements [admission.Validator].
func (v clusterValidator) ValidateUpdate(ctx context.Context, old, updated *infrav1.SendanCluster) (admission.Warnings, error) {
	wrong := validateClusterUpdate(old, updated)
	if old.Annotations[infrav1.OwnerIDAnnotation] == "" {
		wrong = append(wrong, validateOwnerIDUnique(ctx, v.reader, updated)...)
	}
	return nil, refuse("SendanCluster", updated, wrong)
}

// ValidateDelete implements [admission.Validator].
func (v clusterValidator) ValidateDelete(ctx context.Context, cluster *infrav1.SendanCluster) (admission.Warnings, error) {
	if wrong := refuseDeletionOf(ctx, v.reader, cluster); wrong != nil {
		return nil, refuse("SendanCluster", cluster, field.ErrorList{wrong})
	}
	return nil, nil
}

// validateClusterUpdate looks at the new spec only where it changed, so that an object written
// before a rule existed can still be labeled, annotated and deleted.
func validateClusterUpdate(old, updated *infrav1.SendanCluster) field.ErrorList {
	path := field.NewPath("spec")
	wrong := validateOwnerIDUpdate(old, updated)
	wrong = append(wrong, validateManagedByUpdate(old, updated)...)
	if old.Annotations[infrav1.MissingConfirmedAnnotation] != updated.Annotations[infrav1.MissingConfirmedAnnotation] {
		wrong = append(wrong, validateMissingConfirmed(updated)...)
	}
	if apiequality.Semantic.DeepEqual(old.Spec, updated.Spec) {
		return wrong
	}
	wrong = append(wrong, immutability{
		path:    path,
		mutable: mutableClusterFields(old),
		instead: "restore it, or make a new cluster",
	}.violations(withEndpoint(old.Spec), withEndpoint(updated.Spec))...)
	return append(wrong, validateClusterSpec(&updated.Spec, path)...)
}

func mutableClusterFields(old *infrav1.SendanCluster) []string {
	mutable := []string{
		"identityRef.kind", "identityRef.name", "identityRef.cloudName",
		"network.managed.dnsNameservers",
		"endpoint.loadBalancer.allowedCIDRs",
		"securityGroups", "failureDomains", "tags", "deletion",
	}
	if old.Spec.ControlPlaneEndpoint.Host == "" {
		mutable = append(mutable, "controlPlaneEndpoint")
	}
	return mutable
}

// withEndpoint spells out the endpoint that an unset one stands for, so that spelling it out later,
// to add allowedCIDRs, is no change.
func withEndpoint(spec infrav1.SendanClusterSpec) infrav1.SendanClusterSpec {
	if spec.Endpoint == (infrav1.Endpoint{}) {
		spec.Endpoint.LoadBalancer = &infrav1.LoadBalancerEndpoint{Port: defaultAPIPort}
	}
	return spec
}

// defaultAPIPort is the CRD's default of the endpoints' ports.
const defaultAPIPort = 6443
