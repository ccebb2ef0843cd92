package simulator_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// control sends a control request and reads its answer into out, when there is one.
func (c *testCloud) control(method, path, body string, out any) {
	c.t.Helper()
	a := c.send(method, "/_simulator"+path, body)
	if a.status != 200 {
		c.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(a.body), out); err != nil {
			c.t.Fatalf("%s %s: %v in %s", method, path, err, a.body)
		}
	}
}

func TestObjectsAreCountedByProjectAndType(t *testing.T) {
	c := newTestCloud(t)
	var empty simulator.Objects
	c.control("GET", "/objects", "", &empty)
	if empty.Total.Sum() != 0 || len(empty.Projects) != 0 {
		t.Errorf("a fresh cloud has objects: %+v", empty)
	}
	s := c.demo()
	opts := s.serverOpts("node")
	opts.Networks = []servers.Network{{Port: s.port(s.network())}}
	server := s.created(opts)
	c.login("admin", "admin").request("POST", "/compute/v2.1/os-server-groups", groupBody)
	var objects simulator.Objects
	c.control("GET", "/objects", "", &objects)
	demo := objects.Projects[server.TenantID]
	if demo.Name != "demo" || demo.Objects["servers"] != 1 || demo.Objects["ports"] != 1 || demo.Objects["networks"] != 1 || demo.Objects["subnets"] != 1 {
		t.Errorf("project demo: %+v", demo)
	}
	if demo.Objects["server_groups"] != 0 || objects.Total["server_groups"] != 1 {
		t.Errorf("server groups: demo %d, total %d", demo.Objects["server_groups"], objects.Total["server_groups"])
	}
}

func TestCallsAreCountedByRoute(t *testing.T) {
	c := newTestCloud(t)
	s := c.demo()
	c.control("POST", "/calls/reset", "", nil)
	for _, path := range []string{"/compute/v2.1/servers/a", "/compute/v2.1/servers/b", "/compute/v2.1/servers"} {
		s.request("GET", path, "")
	}
	var out struct {
		Total int
		Calls []simulator.CallCount
	}
	c.control("GET", "/calls", "", &out)
	if out.Total != 3 || len(out.Calls) != 2 {
		t.Fatalf("counts %+v", out)
	}
	if got := out.Calls[1]; got.Path != "/v2.1/servers/{id}" || got.Status != 404 || got.Count != 2 || got.Service != "compute" || got.Method != "GET" {
		t.Errorf("row %+v", got)
	}
	var log struct{ Log []simulator.Call }
	c.control("GET", "/calls/log", "", &log)
	if len(log.Log) != 3 || log.Log[1].URL != "/compute/v2.1/servers/b" || log.Log[1].Project == "" {
		t.Errorf("log %+v", log.Log)
	}
}

func TestAServerCanBeChangedBehindTheAPIsBack(t *testing.T) {
	s := newTestCloud(t).demo()
	failing, vanishing := s.created(s.serverOpts("failing")).ID, s.created(s.serverOpts("vanishing")).ID
	s.control("POST", "/servers/"+failing, `{"status":"ERROR","fault":"GPU fell off the bus"}`, nil)
	s.control("POST", "/servers/"+vanishing, `{"lost":true}`, nil)
	s.expectFault(failing, "GPU fell off the bus")
	if a := s.request("GET", "/compute/v2.1/servers/"+vanishing, ""); a.status != 404 {
		t.Errorf("a lost server: %d", a.status)
	}
	if a := s.send("POST", "/_simulator/servers/nope", `{"lost":true}`); a.status != 404 || !strings.Contains(a.body, `server \"nope\": not found`) {
		t.Errorf("unknown server: %d %s", a.status, a.body)
	}
	if a := s.send("POST", "/_simulator/servers/"+failing, `{"sttaus":"ERROR"}`); a.status != 400 || !strings.Contains(a.body, "sttaus") {
		t.Errorf("unknown field: %d %s", a.status, a.body)
	}
}

func TestTheControlAPIChangesHostsQuotasTokensAndImages(t *testing.T) {
	c := newTestCloud(t)
	s := c.demo()
	c.control("POST", "/hosts/a100-az1-1", `{"up":false,"gpus":{"a100":6}}`, nil)
	var hosts struct{ Hosts []simulator.HostState }
	c.control("GET", "/hosts", "", &hosts)
	for _, h := range hosts.Hosts {
		if h.Name == "a100-az1-1" && (h.Up || h.GPUs["a100"] != 6) {
			t.Errorf("host %+v", h)
		}
	}
	c.control("POST", "/quotas", `{"project":"demo","limits":{"instances":0,"port":0}}`, nil)
	_, err := servers.Create(s.ctx(), s.compute("2.90"), s.serverOpts("x"), nil).Extract()
	expectCode(t, err, 403)
	if a := c.send("POST", "/_simulator/quotas", `{"project":"demo","limits":{"instanzes":0}}`); a.status != 404 {
		t.Errorf("unknown resource: %d %s", a.status, a.body)
	}
	c.control("POST", "/images", `{"name":"new","tags":["x"]}`, nil)
	if s.image("new") == "" {
		t.Error("the new image is not listed")
	}
	c.control("DELETE", "/images/new", "", nil)
	c.control("POST", "/tokens/revoke", `{"project":"demo"}`, nil)
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != 401 {
		t.Errorf("a revoked token gets %d", a.status)
	}
	c.control("POST", "/credentials/revoke", `{"credential":"demo"}`, nil)
	c.control("POST", "/users/demo", `{"password":"new"}`, nil)
	yaml := c.send("GET", "/_simulator/clouds.yaml?cloud=test", "").body
	for _, part := range []string{"\n  test:\n", `password: "new"`, "auth_url: " + c.url + "/identity/v3", "region_name: RegionOne"} {
		if !strings.Contains(yaml, part) {
			t.Errorf("clouds.yaml lacks %q:\n%s", part, yaml)
		}
	}
}

