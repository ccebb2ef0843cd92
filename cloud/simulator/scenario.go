package simulator

import (
	"bytes"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Scenario is what a simulated cloud consists of and how it behaves, as written in a scenario file.
type Scenario struct {
	// Seed makes ids, hosts and jitter repeat themselves; [Options.Seed] wins when set.
	Seed uint64 `json:"seed,omitempty"`
	// Regions are the regions of the catalog, RegionOne when empty. All of them lead to the same
	// services.
	Regions []string `json:"regions,omitempty"`
	// TokenLifetime is how long a Keystone token is valid, one hour when unset.
	TokenLifetime Duration `json:"tokenLifetime,omitempty"`
	// Domains beside "Default", which is always there.
	Domains                []string                `json:"domains,omitempty"`
	Projects               []Project               `json:"projects,omitempty"`
	Users                  []User                  `json:"users,omitempty"`
	ApplicationCredentials []ApplicationCredential `json:"applicationCredentials,omitempty"`
	// Quotas are the limits of every project that has none of its own, by resource as the service
	// names it: instances, cores, ram, port, floatingip, loadbalancer, volumes, gigabytes, …
	Quotas      map[string]int `json:"quotas,omitempty"`
	Flavors     []Flavor       `json:"flavors,omitempty"`
	Images      []Image        `json:"images,omitempty"`
	VolumeTypes []string       `json:"volumeTypes,omitempty"`
	// VolumeZones are Cinder's availability zones, those of the hosts when empty.
	VolumeZones []string `json:"volumeZones,omitempty"`
	Hosts       []Host   `json:"hosts,omitempty"`
	// KeyPairs exist for every user.
	KeyPairs         []string          `json:"keyPairs,omitempty"`
	ExternalNetworks []ExternalNetwork `json:"externalNetworks,omitempty"`
	Latency          Latencies         `json:"latency,omitempty"`
	Faults           []Fault           `json:"faults,omitempty"`
	Events           []Event           `json:"events,omitempty"`
	// Resources says which extended resource of a node a flavor's extra spec stands for:
	// "pci_passthrough:alias=a100" or "resources:CUSTOM_GPU_A100" → "nvidia.com/gpu".
	Resources map[string]string `json:"resources,omitempty"`
	// GPUKinds are NVIDIA's GPUs by what flavors ask for, as in [Host.GPUs].
	GPUKinds map[string]GPUKind `json:"gpuKinds,omitempty"`
	// MIGLayouts are ways to partition a GPU that have a name of their own: instances by MIG profile.
	MIGLayouts map[string]map[string]int `json:"migLayouts,omitempty"`
	// NVIDIADriver is the driver's version on nodes whose image has no property nvidia_driver_version. Without either a
	// node shows none of its NVIDIA GPUs.
	NVIDIADriver string `json:"nvidiaDriver,omitempty"`
	// PlacementReadable lets every user read Placement, and from Nova which host is in which zone, as operators allow a
	// fleet manager by policy. Unset, only admins may.
	PlacementReadable bool `json:"placementReadable,omitempty"`
}

// Project is a Keystone project.
type Project struct {
	Name   string         `json:"name"`
	ID     string         `json:"id,omitempty"`     // made from the name when empty
	Domain string         `json:"domain,omitempty"` // Default when empty
	Quotas map[string]int `json:"quotas,omitempty"`
}

// User is a Keystone user.
type User struct {
	Name     string `json:"name"`
	ID       string `json:"id,omitempty"`
	Domain   string `json:"domain,omitempty"`
	Password string `json:"password"`
	// Roles are the user's roles by project name.
	Roles map[string][]string `json:"roles"`
}

// ApplicationCredential lets a program act for a user in one project.
type ApplicationCredential struct {
	Name    string   `json:"name"`
	ID      string   `json:"id,omitempty"`
	Secret  string   `json:"secret"`
	User    string   `json:"user"`
	Project string   `json:"project"`
	Roles   []string `json:"roles,omitempty"` // all of the user's in the project when empty
}

// AddTenant adds a project, and an ordinary user of its name, whose password is the name as well.
func (sc *Scenario) AddTenant(name string) {
	sc.Projects = append(sc.Projects, Project{Name: name})
	sc.Users = append(sc.Users, User{Name: name, Password: name, Roles: map[string][]string{name: {"member", "reader", "load-balancer_member"}}})
}

// Flavor is a Nova flavor.
type Flavor struct {
	Name         string            `json:"name"`
	ID           string            `json:"id,omitempty"`
	VCPUs        int               `json:"vcpus"`
	MemoryMiB    int               `json:"memoryMiB"`
	DiskGiB      int               `json:"diskGiB"`
	EphemeralGiB int               `json:"ephemeralGiB,omitempty"`
	SwapMiB      int               `json:"swapMiB,omitempty"`
	ExtraSpecs   map[string]string `json:"extraSpecs,omitempty"`
	// Projects are the only ones that see the flavor; all when empty.
	Projects []string `json:"projects,omitempty"`
}

// Image is a Glance image.
type Image struct {
	Name         string            `json:"name"`
	ID           string            `json:"id,omitempty"`
	Status       string            `json:"status,omitempty"`     // active when empty
	Visibility   string            `json:"visibility,omitempty"` // public when empty
	Tags         []string          `json:"tags,omitempty"`
	Properties   map[string]string `json:"properties,omitempty"`
	DiskFormat   string            `json:"diskFormat,omitempty"` // qcow2 when empty
	MinDiskGiB   int               `json:"minDiskGiB,omitempty"`
	MinMemoryMiB int               `json:"minMemoryMiB,omitempty"`
	SizeBytes    int64             `json:"sizeBytes,omitempty"`
}

// Host is a hypervisor.
type Host struct {
	Name      string `json:"name"`
	Zone      string `json:"zone"`
	VCPUs     int    `json:"vcpus"`
	MemoryMiB int    `json:"memoryMiB"`
	DiskGiB   int    `json:"diskGiB"`
	// GPUs counts devices by what flavors ask for: a PCI alias such as "a100", or a Placement
	// resource class such as "CUSTOM_GPU_A100". The two kinds are pools that do not know each other.
	GPUs map[string]int `json:"gpus,omitempty"`
}

// ExternalNetwork is a provider network that routers and floating IPs use.
type ExternalNetwork struct {
	Name string `json:"name"`
	ID   string `json:"id,omitempty"`
	CIDR string `json:"cidr"`
}

// Latencies say how long asynchronous work takes, and how long each API call does. Unset fields
// take no time.
type Latencies struct {
	ServerBuild  Range `json:"serverBuild,omitempty"`
	ServerDelete Range `json:"serverDelete,omitempty"`
	// ServerPower is a start, stop, reboot or rebuild.
	ServerPower        Range `json:"serverPower,omitempty"`
	PortActive         Range `json:"portActive,omitempty"`
	VolumeCreate       Range `json:"volumeCreate,omitempty"`
	VolumeDelete       Range `json:"volumeDelete,omitempty"`
	VolumeAttach       Range `json:"volumeAttach,omitempty"`
	LoadBalancerCreate Range `json:"loadBalancerCreate,omitempty"`
	LoadBalancerUpdate Range `json:"loadBalancerUpdate,omitempty"`
	LoadBalancerDelete Range `json:"loadBalancerDelete,omitempty"`
	// DevicePlugin is how long device plugins take to advertise the devices of a Ready node, and MIGManager how long GPUs
	// then take to be partitioned. They are for a backend whose nodes run no such software themselves.
	DevicePlugin Range `json:"devicePlugin,omitempty"`
	MIGManager   Range `json:"migManager,omitempty"`
	// Calls is the time of each answer; the first entry that fits counts.
	Calls []CallLatency `json:"calls,omitempty"`
}

// CallLatency is how long answers take. Empty match fields match everything.
type CallLatency struct {
	Service string `json:"service,omitempty"`
	Method  string `json:"method,omitempty"`
	Path    string `json:"path,omitempty"` // a route's template or a glob of it
	Time    Range  `json:"time"`
}

// Event happens once, AtSeconds after the simulator started.
type Event struct {
	AtSeconds float64 `json:"atSeconds"`
	// Host is the hypervisor that Change is about.
	Host   string      `json:"host,omitempty"`
	Change *HostChange `json:"change,omitempty"`
	// Fault starts to strike at that time.
	Fault *Fault `json:"fault,omitempty"`
	// RevokeTokens ends all tokens at that time.
	RevokeTokens bool `json:"revokeTokens,omitempty"`
}

// Duration is a time.Duration written as "90s" or "1h30m".
type Duration time.Duration

// UnmarshalJSON reads Go's notation, or a number of seconds.
func (d *Duration) UnmarshalJSON(data []byte) error {
	var seconds float64
	if json.Unmarshal(data, &seconds) == nil {
		*d = Duration(seconds * float64(time.Second))
		return nil
	}
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("%s is no duration: write \"90s\" or a number of seconds", data)
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return err
	}
	*d = Duration(parsed)
	return nil
}

