package devices

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// born is when the nodes of these tests were created.
func born() time.Time { return time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC) }

// gpuNode is a node with the taint that it registered with.
func gpuNode(allocatable map[string]string, changes ...func(*corev1.Node)) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "gpu-7", CreationTimestamp: metav1.NewTime(born()), Labels: map[string]string{}}}
	node.Spec.Taints = []corev1.Taint{{Key: fleetv1.DevicesTaint, Effect: corev1.TaintEffectNoSchedule}}
	node.Status.Allocatable = corev1.ResourceList{"cpu": resource.MustParse("96"), "memory": resource.MustParse("1Ti"), "hugepages-2Mi": resource.MustParse("0")}
	for name, quantity := range allocatable {
		node.Status.Allocatable[corev1.ResourceName(name)] = resource.MustParse(quantity)
	}
	for _, change := range changes {
		change(node)
	}
	return node
}

func labeled(labels map[string]string) func(*corev1.Node) {
	return func(node *corev1.Node) { maps.Copy(node.Labels, labels) }
}

func untainted(node *corev1.Node) { node.Spec.Taints = nil }

func burnIn(status corev1.ConditionStatus, message string) func(*corev1.Node) {
	return func(node *corev1.Node) {
		node.Status.Conditions = append(node.Status.Conditions, corev1.NodeCondition{Type: "GPUBurnIn", Status: status, Message: message})
	}
}

func was(status metav1.ConditionStatus, reason string, after time.Duration) *metav1.Condition {
	return &metav1.Condition{Status: status, Reason: reason, LastTransitionTime: metav1.NewTime(born().Add(after))}
}

