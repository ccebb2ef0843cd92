package simulator

import (
	"maps"
	"slices"
	"time"
)

type savedCompute struct {
	Servers []savedServer `json:"servers"` // oldest first within a project
	Deleted []savedServer `json:"deleted"`
	Groups  []savedGroup  `json:"groups"`
	// KeyPairs are all of them by user id, since one of the scenario may have been deleted.
	KeyPairs    map[string][]savedKeyPair `json:"keyPairs"`
	Hosts       map[string]savedHost      `json:"hosts"` // by name
	BuildFaults []*activeBuildFault       `json:"buildFaults"`
}

type savedServer struct {
	ID               string              `json:"id"`
	Name             string              `json:"name"`
	Description      string              `json:"description,omitempty"`
	Hostname         string              `json:"hostname"`
	Project          string              `json:"project"`
	User             string              `json:"user"`
	VMState          string              `json:"vmState"`
	TaskState        string              `json:"taskState,omitempty"`
	PowerState       int                 `json:"powerState"`
	Locked           bool                `json:"locked,omitempty"`
	LockedReason     string              `json:"lockedReason,omitempty"`
	Flavor           Flavor              `json:"flavor"`
	ImageID          string              `json:"imageID,omitempty"`
	Zone             string              `json:"zone,omitempty"`
	Host             string              `json:"host,omitempty"` // name
	Metadata         map[string]string   `json:"metadata"`
	Tags             []string            `json:"tags,omitempty"`
	KeyName          string              `json:"keyName,omitempty"`
	UserData         string              `json:"userData,omitempty"`
	ConfigDrive      bool                `json:"configDrive,omitempty"`
	GroupID          string              `json:"groupID,omitempty"`
	Ports            []savedServerPort   `json:"ports,omitempty"`
	Volumes          []savedServerVolume `json:"volumes,omitempty"`
	Created          time.Time           `json:"created"`
	Updated          time.Time           `json:"updated"`
	Launched         time.Time           `json:"launched"`
	Terminated       time.Time           `json:"terminated"`
	Fault            *savedServerFault   `json:"fault,omitempty"`
	Actions          []savedAction       `json:"actions"`
	AccessIPv4       string              `json:"accessIPv4,omitempty"`
	AccessIPv6       string              `json:"accessIPv6,omitempty"`
	AdminPass        string              `json:"adminPass,omitempty"`
	RootDevice       string              `json:"rootDevice"`
	Reservation      string              `json:"reservation"`
	NoNetwork        bool                `json:"noNetwork,omitempty"`
	AnyNetwork       bool                `json:"anyNetwork,omitempty"`
	WantedNICs       []wantedNIC         `json:"wantedNICs,omitempty"`
	WantedVolumes    []blockDevice       `json:"wantedVolumes,omitempty"`
	SecurityGroupIDs []string            `json:"securityGroupIDs,omitempty"`
	DifferentHost    []string            `json:"differentHost,omitempty"`
	Console          string              `json:"console,omitempty"`
	SameHost         []string            `json:"sameHost,omitempty"`
	DeviceFault      DeviceFault         `json:"deviceFault"`
}

type savedServerPort struct {
	ID     string `json:"id"`
	ByNova bool   `json:"byNova,omitempty"`
	Tag    string `json:"tag,omitempty"`
}

type savedServerVolume struct {
	ID                  string `json:"id"`
	AttachmentID        string `json:"attachmentID"`
	Device              string `json:"device"`
	Tag                 string `json:"tag,omitempty"`
	DeleteOnTermination bool   `json:"deleteOnTermination,omitempty"`
	Boot                bool   `json:"boot,omitempty"`
}

type savedServerFault struct {
	Code    int       `json:"code"`
	Message string    `json:"message"`
	Details string    `json:"details,omitempty"`
	Created time.Time `json:"created"`
}

type savedAction struct {
	Name      string    `json:"name"`
	RequestID string    `json:"requestID"`
	UserID    string    `json:"userID"`
	Started   time.Time `json:"started"`
}

type savedGroup struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Policy     string    `json:"policy"`
	Project    string    `json:"project"`
	User       string    `json:"user"`
	MaxPerHost int       `json:"maxPerHost,omitempty"`
	Created    time.Time `json:"created"`
}

type savedKeyPair struct {
	Name      string    `json:"name"`
	PublicKey string    `json:"publicKey"`
	Type      string    `json:"type"`
	Created   time.Time `json:"created"`
	Seeded    bool      `json:"seeded,omitempty"`
}