// MarshalJSON writes Go's notation.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Range is a time between two bounds, drawn anew for each use.
type Range struct {
	Min Duration `json:"min"`
	Max Duration `json:"max"`
}

// Exactly is a range of one value.
func Exactly(d time.Duration) Range { return Range{Min: Duration(d), Max: Duration(d)} }

// Between is a range.
func Between(least, most time.Duration) Range {
	return Range{Min: Duration(least), Max: Duration(most)}
}

// UnmarshalJSON accepts one duration for both bounds.
func (r *Range) UnmarshalJSON(data []byte) error {
	if trimmed := bytes.TrimSpace(data); len(trimmed) > 0 && trimmed[0] != '{' {
		var d Duration
		if err := d.UnmarshalJSON(data); err != nil {
			return err
		}
		*r = Range{Min: d, Max: d}
		return nil
	}
	type plain Range
	return json.Unmarshal(data, (*plain)(r))
}

func (r Range) draw(rng *rand.Rand) time.Duration {
	if r.Max <= r.Min {
		return time.Duration(r.Min)
	}
	return time.Duration(r.Min) + time.Duration(rng.Int64N(int64(r.Max-r.Min)+1))
}

// of is how long a call's answer takes.
func (l Latencies) of(rng *rand.Rand, key callKey) time.Duration {
	for _, entry := range l.Calls {
		if matches(entry.Service, entry.Method, entry.Path, key) {
			return entry.Time.draw(rng)
		}
	}
	return 0
}

