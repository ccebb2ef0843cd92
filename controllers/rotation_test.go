package controllers

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// reason is that of the condition IdentityReady.
func (w *world) identityReason() string {
	return w.condition(w.cluster("tenant", "one"), infrav1.IdentityReadyCondition).Reason
}

// withCredentials adds application credentials of the ordinary user.
func withCredentials(names ...string) func(*simulator.Scenario) {
	return func(s *simulator.Scenario) {
		for _, name := range names {
			s.ApplicationCredentials = append(s.ApplicationCredentials, simulator.ApplicationCredential{Name: name, Secret: "secret of " + name, User: "demo", Project: "demo"})
		}
	}
}

func (w *world) useCredential(name string) {
	account, err := w.sim.CredentialAccount(name)
	w.must(err)
	w.setClouds(string(account.CloudsYAML(w.url, "sim")))
}

// creatingWithOld has made so many calls for a new cluster, with the credential "old".
func creatingWithOld(t *testing.T, calls int64) *world {
	t.Helper()
	w := newWorld(t, withCredentials("old", "new"))
	w.addNamespace("tenant")
	w.useCredential("old")
	w.creating("tenant", "one")
	w.afterCalls(calls)
	return w
}

// afterCalls works until the cloud was called so many times more.
func (w *world) afterCalls(n int64) {
	w.t.Helper()
	until := w.requests.Load() + n
	w.run("it has begun", time.Hour, func() bool { return w.requests.Load() >= until })
}

// assertUndisturbed makes sure that all is as if nothing had happened to the credentials.
func (w *world) assertUndisturbed(t *testing.T) {
	t.Helper()
	w.run("all ready", time.Hour, w.allReady)
	w.pass(time.Minute)
	w.assertNoNotes(t)
	calm := newWorld(t, withCredentials("old", "new"))
	calm.creating("tenant", "one")
	calm.run("all ready", time.Hour, calm.allReady)
	calm.pass(time.Minute)
	if text := difference(w.endState(), calm.endState()); text != "" {
		t.Errorf("the cloud differs from that of an undisturbed run:\n%s", text)
	}
}

func TestACredentialIsRotatedWhileAClusterIsMade(t *testing.T) {
	for _, calls := range []int64{3, 12, 15, 25, 35} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			w := creatingWithOld(t, calls)
			w.useCredential("new") // as a person does it: first the new one, and then the old one is revoked
			w.pass(time.Second)
			w.must(w.sim.RevokeCredential("old"))
			w.assertUndisturbed(t)
			if reason := w.identityReason(); reason != infrav1.AvailableReason {
				t.Errorf("IdentityReady says %s", reason)
			}
		})
	}
}

func TestARevokedCredentialHoldsAClusterUntilThereIsAnother(t *testing.T) {
	for _, calls := range []int64{3, 12, 15, 25, 35} {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			w := creatingWithOld(t, calls)
			w.must(w.sim.RevokeCredential("old"))
			w.run("told", time.Hour, func() bool { return w.identityReason() == infrav1.AuthReason })
			held := w.sim.Objects().Total.Sum()
			w.pass(time.Hour)
			if now := w.sim.Objects().Total.Sum(); now != held {
				t.Errorf("%d objects became %d without a credential", held, now)
			}
			w.useCredential("new")
			w.assertUndisturbed(t)
		})
	}
}

func TestTwoRegionsOfOneCloudsYAMLAreTwoClouds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(s *simulator.Scenario) { s.Regions = []string{"RegionOne", "RegionTwo"} })
	for _, region := range []string{"RegionOne", "RegionTwo"} {
		name := strings.ToLower(region)
		w.addCluster("tenant", name, func(c *infrav1.SendanCluster) { c.Spec.IdentityRef.Region = region })
		w.addMachine("tenant", name, name+"-worker-0")
	}
	w.run("all ready", 20*time.Minute, w.allReady)
	for _, region := range []string{"RegionOne", "RegionTwo"} {
		name := strings.ToLower(region)
		for _, annotations := range []map[string]string{w.cluster("tenant", name).Annotations, w.machine("tenant", name+"-worker-0").Annotations} {
			if project := annotations[infrav1.ProjectAnnotation]; !strings.HasSuffix(project, "@"+region) {
				t.Errorf("%s is in %s", name, project)
			}
		}
	}
	moved := w.cluster("tenant", "regiontwo")
	moved.Spec.IdentityRef.Region = "RegionOne"
	w.must(w.client.Update(context.Background(), moved))
	w.run("refused", time.Hour, func() bool {
		return w.condition(w.cluster("tenant", "regiontwo"), infrav1.IdentityReadyCondition).Reason == infrav1.SuspiciousReason
	})
}

// authority is one that signed the certificate of a server at the loopback address.
type authority struct {
	pem         []byte
	certificate tls.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "cloud"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{
		pem:         pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		certificate: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}
}

func TestTheAuthorityOfACloudIsRotated(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withCredentials("old", "new"))
	first, second := newAuthority(t), newAuthority(t)
	var serving atomic.Pointer[authority]
	serving.Store(first)
	server := httptest.NewUnstartedServer(http.HandlerFunc(w.serveCloud))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{serving.Load().certificate}}, nil
	}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail on purpose
	server.StartTLS()
	t.Cleanup(server.Close)
	w.url = server.URL
	trust := func(a *authority) {
		secret := &corev1.Secret{}
		w.must(w.client.Get(context.Background(), types.NamespacedName{Namespace: "tenant", Name: secretName}, secret))
		secret.Data[secretKeyCACert] = a.pem
		w.must(w.client.Update(context.Background(), secret))
	}
	w.addNamespace("tenant")
	trust(first)
	w.creating("tenant", "one")
	w.afterCalls(15)
	serving.Store(second)
	server.CloseClientConnections()
	w.run("told", time.Hour, func() bool {
		condition := w.condition(w.cluster("tenant", "one"), infrav1.IdentityReadyCondition)
		return strings.Contains(condition.Message, "certificate is not trusted")
	})
	trust(second)
	w.assertUndisturbed(t)
}
