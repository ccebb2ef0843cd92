package controllers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// The roles of a machine's cloud objects.
const (
	roleServer     = "server"
	roleRootVolume = "volume-root"
	roleVolume     = "volume-" // and its name
)

func portRole(i int) string { return "port-" + strconv.Itoa(i) }

// createServerKey is the key of the note that counts failed builds.
const createServerKey = "create server"

// maxUserData is what Nova takes, in bytes of base64.
const maxUserData = 65_535

// machineInput is everything the plan of a machine may look at.
type machineInput struct {
	attempts
	machine *infrav1.SendanMachine
	cluster *infrav1.SendanCluster
	mark    cloud.Mark
	// infrastructureReady: the cluster's infrastructure is provisioned.
	infrastructureReady bool
	// userData is the bootstrap data; nil until the bootstrap provider has written it.
	userData []byte
	// clusterDeleting: the whole cluster is going away.
	clusterDeleting bool
	placement       placement
	lookups         machineLookups
}

// placement is what the machine's failure domain means in the cloud. Empty parts leave it to the
// cloud.
type placement struct{ computeZone, volumeZone string }

// machineLookups are answers of the cloud's catalog to what the spec names.
type machineLookups struct {
	flavor lookup[cloud.Flavor]
	image  lookup[cloud.Image]
	ports  lookup[[]cloud.PortRequest]
	// server is asked for by its id when the inventory does not hold a server that was there.
	server lookup[cloud.Server]
}

// machineObjects are the cloud objects a machine has by now.
type machineObjects struct {
	server  *cloud.Server
	ports   map[string]cloud.Port // by role
	volumes map[string]cloud.Volume
}

func (in machineInput) objects() machineObjects {
	has := machineObjects{ports: map[string]cloud.Port{}, volumes: map[string]cloud.Volume{}}
	for _, port := range in.snapshot.PortsOf(in.mark) {
		has.ports[port.Mark.Role] = port
	}
	for _, volume := range in.snapshot.VolumesOf(in.mark) {
		has.volumes[volume.Mark.Role] = volume
	}
	servers := in.snapshot.ServersOf(in.mark)
	slices.SortStableFunc(servers, func(a, b cloud.Server) int { return b2i(a.Deleting) - b2i(b.Deleting) })
	has.server = first(servers)
	return has
}

func (in machineInput) marked(role string) cloud.Mark {
	return cloud.Mark{Cluster: in.mark.Cluster, Machine: in.mark.Machine, Role: role}
}

// wasProvisioned reports that the server has been ACTIVE before. The provider id is part of the
// spec, so this survives a lost status.
func (in machineInput) wasProvisioned() bool { return in.machine.Spec.ProviderID != "" }

func (in machineInput) needsVolumes() bool {
	return in.machine.Spec.RootVolume != nil || len(in.machine.Spec.Volumes) > 0
}

// machineKinds are the kinds of objects the plan of a machine reads.
func machineKinds(in machineInput) []cloud.Kind {
	kinds := []cloud.Kind{cloud.KindServer, cloud.KindPort, cloud.KindServerGroup, cloud.KindSecurityGroup}
	if in.needsVolumes() {
		kinds = append(kinds, cloud.KindVolume)
	}
	return kinds
}

// planMachine is the ordered list of steps to a running server.
func planMachine(in machineInput) []step {
	if s, stale := inventoryStep(in.attempts, machineKinds(in)); stale {
		return []step{s}
	}
	has := in.objects()
	if has.server == nil && !in.wasProvisioned() {
		if s, gated := gateStep(in); gated {
			return []step{s}
		}
	}
	volumes, ports := volumesStep(in, has), portsStep(in, has)
	server := serverStep(in, has)
	if has.server == nil && !in.wasProvisioned() && (!volumes.done() || !ports.done()) {
		server = waiting(infrav1.ServerReadyCondition, infrav1.CreatingReason, "The server follows once its ports and volumes are there.")
	}
	return []step{volumes, ports, server}
}

