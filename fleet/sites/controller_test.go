package sites

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// osaka is a cloud with other names and zones than the default one.
func osaka(scenario *simulator.Scenario) {
	scenario.Regions = []string{"osaka-1"}
	scenario.Flavors = []simulator.Flavor{
		{Name: "std-4", VCPUs: 4, MemoryMiB: 8192, DiskGiB: 40},
		{Name: "gpu-8", VCPUs: 96, MemoryMiB: 983_040, DiskGiB: 800, ExtraSpecs: map[string]string{"resources:CUSTOM_GPU_A100": "8"}},
	}
	scenario.Hosts = []simulator.Host{
		{Name: "k1", Zone: "kita", VCPUs: 256, MemoryMiB: 2 << 20, DiskGiB: 20_000, GPUs: map[string]int{"CUSTOM_GPU_A100": 8}},
		{Name: "m1", Zone: "minami", VCPUs: 256, MemoryMiB: 2 << 20, DiskGiB: 20_000},
	}
	scenario.Images = append(scenario.Images, simulator.Image{Name: "broken", Status: "deactivated"})
	scenario.PlacementReadable = true
}

func TestTwoCloudsAreDescribedInTheirOwnWords(t *testing.T) {
	w := newWorld(t)
	w.addCloud("tokyo", asItIs)
	w.addCloud("osaka", osaka, func(s *fleetv1.SiteSpec) {
		s.Flavors = []fleetv1.NameInCloud{{Name: "g1.a100.8", NameInCloud: "gpu-8"}}
		s.FailureDomains = []string{"kita"}
	})
	w.addPool("osaka", "one", "one-gpu")
	tokyo, other := w.look("tokyo").Status, w.look("osaka").Status
	if tokyo.Region != "RegionOne" || !slices.Equal(tokyo.FailureDomains, []string{"az1", "az2", "az3"}) || len(tokyo.Flavors) != 9 || !slices.Contains(tokyo.Images, "ubuntu-24.04-kube-v1.36.3") || tokyo.Clusters != 0 {
		t.Errorf("tokyo %+v", tokyo)
	}
	if other.Region != "osaka-1" || !slices.Equal(other.FailureDomains, []string{"kita"}) || slices.Contains(other.Images, "broken") || other.Clusters != 1 {
		t.Errorf("osaka %+v", other)
	}
	if want := (fleetv1.SiteFlavor{Name: "gpu-8", VCPUs: 96, MemoryMiB: 983_040, DiskGiB: 800, GPUModel: "A100-40GB", GPUs: 8}); !slices.Contains(other.Flavors, want) {
		t.Errorf("flavors %+v", other.Flavors)
	}
	if got, want := text(other.Capacity), "A100-40GB kita 8 Placement 0"; got != want {
		t.Errorf("capacity of osaka\n%s\nwant\n%s", got, want)
	}
	if instances := tokyo.Quotas.Instances; ptr.Deref(instances.Limit, 0) == 0 || ptr.Deref(instances.Used, -1) != 0 || !tokyo.ObservedTime.Time.Equal(noon) {
		t.Errorf("quotas %+v, observed %s", tokyo.Quotas, tokyo.ObservedTime)
	}
	for _, name := range []string{"tokyo", "osaka"} {
		for _, kind := range []string{fleetv1.ReadyCondition, fleetv1.ReachableCondition} {
			expect(t, condition(w.site(name), kind), "True Available")
		}
	}
}

func TestACloudThatIsAwayKeepsItsFactsAndDisturbsNoOther(t *testing.T) {
	w := newWorld(t)
	w.addCloud("tokyo", asItIs)
	w.addCloud("osaka", osaka)
	facts := w.look("osaka").Status
	w.look("tokyo")
	w.clouds["osaka"].server.Close()
	w.clock.Advance(61 * time.Second)
	gone, there := w.look("osaka"), w.look("tokyo")
	expect(t, condition(gone, fleetv1.ReachableCondition), "False Unreachable", "refused", "last seen at 2026-03-01 12:00 UTC", "again every 1m0s")
	expect(t, condition(gone, fleetv1.ReadyCondition), "False Unreachable")
	expect(t, condition(there, fleetv1.ReadyCondition), "True Available")
	if len(gone.Status.Flavors) != len(facts.Flavors) || len(gone.Status.Capacity) != len(facts.Capacity) || !gone.Status.ObservedTime.Equal(&facts.ObservedTime) {
		t.Errorf("the facts have changed from %+v to %+v", facts, gone.Status)
	}
	if events := w.told(); len(events) != 1 || !strings.Contains(events[0], "Unreachable") {
		t.Errorf("events %q", events)
	}
	before := w.writes
	for range 20 {
		w.later("osaka", 61*time.Second)
	}
	if w.writes > before+1 { // another request fails once what is known of flavors is old
		t.Errorf("%d writes although it is away as before", w.writes-before)
	}
}

