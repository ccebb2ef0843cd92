package controllers

import (
	"slices"
	"strconv"

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
	boot            bootState
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
	// console is what a server printed whose node is overdue; empty when it was not asked for.
	console lookup[string]
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
	steps := []step{volumes, ports, server}
	if boot, told := bootStep(in, has); told {
		steps = append(steps, boot)
	}
	return steps
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
