package simulator

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Nova's microversions are 2.1 to 2.93; only the minor part is kept.
const (
	minMicroversion = 1
	maxMicroversion = 93
)

// computeService is Nova.
type computeService struct {
	s           *Simulator
	servers     map[string]*server
	byProject   map[string][]*server // oldest first
	byGroup     map[string][]*server // by server group id, oldest first
	deleted     []*server            // oldest deletion first, for changes-since
	groups      []*serverGroup
	keyPairs    map[string][]*keyPair // by user id
	flavors     []Flavor
	hosts       []*host
	usage       map[string]computeUsage // by project
	buildFaults []*activeBuildFault
}

// computeUsage is what a project uses of Nova's quotas.
type computeUsage struct{ instances, cores, memoryMiB int }

func (u computeUsage) plus(servers int, f Flavor) computeUsage {
	return computeUsage{u.instances + servers, u.cores + servers*f.VCPUs, u.memoryMiB + servers*f.MemoryMiB}
}

// server is a Nova instance.
type server struct {
	id, name, description   string
	hostname                string
	project, user           string
	vmState, taskState      string
	powerState              int
	locked                  bool
	lockedReason            string
	flavor                  Flavor
	imageID                 string // empty when it boots from a volume
	zone                    string // as asked for; empty means any
	host                    *host
	metadata                map[string]string
	tags                    []string
	keyName                 string
	userData                string // base64
	configDrive             bool
	groupID                 string
	ports                   []*serverPort
	volumes                 []*serverVolume
	created, updated        time.Time
	launched, terminated    time.Time
	fault                   *serverFault
	actions                 []instanceAction
	accessIPv4, accessIPv6  string
	adminPass               string
	rootDevice              string
	reservation             string
	networkWish             networkWish
	wantedVolumes           []blockDevice
	securityGroupIDs        []string
	differentHost, sameHost []string
	console                 string // wins over the backend's
	deviceFault             DeviceFault
	// endpoint is what the user data endpointOf say.
	endpoint   netip.AddrPort
	endpointOf string

	// epoch grows with each operation, so that what an earlier one had put on the agenda is void.
	epoch int
	node  nodeWork
}

// serverPort is a port of a server; Nova removes those it made itself.
type serverPort struct {
	id     string
	byNova bool
	tag    string
}

// serverVolume is an attached volume.
type serverVolume struct {
	id, attachmentID, device, tag string
	deleteOnTermination           bool
	boot                          bool
}

// serverFault is why a server is in ERROR.
type serverFault struct {
	code             int
	message, details string
	created          time.Time
}

// instanceAction is one entry of os-instance-actions.
type instanceAction struct {
	name, requestID, userID string
	started                 time.Time
}

// Nova's vm states.
const (
	vmBuilding = "building"
	vmActive   = "active"
	vmStopped  = "stopped"
	vmError    = "error"
	vmDeleted  = "deleted"
	vmResized  = "resized"
)

// Nova's task states of what takes time.
const (
	taskScheduling      = "scheduling"
	taskSpawning        = "spawning"
	taskDeleting        = "deleting"
	taskPoweringOn      = "powering-on"
	taskPoweringOff     = "powering-off"
	taskRebooting       = "rebooting"
	taskRebootingHard   = "rebooting_hard"
	taskRebuilding      = "rebuilding"
	taskMigrating       = "migrating"
	taskResizeMigrating = "resize_migrating"
)

// Nova's power states.
const (
	powerNone     = 0
	powerRunning  = 1
	powerShutdown = 4
)

func (n *computeService) setUp(s *Simulator) {
	n.s = s
	n.servers, n.byProject, n.byGroup = map[string]*server{}, map[string][]*server{}, map[string][]*server{}
	n.usage, n.keyPairs = map[string]computeUsage{}, map[string][]*keyPair{}
	n.flavors = slices.Clone(s.scenario.Flavors)
	for _, h := range s.scenario.Hosts {
		n.hosts = append(n.hosts, newHost(h))
	}
	for _, u := range s.scenario.Users {
		for _, name := range s.scenario.KeyPairs {
			n.keyPairs[u.ID] = append(n.keyPairs[u.ID], seededKeyPair(name, s.now()))
		}
	}
}

