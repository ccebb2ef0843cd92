package controllers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// misfortune is one thing that goes wrong, what the user is told, and how it ends.
type misfortune struct {
	name     string
	scenario func(*simulator.Scenario)
	cluster  func(*infrav1.SendanCluster)
	machine  func(*infrav1.SendanMachine)
	// before goes wrong before anything is made, late once all is ready.
	before, late func(*world)
	// condition of the cluster, or of the machine when onMachine, with reason (any when empty) and parts
	// of its message.
	onMachine         bool
	condition, reason string
	message           []string
	// cure ends the cause; the rest has to follow without a person. Nil: only a new object helps.
	cure func(*world)
}

const worker = "one-worker-0"

func misfortunes() []misfortune {
	return []misfortune{
		{
			name: "unknown flavor", onMachine: true,
			machine:   func(m *infrav1.SendanMachine) { m.Spec.Flavor = "m1.tiny" },
			condition: infrav1.ServerReadyCondition, reason: infrav1.ConfigReason, message: []string{"m1.tiny", "m1.small"},
		},
		{
			name: "unknown image", onMachine: true,
			machine:   func(m *infrav1.SendanMachine) { m.Spec.Image = infrav1.ResourceReference{Name: "new-image"} },
			condition: infrav1.ServerReadyCondition, reason: infrav1.ConfigReason, message: []string{"new-image", "ubuntu-24.04"},
			cure: func(w *world) { w.sim.AddImage(simulator.Image{Name: "new-image"}) },
		},
		{
			name: "image filter matches several", onMachine: true,
			scenario: func(s *simulator.Scenario) {
				s.Images = append(s.Images, simulator.Image{Name: "twin", ID: "11111111-1111-4111-8111-111111111111"}, simulator.Image{Name: "twin", ID: "22222222-2222-4222-8222-222222222222"})
			},
			machine:   func(m *infrav1.SendanMachine) { m.Spec.Image = infrav1.ResourceReference{Name: "twin"} },
			condition: infrav1.ServerReadyCondition, reason: infrav1.ConfigReason, message: []string{"twin", "11111111", "22222222"},
			cure: func(w *world) { w.must(w.sim.RemoveImage("11111111-1111-4111-8111-111111111111")) },
		},
		{
			name: "unknown network",
			cluster: func(c *infrav1.SendanCluster) {
				c.Spec.Network = infrav1.ClusterNetwork{Existing: &infrav1.ExistingNetwork{Network: infrav1.ResourceReference{Name: "office"}}}
			},
			condition: infrav1.NetworkReadyCondition, reason: infrav1.ConfigReason, message: []string{"office"},
		},
		{
			name: "unknown external network",
			cluster: func(c *infrav1.SendanCluster) {
				c.Spec.Network.Managed.ExternalNetwork = infrav1.ResourceReference{Name: "internet"}
			},
			condition: infrav1.NetworkReadyCondition, reason: infrav1.ConfigReason, message: []string{"spec.network.managed.externalNetwork", "internet", "public"},
		},
		{
			name:      "unknown identity",
			cluster:   func(c *infrav1.SendanCluster) { c.Spec.IdentityRef.Name = "later" },
			condition: infrav1.IdentityReadyCondition, reason: infrav1.ConfigReason, message: []string{"later", "does not exist"},
			cure: func(w *world) {
				w.must(w.client.Create(context.Background(), &corev1.Secret{
					ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: "later"},
					Data:       map[string][]byte{secretKeyClouds: w.sim.CloudsYAML(w.url, "sim")},
				}))
			},
		},
		{
			name: "identity not allowed in the namespace",
			before: func(w *world) {
				w.must(w.client.Create(context.Background(), &infrav1.SendanClusterIdentity{
					ObjectMeta: metav1.ObjectMeta{Name: "shared"},
					Spec: infrav1.SendanClusterIdentitySpec{
						SecretRef:         infrav1.IdentitySecretReference{Namespace: "tenant", Name: secretName},
						NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"gpu": "yes"}},
					},
				}))
			},
			cluster: func(c *infrav1.SendanCluster) {
				c.Spec.IdentityRef.Kind, c.Spec.IdentityRef.Name = infrav1.IdentityClusterIdentity, "shared"
			},
			condition: infrav1.IdentityReadyCondition, reason: infrav1.IdentityNotAllowedReason, message: []string{"shared", "tenant", "namespaceSelector"},
			cure: func(w *world) {
				ns := &corev1.Namespace{}
				w.must(w.client.Get(context.Background(), types.NamespacedName{Name: "tenant"}, ns))
				ns.Labels = map[string]string{"gpu": "yes"}
				w.must(w.client.Update(context.Background(), ns))
			},
		},
		{
			name:      "clouds.yaml malformed",
			before:    func(w *world) { w.setClouds("clouds: [") },
			condition: infrav1.IdentityReadyCondition, reason: infrav1.ConfigReason, message: []string{"clouds.yaml"},
			cure: func(w *world) { w.setClouds(string(w.sim.CloudsYAML(w.url, "sim"))) },
		},
		{
			name:      "cloud not in clouds.yaml",
			cluster:   func(c *infrav1.SendanCluster) { c.Spec.IdentityRef.CloudName = "moon" },
			condition: infrav1.IdentityReadyCondition, reason: infrav1.ConfigReason, message: []string{"moon", "sim"},
		},
		{
			name:      "expired password",
			before:    func(w *world) { w.must(w.sim.SetPassword("demo", "changed")) },
			condition: infrav1.IdentityReadyCondition, reason: infrav1.AuthReason, message: []string{"401"},
			cure: func(w *world) { w.must(w.sim.SetPassword("demo", "demo")) },
		},
		{
			name: "credential revoked while in use",
			late: func(w *world) {
				w.must(w.sim.SetPassword("demo", "changed"))
				w.sim.RevokeTokens("")
			},
			condition: infrav1.IdentityReadyCondition, reason: infrav1.AuthReason, message: []string{"401"},
			cure: func(w *world) { w.must(w.sim.SetPassword("demo", "demo")) },
		},
		{
			name: "wrong project",
			before: func(w *world) {
				w.setClouds(strings.ReplaceAll(string(w.sim.CloudsYAML(w.url, "sim")), `project_name: "demo"`, `project_name: "nope"`))
			},
			condition: infrav1.IdentityReadyCondition, reason: infrav1.AuthReason, message: []string{"401"},
			cure: func(w *world) { w.setClouds(string(w.sim.CloudsYAML(w.url, "sim"))) },
		},
		{
			name: "credentials of another project",
			late: func(w *world) {
				admin, err := w.sim.Account("admin", "admin")
				w.must(err)
				w.setClouds(string(admin.CloudsYAML(w.url, "sim")))
			},
			condition: infrav1.IdentityReadyCondition, reason: infrav1.SuspiciousReason, message: []string{"lead to project", infrav1.ProjectAnnotation},
			cure: func(w *world) { w.setClouds(string(w.sim.CloudsYAML(w.url, "sim"))) },
		},
		{
			name: "looking up the image is forbidden", onMachine: true,
			before: func(w *world) {
				w.must(w.sim.AddFault(simulator.Fault{Name: "forbidden", Service: "image", Times: -1, Status: http.StatusForbidden}))
			},
			condition: infrav1.ServerReadyCondition, reason: infrav1.AuthReason, message: []string{"403", "req-"},
			cure: func(w *world) { w.sim.ClearFaults("forbidden") },
		},
		{
			name:      "quota exceeded",
			before:    func(w *world) { w.must(w.sim.SetQuota("demo", "instances", 1)) },
			onMachine: true, condition: infrav1.ServerReadyCondition, reason: infrav1.QuotaReason, message: []string{"Quota exceeded for instances", "req-"},
			cure: func(w *world) { w.must(w.sim.SetQuota("demo", "instances", 10)) },
		},
		{
			name:      "network quota exceeded",
			before:    func(w *world) { w.must(w.sim.SetQuota("demo", "network", 0)) },
			condition: infrav1.NetworkReadyCondition, reason: infrav1.QuotaReason, message: []string{"network", "req-"},
			cure: func(w *world) { w.must(w.sim.SetQuota("demo", "network", 10)) },
		},
		{
			name: "no valid host", onMachine: true,
			machine: func(m *infrav1.SendanMachine) { m.Spec.Flavor = "g1.h100.8" },
			before: func(w *world) {
				for _, host := range w.sim.Hosts() {
					if strings.HasPrefix(host.Name, "h100") {
						w.must(w.sim.SetHost(host.Name, simulator.HostChange{Disabled: ptr.To(true)}))
					}
				}
			},
			condition: infrav1.ServerReadyCondition, reason: infrav1.CapacityReason, message: []string{"No valid host was found"},
			cure: func(w *world) {
				for _, host := range w.sim.Hosts() {
					w.must(w.sim.SetHost(host.Name, simulator.HostChange{Disabled: ptr.To(false)}))
				}
			},
		},
		{
			name: "build ends in ERROR", onMachine: true,
			before: func(w *world) {
				w.must(w.sim.AddBuildFault(simulator.BuildFault{Name: "broken", Times: -1, Message: "Build of instance aborted: the disk is on fire"}))
			},
			condition: infrav1.ServerReadyCondition, reason: infrav1.TransientReason, message: []string{"the disk is on fire"},
			cure: func(w *world) { w.sim.ClearFaults("broken") },
		},
		{
			name: "running server goes to ERROR", onMachine: true,
			late: func(w *world) {
				w.must(w.sim.SetServer(w.machine("tenant", worker).Status.Server.ID, simulator.ServerChange{Status: "ERROR", Fault: "the hypervisor fell over"}))
			},
			condition: infrav1.ServerReadyCondition, reason: infrav1.ServerErrorReason, message: []string{"the hypervisor fell over"},
			cure: func(w *world) {
				w.must(w.sim.SetServer(w.machine("tenant", worker).Status.Server.ID, simulator.ServerChange{Status: "ACTIVE"}))
			},
		},
		{
			name: "server stopped out of band", onMachine: true,
			late: func(w *world) {
				w.must(w.sim.SetServer(w.machine("tenant", worker).Status.Server.ID, simulator.ServerChange{Status: "SHUTOFF"}))
			},
			condition: infrav1.ServerReadyCondition, reason: infrav1.ServerNotActiveReason, message: []string{"SHUTOFF"},
			cure: func(w *world) {
				w.must(w.sim.SetServer(w.machine("tenant", worker).Status.Server.ID, simulator.ServerChange{Status: "ACTIVE"}))
			},
		},
		{
			name: "server deleted out of band", onMachine: true,
			late:      func(w *world) { w.must(w.sim.LoseServer(w.machine("tenant", worker).Status.Server.ID)) },
			condition: infrav1.ServerReadyCondition, reason: infrav1.MissingReason, message: []string{"was deleted in the cloud", "MachineHealthCheck"},
		},
		{
			name: "port deleted out of band", onMachine: true,
			late: func(w *world) {
				intruder := w.intruder()
				for _, port := range intruder.Inventory().Snapshot().PortsOf(cloud.Mark{Cluster: w.cluster("tenant", "one").Annotations[infrav1.OwnerIDAnnotation], Machine: w.machine("tenant", worker).Annotations[infrav1.OwnerIDAnnotation]}) {
					w.must(intruder.DeletePort(context.Background(), port.ID))
				}
			},
			condition: infrav1.PortsReadyCondition, reason: infrav1.MissingReason, message: []string{"Port 0"},
		},
		{
			name: "load balancer deleted out of band",
			late: func(w *world) {
				w.must(w.intruder().DeleteLoadBalancer(context.Background(), w.cluster("tenant", "one").Status.Endpoint.LoadBalancerID))
			},
			// Which reason comes first depends on what is listed first.
			condition: infrav1.EndpointReadyCondition,
			cure:      func(*world) {},
		},
		{
			name: "new load balancer goes to ERROR",
			late: func(w *world) {
				w.must(w.sim.SetLoadBalancer(w.cluster("tenant", "one").Status.Endpoint.LoadBalancerID, simulator.LoadBalancerChange{ProvisioningStatus: "ERROR", OperatingStatus: "ERROR"}))
			},
			condition: infrav1.EndpointReadyCondition, reason: infrav1.LoadBalancerErrorReason, message: []string{"ERROR"},
			cure: func(*world) {},
		},
		{
			name: "every call to Neutron fails",
			before: func(w *world) {
				w.must(w.sim.AddFault(simulator.Fault{Name: "down", Service: "network", Method: http.MethodPost, Times: -1, Status: http.StatusInternalServerError}))
			},
			condition: infrav1.NetworkReadyCondition, reason: infrav1.TransientReason, message: []string{"create network", "500"},
			cure: func(w *world) { w.sim.ClearFaults("down") },
		},
	}
}

