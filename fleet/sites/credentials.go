package sites

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// The keys of a Secret with credentials; docs/credentials.md.
const (
	secretKeyClouds = "clouds.yaml"
	secretKeyCACert = "cacert"
)

// credentials are what a Site logs in with. The Secret is read at every use: one that was rotated counts at once, and
// nothing of it is kept.
func credentials(ctx context.Context, identities, secrets client.Reader, ref fleetv1.SiteIdentityReference) (cloud.Identity, error) {
	identity := &infrav1.SendanClusterIdentity{}
	if err := identities.Get(ctx, client.ObjectKey{Name: ref.Name}, identity); apierrors.IsNotFound(err) {
		return cloud.Identity{}, noCredentials("spec.identityRef.name: SendanClusterIdentity %q does not exist; create it or name another", ref.Name)
	} else if err != nil {
		return cloud.Identity{}, fmt.Errorf("get SendanClusterIdentity %s: %w", ref.Name, err)
	}
	key := client.ObjectKey{Namespace: identity.Spec.SecretRef.Namespace, Name: identity.Spec.SecretRef.Name}
	secret := &corev1.Secret{}
	if err := secrets.Get(ctx, key, secret); apierrors.IsNotFound(err) {
		return cloud.Identity{}, noCredentials("SendanClusterIdentity %q: spec.secretRef: Secret %s does not exist; create it with the key %q", ref.Name, key, secretKeyClouds)
	} else if err != nil {
		return cloud.Identity{}, fmt.Errorf("get Secret %s: %w", key, err)
	}
	data, there := secret.Data[secretKeyClouds]
	if !there {
		return cloud.Identity{}, noCredentials("Secret %s has no key %q; put clouds.yaml there", key, secretKeyClouds)
	}
	parsed, err := cloud.ParseCloudsYAML(data, ref.CloudName)
	if err != nil {
		return cloud.Identity{}, fmt.Errorf("read Secret %s: %w", key, err)
	}
	return parsed.WithCACert(secret.Data[secretKeyCACert]).WithRegion(ref.Region), nil
}

func noCredentials(format string, args ...any) error {
	err := cloud.Errorf(cloud.Config, format, args...)
	err.Err = errNoCredentials
	return err
}