func TestACloudThatHangsBlocksNoOther(t *testing.T) {
	w := newWorld(t)
	w.addCloud("tokyo", asItIs)
	w.addCloud("hung", osaka)
	w.must(w.clouds["hung"].AddFault(simulator.Fault{Name: "hang", Times: -1, Hang: true}))
	ended := make(chan error)
	go func() {
		_, err := w.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "hung"}})
		ended <- err
	}()
	expect(t, condition(w.look("tokyo"), fleetv1.ReadyCondition), "True Available")
	select {
	case err := <-ended:
		t.Errorf("the cloud that hangs was given up at once: %v", err)
	default:
	}
	w.clouds["hung"].server.CloseClientConnections()
	w.must(<-ended)
	expect(t, condition(w.site("hung"), fleetv1.ReachableCondition), "False Unreachable")
}

func TestACloudThatHangsIsGivenUpInTime(t *testing.T) {
	w := newWorld(t)
	w.addCloud("hung", osaka)
	w.must(w.clouds["hung"].AddFault(simulator.Fault{Name: "hang", Times: -1, Hang: true}))
	w.Patience = 50 * time.Millisecond
	expect(t, condition(w.look("hung"), fleetv1.ReachableCondition), "False Unreachable", "did not answer within 50ms")
	w.clouds["hung"].server.CloseClientConnections()
}

func TestCredentialsThatDoNotWorkAreExplained(t *testing.T) {
	w := newWorld(t)
	tokyo := w.addCloud("tokyo", asItIs)
	w.look("tokyo")
	w.must(tokyo.SetPassword("demo", "changed"))
	tokyo.RevokeTokens("")
	site := w.later("tokyo", 11*time.Minute)
	expect(t, condition(site, fleetv1.ReachableCondition), "False CredentialsRefused", "requires authentication", "clouds.yaml", "req-")

	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "system", Name: "tokyo"}, Data: map[string][]byte{secretKeyClouds: tokyo.CloudsYAML(tokyo.server.URL, "sim")}}
	w.must(w.client.Update(t.Context(), secret))
	expect(t, condition(w.later("tokyo", time.Second), fleetv1.ReachableCondition), "True Available")

	secret.Data = nil
	w.must(w.client.Update(t.Context(), secret))
	expect(t, condition(w.later("tokyo", time.Second), fleetv1.ReadyCondition), "False IdentityNotFound", `no key "clouds.yaml"`)
	w.must(w.client.Delete(t.Context(), secret))
	expect(t, condition(w.later("tokyo", time.Second), fleetv1.ReadyCondition), "False IdentityNotFound", "Secret system/tokyo does not exist")
	w.must(w.client.Delete(t.Context(), &infrav1.SendanClusterIdentity{ObjectMeta: metav1.ObjectMeta{Name: "tokyo"}}))
	expect(t, condition(w.later("tokyo", time.Second), fleetv1.ReachableCondition), "False IdentityNotFound", `SendanClusterIdentity "tokyo" does not exist`, "last seen at")
}

func TestACloudNameThatIsNotInCloudsYAMLIsAMistakeInTheSpec(t *testing.T) {
	w := newWorld(t)
	w.addCloud("tokyo", asItIs, func(s *fleetv1.SiteSpec) { s.IdentityRef.CloudName = "nope" })
	expect(t, condition(w.look("tokyo"), fleetv1.ReadyCondition), "False Invalid", `cloud "nope" is not in clouds.yaml`, "sim")
}

