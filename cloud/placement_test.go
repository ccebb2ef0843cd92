package cloud_test

import (
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

const gpuClass = "CUSTOM_GPU_A100"

func openPlacement(scenario *simulator.Scenario) { scenario.PlacementReadable = true }

// free sums by zone.
func (s *simulated) free() map[string]int {
	s.t.Helper()
	hosts, err := s.FreeOnHosts(s.t.Context(), gpuClass)
	s.must(err)
	sum := map[string]int{}
	for _, host := range hosts {
		sum[host.Zone] += host.Free
	}
	return sum
}

// gpuServer makes a server with eight GPUs.
func (s *simulated) gpuServer() {
	s.t.Helper()
	flavor, err := s.FlavorByName(s.t.Context(), "g1.a100.8")
	s.must(err)
	image, err := s.Image(s.t.Context(), cloud.ImageFilter{Name: "ubuntu-24.04-kube-v1.36.3"})
	s.must(err)
	network, err := s.CreateNetwork(s.t.Context(), cloud.NetworkRequest{Name: "n", Mark: s.mark})
	s.must(err)
	_, err = s.CreateSubnet(s.t.Context(), cloud.SubnetRequest{Name: "s", Mark: s.mark, NetworkID: network.ID, CIDR: netip.MustParsePrefix("10.6.0.0/24")})
	s.must(err)
	port, err := s.CreatePort(s.t.Context(), cloud.PortRequest{Name: "p", Mark: s.role("port-0"), NetworkID: network.ID})
	s.must(err)
	_, err = s.CreateServer(s.t.Context(), cloud.ServerRequest{Name: "gpu", Mark: s.role("server"), FlavorID: flavor.ID, ImageID: image.ID, Zone: "az2", PortIDs: []string{port.ID}})
	s.must(err)
	s.clock.Advance(2 * time.Minute)
	s.sim.Settle()
}

func TestFreeResourcesAreThoseThatServersLeave(t *testing.T) {
	s := newSimulated(t, openPlacement)
	yes, no := true, false
	s.must(s.sim.SetHost("a100-az3-1", simulator.HostChange{Disabled: &yes}))
	s.must(s.sim.SetHost("a100-az3-2", simulator.HostChange{Up: &no}))
	if free := s.free(); free["az1"] != 16 || free["az2"] != 16 || free["az3"] != 0 {
		t.Errorf("free %v, want 16 in az1 and az2, and none in az3, whose hosts are disabled and down", free)
	}
	s.gpuServer()
	if free := s.free(); free["az2"] != 8 {
		t.Errorf("free %v, want 8 in az2 after a server took the others", free)
	}
}

func TestFreeResourcesCostOneCallAMinute(t *testing.T) {
	s := newSimulated(t, openPlacement)
	s.free()
	s.sim.ResetCalls()
	for range 5 {
		s.clock.Advance(time.Minute + time.Second)
		s.free()
		s.free()
	}
	if got := s.sim.TotalCalls(); got != 5 {
		t.Errorf("%d calls in five minutes, want 5: %v", got, s.sim.Calls())
	}
}

func TestWithoutTheRightPlacementIsAskedEveryTenMinutes(t *testing.T) {
	s := newSimulated(t)
	s.sim.ResetCalls()
	for range 9 {
		_, err := s.FreeOnHosts(t.Context(), gpuClass)
		if cloud.ClassOf(err) != cloud.Auth {
			t.Fatalf("class %s of %v", cloud.ClassOf(err), err)
		}
		s.clock.Advance(time.Minute)
	}
	if got := s.sim.TotalCalls(); got != 1 {
		t.Errorf("%d calls in nine minutes", got)
	}
}

func TestAnUnknownResourceClassIsNoReasonToAskAgain(t *testing.T) {
	s := newSimulated(t, openPlacement)
	if _, err := s.FreeOnHosts(t.Context(), "CUSTOM_NOPE"); cloud.ClassOf(err) != cloud.Config {
		t.Errorf("class %s of %v", cloud.ClassOf(err), err)
	}
}

func TestWithoutNovasZonesFreeResourcesHaveNone(t *testing.T) {
	s := newSimulated(t, openPlacement)
	s.must(s.sim.AddFault(simulator.Fault{Service: "compute", Path: "/v2.1/os-availability-zone/detail", Times: -1, Status: http.StatusForbidden}))
	if free := s.free(); len(free) != 1 || free[""] != 48 {
		t.Errorf("free %v, want 48 without a zone", free)
	}
}

func TestOffersAreListedOnce(t *testing.T) {
	s := newSimulated(t)
	s.sim.ResetCalls()
	wanted := cloud.OfferNames{Flavors: []string{"m1.small"}, Images: []string{"new"}}
	images := 0
	for range 30 {
		offers, err := s.Offers(t.Context(), wanted)
		s.must(err)
		images = len(offers.Images)
		if len(offers.Flavors) != 9 || images == 0 || len(offers.Zones) != 3 || len(offers.ExternalNetworks) != 1 {
			t.Fatalf("offers %+v", offers)
		}
		s.clock.Advance(time.Second)
	}
	if got := s.sim.TotalCalls(); got != 4 {
		t.Errorf("%d calls, want one for each list: %v", got, s.sim.Calls())
	}
	s.sim.AddImage(simulator.Image{Name: "new"})
	s.clock.Advance(time.Minute)
	if offers, err := s.Offers(t.Context(), wanted); err != nil || len(offers.Images) != images+1 {
		t.Errorf("an image that was added is not seen a minute later: %v, %v", offers.Images, err)
	}
}
