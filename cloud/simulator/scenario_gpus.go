package simulator

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
)

// driverProperty is the Glance image property that tells the NVIDIA driver in an image.
const driverProperty = "nvidia_driver_version"

// GPUKind is what NVIDIA's software on a node finds about one kind of GPU.
type GPUKind struct {
	// Product is what the driver calls it, without spaces.
	Product string `json:"product,omitempty"`
	// MIGProfiles is how many instances of each MIG profile one GPU holds when there is nothing else on it;
	// empty for a kind that cannot be partitioned.
	MIGProfiles map[string]int `json:"migProfiles,omitempty"`
}

var migProfileName = regexp.MustCompile(`^[1-9][0-9]*g\.[1-9][0-9]*gb(\+[a-z.]+)?$`)

func (sc *Scenario) validateGPUs() error {
	counts := map[string]map[string]int{}
	for name, kind := range sc.GPUKinds {
		counts["gpuKinds: "+name] = kind.MIGProfiles
	}
	for name, layout := range sc.MIGLayouts {
		counts["migLayouts: "+name] = layout
	}
	for _, owner := range slices.Sorted(maps.Keys(counts)) {
		for profile, count := range counts[owner] {
			if !migProfileName.MatchString(profile) || count < 1 {
				return fmt.Errorf("%s: %d instances of MIG profile %q: write at least one of a name such as 1g.10gb or 1g.10gb+me", owner, count, profile)
			}
		}
	}
	return nil
}

// defaultGPUKinds are NVIDIA's A100 with 40 GB and H100 with 80 GB, with the figures of "Supported MIG Profiles" in its
// MIG user guide.
func defaultGPUKinds() map[string]GPUKind {
	a100 := GPUKind{Product: "NVIDIA-A100-SXM4-40GB", MIGProfiles: map[string]int{
		"1g.5gb": 7, "1g.5gb+me": 1, "1g.10gb": 4, "2g.10gb": 3, "3g.20gb": 2, "4g.20gb": 1, "7g.40gb": 1,
	}}
	h100 := GPUKind{Product: "NVIDIA-H100-80GB-HBM3", MIGProfiles: map[string]int{
		"1g.10gb": 7, "1g.10gb+me": 1, "1g.20gb": 4, "2g.20gb": 3, "3g.40gb": 2, "4g.40gb": 1, "7g.80gb": 1,
	}}
	return map[string]GPUKind{"a100": a100, "CUSTOM_GPU_A100": a100, "h100": h100, "CUSTOM_GPU_H100": h100}
}

// nvidiaImage is a node image with a driver in it.
func nvidiaImage(name, driver string) Image {
	image := nodeImage(name)
	image.Properties[driverProperty] = driver
	return image
}
