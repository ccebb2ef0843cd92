package members

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// story is one cluster, as Cluster API would tell of it, and what Plan made of it so far.
type story struct {
	in     Input
	status fleetv1.FleetMemberStatus
}

// newStory is a cluster with a pool of GPUs that was applied a moment ago.
func newStory() *story {
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ml-team", Name: "training",
		Labels: map[string]string{fleetv1.SiteLabel: "osaka", fleetv1.ReleaseLabel: "2026-10"},
	}}
	cluster.Spec.Topology.Version = "v1.35.6"
	cluster.Spec.Topology.ControlPlane.Replicas = ptr.To[int32](3)
	cluster.Spec.Topology.Workers.MachineDeployments = []clusterv1.MachineDeploymentTopology{
		{Name: "gpu", Class: "a100-mig", Replicas: ptr.To[int32](8)},
	}
	return &story{in: Input{
		Cluster: cluster, Tenant: "ml-team", ReleasePhase: fleetv1.ReleaseSupported,
		Now: time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC),
	}}
}

// workingStory is that cluster after all has come up.
func workingStory() *story {
	s := newStory()
	s.plan()
	s.comeUp()
	s.plan()
	return s
}

func (s *story) plan() fleetv1.FleetMemberStatus {
	s.in.Before = s.status
	s.status = Plan(s.in)
	return s.status
}

func (s *story) set(object conditions.Setter, conditionType string, status metav1.ConditionStatus, reason, message string) {
	conditions.Set(object, metav1.Condition{Type: conditionType, Status: status, Reason: reason, Message: message})
}

func (s *story) cluster(conditionType string, status metav1.ConditionStatus, message string) {
	s.set(s.in.Cluster, conditionType, status, "Because", message)
}

func (s *story) controlPlaneComesUp() {
	cluster := s.in.Cluster
	cluster.Spec.InfrastructureRef.Kind = "SendanCluster"
	cluster.Status.Initialization.ControlPlaneInitialized = ptr.To(true)
	cluster.Status.ControlPlane = &clusterv1.ClusterControlPlaneStatus{
		DesiredReplicas: ptr.To[int32](3), ReadyReplicas: ptr.To[int32](3),
		Versions: []clusterv1.StatusVersion{{Version: "v1.35.6", Replicas: 3}},
	}
	s.cluster(clusterv1.ClusterInfrastructureReadyCondition, metav1.ConditionTrue, "")
	s.cluster(clusterv1.ClusterControlPlaneAvailableCondition, metav1.ConditionTrue, "")
	s.cluster(clusterv1.ClusterRemoteConnectionProbeCondition, metav1.ConditionTrue, "")
}

func (s *story) poolIsMade(ready int32) {
	made := clusterv1.MachineDeployment{ObjectMeta: metav1.ObjectMeta{
		Namespace: "ml-team", Name: "training-gpu-x7k2p",
		Labels: map[string]string{clusterv1.ClusterTopologyMachineDeploymentNameLabel: "gpu", fleetv1.NodeTemplateLabel: "a100-mig"},
	}}
	made.Spec.Replicas = ptr.To[int32](8)
	made.Status.ReadyReplicas = ptr.To(ready)
	s.in.MachineDeployments = []clusterv1.MachineDeployment{made}
}

func (s *story) comeUp() {
	s.controlPlaneComesUp()
	s.poolIsMade(8)
}

func (s *story) pool() *clusterv1.MachineDeployment { return &s.in.MachineDeployments[0] }

// short adds a machine of the pool whose node lacks devices.
func (s *story) short(node, message string) {
	machine := clusterv1.Machine{ObjectMeta: metav1.ObjectMeta{
		Name: "training-" + node, Labels: map[string]string{clusterv1.MachineDeploymentNameLabel: s.pool().Name},
	}}
	machine.Status.NodeRef.Name = node
	s.set(&machine, fleetv1.DevicesReadyCondition, metav1.ConditionFalse, fleetv1.DeviceShortReason, message)
	s.in.Machines = append(s.in.Machines, machine)
}

