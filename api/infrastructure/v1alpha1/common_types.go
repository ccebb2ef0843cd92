package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// OwnerIDAnnotation holds the id that cloud objects are marked with. It is the object's UID at
	// first sight and then stays, because clusterctl move gives objects new UIDs. Written once by
	// the controller; the webhook refuses any later change.
	OwnerIDAnnotation = "infrastructure.cluster.x-k8s.io/sendan-owner-id"

	// ProjectAnnotation holds the project and region that the cloud objects are in, as
	// "<project id>@<region>". Written together with the owner id. Credentials that lead elsewhere are
	// not used: their empty project would read as if everything had been deleted.
	ProjectAnnotation = "infrastructure.cluster.x-k8s.io/sendan-project"

	// DeletionProtectionAnnotation keeps a Cluster or a SendanCluster that has it from being deleted. Its value is for people: it may
	// say why.
	DeletionProtectionAnnotation = "infrastructure.cluster.x-k8s.io/sendan-deletion-protection"

	// MissingConfirmedAnnotation is a person's word, at a SendanCluster, that objects of its project which vanished at once, so that
	// they were kept, are really gone. Its value is the time, in RFC 3339: what vanishes later is kept again.
	MissingConfirmedAnnotation = "infrastructure.cluster.x-k8s.io/sendan-missing-confirmed"

	// ClusterFinalizer lets the controller remove the cluster's cloud objects first.
	ClusterFinalizer = "sendancluster.infrastructure.cluster.x-k8s.io"
	// MachineFinalizer lets the controller remove the machine's cloud objects first.
	MachineFinalizer = "sendanmachine.infrastructure.cluster.x-k8s.io"
)

// IdentityKind is where the credentials of a cluster come from.
// +kubebuilder:validation:Enum=Secret;SendanClusterIdentity
type IdentityKind string

// The kinds of identity.
const (
	// IdentitySecret is a Secret in the namespace of the object that refers to it.
	IdentitySecret IdentityKind = "Secret"
	// IdentityClusterIdentity is a SendanClusterIdentity, which may be shared by namespaces.
	IdentityClusterIdentity IdentityKind = "SendanClusterIdentity"
)

// IdentityReference names credentials. They are read at every use and never copied, so a rotated
// Secret takes effect at once.
type IdentityReference struct {
	// kind is Secret (in this namespace) or SendanClusterIdentity.
	// +optional
	// +default="Secret"
	Kind IdentityKind `json:"kind,omitempty"`

	// name of the Secret or SendanClusterIdentity.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name,omitempty"`

	// cloudName is the entry of clouds.yaml to use.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=256
	CloudName string `json:"cloudName,omitempty"`

	// region overrides the region that clouds.yaml names. Immutable.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Region string `json:"region,omitempty"`
}

// ResourceReference names one existing object of the cloud, by id or by what it must match. A filter
// that matches none or several is an error that lists what there is.
// +kubebuilder:validation:MinProperties=1
// +kubebuilder:validation:XValidation:rule="!has(self.id) || (!has(self.name) && !has(self.tags))",message="id stands alone: remove name and tags, or remove id"
type ResourceReference struct {
	// id of the object.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=64
	ID string `json:"id,omitempty"`

	// name of the object; exactly one must match.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Name string `json:"name,omitempty"`

	// tags the object must all have.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=50
	// +kubebuilder:validation:items:MinLength=1
	// +kubebuilder:validation:items:MaxLength=60
	Tags []string `json:"tags,omitempty"`
}

// KeyValue is one entry of a map that keeps server-side apply simple.
type KeyValue struct {
	// key of the entry.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=255
	Key string `json:"key,omitempty"`

	// value of the entry.
	// +required
	// +kubebuilder:validation:MinLength=0
	// +kubebuilder:validation:MaxLength=255
	Value *string `json:"value,omitempty"`
}

// AttemptOutcome is what is known of an attempt.
// +kubebuilder:validation:Enum=Unknown;Refused
type AttemptOutcome string

// The outcomes of an attempt. A successful one is forgotten.
const (
	// AttemptUnknown: it was about to be made, or its reply was lost. It may have taken effect.
	AttemptUnknown AttemptOutcome = "Unknown"
	// AttemptRefused: the cloud said no, and nothing changed.
	AttemptRefused AttemptOutcome = "Refused"
)

// Attempt is a note about a call that changes the cloud and has not succeeded yet. For a call that
// creates something it is stored before the call: after a crash or a lost reply nothing is created
// again until an inventory that began well after the attempt shows that the object is really not
// there. It also drives the back-off.
type Attempt struct {
	// action that was tried, such as "create server" or "delete port-0".
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Action string `json:"action,omitempty"`

	// time of the latest attempt.
	// +required
	Time metav1.MicroTime `json:"time,omitzero"`

	// creates is the kind of cloud object the call makes; empty when it makes none.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Creates string `json:"creates,omitempty"`

	// outcome as far as it is known.
	// +required
	Outcome AttemptOutcome `json:"outcome,omitempty"`

	// failures in a row.
	// +optional
	// +kubebuilder:validation:Minimum=0
	Failures int32 `json:"failures,omitempty"`

	// reason is the class of the latest failure.
	// +optional
	// +kubebuilder:validation:MaxLength=64
	Reason string `json:"reason,omitempty"`

	// message is the latest failure in the cloud's own words.
	// +optional
	// +kubebuilder:validation:MaxLength=2048
	Message string `json:"message,omitempty"`
}
