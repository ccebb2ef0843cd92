package simulator

import (
	"net/http"
	"slices"
)

func (n *computeService) neutron() serverNetworking { return &n.s.network }

// plug gives a server its ports: those asked for are bound, others made.
func (n *computeService) plug(srv *server) error {
	wish := srv.networkWish
	if wish.none {
		return nil
	}
	if wish.auto {
		networks := n.neutron().networksOf(srv.project)
		if len(networks) == 0 {
			return nil
		}
		wish.entries = []wantedNIC{{UUID: networks[0].id}}
	}
	for _, nic := range wish.entries {
		if err := n.plugOne(srv, nic); err != nil {
			return err
		}
	}
	return nil
}

func (n *computeService) plugOne(srv *server, nic wantedNIC) error {
	port := &serverPort{id: nic.Port, tag: nic.Tag}
	if nic.Port == "" {
		made, err := n.neutron().createServerPort(srv.project, nic.UUID, nic.FixedIP, srv.securityGroupIDs)
		if err != nil {
			return problemf(http.StatusInternalServerError, "Failed to allocate the network(s) with error %v, not rescheduling.", err)
		}
		port.id, port.byNova = made.id, true
	} else if facts, found := n.neutron().findPort(srv.project, nic.Port); !found || facts.deviceID != "" && facts.deviceID != srv.id {
		return problemf(http.StatusInternalServerError, "Failed to allocate the network(s), not rescheduling: port %s is gone or in use.", nic.Port)
	}
	srv.ports = append(srv.ports, port)
	n.neutron().bindPort(port.id, srv.id, srv.host.Name, srv.host.Zone)
	return nil
}

// unplug takes a server's ports away: those Nova made disappear, the others are free again.
func (n *computeService) unplug(srv *server) {
	for _, port := range srv.ports {
		n.unplugOne(port)
	}
	srv.ports = nil
}

func (n *computeService) unplugOne(port *serverPort) {
	if port.byNova {
		n.neutron().deleteServerPort(port.id)
		return
	}
	n.neutron().unbindPort(port.id)
}

// ports are a server's ports as Neutron has them now; those deleted behind Nova's back are left out.
func (n *computeService) ports(srv *server) []portFacts {
	var facts []portFacts
	for _, port := range srv.ports {
		if f, found := n.neutron().findPort("", port.id); found {
			facts = append(facts, f)
		}
	}
	return facts
}

// deviceLetters name the disks of a server: vda is the root disk.
const deviceLetters = "abcdefghijklmnopqrstuvwxyz"

func (srv *server) nextDevice() string {
	for _, letter := range deviceLetters[1:] {
		device := "/dev/vd" + string(letter)
		if !slices.ContainsFunc(srv.volumes, func(v *serverVolume) bool { return v.device == device }) {
			return device
		}
	}
	return "/dev/vdz"
}

// attachWantedVolumes attaches the volumes of a create request and makes those it asks for.
func (n *computeService) attachWantedVolumes(srv *server) error {
	for _, wanted := range srv.wantedVolumes {
		if wanted.DestinationType == "local" || wanted.SourceType == "image" && wanted.DestinationType != "volume" {
			continue
		}
		id := wanted.UUID
		if wanted.SourceType != "volume" {
			made, err := n.s.volume.createForServer(srv, wanted)
			if err != nil {
				return err
			}
			id = made
		}
		if err := n.s.volume.checkAttachable(srv.project, id); err != nil {
			return err
		}
		n.attachVolume(srv, &serverVolume{id: id, tag: wanted.Tag, deleteOnTermination: wanted.DeleteOnTermination, boot: wanted.boots()})
	}
	return nil
}

func (n *computeService) attachVolume(srv *server, v *serverVolume) {
	v.attachmentID = n.s.newID()
	if v.boot {
		v.device = srv.rootDevice
	} else if v.device == "" {
		v.device = srv.nextDevice()
	}
	srv.volumes = append(srv.volumes, v)
	n.s.volume.attach(v.id, srv, v)
	n.touch(srv)
}

func (n *computeService) detachVolumes(srv *server) {
	for _, v := range srv.volumes {
		n.s.volume.detach(v.id, srv.id, v.deleteOnTermination)
	}
	srv.volumes = nil
}

