package plane

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sendan-io/sendan/config"
)

// fieldOwner is who applies what a plane is set up with.
const fieldOwner = client.FieldOwner("sendan-plane")

// How long the API server may take to serve new kinds.
const (
	establishedWithin = time.Minute
	establishedPoll   = 200 * time.Millisecond
)

// webhookServer is where a manager that runs outside of a cluster serves webhooks.
type webhookServer struct {
	port   int
	bundle []byte
}

// clientConfig is how the API server reaches a path of the server.
func (s webhookServer) clientConfig(path string) map[string]any {
	return map[string]any{
		"url":      "https://" + loopback(s.port) + path,
		"caBundle": base64.StdEncoding.EncodeToString(s.bundle),
	}
}

// provider is a set of kinds and webhooks with the manager that serves them.
type provider struct {
	manager string
	objects []*unstructured.Unstructured
}

// providers reads the manifests of Cluster API from the tools, and Sendan's from this program.
func providers(toolsDir string) ([]provider, error) {
	var all []provider
	for directory, manager := range map[string]string{
		"core":                  CoreManager,
		"bootstrap-kubeadm":     BootstrapManager,
		"control-plane-kubeadm": ControlPlaneManager,
	} {
		objects, err := readManifests(os.DirFS(filepath.Join(toolsDir, manifestsDirectory, directory)))
		if err != nil {
			return nil, fmt.Errorf("read manifests of %s: %w", manager, err)
		}
		all = append(all, provider{manager: manager, objects: objects})
	}
	for manager, manifests := range map[string]fs.FS{InfrastructureManager: config.Infrastructure(), FleetManager: config.Fleet()} {
		objects, err := readManifests(manifests)
		if err != nil {
			return nil, fmt.Errorf("read manifests of %s: %w", manager, err)
		}
		all = append(all, provider{manager: manager, objects: objects})
	}
	webhooks, err := fleetWebhooks()
	return append(all, provider{manager: FleetManager, objects: webhooks}), err
}

func fleetWebhooks() ([]*unstructured.Unstructured, error) {
	webhooks, err := config.FleetWebhooks()
	if err != nil {
		return nil, fmt.Errorf("read the webhooks of %s: %w", FleetManager, err)
	}
	var objects []*unstructured.Unstructured
	for _, typed := range []any{&webhooks.Mutating, &webhooks.Validating} {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
		if err != nil {
			return nil, err
		}
		objects = append(objects, &unstructured.Unstructured{Object: content})
	}
	return objects, nil
}

// readManifests reads every YAML file below root.
func readManifests(root fs.FS) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := fs.ReadFile(root, path)
		if err != nil {
			return err
		}
		more, err := ParseManifests(data)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		objects = append(objects, more...)
		return nil
	})
	return objects, err
}

// ParseManifests reads a stream of YAML documents.
func ParseManifests(data []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, err
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// pointAt makes the API server call webhooks, conversion included, at the server instead of a Service.
func pointAt(server webhookServer, object *unstructured.Unstructured) error {
	switch object.GetKind() {
	case "CustomResourceDefinition":
		return pointConversionAt(server, object)
	case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
		return pointWebhooksAt(server, object)
	}
	return nil
}

// pointConversionAt turns conversion on where there is something to convert.
func pointConversionAt(server webhookServer, crd *unstructured.Unstructured) error {
	versions, _, err := unstructured.NestedSlice(crd.Object, "spec", "versions")
	if err != nil || len(versions) < 2 {
		return err
	}
	return unstructured.SetNestedMap(crd.Object, map[string]any{
		"strategy": string(apiextensionsv1.WebhookConverter),
		"webhook": map[string]any{
			"conversionReviewVersions": []any{"v1"},
			"clientConfig":             server.clientConfig("/convert"),
		},
	}, "spec", "conversion")
}

func pointWebhooksAt(server webhookServer, configuration *unstructured.Unstructured) error {
	webhooks, _, err := unstructured.NestedSlice(configuration.Object, "webhooks")
	if err != nil {
		return err
	}
	for _, entry := range webhooks {
		webhook, ok := entry.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: a webhook is not an object", configuration.GetName())
		}
		path, found, err := unstructured.NestedString(webhook, "clientConfig", "service", "path")
		if err != nil {
			return err
		}
		if !found {
			return fmt.Errorf("%s: webhook %v names no service path", configuration.GetName(), webhook["name"])
		}
		webhook["clientConfig"] = server.clientConfig(path)
	}
	return unstructured.SetNestedSlice(configuration.Object, webhooks, "webhooks")
}

// install applies manifests and returns when the API server serves all kinds.
func (p *Plane) install(ctx context.Context, all []provider) error {
	for _, provider := range all {
		server := webhookServer{port: p.ports[provider.manager+webhookSuffix], bundle: p.webhookBundle}
		for _, object := range provider.objects {
			if err := pointAt(server, object); err != nil {
				return fmt.Errorf("set up webhooks of %s: %w", provider.manager, err)
			}
			if err := p.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership); err != nil {
				return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
			}
		}
	}
	if err := p.awaitEstablished(ctx); err != nil {
		return fmt.Errorf("wait for new kinds to be served: %w", err)
	}
	return nil
}

func (p *Plane) awaitEstablished(ctx context.Context) error {
	var missing string
	err := wait.PollUntilContextTimeout(ctx, establishedPoll, establishedWithin, true, func(ctx context.Context) (bool, error) {
		crds := &apiextensionsv1.CustomResourceDefinitionList{}
		if err := p.client.List(ctx, crds); err != nil {
			return false, err
		}
		missing = ""
		for _, crd := range crds.Items {
			if !isEstablished(crd) {
				missing = crd.Name
			}
		}
		return missing == "", nil
	})
	if err != nil && missing != "" {
		return fmt.Errorf("%s: %w", missing, err)
	}
	return err
}

func isEstablished(crd apiextensionsv1.CustomResourceDefinition) bool {
	for _, condition := range crd.Status.Conditions {
		if condition.Type == apiextensionsv1.Established {
			return condition.Status == apiextensionsv1.ConditionTrue
		}
	}
	return false
}