func TestHealthIsWhatTheClusterCanDo(t *testing.T) {
	for _, test := range []struct {
		name     string
		happened func(*story)
		health   fleetv1.FleetMemberHealth
		reason   string
		message  string
	}{
		{"a cluster that has everything is healthy", func(*story) {}, fleetv1.HealthHealthy, fleetv1.AvailableReason, ""},
		{"a node that is lost degrades it, and the message says which pool", func(s *story) {
			s.pool().Status.ReadyReplicas = ptr.To[int32](7)
			s.set(s.pool(), clusterv1.MachineDeploymentMachinesReadyCondition, metav1.ConditionFalse, "NotReady",
				"* Machine training-gpu-3:\n  * NodeReady: kubelet stopped posting node status")
		}, fleetv1.HealthDegraded, fleetv1.NotReadyReason,
			"10 of 11 nodes are ready: pool gpu has 7 of 8: Machine training-gpu-3: NodeReady: kubelet stopped posting node status"},
		{"a node without its devices is named before what follows from it", func(s *story) {
			s.pool().Status.ReadyReplicas = ptr.To[int32](7)
			s.set(s.pool(), clusterv1.MachineDeploymentMachinesReadyCondition, metav1.ConditionFalse, "NotReady", "* Machine x: not ready")
			s.short("gpu-3", "promised 8 nvidia.com/gpu, found 7")
		}, fleetv1.HealthDegraded, fleetv1.NotReadyReason,
			"10 of 11 nodes are ready: pool gpu has 7 of 8: node gpu-3: promised 8 nvidia.com/gpu, found 7"},
		{"a pool in the queue for GPUs says so first", func(s *story) {
			s.pool().Status.ReadyReplicas = ptr.To[int32](6)
			s.short("gpu-3", "promised 8 nvidia.com/gpu, found 7")
			s.set(s.pool(), fleetv1.CapacityAvailableCondition, metav1.ConditionFalse, "Queued", "2nd in the queue for A100-40GB in osaka")
		}, fleetv1.HealthDegraded, fleetv1.NotReadyReason,
			"9 of 11 nodes are ready: pool gpu has 6 of 8: 2nd in the queue for A100-40GB in osaka"},
		{"an API server that does not answer hides what was known before", func(s *story) {
			s.pool().Status.ReadyReplicas = ptr.To[int32](0)
			s.cluster(clusterv1.ClusterRemoteConnectionProbeCondition, metav1.ConditionFalse, "Remote connection probe failed")
		}, fleetv1.HealthUnreachable, fleetv1.UnreachableReason,
			"the API server does not answer: Remote connection probe failed; look at the control-plane machines and the load balancer"},
		{"a failed add-on degrades it, and comes before one that is waited for", func(s *story) {
			s.status.Addons = []fleetv1.MemberAddon{
				{Name: "csi", Phase: fleetv1.AddonProgressing}, {Name: "cni", Phase: fleetv1.AddonFailed, Message: "image not found"},
				{Name: "dns", Phase: fleetv1.AddonSuspended},
			}
		}, fleetv1.HealthDegraded, fleetv1.NotReadyReason, "add-on cni is Failed: image not found, add-on csi is Progressing"},
		{"a topology that cannot be carried out degrades it although all runs", func(s *story) {
			s.set(s.in.Cluster, clusterv1.ClusterTopologyReconciledCondition, metav1.ConditionFalse, clusterv1.ClusterTopologyReconciledFailedReason, "class a100 not found")
		}, fleetv1.HealthDegraded, fleetv1.NotReadyReason, "the Cluster's topology cannot be carried out: class a100 not found"},
		{"an upgrade that takes its time does not", func(s *story) {
			s.set(s.in.Cluster, clusterv1.ClusterTopologyReconciledCondition, metav1.ConditionFalse, clusterv1.ClusterTopologyReconciledClusterUpgradingReason, "upgrading")
		}, fleetv1.HealthHealthy, fleetv1.AvailableReason, ""},
		{"a cluster that is deleted goes away, whatever else is wrong", func(s *story) {
			s.in.Cluster.DeletionTimestamp = &metav1.Time{Time: s.in.Now}
			s.cluster(clusterv1.ClusterRemoteConnectionProbeCondition, metav1.ConditionFalse, "")
			s.cluster(clusterv1.ClusterDeletingCondition, metav1.ConditionTrue, "* Worker Machines: training-gpu-1")
		}, fleetv1.HealthDeleting, fleetv1.DeletingReason, "Worker Machines: training-gpu-1"},
		{"a status that was lost is not taken for a cluster that never was ready", func(s *story) {
			s.pool().Status.ReadyReplicas = ptr.To[int32](7)
			s.status = fleetv1.FleetMemberStatus{}
		}, fleetv1.HealthDegraded, fleetv1.NotReadyReason, "10 of 11 nodes are ready: pool gpu has 7 of 8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := workingStory()
			test.happened(s)
			status := s.plan()
			ready := meta.FindStatusCondition(status.Conditions, fleetv1.ReadyCondition)
			if status.Health != test.health || ready.Reason != test.reason || ready.Message != test.message {
				t.Errorf("is %s, %s: %q\nwant %s, %s: %q", status.Health, ready.Reason, ready.Message, test.health, test.reason, test.message)
			}
			if (ready.Status == metav1.ConditionTrue) != (test.health == fleetv1.HealthHealthy) {
				t.Errorf("Ready is %s", ready.Status)
			}
		})
	}
}