// gateStep holds a machine back until what it needs from others is there.
func gateStep(in machineInput) (step, bool) {
	const condition = infrav1.ServerReadyCondition
	switch {
	case !in.infrastructureReady || in.cluster.Status.Network.ID == "" || managesSecurityGroups(in.cluster) && in.cluster.Status.Network.WorkerSecurityGroupID == "":
		return waiting(condition, infrav1.WaitingForInfrastructureReason, "Waiting for SendanCluster %s to be provisioned.", in.cluster.Name), true
	case in.userData == nil:
		return waiting(condition, infrav1.WaitingForBootstrapDataReason, "Waiting for the bootstrap provider to write the user data."), true
	}
	for _, err := range []error{in.lookups.flavor.err, in.lookups.image.err} {
		if err != nil {
			return failing(condition, err, in.now), true
		}
	}
	if err := in.lookups.ports.err; err != nil { // a security group may have been made a moment ago
		return failing(condition, err, in.now).requiring(cloud.KindSecurityGroup, in.now), true
	}
	if size := (len(in.userData) + 2) / 3 * 4; size > maxUserData {
		return failing(condition, cloud.Errorf(cloud.Config,
			"The user data has %d bytes in base64, Nova takes %d: write fewer or smaller files in the kubeadm config.", size, maxUserData), in.now), true
	}
	return step{}, false
}

// volumesStep makes the machine's volumes and waits until Nova can attach them.
func volumesStep(in machineInput, has machineObjects) step {
	const condition = infrav1.VolumesReadyCondition
	if has.server != nil || in.wasProvisioned() {
		return done(condition)
	}
	if i := indexOfNote(in.notes, createServerKey); i >= 0 && len(has.volumes) > 0 && !in.snapshot.ListedAfter(cloud.KindVolume, in.notes[i].Time.Time) {
		return waiting(condition, infrav1.WaitingForInventoryReason, "Looking which volumes Nova has removed with the failed server.").
			requiring(cloud.KindVolume, in.notes[i].Time.Time).until(in.now.Add(volumeRecheck))
	}
	var actions []action
	for _, request := range wantedVolumes(in) {
		volume, there := has.volumes[request.Mark.Role]
		switch {
		case !there:
			actions = append(actions, createVolume(request))
		case strings.HasPrefix(volume.Status, "error"):
			id := volume.ID
			actions = append(actions, action{
				key: "delete failed " + request.Mark.Role, event: "Deleted volume " + id + ", which was in " + volume.Status,
				run: func(ctx context.Context, s *cloud.Session) error { return s.DeleteVolume(ctx, id) },
				after: func(notes []infrav1.Attempt, now time.Time) []infrav1.Attempt {
					return noteFailure(notes, createVolume(request), cloud.Errorf(cloud.Transient, "Cinder put the volume into %s", volume.Status), now)
				},
			})
		case volume.Status != "available":
			return waiting(condition, infrav1.WaitingForCloudReason, "Cinder has volume %s in %s.", volume.ID, volume.Status)
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Making the volumes.", actions...)
	}
	return done(condition)
}

// wantedVolumes are the root volume, if any, and the further ones.
func wantedVolumes(in machineInput) []cloud.VolumeRequest {
	var requests []cloud.VolumeRequest
	if root := in.machine.Spec.RootVolume; root != nil {
		requests = append(requests, cloud.VolumeRequest{
			Name: in.machine.Name + "-root", Mark: in.marked(roleRootVolume), SizeGiB: int(root.SizeGiB),
			Type: root.Type, Zone: in.placement.volumeZone, ImageID: in.lookups.image.value.ID,
		})
	}
	for _, volume := range in.machine.Spec.Volumes {
		requests = append(requests, cloud.VolumeRequest{
			Name: in.machine.Name + "-" + volume.Name, Mark: in.marked(roleVolume + "data-" + volume.Name),
			SizeGiB: int(volume.SizeGiB), Type: volume.Type, Zone: in.placement.volumeZone,
		})
	}
	return requests
}

func createVolume(request cloud.VolumeRequest) action {
	return action{
		key: "create " + request.Mark.Role, creates: cloud.KindVolume, lasting: true, event: "Created volume " + request.Name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateVolume(ctx, request)
			return err
		},
	}
}

