package memory

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// restarted is the tenant in a backend that goes on from what the tenant's own saved. Its load balancer has another
// port, while its machines know the cluster by the endpoint they always knew.
func (tn *tenant) restarted(options Options) *tenant {
	tn.t.Helper()
	saved, err := tn.backend.SaveServers()
	if err != nil {
		tn.t.Fatal(err)
	}
	tn.backend.Close()
	again := &tenant{t: tn.t, backend: newBackend(tn.t, options), certs: tn.certs, members: tn.members}
	ids, err := again.backend.RestoreServers(saved)
	if err != nil {
		tn.t.Fatal(err)
	}
	if len(ids) != len(tn.backend.machines) {
		tn.t.Fatalf("restored %v, want %d servers", ids, len(tn.backend.machines))
	}
	again.endpoint = again.listen()
	return again
}

func nodeUIDs(nodes []corev1.Node) map[string]types.UID {
	uids := map[string]types.UID{}
	for _, node := range nodes {
		uids[node.Name] = node.UID
	}
	return uids
}

func TestARestartedClusterHasItsNodesMembersAndObjectsAndGoesOn(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	nodes := nodeUIDs(tn.waitForReadyNodes(4))
	_, members, err := tn.etcdMembers("cp-1")
	if err != nil {
		t.Fatal(err)
	}

	again := tn.restarted(quick())
	// Everything is there at once: nobody sees a cluster that is away.
	list, err := again.client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := nodeUIDs(list.Items); !maps.Equal(got, nodes) {
		t.Errorf("nodes %v, want %v", got, nodes)
	}
	again.waitForReadyNodes(4)
	if _, got, err := again.etcdMembers("cp-2"); err != nil || !maps.Equal(got, members) {
		t.Errorf("etcd members %v, error %v; want %v", got, err, members)
	}
	for _, id := range []string{"id-cp-0", "id-gpu-0"} {
		if console := again.backend.ConsoleLog(id); strings.Count(console, "Linux version") != 1 {
			t.Errorf("server %s booted more than once:\n%s", id, console)
		}
	}

	id := again.boot("late", tn.workerUserData())
	if nodes := again.waitForReadyNodes(5); len(nodeUIDs(nodes)) != 5 {
		t.Errorf("two nodes share a name or an identity: %v", nodes)
	}
	if err := again.backend.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := again.removeMember("cp-1", members["cp-0"]); err != nil {
		t.Errorf("remove member: %v", err)
	}
}

func TestAnEtcdMemberOutlivesItsMachineOverARestart(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	if err := tn.backend.Destroy(t.Context(), "id-cp-2"); err != nil {
		t.Fatal(err)
	}
	tn.members = tn.members[:2]
	again := tn.restarted(quick())
	names, ids, err := again.etcdMembers("cp-0")
	if err != nil || len(names) != 3 {
		t.Fatalf("members %v, error %v; want three", names, err)
	}
	if err := again.removeMember("cp-0", ids["cp-2"]); err != nil {
		t.Errorf("remove the member without a machine: %v", err)
	}
	waitFor(t, "the lost node is Unknown", func() error { return again.readyIs("cp-2", corev1.ConditionUnknown) })
}

func (tn *tenant) readyIs(name string, want corev1.ConditionStatus) error {
	node, err := tn.client().CoreV1().Nodes().Get(tn.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady && c.Status == want {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready=%s: %v", name, want, node.Status.Conditions)
}

func TestAMachineThatIsOffStaysOffOverARestartUntilPoweredOn(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	if err := tn.backend.PowerOff(t.Context(), "id-gpu-0"); err != nil {
		t.Fatal(err)
	}
	again := tn.restarted(quick())
	waitFor(t, "the silent node is Unknown", func() error { return again.readyIs("gpu-0", corev1.ConditionUnknown) })
	if err := again.backend.PowerOn(t.Context(), "id-gpu-0"); err != nil {
		t.Fatal(err)
	}
	again.waitForReadyNodes(4)
}

func TestABootThatWasNotFinishedGoesOnAfterARestart(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	worker := tn.boot("w-0", tn.workerUserData())
	waitFor(t, "the join waits", onConsole(tn.backend, worker, "no API server answers"))
	again := tn.restarted(quick())
	// The machine waits for the endpoint in its user data.
	control := &tenant{t: t, backend: again.backend, certs: tn.certs, endpoint: tn.endpoint}
	control.bootControlPlane("cp-0", control.initUserData())
	again.members = control.members
	again.createToken(time.Now().Add(time.Hour))
	again.waitForReadyNodes(2)
}

func TestStateThatIsNoStateIsRefused(t *testing.T) {
	for _, text := range []string{"", "hello", `{"machines":[{"spec":{"ServerID":"a"},"cluster":3}],"random":"cGNnOgAAAAAAAAAAAAAAAAAAAAA="}`} {
		if _, err := newBackend(t, quick()).RestoreServers([]byte(text)); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}
