package simulator

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// findIdle is a server that may begin an operation: not locked, not busy, in one of the vm states.
func (n *computeService) findIdle(c *call, action string, vmStates ...string) (*server, error) {
	srv, err := n.find(c)
	if err != nil {
		return nil, err
	}
	if srv.locked && !c.isAdmin() {
		return nil, lockedProblem(srv)
	}
	if srv.taskState != "" {
		return nil, problemf(http.StatusConflict, "Cannot '%s' instance %s while it is in task_state %s", action, srv.id, srv.taskState)
	}
	if !slices.Contains(vmStates, srv.vmState) {
		return nil, problemf(http.StatusConflict, "Cannot '%s' instance %s while it is in vm_state %s", action, srv.id, srv.vmState)
	}
	return srv, nil
}

func accepted() (reply, error) { return reply{status: http.StatusAccepted}, nil }

// serverAction carries out one action with its argument.
type serverAction func(c *call, argument json.RawMessage, version int) (reply, error)

func (n *computeService) serverActions() map[string]serverAction {
	return map[string]serverAction{
		"os-start":            n.start,
		"os-stop":             n.stop,
		"reboot":              n.reboot,
		"rebuild":             n.rebuild,
		"lock":                n.lock,
		"unlock":              n.unlock,
		"os-getConsoleOutput": n.consoleOutput,
		"os-resetState":       n.resetState,
		"forceDelete":         func(c *call, _ json.RawMessage, version int) (reply, error) { return n.deleteServer(c, version) },
		"migrate":             n.migrate,
		"os-migrateLive":      n.migrateLive,
		"confirmResize":       n.confirmResize,
		"evacuate":            n.evacuate,
	}
}

func (n *computeService) act(c *call, version int) (reply, error) {
	var body map[string]json.RawMessage
	if err := c.decode(&body); err != nil {
		return reply{}, err
	}
	if _, err := n.find(c); err != nil {
		return reply{}, err
	}
	actions := n.serverActions()
	for name, argument := range body {
		if do, known := actions[name]; known {
			return do(c, argument, version)
		}
	}
	return reply{}, badRequest("There is no such action: %s", strings.Join(slices.Sorted(maps.Keys(body)), ", "))
}

// begin marks an operation on a server.
func (n *computeService) begin(c *call, srv *server, action, taskState string) {
	srv.epoch++
	srv.taskState = taskState
	n.touch(srv)
	n.recordAction(c, srv, action)
}

// power lets the backend do something after the latency of a power operation and ends in a state.
func (n *computeService) power(srv *server, do func(ctx context.Context) error, vmState string, powerState int) {
	n.transition(srv, n.s.scenario.Latency.ServerPower, func() {
		n.onNode(srv, do, func(err error) {
			n.stillWanted(srv, func() {
				if err != nil {
					n.fail(srv, http.StatusInternalServerError, err.Error(), "")
					return
				}
				n.becomes(srv, vmState, powerState)
			})()
		})
	})
}

// carryOut does what the task state of a server says.
func (n *computeService) carryOut(srv *server) {
	backend := n.s.backend
	switch srv.taskState {
	case taskPoweringOn:
		n.power(srv, func(ctx context.Context) error { return backend.PowerOn(ctx, srv.id) }, vmActive, powerRunning)
	case taskPoweringOff:
		n.power(srv, func(ctx context.Context) error { return backend.Shutdown(ctx, srv.id) }, vmStopped, powerShutdown)
	case taskRebooting:
		n.power(srv, func(ctx context.Context) error { return n.cycle(ctx, backend.Shutdown, srv.id) }, vmActive, powerRunning)
	case taskRebootingHard:
		n.power(srv, func(ctx context.Context) error { return n.cycle(ctx, backend.PowerOff, srv.id) }, vmActive, powerRunning)
	case taskRebuilding:
		node := n.nodeOf(srv)
		n.power(srv, func(ctx context.Context) error { return n.remake(ctx, node) }, vmActive, powerRunning)
	case taskMigrating:
		n.transition(srv, n.s.scenario.Latency.ServerPower, func() { n.becomes(srv, vmActive, powerRunning) })
	case taskResizeMigrating:
		n.transition(srv, n.s.scenario.Latency.ServerPower, func() { n.becomes(srv, vmResized, powerRunning) })
	}
}

func (n *computeService) start(c *call, _ json.RawMessage, _ int) (reply, error) {
	srv, err := n.findIdle(c, "start", vmStopped)
	if err != nil {
		return reply{}, err
	}
	n.begin(c, srv, "start", taskPoweringOn)
	n.carryOut(srv)
	return accepted()
}