// savedHost is what may change of a hypervisor; what is used of it follows from its servers.
type savedHost struct {
	Host         Host   `json:"host"`
	Down         bool   `json:"down,omitempty"`
	Disabled     bool   `json:"disabled,omitempty"`
	Reason       string `json:"reason,omitempty"`
	RefusesSpawn string `json:"refusesSpawn,omitempty"`
}

// inOrder are all servers, oldest first within a project.
func (n *computeService) inOrder() []*server {
	var all []*server
	for _, project := range slices.Sorted(maps.Keys(n.byProject)) {
		all = append(all, n.byProject[project]...)
	}
	return all
}

func (n *computeService) save() savedCompute {
	saved := savedCompute{
		Servers: savedServers(n.inOrder()), Deleted: savedServers(n.deleted), BuildFaults: n.buildFaults,
		KeyPairs: map[string][]savedKeyPair{}, Hosts: map[string]savedHost{},
	}
	for _, g := range n.groups {
		saved.Groups = append(saved.Groups, savedGroup{
			ID: g.id, Name: g.name, Policy: g.policy, Project: g.project, User: g.user, MaxPerHost: g.maxPerHost, Created: g.created,
		})
	}
	for user, pairs := range n.keyPairs {
		for _, k := range pairs {
			saved.KeyPairs[user] = append(saved.KeyPairs[user], savedKeyPair{
				Name: k.name, PublicKey: k.publicKey, Type: k.kind, Created: k.created, Seeded: k.seeded,
			})
		}
	}
	for _, h := range n.hosts {
		saved.Hosts[h.Name] = savedHost{Host: h.Host, Down: h.down, Disabled: h.disabled, Reason: h.reason, RefusesSpawn: h.refusesSpawn}
	}
	return saved
}

func savedServers(servers []*server) []savedServer {
	saved := []savedServer{}
	for _, srv := range servers {
		saved = append(saved, srv.save())
	}
	return saved
}

func (srv *server) save() savedServer {
	saved := savedServer{
		ID: srv.id, Name: srv.name, Description: srv.description, Hostname: srv.hostname, Project: srv.project, User: srv.user,
		VMState: srv.vmState, TaskState: srv.taskState, PowerState: srv.powerState, Locked: srv.locked, LockedReason: srv.lockedReason,
		Flavor: srv.flavor, ImageID: srv.imageID, Zone: srv.zone, Metadata: srv.metadata, Tags: srv.tags, KeyName: srv.keyName,
		UserData: srv.userData, ConfigDrive: srv.configDrive, GroupID: srv.groupID, Created: srv.created, Updated: srv.updated,
		Launched: srv.launched, Terminated: srv.terminated, AccessIPv4: srv.accessIPv4, AccessIPv6: srv.accessIPv6, AdminPass: srv.adminPass,
		RootDevice: srv.rootDevice, Reservation: srv.reservation, NoNetwork: srv.networkWish.none, AnyNetwork: srv.networkWish.auto,
		WantedNICs: srv.networkWish.entries, WantedVolumes: srv.wantedVolumes, SecurityGroupIDs: srv.securityGroupIDs,
		DifferentHost: srv.differentHost, SameHost: srv.sameHost, Console: srv.console, DeviceFault: srv.deviceFault,
	}
	if srv.host != nil {
		saved.Host = srv.host.Name
	}
	for _, p := range srv.ports {
		saved.Ports = append(saved.Ports, savedServerPort{ID: p.id, ByNova: p.byNova, Tag: p.tag})
	}
	for _, v := range srv.volumes {
		saved.Volumes = append(saved.Volumes, savedServerVolume{
			ID: v.id, AttachmentID: v.attachmentID, Device: v.device, Tag: v.tag, DeleteOnTermination: v.deleteOnTermination, Boot: v.boot,
		})
	}
	if f := srv.fault; f != nil {
		saved.Fault = &savedServerFault{Code: f.code, Message: f.message, Details: f.details, Created: f.created}
	}
	for _, a := range srv.actions {
		saved.Actions = append(saved.Actions, savedAction{Name: a.name, RequestID: a.requestID, UserID: a.userID, Started: a.started})
	}
	return saved
}

