package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

const (
	diagnoseLogLines = 20
	// diagnoseDeadline bounds what is asked of a plane that does not work.
	diagnoseDeadline = 20 * time.Second
)

// diagnose writes what a person needs to find out why a demo got stuck.
func (d *demo) diagnose(ctx context.Context, out io.Writer) {
	// The context may have ended: that is one of the reasons to get here.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diagnoseDeadline)
	defer cancel()
	s, err := d.tenant.state(ctx)
	if err != nil {
		_, _ = fmt.Fprintf(out, "the management API does not answer: %v\n", err)
	} else {
		writeConditions(out, s)
	}
	objects, err := d.cloud.objects(ctx)
	if err != nil {
		_, _ = fmt.Fprintln(out, err)
	} else {
		_, _ = fmt.Fprintf(out, "\nin the cloud: %s\n", objects)
	}
	for _, program := range []string{plane.InfrastructureManager, plane.FleetManager, plane.Simulator, plane.CoreManager, plane.ControlPlaneManager, plane.BootstrapManager} {
		log := d.plane.Layout().Log(program)
		_, _ = fmt.Fprintf(out, "\n--- last lines of %s\n%s\n", log, plane.Tail(log, diagnoseLogLines))
	}
}

// writeConditions shows every condition of everything that belongs to a cluster.
func writeConditions(out io.Writer, s *state) {
	if s.cluster != nil {
		writeObjectConditions(out, "Cluster", s.cluster.Name, s.cluster.Status.Conditions)
	}
	if s.infrastructure != nil {
		writeObjectConditions(out, "SendanCluster", s.infrastructure.Name, s.infrastructure.Status.Conditions)
	}
	for _, controlPlane := range s.controlPlanes {
		writeObjectConditions(out, "KubeadmControlPlane", controlPlane.Name, controlPlane.Status.Conditions)
	}
	for _, pool := range s.pools {
		writeObjectConditions(out, "MachineDeployment", pool.Name, pool.Status.Conditions)
	}
	for _, machine := range s.machines {
		writeObjectConditions(out, "Machine", machine.Name, machine.Status.Conditions)
	}
	for _, name := range slices.Sorted(maps.Keys(s.servers)) {
		server := s.servers[name]
		writeObjectConditions(out, "SendanMachine", name+" ("+string(server.Status.Phase)+", server "+orDash(server.Status.Server.State)+")", server.Status.Conditions)
	}
}

func writeObjectConditions(out io.Writer, kind, name string, conditions []metav1.Condition) {
	_, _ = fmt.Fprintf(out, "\n%s %s\n", kind, name)
	for _, condition := range conditions {
		_, _ = fmt.Fprintf(out, "  %-28s %-8s %-32s %s\n", condition.Type, condition.Status, condition.Reason, oneLine(condition.Message))
	}
}
