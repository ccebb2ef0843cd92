package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// SendanMachineTemplateSpec holds the template. Immutable: make a new one under another name, which
// is how Cluster API rolls machines.
type SendanMachineTemplateSpec struct {
	// template the SendanMachines are made from.
	// +required
	Template SendanMachineTemplateResource `json:"template,omitzero"`
}

// SendanMachineTemplateResource is what each SendanMachine made from the template starts as.
type SendanMachineTemplateResource struct {
	// metadata: labels and annotations put on each object.
	// +optional
	ObjectMeta clusterv1.ObjectMeta `json:"metadata,omitempty,omitzero"`
	// spec of each object.
	// +required
	Spec SendanMachineSpec `json:"spec,omitzero"`
}

// SendanMachineTemplateStatus tells the cluster-autoscaler what a node of this shape would offer.
type SendanMachineTemplateStatus struct {
	// conditions: Ready, Paused.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// capacity of a node: cpu, memory, ephemeral-storage and devices.
	// +optional
	Capacity corev1.ResourceList `json:"capacity,omitempty"`

	// nodeInfo of a node.
	// +optional
	NodeInfo NodeInfo `json:"nodeInfo,omitempty,omitzero"`
}

// NodeInfo is what the scheduler has to know about a node besides its capacity.
// +kubebuilder:validation:MinProperties=1
type NodeInfo struct {
	// architecture of the node.
	// +optional
	// +kubebuilder:validation:Enum=amd64;arm64;s390x;ppc64le
	Architecture string `json:"architecture,omitempty"`

	// operatingSystem of the node, such as linux.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	OperatingSystem string `json:"operatingSystem,omitempty"`
}

// SendanMachineTemplate is what MachineSets and control planes make SendanMachines from.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=sendanmachinetemplates,scope=Namespaced,categories=cluster-api,shortName=smt
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="cluster.x-k8s.io/v1beta2=v1alpha1"
// +kubebuilder:metadata:labels="cluster.x-k8s.io/provider=infrastructure-sendan"
// +kubebuilder:printcolumn:name="Flavor",type=string,JSONPath=`.spec.template.spec.flavor`
// +kubebuilder:printcolumn:name="CPU",type=string,JSONPath=`.status.capacity.cpu`
// +kubebuilder:printcolumn:name="Memory",type=string,JSONPath=`.status.capacity.memory`
// +kubebuilder:printcolumn:name="GPU",type=string,JSONPath=`.status.capacity.nvidia\.com/gpu`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type SendanMachineTemplate struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec holds the template.
	// +required
	Spec SendanMachineTemplateSpec `json:"spec,omitzero"`
	// status is what a node of this shape would offer.
	// +optional
	Status SendanMachineTemplateStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (t *SendanMachineTemplate) GetConditions() []metav1.Condition { return t.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (t *SendanMachineTemplate) SetConditions(conditions []metav1.Condition) {
	t.Status.Conditions = conditions
}

// SendanMachineTemplateList is a list of SendanMachineTemplates.
// +kubebuilder:object:root=true
type SendanMachineTemplateList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []SendanMachineTemplate `json:"items"`
}
