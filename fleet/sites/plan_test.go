package sites

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

var (
	a100 = fleetv1.SiteGPU{Model: "A100-40GB", PCIAlias: "a100", ResourceClass: "CUSTOM_GPU_A100"}
	h100 = fleetv1.SiteGPU{Model: "H100-80GB", PCIAlias: "h100"}
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func TestTheGPUsOfAFlavorAreReadFromItsExtraSpecs(t *testing.T) {
	for name, c := range map[string]struct {
		extraSpecs map[string]string
		model      string
		count      int32
	}{
		"none":                         {nil, "", 0},
		"by alias":                     {map[string]string{"pci_passthrough:alias": "a100:4"}, "A100-40GB", 4},
		"by alias beside another":      {map[string]string{"pci_passthrough:alias": "nic:1, h100:8"}, "H100-80GB", 8},
		"by resource class":            {map[string]string{"resources:CUSTOM_GPU_A100": "2"}, "A100-40GB", 2},
		"in granular groups":           {map[string]string{"resources1:CUSTOM_GPU_A100": "1", "resources_GPU2:CUSTOM_GPU_A100": "1"}, "A100-40GB", 2},
		"by both ways, which are one":  {map[string]string{"pci_passthrough:alias": "a100:4", "resources:CUSTOM_GPU_A100": "4"}, "A100-40GB", 4},
		"of a class the site lacks":    {map[string]string{"resources:CUSTOM_NPU": "8"}, "", 0},
		"with a count that is no good": {map[string]string{"pci_passthrough:alias": "a100:many"}, "", 0},
		"of two models":                {map[string]string{"pci_passthrough:alias": "a100:1,h100:2"}, "H100-80GB", 2},
	} {
		t.Run(name, func(t *testing.T) {
			model, count := gpusOf(cloud.Flavor{ExtraSpecs: c.extraSpecs}, []fleetv1.SiteGPU{a100, h100})
			if model != c.model || count != c.count {
				t.Errorf("%d × %q, want %d × %q", count, model, c.count, c.model)
			}
		})
	}
}

// text is a capacity in one line.
func text(all []fleetv1.GPUCapacity) string {
	var lines []string
	for _, c := range all {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s %s %d %s %d", c.Model, c.FailureDomain, ptr.Deref(c.Free, -1), c.Source, c.Waiting)))
	}
	return strings.Join(lines, "\n")
}

func TestCapacity(t *testing.T) {
	flavors := []fleetv1.SiteFlavor{
		{Name: "small", VCPUs: 2, MemoryMiB: 4096},
		{Name: "one", VCPUs: 12, MemoryMiB: 1000, GPUModel: "A100-40GB", GPUs: 1},
		{Name: "eight", VCPUs: 96, MemoryMiB: 8000, GPUModel: "A100-40GB", GPUs: 8},
	}
	limits := func(instances, cores, ram int) []cloud.QuotaUsage {
		return []cloud.QuotaUsage{{Resource: "instances", Used: 2, Limit: instances}, {Resource: "cores", Used: 4, Limit: cores}, {Resource: "ram", Used: 0, Limit: ram}}
	}
	wait := func(flavor, zone string) Waiting { return Waiting{Flavor: flavor, Zone: zone} }
	placement := func(hosts ...cloud.HostResources) map[string][]cloud.HostResources {
		return map[string][]cloud.HostResources{"A100-40GB": hosts}
	}
	for name, c := range map[string]struct {
		facts   Facts
		waiting []Waiting
		want    string
	}{
		"Placement sums hosts by zone, and full zones have 0": {
			Facts{Free: placement(cloud.HostResources{Host: "a", Zone: "az1", Free: 3}, cloud.HostResources{Host: "b", Zone: "az1", Free: 1})}, nil,
			"A100-40GB az1 4 Placement 0\nA100-40GB az2 0 Placement 0",
		},
		"a zone that clusters may not use does not count": {
			Facts{Free: placement(cloud.HostResources{Zone: "az1", Free: 1}, cloud.HostResources{Zone: "staging", Free: 9})}, nil,
			"A100-40GB az1 1 Placement 0\nA100-40GB az2 0 Placement 0",
		},
		"without the right to see zones there is one number": {
			Facts{Free: placement(cloud.HostResources{Free: 3}, cloud.HostResources{Free: 4})}, nil,
			"A100-40GB  7 Placement 0",
		},
		"hosts in no zone that is known are a number of their own": {
			Facts{Free: placement(cloud.HostResources{Free: 3}, cloud.HostResources{Zone: "az2", Free: 4})}, nil,
			"A100-40GB  3 Placement 0\nA100-40GB az1 0 Placement 0\nA100-40GB az2 4 Placement 0",
		},
		"Placement holds in spite of machines that wait": {
			Facts{Free: placement(cloud.HostResources{Zone: "az1", Free: 3})}, []Waiting{wait("eight", ""), wait("eight", "az2")},
			"A100-40GB az1 3 Placement 1\nA100-40GB az2 0 Placement 2",
		},
		"a quota bounds by its scarcest part": {
			Facts{Quotas: limits(100, 40, 1_000_000)}, nil,
			"A100-40GB  3 Limits 0",
		},
		"a part without limit does not bound": {
			Facts{Quotas: limits(7, -1, -1)}, nil,
			"A100-40GB  5 Limits 0",
		},
		"a quota that is overdrawn leaves none": {
			Facts{Quotas: limits(1, 40, 1_000_000)}, nil,
			"A100-40GB  0 Limits 0",
		},
		"no limit is no number": {
			Facts{Quotas: limits(-1, -1, -1)}, nil, "",
		},
		"what Nova refused anywhere is 0 anywhere": {
			Facts{Quotas: limits(100, 40, 1_000_000)}, []Waiting{wait("one", ""), wait("small", "")},
			"A100-40GB  0 Failures 1",
		},
		"what Nova refused in a zone is 0 there": {
			Facts{Quotas: limits(100, 40, 1_000_000)}, []Waiting{wait("one", "az1"), wait("one", "az1")},
			"A100-40GB  3 Limits 2\nA100-40GB az1 0 Failures 2",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := capacityOf([]fleetv1.SiteGPU{a100, h100}, flavors, []string{"az1", "az2"}, c.facts, c.waiting)
			if text(got) != c.want {
				t.Errorf("got\n%s\nwant\n%s", text(got), c.want)
			}
		})
	}
}

