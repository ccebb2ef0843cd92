package addons

import (
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func cluster(version string, labels map[string]string) *clusterv1.Cluster {
	c := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "training", Labels: labels}}
	c.Spec.Topology.Version = version
	return c
}

// addon has the versions, written as "v1" or "v1 for >=1.31 <1.38", and selects every cluster.
func addon(name string, versions ...string) *fleetv1.Addon {
	a := &fleetv1.Addon{ObjectMeta: metav1.ObjectMeta{Name: name}}
	a.Spec.ClusterSelector = &metav1.LabelSelector{}
	for _, text := range versions {
		version, kubernetes, _ := strings.Cut(text, " for ")
		a.Spec.Versions = append(a.Spec.Versions, fleetv1.AddonVersion{
			Version: version, KubernetesVersions: kubernetes, Source: fleetv1.AddonSource{Manifests: configMap(name)},
		})
	}
	return a
}

func configMap(name string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: " + name + ", namespace: kube-system}\n"
}

func (a addonBuilder) selecting(labels map[string]string) *fleetv1.Addon {
	a.Spec.ClusterSelector = &metav1.LabelSelector{MatchLabels: labels}
	return a.Addon
}

type addonBuilder struct{ *fleetv1.Addon }

func release(pins ...fleetv1.ReleaseAddon) *fleetv1.Release {
	r := &fleetv1.Release{ObjectMeta: metav1.ObjectMeta{Name: "2026-10"}}
	r.Spec.Addons = pins
	return r
}

func TestWhichAddonsAndVersionsAClusterGets(t *testing.T) {
	nobodys := addon("nobodys", "v1")
	nobodys.Spec.ClusterSelector = nil
	for name, c := range map[string]struct {
		addons  []*fleetv1.Addon
		release *fleetv1.Release
		cluster *clusterv1.Cluster
		// want is "name version" or "name: part of the problem".
		want []string
	}{
		"an empty selector takes every cluster": {addons: []*fleetv1.Addon{addon("dns", "v1")}, want: []string{"dns v1"}},
		"no selector takes none":                {addons: []*fleetv1.Addon{nobodys}},
		"labels decide": {
			addons: []*fleetv1.Addon{
				addonBuilder{addon("gpu", "v1")}.selecting(map[string]string{"gpu": "yes"}),
				addonBuilder{addon("cpu", "v1")}.selecting(map[string]string{"gpu": "no"}),
			},
			cluster: cluster("v1.36.3", map[string]string{"gpu": "yes"}), want: []string{"gpu v1"},
		},
		"the last version that fits is taken": {
			addons: []*fleetv1.Addon{addon("csi", "v1 for >=1.30 <1.36", "v2 for >=1.35 <1.38", "v3 for >=1.38")}, want: []string{"csi v2"},
		},
		"a version without a range fits all": {addons: []*fleetv1.Addon{addon("csi", "v1 for >=1.30", "v2")}, want: []string{"csi v2"}},
		"a pre-release is taken for what it becomes": {
			addons: []*fleetv1.Addon{addon("csi", "v1 for <1.38", "v2 for >=1.38")}, cluster: cluster("v1.38.0-rc.1", nil), want: []string{"csi v2"},
		},
		"where none fits it says what there is": {
			addons: []*fleetv1.Addon{addon("csi", "v1 for <1.30")}, want: []string{"csi: none of its versions (v1) is for Kubernetes v1.36.3"},
		},
		"a release pins the version, whatever the range says": {
			addons: []*fleetv1.Addon{addon("csi", "v1 for <1.30", "v2")}, release: release(fleetv1.ReleaseAddon{Name: "csi", Version: "v1"}), want: []string{"csi v1"},
		},
		"a release gives what selects no cluster": {
			addons: []*fleetv1.Addon{nobodys}, release: release(fleetv1.ReleaseAddon{Name: "nobodys", Version: "v1"}), want: []string{"nobodys v1"},
		},
		"a release may bring a version of its own": {
			addons: []*fleetv1.Addon{addon("csi", "v1")}, release: release(fleetv1.ReleaseAddon{Name: "csi", Version: "v1-fixed", Manifests: configMap("fixed")}),
			want: []string{"csi v1-fixed"},
		},
		"a pinned version that there is not": {
			addons: []*fleetv1.Addon{addon("csi", "v1", "v2")}, release: release(fleetv1.ReleaseAddon{Name: "csi", Version: "v3"}),
			want: []string{"csi: Release 2026-10 wants version v3, and the Addon has v1, v2"},
		},
		"a pinned add-on that there is not": {
			release: release(fleetv1.ReleaseAddon{Name: "csi", Version: "v1"}), want: []string{"csi: Release 2026-10 names the Addon csi, which does not exist"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := Input{Cluster: c.cluster, Release: c.release}
			if in.Cluster == nil {
				in.Cluster = cluster("v1.36.3", nil)
			}
			for _, addon := range c.addons {
				in.Addons = append(in.Addons, *addon)
			}
			chosen := choose(in)
			if len(chosen) != len(c.want) {
				t.Fatalf("got %d add-ons, want %v", len(chosen), c.want)
			}
			for i, want := range c.want {
				got := chosen[i].name + " " + chosen[i].version
				if chosen[i].problem != "" {
					got = chosen[i].name + ": " + chosen[i].problem
				}
				if got != want && (chosen[i].problem == "" || !strings.HasPrefix(got, want)) {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
}

func TestTheVersionOfAClusterIsTheOldestThatItsControlPlaneRuns(t *testing.T) {
	c := cluster("v1.37.0", nil)
	if got := kubernetesVersion(c); got != "v1.37.0" {
		t.Errorf("before it runs: got %q", got)
	}
	c.Status.ControlPlane = &clusterv1.ClusterControlPlaneStatus{Versions: []clusterv1.StatusVersion{{Version: "v1.37.0"}, {Version: "v1.36.10"}}}
	if got := kubernetesVersion(c); got != "v1.36.10" {
		t.Errorf("in an upgrade: got %q", got)
	}
}

func TestRangesOfVersions(t *testing.T) {
	for text, fits := range map[string][]string{
		">=1.31 <1.38":      {"1.31.0", "1.36.3", "1.37.9"},
		"1.36":              {"1.36.3"},
		"<=1.36":            {"1.31.0", "1.36.3"},
		">1.36":             {"1.37.9", "1.38.0"},
		"v1.31.0 || >=1.38": {"1.31.0", "1.38.0"},
		">=v1.37.x":         {"1.37.9", "1.38.0"},
	} {
		var got []string
		for _, version := range []string{"1.31.0", "1.36.3", "1.37.9", "1.38.0"} {
			in, err := inRange(version, text)
			if err != nil {
				t.Fatal(err)
			}
			if in {
				got = append(got, version)
			}
		}
		if !slices.Equal(got, fits) {
			t.Errorf("%s takes %v, want %v", text, got, fits)
		}
	}
	for _, text := range []string{"new", ">=1", "1.36 -", "~1.36"} {
		if _, err := parseRange(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
