package cloud

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// catalogTypes are the names the catalogs of different clouds give a service, the best one first.
func catalogTypes(of service) []string {
	switch of {
	case volumeService:
		return []string{"volumev3", "block-storage", "block-store", "volume"}
	case networkService:
		return []string{"network", "networking"}
	}
	return []string{string(of)}
}

// endpoint is the address of one service.
type endpoint struct {
	root      string // ends with a slash
	resources string // below the root where the catalog leaves the version out; empty: the root
}

// address is where the resources are.
func (e endpoint) address() *url.URL {
	parsed, err := url.Parse(cmp.Or(e.resources, e.root))
	if err != nil { // checked when the endpoint was made
		return &url.URL{}
	}
	return parsed
}

// relative is the part of a request's path that names the resource.
func (e endpoint) relative(path string) string {
	if rest, ok := strings.CutPrefix(path, e.address().Path); ok {
		return "/" + rest
	}
	return path
}

// readCatalog picks the endpoints of the identity's region and interface. Services the catalog
// lacks are missed only when somebody needs them.
func readCatalog(catalog []tokens.CatalogEntry, identity Identity, projectID string) (string, map[service]endpoint, error) {
	region, err := chooseRegion(catalog, identity)
	if err != nil {
		return "", nil, err
	}
	wanted := identity.Interface
	if wanted == "" {
		wanted = "public"
	}
	endpoints := map[service]endpoint{}
	for _, of := range []service{computeService, networkService, loadBalancerService, volumeService, imageService, placementService} {
		address := findAddress(catalog, of, wanted, region)
		if address == "" {
			continue
		}
		made, err := newEndpoint(of, address, projectID)
		if err != nil {
			return "", nil, err
		}
		endpoints[of] = made
	}
	return region, endpoints, nil
}

// chooseRegion checks the region against the catalog. Without one, the catalog's only region is it.
func chooseRegion(catalog []tokens.CatalogEntry, identity Identity) (string, error) {
	var regions []string
	for _, entry := range catalog {
		for _, address := range entry.Endpoints {
			if address.Region == "" {
				address.Region = address.RegionID
			}
			if address.Region != "" && !slices.Contains(regions, address.Region) {
				regions = append(regions, address.Region)
			}
		}
	}
	slices.Sort(regions)
	there := strings.Join(regions, ", ")
	switch {
	case len(regions) == 0:
		return "", Errorf(Config, "the catalog of %s has no endpoints for project %q", identity.AuthURL, identity.project())
	case identity.Region == "" && len(regions) == 1:
		return regions[0], nil
	case identity.Region == "":
		return "", Errorf(Config, "cloud %q names no region and its catalog has several: %s; set region_name in clouds.yaml to one of them", identity.CloudName, there)
	case !slices.Contains(regions, identity.Region):
		return "", Errorf(Config, "region %q is not in the catalog of cloud %q, which has: %s; set the region to one of them", identity.Region, identity.CloudName, there)
	}
	return identity.Region, nil
}

func findAddress(catalog []tokens.CatalogEntry, of service, wanted, region string) string {
	for _, name := range catalogTypes(of) {
		for _, entry := range catalog {
			if entry.Type != name {
				continue
			}
			for _, address := range entry.Endpoints {
				if address.Interface == wanted && (address.Region == region || address.RegionID == region) {
					return address.URL
				}
			}
		}
	}
	return ""
}

// versionSegment is a path segment that names an API version: v2, v2.1, v3.
var versionSegment = regexp.MustCompile(`^v\d+(\.\d+)?$`)

// newEndpoint completes an address from the catalog. Clouds write it with and without the version;
// asking the service which it is would cost a request.
func newEndpoint(of service, address, projectID string) (endpoint, error) {
	parsed, err := url.Parse(address)
	if err != nil || parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return endpoint{}, Errorf(Config, "the catalog's address %q of the %s service is not an http(s) URL", address, of)
	}
	root := strings.TrimRight(address, "/") + "/"
	versioned := slices.ContainsFunc(strings.Split(parsed.Path, "/"), versionSegment.MatchString)
	switch of {
	case computeService:
		if !versioned {
			root += "v2.1/"
		}
		return endpoint{root: root}, nil
	case volumeService:
		if !versioned {
			root += "v3/" + projectID + "/"
		}
		return endpoint{root: root}, nil
	case placementService: // has no version in its path
		return endpoint{root: root}, nil
	}
	root = withoutVersion(root)
	return endpoint{root: root, resources: root + resourceVersion(of)}, nil
}

// withoutVersion cuts a version at the end of an address.
func withoutVersion(root string) string {
	trimmed := strings.TrimSuffix(root, "/")
	slash := strings.LastIndex(trimmed, "/")
	if versionSegment.MatchString(trimmed[slash+1:]) {
		return trimmed[:slash+1]
	}
	return root
}

// resourceVersion is the version below which a service has its resources.
func resourceVersion(of service) string {
	if of == imageService {
		return "v2/"
	}
	return "v2.0/" // Neutron, and Octavia, which takes it for v2
}
