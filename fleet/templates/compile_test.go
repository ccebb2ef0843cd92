package templates

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

const classes = "sendan-fleet-system"

// updateGolden rewrites the files that tests compare with: UPDATE_GOLDEN=1 go test ./fleet/templates
const updateGolden = "UPDATE_GOLDEN"

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if os.Getenv(updateGolden) != "" {
		if err := os.WriteFile(file, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs; look at what %s=1 changes\ngot:\n%s", file, updateGolden, got)
	}
}

func asYAML(t *testing.T, objects ...client.Object) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, object := range objects {
		text, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "---\n%s", text)
	}
	return out.Bytes()
}

func TestAReleaseCompilesToAClassForASite(t *testing.T) {
	compiled := Compile(testRelease("v1-36-3", catalog(), "a100-mig", "h100", "npu"), tokyo(), classes)
	objects := slices.Clone(compiled.Templates)
	for _, class := range compiled.Classes {
		objects = append(objects, class)
	}
	golden(t, "compiled.golden.yaml", asYAML(t, objects...))
	if fmt.Sprint(compiled.Offered) != "[a100-mig h100 npu]" || len(compiled.Missing) > 0 {
		t.Errorf("offered %v, missing %v", compiled.Offered, compiled.Missing)
	}
}

// The annotations are those that the clusterapi provider of the cluster-autoscaler reads, as its README names them.
func TestTheAutoscalerLearnsWhatAnEmptyPoolWouldHave(t *testing.T) {
	templates := catalog()
	labeled := a100MIG()
	labeled.Labels, labeled.Taints = map[string]string{"team": "vision"}, []fleetv1.Taint{{Key: "dedicated", Value: "vision", Effect: "NoSchedule"}}
	labeled.Kubelet.MaxPods = 64
	templates["labeled"] = labeled
	mixed := a100MIG()
	mixed.GPU.MIGLayout = &fleetv1.MIGLayout{Instances: []fleetv1.MIGInstances{{Profile: "3g.20gb", Count: 1}, {Profile: "1g.5gb", Count: 4}}}
	templates["mixed"] = mixed
	compiled := Compile(testRelease("r", templates, "labeled", "mixed"), tokyo(), classes)
	pools := compiled.Classes[0].Spec.Workers.MachineDeployments

	annotations := pools[0].Metadata.Annotations
	for key, want := range map[string]string{
		"capacity.cluster-autoscaler.kubernetes.io/cpu":       "96",
		"capacity.cluster-autoscaler.kubernetes.io/memory":    "983040Mi",
		"capacity.cluster-autoscaler.kubernetes.io/gpu-type":  "nvidia.com/mig-1g.5gb",
		"capacity.cluster-autoscaler.kubernetes.io/gpu-count": "56",
		"capacity.cluster-autoscaler.kubernetes.io/maxPods":   "64",
		"capacity.cluster-autoscaler.kubernetes.io/taints":    "dedicated=vision:NoSchedule",
	} {
		if annotations[key] != want {
			t.Errorf("%s is %q, want %q", key, annotations[key], want)
		}
	}
	if labels := annotations["capacity.cluster-autoscaler.kubernetes.io/labels"]; !strings.Contains(labels, "team=vision") || !strings.Contains(labels, "fleet.sendan.io/gpu-model=A100-40GB") {
		t.Errorf("labels are %q", labels)
	}
	// Two kinds of slices do not fit into one pair of annotations; the machine template's status tells both.
	if _, named := pools[1].Metadata.Annotations["capacity.cluster-autoscaler.kubernetes.io/gpu-type"]; named {
		t.Error("a mixed layout has one GPU type")
	}
	for _, object := range compiled.Templates {
		machine, isMachine := object.(*infrav1.SendanMachineTemplate)
		if !isMachine || !strings.HasPrefix(machine.Name, "node-") {
			continue
		}
		for _, device := range machine.Spec.Template.Spec.Devices {
			if device.ResourceName == "nvidia.com/gpu" {
				t.Errorf("%s promises whole GPUs, which a pod would then ask for", machine.Name)
			}
		}
	}
}

