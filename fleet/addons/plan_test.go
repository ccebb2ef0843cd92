package addons

import (
	"strings"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func plan(release *fleetv1.Release, addons ...*fleetv1.Addon) Intent {
	in := Input{Cluster: cluster("v1.36.3", nil), Release: release}
	for _, addon := range addons {
		in.Addons = append(in.Addons, *addon)
	}
	return Plan(in)
}

func dependingOn(addon *fleetv1.Addon, names ...string) *fleetv1.Addon {
	addon.Spec.DependsOn = names
	return addon
}

func from(addon *fleetv1.Addon, source fleetv1.AddonSource) *fleetv1.Addon {
	addon.Spec.Versions[0].Source = source
	return addon
}

func suspended(addon *fleetv1.Addon) *fleetv1.Addon {
	addon.Spec.Suspended = ptr.To(true)
	return addon
}

// TestWhatCannotBeAppliedSaysWhy has one bad add-on each; the good one is applicable in all cases.
func TestWhatCannotBeAppliedSaysWhy(t *testing.T) {
	good := addon("good", "v1")
	for name, c := range map[string]struct {
		addons  []*fleetv1.Addon
		problem string
	}{
		"a circle": {
			[]*fleetv1.Addon{dependingOn(addon("bad", "v1"), "worse"), dependingOn(addon("worse", "v1"), "bad")},
			"the add-ons depend on each other in a circle: bad → worse → bad",
		},
		"a dependency that there is not": {[]*fleetv1.Addon{dependingOn(addon("bad", "v1"), "gone")}, "it depends on the Addon gone, which does not exist"},
		"no ConfigMap": {
			[]*fleetv1.Addon{from(addon("bad", "v1"), fleetv1.AddonSource{ConfigMap: &fleetv1.ConfigMapReference{Namespace: "system", Name: "it"}})},
			"the ConfigMap system/it with the manifests does not exist",
		},
		"no such builtin":      {[]*fleetv1.Addon{from(addon("bad", "v1"), fleetv1.AddonSource{Builtin: "it"})}, `there is no builtin "it"; there are cinder-csi, `},
		"no value":             {[]*fleetv1.Addon{from(addon("bad", "v1"), fleetv1.AddonSource{Manifests: "a: ${REGION}"})}, "the manifests of version v1 cannot be used: no value for ${REGION}"},
		"what another has too": {[]*fleetv1.Addon{from(addon("zbad", "v1"), fleetv1.AddonSource{Manifests: configMap("good")})}, "ConfigMap kube-system/good is also part of the add-on good"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, planned := range plan(nil, append(c.addons, good)...).Addons {
				switch {
				case planned.Name == "good" && (!planned.isApplicable() || len(planned.Objects) != 1):
					t.Errorf("the good one is %+v", planned)
				case strings.HasSuffix(planned.Name, "bad") && !strings.HasPrefix(planned.Problem, c.problem):
					t.Errorf("got %q, want %q", planned.Problem, c.problem)
				}
			}
		})
	}
}

func TestWithoutItsReleaseNothingIsAppliedOrRemoved(t *testing.T) {
	in := Input{Cluster: cluster("v1.36.3", map[string]string{fleetv1.ReleaseLabel: "gone"}), Addons: []fleetv1.Addon{*addon("dns", "v1")}}
	if intent := Plan(in); !strings.Contains(intent.Hold, "the Release gone of the cluster does not exist") || len(intent.Addons) > 0 {
		t.Errorf("got %+v", intent)
	}
}

func TestConfigMapsAreTakenInTheOrderOfTheirKeys(t *testing.T) {
	reference := fleetv1.ConfigMapReference{Namespace: "system", Name: "it"}
	in := Input{Cluster: cluster("v1.36.3", nil), Addons: []fleetv1.Addon{*from(addon("dns", "v1"), fleetv1.AddonSource{ConfigMap: &reference})}}
	in.ConfigMaps = map[fleetv1.ConfigMapReference]map[string]string{reference: {"b.yaml": configMap("second"), "a.yaml": configMap("first")}}
	objects := Plan(in).Addons[0].Objects
	if len(objects) != 2 || objects[0].GetName() != "first" || objects[1].GetName() != "second" {
		t.Errorf("got %v", objects)
	}
}

func TestASuspendedAddonIsNotRendered(t *testing.T) {
	got := plan(nil, suspended(from(addon("dns", "v1"), fleetv1.AddonSource{Manifests: "${BROKEN}"}))).Addons[0]
	if got.Problem != "" || got.isApplicable() {
		t.Errorf("got %+v", got)
	}
}

func TestAnUnreachableClusterKeepsWhatWasSeen(t *testing.T) {
	before := []fleetv1.MemberAddon{{Name: "dns", Phase: fleetv1.AddonHealthy, Version: "v1", Digest: "sha256:1"}}
	intent := plan(nil, addon("dns", "v2"), addon("csi", "v1"))
	since := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	first := keep(before, intent, unreachable(before, since))
	if len(first) != 2 || first[0].Phase != fleetv1.AddonPending || first[1].Phase != fleetv1.AddonHealthy || first[1].Version != "v1" ||
		!strings.HasPrefix(first[1].Message, "unreachable since 2026-11-26T12:00:00Z") {
		t.Errorf("got %+v", first)
	}
	later := keep(first, intent, unreachable(first, since.Add(time.Hour)))
	if later[0] != first[0] || later[1] != first[1] {
		t.Errorf("an hour later it changed to %+v", later)
	}
}

func TestTooManyAddonsKeepThoseWithTrouble(t *testing.T) {
	var addons []fleetv1.MemberAddon
	for i := range 70 {
		phase := fleetv1.AddonHealthy
		if i == 69 {
			phase = fleetv1.AddonFailed
		}
		addons = append(addons, fleetv1.MemberAddon{Name: string(rune('A' + i)), Phase: phase, Message: strings.Repeat("ü", 3000)})
	}
	last := addons[69].Name
	got := fit(addons)
	if len(got) != 64 || find(got, last).Phase != fleetv1.AddonFailed || len([]rune(got[0].Message)) != 2048 {
		t.Errorf("got %d add-ons, messages of %d characters", len(got), len([]rune(got[0].Message)))
	}
}