// matches compares a call with match fields of which empty ones fit everything.
func matches(service, method, pathGlob string, key callKey) bool {
	if service != "" && service != key.Service || method != "" && method != key.Method {
		return false
	}
	if pathGlob == "" || pathGlob == key.Path {
		return true
	}
	matched, _ := path.Match(pathGlob, key.Path) // the pattern was checked when it was accepted
	return matched
}

// LoadScenario reads a scenario file in YAML or JSON. Unknown fields are errors. Lists that the file
// leaves out are those of [DefaultScenario].
func LoadScenario(file string) (*Scenario, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	scenario, err := ParseScenario(data)
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", file, err)
	}
	return scenario, nil
}

// ParseScenario reads a scenario, see [LoadScenario].
func ParseScenario(data []byte) (*Scenario, error) {
	var tree any
	if err := yaml.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	scenario := DefaultScenario()
	if tree == nil {
		return &scenario, nil
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		return nil, err
	}
	// Lists and maps of the file replace the default's; encoding/json would merge maps.
	var named map[string]json.RawMessage
	if err := json.Unmarshal(asJSON, &named); err != nil {
		return nil, errors.New("the file must hold one mapping")
	}
	for field, unset := range map[string]func(){
		"quotas":                 func() { scenario.Quotas = nil },
		"resources":              func() { scenario.Resources = nil },
		"gpuKinds":               func() { scenario.GPUKinds = nil },
		"latency":                func() { scenario.Latency = Latencies{} },
		"projects":               func() { scenario.Projects = nil },
		"users":                  func() { scenario.Users = nil },
		"flavors":                func() { scenario.Flavors = nil },
		"images":                 func() { scenario.Images = nil },
		"hosts":                  func() { scenario.Hosts = nil },
		"applicationCredentials": func() { scenario.ApplicationCredentials = nil },
		"externalNetworks":       func() { scenario.ExternalNetworks = nil },
		"volumeTypes":            func() { scenario.VolumeTypes = nil },
		"keyPairs":               func() { scenario.KeyPairs = nil },
	} {
		if _, present := named[field]; present {
			unset()
		}
	}
	decoder := json.NewDecoder(bytes.NewReader(asJSON))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&scenario); err != nil {
		return nil, err
	}
	return &scenario, scenario.validate()
}

