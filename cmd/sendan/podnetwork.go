package main

import (
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

const podNetworkName = "pod-network"

// addPodNetwork has Cluster API apply manifests to the cluster as soon as it answers.
func (t *tenant) addPodNetwork(manifests []byte) {
	labels := map[string]any{clusterv1.ClusterNameLabel: t.name}
	for _, object := range t.manifests {
		if object.GetKind() != "Cluster" {
			continue
		}
		with := object.GetLabels()
		if with == nil {
			with = map[string]string{}
		}
		with[clusterv1.ClusterNameLabel] = t.name
		object.SetLabels(with)
	}
	t.manifests = append(t.manifests,
		t.object("v1", "ConfigMap", map[string]any{"data": map[string]any{"manifests.yaml": string(manifests)}}),
		t.object("addons.cluster.x-k8s.io/v1beta2", "ClusterResourceSet", map[string]any{"spec": map[string]any{
			"clusterSelector": map[string]any{"matchLabels": labels},
			"resources":       []any{map[string]any{"kind": "ConfigMap", "name": podNetworkName}},
		}}))
}

// object is one of the pod network's own.
func (t *tenant) object(apiVersion, kind string, content map[string]any) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: content}
	object.SetAPIVersion(apiVersion)
	object.SetKind(kind)
	object.SetNamespace(t.namespace)
	object.SetName(podNetworkName)
	return object
}
