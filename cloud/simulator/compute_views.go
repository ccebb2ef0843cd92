package simulator

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"time"
)

func serverLinks(c *call, id string) []fields { return computeLinks(c, "servers", id) }

func computeLinks(c *call, collection, id string) []fields {
	base := c.base("compute")
	return []fields{
		{"rel": "self", "href": base + "/v2.1/" + collection + "/" + id},
		{"rel": "bookmark", "href": base + "/" + collection + "/" + id},
	}
}

// status is what the API makes of a server's inner states.
func (srv *server) status() string {
	switch srv.vmState {
	case vmBuilding:
		return "BUILD"
	case vmError:
		return "ERROR"
	case vmDeleted:
		return "DELETED"
	case vmResized:
		return "VERIFY_RESIZE"
	case vmStopped:
		switch srv.taskState {
		case "rebuilding":
			return "REBUILD"
		case "resize_migrating":
			return "RESIZE"
		}
		return "SHUTOFF"
	}
	switch srv.taskState {
	case "rebooting":
		return "REBOOT"
	case "rebooting_hard":
		return "HARD_REBOOT"
	case "rebuilding":
		return "REBUILD"
	case "migrating":
		return "MIGRATING"
	case "resize_migrating":
		return "RESIZE"
	}
	return "ACTIVE"
}

// hostID hides the hypervisor's name from projects but lets them tell hosts apart.
func (srv *server) hostID() string {
	if srv.host == nil {
		return ""
	}
	return fmt.Sprintf("%x", sha256.Sum224([]byte(srv.project+srv.host.Name)))
}

// zoneName is the zone a server is in, or the one it was asked into while it has no host.
func (srv *server) zoneName() string {
	if srv.host != nil {
		return srv.host.Zone
	}
	return srv.zone
}

// longStamp is how Nova writes the times of OS-SRV-USG.
func longStamp(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stampMicros(t)
}

func (n *computeService) serverView(c *call, srv *server, version int) fields {
	view := fields{
		"id": srv.id, "name": srv.name, "tenant_id": srv.project, "user_id": srv.user, "metadata": srv.metadata,
		"status": srv.status(), "hostId": srv.hostID(), "created": stamp(srv.created), "updated": stamp(srv.updated),
		"addresses": n.addressesView(srv), "accessIPv4": srv.accessIPv4, "accessIPv6": srv.accessIPv6, "links": serverLinks(c, srv.id),
		"OS-DCF:diskConfig": "MANUAL", "OS-EXT-AZ:availability_zone": srv.zoneName(), "config_drive": "", "key_name": emptyAsNull(srv.keyName),
		"OS-SRV-USG:launched_at": longStamp(srv.launched), "OS-SRV-USG:terminated_at": longStamp(srv.terminated),
		"OS-EXT-STS:vm_state": srv.vmState, "OS-EXT-STS:task_state": emptyAsNull(srv.taskState), "OS-EXT-STS:power_state": srv.powerState,
		"os-extended-volumes:volumes_attached": volumesAttached(srv, version),
		"flavor":                               n.serverFlavorView(c, srv.flavor, version),
		"image":                                "",
	}
	if srv.configDrive {
		view["config_drive"] = "True"
	}
	if srv.imageID != "" {
		view["image"] = fields{"id": srv.imageID, "links": []fields{{"rel": "bookmark", "href": c.base("compute") + "/images/" + srv.imageID}}}
	}
	if groups := n.securityGroupsView(srv); groups != nil {
		view["security_groups"] = groups
	}
	switch status := view["status"]; status {
	case "ACTIVE", "BUILD", "REBUILD", "RESIZE", "VERIFY_RESIZE":
		progress := 0
		if status == "ACTIVE" {
			progress = 100
		}
		view["progress"] = progress
	case "ERROR", "DELETED":
		if srv.fault != nil {
			view["fault"] = srv.fault.view(c)
		}
	}
	n.addVersionedFields(view, srv, version)
	if c.isAdmin() {
		n.addAdminFields(view, srv, version)
	}
	return view
}

// addVersionedFields adds what later microversions brought.
func (n *computeService) addVersionedFields(view fields, srv *server, version int) {
	add := func(since int, field string, value any) {
		if version >= since {
			view[field] = value
		}
	}
	add(9, "locked", srv.locked)
	add(19, "description", emptyAsNull(srv.description))
	add(26, "tags", append([]string{}, srv.tags...))
	add(63, "trusted_image_certificates", nil)
	add(73, "locked_reason", emptyAsNull(srv.lockedReason))
	add(90, "OS-EXT-SRV-ATTR:hostname", srv.hostname)
}

