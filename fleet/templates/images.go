package templates

import (
	"fmt"
	"slices"
	"strings"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// chooseImage finds the image of a release for machines of a family and, where they have GPUs, of a generation. An image
// that names the generation comes before one that names none. pin narrows it to images with that driver.
func chooseImage(images []fleetv1.ReleaseImage, family, generation string, pin fleetv1.GPUDriver) (fleetv1.ReleaseImage, error) {
	var ofFamily, candidates []fleetv1.ReleaseImage
	for _, image := range images {
		if image.Family == family {
			ofFamily = append(ofFamily, image)
		}
	}
	if len(ofFamily) == 0 {
		return fleetv1.ReleaseImage{}, fmt.Errorf("the release has no image of the family %s; it has %s", family, families(images))
	}
	for _, image := range ofFamily {
		if generation != "" && slices.Contains(image.Generations, generation) {
			candidates = append(candidates, image)
		}
	}
	if len(candidates) == 0 {
		candidates = slices.DeleteFunc(slices.Clone(ofFamily), func(image fleetv1.ReleaseImage) bool { return len(image.Generations) > 0 })
	}
	if len(candidates) == 0 {
		return fleetv1.ReleaseImage{}, fmt.Errorf("the release has images of the family %s only for %s, and none for %s", family, generations(ofFamily), named(generation))
	}
	for _, image := range candidates {
		if hasDriver(image, pin) {
			return image, nil
		}
	}
	return fleetv1.ReleaseImage{}, fmt.Errorf("the release has no image of the family %s with driver %s; for %s there are %s", family, pinned(pin), named(generation), drivers(candidates))
}

func named(generation string) string {
	if generation == "" {
		return "machines without an accelerator"
	}
	return generation
}

func hasDriver(image fleetv1.ReleaseImage, pin fleetv1.GPUDriver) bool {
	switch {
	case pin.Version != "":
		return image.Driver.Version == pin.Version
	case pin.Branch != "":
		return image.Driver.Version == pin.Branch || strings.HasPrefix(image.Driver.Version, pin.Branch+".")
	}
	return true
}

func pinned(pin fleetv1.GPUDriver) string {
	if pin.Version != "" {
		return pin.Version
	}
	return "of the branch " + pin.Branch
}

func families(images []fleetv1.ReleaseImage) string {
	return distinct(images, func(image fleetv1.ReleaseImage) []string { return []string{image.Family} })
}

func generations(images []fleetv1.ReleaseImage) string {
	return distinct(images, func(image fleetv1.ReleaseImage) []string { return image.Generations })
}

func drivers(images []fleetv1.ReleaseImage) string {
	return distinct(images, func(image fleetv1.ReleaseImage) []string {
		if image.Driver.Version == "" {
			return []string{image.Image + " without a driver"}
		}
		return []string{image.Driver.Version}
	})
}

func distinct(images []fleetv1.ReleaseImage, of func(fleetv1.ReleaseImage) []string) string {
	var all []string
	for _, image := range images {
		all = append(all, of(image)...)
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ", ")
}

// resolved is a NodeTemplate of a release with its image.
type resolved struct {
	name  string
	spec  fleetv1.NodeTemplateSpec
	shape Shape
	image fleetv1.ReleaseImage
}

// resolveImage is the image of a template whose shape is known, or why there is none.
func resolveImage(images []fleetv1.ReleaseImage, spec fleetv1.NodeTemplateSpec, shape Shape) (fleetv1.ReleaseImage, error) {
	var pin fleetv1.GPUDriver
	if spec.GPU != nil {
		pin = spec.GPU.Driver
	}
	image, err := chooseImage(images, spec.ImageFamily, shape.Generation, pin)
	if err != nil {
		return image, err
	}
	if shape.drivers != nil && image.Driver.Version != "" {
		if err := shape.drivers(image.Driver.Version); err != nil {
			return image, fmt.Errorf("image %s: %w", image.Image, err)
		}
	}
	if shape.FabricManager && image.Driver.FabricManager != nil && !*image.Driver.FabricManager {
		return image, fmt.Errorf("image %s has no fabric manager, which %d × %s need", image.Image, spec.GPU.Count, spec.GPU.Model)
	}
	return image, nil
}
