package controllers

import (
	"context"
	"errors"
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// The keys of a Secret with credentials.
const (
	secretKeyClouds = "clouds.yaml"
	secretKeyCACert = "cacert"
)

// CloudGetter gives the session of an identity reference, as seen from a namespace.
type CloudGetter interface {
	Session(ctx context.Context, namespace string, ref infrav1.IdentityReference) (*cloud.Session, error)
	// Address is where its Keystone is, without a request to it; empty when the reference leads nowhere.
	Address(ctx context.Context, namespace string, ref infrav1.IdentityReference) string
}

// Identities turns identity references into cloud sessions. It reads credentials where they are and
// keeps no copy but the parsed one of the Secret's present version, so a rotated Secret takes effect
// with the next reconcile.
type Identities struct {
	// Client reads identities, namespaces and the metadata of Secrets from the cache, which may leave out some Secrets.
	Client client.Reader
	// Secrets reads the Secrets themselves.
	Secrets client.Reader
	// Sessions of this process.
	Sessions *cloud.Sessions

	mu     sync.Mutex
	parsed map[parsedKey]parsedIdentity
}

type parsedKey struct {
	secret    types.NamespacedName
	cloudName string
}

type parsedIdentity struct {
	resourceVersion string
	identity        cloud.Identity
}

// Session implements [CloudGetter].
func (i *Identities) Session(ctx context.Context, namespace string, ref infrav1.IdentityReference) (*cloud.Session, error) {
	identity, err := i.identity(ctx, namespace, ref)
	if err != nil {
		return nil, err
	}
	if ref.Region != "" {
		identity = identity.WithRegion(ref.Region)
	}
	return i.Sessions.Get(ctx, identity)
}

// Address implements [CloudGetter].
func (i *Identities) Address(ctx context.Context, namespace string, ref infrav1.IdentityReference) string {
	identity, err := i.identity(ctx, namespace, ref)
	if err != nil {
		return "" // whoever wants a session is told
	}
	return identity.AuthURL
}

func (i *Identities) identity(ctx context.Context, namespace string, ref infrav1.IdentityReference) (cloud.Identity, error) {
	secret, err := i.secretOf(ctx, namespace, ref)
	if err != nil {
		return cloud.Identity{}, err
	}
	return i.read(ctx, secret, ref.CloudName)
}

// errNotAllowed says that a namespace may not use an identity.
var errNotAllowed = errors.New("the namespace may not use the identity")

// secretOf is the Secret behind a reference, if the namespace may use it.
func (i *Identities) secretOf(ctx context.Context, namespace string, ref infrav1.IdentityReference) (types.NamespacedName, error) {
	if ref.Kind != infrav1.IdentityClusterIdentity {
		return types.NamespacedName{Namespace: namespace, Name: ref.Name}, nil
	}
	identity := &infrav1.SendanClusterIdentity{}
	if err := i.Client.Get(ctx, types.NamespacedName{Name: ref.Name}, identity); apierrors.IsNotFound(err) {
		return types.NamespacedName{}, cloud.Errorf(cloud.Config, "spec.identityRef.name: SendanClusterIdentity %q does not exist; create it or name another", ref.Name)
	} else if err != nil {
		return types.NamespacedName{}, fmt.Errorf("get SendanClusterIdentity %s: %w", ref.Name, err)
	}
	allowed, err := i.allows(ctx, identity, namespace)
	if err != nil {
		return types.NamespacedName{}, err
	}
	if !allowed {
		refusal := cloud.Errorf(cloud.Auth,
			"spec.identityRef.name: SendanClusterIdentity %q may not be used in namespace %q; label the namespace so that spec.namespaceSelector of the identity matches, or name another identity", ref.Name, namespace)
		refusal.Err = errNotAllowed
		return types.NamespacedName{}, refusal
	}
	return types.NamespacedName{Namespace: identity.Spec.SecretRef.Namespace, Name: identity.Spec.SecretRef.Name}, nil
}

func (i *Identities) allows(ctx context.Context, identity *infrav1.SendanClusterIdentity, namespace string) (bool, error) {
	selector, err := metav1.LabelSelectorAsSelector(identity.Spec.NamespaceSelector) // nil selects nothing
	if err != nil {
		return false, cloud.Errorf(cloud.Config, "SendanClusterIdentity %q: spec.namespaceSelector: %v", identity.Name, err)
	}
	ns := &corev1.Namespace{}
	if err := i.Client.Get(ctx, types.NamespacedName{Name: namespace}, ns); err != nil {
		return false, fmt.Errorf("get namespace %s: %w", namespace, err)
	}
	return selector.Matches(labels.Set(ns.Labels)), nil
}

// read parses the Secret's clouds.yaml, once for each version of the Secret. One that the cache does not have is read each time.
func (i *Identities) read(ctx context.Context, name types.NamespacedName, cloudName string) (cloud.Identity, error) {
	meta := &metav1.PartialObjectMetadata{}
	meta.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := i.Client.Get(ctx, name, meta)
	if client.IgnoreNotFound(err) != nil {
		return cloud.Identity{}, fmt.Errorf("get Secret %s: %w", name, err)
	}
	key := parsedKey{secret: name, cloudName: cloudName}
	if known, ok := i.lookUp(key); ok && known.resourceVersion == meta.ResourceVersion {
		return known.identity, nil
	}
	secret := &corev1.Secret{}
	if err := i.Secrets.Get(ctx, name, secret); apierrors.IsNotFound(err) {
		return cloud.Identity{}, missingSecret(name)
	} else if err != nil {
		return cloud.Identity{}, fmt.Errorf("get Secret %s: %w", name, err)
	}
	identity, err := parseSecret(secret, cloudName)
	if err != nil {
		return cloud.Identity{}, err
	}
	i.remember(key, parsedIdentity{resourceVersion: secret.ResourceVersion, identity: identity})
	return identity, nil
}

func parseSecret(secret *corev1.Secret, cloudName string) (cloud.Identity, error) {
	data, ok := secret.Data[secretKeyClouds]
	if !ok {
		return cloud.Identity{}, cloud.Errorf(cloud.Config, "Secret %s/%s has no key %q; put clouds.yaml there", secret.Namespace, secret.Name, secretKeyClouds)
	}
	identity, err := cloud.ParseCloudsYAML(data, cloudName)
	if err != nil {
		return cloud.Identity{}, fmt.Errorf("read Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	if ca, ok := secret.Data[secretKeyCACert]; ok {
		identity = identity.WithCACert(ca)
	}
	return identity, nil
}

func missingSecret(name types.NamespacedName) error {
	return cloud.Errorf(cloud.Config, "spec.identityRef: Secret %s does not exist; create it with the key %q", name, secretKeyClouds)
}

func (i *Identities) lookUp(key parsedKey) (parsedIdentity, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	known, ok := i.parsed[key]
	return known, ok
}

func (i *Identities) remember(key parsedKey, identity parsedIdentity) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.parsed == nil {
		i.parsed = map[parsedKey]parsedIdentity{}
	}
	i.parsed[key] = identity
}
