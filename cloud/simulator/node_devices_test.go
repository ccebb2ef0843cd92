package simulator_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// deviceNodes is a backend whose nodes can show broken devices.
type deviceNodes struct{ *keptNodes }

func (d deviceNodes) SetDeviceFault(_ context.Context, id string, fault simulator.DeviceFault) error {
	d.enter(id, fmt.Sprintf("lost=%d,driver=%s", fault.Lost, fault.NVIDIADriver))()
	return nil
}

func TestANodeIsToldItsGPUsAndTheDriverOfItsImage(t *testing.T) {
	nodes := newRecordedNodes()
	s := newTestCloud(t, withNodes(nodes)).demo()
	opts := withFlavor(s.serverOpts("gpu"), s.flavor("g1.a100.4"))
	opts.ImageRef = s.image("ubuntu-24.04-kube-v1.36.3-nvidia-580")
	s.eventuallyStatus(s.booting(opts), "ACTIVE")
	node := nodes.nodes["gpu"]
	if !maps.Equal(node.GPUs, map[string]int{"a100": 4}) || node.NVIDIADriver != "580.95.05" {
		t.Errorf("GPUs %v, driver %q", node.GPUs, node.NVIDIADriver)
	}
}

func TestBrokenDevicesReachTheNodeAndStayWithTheServer(t *testing.T) {
	nodes := deviceNodes{newKeptNodes()}
	s := newTestCloud(t, func(o *simulator.Options) { o.Backend = nodes }).demo()
	id := s.booting(s.serverOpts("gpu"))
	s.eventuallyStatus(id, "ACTIVE")
	s.control("POST", "/servers/"+id, `{"lostGPUs":1}`, nil)
	s.control("POST", "/servers/"+id, `{"nvidiaDriver":"550.54.15"}`, nil)
	s.eventually("the node was told", func() bool { return nodes.log() == "boot lost=1,driver= lost=1,driver=550.54.15" })

	later := deviceNodes{newKeptNodes()}
	again := s.in(s.restarted(later))
	again.control("POST", "/servers/"+id, `{"lostGPUs":0,"console":"repaired"}`, nil)
	again.eventually("the node was told", func() bool { return strings.HasSuffix(later.log(), "lost=0,driver=550.54.15") })
	again.request("POST", "/compute/v2.1/servers/"+id+"/action", `{"rebuild":{"imageRef":"`+again.image(nodeImage)+`"}}`)
	again.advance(aWhile)
	again.eventually("a new boot", func() bool { return strings.HasSuffix(later.log(), "boot") })
	again.eventuallyStatus(id, "ACTIVE")
	if fault := later.nodes["gpu"].DeviceFault; fault != (simulator.DeviceFault{NVIDIADriver: "550.54.15"}) {
		t.Errorf("it boots with %+v", fault)
	}
}

func TestDevicesThatCannotBreakAreRefused(t *testing.T) {
	s := newTestCloud(t, func(o *simulator.Options) { o.Backend = deviceNodes{newKeptNodes()} }).demo()
	id := s.booting(s.serverOpts("gpu"))
	if a := s.send("POST", "/_simulator/servers/"+id, `{"lostGPUs":-1}`); a.status != 400 || !strings.Contains(a.body, "lostGPUs -1") {
		t.Errorf("a negative number: %d %s", a.status, a.body)
	}
	none := newTestCloud(t).demo()
	id = none.created(none.serverOpts("gpu")).ID
	if a := none.send("POST", "/_simulator/servers/"+id, `{"lostGPUs":1}`); a.status != 400 || !strings.Contains(a.body, "shows no devices") {
		t.Errorf("a backend without nodes: %d %s", a.status, a.body)
	}
}