func TestAPoolIsToldItsPlaceInLine(t *testing.T) {
	flavors := []fleetv1.SiteFlavor{
		{Name: "one", GPUModel: "A100-40GB", GPUs: 1}, {Name: "eight", GPUModel: "A100-40GB", GPUs: 8},
		{Name: "h", GPUModel: "H100-80GB", GPUs: 1}, {Name: "big"},
	}
	capacity := []fleetv1.GPUCapacity{
		{Model: "A100-40GB", FailureDomain: "az1", Free: ptr.To[int32](0), Source: fleetv1.CapacityFromPlacement},
		{Model: "A100-40GB", FailureDomain: "az2", Free: ptr.To[int32](3), Source: fleetv1.CapacityFromPlacement},
		{Model: "H100-80GB", Free: ptr.To[int32](4), Source: fleetv1.CapacityFromLimits},
	}
	pool := func(name string) types.NamespacedName { return types.NamespacedName{Namespace: "team", Name: name} }
	wait := func(name, of, flavor, zone string, minute int) Waiting {
		return Waiting{Machine: pool(name), Pool: pool(of), Flavor: flavor, Zone: zone, Since: noon.Add(time.Duration(minute) * time.Minute)}
	}
	waiting := []Waiting{
		wait("late", "late", "eight", "", 9), wait("late-2", "late", "eight", "", 10),
		wait("first", "first", "one", "az1", 3), wait("second", "second", "one", "az2", 4),
		wait("other", "other", "h", "", 1), wait("cpu", "cpu", "big", "az1", 2),
		{Machine: pool("control"), Flavor: "one", Since: noon},
	}
	messages := queue("tokyo", waiting, flavors, capacity)
	for name, want := range map[string]string{
		"first":  "waiting for 1 × A100-40GB in tokyo, zone az1: place 2 of 4 in line since 2026-03-01 12:03 UTC; none free in az1. ",
		"second": "waiting for 1 × A100-40GB in tokyo, zone az2: place 2 of 4 in line since 2026-03-01 12:04 UTC; 3 free in az2, of which a machine needs 1 on one host. ",
		"late":   "waiting for 16 × A100-40GB in tokyo: place 4 of 5 in line since 2026-03-01 12:09 UTC; none free in az1; 3 free in az2, of which a machine needs 8 on one host. ",
		"other":  "waiting for 1 × H100-80GB in tokyo: place 1 of 1 in line since 2026-03-01 12:01 UTC. ",
		"cpu":    "waiting for hosts for 1 × flavor big in tokyo, zone az1: place 1 of 1 in line since 2026-03-01 12:02 UTC. ",
	} {
		if got := messages[pool(name)]; !strings.HasPrefix(got, want) {
			t.Errorf("pool %s reads\n%s\nwant\n%s…", name, got, want)
		}
	}
	if len(messages) != 5 {
		t.Errorf("%d pools are told something, want 5", len(messages))
	}
}

