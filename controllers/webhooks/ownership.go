package webhooks

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func annotationPath(key string) *field.Path {
	return field.NewPath("metadata", "annotations").Key(key)
}

// validateOwnerIDForm: marks on cloud objects hold the id, and the names of server groups are read
// back by its shape.
func validateOwnerIDForm(object client.Object) field.ErrorList {
	id, set := object.GetAnnotations()[infrav1.OwnerIDAnnotation]
	if !set {
		return nil
	}
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return field.ErrorList{field.Invalid(annotationPath(infrav1.OwnerIDAnnotation), id,
			"is not a UUID; remove the annotation, the controller writes it")}
	}
	return nil
}

// leavesByMove holds for an update that makes an object ready to be removed here, once `clusterctl move` has made it
// elsewhere. clusterctl replaces all annotations by this one; see deleteSourceObject in its package cluster.
func leavesByMove(updated client.Object) bool {
	_, leaves := updated.GetAnnotations()[clusterctlv1.DeleteForMoveAnnotation]
	return leaves
}

// validateOwnerIDUpdate: whoever could change the id would leave everything in the cloud behind.
func validateOwnerIDUpdate(old, updated client.Object) field.ErrorList {
	before, was := old.GetAnnotations()[infrav1.OwnerIDAnnotation]
	after := updated.GetAnnotations()[infrav1.OwnerIDAnnotation]
	if !was {
		return validateOwnerIDForm(updated)
	}
	if before == after || after == "" && leavesByMove(updated) {
		return nil
	}
	return field.ErrorList{field.Invalid(annotationPath(infrav1.OwnerIDAnnotation), after,
		fmt.Sprintf("is immutable once set and was %q: the objects in the cloud are marked with it; restore it", before))}
}

// validateOwnerIDUnique refuses an owner id that another SendanCluster has: it would take that
// cluster's objects in the cloud for its own, and remove them when it is deleted. An id that equals
// the object's UID needs no look, as it is the controller's.
func validateOwnerIDUnique(ctx context.Context, reader client.Reader, cluster *infrav1.SendanCluster) field.ErrorList {
	id := cluster.Annotations[infrav1.OwnerIDAnnotation]
	if id == "" || id == string(cluster.UID) {
		return nil
	}
	path := annotationPath(infrav1.OwnerIDAnnotation)
	var others infrav1.SendanClusterList
	if err := reader.List(ctx, &others); err != nil {
		return field.ErrorList{field.InternalError(path, fmt.Errorf("list SendanClusters: %w", err))}
	}
	for _, other := range others.Items {
		self := other.Namespace == cluster.Namespace && other.Name == cluster.Name
		if !self && (other.Annotations[infrav1.OwnerIDAnnotation] == id || string(other.UID) == id) {
			return field.ErrorList{field.Invalid(path, id, "belongs to another SendanCluster; remove the annotation, the controller writes it")}
		}
	}
	return nil
}

// validateMissingConfirmed: a word about the future would be one about everything that ever vanishes, so the controller does not
// listen to it.
func validateMissingConfirmed(cluster *infrav1.SendanCluster) field.ErrorList {
	value, set := cluster.Annotations[infrav1.MissingConfirmedAnnotation]
	if !set {
		return nil
	}
	const clocksDiffer = time.Minute
	if at, err := time.Parse(time.RFC3339, value); err != nil || at.After(time.Now().Add(clocksDiffer)) {
		return field.ErrorList{field.Invalid(annotationPath(infrav1.MissingConfirmedAnnotation), value,
			"is not a time that has been, in RFC 3339; write what `date -u +%FT%TZ` prints")}
	}
	return nil
}

// validateManagedByUpdate: Cluster API's contract. An infrastructure cluster that an external system
// manages must not fall into Sendan's hands by the removal of an annotation.
func validateManagedByUpdate(old, updated client.Object) field.ErrorList {
	before, was := old.GetAnnotations()[clusterv1.ManagedByAnnotation]
	if _, is := updated.GetAnnotations()[clusterv1.ManagedByAnnotation]; !was || is || leavesByMove(updated) {
		return nil
	}
	return field.ErrorList{field.Forbidden(annotationPath(clusterv1.ManagedByAnnotation),
		fmt.Sprintf("%q manages this cluster, and the annotation cannot be removed; restore it", before))}
}