func TestNamesThatTheCloudLacksAreNamed(t *testing.T) {
	w := newWorld(t)
	tokyo := w.addCloud("tokyo", asItIs, func(s *fleetv1.SiteSpec) {
		s.Flavors = []fleetv1.NameInCloud{{Name: "small", NameInCloud: "m1.small"}, {Name: "a100x2", NameInCloud: "g1.a100.2"}}
		s.Images = []fleetv1.NameInCloud{{Name: "node", NameInCloud: "node-image"}}
		s.FailureDomains = []string{"az1", "az9"}
		s.ExternalNetwork = "publik"
	})
	expect(t, condition(w.look("tokyo"), fleetv1.ReadyCondition), "False NameNotFound",
		`spec.flavors[1].nameInCloud: the cloud has no flavor "g1.a100.2"; it has g1.a100.1, g1.a100.4, g1.a100.8`,
		`spec.images[0].nameInCloud: the cloud has no active image "node-image"; it has ubuntu-24.04-kube`,
		`spec.failureDomains[1]: the cloud has no compute zone "az9"; it has az1`,
		`spec.externalNetwork: the cloud has no external network "publik"; it has public`)
	expect(t, condition(w.site("tokyo"), fleetv1.ReachableCondition), "True Available")

	site := w.site("tokyo")
	site.Spec.Flavors, site.Spec.FailureDomains, site.Spec.ExternalNetwork = nil, nil, ""
	w.must(w.client.Update(t.Context(), site))
	tokyo.AddImage(simulator.Image{Name: "node-image"})
	expect(t, condition(w.later("tokyo", 61*time.Second), fleetv1.ReadyCondition), "True Available")
}

func TestAnExternalNetworkHasToBeChosenWhereThereAreSeveral(t *testing.T) {
	w := newWorld(t)
	w.addCloud("tokyo", func(scenario *simulator.Scenario) {
		scenario.ExternalNetworks = append(scenario.ExternalNetworks, simulator.ExternalNetwork{Name: "partner", CIDR: "127.65.0.0/16"})
	})
	expect(t, condition(w.look("tokyo"), fleetv1.ReadyCondition), "False Invalid", "spec.externalNetwork", "has 2", "partner", "public")
}

func TestCapacityFollowsTheServersThatThereAre(t *testing.T) {
	w := newWorld(t)
	tokyo := w.addCloud("tokyo", openPlacement, func(s *fleetv1.SiteSpec) { s.GPUs = []fleetv1.SiteGPU{a100} })
	if got, want := text(w.look("tokyo").Status.Capacity), "A100-40GB az1 16 Placement 0\nA100-40GB az2 16 Placement 0\nA100-40GB az3 16 Placement 0"; got != want {
		t.Errorf("capacity\n%s\nwant\n%s", got, want)
	}
	w.serve(tokyo, "g1.a100.8", "az2")
	w.serve(tokyo, "g1.a100.4", "az2")
	if got, want := text(w.later("tokyo", 61*time.Second).Status.Capacity), "A100-40GB az1 16 Placement 0\nA100-40GB az2 4 Placement 0\nA100-40GB az3 16 Placement 0"; got != want {
		t.Errorf("capacity\n%s\nwant\n%s", got, want)
	}
}

func TestWithoutTheRightToReadPlacementQuotasBoundTheCapacity(t *testing.T) {
	w := newWorld(t)
	tokyo := w.addCloud("tokyo", func(scenario *simulator.Scenario) {
		scenario.Quotas = map[string]int{"instances": 5, "cores": 1000, "ram": -1}
	})
	if got, want := text(w.look("tokyo").Status.Capacity), "A100-40GB  5 Limits 0\nH100-80GB  5 Limits 0"; got != want {
		t.Errorf("capacity\n%s\nwant\n%s", got, want)
	}
	w.serve(tokyo, "g1.a100.8", "az2")
	w.addPool("tokyo", "one", "one-gpu")
	w.addWaiting("one", "one-gpu", "m", "g1.h100.8", "az1")
	if got, want := text(w.later("tokyo", 61*time.Second).Status.Capacity), "A100-40GB  4 Limits 0\nH100-80GB  4 Limits 1\nH100-80GB az1 0 Failures 1"; got != want {
		t.Errorf("capacity\n%s\nwant\n%s", got, want)
	}
	expect(t, condition(w.site("tokyo"), fleetv1.ReadyCondition), "True Available")
}

func TestALookCostsFewCallsAndASettledSiteFewWrites(t *testing.T) {
	for name, change := range map[string]func(*simulator.Scenario){"with Placement": openPlacement, "without Placement": asItIs} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			tokyo := w.addCloud("tokyo", change, func(s *fleetv1.SiteSpec) { s.GPUs = []fleetv1.SiteGPU{a100} })
			w.look("tokyo")
			if first := tokyo.TotalCalls(); first > 10 {
				t.Errorf("%d calls for the first look: %v", first, tokyo.Calls())
			}
			w.writes = 0
			total := 0
			for range 30 {
				tokyo.ResetCalls()
				w.later("tokyo", 63*time.Second)
				if calls := tokyo.TotalCalls(); calls > 8 {
					t.Errorf("%d calls for one look: %v", calls, tokyo.Calls())
				}
				total += tokyo.TotalCalls()
			}
			// Two a minute, six more every ten.
			if most := 30*2 + 3*6; total > most {
				t.Errorf("%d calls in half an hour, want at most %d", total, most)
			}
			if w.writes > 3 {
				t.Errorf("%d writes in half an hour in which nothing happened, want one every ten minutes", w.writes)
			}
		})
	}
}

