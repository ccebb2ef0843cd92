package memory

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
)

// cloud is a simulated cloud over HTTP whose servers are machines in memory, as its user demo sees it.
type cloud struct {
	t        testing.TB
	scenario *simulator.Scenario
	backend  *Backend
	sim      *simulator.Simulator
	server   *httptest.Server
	token    string
}

// newCloud serves the default scenario after a change, without latencies. Its floating IPs are loopback addresses of
// its own.
func newCloud(t testing.TB, change func(*simulator.Scenario)) *cloud {
	t.Helper()
	scenario := simulator.DefaultScenario()
	scenario.Latency = simulator.Latencies{}
	scenario.ExternalNetworks[0].CIDR = fmt.Sprintf("127.%d.%d.0/24", 100+rand.IntN(100), rand.IntN(256))
	change(&scenario)
	c := &cloud{t: t, scenario: &scenario}
	c.start(nil)
	c.token = c.login()
	return c
}

func (c *cloud) start(snapshot []byte) {
	c.t.Helper()
	options := quick()
	options.GPUKinds, options.NVIDIADriver = c.scenario.GPUKinds, c.scenario.NVIDIADriver
	backend := newBackend(c.t, options)
	sim, err := simulator.New(simulator.Options{Scenario: c.scenario, Backend: backend, Seed: 1, Snapshot: snapshot})
	if err != nil {
		c.t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	c.backend, c.sim, c.server = backend, sim, server
	c.t.Cleanup(func() {
		server.Close()
		sim.Close()
	})
}

// restart lets another process go on with what this one saved.
func (c *cloud) restart() {
	c.t.Helper()
	snapshot, err := c.sim.Snapshot()
	if err != nil {
		c.t.Fatal(err)
	}
	c.server.Close()
	c.sim.Close()
	c.backend.Close()
	c.start(snapshot)
}

func (c *cloud) send(method, path string, body any) (http.Header, []byte) {
	c.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(c.t.Context(), method, c.server.URL+path, bytes.NewReader(text))
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", c.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if response.StatusCode >= 300 {
		c.t.Fatalf("%s %s: %s %s", method, path, response.Status, answer)
	}
	return response.Header, answer
}

type object map[string]any

func (c *cloud) login() string {
	c.t.Helper()
	domain := object{"name": "Default"}
	header, _ := c.send("POST", "/identity/v3/auth/tokens", object{"auth": object{
		"identity": object{"methods": []string{"password"}, "password": object{"user": object{"name": "demo", "password": "demo", "domain": domain}}},
		"scope":    object{"project": object{"name": "demo", "domain": domain}},
	}})
	return header.Get("X-Subject-Token")
}

// create makes an object of a kind and answers with it.
func (c *cloud) create(path, kind string, attributes object) object {
	c.t.Helper()
	_, answer := c.send("POST", path, object{kind: attributes})
	var made map[string]object
	if err := json.Unmarshal(answer, &made); err != nil {
		c.t.Fatal(err)
	}
	return made[kind]
}

// id finds an object by its name.
func (c *cloud) id(path, kind, name string) string {
	c.t.Helper()
	_, answer := c.send("GET", path+"?name="+name, nil)
	var found map[string]json.RawMessage
	var objects []struct{ ID, Name string }
	if err := errors.Join(json.Unmarshal(answer, &found), json.Unmarshal(found[kind], &objects)); err != nil {
		c.t.Fatal(err)
	}
	for _, o := range objects {
		if o.Name == name {
			return o.ID
		}
	}
	c.t.Fatalf("there is no %s among %s", name, kind)
	return ""
}

// routedNetwork is one with a subnet and a router to the outside.
func (c *cloud) routedNetwork() string {
	c.t.Helper()
	const neutron = "/network/v2.0"
	network := c.create(neutron+"/networks", "network", object{"name": "tenant"})["id"].(string)
	subnet := c.create(neutron+"/subnets", "subnet", object{"network_id": network, "ip_version": 4, "cidr": "10.6.0.0/24"})["id"]
	router := c.create(neutron+"/routers", "router", object{"external_gateway_info": object{"network_id": c.id(neutron+"/networks", "networks", "public")}})["id"].(string)
	c.send("PUT", neutron+"/routers/"+router+"/add_router_interface", object{"subnet_id": subnet})
	return network
}

// boot makes a server on a port of its own, which may hold addresses besides its own.
func (c *cloud) boot(name, network, image, flavor string, userData []byte, holds ...string) string {
	c.t.Helper()
	pairs := []object{}
	for _, address := range holds {
		pairs = append(pairs, object{"ip_address": address})
	}
	port := c.create("/network/v2.0/ports", "port", object{"network_id": network, "allowed_address_pairs": pairs})["id"]
	return c.create("/compute/v2.1/servers", "server", object{
		"name": name, "networks": []object{{"port": port}}, "user_data": base64.StdEncoding.EncodeToString(userData),
		"imageRef": c.id("/image/v2/images", "images", image), "flavorRef": c.id("/compute/v2.1/flavors", "flavors", flavor),
	})["id"].(string)
}

