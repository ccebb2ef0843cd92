package simulator

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// volumeService is Cinder v3.
type volumeService struct {
	s       *Simulator
	volumes map[string]*volume
	order   []*volume // oldest first
}

// volume is a Cinder volume.
type volume struct {
	id, name, description string
	project, user         string
	status                string
	sizeGiB               int
	kind, zone            string
	imageID               string
	metadata              map[string]string
	attachments           []*volumeAttachment
	created, updated      time.Time
}

type volumeAttachment struct {
	id, serverID, device, hostName string
	attached                       time.Time
}

func (v *volumeService) setUp(s *Simulator) { v.s, v.volumes = s, map[string]*volume{} }

func (v *volumeService) routes(rt *router) {
	rt.open("GET /{$}", v.versions)
	rt.open("GET /v3/{$}", v.version)
	own := v.ownProject
	rt.handle("GET /v3/{project}/volumes", own(v.list(v.shortView)))
	rt.handle("GET /v3/{project}/volumes/detail", own(v.list(v.view)))
	rt.handle("POST /v3/{project}/volumes", own(v.create))
	rt.handle("GET /v3/{project}/volumes/{id}", own(v.show))
	rt.handle("PUT /v3/{project}/volumes/{id}", own(v.update))
	rt.handle("DELETE /v3/{project}/volumes/{id}", own(v.delete))
	rt.handle("POST /v3/{project}/volumes/{id}/action", own(v.act))
	rt.handle("GET /v3/{project}/volumes/{id}/metadata", own(v.showMetadata))
	rt.handle("POST /v3/{project}/volumes/{id}/metadata", own(v.mergeMetadata))
	rt.handle("PUT /v3/{project}/volumes/{id}/metadata", own(v.replaceMetadata))
	rt.handle("DELETE /v3/{project}/volumes/{id}/metadata/{key}", own(v.deleteMetadatum))
	rt.handle("GET /v3/{project}/types", own(v.listTypes))
	rt.handle("GET /v3/{project}/types/{id}", own(v.showType))
	rt.handle("GET /v3/{project}/limits", own(v.showLimits))
	rt.handle("GET /v3/{project}/os-quota-sets/{of}", own(v.showQuotas))
	rt.handle("PUT /v3/{project}/os-quota-sets/{of}", own(v.updateQuotas))
	rt.handle("GET /v3/{project}/os-availability-zone", own(v.listZones))
	rt.handle("GET /v3/{project}/snapshots", own(v.none("snapshots")))
	rt.handle("GET /v3/{project}/snapshots/detail", own(v.none("snapshots")))
	rt.handle("GET /v3/{project}/extensions", own(v.none("extensions")))
}

// ownProject checks that the project in a URL is the token's, as Cinder does.
func (v *volumeService) ownProject(h handler) handler {
	return func(c *call) (reply, error) {
		if c.id("project") != c.project() {
			return reply{}, badRequest("Malformed request url")
		}
		return h(c)
	}
}

func (v *volumeService) versionView(c *call) fields {
	return fields{
		"id": "v3.0", "status": "CURRENT", "version": "3.70", "min_version": "3.0", "updated": "2022-08-31T00:00:00Z",
		"links":       []fields{{"rel": "self", "href": c.base("volume") + "/v3/"}},
		"media-types": []fields{{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}},
	}
}

func (v *volumeService) versions(c *call) (reply, error) {
	return reply{status: http.StatusMultipleChoices, body: fields{"versions": []fields{v.versionView(c)}}}, nil
}

func (v *volumeService) version(c *call) (reply, error) {
	return ok(fields{"versions": []fields{v.versionView(c)}})
}

func (v *volumeService) none(collection string) handler {
	return func(*call) (reply, error) { return ok(fields{collection: []fields{}}) }
}

// find is a volume that a project sees, nil when there is none.
func (v *volumeService) find(project, id string) *volume {
	if found := v.volumes[id]; found != nil && found.project == project {
		return found
	}
	return nil
}

func (v *volumeService) findFor(c *call) (*volume, error) {
	found := v.volumes[c.id("id")]
	if found == nil || found.project != c.project() && !c.isAdmin() {
		return nil, problemf(http.StatusNotFound, "Volume %s could not be found.", c.id("id"))
	}
	return found, nil
}

