package memory

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// withLabels lets a kubelet register with node labels.
func withLabels(labels string) func(*bootstrapv1.JoinConfiguration) {
	return func(c *bootstrapv1.JoinConfiguration) {
		c.NodeRegistration.KubeletExtraArgs = append(c.NodeRegistration.KubeletExtraArgs, bootstrapv1.Arg{Name: "node-labels", Value: &labels})
	}
}

// withA100s gives a server GPUs as the default scenario does.
func withA100s(count int) func(*simulator.Node) {
	return func(n *simulator.Node) {
		n.Resources, n.GPUs = map[string]int{nvidiaGPU: count}, map[string]int{"a100": count}
	}
}

// withDevicesOf are quick options with the devices of the default scenario.
func withDevicesOf(plugin, mig time.Duration) Options {
	scenario, options := simulator.DefaultScenario(), quick()
	options.GPUKinds, options.NVIDIADriver = scenario.GPUKinds, scenario.NVIDIADriver
	options.MIGLayouts = map[string]map[string]int{"sendan-balanced": {"3g.20gb": 1, "2g.10gb": 1, "1g.5gb": 2}}
	options.DevicePlugin, options.MIGManager = simulator.Exactly(plugin), simulator.Exactly(mig)
	return options
}

// newTenantWithToken has one control-plane machine, so that workers can join.
func newTenantWithToken(t *testing.T, options Options) *tenant {
	t.Helper()
	tn := newTenant(t, newBackend(t, options))
	tn.bootControlPlane("cp-0", tn.initUserData())
	tn.createToken(time.Now().Add(time.Hour))
	tn.waitForReadyNodes(1)
	return tn
}