// portsStep makes the machine's ports, and trunks where asked for.
func portsStep(in machineInput, has machineObjects) step {
	const condition = infrav1.PortsReadyCondition
	if has.server != nil || in.wasProvisioned() {
		return observePorts(in, has)
	}
	var actions []action
	for i, request := range in.lookups.ports.value {
		port, there := has.ports[request.Mark.Role]
		switch {
		case !there:
			actions = append(actions, createPort(request))
		case in.wantsTrunk(i) && port.TrunkID == "":
			actions = append(actions, createTrunk(port))
		default:
			actions = append(actions, retag(cloud.KindPort, request.Mark.Role, port.ID, port.Tags, in.tags())...)
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Making the ports.", actions...)
	}
	return done(condition)
}

// observePorts tells when a port of an existing server was removed in the cloud. A port cannot be
// given back to a running node; the machine has to be replaced.
func observePorts(in machineInput, has machineObjects) step {
	const condition = infrav1.PortsReadyCondition
	for i := range wantedPorts(in.machine) {
		if _, there := has.ports[portRole(i)]; !there && (has.server == nil || !has.server.Deleting) {
			s := waiting(condition, infrav1.MissingReason,
				"Port %d was removed in the cloud. Delete the Machine, or let a MachineHealthCheck, to have it replaced.", i)
			s.failed = true
			return s
		}
	}
	return done(condition)
}

// wantedPorts are the ports of the spec: one on the cluster's network when it names none.
func wantedPorts(machine *infrav1.SendanMachine) []infrav1.Port {
	if len(machine.Spec.Ports) == 0 {
		return []infrav1.Port{{}}
	}
	return machine.Spec.Ports
}

func (in machineInput) wantsTrunk(i int) bool {
	return ptr.Deref(wantedPorts(in.machine)[i].Trunk, false)
}

// tags are the cluster's and the machine's own.
func (in machineInput) tags() []string {
	tags := slices.Sorted(slices.Values(slices.Concat(in.cluster.Spec.Tags, in.machine.Spec.Tags)))
	return slices.Compact(tags)
}

func createPort(request cloud.PortRequest) action {
	return action{
		key: "create " + request.Mark.Role, creates: cloud.KindPort, event: "Created port " + request.Name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreatePort(ctx, request)
			return err
		},
	}
}

// createTrunk makes a port a trunk's parent. Neutron refuses a second trunk on a port, so a lost
// reply does no harm: the listing of ports that follows shows the trunk.
func createTrunk(port cloud.Port) action {
	request := cloud.TrunkRequest{Name: port.Name, Mark: port.Mark, PortID: port.ID}
	return action{
		key: "create trunk of " + port.Mark.Role, creates: cloud.KindPort, event: "Created trunk " + port.Name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateTrunk(ctx, request)
			return err
		},
	}
}

// serverStep makes the server and follows it.
func serverStep(in machineInput, has machineObjects) step {
	switch {
	case has.server == nil && in.wasProvisioned():
		return missingServer(in)
	case has.server == nil:
		return createServerStep(in, has)
	case has.server.Deleting:
		if held, isHeld := in.gate(infrav1.ServerReadyCondition, action{key: createServerKey}); isHeld && !in.wasProvisioned() {
			return held // why the build failed tells more
		}
		return waiting(infrav1.ServerReadyCondition, infrav1.WaitingForCloudReason, "Nova is deleting server %s.", has.server.ID)
	}
	return observeServer(in, *has.server)
}

