package simulator

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"path"
	"strings"
)

// BuildFault makes the builds of servers fail, which is an asynchronous failure: the create call is
// accepted and the server ends in ERROR. Empty match fields match everything.
type BuildFault struct {
	Name    string `json:"name,omitempty"`
	Project string `json:"project,omitempty"` // id
	// Server is a glob of server names.
	Server string `json:"server,omitempty"`
	Flavor string `json:"flavor,omitempty"` // name
	// Skip lets that many matching builds pass first; Times is how many fail: 0 means one, -1 all.
	Skip  int `json:"skip,omitempty"`
	Times int `json:"times,omitempty"`
	// Message is the fault's text, in which {id} stands for the server's id. Code is 500 when unset.
	Message string `json:"message"`
	Code    int    `json:"code,omitempty"`
}

func (f BuildFault) validate() error {
	if f.Message == "" {
		return fmt.Errorf("build fault %q: message is empty", f.Name)
	}
	if _, err := path.Match(f.Server, ""); err != nil {
		return fmt.Errorf("build fault %q: server %q: %w", f.Name, f.Server, err)
	}
	return nil
}

type activeBuildFault struct {
	BuildFault
	Seen int `json:"seen"`
	Hit  int `json:"hit"`
}

// buildFault is what strikes a server's build, nil when nothing does.
func (n *computeService) buildFault(srv *server) *BuildFault {
	for _, f := range n.buildFaults {
		matched, _ := path.Match(f.Server, srv.name)
		if f.Project != "" && f.Project != srv.project || f.Flavor != "" && f.Flavor != srv.flavor.Name || f.Server != "" && !matched {
			continue
		}
		f.Seen++
		if f.Seen > f.Skip && (f.Times < 0 || f.Hit < max(f.Times, 1)) {
			f.Hit++
			return &f.BuildFault
		}
	}
	return nil
}

// maxBuildAttempts is Nova's scheduler.max_attempts as observed.
const maxBuildAttempts = 2

func (n *computeService) awaitScheduled(srv *server) {
	n.transition(srv, Range{}, func() { n.startBuild(srv, nil) })
}

// startBuild schedules a server and lets its build run. tried are hosts that refused it already.
func (n *computeService) startBuild(srv *server, tried map[*host]bool) {
	chosen, why := n.schedule(srv, tried)
	if chosen == nil {
		n.fail(srv, http.StatusInternalServerError, why, "")
		return
	}
	n.place(srv, chosen)
	if chosen.refusesSpawn != "" {
		n.retryBuild(srv, chosen, tried)
		return
	}
	srv.taskState = "networking"
	if err := n.plug(srv); err != nil {
		n.abortBuild(srv, err.Error())
		return
	}
	if err := n.attachWantedVolumes(srv); err != nil {
		n.abortBuild(srv, err.Error())
		return
	}
	srv.taskState = taskSpawning
	n.touch(srv)
	n.awaitBuilt(srv)
}

func (n *computeService) awaitBuilt(srv *server) {
	n.transition(srv, n.s.scenario.Latency.ServerBuild, func() { n.finishBuild(srv) })
}

// retryBuild goes on to another host after one refused to spawn.
func (n *computeService) retryBuild(srv *server, refused *host, tried map[*host]bool) {
	n.release(srv)
	next := map[*host]bool{refused: true}
	maps.Copy(next, tried)
	if len(next) >= maxBuildAttempts {
		n.fail(srv, http.StatusInternalServerError, fmt.Sprintf(
			"Exceeded maximum number of retries. Exceeded max scheduling attempts %d for instance %s. Last exception: %s", maxBuildAttempts, srv.id, refused.refusesSpawn), "")
		return
	}
	n.startBuild(srv, next)
}

func (n *computeService) abortBuild(srv *server, why string) {
	n.unplug(srv)
	n.release(srv)
	n.fail(srv, http.StatusInternalServerError, fmt.Sprintf("Build of instance %s aborted: %s", srv.id, why), "")
}

