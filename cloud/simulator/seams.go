package simulator

// What the services ask of each other in process. The lock is held in every one of these calls.

// serverNetworking is what Nova asks of Neutron.
type serverNetworking interface {
	// findPort is a port that a project may use (any port for project "").
	findPort(project, portID string) (portFacts, bool)
	// networksOf are the networks that a project may put servers on (own and shared, not external),
	// oldest first; those without a subnet are left out.
	networksOf(project string) []networkFacts
	// findNetwork is one network that a project sees.
	findNetwork(project, networkID string) (networkFacts, bool)
	// createServerPort makes a port on behalf of Nova; fixedIP and the groups may be empty (one
	// address per IP version, the default group). Its failures are problems with the Neutron kind.
	createServerPort(project, networkID, fixedIP string, securityGroupIDs []string) (portFacts, error)
	// bindPort sets device_id, device_owner "compute:<zone>" and the binding's host. The port
	// becomes ACTIVE after the scenario's latency. An already bound port is bound anew.
	bindPort(portID, serverID, hostName, zone string)
	// unbindPort is the reverse, for ports that outlive their server. Unknown ids are ignored.
	unbindPort(portID string)
	// nodePort is a port as the backend of the server on it sees it.
	nodePort(portID string) Port
	// deleteServerPort removes a port that Nova made. Unknown ids are ignored.
	deleteServerPort(portID string)
	// findSecurityGroup resolves a project's group by id or name; ambiguous when several carry the name.
	findSecurityGroup(project, nameOrID string) (id string, ambiguous, found bool)
	// portQuotaLeft is how many more ports the project may have; -1 without limit.
	portQuotaLeft(project string) int
}

// networkFacts is a network as Nova needs to know it.
type networkFacts struct {
	id, name string
	subnets  int
}

// portFacts is a port as Nova needs to know it.
type portFacts struct {
	id, project, networkID, networkName string
	deviceID, status, macAddress        string
	vnicType                            string
	addresses                           []portAddress
	securityGroupIDs                    []string
	securityGroupNames                  []string
}

// portAddress is a fixed address of a port with the floating address on it, if any.
type portAddress struct {
	subnetID, address string
	version           int // 4 or 6
	floating          string
}

// objectCounter is what every service tells the control API: its objects by project and type, the
// scenario's own left out.
type objectCounter interface {
	// The scenario's own objects and what the service makes by itself (a default security group, an
	// HA port) are not counted.
	//
	// countObjects calls add once per object with the project that owns it and a plural type name
	// as in the API's path: servers, ports, floatingips, loadbalancers, …
	countObjects(add func(project, objectType string))
}
