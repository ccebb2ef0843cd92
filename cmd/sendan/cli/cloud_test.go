package cli_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/test/envtest"
)

// The owner ids of a cluster and a machine that are there, and of those that are gone.
const (
	clusterThere = "11111111-1111-4111-8111-111111111111"
	machineThere = "22222222-2222-4222-8222-222222222222"
	clusterGone  = "33333333-3333-4333-8333-333333333333"
	machineGone  = "44444444-4444-4444-8444-444444444444"
)

// project is a simulated cloud in which everything happens at once, and somebody with its credentials.
type project struct {
	*cloud.Session
	t     *testing.T
	sim   *simulator.Simulator
	clock *clockwork.FakeClock
	yaml  []byte
}

// newProject begins two days ago.
func newProject(t *testing.T) *project {
	t.Helper()
	scenario, none := simulator.DefaultScenario(), simulator.Exactly(0)
	scenario.Latency = simulator.Latencies{
		ServerBuild: none, ServerDelete: none, PortActive: none, VolumeCreate: none, VolumeDelete: none, VolumeAttach: none,
		LoadBalancerCreate: none, LoadBalancerUpdate: none, LoadBalancerDelete: none,
	}
	clock := clockwork.NewFakeClockAt(time.Now().Add(-48 * time.Hour))
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Clock: clock, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() { server.Close(); sim.Close() })
	p := &project{t: t, sim: sim, clock: clock, yaml: sim.CloudsYAML(server.URL, "openstack")}
	p.login()
	return p
}

// login takes a new token, since those of two days ago have expired.
func (p *project) login() {
	p.t.Helper()
	identity, err := cloud.ParseCloudsYAML(p.yaml, "openstack")
	p.must(err)
	p.Session, err = cloud.NewSessions(cloud.Options{Clock: p.clock, ManualPolling: true}).Get(p.t.Context(), identity)
	p.must(err)
}

func (p *project) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// infrastructure makes a network with a router and all else that a cluster and a machine have. A cluster without an id is
// somebody who is not Sendan. It returns the ids by kind.
func (p *project) infrastructure(name, cidr, cluster, machine string) map[cloud.Kind]string {
	t, ctx := p.t, p.t.Context()
	t.Helper()
	mark := func(role string) cloud.Mark { return cloud.Mark{Cluster: cluster, Role: role} }
	ofMachine := cloud.Mark{Cluster: cluster, Machine: machine, Role: "0"}
	external := must[[]cloud.Network](t)(p.ExternalNetworks(ctx))[0].ID
	network := must[cloud.Network](t)(p.CreateNetwork(ctx, cloud.NetworkRequest{Name: name, Mark: mark("network")}))
	subnet := must[cloud.Subnet](t)(p.CreateSubnet(ctx, cloud.SubnetRequest{Name: name, Mark: mark("subnet-0"), NetworkID: network.ID, CIDR: netip.MustParsePrefix(cidr)}))
	router := must[cloud.Router](t)(p.CreateRouter(ctx, cloud.RouterRequest{Name: name, Mark: mark("router"), ExternalNetworkID: external}))
	p.must(p.AddRouterInterface(ctx, router.ID, subnet.ID))
	group := must[cloud.SecurityGroup](t)(p.CreateSecurityGroup(ctx, cloud.SecurityGroupRequest{Name: name, Mark: mark("worker")}))
	balancer := must[cloud.LoadBalancer](t)(p.CreateLoadBalancer(ctx, cloud.LoadBalancerRequest{Name: name, Mark: mark("api"), VIPSubnetID: subnet.ID}))
	address := must[cloud.FloatingIP](t)(p.CreateFloatingIP(ctx, cloud.FloatingIPRequest{Mark: mark("api"), FloatingNetworkID: external, PortID: balancer.VIPPortID}))
	port := must[cloud.Port](t)(p.CreatePort(ctx, cloud.PortRequest{Name: name, Mark: ofMachine, NetworkID: network.ID, SecurityGroups: &[]string{group.ID}}))
	must[cloud.Trunk](t)(p.CreateTrunk(ctx, cloud.TrunkRequest{Name: name, Mark: ofMachine, PortID: port.ID}))
	volume := must[cloud.Volume](t)(p.CreateVolume(ctx, cloud.VolumeRequest{Name: name, Mark: ofMachine, SizeGiB: 1}))
	flavor := must[cloud.Flavor](t)(p.FlavorByName(ctx, "m1.small"))
	image := must[cloud.Image](t)(p.Image(ctx, cloud.ImageFilter{Name: "ubuntu-24.04-kube-v1.36.3"}))
	made := map[cloud.Kind]string{
		cloud.KindNetwork: network.ID, cloud.KindSubnet: subnet.ID, cloud.KindRouter: router.ID, cloud.KindSecurityGroup: group.ID,
		cloud.KindLoadBalancer: balancer.ID, cloud.KindFloatingIP: address.ID, cloud.KindPort: port.ID, cloud.KindVolume: volume.ID,
	}
	if cluster != "" { // nobody else names server groups like that
		made[cloud.KindServerGroup] = must[cloud.ServerGroup](t)(p.CreateServerGroup(ctx, cloud.ServerGroupRequest{Mark: mark("worker"), Policy: "soft-anti-affinity"})).ID
	}
	made[cloud.KindServer] = must[cloud.Server](t)(p.CreateServer(ctx, cloud.ServerRequest{
		Name: name, Mark: ofMachine, FlavorID: flavor.ID, ImageID: image.ID, PortIDs: []string{port.ID}, Volumes: []cloud.ServerVolume{{VolumeID: volume.ID}},
	})).ID
	return made
}

