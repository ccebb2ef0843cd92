package addons

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/blang/semver/v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// choice is an add-on that the cluster gets. Without a problem it has a version and a source.
type choice struct {
	name    string
	addon   *fleetv1.Addon
	version string
	source  fleetv1.AddonSource
	problem string
}

// choose returns the add-ons of the cluster: those of its Release, and those that select it.
func choose(in Input) []choice {
	pinned := map[string]fleetv1.ReleaseAddon{}
	if in.Release != nil {
		for _, pin := range in.Release.Spec.Addons {
			pinned[pin.Name] = pin
		}
	}
	var choices []choice
	for i := range in.Addons {
		addon := &in.Addons[i]
		pin, isPinned := pinned[addon.Name]
		delete(pinned, addon.Name)
		switch {
		case isPinned:
			choices = append(choices, pinnedVersion(addon, pin, in.Release.Name))
		case selects(addon, in.Cluster):
			choices = append(choices, fittingVersion(addon, kubernetesVersion(in.Cluster)))
		}
	}
	for name, pin := range pinned {
		choices = append(choices, choice{name: name, version: pin.Version, problem: fmt.Sprintf(
			"Release %s names the Addon %s, which does not exist; what is there stays until it does", in.Release.Name, name)})
	}
	return choices
}

// selects reports that the Addon asks for the cluster itself, whatever its Release says.
func selects(addon *fleetv1.Addon, cluster *clusterv1.Cluster) bool {
	selector, err := metav1.LabelSelectorAsSelector(addon.Spec.ClusterSelector) // nil selects nothing
	return err == nil && selector.Matches(labels.Set(cluster.Labels))
}

func pinnedVersion(addon *fleetv1.Addon, pin fleetv1.ReleaseAddon, release string) choice {
	chosen := choice{name: addon.Name, addon: addon, version: pin.Version}
	if pin.Manifests != "" {
		chosen.source = fleetv1.AddonSource{Manifests: pin.Manifests}
		return chosen
	}
	for _, version := range addon.Spec.Versions {
		if version.Version == pin.Version {
			chosen.source = version.Source
			return chosen
		}
	}
	chosen.problem = fmt.Sprintf("Release %s wants version %s, and the Addon has %s; add the version to the Addon",
		release, pin.Version, strings.Join(versionNames(addon), ", "))
	return chosen
}

// fittingVersion is the last whose range has the cluster's version in it.
func fittingVersion(addon *fleetv1.Addon, kubernetes string) choice {
	chosen := choice{name: addon.Name, addon: addon}
	for i := len(addon.Spec.Versions) - 1; i >= 0; i-- {
		version := addon.Spec.Versions[i]
		fits, err := inRange(kubernetes, version.KubernetesVersions)
		switch {
		case err != nil:
			chosen.problem = fmt.Sprintf("version %s: %s", version.Version, err)
			return chosen
		case fits:
			chosen.version, chosen.source = version.Version, version.Source
			return chosen
		}
	}
	chosen.problem = fmt.Sprintf("none of its versions (%s) is for Kubernetes %s; add one, or widen kubernetesVersions",
		strings.Join(versionNames(addon), ", "), kubernetes)
	return chosen
}

func versionNames(addon *fleetv1.Addon) []string {
	var names []string
	for _, version := range addon.Spec.Versions {
		names = append(names, version.Version)
	}
	return names
}

// kubernetesVersion is the oldest that the control plane runs, since add-ons follow an upgrade and do not run ahead of it;
// before it runs, the one that is asked for.
func kubernetesVersion(cluster *clusterv1.Cluster) string {
	oldest := ""
	if cluster.Status.ControlPlane != nil {
		for _, running := range cluster.Status.ControlPlane.Versions {
			version, err := semver.ParseTolerant(running.Version)
			if err != nil {
				continue
			}
			if known, err := semver.ParseTolerant(oldest); err != nil || version.LT(known) {
				oldest = running.Version
			}
		}
	}
	if oldest != "" {
		return oldest
	}
	return cluster.Spec.Topology.Version
}

// inRange takes a pre-release, such as v1.38.0-rc.1, for the version that it becomes.
func inRange(kubernetes, versions string) (bool, error) {
	if versions == "" {
		return true, nil
	}
	matches, err := parseRange(versions)
	if err != nil {
		return false, err
	}
	version, err := semver.ParseTolerant(kubernetes)
	if err != nil {
		return false, fmt.Errorf("the cluster's Kubernetes version %q is not known yet, and kubernetesVersions is %q", kubernetes, versions)
	}
	version.Pre, version.Build = nil, nil
	return matches(version), nil
}

// rangeTerm is one term of a range. The library takes much more, and silently makes something else of it.
var rangeTerm = regexp.MustCompile(`^(<|<=|>|>=|=|!=|)v?([0-9]+\.[0-9]+)(\.[0-9x]+)?$`)

// parseRange also takes versions of two numbers, which stand for all their patches.
func parseRange(versions string) (semver.Range, error) {
	terms := strings.Fields(versions)
	for i, term := range terms {
		parts := rangeTerm.FindStringSubmatch(term)
		switch {
		case term == "||":
			continue
		case parts == nil:
			return nil, fmt.Errorf("kubernetesVersions %q cannot be read at %q; write it like >=1.31 <1.38", versions, term)
		case parts[3] == "":
			parts[3] = ".x"
		}
		terms[i] = parts[1] + parts[2] + parts[3]
	}
	matches, err := semver.ParseRange(strings.Join(terms, " "))
	if err != nil {
		return nil, fmt.Errorf("kubernetesVersions %q cannot be read (%w); write it like >=1.31 <1.38", versions, err)
	}
	return matches, nil
}
