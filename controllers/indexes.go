package controllers

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// The indexes of the manager's cache.
const (
	// ownerIDIndex finds SendanClusters and SendanMachines by the id their cloud objects are marked with.
	ownerIDIndex = "ownerID"
	// identityIndex finds SendanClusters and SendanMachines by the credentials they name.
	identityIndex = "identity"
)

// IndexFields makes a manager's cache searchable the way the controllers search it.
func IndexFields(ctx context.Context, indexer client.FieldIndexer) error {
	for _, index := range fieldIndexes() {
		if err := indexer.IndexField(ctx, index.of, index.field, index.values); err != nil {
			return fmt.Errorf("index %s: %w", index.field, err)
		}
	}
	return nil
}

type fieldIndex struct {
	of     client.Object
	field  string
	values client.IndexerFunc
}

func fieldIndexes() []fieldIndex {
	return []fieldIndex{
		{&infrav1.SendanCluster{}, ownerIDIndex, ownerIDs},
		{&infrav1.SendanMachine{}, ownerIDIndex, ownerIDs},
		{&infrav1.SendanCluster{}, identityIndex, identityKeys},
		{&infrav1.SendanMachine{}, identityIndex, identityKeys},
	}
}

func ownerIDs(obj client.Object) []string {
	if id := obj.GetAnnotations()[infrav1.OwnerIDAnnotation]; id != "" {
		return []string{id}
	}
	return nil
}

func identityKeys(obj client.Object) []string {
	var ref *infrav1.IdentityReference
	switch obj := obj.(type) {
	case *infrav1.SendanCluster:
		ref = &obj.Spec.IdentityRef
	case *infrav1.SendanMachine:
		ref = obj.Spec.IdentityRef
	}
	if ref == nil {
		return nil
	}
	return []string{identityKey(ref.Kind, obj.GetNamespace(), ref.Name)}
}

// identityKey names credentials: a Secret within its namespace, a SendanClusterIdentity anywhere.
func identityKey(kind infrav1.IdentityKind, namespace, name string) string {
	if kind == infrav1.IdentityClusterIdentity {
		return string(kind) + "/" + name
	}
	return string(infrav1.IdentitySecret) + "/" + namespace + "/" + name
}

// keysOfSecret are the identities that a Secret is behind: itself, and those that refer to it.
func keysOfSecret(ctx context.Context, c client.Reader, secret client.Object) []string {
	keys := []string{identityKey(infrav1.IdentitySecret, secret.GetNamespace(), secret.GetName())}
	identities := &infrav1.SendanClusterIdentityList{}
	if err := c.List(ctx, identities); err != nil {
		return keys
	}
	for _, identity := range identities.Items {
		if ref := identity.Spec.SecretRef; ref.Name == secret.GetName() && ref.Namespace == secret.GetNamespace() {
			keys = append(keys, identityKey(infrav1.IdentityClusterIdentity, "", identity.Name))
		}
	}
	return keys
}
