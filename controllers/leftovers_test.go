package controllers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// leavingCluster is a cluster "training" of team-a that is being deleted and wants these swept.
func leavingCluster(sweep []infrav1.Leftover, objects ...any) clusterInput {
	in := aCluster(append(itsNetwork(), objects...)...)
	in.cluster.ObjectMeta = metav1.ObjectMeta{Namespace: "team-a", Name: "training-x7k2p", Labels: map[string]string{clusterv1.ClusterNameLabel: "training"}}
	in.cluster.Spec.Deletion.Sweep = sweep
	return in
}

const ofTraining = "kube_service_team-a-training_default_web"

// balancer is an active load balancer with its port on a network.
func balancer(id, name, network string, tags ...string) []any {
	return []any{
		cloud.LoadBalancer{ID: id, Name: name, ProvisioningStatus: "ACTIVE", VIPPortID: "port-" + id, Tags: tags},
		cloud.Port{ID: "port-" + id, NetworkID: network, DeviceOwner: "Octavia"},
	}
}

func address(id, port, description string) cloud.FloatingIP {
	return cloud.FloatingIP{ID: id, PortID: port, Description: description}
}

func TestOnlyWhatIsProvenToBeOfTheClustersServicesIsSwept(t *testing.T) {
	ofService := serviceAddress + " default/web from cluster team-a-training"
	marked := balancer("lb", ofTraining, "net")
	own := marked[0].(cloud.LoadBalancer)
	own.Mark = cloud.Mark{Cluster: "other"}
	marked[0] = own
	pending := balancer("lb", ofTraining, "net")
	busy := pending[0].(cloud.LoadBalancer)
	busy.ProvisioningStatus = "PENDING_UPDATE"
	pending[0] = busy
	for _, c := range []struct {
		name    string
		objects []any
		keys    []string
		message string
	}{
		{"it is a Service's", balancer("lb", ofTraining, "net", ofTraining), []string{"delete load balancer lb"}, ""},
		{"two Services of the cluster share it", balancer("lb", ofTraining, "net", ofTraining, ofTraining+"-2"), []string{"delete load balancer lb"}, ""},
		{"its floating IP goes first", append(balancer("lb", ofTraining, "net"), address("ip", "port-lb", ofService)), []string{"delete floating IP ip"}, ""},
		{"its floating IP is somebody's own", append(balancer("lb", ofTraining, "net"), address("ip", "port-lb", "www.example.com")), []string{"delete load balancer lb"}, ""},
		{"a floating IP of a Service leads elsewhere", append(balancer("lb", ofTraining, "net"), address("ip", "port-2", ofService)), []string{"delete load balancer lb"}, ""},
		{"another cluster's Service shares it", balancer("lb", ofTraining, "net", ofTraining, "kube_service_team-b-training_default_web"), nil, "load balancer lb"},
		{"another cluster's name begins alike", balancer("lb", "kube_service_team-a-training-2_default_web", "net"), nil, "load balancer lb"},
		{"a person made it", balancer("lb", "database", "net"), nil, "load balancer lb (database)"},
		{"another cluster's mark is on it", marked, nil, "load balancer lb"},
		{"Octavia works on it", pending, nil, "Waiting for Octavia: load balancer lb is PENDING_UPDATE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := clearLeftovers(leavingCluster([]infrav1.Leftover{infrav1.SweepLoadBalancers}, c.objects...)).as(infrav1.DeletingReason)
			wantStep(t, s, infrav1.DeletingCondition, infrav1.DeletingReason, c.keys...)
			if !strings.Contains(s.message, c.message) {
				t.Errorf("the message is %q, want %q in it", s.message, c.message)
			}
			s = clearLeftovers(leavingCluster(nil, c.objects...))
			wantStep(t, s, infrav1.DeletingCondition, infrav1.DeletingReason)
		})
	}
	t.Run("its floating IP leads elsewhere when it is asked for once more", func(t *testing.T) {
		if ip := address("ip", "port-2", ofService); isOfService(ip, "port-lb") || !isOfService(ip, "port-2") {
			t.Error("where it leads does not count")
		}
	})
	t.Run("it is on another network", func(t *testing.T) {
		for _, in := range []clusterInput{
			leavingCluster([]infrav1.Leftover{infrav1.SweepLoadBalancers}, balancer("lb", ofTraining, "office")...),
			leavingCluster([]infrav1.Leftover{infrav1.SweepLoadBalancers}, balancer("lb", ofTraining, "")[0]), // its port is not known
		} {
			wantStep(t, clearLeftovers(in), infrav1.DeletingCondition, "")
		}
	})
}

