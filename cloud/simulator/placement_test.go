package simulator_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/allocationcandidates"
	"github.com/gophercloud/gophercloud/v2/openstack/placement/v1/resourceproviders"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// placement is a Placement client at the newest version.
func (s *session) placement() *gophercloud.ServiceClient {
	client := s.client(openstack.NewPlacementV1)
	client.Microversion = "1.39"
	return client
}

func (s *session) resourceProvider(name string) resourceproviders.ResourceProvider {
	s.t.Helper()
	pages := must[pagination.Page](s.t)(resourceproviders.List(s.placement(), resourceproviders.ListOpts{Name: name}).AllPages(s.ctx()))
	found := must[[]resourceproviders.ResourceProvider](s.t)(resourceproviders.ExtractResourceProviders(pages))
	if len(found) != 1 {
		s.t.Fatalf("%d resource providers have the name %s", len(found), name)
	}
	return found[0]
}

// candidates are the hosts that could take the resources, by id, with the answer they are in.
func (s *session) candidates(resources string) (map[string]bool, *allocationcandidates.AllocationCandidates) {
	s.t.Helper()
	opts := allocationcandidates.ListOpts{Resources: resources, RootRequired: "!COMPUTE_STATUS_DISABLED"}
	pages := must[pagination.Page](s.t)(allocationcandidates.List(s.placement(), opts).AllPages(s.ctx()))
	found := must[*allocationcandidates.AllocationCandidates](s.t)(allocationcandidates.ExtractAllocationCandidates(pages))
	roots := map[string]bool{}
	for _, request := range found.AllocationRequests {
		for id := range request.Allocations {
			roots[*found.ProviderSummaries[id].RootProviderUUID] = true
		}
	}
	return roots, found
}

func gpuHosts() func(*simulator.Options) {
	return withHosts(
		simulator.Host{Name: "alias", Zone: "az1", VCPUs: 64, MemoryMiB: 1 << 20, DiskGiB: 4000, GPUs: map[string]int{"a100": 2}},
		simulator.Host{Name: "class", Zone: "az2", VCPUs: 64, MemoryMiB: 1 << 20, DiskGiB: 4000, GPUs: map[string]int{"CUSTOM_GPU_A100": 4}},
	)
}

func TestPlacementCountsWhatServersTake(t *testing.T) {
	c := newTestCloud(t, gpuHosts())
	admin, demo := c.login("admin", "admin"), c.demo()
	opts := demo.serverOpts("gpu")
	opts.FlavorRef = demo.flavor("g1.a100.1")
	demo.created(opts)
	alias, class := admin.resourceProvider("alias"), admin.resourceProvider("class")
	used := must[*resourceproviders.ResourceProviderUsage](t)(resourceproviders.GetUsages(c.ctx(), admin.placement(), alias.UUID).Extract())
	if used.Usages["VCPU"] != 12 || used.Usages["MEMORY_MB"] != 122_880 {
		t.Errorf("usages %v, want the flavor's", used.Usages)
	}
	has := must[*resourceproviders.ResourceProviderInventories](t)(resourceproviders.GetInventories(c.ctx(), admin.placement(), class.UUID).Extract())
	if has.Inventories["CUSTOM_GPU_A100"].Total != 4 || has.Inventories["VCPU"].Total != 64 {
		t.Errorf("inventories %v", has.Inventories)
	}
	roots, found := admin.candidates("CUSTOM_GPU_A100:1")
	if len(roots) != 2 {
		t.Errorf("candidates %v, want both hosts: one of two devices is left", roots)
	}
	free := map[string]int{}
	for _, provider := range found.ProviderSummaries {
		of := provider.Resources["CUSTOM_GPU_A100"]
		free[*provider.RootProviderUUID] += of.Capacity - of.Used
	}
	if free[alias.UUID] != 1 || free[class.UUID] != 4 {
		t.Errorf("free %v", free)
	}
	opts.Name = "second"
	demo.created(opts)
	if roots, _ := admin.candidates("CUSTOM_GPU_A100:1"); len(roots) != 1 || !roots[class.UUID] {
		t.Errorf("candidates %v, want only the host that has some left", roots)
	}
}

