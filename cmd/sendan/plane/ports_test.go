package plane

import (
	"io"
	"log"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestPortsAreTheSameAfterARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	names := []string{"a", "b", "c"}
	first, second := ports(t, file, names), ports(t, file, names)
	if !maps.Equal(first, second) {
		t.Errorf("ports were %v and then %v", first, second)
	}
}

func TestAPortThatSomebodyTookIsReplacedAndTheOthersStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	names := []string{"a", "b"}
	first := ports(t, file, names)
	listener, err := net.Listen("tcp", loopback(first["a"]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()

	second := ports(t, file, names)
	if second["a"] == first["a"] {
		t.Errorf("port %d was chosen although it is taken", first["a"])
	}
	if second["b"] != first["b"] {
		t.Errorf("port of b changed from %d to %d", first["b"], second["b"])
	}
	if third := ports(t, file, names); !maps.Equal(second, third) {
		t.Errorf("the new choice was not remembered: %v and then %v", second, third)
	}
}

func TestNoTwoNamesGetOnePort(t *testing.T) {
	seen := map[int]string{}
	for name, port := range ports(t, filepath.Join(t.TempDir(), "ports.json"), portNames()) {
		if other, taken := seen[port]; taken {
			t.Errorf("%s and %s both got %d", name, other, port)
		}
		seen[port] = name
	}
}

func TestGarbageInThePortsFileNamesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := choosePorts(file, []string{"a"})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error is %v, want one that names %s", err, file)
	}
}

func TestTwoPlanesGetDifferentLoopbackBlocks(t *testing.T) {
	first, err := reserveLoopbackBlock()
	if err != nil {
		t.Skip("this machine has only one loopback address:", err)
	}
	second, err := reserveLoopbackBlock()
	if err != nil {
		t.Fatal(err)
	}
	if first.cidr == second.cidr {
		t.Errorf("both got %s", first.cidr)
	}
	second.release()
	first.release()
}

// keptPlane is a plane whose cloud of an earlier run has its addresses in a block.
func keptPlane(t *testing.T, block *loopbackBlock) *Plane {
	t.Helper()
	layout := Layout{Dir: t.TempDir()}
	if err := layout.writeScenario(block, "seed: 7\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(layout.cloudState(), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Plane{layout: layout, options: Options{KeepCloud: true}}
}

func TestAKeptCloudKeepsItsAddresses(t *testing.T) {
	first, err := reserveLoopbackBlock()
	if err != nil {
		t.Skip("this machine has only one loopback address:", err)
	}
	defer first.release()
	second, err := reserveLoopbackBlock()
	if err != nil {
		t.Fatal(err)
	}
	p := keptPlane(t, second)
	_, err = p.reserveBlock()
	if err == nil || !strings.Contains(err.Error(), second.cidr) || !strings.Contains(err.Error(), "another plane") {
		t.Errorf("error %v, want one that says who has %s", err, second.cidr)
	}
	second.release()
	again, err := p.reserveBlock()
	if err != nil {
		t.Fatal(err)
	}
	defer again.release()
	if again.cidr != second.cidr {
		t.Errorf("the block was %s and then %s", second.cidr, again.cidr)
	}
}

func TestAPlaneWithoutAKeptCloudTakesAnyAddresses(t *testing.T) {
	first, err := reserveLoopbackBlock()
	if err != nil {
		t.Skip("this machine has only one loopback address:", err)
	}
	defer first.release()
	for name, change := range map[string]func(*Plane){
		"nothing to keep":      func(p *Plane) { p.options.KeepCloud = false },
		"nothing was kept yet": func(p *Plane) { _ = os.Remove(p.layout.cloudState()) },
	} {
		t.Run(name, func(t *testing.T) {
			p := keptPlane(t, first)
			change(p)
			block, err := p.reserveBlock()
			if err != nil {
				t.Fatal(err)
			}
			defer block.release()
			if block.cidr == first.cidr {
				t.Errorf("got %s, which is taken", block.cidr)
			}
		})
	}
}

func TestOnlyAPlaneThatKeepsItsCloudTellsTheSimulatorWhere(t *testing.T) {
	for _, keep := range []bool{true, false} {
		p := &Plane{layout: Layout{Dir: "/state"}, options: Options{KeepCloud: keep}}
		if got := slices.Contains(p.simulator().Args, "--state=/state/cloud.json"); got != keep {
			t.Errorf("KeepCloud %t: arguments %v", keep, p.simulator().Args)
		}
	}
}

func ports(t *testing.T, file string, names []string) map[string]int {
	t.Helper()
	chosen, err := choosePorts(file, names)
	if err != nil {
		t.Fatal(err)
	}
	return chosen
}