// answering is the name of the machine that serves an endpoint.
func answering(ctx context.Context, endpoint string) (string, error) {
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
	conn, err := dialer.DialContext(ctx, "tcp", endpoint)
	if err != nil {
		return "", err
	}
	name := conn.(*tls.Conn).ConnectionState().PeerCertificates[0].DNSNames[0]
	return name, conn.Close()
}

func (c *cloud) waitForAnswerOf(endpoint, want string) {
	c.t.Helper()
	waitFor(c.t, want+" answers at "+endpoint, func() error {
		got, err := answering(c.t.Context(), endpoint)
		if err == nil && got != want {
			err = fmt.Errorf("%s does", got)
		}
		return err
	})
}

const (
	plainImage = "ubuntu-24.04-kube-v1.36.3"
	virtualIP  = "10.6.0.100"
)

func TestAClusterIsReachedAtAFloatingIPOnAVirtualIPWhicheverMachineHoldsIt(t *testing.T) {
	c := newCloud(t, func(*simulator.Scenario) {})
	network := c.routedNetwork()
	reserved := c.create("/network/v2.0/ports", "port", object{"network_id": network, "fixed_ips": []object{{"ip_address": virtualIP}}})["id"]
	floating := c.create("/network/v2.0/floatingips", "floatingip", object{
		"floating_network_id": c.id("/network/v2.0/networks", "networks", "public"), "port_id": reserved,
	})
	tn := newTenant(t, c.backend)
	tn.endpoint = fmt.Sprintf("%s:%d", floating["floating_ip_address"], kubeadm.DefaultAPIPort)

	first := c.boot("cp-0", network, plainImage, "m1.medium", tn.initUserData(), virtualIP)
	tn.createToken(time.Now().Add(time.Hour))
	tn.waitForReadyNodes(1)
	c.boot("cp-1", network, plainImage, "m1.medium", tn.joinUserData(), virtualIP)
	c.boot("worker", network, plainImage, "m1.medium", tn.workerUserData())
	tn.waitForReadyNodes(3)
	c.waitForAnswerOf(tn.endpoint, "cp-0")

	_, members, err := tn.etcdMembers("cp-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := tn.removeMember("cp-1", members["cp-0"]); err != nil {
		t.Fatal(err)
	}
	c.send("DELETE", "/compute/v2.1/servers/"+first, nil)
	c.waitForAnswerOf(tn.endpoint, "cp-1")
	if err := tn.client().CoreV1().Nodes().Delete(t.Context(), "cp-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	tn.waitForReadyNodes(2)

	c.restart()
	tn.backend = c.backend
	c.waitForAnswerOf(tn.endpoint, "cp-1")
	tn.waitForReadyNodes(2)

	c.send("PUT", "/network/v2.0/floatingips/"+floating["id"].(string), object{"floatingip": object{"port_id": nil}})
	if name, err := answering(t.Context(), tn.endpoint); err == nil {
		t.Errorf("%s answers without the floating IP", name)
	}
}

func TestDevicesOfAnyVendorComeFromTheFlavorAndTheScenario(t *testing.T) {
	c := newCloud(t, func(sc *simulator.Scenario) {
		sc.Hosts = []simulator.Host{{Name: "h", Zone: "az1", VCPUs: 256, MemoryMiB: 1 << 20, DiskGiB: 10_000, GPUs: map[string]int{"npu": 4, "CUSTOM_FPGA": 2, "a100": 8}}}
		sc.Resources["pci_passthrough:alias=npu"], sc.Resources["resources:CUSTOM_FPGA"] = "example.com/npu", "fpga.example.com/board"
		sc.Flavors = append(sc.Flavors, simulator.Flavor{
			Name: "odd", VCPUs: 4, MemoryMiB: 8192, DiskGiB: 20, ExtraSpecs: map[string]string{"pci_passthrough:alias": "npu:3", "resources:CUSTOM_FPGA": "2"},
		})
	})
	network, tn := c.routedNetwork(), newTenant(t, c.backend)
	controlPlane := c.boot("cp-0", network, plainImage, "m1.medium", tn.initUserData())
	tn.mu.Lock()
	tn.members = append(tn.members, controlPlane)
	tn.mu.Unlock()
	tn.createToken(time.Now().Add(time.Hour))
	odd := c.boot("odd", network, plainImage, "odd", tn.workerUserData())
	c.boot("gpu", network, plainImage+"-nvidia-570", "g1.a100.8", tn.workerUserData(withLabels("nvidia.com/mig.config=all-2g.10gb")))
	tn.waitForReadyNodes(3)
	tn.waitForDevices("odd", "Ready example.com/npu=3 fpga.example.com/board=2")
	tn.waitForDevices("gpu", "Ready nvidia.com/mig-2g.10gb=24 success")
	if got := tn.node("gpu").Labels[driverLabels+"full"]; got != "570.172.08" {
		t.Errorf("the driver is %q, want that of the image", got)
	}
	c.send("POST", "/_simulator/servers/"+odd, object{"lostGPUs": 1})
	tn.waitForDevices("odd", "Ready example.com/npu=3>2 fpga.example.com/board=2>1")
	c.send("POST", "/_simulator/servers/"+odd, object{"lostGPUs": 0})
	tn.waitForDevices("odd", "Ready example.com/npu=3 fpga.example.com/board=2")
}
