package cloud

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

const flavorsCall = "GET /compute/v2.1/flavors/detail"

func flavorJSON(id, name string) map[string]any {
	return map[string]any{
		"id": id, "name": name, "vcpus": 8, "ram": 16384, "disk": 40, "OS-FLV-EXT-DATA:ephemeral": 10, "swap": "",
		"extra_specs": map[string]any{"pci_passthrough:alias": "a100:4"},
	}
}

func TestAFlavorIsFoundByNameAndIDWithOneList(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answer(flavorsCall, func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("X-OpenStack-Nova-API-Version"); got != "2.90" {
			t.Errorf("microversion %q", got)
		}
		answer := map[string]any{"flavors": []any{flavorJSON("1", "gpu.large")}}
		if r.URL.Query().Get("marker") == "" {
			answer["flavors_links"] = []any{map[string]any{"rel": "next", "href": cloud.URL + r.URL.Path + "?marker=1"}}
		} else {
			answer["flavors"] = []any{flavorJSON("2", "cpu.small")}
		}
		writeJSON(w, http.StatusOK, answer)
	})
	session := cloud.session()
	byName, err := session.FlavorByName(t.Context(), "gpu.large")
	if err != nil {
		t.Fatal(err)
	}
	want := Flavor{ID: "1", Name: "gpu.large", VCPUs: 8, MemoryMiB: 16384, DiskGiB: 40, EphemeralGiB: 10, ExtraSpecs: map[string]string{"pci_passthrough:alias": "a100:4"}}
	if fmt.Sprint(byName) != fmt.Sprint(want) {
		t.Errorf("got %+v, want %+v", byName, want)
	}
	if byID, err := session.Flavor(t.Context(), "2"); err != nil || byID.Name != "cpu.small" {
		t.Errorf("got %+v, %v", byID, err)
	}
	if all, err := session.Flavors(t.Context()); err != nil || len(all) != 2 {
		t.Errorf("%d flavors, %v", len(all), err)
	}
	if got := cloud.count(flavorsCall); got != 2 {
		t.Errorf("%d calls, want the two pages once", got)
	}
}

func TestAnUnknownFlavorIsLookedForOnceAMinuteAndExplained(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerJSON(flavorsCall, map[string]any{"flavors": []any{flavorJSON("1", "b"), flavorJSON("2", "a")}})
	session := cloud.session()
	for range 120 {
		_, err := session.FlavorByName(t.Context(), "nope")
		wantClass(t, err, Config, `flavor "nope" not found in region RegionOne`, "a, b", "set spec.flavor")
		clock.Advance(time.Second)
	}
	if got := cloud.count(flavorsCall); got < 2 || got > 3 {
		t.Errorf("%d lists in two minutes, want 2 or 3", got)
	}
	cloud.answerJSON(flavorsCall, map[string]any{"flavors": []any{flavorJSON("3", "nope")}})
	clock.Advance(missLife)
	if _, err := session.FlavorByName(t.Context(), "nope"); err != nil {
		t.Errorf("a flavor that was added is not found: %v", err)
	}
}