func volumeOf(cluster, status string, servers ...string) cloud.Volume {
	return cloud.Volume{ID: "vol", Name: "pvc-1", Status: status, AttachedTo: servers, Metadata: map[string]string{driverCluster: cluster}}
}

func TestOnlyFreeVolumesOfTheClustersDriverAreSwept(t *testing.T) {
	made := volumeOf("training", "available")
	made.Mark = clusterMark("volume-root")
	for _, c := range []struct {
		name      string
		volume    cloud.Volume
		namesakes []string
		swept     []string
		reason    string
		stays     string // told when it is not swept although that is wanted
	}{
		{name: "free", volume: volumeOf("training", "available"), swept: []string{"delete volume vol"}, reason: infrav1.DeletingReason},
		{name: "attached to a server that is there", volume: volumeOf("training", "in-use", "server"), stays: "attached or in error"},
		{name: "attached to a server that is gone", volume: volumeOf("training", "in-use", "gone"), reason: infrav1.DeletingReason},
		{name: "being detached", volume: volumeOf("training", "detaching"), reason: infrav1.DeletingReason},
		{name: "in error", volume: volumeOf("training", "error_deleting"), stays: "attached or in error"},
		{name: "already going", volume: volumeOf("training", "deleting")},
		{name: "another cluster's", volume: volumeOf("training-2", "available")},
		{name: "of a driver without a name", volume: volumeOf("", "available")},
		{name: "nobody's", volume: cloud.Volume{ID: "vol", Status: "available"}},
		{name: "with a mark", volume: made},
		{name: "another cluster has the name", volume: volumeOf("training", "available"), namesakes: []string{"team-b/training"}, stays: "team-b/training"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := leavingCluster([]infrav1.Leftover{infrav1.SweepVolumes}, c.volume, cloud.Server{ID: "server"})
			in.namesakes = c.namesakes
			wantStep(t, clearLeftovers(in).as(infrav1.DeletingReason), infrav1.DeletingCondition, c.reason, c.swept...)
			if told := volumesThatStay(in); c.stays == "" && told != "" || !strings.Contains(told, c.stays) {
				t.Errorf("told %q, want %q in it", told, c.stays)
			}
			in.cluster.Spec.Deletion.Sweep = nil
			wantStep(t, clearLeftovers(in), infrav1.DeletingCondition, "")
		})
	}
	t.Run("a cluster without a name", func(t *testing.T) {
		in := leavingCluster([]infrav1.Leftover{infrav1.SweepVolumes}, volumeOf("", "available"), cloud.Volume{ID: "other", Status: "available"})
		in.cluster.Labels = nil
		wantStep(t, clearLeftovers(in), infrav1.DeletingCondition, "")
		wantEqual(t, "told", volumesThatStay(in), "")
	})
}

