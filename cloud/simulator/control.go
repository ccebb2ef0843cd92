package simulator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// ErrNotFound is wrapped by the errors of methods that name an object the simulator does not have.
var ErrNotFound = errors.New("not found")

// ObjectCount counts the objects of a cloud, or of one project, by plural type as in the API's
// paths: servers, ports, floatingips, loadbalancers, … Types without an object are left out.
type ObjectCount map[string]int

// Objects is what exists in the cloud because somebody asked for it. The scenario's own objects and
// what services make by themselves, such as default security groups, are not counted.
type Objects struct {
	Projects map[string]ProjectObjects `json:"projects"` // by project id
	Total    ObjectCount               `json:"total"`
}

// ProjectObjects are the objects of one project.
type ProjectObjects struct {
	Name    string      `json:"name"`
	Objects ObjectCount `json:"objects"`
}

// Sum is the number of objects of all types.
func (o ObjectCount) Sum() int {
	sum := 0
	for _, count := range o {
		sum += count
	}
	return sum
}

// Objects counts what exists now.
func (s *Simulator) Objects() Objects {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	objects := Objects{Projects: map[string]ProjectObjects{}, Total: ObjectCount{}}
	add := func(project, objectType string) {
		objects.Total[objectType]++
		if project == "" {
			return
		}
		entry, known := objects.Projects[project]
		if !known {
			entry = ProjectObjects{Objects: ObjectCount{}}
			if p := s.identity.projectByID(project); p != nil {
				entry.Name = p.name
			}
			objects.Projects[project] = entry
		}
		entry.Objects[objectType]++
	}
	for _, service := range []objectCounter{&s.identity, &s.compute, &s.network, &s.loadBalancer, &s.volume} {
		service.countObjects(add)
	}
	return objects
}