func TestANodeIsJudgedByWhatWasPromised(t *testing.T) {
	const (
		early = 2 * time.Minute
		late  = 11 * time.Minute
	)
	promised := func(devices string) map[string]string { return map[string]string{fleetv1.DevicesAnnotation: devices} }
	for _, test := range []struct {
		name        string
		annotations map[string]string
		node        *corev1.Node
		before      *metav1.Condition
		age         time.Duration
		reason      string // Available is ready, and takes the taint off
		message     string
	}{
		// Shapes.
		{name: "eight V100", annotations: promised("nvidia.com/gpu=8"), node: gpuNode(map[string]string{"nvidia.com/gpu": "8"}), age: early, reason: "Available"},
		{name: "eight A100 in 56 slices", annotations: promised("nvidia.com/mig-1g.5gb=56"),
			node: gpuNode(map[string]string{"nvidia.com/mig-1g.5gb": "56", "nvidia.com/gpu": "0"}), age: early, reason: "Available"},
		{name: "mixed slices", annotations: promised("nvidia.com/mig-2g.10gb=16,nvidia.com/mig-3g.20gb=8"),
			node: gpuNode(map[string]string{"nvidia.com/mig-3g.20gb": "8", "nvidia.com/mig-2g.10gb": "16"}), age: early, reason: "Available"},
		{name: "shared in time", annotations: promised("nvidia.com/gpu.shared=32"),
			node: gpuNode(map[string]string{"nvidia.com/gpu.shared": "32"}), age: early, reason: "Available"},
		{name: "an accelerator of another vendor, beside what is nobody's business", annotations: promised("example.com/npu=8"),
			node: gpuNode(map[string]string{"example.com/npu": "8", "rdma/hca": "4"}), age: early, reason: "Available"},
		{name: "no devices, only a driver", annotations: map[string]string{fleetv1.DriverVersionAnnotation: "570.172.08"},
			node: gpuNode(nil, labeled(map[string]string{"nvidia.com/cuda.driver-version.full": "570.172.08"})), age: early, reason: "Available"},

		// Devices.
		{name: "devices are on their way at first", annotations: promised("nvidia.com/gpu=8"), node: gpuNode(nil), age: early,
			reason: "WaitingForNode", message: "waiting for devices: 0 of 8 nvidia.com/gpu"},
		{name: "devices that never came", annotations: promised("nvidia.com/gpu=8"), node: gpuNode(map[string]string{"nvidia.com/gpu": "7"}), age: late,
			reason: "DeviceShort", message: "promised 8 nvidia.com/gpu, found 7"},
		{name: "at the end of the grace they are short", annotations: promised("nvidia.com/gpu=8"), node: gpuNode(nil), age: DefaultGrace,
			reason: "DeviceShort", message: "promised 8 nvidia.com/gpu, found 0"},
		{name: "nobody has partitioned the GPUs", annotations: promised("nvidia.com/mig-1g.5gb=56"), node: gpuNode(map[string]string{"nvidia.com/gpu": "8"}), age: late,
			reason: "DeviceShort", message: "promised 56 nvidia.com/mig-1g.5gb, found 0; found 8 nvidia.com/gpu that are not promised"},
		{name: "one GPU of a MIG node is not partitioned", annotations: promised("nvidia.com/mig-1g.5gb=56"),
			node: gpuNode(map[string]string{"nvidia.com/mig-1g.5gb": "56", "nvidia.com/gpu": "1"}), age: late,
			reason: "DeviceShort", message: "found 1 nvidia.com/gpu that are not promised"},
		{name: "a partition is another than promised", annotations: promised("nvidia.com/mig-2g.10gb=16,nvidia.com/mig-3g.20gb=8"),
			node: gpuNode(map[string]string{"nvidia.com/mig-3g.20gb": "16"}), age: early, reason: "WaitingForNode",
			message: "waiting for devices: 0 of 16 nvidia.com/mig-2g.10gb; 16 of 8 nvidia.com/mig-3g.20gb"},
		{name: "GPUs that everybody gets in turns were not promised whole", annotations: promised("nvidia.com/gpu.shared=32"),
			node: gpuNode(map[string]string{"nvidia.com/gpu": "8"}), age: late,
			reason: "DeviceShort", message: "promised 32 nvidia.com/gpu.shared, found 0; found 8 nvidia.com/gpu that are not promised"},
		{name: "a GPU falls off within the first minutes", annotations: promised("nvidia.com/gpu=8"),
			node: gpuNode(map[string]string{"nvidia.com/gpu": "7"}, untainted), before: was(metav1.ConditionTrue, "Available", time.Minute), age: early,
			reason: "DeviceShort", message: "promised 8 nvidia.com/gpu, found 7"},
		{name: "and stays short", annotations: promised("nvidia.com/gpu=8"),
			node: gpuNode(map[string]string{"nvidia.com/gpu": "7"}, untainted), before: was(metav1.ConditionFalse, "DeviceShort", time.Minute), age: early,
			reason: "DeviceShort", message: "promised 8 nvidia.com/gpu, found 7"},
		{name: "but a node that was made anew may take its time again", annotations: promised("nvidia.com/gpu=8"),
			node: gpuNode(nil), before: was(metav1.ConditionTrue, "Available", -time.Hour), age: early,
			reason: "WaitingForNode", message: "waiting for devices: 0 of 8 nvidia.com/gpu"},

		// Driver.
		{name: "another driver", annotations: map[string]string{fleetv1.DevicesAnnotation: "nvidia.com/gpu=8", fleetv1.DriverVersionAnnotation: "570.172.08"},
			node: gpuNode(map[string]string{"nvidia.com/gpu": "8"}, labeled(map[string]string{"nvidia.com/cuda.driver-version.full": "570.124.06"})), age: early,
			reason: "DriverDrift", message: "promised driver 570.172.08, the node runs 570.124.06"},
		{name: "no label is no drift, however late", annotations: map[string]string{fleetv1.DriverVersionAnnotation: "570.172.08"}, node: gpuNode(nil), age: 24 * time.Hour,
			reason: "WaitingForNode", message: "waiting for driver 570.172.08: GPU feature discovery has not put the label nvidia.com/cuda.driver-version.full on the node yet"},
		{name: "the version in three labels", annotations: map[string]string{fleetv1.DriverVersionAnnotation: "570.172.08"}, age: early, reason: "Available",
			node: gpuNode(nil, labeled(map[string]string{"nvidia.com/cuda.driver-version.major": "570", "nvidia.com/cuda.driver-version.minor": "172", "nvidia.com/cuda.driver-version.revision": "08"}))},
		{name: "the version in the three labels of old", annotations: map[string]string{fleetv1.DriverVersionAnnotation: "535.104.12"}, age: early, reason: "Available",
			node: gpuNode(nil, labeled(map[string]string{"nvidia.com/cuda.driver.major": "535", "nvidia.com/cuda.driver.minor": "104", "nvidia.com/cuda.driver.rev": "12"}))},
		{name: "a driver of AMD", annotations: map[string]string{fleetv1.DevicesAnnotation: "amd.com/gpu=8", fleetv1.DriverVersionAnnotation: "6.12.12"}, age: early, reason: "Available",
			node: gpuNode(map[string]string{"amd.com/gpu": "8"}, labeled(map[string]string{"amd.com/gpu.driver-version": "6.12.12"}))},
		{name: "another driver of AMD", annotations: map[string]string{fleetv1.DevicesAnnotation: "amd.com/gpu=8", fleetv1.DriverVersionAnnotation: "6.12.12"}, age: early,
			node:   gpuNode(map[string]string{"amd.com/gpu": "8"}, labeled(map[string]string{"amd.com/gpu.driver-version": "6.10.5"})),
			reason: "DriverDrift", message: "promised driver 6.12.12, the node runs 6.10.5"},
		{name: "the kernel's own driver of AMD", annotations: map[string]string{fleetv1.DevicesAnnotation: "amd.com/gpu=8", fleetv1.DriverVersionAnnotation: "6.12.12"}, age: early,
			node:   gpuNode(map[string]string{"amd.com/gpu": "8"}, labeled(map[string]string{"amd.com/gpu.driver-version": ""})),
			reason: "WaitingForNode", message: "waiting for driver 6.12.12: AMD's node labeller has not put the label amd.com/gpu.driver-version on the node yet"},
		{name: "what does not mend by itself comes first", annotations: map[string]string{fleetv1.DevicesAnnotation: "nvidia.com/gpu=8", fleetv1.DriverVersionAnnotation: "570.172.08"},
			node: gpuNode(nil, labeled(map[string]string{"nvidia.com/cuda.driver-version.full": "570.124.06"})), age: early, reason: "DriverDrift",
			message: "promised driver 570.172.08, the node runs 570.124.06; waiting for devices: 0 of 8 nvidia.com/gpu"},

		// Burn-in.
		{name: "burn-in runs", annotations: map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=1800"}, node: gpuNode(nil), age: early,
			reason: "BurnInRunning", message: "burn-in runs: waiting until 2026-11-02T09:30:00Z for node condition GPUBurnIn"},
		{name: "burn-in whose result is unknown runs", annotations: map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=1800"}, node: gpuNode(nil, burnIn("Unknown", "")), age: early,
			reason: "BurnInRunning", message: "burn-in runs: waiting until 2026-11-02T09:30:00Z for node condition GPUBurnIn"},
		{name: "burn-in passed", annotations: map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=1800"}, node: gpuNode(nil, burnIn("True", "")), age: early, reason: "Available"},
		{name: "burn-in failed", annotations: map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=1800"}, node: gpuNode(nil, burnIn("False", "GPU 3: ECC errors")), age: early,
			reason: "BurnInFailed", message: "node condition GPUBurnIn is False: GPU 3: ECC errors"},
		{name: "burn-in took too long", annotations: map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=1800"}, node: gpuNode(nil), age: 30 * time.Minute,
			reason: "BurnInFailed", message: "burn-in has no result after 30m0s: node condition GPUBurnIn is not there"},
		{name: "a late success is one", annotations: map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=1800"}, node: gpuNode(nil, burnIn("True", "")), age: time.Hour, reason: "Available"},
		{name: "a node that takes pods has passed, although the result is gone", annotations: map[string]string{fleetv1.BurnInAnnotation: "GPUBurnIn=1800"},
			node: gpuNode(nil, untainted), age: time.Hour, reason: "Available"},
		{name: "the first of two deadlines counts", annotations: map[string]string{fleetv1.DevicesAnnotation: "nvidia.com/gpu=8", fleetv1.BurnInAnnotation: "GPUBurnIn=1800"},
			node: gpuNode(map[string]string{"nvidia.com/gpu": "1"}), age: early, reason: "WaitingForNode",
			message: "waiting for devices: 1 of 8 nvidia.com/gpu; burn-in runs: waiting until 2026-11-02T09:30:00Z for node condition GPUBurnIn"},

		// No node.
		{name: "a node that is not there", annotations: promised("nvidia.com/gpu=8"), age: late, reason: "WaitingForNode", message: "node gpu-7 is not in the cluster"},
	} {
		t.Run(test.name, func(t *testing.T) {
			promise, err := PromiseOf(test.annotations)
			if err != nil {
				t.Fatal(err)
			}
			intent := Plan(Input{Promise: promise, NodeName: "gpu-7", Node: test.node, Before: test.before, Grace: DefaultGrace, Now: born().Add(test.age)})
			want := Intent{Ready: test.reason == fleetv1.AvailableReason, Reason: test.reason, Message: test.message}
			want.RemoveTaint = want.Ready && isTainted(test.node)
			if intent != want {
				t.Errorf("is   %+v\nwant %+v", intent, want)
			}
		})
	}
}

func TestAMachineWithoutANodeWaits(t *testing.T) {
	want := Intent{Reason: fleetv1.WaitingForNodeReason, Message: "the machine has no node yet"}
	if intent := Plan(Input{Now: born()}); intent != want {
		t.Errorf("is %+v, want %+v", intent, want)
	}
}

func TestAPromiseThatCannotBeReadNamesTheAnnotationAndTheForm(t *testing.T) {
	for _, test := range []struct{ annotation, value, message string }{
		{fleetv1.DevicesAnnotation, "nvidia.com/gpu", `annotation fleet.sendan.io/devices: "nvidia.com/gpu" does not name a number; write <resource>=<count>, separated by commas`},
		{fleetv1.DevicesAnnotation, "nvidia.com/gpu=8,=2", `"=2" does not name a number`},
		{fleetv1.DevicesAnnotation, "nvidia.com/gpu=-1", `"nvidia.com/gpu=-1" does not name a number`},
		{fleetv1.DevicesAnnotation, "nvidia.com/gpu=99999999999", `does not name a number`},
		{fleetv1.BurnInAnnotation, "GPUBurnIn=30m", `annotation fleet.sendan.io/burn-in: "GPUBurnIn=30m" does not name a number; write <condition type>=<seconds>`},
	} {
		if _, err := PromiseOf(map[string]string{test.annotation: test.value}); err == nil || !strings.Contains(err.Error(), test.message) {
			t.Errorf("%s: %q gives %v, want …%s…", test.annotation, test.value, err, test.message)
		}
	}
}

func BenchmarkPlanOfAThousandNodes(b *testing.B) {
	promise, err := PromiseOf(map[string]string{
		fleetv1.DevicesAnnotation: "nvidia.com/mig-2g.10gb=16,nvidia.com/mig-3g.20gb=8", fleetv1.DriverVersionAnnotation: "570.172.08", fleetv1.BurnInAnnotation: "GPUBurnIn=1800",
	})
	if err != nil {
		b.Fatal(err)
	}
	inputs := make([]Input, 1000)
	for i := range inputs {
		node := gpuNode(map[string]string{"nvidia.com/mig-2g.10gb": "16", "nvidia.com/mig-3g.20gb": fmt.Sprint(8 - i%2)},
			burnIn("True", ""), labeled(map[string]string{"nvidia.com/cuda.driver-version.full": "570.172.08"}))
		inputs[i] = Input{Promise: promise, NodeName: node.Name, Node: node, Grace: DefaultGrace, Now: born().Add(time.Hour)}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i := range inputs {
			if Plan(inputs[i]).Ready != (i%2 == 0) {
				b.Fatal("misjudged")
			}
		}
	}
}
