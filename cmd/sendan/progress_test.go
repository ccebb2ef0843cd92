package main

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func TestProgressShowsEveryMachineOnItsWay(t *testing.T) {
	s := clusterOnItsWay()
	golden(t, "progress.golden", newProgress(s, 83*time.Second, 41).String())
}

func TestJournalSaysOnlyWhatChanged(t *testing.T) {
	var out bytes.Buffer
	j := newJournal(&out)
	s := clusterOnItsWay()
	j.show(newProgress(s, 10*time.Second, 1))
	j.show(newProgress(s, 11*time.Second, 2))
	s.machines[1].Status.Conditions = []metav1.Condition{{Type: clusterv1.MachineReadyCondition, Status: metav1.ConditionTrue}}
	j.show(newProgress(s, 12*time.Second, 3))
	s.machines = s.machines[:3]
	j.show(newProgress(s, 13*time.Second, 3))
	golden(t, "journal.golden", out.String())
}

func TestScreenRedrawsOverTheLastPicture(t *testing.T) {
	var out bytes.Buffer
	s := &screen{out: &out, width: func() int { return 40 }}
	p := newProgress(clusterOnItsWay(), time.Second, 1)
	s.show(p)
	first := out.String()
	for line := range strings.Lines(first) {
		if width := len([]rune(strings.TrimSuffix(line, "\n"))); width > 40 {
			t.Errorf("a line is %d wide: %q", width, line)
		}
	}
	out.Reset()
	s.show(p)
	if want := "\x1b[8A\x1b[J" + first; out.String() != want {
		t.Errorf("second picture is %q, want %q", out.String(), want)
	}
}

// clusterOnItsWay has a machine in each stage.
func clusterOnItsWay() *state {
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "demo"}}
	cluster.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "127.64.0.20", Port: 6443}
	s := &state{cluster: cluster, servers: map[string]infrav1.SendanMachine{}}
	s.infrastructure = &infrav1.SendanCluster{}
	s.infrastructure.Status.Conditions = []metav1.Condition{{Type: infrav1.ReadyCondition, Status: metav1.ConditionTrue}}

	s.add(machineOn("demo-control-plane-a", serverIn("m1.medium", infrav1.PhaseRunning, "az1", "10.6.0.11")).controlPlane().ready())
	s.add(machineOn("demo-control-plane-b", serverIn("m1.medium", infrav1.PhaseRunning, "az2", "10.6.0.12")).controlPlane())
	s.add(machineOn("demo-gpu-a", serverIn("g1.a100.8", infrav1.PhaseBuilding, "", "").waiting("Nova is building\nserver demo-gpu-a")))
	s.add(machineOn("demo-gpu-b", serverBuilder{}))
	three, two := int32(3), int32(2)
	s.controlPlanes = []controlplanev1.KubeadmControlPlane{{Spec: controlplanev1.KubeadmControlPlaneSpec{Replicas: &three}}}
	s.pools = []clusterv1.MachineDeployment{{Spec: clusterv1.MachineDeploymentSpec{Replicas: &two}}}
	return s
}

type machineBuilder struct {
	clusterv1.Machine
	server serverBuilder
}

type serverBuilder struct{ infrav1.SendanMachine }

func (s *state) add(m *machineBuilder) {
	s.machines = append(s.machines, m.Machine)
	s.servers[m.Name] = m.server.SendanMachine
}

func machineOn(name string, server serverBuilder) *machineBuilder {
	m := &machineBuilder{server: server}
	m.Name, m.Labels = name, map[string]string{}
	m.Spec.InfrastructureRef.Name = name
	return m
}

func (m *machineBuilder) controlPlane() *machineBuilder {
	m.Labels[clusterv1.MachineControlPlaneLabel] = ""
	return m
}

func (m *machineBuilder) ready() *machineBuilder {
	m.Status.Conditions = []metav1.Condition{{Type: clusterv1.MachineReadyCondition, Status: metav1.ConditionTrue}}
	return m
}

func serverIn(flavor string, phase infrav1.MachinePhase, zone, address string) serverBuilder {
	var m serverBuilder
	m.Spec.Flavor, m.Status.Phase, m.Status.Server.Zone = flavor, phase, zone
	if address != "" {
		m.Status.Addresses = []clusterv1.MachineAddress{{Type: clusterv1.MachineInternalIP, Address: address}}
	}
	return m
}

func (m serverBuilder) waiting(message string) serverBuilder {
	m.Status.Conditions = []metav1.Condition{{Type: infrav1.ReadyCondition, Status: metav1.ConditionFalse, Message: message}}
	return m
}

// update rewrites golden files: go test ./cmd/sendan -update
func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite golden files")
	os.Exit(m.Run())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if update() {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; got:\n%s\nwant:\n%s", name, got, want)
	}
}
