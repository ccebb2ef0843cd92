package controllers

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

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
		if !groupIsFull(in) {
			group = managed.ID
		}
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

// groupIsFull reports that Nova would not take the machine into its server group: ten members are the
// default quota. A soft policy is a wish, and no reason to have no machine.
func groupIsFull(in machineInput) bool {
	i := indexOfNote(in.notes, createServerKey)
	return i >= 0 && in.notes[i].Reason == string(cloud.Quota) && strings.Contains(in.notes[i].Message, "servers in group") &&
		serverGroupPolicy(in.cluster, in.machine) == infrav1.SoftAntiAffinity
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
		return done(condition).until(in.boot.nextLook(in.now))
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
