package cloud

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// More Nova microversions, 2.<minor>, that change what a request may hold.
const (
	minorNetworksRequired = 37 // "networks" has to be given, if only as "auto"
	minorDeviceTags       = 42 // tags of volumes at boot
)

// largestUserData is what Nova takes, after encoding.
const largestUserData = 65535

type wireServer struct {
	wireOwned
	Name      string    `json:"name"`
	Status    string    `json:"status"`
	TaskState string    `json:"OS-EXT-STS:task_state"`
	VMState   string    `json:"OS-EXT-STS:vm_state"`
	Power     int       `json:"OS-EXT-STS:power_state"`
	Zone      string    `json:"OS-EXT-AZ:availability_zone"`
	HostID    string    `json:"hostId"`
	Created   time.Time `json:"created"`
	Updated   time.Time `json:"updated"`
	Flavor    struct {
		ID   string `json:"id"`            // before microversion 2.47
		Name string `json:"original_name"` // since
	} `json:"flavor"`
	Image     wireImageRef             `json:"image"`
	Addresses map[string][]wireAddress `json:"addresses"`
	Fault     *struct {
		Code    int       `json:"code"`
		Message string    `json:"message"`
		Details string    `json:"details"`
		Created time.Time `json:"created"`
	} `json:"fault"`
	Metadata map[string]string `json:"metadata"`
	Tags     []string          `json:"tags"`
}

type wireAddress struct {
	Address string `json:"addr"`
	Type    string `json:"OS-EXT-IPS:type"`
}

// wireImageRef is an object, or an empty text for a server that booted from a volume.
type wireImageRef struct{ ID string }

// UnmarshalJSON reads both forms.
func (w *wireImageRef) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return nil
	}
	var reference struct {
		ID string `json:"id"`
	}
	err := json.Unmarshal(data, &reference)
	w.ID = reference.ID
	return err
}

func (w wireServer) object() object { return w.server() }

func (w wireServer) server() Server {
	server := Server{
		ID: w.ID, Name: w.Name, Mark: MarkFromMetadata(w.Metadata), Status: w.Status, TaskState: w.TaskState,
		VMState: w.VMState, Power: powerState(w.Power), FlavorID: w.Flavor.ID, Flavor: w.Flavor.Name,
		ImageID: w.Image.ID, Zone: w.Zone, HostID: w.HostID, Addresses: w.addresses(),
		Created: w.Created, Updated: w.Updated, Metadata: w.Metadata, Tags: sorted(w.Tags),
	}
	if w.Fault != nil {
		server.Fault = &ServerFault{Code: w.Fault.Code, Message: w.Fault.Message, Details: w.Fault.Details, Created: w.Fault.Created}
	}
	switch {
	case w.TaskState == "deleting", w.TaskState == "soft-deleting", w.VMState == "deleted":
		server.Deleting = true
	}
	return server
}

// addresses are ordered by network, and within one as Nova has them.
func (w wireServer) addresses() []ServerAddress {
	var out []ServerAddress
	for _, network := range slices.Sorted(maps.Keys(w.Addresses)) {
		for _, address := range w.Addresses[network] {
			out = append(out, ServerAddress{Network: network, Address: address.Address, Type: address.Type})
		}
	}
	return out
}

// powerState names the numbers of nova/compute/power_state.py as Nova's own clients do.
func powerState(number int) string {
	switch number {
	case 1:
		return "Running"
	case 3:
		return "Paused"
	case 4:
		return "Shutdown"
	case 6:
		return "Crashed"
	case 7:
		return "Suspended"
	}
	return "NOSTATE"
}

// isGone reports a server that is listed only because somebody asked for what changed lately.
func (s Server) isGone() bool { return s.Status == "DELETED" || s.Status == "SOFT_DELETED" }

// isPartial reports that the server's cell does not answer: since microversion 2.69 Nova then lists
// its id and hardly anything else.
func (s Server) isPartial() bool { return s.Status == "UNKNOWN" && s.Name == "" }

