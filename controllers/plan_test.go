package controllers

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jonboulle/clockwork"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// noon is the time at which the planners below are asked.
func noon() time.Time { return time.Date(2030, 6, 1, 12, 0, 0, 0, time.UTC) }

func ago(d time.Duration) time.Time { return noon().Add(-d) }

// note is a note about creating a network.
func note(at time.Time, outcome infrav1.AttemptOutcome, class cloud.Class, failures int32) infrav1.Attempt {
	return infrav1.Attempt{
		Action: "create network", Creates: string(cloud.KindNetwork), Time: metav1.NewMicroTime(at),
		Outcome: outcome, Reason: string(class), Message: "the cloud's words", Failures: failures,
	}
}

// told is everything these tests compare of a step.
type told struct {
	condition, reason string
	keys              []string
}

func tell(s step) told {
	out := told{condition: s.condition, reason: s.reason}
	for _, a := range s.actions {
		out.keys = append(out.keys, a.key)
	}
	return out
}

func wantStep(t *testing.T, s step, condition, reason string, keys ...string) {
	t.Helper()
	got, want := tell(s), told{condition: condition, reason: reason, keys: keys}
	if got.condition != want.condition || got.reason != want.reason || !slices.Equal(got.keys, want.keys) {
		t.Errorf("the step is %+v (%s), want %+v", got, s.message, want)
	}
}

func TestACallIsMadeAgainOnlyWhenItsNoteAllows(t *testing.T) {
	createsNothing := note(ago(time.Second), infrav1.AttemptUnknown, "", 0)
	createsNothing.Creates = ""
	for _, c := range []struct {
		name   string
		notes  []infrav1.Attempt
		listed time.Time
		reason string // empty when the call may be made
		retry  time.Time
	}{
		{name: "no note", listed: ago(time.Hour)},
		{name: "a note about something else", listed: ago(time.Hour), notes: []infrav1.Attempt{{Action: "create router", Outcome: infrav1.AttemptUnknown, Creates: string(cloud.KindRouter), Time: metav1.NewMicroTime(noon())}}},
		{name: "refused, still backing off", listed: noon(), notes: []infrav1.Attempt{note(ago(9*time.Second), infrav1.AttemptRefused, cloud.Transient, 1)}, reason: "Transient", retry: noon().Add(time.Second)},
		{name: "refused twice, backing off for twice as long", listed: noon(), notes: []infrav1.Attempt{note(ago(19*time.Second), infrav1.AttemptRefused, cloud.Transient, 2)}, reason: "Transient", retry: noon().Add(time.Second)},
		{name: "refused for want of quota, backing off for a minute", listed: noon(), notes: []infrav1.Attempt{note(ago(59*time.Second), infrav1.AttemptRefused, cloud.Quota, 1)}, reason: "Quota", retry: noon().Add(time.Second)},
		{name: "refused, the back-off is over and needs no proof", listed: ago(time.Hour), notes: []infrav1.Attempt{note(ago(10*time.Second), infrav1.AttemptRefused, cloud.Transient, 1)}},
		{name: "unknown, listed before the proof", listed: ago(6 * time.Second), notes: []infrav1.Attempt{note(ago(20*time.Second), infrav1.AttemptUnknown, "", 0)}, reason: infrav1.WaitingForInventoryReason, retry: noon().Add(time.Second)},
		{name: "unknown, listed at the very proof", listed: ago(5 * time.Second), notes: []infrav1.Attempt{note(ago(20*time.Second), infrav1.AttemptUnknown, "", 0)}, reason: infrav1.WaitingForInventoryReason, retry: noon().Add(time.Second)},
		{name: "unknown and young", listed: noon(), notes: []infrav1.Attempt{note(ago(5*time.Second), infrav1.AttemptUnknown, "", 0)}, reason: infrav1.WaitingForInventoryReason, retry: noon().Add(11 * time.Second)},
		{name: "unknown, listed after the proof", listed: ago(4 * time.Second), notes: []infrav1.Attempt{note(ago(20*time.Second), infrav1.AttemptUnknown, "", 0)}},
		{name: "unknown and failed, the back-off is over but there is no proof", listed: ago(30 * time.Second), notes: []infrav1.Attempt{note(ago(30*time.Second), infrav1.AttemptUnknown, cloud.Transient, 1)}, reason: infrav1.WaitingForInventoryReason, retry: noon().Add(time.Second)},
		{name: "unknown, but the call creates nothing", listed: ago(time.Hour), notes: []infrav1.Attempt{createsNothing}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := attempts{notes: c.notes, snapshot: cloud.SnapshotOf(c.listed), now: noon()}
			s, held := in.gate(infrav1.NetworkReadyCondition, action{key: "create network", creates: cloud.KindNetwork})
			if held != (c.reason != "") || s.reason != c.reason || !s.retryAt.Equal(c.retry) {
				t.Fatalf("held=%t reason=%q retry at %s (%s); want reason %q, retry at %s", held, s.reason, s.retryAt, s.message, c.reason, c.retry)
			}
			if c.reason == infrav1.WaitingForInventoryReason {
				want := listing{kind: cloud.KindNetwork, after: c.notes[0].Time.Add(uncertainty)}
				if !slices.Equal(s.listings, []listing{want}) {
					t.Errorf("it asks for the listings %v, want %v", s.listings, want)
				}
			}
		})
	}
}