// validate names the first thing in a scenario that cannot work.
func (sc *Scenario) validate() error {
	sc.complete()
	if err := sc.validateAccounts(); err != nil {
		return err
	}
	for _, h := range sc.Hosts {
		if h.Name == "" || h.Zone == "" {
			return fmt.Errorf("host %q in zone %q: name and zone are both needed", h.Name, h.Zone)
		}
	}
	if len(sc.Hosts) == 0 {
		return errors.New("hosts is empty: a cloud needs at least one")
	}
	if err := sc.validateIdentifiers(); err != nil {
		return err
	}
	if err := sc.validateGPUs(); err != nil {
		return err
	}
	for _, f := range sc.Faults {
		if err := f.validate(); err != nil {
			return err
		}
	}
	return sc.validateEvents()
}

func (sc *Scenario) validateAccounts() error {
	projects := map[string]bool{}
	for _, p := range sc.Projects {
		projects[p.Name] = true
	}
	for _, u := range sc.Users {
		for project := range u.Roles {
			if !projects[project] {
				return fmt.Errorf("user %q has roles in project %q, which is not under projects", u.Name, project)
			}
		}
	}
	for _, ac := range sc.ApplicationCredentials {
		if !projects[ac.Project] {
			return fmt.Errorf("application credential %q is for project %q, which is not under projects", ac.Name, ac.Project)
		}
		if !slices.ContainsFunc(sc.Users, func(u User) bool { return u.Name == ac.User }) {
			return fmt.Errorf("application credential %q is of user %q, who is not under users", ac.Name, ac.User)
		}
	}
	return nil
}

// validateIdentifiers finds entries that nobody could tell apart. Several images may share a name,
// with ids of their own.
func (sc *Scenario) validateIdentifiers() error {
	var ids []string
	for _, p := range sc.Projects {
		ids = append(ids, "projects: id "+p.ID)
	}
	for _, u := range sc.Users {
		ids = append(ids, "users: id "+u.ID)
	}
	for _, f := range sc.Flavors {
		ids = append(ids, "flavors: id "+f.ID)
	}
	for _, image := range sc.Images {
		ids = append(ids, "images: id "+image.ID)
	}
	for _, h := range sc.Hosts {
		ids = append(ids, "hosts: name "+h.Name)
	}
	seen := map[string]bool{}
	for _, id := range ids {
		if seen[id] {
			return fmt.Errorf("%s is there twice: ids are made from names unless they are set", id)
		}
		seen[id] = true
	}
	return nil
}

func (sc *Scenario) validateEvents() error {
	for i, e := range sc.Events {
		if e.Change == nil && e.Fault == nil && !e.RevokeTokens {
			return fmt.Errorf("events[%d] does nothing: set change, fault or revokeTokens", i)
		}
		if e.Change != nil && !slices.ContainsFunc(sc.Hosts, func(h Host) bool { return h.Name == e.Host }) {
			return fmt.Errorf("events[%d] is about host %q, which is not under hosts", i, e.Host)
		}
		if e.Fault != nil {
			if err := e.Fault.validate(); err != nil {
				return fmt.Errorf("events[%d]: %w", i, err)
			}
		}
	}
	return nil
}

