package simulator_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/attachinterfaces"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/availabilityzones"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/flavors"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/keypairs"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/limits"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/quotasets"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servergroups"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"
	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/tags"
	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/ports"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/sendan-io/sendan/cloud/simulator"
)

func TestAServerIsBuiltAndGetsTheAddressOfItsPort(t *testing.T) {
	s := newTestCloud(t).demo()
	port := s.port(s.network())
	opts := s.serverOpts("node")
	opts.Networks = []servers.Network{{Port: port}}
	opts.AvailabilityZone = "az2"
	opts.Metadata = map[string]string{"role": "worker"}
	opts.Tags = []string{"b", "a"}
	id := s.create(opts, nil)
	if building := s.server(id); building.Status != "BUILD" {
		t.Errorf("right after its creation the server is %s", building.Status)
	}
	s.advance(aWhile)
	server := s.expectStatus(id, "ACTIVE")
	if len(server.HostID) != 56 || server.AvailabilityZone != "az2" || server.PowerState != servers.RUNNING || server.LaunchedAt.IsZero() {
		t.Errorf("host id %q, zone %s, power %s, launched %s", server.HostID, server.AvailabilityZone, server.PowerState, server.LaunchedAt)
	}
	if server.Metadata["role"] != "worker" || !slices.Equal(*server.Tags, []string{"a", "b"}) {
		t.Errorf("metadata %v, tags %v", server.Metadata, *server.Tags)
	}
	addresses := fmt.Sprint(server.Addresses["net"])
	if !strings.Contains(addresses, "addr:10.0.") || !strings.Contains(addresses, "OS-EXT-IPS:type:fixed") {
		t.Errorf("addresses %s", addresses)
	}
	bound := must[*ports.Port](t)(ports.Get(s.ctx(), s.client(openstack.NewNetworkV2), port).Extract())
	if bound.DeviceID != id || bound.DeviceOwner != "compute:az2" || bound.Status != "ACTIVE" {
		t.Errorf("port has device %q, owner %q, status %s", bound.DeviceID, bound.DeviceOwner, bound.Status)
	}
}

func TestABuildTakesAsLongAsTheScenarioSays(t *testing.T) {
	s := newTestCloud(t, withScenario(func(sc *simulator.Scenario) {
		sc.Latency.ServerBuild = simulator.Exactly(10 * time.Minute)
	})).demo()
	id := s.create(s.serverOpts("slow"), nil)
	s.advance(10*time.Minute - time.Second)
	s.expectStatus(id, "BUILD")
	s.advance(time.Second)
	server := s.expectStatus(id, "ACTIVE")
	if took := server.LaunchedAt.Sub(server.Created); took != 10*time.Minute {
		t.Errorf("launched %s after its creation, want 10m", took)
	}
}

func TestRejectedServersSayWhy(t *testing.T) {
	s := newTestCloud(t).demo()
	network := s.network()
	used := s.port(network)
	inUse := s.serverOpts("first")
	inUse.Networks = []servers.Network{{Port: used}}
	s.created(inUse)
	unknown := "11111111-2222-4333-8444-555555555555"
	for name, c := range map[string]struct {
		server string // fields beside name, flavorRef, imageRef and networks
		hints  string
		status int
		text   string
	}{
		"unknown flavor":         {`"flavorRef":"nope"`, "", 400, "Flavor nope could not be found."},
		"unknown image":          {`"imageRef":"` + unknown + `"`, "", 400, "Can not find requested image"},
		"no image":               {`"imageRef":""`, "", 400, "Invalid imageRef provided."},
		"unknown network":        {`"networks":[{"uuid":"` + unknown + `"}]`, "", 400, "Network " + unknown + " could not be found."},
		"unknown port":           {`"networks":[{"port":"` + unknown + `"}]`, "", 400, "Port " + unknown + " could not be found."},
		"port in use":            {`"networks":[{"port":"` + used + `"}]`, "", 409, "Port " + used + " is still in use."},
		"unknown key pair":       {`"key_name":"nope"`, "", 400, "Invalid key_name provided."},
		"unknown security group": {`"security_groups":[{"name":"nope"}]`, "", 400, "Security group nope not found."},
		"unknown zone":           {`"availability_zone":"nope"`, "", 400, "The requested availability zone is not available"},
		"unknown server group":   {`"key_name":"demo"`, unknown, 400, "Instance group " + unknown + " could not be found."},
		"unknown volume":         {`"imageRef":"","block_device_mapping_v2":[{"boot_index":0,"uuid":"` + unknown + `","source_type":"volume","destination_type":"volume"}]`, "", 400, "Block Device Mapping is Invalid: failed to get volume " + unknown + "."},
		"empty name":             {`"name":""`, "", 400, "Invalid input for field/attribute name."},
		"name too long":          {`"name":"` + strings.Repeat("x", 256) + `"`, "", 400, "Invalid input for field/attribute name."},
		"user data not base64":   {`"user_data":"***"`, "", 400, "Invalid input for field/attribute user_data."},
		"user data too long":     {`"user_data":"` + strings.Repeat("A", 65536) + `"`, "", 400, "Invalid input for field/attribute user_data."},
		"tag with a comma":       {`"tags":["a,b"]`, "", 400, "Invalid input for field/attribute tags."},
	} {
		t.Run(name, func(t *testing.T) {
			var body map[string]map[string]any
			base := fmt.Sprintf(`{"server":{"name":"x","flavorRef":%q,"imageRef":%q,"networks":"none"},"os:scheduler_hints":{}}`, s.flavor("m1.small"), s.image(nodeImage))
			if err := json.Unmarshal([]byte(base), &body); err != nil {
				t.Fatal(err)
			}
			extra := body["server"]
			if err := json.Unmarshal([]byte("{"+c.server+"}"), &extra); err != nil {
				t.Fatal(err)
			}
			if c.hints != "" {
				body["os:scheduler_hints"]["group"] = c.hints
			}
			text, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			a := s.request("POST", "/compute/v2.1/servers", string(text), "OpenStack-API-Version: compute 2.90")
			kind := map[int]string{400: "badRequest", 409: "conflictingRequest"}[c.status]
			if message := a.message(t, kind); a.status != c.status || !strings.HasPrefix(message, c.text) {
				t.Errorf("got %d %q, want %d %q", a.status, message, c.status, c.text)
			}
		})
	}
	if got := s.sim.Objects().Total["servers"]; got != 1 {
		t.Errorf("%d servers after rejected requests, want 1", got)
	}
}

