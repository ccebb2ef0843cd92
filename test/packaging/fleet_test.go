package packaging_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/sendan-io/sendan/config"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	fleetImage     = "registry.example:5000/team/fleet-manager:v0.1.0"
	fleetNamespace = "sendan-fleet-system"
	fleetName      = "sendan-fleet-manager"
	nameLabel      = "app.kubernetes.io/name"
	moveLabel      = "clusterctl.cluster.x-k8s.io"
)

func TestTheComponentsOfTheFleetManager(t *testing.T) {
	all := fleetComponents(t, release(t, "--fleet-image", fleetImage))
	keepPromises(t, all, promises{namespace: fleetNamespace, image: fleetImage, label: nameLabel, value: fleetName, secrets: []string{"get"}})
	t.Run("nothing is left to fill in", func(t *testing.T) { haveNoVariables(t, all) })
	t.Run("every kind is there, and those that belong to a Cluster move with it", func(t *testing.T) { areAllThere(t, all) })
	t.Run("its webhooks are asked before those of Cluster API", func(t *testing.T) { comeBeforeClusterAPI(t, all) })
	t.Run("tests and the demo ask the same webhooks", func(t *testing.T) { areThoseOfTests(t, all) })
	t.Run("the manager learns its namespace", func(t *testing.T) { learnsItsNamespace(t, all) })
}

// haveNoVariables: kubectl fills in nothing. The documentation of kinds speaks of variables of their own.
func haveNoVariables(t *testing.T, all []unstructured.Unstructured) {
	for _, object := range all {
		text, err := object.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if found := variable.FindAllString(string(text), -1); found != nil && object.GetKind() != "CustomResourceDefinition" {
			t.Errorf("%s %s has %s", object.GetKind(), object.GetName(), found)
		}
	}
}

func areAllThere(t *testing.T, all []unstructured.Unstructured) {
	generated, err := filepath.Glob(envtest.RepositoryFile(t, "config", "fleet", "crd", "bases", "*.yaml"))
	definitions := typed[apiextensionsv1.CustomResourceDefinition](t, all, "CustomResourceDefinition")
	if err != nil || len(definitions) != len(generated) {
		t.Errorf("there are %d kinds, and %d are generated (%v)", len(definitions), len(generated), err)
	}
	for _, definition := range definitions {
		_, moves := definition.Labels[moveLabel]
		if belongs := definition.Spec.Scope == apiextensionsv1.NamespaceScoped; moves != belongs {
			t.Errorf("%s moves with Clusters: %t, want %t", definition.Name, moves, belongs)
		}
	}
}

// comeBeforeClusterAPI: the API server goes by the names of the configurations, and Cluster API's own refuses a Cluster whose
// class is yet to be filled in.
func comeBeforeClusterAPI(t *testing.T, all []unstructured.Unstructured) {
	const theirs = "capi-mutating-webhook-configuration"
	for _, ours := range typed[admissionregistrationv1.MutatingWebhookConfiguration](t, all, "MutatingWebhookConfiguration") {
		if ours.Name != "admission-sendan-fleet" || ours.Name >= theirs {
			t.Errorf("%s is not what the source calls it, or not before %s", ours.Name, theirs)
		}
	}
}

// areThoseOfTests: but for where they are served, which is different in each place.
func areThoseOfTests(t *testing.T, all []unstructured.Unstructured) {
	want, err := config.FleetWebhooks()
	if err != nil {
		t.Fatal(err)
	}
	conditions := 0
	for _, packaged := range typed[admissionregistrationv1.MutatingWebhookConfiguration](t, all, "MutatingWebhookConfiguration") {
		for i := range packaged.Webhooks {
			packaged.Webhooks[i].ClientConfig.Service, want.Mutating.Webhooks[i].ClientConfig.Service = nil, nil
			conditions += len(packaged.Webhooks[i].MatchConditions)
		}
		if diff := cmp.Diff(want.Mutating.Webhooks, packaged.Webhooks); diff != "" {
			t.Errorf("the package has other mutating webhooks: %s", diff)
		}
	}
	for _, packaged := range typed[admissionregistrationv1.ValidatingWebhookConfiguration](t, all, "ValidatingWebhookConfiguration") {
		for i := range packaged.Webhooks {
			packaged.Webhooks[i].ClientConfig.Service, want.Validating.Webhooks[i].ClientConfig.Service = nil, nil
			conditions += len(packaged.Webhooks[i].MatchConditions)
		}
		if diff := cmp.Diff(want.Validating.Webhooks, packaged.Webhooks); diff != "" {
			t.Errorf("the package has other validating webhooks: %s", diff)
		}
	}
	if conditions == 0 {
		t.Error("the package asks them whatever is written")
	}
}

func learnsItsNamespace(t *testing.T, all []unstructured.Unstructured) {
	for _, env := range manager(t, all).Env {
		if env.Name == "POD_NAMESPACE" && env.ValueFrom != nil && env.ValueFrom.FieldRef.FieldPath == "metadata.namespace" {
			return
		}
	}
	t.Errorf("POD_NAMESPACE is not in %+v", manager(t, all).Env)
}

func TestTheHighlyAvailableOverlayHasASecondFleetManager(t *testing.T) {
	all := fleetComponents(t, release(t, "--fleet-image", fleetImage, "--fleet-config", overlay(t, "fleet")))
	haveLabel(t, all, nameLabel, fleetName)
	hasASecondManager(t, all, fleetImage)
}

// TestTheManagersAreInstalledSeparately: in any order, and one is upgraded or removed without the other.
func TestTheManagersAreInstalledSeparately(t *testing.T) {
	directory := release(t)
	provider, fleet := components(t, directory), fleetComponents(t, directory)

	t.Run("no object is in both", func(t *testing.T) {
		known := map[string]bool{}
		for _, object := range provider {
			known[identity(object)] = true
		}
		for _, object := range fleet {
			if known[identity(object)] {
				t.Errorf("both have %s", identity(object))
			}
		}
	})
	t.Run("each has the kinds of its own group", func(t *testing.T) {
		for group, all := range map[string][]unstructured.Unstructured{"infrastructure.cluster.x-k8s.io": provider, "fleet.sendan.io": fleet} {
			for _, definition := range typed[apiextensionsv1.CustomResourceDefinition](t, all, "CustomResourceDefinition") {
				if definition.Spec.Group != group {
					t.Errorf("%s is not of %s", definition.Name, group)
				}
			}
		}
	})
	// clusterctl finds what it upgrades and deletes by this label.
	t.Run("clusterctl takes nothing of the fleet manager for the provider's", func(t *testing.T) { haveLabel(t, fleet, providerLabel, "") })
	t.Run("the image is the fleet manager's own, unless it is said", func(t *testing.T) {
		if got := manager(t, fleet).Image; !strings.HasSuffix(got, "/sendan/fleet-manager:dev") {
			t.Errorf("it is %s", got)
		}
	})
}

func identity(object unstructured.Unstructured) string {
	return strings.Join([]string{object.GroupVersionKind().GroupKind().String(), object.GetNamespace(), object.GetName()}, " ")
}
