package addons

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// reads are the ways to look at the management cluster. ConfigMaps are read live: a cache would hold all that there are. Their metadata
// is cached.
type reads struct{ cached, live, metadata client.Reader }

// gather is all but the ConfigMaps.
func (r reads) gather(ctx context.Context, cluster *clusterv1.Cluster) (Input, error) {
	in := Input{Cluster: cluster}
	var err error
	if in.Release, err = named(ctx, r.cached, cluster.Labels[fleetv1.ReleaseLabel], &fleetv1.Release{}); err != nil {
		return Input{}, err
	}
	if in.Site, err = named(ctx, r.cached, cluster.Labels[fleetv1.SiteLabel], &fleetv1.Site{}); err != nil {
		return Input{}, err
	}
	var addons fleetv1.AddonList
	if err := r.cached.List(ctx, &addons, client.UnsafeDisableDeepCopy); err != nil {
		return Input{}, fmt.Errorf("list Addons: %w", err)
	}
	in.Addons = addons.Items
	return in, nil
}

// plan reads the ConfigMaps too.
func (r reads) plan(ctx context.Context, in Input) (Intent, error) {
	var err error
	in.ConfigMaps, err = r.configMaps(ctx, sourcesOf(in))
	return Plan(in), err
}

func sourcesOf(in Input) []fleetv1.AddonSource {
	var sources []fleetv1.AddonSource
	for _, chosen := range choose(in) {
		sources = append(sources, chosen.source)
	}
	return sources
}

// fingerprint is another whenever the plan could be another. To plan, manifests are rendered, which costs much more.
func (r reads) fingerprint(ctx context.Context, in Input) (string, error) {
	facts := []any{clusterFacts(in.Cluster)}
	if in.Release != nil {
		facts = append(facts, in.Release.UID, in.Release.Generation)
	}
	if in.Site != nil {
		facts = append(facts, in.Site.UID, siteFacts(in.Site))
	}
	for _, addon := range in.Addons {
		facts = append(facts, addon.UID, addon.Generation)
	}
	for _, source := range sourcesOf(in) {
		if source.ConfigMap == nil {
			continue
		}
		configMap := &metav1.PartialObjectMetadata{}
		configMap.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
		err := r.metadata.Get(ctx, client.ObjectKey{Namespace: source.ConfigMap.Namespace, Name: source.ConfigMap.Name}, configMap)
		if client.IgnoreNotFound(err) != nil {
			return "", fmt.Errorf("get the metadata of the ConfigMap %s/%s: %w", source.ConfigMap.Namespace, source.ConfigMap.Name, err)
		}
		facts = append(facts, configMap.UID, configMap.ResourceVersion)
	}
	return fmt.Sprint(facts...), nil
}

// named is nil when the name is empty or nothing has it.
func named[T client.Object](ctx context.Context, reader client.Reader, name string, object T) (T, error) {
	var none T
	if name == "" {
		return none, nil
	}
	err := reader.Get(ctx, client.ObjectKey{Name: name}, object)
	switch {
	case apierrors.IsNotFound(err):
		return none, nil
	case err != nil:
		return none, fmt.Errorf("get %T %s: %w", object, name, err)
	}
	return object, nil
}

// configMaps are the data of those that the sources refer to and that are there.
func (r reads) configMaps(ctx context.Context, sources []fleetv1.AddonSource) (map[fleetv1.ConfigMapReference]map[string]string, error) {
	found := map[fleetv1.ConfigMapReference]map[string]string{}
	for _, source := range sources {
		if source.ConfigMap == nil {
			continue
		}
		configMap := &corev1.ConfigMap{}
		err := r.live.Get(ctx, client.ObjectKey{Namespace: source.ConfigMap.Namespace, Name: source.ConfigMap.Name}, configMap)
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("get the ConfigMap %s/%s: %w", source.ConfigMap.Namespace, source.ConfigMap.Name, err)
		}
		found[*source.ConfigMap] = configMap.Data
	}
	return found, nil
}