func TestAClusterTellsWhatItIsMadeOf(t *testing.T) {
	s := workingStory()
	// Half of the control plane has been replaced.
	s.in.Cluster.Status.ControlPlane.Versions = []clusterv1.StatusVersion{{Version: "v1.36.0", Replicas: 1}, {Version: "v1.35.10", Replicas: 2}}
	status := s.plan()
	for what, pair := range map[string][2]any{
		"tenant":            {status.Tenant, "ml-team"},
		"site":              {status.Site, "osaka"},
		"release":           {status.Release, "2026-10"},
		"phase":             {status.ReleasePhase, fleetv1.ReleaseSupported},
		"version":           {status.KubernetesVersion, "v1.35.10"},
		"infrastructure":    {status.Infrastructure, "SendanCluster"},
		"nodes":             {status.Nodes, fleetv1.NodeCounts{Desired: 11, Ready: 11, Text: "11/11"}},
		"pool":              {status.Pools[0].Name, "gpu"},
		"pool's template":   {status.Pools[0].NodeTemplate, "a100-mig"},
		"nodes of the pool": {status.Pools[0].Nodes, fleetv1.NodeCounts{Desired: 8, Ready: 8, Text: "8/8"}},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %v, want %v", what, pair[0], pair[1])
		}
	}
}

func TestPoolsOfEveryKindOfClusterAreCounted(t *testing.T) {
	s := newStory()
	if status := s.plan(); status.Nodes.Text != "0/11" || status.Pools[0].NodeTemplate != "a100-mig" {
		t.Errorf("before anything is made there are %s nodes and the pool %+v", status.Nodes.Text, status.Pools[0])
	}

	// Without a topology, with a MachinePool that only Cluster API's total tells of.
	s = newStory()
	s.comeUp()
	s.in.Cluster.Spec.Topology = clusterv1.Topology{}
	s.pool().Labels = nil
	s.in.Cluster.Status.Workers = &clusterv1.WorkersStatus{DesiredReplicas: ptr.To[int32](10), ReadyReplicas: ptr.To[int32](9)}
	status := s.plan()
	if status.Nodes.Text != "12/13" || status.Pools[0].Name != "training-gpu-x7k2p" {
		t.Errorf("there are %s nodes and the pool %+v", status.Nodes.Text, status.Pools[0])
	}

	// A pool that was taken out of the topology does not miss nodes while it goes.
	s = workingStory()
	s.in.Cluster.Spec.Topology.Workers.MachineDeployments = nil
	s.pool().DeletionTimestamp = &metav1.Time{Time: s.in.Now}
	s.pool().Status.ReadyReplicas = ptr.To[int32](2)
	if status := s.plan(); status.Health != fleetv1.HealthHealthy || status.Pools[0].Nodes.Text != "2/0" {
		t.Errorf("is %s with the pool %+v", status.Health, status.Pools[0])
	}
}

