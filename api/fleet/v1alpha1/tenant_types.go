package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TenantSpec says who a tenant is and what they may have.
type TenantSpec struct {
	// namespaces of the tenant, made when they are not there; one of the tenant's name when unset. A namespace belongs to one
	// tenant at most.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`

	// members by the groups that the identity provider puts them in.
	// +optional
	// +listType=map
	// +listMapKey=group
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Members []TenantMember `json:"members,omitempty"`

	// podSecurity is the standard that the tenant's namespaces enforce in the management cluster, where no pods of tenants
	// belong.
	// +optional
	// +default="Restricted"
	PodSecurity PodSecurityStandard `json:"podSecurity,omitempty"`

	// sites that clusters may be in; none when empty, every one with "*".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	Sites []string `json:"sites,omitempty"`

	// nodeTemplates that pools may be made of; none when empty, every one with "*".
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=256
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=63
	NodeTemplates []string `json:"nodeTemplates,omitempty"`

	// channel that new clusters take their release from.
	// +optional
	// +default="stable"
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Channel string `json:"channel,omitempty"`

	// quota is the most that the tenant may have; what is unset is not limited. A quota below what there is takes nothing
	// away, and lets nothing grow.
	// +optional
	Quota TenantQuota `json:"quota,omitempty,omitzero"`
}

// TenantRole is what a member may do.
// +kubebuilder:validation:Enum=Viewer;Operator;Admin
type TenantRole string

// The roles, each with what those before it may do.
const (
	// RoleViewer reads everything of the tenant but Secrets.
	RoleViewer TenantRole = "Viewer"
	// RoleOperator changes clusters (scale, upgrade, repair), and reads their kubeconfigs.
	RoleOperator TenantRole = "Operator"
	// RoleAdmin makes and deletes clusters.
	RoleAdmin TenantRole = "Admin"
)

// TenantMember is a group of people or robots.
type TenantMember struct {
	// group as the identity provider names it, such as oidc:vision-admins.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`

	// role of the members of the group.
	// +required
	Role TenantRole `json:"role,omitempty"`
}

// PodSecurityStandard is one of Kubernetes' Pod Security Standards.
// +kubebuilder:validation:Enum=Restricted;Baseline;Privileged
type PodSecurityStandard string

// The standards.
const (
	PodSecurityRestricted PodSecurityStandard = "Restricted"
	PodSecurityBaseline   PodSecurityStandard = "Baseline"
	PodSecurityPrivileged PodSecurityStandard = "Privileged"
)

// TenantQuota limits what a tenant has altogether. Pools that scale by themselves count at their maximum.
// +kubebuilder:validation:MinProperties=1
type TenantQuota struct {
	// clusters at a time.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Clusters *int64 `json:"clusters,omitempty"`

	// nodes, those of control planes included.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Nodes *int64 `json:"nodes,omitempty"`

	// vcpus of all nodes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	VCPUs *int64 `json:"vcpus,omitempty"`

	// memoryGiB of all nodes.
	// +optional
	// +kubebuilder:validation:Minimum=0
	MemoryGiB *int64 `json:"memoryGiB,omitempty"`

	// gpus that are handed out whole, by model.
	// +optional
	// +listType=map
	// +listMapKey=model
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	GPUs []GPUQuota `json:"gpus,omitempty"`

	// migSlices by profile. GPUs that are partitioned count here and not as GPUs.
	// +optional
	// +listType=map
	// +listMapKey=profile
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	MIGSlices []MIGSliceQuota `json:"migSlices,omitempty"`
}

// GPUQuota limits one model.
type GPUQuota struct {
	// model as NodeTemplates name it.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Model string `json:"model,omitempty"`

	// count of GPUs.
	// +required
	// +kubebuilder:validation:Minimum=0
	Count *int64 `json:"count,omitempty"`
}

// MIGSliceQuota limits one profile.
type MIGSliceQuota struct {
	// profile as NVIDIA names it, such as 1g.5gb.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Profile string `json:"profile,omitempty"`

	// count of slices.
	// +required
	// +kubebuilder:validation:Minimum=0
	Count *int64 `json:"count,omitempty"`
}

// Usage is how much of everything there is. It has the words of TenantQuota.
type Usage struct {
	// clusters of the tenant.
	// +optional
	Clusters int64 `json:"clusters,omitempty"`
	// nodes of the clusters.
	// +optional
	Nodes int64 `json:"nodes,omitempty"`
	// vcpus of the nodes.
	// +optional
	VCPUs int64 `json:"vcpus,omitempty"`
	// memoryMiB of the nodes.
	// +optional
	MemoryMiB int64 `json:"memoryMiB,omitempty"`
	// gpus by model.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	GPUs map[string]int64 `json:"gpus,omitempty"`
	// migSlices by profile.
	// +optional
	// +kubebuilder:validation:MaxProperties=64
	MIGSlices map[string]int64 `json:"migSlices,omitempty"`
}

// TenantStatus is what the tenant has.
type TenantStatus struct {
	// conditions: Ready, WithinQuota.
	// +optional
	// +listType=map
	// +listMapKey=type
	// +kubebuilder:validation:MaxItems=32
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// usage of all clusters together, each at its largest. A growth counts from the moment that it is let pass.
	// +optional
	Usage Usage `json:"usage,omitempty,omitzero"`

	// pendingGrowths are in usage, and may not be stored yet. Admission writes a growth down before it lets it pass, so that
	// two requests at the same time cannot both take the last of a quota.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=4096
	PendingGrowths []PendingGrowth `json:"pendingGrowths,omitempty"`
}

// PendingGrowth is a Cluster that was let become larger.
type PendingGrowth struct {
	// namespace of the Cluster.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace,omitempty"`

	// name of the Cluster.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// uid of the Cluster, since a name can be used again.
	// +required
	UID types.UID `json:"uid,omitempty"`

	// usage of the Cluster with the growth.
	// +required
	Usage Usage `json:"usage,omitzero"`

	// admittedTime is when it was let pass.
	// +required
	AdmittedTime metav1.MicroTime `json:"admittedTime,omitempty,omitzero"`
}

// Tenant is a team that has clusters.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:path=tenants,scope=Cluster,categories=sendan
// +kubebuilder:storageversion
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$')",message="the name is also a namespace: use at most 63 lower-case letters, digits and -"
// +kubebuilder:printcolumn:name="Clusters",type=integer,JSONPath=`.status.usage.clusters`
// +kubebuilder:printcolumn:name="Nodes",type=integer,JSONPath=`.status.usage.nodes`
// +kubebuilder:printcolumn:name="GPUs",type=string,JSONPath=`.status.usage.gpus`
// +kubebuilder:printcolumn:name="Slices",type=string,JSONPath=`.status.usage.migSlices`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Tenant struct {
	metav1.TypeMeta `json:",inline"`
	// metadata is standard.
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty,omitzero"`

	// spec says who they are and what they may have.
	// +required
	Spec TenantSpec `json:"spec,omitzero"`
	// status is what they have.
	// +optional
	Status TenantStatus `json:"status,omitempty,omitzero"`
}

// GetConditions is what Cluster API's condition helpers read.
func (t *Tenant) GetConditions() []metav1.Condition { return t.Status.Conditions }

// SetConditions is what Cluster API's condition helpers write.
func (t *Tenant) SetConditions(conditions []metav1.Condition) { t.Status.Conditions = conditions }

// TenantList is a list of Tenants.
// +kubebuilder:object:root=true
type TenantList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Tenant `json:"items"`
}
