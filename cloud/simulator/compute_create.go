package simulator

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// Limits of Nova's request schema.
const (
	maxNameLength     = 255
	maxUserDataLength = 65_535 // characters of base64
	maxTags           = 50
)

// createRequest is the body of POST /servers.
type createRequest struct {
	Server struct {
		Name             string            `json:"name"`
		FlavorRef        string            `json:"flavorRef"`
		ImageRef         string            `json:"imageRef"`
		Networks         json.RawMessage   `json:"networks"` // a list, "auto" or "none"
		KeyName          string            `json:"key_name"`
		UserData         string            `json:"user_data"`
		ConfigDrive      any               `json:"config_drive"`
		Metadata         map[string]string `json:"metadata"`
		Tags             []string          `json:"tags"`
		AvailabilityZone string            `json:"availability_zone"`
		Description      string            `json:"description"`
		Hostname         string            `json:"hostname"`
		AdminPass        string            `json:"adminPass"`
		AccessIPv4       string            `json:"accessIPv4"`
		AccessIPv6       string            `json:"accessIPv6"`
		MinCount         int               `json:"min_count"`
		MaxCount         int               `json:"max_count"`
		SecurityGroups   []struct {
			Name string `json:"name"`
		} `json:"security_groups"`
		BlockDevices []blockDevice `json:"block_device_mapping_v2"`
	} `json:"server"`
	Hints    schedulerHints `json:"os:scheduler_hints"`
	OldHints schedulerHints `json:"OS-SCH-HNT:scheduler_hints"`
}

type schedulerHints struct {
	Group         string       `json:"group"`
	DifferentHost stringOrList `json:"different_host"`
	SameHost      stringOrList `json:"same_host"`
}

// stringOrList is a hint that may be written either way.
type stringOrList []string

func (l *stringOrList) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*l = stringOrList{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(l))
}

// blockDevice is an entry of block_device_mapping_v2.
type blockDevice struct {
	BootIndex           any    `json:"boot_index"` // a number, or a string of one
	UUID                string `json:"uuid"`
	SourceType          string `json:"source_type"`
	DestinationType     string `json:"destination_type"`
	VolumeSize          any    `json:"volume_size"`
	VolumeType          string `json:"volume_type"`
	DeviceName          string `json:"device_name"`
	DeleteOnTermination bool   `json:"delete_on_termination"`
	Tag                 string `json:"tag"`
}

func (b blockDevice) boots() bool { return fmt.Sprint(b.BootIndex) == "0" }

func (b blockDevice) sizeGiB() int { return atoiOr(fmt.Sprint(b.VolumeSize), 0) }

// networkWish is how a server wants to be connected.
type networkWish struct {
	none, auto bool
	entries    []wantedNIC
}

// wantedNIC is an entry of a server's networks.
type wantedNIC struct {
	UUID    string `json:"uuid"`
	Port    string `json:"port"`
	FixedIP string `json:"fixed_ip"`
	Tag     string `json:"tag"`
}

func badRequest(format string, args ...any) *problem {
	return problemf(http.StatusBadRequest, format, args...)
}

// schemaProblem is how Nova's JSON schema validation words a rejected value.
func schemaProblem(field string, value any, why string) *problem {
	shown := fmt.Sprint(value)
	if len(shown) > 120 {
		shown = shown[:120] + "…"
	}
	return badRequest("Invalid input for field/attribute %s. Value: %s. %s", field, shown, why)
}