func TestPlacementKeepsDevicesBelowTheirHost(t *testing.T) {
	admin := newTestCloud(t, gpuHosts()).login("admin", "admin")
	host := admin.resourceProvider("alias")
	device := admin.resourceProvider("alias_0000:01:00.0")
	if device.ParentProviderUUID != host.UUID || device.RootProviderUUID != host.UUID || host.ParentProviderUUID != "" {
		t.Errorf("device %+v of host %+v", device, host)
	}
	// A device is one GPU, and a group of resources takes a class from one provider.
	if roots, _ := admin.candidates("CUSTOM_GPU_A100:2"); len(roots) != 1 || roots[host.UUID] {
		t.Errorf("candidates for two of a class: %v, want only the host that has them itself", roots)
	}
	if roots, found := admin.candidates("CUSTOM_GPU_A100:1,VCPU:8"); len(roots) != 2 || len(found.AllocationRequests) != 3 {
		t.Errorf("%d candidates on %v, want two devices and one host", len(found.AllocationRequests), roots)
	}
}

func TestPlacementLeavesDisabledHostsOut(t *testing.T) {
	c := newTestCloud(t, gpuHosts())
	admin, disabled := c.login("admin", "admin"), true
	if err := c.sim.SetHost("class", simulator.HostChange{Disabled: &disabled}); err != nil {
		t.Fatal(err)
	}
	if roots, _ := admin.candidates("CUSTOM_GPU_A100:1"); len(roots) != 1 || roots[admin.resourceProvider("class").UUID] {
		t.Errorf("candidates %v", roots)
	}
}

func TestPlacementIsForAdminsUnlessTheScenarioOpensIt(t *testing.T) {
	refused := newTestCloud(t).demo().request("GET", "/placement/resource_providers", "")
	if refused.status != http.StatusForbidden || !strings.Contains(refused.body, "placement:resource_providers:list") || !strings.Contains(refused.body, `"errors"`) {
		t.Errorf("%d %s", refused.status, refused.body)
	}
	open := newTestCloud(t, withScenario(func(sc *simulator.Scenario) { sc.PlacementReadable = true })).demo()
	for _, path := range []string{"/placement/resource_providers", "/placement/resource_classes", "/compute/v2.1/os-availability-zone/detail"} {
		if a := open.request("GET", path, ""); a.status != http.StatusOK {
			t.Errorf("GET %s: %d %s", path, a.status, a.body)
		}
	}
}

func TestPlacementRefusesWhatItDoesNotUnderstand(t *testing.T) {
	admin := newTestCloud(t).login("admin", "admin")
	for name, c := range map[string]struct {
		path, version string
		status        int
		text          string
	}{
		"version":         {"/resource_providers", "1.99", 406, "Unacceptable version header: 1.99"},
		"unknown class":   {"/allocation_candidates?resources=CUSTOM_NOPE:1", "1.35", 400, "No such resource class CUSTOM_NOPE"},
		"no amount":       {"/allocation_candidates?resources=VCPU", "1.35", 400, "Badly formed resources parameter"},
		"unknown filter":  {"/resource_providers?nope=1", "1.35", 400, "'nope' was unexpected"},
		"unknown id":      {"/resource_providers/nope", "1.35", 404, "No resource provider with uuid nope found"},
		"nothing to find": {"/allocation_candidates", "1.35", 400, "must specify resources"},
	} {
		t.Run(name, func(t *testing.T) {
			a := admin.request("GET", "/placement"+c.path, "", "OpenStack-API-Version: placement "+c.version)
			if a.status != c.status || !strings.Contains(a.body, c.text) {
				t.Errorf("%d %s, want %d with %q", a.status, a.body, c.status, c.text)
			}
		})
	}
	if a := newTestCloud(t).send("GET", "/placement", ""); a.status != http.StatusOK || !strings.Contains(a.body, `"max_version":"1.39"`) {
		t.Errorf("discovery: %d %s", a.status, a.body)
	}
}
