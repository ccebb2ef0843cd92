package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// SendanClusterTemplateSpec holds the template. Immutable: make a new one under another name.
type SendanClusterTemplateSpec struct {
	// template the SendanClusters are made from.
	// +required
	Template SendanClusterTemplateResource `json:"template,omitzero"`
}

// SendanClusterTemplateResource is what each SendanCluster made from the template starts as.
type SendanClusterTemplateResource struct {
	// metadata: labels and annotations put on each object.
	// +optional
	ObjectMeta clusterv1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	// spec of each object.
	// +required
	Spec SendanClusterSpec `json:"spec,omitzero"`
}

// SendanClusterTemplate is what a ClusterClass makes SendanClusters from.
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=sendanclustertemplates,scope=Namespaced,categories=cluster-api,shortName=sct
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:metadata:labels="cluster.x-k8s.io/provider=infrastructure-sendan"
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SendanClusterTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec holds the template.
	// +required
	Spec SendanClusterTemplateSpec `json:"spec,omitzero"`
}

// SendanClusterTemplateList is a list of SendanClusterTemplates.
// +kubebuilder:object:root=true
type SendanClusterTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SendanClusterTemplate `json:"items"`
}
