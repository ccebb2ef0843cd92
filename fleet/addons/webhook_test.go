package addons_test

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func (w world) webhook(t *testing.T) {
	nobody := func(spec *fleetv1.AddonSpec) { spec.ClusterSelector = nil }
	w.addon(t, "", "upper", configMap("upper", "1"), nobody, dependsOn("middle"))
	w.addon(t, "", "middle", configMap("middle", "1"), nobody, dependsOn("lower"))
	for name, c := range map[string]struct {
		change func(*fleetv1.AddonSpec)
		// want is part of the refusal; empty for what is taken.
		want string
	}{
		"a good one":                     {},
		"facts, variables and defaults":  {change: manifests(configMap("a", "${CLUSTER_NAME} ${OWN} ${MTU:=1450} $${LITERAL}"))},
		"a dependency that is not there": {change: dependsOn("later")},
		"a builtin": {change: func(spec *fleetv1.AddonSpec) {
			spec.Versions[0] = fleetv1.AddonVersion{Version: "v1.0.0", Source: fleetv1.AddonSource{Builtin: "sendan-cni"}}
		}},
		"a ConfigMap that is not there": {change: func(spec *fleetv1.AddonSpec) {
			spec.Versions[0].Source = fleetv1.AddonSource{ConfigMap: &fleetv1.ConfigMapReference{Namespace: team, Name: "later"}}
		}},

		"no YAML":    {change: manifests("a: ["), want: "spec.versions[0].source.manifests: Invalid value: document 1: "},
		"no kind":    {change: manifests("apiVersion: v1\nmetadata: {name: a}"), want: "document 1: it has no kind; an object needs apiVersion, kind and metadata.name"},
		"twice":      {change: manifests(configMap("a", "1") + configMap("a", "2")), want: "ConfigMap kube-system/a is there twice; remove one"},
		"undeclared": {change: manifests(configMap("a", "${OTHER}")), want: "no value for ${OTHER}; declare it in spec.variables"},
		"the second version": {
			change: func(spec *fleetv1.AddonSpec) {
				spec.Versions = append(spec.Versions, fleetv1.AddonVersion{Version: "v2", Source: fleetv1.AddonSource{Manifests: "a: b"}})
			},
			want: "spec.versions[1].source.manifests",
		},
		"a range": {
			change: func(spec *fleetv1.AddonSpec) { spec.Versions[0].KubernetesVersions = "new ones" },
			want:   `spec.versions[0].kubernetesVersions: Invalid value: "new ones": kubernetesVersions "new ones" cannot be read at "new"; write it like >=1.31 <1.38`,
		},
		"a builtin that there is not": {
			change: func(spec *fleetv1.AddonSpec) { spec.Versions[0].Source = fleetv1.AddonSource{Builtin: "it"} },
			want:   `spec.versions[0].source.builtin: Unsupported value: "it": supported values: `,
		},
		"a version that a builtin has not": {
			change: func(spec *fleetv1.AddonSpec) { spec.Versions[0].Source = fleetv1.AddonSource{Builtin: "sendan-cni"} },
			want:   `spec.versions[0].version: Unsupported value: "v1": supported values: "v1.0.0"`,
		},
		"itself":   {change: dependsOn("lower"), want: "circle: lower → lower; remove one"},
		"a circle": {change: dependsOn("upper"), want: "circle: lower → upper → middle → lower; remove one"},
		"the name of a fact": {
			change: func(spec *fleetv1.AddonSpec) { spec.Variables[0].Name = "REGION" },
			want:   `spec.variables[0].name: Invalid value: "REGION": is a fact that Sendan fills in for each cluster; choose another name`,
		},
		"a selector": {
			change: func(spec *fleetv1.AddonSpec) {
				spec.ClusterSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Is"}}}
			},
			want: "spec.clusterSelector: Invalid value",
		},
	} {
		t.Run(name, func(t *testing.T) {
			addon := &fleetv1.Addon{ObjectMeta: metav1.ObjectMeta{Name: "lower"}, Spec: fleetv1.AddonSpec{
				Versions:  []fleetv1.AddonVersion{{Version: "v1", Source: fleetv1.AddonSource{Manifests: configMap("lower", "1")}}},
				Variables: []fleetv1.AddonVariable{{Name: "OWN", Value: ptr.To("")}},
			}}
			if c.change != nil {
				c.change(&addon.Spec)
			}
			err := w.Client.Create(t.Context(), addon, client.DryRunAll)
			switch {
			case c.want == "" && err != nil:
				t.Errorf("it is refused: %v", err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}
