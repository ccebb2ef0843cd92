package templates

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func a100MIG() fleetv1.NodeTemplateSpec {
	return fleetv1.NodeTemplateSpec{
		Flavor: "gpu-a100-8", ImageFamily: "ubuntu-24.04",
		GPU: &fleetv1.GPU{Model: "A100-40GB", Count: 8, Sharing: fleetv1.GPUMIG, MIGLayout: &fleetv1.MIGLayout{Uniform: "all-1g"}},
	}
}

func h100() fleetv1.NodeTemplateSpec {
	return fleetv1.NodeTemplateSpec{
		Flavor: "gpu-h100-8", ImageFamily: "ubuntu-24.04",
		GPU:         &fleetv1.GPU{Model: "H100-80GB", Count: 8, Driver: fleetv1.GPUDriver{Branch: "570"}},
		Taints:      []fleetv1.Taint{{Key: "nvidia.com/gpu", Effect: "NoSchedule"}},
		Autoscaling: fleetv1.Autoscaling{MaxSize: 4},
	}
}

func npu() fleetv1.NodeTemplateSpec {
	return fleetv1.NodeTemplateSpec{
		Flavor: "npu-4", ImageFamily: "ubuntu-24.04", Generation: "MN-Core", Devices: []fleetv1.Device{{ResourceName: "example.com/npu", Count: 4}},
		SingleNode: ptr.To(true),
	}
}

func testRelease(name string, templates map[string]fleetv1.NodeTemplateSpec, order ...string) *fleetv1.Release {
	release := &fleetv1.Release{ObjectMeta: metav1.ObjectMeta{Name: name}}
	release.Spec = fleetv1.ReleaseSpec{
		KubernetesVersion: "v1.36.3", Channels: []string{"stable"},
		Images: []fleetv1.ReleaseImage{
			{Family: "ubuntu-24.04", Image: "kube-1.36"},
			{Family: "ubuntu-24.04", Image: "kube-1.36-nvidia", Generations: []string{"Ampere", "Hopper"}, Driver: fleetv1.ImageDriver{Version: "570.172.08"}},
			{Family: "ubuntu-24.04", Image: "kube-1.36-mncore", Generations: []string{"MN-Core"}},
		},
		ControlPlane: fleetv1.ReleaseControlPlane{Flavor: "control-plane", ImageFamily: "ubuntu-24.04"},
	}
	for _, name := range order {
		release.Spec.NodeTemplates = append(release.Spec.NodeTemplates, fleetv1.ReleaseNodeTemplate{Name: name, Spec: ptr.To(templates[name])})
	}
	release.Status.Phase = fleetv1.ReleaseSupported
	return release
}

// tokyo has everything under other names than the fleet uses.
func tokyo() *fleetv1.Site {
	site := &fleetv1.Site{ObjectMeta: metav1.ObjectMeta{Name: "tokyo"}}
	site.Spec = fleetv1.SiteSpec{
		IdentityRef: fleetv1.SiteIdentityReference{Name: "tokyo", CloudName: "openstack"}, ExternalNetwork: "public", NetworkCIDR: "10.6.0.0/20",
		Flavors: []fleetv1.NameInCloud{{Name: "control-plane", NameInCloud: "m1.medium"}, {Name: "gpu-a100-8", NameInCloud: "g1.a100.8"}, {Name: "gpu-h100-8", NameInCloud: "g1.h100.8"}, {Name: "npu-4", NameInCloud: "n1.npu.4"}},
		GPUs:    []fleetv1.SiteGPU{{Model: "A100-40GB", PCIAlias: "a100"}, {Model: "H100-80GB", PCIAlias: "h100"}},
	}
	site.Status = fleetv1.SiteStatus{
		Flavors: []fleetv1.SiteFlavor{
			{Name: "m1.medium", VCPUs: 4, MemoryMiB: 8192},
			{Name: "g1.a100.8", VCPUs: 96, MemoryMiB: 983_040, GPUModel: "A100-40GB", GPUs: 8},
			{Name: "g1.h100.8", VCPUs: 192, MemoryMiB: 1_966_080, GPUModel: "H100-80GB", GPUs: 8},
			{Name: "n1.npu.4", VCPUs: 64, MemoryMiB: 524_288},
		},
		Images: []string{"kube-1.36", "kube-1.36-nvidia", "kube-1.36-mncore"},
	}
	return site
}

func catalog() map[string]fleetv1.NodeTemplateSpec {
	return map[string]fleetv1.NodeTemplateSpec{"a100-mig": a100MIG(), "h100": h100(), "npu": npu()}
}

func shapeOf(t *testing.T, name string, spec fleetv1.NodeTemplateSpec) Shape {
	t.Helper()
	shape, wrong := ShapeOf(name, spec, field.NewPath("spec"))
	if len(wrong) > 0 {
		t.Fatalf("%s: %v", name, wrong.ToAggregate())
	}
	return shape
}

// wantError fails unless one of the errors has all the words.
func wantError(t *testing.T, wrong field.ErrorList, words ...string) {
	t.Helper()
	for _, err := range wrong {
		has := 0
		for _, word := range words {
			if strings.Contains(err.Error(), word) {
				has++
			}
		}
		if has == len(words) {
			return
		}
	}
	t.Errorf("got %v, want an error with %s", fmt.Sprint(wrong), strings.Join(words, ", "))
}
