package tenancy

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"

	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func charged(charge fleetv1.NodeCharge) clusterv1.ObjectMeta {
	text, err := json.Marshal(charge)
	if err != nil {
		panic(err)
	}
	return clusterv1.ObjectMeta{Annotations: map[string]string{fleetv1.NodeChargeAnnotation: string(text)}}
}

// release is a ClusterClass with a control plane of 4 vCPUs and the classes a100 (8 GPUs), mig (56 slices) and unpriced.
func release() *clusterv1.ClusterClass {
	class := &clusterv1.ClusterClass{}
	class.Labels = map[string]string{fleetv1.SiteLabel: "tokyo", fleetv1.ReleaseLabel: "r1"}
	class.Spec.ControlPlane.Metadata = charged(fleetv1.NodeCharge{VCPUs: 4, MemoryMiB: 8192})
	class.Spec.Workers.MachineDeployments = []clusterv1.MachineDeploymentClass{
		{Class: "a100", Metadata: charged(fleetv1.NodeCharge{VCPUs: 64, MemoryMiB: 524288, GPUModel: "A100-80GB", GPUs: 8})},
		{Class: "mig", Metadata: charged(fleetv1.NodeCharge{VCPUs: 64, GPUModel: "A100-40GB", MIGSlices: map[string]int64{"1g.5gb": 56}})},
		{Class: "unpriced"},
	}
	return class
}

type poolOption func(*clusterv1.MachineDeploymentTopology)

func pool(name, class string, options ...poolOption) clusterv1.MachineDeploymentTopology {
	p := clusterv1.MachineDeploymentTopology{Name: name, Class: class}
	for _, option := range options {
		option(&p)
	}
	return p
}

func replicas(n int32) poolOption {
	return func(p *clusterv1.MachineDeploymentTopology) { p.Replicas = ptr.To(n) }
}

func upTo(maximum string) poolOption {
	return func(p *clusterv1.MachineDeploymentTopology) {
		p.Metadata.Annotations = map[string]string{clusterv1.AutoscalerMinSizeAnnotation: "0", clusterv1.AutoscalerMaxSizeAnnotation: maximum}
	}
}

func clusterWith(controlPlane *int32, pools ...clusterv1.MachineDeploymentTopology) *clusterv1.Cluster {
	cluster := &clusterv1.Cluster{}
	cluster.Name, cluster.Namespace = "training", "team"
	cluster.Spec.Topology.ClassRef.Name = "r1-tokyo"
	cluster.Spec.Topology.ControlPlane.Replicas = controlPlane
	cluster.Spec.Topology.Workers.MachineDeployments = pools
	return cluster
}

func TestAClusterCountsAtItsLargest(t *testing.T) {
	one := func(more amounts) amounts { return sum(amounts{{what: clusters}: 1}, more) }
	const gib = 1024
	controlPlanes := func(n int64) amounts {
		return amounts{{what: nodes}: n, {what: vcpus}: 4 * n, {what: memory}: 8 * gib * n}
	}
	a100 := func(n int64) amounts {
		return amounts{{what: nodes}: n, {what: vcpus}: 64 * n, {what: memory}: 512 * gib * n, {gpus, "A100-80GB"}: 8 * n}
	}
	for name, c := range map[string]struct {
		cluster *clusterv1.Cluster
		class   *clusterv1.ClusterClass
		sizes   poolSizes
		want    amounts
		wrong   string
	}{
		"a control plane of three": {cluster: clusterWith(ptr.To[int32](3)), want: controlPlanes(3)},
		"unset sizes are 1, as Cluster API has it": {
			cluster: clusterWith(nil, pool("p", "a100")), want: sum(controlPlanes(1), a100(1)),
		},
		"GPUs that are partitioned count as slices": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "mig", replicas(2))),
			want:    sum(controlPlanes(1), amounts{{what: nodes}: 2, {what: vcpus}: 128, {migSlices, "1g.5gb"}: 112}),
		},
		"a pool that scales by itself counts at its maximum": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "a100", upTo("5"))), want: sum(controlPlanes(1), a100(5)),
		},
		"of size and maximum the larger": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "a100", upTo("5"), replicas(6)), pool("q", "a100", upTo("5"), replicas(2))),
			want:    sum(controlPlanes(1), a100(11)),
		},
		"nodes above a lowered maximum count until they are gone": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "a100", upTo("2"))), sizes: poolSizes{"p": 7}, want: sum(controlPlanes(1), a100(7)),
		},
		"a given size is final": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "a100", replicas(2))), sizes: poolSizes{"p": 7}, want: sum(controlPlanes(1), a100(2)),
		},
		"pools at zero cost nothing": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "a100", replicas(0)), pool("q", "a100", upTo("0"))), want: controlPlanes(1),
		},
		"a class that is not in the ClusterClass": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "h100", replicas(2))), want: sum(controlPlanes(1), amounts{{what: nodes}: 2}),
			wrong: `machineDeployments[0].class: Unsupported value: "h100": supported values: "a100", "mig", "unpriced"`,
		},
		"a class without a charge": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "unpriced", replicas(2))), want: sum(controlPlanes(1), amounts{{what: nodes}: 2}),
			wrong: `classRef.name: Invalid value: "r1-tokyo": does not say what a node of class unpriced costs`,
		},
		"a maximum that is no number": {
			cluster: clusterWith(ptr.To[int32](1), pool("p", "a100", upTo("many"))), want: sum(controlPlanes(1), a100(1)),
			wrong: `machineDeployments[0].metadata.annotations[cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size]: Invalid value: "many"`,
		},
		"a size below zero gives nothing back": {
			cluster: clusterWith(ptr.To[int32](-3), pool("p", "a100", replicas(-5))), want: amounts{},
			wrong: `controlPlane.replicas: Invalid value: -3: must be 0 or more`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, wrong := demandOf(c.cluster, release(), c.sizes)
			if got := d.total(); !maps.Equal(got, one(c.want)) {
				t.Errorf("got %v, want %v", got, one(c.want))
			}
			expectWrong(t, wrong.ToAggregate(), c.wrong)
		})
	}
}

func TestWithoutAClassNodesAreCountedAllTheSame(t *testing.T) {
	d, _ := demandOf(clusterWith(ptr.To[int32](3), pool("p", "a100", replicas(2))), nil, nil)
	if want := (amounts{{what: clusters}: 1, {what: nodes}: 5}); !maps.Equal(d.total(), want) {
		t.Errorf("got %v, want %v", d.total(), want)
	}
}

func TestAnAutoscalerThatHasNotHeardOfALowerMaximumIsReckonedWith(t *testing.T) {
	deployment := clusterv1.MachineDeployment{}
	deployment.Labels = map[string]string{clusterv1.ClusterTopologyMachineDeploymentNameLabel: "p"}
	deployment.Annotations = map[string]string{clusterv1.AutoscalerMaxSizeAnnotation: "9"}
	deployment.Spec.Replicas = ptr.To[int32](4)
	if sizes := poolSizesOf([]clusterv1.MachineDeployment{deployment}); sizes["p"] != 9 {
		t.Errorf("got %d, want 9", sizes["p"])
	}
}

func expectWrong(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("refused: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("got  %v\nwant …%s…", err, want)
	}
}