func TestMoreThanTheAPITakesIsCut(t *testing.T) {
	s := workingStory()
	long := strings.Repeat("ü", 5000)
	for i := range 300 {
		s.in.Cluster.Spec.Topology.Workers.MachineDeployments = append(s.in.Cluster.Spec.Topology.Workers.MachineDeployments,
			clusterv1.MachineDeploymentTopology{Name: fmt.Sprintf("pool-%03d", i), Class: long, Replicas: ptr.To[int32](1)})
	}
	s.set(s.pool(), clusterv1.MachineDeploymentMachinesReadyCondition, metav1.ConditionFalse, "NotReady", long)
	s.in.Cluster.Spec.Topology.Version = "v" + long
	s.in.Cluster.Status.ControlPlane.Versions = nil
	status := s.plan()
	ready := meta.FindStatusCondition(status.Conditions, fleetv1.ReadyCondition)
	for what, lengths := range map[string][2]int{
		"pools":      {len(status.Pools), maxPools},
		"message":    {utf8.RuneCountInString(status.Pools[0].Message), maxMessage},
		"summary":    {utf8.RuneCountInString(ready.Message), maxMessage},
		"template":   {utf8.RuneCountInString(status.Pools[1].NodeTemplate), maxName},
		"version":    {utf8.RuneCountInString(status.KubernetesVersion), maxName},
		"operations": {len(status.Operations), maxOperations},
	} {
		if lengths[0] != lengths[1] {
			t.Errorf("%s: %d, want %d", what, lengths[0], lengths[1])
		}
	}
}

func TestWhatIsSettledStaysAsItIs(t *testing.T) {
	s := workingStory()
	s.status.Addons = []fleetv1.MemberAddon{{Name: "cni", Phase: fleetv1.AddonHealthy}}
	s.status.Conditions = append(s.status.Conditions, metav1.Condition{Type: "SomebodyElses", Status: metav1.ConditionTrue, Reason: "Known"})
	before := *s.status.DeepCopy()
	s.in.Now = s.in.Now.Add(time.Hour)
	if after := s.plan(); !equality.Semantic.DeepEqual(before, after) {
		t.Errorf("was\n%+v\nis\n%+v", before, after)
	}
}

// TestOperationsAreToldOnceWhateverComesBetween changes a cluster at random, plans several times after each change, and
// loses the status now and then.
func TestOperationsAreToldOnceWhateverComesBetween(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	s := workingStory()
	var told []string // latest first
	replicas, version := int32(8), 6
	for step := range 500 {
		s.in.Now = s.in.Now.Add(time.Minute)
		switch random.IntN(5) {
		case 0:
			before := replicas
			replicas = random.Int32N(20)
			s.in.Cluster.Spec.Topology.Workers.MachineDeployments[0].Replicas = ptr.To(replicas)
			if replicas != before {
				told = append([]string{fmt.Sprintf("pool gpu scaled from %d to %d nodes", before, replicas)}, told...)
			}
		case 1:
			version++
			s.in.Cluster.Status.ControlPlane.Versions = []clusterv1.StatusVersion{{Version: fmt.Sprintf("v1.35.%d", version)}}
			told = append([]string{fmt.Sprintf("control plane changed from Kubernetes v1.35.%d to v1.35.%d", version-1, version)}, told...)
		case 2:
			s.pool().Status.ReadyReplicas = ptr.To(random.Int32N(20))
		case 3:
			s.cluster(clusterv1.ClusterRemoteConnectionProbeCondition, []metav1.ConditionStatus{metav1.ConditionTrue, metav1.ConditionFalse}[random.IntN(2)], "probe")
		case 4:
			if random.IntN(10) == 0 {
				s.status, told = fleetv1.FleetMemberStatus{}, nil
			}
		}
		for range 1 + random.IntN(3) {
			s.plan()
		}
		told = told[:min(len(told), maxOperations)]
		var got []string
		for _, operation := range s.status.Operations {
			got = append(got, operation.Description)
		}
		if !slices.Equal(got, told) {
			t.Fatalf("seed %d, step %d: operations are\n%q\nwant\n%q", seed, step, got, told)
		}
	}
}

func BenchmarkPlanOfAFleet(b *testing.B) {
	const clusters = 1500
	s := workingStory()
	for i := range 3 {
		made := *s.pool().DeepCopy()
		made.Name = fmt.Sprintf("training-pool-%d", i)
		made.Labels[clusterv1.ClusterTopologyMachineDeploymentNameLabel] = fmt.Sprintf("pool-%d", i)
		s.in.MachineDeployments = append(s.in.MachineDeployments, made)
	}
	s.short("gpu-3", "promised 8 nvidia.com/gpu, found 7")
	s.plan()
	s.in.Before = s.status
	b.ReportAllocs()
	for b.Loop() {
		for range clusters {
			if status := Plan(s.in); !equality.Semantic.DeepEqual(status, s.in.Before) {
				b.Fatal("a settled cluster was to be written")
			}
		}
	}
}
