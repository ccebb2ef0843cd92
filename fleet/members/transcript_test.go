package members

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files of transcripts anew")

// TestTheLifeOfACluster tells what an operator reads in the FleetMember, from the first minute to the last.
func TestTheLifeOfACluster(t *testing.T) {
	s := newStory()
	began := s.in.Now
	lines := []string{"# the life of a cluster"}
	told := map[string]string{}
	after := func(minutes int, what string, happens func()) {
		s.in.Now = s.in.Now.Add(time.Duration(minutes) * time.Minute)
		at := fmt.Sprintf("%02d:%02d", int(s.in.Now.Sub(began).Hours()), int(s.in.Now.Sub(began).Minutes())%60)
		lines = append(lines, at+" ~ "+what)
		happens()
		operations := len(s.status.Operations)
		status := s.plan()
		tell := func(subject, text string) {
			if told[subject] != text {
				told[subject] = text
				lines = append(lines, at+"   "+subject+" "+text)
			}
		}
		ready := meta.FindStatusCondition(status.Conditions, fleetv1.ReadyCondition)
		tell("is", strings.TrimSuffix(string(status.Health)+": "+ready.Message, ": "))
		for _, condition := range status.Conditions {
			if condition.Type != fleetv1.ReadyCondition {
				tell(condition.Type, string(condition.Status))
			}
		}
		for _, pool := range status.Pools {
			tell("pool "+pool.Name, strings.TrimSuffix(pool.Nodes.Text+": "+pool.Message, ": "))
		}
		tell("Kubernetes", status.KubernetesVersion)
		for i := len(status.Operations) - operations - 1; i >= 0; i-- {
			lines = append(lines, at+"   operation: "+status.Operations[i].Description)
		}
	}
	cluster := s.in.Cluster
	pending, healthy := fleetv1.MemberAddon{Name: "cni", Phase: fleetv1.AddonPending}, fleetv1.MemberAddon{Name: "cni", Phase: fleetv1.AddonHealthy}

	after(0, "the Cluster is applied", func() {})
	after(1, "network and load balancer are made", func() {
		s.cluster(clusterv1.ClusterInfrastructureReadyCondition, metav1.ConditionFalse, "waiting for the load balancer to be ACTIVE")
		s.cluster(clusterv1.ClusterControlPlaneAvailableCondition, metav1.ConditionFalse, "Control plane not yet initialized")
	})
	after(2, "control-plane machines boot", func() {
		cluster.Spec.InfrastructureRef.Kind = "SendanCluster"
		s.cluster(clusterv1.ClusterInfrastructureReadyCondition, metav1.ConditionTrue, "")
	})
	after(3, "the control plane is up", func() {
		s.controlPlaneComesUp()
		s.status.Addons = []fleetv1.MemberAddon{pending}
	})
	after(1, "the pool's machines boot", func() { s.poolIsMade(0) })
	after(4, "nodes join and wait for their devices", func() { s.short("gpu-1", "waiting for devices: 0 of 56 nvidia.com/mig-1g.5gb") })
	after(3, "the devices are there", func() {
		s.in.Machines = nil
		s.poolIsMade(8)
		s.status.Addons = []fleetv1.MemberAddon{healthy}
	})
	after(5*60, "a GPU falls off the bus", func() {
		s.pool().Status.ReadyReplicas = ptr.To[int32](7)
		s.short("gpu-7", "promised 56 nvidia.com/mig-1g.5gb, found 49")
	})
	after(9, "the machine was replaced", func() { s.in.Machines = nil; s.poolIsMade(8) })
	after(60, "the user scales the pool", func() {
		cluster.Spec.Topology.Workers.MachineDeployments[0].Replicas = ptr.To[int32](10)
		s.pool().Spec.Replicas = ptr.To[int32](10)
		s.set(s.pool(), fleetv1.CapacityAvailableCondition, metav1.ConditionFalse, "Queued", "2nd in the queue for A100-40GB in osaka")
	})
	after(30, "GPUs have become free", func() {
		s.poolIsMade(10)
		s.pool().Spec.Replicas = ptr.To[int32](10)
	})
	after(60, "the load balancer fails", func() {
		s.cluster(clusterv1.ClusterRemoteConnectionProbeCondition, metav1.ConditionFalse, "Remote connection probe failed, probe last succeeded at 2026-11-02T16:53:00Z")
	})
	after(4, "the load balancer is back", func() { s.cluster(clusterv1.ClusterRemoteConnectionProbeCondition, metav1.ConditionTrue, "") })
	after(60, "the Cluster is given the next release", func() { cluster.Labels[fleetv1.ReleaseLabel] = "2026-11" })
	after(40, "the control plane was replaced", func() {
		cluster.Status.ControlPlane.Versions = []clusterv1.StatusVersion{{Version: "v1.36.3", Replicas: 3}}
	})
	after(30*60, "the Cluster is deleted", func() {
		cluster.DeletionTimestamp = &metav1.Time{Time: s.in.Now}
		s.cluster(clusterv1.ClusterDeletingCondition, metav1.ConditionTrue, "* Worker Machines: training-gpu-1, training-gpu-2 and 8 more")
	})
	after(3, "its workers are gone", func() {
		s.in.MachineDeployments = nil
		s.cluster(clusterv1.ClusterDeletingCondition, metav1.ConditionTrue, "* Control plane Machines: training-x7k2p")
	})

	golden := filepath.Join("testdata", "life.golden")
	got := strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the story is\n%s\nwant that of %s; with -update it is written anew", got, golden)
	}
}