// computeErrors writes problems as Nova and Cinder do.
func computeErrors(p *problem, _ string) (string, []byte) {
	name := "computeFault"
	switch p.status {
	case http.StatusBadRequest:
		name = "badRequest"
	case http.StatusUnauthorized:
		name = "unauthorized"
	case http.StatusForbidden:
		name = "forbidden"
	case http.StatusNotFound:
		name = "itemNotFound"
	case http.StatusMethodNotAllowed:
		name = "badMethod"
	case http.StatusConflict:
		name = "conflictingRequest"
	case http.StatusRequestEntityTooLarge, http.StatusTooManyRequests:
		name = "overLimit"
	case http.StatusUnsupportedMediaType:
		name = "badMediaType"
	case http.StatusNotImplemented:
		name = "notImplemented"
	case http.StatusServiceUnavailable:
		name = "serviceUnavailable"
	}
	body, _ := json.Marshal(fields{name: fields{"code": p.status, "message": p.message}})
	return "application/json; charset=UTF-8", body
}

// computeHandler is a handler that depends on the microversion.
type computeHandler func(c *call, version int) (reply, error)

func (n *computeService) routes(rt *router) {
	rt.open("GET /{$}", n.versions)
	rt.open("GET /v2.1", n.version)
	rt.open("GET /v2.1/{$}", n.version)
	n.serverRoutes(rt)
	n.attachmentRoutes(rt)
	n.groupRoutes(rt)
	n.keyPairRoutes(rt)
	n.flavorRoutes(rt)
	n.quotaRoutes(rt)
	n.hostRoutes(rt)
}

func (n *computeService) serverRoutes(rt *router) {
	n.handle(rt, "GET /v2.1/servers", n.listServers)
	n.handle(rt, "GET /v2.1/servers/detail", n.listServersInDetail)
	n.handle(rt, "POST /v2.1/servers", n.createServers)
	n.handle(rt, "GET /v2.1/servers/{id}", n.showServer)
	n.handle(rt, "PUT /v2.1/servers/{id}", n.updateServer)
	n.handle(rt, "DELETE /v2.1/servers/{id}", n.deleteServer)
	n.handle(rt, "POST /v2.1/servers/{id}/action", n.act)
	n.handle(rt, "GET /v2.1/servers/{id}/ips", n.showAddresses)
	n.handle(rt, "GET /v2.1/servers/{id}/os-instance-actions", n.listActions)
	n.handle(rt, "GET /v2.1/servers/{id}/os-security-groups", n.listServerSecurityGroups)
	n.handle(rt, "GET /v2.1/servers/{id}/metadata", n.showMetadata)
	n.handle(rt, "PUT /v2.1/servers/{id}/metadata", n.replaceMetadata)
	n.handle(rt, "POST /v2.1/servers/{id}/metadata", n.mergeMetadata)
	n.handle(rt, "GET /v2.1/servers/{id}/metadata/{key}", n.showMetadatum)
	n.handle(rt, "PUT /v2.1/servers/{id}/metadata/{key}", n.setMetadatum)
	n.handle(rt, "DELETE /v2.1/servers/{id}/metadata/{key}", n.deleteMetadatum)
	n.handle(rt, "GET /v2.1/servers/{id}/tags", n.showTags)
	n.handle(rt, "PUT /v2.1/servers/{id}/tags", n.replaceTags)
	n.handle(rt, "DELETE /v2.1/servers/{id}/tags", n.clearTags)
	n.handle(rt, "GET /v2.1/servers/{id}/tags/{tag}", n.hasTag)
	n.handle(rt, "PUT /v2.1/servers/{id}/tags/{tag}", n.addTag)
	n.handle(rt, "DELETE /v2.1/servers/{id}/tags/{tag}", n.removeTag)
}