// extended tells a node's extended resources, what it has of them before what it can give where they differ.
func extended(node *corev1.Node) string {
	var parts []string
	for name, allocatable := range node.Status.Allocatable {
		if !strings.Contains(string(name), "/") {
			continue
		}
		capacity, text := node.Status.Capacity[name], allocatable.String()
		if capacity.Cmp(allocatable) != 0 {
			text = capacity.String() + ">" + text
		}
		parts = append(parts, string(name)+"="+text)
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// watchNode sees everything that happens to a node, which may not be there yet.
func (tn *tenant) watchNode(name string) watch.Interface {
	tn.t.Helper()
	watcher, err := tn.client().CoreV1().Nodes().Watch(tn.t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
	if err != nil {
		tn.t.Fatal(err)
	}
	tn.t.Cleanup(watcher.Stop)
	return watcher
}

// transcript is what a watcher sees of a node's devices, without repetitions, until the last line is there.
func (tn *tenant) transcript(watcher watch.Interface, last string) []string {
	tn.t.Helper()
	deadline := time.After(eventually)
	var lines []string
	for {
		select {
		case event := <-watcher.ResultChan():
			node, ok := event.Object.(*corev1.Node)
			if !ok {
				tn.t.Fatalf("%s %v", event.Type, event.Object)
			}
			line := describeDevices(node)
			if len(lines) == 0 || lines[len(lines)-1] != line {
				lines = append(lines, line)
			}
			if line == last {
				return lines
			}
		case <-deadline:
			tn.t.Fatalf("%q was never seen after\n%s", last, strings.Join(lines, "\n"))
		}
	}
}

func describeDevices(node *corev1.Node) string {
	line := "NotReady"
	if isReady(node) {
		line = "Ready"
	}
	for _, part := range []string{extended(node), node.Labels[migStateLabel]} {
		if part != "" {
			line += " " + part
		}
	}
	return line
}

func TestGPUsAppearWholeAfterReadyAndPartitionedLater(t *testing.T) {
	tn := newTenantWithToken(t, withDevicesOf(30*time.Millisecond, 30*time.Millisecond))
	for name, c := range map[string]struct {
		labels string
		want   []string
	}{
		"uniform": {"nvidia.com/mig.config=all-1g.5gb", []string{
			"Ready nvidia.com/gpu=8 pending", "Ready nvidia.com/mig-1g.5gb=56 success",
		}},
		"media-engines": {"nvidia.com/mig.config=all-1g.5gb.me", []string{
			"Ready nvidia.com/gpu=8 pending", "Ready nvidia.com/mig-1g.5gb.me=8 success",
		}},
		"custom": {"nvidia.com/mig.config=custom-3g.20gbx1_2g.10gbx1_1g.5gb.mex1_1g.5gbx1", []string{
			"Ready nvidia.com/gpu=8 pending",
			"Ready nvidia.com/mig-1g.5gb.me=8 nvidia.com/mig-1g.5gb=8 nvidia.com/mig-2g.10gb=8 nvidia.com/mig-3g.20gb=8 success",
		}},
		"named": {"nvidia.com/mig.config=sendan-balanced", []string{
			"Ready nvidia.com/gpu=8 pending", "Ready nvidia.com/mig-1g.5gb=16 nvidia.com/mig-2g.10gb=8 nvidia.com/mig-3g.20gb=8 success",
		}},
		"impossible":   {"nvidia.com/mig.config=all-1g.10gb.huge", []string{"Ready nvidia.com/gpu=8 pending", "Ready nvidia.com/gpu=8 failed"}},
		"disabled":     {"nvidia.com/mig.config=all-disabled", []string{"Ready nvidia.com/gpu=8 pending", "Ready nvidia.com/gpu=8 success"}},
		"whole":        {"a=b", []string{"Ready nvidia.com/gpu=8"}},
		"time-slicing": {"nvidia.com/device-plugin.config=timeslicing-4", []string{"Ready nvidia.com/gpu.shared=32"}},
	} {
		t.Run(name, func(t *testing.T) {
			watcher := tn.watchNode(name)
			tn.boot(name, tn.workerUserData(withLabels(c.labels)), withA100s(8))
			want := append([]string{"NotReady", "Ready"}, c.want...)
			if got := tn.transcript(watcher, want[len(want)-1]); !slices.Equal(got, want) {
				t.Errorf("a watcher saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

func TestWithoutLatencyANodeIsNeverReadyWithoutItsGPUs(t *testing.T) {
	tn := newTenantWithToken(t, withDevicesOf(0, 0))
	watcher := tn.watchNode("gpu")
	tn.boot("gpu", tn.workerUserData(), withA100s(8))
	if got := tn.transcript(watcher, "Ready nvidia.com/gpu=8"); !slices.Equal(got, []string{"NotReady", "Ready nvidia.com/gpu=8"}) {
		t.Errorf("a watcher saw %q", got)
	}
}

func TestPartitionsAreWhatTheGPUHasRoomFor(t *testing.T) {
	options := withDevicesOf(0, 0)
	options.GPUKinds["h200"] = simulator.GPUKind{MIGProfiles: map[string]int{
		"1g.18gb": 7, "1g.18gb+me": 1, "1g.35gb": 4, "2g.35gb": 3, "3g.71gb": 2, "4g.71gb": 1, "7g.141gb": 1,
	}}
	for name, c := range map[string]struct{ kind, refused string }{
		"all-1g.5gb":                          {"a100", ""},
		"all-7g.40gb":                         {"a100", ""},
		"all-1g.10gb":                         {"h100", ""},
		"all-3g.71gb":                         {"h200", ""},
		"custom-4g.71gbx1_3g.71gbx1":          {"h200", ""},
		"custom-4g.20gbx1_3g.20gbx1":          {"a100", ""},
		"custom-2g.10gbx3_1g.5gbx1":           {"a100", ""},
		"custom-1g.10gbx3_1g.5gbx2":           {"a100", ""},
		"custom-3g.20gbx2_1g.5gbx1":           {"a100", "9 of 8 memory slices"},
		"custom-4g.20gbx1_2g.10gbx2":          {"a100", "8 of 7 compute slices"},
		"custom-1g.5gb.mex1_1g.5gbx7":         {"a100", "8 of 7 compute slices"},
		"custom-1g.5gb.mex2":                  {"a100", "2 instances of 1g.5gb.me, of which the GPU holds 1"},
		"custom-1g.5gbx8":                     {"a100", "of which the GPU holds 7"},
		"custom-1g.5gbx0":                     {"a100", "0 instances"},
		"custom-1g.5gb":                       {"a100", `"1g.5gb" is not of the form`},
		"custom-":                             {"a100", "is not of the form"},
		"all-1g.80gb":                         {"a100", "of which the GPU holds 0"},
		"all-1g.23gb":                         {"unheard-of", "of which the GPU holds 0"},
		"all-balanced":                        {"a100", "of which the GPU holds 0"},
		"no-such-layout":                      {"a100", "no MIG layout of that name"},
		"custom-3g.20gbx1_3g.20gbx1_x":        {"a100", "is not of the form"},
		"custom-3g.20gbx1_3g.20gbx1":          {"a100", ""},
		"custom-7g.40gbx1_1g.5gbx1":           {"a100", "8 of 7 compute slices"},
		"custom-1g.20gbx1_1g.10gbx1_nonsense": {"h100", "is not of the form"},
	} {
		layout, err := options.partition(options.GPUKinds[c.kind], name)
		if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
			t.Errorf("%s on %s: %v, error %v, want %q", name, c.kind, layout, err, c.refused)
		}
	}
}

// deviceLabels are those of GPU feature discovery.
func deviceLabels(node *corev1.Node) map[string]string {
	labels := maps.Clone(node.Labels)
	maps.DeleteFunc(labels, func(name, _ string) bool { return !strings.HasPrefix(name, "nvidia.com/") })
	return labels
}

func (tn *tenant) node(name string) *corev1.Node {
	tn.t.Helper()
	node, err := tn.client().CoreV1().Nodes().Get(tn.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		tn.t.Fatal(err)
	}
	return node
}

func TestFeatureDiscoveryTellsTheDriverOfTheImage(t *testing.T) {
	tn := newTenantWithToken(t, withDevicesOf(0, 0))
	tn.boot("own", tn.workerUserData(), withA100s(4), func(n *simulator.Node) { n.NVIDIADriver = "570.172.08" })
	tn.boot("default", tn.workerUserData(), withA100s(4))
	tn.boot("cpu", tn.workerUserData())
	tn.waitForReadyNodes(4)
	want := map[string]string{
		"nvidia.com/cuda.driver-version.full": "570.172.08", "nvidia.com/cuda.driver-version.major": "570",
		"nvidia.com/cuda.driver-version.minor": "172", "nvidia.com/cuda.driver-version.revision": "08",
		"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-40GB", "nvidia.com/gpu.count": "4",
	}
	if got := deviceLabels(tn.node("own")); !maps.Equal(got, want) {
		t.Errorf("labels %v, want %v", got, want)
	}
	if got := tn.node("default").Labels[driverLabels+"full"]; got != "570.158.01" {
		t.Errorf("without one in the image the driver is %q", got)
	}
	if got := deviceLabels(tn.node("cpu")); len(got) != 0 {
		t.Errorf("a node without GPUs has labels %v", got)
	}
}

func TestWithoutADriverThereAreNoGPUs(t *testing.T) {
	options := withDevicesOf(0, 0)
	options.NVIDIADriver = ""
	tn := newTenantWithToken(t, options)
	tn.boot("gpu", tn.workerUserData(withLabels("nvidia.com/mig.config=all-1g.5gb")), func(n *simulator.Node) {
		n.Resources = map[string]int{nvidiaGPU: 8, "example.com/npu": 2}
	})
	tn.waitForReadyNodes(2)
	if got := describeDevices(tn.node("gpu")); got != "Ready example.com/npu=2" {
		t.Errorf("it is %q", got)
	}
}

func (tn *tenant) waitForDevices(name, want string) {
	tn.t.Helper()
	waitFor(tn.t, "devices of "+name, func() error {
		if got := describeDevices(tn.node(name)); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

func (tn *tenant) breakDevices(serverID string, fault simulator.DeviceFault) {
	tn.t.Helper()
	if err := tn.backend.SetDeviceFault(tn.t.Context(), serverID, fault); err != nil {
		tn.t.Fatal(err)
	}
}

func (tn *tenant) reboot(serverID string) {
	tn.t.Helper()
	if err := errors.Join(tn.backend.PowerOff(tn.t.Context(), serverID), tn.backend.PowerOn(tn.t.Context(), serverID)); err != nil {
		tn.t.Fatal(err)
	}
}

func TestALostGPULeavesWhatCanBeAllocatedAndAfterABootTheCapacityToo(t *testing.T) {
	tn := newTenantWithToken(t, withDevicesOf(0, 0))
	id := tn.boot("gpu", tn.workerUserData(), withA100s(8))
	tn.waitForDevices("gpu", "Ready nvidia.com/gpu=8")
	tn.breakDevices(id, simulator.DeviceFault{Lost: 1, NVIDIADriver: "550.54.15"})
	tn.waitForDevices("gpu", "Ready nvidia.com/gpu=8>7")
	labels := deviceLabels(tn.node("gpu"))
	if labels[countLabel] != "7" || labels[driverLabels+"full"] != "550.54.15" || labels[driverLabels+"minor"] != "54" {
		t.Errorf("labels %v", labels)
	}
	tn.reboot(id)
	tn.waitForDevices("gpu", "Ready nvidia.com/gpu=7")
	tn.breakDevices(id, simulator.DeviceFault{})
	tn.waitForDevices("gpu", "Ready nvidia.com/gpu=8")
	if got := tn.node("gpu").Labels[driverLabels+"full"]; got != "570.158.01" {
		t.Errorf("the driver stays %s", got)
	}
	tn.breakDevices("id-never-booted", simulator.DeviceFault{Lost: 1})
}

func TestLostGPUsAreMissingFromSlicesAndTurnsAsWell(t *testing.T) {
	tn := newTenantWithToken(t, withDevicesOf(0, 0))
	for name, c := range map[string]struct{ labels, want string }{
		"mig":    {"nvidia.com/mig.config=all-3g.20gb", "Ready nvidia.com/mig-3g.20gb=16>12 success"},
		"shared": {"nvidia.com/device-plugin.config=timeslicing-2", "Ready nvidia.com/gpu.shared=16>12"},
	} {
		id := tn.boot(name, tn.workerUserData(withLabels(c.labels)), withA100s(8))
		tn.waitForDevices(name, strings.Replace(c.want, ">12", "", 1))
		tn.breakDevices(id, simulator.DeviceFault{Lost: 2})
		tn.waitForDevices(name, c.want)
	}
}

func TestDevicesAndTheirFaultsOutliveARestart(t *testing.T) {
	tn := newTenantWithToken(t, withDevicesOf(0, 0))
	id := tn.boot("gpu", tn.workerUserData(withLabels("nvidia.com/mig.config=all-7g.40gb")), withA100s(8))
	tn.waitForDevices("gpu", "Ready nvidia.com/mig-7g.40gb=8 success")
	tn.breakDevices(id, simulator.DeviceFault{Lost: 3})
	waitFor(t, "the machine is idle", func() error {
		tn.backend.mu.Lock()
		defer tn.backend.mu.Unlock()
		if !tn.backend.machines[id].isIdle() {
			return errors.New("it is busy")
		}
		return nil
	})
	again := tn.restarted(withDevicesOf(0, 0))
	again.waitForDevices("gpu", "Ready nvidia.com/mig-7g.40gb=8>5 success")
	again.breakDevices(id, simulator.DeviceFault{Lost: 1})
	again.waitForDevices("gpu", "Ready nvidia.com/mig-7g.40gb=8>7 success")
}