// holds are the ids of what is in the project of all kinds.
func (p *project) holds(ids map[cloud.Kind]string) []cloud.Kind {
	p.t.Helper()
	p.login()
	p.must(p.Inventory().Poll(p.t.Context()))
	s := p.Inventory().Snapshot()
	look := map[cloud.Kind]func(string) bool{
		cloud.KindNetwork:       func(id string) bool { _, there := s.Network(id); return there },
		cloud.KindSubnet:        func(id string) bool { _, there := s.Subnet(id); return there },
		cloud.KindRouter:        func(id string) bool { _, there := s.Router(id); return there },
		cloud.KindSecurityGroup: func(id string) bool { _, there := s.SecurityGroup(id); return there },
		cloud.KindServerGroup:   func(id string) bool { _, there := s.ServerGroup(id); return there },
		cloud.KindPort:          func(id string) bool { _, there := s.Port(id); return there },
		cloud.KindVolume:        func(id string) bool { _, there := s.Volume(id); return there },
		cloud.KindServer:        func(id string) bool { _, there := s.Server(id); return there },
		cloud.KindFloatingIP:    func(id string) bool { _, there := s.FloatingIP(id); return there },
		cloud.KindLoadBalancer:  func(id string) bool { _, there := s.LoadBalancer(id); return there },
	}
	var there []cloud.Kind
	for kind, id := range ids {
		if look[kind](id) {
			there = append(there, kind)
		}
	}
	slices.Sort(there)
	return there
}

func kindsOf(ids map[cloud.Kind]string) []cloud.Kind { return slices.Sorted(maps.Keys(ids)) }

// writes are what was sent besides reading and logging in, in order.
func (p *project) writes() []string {
	var all []string
	for _, call := range p.sim.CallLog() {
		if call.Method != http.MethodGet && call.Service != "identity" {
			all = append(all, call.Method+" "+call.URL)
		}
	}
	return all
}

type listed struct {
	Kind, ID, Name, Cluster, Machine, Role string
	Created                                *metav1.Time
}

// orphans are the ids that the command lists.
func (w orphanWorld) orphans(t *testing.T, with ...string) []string {
	t.Helper()
	r := w.run(t, append([]string{"cloud", "orphans", "-o", "json"}, with...)...)
	var list []listed
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || r.code != 0 {
		t.Fatalf("%v: %+v", err, r)
	}
	var ids []string
	for _, o := range list {
		ids = append(ids, o.ID)
	}
	slices.Sort(ids)
	return ids
}

type orphanWorld struct {
	world
	project *project
}