func TestAHeldCallSaysInTheCloudsWordsWhyAndWhenItIsTriedAgain(t *testing.T) {
	in := attempts{notes: []infrav1.Attempt{note(ago(time.Minute), infrav1.AttemptRefused, cloud.Capacity, 3)}, snapshot: cloud.SnapshotOf(noon()), now: noon()}
	s, _ := in.gate(infrav1.NetworkReadyCondition, action{key: "create network", creates: cloud.KindNetwork})
	if want := "create network: the cloud's words. Trying again at 12:03:00 (attempt 4)."; s.message != want {
		t.Errorf("the message is %q, want %q", s.message, want)
	}
	if !s.failed {
		t.Error("want of capacity does not pass by itself")
	}
}

func TestActingLeavesOutOnlyTheCallsThatAreHeld(t *testing.T) {
	in := attempts{notes: []infrav1.Attempt{note(ago(time.Second), infrav1.AttemptRefused, cloud.Quota, 1)}, snapshot: cloud.SnapshotOf(noon()), now: noon()}
	s := acting(in, infrav1.NetworkReadyCondition, "Making the network.", action{key: "create network", creates: cloud.KindNetwork}, action{key: "create router", creates: cloud.KindRouter})
	wantStep(t, s, infrav1.NetworkReadyCondition, infrav1.QuotaReason, "create router")
}

func TestBackOffGrowsToTheLimitOfItsClass(t *testing.T) {
	for _, c := range []struct {
		class    cloud.Class
		failures int32
		want     time.Duration
	}{
		{cloud.Transient, 0, 10 * time.Second},
		{cloud.Transient, 1, 10 * time.Second},
		{cloud.Transient, 3, 40 * time.Second},
		{cloud.Transient, 1_000_000, 5 * time.Minute},
		{cloud.Conflict, 2, 20 * time.Second},
		{cloud.Throttled, 1, 30 * time.Second},
		{cloud.Auth, 4, 5 * time.Minute},
		{cloud.Config, 1, time.Minute},
		{cloud.Config, 5, 10 * time.Minute},
		{cloud.Quota, 4, 8 * time.Minute},
		{cloud.Capacity, 4, 8 * time.Minute},
		{cloud.Capacity, 5, 15 * time.Minute},
		{"a class of tomorrow", 2, 20 * time.Second},
	} {
		if got := backoff(c.class, c.failures); got != c.want {
			t.Errorf("after %d failures of class %q: %s, want %s", c.failures, c.class, got, c.want)
		}
	}
}

func TestNotesAreWrittenAheadOnlyForCallsThatCreateAndKeepTheCountOfFailures(t *testing.T) {
	notes := []infrav1.Attempt{note(ago(time.Hour), infrav1.AttemptRefused, cloud.Quota, 4)}
	notes = noteAhead(notes, []action{{key: "create network", creates: cloud.KindNetwork}, {key: "delete port 1"}, {key: "create router", creates: cloud.KindRouter}}, noon())
	if len(notes) != 2 {
		t.Fatalf("there are the notes %v", notes)
	}
	ahead := notes[0]
	if ahead.Outcome != infrav1.AttemptUnknown || !ahead.Time.Equal(ptr.To(metav1.NewMicroTime(noon()))) || ahead.Failures != 4 || ahead.Reason != string(cloud.Quota) || ahead.Message == "" {
		t.Errorf("the note is %+v", ahead)
	}
	if notes[1].Creates != string(cloud.KindRouter) || notes[1].Failures != 0 {
		t.Errorf("the note is %+v", notes[1])
	}
}

func TestAFailureIsCountedAndItsOutcomeToldApart(t *testing.T) {
	create := action{key: "create network", creates: cloud.KindNetwork}
	notes := noteFailure(nil, create, cloud.Errorf(cloud.Quota, "no"), ago(time.Hour))
	if n := notes[0]; n.Outcome != infrav1.AttemptRefused || n.Failures != 1 || n.Reason != infrav1.QuotaReason || n.Message != "no" {
		t.Errorf("the note is %+v", n)
	}
	lost := cloud.Errorf(cloud.Transient, "lost")
	lost.Uncertain = true
	notes = noteFailure(notes, create, lost, noon())
	if n := notes[0]; len(notes) != 1 || n.Outcome != infrav1.AttemptUnknown || n.Failures != 2 || n.Reason != infrav1.TransientReason {
		t.Errorf("the notes are %+v", notes)
	}
	if left := forget(notes, "create network"); len(left) != 0 {
		t.Errorf("it still knows %v", left)
	}
}

func TestALongMessageIsCutBetweenCharacters(t *testing.T) {
	for most := 20; most < 26; most++ {
		if got := truncate(strings.Repeat("船", 20), most); len(got) > most || !utf8.ValidString(got) || !strings.HasSuffix(got, "…") {
			t.Errorf("cut to %d bytes it is %q", most, got)
		}
	}
	if got := truncate("short", 5); got != "short" {
		t.Errorf("it is %q", got)
	}
}

// runOnce lets the writer run one call that ends with an error, or well for nil.
func runOnce(notes []infrav1.Attempt, a action, err error) []infrav1.Attempt {
	w := &writer{recorder: events.NewFakeRecorder(10), clock: clockwork.NewFakeClockAt(noon())}
	a.run = func(context.Context, *cloud.Session) error { return err }
	return w.run(context.Background(), nil, &infrav1.SendanMachine{}, notes, a)
}

