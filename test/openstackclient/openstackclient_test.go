package openstackclient_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// requireVariable makes a missing client a failure, for machines that are meant to have it.
const requireVariable = "SENDAN_REQUIRE_OPENSTACKCLIENT"

// commandLimit is far above the second or two that one call of the client takes.
const commandLimit = 2 * time.Minute

// client runs the real openstack command against a simulator on the real clock.
type client struct {
	t   *testing.T
	sim *simulator.Simulator
	dir string
}

func newClient(t *testing.T) *client {
	t.Helper()
	if _, err := exec.LookPath("openstack"); err != nil {
		if os.Getenv(requireVariable) == "1" {
			t.Fatalf("%s=1, but there is no openstack command: install python3-openstackclient and python3-octaviaclient", requireVariable)
		}
		t.Skip("no openstack command: install python3-openstackclient and python3-octaviaclient")
	}
	scenario := simulator.DefaultScenario()
	scenario.Latency = simulator.Latencies{ServerBuild: simulator.Exactly(200 * time.Millisecond), LoadBalancerCreate: simulator.Exactly(200 * time.Millisecond)}
	sim, err := simulator.New(simulator.Options{Scenario: &scenario})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() {
		server.Close()
		sim.Close()
	})
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "clouds.yaml"), sim.CloudsYAML(server.URL, "simulator"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &client{t: t, sim: sim, dir: dir}
}

// try runs one command and returns what it wrote.
func (c *client) try(command string) (stdout, stderr string, err error) {
	c.t.Helper()
	cmd := exec.CommandContext(c.t.Context(), "openstack", strings.Fields(command)...)
	cmd.Dir = c.dir
	cmd.WaitDelay = time.Second
	cmd.Env = append(withoutOpenStack(os.Environ()), "OS_CLOUD=simulator", "OS_CLIENT_CONFIG_FILE="+filepath.Join(c.dir, "clouds.yaml"), "HOME="+c.dir)
	timer := time.AfterFunc(commandLimit, func() { _ = cmd.Process.Kill() }) // it may have ended already
	defer timer.Stop()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return strings.TrimSpace(out.String()), strings.TrimSpace(errs.String()), err
}

// withoutOpenStack keeps the caller's own cloud out of the test.
func withoutOpenStack(environment []string) []string {
	var kept []string
	for _, entry := range environment {
		if !strings.HasPrefix(entry, "OS_") && !strings.HasPrefix(entry, "HOME=") {
			kept = append(kept, entry)
		}
	}
	return kept
}

// run runs a command that must succeed.
func (c *client) run(command string) string {
	c.t.Helper()
	out, errs, err := c.try(command)
	if err != nil {
		c.t.Fatalf("openstack %s: %v\n%s\n%s", command, err, out, errs)
	}
	return out
}

// object runs a command that answers with one object.
func (c *client) object(command string) map[string]any {
	c.t.Helper()
	var object map[string]any
	c.decode(command, &object)
	return object
}

// rows runs a command that answers with a list.
func (c *client) rows(command string) []map[string]any {
	c.t.Helper()
	var rows []map[string]any
	c.decode(command, &rows)
	return rows
}

func (c *client) decode(command string, into any) {
	c.t.Helper()
	out := c.run(command + " -f json")
	if err := json.Unmarshal([]byte(out), into); err != nil {
		c.t.Fatalf("openstack %s: %v in %q", command, err, out)
	}
}

// lists checks that a list has exactly the names, whatever their order.
func (c *client) lists(command string, names ...string) {
	c.t.Helper()
	rows := c.rows(command)
	if len(rows) != len(names) {
		c.t.Fatalf("openstack %s: %d rows, want %v: %v", command, len(rows), names, rows)
	}
	for _, name := range names {
		found := false
		for _, row := range rows {
			found = found || fmt.Sprint(row["Name"]) == name || fmt.Sprint(row["name"]) == name
		}
		if !found {
			c.t.Fatalf("openstack %s lacks %s: %v", command, name, rows)
		}
	}
}

// shows checks fields of an object.
func (c *client) shows(command string, want map[string]string) map[string]any {
	c.t.Helper()
	object := c.object(command)
	for field, value := range want {
		if got := fmt.Sprint(object[field]); !strings.Contains(got, value) {
			c.t.Errorf("openstack %s: %s is %q, want %q", command, field, got, value)
		}
	}
	return object
}

// becomes waits until a command shows a status.
func (c *client) becomes(command, want string) {
	c.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		got := fmt.Sprint(c.object(command)["status"])
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("openstack %s: status stays %q, want %q", command, got, want)
		}
	}
}

// isClean checks that nothing is left and that no call went to a route the simulator lacks.
func (c *client) isClean() {
	c.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for c.sim.Objects().Total.Sum() != 0 {
		if time.Now().After(deadline) {
			c.t.Fatalf("left over: %v", c.sim.Objects().Total)
		}
		c.run("token issue")
	}
	for _, call := range c.sim.UnknownCalls() {
		c.t.Errorf("unknown route %s %s/%s", call.Method, call.Service, call.URL)
	}
}

const image = "ubuntu-24.04-kube-v1.36.3"

func TestCatalogFlavorsImagesAndZones(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.run("token issue")
	c.lists("catalog list", "keystone", "nova", "neutron", "glance", "cinderv3", "cinder", "octavia", "placement")
	c.shows("flavor show g1.a100.8", map[string]string{"ram": "983040", "vcpus": "96", "properties": "a100:8"})
	c.shows("image show "+image, map[string]string{"status": "active", "properties": "x86_64"})
	if got := len(c.rows("availability zone list --compute")); got != 3 {
		t.Errorf("%d compute zones, want 3", got)
	}
	if got := len(c.rows("availability zone list --volume")); got != 3 {
		t.Errorf("%d volume zones, want 3", got)
	}
	c.lists("keypair list", "demo")
	c.run("quota show")
	c.run("limits show --absolute")
	c.isClean()
}