func (n *computeService) stop(c *call, _ json.RawMessage, _ int) (reply, error) {
	srv, err := n.findIdle(c, "stop", vmActive, vmError)
	if err != nil {
		return reply{}, err
	}
	n.begin(c, srv, "stop", taskPoweringOff)
	n.carryOut(srv)
	return accepted()
}

func (n *computeService) reboot(c *call, argument json.RawMessage, _ int) (reply, error) {
	var in struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(argument, &in) != nil || !slices.Contains([]string{"SOFT", "HARD"}, strings.ToUpper(in.Type)) {
		return reply{}, schemaProblem("type", in.Type, fmt.Sprintf("'%s' is not one of ['HARD', 'Hard', 'hard', 'SOFT', 'Soft', 'soft']", in.Type))
	}
	states, task := []string{vmActive}, taskRebooting
	if strings.EqualFold(in.Type, "HARD") {
		states, task = []string{vmActive, vmStopped, vmError}, taskRebootingHard
	}
	srv, err := n.findIdle(c, "reboot", states...)
	if err != nil {
		return reply{}, err
	}
	if srv.launched.IsZero() {
		return reply{}, problemf(http.StatusConflict, "Cannot 'reboot' instance %s while it is in vm_state %s", srv.id, srv.vmState)
	}
	n.begin(c, srv, "reboot", task)
	n.carryOut(srv)
	return accepted()
}

// cycle turns a node off and on again.
func (n *computeService) cycle(ctx context.Context, off func(context.Context, string) error, id string) error {
	if err := off(ctx, id); err != nil {
		return err
	}
	return n.s.backend.PowerOn(ctx, id)
}

// rebuild replaces the root disk: the node is made anew from the image with the same ports.
func (n *computeService) rebuild(c *call, argument json.RawMessage, version int) (reply, error) {
	srv, err := n.findIdle(c, "rebuild", vmActive, vmStopped, vmError)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		ImageRef string            `json:"imageRef"`
		Name     string            `json:"name"`
		Metadata map[string]string `json:"metadata"`
		UserData *string           `json:"user_data"`
	}
	if err := json.Unmarshal(argument, &in); err != nil {
		return reply{}, badRequest("Malformed request body")
	}
	image := n.s.image.byID(in.ImageRef)
	if image == nil {
		return reply{}, badRequest("Cannot find image for rebuild")
	}
	if srv.host == nil {
		return reply{}, problemf(http.StatusConflict, "Cannot 'rebuild' instance %s while it is in vm_state %s", srv.id, srv.vmState)
	}
	n.begin(c, srv, "rebuild", taskRebuilding)
	srv.imageID, srv.fault = image.ID, nil
	if in.Name != "" {
		srv.name = in.Name
	}
	if in.Metadata != nil {
		srv.metadata = in.Metadata
	}
	if in.UserData != nil && version >= 57 {
		srv.userData = *in.UserData
	}
	n.carryOut(srv)
	srv.launched = n.s.now()
	return reply{status: http.StatusAccepted, body: fields{"server": n.serverView(c, srv, version)}}, nil
}

func (n *computeService) remake(ctx context.Context, node Node) error {
	if err := n.s.backend.Destroy(ctx, node.ServerID); err != nil {
		return err
	}
	return n.s.backend.Boot(ctx, node)
}

func (n *computeService) lock(c *call, argument json.RawMessage, version int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Reason string `json:"locked_reason"`
	}
	if string(argument) != "null" && version >= 73 {
		if err := json.Unmarshal(argument, &in); err != nil {
			return reply{}, badRequest("Malformed request body")
		}
	}
	srv.locked, srv.lockedReason = true, in.Reason
	n.touch(srv)
	return accepted()
}

func (n *computeService) unlock(c *call, _ json.RawMessage, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	srv.locked, srv.lockedReason = false, ""
	n.touch(srv)
	return accepted()
}

func (n *computeService) consoleOutput(c *call, argument json.RawMessage, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Length any `json:"length"`
	}
	if string(argument) != "null" {
		if err := json.Unmarshal(argument, &in); err != nil {
			return reply{}, badRequest("Malformed request body")
		}
	}
	lines := 0
	if in.Length != nil {
		lines = atoiOr(fmt.Sprint(in.Length), 0)
	}
	return ok(func() any {
		return fields{"output": lastLines(cmp.Or(srv.console, n.s.backend.ConsoleLog(srv.id)), lines)}
	})
}

// lastLines is the tail of a text; 0 means all of it.
func lastLines(text string, lines int) string {
	all := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	if lines <= 0 || len(all) <= lines {
		return text
	}
	return strings.Join(all[len(all)-lines:], "")
}