func TestLeftoversAreLookedForInNewListings(t *testing.T) {
	both := []infrav1.Leftover{infrav1.SweepLoadBalancers, infrav1.SweepVolumes}
	refused := cloud.Errorf(cloud.Auth, "no role")
	old, deleted := ago(leftoverAge), metav1.NewTime(ago(time.Minute))
	for _, c := range []struct {
		name    string
		sweep   []infrav1.Leftover
		listing cloud.Listing
		reason  string
		want    cloud.Kind // listed anew
	}{
		{"ports are old", nil, cloud.Listing{Kind: cloud.KindPort, Began: old}, infrav1.WaitingForInventoryReason, cloud.KindPort},
		{"ports were listed before the deletion", nil, cloud.Listing{Kind: cloud.KindPort, Began: deleted.Time}, infrav1.WaitingForInventoryReason, cloud.KindPort},
		{"load balancers are old", nil, cloud.Listing{Kind: cloud.KindLoadBalancer, Began: old}, infrav1.WaitingForInventoryReason, cloud.KindLoadBalancer},
		{"volumes are old", nil, cloud.Listing{Kind: cloud.KindVolume, Began: old}, infrav1.WaitingForInventoryReason, cloud.KindVolume},
		{"floating IPs are old", nil, cloud.Listing{Kind: cloud.KindFloatingIP, Began: old}, "", ""},
		{"floating IPs are old that may be deleted", both, cloud.Listing{Kind: cloud.KindFloatingIP, Began: old}, infrav1.WaitingForInventoryReason, cloud.KindFloatingIP},
		{"load balancers cannot be listed", nil, cloud.Listing{Kind: cloud.KindLoadBalancer, Began: old, Err: refused}, "", ""},
		{"load balancers cannot be listed that are to be deleted", both, cloud.Listing{Kind: cloud.KindLoadBalancer, Began: old, Err: refused}, infrav1.AuthReason, ""},
		{"volumes cannot be listed", nil, cloud.Listing{Kind: cloud.KindVolume, Began: old, Err: refused}, "", ""},
		{"volumes cannot be listed that are to be deleted", both, cloud.Listing{Kind: cloud.KindVolume, Began: old, Err: refused}, infrav1.AuthReason, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := leavingCluster(c.sweep, c.listing)
			in.cluster.DeletionTimestamp = &deleted
			s := clearLeftovers(in)
			wantStep(t, s, infrav1.DeletingCondition, c.reason)
			if asked := slices.Contains(s.listings, listing{kind: c.want, after: noon()}); asked != (c.want != "") {
				t.Errorf("it asks for the listings %v, want one of %s", s.listings, c.want)
			}
		})
	}
}

func TestWhatIsNotAnyMoreWhatItWasTakenForIsNotDeleted(t *testing.T) {
	for _, c := range []struct {
		name    string
		get     error
		is      bool
		removes bool
	}{
		{"it is", nil, true, true},
		{"it has changed", nil, false, false},
		{"it is gone", &cloud.Error{StatusCode: http.StatusNotFound}, false, true},
		{"it cannot be seen", errors.New("lost"), true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			removed := false
			err := removeSeen(t.Context(), "id",
				func(context.Context, string) (bool, error) { return c.is, c.get },
				func(is bool) bool { return is },
				func(context.Context, string) error { removed = true; return nil })
			if removed != c.removes || (err == nil) != c.removes {
				t.Errorf("removed=%t, error %v", removed, err)
			}
		})
	}
}

// made makes something as somebody in the cluster would, in words that package cloud never uses, and returns its id.
func (w *world) made(path, kind string, body map[string]any) string {
	w.t.Helper()
	account, err := w.sim.Account("admin", "demo")
	w.must(err)
	login := map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{
			"user": map[string]any{"name": account.User, "password": account.Password, "domain": map[string]any{"name": "Default"}},
		}},
		"scope": map[string]any{"project": map[string]any{"id": account.ProjectID}},
	}}
	header, _ := w.post("/identity/v3/auth/tokens", "", login)
	_, text := w.post(strings.ReplaceAll(path, "{project}", account.ProjectID), header.Get("X-Subject-Token"), map[string]any{kind: body})
	var made map[string]struct{ ID string }
	w.must(json.Unmarshal(text, &made))
	if made[kind].ID == "" {
		w.t.Fatalf("POST %s: %s", path, text)
	}
	return made[kind].ID
}

func (w *world) post(path, token string, body any) (http.Header, []byte) {
	w.t.Helper()
	text, err := json.Marshal(body)
	w.must(err)
	request, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+path, strings.NewReader(string(text)))
	w.must(err)
	request.Header.Set("X-Auth-Token", token)
	request.Header.Set("Content-Type", "application/json")
	answer, err := http.DefaultClient.Do(request)
	w.must(err)
	defer func() { _ = answer.Body.Close() }()
	text, err = io.ReadAll(answer.Body)
	w.must(err)
	return answer.Header, text
}

