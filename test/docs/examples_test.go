package docs_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/test/envtest"
)

// example is one document of a YAML block.
type example struct {
	// where it is: page, line of the block, number in the block.
	where   string
	content map[string]any
}

// isObject reports that it is meant to be applied.
func (e example) isObject() bool { return e.content["apiVersion"] != nil && e.content["kind"] != nil }

// examples are the documents of all YAML blocks. A block that is not YAML fails the test.
func examples(t *testing.T) []example {
	t.Helper()
	var all []example
	for _, page := range pages(t) {
		for _, block := range page.blocks {
			if block.language != "yaml" {
				continue
			}
			decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(block.text), 4096)
			for i := 1; ; i++ {
				e := example{where: fmt.Sprintf("%s:%d#%d", page.name, block.line, i)}
				err := decoder.Decode(&e.content)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", e.where, err)
				}
				all = append(all, e)
			}
		}
	}
	return all
}

func TestTheAPIServerTakesEveryExample(t *testing.T) {
	env := envtest.Start(t, fleetWebhooks()...)
	strict := client.WithFieldValidation(env.Client, metav1.FieldValidationStrict)
	all := examples(t)
	applyPlatform(t, env, all)
	applied := 0
	for _, e := range all {
		if !e.isObject() {
			continue
		}
		applied++
		t.Run(e.where, func(t *testing.T) {
			object := &unstructured.Unstructured{Object: e.content}
			ensureNamespace(t, env.Client, object)
			if err := dryRun(t, strict, object); err != nil {
				t.Errorf("%s %s: %v", object.GetKind(), object.GetName(), err)
			}
		})
	}
	if applied == 0 {
		t.Error("there are no examples")
	}
	t.Run("refusals", func(t *testing.T) { refusesAsQuoted(t, env) })
}

// ensureNamespace makes the namespace that an example is in, since a dry run makes none.
func ensureNamespace(t *testing.T, c client.Client, object *unstructured.Unstructured) {
	t.Helper()
	namespaced, err := c.IsObjectNamespaced(object)
	if err != nil {
		t.Fatal(err)
	}
	if !namespaced {
		return
	}
	if object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	ensureNamespaceNamed(t, c, object.GetNamespace())
}

func ensureNamespaceNamed(t *testing.T, c client.Client, name string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := c.Create(t.Context(), namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

func TestEveryCloudsYAMLInThePagesCanBeRead(t *testing.T) {
	read := 0
	for _, page := range pages(t) {
		for _, block := range page.blocks {
			if block.language != "yaml" || !strings.HasPrefix(block.text, "clouds:") {
				continue
			}
			read++
			if _, err := cloud.ParseCloudsYAML([]byte(block.text), ""); err != nil {
				t.Errorf("%s:%d: %v", page.name, block.line, err)
			}
		}
	}
	if read == 0 {
		t.Error("there is no clouds.yaml")
	}
}

// TestEveryYAMLBlockIsOfAKnownSort keeps a typing error in apiVersion or kind from hiding an example.
func TestEveryYAMLBlockIsOfAKnownSort(t *testing.T) {
	const scenarios = "docs/reference/openstack-simulator.md"
	for _, e := range examples(t) {
		_, isClouds := e.content["clouds"]
		_, isRules := e.content["groups"]
		if e.isObject() || isClouds || isRules || strings.HasPrefix(e.where, scenarios) {
			continue
		}
		t.Errorf("%s is neither an object, nor clouds.yaml, nor rules of Prometheus: it has the keys %q", e.where, slices.Sorted(maps.Keys(e.content)))
	}
}
