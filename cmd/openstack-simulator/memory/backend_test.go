package memory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	"sigs.k8s.io/cluster-api/controlplane/kubeadm/pkg/proxy"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
)

// etcdClient connects as the kubeadm control-plane provider does, with its dialer.
func (tn *tenant) etcdClient(nodeName string) (*clientv3.Client, error) {
	dialer, err := proxy.NewDialer(proxy.Proxy{Kind: "pods", Namespace: metav1.NamespaceSystem, KubeConfig: tn.config(), Port: etcdPort})
	if err != nil {
		return nil, err
	}
	var oneAtATime sync.Mutex // the dialer's transport keeps its last connection in a field
	return clientv3.New(clientv3.Config{
		Endpoints: []string{etcdPodName(nodeName)}, TLS: tn.etcdTLS(), DialTimeout: 5 * time.Second, Logger: zap.NewNop(), Context: tn.t.Context(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			oneAtATime.Lock()
			defer oneAtATime.Unlock()
			return dialer.DialContextWithAddr(ctx, address)
		})},
	})
}

// atEtcd calls something on the member of a node.
func (tn *tenant) atEtcd(nodeName string, do func(context.Context, *clientv3.Client) error) error {
	client, err := tn.etcdClient(nodeName)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(tn.t.Context(), 5*time.Second)
	defer cancel()
	return errors.Join(do(ctx, client), client.Close())
}

func (tn *tenant) etcdMembers(through string) (names []string, ids map[string]uint64, err error) {
	ids = map[string]uint64{}
	err = tn.atEtcd(through, func(ctx context.Context, client *clientv3.Client) error {
		list, err := client.MemberList(ctx)
		if err != nil {
			return err
		}
		for _, m := range list.Members {
			names, ids[m.Name] = append(names, m.Name), m.ID
		}
		return nil
	})
	slices.Sort(names)
	return names, ids, err
}

func (tn *tenant) removeMember(through string, id uint64) error {
	return tn.atEtcd(through, func(ctx context.Context, client *clientv3.Client) error {
		_, err := client.MemberRemove(ctx, id)
		return err
	})
}

func TestThreeControlPlanesAndAWorkerShowFourReadyNodesWithTheirGPUs(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	nodes := tn.waitForReadyNodes(4)
	i := slices.IndexFunc(nodes, func(n corev1.Node) bool { return n.Name == "gpu-0" })
	worker := nodes[i]
	if gpus := worker.Status.Allocatable["nvidia.com/gpu"]; gpus.Value() != 8 {
		t.Errorf("allocatable GPUs: %s, want 8", gpus.String())
	}
	if want := "openstack:///id-gpu-0"; worker.Spec.ProviderID != want {
		t.Errorf("provider id %q, want %q", worker.Spec.ProviderID, want)
	}
	if worker.Status.NodeInfo.KubeletVersion != testVersion {
		t.Errorf("kubelet version %q, want %q", worker.Status.NodeInfo.KubeletVersion, testVersion)
	}
	for label, want := range map[string]string{
		corev1.LabelTopologyZone: "az1", corev1.LabelTopologyRegion: "RegionOne", corev1.LabelInstanceTypeStable: "gpu.a100.x8",
	} {
		if worker.Labels[label] != want {
			t.Errorf("label %s is %q, want %q", label, worker.Labels[label], want)
		}
	}
	if len(worker.Spec.Taints) != 0 {
		t.Errorf("a Ready worker keeps taints %v", worker.Spec.Taints)
	}
	for _, node := range nodes {
		_, labeled := node.Labels[controlPlaneLabel]
		if want := strings.HasPrefix(node.Name, "cp-"); labeled != want {
			t.Errorf("node %s has the control-plane label: %t, want %t", node.Name, labeled, want)
		}
	}
}