func (n *computeService) createServers(c *call, version int) (reply, error) {
	var in createRequest
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if err := checkCreateSchema(c, &in, version); err != nil {
		return reply{}, err
	}
	if err := n.checkCreate(c, &in); err != nil {
		return reply{}, err
	}
	count := max(in.Server.MinCount, 1)
	if in.Server.MaxCount > count {
		count = in.Server.MaxCount
	}
	flavor, _ := n.usableFlavor(c, in.Server.FlavorRef)
	if err := n.checkQuota(c, flavor, count, len(in.Server.Metadata), n.group(in.hints().Group)); err != nil {
		return reply{}, err
	}
	reservation := "r-" + n.s.newID()[:8]
	var first *server
	for i := range count {
		srv := n.newServer(c, &in, flavor, reservation)
		if count > 1 {
			srv.name = fmt.Sprintf("%s-%d", in.Server.Name, i+1)
			srv.hostname = hostnameOf(srv.name)
		}
		n.add(srv)
		n.recordAction(c, srv, "create")
		n.awaitScheduled(srv)
		if first == nil {
			first = srv
		}
	}
	return reply{status: http.StatusAccepted, body: fields{"server": fields{
		"id": first.id, "adminPass": first.adminPass, "OS-DCF:diskConfig": "MANUAL",
		"links": serverLinks(c, first.id), "security_groups": securityGroupNames(&in),
	}}, header: map[string]string{"Location": c.base("compute") + "/v2.1/servers/" + first.id}}, nil
}

func (in *createRequest) hints() schedulerHints {
	if in.Hints.Group == "" && len(in.Hints.DifferentHost) == 0 && len(in.Hints.SameHost) == 0 {
		return in.OldHints
	}
	return in.Hints
}

func securityGroupNames(in *createRequest) []fields {
	names := []fields{}
	for _, g := range in.Server.SecurityGroups {
		names = append(names, fields{"name": g.Name})
	}
	if len(names) == 0 {
		names = append(names, fields{"name": "default"})
	}
	return names
}

// sinceVersion lists fields of a create request that older microversions refuse.
func sinceVersion() map[string]int {
	return map[string]int{"description": 19, "tags": 52, "trusted_image_certificates": 63, "host": 74, "hypervisor_hostname": 74, "hostname": 90}
}

// checkCreateSchema is what Nova's JSON schema checks, before anything is looked up.
func checkCreateSchema(c *call, in *createRequest, version int) error {
	var present struct {
		Server map[string]json.RawMessage `json:"server"`
	}
	if err := json.Unmarshal(c.body, &present); err != nil || present.Server == nil {
		return schemaProblem("body", string(c.body), "'server' is a required property")
	}
	for _, field := range []string{"name", "flavorRef"} {
		if _, sent := present.Server[field]; !sent {
			return schemaProblem("server", string(c.body), fmt.Sprintf("'%s' is a required property", field))
		}
	}
	if _, sent := present.Server["networks"]; !sent && version >= 37 {
		return schemaProblem("server", string(c.body), "'networks' is a required property")
	}
	for field, since := range sinceVersion() {
		if _, sent := present.Server[field]; sent && version < since {
			return schemaProblem("server", string(c.body), fmt.Sprintf("Additional properties are not allowed ('%s' was unexpected)", field))
		}
	}
	return checkCreateValues(in, version)
}

func checkCreateValues(in *createRequest, version int) error {
	name := strings.TrimSpace(in.Server.Name)
	if name == "" || name != in.Server.Name {
		return schemaProblem("name", in.Server.Name, fmt.Sprintf("'%s' does not match '^(?![\\\\s])(?!.*[\\\\s]$)'", in.Server.Name))
	}
	if len(name) > maxNameLength {
		return schemaProblem("name", in.Server.Name, fmt.Sprintf("'%s' is too long", in.Server.Name))
	}
	if len(in.Server.UserData) > maxUserDataLength {
		return schemaProblem("user_data", in.Server.UserData, "the value is too long")
	}
	if _, err := base64.StdEncoding.DecodeString(in.Server.UserData); err != nil {
		return schemaProblem("user_data", in.Server.UserData, "the value is not a 'base64'")
	}
	for key, value := range in.Server.Metadata {
		if key == "" || len(key) > maxNameLength || len(value) > maxNameLength {
			return schemaProblem("metadata", key, fmt.Sprintf("'%s' is too long", value))
		}
	}
	for _, device := range in.Server.BlockDevices {
		if device.VolumeType != "" && version < 67 {
			return schemaProblem("0", "volume_type", "Additional properties are not allowed ('volume_type' was unexpected)")
		}
	}
	return checkTagValues(in.Server.Tags)
}