// complete fills what a scenario may leave out. Ids come from names, so that they are the same in
// every run and under every seed.
func (sc *Scenario) complete() {
	if len(sc.Regions) == 0 {
		sc.Regions = []string{"RegionOne"}
	}
	if sc.TokenLifetime <= 0 {
		sc.TokenLifetime = Duration(time.Hour)
	}
	sc.Projects = slices.Clone(sc.Projects)
	for i := range sc.Projects {
		setDefault(&sc.Projects[i].Domain, "Default")
		setDefault(&sc.Projects[i].ID, shortID("project", sc.Projects[i].Domain, sc.Projects[i].Name))
	}
	sc.Users = slices.Clone(sc.Users)
	for i := range sc.Users {
		setDefault(&sc.Users[i].Domain, "Default")
		setDefault(&sc.Users[i].ID, shortID("user", sc.Users[i].Domain, sc.Users[i].Name))
	}
	sc.ApplicationCredentials = slices.Clone(sc.ApplicationCredentials)
	for i, ac := range sc.ApplicationCredentials {
		setDefault(&sc.ApplicationCredentials[i].ID, shortID("application credential", ac.User, ac.Name))
	}
	sc.Flavors = slices.Clone(sc.Flavors)
	for i, f := range sc.Flavors {
		setDefault(&sc.Flavors[i].ID, longID("flavor", f.Name))
	}
	sc.Images = slices.Clone(sc.Images)
	for i := range sc.Images {
		sc.Images[i].complete()
	}
	sc.ExternalNetworks = slices.Clone(sc.ExternalNetworks)
	for i, n := range sc.ExternalNetworks {
		setDefault(&sc.ExternalNetworks[i].ID, longID("external network", n.Name))
	}
	if len(sc.VolumeZones) == 0 {
		sc.VolumeZones = sc.zones()
	}
}

func (image *Image) complete() {
	setDefault(&image.ID, longID("image", image.Name))
	setDefault(&image.Status, "active")
	setDefault(&image.Visibility, "public")
	setDefault(&image.DiskFormat, "qcow2")
}

// zones are the availability zones of the hosts, in order.
func (sc *Scenario) zones() []string {
	var zones []string
	for _, h := range sc.Hosts {
		zones = append(zones, h.Zone)
	}
	slices.Sort(zones)
	return slices.Compact(zones)
}

func setDefault(field *string, value string) {
	if *field == "" {
		*field = value
	}
}

// shortID is an id as Keystone makes them: 32 hex digits.
func shortID(parts ...string) string {
	return fmt.Sprintf("%x", sha1.Sum([]byte(strings.Join(parts, "\x00"))))[:32]
}

// longID is the same in the notation of a UUID.
func longID(parts ...string) string {
	id := shortID(parts...)
	return fmt.Sprintf("%s-%s-4%s-8%s-%s", id[:8], id[8:12], id[13:16], id[17:20], id[20:])
}