func TestASuccessIsForgottenUnlessItShowsLaterAndFailedBefore(t *testing.T) {
	once := action{key: "create network", creates: cloud.KindNetwork}
	lasting := once
	lasting.lasting = true
	failedBefore := []infrav1.Attempt{note(ago(time.Minute), infrav1.AttemptUnknown, cloud.Capacity, 2)}
	firstTry := []infrav1.Attempt{note(noon(), infrav1.AttemptUnknown, "", 0)}
	for _, c := range []struct {
		name   string
		notes  []infrav1.Attempt
		action action
		kept   bool
	}{
		{"a call whose answer is its success", slices.Clone(failedBefore), once, false},
		{"a build that failed before", slices.Clone(failedBefore), lasting, true},
		{"a first build", slices.Clone(firstTry), lasting, false},
	} {
		if notes := runOnce(c.notes, c.action, nil); (len(notes) == 1) != c.kept {
			t.Errorf("%s leaves %v", c.name, notes)
		}
	}
	if notes := runOnce(nil, once, errors.New("broken")); len(notes) != 1 || notes[0].Failures != 1 {
		t.Errorf("a failure leaves %v", notes)
	}
}

func TestAFailedBuildIsClearedAwayAndHoldsTheNextOneBack(t *testing.T) {
	server := cloud.Server{ID: "s1", Status: "ERROR", Fault: &cloud.ServerFault{Code: 500, Message: "No valid host was found. "}}
	in := aMachine()
	s := observeServer(in, server)
	wantStep(t, s, infrav1.ServerReadyCondition, infrav1.CapacityReason, "delete failed server")
	if !s.failed || s.message != "The build failed: No valid host was found." {
		t.Errorf("failed=%t, message %q", s.failed, s.message)
	}
	notes := s.actions[0].after([]infrav1.Attempt{{Action: createServerKey, Failures: 2, Outcome: infrav1.AttemptUnknown, Time: metav1.NewMicroTime(ago(time.Hour))}}, noon())
	if n := notes[0]; n.Failures != 3 || n.Reason != infrav1.CapacityReason || n.Outcome != infrav1.AttemptRefused {
		t.Errorf("the note is %+v", n)
	}
}

func TestAServerThatRanIsNeverClearedAway(t *testing.T) {
	in := aMachine()
	in.machine.Spec.ProviderID = "openstack:///s1"
	for status, reason := range map[string]string{
		"ERROR": infrav1.ServerErrorReason, "SHUTOFF": infrav1.ServerNotActiveReason, "SUSPENDED": infrav1.ServerNotActiveReason,
		"HARD_REBOOT": infrav1.WaitingForCloudReason, "ACTIVE": "",
	} {
		wantStep(t, observeServer(in, cloud.Server{ID: "s1", Status: status}), infrav1.ServerReadyCondition, reason)
	}
}

func TestAMissingServerIsGoneOnlyWhenNovaSaysSo(t *testing.T) {
	in := aMachine()
	in.machine.Spec.ProviderID = "openstack:///s1"
	in.lookups.server.err = &cloud.Error{Class: cloud.Config, StatusCode: 404, Message: "Instance s1 could not be found."}
	s := serverStep(in, in.objects())
	wantStep(t, s, infrav1.ServerReadyCondition, infrav1.MissingReason)
	if !s.failed {
		t.Error("nobody is asked to act")
	}
	in.lookups.server.err = cloud.Errorf(cloud.Transient, "503")
	wantStep(t, serverStep(in, in.objects()), infrav1.ServerReadyCondition, infrav1.TransientReason)
	in.lookups.server = lookup[cloud.Server]{value: cloud.Server{ID: "s1", Mark: machineMark(roleServer)}}
	wantStep(t, serverStep(in, in.objects()), infrav1.ServerReadyCondition, infrav1.WaitingForInventoryReason)
	in.lookups.server = lookup[cloud.Server]{value: cloud.Server{ID: "s1"}}
	wantStep(t, serverStep(in, in.objects()), infrav1.ServerReadyCondition, infrav1.SuspiciousReason)
}

// aMachine is a new worker of a provisioned cluster, in a cloud that holds the given objects.
func aMachine(objects ...any) machineInput {
	machine := &infrav1.SendanMachine{ObjectMeta: metav1.ObjectMeta{Name: "m"}, Spec: infrav1.SendanMachineSpec{Flavor: "f"}}
	cluster := &infrav1.SendanCluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}}
	cluster.Status.Network.ID = "net"
	return machineInput{
		attempts: attempts{snapshot: cloud.SnapshotOf(ago(time.Second), objects...), now: noon()},
		machine:  machine, cluster: cluster, mark: cloud.Mark{Cluster: "C", Machine: "M"},
		infrastructureReady: true, userData: []byte("data"),
	}
}

func machineMark(role string) cloud.Mark { return cloud.Mark{Cluster: "C", Machine: "M", Role: role} }
func clusterMark(role string) cloud.Mark { return cloud.Mark{Cluster: "C", Role: role} }

