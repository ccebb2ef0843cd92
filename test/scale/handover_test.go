package scale

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	// cloudHost stands for the cloud. The managers reach it by a proxy, so that it is known which of them asks.
	cloudHost      = "cloud.example.org"
	leaseNamespace = "sendan-system"
	// takesOver is how long it takes at most until something is made that a manager left half done: the lease, and the time until
	// a listing counts after a call whose outcome is unknown.
	takesOver      = 2 * time.Minute
	killedMachines = 2
	frozenMachines = 1
	// killedAfter so many creating requests of each leader. Two, so that some of them are in the middle of what belongs together.
	killedAfter = 2
)

// TestLeaderIsKilled kills each leader right after a creating request took effect, before it hears of it, until nothing is left to
// make.
func TestLeaderIsKilled(t *testing.T) {
	h := newHandover(t, "calm", "stormy")
	leader, standby := h.replica(t, "first"), h.replica(t, "second")
	leader.start(t)
	leader.leads(t)
	standby.start(t)
	h.cluster(t, "calm", killedMachines)
	h.comesUp(t, "calm")

	for kills := 0; ; kills++ {
		if asked := standby.requests(); asked != 0 {
			t.Errorf("the standby asked the cloud %d times", asked)
		}
		leader.stopAtPost(killedAfter, syscall.SIGKILL)
		if kills == 0 {
			h.cluster(t, "stormy", killedMachines)
		}
		if !h.isStruckOrUp(t, leader, "stormy") {
			if kills < 3 {
				t.Errorf("only %d leaders were killed", kills)
			}
			break
		}
		leader.isKilled(t)
		standby.leads(t)
		leader.start(t)
		leader, standby = standby, leader
	}
	if calm, stormy := h.objectsOf(t, "calm"), h.objectsOf(t, "stormy"); !maps.Equal(calm, stormy) {
		t.Errorf("the cloud holds %v, want %v", stormy, calm)
	}
	h.remove(t, "calm", "stormy")
}

// TestLeaderIsFrozen stops a leader while a request for one of the first things is under way, as when its host is suspended, and lets it
// go on when another one has made the rest.
func TestLeaderIsFrozen(t *testing.T) {
	h := newHandover(t, "calm")
	leader, standby := h.replica(t, "first"), h.replica(t, "second")
	leader.start(t)
	leader.leads(t)
	standby.start(t)
	leader.stopAtSubnet(syscall.SIGSTOP)
	h.cluster(t, "calm", frozenMachines)
	if !h.isStruckOrUp(t, leader, "calm") {
		t.Fatal("the leader was not stopped")
	}
	standby.leads(t)
	h.comesUp(t, "calm")
	before := h.objectsOf(t, "calm")

	made := leader.creating()
	leader.goOn(t)
	if more := leader.creating()[len(made):]; len(more) > 0 {
		t.Errorf("after it had lost the lease it asked for %q", more)
	}
	if after := h.objectsOf(t, "calm"); !maps.Equal(before, after) || after["servers"] != frozenMachines {
		t.Errorf("the cloud holds %v, before the old leader went on it held %v", after, before)
	}
	h.remove(t, "calm")
}

// handover is a management cluster with a cloud.
type handover struct {
	*envtest.Env
	sim     *simulator.Simulator
	program string
}

func newHandover(t *testing.T, projects ...string) *handover {
	t.Helper()
	scenario := simulator.DefaultScenario()
	for _, name := range projects {
		scenario.AddTenant(name)
	}
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Clock: clockwork.NewRealClock(), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	h := &handover{Env: envtest.Start(t), sim: sim, program: buildProgram(t, "infrastructure-manager")}
	h.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: leaseNamespace}})
	return h
}

func (h *handover) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := h.Client.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

// cluster makes one in a namespace and a project of the same name.
func (h *handover) cluster(t *testing.T, name string, machines int) {
	t.Helper()
	account, err := h.sim.Account(name, name)
	if err != nil {
		t.Fatal(err)
	}
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: infrastructure, Kind: "SendanCluster", Name: name}
	h.create(t,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "cloud"}, Data: map[string][]byte{"clouds.yaml": account.CloudsYAML("http://"+cloudHost, "sim")}},
		cluster,
	)
	infra := &infrav1.SendanCluster{ObjectMeta: infraMeta(cluster, "Cluster", name)}
	infra.Spec.IdentityRef = infrav1.IdentityReference{Name: "cloud", CloudName: "sim"}
	infra.Spec.Network.Managed = &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}
	h.create(t, infra)
	for i := range machines {
		h.machine(t, name, fmt.Sprint(name, "-", i))
	}
}