func TestForgettingLookupsAsksAgain(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answerJSON(flavorsCall, map[string]any{"flavors": []any{}})
	session := cloud.session()
	for want := range 2 {
		if _, err := session.Flavors(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := cloud.count(flavorsCall); got != want+1 {
			t.Errorf("%d calls, want %d", got, want+1)
		}
		session.ForgetLookups()
	}
}

func imageJSON(id, name, status string, tags ...string) map[string]any {
	return map[string]any{"id": id, "name": name, "status": status, "tags": append([]string{}, tags...), "min_disk": 20, "min_ram": 2048, "architecture": "x86_64", "os_type": "linux"}
}

func TestAnImageFilterMustMatchExactlyOne(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	stored := []map[string]any{
		imageJSON("i1", "node", "active", "v1"), imageJSON("i2", "node", "active", "v2"),
		imageJSON("i3", "old", "deactivated"), imageJSON("i4", "one", "active", "v1", "gpu"), imageJSON("i5", "one", "queued", "v1", "gpu"),
	}
	cloud.answer("GET /image/v2/images", func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		found := []any{}
		for _, image := range stored {
			tags, _ := image["tags"].([]string)
			if (query.Get("name") == "" || image["name"] == query.Get("name")) && hasTags(tags, query["tag"]) {
				found = append(found, image)
			}
		}
		writeJSON(w, http.StatusOK, map[string]any{"images": found})
	})
	cloud.answerJSON("GET /image/v2/images/i1", stored[0])
	session := cloud.session()
	cases := map[string]struct {
		filter ImageFilter
		id     string
		words  []string
	}{
		"by id":           {ImageFilter{ID: "i1"}, "i1", nil},
		"by name and tag": {ImageFilter{Name: "node", Tags: []string{"v2"}}, "i2", nil},
		"by tags, and one that is queued does not count": {ImageFilter{Tags: []string{"gpu", "v1"}}, "i4", nil},
		"several":    {ImageFilter{Name: "node"}, "", []string{`name "node"`, "matches 2", "i1 (node)", "i2 (node)"}},
		"none":       {ImageFilter{Name: "nope"}, "", []string{`name "nope"`, "not found in region RegionOne", "node, one"}},
		"no such id": {ImageFilter{ID: "i9"}, "", []string{`"i9"`, "not found"}},
		"not active": {ImageFilter{Name: "old"}, "", []string{"i3", "deactivated"}},
		"empty":      {ImageFilter{}, "", []string{"empty", "spec.image.id"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			image, err := session.Image(t.Context(), c.filter)
			if c.id == "" {
				wantClass(t, err, Config, c.words...)
				return
			}
			if err != nil || image.ID != c.id {
				t.Fatalf("got %q, %v", image.ID, err)
			}
			if image.MinDiskGiB != 20 || image.MinMemoryMiB != 2048 || image.Architecture != "x86_64" || image.OSType != "linux" {
				t.Errorf("fields are missing: %+v", image)
			}
		})
	}
	before := cloud.total()
	if _, err := session.Image(t.Context(), ImageFilter{Tags: []string{"v1", "gpu"}}); err != nil {
		t.Fatal(err)
	}
	if cloud.total() != before {
		t.Error("the same filter was asked for twice")
	}
}

