package memory

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/blang/semver/v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	"sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/cloudinit"
	kubeadmtypes "sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/types"
	"sigs.k8s.io/cluster-api/bootstrap/kubeadm/pkg/types/upstream"
	"sigs.k8s.io/cluster-api/util/certs"
	"sigs.k8s.io/cluster-api/util/kubeconfig"
	"sigs.k8s.io/cluster-api/util/secret"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
)

const (
	testVersion = "v1.36.3"
	testToken   = "abcdef.0123456789abcdef"
	// eventually is how long a test waits for what takes milliseconds.
	eventually = 20 * time.Second
)

// quick are options under which nothing takes long.
func quick() Options {
	return Options{
		APIServerStart: time.Millisecond, KubeletStart: time.Millisecond, NodeReady: time.Millisecond,
		JoinTimeout: time.Minute, NodeMonitorGrace: 20 * time.Millisecond, Seed: 1,
		NVIDIADriver: "570.158.01",
	}
}

func newBackend(t testing.TB, options Options) *Backend {
	t.Helper()
	b, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// waitFor polls until a condition holds.
func waitFor(t testing.TB, what string, condition func() error) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(eventually)
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// tenant is a cluster as Cluster API would order it: certificates, user data from the real bootstrap provider's code,
// and a load balancer in front.
type tenant struct {
	t        testing.TB
	backend  *Backend
	certs    secret.Certificates
	endpoint string

	mu      sync.Mutex
	members []string // server ids behind the load balancer
}

func newTenant(t testing.TB, b *Backend) *tenant {
	t.Helper()
	tn := &tenant{t: t, backend: b, certs: secret.NewCertificatesForInitialControlPlane(&bootstrapv1.ClusterConfiguration{})}
	if err := tn.certs.Generate(); err != nil {
		t.Fatal(err)
	}
	tn.endpoint = tn.listen()
	return tn
}

// listen is a load balancer: each connection goes to the first member that takes it.
func (tn *tenant) listen() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tn.t.Fatal(err)
	}
	tn.t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go tn.balance(conn)
		}
	}()
	return listener.Addr().String()
}

func (tn *tenant) balance(client net.Conn) {
	defer func() { _ = client.Close() }()
	tn.mu.Lock()
	members := append([]string(nil), tn.members...)
	tn.mu.Unlock()
	for _, id := range members {
		server, err := tn.backend.Dial(context.Background(), id, kubeadm.DefaultAPIPort)
		if err != nil {
			continue
		}
		go func() {
			_, _ = io.Copy(server, client)
			_ = server.Close()
		}()
		_, _ = io.Copy(client, server)
		_ = server.Close()
		return
	}
}

func (tn *tenant) hashes() []string {
	hashes, err := tn.certs.GetByPurpose(secret.ClusterCA).Hashes()
	if err != nil {
		tn.t.Fatal(err)
	}
	return hashes
}

func registration() bootstrapv1.NodeRegistrationOptions {
	provider := "external"
	return bootstrapv1.NodeRegistrationOptions{
		Name:             "{{ local_hostname }}",
		KubeletExtraArgs: []bootstrapv1.Arg{{Name: "cloud-provider", Value: &provider}},
	}
}

func (tn *tenant) initUserData() []byte {
	version := semver.MustParse(strings.TrimPrefix(testVersion, "v"))
	clusterName, dns, pods, services := "tenant", "cluster.local", "10.244.0.0/16", "10.96.0.0/12"
	cluster, err := kubeadmtypes.MarshalClusterConfigurationForVersion(&bootstrapv1.ClusterConfiguration{ControlPlaneEndpoint: tn.endpoint}, version, &upstream.AdditionalData{
		KubernetesVersion: ptrTo(testVersion), ClusterName: &clusterName,
		DNSDomain: &dns, PodSubnet: &pods, ServiceSubnet: &services,
	})
	if err != nil {
		tn.t.Fatal(err)
	}
	initialization, err := kubeadmtypes.MarshalInitConfigurationForVersion(&bootstrapv1.InitConfiguration{NodeRegistration: registration()}, version)
	if err != nil {
		tn.t.Fatal(err)
	}
	data, err := cloudinit.NewInitControlPlane(&cloudinit.ControlPlaneInput{
		BaseUserData: cloudinit.BaseUserData{KubernetesVersion: version}, Certificates: tn.certs,
		ClusterConfiguration: cluster, InitConfiguration: initialization,
	})
	if err != nil {
		tn.t.Fatal(err)
	}
	return data
}

func ptrTo[T any](value T) *T { return &value }

func (tn *tenant) joinConfiguration(edit func(*bootstrapv1.JoinConfiguration)) string {
	configuration := &bootstrapv1.JoinConfiguration{NodeRegistration: registration()}
	configuration.Discovery.BootstrapToken = bootstrapv1.BootstrapTokenDiscovery{
		Token: testToken, APIServerEndpoint: tn.endpoint, CACertHashes: tn.hashes(),
	}
	edit(configuration)
	text, err := kubeadmtypes.MarshalJoinConfigurationForVersion(configuration, semver.MustParse(strings.TrimPrefix(testVersion, "v")))
	if err != nil {
		tn.t.Fatal(err)
	}
	return text
}

func (tn *tenant) joinUserData() []byte {
	text := tn.joinConfiguration(func(c *bootstrapv1.JoinConfiguration) { c.ControlPlane = &bootstrapv1.JoinControlPlane{} })
	data, err := cloudinit.NewJoinControlPlane(&cloudinit.ControlPlaneJoinInput{Certificates: tn.certs, JoinConfiguration: text})
	if err != nil {
		tn.t.Fatal(err)
	}
	return data
}

