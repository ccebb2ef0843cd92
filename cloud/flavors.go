package cloud

import (
	"context"
	"slices"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
)

// Flavors are all flavors the project may use, with their extra specs where the cloud shows them.
// The slice is shared: callers must not change it.
func (s *Session) Flavors(ctx context.Context) ([]Flavor, error) {
	return s.lookups.flavors.get(ctx, struct{}{}, s.askFlavors)
}

// FlavorByName is the flavor of that name.
func (s *Session) FlavorByName(ctx context.Context, name string) (Flavor, error) {
	return s.findFlavor(ctx, name, func(flavor Flavor) bool { return flavor.Name == name })
}

// Flavor is the flavor with that id.
func (s *Session) Flavor(ctx context.Context, id string) (Flavor, error) {
	return s.findFlavor(ctx, id, func(flavor Flavor) bool { return flavor.ID == id })
}

func (s *Session) findFlavor(ctx context.Context, wanted string, matches func(Flavor) bool) (Flavor, error) {
	missed := func(all []Flavor) bool { return !slices.ContainsFunc(all, matches) }
	all, err := getUnlessMissed(ctx, s.lookups.flavors, struct{}{}, missed, s.askFlavors)
	if err != nil {
		return Flavor{}, err
	}
	if i := slices.IndexFunc(all, matches); i >= 0 {
		return all[i], nil
	}
	names := make([]string, len(all))
	for i, flavor := range all {
		names[i] = flavor.Name
	}
	slices.Sort(names)
	return Flavor{}, Errorf(Config, "flavor %q not found in region %s: the project sees %s; set spec.flavor to one of them", wanted, s.Region(), enumerate(names))
}

func (s *Session) askFlavors(ctx context.Context) ([]Flavor, error) {
	const operation = "GET /flavors/detail"
	client, err := s.client(ctx, computeService)
	if err != nil {
		return nil, err
	}
	pages, err := flavors.ListDetail(client, flavors.ListOpts{}).AllPages(ctx)
	if err != nil {
		return nil, s.classify(operation, err)
	}
	listed, err := flavors.ExtractFlavors(pages)
	if err != nil {
		return nil, s.classify(operation, err)
	}
	all := make([]Flavor, len(listed))
	for i, flavor := range listed {
		all[i] = Flavor{
			ID: flavor.ID, Name: flavor.Name,
			VCPUs: flavor.VCPUs, MemoryMiB: flavor.RAM,
			DiskGiB: flavor.Disk, EphemeralGiB: flavor.Ephemeral,
			ExtraSpecs: flavor.ExtraSpecs,
		}
	}
	return all, nil
}