// service makes what the cloud-controller-manager makes for a Service of the cluster: a load balancer and its floating IP.
func (w *world) service(name string) cloud.LoadBalancer {
	w.t.Helper()
	s, ctx := w.intruder(), context.Background()
	full := "kube_service_tenant-one_default_" + name
	lb, err := s.CreateLoadBalancer(ctx, cloud.LoadBalancerRequest{Name: full, Tags: []string{full}, VIPSubnetID: w.cluster("tenant", "one").Status.Network.SubnetIDs[0]})
	w.must(err)
	external, err := s.ExternalNetworks(ctx)
	w.must(err)
	w.made("/network/v2.0/floatingips", "floatingip", map[string]any{
		"floating_network_id": external[0].ID, "port_id": lb.VIPPortID, "description": serviceAddress + " default/" + name + " from cluster tenant-one",
	})
	return lb
}

func (w *world) claimed(cluster, name string) string {
	return w.made("/volume/v3/{project}/volumes", "volume", map[string]any{"name": name, "size": 1, "metadata": map[string]string{driverCluster: cluster}})
}

func (w *world) deleting() metav1.Condition {
	return w.condition(w.cluster("tenant", "one"), infrav1.DeletingCondition)
}

// saying are the Events that have a text in them.
func (w *world) saying(text string) []string {
	var found []string
	for len(w.told.Events) > 0 {
		if event := <-w.told.Events; strings.Contains(event, text) {
			found = append(found, event)
		}
	}
	return found
}

func TestALoadBalancerOfAServiceIsNamedBeforeTheRouterGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.sim.Objects().Total
	w.ready(nil)
	lb := w.service("web") // after which nothing is listed before the deletion
	w.removeAll()
	w.run("the load balancer is named", 3*time.Minute, func() bool { return len(w.clusters()) == 1 && strings.Contains(w.deleting().Message, lb.ID) })
	for _, word := range []string{
		"(kube_service_tenant-one_default_web), which Sendan did not make", "openstack loadbalancer delete --cascade " + lb.ID,
		`kubectl patch sendancluster -n tenant one --type=merge -p '{"spec":{"deletion":{"sweep":["LoadBalancers"]}}}'`,
	} {
		if !strings.Contains(w.deleting().Message, word) {
			t.Errorf("the message is %q, without %q", w.deleting().Message, word)
		}
	}
	w.pass(10 * time.Minute)
	w.resetCalls()
	message := w.deleting().Message
	w.after = func(work) {
		if now := w.deleting().Message; now != message {
			t.Errorf("the message changed to %q", now)
		}
	}
	w.pass(30 * time.Minute)
	w.after = nil
	assertAtMost(t, w, "half an hour of waiting", w.ownCalls(), 0)
	if calls := w.called(http.MethodPut, "/remove_router_interface"); len(calls) > 0 || w.sim.Objects().Total["routers"] != 1 {
		t.Errorf("the router was touched: %v", calls)
	}
	s := w.intruder()
	w.must(s.DeleteFloatingIP(t.Context(), s.Inventory().Snapshot().FloatingIPsOfPort(lb.VIPPortID)[0].ID))
	w.must(s.DeleteLoadBalancer(t.Context(), lb.ID))
	w.run("all gone", 2*strangerRecheck+10*time.Second, w.allGone)
	assertSame(t, w, before)
}

func TestLoadBalancersOfServicesAreSweptWhenThatIsAskedForDuringTheDeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addNamespace("tenant")
	_, subnets := w.office()
	elsewhere, err := w.intruder().CreateLoadBalancer(t.Context(), cloud.LoadBalancerRequest{Name: "kube_service_tenant-one_default_office", VIPSubnetID: subnets[0].ID})
	w.must(err)
	before := w.sim.Objects().Total
	w.ready(nil)
	swept := []cloud.LoadBalancer{w.service("web"), w.service("api")}
	stranger, err := w.intruder().CreateLoadBalancer(t.Context(), cloud.LoadBalancerRequest{Name: "database", VIPSubnetID: w.cluster("tenant", "one").Status.Network.SubnetIDs[0]})
	w.must(err)
	w.removeAll()
	w.run("they are named", 3*time.Minute, func() bool { return strings.Contains(w.deleting().Message, swept[0].ID) })
	w.resetCalls()
	w.saying("")
	w.change(func(c *infrav1.SendanCluster) { c.Spec.Deletion.Sweep = []infrav1.Leftover{infrav1.SweepLoadBalancers} })
	w.run("only the stranger is left", 3*time.Minute, func() bool {
		message := w.deleting().Message
		return strings.Contains(message, stranger.ID+" (database), which Sendan did not make") && !strings.Contains(message, swept[0].ID)
	})
	wantEqual(t, "load balancers deleted", len(w.called(http.MethodDelete, "/loadbalancers/")), 2)
	wantEqual(t, "floating IPs deleted", len(w.called(http.MethodDelete, "/floatingips/")), 2)
	wantEqual(t, "Events", len(w.saying("SuccessfulDelete Deleted")), 4)
	w.must(w.intruder().DeleteLoadBalancer(t.Context(), stranger.ID))
	w.run("all gone", 5*time.Minute, w.allGone)
	assertSame(t, w, before)
	if _, there := w.seen().LoadBalancer(elsewhere.ID); !there {
		t.Error("a load balancer on somebody's network is gone because of its name")
	}
}