func TestNetworksSubnetsAndRoutersMustMatchExactlyOne(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	list := func(collection string, byName map[string][]any) {
		cloud.answer("GET /network/v2.0/"+collection, func(w http.ResponseWriter, r *http.Request) {
			found, known := byName[r.URL.Query().Get("name")]
			if !known {
				found = []any{}
			}
			writeJSON(w, http.StatusOK, map[string]any{collection: found})
		})
	}
	public := map[string]any{"id": "n1", "name": "public", "router:external": true, "mtu": 1500, "status": "ACTIVE", "subnets": []string{"s1"}}
	list("networks", map[string][]any{
		"one": {public}, "twice": {map[string]any{"id": "n2", "name": "twice"}, map[string]any{"id": "n3", "name": "twice"}},
		"": {public, map[string]any{"id": "n4", "name": "private"}},
	})
	list("subnets", map[string][]any{"one": {map[string]any{"id": "s1", "cidr": "10.0.0.0/24", "network_id": "n1", "gateway_ip": nil}}})
	list("routers", map[string][]any{"one": {map[string]any{"id": "r1", "external_gateway_info": map[string]any{"network_id": "n1", "external_fixed_ips": []any{map[string]any{"ip_address": "192.0.2.7"}}}}},
		"inside": {map[string]any{"id": "r2", "external_gateway_info": nil}}})
	session := cloud.session()
	ctx := t.Context()

	network, err := session.Network(ctx, NetworkFilter{Name: "one", Tags: []string{"b", "a"}})
	if err != nil || network.ID != "n1" || !network.External || network.MTU != 1500 || !slices.Equal(network.Subnets, []string{"s1"}) {
		t.Errorf("network %+v, %v", network, err)
	}
	if cloud.query("GET /network/v2.0/networks") != "name=one&tags=b%2Ca" {
		t.Errorf("query %q", cloud.query("GET /network/v2.0/networks"))
	}
	_, err = session.Network(ctx, NetworkFilter{Name: "twice"})
	wantClass(t, err, Config, "matches 2", "n2 (twice)", "n3 (twice)")
	_, err = session.Network(ctx, NetworkFilter{Name: "nope"})
	wantClass(t, err, Config, `network with name "nope" not found in region RegionOne`, "private, public")

	subnet, err := session.Subnet(ctx, SubnetFilter{Name: "one", NetworkID: "n1", CIDR: netip.MustParsePrefix("10.0.0.7/24")})
	if err != nil || subnet.ID != "s1" || subnet.CIDR.String() != "10.0.0.0/24" {
		t.Errorf("subnet %+v, %v", subnet, err)
	}
	if want := "cidr=10.0.0.0%2F24&name=one&network_id=n1"; cloud.query("GET /network/v2.0/subnets") != want {
		t.Errorf("query %q, want %q", cloud.query("GET /network/v2.0/subnets"), want)
	}
	_, err = session.Subnet(ctx, SubnetFilter{Name: "nope"})
	wantClass(t, err, Config, `subnet with name "nope" not found`)

	router, err := session.Router(ctx, RouterFilter{Name: "one"})
	if err != nil || router.ID != "r1" || router.ExternalNetworkID != "n1" || !slices.Equal(router.ExternalIPs, []string{"192.0.2.7"}) {
		t.Errorf("router %+v, %v", router, err)
	}
	if inside, err := session.Router(ctx, RouterFilter{Name: "inside"}); err != nil || inside.ExternalNetworkID != "" {
		t.Errorf("router without a gateway: %+v, %v", inside, err)
	}
	_, err = session.Router(ctx, RouterFilter{ID: "r9", Name: "nope"})
	wantClass(t, err, Config, `router "r9" with name "nope" not found`)

	external, err := session.ExternalNetworks(ctx)
	if err != nil || len(external) == 0 || cloud.query("GET /network/v2.0/networks") != "router%3Aexternal=true" {
		t.Errorf("%d external networks by %q, %v", len(external), cloud.query("GET /network/v2.0/networks"), err)
	}
}

func TestZonesComeFromNovaAndCinder(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	zone := func(name string, available bool) map[string]any {
		return map[string]any{"availabilityZoneInfo": []any{map[string]any{"zoneName": name, "zoneState": map[string]any{"available": available}}}}
	}
	cloud.answerJSON("GET /compute/v2.1/os-availability-zone", zone("az1", true))
	cloud.answerJSON("GET /volume/v3/p1/os-availability-zone", zone("nova", false))
	session := cloud.session()
	for range 2 {
		if zones, err := session.ComputeZones(t.Context()); err != nil || !slices.Equal(zones, []Zone{{"az1", true}}) {
			t.Errorf("compute zones %v, %v", zones, err)
		}
		if zones, err := session.VolumeZones(t.Context()); err != nil || !slices.Equal(zones, []Zone{{"nova", false}}) {
			t.Errorf("volume zones %v, %v", zones, err)
		}
	}
	if got := cloud.count("GET /compute/v2.1/os-availability-zone"); got != 1 {
		t.Errorf("%d calls", got)
	}
}

