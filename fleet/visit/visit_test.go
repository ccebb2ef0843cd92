package visit_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/sendan-io/sendan/fleet/visit"
	"github.com/sendan-io/sendan/test/envtest"
)

var training = client.ObjectKey{Namespace: "team-a", Name: "training"}

// apiServer is one that has no objects, the built-in kind Node and the kind Thing.
type apiServer struct {
	*httptest.Server
	mutex sync.Mutex
	// requests since they were taken last: their path, and whether the TLS session went on that an earlier connection began.
	requests []string
	open     map[net.Conn]bool
}

func startAPIServer(t *testing.T) *apiServer {
	t.Helper()
	s := &apiServer{open: map[net.Conn]bool{}}
	s.Server = httptest.NewUnstartedServer(s)
	s.EnableHTTP2 = true
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		s.mutex.Lock()
		defer s.mutex.Unlock()
		if s.open[conn] = true; state == http.StateClosed {
			delete(s.open, conn)
		}
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *apiServer) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	s.mutex.Lock()
	s.requests = append(s.requests, fmt.Sprintf("%s %t", request.URL.Path, request.TLS.DidResume))
	s.mutex.Unlock()
	answers := map[string]string{
		"/api":    `{"kind":"APIVersions","versions":["v1"]}`,
		"/api/v1": `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"v1","resources":[{"name":"nodes","kind":"Node","namespaced":false,"verbs":["list"]}]}`,
		"/apis": `{"kind":"APIGroupList","apiVersion":"v1","groups":[{"name":"example.com",
			"versions":[{"groupVersion":"example.com/v1","version":"v1"}],"preferredVersion":{"groupVersion":"example.com/v1","version":"v1"}}]}`,
		"/apis/example.com/v1": `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"example.com/v1",
			"resources":[{"name":"things","kind":"Thing","namespaced":false,"verbs":["list"]}]}`,
		"/api/v1/nodes":               `{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}`,
		"/apis/example.com/v1/things": `{"kind":"ThingList","apiVersion":"example.com/v1","metadata":{"resourceVersion":"1"},"items":[]}`,
	}
	answer, found := answers[request.URL.Path]
	w.Header().Set("Content-Type", "application/json")
	switch {
	case request.Header.Get("Authorization") != "Bearer secret":
		w.WriteHeader(http.StatusUnauthorized)
	case !found:
		w.WriteHeader(http.StatusNotFound)
	default:
		_, _ = w.Write([]byte(answer))
	}
}

// taken are the requests that came, and the connections that are still open.
func (s *apiServer) taken() (requests []string, open int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	requests, s.requests = s.requests, nil
	return requests, len(s.open)
}

// kubeconfig is the Secret that Cluster API keeps for a cluster.
func (s *apiServer) kubeconfig(t *testing.T, cluster client.ObjectKey, change func(*clientcmdapi.Config)) *corev1.Secret {
	t.Helper()
	config := clientcmdapi.NewConfig()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	config.Clusters["it"] = &clientcmdapi.Cluster{Server: s.URL, CertificateAuthorityData: certificate}
	config.AuthInfos["me"] = &clientcmdapi.AuthInfo{Token: "secret"}
	config.Contexts["here"] = &clientcmdapi.Context{Cluster: "it", AuthInfo: "me"}
	config.CurrentContext = "here"
	if change != nil {
		change(config)
	}
	text, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: cluster.Name + "-kubeconfig"},
		Type:       clusterv1.ClusterSecretType, Data: map[string][]byte{"value": text},
	}
}

func lookAtNodes(ctx context.Context, tenant client.Client) error {
	return tenant.List(ctx, &corev1.NodeList{})
}

func lookAtThings(ctx context.Context, tenant client.Client) error {
	things := &unstructured.UnstructuredList{}
	things.SetAPIVersion("example.com/v1")
	things.SetKind("ThingList")
	return tenant.List(ctx, things)
}