func TestWhatASiteLacksIsNotOfferedThere(t *testing.T) {
	site := tokyo()
	site.Spec.Flavors[2].NameInCloud = "g2.h100.8" // no such flavor
	site.Status.Flavors[1].GPUs = 4                // half of what the template says
	site.Status.Images = []string{"kube-1.36"}     // no image with MN-Core
	compiled := Compile(testRelease("r", catalog(), "a100-mig", "h100", "npu"), site, classes)
	want := []string{
		"a100-mig: flavor g1.a100.8 has 4 × A100-40GB, and the template says 8 × A100-40GB",
		"h100: site tokyo has no flavor g2.h100.8, which it calls gpu-h100-8 by",
		"npu: site tokyo has no image kube-1.36-mncore",
	}
	if !slices.Equal(compiled.Missing, want) || len(compiled.Offered) != 0 {
		t.Errorf("offered %v, missing %q, want %q", compiled.Offered, compiled.Missing, want)
	}
	if len(compiled.Classes) != 1 {
		t.Errorf("there are %d classes, want the one for clusters without workers", len(compiled.Classes))
	}
	site.Status.Images = nil
	if compiled := Compile(testRelease("r", catalog(), "npu"), site, classes); len(compiled.Classes) != 0 || len(compiled.Missing) != 1 {
		t.Errorf("without an image for the control plane there are classes %v, missing %v", compiled.Classes, compiled.Missing)
	}
}

func TestNamesAreHashesOfTheContent(t *testing.T) {
	type names struct{ whole, content []string }
	namesIn := func(release *fleetv1.Release) (all names) {
		for _, ref := range templateRefs(Compile(release, tokyo(), classes).Classes[0]) {
			all.whole, all.content = append(all.whole, ref.Name), append(all.content, contentOf(*ref))
		}
		return all
	}
	shared := func(a, b []string) (n int) {
		for _, name := range a {
			if slices.Contains(b, name) {
				n++
			}
		}
		return n
	}
	first := namesIn(testRelease("r1", catalog(), "a100-mig", "h100"))
	if again := namesIn(testRelease("r1", catalog(), "a100-mig", "h100")); !slices.Equal(again.whole, first.whole) {
		t.Errorf("the same release has the templates %v and %v", first.whole, again.whole)
	}
	// Their content is told apart from whose they are, so that a class can be compared with another.
	other := namesIn(testRelease("r2", catalog(), "h100", "a100-mig"))
	if shared(first.content, other.content) != len(first.content) || shared(first.whole, other.whole) != 0 {
		t.Errorf("an equal release of another name has the templates %v, want those of %v, but its own", other.whole, first.whole)
	}
	changed := catalog()
	template := a100MIG()
	template.GPU.MIGLayout.Uniform = "all-2g"
	changed["a100-mig"] = template
	// The machine template and the bootstrap template of the pool, and nothing else.
	if again := namesIn(testRelease("r3", changed, "a100-mig", "h100")); shared(first.content, again.content) != len(first.content)-2 {
		t.Errorf("after one node template changed the templates are %v, want %v but for two", again.content, first.content)
	}
}

// A template with two owners, of which one is not moved, stops `clusterctl move`.
func TestNoTwoClassesHaveATemplateInCommon(t *testing.T) {
	owners := map[string]string{}
	for _, release := range []*fleetv1.Release{testRelease("r1", catalog(), "a100-mig", "npu"), testRelease("r2", catalog(), "a100-mig", "npu")} {
		for _, site := range []*fleetv1.Site{tokyo(), osaka()} {
			compiled := Compile(release, site, classes)
			made := map[string]bool{}
			for _, template := range compiled.Templates {
				made[kindOf(template).Kind+"/"+template.GetName()] = true
			}
			for _, class := range compiled.Classes {
				for _, ref := range templateRefs(class) {
					key := ref.Kind + "/" + ref.Name
					if owner := owners[key]; owner != "" && owner != class.Name {
						t.Errorf("%s is in %s and in %s", key, owner, class.Name)
					}
					if !made[key] {
						t.Errorf("%s refers to %s, which is not made", class.Name, key)
					}
					owners[key] = class.Name
				}
			}
		}
	}
}