func (n *computeService) finishBuild(srv *server) {
	if f := n.buildFault(srv); f != nil {
		code := f.Code
		if code == 0 {
			code = http.StatusInternalServerError
		}
		n.unplug(srv)
		n.release(srv)
		n.fail(srv, code, strings.ReplaceAll(f.Message, "{id}", srv.id), "")
		return
	}
	node := n.nodeOf(srv)
	n.onNode(srv, func(ctx context.Context) error { return n.s.backend.Boot(ctx, node) }, func(err error) {
		n.stillWanted(srv, func() { n.booted(srv, err) })()
	})
}

func (n *computeService) booted(srv *server, err error) {
	if err != nil {
		n.abortBuild(srv, err.Error())
		return
	}
	srv.launched = n.s.now()
	n.becomes(srv, vmActive, powerRunning)
}

// becomes ends an operation.
func (n *computeService) becomes(srv *server, vmState string, powerState int) {
	srv.vmState, srv.taskState, srv.powerState = vmState, "", powerState
	n.touch(srv)
	n.s.log.Info("server changed", "server", srv.id, "name", srv.name, "state", vmState)
}

// nodeOf is the server as its backend gets to see it.
func (n *computeService) nodeOf(srv *server) Node {
	userData, _ := base64.StdEncoding.DecodeString(srv.userData) // checked when it was accepted
	node := Node{
		ServerID: srv.id, ProjectID: srv.project, Name: srv.hostname, HostName: srv.host.Name, Zone: srv.host.Zone,
		Metadata: maps.Clone(srv.metadata), UserData: userData, Flavor: srv.flavor.Name,
		VCPUs: srv.flavor.VCPUs, MemoryMiB: srv.flavor.MemoryMiB, DiskGiB: srv.flavor.DiskGiB,
		Resources: n.s.scenario.extendedResources(srv.flavor), GPUs: srv.demand().gpus, DeviceFault: srv.deviceFault,
	}
	if image := n.s.image.byID(n.bootImage(srv)); image != nil {
		node.Image, node.NVIDIADriver = image.Name, image.Properties[driverProperty]
	}
	for _, port := range n.ports(srv) {
		for _, address := range port.addresses {
			node.Addresses = append(node.Addresses, address.address)
		}
		node.Ports = append(node.Ports, n.neutron().nodePort(port.id))
	}
	return node
}

// bootImage is the image a server's root disk was made of.
func (n *computeService) bootImage(srv *server) string {
	if srv.imageID != "" {
		return srv.imageID
	}
	for _, attached := range srv.volumes {
		if v := n.s.volume.volumes[attached.id]; attached.boot && v != nil {
			return v.imageID
		}
	}
	return ""
}

func (n *computeService) deleteServer(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	if srv.locked && !c.isAdmin() {
		return reply{}, lockedProblem(srv)
	}
	if srv.taskState == taskDeleting {
		return noContent()
	}
	n.recordAction(c, srv, "delete")
	n.startDelete(srv)
	return noContent()
}

func (n *computeService) startDelete(srv *server) {
	srv.epoch++
	srv.taskState = taskDeleting
	n.touch(srv)
	n.interruptNode(srv)
	n.awaitDeleted(srv)
}

// awaitDeleted ends the deletion of a server in its time.
func (n *computeService) awaitDeleted(srv *server) {
	finish := func() {
		n.onNode(srv, func(ctx context.Context) error { return n.s.backend.Destroy(ctx, srv.id) }, func(error) { n.finishDelete(srv) })
	}
	if srv.host == nil || srv.host.down { // Nova deletes such servers in the API itself
		finish()
		return
	}
	n.s.after(n.s.scenario.Latency.ServerDelete.draw(n.s.rng), finish)
}

// finishDelete is idempotent: a server may vanish while it is being deleted.
func (n *computeService) finishDelete(srv *server) {
	if n.servers[srv.id] != srv {
		return
	}
	n.unplug(srv)
	n.detachVolumes(srv)
	n.remove(srv)
	n.s.log.Info("server deleted", "server", srv.id, "name", srv.name)
}

// lose lets a server vanish as if somebody else had deleted it.
func (n *computeService) lose(srv *server) {
	srv.epoch++
	n.interruptNode(srv)
	n.finishDelete(srv)
	n.onNode(srv, func(ctx context.Context) error { return n.s.backend.Destroy(ctx, srv.id) }, func(error) {})
}

func lockedProblem(srv *server) *problem {
	return problemf(http.StatusConflict, "Instance %s is locked", srv.id)
}
