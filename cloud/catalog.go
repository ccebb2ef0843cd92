package cloud

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
)

// How long the answers of look-ups hold.
const (
	offerLife     = 10 * time.Minute // flavors, images, zones, networks: they rarely change
	quotaLife     = time.Minute
	extensionLife = time.Hour
	// A name that is not there is looked for again after missLife: a person may just have added it.
	missLife = time.Minute
)

// lookups is what a session knows about the cloud besides its project's objects.
type lookups struct {
	computeVersion *cache[struct{}, computeVersion]
	extensions     *cache[struct{}, map[string]bool]
	flavors        *cache[struct{}, []Flavor]
	images         *cache[string, []Image]
	networks       *cache[string, []Network]
	subnets        *cache[string, []Subnet]
	routers        *cache[string, []Router]
	zones          *cache[service, []Zone]
	quotas         *cache[struct{}, []QuotaUsage]
	keyPairs       *cache[string, bool]
	providers      *cache[struct{}, []string]
	balancers      *cache[struct{}, []loadBalancerFlavor]
	computeQuotas  *cache[struct{}, []QuotaUsage]
	candidates     *cache[string, candidates]
	places         *cache[struct{}, map[string]hostPlace]
}

func newLookups(s *Session) *lookups {
	patience := 2 * s.options.RequestTimeout
	return &lookups{
		computeVersion: newCache[struct{}, computeVersion](s.clock, math.MaxInt64, patience),
		extensions:     newCache[struct{}, map[string]bool](s.clock, extensionLife, patience),
		flavors:        newCache[struct{}, []Flavor](s.clock, offerLife, patience),
		images:         newCache[string, []Image](s.clock, offerLife, patience),
		networks:       newCache[string, []Network](s.clock, offerLife, patience),
		subnets:        newCache[string, []Subnet](s.clock, offerLife, patience),
		routers:        newCache[string, []Router](s.clock, offerLife, patience),
		zones:          newCache[service, []Zone](s.clock, offerLife, patience),
		quotas:         newCache[struct{}, []QuotaUsage](s.clock, quotaLife, patience),
		keyPairs:       newCache[string, bool](s.clock, offerLife, patience),
		providers:      newCache[struct{}, []string](s.clock, offerLife, patience),
		balancers:      newCache[struct{}, []loadBalancerFlavor](s.clock, offerLife, patience),
		computeQuotas:  newCache[struct{}, []QuotaUsage](s.clock, quotaLife, patience),
		candidates:     newCache[string, candidates](s.clock, offerLife, patience),
		places:         newCache[struct{}, map[string]hostPlace](s.clock, offerLife, patience),
	}
}

// ForgetLookups makes the next look-up of everything ask the cloud. What a session learned about the
// cloud's API stays.
func (s *Session) ForgetLookups() {
	s.lookups.flavors.forget()
	s.lookups.images.forget()
	s.lookups.networks.forget()
	s.lookups.subnets.forget()
	s.lookups.routers.forget()
	s.lookups.zones.forget()
	s.lookups.quotas.forget()
	s.lookups.keyPairs.forget()
	s.lookups.providers.forget()
	s.lookups.balancers.forget()
	s.lookups.computeQuotas.forget()
	s.lookups.candidates.forget()
	s.lookups.places.forget()
}

// KeyPairExists reports whether the user has a key pair of that name.
func (s *Session) KeyPairExists(ctx context.Context, name string) (bool, error) {
	ask := func(ctx context.Context) (bool, error) {
		client, err := s.client(ctx, computeService)
		if err != nil {
			return false, err
		}
		err = s.classify("GET /os-keypairs/{id}", keypairs.Get(ctx, client, name, nil).Err)
		if IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	}
	return getUnlessMissed(ctx, s.lookups.keyPairs, name, func(found bool) bool { return !found }, ask)
}

// extension reports that Neutron has an extension, by its alias.
func (s *Session) extension(ctx context.Context, alias string) (bool, error) {
	known, err := s.lookups.extensions.get(ctx, struct{}{}, s.askExtensions)
	return known[alias], err
}

func (s *Session) askExtensions(ctx context.Context) (map[string]bool, error) {
	var answer struct {
		Extensions []struct {
			Alias string `json:"alias"`
		} `json:"extensions"`
	}
	if err := s.read(ctx, networkService, "extensions", &answer); err != nil {
		return nil, err
	}
	known := map[string]bool{}
	for _, extension := range answer.Extensions {
		known[extension.Alias] = true
	}
	return known, nil
}

// read is one GET below a service's root.
func (s *Session) read(ctx context.Context, of service, path string, into any) error {
	client, err := s.client(ctx, of)
	if err != nil {
		return err
	}
	bare, _, _ := strings.Cut(path, "?")
	response, err := client.Get(ctx, client.ServiceURL(path), into, &gophercloud.RequestOpts{OkCodes: []int{200}})
	if err != nil {
		return s.classify(operationOf("GET", bare), err)
	}
	return response.Body.Close()
}

// getUnlessMissed is a cached answer; one that lacks what was looked for holds only for missLife.
func getUnlessMissed[K comparable, V any](ctx context.Context, from *cache[K, V], key K, missed func(V) bool, ask func(context.Context) (V, error)) (V, error) {
	value, err := from.get(ctx, key, ask)
	if err != nil || !missed(value) {
		return value, err
	}
	return from.getSince(ctx, key, from.clock.Now().Add(-missLife), ask)
}

// theOnly is the only match of a filter. None or several is a mistake in the configuration; the
// message lists what there is.
func theOnly[T any](matches []T, what, region string, describe func(T) string, hint string) (T, error) {
	if len(matches) == 1 {
		return matches[0], nil
	}
	var none T
	if len(matches) == 0 {
		return none, Errorf(Config, "%s not found in region %s: %s", what, region, hint)
	}
	described := make([]string, len(matches))
	for i, match := range matches {
		described[i] = describe(match)
	}
	slices.Sort(described)
	return none, Errorf(Config, "%s matches %d objects in region %s: %s; choose one by its id", what, len(matches), region, enumerate(described))
}

// enumerate lists names in a message without letting it grow with the cloud.
func enumerate(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none"
	}
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// filterText describes a filter and is its key in a cache.
func filterText(kind, id, name string, tags []string, more ...string) string {
	parts := []string{kind}
	if id != "" {
		parts = append(parts, fmt.Sprintf("%q", id))
	}
	if name != "" {
		parts = append(parts, fmt.Sprintf("with name %q", name))
	}
	if len(tags) > 0 {
		sorted := slices.Sorted(slices.Values(tags))
		parts = append(parts, fmt.Sprintf("with tags %q", sorted))
	}
	return strings.Join(append(parts, more...), " ")
}

// hasTags reports that an object has every tag of a filter.
func hasTags(tags, wanted []string) bool {
	return !slices.ContainsFunc(wanted, func(tag string) bool { return !slices.Contains(tags, tag) })
}