func policyProblem(rule string) *problem {
	return problemf(http.StatusForbidden, "Policy doesn't allow %s to be performed.", rule)
}

// findAsAdmin is a server for the actions that only operators may take.
func (n *computeService) findAsAdmin(c *call, rule string) (*server, error) {
	if !c.isAdmin() {
		return nil, policyProblem(rule)
	}
	return n.find(c)
}

func (n *computeService) resetState(c *call, argument json.RawMessage, _ int) (reply, error) {
	srv, err := n.findAsAdmin(c, "os_compute_api:os-admin-actions:reset_state")
	if err != nil {
		return reply{}, err
	}
	var in struct {
		State string `json:"state"`
	}
	if json.Unmarshal(argument, &in) != nil || in.State != vmActive && in.State != vmError {
		return reply{}, schemaProblem("state", in.State, fmt.Sprintf("'%s' is not one of ['active', 'error']", in.State))
	}
	srv.epoch++
	srv.vmState, srv.taskState = in.State, ""
	if in.State == vmActive {
		srv.fault = nil
	}
	n.touch(srv)
	return accepted()
}

// moveElsewhere books another host for a server; the caller undoes nothing when there is none.
func (n *computeService) moveElsewhere(srv *server, wanted string) error {
	from := srv.host
	avoid := map[*host]bool{from: true}
	if wanted != "" {
		for _, h := range n.hosts {
			avoid[h] = h.Name != wanted
		}
	}
	n.release(srv)
	to, why := n.schedule(srv, avoid)
	if to == nil {
		n.place(srv, from)
		return badRequest("%s", why)
	}
	n.place(srv, to)
	for _, port := range srv.ports {
		n.neutron().bindPort(port.id, srv.id, to.Name, to.Zone)
	}
	return nil
}

func (n *computeService) migrate(c *call, argument json.RawMessage, _ int) (reply, error) {
	return n.startMigration(c, argument, "os_compute_api:os-migrate-server:migrate", taskResizeMigrating)
}

func (n *computeService) migrateLive(c *call, argument json.RawMessage, _ int) (reply, error) {
	return n.startMigration(c, argument, "os_compute_api:os-migrate-server:migrate_live", taskMigrating)
}

func (n *computeService) startMigration(c *call, argument json.RawMessage, rule, task string) (reply, error) {
	if _, err := n.findAsAdmin(c, rule); err != nil {
		return reply{}, err
	}
	srv, err := n.findIdle(c, "migrate", vmActive)
	if err != nil {
		return reply{}, err
	}
	if err := n.moveElsewhere(srv, wantedHost(argument)); err != nil {
		return reply{}, err
	}
	n.begin(c, srv, "migrate", task)
	n.carryOut(srv)
	return accepted()
}

func wantedHost(argument json.RawMessage) string {
	var in struct {
		Host string `json:"host"`
	}
	if json.Unmarshal(argument, &in) != nil {
		return ""
	}
	return in.Host
}

func (n *computeService) confirmResize(c *call, _ json.RawMessage, _ int) (reply, error) {
	srv, err := n.findIdle(c, "confirmResize", vmResized)
	if err != nil {
		return reply{}, err
	}
	n.begin(c, srv, "confirmResize", "")
	n.becomes(srv, vmActive, powerRunning)
	return noContent()
}

// evacuate rebuilds a server of a dead host elsewhere.
func (n *computeService) evacuate(c *call, argument json.RawMessage, _ int) (reply, error) {
	srv, err := n.findAsAdmin(c, "os_compute_api:os-evacuate")
	if err != nil {
		return reply{}, err
	}
	if srv.host == nil || !srv.host.down {
		return reply{}, badRequest("Compute service of %s is still in use.", hostNameOf(srv))
	}
	if err := n.moveElsewhere(srv, wantedHost(argument)); err != nil {
		return reply{}, err
	}
	n.begin(c, srv, "evacuate", taskRebuilding)
	n.carryOut(srv)
	return ok(fields{})
}

func hostNameOf(srv *server) string {
	if srv.host == nil {
		return "None"
	}
	return srv.host.Name
}