func (h *handover) machine(t *testing.T, cluster, name string) {
	t.Helper()
	machine := &clusterv1.Machine{
		ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: name, Labels: map[string]string{clusterv1.ClusterNameLabel: cluster}},
		Spec: clusterv1.MachineSpec{
			ClusterName: cluster, Bootstrap: clusterv1.Bootstrap{DataSecretName: ptr.To(name)},
			InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrastructure, Kind: "SendanMachine", Name: name},
		},
	}
	h.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: cluster, Name: name}, Data: map[string][]byte{"value": []byte("#cloud-config\n")}}, machine)
	infra := &infrav1.SendanMachine{ObjectMeta: infraMeta(machine, "Machine", cluster)}
	infra.Spec = infrav1.SendanMachineSpec{Flavor: "m1.small", Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-v1.36.3"}}
	h.create(t, infra)
}

// infraMeta is how Cluster API refers from an object of the infrastructure to its own, which has the same name.
func infraMeta(owner client.Object, kind, cluster string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: owner.GetNamespace(), Name: owner.GetName(), Labels: map[string]string{clusterv1.ClusterNameLabel: cluster},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: kind, Name: owner.GetName(), UID: owner.GetUID()}},
	}
}

func (h *handover) comesUp(t *testing.T, name string) {
	t.Helper()
	envtest.Eventually(t, takesOver, func() error { return h.notUp(t, name) })
}

// isStruckOrUp waits for whatever comes first: that the leader is stopped, or that there is nothing left for it to make.
func (h *handover) isStruckOrUp(t *testing.T, leader *replica, name string) (isStruck bool) {
	t.Helper()
	envtest.Eventually(t, takesOver, func() error {
		if isStruck = leader.isStruck(); isStruck {
			return nil
		}
		return h.notUp(t, name)
	})
	return isStruck
}

// notUp tells what a cluster lacks. In passing it tells its Cluster that there is infrastructure, as Cluster API does.
func (h *handover) notUp(t *testing.T, name string) error {
	infra, cluster := &infrav1.SendanCluster{}, &clusterv1.Cluster{}
	for _, object := range []client.Object{infra, cluster} {
		if err := h.Client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: name}, object); err != nil {
			return err
		}
	}
	if !ptr.Deref(infra.Status.Initialization.Provisioned, false) {
		return fmt.Errorf("cluster %s is not provisioned: %+v", name, infra.Status.Conditions)
	}
	if !ptr.Deref(cluster.Status.Initialization.InfrastructureProvisioned, false) {
		cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
		if err := h.Client.Status().Update(t.Context(), cluster); err != nil {
			return err
		}
	}
	machines := &infrav1.SendanMachineList{}
	if err := h.Client.List(t.Context(), machines, client.InNamespace(name)); err != nil {
		return err
	}
	for _, machine := range machines.Items {
		if machine.Spec.ProviderID == "" {
			return fmt.Errorf("machine %s does not run: %+v", machine.Name, machine.Status.Conditions)
		}
	}
	return nil
}

// objectsOf counts what a project holds, by type.
func (h *handover) objectsOf(t *testing.T, project string) simulator.ObjectCount {
	t.Helper()
	account, err := h.sim.Account(project, project)
	if err != nil {
		t.Fatal(err)
	}
	return h.sim.Objects().Projects[account.ProjectID].Objects
}

