package cloud

import (
	"context"
	"maps"
	"slices"
)

// Discovery is what a cloud says of itself: what works differently from one to the next is told by it, not by a release.
type Discovery struct {
	// Endpoints are where the services in use are, by the type this package knows them by: compute, network, image,
	// block-storage, load-balancer, placement. One that the catalog lacks is not there.
	Endpoints map[string]string
	// Extensions are Neutron's, by alias, in order.
	Extensions []string
	// ComputeVersion is the Nova microversion in use, such as 2.90; empty for a Nova without microversions.
	ComputeVersion string
}

// Discover asks what the session has not learned yet: at most two calls besides the login.
func (s *Session) Discover(ctx context.Context) (Discovery, error) {
	access, err := s.auth.access(ctx)
	if err != nil {
		return Discovery{}, s.classify("", err)
	}
	extensions, err := s.lookups.extensions.get(ctx, struct{}{}, s.askExtensions)
	if err != nil {
		return Discovery{}, err
	}
	version, err := s.computeVersion(ctx)
	if err != nil {
		return Discovery{}, err
	}
	found := Discovery{Endpoints: map[string]string{}, Extensions: slices.Sorted(maps.Keys(extensions)), ComputeVersion: version.header()}
	for of, at := range access.endpoints {
		found.Endpoints[string(of)] = at.root
	}
	return found, nil
}