func (v *volumeService) touch(vol *volume) { vol.updated = v.s.now() }

func (v *volumeService) view(c *call, vol *volume) fields {
	attachments := []fields{}
	for _, a := range vol.attachments {
		attachments = append(attachments, fields{
			"id": vol.id, "attachment_id": a.id, "volume_id": vol.id, "server_id": a.serverID, "host_name": a.hostName, "device": a.device,
			"attached_at": stampMicros(a.attached),
		})
	}
	bootable := "false"
	if vol.imageID != "" {
		bootable = "true"
	}
	view := fields{
		"id": vol.id, "name": vol.name, "description": emptyAsNull(vol.description), "status": vol.status, "size": vol.sizeGiB,
		"volume_type": vol.kind, "availability_zone": vol.zone, "metadata": vol.metadata, "attachments": attachments, "bootable": bootable,
		"created_at": stampMicros(vol.created), "updated_at": stampMicros(vol.updated), "user_id": vol.user, "encrypted": false, "multiattach": false,
		"snapshot_id": nil, "source_volid": nil, "replication_status": nil, "consistencygroup_id": nil, "migration_status": nil,
		"os-vol-tenant-attr:tenant_id": vol.project, "links": v.links(c, vol),
	}
	if vol.imageID != "" {
		image := fields{"image_id": vol.imageID}
		if known := v.s.image.byID(vol.imageID); known != nil {
			image["image_name"] = known.Name
			for key, value := range known.Properties {
				image[key] = value
			}
		}
		view["volume_image_metadata"] = image
	}
	if c.isAdmin() {
		view["os-vol-host-attr:host"] = "ceph@rbd#rbd"
	}
	return view
}

func (v *volumeService) links(c *call, vol *volume) []fields {
	return []fields{
		{"rel": "self", "href": c.base("volume") + "/v3/" + vol.project + "/volumes/" + vol.id},
		{"rel": "bookmark", "href": c.base("volume") + "/" + vol.project + "/volumes/" + vol.id},
	}
}

func (v *volumeService) shortView(c *call, vol *volume) fields {
	return fields{"id": vol.id, "name": vol.name, "links": v.links(c, vol)}
}

func (v *volumeService) list(view func(*call, *volume) fields) handler {
	return func(c *call) (reply, error) {
		volumes := v.selected(c)
		if offset := atoiOr(c.query("offset"), 0); offset > 0 {
			volumes = volumes[min(offset, len(volumes)):]
		}
		volumes, next, err := page(c, volumes, maxPage, func(vol *volume) string { return vol.id })
		if err != nil {
			return reply{}, err
		}
		views := make([]fields, 0, len(volumes))
		for _, vol := range volumes {
			views = append(views, view(c, vol))
		}
		return pageReply("volumes", views, next), nil
	}
}

// selected are the volumes a list asks for, newest first as Cinder lists by default.
func (v *volumeService) selected(c *call) []*volume {
	everywhere := c.isAdmin() && (c.query("all_tenants") == "1" || strings.EqualFold(c.query("all_tenants"), "true"))
	volumes := keep(v.order, func(vol *volume) bool {
		return (everywhere || vol.project == c.project()) && volumeFits(c, vol)
	})
	slices.Reverse(volumes)
	key, direction, _ := strings.Cut(c.query("sort"), ":")
	if key == "" {
		key, direction = c.query("sort_key"), c.query("sort_dir")
	}
	if key == "created_at" && direction == "asc" {
		slices.Reverse(volumes)
	}
	if key == "name" {
		slices.SortStableFunc(volumes, func(a, b *volume) int {
			if direction == "desc" {
				a, b = b, a
			}
			return strings.Compare(a.name, b.name)
		})
	}
	return volumes
}

func volumeFits(c *call, vol *volume) bool {
	for parameter, value := range map[string]string{
		"name": vol.name, "status": vol.status, "id": vol.id, "availability_zone": vol.zone, "volume_type": vol.kind, "project_id": vol.project,
	} {
		if want := c.query(parameter); want != "" && want != value {
			return false
		}
	}
	return volumeMetadataFits(c.query("metadata"), vol.metadata)
}

