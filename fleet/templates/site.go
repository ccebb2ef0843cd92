package templates

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/naming"
)

// siteFacts answers what a site calls things, and whether it has them.
type siteFacts struct{ *fleetv1.Site }

// isKnown is false before the site was first read.
func (s siteFacts) isKnown() bool { return len(s.Status.Flavors) > 0 }

// defaultNetworkCIDR is the API's default, for specs that have not been through the API server.
const defaultNetworkCIDR = "10.6.0.0/20"

func (s siteFacts) networkCIDR() string { return cmp.Or(s.Spec.NetworkCIDR, defaultNetworkCIDR) }

func (s siteFacts) flavor(name string) (fleetv1.SiteFlavor, error) {
	wanted := naming.InCloud(s.Spec.Flavors, name)
	for _, flavor := range s.Status.Flavors {
		if flavor.Name == wanted {
			return flavor, nil
		}
	}
	return fleetv1.SiteFlavor{}, fmt.Errorf("site %s has no flavor %s%s", s.Name, wanted, alias(name, wanted))
}

func (s siteFacts) image(name string) (string, error) {
	wanted := naming.InCloud(s.Spec.Images, name)
	if slices.Contains(s.Status.Images, wanted) {
		return wanted, nil
	}
	return "", fmt.Errorf("site %s has no image %s%s", s.Name, wanted, alias(name, wanted))
}

func alias(name, inCloud string) string {
	if name == inCloud {
		return ""
	}
	return ", which it calls " + name + " by"
}

// checkGPUs compares what a template says with what the flavor asks for, as far as the site can tell.
func (s siteFacts) checkGPUs(flavor fleetv1.SiteFlavor, gpu *fleetv1.GPU) error {
	switch {
	case gpu == nil && flavor.GPUs > 0:
		return fmt.Errorf("flavor %s has %d × %s, and the template has no gpu", flavor.Name, flavor.GPUs, flavor.GPUModel)
	case gpu == nil || !s.knowsGPUs():
		return nil
	case flavor.GPUModel != gpu.Model || flavor.GPUs != gpu.Count:
		return fmt.Errorf("flavor %s has %s, and the template says %d × %s", flavor.Name, gpusOf(flavor), gpu.Count, gpu.Model)
	}
	return nil
}

// knowsGPUs is false where the site does not say how its cloud asks for GPUs.
func (s siteFacts) knowsGPUs() bool { return len(s.Spec.GPUs) > 0 }

func gpusOf(flavor fleetv1.SiteFlavor) string {
	if flavor.GPUs == 0 {
		return "no GPU that the site knows"
	}
	return strings.TrimSpace(fmt.Sprintf("%d × %s", flavor.GPUs, flavor.GPUModel))
}
