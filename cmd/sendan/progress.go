package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// progress is what a person sees while a cluster comes up.
type progress struct {
	elapsed  time.Duration
	calls    int
	cluster  string
	endpoint string
	// doing is what happens now, or what it waits for.
	doing    string
	machines []machineProgress
}

// machineProgress is one line.
type machineProgress struct {
	name, role, state, flavor, zone, address string
	// detail says why it is not ready yet.
	detail string
}

// States of a machine beyond the phases of a SendanMachine.
const (
	stateReady    = "Ready"
	stateJoining  = "Joining"
	stateDeleting = "Deleting"
)

func newProgress(s *state, elapsed time.Duration, calls int) progress {
	p := progress{elapsed: elapsed, calls: calls, doing: "gone"}
	if s.cluster == nil {
		return p
	}
	p.cluster = s.cluster.Namespace + "/" + s.cluster.Name
	p.doing = doing(s)
	if endpoint := s.cluster.Spec.ControlPlaneEndpoint; endpoint.IsValid() {
		p.endpoint = "https://" + endpoint.String()
	}
	for _, machine := range s.machines {
		p.machines = append(p.machines, newMachineProgress(machine, s.servers))
	}
	return p
}

// doing prefers the infrastructure's own words: they name what the cloud is busy with.
func doing(s *state) string {
	if s.unready() == nil {
		return "ready"
	}
	if s.infrastructure != nil {
		ready := meta.FindStatusCondition(s.infrastructure.Status.Conditions, infrav1.ReadyCondition)
		if ready != nil && ready.Status != metav1.ConditionTrue {
			return oneLine(ready.Message)
		}
	}
	return fmt.Sprintf("%d of %d machines are ready", s.readyMachines(), s.wantedMachines())
}

func newMachineProgress(machine clusterv1.Machine, servers map[string]infrav1.SendanMachine) machineProgress {
	server := servers[machine.Spec.InfrastructureRef.Name]
	p := machineProgress{
		name:   machine.Name,
		role:   "worker",
		state:  string(server.Status.Phase),
		flavor: server.Spec.Flavor,
		zone:   server.Status.Server.Zone,
	}
	if isControlPlane(machine) {
		p.role = "control plane"
	}
	for _, address := range server.Status.Addresses {
		if address.Type == clusterv1.MachineInternalIP && p.address == "" {
			p.address = address.Address
		}
	}
	ready := meta.FindStatusCondition(server.Status.Conditions, infrav1.ReadyCondition)
	switch {
	case !machine.DeletionTimestamp.IsZero():
		p.state = stateDeleting
	case meta.IsStatusConditionTrue(machine.Status.Conditions, clusterv1.MachineReadyCondition):
		p.state = stateReady
	case server.Status.Phase == infrav1.PhaseRunning:
		p.state = stateJoining
	case ready != nil && ready.Status != metav1.ConditionTrue:
		p.detail = oneLine(ready.Message)
	}
	if p.state == "" {
		p.state = string(infrav1.PhasePending)
	}
	return p
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// String is the whole picture, for a terminal.
func (p progress) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s  %s  %s\n", clockText(p.elapsed), p.cluster, p.doing)
	fmt.Fprintf(&text, "      API server %s, %d calls to the cloud\n\n", orDash(p.endpoint), p.calls)
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "  MACHINE\tROLE\tSTATE\tFLAVOR\tZONE\tADDRESS\tDETAIL")
	for _, m := range p.machines {
		_, _ = fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.name, m.role, m.state, orDash(m.flavor), orDash(m.zone), orDash(m.address), m.detail)
	}
	_ = table.Flush()
	return trimLines(text.String())
}

// trimLines drops the blanks that fill up a table's last column.
func trimLines(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

func clockText(d time.Duration) string {
	seconds := int(d.Seconds())
	return fmt.Sprintf("%d:%02d", seconds/60, seconds%60)
}

// progressWriter shows progress as it changes.
type progressWriter interface {
	show(progress)
}

// screen redraws one picture on a terminal.
type screen struct {
	out   io.Writer
	width func() int
	lines int
}

func (s *screen) show(p progress) {
	picture := cut(p.String(), s.width())
	if s.lines > 0 {
		// Up to where the last picture began, and clear from there.
		picture = fmt.Sprintf("\x1b[%dA\x1b[J%s", s.lines, picture)
	}
	s.lines = strings.Count(picture, "\n")
	_, _ = io.WriteString(s.out, picture)
}

// cut shortens every line to width, since a wrapped line would break the redrawing.
func cut(picture string, width int) string {
	if width <= 0 {
		return picture
	}
	lines := strings.SplitAfter(picture, "\n")
	for i, line := range lines {
		text := []rune(strings.TrimSuffix(line, "\n"))
		if len(text) > width {
			lines[i] = string(text[:width-1]) + "…\n"
		}
	}
	return strings.Join(lines, "")
}

// journal writes a line for each change, for logs and pipes.
type journal struct {
	out  io.Writer
	last map[string]string
}

func newJournal(out io.Writer) *journal { return &journal{out: out, last: map[string]string{}} }

func (j *journal) show(p progress) {
	now := map[string]string{}
	j.note(now, p.elapsed, "cluster "+p.cluster, p.doing)
	for _, m := range p.machines {
		text := m.state
		if m.detail != "" {
			text += ": " + m.detail
		}
		j.note(now, p.elapsed, m.name, text)
	}
	for name := range j.last {
		if _, there := now[name]; !there && p.cluster != "" {
			_, _ = fmt.Fprintf(j.out, "  %s  %s  gone\n", clockText(p.elapsed), name)
		}
	}
	j.last = now
}

func (j *journal) note(now map[string]string, elapsed time.Duration, name, text string) {
	now[name] = text
	if j.last[name] != text {
		_, _ = fmt.Fprintf(j.out, "  %s  %s  %s\n", clockText(elapsed), name, text)
	}
}
