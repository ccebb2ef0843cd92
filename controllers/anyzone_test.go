package controllers

import (
	"strings"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// TestAMachineWithoutAFailureDomainTakesTheFirstHostThatIsFreeInAnyZone also sees to it that an hour of waiting costs a
// handful of builds.
func TestAMachineWithoutAFailureDomainTakesTheFirstHostThatIsFreeInAnyZone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	disable := func(prefix string, disabled bool) {
		for _, host := range w.sim.Hosts() {
			if strings.HasPrefix(host.Name, prefix) {
				w.must(w.sim.SetHost(host.Name, simulator.HostChange{Disabled: ptr.To(disabled)}))
			}
		}
	}
	disable("h100-", true)
	w.addCluster("tenant", "one")
	w.run("cluster ready", 10*time.Minute, w.allReady)
	w.addMachine("tenant", "one", "worker-0", func(m *infrav1.SendanMachine) { m.Spec.Flavor = "g1.h100.8" })
	w.pass(time.Hour)
	builds := 0
	for _, call := range w.sim.Calls() {
		if call.Method == "POST" && call.Path == "/v2.1/servers" {
			builds += call.Count
		}
	}
	if builds < 5 || builds > 8 {
		t.Errorf("%d builds in an hour without a free host, want 1, 2, 4, 8 and then 15 minutes between them", builds)
	}
	disable("h100-az3", false)
	w.run("all ready", 20*time.Minute, w.allReady)
	wantEqual(t, "zone", w.machine("tenant", "worker-0").Status.Server.Zone, "az3")
}
