package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// SendanClusterIdentitySpec names credentials and who may use them.
type SendanClusterIdentitySpec struct {
	// secretRef is the Secret with the key clouds.yaml and, optionally, cacert.
	// +required
	SecretRef IdentitySecretReference `json:"secretRef,omitzero"`

	// namespaceSelector selects the namespaces whose clusters may use this identity by their labels.
	// When unset, none may; an empty selector means every namespace.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`
}

// IdentitySecretReference names a Secret in any namespace.
type IdentitySecretReference struct {
	// name of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// namespace of the Secret.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`
}

// SendanClusterIdentity shares credentials with selected namespaces without handing them out.
// +kubebuilder:object:root=true
// +kubebuilder:resource:path=sendanclusteridentities,scope=Cluster,categories=cluster-api,shortName=sci
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:metadata:labels="cluster.x-k8s.io/provider=infrastructure-sendan"
// +kubebuilder:metadata:labels="clusterctl.cluster.x-k8s.io/move-hierarchy="
// +kubebuilder:printcolumn:name="Secret",type=string,JSONPath=`.spec.secretRef.name`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.secretRef.namespace`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SendanClusterIdentity struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec names the credentials.
	// +required
	Spec SendanClusterIdentitySpec `json:"spec,omitzero"`
}

// SendanClusterIdentityList is a list of SendanClusterIdentities.
// +kubebuilder:object:root=true
type SendanClusterIdentityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SendanClusterIdentity `json:"items"`
}
