package plane

import (
	"encoding/base64"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sendan-io/sendan/config"
)

const webhookManifest = `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: validating-webhook-configuration}
webhooks:
- name: one.example.com
  clientConfig: {service: {name: webhook-service, namespace: system, path: /validate-one}}
  failurePolicy: Fail
- name: two.example.com
  clientConfig: {service: {name: webhook-service, namespace: system, path: /validate-two}}
`

func TestWebhooksAreCalledAtTheManagersPort(t *testing.T) {
	configuration := parseOne(t, webhookManifest)
	if err := pointAt(webhookServer{port: 1234, bundle: []byte("pem")}, configuration); err != nil {
		t.Fatal(err)
	}
	webhooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"https://127.0.0.1:1234/validate-one", "https://127.0.0.1:1234/validate-two"} {
		webhook := webhooks[i].(map[string]any)
		checkClientConfig(t, webhook["clientConfig"].(map[string]any), want)
	}
	if policy := webhooks[0].(map[string]any)["failurePolicy"]; policy != "Fail" {
		t.Errorf("failurePolicy became %v", policy)
	}
}

func TestAWebhookWithoutAServiceIsAnError(t *testing.T) {
	configuration := parseOne(t, strings.ReplaceAll(webhookManifest, "service:", "other:"))
	if err := pointAt(webhookServer{port: 1}, configuration); err == nil || !strings.Contains(err.Error(), "one.example.com") {
		t.Errorf("error is %v, want one that names the webhook", err)
	}
}

func TestOnlyKindsWithSeveralVersionsGetAConversionWebhook(t *testing.T) {
	const crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nspec: {versions: [%s]}\n"
	one, two := parseOne(t, strings.Replace(crd, "%s", "{name: v1}", 1)), parseOne(t, strings.Replace(crd, "%s", "{name: v1}, {name: v2}", 1))
	for _, object := range []*unstructured.Unstructured{one, two} {
		if err := pointAt(webhookServer{port: 99, bundle: []byte("pem")}, object); err != nil {
			t.Fatal(err)
		}
	}
	if _, found, _ := unstructured.NestedMap(one.Object, "spec", "conversion"); found {
		t.Error("a kind with one version got a conversion webhook")
	}
	clientConfig, found, err := unstructured.NestedMap(two.Object, "spec", "conversion", "webhook", "clientConfig")
	if err != nil || !found {
		t.Fatalf("conversion is missing: %v", two.Object)
	}
	checkClientConfig(t, clientConfig, "https://127.0.0.1:99/convert")
}

func TestThisProgramCarriesSendansKindsAndWebhooks(t *testing.T) {
	objects, err := readManifests(config.Infrastructure())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	names := map[string]bool{}
	for _, object := range objects {
		kinds[object.GetKind()]++
		names[object.GetName()] = true
		if err := pointAt(webhookServer{port: 1, bundle: []byte("pem")}, object); err != nil {
			t.Error(err)
		}
	}
	if kinds["CustomResourceDefinition"] == 0 || kinds["ValidatingWebhookConfiguration"] == 0 {
		t.Errorf("found %v", kinds)
	}
	if !names["sendanclusters.infrastructure.cluster.x-k8s.io"] {
		t.Errorf("sendanclusters are not among %v", names)
	}
}

func TestEmptyDocumentsAreSkippedAndGarbageIsNot(t *testing.T) {
	objects, err := ParseManifests([]byte("---\n# nothing\n---\nkind: A\n---\n\n---\nkind: B\n"))
	if err != nil || len(objects) != 2 {
		t.Errorf("got %d objects, %v; want 2", len(objects), err)
	}
	if _, err := ParseManifests([]byte("kind: [")); err == nil {
		t.Error("garbage was read without an error")
	}
}

func checkClientConfig(t *testing.T, clientConfig map[string]any, wantURL string) {
	t.Helper()
	if clientConfig["url"] != wantURL {
		t.Errorf("url is %v, want %s", clientConfig["url"], wantURL)
	}
	if _, found := clientConfig["service"]; found {
		t.Error("a Service is still named; the API server refuses both")
	}
	bundle, err := base64.StdEncoding.DecodeString(clientConfig["caBundle"].(string))
	if err != nil || string(bundle) != "pem" {
		t.Errorf("caBundle is %q, %v", bundle, err)
	}
}

func parseOne(t *testing.T, manifest string) *unstructured.Unstructured {
	t.Helper()
	objects, err := ParseManifests([]byte(manifest))
	if err != nil || len(objects) != 1 {
		t.Fatalf("got %d objects, %v", len(objects), err)
	}
	return objects[0]
}