func TestMisfortunesAreToldAndPassByThemselves(t *testing.T) {
	for _, m := range misfortunes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			var changes []func(*simulator.Scenario)
			if m.scenario != nil {
				changes = append(changes, m.scenario)
			}
			w := newWorld(t, changes...)
			w.addNamespace("tenant")
			if m.before != nil {
				m.before(w)
			}
			w.addCluster("tenant", "one", with(m.cluster)...)
			w.addMachine("tenant", "one", "one-cp-0", controlPlane)
			w.addMachine("tenant", "one", worker, with(m.machine)...)
			if m.late != nil {
				w.run("all ready", 20*time.Minute, w.allReady)
				w.pass(time.Minute)
				m.late(w)
			}
			w.run(m.condition+" tells "+m.reason, 20*time.Minute, func() bool { return m.isTold(w) })
			w.assertCalm(m)
			switch {
			case m.cure != nil:
				m.cure(w)
				w.run("recovered", 30*time.Minute, w.allReady)
			case !m.isTold(w):
				t.Errorf("no longer told:\n%s", w.describe())
			}
			w.removeAll()
			w.run("all gone", 30*time.Minute, w.allGone)
			assertNothingLeft(t, w)
		})
	}
}

func with[T any](change func(T)) []func(T) {
	if change == nil {
		return nil
	}
	return []func(T){change}
}

