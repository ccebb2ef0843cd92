package simulator_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/compute/v2/servers"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// recordedNodes is a backend that notes what it is asked for.
type recordedNodes struct {
	mu      sync.Mutex
	calls   []string
	nodes   map[string]simulator.Node
	busy    map[string]bool
	overlap bool
	boot    func(ctx context.Context, node simulator.Node) error
}

func newRecordedNodes() *recordedNodes {
	return &recordedNodes{nodes: map[string]simulator.Node{}, busy: map[string]bool{}}
}

func (r *recordedNodes) enter(id, call string) func() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.overlap = r.overlap || r.busy[id]
	r.busy[id] = true
	r.calls = append(r.calls, call)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.busy[id] = false
	}
}

func (r *recordedNodes) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.calls, " ")
}

func (r *recordedNodes) Boot(ctx context.Context, node simulator.Node) error {
	defer r.enter(node.ServerID, "boot")()
	r.mu.Lock()
	r.nodes[node.Name] = node
	r.mu.Unlock()
	if r.boot != nil {
		return r.boot(ctx, node)
	}
	return nil
}

func (r *recordedNodes) Shutdown(_ context.Context, id string) error {
	r.enter(id, "shutdown")()
	return nil
}

func (r *recordedNodes) PowerOff(_ context.Context, id string) error {
	r.enter(id, "off")()
	return nil
}

func (r *recordedNodes) PowerOn(_ context.Context, id string) error {
	r.enter(id, "on")()
	return nil
}

func (r *recordedNodes) Destroy(_ context.Context, id string) error {
	r.enter(id, "destroy")()
	return nil
}

func (r *recordedNodes) Dial(context.Context, string, int) (net.Conn, error) {
	return nil, errors.New("nothing listens")
}

func (r *recordedNodes) ConsoleLog(string) string { return "one\ntwo\nthree\n" }

func withNodes(nodes *recordedNodes) func(*simulator.Options) {
	return func(opts *simulator.Options) { opts.Backend = nodes }
}

// eventually waits for what a node backend does outside the fake clock's time.
func (s *session) eventually(what string, is func() bool) {
	s.t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline:
			s.t.Fatalf("after 10 s still not: %s", what)
		case <-tick.C:
		}
	}
}

func (s *session) eventuallyStatus(id, want string) {
	s.t.Helper()
	s.eventually("server "+want, func() bool { return s.server(id).Status == want })
}

func TestANodeBootsWithWhatItsServerWasGiven(t *testing.T) {
	nodes := newRecordedNodes()
	s := newTestCloud(t, withNodes(nodes)).demo()
	opts := withFlavor(s.serverOpts("gpu-1"), s.flavor("g1.a100.4"))
	opts.UserData = []byte("#cloud-config")
	opts.Metadata = map[string]string{"k": "v"}
	opts.Networks = []servers.Network{{UUID: s.network()}}
	id := s.create(opts, nil)
	s.advance(aWhile)
	s.eventuallyStatus(id, "ACTIVE")
	node := nodes.nodes["gpu-1"]
	if node.ServerID != id || string(node.UserData) != "#cloud-config" || node.Metadata["k"] != "v" || node.Image != nodeImage {
		t.Errorf("node %+v", node)
	}
	if node.Resources["nvidia.com/gpu"] != 4 || node.VCPUs != 48 || node.Flavor != "g1.a100.4" || len(node.Addresses) != 1 || node.Zone == "" {
		t.Errorf("node %+v", node)
	}
	console := s.request("POST", "/compute/v2.1/servers/"+id+"/action", `{"os-getConsoleOutput":{"length":2}}`)
	if strings.TrimSpace(console.body) != `{"output":"two\nthree"}` {
		t.Errorf("console %s", console.body)
	}
}

func TestANodeThatDoesNotBootPutsItsServerIntoError(t *testing.T) {
	nodes := newRecordedNodes()
	nodes.boot = func(context.Context, simulator.Node) error { return errors.New("no kernel") }
	s := newTestCloud(t, withNodes(nodes)).demo()
	id := s.create(s.serverOpts("node"), nil)
	s.advance(aWhile)
	s.eventuallyStatus(id, "ERROR")
	s.expectFault(id, "Build of instance "+id+" aborted: no kernel")
}

func TestTheOperationsOfOneNodeNeverOverlap(t *testing.T) {
	nodes := newRecordedNodes()
	s := newTestCloud(t, withNodes(nodes)).demo()
	id := s.create(s.serverOpts("node"), nil)
	s.advance(aWhile)
	s.eventuallyStatus(id, "ACTIVE")
	host := s.sim.Servers()[0].Host
	for range 5 {
		for _, up := range []bool{false, true} {
			if err := s.sim.SetHost(host, simulator.HostChange{Up: &up}); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.act(id, `{"reboot":{"type":"HARD"}}`)
	s.advance(aWhile)
	s.eventuallyStatus(id, "ACTIVE")
	if err := servers.Delete(s.ctx(), s.compute(""), id).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.advance(aWhile)
	s.eventually("server gone", func() bool { return len(s.sim.Servers()) == 0 })
	want := "boot" + strings.Repeat(" off on", 6) + " destroy"
	if got := nodes.log(); got != want || nodes.overlap {
		t.Errorf("calls %q (overlap %v), want %q", got, nodes.overlap, want)
	}
}

func TestDeletingAServerEndsItsBoot(t *testing.T) {
	nodes := newRecordedNodes()
	booting := make(chan struct{})
	nodes.boot = func(ctx context.Context, _ simulator.Node) error {
		close(booting)
		<-ctx.Done()
		return fmt.Errorf("boot: %w", ctx.Err())
	}
	s := newTestCloud(t, withNodes(nodes)).demo()
	id := s.create(s.serverOpts("node"), nil)
	s.advance(aWhile)
	<-booting
	if err := servers.Delete(s.ctx(), s.compute(""), id).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	s.advance(aWhile)
	s.eventually("server gone", func() bool { return len(s.sim.Servers()) == 0 })
	if got := nodes.log(); got != "boot destroy" {
		t.Errorf("calls %q", got)
	}
}

func TestClosingEndsWhatABackendIsDoing(t *testing.T) {
	nodes := newRecordedNodes()
	booting := make(chan struct{})
	nodes.boot = func(ctx context.Context, _ simulator.Node) error {
		close(booting)
		<-ctx.Done()
		return ctx.Err()
	}
	s := newTestCloud(t, withNodes(nodes)).demo()
	s.create(s.serverOpts("node"), nil)
	s.advance(aWhile)
	<-booting
	s.sim.Close() // hangs, and fails the test by its time limit, when the boot is not ended
}
