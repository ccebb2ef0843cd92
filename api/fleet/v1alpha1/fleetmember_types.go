package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FleetMemberSpec is what people and controllers ask of the fleet manager about one cluster.
type FleetMemberSpec struct {
	// locks keep others from changing the cluster's machines. One holder at a time works; the others wait in their order.
	// +optional
	// +listType=map
	// +listMapKey=holder
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	Locks []FleetMemberLock `json:"locks,omitempty"`
}

// FleetMemberLock is held by one capability, or by a person.
// +kubebuilder:validation:XValidation:rule="!has(self.until) || self.until > self.since",message="until must be after since; leave it out for a lock that is held until it is removed"
type FleetMemberLock struct {
	// holder: repair, upgrade, or operator:<name> for a person.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^(repair|upgrade|operator:.+)$`
	Holder string `json:"holder,omitempty"`

	// reason for people.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Reason string `json:"reason,omitempty"`

	// since when it is held.
	// +required
	Since metav1.Time `json:"since,omitzero"`

	// until when it is held at the latest; until it is removed when unset.
	// +optional
	Until metav1.Time `json:"until,omitempty,omitzero"`
}

// FleetMemberHealth is how a cluster does in one word.
type FleetMemberHealth string

// The states of health.
const (
	// HealthProvisioning has never been ready.
	HealthProvisioning FleetMemberHealth = "Provisioning"
	// HealthHealthy has everything that it should have.
	HealthHealthy FleetMemberHealth = "Healthy"
	// HealthDegraded works, with something missing.
	HealthDegraded FleetMemberHealth = "Degraded"
	// HealthUnreachable does not answer.
	HealthUnreachable FleetMemberHealth = "Unreachable"
	// HealthDeleting is going away.
	HealthDeleting FleetMemberHealth = "Deleting"
)

// FleetMemberStatus is what is known of a cluster.
type FleetMemberStatus struct {
	// conditions: Ready, ControlPlaneHealthy, NodesHealthy, AddonsHealthy, Reachable.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// health in one word.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Health FleetMemberHealth `json:"health,omitempty"`

	// tenant that the cluster belongs to.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Tenant string `json:"tenant,omitempty"`

	// site that the cluster is in.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Site string `json:"site,omitempty"`

	// release that the cluster is made of.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Release string `json:"release,omitempty"`

	// releasePhase at the moment.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	ReleasePhase ReleasePhase `json:"releasePhase,omitempty"`

	// kubernetesVersion of the control plane.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	KubernetesVersion string `json:"kubernetesVersion,omitempty"`

	// infrastructure is the kind that provides the machines, such as SendanCluster.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Infrastructure string `json:"infrastructure,omitempty"`

	// nodes that there should be, and that are ready.
	// +optional
	Nodes NodeCounts `json:"nodes,omitempty,omitzero"`

	// usage is what the cluster takes of its tenant's quota, at its largest. It is unset for clusters of no tenant.
	// +optional
	Usage Usage `json:"usage,omitempty,omitzero"`

	// pools of the cluster.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=200
	Pools []PoolStatus `json:"pools,omitempty"`

	// addons of the cluster.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=64
	Addons []MemberAddon `json:"addons,omitempty"`

	// operations are the last that changed the cluster, latest first.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=10
	Operations []MemberOperation `json:"operations,omitempty"`
}

// NodeCounts are numbers of nodes.
type NodeCounts struct {
	// desired nodes.
	// +optional
	Desired int32 `json:"desired,omitempty"`
	// ready nodes.
	// +optional
	Ready int32 `json:"ready,omitempty"`
	// text is "<ready>/<desired>", for people.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Text string `json:"text,omitempty"`
}

// PoolStatus is how a pool does.
type PoolStatus struct {
	// name of the pool.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// nodeTemplate that it is made of.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	NodeTemplate string `json:"nodeTemplate,omitempty"`

	// nodes of the pool.
	// +optional
	Nodes NodeCounts `json:"nodes,omitempty,omitzero"`

	// message says what the pool waits for: its place in the queue for GPUs, a node without its devices.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`
}

// AddonPhase is how an add-on does in one cluster.
type AddonPhase string

// The phases of an add-on.
const (
	// AddonPending has not been applied yet.
	AddonPending AddonPhase = "Pending"
	// AddonProgressing is applied, and not all of it is up.
	AddonProgressing AddonPhase = "Progressing"
	// AddonHealthy is applied, and all of it is up.
	AddonHealthy AddonPhase = "Healthy"
	// AddonFailed could not be applied, or does not come up.
	AddonFailed AddonPhase = "Failed"
	// AddonSuspended is left as it is.
	AddonSuspended AddonPhase = "Suspended"
)

// MemberAddon is an add-on in one cluster.
type MemberAddon struct {
	// name of the Addon.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Name string `json:"name,omitempty"`

	// version that is applied.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Version string `json:"version,omitempty"`

	// phase of the add-on.
	// +optional
	// +kubebuilder:validation:MaxLength=32
	Phase AddonPhase `json:"phase,omitempty"`

	// message says what is wrong, or waited for.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`

	// digest of the manifests that were applied last.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	Digest string `json:"digest,omitempty"`
}

// MemberOperation is something that was done to a cluster.
type MemberOperation struct {
	// time at which it was done.
	// +required
	Time metav1.Time `json:"time,omitzero"`

	// description in one sentence.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=1024
	Description string `json:"description,omitempty"`
}

// FleetMember is the fleet's record of one Cluster, of any infrastructure provider. It has the Cluster's name and namespace
// and is made and removed with it.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=fleetmembers,scope=Namespaced,categories={sendan,cluster-api},shortName=fm
// +kubebuilder:storageversion
// +kubebuilder:metadata:labels="clusterctl.cluster.x-k8s.io="
// +kubebuilder:printcolumn:name="Tenant",type=string,JSONPath=`.status.tenant`
// +kubebuilder:printcolumn:name="Site",type=string,JSONPath=`.status.site`
// +kubebuilder:printcolumn:name="Release",type=string,JSONPath=`.status.release`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.kubernetesVersion`
// +kubebuilder:printcolumn:name="Health",type=string,JSONPath=`.status.health`
// +kubebuilder:printcolumn:name="Nodes",type=string,JSONPath=`.status.nodes.text`
// +kubebuilder:printcolumn:name="Message",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type FleetMember struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec is what is asked about the cluster.
	// +optional
	Spec FleetMemberSpec `json:"spec,omitempty,omitzero"`
	// status is what is known of it.
	// +optional
	Status FleetMemberStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (m *FleetMember) GetConditions() []metav1.Condition { return m.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (m *FleetMember) SetConditions(conditions []metav1.Condition) { m.Status.Conditions = conditions }

// FleetMemberList is a list of FleetMembers.
// +kubebuilder:object:root=true
type FleetMemberList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []FleetMember `json:"items"`
}
