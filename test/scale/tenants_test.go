package scale

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

// tenantCluster is the API server of one tenant cluster. As a real one it has an authority, an address and connections of its
// own, since that is what a fleet manager's memory goes to.
type tenantCluster struct {
	api        *kubeapi.Cluster
	kubeconfig []byte
	requests
}

// requests to one or several API servers.
type requests struct {
	// passes of the add-ons' controller begin with a look at their inventory.
	passes, reads, dryRuns, writes atomic.Int64
}

func (r *requests) count(request *http.Request) {
	switch {
	case request.Method != http.MethodGet && request.URL.Query().Get("dryRun") != "":
		r.dryRuns.Add(1)
	case request.Method != http.MethodGet:
		r.writes.Add(1)
	default:
		r.reads.Add(1)
		if strings.HasSuffix(request.URL.Path, "/configmaps/sendan-addons") {
			r.passes.Add(1)
		}
	}
}

func startTenant(t testing.TB, known *kubeapi.Types, nodes []corev1.Node) *tenantCluster {
	t.Helper()
	made := &tenantCluster{api: kubeapi.NewCluster(known, clockwork.NewRealClock(), uuid.NewUUID, nil)}
	for _, namespace := range []string{metav1.NamespaceDefault, metav1.NamespaceSystem} {
		if err := made.api.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range nodes {
		if err := made.api.Create(&nodes[i]); err != nil {
			t.Fatal(err)
		}
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		made.count(r)
		made.api.ServeHTTP(w, r)
	}))
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(t.Output(), "", 0)
	identity := newIdentity(t)
	server.TLS = &tls.Config{
		MinVersion: tls.VersionTLS12, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: identity.pool,
		Certificates: []tls.Certificate{identity.certificate},
	}
	server.StartTLS()
	t.Cleanup(func() {
		server.CloseClientConnections() // watches last until then
		server.Close()
	})
	made.kubeconfig = identity.kubeconfig(t, server.URL)
	return made
}

// identity is a cluster's authority, which is its server and its administrator as well.
type identity struct {
	certificate tls.Certificate
	pool        *x509.CertPool
	pem, key    []byte
}

func newIdentity(t testing.TB) identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	made := identity{
		pool: x509.NewCertPool(), pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
	made.pool.AppendCertsFromPEM(made.pem)
	if made.certificate, err = tls.X509KeyPair(made.pem, made.key); err != nil {
		t.Fatal(err)
	}
	return made
}

func (i identity) kubeconfig(t testing.TB, url string) []byte {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["it"] = &clientcmdapi.Cluster{Server: url, CertificateAuthorityData: i.pem}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: i.pem, ClientKeyData: i.key}
	config.Contexts["admin"] = &clientcmdapi.Context{Cluster: "it", AuthInfo: "admin"}
	config.CurrentContext = "admin"
	text, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// node is one as a kubelet and a cloud controller manager describe it.
func node(name, providerID, gpuModel string, devices corev1.ResourceList) corev1.Node {
	resources := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("64"), corev1.ResourceMemory: resource.MustParse("512Gi"),
		corev1.ResourceEphemeralStorage: resource.MustParse("400Gi"), corev1.ResourcePods: resource.MustParse("110"),
	}
	for name, quantity := range devices {
		resources[name] = quantity
	}
	made := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64", corev1.LabelInstanceTypeStable: "g1.a100.8",
			corev1.LabelTopologyZone: "az1", corev1.LabelTopologyRegion: "RegionOne",
		}},
		Spec: corev1.NodeSpec{ProviderID: providerID},
		Status: corev1.NodeStatus{
			Capacity: resources, Allocatable: resources,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: "10.6.0.17"}},
			NodeInfo: corev1.NodeSystemInfo{
				MachineID: "5c1f", SystemUUID: "8d7c", BootID: "0a0b", KernelVersion: "6.8.0-60-generic", OSImage: "Ubuntu 24.04 LTS",
				ContainerRuntimeVersion: "containerd://2.1.4", KubeletVersion: kubernetesVersion, OperatingSystem: "linux", Architecture: "amd64",
			},
		},
	}
	if gpuModel != "" {
		made.Labels[fleetv1.GPUModelLabel] = gpuModel
	}
	for _, kind := range []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure} {
		made.Status.Conditions = append(made.Status.Conditions, corev1.NodeCondition{Type: kind, Status: corev1.ConditionFalse, Reason: "KubeletHasSufficient", LastTransitionTime: metav1.Now()})
	}
	made.Status.Conditions = append(made.Status.Conditions, corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady", LastTransitionTime: metav1.Now()})
	for i := range 30 { // what a kubelet tells of the images it has
		made.Status.Images = append(made.Status.Images, corev1.ContainerImage{Names: []string{fmt.Sprintf("example/image-%d:v1.0.0", i)}, SizeBytes: 1 << 28})
	}
	return made
}
