package templates

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// Labels of nodes that NVIDIA's software acts on, and Sendan's own.
const (
	migConfigLabel          = "nvidia.com/mig.config"
	devicePluginConfigLabel = "nvidia.com/device-plugin.config"
	generationLabel         = "fleet.sendan.io/gpu-generation"
	memoryRepairLabel       = "fleet.sendan.io/gpu-memory-repair"
	fabricManagerLabel      = "fleet.sendan.io/fabric-manager"
	rdmaLabel               = "fleet.sendan.io/rdma"
)

// The resources that the vendors' device plugins advertise. Shared GPUs have a name of their own, so that a pod that wants a
// whole one never gets a turn on one.
const (
	nvidiaGPU       = "nvidia.com/gpu"
	nvidiaSharedGPU = "nvidia.com/gpu.shared"
	amdGPU          = "amd.com/gpu"
)

// Shape is what a NodeTemplate means, whatever the site and the release.
type Shape struct {
	// Generation chooses the image; empty where no accelerator needs one of its own.
	Generation string
	// Devices that a node advertises once its device plugins run.
	Devices []fleetv1.Device
	// Charge of one node, without what only the flavor tells.
	Charge fleetv1.NodeCharge
	// NodeLabels that a node registers with.
	NodeLabels map[string]string
	// FabricManager says whether the node has to run NVIDIA's.
	FabricManager bool
	// drivers says why a version of the driver cannot run the GPU; nil where nothing is known of it.
	drivers func(version string) error
}

// ShapeOf works out what the template of that name means. Errors name fields below path.
func ShapeOf(name string, spec fleetv1.NodeTemplateSpec, path *field.Path) (Shape, field.ErrorList) {
	shape := Shape{
		Generation: spec.Generation,
		Devices:    slices.Clone(spec.Devices),
		NodeLabels: map[string]string{fleetv1.NodeTemplateLabel: name},
	}
	var wrong field.ErrorList
	if spec.GPU != nil {
		if _, known := FindModel(spec.GPU.Model); known && spec.Generation != "" {
			wrong = append(wrong, field.Forbidden(path.Child("generation"), "is known from gpu.model; leave it out"))
		}
		wrong = append(wrong, shape.addGPU(*spec.GPU, path.Child("gpu"))...)
	}
	if len(wrong) > 0 {
		return Shape{}, wrong // what follows would only repeat it
	}
	if spec.Network.RDMA != nil && *spec.Network.RDMA {
		shape.NodeLabels[rdmaLabel] = "true"
	}
	wrong = append(wrong, shape.addLabels(spec.Labels, path.Child("labels"))...)
	wrong = append(wrong, checkTaints(spec.Taints, path.Child("taints"))...)
	wrong = append(wrong, checkDevices(shape.Devices, path.Child("devices"))...)
	wrong = append(wrong, checkKubelet(spec.Kubelet, path.Child("kubelet"))...)
	slices.SortFunc(shape.Devices, func(a, b fleetv1.Device) int { return cmp.Compare(a.ResourceName, b.ResourceName) })
	return shape, wrong
}

// sharing is Passthrough where a spec has not been through the API server's defaults.
func sharing(gpu fleetv1.GPU) fleetv1.GPUSharing { return cmp.Or(gpu.Sharing, fleetv1.GPUPassthrough) }

func (s *Shape) addGPU(gpu fleetv1.GPU, path *field.Path) field.ErrorList {
	s.Charge.GPUModel = gpu.Model
	s.NodeLabels[fleetv1.GPUModelLabel] = gpu.Model
	model, known := FindModel(gpu.Model)
	if known {
		s.addGeneration(model.Generation, gpu)
	}
	if gpu.FabricManager != nil {
		s.FabricManager = *gpu.FabricManager
	}
	if s.FabricManager {
		s.NodeLabels[fabricManagerLabel] = "true"
	}
	if gpu.Vendor == fleetv1.GPUVendorAMD {
		return s.addAMD(gpu, path)
	}
	switch sharing(gpu) {
	case fleetv1.GPUMIG:
		return s.addSlices(model, known, gpu, path)
	case fleetv1.GPUTimeSlicing:
		s.NodeLabels[devicePluginConfigLabel] = "timeslicing-" + strconv.Itoa(int(gpu.TimeSlicingReplicas))
		s.addDevice(nvidiaSharedGPU, gpu.Count*gpu.TimeSlicingReplicas)
	case fleetv1.GPUPassthrough, fleetv1.GPUVirtual:
		s.addDevice(nvidiaGPU, gpu.Count)
	}
	s.Charge.GPUs = int64(gpu.Count)
	return nil
}