func (n *computeService) attachmentRoutes(rt *router) {
	n.handle(rt, "GET /v2.1/servers/{id}/os-interface", n.listInterfaces)
	n.handle(rt, "POST /v2.1/servers/{id}/os-interface", n.attachInterface)
	n.handle(rt, "GET /v2.1/servers/{id}/os-interface/{port}", n.showInterface)
	n.handle(rt, "DELETE /v2.1/servers/{id}/os-interface/{port}", n.detachInterface)
	n.handle(rt, "GET /v2.1/servers/{id}/os-volume_attachments", n.listAttachments)
	n.handle(rt, "POST /v2.1/servers/{id}/os-volume_attachments", n.createAttachment)
	n.handle(rt, "GET /v2.1/servers/{id}/os-volume_attachments/{volume}", n.showAttachment)
	n.handle(rt, "DELETE /v2.1/servers/{id}/os-volume_attachments/{volume}", n.deleteAttachment)
}

func interfaceView(p portFacts, tag string, version int) fields {
	addresses := []fields{}
	for _, a := range p.addresses {
		addresses = append(addresses, fields{"subnet_id": a.subnetID, "ip_address": a.address})
	}
	view := fields{"port_state": p.status, "fixed_ips": addresses, "port_id": p.id, "net_id": p.networkID, "mac_addr": p.macAddress}
	if version >= 70 {
		view["tag"] = emptyAsNull(tag)
	}
	return view
}

func emptyAsNull(text string) any {
	if text == "" {
		return nil
	}
	return text
}

func (n *computeService) listInterfaces(c *call, version int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, port := range srv.ports {
		if facts, found := n.neutron().findPort("", port.id); found {
			views = append(views, interfaceView(facts, port.tag, version))
		}
	}
	return ok(fields{"interfaceAttachments": views})
}

// interfaceOf is the port of a server that a path names.
func (n *computeService) interfaceOf(c *call) (*server, *serverPort, error) {
	srv, err := n.find(c)
	if err != nil {
		return nil, nil, err
	}
	port := find(srv.ports, func(p *serverPort) bool { return p.id == c.id("port") })
	if port == nil {
		return nil, nil, problemf(http.StatusNotFound, "Instance %s does not have a port with id %s", srv.id, c.id("port"))
	}
	return srv, port, nil
}

func (n *computeService) showInterface(c *call, version int) (reply, error) {
	_, port, err := n.interfaceOf(c)
	if err != nil {
		return reply{}, err
	}
	facts, _ := n.neutron().findPort("", port.id)
	return ok(fields{"interfaceAttachment": interfaceView(facts, port.tag, version)})
}

