package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

// What NVIDIA's device plugin (strategy "mixed"), MIG manager and GPU feature discovery advertise and act on.
const (
	nvidiaDomain      = "nvidia.com/"
	nvidiaGPU         = nvidiaDomain + "gpu"
	nvidiaSharedGPU   = nvidiaDomain + "gpu.shared"
	nvidiaMIG         = nvidiaDomain + "mig-"
	migConfigLabel    = nvidiaDomain + "mig.config"
	migStateLabel     = nvidiaDomain + "mig.config.state"
	pluginConfigLabel = nvidiaDomain + "device-plugin.config"
	timeSlicingPrefix = "timeslicing-"
	productLabel      = nvidiaDomain + "gpu.product"
	countLabel        = nvidiaDomain + "gpu.count"
	driverLabels      = nvidiaDomain + "cuda.driver-version."
)

// deviceStage is how far those have come who advertise a node's devices since its kubelet started.
type deviceStage int

const (
	// noDevices: no device plugin runs yet.
	noDevices deviceStage = iota
	// wholeDevices: device plugins run, while GPUs are not partitioned yet.
	wholeDevices
	finalDevices
)

// startDevices lets the devices of a Ready node appear: whole at first, and partitioned when the MIG manager is done.
func (m *machine) startDevices(ctx context.Context, pluginsAfter time.Duration) error {
	if len(m.spec.Resources) == 0 {
		return nil
	}
	if pluginsAfter > 0 {
		if err := m.reach(ctx, wholeDevices, pluginsAfter); err != nil {
			return err
		}
	}
	partitioned := false
	if err := m.whileRunning(ctx, func() error {
		partitioned = m.isPartitioned()
		if !partitioned {
			m.devices = finalDevices
		}
		return nil
	}); err != nil || !partitioned {
		return err
	}
	return m.reach(ctx, finalDevices, m.backend.random.between(m.backend.MIGManager))
}

// reach shows the next stage after a while.
func (m *machine) reach(ctx context.Context, stage deviceStage, after time.Duration) error {
	if err := m.waitExactly(ctx, after); err != nil {
		return err
	}
	return m.whileRunning(ctx, func() error {
		m.devices = stage
		return m.reportDevices()
	})
}

// reportDevices writes to the Node what its devices are now. A Node that is gone needs nothing. The lock is held.
func (m *machine) reportDevices() error {
	err := kubeapi.Modify(m.cluster.api, "", m.nodeName, m.showDevices)
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// SetDeviceFault lets a node show other devices than its server was given.
func (b *Backend) SetDeviceFault(_ context.Context, serverID string, fault simulator.DeviceFault) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := b.machines[serverID]
	if m == nil {
		return nil
	}
	m.spec.DeviceFault = fault
	m.printf("devices: %d lost, NVIDIA driver %s", fault.Lost, cmp.Or(m.driver(), "none"))
	if m.devices == noDevices {
		return nil
	}
	return m.reportDevices()
}

// driver is the version that runs on the machine, empty without one.
func (m *machine) driver() string {
	return cmp.Or(m.spec.DeviceFault.NVIDIADriver, m.spec.NVIDIADriver, m.backend.NVIDIADriver)
}

// hasGPUs says that NVIDIA's software runs on the machine.
func (m *machine) hasGPUs() bool { return m.spec.Resources[nvidiaGPU] > 0 && m.driver() != "" }

// left is how many of a number of devices have not fallen off the bus.
func (m *machine) left(count int) int { return max(count-m.spec.DeviceFault.Lost, 0) }

// isPartitioned says that the MIG manager has something to do, by the node's label. The lock is held.
func (m *machine) isPartitioned() bool {
	node := &corev1.Node{}
	err := kubeapi.Get(m.cluster.api, "", m.nodeName, node)
	return err == nil && m.hasGPUs() && node.Labels[migConfigLabel] != ""
}

// showDevices makes a Node advertise what it does at the machine's stage. As a kubelet does, it keeps a device that fell
// off the bus in the capacity until the next boot. The lock is held.
func (m *machine) showDevices(node *corev1.Node) {
	maps.DeleteFunc(node.Labels, func(name, _ string) bool {
		return name == productLabel || name == countLabel || name == migStateLabel || strings.HasPrefix(name, driverLabels)
	})
	devices := map[string]int{}
	if m.devices != noDevices {
		devices = m.otherDevices()
		if m.hasGPUs() {
			maps.Copy(node.Labels, m.gpuLabels())
			maps.Copy(devices, m.gpus(node.Labels))
		}
	}
	m.removeDevices(node, devices)
	for device, count := range devices {
		name, quantity := corev1.ResourceName(device), *resource.NewQuantity(int64(count), resource.DecimalSI)
		node.Status.Allocatable[name] = quantity
		if known, found := node.Status.Capacity[name]; !found || known.Cmp(quantity) < 0 {
			node.Status.Capacity[name] = quantity
		}
	}
}

// removeDevices takes all devices off a Node but some.
func (m *machine) removeDevices(node *corev1.Node, but map[string]int) {
	for _, list := range []corev1.ResourceList{node.Status.Capacity, node.Status.Allocatable} {
		maps.DeleteFunc(list, func(name corev1.ResourceName, _ resource.Quantity) bool {
			_, stays := but[string(name)]
			return !stays && (m.spec.Resources[string(name)] > 0 || strings.HasPrefix(string(name), nvidiaDomain))
		})
	}
}

// otherDevices are those that NVIDIA's software does not care for.
func (m *machine) otherDevices() map[string]int {
	devices := map[string]int{}
	for name, count := range m.spec.Resources {
		if name != nvidiaGPU {
			devices[name] = m.left(count)
		}
	}
	return devices
}