// handle mounts a handler behind microversion negotiation.
func (n *computeService) handle(rt *router, pattern string, h computeHandler) {
	rt.handle(pattern, func(c *call) (reply, error) {
		version, err := microversion(c.r.Header)
		if err != nil {
			return reply{}, err
		}
		out, err := h(c, version)
		headers := versionHeaders(version)
		if p, isProblem := errors.AsType[*problem](err); isProblem {
			maps.Copy(headers, p.header)
			answered := *p
			answered.header = headers
			return out, &answered
		}
		maps.Copy(headers, out.header)
		out.header = headers
		return out, err
	})
}

func versionHeaders(version int) map[string]string {
	text := "2." + strconv.Itoa(version)
	return map[string]string{
		"OpenStack-API-Version": "compute " + text, "X-OpenStack-Nova-API-Version": text,
		"Vary": "OpenStack-API-Version, X-OpenStack-Nova-API-Version",
	}
}

// microversion is what a request asks for, 2.1 when it asks for nothing.
func microversion(header http.Header) (int, error) {
	text := header.Get("X-OpenStack-Nova-API-Version")
	for part := range strings.SplitSeq(header.Get("OpenStack-API-Version"), ",") {
		if service, version, both := strings.Cut(strings.TrimSpace(part), " "); both && service == "compute" {
			text = strings.TrimSpace(version)
		}
	}
	switch text {
	case "":
		return minMicroversion, nil
	case "latest":
		return maxMicroversion, nil
	}
	major, minorText, _ := strings.Cut(text, ".")
	minor, err := strconv.Atoi(minorText)
	if err != nil {
		return 0, problemf(http.StatusBadRequest, "API Version String %s is of invalid format. Must be of format MajorNum.MinorNum.", text)
	}
	if major != "2" || minor < minMicroversion || minor > maxMicroversion {
		return 0, problemf(http.StatusNotAcceptable, "Version %s is not supported by the API. Minimum is 2.%d and maximum is 2.%d.", text, minMicroversion, maxMicroversion)
	}
	return minor, nil
}

func (n *computeService) versionViews(c *call) []fields {
	link := func(v string) []fields {
		return []fields{{"rel": "self", "href": c.base("compute") + "/" + v + "/"}}
	}
	return []fields{
		{"id": "v2.0", "status": "SUPPORTED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z", "links": link("v2")},
		{
			"id": "v2.1", "status": "CURRENT", "version": fmt.Sprintf("2.%d", maxMicroversion), "min_version": fmt.Sprintf("2.%d", minMicroversion),
			"updated": "2013-07-23T11:33:21Z", "links": link("v2.1"),
		},
	}
}

func (n *computeService) versions(c *call) (reply, error) {
	return ok(fields{"versions": n.versionViews(c)})
}

func (n *computeService) version(c *call) (reply, error) {
	view := n.versionViews(c)[1]
	view["media-types"] = []fields{{"base": "application/json", "type": "application/vnd.openstack.compute+json;version=2.1"}}
	return ok(fields{"version": view})
}

// find is a server that the caller may see.
func (n *computeService) find(c *call) (*server, error) {
	srv := n.servers[c.id("id")]
	if srv == nil || srv.project != c.project() && !c.isAdmin() {
		return nil, problemf(http.StatusNotFound, "Instance %s could not be found.", c.id("id"))
	}
	return srv, nil
}

func (n *computeService) touch(srv *server) { srv.updated = n.s.now() }

// add makes a server known and counts it.
func (n *computeService) add(srv *server) {
	n.servers[srv.id] = srv
	n.byProject[srv.project] = append(n.byProject[srv.project], srv)
	if srv.groupID != "" {
		n.byGroup[srv.groupID] = append(n.byGroup[srv.groupID], srv)
	}
	n.usage[srv.project] = n.usage[srv.project].plus(1, srv.flavor)
}

// remove is the end of a server: only changes-since still shows it.
func (n *computeService) remove(srv *server) {
	delete(n.servers, srv.id)
	n.byProject[srv.project] = without(n.byProject[srv.project], srv)
	if srv.groupID != "" {
		n.byGroup[srv.groupID] = without(n.byGroup[srv.groupID], srv)
	}
	n.usage[srv.project] = n.usage[srv.project].plus(-1, srv.flavor)
	n.release(srv)
	now := n.s.now()
	srv.vmState, srv.taskState, srv.powerState = vmDeleted, "", powerNone
	srv.terminated, srv.updated = now, now
	n.deleted = append(n.deleted, srv)
	n.forgetDeleted(now)
}