// volumeMetadataFits reads the filter metadata={'key': 'value'}, a Python literal.
func volumeMetadataFits(filter string, metadata map[string]string) bool {
	for pair := range strings.SplitSeq(strings.Trim(filter, "{}"), ",") {
		key, value, both := strings.Cut(pair, ":")
		unquote := func(text string) string { return strings.Trim(strings.TrimPrefix(strings.TrimSpace(text), "u"), `'"`) }
		if both && metadata[unquote(key)] != unquote(value) {
			return false
		}
	}
	return true
}

func (v *volumeService) create(c *call) (reply, error) {
	var in struct {
		Volume struct {
			Name        string            `json:"name"`
			Description string            `json:"description"`
			Size        any               `json:"size"`
			Type        string            `json:"volume_type"`
			Zone        string            `json:"availability_zone"`
			ImageRef    string            `json:"imageRef"`
			Metadata    map[string]string `json:"metadata"`
		} `json:"volume"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	asked := in.Volume
	size := sizeOf(asked.Size)
	if size <= 0 {
		return reply{}, badRequest("Invalid input received: Volume size '%v' must be an integer and greater than 0", asked.Size)
	}
	if asked.Zone != "" && !slices.Contains(v.s.scenario.VolumeZones, asked.Zone) {
		return reply{}, badRequest("Availability zone '%s' is invalid.", asked.Zone)
	}
	vol := &volume{
		name: asked.Name, description: asked.Description, project: c.project(), user: c.token.user.id, sizeGiB: size,
		kind: asked.Type, zone: asked.Zone, imageID: asked.ImageRef, metadata: asked.Metadata,
	}
	if err := v.add(vol); err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusAccepted, body: fields{"volume": v.view(c, vol)}}, nil
}

// sizeOf reads a size in GiB that may be a number or a string of one.
func sizeOf(value any) int {
	switch size := value.(type) {
	case float64:
		return int(size)
	case string:
		return atoiOr(size, 0)
	}
	return 0
}

// add checks a new volume against types, image and quota and lets it be created.
func (v *volumeService) add(vol *volume) error {
	if len(v.s.scenario.VolumeTypes) > 0 {
		setDefault(&vol.kind, v.s.scenario.VolumeTypes[0])
		i := slices.IndexFunc(v.s.scenario.VolumeTypes, func(name string) bool { return name == vol.kind || volumeTypeID(name) == vol.kind })
		if i < 0 {
			return problemf(http.StatusNotFound, "Volume type with name %s could not be found.", vol.kind)
		}
		vol.kind = v.s.scenario.VolumeTypes[i]
	}
	if vol.imageID != "" {
		image := v.s.image.byID(vol.imageID)
		if image == nil {
			return badRequest("Invalid image identifier or unable to access requested image.")
		}
		if vol.sizeGiB < image.MinDiskGiB {
			return badRequest("Invalid input received: Volume size %dGB cannot be smaller than the image minDisk size %dGB.", vol.sizeGiB, image.MinDiskGiB)
		}
	}
	if err := v.checkQuota(vol); err != nil {
		return err
	}
	now := v.s.now()
	vol.id, vol.status, vol.created, vol.updated = v.s.newID(), "creating", now, now
	setDefault(&vol.zone, v.s.scenario.VolumeZones[0])
	if vol.metadata == nil {
		vol.metadata = map[string]string{}
	}
	v.volumes[vol.id] = vol
	v.order = append(v.order, vol)
	v.awaitCreated(vol)
	return nil
}

func (v *volumeService) awaitCreated(vol *volume) {
	v.s.after(v.s.scenario.Latency.VolumeCreate.draw(v.s.rng), func() {
		if v.volumes[vol.id] == vol && vol.status == "creating" {
			vol.status = "available"
			v.touch(vol)
		}
	})
}

func (v *volumeService) used(project string) (count, sizeGiB int) {
	for _, vol := range v.order {
		if vol.project == project {
			count, sizeGiB = count+1, sizeGiB+vol.sizeGiB
		}
	}
	return count, sizeGiB
}

// overLimit is how Cinder refuses what a quota does not allow.
func overLimit(format string, args ...any) *problem {
	p := problemf(http.StatusRequestEntityTooLarge, format, args...)
	p.header = map[string]string{"Retry-After": "0"}
	return p
}

func (v *volumeService) checkQuota(vol *volume) error {
	count, size := v.used(vol.project)
	if v.s.overQuota(vol.project, "gigabytes", size, vol.sizeGiB) {
		return overLimit("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.",
			vol.sizeGiB, v.s.quota(vol.project, "gigabytes"), size)
	}
	if v.s.overQuota(vol.project, "volumes", count, 1) {
		return overLimit("VolumeLimitExceeded: Maximum number of volumes allowed (%d) exceeded for quota 'volumes'.", v.s.quota(vol.project, "volumes"))
	}
	return nil
}

func (v *volumeService) show(c *call) (reply, error) {
	vol, err := v.findFor(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"volume": v.view(c, vol)})
}

func (v *volumeService) update(c *call) (reply, error) {
	vol, err := v.findFor(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Volume struct {
			Name        *string           `json:"name"`
			Description *string           `json:"description"`
			Metadata    map[string]string `json:"metadata"`
		} `json:"volume"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	assign(&vol.name, in.Volume.Name)
	assign(&vol.description, in.Volume.Description)
	if in.Volume.Metadata != nil {
		vol.metadata = in.Volume.Metadata
	}
	v.touch(vol)
	return ok(fields{"volume": v.view(c, vol)})
}

func (v *volumeService) delete(c *call) (reply, error) {
	vol, err := v.findFor(c)
	if err != nil {
		return reply{}, err
	}
	if !slices.Contains([]string{"available", "error", "error_restoring", "error_extending", "error_managing"}, vol.status) || len(vol.attachments) > 0 {
		return reply{}, badRequest("Invalid volume: Volume status must be available or error or error_restoring or error_extending or error_managing and must not be migrating, attached, belong to a group, have snapshots, awaiting a transfer, or be disassociated from snapshots after volume transfer.")
	}
	v.startDelete(vol)
	return reply{status: http.StatusAccepted}, nil
}

func (v *volumeService) startDelete(vol *volume) {
	vol.status = "deleting"
	v.touch(vol)
	v.awaitDeleted(vol)
}

func (v *volumeService) awaitDeleted(vol *volume) {
	v.s.after(v.s.scenario.Latency.VolumeDelete.draw(v.s.rng), func() { v.remove(vol) })
}

func (v *volumeService) remove(vol *volume) {
	delete(v.volumes, vol.id)
	v.order = keep(v.order, func(other *volume) bool { return other != vol })
}

func (v *volumeService) act(c *call) (reply, error) {
	vol, err := v.findFor(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		ResetStatus *struct {
			Status string `json:"status"`
		} `json:"os-reset_status"`
		Extend *struct {
			NewSize any `json:"new_size"`
		} `json:"os-extend"`
		ForceDelete *struct{} `json:"os-force_delete"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	switch {
	case in.ResetStatus != nil && c.isAdmin():
		vol.status = in.ResetStatus.Status
		v.touch(vol)
	case in.Extend != nil:
		return v.extend(vol, sizeOf(in.Extend.NewSize))
	case in.ForceDelete != nil && c.isAdmin():
		v.startDelete(vol)
	case in.ResetStatus != nil || in.ForceDelete != nil:
		return reply{}, problemf(http.StatusForbidden, "Policy doesn't allow volume_extension:volume_admin_actions:reset_status to be performed.")
	default:
		return reply{}, badRequest("There is no such action")
	}
	return reply{status: http.StatusAccepted}, nil
}

func (v *volumeService) extend(vol *volume, sizeGiB int) (reply, error) {
	if sizeGiB <= vol.sizeGiB {
		return reply{}, badRequest("Invalid input received: New size for extend must be greater than current size. (current: %d, extended: %d).", vol.sizeGiB, sizeGiB)
	}
	_, used := v.used(vol.project)
	if v.s.overQuota(vol.project, "gigabytes", used, sizeGiB-vol.sizeGiB) {
		return reply{}, overLimit("VolumeSizeExceedsAvailableQuota: Requested volume or snapshot exceeds allowed gigabytes quota. Requested %dG, quota is %dG and %dG has been consumed.",
			sizeGiB-vol.sizeGiB, v.s.quota(vol.project, "gigabytes"), used)
	}
	vol.sizeGiB = sizeGiB
	v.touch(vol)
	return reply{status: http.StatusAccepted}, nil
}

func (v *volumeService) showMetadata(c *call) (reply, error) {
	vol, err := v.findFor(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"metadata": vol.metadata})
}

func (v *volumeService) changeMetadata(c *call, change func(old, sent map[string]string) map[string]string) (reply, error) {
	vol, err := v.findFor(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Metadata map[string]string `json:"metadata"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	vol.metadata = orEmpty(change(vol.metadata, in.Metadata))
	v.touch(vol)
	return ok(fields{"metadata": vol.metadata})
}

func (v *volumeService) mergeMetadata(c *call) (reply, error) {
	return v.changeMetadata(c, func(old, sent map[string]string) map[string]string {
		maps.Copy(old, sent)
		return old
	})
}

func (v *volumeService) replaceMetadata(c *call) (reply, error) {
	return v.changeMetadata(c, func(_, sent map[string]string) map[string]string { return sent })
}

func (v *volumeService) deleteMetadatum(c *call) (reply, error) {
	vol, err := v.findFor(c)
	if err != nil {
		return reply{}, err
	}
	if _, set := vol.metadata[c.id("key")]; !set {
		return reply{}, problemf(http.StatusNotFound, "Volume %s has no metadata with key %s.", vol.id, c.id("key"))
	}
	delete(vol.metadata, c.id("key"))
	v.touch(vol)
	return reply{status: http.StatusOK}, nil
}

func volumeTypeID(name string) string { return longID("volume type", name) }

func (v *volumeService) typeViews() []fields {
	views := []fields{}
	for _, name := range v.s.scenario.VolumeTypes {
		views = append(views, fields{
			"id": volumeTypeID(name), "name": name, "description": "", "is_public": true, "os-volume-type-access:is_public": true,
			"extra_specs": fields{}, "qos_specs_id": nil,
		})
	}
	return views
}

func (v *volumeService) listTypes(*call) (reply, error) {
	return ok(fields{"volume_types": v.typeViews()})
}

func (v *volumeService) showType(c *call) (reply, error) {
	views := v.typeViews()
	for _, view := range views {
		if view["id"] == c.id("id") || c.id("id") == "default" && len(views) > 0 {
			return ok(fields{"volume_type": view})
		}
	}
	return reply{}, problemf(http.StatusNotFound, "Volume type %s could not be found.", c.id("id"))
}

func (v *volumeService) showLimits(c *call) (reply, error) {
	count, size := v.used(c.project())
	return ok(fields{"limits": fields{"rate": []fields{}, "absolute": fields{
		"maxTotalVolumes": v.s.quota(c.project(), "volumes"), "totalVolumesUsed": count,
		"maxTotalVolumeGigabytes": v.s.quota(c.project(), "gigabytes"), "totalGigabytesUsed": size,
		"maxTotalSnapshots": v.s.quota(c.project(), "snapshots"), "totalSnapshotsUsed": 0,
		"maxTotalBackups": v.s.quota(c.project(), "backups"), "totalBackupsUsed": 0,
		"maxTotalBackupGigabytes": v.s.quota(c.project(), "backup_gigabytes"), "totalBackupGigabytesUsed": 0,
	}}})
}

func cinderQuotas() []string {
	return []string{"volumes", "gigabytes", "snapshots", "per_volume_gigabytes", "backups", "backup_gigabytes", "groups"}
}

func (v *volumeService) quotaSet(project string, withUsage bool) fields {
	count, size := v.used(project)
	used := map[string]int{"volumes": count, "gigabytes": size}
	set := fields{"id": project}
	for _, resource := range cinderQuotas() {
		set[resource] = v.s.quota(project, resource)
		if withUsage {
			set[resource] = fields{"limit": v.s.quota(project, resource), "in_use": used[resource], "reserved": 0, "allocated": 0}
		}
	}
	return set
}

func (v *volumeService) showQuotas(c *call) (reply, error) {
	if c.id("of") != c.project() && !c.isAdmin() {
		return reply{}, policyProblem("volume_extension:quotas:show")
	}
	return ok(fields{"quota_set": v.quotaSet(c.id("of"), strings.EqualFold(c.query("usage"), "true"))})
}

func (v *volumeService) updateQuotas(c *call) (reply, error) {
	if !c.isAdmin() {
		return reply{}, policyProblem("volume_extension:quotas:update")
	}
	var in struct {
		Set map[string]any `json:"quota_set"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	for _, resource := range cinderQuotas() {
		if limit, sent := in.Set[resource]; sent {
			v.s.quotas.set(c.id("of"), resource, sizeOf(limit))
		}
	}
	return ok(fields{"quota_set": v.quotaSet(c.id("of"), false)})
}

func (v *volumeService) listZones(*call) (reply, error) {
	views := []fields{}
	for _, zone := range v.s.scenario.VolumeZones {
		views = append(views, fields{"zoneName": zone, "zoneState": fields{"available": true}})
	}
	return ok(fields{"availabilityZoneInfo": views})
}

// checkAttachable words why a volume cannot be attached, as Nova reports it.
func (v *volumeService) checkAttachable(project, id string) error {
	vol := v.find(project, id)
	if vol == nil {
		return badRequest("Block Device Mapping is Invalid: failed to get volume %s.", id)
	}
	if vol.status != "available" {
		return badRequest("Invalid volume: volume '%s' status must be 'available'. Currently in '%s' status.", id, vol.status)
	}
	return nil
}

// createForServer makes a volume that a server asked for at boot; it is there at once.
func (v *volumeService) createForServer(srv *server, wanted blockDevice) (string, error) {
	vol := &volume{project: srv.project, user: srv.user, sizeGiB: max(wanted.sizeGiB(), 1), kind: wanted.VolumeType}
	if wanted.SourceType == "image" {
		vol.imageID = wanted.UUID
	}
	if slices.Contains(v.s.scenario.VolumeZones, srv.zoneName()) {
		vol.zone = srv.zoneName()
	}
	if err := v.add(vol); err != nil {
		return "", err
	}
	vol.status = "available"
	return vol.id, nil
}

// attach reserves a volume for a server and completes the attachment a little later.
func (v *volumeService) attach(id string, srv *server, as *serverVolume) {
	vol := v.volumes[id]
	vol.status = "attaching"
	v.touch(vol)
	v.awaitAttached(vol, srv, as)
}

func (v *volumeService) awaitAttached(vol *volume, srv *server, as *serverVolume) {
	hostName := hostNameOf(srv)
	v.s.after(v.s.scenario.Latency.VolumeAttach.draw(v.s.rng), func() {
		if v.volumes[vol.id] != vol || vol.status != "attaching" || !slices.Contains(srv.volumes, as) {
			return
		}
		vol.status = "in-use"
		vol.attachments = append(vol.attachments, &volumeAttachment{id: as.attachmentID, serverID: srv.id, device: as.device, hostName: hostName, attached: v.s.now()})
		v.touch(vol)
	})
}

func (v *volumeService) startDetaching(id string) {
	if vol := v.volumes[id]; vol != nil {
		vol.status = "detaching"
		v.touch(vol)
	}
}

// detach frees a volume from a server that is gone or no longer wants it.
func (v *volumeService) detach(id, serverID string, deleteIt bool) {
	vol := v.volumes[id]
	if vol == nil {
		return
	}
	vol.attachments = keep(vol.attachments, func(a *volumeAttachment) bool { return a.serverID != serverID })
	if vol.status == "in-use" || vol.status == "attaching" || vol.status == "detaching" {
		vol.status = "available"
	}
	v.touch(vol)
	if deleteIt {
		v.startDelete(vol)
	}
}

func (v *volumeService) countObjects(add func(project, objectType string)) {
	for _, vol := range v.order {
		add(vol.project, "volumes")
	}
}
