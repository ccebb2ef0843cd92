package templates

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func gpuTemplate(change func(*fleetv1.GPU)) fleetv1.NodeTemplateSpec {
	spec := fleetv1.NodeTemplateSpec{Flavor: "f", ImageFamily: "ubuntu-24.04", GPU: &fleetv1.GPU{Model: "A100-40GB", Count: 8}}
	change(spec.GPU)
	return spec
}

func TestWhatANodeAdvertisesAndCosts(t *testing.T) {
	instances := func(pairs ...fleetv1.MIGInstances) *fleetv1.MIGLayout { return &fleetv1.MIGLayout{Instances: pairs} }
	cases := map[string]struct {
		spec    fleetv1.NodeTemplateSpec
		devices string
		gpus    int64
		slices  string
		mig     string
	}{
		"whole GPUs":      {gpuTemplate(func(*fleetv1.GPU) {}), "nvidia.com/gpu=8", 8, "null", ""},
		"56 small slices": {a100MIG(), "nvidia.com/mig-1g.5gb=56", 0, `{"1g.5gb":56}`, "all-1g.5gb"},
		"a balanced layout": {gpuTemplate(func(g *fleetv1.GPU) {
			g.Sharing = fleetv1.GPUMIG
			g.MIGLayout = instances(fleetv1.MIGInstances{Profile: "3g.20gb", Count: 1}, fleetv1.MIGInstances{Profile: "2g.10gb", Count: 1}, fleetv1.MIGInstances{Profile: "1g.5gb", Count: 2})
		}), "nvidia.com/mig-1g.5gb=16,nvidia.com/mig-2g.10gb=8,nvidia.com/mig-3g.20gb=8", 0, `{"1g.5gb":16,"2g.10gb":8,"3g.20gb":8}`, "custom-3g.20gbx1_2g.10gbx1_1g.5gbx2"},
		"media engines": {gpuTemplate(func(g *fleetv1.GPU) {
			g.Sharing, g.MIGLayout = fleetv1.GPUMIG, &fleetv1.MIGLayout{Uniform: "all-1g.5gb+me"}
		}), "nvidia.com/mig-1g.5gb.me=8", 0, `{"1g.5gb+me":8}`, "all-1g.5gb.me"},
		"turns":              {gpuTemplate(func(g *fleetv1.GPU) { g.Sharing, g.TimeSlicingReplicas = fleetv1.GPUTimeSlicing, 4 }), "nvidia.com/gpu.shared=32", 8, "null", ""},
		"a virtual GPU":      {gpuTemplate(func(g *fleetv1.GPU) { g.Sharing, g.Count = fleetv1.GPUVirtual, 1 }), "nvidia.com/gpu=1", 1, "null", ""},
		"AMD":                {gpuTemplate(func(g *fleetv1.GPU) { g.Vendor, g.Model = fleetv1.GPUVendorAMD, "MI300X" }), "amd.com/gpu=8", 8, "null", ""},
		"a model of nowhere": {gpuTemplate(func(g *fleetv1.GPU) { g.Model = "L40S-48GB" }), "nvidia.com/gpu=8", 8, "null", ""},
		"any accelerator":    {npu(), "example.com/npu=4", 0, "null", ""},
		"none":               {fleetv1.NodeTemplateSpec{Flavor: "f", ImageFamily: "i"}, "", 0, "null", ""},
	}
	for name, c := range cases {
		shape := shapeOf(t, "t", c.spec)
		if got := devicesText(shape.Devices); got != c.devices {
			t.Errorf("%s: devices %s, want %s", name, got, c.devices)
		}
		if shape.Charge.GPUs != c.gpus || compactJSON(shape.Charge.MIGSlices) != c.slices {
			t.Errorf("%s: charges %d GPUs and slices %v, want %d and %s", name, shape.Charge.GPUs, shape.Charge.MIGSlices, c.gpus, c.slices)
		}
		if got := shape.NodeLabels[migConfigLabel]; got != c.mig {
			t.Errorf("%s: %s is %q, want %q", name, migConfigLabel, got, c.mig)
		}
	}
}

