package cloud

import (
	"context"
	"slices"
)

// loadBalancerFlavor is an Octavia flavor.
type loadBalancerFlavor struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Enabled bool   `json:"enabled"`
}

// LoadBalancerProviders are the names of Octavia's providers: amphora, ovn, …
func (s *Session) LoadBalancerProviders(ctx context.Context) ([]string, error) {
	return s.lookups.providers.get(ctx, struct{}{}, func(ctx context.Context) ([]string, error) {
		var answer struct {
			Providers []struct {
				Name string `json:"name"`
			} `json:"providers"`
		}
		if err := s.read(ctx, loadBalancerService, "lbaas/providers", &answer); err != nil {
			return nil, err
		}
		var names []string
		for _, provider := range answer.Providers {
			names = append(names, provider.Name)
		}
		return names, nil
	})
}

// LoadBalancerFlavor is the id of an enabled Octavia flavor, found by name or id.
func (s *Session) LoadBalancerFlavor(ctx context.Context, wanted string) (string, error) {
	matches := func(flavor loadBalancerFlavor) bool {
		return flavor.Enabled && (flavor.Name == wanted || flavor.ID == wanted)
	}
	missed := func(all []loadBalancerFlavor) bool { return !slices.ContainsFunc(all, matches) }
	all, err := getUnlessMissed(ctx, s.lookups.balancers, struct{}{}, missed, s.askLoadBalancerFlavors)
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(all, matches); i >= 0 {
		return all[i].ID, nil
	}
	var names []string
	for _, flavor := range all {
		if flavor.Enabled {
			names = append(names, flavor.Name)
		}
	}
	slices.Sort(names)
	return "", Errorf(Config, "load balancer flavor %q not found in region %s: the project sees %s; set spec.endpoint.loadBalancer.flavor to one of them", wanted, s.Region(), enumerate(names))
}

func (s *Session) askLoadBalancerFlavors(ctx context.Context) ([]loadBalancerFlavor, error) {
	var answer struct {
		Flavors []loadBalancerFlavor `json:"flavors"`
	}
	err := s.read(ctx, loadBalancerService, "lbaas/flavors", &answer)
	return answer.Flavors, err
}
