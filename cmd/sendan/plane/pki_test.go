package plane

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
)

func testAuthority(t *testing.T, dir, name string) *authority {
	t.Helper()
	a, err := openAuthority(dir, name, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestServerAndClientOfOneAuthorityTrustEachOther(t *testing.T) {
	dir := t.TempDir()
	ca := testAuthority(t, dir, "ca")
	issue(t, ca, "server", identity{name: "server", server: true})
	issue(t, ca, "client", identity{name: "alice", groups: []string{"crew"}})

	server := serveTLS(t, dir, ca.pool())
	trust, err := clientTLS(ca, "client")
	if err != nil {
		t.Fatal(err)
	}
	answer, err := get(server, trust)
	if err != nil {
		t.Fatal(err)
	}
	if answer != "alice of crew" {
		t.Errorf("the server saw %q, want alice of crew", answer)
	}
}

func TestClientOfAnotherAuthorityIsRefused(t *testing.T) {
	dir := t.TempDir()
	ca, other := testAuthority(t, dir, "ca"), testAuthority(t, dir, "other")
	issue(t, ca, "server", identity{name: "server", server: true})
	issue(t, other, "client", identity{name: "mallory"})

	server := serveTLS(t, dir, ca.pool())
	trust, err := clientTLS(other, "client")
	if err != nil {
		t.Fatal(err)
	}
	trust.RootCAs = ca.pool()
	if answer, err := get(server, trust); err == nil {
		t.Errorf("the server let %q in", answer)
	}
}

func TestAuthoritySurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	first, second := testAuthority(t, dir, "ca"), testAuthority(t, dir, "ca")
	issue(t, second, "late", identity{name: "late"})
	certFile, _ := certificateFiles(dir, "late")
	late, err := readCertificate(certFile)
	if err != nil {
		t.Fatal(err)
	}
	_, err = late.Verify(x509.VerifyOptions{Roots: first.pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		t.Errorf("the authority of the first start does not know a certificate of the second: %v", err)
	}
}

func TestKeysAreReadableByTheUserOnly(t *testing.T) {
	dir := t.TempDir()
	ca := testAuthority(t, dir, "ca")
	issue(t, ca, "server", identity{name: "server", server: true})
	files, err := filepath.Glob(filepath.Join(dir, "*.key"))
	if err != nil || len(files) != 2 {
		t.Fatalf("found keys %v, %v", files, err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", file, info.Mode())
		}
	}
}

func TestKubeconfigCarriesItsCertificates(t *testing.T) {
	dir := t.TempDir()
	ca := testAuthority(t, dir, "ca")
	issue(t, ca, "admin", identity{name: "admin"})
	certFile, keyFile := certificateFiles(dir, "admin")
	file := filepath.Join(dir, "kubeconfig")
	if err := writeKubeconfig(file, "https://127.0.0.1:1", ca.bundle(), read(t, certFile), read(t, keyFile)); err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{certFile, keyFile} {
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", file)
	if err != nil {
		t.Fatal(err)
	}
	if config.Host != "https://127.0.0.1:1" {
		t.Errorf("host is %s", config.Host)
	}
	if _, err := tls.X509KeyPair(config.CertData, config.KeyData); err != nil {
		t.Errorf("the kubeconfig's key pair: %v", err)
	}
}

func issue(t *testing.T, a *authority, name string, id identity) {
	t.Helper()
	if err := a.issue(a.dir, name, id); err != nil {
		t.Fatal(err)
	}
}

// serveTLS answers with who it thinks the client is.
func serveTLS(t *testing.T, dir string, clients *x509.CertPool) *httptest.Server {
	t.Helper()
	certificate, err := tls.LoadX509KeyPair(certificateFiles(dir, "server"))
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		subject := r.TLS.PeerCertificates[0].Subject
		_, _ = io.WriteString(w, subject.CommonName+" of "+subject.Organization[0])
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}, ClientCAs: clients, ClientAuth: tls.RequireAndVerifyClientCert}
	server.Config.ErrorLog = discardLog()
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func get(server *httptest.Server, trust *tls.Config) (string, error) {
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
	response, err := client.Get("https://127.0.0.1:" + port)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