func TestMissingFieldsFailNovasSchema(t *testing.T) {
	s := newTestCloud(t).demo()
	for _, c := range []struct{ version, body, text string }{
		{"2.1", `{"server":{"flavorRef":"x"}}`, "'name' is a required property"},
		{"2.1", `{"server":{"name":"x"}}`, "'flavorRef' is a required property"},
		{"2.37", `{"server":{"name":"x","flavorRef":"x"}}`, "'networks' is a required property"},
		{"2.51", `{"server":{"name":"x","flavorRef":"x","networks":"none","tags":["a"]}}`, "Additional properties are not allowed ('tags' was unexpected)"},
		{"2.89", `{"server":{"name":"x","flavorRef":"x","networks":"none","hostname":"a"}}`, "Additional properties are not allowed ('hostname' was unexpected)"},
	} {
		a := s.request("POST", "/compute/v2.1/servers", c.body, "OpenStack-API-Version: compute "+c.version)
		if message := a.message(t, "badRequest"); !strings.HasSuffix(message, c.text) {
			t.Errorf("%s %s: %q, want …%q", c.version, c.body, message, c.text)
		}
	}
}

func TestQuotaRefusalNamesUseAndLimit(t *testing.T) {
	s := newTestCloud(t, withQuota("instances", 1)).demo()
	s.created(s.serverOpts("first"))
	body := fmt.Sprintf(`{"server":{"name":"x","flavorRef":%q,"imageRef":%q}}`, s.flavor("m1.small"), s.image(nodeImage))
	a := s.request("POST", "/compute/v2.1/servers", body)
	if got, want := a.message(t, "forbidden"), "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if a.header.Get("X-Openstack-Request-Id") == "" || a.header.Get("X-Compute-Request-Id") == "" {
		t.Errorf("no request id in %v", a.header)
	}
	if err := s.sim.SetQuota("demo", "instances", 2); err != nil {
		t.Fatal(err)
	}
	s.create(s.serverOpts("second"), nil)
}