func (n *computeService) attachInterface(c *call, version int) (reply, error) {
	srv, err := n.findIdle(c, "attach_interface", vmActive, vmStopped)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Attachment struct {
			PortID   string `json:"port_id"`
			NetID    string `json:"net_id"`
			Tag      string `json:"tag"`
			FixedIPs []struct {
				Address string `json:"ip_address"`
			} `json:"fixed_ips"`
		} `json:"interfaceAttachment"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	asked := in.Attachment
	nic := wantedNIC{UUID: asked.NetID, Port: asked.PortID, Tag: asked.Tag}
	if len(asked.FixedIPs) > 0 {
		nic.FixedIP = asked.FixedIPs[0].Address
	}
	if err := n.checkNewInterface(c, &nic); err != nil {
		return reply{}, err
	}
	if err := n.plugOne(srv, nic); err != nil {
		return reply{}, badRequest("%s", err)
	}
	n.touch(srv)
	n.recordAction(c, srv, "attach_interface")
	port := srv.ports[len(srv.ports)-1]
	facts, _ := n.neutron().findPort("", port.id)
	return ok(fields{"interfaceAttachment": interfaceView(facts, port.tag, version)})
}

func (n *computeService) checkNewInterface(c *call, nic *wantedNIC) error {
	if nic.Port != "" && nic.UUID != "" {
		return badRequest("Must not input both network_id and port_id")
	}
	if nic.Port != "" {
		if _, found := n.neutron().findPort(c.project(), nic.Port); !found {
			return problemf(http.StatusNotFound, "Port %s could not be found.", nic.Port)
		}
		if err := n.checkPort(c, nic.Port, nil); err != nil {
			return err
		}
		return nil
	}
	if nic.UUID == "" {
		networks := n.neutron().networksOf(c.project())
		if len(networks) != 1 {
			return problemf(http.StatusConflict, "Multiple possible networks found, use a Network ID to be more specific.")
		}
		nic.UUID = networks[0].id
	}
	if _, found := n.neutron().findNetwork(c.project(), nic.UUID); !found {
		return problemf(http.StatusNotFound, "Network %s could not be found.", nic.UUID)
	}
	return nil
}

func (n *computeService) detachInterface(c *call, _ int) (reply, error) {
	srv, port, err := n.interfaceOf(c)
	if err != nil {
		return reply{}, err
	}
	if srv.locked && !c.isAdmin() {
		return reply{}, lockedProblem(srv)
	}
	n.recordAction(c, srv, "detach_interface")
	n.s.after(0, func() {
		if i := slices.Index(srv.ports, port); i >= 0 {
			srv.ports = slices.Delete(srv.ports, i, i+1)
			n.unplugOne(port)
			n.touch(srv)
		}
	})
	return reply{status: http.StatusAccepted}, nil
}

func attachmentView(srv *server, v *serverVolume, version int) fields {
	view := fields{"volumeId": v.id, "serverId": srv.id, "device": v.device}
	if version < 89 {
		view["id"] = v.id
	} else {
		view["attachment_id"], view["bdm_uuid"] = v.attachmentID, v.attachmentID
	}
	if version >= 70 {
		view["tag"] = emptyAsNull(v.tag)
	}
	if version >= 79 {
		view["delete_on_termination"] = v.deleteOnTermination
	}
	return view
}

func (n *computeService) listAttachments(c *call, version int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	views := []fields{}
	for _, v := range srv.volumes {
		views = append(views, attachmentView(srv, v, version))
	}
	return ok(fields{"volumeAttachments": views})
}

func (n *computeService) attachmentOf(c *call) (*server, *serverVolume, error) {
	srv, err := n.find(c)
	if err != nil {
		return nil, nil, err
	}
	v := find(srv.volumes, func(v *serverVolume) bool { return v.id == c.id("volume") })
	if v == nil {
		return nil, nil, problemf(http.StatusNotFound, "Instance %s is not attached to volume %s", srv.id, c.id("volume"))
	}
	return srv, v, nil
}

func (n *computeService) showAttachment(c *call, version int) (reply, error) {
	srv, v, err := n.attachmentOf(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"volumeAttachment": attachmentView(srv, v, version)})
}

func (n *computeService) createAttachment(c *call, version int) (reply, error) {
	srv, err := n.findIdle(c, "attach_volume", vmActive, vmStopped)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Attachment struct {
			VolumeID            string `json:"volumeId"`
			Device              string `json:"device"`
			Tag                 string `json:"tag"`
			DeleteOnTermination bool   `json:"delete_on_termination"`
		} `json:"volumeAttachment"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	asked := in.Attachment
	if n.s.volume.find(c.project(), asked.VolumeID) == nil {
		return reply{}, problemf(http.StatusNotFound, "Volume %s could not be found.", asked.VolumeID)
	}
	if err := n.s.volume.checkAttachable(c.project(), asked.VolumeID); err != nil {
		return reply{}, err
	}
	v := &serverVolume{id: asked.VolumeID, device: asked.Device, tag: asked.Tag, deleteOnTermination: asked.DeleteOnTermination}
	n.attachVolume(srv, v)
	n.recordAction(c, srv, "attach_volume")
	return ok(fields{"volumeAttachment": attachmentView(srv, v, version)})
}

func (n *computeService) deleteAttachment(c *call, _ int) (reply, error) {
	srv, v, err := n.attachmentOf(c)
	if err != nil {
		return reply{}, err
	}
	if v.boot {
		return reply{}, problemf(http.StatusForbidden, "Cannot detach a root device volume")
	}
	n.s.volume.startDetaching(v.id)
	n.recordAction(c, srv, "detach_volume")
	n.awaitDetached(srv, v)
	return reply{status: http.StatusAccepted}, nil
}

// awaitDetached takes a volume off a server in its time.
func (n *computeService) awaitDetached(srv *server, v *serverVolume) {
	n.s.after(n.s.scenario.Latency.VolumeAttach.draw(n.s.rng), func() {
		if i := slices.Index(srv.volumes, v); i >= 0 {
			srv.volumes = slices.Delete(srv.volumes, i, i+1)
			n.s.volume.detach(v.id, srv.id, false)
			n.touch(srv)
		}
	})
}