func TestTheControlPlaneProviderSeesAndChangesEtcdThroughPortForwarding(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	names, ids, err := tn.etcdMembers("cp-1")
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"cp-0", "cp-1", "cp-2"}; !slices.Equal(names, want) {
		t.Fatalf("etcd members %v, want %v", names, want)
	}
	err = tn.atEtcd("cp-0", func(ctx context.Context, client *clientv3.Client) error {
		if alarms, err := client.AlarmList(ctx); err != nil || len(alarms.Alarms) != 0 {
			return fmt.Errorf("alarms %v, %w; want none", alarms, err)
		}
		status, err := client.Status(ctx, client.Endpoints()[0])
		if err != nil {
			return err
		}
		if status.Leader != ids["cp-0"] {
			return fmt.Errorf("the leader is %x, want the first member %x", status.Leader, ids["cp-0"])
		}
		_, err = client.MoveLeader(ctx, ids["cp-2"])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tn.removeMember("cp-0", ids["cp-0"]); err != nil {
		t.Fatalf("remove member: %v", err)
	}
	waitFor(t, "the removed member's machine stops serving", func() error {
		conn, err := tn.backend.Dial(t.Context(), "id-cp-0", kubeadm.DefaultAPIPort)
		if err == nil {
			return errors.Join(errors.New("it accepts connections"), conn.Close())
		}
		return nil
	})
	waitFor(t, "two members are left", func() error {
		names, _, err := tn.etcdMembers("cp-1")
		if err == nil && !slices.Equal(names, []string{"cp-1", "cp-2"}) {
			err = fmt.Errorf("members %v", names)
		}
		return err
	})
	if _, err := tn.backend.Dial(t.Context(), "id-cp-0", etcdPort); err == nil {
		t.Error("the removed member still listens")
	}
}

func TestEtcdRefusesToRemoveAMemberThatTheQuorumNeeds(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	_, ids, err := tn.etcdMembers("cp-0")
	if err != nil {
		t.Fatal(err)
	}
	if err := tn.backend.PowerOff(t.Context(), "id-cp-2"); err != nil {
		t.Fatal(err)
	}
	if err := tn.removeMember("cp-0", ids["cp-1"]); err == nil {
		t.Error("a started member was removed although two of three had to stay")
	}
	if err := tn.removeMember("cp-0", ids["cp-2"]); err != nil {
		t.Errorf("remove the member of the machine that is off: %v", err)
	}
}

func TestAPoweredOffNodeBecomesUnknownAndComesBackReady(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	if err := tn.backend.PowerOff(t.Context(), "id-gpu-0"); err != nil {
		t.Fatal(err)
	}
	client := tn.client()
	waitFor(t, "node Unknown", func() error {
		node, err := client.CoreV1().Nodes().Get(t.Context(), "gpu-0", metav1.GetOptions{})
		if err != nil {
			return err
		}
		tainted := slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == corev1.TaintNodeUnreachable })
		for _, c := range node.Status.Conditions {
			if c.Type == corev1.NodeReady && (c.Status != corev1.ConditionUnknown || !tainted) {
				return fmt.Errorf("Ready is %s, unreachable taint: %t", c.Status, tainted)
			}
		}
		return nil
	})
	if err := tn.backend.PowerOn(t.Context(), "id-gpu-0"); err != nil {
		t.Fatal(err)
	}
	for _, node := range tn.waitForReadyNodes(4) {
		if node.Name == "gpu-0" && len(node.Spec.Taints) != 0 {
			t.Errorf("the node keeps taints %v", node.Spec.Taints)
		}
	}
}

func TestAControlPlaneSurvivesOneMachineAndStopsWithoutQuorum(t *testing.T) {
	tn := newTenant(t, newBackend(t, quick()))
	tn.threeAndOne()
	if err := tn.backend.PowerOff(t.Context(), "id-cp-0"); err != nil {
		t.Fatal(err)
	}
	if _, err := tn.client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Fatalf("two of three machines do not serve: %v", err)
	}
	if err := tn.backend.PowerOff(t.Context(), "id-cp-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := tn.client().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsInternalError(err) {
		t.Fatalf("without a quorum a list answers %v, want an internal error", err)
	}
	if err := tn.backend.PowerOn(t.Context(), "id-cp-1"); err != nil {
		t.Fatal(err)
	}
	tn.waitForReadyNodes(3)
}

