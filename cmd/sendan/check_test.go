package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func TestVerdictIsOneLineThatAProgramCanRead(t *testing.T) {
	for _, c := range []struct {
		verdict verdict
		want    string
	}{
		{verdict{readyAfter: 47600 * time.Millisecond, calls: 93}, "demo: PASS ready=48 calls=93 objects_left=0"},
		{verdict{readyAfter: time.Minute, calls: 140, kills: 10}, "demo: PASS ready=60 calls=140 kills=10 objects_left=0"},
		{verdict{err: errors.New("delete: gave up after 8m0s: the cloud still has 1 ports\nlog: …")}, "demo: FAIL delete: gave up after 8m0s: the cloud still has 1 ports"},
	} {
		if got := c.verdict.String(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestWaitingGivesUpWithWhatWasMissingLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		err := waitUntil(t.Context(), clockwork.NewRealClock(), 10*time.Second, func(context.Context) error {
			asked++
			return errors.New("the door is closed")
		})
		if err == nil || err.Error() != "gave up after 10s: the door is closed" {
			t.Errorf("error is %v", err)
		}
		if asked < 15 || asked > 21 {
			t.Errorf("asked %d times in 10 s", asked)
		}
	})
}

func TestWaitingEndsAsSoonAsNothingIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		started, asked := time.Now(), 0
		err := waitUntil(t.Context(), clockwork.NewRealClock(), time.Hour, func(context.Context) error {
			if asked++; asked < 4 {
				return errors.New("not yet")
			}
			return nil
		})
		if err != nil || time.Since(started) > 2*time.Second {
			t.Errorf("got %v after %s", err, time.Since(started))
		}
	})
}

func TestAClusterIsReadyOnlyWhenEverythingIs(t *testing.T) {
	if err := readyCluster().unready(); err != nil {
		t.Fatalf("a ready cluster is called unready: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*state)
		want   string
	}{
		"no Cluster":                        {func(s *state) { s.cluster = nil }, "the Cluster is not there"},
		"not available":                     {func(s *state) { s.cluster.Status.Conditions[0].Status = metav1.ConditionFalse }, "not Available yet: Because: so it is"},
		"control plane not complete":        {func(s *state) { s.controlPlanes[0].Status.Replicas = new(int32) }, "KubeadmControlPlane cp has 0 replicas"},
		"pool out of date":                  {func(s *state) { s.pools[0].Status.UpToDateReplicas = new(int32) }, "0 up to date"},
		"pool change not seen":              {func(s *state) { s.pools[0].Generation = 7 }, "has not been seen yet"},
		"a machine is still being deleted":  {func(s *state) { s.machines[1].Status.Phase = "Deleting" }, "machine worker is Deleting"},
		"a server without a Machine stayed": {func(s *state) { s.servers["orphan"] = infrav1.SendanMachine{} }, "2 Machines and 3 SendanMachines, there should be 2"},
	} {
		t.Run(name, func(t *testing.T) {
			s := readyCluster()
			c.change(s)
			if err := s.unready(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestNodesAreReadyOnlyInTheRightNumber(t *testing.T) {
	ready, silent := node(corev1.ConditionTrue), node(corev1.ConditionUnknown)
	if err := nodesUnready([]corev1.Node{ready, ready}, 2); err != nil {
		t.Error(err)
	}
	for _, nodes := range [][]corev1.Node{{ready}, {ready, ready, ready}, {ready, silent}} {
		if nodesUnready(nodes, 2) == nil {
			t.Errorf("%d nodes were accepted as two ready ones", len(nodes))
		}
	}
}

func TestTheDemosManifestsNameASecretButHoldNone(t *testing.T) {
	c := demoTenant(t)
	identity, err := c.identity()
	if err != nil || identity == "" {
		t.Fatalf("identity %q, %v", identity, err)
	}
	for _, object := range c.manifests {
		if object.GetNamespace() != "somewhere" {
			t.Errorf("%s %s is in namespace %q", object.GetKind(), object.GetName(), object.GetNamespace())
		}
		if object.GetKind() == "Secret" {
			t.Error("there is a Secret in the manifests")
		}
	}
}

func readyCluster() *state {
	one := int32(1)
	s := &state{cluster: &clusterv1.Cluster{}, servers: map[string]infrav1.SendanMachine{"cp": {}, "worker": {}}}
	s.cluster.Status.Conditions = []metav1.Condition{{Type: clusterv1.ClusterAvailableCondition, Status: metav1.ConditionTrue, Reason: "Because", Message: "so it is"}}

	controlPlane := controlplanev1.KubeadmControlPlane{}
	controlPlane.Name, controlPlane.Spec.Replicas = "cp", &one
	controlPlane.Status.Replicas, controlPlane.Status.UpToDateReplicas, controlPlane.Status.AvailableReplicas = &one, &one, &one
	s.controlPlanes = []controlplanev1.KubeadmControlPlane{controlPlane}

	pool := clusterv1.MachineDeployment{}
	pool.Name, pool.Spec.Replicas = "gpu", &one
	pool.Status.Replicas, pool.Status.UpToDateReplicas, pool.Status.AvailableReplicas = &one, &one, &one
	s.pools = []clusterv1.MachineDeployment{pool}

	for _, name := range []string{"cp", "worker"} {
		machine := clusterv1.Machine{}
		machine.Name, machine.Status.Phase = name, string(clusterv1.MachinePhaseRunning)
		s.machines = append(s.machines, machine)
	}
	return s
}

func node(ready corev1.ConditionStatus) corev1.Node {
	n := corev1.Node{}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	return n
}