func (s *Shape) addGeneration(generation Generation, gpu fleetv1.GPU) {
	s.Generation = generation.Name
	s.NodeLabels[generationLabel] = generation.Name
	s.NodeLabels[memoryRepairLabel] = generation.MemoryRepair
	s.FabricManager = generation.FabricManagerFrom > 0 && gpu.Count >= generation.FabricManagerFrom
	s.drivers = func(version string) error { return generation.checkDriver(gpu.Model, version) }
}

func (s *Shape) addAMD(gpu fleetv1.GPU, path *field.Path) field.ErrorList {
	if sharing(gpu) != fleetv1.GPUPassthrough && sharing(gpu) != fleetv1.GPUVirtual {
		return field.ErrorList{field.NotSupported(path.Child("sharing"), sharing(gpu), []fleetv1.GPUSharing{fleetv1.GPUPassthrough, fleetv1.GPUVirtual})}
	}
	s.addDevice(amdGPU, gpu.Count)
	s.Charge.GPUs = int64(gpu.Count)
	return nil
}

// addSlices replaces the GPUs by what each of them is partitioned into.
func (s *Shape) addSlices(model Model, known bool, gpu fleetv1.GPU, path *field.Path) field.ErrorList {
	if !known {
		return field.ErrorList{field.NotSupported(path.Child("model"), gpu.Model, modelsWithMIG())}
	}
	layout, wrong := layoutOf(model, gpu.MIGLayout, path.Child("migLayout"))
	if len(wrong) > 0 {
		return wrong
	}
	s.Charge.MIGSlices = map[string]int64{}
	for _, profile := range slices.Sorted(maps.Keys(layout)) {
		count := gpu.Count * int32(layout[profile]) //nolint:gosec // at most 64 GPUs of 7 instances
		s.addDevice(Profile{Name: profile}.ResourceName(), count)
		s.Charge.MIGSlices[profile] = int64(count)
	}
	s.NodeLabels[migConfigLabel] = migConfig(layout, gpu.MIGLayout.Uniform != "")
	return nil
}

func layoutOf(model Model, wanted *fleetv1.MIGLayout, path *field.Path) (Layout, field.ErrorList) {
	if wanted == nil {
		return nil, field.ErrorList{field.Required(path, "sharing MIG needs a layout, such as {uniform: all-1g}")}
	}
	if wanted.Uniform != "" {
		layout, err := model.UniformLayout(wanted.Uniform)
		if err != nil {
			return nil, field.ErrorList{field.Invalid(path.Child("uniform"), wanted.Uniform, err.Error())}
		}
		return layout, nil
	}
	layout := Layout{}
	for _, instances := range wanted.Instances {
		layout[instances.Profile] = int(instances.Count)
	}
	if err := model.Check(layout); err != nil {
		return nil, field.ErrorList{field.Invalid(path.Child("instances"), layout.String(), err.Error())}
	}
	return layout, nil
}

// migConfig is how a node asks to be partitioned: the name that NVIDIA's MIG manager has for a uniform layout, else one that
// says it all. A plus sign cannot be in a label.
func migConfig(layout Layout, uniform bool) string {
	names := slices.Sorted(maps.Keys(layout))
	slices.Reverse(names)
	if uniform {
		return "all-" + labeled(names[0])
	}
	parts := make([]string, 0, len(names))
	for _, name := range names {
		parts = append(parts, fmt.Sprintf("%sx%d", labeled(name), layout[name]))
	}
	return "custom-" + strings.Join(parts, "_")
}

func labeled(profile string) string { return strings.ReplaceAll(profile, "+", ".") }

func modelsWithMIG() []string {
	var names []string
	for _, model := range Models() {
		if len(model.Profiles) > 0 {
			names = append(names, model.Name)
		}
	}
	return names
}