func (m misfortune) isTold(w *world) bool {
	var getter conditions.Getter = w.cluster("tenant", "one")
	if m.onMachine {
		getter = w.machine("tenant", worker)
	}
	c := conditions.Get(getter, m.condition)
	if c == nil || c.Status != metav1.ConditionFalse || m.reason != "" && c.Reason != m.reason {
		return false
	}
	return !slices.ContainsFunc(m.message, func(part string) bool { return !strings.Contains(c.Message, part) })
}

// assertCalm lets half an hour go by: what cannot be helped must not be tried again and again.
func (w *world) assertCalm(m misfortune) {
	w.t.Helper()
	w.resetCalls()
	before := w.reconciles[kindCluster] + w.reconciles[kindMachine]
	w.pass(30 * time.Minute)
	// Twelve failed builds of four calls would be one every two and a half minutes.
	if calls := w.ownCalls(); calls > 48 {
		w.t.Errorf("%s: %d calls in half an hour", m.name, calls)
		for _, row := range w.sim.Calls() {
			w.t.Logf("%4d  %s %s %s → %d", row.Count, row.Service, row.Method, row.Path, row.Status)
		}
	}
	if n := w.reconciles[kindCluster] + w.reconciles[kindMachine] - before; n > 400 {
		w.t.Errorf("%s: %d reconciles in half an hour", m.name, n)
	}
}