// missingServer is reached when a server that was there is not in the inventory. Only Nova's own
// answer about that very server makes it a fact (design law 6); then the machine stays failed, since
// a node cannot be made again under the same Machine.
func missingServer(in machineInput) step {
	const condition = infrav1.ServerReadyCondition
	err := in.lookups.server.err
	switch {
	case cloud.IsNotFound(err):
		s := waiting(condition, infrav1.MissingReason,
			"Server %s was deleted in the cloud. Delete the Machine, or let a MachineHealthCheck, to have it replaced.", serverIDOf(in.machine.Spec.ProviderID)).
			until(in.now.Add(paces[cloud.Suspicious].most))
		s.failed = true
		return s
	case err != nil:
		return failing(condition, err, in.now)
	}
	if in.lookups.server.value.Mark == in.marked(roleServer) {
		return waiting(condition, infrav1.WaitingForInventoryReason, "Server %s is there but not in the inventory yet.", serverIDOf(in.machine.Spec.ProviderID)).
			requiring(cloud.KindServer, in.now).until(in.now.Add(strangerRecheck))
	}
	return failing(condition, lostMark(in), in.now)
}

// lostMark is about a server that has the machine's id but not its mark: somebody took it away, or
// the part of Nova that knows it is down.
func lostMark(in machineInput) error {
	return cloud.Errorf(cloud.Suspicious,
		"Server %s is in %s and does not carry this machine's mark. Put it back: openstack server set --property %s=%s --property %s=%s --property %s=%s %[1]s",
		in.lookups.server.value.ID, in.lookups.server.value.Status,
		cloud.MetadataCluster, in.mark.Cluster, cloud.MetadataMachine, in.mark.Machine, cloud.MetadataRole, roleServer)
}

func createServerStep(in machineInput, has machineObjects) step {
	const condition = infrav1.ServerReadyCondition
	group := in.machine.Spec.ServerGroup
	if role := serverGroupRole(in.cluster, in.machine); role != "" {
		managed := first(in.snapshot.ServerGroupsOf(cloud.Mark{Cluster: in.mark.Cluster, Role: role}))
		if managed == nil {
			s := waiting(condition, infrav1.WaitingForInfrastructureReason, "Waiting for SendanCluster %s to make the server group of %s.", in.cluster.Name, role)
			if in.machine.Spec.IdentityRef != nil {
				s = s.requiring(cloud.KindServerGroup, in.now).until(in.now.Add(otherSessionRecheck))
			}
			return s
		}
		group = managed.ID
	}
	hints, err := jsonObject(in.machine.Spec.SchedulerHints)
	if err != nil {
		return failing(condition, cloud.Errorf(cloud.Config, "spec.schedulerHints: %v", err), in.now)
	}
	request := cloud.ServerRequest{
		Name: in.machine.Name, Mark: in.marked(roleServer), FlavorID: in.lookups.flavor.value.ID, ImageID: in.lookups.image.value.ID,
		Zone: in.placement.computeZone, KeyPair: in.machine.Spec.KeyPair, UserData: in.userData, ConfigDrive: in.machine.Spec.ConfigDrive,
		Metadata: metadataOf(in.machine), Tags: in.tags(), ServerGroupID: group, SchedulerHints: hints,
	}
	for i := range in.lookups.ports.value {
		request.PortIDs = append(request.PortIDs, has.ports[portRole(i)].ID)
	}
	for _, volume := range wantedVolumes(in) {
		boot := volume.Mark.Role == roleRootVolume
		request.Volumes = append(request.Volumes, cloud.ServerVolume{VolumeID: has.volumes[volume.Mark.Role].ID, Boot: boot, DeleteOnTermination: true})
		if boot {
			request.ImageID = ""
		}
	}
	return acting(in.attempts, condition, "Making the server.", action{
		key: createServerKey, creates: cloud.KindServer, lasting: true, event: "Created server " + request.Name + " of flavor " + in.lookups.flavor.value.Name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateServer(ctx, request)
			return err
		},
	})
}

func metadataOf(machine *infrav1.SendanMachine) map[string]string {
	metadata := map[string]string{}
	for _, entry := range machine.Spec.Metadata {
		metadata[entry.Key] = ptr.Deref(entry.Value, "")
	}
	return metadata
}