func TestAClusterOfOneMachineTakesPodsAndHasNoLoadBalancer(t *testing.T) {
	compiled := Compile(testRelease("r", catalog(), "npu"), tokyo(), classes)
	class := compiled.Classes[1]
	if class.Labels[fleetv1.SingleNodeLabel] != "npu" || len(class.Spec.Workers.MachineDeployments) > 0 {
		t.Fatalf("class %v has pools %v", class.Labels, class.Spec.Workers.MachineDeployments)
	}
	find := func(name string) client.Object {
		at := slices.IndexFunc(compiled.Templates, func(o client.Object) bool { return o.GetName() == name })
		return compiled.Templates[at]
	}
	endpoint := find(class.Spec.Infrastructure.TemplateRef.Name).(*infrav1.SendanClusterTemplate).Spec.Template.Spec.Endpoint
	if endpoint.LoadBalancer != nil || endpoint.VirtualIP.Address != "10.6.15.254" {
		t.Errorf("its endpoint is %+v", endpoint)
	}
	config := find(class.Spec.ControlPlane.TemplateRef.Name).(*controlplanev1.KubeadmControlPlaneTemplate).Spec.Template.Spec.KubeadmConfigSpec
	taints := *config.InitConfiguration.NodeRegistration.Taints
	if len(taints) != 1 || taints[0].Key != fleetv1.DevicesTaint {
		t.Errorf("it registers with the taints %v, want the one until its devices are there", taints)
	}
	if !strings.Contains(config.Files[0].Content, "address=10.6.15.254\n") {
		t.Errorf("the machine does not hold the address:\n%s", config.Files[0].Content)
	}
	if class.Spec.ControlPlane.Metadata.Annotations[fleetv1.DevicesAnnotation] != "example.com/npu=4" {
		t.Errorf("its machine has the annotations %v", class.Spec.ControlPlane.Metadata.Annotations)
	}
}

func TestANodeWithAMDsGPUsIsHeldToADriverThatItsTemplatePins(t *testing.T) {
	pinned := fleetv1.NodeTemplateSpec{Flavor: "mi300x-8", ImageFamily: "ubuntu-24.04", Generation: "CDNA3", GPU: &fleetv1.GPU{
		Vendor: fleetv1.GPUVendorAMD, Model: "MI300X-192GB", Count: 8, Driver: fleetv1.GPUDriver{Version: "6.12.12"},
	}}
	unpinned := *pinned.DeepCopy()
	unpinned.GPU.Driver = fleetv1.GPUDriver{}
	release := testRelease("r", map[string]fleetv1.NodeTemplateSpec{"pinned": pinned, "unpinned": unpinned}, "pinned", "unpinned")
	release.Spec.Images = append(release.Spec.Images,
		fleetv1.ReleaseImage{Family: "ubuntu-24.04", Image: "kube-1.36-amdgpu-6.10", Generations: []string{"CDNA3"}, Driver: fleetv1.ImageDriver{Version: "6.10.5"}},
		fleetv1.ReleaseImage{Family: "ubuntu-24.04", Image: "kube-1.36-amdgpu-6.12", Generations: []string{"CDNA3"}, Driver: fleetv1.ImageDriver{Version: "6.12.12"}})
	site := tokyo()
	site.Spec.GPUs = append(site.Spec.GPUs, fleetv1.SiteGPU{Model: "MI300X-192GB", PCIAlias: "mi300x"})
	site.Status.Flavors = append(site.Status.Flavors, fleetv1.SiteFlavor{Name: "mi300x-8", VCPUs: 192, MemoryMiB: 1_966_080, GPUModel: "MI300X-192GB", GPUs: 8})
	site.Status.Images = append(site.Status.Images, "kube-1.36-amdgpu-6.10", "kube-1.36-amdgpu-6.12")

	compiled := Compile(release, site, classes)
	if wrong := checkRelease(release); len(wrong) > 0 || len(compiled.Missing) > 0 {
		t.Fatalf("refused as %v, missing %v", wrong, compiled.Missing)
	}
	for i, want := range []struct{ driver, image string }{{"6.12.12", "kube-1.36-amdgpu-6.12"}, {"", "kube-1.36-amdgpu-6.10"}} {
		pool := compiled.Classes[0].Spec.Workers.MachineDeployments[i]
		if got := pool.Metadata.Annotations; got[fleetv1.DriverVersionAnnotation] != want.driver || got[fleetv1.DevicesAnnotation] != "amd.com/gpu=8" {
			t.Errorf("%s promises %v, want the driver %q", pool.Class, got, want.driver)
		}
		at := slices.IndexFunc(compiled.Templates, func(o client.Object) bool {
			return kindOf(o).Kind == "SendanMachineTemplate" && o.GetName() == pool.Infrastructure.TemplateRef.Name
		})
		if got := compiled.Templates[at].(*infrav1.SendanMachineTemplate).Spec.Template.Spec.Image.Name; got != want.image {
			t.Errorf("%s has the image %s, want %s", pool.Class, got, want.image)
		}
	}
}