// What leads elsewhere sees nothing, and nothing must not read as deleted.
func TestNothingIsReleasedWhileTheCredentialsLeadToAnotherProject(t *testing.T) {
	w := newWorld(t)
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)
	before := w.sim.Objects().Total
	admin, err := w.sim.Account("admin", "admin")
	w.must(err)
	w.setClouds(string(admin.CloudsYAML(w.url, "sim")))
	w.removeAll()
	w.pass(time.Hour)
	if len(w.machines()) != 2 || len(w.clusters()) != 1 {
		t.Errorf("released although nothing was deleted:\n%s", w.describe())
	}
	assertSame(t, w, before)
	w.setClouds(string(w.sim.CloudsYAML(w.url, "sim")))
	w.run("all gone", 20*time.Minute, w.allGone)
	assertNothingLeft(t, w)
}

func TestObjectsThatVanishAtOnceHoldTheClusterUntilAPersonConfirmsIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.sim.SetQuota("demo", "instances", 20))
	w.must(w.sim.SetQuota("demo", "cores", 200))
	w.must(w.sim.SetQuota("demo", "ram", 1<<20))
	w.addCluster("tenant", "one")
	for i := range 12 {
		w.addMachine("tenant", "one", fmt.Sprint("one-worker-", i))
	}
	w.run("all ready", 20*time.Minute, w.allReady)
	w.pass(time.Minute)
	empty := plan(func(_ int64, r *http.Request) blow {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/v2.0/ports") {
			return blow{}
		}
		return blow{name: "empty", strike: func(_ *world, rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", "application/json")
			_, _ = rw.Write([]byte(`{"ports": []}`))
		}}
	})
	w.plan.Store(&empty)
	isHeld := func() bool {
		return w.condition(w.cluster("tenant", "one"), infrav1.IdentityReadyCondition).Reason == infrav1.SuspiciousReason
	}
	w.run("held", time.Hour, isHeld)
	w.resetCalls()
	w.pass(3 * time.Hour)
	if !isHeld() {
		t.Error("it is not held any more, although nobody confirmed anything")
	}
	for _, call := range w.sim.CallLog() {
		if call.Method != http.MethodGet && !strings.HasSuffix(call.URL, "/v3/auth/tokens") {
			t.Errorf("meanwhile it called %s %s", call.Method, call.URL)
		}
	}
	warnings := 0
	for len(w.told.Events) > 0 {
		if strings.HasPrefix(<-w.told.Events, "Warning Suspicious 12 of 12 ports of ours are missing") {
			warnings++
		}
	}
	wantEqual(t, "Events of it", warnings, 1)

	c := w.cluster("tenant", "one")
	c.Annotations[infrav1.MissingConfirmedAnnotation] = w.clock.Now().Add(time.Hour).Format(time.RFC3339)
	w.must(w.client.Update(context.Background(), c))
	w.pass(10 * time.Minute)
	if !isHeld() {
		t.Error("somebody confirmed what has not happened yet")
	}
	c = w.cluster("tenant", "one")
	c.Annotations[infrav1.MissingConfirmedAnnotation] = w.clock.Now().Format(time.RFC3339)
	w.must(w.client.Update(context.Background(), c))
	w.run("released", 10*time.Minute, func() bool { return !isHeld() })
}