func TestServersInErrorCountAgainstTheQuota(t *testing.T) {
	s := newTestCloud(t, withQuota("cores", 2)).demo()
	if err := s.sim.AddBuildFault(simulator.BuildFault{Message: "no"}); err != nil {
		t.Fatal(err)
	}
	failed := s.created(s.serverOpts("failed"))
	s.expectFault(failed.ID, "no")
	_, err := servers.Create(s.ctx(), s.compute("2.90"), s.serverOpts("second"), nil).Extract()
	expectCode(t, err, http.StatusForbidden)
	if err := servers.Delete(s.ctx(), s.compute(""), failed.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.advance(aWhile)
	s.create(s.serverOpts("third"), nil)
}

func TestACloudWithoutRoomFailsAsynchronously(t *testing.T) {
	host := simulator.Host{Name: "h1", Zone: "az1", VCPUs: 2, MemoryMiB: 8192, DiskGiB: 100}
	s := newTestCloud(t, withHosts(host)).demo()
	first := s.created(s.serverOpts("first"))
	second := s.created(s.serverOpts("second"))
	s.expectStatus(first.ID, "ACTIVE")
	s.expectFault(second.ID, "No valid host was found. ")
	if second.HostID != "" {
		t.Errorf("a server that was never placed has host id %q", second.HostID)
	}
}

func TestTheTwoPoolsOfGPUsDoNotKnowEachOther(t *testing.T) {
	host := simulator.Host{Name: "h1", Zone: "az1", VCPUs: 96, MemoryMiB: 1 << 20, DiskGiB: 1000, GPUs: map[string]int{"a100": 2, "CUSTOM_GPU_A100": 2}}
	s := newTestCloud(t, withHosts(host), withScenario(func(sc *simulator.Scenario) {
		sc.Flavors = append(sc.Flavors,
			simulator.Flavor{Name: "pci", VCPUs: 1, MemoryMiB: 1024, DiskGiB: 20, ExtraSpecs: map[string]string{"pci_passthrough:alias": "a100:2"}},
			simulator.Flavor{Name: "class", VCPUs: 1, MemoryMiB: 1024, DiskGiB: 20, ExtraSpecs: map[string]string{"resources:CUSTOM_GPU_A100": "2"}})
	})).demo()
	build := func(flavor string) *servers.Server {
		opts := s.serverOpts(flavor)
		opts.FlavorRef = s.flavor(flavor)
		return s.created(opts)
	}
	s.expectStatus(build("pci").ID, "ACTIVE")
	s.expectStatus(build("class").ID, "ACTIVE")
	s.expectFault(build("pci").ID, "No valid host was found. There are not enough hosts available.")
	s.expectFault(build("class").ID, "No valid host was found. ")
}

func TestAFourthServerOfAHardGroupOnThreeHostsFailsAsynchronously(t *testing.T) {
	var hosts []simulator.Host
	for _, name := range []string{"h1", "h2", "h3"} {
		hosts = append(hosts, simulator.Host{Name: name, Zone: "az1", VCPUs: 64, MemoryMiB: 1 << 20, DiskGiB: 1000})
	}
	for policy, fourth := range map[string]string{"anti-affinity": "ERROR", "soft-anti-affinity": "ACTIVE"} {
		t.Run(policy, func(t *testing.T) {
			s := newTestCloud(t, withHosts(hosts...)).demo()
			group := must[*servergroups.ServerGroup](t)(servergroups.Create(s.ctx(), s.compute("2.64"), servergroups.CreateOpts{Name: "g", Policy: policy}).Extract())
			seen := map[string]bool{}
			var last string
			for i := range 4 {
				last = s.create(s.serverOpts(fmt.Sprint("s", i)), servers.SchedulerHintOpts{Group: group.ID})
				s.advance(aWhile)
				seen[s.server(last).HostID] = true
			}
			if server := s.expectStatus(last, fourth); fourth == "ERROR" && server.Fault.Message != "No valid host was found. There are not enough hosts available." {
				t.Errorf("fault %q", server.Fault.Message)
			}
			delete(seen, "")
			if len(seen) != 3 {
				t.Errorf("on %d hosts, want 3", len(seen))
			}
			shown := must[*servergroups.ServerGroup](t)(servergroups.Get(s.ctx(), s.compute("2.64"), group.ID).Extract())
			if len(shown.Members) != 4 || shown.Policy == nil || *shown.Policy != policy {
				t.Errorf("group %+v", shown)
			}
		})
	}
}

func TestAServerGroupHasTheShapeOfItsMicroversion(t *testing.T) {
	s := newTestCloud(t).demo()
	made := s.request("POST", "/compute/v2.1/os-server-groups", `{"server_group":{"name":"g","policies":["anti-affinity"]}}`)
	if !strings.Contains(made.body, `"policies":["anti-affinity"]`) || strings.Contains(made.body, "project_id") {
		t.Errorf("2.1: %d %s", made.status, made.body)
	}
	listed := s.request("GET", "/compute/v2.1/os-server-groups", "", "OpenStack-API-Version: compute 2.64")
	if !strings.Contains(listed.body, `"policy":"anti-affinity"`) || !strings.Contains(listed.body, `"rules":{}`) || strings.Contains(listed.body, "policies") {
		t.Errorf("2.64: %s", listed.body)
	}
	soft := s.request("POST", "/compute/v2.1/os-server-groups", `{"server_group":{"name":"g","policies":["soft-anti-affinity"]}}`)
	if soft.status != 400 {
		t.Errorf("2.1 takes a soft policy: %d", soft.status)
	}
}

func TestBuildsFailWithNovasOwnWords(t *testing.T) {
	host := func(name string) simulator.Host {
		return simulator.Host{Name: name, Zone: "az1", VCPUs: 64, MemoryMiB: 1 << 20, DiskGiB: 1000}
	}
	s := newTestCloud(t, withHosts(host("h1"), host("h2"), host("h3"))).demo()
	refusal := "internal error: qemu unexpectedly closed the monitor"
	for _, name := range []string{"h1", "h2"} {
		if err := s.sim.SetHost(name, simulator.HostChange{RefusesSpawn: &refusal}); err != nil {
			t.Fatal(err)
		}
	}
	refused := s.created(s.serverOpts("refused"))
	s.expectFault(refused.ID, "Exceeded maximum number of retries. Exceeded max scheduling attempts 2 for instance "+refused.ID+". Last exception: "+refusal)

	if err := s.sim.SetHost("h1", simulator.HostChange{RefusesSpawn: new(string)}); err != nil {
		t.Fatal(err)
	}
	s.expectStatus(s.created(s.serverOpts("accepted")).ID, "ACTIVE")

	if err := s.sim.AddBuildFault(simulator.BuildFault{Server: "abort*", Message: "Build of instance {id} aborted: disk full"}); err != nil {
		t.Fatal(err)
	}
	aborted := s.created(s.serverOpts("aborted"))
	s.expectFault(aborted.ID, "Build of instance "+aborted.ID+" aborted: disk full")
	s.expectStatus(s.created(s.serverOpts("aborted-again")).ID, "ACTIVE")
}

func TestDeletingTakesAWhileAndFreesThePort(t *testing.T) {
	s := newTestCloud(t).demo()
	network := s.network()
	kept := s.port(network)
	opts := s.serverOpts("node")
	opts.Networks = []servers.Network{{Port: kept}, {UUID: network}}
	server := s.created(opts)
	if got := s.sim.Objects().Total["ports"]; got != 2 {
		t.Fatalf("%d ports, want the one given and the one Nova made", got)
	}
	client := s.compute("2.90")
	for range 2 { // the second delete of a server that is going is accepted as well
		if err := servers.Delete(s.ctx(), client, server.ID).ExtractErr(); err != nil {
			t.Fatal(err)
		}
	}
	if going := s.server(server.ID); going.TaskState != "deleting" || going.Status != "ACTIVE" {
		t.Errorf("while it goes: status %s, task %s", going.Status, going.TaskState)
	}
	s.advance(aWhile)
	a := s.request("GET", "/compute/v2.1/servers/"+server.ID, "")
	if got, want := a.message(t, "itemNotFound"), "Instance "+server.ID+" could not be found."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	expectCode(t, servers.Delete(s.ctx(), client, server.ID).ExtractErr(), 404)
	free := must[*ports.Port](t)(ports.Get(s.ctx(), s.client(openstack.NewNetworkV2), kept).Extract())
	if free.DeviceID != "" || free.Status != "DOWN" {
		t.Errorf("the port still has device %q and is %s", free.DeviceID, free.Status)
	}
	if got := s.sim.Objects().Total["ports"]; got != 1 {
		t.Errorf("%d ports, want only the one that was given", got)
	}
}

func TestAServerDeletedWhileItIsBuiltNeverBecomesActive(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.create(s.serverOpts("short"), nil)
	if err := servers.Delete(s.ctx(), s.compute(""), id).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.advance(aWhile)
	if a := s.request("GET", "/compute/v2.1/servers/"+id, ""); a.status != 404 {
		t.Errorf("got %d, want 404", a.status)
	}
	for _, host := range s.sim.Hosts() {
		if host.UsedVCPUs != 0 || host.Servers != 0 {
			t.Errorf("host %s still has %d servers on %d cores", host.Name, host.Servers, host.UsedVCPUs)
		}
	}
}

func (s *session) list(opts servers.ListOpts) []string {
	s.t.Helper()
	var names []string
	err := servers.List(s.compute("2.90"), opts).EachPage(s.ctx(), func(_ context.Context, page pagination.Page) (bool, error) {
		list, err := servers.ExtractServers(page)
		for _, server := range list {
			names = append(names, server.Name)
		}
		return true, err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return names
}

func TestListsFollowTheirFilters(t *testing.T) {
	s := newTestCloud(t).demo()
	network := s.network()
	for _, name := range []string{"web-1", "web-2", "db-1"} {
		opts := s.serverOpts(name)
		opts.Tags = []string{strings.Split(name, "-")[0], name}
		opts.Networks = []servers.Network{{UUID: network}}
		s.created(opts)
	}
	s.created(withFlavor(s.serverOpts("big"), s.flavor("m1.large")))
	if err := s.sim.SetServer(s.id("db-1"), simulator.ServerChange{Status: "ERROR", Fault: "disk"}); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		opts servers.ListOpts
		want []string
	}{
		"all, newest first":        {servers.ListOpts{}, []string{"big", "db-1", "web-2", "web-1"}},
		"name is a pattern":        {servers.ListOpts{Name: "^web-.*"}, []string{"web-2", "web-1"}},
		"status":                   {servers.ListOpts{Status: "ERROR"}, []string{"db-1"}},
		"flavor":                   {servers.ListOpts{Flavor: s.flavor("m1.large")}, []string{"big"}},
		"tags":                     {servers.ListOpts{Tags: "web,web-1"}, []string{"web-1"}},
		"any of the tags":          {servers.ListOpts{TagsAny: "db,web-1"}, []string{"db-1", "web-1"}},
		"none of the tags":         {servers.ListOpts{NotTagsAny: "web,db"}, []string{"big"}},
		"address":                  {servers.ListOpts{IP: "10.0.0.2$"}, []string{"web-1"}},
		"limit pages, same result": {servers.ListOpts{Limit: 1}, []string{"big", "db-1", "web-2", "web-1"}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := s.list(c.opts); !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestListsAreSortedAsAsked(t *testing.T) {
	s := newTestCloud(t).demo()
	for _, name := range []string{"b", "a", "c"} {
		s.create(s.serverOpts(name), nil)
	}
	var body struct{ Servers []struct{ Name string } }
	if err := json.Unmarshal([]byte(s.request("GET", "/compute/v2.1/servers?sort_key=display_name&sort_dir=asc", "").body), &body); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(body.Servers); got != "[{a} {b} {c}]" {
		t.Errorf("got %s", got)
	}
}

func withFlavor(opts servers.CreateOpts, flavorID string) servers.CreateOpts {
	opts.FlavorRef = flavorID
	return opts
}

// id is a server's id by name.
func (s *session) id(name string) string {
	s.t.Helper()
	for _, state := range s.sim.Servers() {
		if state.Name == name {
			return state.ID
		}
	}
	s.t.Fatalf("no server %s", name)
	return ""
}

func TestPagesCarryALinkToTheNext(t *testing.T) {
	s := newTestCloud(t).demo()
	for i := range 5 {
		s.create(s.serverOpts(fmt.Sprint("s", i)), nil)
	}
	pages := 0
	path := "/compute/v2.1/servers?limit=2"
	for path != "" {
		pages++
		var page struct {
			Servers []struct{ ID string }
			Links   []struct{ Rel, Href string } `json:"servers_links"`
		}
		if err := json.Unmarshal([]byte(s.request("GET", path, "").body), &page); err != nil {
			t.Fatal(err)
		}
		path = ""
		if len(page.Links) > 0 {
			path = strings.TrimPrefix(page.Links[0].Href, s.url)
		}
	}
	if pages != 3 {
		t.Errorf("%d pages of 2 for 5 servers, want 3", pages)
	}
	if a := s.request("GET", "/compute/v2.1/servers?marker=nope", ""); a.message(t, "badRequest") != "marker [nope] not found" {
		t.Errorf("unknown marker: %s", a.body)
	}
}

func TestChangesSinceTellsOfDeletedServers(t *testing.T) {
	s := newTestCloud(t).demo()
	s.created(s.serverOpts("old"))
	gone := s.created(s.serverOpts("gone"))
	since := s.clock.Now().UTC().Format(time.RFC3339)
	s.advance(time.Minute)
	s.created(s.serverOpts("new"))
	if err := servers.Delete(s.ctx(), s.compute(""), gone.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.advance(aWhile)
	var got []string
	pages := must[pagination.Page](t)(servers.List(s.compute("2.90"), servers.ListOpts{ChangesSince: since}).AllPages(s.ctx()))
	for _, server := range must[[]servers.Server](t)(servers.ExtractServers(pages)) {
		got = append(got, server.Name+" "+server.Status)
	}
	if want := []string{"new ACTIVE", "gone DELETED"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if rest := s.list(servers.ListOpts{}); slices.Contains(rest, "gone") {
		t.Errorf("the plain list still has %v", rest)
	}
}

func TestServersHaveTheShapeOfTheirMicroversion(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.created(s.serverOpts("node")).ID
	for _, c := range []struct {
		version    string
		has, lacks []string
	}{
		{"2.1", []string{`"flavor":{"id":`}, []string{`"locked"`, `"tags"`, `"description"`, `"original_name"`}},
		{"2.9", []string{`"locked":false`}, []string{`"tags"`}},
		{"2.26", []string{`"tags":[]`, `"description"`}, []string{`"trusted_image_certificates"`}},
		{"2.47", []string{`"original_name":"m1.small"`, `"vcpus":2`}, []string{`"flavor":{"id":`}},
		{"2.63", []string{`"trusted_image_certificates":null`}, []string{`"locked_reason"`}},
		{"2.73", []string{`"locked_reason":null`, `"server_groups":[]`}, []string{`"OS-EXT-SRV-ATTR:hostname"`}},
		{"latest", []string{`"OS-EXT-SRV-ATTR:hostname":"node"`}, []string{`"OS-EXT-SRV-ATTR:host"`, `"host_status"`}},
	} {
		a := s.request("GET", "/compute/v2.1/servers/"+id, "", "X-OpenStack-Nova-API-Version: "+c.version)
		for _, part := range c.has {
			if !strings.Contains(a.body, part) {
				t.Errorf("%s lacks %s: %s", c.version, part, a.body)
			}
		}
		for _, part := range c.lacks {
			if strings.Contains(a.body, part) {
				t.Errorf("%s has %s: %s", c.version, part, a.body)
			}
		}
	}
}

func TestMicroversionsAreNegotiated(t *testing.T) {
	s := newTestCloud(t).demo()
	for asked, want := range map[string]string{"": "2.1", "2.52": "2.52", "latest": "2.93"} {
		a := s.request("GET", "/compute/v2.1/servers", "", "OpenStack-API-Version: compute "+asked)
		if got := a.header.Get("OpenStack-API-Version"); got != "compute "+want {
			t.Errorf("asked for %q, answered %q", asked, got)
		}
	}
	a := s.request("GET", "/compute/v2.1/servers", "", "OpenStack-API-Version: compute 2.94")
	if got, want := a.message(t, "computeFault"), "Version 2.94 is not supported by the API. Minimum is 2.1 and maximum is 2.93."; got != want || a.status != 406 {
		t.Errorf("got %d %q, want 406 %q", a.status, got, want)
	}
	if a := s.request("GET", "/compute/v2.1/", ""); !strings.Contains(a.body, `"version":"2.93"`) {
		t.Errorf("version document: %s", a.body)
	}
}

func TestMetadataAndTagsCanBeChanged(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.created(s.serverOpts("node")).ID
	client := s.compute("2.90")
	must[map[string]string](t)(servers.UpdateMetadata(s.ctx(), client, id, servers.MetadataOpts{"a": "1", "b": "2"}).Extract())
	if err := servers.DeleteMetadatum(s.ctx(), client, id, "a").ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if got := s.server(id).Metadata; len(got) != 1 || got["b"] != "2" {
		t.Errorf("metadata %v", got)
	}
	must[[]string](t)(tags.ReplaceAll(s.ctx(), client, id, tags.ReplaceAllOpts{Tags: []string{"x", "y"}}).Extract())
	if err := tags.Add(s.ctx(), client, id, "z").ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if err := tags.Delete(s.ctx(), client, id, "x").ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if got := must[[]string](t)(tags.List(s.ctx(), client, id).Extract()); !slices.Equal(got, []string{"y", "z"}) {
		t.Errorf("tags %v", got)
	}
	if has := must[bool](t)(tags.Check(s.ctx(), client, id, "x").Extract()); has {
		t.Error("a deleted tag is still there")
	}
}

func TestPowerActionsTakeTheirTime(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.created(s.serverOpts("node")).ID
	for _, c := range []struct{ action, during, after string }{
		{`{"os-stop":null}`, "ACTIVE", "SHUTOFF"},
		{`{"os-start":null}`, "SHUTOFF", "ACTIVE"},
		{`{"reboot":{"type":"SOFT"}}`, "REBOOT", "ACTIVE"},
		{`{"reboot":{"type":"HARD"}}`, "HARD_REBOOT", "ACTIVE"},
		{`{"rebuild":{"imageRef":"` + s.image(nodeImage) + `"}}`, "REBUILD", "ACTIVE"},
	} {
		s.act(id, c.action)
		s.expectStatus(id, c.during)
		s.advance(aWhile)
		s.expectStatus(id, c.after)
	}
	a := s.request("POST", "/compute/v2.1/servers/"+id+"/action", `{"os-start":null}`)
	if got, want := a.message(t, "conflictingRequest"), "Cannot 'start' instance "+id+" while it is in vm_state active"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestALockedServerStays(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.created(s.serverOpts("node")).ID
	s.act(id, `{"lock":null}`)
	a := s.request("DELETE", "/compute/v2.1/servers/"+id, "")
	if got := a.message(t, "conflictingRequest"); got != "Instance "+id+" is locked" {
		t.Errorf("got %q", got)
	}
	s.act(id, `{"unlock":null}`)
	if a := s.request("DELETE", "/compute/v2.1/servers/"+id, ""); a.status != 204 {
		t.Errorf("unlocked: %d %s", a.status, a.body)
	}
}

func TestADeadHostKeepsItsServersActiveAndTheirActionsWaiting(t *testing.T) {
	s := newTestCloud(t).demo()
	id := s.created(s.serverOpts("node")).ID
	host := s.sim.Servers()[0].Host
	down, up := false, true
	if err := s.sim.SetHost(host, simulator.HostChange{Up: &down}); err != nil {
		t.Fatal(err)
	}
	s.expectStatus(id, "ACTIVE")
	s.act(id, `{"os-stop":null}`)
	s.advance(30 * time.Minute)
	if server := s.server(id); server.TaskState != "powering-off" {
		t.Errorf("task %q, want it to wait for the host", server.TaskState)
	}
	if err := s.sim.SetHost(host, simulator.HostChange{Up: &up}); err != nil {
		t.Fatal(err)
	}
	s.expectStatus(id, "SHUTOFF")
}

func TestAServerOfADeadHostCanBeEvacuatedOrDeletedAtOnce(t *testing.T) {
	c := newTestCloud(t)
	s, admin := c.demo(), c.login("admin", "demo")
	moved, deleted := s.created(s.serverOpts("moved")).ID, s.created(s.serverOpts("deleted")).ID
	before := map[string]string{}
	down := false
	for _, state := range c.sim.Servers() {
		before[state.ID] = state.Host
		if err := c.sim.SetHost(state.Host, simulator.HostChange{Up: &down}); err != nil {
			t.Fatal(err)
		}
	}
	if a := s.request("POST", "/compute/v2.1/servers/"+moved+"/action", `{"evacuate":{}}`); a.status != 403 {
		t.Errorf("an ordinary user may evacuate: %d", a.status)
	}
	if a := admin.request("POST", "/compute/v2.1/servers/"+moved+"/action", `{"evacuate":{}}`); a.status != 200 {
		t.Fatalf("evacuate: %d %s", a.status, a.body)
	}
	s.request("DELETE", "/compute/v2.1/servers/"+deleted, "")
	s.advance(aWhile)
	states := c.sim.Servers()
	if len(states) != 1 || states[0].ID != moved || states[0].Host == before[moved] || states[0].Status != "ACTIVE" {
		t.Errorf("left %+v, want %s on another host than %s", states, moved, before[moved])
	}
}

func TestNewServersStayOffDisabledHosts(t *testing.T) {
	s := newTestCloud(t, withHosts(simulator.Host{Name: "h1", Zone: "az1", VCPUs: 64, MemoryMiB: 1 << 20, DiskGiB: 1000})).demo()
	yes := true
	if err := s.sim.SetHost("h1", simulator.HostChange{Disabled: &yes}); err != nil {
		t.Fatal(err)
	}
	s.expectFault(s.created(s.serverOpts("node")).ID, "No valid host was found. ")
	zones := must[pagination.Page](t)(availabilityzones.List(s.compute("")).AllPages(s.ctx()))
	if all := must[[]availabilityzones.AvailabilityZone](t)(availabilityzones.ExtractAvailabilityZones(zones)); len(all) != 1 || all[0].ZoneState.Available {
		t.Errorf("zones %+v, want az1 unavailable", all)
	}
}

func TestOrdinaryServersLeaveGPUHostsFree(t *testing.T) {
	s := newTestCloud(t).demo()
	for i := range 6 {
		s.created(s.serverOpts(fmt.Sprint("s", i)))
	}
	for _, state := range s.sim.Servers() {
		if !strings.HasPrefix(state.Host, "cpu-") {
			t.Errorf("%s is on %s", state.Name, state.Host)
		}
	}
}

func TestInterfacesComeAndGo(t *testing.T) {
	s := newTestCloud(t).demo()
	network := s.network()
	id := s.created(s.serverOpts("node")).ID
	client := s.compute("2.90")
	made := must[*attachinterfaces.Interface](t)(attachinterfaces.Create(s.ctx(), client, id, attachinterfaces.CreateOpts{NetworkID: network}).Extract())
	if made.NetID != network || len(made.FixedIPs) != 1 {
		t.Errorf("interface %+v", made)
	}
	pages := must[pagination.Page](t)(attachinterfaces.List(client, id).AllPages(s.ctx()))
	if all := must[[]attachinterfaces.Interface](t)(attachinterfaces.ExtractInterfaces(pages)); len(all) != 1 {
		t.Errorf("%d interfaces", len(all))
	}
	if err := attachinterfaces.Delete(s.ctx(), client, id, made.PortID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.advance(aWhile)
	if got := s.sim.Objects().Total["ports"]; got != 0 {
		t.Errorf("%d ports left", got)
	}
}

func TestKeyPairsBelongToTheUser(t *testing.T) {
	c := newTestCloud(t)
	s := c.demo()
	made := must[*keypairs.KeyPair](t)(keypairs.Create(s.ctx(), s.compute("2.2"), keypairs.CreateOpts{Name: "mine"}).Extract())
	if made.PrivateKey == "" || !strings.HasPrefix(made.PublicKey, "ssh-ed25519 ") || strings.Count(made.Fingerprint, ":") != 15 {
		t.Errorf("key pair %+v", made)
	}
	_, err := keypairs.Create(s.ctx(), s.compute("2.2"), keypairs.CreateOpts{Name: "mine"}).Extract()
	expectCode(t, err, 409)
	_, err = keypairs.Get(s.ctx(), c.login("admin", "demo").compute("2.2"), "mine", nil).Extract()
	expectCode(t, err, 404)
	if err := keypairs.Delete(s.ctx(), s.compute("2.2"), "mine", nil).ExtractErr(); err != nil {
		t.Fatal(err)
	}
}

func TestFlavorsCarryTheirExtraSpecs(t *testing.T) {
	c := newTestCloud(t, withScenario(func(sc *simulator.Scenario) {
		sc.Flavors = append(sc.Flavors, simulator.Flavor{Name: "private", VCPUs: 1, MemoryMiB: 1, DiskGiB: 1, Projects: []string{"admin"}})
	}))
	s := c.demo()
	pages := must[pagination.Page](t)(flavors.ListDetail(s.compute("2.61"), flavors.ListOpts{}).AllPages(s.ctx()))
	byName := map[string]flavors.Flavor{}
	for _, flavor := range must[[]flavors.Flavor](t)(flavors.ExtractFlavors(pages)) {
		byName[flavor.Name] = flavor
	}
	if got := byName["g1.a100.8"]; got.ExtraSpecs["pci_passthrough:alias"] != "a100:8" || got.RAM != 983_040 || got.VCPUs != 96 {
		t.Errorf("flavor %+v", got)
	}
	if _, sees := byName["private"]; sees {
		t.Error("a flavor of another project is listed")
	}
	specs := must[map[string]string](t)(flavors.ListExtraSpecs(s.ctx(), s.compute(""), byName["g1.a100.8"].ID).Extract())
	if specs["pci_passthrough:alias"] != "a100:8" {
		t.Errorf("extra specs %v", specs)
	}
	a := s.request("GET", "/compute/v2.1/flavors/nope", "")
	if a.message(t, "itemNotFound") != "Flavor nope could not be found." {
		t.Errorf("unknown flavor: %s", a.body)
	}
}

func TestLimitsAndQuotasAgree(t *testing.T) {
	c := newTestCloud(t)
	s, admin := c.demo(), c.login("admin", "admin")
	s.created(s.serverOpts("node"))
	absolute := must[*limits.Limits](t)(limits.Get(s.ctx(), s.compute(""), nil).Extract()).Absolute
	if absolute.TotalInstancesUsed != 1 || absolute.TotalCoresUsed != 2 || absolute.TotalRAMUsed != 4096 {
		t.Errorf("limits %+v", absolute)
	}
	project := c.sim.Servers()[0].Project
	detail := must[quotasets.QuotaDetailSet](t)(quotasets.GetDetail(s.ctx(), s.compute(""), project).Extract())
	if detail.Cores.InUse != 2 || detail.Cores.Limit != absolute.MaxTotalCores {
		t.Errorf("quota %+v, limits %+v", detail.Cores, absolute)
	}
	put := func(body string) answered {
		return admin.request("PUT", "/compute/v2.1/os-quota-sets/"+project, body)
	}
	a := put(`{"quota_set":{"cores":1}}`)
	if got, want := a.message(t, "badRequest"), "Quota limit 1 for cores must be greater than or equal to already used and reserved 2."; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if a := put(`{"quota_set":{"cores":1,"force":true}}`); a.status != 200 {
		t.Errorf("forced: %d %s", a.status, a.body)
	}
	if a := s.request("PUT", "/compute/v2.1/os-quota-sets/"+project, `{"quota_set":{"cores":100}}`); a.status != 403 {
		t.Errorf("an ordinary user may set quotas: %d", a.status)
	}
}

func TestAProjectSeesOnlyItsOwnServers(t *testing.T) {
	c := newTestCloud(t)
	s, admin := c.demo(), c.login("admin", "admin")
	id := s.created(s.serverOpts("node")).ID
	if got := admin.list(servers.ListOpts{}); len(got) != 0 {
		t.Errorf("project admin lists %v", got)
	}
	if got := admin.list(servers.ListOpts{AllTenants: true}); len(got) != 1 {
		t.Errorf("all projects: %v", got)
	}
	if a := s.request("GET", "/compute/v2.1/servers?all_tenants=1", ""); a.status != 403 {
		t.Errorf("an ordinary user lists all projects: %d", a.status)
	}
	seen := admin.request("GET", "/compute/v2.1/servers/"+id, "")
	if !strings.Contains(seen.body, `"OS-EXT-SRV-ATTR:host":"cpu-`) {
		t.Errorf("an admin does not see the host: %s", seen.body)
	}
}

func TestUnknownRoutesAreCounted(t *testing.T) {
	s := newTestCloud(t).demo()
	if a := s.request("GET", "/compute/v2.1/os-nonsense", ""); a.message(t, "itemNotFound") == "" {
		t.Errorf("got %s", a.body)
	}
	if calls := s.sim.UnknownCalls(); len(calls) != 1 || calls[0].URL != "/compute/v2.1/os-nonsense" {
		t.Errorf("unknown calls %+v", calls)
	}
}

func TestTheSameSeedGivesTheSameCloud(t *testing.T) {
	run := func() string {
		s := newTestCloud(t).demo()
		for i := range 3 {
			s.created(s.serverOpts(fmt.Sprint("s", i)))
		}
		return fmt.Sprint(s.sim.Servers())
	}
	if first, second := run(), run(); first != second {
		t.Errorf("two runs differ:\n%s\n%s", first, second)
	}
}
