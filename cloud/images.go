package cloud

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/images"
)

// imagePage is how many images one request asks for; Glance's own page has 25.
const imagePage = 1000

// ImageFilter chooses one image. Fields left empty match anything.
type ImageFilter struct {
	ID   string
	Name string
	Tags []string // all of them
}

func (f ImageFilter) String() string { return filterText("image", f.ID, f.Name, f.Tags) }

// Image is the only image that matches the filter and can be booted from.
func (s *Session) Image(ctx context.Context, filter ImageFilter) (Image, error) {
	if filter.ID == "" && filter.Name == "" && len(filter.Tags) == 0 {
		return Image{}, Errorf(Config, "the image filter is empty: set spec.image.id, spec.image.name or spec.image.tags")
	}
	found, err := s.findImages(ctx, filter)
	if err != nil {
		return Image{}, err
	}
	usable := slices.DeleteFunc(slices.Clone(found), func(image Image) bool { return image.Status != "active" })
	if len(usable) == 0 && len(found) > 0 {
		return Image{}, Errorf(Config, "%s is not usable in region %s: %s has status %s and must be active", filter, s.Region(), found[0].ID, found[0].Status)
	}
	hint := ""
	if len(usable) == 0 {
		if hint, err = s.imageHint(ctx); err != nil {
			return Image{}, err
		}
	}
	return theOnly(usable, filter.String(), s.Region(), describeImage, hint)
}

func describeImage(image Image) string { return fmt.Sprintf("%s (%s)", image.ID, image.Name) }

// imageHint tells which images there are.
func (s *Session) imageHint(ctx context.Context) (string, error) {
	all, err := s.findImages(ctx, ImageFilter{})
	if err != nil {
		return "", err
	}
	var names []string
	for _, image := range all {
		if image.Status == "active" {
			names = append(names, image.Name)
		}
	}
	slices.Sort(names)
	return fmt.Sprintf("the project sees %s; set spec.image to one of them", enumerate(slices.Compact(names))), nil
}

func (s *Session) findImages(ctx context.Context, filter ImageFilter) ([]Image, error) {
	missed := func(found []Image) bool { return len(found) == 0 || found[0].Status != "active" }
	return getUnlessMissed(ctx, s.lookups.images, filter.String(), missed, func(ctx context.Context) ([]Image, error) {
		return s.askImages(ctx, filter)
	})
}

func (s *Session) askImages(ctx context.Context, filter ImageFilter) ([]Image, error) {
	const operation = "GET /images"
	client, err := s.client(ctx, imageService)
	if err != nil {
		return nil, err
	}
	if filter.ID != "" {
		return s.askImage(ctx, filter)
	}
	pages, err := images.List(client, images.ListOpts{Name: filter.Name, Tags: filter.Tags, Limit: imagePage}).AllPages(ctx)
	if err != nil {
		return nil, s.classify(operation, err)
	}
	listed, err := images.ExtractImages(pages)
	if err != nil {
		return nil, s.classify(operation, err)
	}
	return filter.choose(listed), nil
}

// askImage reads an image by its id, which finds community images that lists leave out.
func (s *Session) askImage(ctx context.Context, filter ImageFilter) ([]Image, error) {
	client, err := s.client(ctx, imageService)
	if err != nil {
		return nil, err
	}
	image, err := images.Get(ctx, client, filter.ID).Extract()
	err = s.classify("GET /images/{id}", err)
	if IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return filter.choose([]images.Image{*image}), nil
}

// choose applies the filter again: Glance reads a name such as "in:a,b" as an operator.
func (f ImageFilter) choose(listed []images.Image) []Image {
	var chosen []Image
	for _, image := range listed {
		if (f.Name == "" || image.Name == f.Name) && hasTags(image.Tags, f.Tags) {
			chosen = append(chosen, imageOf(image))
		}
	}
	return chosen
}

func imageOf(image images.Image) Image {
	return Image{
		ID: image.ID, Name: image.Name, Status: string(image.Status), Tags: image.Tags,
		MinDiskGiB: image.MinDiskGigabytes, MinMemoryMiB: image.MinRAMMegabytes,
		Architecture: imageProperty(image, "architecture", "hw_architecture"),
		OSType:       imageProperty(image, "os_type"),
	}
}

func imageProperty(image images.Image, names ...string) string {
	for _, name := range names {
		if text, ok := image.Properties[name].(string); ok {
			return strings.TrimSpace(text)
		}
	}
	return ""
}