// DefaultScenario is a cloud of three zones with GPU hosts, projects "demo" and "admin" (users and
// passwords of the same names) and latencies of seconds.
func DefaultScenario() Scenario {
	sc := Scenario{
		Projects: []Project{{Name: "admin"}, {Name: "demo"}, {Name: "service"}},
		Users: []User{
			{Name: "admin", Password: "admin", Roles: map[string][]string{"admin": {"admin", "member", "reader", "load-balancer_admin", "load-balancer_member"}, "demo": {"admin", "member", "reader", "load-balancer_admin", "load-balancer_member"}}},
			{Name: "demo", Password: "demo", Roles: map[string][]string{"demo": {"member", "reader", "load-balancer_member"}}},
		},
		ApplicationCredentials: []ApplicationCredential{{Name: "demo", Secret: "demo-secret", User: "demo", Project: "demo"}},
		Flavors: []Flavor{
			{Name: "m1.small", VCPUs: 2, MemoryMiB: 4096, DiskGiB: 20},
			{Name: "m1.medium", VCPUs: 4, MemoryMiB: 8192, DiskGiB: 40},
			{Name: "m1.large", VCPUs: 8, MemoryMiB: 16384, DiskGiB: 80},
			{Name: "c1.xlarge", VCPUs: 16, MemoryMiB: 32768, DiskGiB: 80},
			gpuFlavor("g1.a100.1", "a100", 1, 12, 122_880, 200),
			gpuFlavor("g1.a100.4", "a100", 4, 48, 491_520, 400),
			gpuFlavor("g1.a100.8", "a100", 8, 96, 983_040, 800),
			gpuFlavor("g1.h100.1", "h100", 1, 24, 245_760, 400),
			gpuFlavor("g1.h100.8", "h100", 8, 192, 1_966_080, 1600),
		},
		Images: []Image{
			nodeImage("ubuntu-24.04-kube-v1.36.3"),
			nodeImage("ubuntu-24.04-kube-v1.35.6"),
			nvidiaImage("ubuntu-24.04-kube-v1.36.3-nvidia-570", "570.172.08"),
			nvidiaImage("ubuntu-24.04-kube-v1.36.3-nvidia-580", "580.95.05"),
			nvidiaImage("ubuntu-24.04-kube-v1.35.6-nvidia-570", "570.172.08"),
		},
		VolumeTypes:      []string{"__DEFAULT__", "ssd"},
		KeyPairs:         []string{"demo"},
		ExternalNetworks: []ExternalNetwork{{Name: "public", CIDR: "127.64.0.0/16"}},
		Latency: Latencies{
			ServerBuild: Between(2*time.Second, 4*time.Second), ServerDelete: Between(time.Second, 2*time.Second),
			ServerPower: Between(time.Second, 2*time.Second), PortActive: Exactly(time.Second),
			VolumeCreate: Exactly(time.Second), VolumeDelete: Exactly(time.Second), VolumeAttach: Exactly(500 * time.Millisecond),
			LoadBalancerCreate: Between(2*time.Second, 3*time.Second), LoadBalancerUpdate: Exactly(time.Second), LoadBalancerDelete: Exactly(time.Second),
			MIGManager: Exactly(2 * time.Second),
		},
		Resources: map[string]string{
			"pci_passthrough:alias=a100": "nvidia.com/gpu", "pci_passthrough:alias=h100": "nvidia.com/gpu",
			"resources:CUSTOM_GPU_A100": "nvidia.com/gpu", "resources:CUSTOM_GPU_H100": "nvidia.com/gpu",
		},
		GPUKinds:     defaultGPUKinds(),
		NVIDIADriver: "570.158.01",
	}
	for _, zone := range []string{"az1", "az2", "az3"} {
		for i := range 4 {
			sc.Hosts = append(sc.Hosts, Host{Name: fmt.Sprintf("cpu-%s-%d", zone, i+1), Zone: zone, VCPUs: 256, MemoryMiB: 1 << 20, DiskGiB: 20_000})
		}
		for i := range 2 {
			sc.Hosts = append(sc.Hosts, Host{Name: fmt.Sprintf("a100-%s-%d", zone, i+1), Zone: zone, VCPUs: 256, MemoryMiB: 2 << 20, DiskGiB: 20_000, GPUs: map[string]int{"a100": 8}})
		}
		sc.Hosts = append(sc.Hosts, Host{Name: "h100-" + zone + "-1", Zone: zone, VCPUs: 384, MemoryMiB: 4 << 20, DiskGiB: 20_000, GPUs: map[string]int{"h100": 8}})
	}
	return sc
}

func gpuFlavor(name, alias string, gpus, vcpus, memoryMiB, diskGiB int) Flavor {
	return Flavor{
		Name: name, VCPUs: vcpus, MemoryMiB: memoryMiB, DiskGiB: diskGiB,
		ExtraSpecs: map[string]string{"pci_passthrough:alias": fmt.Sprintf("%s:%d", alias, gpus)},
	}
}

func nodeImage(name string) Image {
	return Image{
		Name: name, MinDiskGiB: 10, SizeBytes: 2 << 30,
		Properties: map[string]string{"architecture": "x86_64", "os_type": "linux", "os_distro": "ubuntu", "hw_disk_bus": "virtio"},
	}
}