func TestQuotasOfAllServicesAreOneList(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerJSON("GET /compute/v2.1/limits", map[string]any{"limits": map[string]any{"rate": []any{}, "absolute": map[string]any{
		"maxTotalInstances": 10, "totalInstancesUsed": 3, "maxTotalCores": -1, "totalCoresUsed": 24, "maxTotalRAMSize": 51200, "totalRAMUsed": 1024,
	}}})
	cloud.answerJSON("GET /volume/v3/p1/limits", map[string]any{"limits": map[string]any{"absolute": map[string]any{
		"maxTotalVolumes": 5, "totalVolumesUsed": 5, "maxTotalVolumeGigabytes": 1000, "totalGigabytesUsed": 200,
	}}})
	cloud.answerJSON("GET /network/v2.0/quotas/p1/details.json", map[string]any{"quota": map[string]any{
		"port": map[string]any{"used": 4, "reserved": 1, "limit": 100}, "floatingip": map[string]any{"used": 0, "reserved": 0, "limit": 2},
	}})
	cloud.answerJSON("GET /lb/v2.0/lbaas/quotas/p1", map[string]any{"quota": map[string]any{"load_balancer": 8, "loadbalancer": 8, "pool": nil}})
	cloud.answerJSON("GET /lb/v2.0/lbaas/loadbalancers", map[string]any{"loadbalancers": []any{map[string]any{"project_id": "p1"}}})
	session := cloud.session()
	quotas, err := session.Quotas(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []QuotaUsage{
		{"instances", 3, 10}, {"cores", 24, -1}, {"ram", 1024, 51200}, {"volumes", 5, 5}, {"gigabytes", 200, 1000},
		{"ports", 5, 100}, {"floatingips", 0, 2}, {"loadbalancers", 1, 8},
	} {
		if got, found := QuotaOf(quotas, want.Resource); !found || got != want {
			t.Errorf("%s is %+v, want %+v", want.Resource, got, want)
		}
	}
	if _, found := QuotaOf(quotas, "trunks"); found {
		t.Error("a quota the cloud does not have")
	}
	before := cloud.total()
	clock.Advance(quotaLife)
	_, _ = session.Quotas(t.Context())
	if cloud.total() != before {
		t.Error("asked again within a minute")
	}
	clock.Advance(time.Second)
	if _, err := session.Quotas(t.Context()); err != nil || cloud.total() == before {
		t.Errorf("not asked again after a minute (%v)", err)
	}
}

func TestQuotasLeaveOutServicesTheCloudLacks(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.catalog = func(base string) []map[string]any {
		return slices.DeleteFunc(oneRegion(base), func(entry map[string]any) bool { return entry["type"] != "compute" })
	}
	cloud.answerJSON("GET /compute/v2.1/limits", map[string]any{"limits": map[string]any{"absolute": map[string]any{"maxTotalInstances": 10, "totalInstancesUsed": 3}}})
	if quotas, err := cloud.session().Quotas(t.Context()); err != nil || len(quotas) != 1 {
		t.Errorf("%v, %v", quotas, err)
	}
}

func TestAKeyPairIsThereOrNot(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answerJSON("GET /compute/v2.1/os-keypairs/mine", map[string]any{"keypair": map[string]any{"name": "mine"}})
	cloud.answerStatus("GET /compute/v2.1/os-keypairs/broken", http.StatusInternalServerError)
	session := cloud.session()
	for range 2 {
		for name, want := range map[string]bool{"mine": true, "other": false} {
			if found, err := session.KeyPairExists(t.Context(), name); err != nil || found != want {
				t.Errorf("%s: %t, %v", name, found, err)
			}
		}
	}
	if cloud.count("GET /compute/v2.1/os-keypairs/mine") != 1 || cloud.count("GET /compute/v2.1/os-keypairs/other") != 1 {
		t.Error("asked more than once")
	}
	_, err := session.KeyPairExists(t.Context(), "broken")
	wantClass(t, err, Transient)
}

func TestExtensionsAreAskedForOnceAnHour(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	const call = "GET /network/v2.0/extensions"
	cloud.answerJSON(call, map[string]any{"extensions": []any{map[string]any{"alias": "trunk"}}})
	session := cloud.session()
	for range 3 {
		trunk, err := session.extension(t.Context(), "trunk")
		tags, err2 := session.extension(t.Context(), "standard-attr-tag")
		if err != nil || err2 != nil || !trunk || tags {
			t.Errorf("trunk %t, tags %t, %v, %v", trunk, tags, err, err2)
		}
		clock.Advance(29 * time.Minute)
	}
	if got := cloud.count(call); got != 1 {
		t.Errorf("%d calls in an hour", got)
	}
}

func TestLoadBalancerProvidersAndFlavors(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answerJSON("GET /lb/v2.0/lbaas/providers", map[string]any{"providers": []any{map[string]any{"name": "amphora"}, map[string]any{"name": "ovn"}}})
	cloud.answerJSON("GET /lb/v2.0/lbaas/flavors", map[string]any{"flavors": []any{
		map[string]any{"id": "f1", "name": "small", "enabled": true}, map[string]any{"id": "f2", "name": "old", "enabled": false},
	}})
	session := cloud.session()
	if names, err := session.LoadBalancerProviders(t.Context()); err != nil || !slices.Equal(names, []string{"amphora", "ovn"}) {
		t.Errorf("%v, %v", names, err)
	}
	for _, wanted := range []string{"small", "f1"} {
		if id, err := session.LoadBalancerFlavor(t.Context(), wanted); err != nil || id != "f1" {
			t.Errorf("%s: %q, %v", wanted, id, err)
		}
	}
	_, err := session.LoadBalancerFlavor(t.Context(), "old")
	wantClass(t, err, Config, `"old"`, "sees small", "spec.endpoint.loadBalancer.flavor")
}

func TestLongListsOfNamesAreCut(t *testing.T) {
	names := strings.Split(strings.Repeat("x ", 30), " ")[:30]
	if got := enumerate(names); !strings.HasSuffix(got, "and 10 more") {
		t.Error(got)
	}
	if got := enumerate(nil); got != "none" {
		t.Error(got)
	}
}

func TestTheMicroversionIsTheNewestBothKnow(t *testing.T) {
	cases := map[string]struct {
		newest string
		header string
		tags   bool
	}{
		"newer than ours": {"2.100", "2.90", true},
		"older":           {"2.60", "2.60", true},
		"very old":        {"2.38", "2.38", false},
		"none":            {"", "", false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			cloud := newLoginCloud(t, clockwork.NewFakeClock())
			cloud.catalog = func(base string) []map[string]any {
				return []map[string]any{{"type": "compute", "endpoints": []map[string]any{{"interface": "public", "region": "RegionOne", "url": base + "/compute/v2.1/p1"}}}}
			}
			cloud.answerJSON("GET /compute/v2.1/", map[string]any{"version": map[string]any{"version": c.newest}})
			session := cloud.session()
			client, err := session.client(t.Context(), computeService)
			if err != nil || client.Microversion != c.header {
				t.Errorf("microversion %q, %v", client.Microversion, err)
			}
			if tags, err := session.supports(t.Context(), minorTagsOnCreate); err != nil || tags != c.tags {
				t.Errorf("tags on create: %t, %v", tags, err)
			}
		})
	}
}