// leaving is a control-plane machine that began to be deleted some time ago, and the load balancer
// that has the given member addresses.
func leaving(since time.Duration, members ...string) machineInput {
	pool := cloud.Pool{ID: "pool"}
	for _, address := range members {
		pool.Members = append(pool.Members, cloud.Member{Address: address, Port: apiServerPort})
	}
	in := aMachine(
		cloud.Server{ID: "s1", Status: "ACTIVE", Mark: machineMark(roleServer)},
		cloud.Port{ID: "p1", Mark: machineMark(portRole(0)), FixedIPs: []cloud.FixedIP{{IPAddress: "10.6.0.5"}}},
		cloud.LoadBalancer{ID: "lb", Mark: clusterMark(roleEndpoint), Pools: []cloud.Pool{pool}, TreeKnown: true},
	)
	in.machine.Labels = map[string]string{clusterv1.MachineControlPlaneLabel: ""}
	in.machine.DeletionTimestamp = ptr.To(metav1.NewTime(ago(since)))
	return in
}

func TestAControlPlaneMachineLeavesTheLoadBalancerFirst(t *testing.T) {
	const deletion = "delete server s1"
	worker := leaving(0, "10.6.0.5")
	worker.machine.Labels = nil
	withCluster := leaving(0, "10.6.0.5")
	withCluster.clusterDeleting = true
	unlisted := leaving(0)
	unlisted.snapshot = cloud.SnapshotOf(ago(time.Second), cloud.Listing{Kind: cloud.KindLoadBalancer},
		cloud.Server{ID: "s1", Status: "ACTIVE", Mark: machineMark(roleServer)})
	unlistedLong := unlisted
	unlistedLong.machine = unlisted.machine.DeepCopy()
	unlistedLong.machine.DeletionTimestamp = ptr.To(metav1.NewTime(ago(memberPatience + time.Second)))
	for _, c := range []struct {
		name string
		in   machineInput
		keys []string // none while it waits
	}{
		{"it is a member", leaving(0, "10.6.0.4", "10.6.0.5"), nil},
		{"it is a member after a minute", leaving(memberPatience, "10.6.0.5"), nil},
		{"it is a member after more than a minute", leaving(memberPatience+time.Second, "10.6.0.5"), []string{deletion}},
		{"others are members", leaving(0, "10.6.0.4"), []string{deletion}},
		{"it is a worker", worker, []string{deletion}},
		{"the whole cluster goes", withCluster, []string{deletion}},
		{"the load balancers are not listed yet", unlisted, nil},
		{"the load balancers cannot be listed", unlistedLong, []string{deletion}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := planMachineDeletion(c.in)
			wantStep(t, s, infrav1.DeletingCondition, infrav1.DeletingReason, c.keys...)
			if giveUp := c.in.machine.DeletionTimestamp.Add(memberPatience); len(c.keys) == 0 && !s.retryAt.Equal(giveUp) {
				t.Errorf("it looks again at %s, want %s", s.retryAt, giveUp)
			}
		})
	}
}

// aCluster has a managed network and a load balancer without a floating IP.
func aCluster(objects ...any) clusterInput {
	cluster := &infrav1.SendanCluster{ObjectMeta: metav1.ObjectMeta{Name: "c"}}
	cluster.Spec.Network.Managed = &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}
	cluster.Spec.Endpoint.LoadBalancer = &infrav1.LoadBalancerEndpoint{Port: 6443, FloatingIP: infrav1.FloatingIP{Disabled: ptr.To(true)}}
	return clusterInput{
		attempts: attempts{snapshot: cloud.SnapshotOf(ago(time.Second), objects...), now: noon()},
		cluster:  cluster, mark: cloud.Mark{Cluster: "C"}, name: "tenant-c",
	}
}

// itsNetwork are the objects of a finished network with both families.
func itsNetwork() []any {
	return []any{
		cloud.Network{ID: "net", Mark: clusterMark(roleNetwork)},
		cloud.Subnet{ID: "sub4", Mark: clusterMark(subnetRole(0)), NetworkID: "net", CIDR: netip.MustParsePrefix("10.6.0.0/24")},
		cloud.Router{ID: "router", Mark: clusterMark(roleRouter), ExternalIPs: []string{"203.0.113.7", "2001:db8:1::7"}},
		cloud.Port{ID: "gw", DeviceID: "router", NetworkID: "net", FixedIPs: []cloud.FixedIP{{SubnetID: "sub4", IPAddress: "10.6.0.1"}}},
	}
}

func (in *clusterInput) brokenSince(at time.Time) {
	in.cluster.Status.Conditions = []metav1.Condition{{Type: infrav1.EndpointReadyCondition, Reason: infrav1.LoadBalancerErrorReason, LastTransitionTime: metav1.NewTime(at)}}
}