func TestNetworksFromCreateToDelete(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.run("network create net --description ours")
	c.run("subnet create sub --network net --subnet-range 10.1.0.0/24 --dns-nameserver 192.0.2.53")
	c.run("router create router --external-gateway public")
	c.run("router add subnet router sub")
	c.run("security group create group")
	c.run("security group rule create group --protocol tcp --dst-port 6443 --remote-ip 10.0.0.0/8")
	c.run("port create port --network net --security-group group --fixed-ip subnet=sub,ip-address=10.1.0.9")
	c.run("floating ip create public --port port")

	c.lists("network list", "net", "public")
	c.lists("subnet list --network net", "sub")
	c.lists("router list", "router")
	c.lists("security group list", "default", "group")
	c.shows("network show net", map[string]string{"description": "ours", "status": "ACTIVE"})
	c.shows("subnet show sub", map[string]string{"cidr": "10.1.0.0/24", "gateway_ip": "10.1.0.1"})
	c.shows("router show router", map[string]string{"external_gateway_info": "127.64."})
	c.shows("port show port", map[string]string{"fixed_ips": "10.1.0.9"})
	if got := len(c.rows("security group rule list group")); got != 3 {
		t.Errorf("%d rules, want ours and the two egress rules", got)
	}
	addresses := c.rows("floating ip list")
	if len(addresses) != 1 || addresses[0]["Fixed IP Address"] != "10.1.0.9" {
		t.Fatalf("floating IPs %v", addresses)
	}
	if _, errs, err := c.try("network delete net"); err == nil || !strings.Contains(errs, "There are one or more ports still in use on the network") {
		t.Errorf("deleting a network in use: %v %s", err, errs)
	}

	c.run("floating ip delete " + fmt.Sprint(addresses[0]["Floating IP Address"]))
	c.run("port delete port")
	c.run("security group delete group")
	c.run("router remove subnet router sub")
	c.run("router delete router")
	c.run("network delete net")
	c.isClean()
}

func TestServersFromCreateToDelete(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	c.run("network create net")
	c.run("subnet create sub --network net --subnet-range 10.1.0.0/24")
	c.run("port create port --network net")
	c.run("server group create group --policy soft-anti-affinity")
	group := fmt.Sprint(c.object("server group show group")["id"])
	c.run("server create node --flavor g1.a100.1 --image " + image + " --port port --key-name demo --property role=worker --hint group=" + group + " --wait")

	c.lists("server list", "node")
	server := c.shows("server show node", map[string]string{
		"status": "ACTIVE", "flavor": "g1.a100.1", "image": image, "addresses": "10.1.0.", "properties": "worker", "key_name": "demo",
	})
	c.shows("server group show group", map[string]string{"members": fmt.Sprint(server["id"]), "policy": "soft-anti-affinity"})
	c.shows("port show port", map[string]string{"device_id": fmt.Sprint(server["id"]), "device_owner": "compute:az"})

	c.run("server stop node")
	c.becomes("server show node", "SHUTOFF")
	c.run("server start node")
	c.becomes("server show node", "ACTIVE")
	c.run("server reboot --hard --wait node")

	c.run("volume create data --size 1")
	c.run("server add volume node data")
	c.becomes("volume show data", "in-use")
	c.run("server remove volume node data")
	c.becomes("volume show data", "available")
	c.run("volume delete data")

	if _, errs, err := c.try("server create no --flavor m1.small --image " + image + " --network net --availability-zone nope"); err == nil || !strings.Contains(errs, "The requested availability zone is not available (HTTP 400)") {
		t.Errorf("unknown zone: %v %s", err, errs)
	}
	c.run("server delete --wait node")
	c.lists("server list")
	c.run("server group delete group")
	c.run("port delete port")
	c.run("network delete net")
	c.isClean()
}

func TestLoadBalancersFromCreateToDelete(t *testing.T) {
	t.Parallel()
	c := newClient(t)
	if out, _, err := c.try("loadbalancer --help"); err != nil || strings.Contains(out, "Unknown command") {
		if os.Getenv(requireVariable) == "1" {
			t.Fatal("the openstack command has no load balancer plugin: install python3-octaviaclient")
		}
		t.Skip("no load balancer plugin: install python3-octaviaclient")
	}
	c.run("network create net")
	c.run("subnet create sub --network net --subnet-range 10.1.0.0/24")
	c.run("loadbalancer create --name api --vip-subnet-id sub --wait")
	c.run("loadbalancer listener create --name listener --protocol TCP --protocol-port 6443 api --wait")
	c.run("loadbalancer pool create --name pool --listener listener --protocol TCP --lb-algorithm ROUND_ROBIN --wait")
	c.run("loadbalancer member create --name member --address 10.1.0.20 --protocol-port 6443 --subnet-id sub pool --wait")
	c.run("loadbalancer healthmonitor create --name monitor --type TCP --delay 5 --timeout 3 --max-retries 2 pool --wait")

	c.lists("loadbalancer list", "api")
	c.lists("loadbalancer listener list", "listener")
	c.lists("loadbalancer pool list", "pool")
	c.lists("loadbalancer member list pool", "member")
	c.lists("loadbalancer healthmonitor list", "monitor")
	c.shows("loadbalancer show api", map[string]string{"provisioning_status": "ACTIVE", "vip_address": "10.1.0.", "provider": "amphora"})
	c.run("loadbalancer status show api")
	c.run("loadbalancer provider list")
	c.run("loadbalancer delete api --cascade --wait")
	c.lists("loadbalancer list")
	c.run("network delete net")
	c.isClean()
}