// listServers lists all servers, or those that changed or went away since a time other than zero.
func (s *Session) listServers(ctx context.Context, since time.Time) ([]object, error) {
	query := url.Values{}
	if !since.IsZero() {
		query.Set("changes-since", since.UTC().Format(time.RFC3339))
	}
	return listObjects[wireServer](ctx, s, collection{computeService, "servers/detail", "servers", query})
}

type wireServerRequest struct {
	Name        string            `json:"name"`
	FlavorID    string            `json:"flavorRef"`
	ImageID     string            `json:"imageRef"`
	Networks    any               `json:"networks,omitempty"`
	Zone        string            `json:"availability_zone,omitempty"`
	KeyPair     string            `json:"key_name,omitempty"`
	UserData    string            `json:"user_data,omitempty"`
	ConfigDrive *bool             `json:"config_drive,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	Tags        []string          `json:"tags,omitempty"`
	Disks       []wireDisk        `json:"block_device_mapping_v2,omitempty"`
}

type wireDisk struct {
	BootIndex           int    `json:"boot_index"`
	ID                  string `json:"uuid"`
	Source              string `json:"source_type"`
	Destination         string `json:"destination_type"`
	DeleteOnTermination bool   `json:"delete_on_termination"`
	Tag                 string `json:"tag,omitempty"`
}

// CreateServer begins to create a server.
func (s *Session) CreateServer(ctx context.Context, request ServerRequest) (Server, error) {
	wanted, err := s.serverRequest(ctx, request)
	if err != nil {
		return Server{}, err
	}
	body := map[string]any{"server": wanted}
	hints := maps.Clone(request.SchedulerHints)
	if request.ServerGroupID != "" {
		if hints == nil {
			hints = map[string]any{}
		}
		hints["group"] = request.ServerGroupID
	}
	if len(hints) > 0 {
		body["os:scheduler_hints"] = hints
	}
	var answer struct {
		Server struct {
			ID string `json:"id"`
		}
	}
	if err := s.create(ctx, KindServer, computeService, "servers", body, &answer); err != nil {
		return Server{}, err
	}
	// Nova answers with the id alone; the rest is what was asked for.
	made := Server{
		ID: answer.Server.ID, Name: request.Name, Mark: request.Mark, Status: "BUILD", VMState: "building",
		FlavorID: request.FlavorID, ImageID: request.ImageID, Zone: request.Zone,
		Created: s.clock.Now(), Metadata: wanted.Metadata, Tags: sorted(wanted.Tags),
	}
	s.Inventory().created(made)
	return made, nil
}

// serverRequest is what to send, in terms the cloud's Nova understands.
func (s *Session) serverRequest(ctx context.Context, request ServerRequest) (wireServerRequest, error) {
	encoded := base64.StdEncoding.EncodeToString(request.UserData)
	if len(encoded) > largestUserData {
		return wireServerRequest{}, Errorf(Config, "the user data of server %q has %d bytes after base64; Nova takes %d: make it smaller, or let the server fetch it",
			request.Name, len(encoded), largestUserData)
	}
	metadata := maps.Clone(request.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	maps.Copy(metadata, request.Mark.Metadata())
	wanted := wireServerRequest{
		Name: request.Name, FlavorID: request.FlavorID, ImageID: request.ImageID, Zone: request.Zone,
		KeyPair: request.KeyPair, UserData: encoded, ConfigDrive: request.ConfigDrive, Metadata: metadata,
		Tags: request.Tags, Disks: disks(request), Networks: portsOf(request.PortIDs),
	}
	if err := s.adapt(ctx, &wanted); err != nil {
		return wireServerRequest{}, err
	}
	return wanted, nil
}

func portsOf(ids []string) any {
	if len(ids) == 0 {
		return "auto"
	}
	ports := make([]map[string]string, 0, len(ids))
	for _, id := range ids {
		ports = append(ports, map[string]string{"port": id})
	}
	return ports
}

// disks are the volumes of a server and, when it has some but boots from an image, its local disk,
// which otherwise would not exist.
func disks(request ServerRequest) []wireDisk {
	if len(request.Volumes) == 0 {
		return nil
	}
	var out []wireDisk
	if request.ImageID != "" {
		out = append(out, wireDisk{ID: request.ImageID, Source: "image", Destination: "local", DeleteOnTermination: true})
	}
	for _, volume := range request.Volumes {
		disk := wireDisk{
			BootIndex: -1, ID: volume.VolumeID, Source: "volume", Destination: "volume",
			DeleteOnTermination: volume.DeleteOnTermination, Tag: volume.Tag,
		}
		if volume.Boot {
			disk.BootIndex = 0
		}
		out = append(out, disk)
	}
	return out
}

// adapt leaves out what the cloud's Nova is too old for.
func (s *Session) adapt(ctx context.Context, wanted *wireServerRequest) error {
	unsupported := map[int]func(){
		minorNetworksRequired: func() {
			if wanted.Networks == "auto" {
				wanted.Networks = nil
			}
		},
		minorDeviceTags: func() {
			for n := range wanted.Disks {
				wanted.Disks[n].Tag = ""
			}
		},
		minorTagsOnCreate: func() { wanted.Tags = nil },
	}
	for minor, leaveOut := range unsupported {
		supported, err := s.supports(ctx, minor)
		if err != nil {
			return s.classify("POST /servers", err)
		}
		if !supported {
			leaveOut()
		}
	}
	return nil
}

// GetServer asks for one server.
func (s *Session) GetServer(ctx context.Context, id string) (Server, error) {
	var answer struct{ Server wireServer }
	if err := s.send(ctx, computeService, http.MethodGet, "servers/"+id, nil, &answer); err != nil {
		return Server{}, err
	}
	seen := answer.Server.server()
	if seen.isGone() {
		s.Inventory().deleted(KindServer, id)
		return seen, nil
	}
	s.Inventory().observed(seen)
	return seen, nil
}

// DeleteServer begins to delete a server. It stays in the inventory, Deleting, until it is gone.
func (s *Session) DeleteServer(ctx context.Context, id string) error {
	stays, err := s.removeSlowly(ctx, KindServer, computeService, "servers/"+id)
	if err != nil {
		return err
	}
	if !stays {
		s.Inventory().deleted(KindServer, id)
		return nil
	}
	now := s.clock.Now()
	amend(s.Inventory(), id, func(server *Server) {
		server.Deleting, server.TaskState, server.deleteSent = true, "deleting", now
	})
	return nil
}

// RebootServer begins to reboot a server.
func (s *Session) RebootServer(ctx context.Context, id string, how RebootKind) error {
	task := "rebooting"
	if how == HardReboot {
		task = "rebooting_hard"
	}
	return s.act(ctx, id, task, map[string]any{"reboot": map[string]any{"type": how}}, nil)
}

// StartServer begins to start a stopped server.
func (s *Session) StartServer(ctx context.Context, id string) error {
	return s.act(ctx, id, "powering-on", map[string]any{"os-start": nil}, nil)
}

// StopServer begins to stop a running server.
func (s *Session) StopServer(ctx context.Context, id string) error {
	return s.act(ctx, id, "powering-off", map[string]any{"os-stop": nil}, nil)
}

// ConsoleLog is the end of what a server wrote to its console; 0 lines means all there is.
func (s *Session) ConsoleLog(ctx context.Context, id string, lines int) (string, error) {
	length := map[string]any{}
	if lines > 0 {
		length["length"] = lines
	}
	var answer struct{ Output string }
	err := s.act(ctx, id, "", map[string]any{"os-getConsoleOutput": length}, &answer)
	return answer.Output, err
}

// act asks a server to do something. task is the state in which Nova puts it before it answers.
func (s *Session) act(ctx context.Context, id, task string, body, answer any) error {
	if err := s.send(ctx, computeService, http.MethodPost, "servers/"+id+"/action", body, answer); err != nil {
		return err
	}
	if task != "" {
		amend(s.Inventory(), id, func(server *Server) { server.TaskState = task })
	}
	return nil
}
