package controllers

import (
	"context"
	"slices"

	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

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