func TestALineDoesNotDependOnTheOrderOfItsInput(t *testing.T) {
	flavors := []fleetv1.SiteFlavor{{Name: "one", GPUModel: "A100-40GB", GPUs: 1}}
	var waiting []Waiting
	for i := range 40 {
		waiting = append(waiting, Waiting{
			Machine: types.NamespacedName{Name: fmt.Sprint("m", i)}, Pool: types.NamespacedName{Name: fmt.Sprint("p", i%7)},
			Flavor: "one", Zone: []string{"", "az1", "az2"}[i%3], Since: noon.Add(time.Duration(i/4) * time.Minute),
		})
	}
	want := fmt.Sprint(queue("tokyo", waiting, flavors, nil))
	slices.Reverse(waiting)
	if got := fmt.Sprint(queue("tokyo", waiting, flavors, nil)); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

func TestAStatusStaysSmallAndHasWhatIsNeeded(t *testing.T) {
	var all []string
	for i := range 1000 {
		all = append(all, fmt.Sprintf("image-%03d", i))
	}
	kept := keepNames(append(all, "image-000"), []string{"image-999", "not there"})
	if len(kept) != mostNames || !slices.Contains(kept, "image-999") || slices.Contains(kept, "not there") || !slices.IsSorted(kept) {
		t.Errorf("%d names, from %s to %s", len(kept), kept[0], kept[len(kept)-1])
	}
	if kept := keepNames(all, all); len(kept) != 1000 {
		t.Errorf("%d names are kept of 1000 that are needed", len(kept))
	}
}

func TestNearNamesComeFirst(t *testing.T) {
	near := nearest("g1.a100.2", []string{"m1.small", "g1.h100.8", "g1.a100.1", "g1.a100.8", "c1.xlarge"})
	if want := []string{"g1.a100.1", "g1.a100.8", "g1.h100.8"}; !slices.Equal(near, want) {
		t.Errorf("%q, want %q", near, want)
	}
	if got := distance("kitten", "sitting"); got != 3 {
		t.Errorf("distance %d, want 3", got)
	}
}

func TestACloudIsAskedSoonAfterItWentAwayAndThenTheLater(t *testing.T) {
	site := &fleetv1.Site{}
	in := Input{Site: site, Trouble: cloud.Errorf(cloud.Transient, "connection refused"), Interval: time.Minute, Now: noon}
	var waits []time.Duration
	for range 5 {
		intent := Plan(in)
		waits = append(waits, intent.Again)
		site.Status = intent.Status
		in.Now = in.Now.Add(intent.Again)
	}
	if want := []time.Duration{15 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, time.Minute}; !slices.Equal(waits, want) {
		t.Errorf("waits %v, want %v", waits, want)
	}
}