func TestABrokenLoadBalancerIsGivenTimeAndThenMendedAsGentlyAsPossible(t *testing.T) {
	for _, c := range []struct {
		name, operating string
		provisioned     bool
		since           time.Time
		keys            []string
	}{
		{"seen for the first time", "ERROR", true, time.Time{}, nil},
		{"within the grace", "ERROR", true, ago(brokenGrace - time.Second), nil},
		{"still serving", "ONLINE", true, ago(brokenGrace), []string{"fail over load balancer"}},
		{"serving with one member less", "DEGRADED", true, ago(brokenGrace), []string{"fail over load balancer"}},
		{"not serving", "ERROR", true, ago(brokenGrace), []string{"delete broken load balancer"}},
		{"never served", "OFFLINE", true, ago(brokenGrace), []string{"delete broken load balancer"}},
		{"of a cluster that nobody uses yet", "OFFLINE", false, time.Time{}, []string{"delete broken load balancer"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := aCluster(append(itsNetwork(), cloud.LoadBalancer{ID: "lb", Mark: clusterMark(roleEndpoint), ProvisioningStatus: "ERROR", OperatingStatus: c.operating, TreeKnown: true})...)
			in.cluster.Status.Initialization.Provisioned = ptr.To(c.provisioned)
			if !c.since.IsZero() {
				in.brokenSince(c.since)
			}
			s := endpointStep(in, in.objects())
			wantStep(t, s, infrav1.EndpointReadyCondition, infrav1.LoadBalancerErrorReason, c.keys...)
			if len(c.keys) == 0 && (s.retryAt.IsZero() || s.retryAt.After(noon().Add(brokenGrace))) {
				t.Errorf("it looks again at %s", s.retryAt)
			}
			wantStep(t, membersStep(in, in.objects()), infrav1.MembersReadyCondition, infrav1.LoadBalancerErrorReason)
		})
	}
}

func TestANewLoadBalancerWaitsUntilTheOldOneHasGivenUpItsAddress(t *testing.T) {
	in := aCluster(append(itsNetwork(), cloud.LoadBalancer{ID: "old", Mark: clusterMark(roleEndpoint), ProvisioningStatus: "PENDING_DELETE"})...)
	wantStep(t, endpointStep(in, in.objects()), infrav1.EndpointReadyCondition, infrav1.WaitingForCloudReason)
	in = aCluster(itsNetwork()...)
	wantStep(t, endpointStep(in, in.objects()), infrav1.EndpointReadyCondition, infrav1.CreatingReason, "create load balancer")
}

func TestANetworkIsMadeOnceAndNeverAgainUnderMachines(t *testing.T) {
	for _, c := range []struct {
		name    string
		missing int // index in itsNetwork
		told    string
		keys    []string
	}{
		{"network", 0, "network", []string{"create network", "connect " + subnetRole(0)}},
		{"subnet", 1, "subnet", []string{"create " + subnetRole(0)}},
		{"router", 2, "router", []string{"create router"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := aCluster(slices.Delete(itsNetwork(), c.missing, c.missing+1)...)
			s := networkStep(in, in.objects())
			if s.reason != infrav1.CreatingReason || tell(s).keys[0] != c.keys[0] {
				t.Errorf("a new cluster's step is %+v", tell(s))
			}
			in.cluster.Status.Initialization.Provisioned = ptr.To(true)
			s = networkStep(in, in.objects())
			wantStep(t, s, infrav1.NetworkReadyCondition, infrav1.MissingReason)
			if !s.failed || !strings.Contains(s.message, "The "+c.told+" that Sendan made") {
				t.Errorf("failed=%t, message %q", s.failed, s.message)
			}
		})
	}
	in := aCluster(itsNetwork()[:2]...)
	in.cluster.Spec.Network.Managed.RouterDisabled = ptr.To(true)
	in.cluster.Status.Initialization.Provisioned = ptr.To(true)
	wantStep(t, networkStep(in, in.objects()), infrav1.NetworkReadyCondition, "")
}

func TestRulesAreComparedAsNeutronComparesThem(t *testing.T) {
	api := cloud.SecurityGroupRule{SecurityGroupID: "g", Direction: "ingress", EtherType: "IPv4", Protocol: "tcp", PortMin: 6443, PortMax: 6443}
	spelled := func(change func(*cloud.SecurityGroupRule)) cloud.SecurityGroupRule {
		other := api
		other.ID, other.Description = "r1", "whatever"
		change(&other)
		return other
	}
	for _, c := range []struct {
		name           string
		wanted, have   []cloud.SecurityGroupRule
		missing, extra int
	}{
		{"nothing there", []cloud.SecurityGroupRule{api}, nil, 1, 0},
		{"there under another description", []cloud.SecurityGroupRule{api}, []cloud.SecurityGroupRule{spelled(func(*cloud.SecurityGroupRule) {})}, 0, 0},
		{"there with the prefix of everybody", []cloud.SecurityGroupRule{api}, []cloud.SecurityGroupRule{spelled(func(r *cloud.SecurityGroupRule) { r.RemoteIPPrefix = "0.0.0.0/0" })}, 0, 0},
		{"there with the number of the protocol", []cloud.SecurityGroupRule{api}, []cloud.SecurityGroupRule{spelled(func(r *cloud.SecurityGroupRule) { r.Protocol = "6" })}, 0, 0},
		{"wanted twice", []cloud.SecurityGroupRule{api, api}, nil, 1, 0},
		{"another port", []cloud.SecurityGroupRule{api}, []cloud.SecurityGroupRule{spelled(func(r *cloud.SecurityGroupRule) { r.PortMax = 6444 })}, 1, 1},
		{"another group", []cloud.SecurityGroupRule{api}, []cloud.SecurityGroupRule{spelled(func(r *cloud.SecurityGroupRule) { r.SecurityGroupID = "h" })}, 1, 1},
		{"another family", []cloud.SecurityGroupRule{api}, []cloud.SecurityGroupRule{spelled(func(r *cloud.SecurityGroupRule) { r.EtherType = "IPv6" })}, 1, 1},
		{"not wanted any more", nil, []cloud.SecurityGroupRule{api}, 0, 1},
	} {
		missing, extra := compareRules(c.wanted, c.have)
		if len(missing) != c.missing || len(extra) != c.extra {
			t.Errorf("%s: %d missing, %d extra; want %d and %d", c.name, len(missing), len(extra), c.missing, c.extra)
		}
	}
}

