package conformance

import (
	"errors"
	"fmt"
	"slices"

	"github.com/sendan-io/sendan/cloud"
)

func computing() []feature {
	return []feature{
		{name: "compute/server-group", needs: []string{"compute/microversion", "compute/offers"}, check: makeServerGroup},
		{name: "block-storage/volume", needs: []string{"compute/offers"}, check: makeVolume},
		{name: "compute/server", needs: []string{"compute/offers", "compute/server-group", "network/router", "network/port"}, check: makeServer},
		{name: "compute/console", needs: []string{"compute/server"}, check: readConsole},
		{name: "compute/power", needs: []string{"compute/server"}, check: reboot},
		{name: "compute/limits", needs: []string{"compute/server"}, check: readLimits},
		{name: "network/quotas", extension: "quota_details", needs: []string{"network/port"}, check: readQuotas},
		{name: "network/floating-ip", needs: []string{"compute/server"}, check: makeFloatingIP},
	}
}

// ending takes down what the others made.
func ending() []feature {
	return []feature{
		{name: "compute/server-deletion", needs: []string{"compute/server"}, check: deleteServer},
		{name: "block-storage/volume-deletion", needs: []string{"block-storage/volume"}, check: deleteVolume},
		{name: "network/deletion", needs: []string{"network/port", "network/router"}, check: deleteNetwork},
	}
}

func makeServerGroup(p *probe) (err error) {
	mark := cloud.Mark{Cluster: p.id, Role: "conformance"}
	if p.made.serverGroup, err = p.session.CreateServerGroup(p.Context(), cloud.ServerGroupRequest{Mark: mark, Policy: "soft-anti-affinity"}); err != nil {
		return err
	}
	now, err := p.relist(cloud.KindServerGroup)
	group, _ := now.ServerGroup(p.made.serverGroup.ID)
	return firstOf(err, expect(group.Mark == mark && group.Policy == "soft-anti-affinity", "it is listed as %+v", group))
}

func makeVolume(p *probe) (err error) {
	if p.made.volume, err = p.session.CreateVolume(p.Context(), cloud.VolumeRequest{Name: p.name("volume"), Mark: p.role("volume"), SizeGiB: 1}); err != nil {
		return err
	}
	return p.until("the volume is available", func(now *cloud.Snapshot) error {
		volume, _ := now.Volume(p.made.volume.ID)
		if volume.Status == "error" {
			return permanent{fmt.Errorf("Cinder could not make it: %+v", volume)}
		}
		return expect(volume.Status == "available" && volume.Mark == p.role("volume") && volume.SizeGiB == 1, "it is %+v", volume)
	})
}

func makeServer(p *probe) (err error) {
	request := cloud.ServerRequest{
		Name: p.name("server"), Mark: p.role("server"), FlavorID: p.chosen.flavor.ID, ImageID: p.chosen.image.ID, PortIDs: []string{p.made.port.ID},
		UserData: []byte("#cloud-config\n"), Metadata: map[string]string{"purpose": "conformance"}, ServerGroupID: p.made.serverGroup.ID,
	}
	if p.report.passed("block-storage/volume") {
		request.Volumes = []cloud.ServerVolume{{VolumeID: p.made.volume.ID}}
	}
	if p.made.server, err = p.session.CreateServer(p.Context(), request); err != nil {
		return err
	}
	if err := p.untilActive(); err != nil {
		return err
	}
	server, err := p.session.GetServer(p.Context(), p.made.server.ID)
	if err != nil {
		return err
	}
	hasAddress := slices.ContainsFunc(server.Addresses, func(a cloud.ServerAddress) bool { return a.Address == address && a.Network == p.made.network.Name })
	if server.Mark != p.role("server") || server.Metadata["purpose"] != "conformance" || server.Flavor != p.chosen.flavor.Name || server.HostID == "" || !hasAddress {
		return fmt.Errorf("it is %+v", server)
	}
	p.note = "zone " + server.Zone
	return p.until("its port, its group and its volume know of it", func(*cloud.Snapshot) error {
		now, err := p.relist(cloud.KindPort, cloud.KindServerGroup, cloud.KindVolume)
		port, _ := now.Port(p.made.port.ID)
		group, _ := now.ServerGroup(p.made.serverGroup.ID)
		volume, there := now.Volume(p.made.volume.ID)
		return firstOf(err, expect(port.DeviceID == server.ID && port.Status == "ACTIVE" && slices.Contains(group.Members, server.ID) &&
			(!there || slices.Contains(volume.AttachedTo, server.ID)), "they are %+v, %+v and %+v", port, group, volume))
	})
}

// untilActive waits for the server without asking for it: the inventory has to notice.
func (p *probe) untilActive() error {
	return p.until("the server is ACTIVE", func(now *cloud.Snapshot) error {
		server, _ := now.Server(p.made.server.ID)
		if server.Status == "ERROR" && server.Fault != nil {
			return permanent{fmt.Errorf("Nova could not make it (%s): %s", cloud.ClassifyFault(*server.Fault), server.Fault.Message)}
		}
		return expect(server.Status == "ACTIVE" && server.TaskState == "", "it is %+v", server)
	})
}

// readConsole: some hypervisors have none.
func readConsole(p *probe) error {
	return eventually(p.Context(), p.pace(), "the console can be read", func() error {
		text, err := p.session.ConsoleLog(p.Context(), p.made.server.ID, 20)
		if cloud.ClassOf(err) == cloud.Config {
			return permanent{skipf("Nova does not show consoles: %v", err)}
		}
		p.note = fmt.Sprintf("%d characters", len(text))
		return err
	})
}

func reboot(p *probe) error {
	if err := p.session.RebootServer(p.Context(), p.made.server.ID, cloud.HardReboot); err != nil {
		return err
	}
	return p.untilActive()
}

// deleteServer also sees to it that the port stays, with its address.
func deleteServer(p *probe) error {
	if err := p.session.DeleteServer(p.Context(), p.made.server.ID); err != nil {
		return err
	}
	if err := p.until("the server is gone", func(now *cloud.Snapshot) error {
		server, there := now.Server(p.made.server.ID)
		return expect(!there, "it is %+v", server)
	}); err != nil {
		return err
	}
	if _, err := p.session.GetServer(p.Context(), p.made.server.ID); !cloud.IsNotFound(err) {
		return errors.Join(errors.New("it is not listed any more, but still there"), err)
	}
	port, err := p.session.GetPort(p.Context(), p.made.port.ID)
	if err != nil {
		return err
	}
	if port.DeviceID != "" || len(port.FixedIPs) != 1 || port.FixedIPs[0].IPAddress != address {
		return fmt.Errorf("its port is %+v", port)
	}
	return p.session.DeleteServerGroup(p.Context(), p.made.serverGroup.ID)
}

func deleteVolume(p *probe) error {
	if err := p.accepted("the volume is detached", func() error { return p.session.DeleteVolume(p.Context(), p.made.volume.ID) }); err != nil {
		return err
	}
	return p.until("the volume is gone", func(now *cloud.Snapshot) error {
		volume, there := now.Volume(p.made.volume.ID)
		return expect(!there, "it is %+v", volume)
	})
}