// remove deletes clusters, machines first, and looks that nothing of them is left.
func (h *handover) remove(t *testing.T, names ...string) {
	t.Helper()
	for _, kind := range []client.Object{&infrav1.SendanMachine{}, &infrav1.SendanCluster{}} {
		for _, name := range names {
			if err := h.Client.DeleteAllOf(t.Context(), kind, client.InNamespace(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range names {
		envtest.Eventually(t, takesOver, func() error {
			if err := h.Client.Get(t.Context(), client.ObjectKey{Namespace: name, Name: name}, &infrav1.SendanCluster{}); err != nil {
				return client.IgnoreNotFound(err)
			}
			return fmt.Errorf("SendanCluster %s is still there", name)
		})
		if left := h.objectsOf(t, name); left.Sum() != 0 {
			t.Errorf("of cluster %s the cloud still holds %v", name, left)
		}
	}
}

// replica is one process of the provider. Its way to the cloud counts what it asks for, and stops it at a chosen moment.
type replica struct {
	*manager
	sim    *simulator.Simulator
	resume chan struct{} // lets the answers go that a frozen process waits for

	mu      sync.Mutex
	pid     int
	asked   int
	posts   []string // the paths of what was to be made
	strikes func(*http.Request) bool
	signal  syscall.Signal
}

func (h *handover) replica(t *testing.T, name string) *replica {
	t.Helper()
	r := &replica{sim: h.sim, resume: make(chan struct{})}
	way := httptest.NewServer(r)
	t.Cleanup(way.Close)
	program := filepath.Join(t.TempDir(), name)
	text := fmt.Sprintf("#!/bin/sh\nHTTP_PROXY=%s exec %s \"$@\"\n", way.URL, h.program)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil { //nolint:gosec // it has to be executable
		t.Fatal(err)
	}
	r.manager = newManager(t, h.Env, program, "--inventory-poll-building=200ms", "--leader-elect", "--leader-elect-namespace="+leaseNamespace,
		"--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=500ms")
	return r
}

func (r *replica) start(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	r.asked, r.posts, r.strikes = 0, nil, nil
	r.mu.Unlock()
	r.manager.start(t)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pid = r.command.Process.Pid
}

// leads waits until the process is the leader.
func (r *replica) leads(t *testing.T) {
	t.Helper()
	envtest.Eventually(t, takesOver, func() error {
		text, err := fetch(t.Context(), r.diagnostics, "/metrics")
		if err != nil {
			return err
		}
		for _, series := range metric(t, text, "leader_election_master_status") {
			if series.GetGauge().GetValue() == 1 {
				return nil
			}
		}
		return fmt.Errorf("%s does not lead", r.name())
	})
}

func (r *replica) requests() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *replica) creating() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.posts)
}

func (r *replica) isStruck() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pid == 0
}

// stopAtPost sends a signal when that many more creating requests have taken effect.
func (r *replica) stopAtPost(more int, signal syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	at := len(r.posts) + more
	r.signal, r.strikes = signal, func(*http.Request) bool { return len(r.posts) == at }
}

// stopAtSubnet sends a signal when a subnet has been made.
func (r *replica) stopAtSubnet(signal syscall.Signal) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.signal, r.strikes = signal, func(request *http.Request) bool { return strings.HasSuffix(request.URL.Path, "/subnets") }
}

// ServeHTTP is the process's way to the cloud.
func (r *replica) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if !r.isFatal(request) {
		r.sim.ServeHTTP(w, request)
		return
	}
	answer := httptest.NewRecorder()
	r.sim.ServeHTTP(answer, request)
	r.strike()
	select {
	case <-r.resume:
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = io.Copy(w, answer.Body)
	case <-request.Context().Done():
	}
}

// isFatal counts a request and reports whether the process is to be stopped at it.
func (r *replica) isFatal(request *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	if request.Method != http.MethodPost || strings.Contains(request.URL.Path, "/identity/") {
		return false
	}
	r.posts = append(r.posts, request.URL.Path)
	return r.pid != 0 && r.strikes != nil && r.strikes(request)
}

func (r *replica) strike() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pid != 0 {
		_ = syscall.Kill(r.pid, r.signal)
		r.pid = 0
	}
}

// isKilled waits for the end of a process that was killed.
func (r *replica) isKilled(t *testing.T) {
	t.Helper()
	if err := r.command.Wait(); err == nil {
		t.Errorf("%s was not killed", r.name())
	}
	r.command = nil
}

// goOn continues a frozen process, which then gets its answer. It has to end by itself, since it leads no more.
func (r *replica) goOn(t *testing.T) {
	t.Helper()
	if err := r.command.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	close(r.resume)
	kill := time.AfterFunc(stopsWithin, func() { _ = r.command.Process.Kill() })
	defer kill.Stop()
	err := r.command.Wait()
	if r.command.ProcessState.ExitCode() <= 0 {
		t.Errorf("%s did not end with an error after it had lost the lease: %v", r.name(), err)
	}
	r.command = nil
}