func TestTheClustersOwnAddressesAreAlwaysAllowed(t *testing.T) {
	in := aCluster(itsNetwork()...)
	if got := allowedCIDRs(in, in.objects()); got != nil {
		t.Errorf("without a wish everybody is allowed, but got %v", got)
	}
	in.cluster.Spec.Endpoint.LoadBalancer.AllowedCIDRs = []string{"198.51.100.0/24", "10.6.0.0/24"}
	// Octavia refuses ranges of another family than its address has.
	want := []string{"10.6.0.0/24", "198.51.100.0/24", "203.0.113.7/32"}
	if got := allowedCIDRs(in, in.objects()); !slices.Equal(got, want) {
		t.Errorf("allowed are %v, want %v", got, want)
	}
}

func TestMembersAreTheControlPlaneMachinesThatStay(t *testing.T) {
	port := func(owner string, ips ...cloud.FixedIP) cloud.Port {
		return cloud.Port{ID: "port of " + owner, Mark: cloud.Mark{Cluster: "C", Machine: owner, Role: portRole(0)}, FixedIPs: ips}
	}
	machine := func(name string, change func(*infrav1.SendanMachine)) infrav1.SendanMachine {
		m := infrav1.SendanMachine{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{infrav1.OwnerIDAnnotation: name}, Labels: map[string]string{clusterv1.MachineControlPlaneLabel: ""}}}
		change(&m)
		return m
	}
	same := func(*infrav1.SendanMachine) {}
	in := aCluster(append(itsNetwork(),
		port("cp-0", cloud.FixedIP{SubnetID: "sub6", IPAddress: "fd00::5"}, cloud.FixedIP{SubnetID: "sub4", IPAddress: "10.6.0.5"}),
		port("cp-1", cloud.FixedIP{SubnetID: "elsewhere", IPAddress: "10.7.0.5"}),
		port("cp-gone", cloud.FixedIP{SubnetID: "sub4", IPAddress: "10.6.0.6"}),
		port("worker", cloud.FixedIP{SubnetID: "sub4", IPAddress: "10.6.0.7"}),
	)...)
	in.machines = []infrav1.SendanMachine{
		machine("cp-0", same), machine("cp-1", same), machine("cp-without-port", same),
		machine("cp-gone", func(m *infrav1.SendanMachine) { m.DeletionTimestamp = ptr.To(metav1.NewTime(noon())) }),
		machine("worker", func(m *infrav1.SendanMachine) { m.Labels = nil }),
		machine("cp-new", func(m *infrav1.SendanMachine) { m.Annotations = nil }),
	}
	want := []cloud.MemberRequest{
		{Name: "cp-0", Address: "10.6.0.5", Port: apiServerPort, SubnetID: "sub4"},
		{Name: "cp-1", Address: "10.7.0.5", Port: apiServerPort, SubnetID: "elsewhere"},
	}
	if got := wantedMembers(in, in.objects()); !slices.Equal(got, want) {
		t.Errorf("the members are %v, want %v", got, want)
	}
}

func TestOnlyTheApiServersPoolIsWritten(t *testing.T) {
	in := aCluster(append(itsNetwork(), cloud.LoadBalancer{
		ID: "lb", Mark: clusterMark(roleEndpoint), ProvisioningStatus: "ACTIVE", TreeKnown: true,
		Listeners: []cloud.Listener{{ID: "l1", Port: 80, DefaultPoolID: "foreign"}, {ID: "l2", Port: 6443, DefaultPoolID: "ours"}},
		Pools:     []cloud.Pool{{ID: "foreign", Members: []cloud.Member{{Address: "192.0.2.1", Port: 80}}}, {ID: "ours"}},
	})...)
	wantStep(t, membersStep(in, in.objects()), infrav1.MembersReadyCondition, "")
}

func TestFailureDomainsAreThoseOfTheSpecOrTheAvailableZones(t *testing.T) {
	in := aCluster()
	in.lookups.zones.value = []cloud.Zone{{Name: "az2", Available: true}, {Name: "az1", Available: true}, {Name: "az3"}, {Name: "internal", Available: true}}
	domain := func(name, zone string, controlPlane bool) clusterv1.FailureDomain {
		return clusterv1.FailureDomain{Name: name, ControlPlane: ptr.To(controlPlane), Attributes: map[string]string{"computeZone": zone}}
	}
	equal := func(a, b clusterv1.FailureDomain) bool {
		return a.Name == b.Name && *a.ControlPlane == *b.ControlPlane && a.Attributes["computeZone"] == b.Attributes["computeZone"]
	}
	if got, want := failureDomainsOf(in), []clusterv1.FailureDomain{domain("az1", "az1", true), domain("az2", "az2", true)}; !slices.EqualFunc(got, want, equal) {
		t.Errorf("discovered are %v, want %v", got, want)
	}
	in.cluster.Spec.FailureDomains = []infrav1.FailureDomain{{Name: "west", ComputeZone: "az1", ControlPlane: ptr.To(false)}, {Name: "az9"}}
	if got, want := failureDomainsOf(in), []clusterv1.FailureDomain{domain("az9", "az9", true), domain("west", "az1", false)}; !slices.EqualFunc(got, want, equal) {
		t.Errorf("given are %v, want %v", got, want)
	}
	wantStep(t, failureDomainsStep(in), infrav1.FailureDomainsReadyCondition, "")
	none := aCluster()
	wantStep(t, failureDomainsStep(none), infrav1.FailureDomainsReadyCondition, infrav1.ConfigReason)
	none.lookups.zones.err = cloud.Errorf(cloud.Transient, "503")
	wantStep(t, failureDomainsStep(none), infrav1.FailureDomainsReadyCondition, infrav1.TransientReason)
}