func (n *computeService) updateServer(c *call, version int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Server struct {
			Name        *string `json:"name"`
			Description *string `json:"description"`
			Hostname    *string `json:"hostname"`
			AccessIPv4  *string `json:"accessIPv4"`
			AccessIPv6  *string `json:"accessIPv6"`
		} `json:"server"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	for value, field := range map[*string]*string{
		in.Server.Name: &srv.name, in.Server.Description: &srv.description, in.Server.Hostname: &srv.hostname,
		in.Server.AccessIPv4: &srv.accessIPv4, in.Server.AccessIPv6: &srv.accessIPv6,
	} {
		if value != nil {
			*field = *value
		}
	}
	n.touch(srv)
	return ok(fields{"server": n.serverView(c, srv, version)})
}

func (n *computeService) showMetadata(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"metadata": srv.metadata})
}

// changeMetadata reads the body's metadata and lets change put it into a copy of the server's.
func (n *computeService) changeMetadata(c *call, change func(old, sent map[string]string) map[string]string) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Metadata map[string]string `json:"metadata"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if in.Metadata == nil {
		return reply{}, schemaProblem("body", string(c.body), "'metadata' is a required property")
	}
	changed := change(maps.Clone(srv.metadata), in.Metadata)
	if limit := n.s.quota(srv.project, "metadata_items"); limit != unlimited && len(changed) > limit {
		return reply{}, problemf(http.StatusForbidden, "Maximum number of metadata items exceeds %d", limit)
	}
	srv.metadata = changed
	n.touch(srv)
	return ok(fields{"metadata": srv.metadata})
}

func (n *computeService) replaceMetadata(c *call, _ int) (reply, error) {
	return n.changeMetadata(c, func(_, sent map[string]string) map[string]string { return sent })
}

func (n *computeService) mergeMetadata(c *call, _ int) (reply, error) {
	return n.changeMetadata(c, func(old, sent map[string]string) map[string]string {
		maps.Copy(old, sent)
		return old
	})
}

func (n *computeService) metadatum(c *call) (*server, error) {
	srv, err := n.find(c)
	if err != nil {
		return nil, err
	}
	if _, set := srv.metadata[c.id("key")]; !set {
		return nil, problemf(http.StatusNotFound, "Metadata item was not found")
	}
	return srv, nil
}

func (n *computeService) showMetadatum(c *call, _ int) (reply, error) {
	srv, err := n.metadatum(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"meta": fields{c.id("key"): srv.metadata[c.id("key")]}})
}

func (n *computeService) setMetadatum(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Meta map[string]string `json:"meta"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	value, sent := in.Meta[c.id("key")]
	if !sent || len(in.Meta) != 1 {
		return reply{}, badRequest("Request body and URI mismatch")
	}
	srv.metadata = maps.Clone(srv.metadata)
	srv.metadata[c.id("key")] = value
	n.touch(srv)
	return ok(fields{"meta": in.Meta})
}

func (n *computeService) deleteMetadatum(c *call, _ int) (reply, error) {
	srv, err := n.metadatum(c)
	if err != nil {
		return reply{}, err
	}
	srv.metadata = maps.Clone(srv.metadata)
	delete(srv.metadata, c.id("key"))
	n.touch(srv)
	return noContent()
}

func (n *computeService) showTags(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"tags": append([]string{}, srv.tags...)})
}

func (n *computeService) replaceTags(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	var in struct {
		Tags []string `json:"tags"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	return n.setTags(srv, in.Tags, http.StatusOK)
}

func (n *computeService) setTags(srv *server, tags []string, status int) (reply, error) {
	if err := checkTagValues(tags); err != nil {
		return reply{}, err
	}
	srv.tags = slices.Compact(slices.Sorted(slices.Values(tags)))
	n.touch(srv)
	if status != http.StatusOK {
		return reply{status: status}, nil
	}
	return ok(fields{"tags": append([]string{}, srv.tags...)})
}

func (n *computeService) clearTags(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	return n.setTags(srv, nil, http.StatusNoContent)
}

func (n *computeService) hasTag(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	if !slices.Contains(srv.tags, c.id("tag")) {
		return reply{}, problemf(http.StatusNotFound, "Server %s has no tag '%s'", srv.id, c.id("tag"))
	}
	return noContent()
}

func (n *computeService) addTag(c *call, _ int) (reply, error) {
	srv, err := n.find(c)
	if err != nil {
		return reply{}, err
	}
	status := http.StatusCreated
	if slices.Contains(srv.tags, c.id("tag")) {
		status = http.StatusNoContent
	}
	return n.setTags(srv, append(slices.Clone(srv.tags), c.id("tag")), status)
}

func (n *computeService) removeTag(c *call, version int) (reply, error) {
	if out, err := n.hasTag(c, version); err != nil {
		return out, err
	}
	srv := n.servers[c.id("id")]
	return n.setTags(srv, keep(srv.tags, func(tag string) bool { return tag != c.id("tag") }), http.StatusNoContent)
}