// observeServer turns Nova's state into a conclusion.
func observeServer(in machineInput, server cloud.Server) step {
	const condition = infrav1.ServerReadyCondition
	switch server.Status {
	case "ACTIVE":
		return done(condition)
	case "BUILD", "REBUILD", "REBOOT", "HARD_REBOOT", "MIGRATING", "RESIZE", "VERIFY_RESIZE", "PASSWORD":
		return waiting(condition, infrav1.WaitingForCloudReason, "Nova has server %s in %s.", server.ID, server.Status)
	case "ERROR":
		if in.wasProvisioned() {
			return brokenServer(server)
		}
		return failedBuild(in, server)
	}
	s := waiting(condition, infrav1.ServerNotActiveReason, "Server %s is in %s. Start it in the cloud, or delete the Machine to have it replaced.", server.ID, server.Status)
	s.failed = true
	return s
}

// brokenServer is a server that ran and now is in ERROR. Only its owner may give up what is on it.
func brokenServer(server cloud.Server) step {
	class, text := faultOf(server)
	reason := string(class)
	if class == cloud.Transient {
		reason = infrav1.ServerErrorReason
	}
	s := waiting(infrav1.ServerReadyCondition, reason, "Server %s is in ERROR: %s. Nova may recover it; else delete the Machine, or let a MachineHealthCheck, to have it replaced.", server.ID, text)
	s.failed = true
	return s
}

// failedBuild clears away a server whose build failed: it never ran, and while it is there it counts
// against the quota. The note it leaves holds the next build back.
func failedBuild(in machineInput, server cloud.Server) step {
	if known := server.Updated.Add(faultPatience); server.Fault == nil && in.now.Before(known) {
		return waiting(infrav1.ServerReadyCondition, infrav1.WaitingForCloudReason, "Server %s is in ERROR; waiting for Nova to say why.", server.ID).
			requiring(cloud.KindServer, in.now).until(known)
	}
	class, text := faultOf(server)
	s := acting(in.attempts, infrav1.ServerReadyCondition, "The build failed: "+text, action{
		key: "delete failed server", event: fmt.Sprintf("Deleted server %s, whose build failed (%s): %s", server.ID, class, text),
		run: func(ctx context.Context, s *cloud.Session) error { return s.DeleteServer(ctx, server.ID) },
		after: func(notes []infrav1.Attempt, now time.Time) []infrav1.Attempt {
			return noteFailure(notes, action{key: createServerKey, creates: cloud.KindServer}, cloud.Errorf(class, "%s", text), now)
		},
	})
	s.failed = true
	return s.as(string(class))
}

// faultOf is the class and the text of a server's fault.
func faultOf(server cloud.Server) (cloud.Class, string) {
	if server.Fault == nil {
		return cloud.Transient, "Nova gives no reason"
	}
	return cloud.ClassifyFault(*server.Fault), strings.TrimSpace(server.Fault.Message)
}

// planMachineDeletion takes everything that carries the machine's mark out of the cloud.
func planMachineDeletion(in machineInput) step {
	const condition = infrav1.DeletingCondition
	if s, stale := inventoryStep(in.attempts, machineKinds(in)); stale {
		s.condition = condition
		return s
	}
	has := in.objects()
	for _, stage := range []func(machineInput, machineObjects) step{leaveLoadBalancer, deleteServer, deletePortsAndVolumes} {
		if s := stage(in, has); !s.done() {
			return s.as(infrav1.DeletingReason)
		}
	}
	return provenGone(in.attempts, condition)
}

// leaveLoadBalancer lets the cluster take a control-plane machine out of the load balancer first, so
// that no client is sent to it; but not for long, since the health monitor does the same.
func leaveLoadBalancer(in machineInput, has machineObjects) step {
	const condition = infrav1.DeletingCondition
	giveUp := in.machine.DeletionTimestamp.Add(memberPatience)
	if !isControlPlane(in.machine) || in.clusterDeleting || has.server == nil || has.server.Deleting || in.now.After(giveUp) {
		return done(condition)
	}
	if endpointMode(in.cluster) == modeLoadBalancer && !in.snapshot.Fresh(cloud.KindLoadBalancer) {
		return waiting(condition, infrav1.DeletingReason, "Waiting for the load balancers to be listed.").until(giveUp)
	}
	address := has.ports[portRole(0)].FixedIPs
	for _, lb := range in.snapshot.LoadBalancersOf(cloud.Mark{Cluster: in.mark.Cluster, Role: roleEndpoint}) {
		for _, pool := range lb.Pools {
			for _, member := range pool.Members {
				if slices.ContainsFunc(address, func(ip cloud.FixedIP) bool { return ip.IPAddress == member.Address }) {
					return waiting(condition, infrav1.DeletingReason, "Waiting for load balancer %s to let go of %s.", lb.ID, member.Address).until(giveUp)
				}
			}
		}
	}
	return done(condition)
}