// keepDeleted is how long changes-since can still tell of a deleted server.
const keepDeleted = 24 * time.Hour

func (n *computeService) forgetDeleted(now time.Time) {
	keep := slices.IndexFunc(n.deleted, func(srv *server) bool { return now.Sub(srv.terminated) < keepDeleted })
	if keep > 0 {
		n.deleted = slices.Delete(n.deleted, 0, keep)
	}
}

// transition runs do after a while unless another operation began or the server went meanwhile.
// While its hypervisor is down it waits for it, as a message in the compute service's queue does.
func (n *computeService) transition(srv *server, wait Range, do func()) {
	n.s.after(wait.draw(n.s.rng), n.stillWanted(srv, do))
}

// stillWanted guards what happens to a server later.
func (n *computeService) stillWanted(srv *server, do func()) func() {
	epoch := srv.epoch
	var guarded func()
	guarded = func() {
		switch {
		case srv.epoch != epoch || n.servers[srv.id] != srv:
		case srv.host != nil && srv.host.down:
			srv.host.queue = append(srv.host.queue, guarded)
		default:
			do()
		}
	}
	return guarded
}

// fail puts a server into ERROR.
func (n *computeService) fail(srv *server, code int, message, details string) {
	srv.vmState, srv.taskState, srv.powerState = vmError, "", powerNone
	srv.fault = &serverFault{code: code, message: message, details: details, created: n.s.now()}
	n.touch(srv)
	n.s.log.Info("server failed", "server", srv.id, "name", srv.name, "fault", message)
}

func (n *computeService) recordAction(c *call, srv *server, name string) {
	srv.actions = append(srv.actions, instanceAction{name: name, requestID: c.requestID, userID: c.token.user.id, started: n.s.now()})
}

// nodeWork is the queue of one server's node operations: the backend never sees two at once.
type nodeWork struct {
	queue  []nodeOperation
	cancel context.CancelFunc // ends the running operation
}

type nodeOperation struct {
	do   func(ctx context.Context) error
	then func(err error)
}

// onNode has the backend do something and then, under the lock again, carries on. Without a backend
// it carries on at once, which keeps everything on the injected clock.
func (n *computeService) onNode(srv *server, do func(ctx context.Context) error, then func(err error)) {
	if _, none := n.s.backend.(noNodes); none {
		then(nil)
		return
	}
	srv.node.queue = append(srv.node.queue, nodeOperation{do: do, then: then})
	if len(srv.node.queue) == 1 {
		n.s.background(func(ctx context.Context) { n.workOffNode(ctx, srv) })
	}
}

func (n *computeService) workOffNode(ctx context.Context, srv *server) {
	n.s.mu.Lock()
	defer n.s.mu.Unlock()
	for len(srv.node.queue) > 0 && ctx.Err() == nil {
		operation := srv.node.queue[0]
		operationCtx, cancel := context.WithCancel(ctx)
		srv.node.cancel = cancel
		n.s.mu.Unlock()
		err := operation.do(operationCtx)
		cancel()
		n.s.mu.Lock()
		if ctx.Err() != nil {
			return // the simulator ends: what was interrupted has not failed
		}
		srv.node.queue = srv.node.queue[1:]
		operation.then(err)
	}
}

// interruptNode ends what the backend is doing for a server that is no longer wanted.
func (n *computeService) interruptNode(srv *server) {
	if srv.node.cancel != nil {
		srv.node.cancel()
	}
}

func (n *computeService) countObjects(add func(project, objectType string)) {
	for _, srv := range n.servers {
		add(srv.project, "servers")
	}
	for _, g := range n.groups {
		add(g.project, "server_groups")
	}
	for _, u := range n.s.identity.users {
		for _, pair := range n.keyPairs[u.id] {
			if !pair.seeded {
				add("", "keypairs")
			}
		}
	}
}

// byCreation sorts the newest first, as Nova lists by default.
func byCreation(a, b *server) int {
	return cmp.Or(b.created.Compare(a.created), cmp.Compare(b.id, a.id))
}