// Core copies the failure domains at every reconcile; without any it would spread nothing.
func TestKnownFailureDomainsOutliveAFailedLookUp(t *testing.T) {
	in := aCluster(itsNetwork()...)
	in.cluster.Status.FailureDomains = []clusterv1.FailureDomain{{Name: "az1"}}
	in.lookups.zones.err = cloud.Errorf(cloud.Transient, "503")
	setClusterStatus(in, []step{failureDomainsStep(in)})
	if got := in.cluster.Status.FailureDomains; len(got) != 1 || got[0].Name != "az1" {
		t.Errorf("the failure domains are %v", got)
	}
}

func TestAMachineIsPlacedByItsFailureDomainAndToldWhereItIs(t *testing.T) {
	cluster := &infrav1.SendanCluster{}
	cluster.Spec.FailureDomains = []infrav1.FailureDomain{{Name: "west", ComputeZone: "az1", VolumeZone: "v1"}, {Name: "rack", ComputeZone: "az1"}, {Name: "az2"}}
	in := func(domain string) *clusterv1.Machine {
		return &clusterv1.Machine{Spec: clusterv1.MachineSpec{FailureDomain: domain}}
	}
	for _, c := range []struct {
		machine *clusterv1.Machine
		want    placement
		domain  string // when the server came to be in az1
	}{
		{in("west"), placement{"az1", "v1"}, "west"},
		{in("rack"), placement{"az1", ""}, "rack"},
		{in("az2"), placement{"az2", ""}, "west"},
		{in("az7"), placement{"az7", ""}, "west"},
		{in(""), placement{}, "west"},
		{nil, placement{}, "west"},
	} {
		if got := placementOf(cluster, c.machine); got != c.want {
			t.Errorf("%v is placed in %v, want %v", c.machine, got, c.want)
		}
		if got := failureDomainIn(cluster, c.machine, "az1"); got != c.domain {
			t.Errorf("%v in az1 is in failure domain %q, want %q", c.machine, got, c.domain)
		}
	}
	if got := failureDomainIn(&infrav1.SendanCluster{}, nil, "az5"); got != "az5" {
		t.Errorf("without failure domains it is %q", got)
	}
}

func TestThePhaseIsTheFirstThingThatIsOpen(t *testing.T) {
	open := func(condition string) step { return waiting(condition, infrav1.CreatingReason, "…") }
	failed := open(infrav1.ServerReadyCondition)
	failed.failed = true
	server := machineObjects{server: &cloud.Server{ID: "s1"}}
	for _, c := range []struct {
		steps []step
		has   machineObjects
		want  infrav1.MachinePhase
	}{
		{[]step{done(infrav1.PortsReadyCondition), done(infrav1.ServerReadyCondition)}, server, infrav1.PhaseRunning},
		{[]step{open(infrav1.VolumesReadyCondition), open(infrav1.PortsReadyCondition)}, machineObjects{}, infrav1.PhaseVolumes},
		{[]step{done(infrav1.VolumesReadyCondition), open(infrav1.PortsReadyCondition)}, machineObjects{}, infrav1.PhasePorts},
		{[]step{open(infrav1.ServerReadyCondition)}, server, infrav1.PhaseBuilding},
		{[]step{failed}, server, infrav1.PhaseFailed},
		{[]step{open(infrav1.ServerReadyCondition)}, machineObjects{}, infrav1.PhasePending},
	} {
		if got := phaseOf(c.steps, c.has); got != c.want {
			t.Errorf("the phase of %v is %s, want %s", c.steps, got, c.want)
		}
	}
}

func TestMachinesMayBeMadeBeforeMembersAndServerGroupsAreThere(t *testing.T) {
	for condition, want := range map[string]bool{
		infrav1.MembersReadyCondition: true, infrav1.ServerGroupsReadyCondition: true,
		infrav1.NetworkReadyCondition: false, infrav1.SecurityGroupsReadyCondition: false, infrav1.EndpointReadyCondition: false,
		infrav1.FailureDomainsReadyCondition: false, infrav1.IdentityReadyCondition: false,
	} {
		if got := provisioned([]step{done("x"), waiting(condition, "Busy", "…")}); got != want {
			t.Errorf("with %s open provisioned is %t", condition, got)
		}
	}
}