func TestTheHeldAddressIsTheLastOfTheNetwork(t *testing.T) {
	for cidr, want := range map[string]string{"10.6.0.0/24": "10.6.0.254", "192.168.4.0/22": "192.168.7.254", "10.0.0.16/29": "10.0.0.22", "fd00::/64": "fd00::ffff:ffff:ffff:fffe"} {
		site := tokyo()
		site.Spec.NetworkCIDR = cidr
		if got := (siteFacts{site}).heldAddress(); got != want {
			t.Errorf("%s: %s, want %s", cidr, got, want)
		}
	}
}

func TestWhatANodeCostsIsOnItsClass(t *testing.T) {
	class := Compile(testRelease("r", catalog(), "a100-mig", "h100"), tokyo(), classes).Classes[0]
	charge := func(metadata clusterv1.ObjectMeta) (charge fleetv1.NodeCharge) {
		if err := json.Unmarshal([]byte(metadata.Annotations[fleetv1.NodeChargeAnnotation]), &charge); err != nil {
			t.Fatal(err)
		}
		return charge
	}
	if got := charge(class.Spec.ControlPlane.Metadata); got.VCPUs != 4 || got.MemoryMiB != 8192 {
		t.Errorf("control plane: %+v", got)
	}
	if got := charge(class.Spec.Workers.MachineDeployments[0].Metadata); got.GPUs != 0 || got.MIGSlices["1g.5gb"] != 56 || got.VCPUs != 96 {
		t.Errorf("a100-mig: %+v", got)
	}
	if got := charge(class.Spec.Workers.MachineDeployments[1].Metadata); got.GPUs != 8 || got.GPUModel != "H100-80GB" {
		t.Errorf("h100: %+v", got)
	}
}

// BenchmarkCompile is for a release of 50 node templates; the budget is a second.
func BenchmarkCompile(b *testing.B) {
	templates, order := map[string]fleetv1.NodeTemplateSpec{}, []string{}
	for i := range 50 {
		template := a100MIG()
		template.Labels = map[string]string{"number": fmt.Sprint(i)}
		name := fmt.Sprintf("template-%d", i)
		templates[name], order = template, append(order, name)
	}
	release, site := testRelease("r", templates, order...), tokyo()
	b.ReportAllocs()
	for b.Loop() {
		if compiled := Compile(release, site, classes); len(compiled.Offered) != 50 {
			b.Fatal(compiled.Missing)
		}
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/release")
}