func TestGenerationsHideWhatDiffers(t *testing.T) {
	cases := []struct {
		model, generation, memory string
		count                     int32
		fabric                    bool
	}{
		{"V100-32GB", "Volta", "page-retirement", 8, false},
		{"A30-24GB", "Ampere", "row-remapping", 8, false},
		{"A100-80GB", "Ampere", "row-remapping", 8, true},
		{"H100-80GB", "Hopper", "row-remapping", 8, true},
		{"H100-80GB", "Hopper", "row-remapping", 1, false},
		{"B200-180GB", "Blackwell", "row-remapping", 8, true},
	}
	for _, c := range cases {
		shape := shapeOf(t, "t", gpuTemplate(func(g *fleetv1.GPU) { g.Model, g.Count = c.model, c.count }))
		if shape.Generation != c.generation || shape.NodeLabels[memoryRepairLabel] != c.memory || shape.FabricManager != c.fabric {
			t.Errorf("%d × %s: %s, %s, fabric manager %t", c.count, c.model, shape.Generation, shape.NodeLabels[memoryRepairLabel], shape.FabricManager)
		}
	}
	without := shapeOf(t, "t", gpuTemplate(func(g *fleetv1.GPU) { g.FabricManager = ptr.To(false) }))
	if without.FabricManager || without.NodeLabels[fabricManagerLabel] != "" {
		t.Error("a template cannot say that eight cards have no switch")
	}
}

func TestATemplateThatCannotBeIsRefused(t *testing.T) {
	cases := map[string]struct {
		change func(*fleetv1.NodeTemplateSpec)
		words  []string
	}{
		"an impossible mix": {func(s *fleetv1.NodeTemplateSpec) {
			s.GPU.Sharing, s.GPU.MIGLayout = fleetv1.GPUMIG, &fleetv1.MIGLayout{Instances: []fleetv1.MIGInstances{{Profile: "4g.20gb", Count: 2}}}
		}, []string{"spec.gpu.migLayout.instances", "2 × 4g.20gb", "possible are 1 × 4g.20gb"}},
		"MIG on a V100": {func(s *fleetv1.NodeTemplateSpec) {
			s.GPU.Model, s.GPU.Sharing, s.GPU.MIGLayout = "V100-32GB", fleetv1.GPUMIG, &fleetv1.MIGLayout{Uniform: "all-1g"}
		}, []string{"spec.gpu.migLayout.uniform", "V100-32GB cannot be partitioned"}},
		"MIG on who knows what": {func(s *fleetv1.NodeTemplateSpec) {
			s.GPU.Model, s.GPU.Sharing, s.GPU.MIGLayout = "X1", fleetv1.GPUMIG, &fleetv1.MIGLayout{Uniform: "all-1g"}
		}, []string{"spec.gpu.model", `"X1"`, `"A100-40GB"`}},
		"MIG without a layout": {func(s *fleetv1.NodeTemplateSpec) { s.GPU.Sharing = fleetv1.GPUMIG }, []string{"spec.gpu.migLayout", "Required"}},
		"MIG of AMD": {func(s *fleetv1.NodeTemplateSpec) { s.GPU.Vendor, s.GPU.Sharing = fleetv1.GPUVendorAMD, fleetv1.GPUMIG },
			[]string{"spec.gpu.sharing", `"Passthrough"`}},
		"two generations":          {func(s *fleetv1.NodeTemplateSpec) { s.Generation = "Hopper" }, []string{"spec.generation", "known from gpu.model"}},
		"a label of Kubernetes":    {func(s *fleetv1.NodeTemplateSpec) { s.Labels = map[string]string{"node-role.kubernetes.io/gpu": ""} }, []string{"spec.labels[node-role.kubernetes.io/gpu]", "domain of your own"}},
		"a label of the template":  {func(s *fleetv1.NodeTemplateSpec) { s.Labels = map[string]string{fleetv1.GPUModelLabel: "H100"} }, []string{"is A100-40GB by the rest", "leave it out"}},
		"a value that is no label": {func(s *fleetv1.NodeTemplateSpec) { s.Labels = map[string]string{"a": "b c"} }, []string{"spec.labels[a]", `"b c"`}},
		"our own taint": {func(s *fleetv1.NodeTemplateSpec) {
			s.Taints = []fleetv1.Taint{{Key: fleetv1.DevicesTaint, Effect: "NoSchedule"}}
		}, []string{"spec.taints[0].key", "leave it out"}},
		"a taint twice": {func(s *fleetv1.NodeTemplateSpec) {
			s.Taints = []fleetv1.Taint{{Key: "a", Effect: "NoSchedule"}, {Key: "a", Value: "b", Effect: "NoSchedule"}}
		}, []string{"spec.taints[1]", "Duplicate"}},
		"devices twice": {func(s *fleetv1.NodeTemplateSpec) {
			s.Devices = []fleetv1.Device{{ResourceName: "nvidia.com/gpu", Count: 1}}
		}, []string{"spec.devices[nvidia.com/gpu]", "Duplicate"}},
		"a reservation of GPUs": {func(s *fleetv1.NodeTemplateSpec) {
			s.Kubelet.SystemReserved = corev1.ResourceList{"nvidia.com/gpu": resource.MustParse("1")}
		}, []string{"spec.kubelet.systemReserved", `"nvidia.com/gpu"`, `"cpu"`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			spec := gpuTemplate(func(*fleetv1.GPU) {})
			c.change(&spec)
			_, wrong := ShapeOf("t", spec, field.NewPath("spec"))
			wantError(t, wrong, c.words...)
		})
	}
}