func TestFaultsAreListedAndRemoved(t *testing.T) {
	c := newTestCloud(t)
	c.control("POST", "/faults", `{"name":"a","status":500,"times":-1}`, nil)
	c.control("POST", "/faults/builds", `{"name":"b","message":"no"}`, nil)
	c.send("GET", "/compute/", "")
	var out struct {
		Faults []struct {
			Name      string
			Seen, Hit int
		}
		Builds []struct{ Name string }
	}
	c.control("GET", "/faults", "", &out)
	if len(out.Faults) != 1 || out.Faults[0].Hit != 1 || len(out.Builds) != 1 || out.Builds[0].Name != "b" {
		t.Errorf("faults %+v", out)
	}
	c.control("DELETE", "/faults?name=a", "", nil)
	c.control("GET", "/faults", "", &out)
	if len(out.Faults) != 0 || len(out.Builds) != 1 {
		t.Errorf("after the removal: %+v", out)
	}
}

func TestAScenarioFileReplacesPartsOfTheDefault(t *testing.T) {
	sc := must[*simulator.Scenario](t)(simulator.ParseScenario([]byte(`
seed: 7
tokenLifetime: 10m
latency: {serverBuild: {min: 1s, max: 2s}, serverDelete: 500ms}
hosts:
- {name: h1, zone: z1, vcpus: 8, memoryMiB: 16384, diskGiB: 100, gpus: {a100: 2}}
quotas: {instances: 5}
events:
- {atSeconds: 60, host: h1, change: {up: false}}
faults:
- {method: POST, status: 502, afterEffect: true}
`)))
	if len(sc.Hosts) != 1 || sc.Hosts[0].GPUs["a100"] != 2 || sc.Quotas["instances"] != 5 || len(sc.Flavors) == 0 {
		t.Errorf("scenario %+v", sc)
	}
	if sc.Latency.ServerBuild != simulator.Between(time.Second, 2*time.Second) || sc.Latency.ServerDelete != simulator.Exactly(500*time.Millisecond) {
		t.Errorf("latency %+v", sc.Latency)
	}
}

func TestABadScenarioNamesItsMistake(t *testing.T) {
	for text, want := range map[string]string{
		"hostz: []":           "hostz",
		"hosts: []":           "hosts is empty",
		"hosts: [{name: h1}]": "name and zone are both needed",
		"users: [{name: u, password: p, roles: {nope: [member]}}]":                  `project "nope", which is not under projects`,
		"faults: [{name: f, status: 200}]":                                          "status 200 is no error",
		"events: [{atSeconds: 1}]":                                                  "events[0] does nothing",
		"events: [{atSeconds: 1, host: nope, change: {up: false}}]":                 `host "nope", which is not under hosts`,
		"latency: {serverBuild: soon}":                                              "soon",
		"images: [{name: a}, {name: a}]":                                            "is there twice",
		"- 1":                                                                       "one mapping",
		"gpuKinds: {a100: {migProfiles: {huge: 1}}}":                                `gpuKinds: a100: 1 instances of MIG profile "huge"`,
		"migLayouts: {mixed: {1g.5gb: 0}}":                                          `migLayouts: mixed: 0 instances`,
		"applicationCredentials: [{name: a, secret: s, user: nope, project: demo}]": `user "nope"`,
		"applicationCredentials: [{name: a, secret: s, user: demo, project: nope}]": `project "nope"`,
	} {
		if _, err := simulator.ParseScenario([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want …%q…", text, err, want)
		}
	}
}

func TestAScenariosEventsHappenAtTheirTime(t *testing.T) {
	s := newTestCloud(t, withScenario(func(sc *simulator.Scenario) {
		no := false
		sc.Events = []simulator.Event{
			{AtSeconds: 60, Host: "cpu-az1-1", Change: &simulator.HostChange{Up: &no}},
			{AtSeconds: 120, Fault: &simulator.Fault{Service: "compute", Status: 500}},
			{AtSeconds: 180, RevokeTokens: true},
		}
	})).demo()
	status := func() int { return s.request("GET", "/compute/v2.1/servers", "").status }
	s.advance(59 * time.Second)
	if !s.sim.Hosts()[0].Up {
		t.Error("the host went down too early")
	}
	s.advance(time.Second)
	if s.sim.Hosts()[0].Up || status() != 200 {
		t.Error("at 60 s the host is to be down and the API up")
	}
	s.advance(time.Minute)
	if got := status(); got != 500 {
		t.Errorf("at 120 s: %d", got)
	}
	s.advance(time.Minute)
	if got := status(); got != 401 {
		t.Errorf("at 180 s: %d", got)
	}
}

func TestTheDocumentedScenarioIsValid(t *testing.T) {
	text := must[[]byte](t)(os.ReadFile(filepath.Join("..", "..", "docs", "reference", "openstack-simulator.md")))
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("the page has no yaml example")
	}
	if _, err := simulator.ParseScenario([]byte(example)); err != nil {
		t.Error(err)
	}
}