func TestReadyOutlivesARestartOfTheManager(t *testing.T) {
	w := newWorld(t)
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	w.pass(time.Minute)
	w.start()
	w.run("listed again", 5*time.Minute, func() bool {
		if !w.allReady() || w.machine("tenant", worker).Status.Phase != infrav1.PhaseRunning {
			t.Fatalf("a restart shook what works:\n%s", w.describe())
		}
		return len(w.process.open) == 1 && w.process.open[0].Snapshot().Fresh(cloud.KindServer, cloud.KindSecurityGroup)
	})
}

// setClouds replaces the credentials of the tenant.
func (w *world) setClouds(text string) {
	secret := &corev1.Secret{}
	w.must(w.client.Get(context.Background(), types.NamespacedName{Namespace: "tenant", Name: secretName}, secret))
	secret.Data[secretKeyClouds] = []byte(text)
	w.must(w.client.Update(context.Background(), secret))
}

// intruder is somebody else with the same credentials.
func (w *world) intruder() *cloud.Session {
	w.t.Helper()
	identity, err := cloud.ParseCloudsYAML(w.sim.CloudsYAML(w.url, "sim"), "sim")
	w.must(err)
	sessions := cloud.NewSessions(cloud.Options{Clock: w.clock, ManualPolling: true, RequestsPerSecond: 1e6, Burst: 1e6})
	session, err := sessions.Get(context.Background(), identity)
	w.must(err)
	w.must(session.Inventory().Poll(context.Background()))
	return session
}

func TestAPoolLargerThanAServerGroupMayBeStillGetsItsMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must(w.sim.SetQuota("demo", "server_group_members", 1))
	w.addCluster("tenant", "one")
	w.addMachine("tenant", "one", "one-worker-0")
	w.addMachine("tenant", "one", "one-worker-1")
	w.run("all ready", 15*time.Minute, w.allReady)
}

func TestAMachineWhoseClusterIsGoneSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.creating("tenant", "one")
	w.run("all ready", 10*time.Minute, w.allReady)
	ctx := context.Background()
	w.must(w.client.Delete(ctx, &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "tenant", Name: "one"}}))
	w.remove(w.machine("tenant", worker))
	w.run("told", 5*time.Minute, func() bool {
		c := conditions.Get(w.machine("tenant", worker), infrav1.DeletingCondition)
		return c != nil && c.Reason == infrav1.WaitingForInfrastructureReason && strings.Contains(c.Message, infrav1.MachineFinalizer)
	})
}