func TestAMicroversionThatCannotBeReadIsAskedForAgain(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerStatus("GET /compute/v2.1/", http.StatusBadGateway)
	session := cloud.session()
	_, err := session.client(t.Context(), computeService)
	wantClass(t, err, Transient)
	cloud.answerJSON("GET /compute/v2.1/", map[string]any{"version": map[string]any{"version": "2.93"}})
	clock.Advance(stumbleLife)
	if _, err := session.client(t.Context(), computeService); err != nil {
		t.Error(err)
	}
}

func TestALookupThatIsRefusedIsNotRepeatedByEveryReconciler(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerStatus("GET /image/v2/images", http.StatusForbidden)
	session := cloud.session()
	image := func() error {
		_, err := session.Image(t.Context(), ImageFilter{Name: "ubuntu"})
		return err
	}
	first := image()
	wantClass(t, first, Auth, "req-")
	for range 3000 {
		if err := image(); err.Error() != first.Error() {
			t.Fatalf("got %v, want %v", err, first)
		}
	}
	if got := cloud.count("GET /image/v2/images"); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
	clock.Advance(30 * time.Second)
	cloud.answerJSON("GET /image/v2/images", map[string]any{"images": []any{map[string]any{"id": "i1", "name": "ubuntu", "status": "active"}}})
	if err := image(); err != nil {
		t.Errorf("the right was granted, but: %v", err)
	}
}
