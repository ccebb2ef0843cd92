package scale

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// servedCloud serves a simulated cloud, which can be exchanged for another with more in it.
type servedCloud struct {
	url      string
	scenario simulator.Scenario
	running  atomic.Pointer[simulator.Simulator]
}

// serveCloud makes a fast cloud with room for everything.
func serveCloud(t testing.TB, size fleetSize) *servedCloud {
	t.Helper()
	h := &servedCloud{scenario: simulator.DefaultScenario()}
	h.scenario.Latency = simulator.Latencies{ServerBuild: simulator.Exactly(time.Second), ServerDelete: simulator.Exactly(time.Second), LoadBalancerCreate: simulator.Exactly(time.Second)}
	h.scenario.Quotas = map[string]int{}
	for _, resource := range []string{
		"instances", "cores", "ram", "server_groups", "server_group_members", "network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule",
		"loadbalancer", "listener", "pool", "member", "healthmonitor", "volumes", "gigabytes",
	} {
		h.scenario.Quotas[resource] = -1
	}
	for i := range size.projects {
		h.scenario.AddTenant(projectName(i))
	}
	for i := range h.scenario.Hosts {
		host := &h.scenario.Hosts[i]
		host.VCPUs, host.MemoryMiB, host.DiskGiB = 1<<20, 1<<30, 1<<30
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.running.Load().ServeHTTP(w, r) }))
	h.url = server.URL
	h.run(t, nil)
	t.Cleanup(func() { server.Close(); h.running.Load().Close() })
	return h
}

func projectName(number int) string { return fmt.Sprintf("project-%d", number) }

// run goes on from a snapshot.
func (h *servedCloud) run(t testing.TB, snapshot []byte) {
	t.Helper()
	made, err := simulator.New(simulator.Options{Scenario: &h.scenario, Seed: 1, Snapshot: snapshot})
	if err != nil {
		t.Fatal(err)
	}
	if before := h.running.Swap(made); before != nil {
		before.Close()
	}
}

func (h *servedCloud) snapshot(t testing.TB) []byte {
	t.Helper()
	taken, err := h.running.Load().Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	return taken
}

// cloudsYAML leads to the project of a cluster.
func (h *servedCloud) cloudsYAML(project int) ([]byte, error) {
	name := projectName(project)
	account, err := h.running.Load().Account(name, name)
	if err != nil {
		return nil, err
	}
	return account.CloudsYAML(h.url, "demo"), nil
}

func (h *servedCloud) resetCalls() { h.running.Load().ResetCalls() }

// calls are those since resetCalls, and how often the project was listed from its beginning that was listed most often.
func (h *servedCloud) calls() (reads, writes, polls int) {
	for _, row := range h.running.Load().Calls() {
		if isWrite(row.Method, row.Path) {
			writes += row.Count
		} else {
			reads += row.Count
		}
	}
	listings := map[string]int{}
	for _, call := range h.running.Load().CallLog() {
		isWhole := !strings.Contains(call.URL, "marker=") && !strings.Contains(call.URL, "changes-since=")
		if call.Method == http.MethodGet && strings.HasSuffix(call.Path, serversListing) && isWhole {
			listings[call.Project]++
			polls = max(polls, listings[call.Project])
		}
	}
	return reads, writes, polls
}

// serversListing ends the route that tells of all servers of a project.
const serversListing = "/servers/detail"

// table is what the calls were, for whoever has to find out why they are so many.
func (h *servedCloud) table() string {
	var text strings.Builder
	for _, row := range h.running.Load().Calls() {
		fmt.Fprintf(&text, "%6d  %s %s %s: %d\n", row.Count, row.Service, row.Method, row.Path, row.Status)
	}
	return text.String()
}

// turn gives all servers of a zone a status, and counts them.
func (h *servedCloud) turn(t testing.TB, zone, status string) int {
	t.Helper()
	count, cloud := 0, h.running.Load()
	for _, server := range cloud.Servers() {
		if server.Zone != zone {
			continue
		}
		if err := cloud.SetServer(server.ID, simulator.ServerChange{Status: status}); err != nil {
			t.Fatal(err)
		}
		count++
	}
	return count
}
