package tenancy

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// reads is how the controller and admission look at the API: from memory, and past it where that could be too old.
type reads struct{ cached, live client.Reader }

// tenantOf is the name of the tenant that a namespace belongs to; empty for none.
func (r reads) tenantOf(ctx context.Context, namespace string) (string, error) {
	object := &corev1.Namespace{}
	err := r.cached.Get(ctx, client.ObjectKey{Name: namespace}, object)
	if tenant := object.Labels[fleetv1.TenantLabel]; tenant != "" {
		return tenant, nil
	}
	// Members get their rights after the label is written, which memory may not have heard of yet.
	if err == nil || apierrors.IsNotFound(err) {
		err = r.live.Get(ctx, client.ObjectKey{Name: namespace}, object)
	}
	if err != nil {
		return "", fmt.Errorf("get namespace %s: %w", namespace, err)
	}
	return object.Labels[fleetv1.TenantLabel], nil
}

// namespaces are those that a tenant's spec names or that carry its label.
func (r reads) namespaces(ctx context.Context, tenant *fleetv1.Tenant) (map[string]*corev1.Namespace, error) {
	found := map[string]*corev1.Namespace{}
	var labeled corev1.NamespaceList
	if err := r.cached.List(ctx, &labeled, client.MatchingLabels{fleetv1.TenantLabel: tenant.Name}); err != nil {
		return nil, fmt.Errorf("list namespaces of the tenant: %w", err)
	}
	for i := range labeled.Items {
		found[labeled.Items[i].Name] = &labeled.Items[i]
	}
	for _, name := range namespacesOf(tenant) {
		namespace := &corev1.Namespace{}
		err := r.cached.Get(ctx, client.ObjectKey{Name: name}, namespace)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("get namespace %s: %w", name, err)
		}
		if err == nil {
			found[name] = namespace
		}
	}
	return found, nil
}

// clustersIn are the Clusters of the namespaces that carry the tenant's label.
func clustersIn(ctx context.Context, reader client.Reader, tenant string, namespaces map[string]*corev1.Namespace) ([]clusterv1.Cluster, error) {
	var found []clusterv1.Cluster
	for name, namespace := range namespaces {
		if namespace.Labels[fleetv1.TenantLabel] != tenant {
			continue
		}
		var list clusterv1.ClusterList
		// They are only read, and a tenant may have thousands.
		if err := reader.List(ctx, &list, client.InNamespace(name), client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list Clusters in namespace %s: %w", name, err)
		}
		found = append(found, list.Items...)
	}
	return found, nil
}

// clusterNames are sorted, by namespace.
func clusterNames(found []clusterv1.Cluster) map[string][]string {
	names := map[string][]string{}
	for i := range found {
		names[found[i].Namespace] = append(names[found[i].Namespace], found[i].Name)
	}
	for _, inOne := range names {
		slices.Sort(inOne)
	}
	return names
}

// class is the ClusterClass of a Cluster; nil when it is not there. It is memory's own, since it is large: nobody may change it.
func (r reads) class(ctx context.Context, cluster *clusterv1.Cluster) (*clusterv1.ClusterClass, error) {
	key := classKeyOf(cluster)
	if key.Name == "" {
		return nil, nil
	}
	class := &clusterv1.ClusterClass{}
	err := r.cached.Get(ctx, key, class, client.UnsafeDisableDeepCopy)
	if apierrors.IsNotFound(err) { // it may be new
		err = r.live.Get(ctx, key, class)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get ClusterClass %s: %w", key, err)
	}
	return class, nil
}

func classKeyOf(cluster *clusterv1.Cluster) client.ObjectKey {
	ref := cluster.Spec.Topology.ClassRef
	return client.ObjectKey{Namespace: cmp.Or(ref.Namespace, cluster.Namespace), Name: ref.Name}
}

// poolSizes are read only for a Cluster with a pool whose size its topology leaves open.
func (r reads) poolSizes(ctx context.Context, cluster *clusterv1.Cluster) (poolSizes, error) {
	isOpen := func(pool clusterv1.MachineDeploymentTopology) bool { return pool.Replicas == nil }
	if !slices.ContainsFunc(cluster.Spec.Topology.Workers.MachineDeployments, isOpen) {
		return nil, nil
	}
	var deployments clusterv1.MachineDeploymentList
	if err := r.cached.List(ctx, &deployments, client.InNamespace(cluster.Namespace), client.MatchingLabels{clusterv1.ClusterNameLabel: cluster.Name}); err != nil {
		return nil, fmt.Errorf("list MachineDeployments of Cluster %s: %w", client.ObjectKeyFromObject(cluster), err)
	}
	return poolSizesOf(deployments.Items), nil
}

// count says what a Cluster uses that is there.
func (r reads) count(ctx context.Context, cluster *clusterv1.Cluster) (stored, error) {
	class, err := r.class(ctx, cluster)
	if err != nil {
		return stored{}, err
	}
	return r.countOf(ctx, cluster, class)
}

func (r reads) countOf(ctx context.Context, cluster *clusterv1.Cluster, class *clusterv1.ClusterClass) (stored, error) {
	sizes, err := r.poolSizes(ctx, cluster)
	if err != nil {
		return stored{}, err
	}
	d, _ := demandOf(cluster, class, sizes)
	return stored{uid: cluster.UID, usage: d.total(), isUncounted: class == nil && cluster.Spec.Topology.IsDefined()}, nil
}

// countAll asks for each ClusterClass once: one that memory does not have costs a request.
func (r reads) countAll(ctx context.Context, found []clusterv1.Cluster) (map[client.ObjectKey]stored, error) {
	all, classes := map[client.ObjectKey]stored{}, map[client.ObjectKey]*clusterv1.ClusterClass{}
	for i := range found {
		key := classKeyOf(&found[i])
		class, known := classes[key]
		if !known {
			var err error
			if class, err = r.class(ctx, &found[i]); err != nil {
				return nil, err
			}
			classes[key] = class
		}
		counted, err := r.countOf(ctx, &found[i], class)
		if err != nil {
			return nil, err
		}
		all[client.ObjectKeyFromObject(&found[i])] = counted
	}
	return all, nil
}

// stored is a Cluster as it is now; nothing when there is none.
func (r reads) stored(ctx context.Context, key client.ObjectKey) (stored, error) {
	cluster := &clusterv1.Cluster{}
	err := r.live.Get(ctx, key, cluster)
	if apierrors.IsNotFound(err) {
		return stored{}, nil
	}
	if err != nil {
		return stored{}, fmt.Errorf("get Cluster %s: %w", key, err)
	}
	return r.count(ctx, cluster)
}

// everything is all Clusters of a tenant as they are now.
func (r reads) everything(ctx context.Context, tenant *fleetv1.Tenant) (map[client.ObjectKey]stored, error) {
	namespaces, err := reads{cached: r.live, live: r.live}.namespaces(ctx, tenant)
	if err != nil {
		return nil, err
	}
	found, err := clustersIn(ctx, r.live, tenant.Name, namespaces)
	if err != nil {
		return nil, err
	}
	return r.countAll(ctx, found)
}