func (tn *tenant) workerUserData(edits ...func(*bootstrapv1.JoinConfiguration)) []byte {
	text := tn.joinConfiguration(func(c *bootstrapv1.JoinConfiguration) {
		for _, edit := range edits {
			edit(c)
		}
	})
	data, err := cloudinit.NewNode(&cloudinit.NodeInput{JoinConfiguration: text})
	if err != nil {
		tn.t.Fatal(err)
	}
	return data
}

// boot starts a server; its id is its name with a prefix.
func (tn *tenant) boot(name string, userData []byte, edits ...func(*simulator.Node)) string {
	tn.t.Helper()
	node := simulator.Node{
		ServerID: "id-" + name, ProjectID: "project", Name: name, HostName: "host-1", Zone: "az1", UserData: userData,
		Image: "node-" + testVersion, Flavor: "m1.large", VCPUs: 4, MemoryMiB: 8192, DiskGiB: 40, Addresses: []string{"10.0.0.5"},
	}
	for _, edit := range edits {
		edit(&node)
	}
	if err := tn.backend.Boot(tn.t.Context(), node); err != nil {
		tn.t.Fatal(err)
	}
	return node.ServerID
}

func (tn *tenant) bootControlPlane(name string, userData []byte) {
	id := tn.boot(name, userData)
	tn.mu.Lock()
	defer tn.mu.Unlock()
	tn.members = append(tn.members, id)
}

// config is a client configuration as in the kubeconfig Secret that Cluster API makes.
func (tn *tenant) config() *rest.Config {
	tn.t.Helper()
	pair := tn.certs.GetByPurpose(secret.ClusterCA).KeyPair
	certificate, err := certs.DecodeCertPEM(pair.Cert)
	if err != nil {
		tn.t.Fatal(err)
	}
	key, err := certs.DecodePrivateKeyPEM(pair.Key)
	if err != nil {
		tn.t.Fatal(err)
	}
	generated, err := kubeconfig.New("tenant", "https://"+tn.endpoint, certificate, key)
	if err != nil {
		tn.t.Fatal(err)
	}
	config, err := clientcmd.NewDefaultClientConfig(*generated, nil).ClientConfig()
	if err != nil {
		tn.t.Fatal(err)
	}
	config.Timeout = eventually
	config.QPS = -1
	return config
}

func (tn *tenant) client() *kubernetes.Clientset {
	tn.t.Helper()
	client, err := kubernetes.NewForConfig(tn.config())
	if err != nil {
		tn.t.Fatal(err)
	}
	return client
}

// createToken writes the bootstrap token as the bootstrap provider does.
func (tn *tenant) createToken(expires time.Time) {
	tn.t.Helper()
	id, text, _ := strings.Cut(testToken, ".")
	token := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "bootstrap-token-" + id}, Type: corev1.SecretTypeBootstrapToken,
		Data: map[string][]byte{"token-id": []byte(id), "token-secret": []byte(text), "expiration": []byte(expires.UTC().Format(time.RFC3339))},
	}
	waitFor(tn.t, "create bootstrap token", func() error {
		_, err := tn.client().CoreV1().Secrets(metav1.NamespaceSystem).Create(tn.t.Context(), token, metav1.CreateOptions{})
		return err
	})
}

func (tn *tenant) waitForReadyNodes(want int) []corev1.Node {
	tn.t.Helper()
	client := tn.client()
	var nodes []corev1.Node
	waitFor(tn.t, fmt.Sprintf("%d nodes Ready", want), func() error {
		list, err := client.CoreV1().Nodes().List(tn.t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		nodes = list.Items
		ready := 0
		for i := range nodes {
			if isReady(&nodes[i]) {
				ready++
			}
		}
		if ready != want {
			return fmt.Errorf("%d of %d nodes Ready", ready, len(nodes))
		}
		return nil
	})
	return nodes
}

// threeAndOne brings up three control-plane machines and a worker with GPUs.
func (tn *tenant) threeAndOne() {
	tn.t.Helper()
	tn.bootControlPlane("cp-0", tn.initUserData())
	tn.createToken(time.Now().Add(time.Hour))
	tn.waitForReadyNodes(1)
	tn.bootControlPlane("cp-1", tn.joinUserData())
	tn.bootControlPlane("cp-2", tn.joinUserData())
	tn.boot("gpu-0", tn.workerUserData(), func(n *simulator.Node) {
		n.Flavor, n.Resources = "gpu.a100.x8", map[string]int{"nvidia.com/gpu": 8}
	})
	tn.waitForReadyNodes(4)
}

// etcdTLS is what the control-plane provider connects to etcd with.
func (tn *tenant) etcdTLS() *tls.Config {
	tn.t.Helper()
	pair := tn.certs.GetByPurpose(secret.EtcdCA).KeyPair
	ca, err := readAuthority(map[string]string{"ca.crt": string(pair.Cert), "ca.key": string(pair.Key)}, "ca")
	if err != nil {
		tn.t.Fatal(err)
	}
	certificate, err := ca.issue(tn.backend.serverKey, "etcd-client", nil)
	if err != nil {
		tn.t.Fatal(err)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate},
		InsecureSkipVerify: true, //nolint:gosec // the chain is verified below; the host name is that of a pod
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: ca.pool()})
			return err
		},
	}
}