func checkTagValues(tags []string) error {
	if len(tags) > maxTags {
		return schemaProblem("tags", tags, fmt.Sprintf("%s is too long", tags))
	}
	for _, tag := range tags {
		if tag == "" || len(tag) > 60 || strings.ContainsAny(tag, ",/") {
			return schemaProblem("tags", tag, fmt.Sprintf("'%s' does not match '^[^,/]*$'", tag))
		}
	}
	return nil
}

// checkCreate looks up everything that a create request names.
func (n *computeService) checkCreate(c *call, in *createRequest) error {
	flavor, found := n.usableFlavor(c, in.Server.FlavorRef)
	if !found {
		return badRequest("Flavor %s could not be found.", in.Server.FlavorRef)
	}
	checks := []func() error{
		func() error { return n.checkImage(in, flavor) },
		func() error { return n.checkBlockDevices(c, in) },
		func() error { return n.checkZone(in.Server.AvailabilityZone) },
		func() error { return n.checkKeyPair(c, in.Server.KeyName) },
		func() error { return n.checkGroupHint(c, in.hints().Group) },
		func() error { return n.checkSecurityGroups(c, in) },
		func() error { return n.checkNetworks(c, in) },
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (n *computeService) checkImage(in *createRequest, flavor Flavor) error {
	if in.Server.ImageRef == "" {
		if !slices.ContainsFunc(in.Server.BlockDevices, blockDevice.boots) {
			return badRequest("Invalid imageRef provided.")
		}
		return nil
	}
	image := n.s.image.byID(in.Server.ImageRef)
	if image == nil {
		return badRequest("Can not find requested image")
	}
	if image.Status != "active" {
		return badRequest("Image %s is not active.", image.ID)
	}
	if flavor.MemoryMiB < image.MinMemoryMiB {
		return badRequest("Flavor's memory is too small for requested image.")
	}
	if bootsFromVolume(in.Server.BlockDevices) || flavor.DiskGiB == 0 {
		return nil
	}
	if flavor.DiskGiB < image.MinDiskGiB {
		return badRequest("Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk is %d bytes, minimum size is %d bytes.", flavor.DiskGiB<<30, image.MinDiskGiB<<30)
	}
	return nil
}

func (n *computeService) checkBlockDevices(c *call, in *createRequest) error {
	if in.Server.ImageRef != "" && len(in.Server.BlockDevices) > 0 && !slices.ContainsFunc(in.Server.BlockDevices, blockDevice.boots) {
		return badRequest("Block Device Mapping is Invalid: Boot sequence for the instance and image/block device mapping combination is not valid.")
	}
	for _, device := range in.Server.BlockDevices {
		switch device.SourceType {
		case "volume":
			if err := n.s.volume.checkAttachable(c.project(), device.UUID); err != nil {
				return err
			}
		case "image":
			if n.s.image.byID(device.UUID) == nil {
				return badRequest("Block Device Mapping is Invalid: failed to get image %s.", device.UUID)
			}
			if device.DestinationType == "volume" && device.sizeGiB() == 0 {
				return badRequest("Block Device Mapping is Invalid: You specified more local devices than the limit allows")
			}
		case "blank", "snapshot":
		default:
			return badRequest("Invalid input for field/attribute source_type. Value: %s. '%s' is not one of ['volume', 'image', 'snapshot', 'blank']", device.SourceType, device.SourceType)
		}
		if device.VolumeType != "" && !slices.Contains(n.s.scenario.VolumeTypes, device.VolumeType) {
			return badRequest("Volume type %s could not be found.", device.VolumeType)
		}
	}
	return nil
}

func (n *computeService) checkZone(zone string) error {
	if zone != "" && !slices.ContainsFunc(n.hosts, func(h *host) bool { return h.Zone == zone }) {
		return badRequest("The requested availability zone is not available")
	}
	return nil
}

func (n *computeService) checkKeyPair(c *call, name string) error {
	if name != "" && n.keyPair(c.token.user.id, name) == nil {
		return badRequest("Invalid key_name provided.")
	}
	return nil
}

func (n *computeService) checkGroupHint(c *call, id string) error {
	if g := n.group(id); id != "" && (g == nil || g.project != c.project()) {
		return badRequest("Instance group %s could not be found.", id)
	}
	return nil
}

func (n *computeService) checkSecurityGroups(c *call, in *createRequest) error {
	for _, g := range in.Server.SecurityGroups {
		_, ambiguous, found := n.neutron().findSecurityGroup(c.project(), g.Name)
		if ambiguous {
			return problemf(http.StatusConflict, "Multiple security groups found matching '%s'. Use an ID to be more specific.", g.Name)
		}
		if !found && g.Name != "default" {
			return badRequest("Security group %s not found.", g.Name)
		}
	}
	return nil
}

// wish reads the networks of a create request.
func (in *createRequest) wish() (networkWish, error) {
	raw := in.Server.Networks
	if len(raw) == 0 || string(raw) == "null" {
		return networkWish{auto: true}, nil
	}
	var word string
	if json.Unmarshal(raw, &word) == nil {
		switch word {
		case "auto":
			return networkWish{auto: true}, nil
		case "none":
			return networkWish{none: true}, nil
		}
		return networkWish{}, schemaProblem("networks", word, fmt.Sprintf("'%s' is not one of ['none', 'auto']", word))
	}
	var wish networkWish
	if err := json.Unmarshal(raw, &wish.entries); err != nil {
		return networkWish{}, schemaProblem("networks", string(raw), "is not valid under any of the given schemas")
	}
	wish.auto = len(wish.entries) == 0
	return wish, nil
}

func (n *computeService) checkNetworks(c *call, in *createRequest) error {
	wish, err := in.wish()
	if err != nil || wish.none {
		return err
	}
	if wish.auto {
		return n.checkAutomaticNetwork(c)
	}
	toCreate := 0
	for _, nic := range wish.entries {
		switch {
		case nic.Port != "":
			if err := n.checkPort(c, nic.Port, wish.entries); err != nil {
				return err
			}
		case nic.UUID != "":
			toCreate++
			network, found := n.neutron().findNetwork(c.project(), nic.UUID)
			if !found {
				return badRequest("Network %s could not be found.", nic.UUID)
			}
			if network.subnets == 0 {
				return badRequest("Network %s requires a subnet in order to boot instances on.", nic.UUID)
			}
		default:
			return badRequest("Bad network format: missing 'uuid'")
		}
	}
	if left := n.neutron().portQuotaLeft(c.project()); left >= 0 && toCreate > left {
		return problemf(http.StatusForbidden, "Maximum number of ports exceeded")
	}
	return nil
}

func (n *computeService) checkAutomaticNetwork(c *call) error {
	if networks := n.neutron().networksOf(c.project()); len(networks) > 1 {
		return problemf(http.StatusConflict, "Multiple possible networks found, use a Network ID to be more specific.")
	}
	return nil
}

func (n *computeService) checkPort(c *call, id string, all []wantedNIC) error {
	port, found := n.neutron().findPort(c.project(), id)
	if !found {
		return badRequest("Port %s could not be found.", id)
	}
	if port.deviceID != "" {
		return problemf(http.StatusConflict, "Port %s is still in use.", id)
	}
	if len(port.addresses) == 0 && port.vnicType == "normal" {
		return badRequest("Port %s requires a FixedIP in order to be used.", id)
	}
	twice := 0
	for _, nic := range all {
		if nic.Port == id {
			twice++
		}
	}
	if twice > 1 {
		return badRequest("Duplicate networks (%s) are not allowed", id)
	}
	return nil
}

// checkQuota words an exceeded quota as Nova does, several resources in one sentence.
func (n *computeService) checkQuota(c *call, flavor Flavor, count, metadataItems int, group *serverGroup) error {
	used := n.usage[c.project()]
	var over, asked, have, limits []string
	for _, r := range []struct {
		name       string
		more, used int
	}{{"instances", count, used.instances}, {"cores", count * flavor.VCPUs, used.cores}, {"ram", count * flavor.MemoryMiB, used.memoryMiB}} {
		if n.s.overQuota(c.project(), r.name, r.used, r.more) {
			over, asked = append(over, r.name), append(asked, fmt.Sprint(r.more))
			have, limits = append(have, fmt.Sprint(r.used)), append(limits, fmt.Sprint(n.s.quota(c.project(), r.name)))
		}
	}
	if len(over) > 0 {
		names := strings.Join(over, ", ")
		return problemf(http.StatusForbidden, "Quota exceeded for %s: Requested %s, but already used %s of %s %s",
			names, strings.Join(asked, ", "), strings.Join(have, ", "), strings.Join(limits, ", "), names)
	}
	if limit := n.s.quota(c.project(), "metadata_items"); limit != unlimited && metadataItems > limit {
		return problemf(http.StatusForbidden, "Maximum number of metadata items exceeds %d", limit)
	}
	if group != nil && n.s.overQuota(c.project(), "server_group_members", len(n.members(group)), count) {
		return problemf(http.StatusForbidden, "Quota exceeded, too many servers in group")
	}
	return nil
}

// newServer makes the record of a checked request.
func (n *computeService) newServer(c *call, in *createRequest, flavor Flavor, reservation string) *server {
	now := n.s.now()
	asked := &in.Server
	wish, _ := in.wish()
	hints := in.hints()
	srv := &server{
		id: n.s.newID(), name: asked.Name, description: asked.Description, project: c.project(), user: c.token.user.id,
		vmState: vmBuilding, taskState: taskScheduling, flavor: flavor, imageID: asked.ImageRef, zone: asked.AvailabilityZone,
		metadata: maps.Clone(asked.Metadata), tags: slices.Compact(slices.Sorted(slices.Values(asked.Tags))), keyName: asked.KeyName,
		userData: asked.UserData, configDrive: fmt.Sprint(asked.ConfigDrive) == "true" || asked.ConfigDrive == "True",
		groupID: hints.Group, differentHost: hints.DifferentHost, sameHost: hints.SameHost,
		created: now, updated: now, accessIPv4: asked.AccessIPv4, accessIPv6: asked.AccessIPv6, adminPass: asked.AdminPass,
		rootDevice: "/dev/vda", reservation: reservation, networkWish: wish, wantedVolumes: asked.BlockDevices,
		hostname: asked.Hostname,
	}
	if srv.metadata == nil {
		srv.metadata = map[string]string{}
	}
	if bootsFromVolume(asked.BlockDevices) {
		srv.imageID = ""
	}
	setDefault(&srv.hostname, hostnameOf(asked.Name))
	setDefault(&srv.adminPass, strings.ReplaceAll(n.s.newID(), "-", "")[:12])
	for _, g := range asked.SecurityGroups {
		if id, _, found := n.neutron().findSecurityGroup(c.project(), g.Name); found {
			srv.securityGroupIDs = append(srv.securityGroupIDs, id)
		}
	}
	return srv
}

// bootsFromVolume reports that the root disk is a volume.
func bootsFromVolume(devices []blockDevice) bool {
	return slices.ContainsFunc(devices, func(b blockDevice) bool {
		return b.boots() && (b.DestinationType == "volume" || b.SourceType == "volume")
	})
}

func (srv *server) bootsFromVolume() bool { return bootsFromVolume(srv.wantedVolumes) }

var notInHostname = regexp.MustCompile(`[^a-z0-9.-]+`)

// hostnameOf is the host name Nova makes of a display name.
func hostnameOf(name string) string {
	return strings.Trim(notInHostname.ReplaceAllString(strings.ReplaceAll(strings.ToLower(name), " ", "-"), ""), "-.")
}
