package sites

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// siteFlavor is a flavor in the words of a Site.
func siteFlavor(flavor cloud.Flavor, gpus []fleetv1.SiteGPU) fleetv1.SiteFlavor {
	model, count := gpusOf(flavor, gpus)
	return fleetv1.SiteFlavor{
		Name: flavor.Name, VCPUs: toInt32(flavor.VCPUs), MemoryMiB: toInt32(flavor.MemoryMiB), DiskGiB: toInt32(flavor.DiskGiB),
		GPUModel: model, GPUs: count,
	}
}

// gpusOf is what a flavor's extra specs ask for, as far as the Site's gpus tell. A flavor may ask for the same GPUs by
// alias and by resource class, so the larger of the two holds. Of several models it is the one with the most.
func gpusOf(flavor cloud.Flavor, gpus []fleetv1.SiteGPU) (model string, count int32) {
	for _, gpu := range gpus {
		asked := max(countByAlias(flavor.ExtraSpecs, gpu.PCIAlias), countByClass(flavor.ExtraSpecs, gpu.ResourceClass))
		if asked > count {
			model, count = gpu.Model, asked
		}
	}
	return model, count
}

// countByAlias reads Nova's extra spec for PCI devices: "a100:4,nic:1".
func countByAlias(extraSpecs map[string]string, alias string) int32 {
	sum := int32(0)
	for request := range strings.SplitSeq(extraSpecs["pci_passthrough:alias"], ",") {
		if name, count, _ := strings.Cut(strings.TrimSpace(request), ":"); alias != "" && name == alias {
			sum += countOf(count)
		}
	}
	return sum
}

// classSpec is Nova's extra spec for a resource class, in the unnumbered group or in one with a suffix.
var classSpec = regexp.MustCompile(`^resources[A-Za-z0-9_-]*:(.+)$`)

func countByClass(extraSpecs map[string]string, class string) int32 {
	sum := int32(0)
	for key, count := range extraSpecs {
		if match := classSpec.FindStringSubmatch(key); class != "" && match != nil && match[1] == class {
			sum += countOf(count)
		}
	}
	return sum
}

// countOf is 0 for what Nova would not accept as a count.
func countOf(text string) int32 {
	count, err := strconv.ParseInt(strings.TrimSpace(text), 10, 16)
	if err != nil || count < 0 {
		return 0
	}
	return int32(count)
}

func toInt32(n int) int32 { return int32(min(max(n, math.MinInt32), math.MaxInt32)) }
