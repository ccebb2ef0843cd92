package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	namespace = "default"
	service   = "webhook.default.svc"
	// patience is far more than a machine that is busy with other tests needs.
	patience = 30 * time.Second
)

func TestTheStandIn(t *testing.T) {
	c := startStandIn(t)
	t.Run("a Certificate becomes a Secret that serves its names", c.issues)
	t.Run("other names get another certificate", c.issuesAgainForOtherNames)
	t.Run("a deleted Secret comes back", c.issuesAgainWithoutSecret)
	t.Run("a Certificate waits for its issuer", c.waitsForTheIssuer)
	t.Run("an issuer that does not sign with the own key is refused", c.refusesOtherIssuers)
	t.Run("webhooks get the authority, and the next one as well", c.injects)
	t.Run("definitions get the authority for their conversion", c.injectsIntoDefinitions)
}

type cluster struct{ client.Client }

// startStandIn runs the stand-in against an API server that has cert-manager's kinds, until the test ends.
func startStandIn(t *testing.T) cluster {
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		const hint = "KUBEBUILDER_ASSETS is not set: run `make test`, or set it to the output of hack/build-tools.sh --dir"
		if os.Getenv("CI") == "true" {
			t.Fatal(hint)
		}
		t.Skip(hint)
	}
	kinds := filepath.Join(moduleDir(t, "github.com/cert-manager/cert-manager"), "deploy", "crds")
	server := &envtest.Environment{ErrorIfCRDPathMissing: true, CRDDirectoryPaths: []string{
		filepath.Join(kinds, "cert-manager.io_certificates.yaml"),
		filepath.Join(kinds, "cert-manager.io_clusterissuers.yaml"),
		filepath.Join(kinds, "cert-manager.io_issuers.yaml"),
	}}
	config, err := server.Start()
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Errorf("stop the API server: %v", err)
		}
	})
	if err != nil {
		t.Fatalf("start the API server: %v", err)
	}
	manager, err := newManager(config, "0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- manager.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-stopped; err != nil {
			t.Errorf("run the stand-in: %v", err)
		}
	})
	c, err := client.New(config, client.Options{Scheme: manager.GetScheme()})
	if err != nil {
		t.Fatal(err)
	}
	return cluster{c}
}

func (c cluster) issues(t *testing.T) {
	// As Cluster API's providers write it, and clusterctl its own: the issuer's kind may be left out.
	c.create(t, selfSigned("plain"), certificate("plain", service, service+".cluster.local"))
	data := c.eventuallyServes(t, "plain", service)
	c.eventuallyServes(t, "plain", service+".cluster.local")
	if !bytes.Equal(data[cmmeta.TLSCAKey], data[corev1.TLSCertKey]) {
		t.Error("the certificate is not its own authority")
	}
	eventually(t, func() error { return c.isReady(t, "plain", cmmeta.ConditionTrue, "up to date") })
	issuer := &cmapi.Issuer{}
	c.get(t, "plain", issuer)
	if len(issuer.Status.Conditions) != 1 || issuer.Status.Conditions[0].Status != cmmeta.ConditionTrue {
		t.Errorf("the issuer has conditions %+v, want Ready", issuer.Status.Conditions)
	}
}

func (c cluster) issuesAgainForOtherNames(t *testing.T) {
	c.create(t, selfSigned("names"), certificate("names", service))
	before := c.eventuallyServes(t, "names", service)
	c.change(t, "names", func(certificate *cmapi.Certificate) { certificate.Spec.DNSNames = []string{"other.default.svc"} })
	after := c.eventuallyServes(t, "names", "other.default.svc")
	if bytes.Equal(before[corev1.TLSPrivateKeyKey], after[corev1.TLSPrivateKeyKey]) {
		t.Error("the key is the old one")
	}
	if err := verify(after, service); err == nil {
		t.Errorf("the new certificate still serves %s", service)
	}
}

func (c cluster) issuesAgainWithoutSecret(t *testing.T) {
	c.create(t, selfSigned("lost"), certificate("lost", service))
	c.eventuallyServes(t, "lost", service)
	if err := c.Delete(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "lost"}}); err != nil {
		t.Fatal(err)
	}
	c.eventuallyServes(t, "lost", service)
}

func (c cluster) waitsForTheIssuer(t *testing.T) {
	c.create(t, certificate("early", service))
	eventually(t, func() error { return c.isReady(t, "early", cmmeta.ConditionFalse, "issuer early does not exist") })
	c.create(t, selfSigned("early"))
	eventually(t, func() error { return c.isReady(t, "early", cmmeta.ConditionTrue, "") })
	c.eventuallyServes(t, "early", service)
}