// ServerState is one server as [Simulator.Servers] tells of it.
type ServerState struct {
	ID        string            `json:"id"`
	Name      string            `json:"name"`
	Project   string            `json:"project"`
	Status    string            `json:"status"`
	TaskState string            `json:"taskState,omitempty"`
	Host      string            `json:"host,omitempty"`
	Zone      string            `json:"zone,omitempty"`
	Flavor    string            `json:"flavor"`
	Fault     string            `json:"fault,omitempty"`
	Addresses []string          `json:"addresses,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Ports     []string          `json:"ports,omitempty"`
}

// Servers are all servers of the cloud, oldest first.
func (s *Simulator) Servers() []ServerState {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	servers := make([]*server, 0, len(s.compute.servers))
	for _, srv := range s.compute.servers {
		servers = append(servers, srv)
	}
	slices.SortFunc(servers, func(a, b *server) int { return byCreation(b, a) })
	states := make([]ServerState, 0, len(servers))
	for _, srv := range servers {
		states = append(states, s.compute.stateOf(srv))
	}
	return states
}

func (n *computeService) stateOf(srv *server) ServerState {
	state := ServerState{
		ID: srv.id, Name: srv.name, Project: srv.project, Status: srv.status(), TaskState: srv.taskState, Zone: srv.zoneName(),
		Flavor: srv.flavor.Name, Addresses: n.addressesOf(srv), Metadata: srv.metadata,
	}
	if srv.host != nil {
		state.Host = srv.host.Name
	}
	if srv.fault != nil {
		state.Fault = srv.fault.message
	}
	for _, port := range srv.ports {
		state.Ports = append(state.Ports, port.id)
	}
	return state
}

// Calls are the counted calls in a stable order; control calls are not among them.
func (s *Simulator) Calls() []CallCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls.rows()
}

// TotalCalls counts all calls.
func (s *Simulator) TotalCalls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls.total
}

// CallLog is the log of the latest calls, oldest first.
func (s *Simulator) CallLog() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls.entries()
}

// ResetCalls starts counting anew.
func (s *Simulator) ResetCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls.reset()
}

// AddFault lets something go wrong with requests.
func (s *Simulator) AddFault(f Fault) error {
	if err := f.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.add(f)
	return nil
}

// ClearFaults ends the faults of a name, all of them (of builds as well) for "".
func (s *Simulator) ClearFaults(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults.remove(name)
	s.compute.buildFaults = keep(s.compute.buildFaults, func(f *activeBuildFault) bool { return name != "" && f.Name != name })
}

// AddBuildFault lets builds of servers fail.
func (s *Simulator) AddBuildFault(f BuildFault) error {
	if err := f.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compute.buildFaults = append(s.compute.buildFaults, &activeBuildFault{BuildFault: f})
	return nil
}

// SetHost changes a hypervisor.
func (s *Simulator) SetHost(name string, change HostChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	h := s.compute.hostNamed(name)
	if h == nil {
		return fmt.Errorf("host %q: %w", name, ErrNotFound)
	}
	s.compute.changeHost(h, change)
	return nil
}

// HostState is one hypervisor as [Simulator.Hosts] tells of it.
type HostState struct {
	Host
	Up           bool           `json:"up"`
	Disabled     bool           `json:"disabled"`
	RefusesSpawn string         `json:"refusesSpawn,omitempty"`
	Servers      int            `json:"servers"`
	UsedVCPUs    int            `json:"usedVCPUs"`
	UsedMemory   int            `json:"usedMemoryMiB"`
	UsedGPUs     map[string]int `json:"usedGPUs,omitempty"`
}

// Hosts are the hypervisors with what is used of them.
func (s *Simulator) Hosts() []HostState {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	var states []HostState
	for _, h := range s.compute.hosts {
		state := HostState{
			Host: h.Host, Up: !h.down, Disabled: h.disabled, RefusesSpawn: h.refusesSpawn, Servers: len(h.members),
			UsedVCPUs: h.used.vcpus, UsedMemory: h.used.memoryMiB, UsedGPUs: map[string]int{},
		}
		state.GPUs = map[string]int{}
		for kind, count := range h.GPUs {
			state.GPUs[kind], state.UsedGPUs[kind] = count, h.used.gpus[kind]
		}
		states = append(states, state)
	}
	return states
}

// ServerChange changes a server behind the API's back; unset fields stay as they are.
type ServerChange struct {
	// Status is ACTIVE, SHUTOFF or ERROR.
	Status string `json:"status,omitempty"`
	// Fault is the text of the fault that comes with ERROR.
	Fault string `json:"fault,omitempty"`
	// FaultCode is 500 when unset. Nova shows the details of such a fault to admins only.
	FaultCode    int    `json:"faultCode,omitempty"`
	FaultDetails string `json:"faultDetails,omitempty"`
	// Lost lets the server vanish, as if somebody had deleted it.
	Lost bool `json:"lost,omitempty"`
	// Console is what the console shows from now on, whatever the server prints.
	Console string `json:"console,omitempty"`
	// LostGPUs is how many of the node's devices have fallen off the bus; 0 brings them back.
	LostGPUs *int `json:"lostGPUs,omitempty"`
	// NVIDIADriver is the driver's version that the node shows; "" is the image's again.
	NVIDIADriver *string `json:"nvidiaDriver,omitempty"`
}

// SetServer changes a server behind the API's back. Its node follows: SHUTOFF and ERROR turn it
// off, ACTIVE on.
func (s *Simulator) SetServer(id string, change ServerChange) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	srv := s.compute.servers[id]
	if srv == nil {
		return fmt.Errorf("server %q: %w", id, ErrNotFound)
	}
	if change.Lost {
		s.compute.lose(srv)
		return nil
	}
	changesDevices := change.LostGPUs != nil || change.NVIDIADriver != nil
	if changesDevices {
		if err := s.compute.breakDevices(srv, change); err != nil {
			return err
		}
	}
	if change.Console != "" {
		srv.console = change.Console
	}
	if change.Status == "" && (changesDevices || change.Console != "") {
		return nil
	}
	return s.compute.force(srv, change)
}

// breakDevices lets a server's node show other devices than it has.
func (n *computeService) breakDevices(srv *server, change ServerChange) error {
	backend, able := n.s.backend.(DeviceBackend)
	if !able {
		return errors.New("lostGPUs and nvidiaDriver: this node backend shows no devices, use memory")
	}
	if change.LostGPUs != nil && *change.LostGPUs < 0 {
		return fmt.Errorf("lostGPUs %d: write how many are lost, 0 for none", *change.LostGPUs)
	}
	assign(&srv.deviceFault.Lost, change.LostGPUs)
	assign(&srv.deviceFault.NVIDIADriver, change.NVIDIADriver)
	fault := srv.deviceFault
	n.onNode(srv, func(ctx context.Context) error { return backend.SetDeviceFault(ctx, srv.id, fault) }, func(err error) {
		if err != nil {
			n.s.log.Warn("devices not changed", "server", srv.id, "error", err)
		}
	})
	return nil
}

// force puts a server into a state at once.
func (n *computeService) force(srv *server, change ServerChange) error {
	srv.epoch++
	switch strings.ToUpper(change.Status) {
	case "ACTIVE":
		srv.fault = nil
		n.becomes(srv, vmActive, powerRunning)
		n.switchNode(srv, true)
	case "SHUTOFF":
		n.becomes(srv, vmStopped, powerShutdown)
		n.switchNode(srv, false)
	case "ERROR":
		n.fail(srv, cmp.Or(change.FaultCode, http.StatusInternalServerError), change.Fault, change.FaultDetails)
		n.switchNode(srv, false)
	default:
		return fmt.Errorf("status %q: use ACTIVE, SHUTOFF or ERROR", change.Status)
	}
	return nil
}

// LoseServer lets a server vanish, as if somebody had deleted it.
func (s *Simulator) LoseServer(id string) error {
	return s.SetServer(id, ServerChange{Lost: true})
}

// SetQuota changes a project's limit; -1 means none. The project is named by id or name, the
// resource as the service names it.
func (s *Simulator) SetQuota(project, resource string, limit int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.identity.project(project)
	if p == nil {
		return fmt.Errorf("project %q: %w", project, ErrNotFound)
	}
	if _, known := s.quotas.defaults[resource]; !known {
		return fmt.Errorf("quota of resource %q: %w", resource, ErrNotFound)
	}
	s.quotas.set(p.id, resource, limit)
	return nil
}

// project is a project by id or name.
func (k *identityService) project(nameOrID string) *project {
	return find(k.projects, func(p *project) bool { return p.id == nameOrID || p.name == nameOrID })
}

// RevokeTokens ends all tokens of a project (id or name), or of the whole cloud for "", and says how
// many there were.
func (s *Simulator) RevokeTokens(project string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.identity.project(project); p != nil {
		project = p.id
	}
	return s.identity.revokeTokens(project)
}

// RevokeCredential ends an application credential, by id or name, with the tokens made of it.
func (s *Simulator) RevokeCredential(idOrName string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.identity.removeCredential(idOrName) {
		return fmt.Errorf("application credential %q: %w", idOrName, ErrNotFound)
	}
	return nil
}

// RestoreCredentials brings back the scenario's application credentials.
func (s *Simulator) RestoreCredentials() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.identity.seedCredentials()
}

// SetPassword changes a user's password, which ends the user's tokens as in Keystone.
func (s *Simulator) SetPassword(userName, password string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.identity.setPassword(userName, password) {
		return fmt.Errorf("user %q: %w", userName, ErrNotFound)
	}
	return nil
}

// AddImage adds an image, or replaces the one of the same id. It answers with the id.
func (s *Simulator) AddImage(image Image) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.image.add(image)
}

// RemoveImage removes an image by id or name.
func (s *Simulator) RemoveImage(idOrName string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.image.remove(idOrName) {
		return fmt.Errorf("image %q: %w", idOrName, ErrNotFound)
	}
	return nil
}

// Account is a way into the cloud.
type Account struct {
	User, Password, Domain string
	Project, ProjectID     string
	Region                 string
	// CredentialID and CredentialSecret are set instead of user, password and project for an
	// application credential.
	CredentialID, CredentialSecret string
}

// Account is a user of the scenario in a project.
func (s *Simulator) Account(userName, projectName string) (Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, p := s.identity.userNamed(userName), s.identity.projectNamed(projectName)
	if u == nil || p == nil {
		return Account{}, fmt.Errorf("user %q in project %q: %w", userName, projectName, ErrNotFound)
	}
	return Account{User: u.name, Password: u.password, Domain: u.domain.name, Project: p.name, ProjectID: p.id, Region: s.scenario.Regions[0]}, nil
}

// CredentialAccount is an application credential by name.
func (s *Simulator) CredentialAccount(name string) (Account, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, ac := range s.identity.credentials {
		if ac.name == name {
			return Account{CredentialID: ac.id, CredentialSecret: ac.secret, Project: ac.project.name, ProjectID: ac.project.id, Region: s.scenario.Regions[0]}, nil
		}
	}
	return Account{}, fmt.Errorf("application credential %q: %w", name, ErrNotFound)
}

// CloudsYAML is a clouds.yaml with one cloud. baseURL is where the simulator is served.
func (a Account) CloudsYAML(baseURL, cloud string) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "clouds:\n  %s:\n    region_name: %s\n    identity_api_version: 3\n", cloud, a.Region)
	if a.CredentialID != "" {
		b.WriteString("    auth_type: v3applicationcredential\n")
	}
	fmt.Fprintf(&b, "    auth:\n      auth_url: %s/identity/v3\n", strings.TrimSuffix(baseURL, "/"))
	if a.CredentialID != "" {
		fmt.Fprintf(&b, "      application_credential_id: %q\n      application_credential_secret: %q\n", a.CredentialID, a.CredentialSecret)
		return []byte(b.String())
	}
	fmt.Fprintf(&b, "      username: %q\n      password: %q\n      project_name: %q\n      user_domain_name: %q\n      project_domain_name: %q\n",
		a.User, a.Password, a.Project, a.Domain, a.Domain)
	return []byte(b.String())
}

// CloudsYAML is a clouds.yaml for the first ordinary user of the scenario.
func (s *Simulator) CloudsYAML(baseURL, cloud string) []byte {
	return s.ordinaryAccount().CloudsYAML(baseURL, cloud)
}

// ordinaryAccount is the first user without the admin role, or else the first user.
func (s *Simulator) ordinaryAccount() Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	var chosen Account
	for _, u := range s.identity.users {
		for _, p := range s.identity.projects {
			roles := u.roles[p]
			if len(roles) == 0 {
				continue
			}
			account := Account{User: u.name, Password: u.password, Domain: u.domain.name, Project: p.name, ProjectID: p.id, Region: s.scenario.Regions[0]}
			if !slices.Contains(roles, "admin") {
				return account
			}
			if chosen.User == "" {
				chosen = account
			}
		}
	}
	return chosen
}

// UnknownCalls are counted calls of routes the simulator does not have, which a test expects to be
// none.
func (s *Simulator) UnknownCalls() []Call {
	return keep(s.CallLog(), func(call Call) bool { return call.Path == unknownPath })
}
