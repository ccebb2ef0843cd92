package controllers

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// The resources that the vendors' device plugins advertise whole GPUs as.
const (
	nvidiaGPU corev1.ResourceName = "nvidia.com/gpu"
	amdGPU    corev1.ResourceName = "amd.com/gpu"
)

// GPU models by which operators name PCI aliases and resource classes. NVIDIA's are the data center
// products of docs.nvidia.com/datacenter/tesla/drivers (supported GPUs) back to Pascal; AMD's are the
// Instinct series of the ROCm compatibility matrix.
const (
	nvidiaModels = "a2 a10 a16 a30 a40 a100 a800 b100 b200 b300 gb200 gb300 gh200 h20 h100 h200 h800 l4 l20 l40 l40s p4 p40 p100 rtx t4 v100"
	amdModels    = "mi25 mi50 mi60 mi100 mi210 mi250 mi250x mi300 mi300a mi300x mi325x mi350x mi355x"
)

// capacityOf is what a node of this shape would offer before one exists. What it offers to pods is
// less: the kubelet keeps some for the system.
func capacityOf(flavor cloud.Flavor, spec infrav1.SendanMachineSpec, image cloud.Image) (corev1.ResourceList, infrav1.NodeInfo) {
	capacity := corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewQuantity(int64(flavor.VCPUs), resource.DecimalSI),
		corev1.ResourceMemory: *resource.NewQuantity(int64(flavor.MemoryMiB)<<20, resource.BinarySI),
	}
	if gib := diskGiB(flavor, spec, image); gib > 0 {
		capacity[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(gib<<30, resource.BinarySI)
	}
	for name, count := range devicesOf(flavor, spec) {
		capacity[name] = *resource.NewQuantity(count, resource.DecimalSI)
	}
	return capacity, nodeInfoOf(image)
}

// diskGiB is the size of the disk the node runs from: the root volume, else the flavor's disks, else
// (a flavor made for volumes has disk 0 and then gets one as large as the image needs) the image's.
func diskGiB(flavor cloud.Flavor, spec infrav1.SendanMachineSpec, image cloud.Image) int64 {
	switch {
	case spec.RootVolume != nil:
		return int64(spec.RootVolume.SizeGiB)
	case flavor.DiskGiB > 0:
		return int64(flavor.DiskGiB + flavor.EphemeralGiB)
	}
	return int64(image.MinDiskGiB + flavor.EphemeralGiB)
}

// devicesOf is what the spec says, or else what the flavor's extra specs say. A flavor may ask for
// the same GPUs by PCI alias and by resource class, so the larger count of the two holds.
func devicesOf(flavor cloud.Flavor, spec infrav1.SendanMachineSpec) map[corev1.ResourceName]int64 {
	devices := map[corev1.ResourceName]int64{}
	if len(spec.Devices) > 0 {
		for _, device := range spec.Devices {
			devices[corev1.ResourceName(device.ResourceName)] = int64(device.Count)
		}
		return devices
	}
	for _, counts := range []map[corev1.ResourceName]int64{aliasDevices(flavor.ExtraSpecs), classDevices(flavor.ExtraSpecs)} {
		for name, count := range counts {
			if count > devices[name] {
				devices[name] = count
			}
		}
	}
	return devices
}

// pciAliasSpec is Nova's extra spec for whole PCI devices: "a100:4,nic:1".
const pciAliasSpec = "pci_passthrough:alias"

func aliasDevices(extraSpecs map[string]string) map[corev1.ResourceName]int64 {
	devices := map[corev1.ResourceName]int64{}
	for request := range strings.SplitSeq(extraSpecs[pciAliasSpec], ",") {
		alias, count, _ := strings.Cut(strings.TrimSpace(request), ":")
		count = strings.TrimSpace(count)
		if name, isGPU := gpuNamed(alias); isGPU {
			devices[name] += countOf(count)
		}
	}
	return devices
}

// resourceClassPattern is Nova's extra spec for a placement resource class, in the unnumbered group or
// in one of those with a suffix (granular requests).
var resourceClassPattern = regexp.MustCompile(`^resources[A-Za-z0-9_-]*:(.+)$`)

func classDevices(extraSpecs map[string]string) map[corev1.ResourceName]int64 {
	devices := map[corev1.ResourceName]int64{}
	for _, key := range slices.Sorted(maps.Keys(extraSpecs)) {
		match := resourceClassPattern.FindStringSubmatch(key)
		if match == nil {
			continue
		}
		// The standard classes VGPU and PGPU have GPU in their names as well.
		if name, isGPU := gpuNamed(match[1]); isGPU {
			devices[name] += countOf(extraSpecs[key])
		}
	}
	return devices
}

// countOf is 0 for what Nova would not accept as a count.
func countOf(text string) int64 {
	count, err := strconv.ParseInt(text, 10, 32)
	if err != nil || count < 0 {
		return 0
	}
	return count
}

// gpuNamed tells by a name that an operator chose whether it means a GPU, and whose.
func gpuNamed(name string) (corev1.ResourceName, bool) {
	name = strings.ToLower(name)
	words := strings.FieldsFunc(name, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	has := func(models string) bool {
		return slices.ContainsFunc(strings.Fields(models), func(model string) bool { return slices.Contains(words, model) })
	}
	switch {
	case slices.Contains(words, "amd"), has(amdModels):
		return amdGPU, strings.Contains(name, "gpu") || has(amdModels)
	case strings.Contains(name, "gpu"), has(nvidiaModels):
		return nvidiaGPU, true
	}
	return "", false
}

func nodeInfoOf(image cloud.Image) infrav1.NodeInfo {
	info := infrav1.NodeInfo{Architecture: "amd64", OperatingSystem: "linux"}
	switch image.Architecture {
	case "aarch64", "arm64":
		info.Architecture = "arm64"
	case "s390x", "ppc64le":
		info.Architecture = image.Architecture
	}
	return info
}
