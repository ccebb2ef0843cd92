package cloud

import (
	"context"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// placementVersion is the oldest microversion with root_required (Train, 2019); its newer ones add nothing used here.
const placementVersion = "1.35"

// HostResources is how much of one resource class a hypervisor has left.
type HostResources struct {
	Host string // empty where the credentials may not list hypervisors' names
	Zone string // empty where they may not tell which host is in which zone
	Free int
}

// candidates are what Placement would give of one class. Credentials that may not ask are no failure.
type candidates struct {
	refused error
	free    map[string]int // by the hypervisor's id
}

// hostPlace is where a hypervisor is.
type hostPlace struct {
	host, zone string
	down       bool
}

// FreeOnHosts is what hypervisors have left of a Placement resource class, at most a minute old, as the scheduler sees it:
// disabled hosts and those that are full are left out, and those that are down as far as the credentials tell. One call
// whatever the size of the cloud, and two more every ten minutes. Most credentials may not read Placement, and some
// clouds do not list it: then the error has the class Auth or Config, and the cloud is asked again after ten minutes.
func (s *Session) FreeOnHosts(ctx context.Context, class string) ([]HostResources, error) {
	readable := func(found candidates) bool { return found.refused == nil } // and so of interest a minute later
	found, err := getUnlessMissed(ctx, s.lookups.candidates, class, readable, func(ctx context.Context) (candidates, error) {
		return s.askCandidates(ctx, class)
	})
	if err != nil {
		return nil, err
	}
	if found.refused != nil {
		return nil, found.refused
	}
	places, err := s.lookups.places.get(ctx, struct{}{}, s.askPlaces)
	if err != nil {
		return nil, err
	}
	var hosts []HostResources
	for _, id := range slices.Sorted(maps.Keys(found.free)) {
		if place := places[id]; !place.down {
			hosts = append(hosts, HostResources{Host: place.host, Zone: place.zone, Free: found.free[id]})
		}
	}
	return hosts, nil
}

// isRefusal reports that asking again soon would get the same answer.
func isRefusal(err error) bool {
	class := ClassOf(err)
	return class == Auth || class == Config
}

// askCandidates asks which hosts could give one unit of the class. The answer has the use of every provider that it is
// about, devices below a host included; hosts that are full are not in it.
func (s *Session) askCandidates(ctx context.Context, class string) (candidates, error) {
	var answer struct {
		Providers map[string]struct {
			Root      string `json:"root_provider_uuid"`
			Resources map[string]struct {
				Capacity int `json:"capacity"`
				Used     int `json:"used"`
			} `json:"resources"`
		} `json:"provider_summaries"`
	}
	query := url.Values{"resources": {class + ":1"}, "root_required": {"!COMPUTE_STATUS_DISABLED"}}
	if err := s.read(ctx, placementService, "allocation_candidates?"+query.Encode(), &answer); err != nil {
		if isRefusal(err) {
			return candidates{refused: err}, nil
		}
		return candidates{}, err
	}
	free := map[string]int{}
	for _, provider := range answer.Providers {
		if of, counted := provider.Resources[class]; counted {
			free[provider.Root] += max(of.Capacity-of.Used, 0)
		}
	}
	return candidates{free: free}, nil
}

// askPlaces finds out where the hypervisors are. What the credentials may not read is left empty.
func (s *Session) askPlaces(ctx context.Context) (map[string]hostPlace, error) {
	byName, err := s.askHosts(ctx)
	if isRefusal(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var answer struct {
		Providers []struct {
			ID   string `json:"uuid"`
			Name string `json:"name"`
		} `json:"resource_providers"`
	}
	// Only hypervisors have memory; their devices and shared storage would make the list long.
	err = s.read(ctx, placementService, "resource_providers?resources=MEMORY_MB%3A1", &answer)
	if isRefusal(err) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	places := map[string]hostPlace{}
	for _, provider := range answer.Providers {
		place, found := byName[provider.Name]
		if !found { // libvirt calls a hypervisor by its full name, and Nova the host by the short one
			short, _, _ := strings.Cut(provider.Name, ".")
			place = byName[short]
		}
		place.host = provider.Name
		places[provider.ID] = place
	}
	return places, nil
}

// askHosts asks Nova which host is in which zone, and up.
func (s *Session) askHosts(ctx context.Context) (map[string]hostPlace, error) {
	var answer struct {
		Zones []struct {
			Name  string `json:"zoneName"`
			Hosts map[string]map[string]struct {
				Available bool `json:"available"`
			} `json:"hosts"`
		} `json:"availabilityZoneInfo"`
	}
	if err := s.read(ctx, computeService, "os-availability-zone/detail", &answer); err != nil {
		return nil, err
	}
	hosts := map[string]hostPlace{}
	for _, zone := range answer.Zones {
		for name, services := range zone.Hosts {
			if compute, runs := services["nova-compute"]; runs {
				hosts[name] = hostPlace{zone: zone.Name, down: !compute.Available}
			}
		}
	}
	return hosts, nil
}