func TestAVisitLeavesNothingBehind(t *testing.T) {
	server := startAPIServer(t)
	serving := client.ObjectKey{Namespace: "team-b", Name: "serving"}
	visitor := visit.New(fake.NewFakeClient(server.kubeconfig(t, training, nil), server.kubeconfig(t, serving, nil)), scheme.Scheme, "visitor")
	for _, step := range []struct {
		name    string
		cluster client.ObjectKey
		look    func(context.Context, client.Client) error
		want    []string
	}{
		{"the first asks for the kind", training, lookAtNodes, []string{"/api false", "/apis false", "/api/v1 false", "/api/v1/nodes false"}},
		{"the next knows it, and goes on with the TLS session", training, lookAtNodes, []string{"/api/v1/nodes true"}},
		{"Kubernetes' kinds are the same in another cluster", serving, lookAtNodes, []string{"/api/v1/nodes false"}},
		{"other kinds need not be", serving, lookAtThings, []string{"/api true", "/apis true", "/apis/example.com/v1 true", "/apis/example.com/v1/things true"}},
		{"and are known then", serving, lookAtThings, []string{"/apis/example.com/v1/things true"}},
		{"who asks for nothing does not connect", training, func(context.Context, client.Client) error { return nil }, nil},
	} {
		if err := visitor.Visit(t.Context(), step.cluster, step.look); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var requests []string
		envtest.Eventually(t, 10*time.Second, func() error { // the server hears of the end a moment later
			taken, open := server.taken()
			if requests = append(requests, taken...); open > 0 {
				return fmt.Errorf("%d connections are open", open)
			}
			return nil
		})
		if !slices.Equal(requests, step.want) {
			t.Errorf("%s: it asked for %q, want %q", step.name, requests, step.want)
		}
	}
}

func TestAKubeconfigIsReadAnewAfterAnError(t *testing.T) {
	server := startAPIServer(t)
	secret := server.kubeconfig(t, training, nil)
	secrets := fake.NewFakeClient(secret)
	visitor := visit.New(secrets, scheme.Scheme, "visitor")
	if err := visitor.Visit(t.Context(), training, lookAtNodes); err != nil {
		t.Fatal(err)
	}
	moved := server.kubeconfig(t, training, func(config *clientcmdapi.Config) { config.AuthInfos["me"].Token = "revoked" })
	secret.Data = moved.Data
	if err := secrets.Update(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	if err := visitor.Visit(t.Context(), training, lookAtNodes); err != nil {
		t.Errorf("it did not keep what it had: %v", err)
	}
	broken := errors.New("broken")
	if err := visitor.Visit(t.Context(), training, func(context.Context, client.Client) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v, want the error of the look", err)
	}
	if err := visitor.Visit(t.Context(), training, lookAtNodes); err == nil {
		t.Error("it did not read the kubeconfig anew")
	}
}

func TestWhatIsWrongWithAKubeconfigIsTold(t *testing.T) {
	server := startAPIServer(t)
	for want, change := range map[string]func(*corev1.Secret){
		"get the kubeconfig of cluster team-a/training: ":  func(s *corev1.Secret) { s.Name = "another" },
		"read the kubeconfig of cluster team-a/training: ": func(s *corev1.Secret) { s.Data["value"] = []byte("{") },
		"wants a program to be run to log in": func(s *corev1.Secret) {
			s.Data = server.kubeconfig(t, training, func(config *clientcmdapi.Config) {
				config.AuthInfos["me"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{
					Command: "login", APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode,
				}}
			}).Data
		},
		"make a client of the kubeconfig of cluster team-a/training: ": func(s *corev1.Secret) {
			s.Data = server.kubeconfig(t, training, func(config *clientcmdapi.Config) {
				config.AuthInfos["me"] = &clientcmdapi.AuthInfo{ClientCertificateData: []byte("no"), ClientKeyData: []byte("key")}
			}).Data
		},
	} {
		secret := server.kubeconfig(t, training, nil)
		change(secret)
		err := visit.New(fake.NewFakeClient(secret), scheme.Scheme, "visitor").Visit(t.Context(), training, lookAtNodes)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want …%s…", err, want)
		}
	}
}
