package addons

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	builtins "github.com/sendan-io/sendan/templates/addons"
)

// Input is what the management cluster says about one Cluster.
type Input struct {
	Cluster *clusterv1.Cluster
	// Release that the Cluster's label names; nil where it names none, or where that is not there.
	Release *fleetv1.Release
	// Site that the Cluster's label names; nil likewise.
	Site *fleetv1.Site
	// Addons there are, and the data of the ConfigMaps that they refer to. A ConfigMap that is not there is not in the map.
	Addons     []fleetv1.Addon
	ConfigMaps map[fleetv1.ConfigMapReference]map[string]string
}

// Intent is what is to be in the cluster.
type Intent struct {
	// Hold says why nothing may be applied or removed now; empty otherwise.
	Hold string
	// Addons in the order in which they are applied.
	Addons []Addon
}

// has says whether an add-on has an object of that kind.
func (i Intent) has(kind schema.GroupVersionKind) bool {
	return slices.ContainsFunc(i.Addons, func(addon Addon) bool {
		return slices.ContainsFunc(addon.Objects, func(object *unstructured.Unstructured) bool { return object.GroupVersionKind() == kind })
	})
}

// Addon is one add-on in one cluster.
type Addon struct {
	Name    string
	Version string
	// Digest of Objects.
	Digest    string
	Objects   []*unstructured.Unstructured
	Deletion  fleetv1.AddonDeletion
	DependsOn []string
	Suspended bool
	// Problem says why it cannot be applied; empty otherwise. What is in the cluster stays as it is.
	Problem string
}

// isApplicable reports that there is something to apply.
func (a Addon) isApplicable() bool { return a.Problem == "" && !a.Suspended }

// Plan decides what is to be in the cluster.
func Plan(in Input) Intent {
	// Without the Release it is not known which add-ons it pins, and none of them may vanish for that.
	if release := in.Cluster.Labels[fleetv1.ReleaseLabel]; release != "" && in.Release == nil {
		return Intent{Hold: fmt.Sprintf("the Release %s of the cluster does not exist; add-ons stay as they are until it does, or until the label %s names another",
			release, fleetv1.ReleaseLabel)}
	}
	choices := map[string]choice{}
	dependsOn := map[string][]string{}
	for _, chosen := range choose(in) {
		choices[chosen.name] = chosen
		dependsOn[chosen.name] = nil
		if chosen.addon != nil {
			dependsOn[chosen.name] = chosen.addon.Spec.DependsOn
		}
	}
	sorted, circles := sortByDependency(dependsOn)
	exists := map[string]bool{}
	for _, addon := range in.Addons {
		exists[addon.Name] = true
	}
	var intent Intent
	owners := map[reference]string{}
	for _, name := range sorted {
		chosen := choices[name]
		if chosen.problem == "" {
			chosen.problem = dependencyProblem(chosen.addon, circles, exists)
		}
		addon := prepare(chosen, in)
		refuseShared(&addon, owners)
		intent.Addons = append(intent.Addons, addon)
	}
	return intent
}

func dependencyProblem(addon *fleetv1.Addon, circles map[string]string, exists map[string]bool) string {
	if circle := circles[addon.Name]; circle != "" {
		return fmt.Sprintf("the add-ons depend on each other in a circle: %s; remove one from dependsOn", circle)
	}
	for _, dependency := range addon.Spec.DependsOn {
		if !exists[dependency] {
			return fmt.Sprintf("it depends on the Addon %s, which does not exist; make it, or remove it from dependsOn", dependency)
		}
	}
	return ""
}

// prepare renders what was chosen.
func prepare(chosen choice, in Input) Addon {
	addon := Addon{Name: chosen.name, Version: chosen.version, Problem: chosen.problem}
	if chosen.addon == nil {
		return addon
	}
	addon.Deletion, addon.DependsOn = chosen.addon.Spec.Deletion, chosen.addon.Spec.DependsOn
	addon.Suspended = ptr.Deref(chosen.addon.Spec.Suspended, false)
	if !addon.isApplicable() {
		return addon
	}
	manifests, err := manifestsOf(chosen.version, chosen.source, in.ConfigMaps)
	if err != nil {
		addon.Problem = err.Error()
		return addon
	}
	result, err := render(chosen.name, manifests, valuesFor(chosen.addon, in))
	if err != nil {
		addon.Problem = fmt.Sprintf("the manifests of version %s cannot be used: %s", chosen.version, err)
		return addon
	}
	addon.Objects, addon.Digest = result.objects, result.digest
	return addon
}

// refuseShared keeps two add-ons from writing the same object in turns, for ever.
func refuseShared(addon *Addon, owners map[reference]string) {
	for _, object := range addon.Objects {
		if owner, owned := owners[referenceTo(object).key()]; owned {
			addon.Problem = fmt.Sprintf("%s is also part of the add-on %s; remove it from one of them", referenceTo(object), owner)
			addon.Objects, addon.Digest = nil, ""
			return
		}
	}
	for _, object := range addon.Objects {
		owners[referenceTo(object).key()] = addon.Name
	}
}

// sourceNotFound names the ConfigMap that is not there.
type sourceNotFound fleetv1.ConfigMapReference

func (s sourceNotFound) Error() string {
	return fmt.Sprintf("the ConfigMap %s/%s with the manifests does not exist; make it", s.Namespace, s.Name)
}

// manifestsOf reads the source of a version.
func manifestsOf(version string, source fleetv1.AddonSource, configMaps map[fleetv1.ConfigMapReference]map[string]string) (string, error) {
	switch {
	case source.Builtin != "":
		return builtins.Manifests(source.Builtin, version)
	case source.ConfigMap != nil:
		data, found := configMaps[*source.ConfigMap]
		if !found {
			return "", sourceNotFound(*source.ConfigMap)
		}
		var texts []string
		for _, key := range slices.Sorted(maps.Keys(data)) {
			texts = append(texts, data[key])
		}
		return strings.Join(texts, "\n---\n"), nil
	}
	return source.Manifests, nil
}