// gpus are what NVIDIA's device plugin makes of the GPUs by the node's labels, to which the MIG manager adds its state.
func (m *machine) gpus(labels map[string]string) map[string]int {
	count := m.left(m.spec.Resources[nvidiaGPU])
	if config := labels[migConfigLabel]; config != "" {
		if layout := m.partition(config, labels); len(layout) > 0 {
			devices := map[string]int{}
			for profile, instances := range layout {
				devices[nvidiaMIG+profile] = instances * count
			}
			return devices
		}
	}
	replicas, shared := strings.CutPrefix(labels[pluginConfigLabel], timeSlicingPrefix)
	if turns, err := strconv.Atoi(replicas); shared && err == nil && turns > 0 {
		return map[string]int{nvidiaSharedGPU: turns * count}
	}
	return map[string]int{nvidiaGPU: count}
}

// partition is how each GPU is partitioned at the machine's stage; empty for not at all.
func (m *machine) partition(config string, labels map[string]string) map[string]int {
	if m.devices != finalDevices {
		labels[migStateLabel] = "pending"
		return nil
	}
	layout, err := m.backend.partition(m.gpuKind(), config)
	if err != nil {
		m.printf("nvidia-mig-manager: %s: %v", config, err)
		labels[migStateLabel] = "failed"
		return nil
	}
	labels[migStateLabel] = "success"
	return layout
}

// gpuKind is what is known of the machine's GPUs; nothing for a kind that the scenario does not describe.
func (m *machine) gpuKind() simulator.GPUKind {
	for _, name := range slices.Sorted(maps.Keys(m.spec.GPUs)) {
		if kind, known := m.backend.GPUKinds[name]; known {
			return kind
		}
	}
	return simulator.GPUKind{}
}

// gpuLabels are those of GPU feature discovery.
func (m *machine) gpuLabels() map[string]string {
	labels := map[string]string{
		countLabel:            strconv.Itoa(m.left(m.spec.Resources[nvidiaGPU])),
		driverLabels + "full": m.driver(),
	}
	if product := m.gpuKind().Product; product != "" {
		labels[productLabel] = product
	}
	parts := strings.SplitN(m.driver(), ".", 3)
	for i, name := range []string{"major", "minor", "revision"} {
		if i < len(parts) {
			labels[driverLabels+name] = parts[i]
		}
	}
	return labels
}

// partition is how a MIG layout partitions each GPU of a kind: instances by profile, spelled as in labels and resources;
// none for a layout that leaves GPUs whole. A name is the scenario's, NVIDIA's all-<profile> and all-disabled, or
// custom-<profile>x<count>_<profile>x<count> and so on.
func (o *Options) partition(kind simulator.GPUKind, name string) (map[string]int, error) {
	if name == "all-disabled" {
		return nil, nil
	}
	available := spelled(kind.MIGProfiles)
	if named, found := o.MIGLayouts[name]; found {
		layout := spelled(named)
		return layout, checkPartition(available, layout)
	}
	if profile, uniform := strings.CutPrefix(name, "all-"); uniform {
		layout := map[string]int{profile: max(available[profile], 1)}
		return layout, checkPartition(available, layout)
	}
	text, custom := strings.CutPrefix(name, "custom-")
	if !custom {
		return nil, errors.New("there is no MIG layout of that name")
	}
	layout := map[string]int{}
	for part := range strings.SplitSeq(text, "_") {
		at := max(strings.LastIndexByte(part, 'x'), 0)
		count, err := strconv.Atoi(strings.TrimPrefix(part[at:], "x"))
		if err != nil {
			return nil, fmt.Errorf("%q is not of the form <profile>x<count>", part)
		}
		layout[part[:at]] += count
	}
	return layout, checkPartition(available, layout)
}

// spelled writes profiles as they are in labels and resources, where a plus sign cannot be.
func spelled(profiles map[string]int) map[string]int {
	spelled := map[string]int{}
	for name, count := range profiles {
		spelled[strings.ReplaceAll(name, "+", ".")] = count
	}
	return spelled
}

// memorySlices is how many equal parts a GPU's memory has.
const memorySlices = 8

// checkPartition says what of a layout a GPU with these profiles has no room for. Instances compete for compute slices,
// which their names begin with, and for slices of memory.
func checkPartition(available, layout map[string]int) error {
	wholeCompute, wholeMemory := 0, 0
	for profile := range available {
		compute, memory := sizeOf(profile)
		wholeCompute, wholeMemory = max(wholeCompute, compute), max(wholeMemory, memory)
	}
	takenCompute, takenMemory := 0, 0
	for _, profile := range slices.Sorted(maps.Keys(layout)) {
		count, most := layout[profile], available[profile]
		if count < 1 || count > most {
			return fmt.Errorf("%d instances of %s, of which the GPU holds %d", count, profile, most)
		}
		compute, memory := sizeOf(profile)
		takenCompute += count * compute
		// Names round: two instances of 71gb share 141gb.
		takenMemory += count * ((memory*memorySlices + wholeMemory/2) / wholeMemory)
	}
	if takenCompute > wholeCompute || takenMemory > memorySlices {
		return fmt.Errorf("it takes %d of %d compute slices and %d of %d memory slices", takenCompute, wholeCompute, takenMemory, memorySlices)
	}
	return nil
}

// sizeOf is a profile's compute slices and memory in GB: 3 and 20 of 3g.20gb.
func sizeOf(profile string) (compute, memoryGB int) {
	_, _ = fmt.Sscanf(profile, "%dg.%dgb", &compute, &memoryGB) // both 0 for what is no profile
	return compute, memoryGB
}
