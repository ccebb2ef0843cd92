package cloud

import (
	"context"
	"slices"
)

// Offers are what a project can choose from in its cloud.
type Offers struct {
	Flavors          []Flavor
	Images           []Image // that can be booted from
	Zones            []Zone
	ExternalNetworks []Network
}

// OfferNames are the names that somebody counts on.
type OfferNames struct{ Flavors, Images []string }

// Offers lists everything, at most ten minutes old; or a minute where a wanted name is missing, since a person may just
// have added it. Four calls. The slices are shared: callers must not change them.
func (s *Session) Offers(ctx context.Context, wanted OfferNames) (offers Offers, err error) {
	lacksFlavor := func(all []Flavor) bool { return lacks(all, wanted.Flavors, func(f Flavor) string { return f.Name }) }
	if offers.Flavors, err = getUnlessMissed(ctx, s.lookups.flavors, struct{}{}, lacksFlavor, s.askFlavors); err != nil {
		return Offers{}, err
	}
	everything := ImageFilter{}
	lacksImage := func(all []Image) bool {
		return lacks(bootable(all), wanted.Images, func(i Image) string { return i.Name })
	}
	images, err := getUnlessMissed(ctx, s.lookups.images, everything.String(), lacksImage, func(ctx context.Context) ([]Image, error) {
		return s.askImages(ctx, everything)
	})
	if err != nil {
		return Offers{}, err
	}
	offers.Images = bootable(images)
	if offers.Zones, err = s.ComputeZones(ctx); err != nil {
		return Offers{}, err
	}
	offers.ExternalNetworks, err = s.ExternalNetworks(ctx)
	return offers, err
}

func bootable(images []Image) []Image {
	return slices.DeleteFunc(slices.Clone(images), func(image Image) bool { return image.Status != "active" })
}

func lacks[T any](all []T, wanted []string, nameOf func(T) string) bool {
	return slices.ContainsFunc(wanted, func(name string) bool {
		return !slices.ContainsFunc(all, func(offered T) bool { return nameOf(offered) == name })
	})
}