func wantIDs(t *testing.T, what string, got, want []string) {
	t.Helper()
	if want = slices.Sorted(slices.Values(want)); !slices.Equal(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func TestOrphansOfACloud(t *testing.T) {
	w := orphanWorld{world{envtest.Start(t)}, newProject(t)}
	p := w.project
	there := p.infrastructure("there", "10.6.0.0/24", clusterThere, machineThere)
	gone := p.infrastructure("gone", "10.7.0.0/24", clusterGone, machineGone)
	office := p.infrastructure("office", "10.8.0.0/24", "", "")
	lost := must[cloud.Port](t)(p.CreatePort(t.Context(), cloud.PortRequest{Name: "lost", Mark: cloud.Mark{Cluster: clusterThere, Machine: machineGone, Role: "port-0"}, NetworkID: there[cloud.KindNetwork]})).ID
	p.clock.Advance(time.Since(p.clock.Now()))
	p.login()
	young := must[cloud.FloatingIP](t)(p.CreateFloatingIP(t.Context(), cloud.FloatingIPRequest{Mark: cloud.Mark{Cluster: clusterGone, Role: "young"}, FloatingNetworkID: must[[]cloud.Network](t)(p.ExternalNetworks(t.Context()))[0].ID})).ID
	w.setUpCluster(t)
	all := append(slices.Collect(maps.Values(gone)), lost, young)

	t.Run("what nobody owns is shown, and nothing is written", func(t *testing.T) {
		p.sim.ResetCalls()
		file := filepath.Join(t.TempDir(), "clouds.yaml")
		if err := os.WriteFile(file, p.yaml, 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("OS_CLIENT_CONFIG_FILE", file)
		t.Setenv("OS_CLOUD", "openstack")
		for name, with := range map[string][]string{
			"Site": {"--site", "tokyo"}, "SendanClusterIdentity": {"--identity", "tokyo", "--cloud", "openstack"},
			"Secret": {"--secret", "tokyo", "-n", system}, "OS_CLOUD": nil,
		} {
			wantIDs(t, "with the credentials of "+name, w.orphans(t, with...), all)
		}
		r := w.run(t, "cloud", "orphans", "--site", "tokyo")
		if lines := strings.Split(r.out, "\n"); strings.Join(strings.Fields(lines[0]), " ") != "KIND ID NAME CLUSTER-MARK AGE" ||
			strings.Join(strings.Fields(lines[1]), " ") != "server "+gone[cloud.KindServer]+" gone "+clusterGone+" 2d" {
			t.Errorf("the table begins\n%s", r.out)
		}
		if want := "Project " + p.ProjectID() + ": 22 objects carry a mark, 12 of them are orphans.\n"; r.errors != want {
			t.Errorf("told %q, want %q", r.errors, want)
		}
		if writes := p.writes(); len(writes) > 0 {
			t.Errorf("it sent %q", writes)
		}
	})
	t.Run("nothing is an orphan while not all can be listed", func(t *testing.T) {
		p.sim.ResetCalls()
		w.run(t, "cloud", "orphans", "--site", "tokyo", "--as", "mei").expect(t, 1, "",
			`sendan: get Site tokyo: sites.fleet.sendan.io "tokyo" is forbidden: User "mei" cannot get resource "sites" in API group "fleet.sendan.io" at the cluster scope`+"\n")
		w.allowIdentities(t, "mei")
		envtest.Eventually(t, timeout, func() error { // the authorizer learns of roles by a watch
			r := w.run(t, "cloud", "orphans", "--site", "tokyo", "--as", "mei", "--delete")
			return r.says(1, "", "sendan: the management cluster cannot be listed, so nothing is known to be an orphan:")
		})
		if err := p.sim.AddFault(simulator.Fault{Name: "volumes", Service: "volume", Method: http.MethodGet, Times: -1, Status: http.StatusForbidden}); err != nil {
			t.Fatal(err)
		}
		r := w.run(t, "cloud", "orphans", "--site", "tokyo", "--delete")
		if err := r.says(1, "", "sendan: project "+p.ProjectID()+" cannot be listed, so nothing is known to be an orphan: list volumes:"); err != nil {
			t.Error(err)
		}
		p.sim.ClearFaults("volumes")
		if writes := p.writes(); len(writes) > 0 {
			t.Errorf("it sent %q", writes)
		}
	})
	t.Run("what is old is deleted, in the order that the cloud insists on", func(t *testing.T) {
		p.sim.ResetCalls()
		r := w.run(t, "cloud", "orphans", "--site", "tokyo", "--delete", "--older-than", "24h")
		if r.code != 0 {
			t.Fatalf("%+v", r)
		}
		for _, line := range []string{
			"floating IP " + young + " (", "it is not older than 24h0m0s.\n", "server group " + gone[cloud.KindServerGroup], "the cloud does not tell its age.\n",
			"server " + gone[cloud.KindServer] + " (gone) is deleted.\n", "port " + lost + " (lost) is deleted.\n",
		} {
			if !strings.Contains(r.errors, line) {
				t.Errorf("it does not tell %q but\n%s", line, r.errors)
			}
		}
		order := []string{"/servers/", "/loadbalancers/", "/floatingips/", "/ports/", "/volumes/", "/remove_router_interface", "/routers/", "/subnets/", "/networks/", "/security-groups/"}
		last := 0
		for _, write := range p.writes() {
			at := slices.IndexFunc(order, func(part string) bool { return strings.Contains(write, part) })
			if at >= 0 && at < last {
				t.Errorf("%s came after %s", write, order[last])
			}
			last = max(last, at)
		}
		wantKinds(t, "of the cluster that is gone", p.holds(gone), []cloud.Kind{cloud.KindServerGroup})
		wantKinds(t, "of the cluster that is there", p.holds(there), kindsOf(there))
		wantKinds(t, "of the office", p.holds(office), kindsOf(office))
		wantKinds(t, "young", p.holds(map[cloud.Kind]string{cloud.KindFloatingIP: young}), []cloud.Kind{cloud.KindFloatingIP})
		wantKinds(t, "without its machine", p.holds(map[cloud.Kind]string{cloud.KindPort: lost}), nil)
	})
	t.Run("the next time there is nothing to do", func(t *testing.T) {
		p.sim.ResetCalls()
		wantIDs(t, "orphans", w.orphans(t, "--site", "tokyo", "--delete"), []string{young, gone[cloud.KindServerGroup]})
		if writes := p.writes(); len(writes) > 0 {
			t.Errorf("it sent %q", writes)
		}
	})
	t.Run("what cannot be deleted is told, and does not keep the rest", func(t *testing.T) {
		volume := must[cloud.Volume](t)(p.CreateVolume(t.Context(), cloud.VolumeRequest{Name: "stuck", Mark: cloud.Mark{Cluster: clusterGone, Role: "stuck"}, SizeGiB: 1}))
		if err := p.sim.AddFault(simulator.Fault{Name: "stuck", Service: "volume", Method: http.MethodDelete, Status: http.StatusBadRequest, Message: "it has snapshots"}); err != nil {
			t.Fatal(err)
		}
		r := w.run(t, "cloud", "orphans", "--site", "tokyo", "--delete", "--older-than", "1ns")
		if r.code != 1 || !strings.Contains(r.errors, "sendan: delete volume "+volume.ID+" (stuck):") || !strings.Contains(r.errors, "it has snapshots") {
			t.Errorf("%+v", r)
		}
		wantIDs(t, "orphans", w.orphans(t, "--site", "tokyo"), []string{volume.ID, gone[cloud.KindServerGroup]})
	})
	t.Run("a management cluster that has nothing there may be the wrong one", func(t *testing.T) {
		p.sim.ResetCalls()
		for _, object := range []client.Object{&infrav1.SendanCluster{}, &infrav1.SendanMachine{}} {
			if err := w.Client.DeleteAllOf(t.Context(), object, client.InNamespace(team)); err != nil {
				t.Fatal(err)
			}
		}
		r := w.run(t, "cloud", "orphans", "--site", "tokyo", "--delete")
		if r.code != 1 || !strings.Contains(r.errors, "sendan: no SendanCluster of this management cluster is in project "+p.ProjectID()) || len(p.writes()) > 0 {
			t.Errorf("%+v, it sent %q", r, p.writes())
		}
		if r := w.run(t, "cloud", "orphans", "--site", "tokyo", "--delete", "--project", p.ProjectID()); r.code != 0 {
			t.Errorf("%+v", r)
		}
		wantKinds(t, "of the cluster that was there", p.holds(there), []cloud.Kind{cloud.KindServerGroup})
		wantKinds(t, "of the office", p.holds(office), kindsOf(office))
	})
}

func wantKinds(t *testing.T, what string, got, want []cloud.Kind) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s there is %q, want %q", what, got, want)
	}
}

// says compares a result without the table.
func (r result) says(code int, out, errors string) error {
	if r.code != code || r.out != out || !strings.HasPrefix(r.errors, errors) {
		return fmt.Errorf("%+v, want code %d, output %q, errors %q", r, code, out, errors)
	}
	return nil
}

// setUpCluster makes a site with its credentials, and the one cluster and machine that are there.
func (w orphanWorld) setUpCluster(t *testing.T) {
	t.Helper()
	labels := map[string]string{clusterv1.ClusterNameLabel: "training"}
	owner := func(id string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: team, Name: "training", Labels: labels, Annotations: map[string]string{
			infrav1.OwnerIDAnnotation: id, infrav1.ProjectAnnotation: w.project.ProjectID() + "@" + w.project.Region(),
		}}
	}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: team}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: system, Name: "tokyo"}, Data: map[string][]byte{"clouds.yaml": w.project.yaml}},
		&infrav1.SendanClusterIdentity{ObjectMeta: metav1.ObjectMeta{Name: "tokyo"}, Spec: infrav1.SendanClusterIdentitySpec{SecretRef: infrav1.IdentitySecretReference{Namespace: system, Name: "tokyo"}}},
		&fleetv1.Site{ObjectMeta: metav1.ObjectMeta{Name: "tokyo"}, Spec: fleetv1.SiteSpec{IdentityRef: fleetv1.SiteIdentityReference{Name: "tokyo", CloudName: "openstack"}}},
		&infrav1.SendanCluster{ObjectMeta: owner(clusterThere), Spec: infrav1.SendanClusterSpec{
			IdentityRef: infrav1.IdentityReference{Name: "cloud", CloudName: "openstack"},
			Network:     infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}},
		}},
		&infrav1.SendanMachine{ObjectMeta: owner(machineThere), Spec: infrav1.SendanMachineSpec{Flavor: "m1.small", Image: infrav1.ResourceReference{Name: "ubuntu"}}},
	} {
		if err := w.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

// allowIdentities gives somebody the right to all but the clusters.
func (w orphanWorld) allowIdentities(t *testing.T, user string) {
	t.Helper()
	all := []string{"*"}
	for _, object := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"", "fleet.sendan.io"}, Resources: all, Verbs: all},
			{APIGroups: []string{infrav1.GroupVersion.Group}, Resources: []string{"sendanclusteridentities", "sendanclusters"}, Verbs: all},
		}},
		&rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: user}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
		},
	} {
		if err := w.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWrongUsageOfOrphansIsToldWithTheFix(t *testing.T) {
	for args, want := range map[string]string{
		"--older-than 1h":                 "--older-than and --project say what --delete deletes, which is not given",
		"--project 123":                   "--older-than and --project say what --delete deletes, which is not given",
		"--delete --older-than 0s":        "--older-than 0s: give a time above zero, such as 24h0m0s",
		"--site tokyo --identity tokyo":   "--site, --identity and --secret exclude each other",
		"--secret tokyo --identity tokyo": "--site, --identity and --secret exclude each other",
		"-o wide":                         `--output "wide" is not known: choose table, json, yaml`,
		"--delete --older-than 24":        `invalid argument "24" for "--older-than" flag: time: missing unit in duration "24"`,
	} {
		run(t, append([]string{"cloud", "orphans"}, strings.Fields(args)...)...).expect(t, 2, "", "sendan: "+want+"\n")
	}
}
