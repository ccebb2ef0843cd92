package conformance

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sendan-io/sendan/cloud"
)

// beginning is what makes nothing in the cloud.
func beginning() []feature {
	return []feature{
		{name: "identity/login", check: logIn},
		{name: "identity/catalog", needs: []string{"identity/login"}, check: readCatalog},
		{name: "network/extensions", needs: []string{"identity/catalog"}, check: readExtensions},
		{name: "compute/microversion", needs: []string{"identity/catalog"}, check: readMicroversion},
		{name: "compute/offers", needs: []string{"identity/catalog"}, check: readOffers},
		{name: "inventory/listing", needs: []string{"identity/catalog"}, check: listEverything},
		{name: "placement/free", needs: []string{"identity/catalog"}, check: readPlacement},
	}
}

func logIn(p *probe) (err error) {
	p.session, err = p.sessions.Get(p.Context(), p.identity)
	p.note = p.identity.String()
	return err
}

func readCatalog(p *probe) (err error) {
	if p.discovered, err = p.session.Discover(p.Context()); err != nil {
		return err
	}
	p.note = strings.Join(slices.Sorted(maps.Keys(p.discovered.Endpoints)), ", ")
	for _, required := range []string{"compute", "network", "image"} {
		if p.discovered.Endpoints[required] == "" {
			return fmt.Errorf("the catalog has no %s service for this interface and region", required)
		}
	}
	return nil
}

// readExtensions: without a description there is no place for marks, and without the rest none for clusters.
func readExtensions(p *probe) error {
	for _, required := range []string{"standard-attr-description", "router", "security-group", "external-net"} {
		if !slices.Contains(p.discovered.Extensions, required) {
			return fmt.Errorf("Neutron has no extension %s, without which Sendan cannot work", required)
		}
	}
	p.note = fmt.Sprintf("%d of them", len(p.discovered.Extensions))
	return nil
}

func readMicroversion(p *probe) error {
	p.note = p.discovered.ComputeVersion
	return expect(p.note != "", "Nova knows no microversions, so it is older than anything Sendan was made for")
}

func readOffers(p *probe) error {
	offers, err := p.session.Offers(p.Context(), cloud.OfferNames{})
	if err != nil {
		return err
	}
	if p.chosen, err = choose(offers, wishes); err != nil {
		return err
	}
	p.note = fmt.Sprintf("%d flavors, %d images", len(offers.Flavors), len(offers.Images))
	flavor, err := p.session.FlavorByName(p.Context(), p.chosen.flavor.Name)
	if err != nil {
		return err
	}
	image, err := p.session.Image(p.Context(), cloud.ImageFilter{ID: p.chosen.image.ID})
	if err != nil {
		return err
	}
	p.Log(p.announcement())
	return expect(flavor.ID == p.chosen.flavor.ID && image.Name == p.chosen.image.Name, "looked up one by one they are %+v and %+v", flavor, image)
}

func allKinds() []cloud.Kind {
	return []cloud.Kind{
		cloud.KindNetwork, cloud.KindSubnet, cloud.KindRouter, cloud.KindSecurityGroup, cloud.KindServerGroup,
		cloud.KindPort, cloud.KindVolume, cloud.KindServer, cloud.KindFloatingIP, cloud.KindLoadBalancer,
	}
}

func listEverything(p *probe) error {
	now, err := p.relist(allKinds()...)
	p.note = now.String()
	return err
}

// readPlacement: most clouds let only administrators ask.
func readPlacement(p *probe) error {
	hosts, err := p.session.FreeOnHosts(p.Context(), "VCPU")
	if cloud.ClassOf(err) == cloud.Auth {
		return skipf("these credentials may not read Placement: %v", err)
	}
	p.note = fmt.Sprintf("%d hosts have CPUs left", len(hosts))
	return err
}

// pageThrough lists again in small pages and compares.
func pageThrough(p *probe) error {
	whole, err := p.relist(allKinds()...)
	if err != nil {
		return err
	}
	options := p.options
	options.ManualPolling, options.Polling.PageSize = true, max(1, whole.Count(cloud.KindPort)/2)
	session, err := cloud.NewSessions(options).Get(p.Context(), p.identity)
	if err != nil {
		return err
	}
	if err := session.Inventory().Poll(p.Context()); err != nil {
		return err
	}
	p.note = fmt.Sprintf("pages of %d", options.Polling.PageSize)
	paged, mine := session.Inventory().Snapshot(), p.mark()
	if got, want := listed(paged, mine), listed(whole, mine); !slices.Equal(got, want) {
		return fmt.Errorf("in pages it is %q, at once %q", got, want)
	}
	if paged.Count(cloud.KindPort) < 2 || len(listed(paged, mine)) == 0 {
		return errors.New("there was nothing to page through")
	}
	return nil
}

func readLimits(p *probe) error {
	quotas, err := p.session.ComputeQuotas(p.Context())
	if err != nil {
		return err
	}
	instances, found := cloud.QuotaOf(quotas, "instances")
	p.note = fmt.Sprintf("%d of %d instances", instances.Used, instances.Limit)
	return expect(found && instances.Used > 0, "the run has a server, and Nova's limits are %+v", quotas)
}

func readQuotas(p *probe) error {
	quotas, err := p.session.Quotas(p.Context())
	if err != nil {
		return err
	}
	p.note = fmt.Sprintf("%d resources", len(quotas))
	ports, found := cloud.QuotaOf(quotas, "ports")
	return expect(found && ports.Used > 0, "the run has ports, and the quotas are %+v", quotas)
}
