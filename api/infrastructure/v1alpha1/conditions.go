package v1alpha1

// Condition types. Each has one writer: the controller of the object it is on.
const (
	// ReadyCondition sums up the others. True means usable now, for the whole life, deletion included.
	ReadyCondition = "Ready"
	// DeletingCondition tells what a deletion waits for.
	DeletingCondition = "Deleting"

	// IdentityReadyCondition: the credentials work.
	IdentityReadyCondition = "IdentityReady"
	// NetworkReadyCondition: network, subnets and router are there.
	NetworkReadyCondition = "NetworkReady"
	// SecurityGroupsReadyCondition: the managed security groups have their rules.
	SecurityGroupsReadyCondition = "SecurityGroupsReady"
	// EndpointReadyCondition: the API server's address is there.
	EndpointReadyCondition = "EndpointReady"
	// MembersReadyCondition: the load balancer's members are the control-plane machines. Not part of
	// Ready, since the API server stays reachable while members come and go.
	MembersReadyCondition = "MembersReady"
	// ServerGroupsReadyCondition: the managed server groups are there.
	ServerGroupsReadyCondition = "ServerGroupsReady"
	// FailureDomainsReadyCondition: the failure domains are known.
	FailureDomainsReadyCondition = "FailureDomainsReady"

	// VolumesReadyCondition: the machine's volumes are there.
	VolumesReadyCondition = "VolumesReady"
	// PortsReadyCondition: the machine's ports are there.
	PortsReadyCondition = "PortsReady"
	// ServerReadyCondition: the server is ACTIVE.
	ServerReadyCondition = "ServerReady"
	// BootSucceededCondition: the server's first boot made a node. It is there only once the console has
	// proved the opposite, and True when a node came nevertheless.
	BootSucceededCondition = "BootSucceeded"
)

// Reasons. docs/runbooks/conditions.md has a line for each: what it means, what Sendan does, what
// the reader can do.
const (
	// AvailableReason: it is there and works.
	AvailableReason = "Available"
	// WaitingForClusterReason: the owner Cluster is not there yet.
	WaitingForClusterReason = "WaitingForCluster"
	// WaitingForInfrastructureReason: the SendanCluster is not provisioned yet.
	WaitingForInfrastructureReason = "WaitingForInfrastructure"
	// WaitingForBootstrapDataReason: the bootstrap provider has not written the user data yet.
	WaitingForBootstrapDataReason = "WaitingForBootstrapData"
	// WaitingForInventoryReason: the cloud has to be listed (again) before it is safe to go on.
	WaitingForInventoryReason = "WaitingForInventory"
	// WaitingForCloudReason: the cloud is working on it.
	WaitingForCloudReason = "WaitingForCloud"
	// WaitingForEndpointReason: somebody else has to set spec.controlPlaneEndpoint.
	WaitingForEndpointReason = "WaitingForEndpoint"
	// CreatingReason: it is being made.
	CreatingReason = "Creating"
	// DeletingReason: it is being removed; the message names what blocks it.
	DeletingReason = "Deleting"
	// MissingReason: it was there and somebody removed it in the cloud.
	MissingReason = "Missing"
	// ServerErrorReason: Nova put the server into ERROR for a reason that is none of the classes.
	ServerErrorReason = "ServerError"
	// ServerNotActiveReason: the server was stopped, suspended or the like in the cloud.
	ServerNotActiveReason = "ServerNotActive"
	// BootFailedReason: the server runs, but its first boot failed; the message ends with its console.
	BootFailedReason = "BootFailed"
	// LoadBalancerErrorReason: Octavia put the load balancer into ERROR.
	LoadBalancerErrorReason = "LoadBalancerError"
	// IdentityNotAllowedReason: the namespace may not use the identity.
	IdentityNotAllowedReason = "IdentityNotAllowed"

	// The classes of cloud errors (design law 7), as reasons.

	// AuthReason: credentials wrong, expired, revoked or without a right.
	AuthReason = "Auth"
	// QuotaReason: the project's limit is reached.
	QuotaReason = "Quota"
	// CapacityReason: no host can take the server now.
	CapacityReason = "Capacity"
	// ConfigReason: the object asks for something the cloud cannot do.
	ConfigReason = "Config"
	// ConflictReason: the cloud's object is in a state that forbids the change.
	ConflictReason = "Conflict"
	// TransientReason: the cloud failed; tried again.
	TransientReason = "Transient"
	// ThrottledReason: the cloud, or Sendan's own limiter or breaker, asks to slow down.
	ThrottledReason = "Throttled"
	// SuspiciousReason: an answer that could be a lie; held until it is confirmed.
	SuspiciousReason = "Suspicious"
)