func TestPoolsLearnTheirPlaceInLineAndThatItIsOver(t *testing.T) {
	w := newWorld(t)
	w.addCloud("tokyo", openPlacement)
	w.addCloud("osaka", osaka)
	w.addPool("tokyo", "one", "one-gpu")
	w.addPool("tokyo", "two", "two-gpu")
	w.addPool("tokyo", "three", "three-cpu")
	first := w.addWaiting("one", "one-gpu", "one-a", "g1.a100.8", "az1")
	w.clock.Advance(3 * time.Minute)
	w.addWaiting("two", "two-gpu", "two-a", "g1.a100.4", "")
	w.addWaiting("two", "two-gpu", "two-b", "g1.a100.4", "")
	w.look("tokyo")
	w.look("osaka") // has nothing to do with them
	expect(t, condition(w.pool("one-gpu"), fleetv1.CapacityAvailableCondition), "False WaitingForCapacity", "waiting for 8 × A100-40GB in tokyo, zone az1: place 1 of 3 in line since 2026-03-01 12:00 UTC")
	expect(t, condition(w.pool("two-gpu"), fleetv1.CapacityAvailableCondition), "False WaitingForCapacity", "waiting for 8 × A100-40GB in tokyo: place 2 of 3 in line since 2026-03-01 12:03 UTC")
	expect(t, condition(w.pool("three-cpu"), fleetv1.CapacityAvailableCondition), "none")

	// Nova is tried once more: the Ready condition tells of that, and the refusal is still noted.
	w.must(w.client.Get(t.Context(), client.ObjectKeyFromObject(first), first))
	first.Status.Attempts = []infrav1.Attempt{{Action: "create server", Reason: infrav1.CapacityReason, Failures: 2}}
	meta.SetStatusCondition(&first.Status.Conditions, metav1.Condition{Type: infrav1.ReadyCondition, Status: metav1.ConditionFalse, Reason: infrav1.WaitingForCloudReason})
	w.must(w.client.Status().Update(t.Context(), first))
	before := w.writes
	w.later("tokyo", time.Minute)
	if w.writes != before {
		t.Errorf("%d writes although the line is as before", w.writes-before)
	}

	first.Spec.ProviderID = "openstack:///1"
	w.must(w.client.Update(t.Context(), first))
	w.later("tokyo", time.Minute)
	expect(t, condition(w.pool("one-gpu"), fleetv1.CapacityAvailableCondition), "True Available")
	expect(t, condition(w.pool("two-gpu"), fleetv1.CapacityAvailableCondition), "place 1 of 2")
}

func TestASlimMachineIsEnough(t *testing.T) {
	w := newWorld(t)
	machine := w.addWaiting("one", "one-gpu", "m", "g1.a100.8", "az1")
	machine.Spec.Tags = []string{"x"}
	made, err := SlimMachine(machine)
	w.must(err)
	slim := made.(*infrav1.SendanMachine)
	if !waitsForCapacity(slim) || slim.Spec.Flavor != "g1.a100.8" || len(slim.OwnerReferences) != 1 || clusterOf(slim) != clusterOf(machine) ||
		slim.Labels[clusterv1.MachineDeploymentNameLabel] != "one-gpu" || slim.Spec.Tags != nil {
		t.Errorf("slim %+v", slim)
	}
	machine.Spec.ProviderID = "openstack:///1"
	made, err = SlimMachine(machine)
	w.must(err)
	if slim := made.(*infrav1.SendanMachine); waitsForCapacity(slim) || slim.Status.Conditions != nil {
		t.Errorf("slim %+v", slim)
	}
}

func TestPlacementThatFailsIsNoFailureOfTheCloud(t *testing.T) {
	w := newWorld(t)
	tokyo := w.addCloud("tokyo", openPlacement)
	w.must(tokyo.AddFault(simulator.Fault{Service: "placement", Times: -1, Status: http.StatusServiceUnavailable}))
	site := w.look("tokyo")
	expect(t, condition(site, fleetv1.ReadyCondition), "True Available")
	if slices.ContainsFunc(site.Status.Capacity, func(c fleetv1.GPUCapacity) bool { return c.Source == fleetv1.CapacityFromPlacement }) {
		t.Errorf("capacity\n%s", text(site.Status.Capacity))
	}
}
