package cloud

import (
	"testing"

	"github.com/jonboulle/clockwork"
)

func TestCatalogAddressesWorkWithAndWithoutVersion(t *testing.T) {
	cases := []struct {
		of        service
		address   string
		root      string
		resources string
	}{
		{computeService, "https://h/compute/v2.1", "https://h/compute/v2.1/", ""},
		{computeService, "https://h:8774/v2.1/abc", "https://h:8774/v2.1/abc/", ""},
		{computeService, "https://h/compute", "https://h/compute/v2.1/", ""},
		{networkService, "https://h:9696", "https://h:9696/", "https://h:9696/v2.0/"},
		{networkService, "https://h:9696/", "https://h:9696/", "https://h:9696/v2.0/"},
		{networkService, "https://h:9696/v2.0", "https://h:9696/", "https://h:9696/v2.0/"},
		{networkService, "https://h/networking/v2.0/", "https://h/networking/", "https://h/networking/v2.0/"},
		{loadBalancerService, "https://h:9876", "https://h:9876/", "https://h:9876/v2.0/"},
		{loadBalancerService, "https://h:9876/v2", "https://h:9876/", "https://h:9876/v2.0/"},
		{loadBalancerService, "https://h:9876/v2.0/", "https://h:9876/", "https://h:9876/v2.0/"},
		{imageService, "https://h:9292", "https://h:9292/", "https://h:9292/v2/"},
		{imageService, "https://h/image/v2/", "https://h/image/", "https://h/image/v2/"},
		{volumeService, "https://h:8776/v3/p1", "https://h:8776/v3/p1/", ""},
		{volumeService, "https://h/volume/v3", "https://h/volume/v3/", ""},
		{volumeService, "https://h/volume", "https://h/volume/v3/p1/", ""},
	}
	for _, c := range cases {
		t.Run(string(c.of)+" at "+c.address, func(t *testing.T) {
			got, err := newEndpoint(c.of, c.address, "p1")
			if err != nil {
				t.Fatal(err)
			}
			if got.root != c.root || got.resources != c.resources {
				t.Errorf("got %q and %q, want %q and %q", got.root, got.resources, c.root, c.resources)
			}
		})
	}
}

func TestAGarbledCatalogAddressIsAMistakeInTheConfiguration(t *testing.T) {
	_, err := newEndpoint(computeService, "cloud.example:8774", "p1")
	wantClass(t, err, Config, "cloud.example:8774")
}

func TestTheIdentityChoosesTheInterface(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	identity := cloud.identity()
	identity.Interface = "internal"
	session, err := cloud.sessions().Get(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	client, err := session.client(t.Context(), networkService)
	if err != nil {
		t.Fatal(err)
	}
	if want := cloud.URL + "/internal/network/"; client.Endpoint != want {
		t.Errorf("endpoint %q, want %q", client.Endpoint, want)
	}
}

func TestKeystoneIsFoundWhateverTheAuthURLSaysOfItsVersion(t *testing.T) {
	for _, address := range []string{"https://h/identity", "https://h/identity/", "https://h/identity/v3", "https://h/identity/v3/", "https://h/identity/v2.0"} {
		if got := keystoneRoot(address); got != "https://h/identity/v3/" {
			t.Errorf("%s gives %s", address, got)
		}
	}
}

func TestOperationsAreTemplatesWithoutIDs(t *testing.T) {
	cases := map[string]string{
		"/servers/detail": "GET /servers/detail",
		"/servers/4cf5f3a4-6d5b-4b5c-a7a5-6f5f9dd3f1d2/action": "GET /servers/{id}/action",
		"/lbaas/loadbalancers/4cf5f3a4/status":                 "GET /lbaas/loadbalancers/{id}/status",
		"/os-keypairs/my key":                                  "GET /os-keypairs/{id}",
		"/flavors/1":                                           "GET /flavors/{id}",
		"/networks/n/tags/team-a":                              "GET /networks/{id}/tags/{id}",
		"/quotas/0123456789abcdef/details.json":                "GET /quotas/{id}/details.json",
		"/":                                                    "GET /",
		"/routers/r/add_router_interface":                      "GET /routers/{id}/add_router_interface",
		"/lbaas/pools/p/members":                               "GET /lbaas/pools/{id}/members",
		"/images/../../somewhere/that/an/attacker/might/think/up/99": "GET /images/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}/{id}",
	}
	for path, want := range cases {
		if got := operationOf("GET", path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}