// checkDriver compares branches: the number before the first dot.
func (g Generation) checkDriver(model, version string) error {
	text, _, _ := strings.Cut(version, ".")
	branch, err := strconv.Atoi(text)
	switch {
	case err != nil:
		return fmt.Errorf("driver %s does not begin with the number of a branch, such as 570.172.08", version)
	case branch < g.FirstDriver:
		return fmt.Errorf("driver %s is too old for %s, which needs at least %d", version, model, g.FirstDriver)
	case g.LastDriver > 0 && branch > g.LastDriver:
		return fmt.Errorf("driver %s no longer knows %s, whose last branch is %d", version, model, g.LastDriver)
	}
	return nil
}

func (s *Shape) addDevice(resourceName string, count int32) {
	s.Devices = append(s.Devices, fleetv1.Device{ResourceName: resourceName, Count: count})
}

// addLabels refuses what a kubelet may not give its own node, by the NodeRestriction admission of Kubernetes, and what the
// template itself decides.
func (s *Shape) addLabels(labels map[string]string, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		value := labels[key]
		prefix, _, _ := strings.Cut(key, "/")
		own, taken := s.NodeLabels[key]
		switch {
		case len(validation.IsQualifiedName(key)) > 0:
			wrong = append(wrong, field.Invalid(path.Key(key), key, "cannot be the key of a label: "+strings.Join(validation.IsQualifiedName(key), "; ")))
		case len(validation.IsValidLabelValue(value)) > 0:
			wrong = append(wrong, field.Invalid(path.Key(key), value, "cannot be the value of a label: "+strings.Join(validation.IsValidLabelValue(value), "; ")))
		case isRestricted(prefix):
			wrong = append(wrong, field.Forbidden(path.Key(key), "a kubelet may not label its node so; use a domain of your own, or one below node.kubernetes.io or kubelet.kubernetes.io"))
		case taken && own != value:
			wrong = append(wrong, field.Forbidden(path.Key(key), fmt.Sprintf("is %s by the rest of the template; leave it out", own)))
		}
		s.NodeLabels[key] = value
	}
	return wrong
}

func isRestricted(prefix string) bool {
	below := func(domain string) bool { return prefix == domain || strings.HasSuffix(prefix, "."+domain) }
	if below("node.kubernetes.io") || below("kubelet.kubernetes.io") {
		return false
	}
	return below("kubernetes.io") || below("k8s.io")
}

func checkTaints(taints []fleetv1.Taint, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	seen := map[string]bool{}
	for i, taint := range taints {
		id := taint.Key + ":" + string(taint.Effect)
		switch {
		case len(validation.IsQualifiedName(taint.Key)) > 0:
			wrong = append(wrong, field.Invalid(path.Index(i).Child("key"), taint.Key, "cannot be the key of a taint: "+strings.Join(validation.IsQualifiedName(taint.Key), "; ")))
		case len(validation.IsValidLabelValue(taint.Value)) > 0:
			wrong = append(wrong, field.Invalid(path.Index(i).Child("value"), taint.Value, "cannot be the value of a taint: "+strings.Join(validation.IsValidLabelValue(taint.Value), "; ")))
		case taint.Key == fleetv1.DevicesTaint:
			wrong = append(wrong, field.Forbidden(path.Index(i).Child("key"), "is put on every node with devices anyway, and taken off when they are there; leave it out"))
		case seen[id]:
			wrong = append(wrong, field.Duplicate(path.Index(i), id))
		}
		seen[id] = true
	}
	return wrong
}

func checkDevices(devices []fleetv1.Device, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	seen := map[string]bool{}
	for _, device := range devices {
		if seen[device.ResourceName] {
			wrong = append(wrong, field.Duplicate(path.Key(device.ResourceName), device.ResourceName))
		}
		seen[device.ResourceName] = true
	}
	return wrong
}

// reservable are the resources that a kubelet can keep from pods.
func reservable() []corev1.ResourceName {
	return []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage, "pid"}
}

func checkKubelet(kubelet fleetv1.Kubelet, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	for name, reserved := range map[string]corev1.ResourceList{"systemReserved": kubelet.SystemReserved, "kubeReserved": kubelet.KubeReserved} {
		for _, resource := range slices.Sorted(maps.Keys(reserved)) {
			if !slices.Contains(reservable(), resource) {
				wrong = append(wrong, field.NotSupported(path.Child(name), resource, reservable()))
			}
		}
	}
	return wrong
}