func TestTheEarliestTimeDecidesWhenToLookAgain(t *testing.T) {
	at := func(d time.Duration) step { return waiting("c", "r", "…").until(noon().Add(d)) }
	for _, c := range []struct {
		steps []step
		want  time.Duration
	}{
		{[]step{done("c"), waiting("c", "r", "…")}, 0},
		{[]step{at(time.Hour), waiting("c", "r", "…"), at(time.Minute)}, time.Minute},
		{[]step{at(time.Millisecond)}, time.Second},
		{[]step{at(-time.Hour)}, time.Second},
	} {
		if got := requeue(c.steps, noon()).RequeueAfter; got != c.want {
			t.Errorf("it looks again after %s, want %s", got, c.want)
		}
	}
}

func TestWhatTheInventorySaysIsBelievedOnlyAsFarAsItDeserves(t *testing.T) {
	const kind = cloud.KindNetwork
	listed := ago(time.Minute)
	for _, c := range []struct {
		name    string
		listing cloud.Listing
		reason  string // empty when it is believed
	}{
		{"listed", cloud.Listing{Kind: kind, Began: listed}, ""},
		{"not listed yet", cloud.Listing{Kind: kind}, infrav1.WaitingForInventoryReason},
		{"never listed, since that fails", cloud.Listing{Kind: kind, Err: cloud.Errorf(cloud.Transient, "500")}, infrav1.TransientReason},
		{"listed once, fails now", cloud.Listing{Kind: kind, Began: listed, Err: cloud.Errorf(cloud.Transient, "500")}, ""},
		{"the credentials are refused", cloud.Listing{Kind: kind, Began: listed, Err: cloud.Errorf(cloud.Auth, "401")}, infrav1.AuthReason},
		{"much is missing at once", cloud.Listing{Kind: kind, Began: listed, Suspicious: cloud.Errorf(cloud.Suspicious, "12 of 12 missing")}, infrav1.SuspiciousReason},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := attempts{snapshot: cloud.SnapshotOf(listed, c.listing), now: noon()}
			s, stale := inventoryStep(in, []cloud.Kind{cloud.KindPort, kind})
			if stale != (c.reason != "") || s.reason != c.reason {
				t.Fatalf("stale=%t, reason %q (%s)", stale, s.reason, s.message)
			}
			if stale && s.retryAt.IsZero() {
				t.Error("it never looks again")
			}
			if _, stale := inventoryStep(in, []cloud.Kind{cloud.KindPort}); stale {
				t.Error("another kind is held back as well")
			}
		})
	}
}

func TestADeletionEndsOnlyWhenLostCallsAreKnownToHaveLeftNothing(t *testing.T) {
	in := aMachine()
	in.machine.DeletionTimestamp = ptr.To(metav1.NewTime(noon()))
	in.notes = []infrav1.Attempt{{Action: createServerKey, Creates: string(cloud.KindServer), Outcome: infrav1.AttemptUnknown, Time: metav1.NewMicroTime(ago(time.Second))}}
	wantStep(t, planMachineDeletion(in), infrav1.DeletingCondition, infrav1.WaitingForInventoryReason)
	in.snapshot = cloud.SnapshotOf(noon().Add(uncertainty))
	wantStep(t, planMachineDeletion(in), infrav1.DeletingCondition, "")
}

func TestAFloatingIPOfSomebodyElseIsNeverTaken(t *testing.T) {
	lb := cloud.LoadBalancer{ID: "lb", Mark: clusterMark(roleEndpoint), ProvisioningStatus: "ACTIVE", VIPPortID: "vip", TreeKnown: true}
	for _, c := range []struct {
		name, port string
		reason     string
		keys       []string
	}{
		{"free", "", infrav1.CreatingReason, []string{"associate floating IP"}},
		{"ours", "vip", "", nil},
		{"of our virtual IP", "ours", infrav1.CreatingReason, []string{"associate floating IP"}},
		{"of another port", "theirs", infrav1.ConfigReason, nil},
		{"of a port that is not listed yet", "unlisted", infrav1.ConfigReason, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := aCluster(append(itsNetwork(), lb,
				cloud.FloatingIP{ID: "fip", Address: "203.0.113.9", PortID: c.port},
				cloud.Port{ID: "ours", Mark: clusterMark(roleEndpoint)}, cloud.Port{ID: "theirs"},
			)...)
			in.cluster.Spec.Endpoint.LoadBalancer.FloatingIP = infrav1.FloatingIP{Address: "203.0.113.9"}
			wantStep(t, floatingIPStep(in, in.objects(), "vip"), infrav1.EndpointReadyCondition, c.reason, c.keys...)
		})
	}
}

func TestASpecThatChangedIsTriedAtOnce(t *testing.T) {
	obj := &infrav1.SendanCluster{ObjectMeta: metav1.ObjectMeta{Generation: 2}}
	obj.Status.Conditions = []metav1.Condition{{Type: infrav1.ReadyCondition, ObservedGeneration: 2}}
	obj.Status.Attempts = []infrav1.Attempt{{Action: "create network", Outcome: infrav1.AttemptRefused}, {Action: "create router", Outcome: infrav1.AttemptUnknown}}
	if notes := currentNotes(obj); len(notes) != 2 {
		t.Errorf("the spec is the same, yet the notes are %v", notes)
	}
	obj.Generation = 3
	if notes := currentNotes(obj); len(notes) != 1 || notes[0].Action != "create router" {
		t.Errorf("only what may have taken effect is to stay, but the notes are %v", notes)
	}
}