// server is the server that was saved, on no host yet.
func (saved savedServer) server() *server {
	srv := &server{
		id: saved.ID, name: saved.Name, description: saved.Description, hostname: saved.Hostname, project: saved.Project, user: saved.User,
		vmState: saved.VMState, taskState: saved.TaskState, powerState: saved.PowerState, locked: saved.Locked, lockedReason: saved.LockedReason,
		flavor: saved.Flavor, imageID: saved.ImageID, zone: saved.Zone, metadata: saved.Metadata, tags: saved.Tags, keyName: saved.KeyName,
		userData: saved.UserData, configDrive: saved.ConfigDrive, groupID: saved.GroupID, created: saved.Created, updated: saved.Updated,
		launched: saved.Launched, terminated: saved.Terminated, accessIPv4: saved.AccessIPv4, accessIPv6: saved.AccessIPv6, adminPass: saved.AdminPass,
		rootDevice: saved.RootDevice, reservation: saved.Reservation, wantedVolumes: saved.WantedVolumes, securityGroupIDs: saved.SecurityGroupIDs,
		networkWish:   networkWish{none: saved.NoNetwork, auto: saved.AnyNetwork, entries: saved.WantedNICs},
		differentHost: saved.DifferentHost, sameHost: saved.SameHost, console: saved.Console, deviceFault: saved.DeviceFault,
	}
	for _, p := range saved.Ports {
		srv.ports = append(srv.ports, &serverPort{id: p.ID, byNova: p.ByNova, tag: p.Tag})
	}
	for _, v := range saved.Volumes {
		srv.volumes = append(srv.volumes, &serverVolume{
			id: v.ID, attachmentID: v.AttachmentID, device: v.Device, tag: v.Tag, deleteOnTermination: v.DeleteOnTermination, boot: v.Boot,
		})
	}
	if f := saved.Fault; f != nil {
		srv.fault = &serverFault{code: f.Code, message: f.Message, details: f.Details, created: f.Created}
	}
	for _, a := range saved.Actions {
		srv.actions = append(srv.actions, instanceAction{name: a.Name, requestID: a.RequestID, userID: a.UserID, started: a.Started})
	}
	return srv
}

func (n *computeService) restore(saved savedCompute) {
	for _, h := range n.hosts {
		was := saved.Hosts[h.Name]
		h.Host, h.down, h.disabled, h.reason, h.refusesSpawn = was.Host, was.Down, was.Disabled, was.Reason, was.RefusesSpawn
	}
	n.buildFaults = saved.BuildFaults
	for _, g := range saved.Groups {
		n.groups = append(n.groups, &serverGroup{
			id: g.ID, name: g.Name, policy: g.Policy, project: g.Project, user: g.User, maxPerHost: g.MaxPerHost, created: g.Created,
		})
	}
	n.keyPairs = map[string][]*keyPair{}
	for user, pairs := range saved.KeyPairs {
		for _, k := range pairs {
			n.keyPairs[user] = append(n.keyPairs[user], newKeyPair(k.Name, k.PublicKey, k.Type, k.Created, k.Seeded))
		}
	}
	for _, one := range saved.Servers {
		srv := one.server()
		n.add(srv)
		if h := n.hostNamed(one.Host); h != nil {
			n.place(srv, h)
		}
	}
	for _, one := range saved.Deleted {
		n.deleted = append(n.deleted, one.server())
	}
}

// resume goes on with what a server was in the middle of. booted says that its node is there.
func (n *computeService) resume(srv *server, booted bool) {
	for _, v := range srv.volumes {
		n.resumeAttachment(srv, v)
	}
	switch {
	case srv.taskState == taskDeleting:
		n.awaitDeleted(srv)
	case srv.vmState == vmBuilding && srv.host == nil:
		n.awaitScheduled(srv)
	case srv.vmState == vmBuilding && booted:
		n.transition(srv, Range{}, func() { n.booted(srv, nil) })
	case srv.vmState == vmBuilding:
		n.awaitBuilt(srv)
	case srv.taskState != "":
		n.carryOut(srv)
	case booted && srv.vmState == vmActive:
		// Nova was not told of what its hypervisor did last.
		n.switchNode(srv, srv.host != nil && !srv.host.down)
	}
}

func (n *computeService) resumeAttachment(srv *server, v *serverVolume) {
	vol := n.s.volume.volumes[v.id]
	if vol == nil {
		return
	}
	switch vol.status {
	case "attaching":
		n.s.volume.awaitAttached(vol, srv, v)
	case "detaching":
		n.awaitDetached(srv, v)
	}
}