func (c cluster) refusesOtherIssuers(t *testing.T) {
	authority := &cmapi.ClusterIssuer{ObjectMeta: metav1.ObjectMeta{Name: "authority"}}
	authority.Spec.CA = &cmapi.CAIssuer{SecretName: "authority"}
	signed := certificate("signed", service)
	signed.Spec.IssuerRef = cmmeta.IssuerReference{Kind: cmapi.ClusterIssuerKind, Name: "authority"}
	c.create(t, authority, signed)
	eventually(t, func() error { return c.isReady(t, "signed", cmmeta.ConditionFalse, "install cert-manager itself") })
}

func (c cluster) injects(t *testing.T) {
	c.create(t, selfSigned("webhooks"))
	c.create(t, &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: asksFor("webhooks"),
		Webhooks:   []admissionregistrationv1.ValidatingWebhook{{Name: "a.example.com", ClientConfig: toService(), SideEffects: none(), AdmissionReviewVersions: []string{"v1"}}},
	}, &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: asksFor("webhooks"),
		Webhooks: []admissionregistrationv1.MutatingWebhook{
			{Name: "a.example.com", ClientConfig: toService(), SideEffects: none(), AdmissionReviewVersions: []string{"v1"}},
			{Name: "b.example.com", ClientConfig: toService(), SideEffects: none(), AdmissionReviewVersions: []string{"v1"}},
		},
	})
	// The Certificate comes last, as it may when a provider is installed.
	c.create(t, certificate("webhooks", service))
	c.eventuallyInjected(t, c.eventuallyServes(t, "webhooks", service)[cmmeta.TLSCAKey])
	c.change(t, "webhooks", func(certificate *cmapi.Certificate) { certificate.Spec.DNSNames = []string{"moved.default.svc"} })
	c.eventuallyInjected(t, c.eventuallyServes(t, "webhooks", "moved.default.svc")[cmmeta.TLSCAKey])
}

func (c cluster) eventuallyInjected(t *testing.T, authority []byte) {
	t.Helper()
	eventually(t, func() error {
		validating, mutating := &admissionregistrationv1.ValidatingWebhookConfiguration{}, &admissionregistrationv1.MutatingWebhookConfiguration{}
		c.get(t, "webhooks", validating)
		c.get(t, "webhooks", mutating)
		for _, bundle := range append(validatingBundles(validating), mutatingBundles(mutating)...) {
			if !bytes.Equal(*bundle, authority) {
				return errors.New("a webhook does not have the authority of the Certificate")
			}
		}
		return nil
	})
}

func (c cluster) injectsIntoDefinitions(t *testing.T) {
	c.create(t, selfSigned("conversion"), certificate("conversion", service))
	authority := c.eventuallyServes(t, "conversion", service)[cmmeta.TLSCAKey]
	converted, plain := definition("converteds", "conversion"), definition("plains", "conversion")
	plain.Spec.Conversion = nil
	c.create(t, converted, plain)
	eventually(t, func() error {
		got := &apiextensionsv1.CustomResourceDefinition{}
		if err := c.Get(t.Context(), client.ObjectKeyFromObject(converted), got); err != nil {
			return err
		}
		if !bytes.Equal(got.Spec.Conversion.Webhook.ClientConfig.CABundle, authority) {
			return errors.New("the definition does not have the authority of the Certificate")
		}
		return nil
	})
}

func TestIssuedRefusesWhatDoesNotServe(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	spec := certificate("any", service).Spec
	spec.IPAddresses, spec.CommonName = []string{"10.0.0.1"}, "any"
	spec.Duration = &metav1.Duration{Duration: 90 * time.Hour}
	good := func() map[string][]byte {
		data, err := issue(spec, now)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if issued(spec, good(), now.Add(59*time.Hour)) == nil {
		t.Fatal("a certificate in the first two thirds of its lifetime is refused")
	}
	for name, breakIt := range map[string]func(*cmapi.CertificateSpec, map[string][]byte, *time.Time){
		"nothing is there": func(_ *cmapi.CertificateSpec, data map[string][]byte, _ *time.Time) { clear(data) },
		"the key is another one": func(_ *cmapi.CertificateSpec, data map[string][]byte, _ *time.Time) {
			data[corev1.TLSPrivateKeyKey] = good()[corev1.TLSPrivateKeyKey]
		},
		"the authority is missing": func(_ *cmapi.CertificateSpec, data map[string][]byte, _ *time.Time) { delete(data, cmmeta.TLSCAKey) },
		"a name was added": func(spec *cmapi.CertificateSpec, _ map[string][]byte, _ *time.Time) {
			spec.DNSNames = append(spec.DNSNames, "more")
		},
		"an address was changed": func(spec *cmapi.CertificateSpec, _ map[string][]byte, _ *time.Time) {
			spec.IPAddresses = []string{"10.0.0.2"}
		},
		"an address cannot be read": func(spec *cmapi.CertificateSpec, _ map[string][]byte, _ *time.Time) {
			spec.IPAddresses = []string{"ten"}
		},
		"the subject was changed":  func(spec *cmapi.CertificateSpec, _ map[string][]byte, _ *time.Time) { spec.CommonName = "other" },
		"it shall be an authority": func(spec *cmapi.CertificateSpec, _ map[string][]byte, _ *time.Time) { spec.IsCA = true },
		"it ends soon":             func(_ *cmapi.CertificateSpec, _ map[string][]byte, at *time.Time) { *at = now.Add(60 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			wanted, data, at := *spec.DeepCopy(), good(), now
			breakIt(&wanted, data, &at)
			if issued(wanted, data, at) != nil {
				t.Error("it is taken for good")
			}
		})
	}
}

func selfSigned(name string) *cmapi.Issuer {
	issuer := &cmapi.Issuer{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	issuer.Spec.SelfSigned = &cmapi.SelfSignedIssuer{}
	return issuer
}

func certificate(name string, dnsNames ...string) *cmapi.Certificate {
	return &cmapi.Certificate{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       cmapi.CertificateSpec{SecretName: name, DNSNames: dnsNames, IssuerRef: cmmeta.IssuerReference{Name: name}},
	}
}

func asksFor(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Annotations: map[string]string{cmapi.WantInjectAnnotation: namespace + "/" + name}}
}

func toService() admissionregistrationv1.WebhookClientConfig {
	return admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: namespace, Name: "webhook"}}
}