func TestASweepThatTheCloudRefusesIsTriedAgainAndTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addCluster("tenant", "one", func(c *infrav1.SendanCluster) { c.Spec.Deletion.Sweep = []infrav1.Leftover{infrav1.SweepVolumes} })
	w.run("ready", 10*time.Minute, w.allReady)
	id := w.claimed("one", "pvc-1")
	w.pass(leftoverAge)
	plan := plan(func(_ int64, r *http.Request) blow {
		if r.Method != http.MethodDelete || !strings.HasSuffix(r.URL.Path, id) {
			return blow{}
		}
		return blow{strike: func(_ *world, rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(http.StatusBadRequest)
			_, _ = fmt.Fprint(rw, `{"badRequest":{"code":400,"message":"Volume must not have snapshots."}}`)
		}}
	})
	w.plan.Store(&plan)
	w.removeAll()
	w.run("the refusal is told", 5*time.Minute, func() bool {
		return w.deleting().Reason == infrav1.ConflictReason && strings.Contains(w.deleting().Message, "Volume must not have snapshots.")
	})
	w.resetCalls()
	w.pass(30 * time.Minute)
	assertAtMost(t, w, "half an hour of refusals", w.ownCalls(), 2*15) // a look and a try, with growing patience
	w.plan.Store(nil)
	w.run("all gone", 10*time.Minute, w.allGone)
	w.pass(time.Minute) // Cinder takes a while
	assertNothingLeft(t, w)
}

func TestVolumesOfWorkloadsStayUnlessTheyAreToBeSwept(t *testing.T) {
	for _, c := range []struct {
		name  string
		sweep []infrav1.Leftover
		other string // namespace of another cluster of the name
		stay  int
		told  string
	}{
		{"by default", nil, "", 3, "openstack volume delete"},
		{"to be swept", []infrav1.Leftover{infrav1.SweepVolumes}, "", 2, "attached or in error"},
		{"to be swept, and another cluster has the name", []infrav1.Leftover{infrav1.SweepVolumes}, "elsewhere", 3, "cluster elsewhere/one"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.addCluster("tenant", "one", func(o *infrav1.SendanCluster) { o.Spec.Deletion.Sweep = c.sweep })
			if c.other != "" {
				w.addCluster(c.other, "one")
			}
			w.run("ready", 10*time.Minute, w.allReady)
			w.claimed("one", "pvc-1")
			broken := w.claimed("one", "pvc-2")
			w.claimed("two", "pvc-3")
			w.resetVolume(broken, "error")
			w.pass(leftoverAge)
			w.saying("")
			w.remove(w.cluster("tenant", "one"))
			left := len(w.clusters()) - 1
			w.run("gone", 5*time.Minute, func() bool { return len(w.clusters()) == left })
			w.pass(time.Minute) // Cinder takes a while
			wantEqual(t, "volumes", w.sim.Objects().Total["volumes"], c.stay)
			events := w.saying("Warning VolumesLeft")
			if len(events) != 1 || !strings.Contains(events[0], c.told) || !strings.Contains(events[0], broken+" (pvc-2)") {
				t.Errorf("the Events are %q, want one with %q", events, c.told)
			}
		})
	}
}
