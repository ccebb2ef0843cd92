package controllers

import (
	"context"
	"strings"
	"time"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

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
