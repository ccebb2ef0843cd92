package cloud

import (
	"context"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// NetworkFilter chooses one network the project sees. Fields left empty match anything.
type NetworkFilter struct {
	ID   string
	Name string
	Tags []string // all of them
}

// SubnetFilter chooses one subnet the project sees.
type SubnetFilter struct {
	ID        string
	Name      string
	Tags      []string // all of them
	NetworkID string
	CIDR      netip.Prefix
}

// RouterFilter chooses one router of the project.
type RouterFilter struct {
	ID   string
	Name string
	Tags []string // all of them
}

func (f NetworkFilter) String() string { return filterText("network", f.ID, f.Name, f.Tags) }

func (f RouterFilter) String() string { return filterText("router", f.ID, f.Name, f.Tags) }

func (f SubnetFilter) String() string {
	var more []string
	if f.CIDR.IsValid() {
		more = append(more, "with CIDR "+f.CIDR.String())
	}
	if f.NetworkID != "" {
		more = append(more, "of network "+f.NetworkID)
	}
	return filterText("subnet", f.ID, f.Name, f.Tags, more...)
}

// neutronQuery is the part of a filter every kind of object has. Neutron wants all of the tags of a
// list joined by commas.
func neutronQuery(id, name string, tags []string) url.Values {
	query := url.Values{}
	for key, value := range map[string]string{"id": id, "name": name, "tags": strings.Join(tags, ",")} {
		if value != "" {
			query.Set(key, value)
		}
	}
	return query
}

// Network is the only network that matches.
func (s *Session) Network(ctx context.Context, filter NetworkFilter) (Network, error) {
	found, err := s.findNetworks(ctx, neutronQuery(filter.ID, filter.Name, filter.Tags))
	if err != nil {
		return Network{}, err
	}
	hint := ""
	if len(found) == 0 {
		if hint, err = s.networkHint(ctx); err != nil {
			return Network{}, err
		}
	}
	return theOnly(found, filter.String(), s.Region(), func(n Network) string { return n.ID + " (" + n.Name + ")" }, hint)
}

// ExternalNetworks are the networks floating IPs and router gateways come from.
func (s *Session) ExternalNetworks(ctx context.Context) ([]Network, error) {
	return s.findNetworks(ctx, url.Values{"router:external": {"true"}})
}

// networkHint tells which networks there are.
func (s *Session) networkHint(ctx context.Context) (string, error) {
	all, err := s.findNetworks(ctx, url.Values{})
	if err != nil {
		return "", err
	}
	names := make([]string, len(all))
	for i, network := range all {
		names[i] = network.Name
	}
	slices.Sort(names)
	return "the project sees " + enumerate(slices.Compact(names)), nil
}

func (s *Session) findNetworks(ctx context.Context, query url.Values) ([]Network, error) {
	return listMatches(ctx, s, s.lookups.networks, "networks", query, wireNetwork.network)
}

// Subnet is the only subnet that matches.
func (s *Session) Subnet(ctx context.Context, filter SubnetFilter) (Subnet, error) {
	query := neutronQuery(filter.ID, filter.Name, filter.Tags)
	if filter.NetworkID != "" {
		query.Set("network_id", filter.NetworkID)
	}
	if filter.CIDR.IsValid() {
		query.Set("cidr", filter.CIDR.Masked().String())
	}
	found, err := listMatches(ctx, s, s.lookups.subnets, "subnets", query, wireSubnet.subnet)
	if err != nil {
		return Subnet{}, err
	}
	return theOnly(found, filter.String(), s.Region(), func(n Subnet) string { return n.ID + " (" + n.Name + ", " + n.CIDR.String() + ")" },
		"check the id, name, tags, network and CIDR, and that the project may see it")
}

// Router is the only router that matches.
func (s *Session) Router(ctx context.Context, filter RouterFilter) (Router, error) {
	found, err := listMatches(ctx, s, s.lookups.routers, "routers", neutronQuery(filter.ID, filter.Name, filter.Tags), wireRouter.router)
	if err != nil {
		return Router{}, err
	}
	return theOnly(found, filter.String(), s.Region(), func(r Router) string { return r.ID + " (" + r.Name + ")" },
		"check the id, name and tags, and that the project may see it")
}

// listMatches lists what matches a query, whichever project owns it: networks are often shared.
func listMatches[W interface{ identity() string }, T any](ctx context.Context, s *Session, known *cache[string, []T], path string, query url.Values, read func(W) T) ([]T, error) {
	missed := func(found []T) bool { return len(found) == 0 }
	return getUnlessMissed(ctx, known, query.Encode(), missed, func(ctx context.Context) ([]T, error) {
		var found []T
		from := collection{service: networkService, path: path, key: path, query: maps.Clone(query)}
		err := listPages(ctx, s, from, func(page []W) {
			for _, listed := range page {
				found = append(found, read(listed))
			}
		})
		return found, err
	})
}