func none() *admissionregistrationv1.SideEffectClass {
	return ptr.To(admissionregistrationv1.SideEffectClassNone)
}

func definition(plural, certificate string) *apiextensionsv1.CustomResourceDefinition {
	kind := strings.TrimSuffix(plural, "s")
	out := &apiextensionsv1.CustomResourceDefinition{ObjectMeta: asksFor(certificate)}
	out.Name = plural + ".example.com"
	out.Spec = apiextensionsv1.CustomResourceDefinitionSpec{
		Group: "example.com", Scope: apiextensionsv1.ClusterScoped,
		Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: plural, Singular: kind, Kind: kind, ListKind: kind + "List"},
		Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
			Name: "v1", Served: true, Storage: true,
			Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{Type: "object"}},
		}},
		Conversion: &apiextensionsv1.CustomResourceConversion{
			Strategy: apiextensionsv1.WebhookConverter,
			Webhook: &apiextensionsv1.WebhookConversion{
				ConversionReviewVersions: []string{"v1"},
				ClientConfig:             &apiextensionsv1.WebhookClientConfig{Service: &apiextensionsv1.ServiceReference{Namespace: namespace, Name: "webhook"}},
			},
		},
	}
	return out
}

func (c cluster) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := c.Create(t.Context(), object); err != nil {
			t.Fatalf("create %T %s: %v", object, object.GetName(), err)
		}
	}
}

func (c cluster) get(t *testing.T, name string, object client.Object) {
	t.Helper()
	key := client.ObjectKey{Name: name}
	if namespaced, err := c.IsObjectNamespaced(object); err != nil {
		t.Fatal(err)
	} else if namespaced {
		key.Namespace = namespace
	}
	if err := c.Get(t.Context(), key, object); err != nil {
		t.Fatalf("get %T %s: %v", object, name, err)
	}
}

func (c cluster) change(t *testing.T, name string, mutate func(*cmapi.Certificate)) {
	t.Helper()
	certificate := &cmapi.Certificate{}
	c.get(t, name, certificate)
	before := certificate.DeepCopy()
	mutate(certificate)
	if err := c.Patch(t.Context(), certificate, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

// eventuallyServes returns the Secret's content once a client that trusts its ca.crt would accept the server.
func (c cluster) eventuallyServes(t *testing.T, secretName, dnsName string) map[string][]byte {
	t.Helper()
	secret := &corev1.Secret{}
	eventually(t, func() error {
		if err := c.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: secretName}, secret); err != nil {
			return err
		}
		return verify(secret.Data, dnsName)
	})
	return secret.Data
}

func verify(data map[string][]byte, dnsName string) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(data[cmmeta.TLSCAKey]) {
		return errors.New("there is no authority in ca.crt")
	}
	block, _ := pem.Decode(data[corev1.TLSCertKey])
	if block == nil {
		return errors.New("there is no certificate in tls.crt")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	_, err = certificate.Verify(x509.VerifyOptions{DNSName: dnsName, Roots: roots})
	return err
}

func (c cluster) isReady(t *testing.T, name string, status cmmeta.ConditionStatus, message string) error {
	certificate := &cmapi.Certificate{}
	c.get(t, name, certificate)
	conditions := certificate.Status.Conditions
	if len(conditions) != 1 || conditions[0].Status != status || !strings.Contains(conditions[0].Message, message) {
		return fmt.Errorf("conditions %+v, want Ready=%s with %q", conditions, status, message)
	}
	return nil
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	var last error
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(context.Context) (bool, error) {
		last = check()
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("not within %s: %v", patience, last)
	}
}

func moduleDir(t *testing.T, module string) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		t.Fatalf("find the module %s: %v", module, err)
	}
	return strings.TrimSpace(string(output))
}