func TestDestroyLeavesNodeAndMemberUntilSomebodyRemovesThemAndNothingAfterTheLastMachine(t *testing.T) {
	b := newBackend(t, quick())
	tn := newTenant(t, b)
	tn.threeAndOne()
	if err := b.Destroy(t.Context(), "id-cp-0"); err != nil {
		t.Fatal(err)
	}
	names, _, err := tn.etcdMembers("cp-1")
	if err != nil || !slices.Contains(names, "cp-0") {
		t.Errorf("etcd members after the machine is gone: %v, %v; want cp-0 among them", names, err)
	}
	client := tn.client()
	if err := client.CoreV1().Nodes().Delete(t.Context(), "cp-0", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Pods(metav1.NamespaceSystem).Get(t.Context(), "etcd-cp-0", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("pods of a deleted node: %v, want not found", err)
	}
	for _, id := range []string{"id-cp-1", "id-cp-2", "id-gpu-0", "id-never-booted"} {
		if err := b.Destroy(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.machines) != 0 || len(b.clusters) != 0 {
		t.Errorf("%d machines and %d clusters are left", len(b.machines), len(b.clusters))
	}
}

func TestAJoinWaitsForItsClusterAndForItsToken(t *testing.T) {
	b := newBackend(t, quick())
	tn := newTenant(t, b)
	worker := tn.boot("w-0", tn.workerUserData())
	waitFor(t, "the join waits for an API server", onConsole(b, worker, "no API server answers at "+tn.endpoint))
	tn.bootControlPlane("cp-0", tn.initUserData())
	waitFor(t, "the join waits for its token", onConsole(b, worker, "bootstrap token abcdef is unknown"))
	tn.createToken(time.Now().Add(time.Hour))
	tn.waitForReadyNodes(2)
}

func onConsole(b *Backend, serverID, text string) func() error {
	return func() error {
		if log := b.ConsoleLog(serverID); !strings.Contains(log, text) {
			return fmt.Errorf("%q is not on the console:\n%s", text, log)
		}
		return nil
	}
}

func TestAJoinThatCannotWorkSaysWhyOnTheConsole(t *testing.T) {
	options := quick()
	options.JoinTimeout = time.Millisecond
	b := newBackend(t, options)
	tn := newTenant(t, b)
	tn.bootControlPlane("cp-0", tn.initUserData())
	tn.createToken(time.Now().Add(-time.Hour))
	for name, c := range map[string]struct {
		edit func(*bootstrapv1.JoinConfiguration)
		want string
	}{
		"expired": {func(*bootstrapv1.JoinConfiguration) {}, "expired at"},
		"wrong-secret": {func(c *bootstrapv1.JoinConfiguration) {
			c.Discovery.BootstrapToken.Token = "abcdef.fedcba9876543210"
		}, "has another secret"},
		"wrong-hash": {func(c *bootstrapv1.JoinConfiguration) {
			c.Discovery.BootstrapToken.CACertHashes = []string{"sha256:" + strings.Repeat("0", 64)}
		}, "has none of the hashes in caCertHashes"},
		"wrong-endpoint": {func(c *bootstrapv1.JoinConfiguration) {
			c.Discovery.BootstrapToken.APIServerEndpoint = "192.0.2.1:6443"
		}, "no API server answers at 192.0.2.1:6443"},
	} {
		t.Run(name, func(t *testing.T) {
			id := tn.boot(name, tn.workerUserData(c.edit))
			waitFor(t, "gives up", onConsole(b, id, "gave up after"))
			if err := onConsole(b, id, c.want)(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAServerWithoutKubeadmBootsAndRunsNothing(t *testing.T) {
	b := newBackend(t, quick())
	tn := newTenant(t, b)
	id := tn.boot("bastion", []byte("#cloud-config\nruncmd:\n- echo hello\n"))
	waitFor(t, "booted", onConsole(b, id, "no kubeadm among its commands"))
	if _, err := b.Dial(t.Context(), id, kubeadm.DefaultAPIPort); err == nil {
		t.Error("something listens on port 6443")
	}
}

func TestDestroyEndsAJoinThatStillWaits(t *testing.T) {
	b := newBackend(t, quick())
	tn := newTenant(t, b)
	id := tn.boot("w-0", tn.workerUserData())
	waitFor(t, "waiting", onConsole(b, id, "will try again"))
	if err := b.Destroy(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if log := b.ConsoleLog(id); log != "" {
		t.Errorf("a destroyed server still has a console:\n%s", log)
	}
}

func TestAClientWithoutACertificateOfTheTenantIsUnauthorized(t *testing.T) {
	b := newBackend(t, quick())
	tn, other := newTenant(t, b), newTenant(t, b)
	tn.bootControlPlane("cp-0", tn.initUserData())
	tn.waitForReadyNodes(1)
	anonymous := tn.config()
	anonymous.CertData, anonymous.KeyData = nil, nil
	client, err := kubernetes.NewForConfig(anonymous)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); !apierrors.IsUnauthorized(err) {
		t.Errorf("an anonymous list answers %v, want unauthorized", err)
	}
	if _, err := client.Discovery().ServerVersion(); err != nil {
		t.Errorf("anonymous /version: %v", err)
	}
	stranger, theirs := tn.config(), other.config()
	stranger.CertData, stranger.KeyData = theirs.CertData, theirs.KeyData
	if client, err = kubernetes.NewForConfig(stranger); err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err == nil {
		t.Error("a certificate of another tenant is accepted")
	}
}

// BenchmarkTwoHundredClusters says what a cluster of one control-plane machine and two workers costs at rest.
func BenchmarkTwoHundredClusters(b *testing.B) {
	const clusters = 200
	for b.Loop() {
		backend := newBackend(b, quick())
		// One set of certificates serves all: making keys is Cluster API's cost, not ours. Endpoints tell them apart.
		first := newTenant(b, backend)
		before := heapBytes()
		tenants := make([]*tenant, clusters)
		for i := range tenants {
			tn := &tenant{t: b, backend: backend, certs: first.certs}
			tn.endpoint = tn.listen()
			tenants[i] = tn
			tn.bootControlPlane(fmt.Sprintf("cp-%d", i), tn.initUserData())
			tn.createToken(time.Now().Add(time.Hour))
			for w := range 2 {
				tn.boot(fmt.Sprintf("w-%d-%d", i, w), tn.workerUserData(), func(*simulator.Node) {})
			}
		}
		for _, tn := range tenants {
			tn.waitForReadyNodes(3)
		}
		b.ReportMetric(float64(heapBytes()-before)/clusters/1024, "KiB/cluster")
		b.ReportMetric(float64(runtime.NumGoroutine())/clusters, "goroutines/cluster")
	}
}

func heapBytes() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}
