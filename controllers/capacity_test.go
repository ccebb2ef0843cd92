package controllers

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

func TestCapacityIsThatOfTheFlavor(t *testing.T) {
	flavor := cloud.Flavor{VCPUs: 32, MemoryMiB: 262144, DiskGiB: 100, EphemeralGiB: 400}
	withoutDisk := cloud.Flavor{VCPUs: 2, MemoryMiB: 4097}
	cases := map[string]struct {
		flavor cloud.Flavor
		spec   infrav1.SendanMachineSpec
		image  cloud.Image
		want   map[corev1.ResourceName]string
	}{
		"disks of the flavor": {flavor, infrav1.SendanMachineSpec{}, cloud.Image{},
			map[corev1.ResourceName]string{"cpu": "32", "memory": "256Gi", "ephemeral-storage": "500Gi"}},
		"a root volume instead": {flavor, infrav1.SendanMachineSpec{RootVolume: &infrav1.RootVolume{SizeGiB: 40}}, cloud.Image{},
			map[corev1.ResourceName]string{"cpu": "32", "memory": "256Gi", "ephemeral-storage": "40Gi"}},
		"a flavor without a disk takes the image's": {withoutDisk, infrav1.SendanMachineSpec{}, cloud.Image{MinDiskGiB: 20},
			map[corev1.ResourceName]string{"cpu": "2", "memory": "4097Mi", "ephemeral-storage": "20Gi"}},
		"a disk of unknown size is left out": {withoutDisk, infrav1.SendanMachineSpec{}, cloud.Image{},
			map[corev1.ResourceName]string{"cpu": "2", "memory": "4097Mi"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, _ := capacityOf(c.flavor, c.spec, c.image)
			expectResources(t, got, c.want)
		})
	}
}

func TestDevicesComeFromTheSpecOrElseFromTheFlavor(t *testing.T) {
	devices := []infrav1.Device{{ResourceName: "nvidia.com/mig-1g.10gb", Count: 7}}
	cases := map[string]struct {
		extraSpecs map[string]string
		devices    []infrav1.Device
		want       map[corev1.ResourceName]int64
	}{
		"none":                              {nil, nil, nil},
		"a PCI alias by model":              {map[string]string{"pci_passthrough:alias": "a100:4"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 4}},
		"other PCI devices do not count":    {map[string]string{"pci_passthrough:alias": "nic:2, h100-sxm5:8"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 8}},
		"two models add up":                 {map[string]string{"pci_passthrough:alias": "a100:4,l40s:2"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 6}},
		"an alias that says GPU":            {map[string]string{"pci_passthrough:alias": "biggpu:2"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 2}},
		"an AMD model":                      {map[string]string{"pci_passthrough:alias": "mi300x:8"}, nil, map[corev1.ResourceName]int64{"amd.com/gpu": 8}},
		"an AMD GPU without a model":        {map[string]string{"resources:CUSTOM_AMD_GPU": "2"}, nil, map[corev1.ResourceName]int64{"amd.com/gpu": 2}},
		"an AMD device that is none":        {map[string]string{"pci_passthrough:alias": "amd-nic:2"}, nil, nil},
		"a word inside a word is no model":  {map[string]string{"pci_passthrough:alias": "qat4xxx:1,a100x9:1"}, nil, nil},
		"virtual GPUs":                      {map[string]string{"resources:VGPU": "1"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 1}},
		"physical GPUs in granular groups":  {map[string]string{"resources1:PGPU": "1", "resources_GPU2:PGPU": "1"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 2}},
		"a custom class":                    {map[string]string{"resources:CUSTOM_GPU_A100": "4", "trait:CUSTOM_GPU_NVIDIA_A100": "required"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 4}},
		"other classes do not count":        {map[string]string{"resources:VCPU": "4", "resources:CUSTOM_FPGA": "1"}, nil, nil},
		"alias and class are the same GPUs": {map[string]string{"pci_passthrough:alias": "a100:4", "resources:CUSTOM_GPU_A100": "4"}, nil, map[corev1.ResourceName]int64{"nvidia.com/gpu": 4}},
		"garbage counts nothing":            {map[string]string{"pci_passthrough:alias": "a100:many", "resources:VGPU": ""}, nil, nil},
		"the spec's devices stand alone":    {map[string]string{"pci_passthrough:alias": "a100:1"}, devices, map[corev1.ResourceName]int64{"nvidia.com/mig-1g.10gb": 7}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got := devicesOf(cloud.Flavor{ExtraSpecs: c.extraSpecs}, infrav1.SendanMachineSpec{Devices: c.devices})
			if !maps.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestTheArchitectureIsThatOfTheImage(t *testing.T) {
	for property, want := range map[string]string{"": "amd64", "x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64", "ppc64le": "ppc64le", "i686": "amd64"} {
		if got := nodeInfoOf(cloud.Image{Architecture: property}); got.Architecture != want || got.OperatingSystem != "linux" {
			t.Errorf("image architecture %q: got %+v, want %s and linux", property, got, want)
		}
	}
}

func expectResources(t *testing.T, got corev1.ResourceList, want map[corev1.ResourceName]string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, text := range want {
		if quantity := got[name]; quantity.Cmp(resource.MustParse(text)) != 0 {
			t.Errorf("%s: got %s, want %s", name, quantity.String(), text)
		}
	}
}
