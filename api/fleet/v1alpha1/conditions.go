package v1alpha1

// Condition types. Each has one writer: the controller of the object it is on, or the one named here.
const (
	// ReadyCondition sums up the others. True means usable now.
	ReadyCondition = "Ready"
	// ReachableCondition is True while the Site's cloud, or the FleetMember's API server, answers.
	ReachableCondition = "Reachable"
	// WithinQuotaCondition is False while a Tenant has more than its quota, which then lets nothing grow.
	WithinQuotaCondition = "WithinQuota"
	// DevicesReadyCondition is on Machines, written by the fleet manager: the node has the devices and the driver that its
	// NodeTemplate promises. Machines count as available only then.
	DevicesReadyCondition = "DevicesReady"
	// CapacityAvailableCondition is on MachineDeployments, written by the fleet manager: False while the pool waits for GPUs
	// that its site does not have free, with its place in the queue.
	CapacityAvailableCondition = "CapacityAvailable"
	// ControlPlaneHealthyCondition is True while the control plane is available.
	ControlPlaneHealthyCondition = "ControlPlaneHealthy"
	// NodesHealthyCondition is True while as many nodes are ready as there should be.
	NodesHealthyCondition = "NodesHealthy"
	// AddonsHealthyCondition is True while every add-on of the cluster is up.
	AddonsHealthyCondition = "AddonsHealthy"
)

// Reasons. docs/runbooks/conditions.md has a line for each: what it means, what Sendan does, what the reader can do.
const (
	// AvailableReason: it is there and works.
	AvailableReason = "Available"
	// InvalidReason: the spec cannot be carried out, and says so only now since it depends on other objects.
	InvalidReason = "Invalid"
	// NamespaceTakenReason: a namespace of the Tenant is another's, or was there before and does not carry its label.
	NamespaceTakenReason = "NamespaceTaken"
	// OverQuotaReason: there is more than the quota lets.
	OverQuotaReason = "OverQuota"
	// UnreachableReason: the cloud or the API server does not answer.
	UnreachableReason = "Unreachable"
	// CredentialsRefusedReason: the cloud answers, and refuses the credentials.
	CredentialsRefusedReason = "CredentialsRefused"
	// IdentityNotFoundReason: the SendanClusterIdentity of a Site, or its Secret, is not there.
	IdentityNotFoundReason = "IdentityNotFound"
	// NameNotFoundReason: a flavor, image or network that the Site names is not in its cloud.
	NameNotFoundReason = "NameNotFound"
	// NoSiteReason: no Site has everything that the Release needs.
	NoSiteReason = "NoSite"
	// SitesIncompleteReason: some templates of the Release are not offered in every Site.
	SitesIncompleteReason = "SitesIncomplete"
	// WaitingForCapacityReason: no host has room for machines of the pool; the message tells its place in line.
	WaitingForCapacityReason = "WaitingForCapacity"
	// WaitingForNodeReason: the Machine has no node yet, or it does not report yet.
	WaitingForNodeReason = "WaitingForNode"
	// DeviceShortReason: the node advertises fewer, or other, devices than its NodeTemplate promises.
	DeviceShortReason = "DeviceShort"
	// DriverDriftReason: the node runs another driver than its NodeTemplate pins.
	DriverDriftReason = "DriverDrift"
	// BurnInRunningReason: the node's burn-in has no result yet.
	BurnInRunningReason = "BurnInRunning"
	// BurnInFailedReason: the node's burn-in failed or took too long.
	BurnInFailedReason = "BurnInFailed"
	// ProvisioningReason: the cluster has never been ready.
	ProvisioningReason = "Provisioning"
	// DeletingReason: the cluster is going away.
	DeletingReason = "Deleting"
	// NotReadyReason: something of the cluster does not work; the message names it.
	NotReadyReason = "NotReady"
	// CyclicDependencyReason: Addons depend on each other in a circle.
	CyclicDependencyReason = "CyclicDependency"
	// ManifestsInvalidReason: the manifests of an Addon cannot be read, or lack a variable.
	ManifestsInvalidReason = "ManifestsInvalid"
	// SourceNotFoundReason: the ConfigMap of an Addon is not there.
	SourceNotFoundReason = "SourceNotFound"
	// ClustersFailingReason: an Addon fails in some clusters, which the message names.
	ClustersFailingReason = "ClustersFailing"
)