func TestAnImageIsChosenByFamilyGenerationAndDriver(t *testing.T) {
	images := testRelease("r", nil).Spec.Images
	images = append(images, fleetv1.ReleaseImage{Family: "ubuntu-24.04", Image: "kube-1.36-nvidia-550", Generations: []string{"Ampere"}, Driver: fleetv1.ImageDriver{Version: "550.90.07", FabricManager: ptr.To(false)}})
	cases := map[string]struct {
		change      func(*fleetv1.NodeTemplateSpec)
		want, wrong string
	}{
		"by generation":               {func(*fleetv1.NodeTemplateSpec) {}, "kube-1.36-nvidia", ""},
		"by version":                  {func(s *fleetv1.NodeTemplateSpec) { s.GPU.Driver.Version, s.GPU.Count = "550.90.07", 1 }, "kube-1.36-nvidia-550", ""},
		"by branch":                   {func(s *fleetv1.NodeTemplateSpec) { s.GPU.Driver.Branch, s.GPU.Count = "550", 1 }, "kube-1.36-nvidia-550", ""},
		"a model of no generation":    {func(s *fleetv1.NodeTemplateSpec) { s.GPU.Model = "L40S-48GB" }, "kube-1.36", ""},
		"no GPU":                      {func(s *fleetv1.NodeTemplateSpec) { s.GPU = nil }, "kube-1.36", ""},
		"an unknown family":           {func(s *fleetv1.NodeTemplateSpec) { s.ImageFamily = "rocky-9" }, "", "no image of the family rocky-9; it has ubuntu-24.04"},
		"a driver that no image has":  {func(s *fleetv1.NodeTemplateSpec) { s.GPU.Driver.Version = "535.1" }, "", "with driver 535.1; for Ampere there are 550.90.07, 570.172.08"},
		"a driver without the fabric": {func(s *fleetv1.NodeTemplateSpec) { s.GPU.Driver.Branch = "550" }, "", "has no fabric manager, which 8 × A100-40GB need"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			spec := gpuTemplate(func(*fleetv1.GPU) {})
			c.change(&spec)
			image, err := resolveImage(images, spec, shapeOf(t, "t", spec))
			if c.wrong == "" && (err != nil || image.Image != c.want) {
				t.Errorf("got %s, %v; want %s", image.Image, err, c.want)
			}
			if c.wrong != "" {
				wantError(t, field.ErrorList{field.Invalid(field.NewPath("x"), "", errorText(err))}, c.wrong)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return "no error"
	}
	return err.Error()
}

func TestADriverMustKnowTheGPU(t *testing.T) {
	for _, c := range []struct{ model, version, want string }{
		{"V100-32GB", "580.65.06", "no error"},
		{"V100-32GB", "590.10", "no longer knows V100-32GB, whose last branch is 580"},
		{"B200-180GB", "550.90.07", "too old for B200-180GB, which needs at least 570"},
		{"H100-80GB", "latest", "does not begin with the number of a branch"},
	} {
		shape := shapeOf(t, "t", gpuTemplate(func(g *fleetv1.GPU) { g.Model = c.model }))
		wantError(t, field.ErrorList{field.Invalid(field.NewPath("x"), "", errorText(shape.drivers(c.version)))}, c.want)
	}
}