func deleteServer(in machineInput, has machineObjects) step {
	const condition = infrav1.DeletingCondition
	asked := in.lookups.server
	switch {
	case has.server == nil && asked.err != nil && !cloud.IsNotFound(asked.err):
		return failing(condition, asked.err, in.now)
	case has.server == nil && asked.value.ID != "":
		return failing(condition, lostMark(in), in.now)
	case has.server == nil:
		return done(condition)
	case has.server.Deleting:
		return waiting(condition, infrav1.DeletingReason, "Nova is deleting server %s.", has.server.ID)
	}
	return acting(in.attempts, condition, "Deleting the server.",
		removals(cloud.KindServer, []cloud.Server{*has.server}, func(s cloud.Server) string { return s.ID }, (*cloud.Session).DeleteServer)...)
}

func deletePortsAndVolumes(in machineInput, has machineObjects) step {
	const condition = infrav1.DeletingCondition
	ports := in.snapshot.PortsOf(in.mark)
	var actions []action
	for _, port := range ports {
		if port.TrunkID != "" {
			actions = append(actions, action{
				key: "delete trunk of " + port.Mark.Role, event: "Deleted trunk " + port.TrunkID,
				run: func(ctx context.Context, s *cloud.Session) error { return s.DeleteTrunk(ctx, port.TrunkID) },
			})
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Deleting the trunks.", actions...)
	}
	actions = removals(cloud.KindPort, ports, func(p cloud.Port) string { return p.ID }, (*cloud.Session).DeletePort)
	for _, volume := range has.volumes {
		switch {
		case volume.Status == "deleting":
		case len(volume.AttachedTo) > 0: // Nova deletes it with the server; the listing is older
		default:
			actions = append(actions, removals(cloud.KindVolume, []cloud.Volume{volume}, func(v cloud.Volume) string { return v.ID }, (*cloud.Session).DeleteVolume)...)
		}
	}
	if len(actions) > 0 {
		return acting(in.attempts, condition, "Deleting ports and volumes.", actions...)
	}
	if len(has.volumes) > 0 {
		return waiting(condition, infrav1.DeletingReason, "Waiting for Cinder to delete %s.", volumeNames(has.volumes)).
			requiring(cloud.KindVolume, in.now).until(in.now.Add(max(volumeRecheck, in.now.Sub(in.machine.DeletionTimestamp.Time)/4)))
	}
	return done(condition)
}

func volumeNames(volumes map[string]cloud.Volume) string {
	var names []string
	for _, role := range slices.Sorted(maps.Keys(volumes)) {
		names = append(names, fmt.Sprintf("volume %s (%s)", volumes[role].ID, volumes[role].Status))
	}
	return strings.Join(names, ", ")
}

// addressesOf are the machine's addresses as Cluster API wants them.
func addressesOf(machine *infrav1.SendanMachine, has machineObjects) []clusterv1.MachineAddress {
	addresses := []clusterv1.MachineAddress{
		{Type: clusterv1.MachineHostName, Address: machine.Name},
		{Type: clusterv1.MachineInternalDNS, Address: machine.Name},
	}
	for i := range wantedPorts(machine) {
		for _, ip := range has.ports[portRole(i)].FixedIPs {
			addresses = append(addresses, clusterv1.MachineAddress{Type: clusterv1.MachineInternalIP, Address: ip.IPAddress})
		}
	}
	if has.server != nil {
		for _, address := range has.server.Addresses {
			if address.Type == "floating" {
				addresses = append(addresses, clusterv1.MachineAddress{Type: clusterv1.MachineExternalIP, Address: address.Address})
			}
		}
	}
	return addresses
}
