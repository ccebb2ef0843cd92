package webhooks

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// Cluster API deletes the machines of a Cluster first and its SendanCluster last, so it is the Cluster that has to be kept.
// +kubebuilder:webhook:verbs=delete,path=/validate-cluster-x-k8s-io-v1beta2-cluster,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=cluster.x-k8s.io,resources=clusters,versions=v1beta2,name=deletion.cluster.infrastructure.cluster.x-k8s.io,sideEffects=None,admissionReviewVersions=v1

type deletionValidator struct{}

var _ admission.Validator[*clusterv1.Cluster] = deletionValidator{}

// ValidateCreate implements [admission.Validator]. It is not called.
func (deletionValidator) ValidateCreate(context.Context, *clusterv1.Cluster) (admission.Warnings, error) {
	return nil, nil
}

// ValidateUpdate implements [admission.Validator]. It is not called.
func (deletionValidator) ValidateUpdate(context.Context, *clusterv1.Cluster, *clusterv1.Cluster) (admission.Warnings, error) {
	return nil, nil
}

// ValidateDelete implements [admission.Validator].
func (deletionValidator) ValidateDelete(_ context.Context, cluster *clusterv1.Cluster) (admission.Warnings, error) {
	if wrong := refuseDeletion("cluster", cluster); wrong != nil {
		return nil, apierrors.NewInvalid(clusterv1.GroupVersion.WithKind("Cluster").GroupKind(), cluster.Name, field.ErrorList{wrong})
	}
	return nil, nil
}

// refuseDeletion keeps what is protected. What is going already cannot be kept.
func refuseDeletion(resource string, object client.Object) *field.Error {
	_, isProtected := object.GetAnnotations()[infrav1.DeletionProtectionAnnotation]
	if !isProtected || !object.GetDeletionTimestamp().IsZero() {
		return nil
	}
	return field.Forbidden(annotationPath(infrav1.DeletionProtectionAnnotation), fmt.Sprintf(
		"protects it from being deleted; to delete it all the same, remove the annotation first: kubectl annotate %s -n %s %s %s-",
		resource, object.GetNamespace(), object.GetName(), infrav1.DeletionProtectionAnnotation))
}

// refuseDeletionOf looks at the Cluster too: without its SendanCluster it would be lost as well.
func refuseDeletionOf(ctx context.Context, reader client.Reader, infra *infrav1.SendanCluster) *field.Error {
	if wrong := refuseDeletion("sendancluster", infra); wrong != nil || !infra.DeletionTimestamp.IsZero() || leavesByMove(infra) {
		return wrong
	}
	name := infra.Labels[clusterv1.ClusterNameLabel]
	if name == "" {
		return nil
	}
	cluster := &clusterv1.Cluster{}
	err := reader.Get(ctx, client.ObjectKey{Namespace: infra.Namespace, Name: name}, cluster)
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return field.InternalError(annotationPath(infrav1.DeletionProtectionAnnotation), fmt.Errorf("get Cluster %s: %w", name, err))
	}
	return refuseDeletion("cluster", cluster)
}