func (n *computeService) addAdminFields(view fields, srv *server, version int) {
	var hostName any
	status := ""
	if srv.host != nil {
		hostName, status = srv.host.Name, srv.host.status()
	}
	view["OS-EXT-SRV-ATTR:host"], view["OS-EXT-SRV-ATTR:hypervisor_hostname"] = hostName, hostName
	view["OS-EXT-SRV-ATTR:instance_name"] = "instance-" + srv.id[:8]
	if version >= 3 {
		view["OS-EXT-SRV-ATTR:reservation_id"], view["OS-EXT-SRV-ATTR:launch_index"] = srv.reservation, 0
		view["OS-EXT-SRV-ATTR:hostname"], view["OS-EXT-SRV-ATTR:root_device_name"] = srv.hostname, srv.rootDevice
		view["OS-EXT-SRV-ATTR:kernel_id"], view["OS-EXT-SRV-ATTR:ramdisk_id"] = "", ""
		view["OS-EXT-SRV-ATTR:user_data"] = emptyAsNull(srv.userData)
	}
	if version >= 16 {
		view["host_status"] = status
	}
}

// status is Nova's host_status.
func (h *host) status() string {
	switch {
	case h.down:
		return "DOWN"
	case h.disabled:
		return "MAINTENANCE"
	}
	return "UP"
}

// view hides the details of unexpected failures from ordinary users, as Nova does.
func (f *serverFault) view(c *call) fields {
	view := fields{"code": f.code, "created": stamp(f.created), "message": f.message}
	if f.details != "" && (c.isAdmin() || f.code != http.StatusInternalServerError) {
		view["details"] = f.details
	}
	return view
}

func volumesAttached(srv *server, version int) []fields {
	views := []fields{}
	for _, v := range srv.volumes {
		view := fields{"id": v.id}
		if version >= 3 {
			view["delete_on_termination"] = v.deleteOnTermination
		}
		views = append(views, view)
	}
	return views
}

func (n *computeService) addressesView(srv *server) map[string][]fields {
	view := map[string][]fields{}
	for _, port := range n.ports(srv) {
		for _, a := range port.addresses {
			add := func(address, kind string, version int) {
				view[port.networkName] = append(view[port.networkName], fields{
					"addr": address, "version": version, "OS-EXT-IPS:type": kind, "OS-EXT-IPS-MAC:mac_addr": port.macAddress,
				})
			}
			add(a.address, "fixed", a.version)
			if a.floating != "" {
				add(a.floating, "floating", 4)
			}
		}
	}
	return view
}

// securityGroupsView is nil for a server without ports, whose field Nova leaves out.
func (n *computeService) securityGroupsView(srv *server) []fields {
	var views []fields
	seen := map[string]bool{}
	for _, port := range n.ports(srv) {
		for i, name := range port.securityGroupNames {
			if id := port.securityGroupIDs[i]; !seen[id] {
				seen[id] = true
				views = append(views, fields{"name": name})
			}
		}
	}
	return views
}

func (n *computeService) serverFlavorView(c *call, f Flavor, version int) fields {
	if version < 47 {
		return fields{"id": f.ID, "links": []fields{{"rel": "bookmark", "href": c.base("compute") + "/flavors/" + f.ID}}}
	}
	return fields{
		"original_name": f.Name, "vcpus": f.VCPUs, "ram": f.MemoryMiB, "disk": f.DiskGiB, "ephemeral": f.EphemeralGiB, "swap": f.SwapMiB,
		"extra_specs": orEmpty(f.ExtraSpecs),
	}
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

func (n *computeService) showServer(c *call, version int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	view := n.serverView(c, srv, version)
	if version >= 71 {
		groups := []string{}
		if srv.groupID != "" && n.group(srv.groupID) != nil {
			groups = append(groups, srv.groupID)
		}
		view["server_groups"] = groups
	}
	return ok(fields{"server": view})
}

func (n *computeService) showAddresses(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"addresses": n.addressesView(srv)})
}

func (n *computeService) listServerSecurityGroups(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	seen := map[string]bool{}
	for _, port := range n.ports(srv) {
		for i, name := range port.securityGroupNames {
			if id := port.securityGroupIDs[i]; !seen[id] {
				seen[id] = true
				views = append(views, fields{"id": id, "name": name, "tenant_id": srv.project, "description": "", "rules": []fields{}})
			}
		}
	}
	return ok(fields{"security_groups": views})
}

func (n *computeService) listActions(c *call, version int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for i := len(srv.actions) - 1; i >= 0; i-- {
		a := srv.actions[i]
		view := fields{
			"action": a.name, "instance_uuid": srv.id, "request_id": a.requestID, "user_id": a.userID, "project_id": srv.project,
			"start_time": stampMicros(a.started), "message": nil,
		}
		if version >= 58 {
			view["updated_at"] = stampMicros(a.started)
		}
		views = append(views, view)
	}
	return ok(fields{"instanceActions": views})
}
