package cli

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/addons"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff(string(want), got); difference != "" {
		t.Errorf("%s (-want +got; with -update it is written anew):\n%s", file, difference)
	}
}

var now = time.Date(2026, 11, 2, 17, 0, 0, 0, time.UTC)

func ago(minutes int) metav1.Time {
	return metav1.NewTime(now.Add(-time.Duration(minutes) * time.Minute))
}

func ready(status metav1.ConditionStatus, reason, message string) metav1.Condition {
	return metav1.Condition{Type: fleetv1.ReadyCondition, Status: status, Reason: reason, Message: message}
}

func healthy() fleetv1.FleetMember {
	return fleetv1.FleetMember{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-vision", Name: "serving", CreationTimestamp: ago(600)},
		Status: fleetv1.FleetMemberStatus{
			Conditions: []metav1.Condition{ready("True", "Available", "")},
			Health:     fleetv1.HealthHealthy, Tenant: "team-vision", Site: "tokyo", Release: "v1-36-3", ReleasePhase: fleetv1.ReleaseSupported,
			KubernetesVersion: "v1.36.3", Infrastructure: "SendanCluster",
			Nodes: fleetv1.NodeCounts{Desired: 5, Ready: 5, Text: "5/5"},
			Pools: []fleetv1.PoolStatus{{Name: "big", NodeTemplate: "h100", Nodes: fleetv1.NodeCounts{Text: "2/2"}}},
		},
	}
}

func degraded() fleetv1.FleetMember {
	message := "10 of 11 nodes are ready: pool mig has 7 of 8: node mig-7: promised 56 nvidia.com/mig-1g.5gb, found 49"
	return fleetv1.FleetMember{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-vision", Name: "training", CreationTimestamp: ago(3000)},
		Spec: fleetv1.FleetMemberSpec{Locks: []fleetv1.FleetMemberLock{
			{Holder: "operator:mei", Reason: "looking at the card", Since: ago(30)},
		}},
		Status: fleetv1.FleetMemberStatus{
			Conditions: []metav1.Condition{
				ready("False", "NotReady", message),
				{Type: fleetv1.ControlPlaneHealthyCondition, Status: "True", Reason: "Available"},
				{Type: fleetv1.NodesHealthyCondition, Status: "False", Reason: "NotReady", Message: "pool mig has 7 of 8:\n* node mig-7: promised 56 nvidia.com/mig-1g.5gb, found 49"},
				{Type: fleetv1.AddonsHealthyCondition, Status: "False", Reason: "NotReady", Message: "device-plugin is Progressing"},
			},
			Health: fleetv1.HealthDegraded, Tenant: "team-vision", Site: "tokyo", Release: "v1-35-6", ReleasePhase: fleetv1.ReleaseDeprecated,
			KubernetesVersion: "v1.35.6", Infrastructure: "SendanCluster",
			Nodes: fleetv1.NodeCounts{Desired: 11, Ready: 10, Text: "10/11"},
			Usage: fleetv1.Usage{Clusters: 1, Nodes: 11, VCPUs: 300, MemoryMiB: 2_969_600, GPUs: map[string]int64{"H100-80GB": 8}, MIGSlices: map[string]int64{"1g.5gb": 168}},
			Pools: []fleetv1.PoolStatus{
				{Name: "big", NodeTemplate: "h100", Nodes: fleetv1.NodeCounts{Text: "0/0"}},
				{Name: "mig", NodeTemplate: "a100-mig", Nodes: fleetv1.NodeCounts{Text: "7/8"}, Message: "node mig-7: promised 56 nvidia.com/mig-1g.5gb, found 49"},
			},
			Addons: []fleetv1.MemberAddon{
				{Name: "cni", Version: "v1.2.0", Phase: fleetv1.AddonHealthy},
				{Name: "device-plugin", Version: "v0.17.1", Phase: fleetv1.AddonProgressing, Message: "DaemonSet kube-system/device-plugin: 7 of 8 pods are ready"},
			},
			Operations: []fleetv1.MemberOperation{
				{Time: ago(120), Description: "pool mig scaled from 6 to 8 nodes"},
				{Time: ago(3000), Description: "created with release v1-35-6"},
			},
		},
	}
}

// TestTheOutput compares what people see with what they are to see.
func TestTheOutput(t *testing.T) {
	degraded, healthy := degraded(), healthy()
	members := []fleetv1.FleetMember{healthy, degraded}
	templates := []fleetv1.NodeTemplate{
		{ObjectMeta: metav1.ObjectMeta{Name: "a100-mig"}, Spec: fleetv1.NodeTemplateSpec{
			Flavor: "a100-8", ImageFamily: "ubuntu-24.04", PricePerHour: "20.80", Autoscaling: fleetv1.Autoscaling{MaxSize: 4},
			GPU: &fleetv1.GPU{Model: "A100-40GB", Count: 8, Sharing: fleetv1.GPUMIG, Driver: fleetv1.GPUDriver{Branch: "570"}},
		}, Status: fleetv1.NodeTemplateStatus{DevicesText: "nvidia.com/mig-1g.5gb=56", Sites: []string{"osaka", "tokyo"}, Releases: []string{"v1-36-3"},
			Conditions: []metav1.Condition{ready("True", "Available", "")}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "plain"}, Spec: fleetv1.NodeTemplateSpec{Flavor: "m1.large", ImageFamily: "ubuntu-24.04"}},
	}
	releases := []fleetv1.Release{{
		ObjectMeta: metav1.ObjectMeta{Name: "v1-36-3"},
		Spec: fleetv1.ReleaseSpec{KubernetesVersion: "v1.36.3", Channels: []string{"stable", "rapid"},
			NodeTemplates: []fleetv1.ReleaseNodeTemplate{{Name: "a100-mig"}, {Name: "h100"}}, Addons: []fleetv1.ReleaseAddon{{Name: "cni", Version: "v1.2.0"}}},
		Status: fleetv1.ReleaseStatus{Phase: fleetv1.ReleaseSupported, Clusters: 12,
			Sites:      []fleetv1.ReleaseSite{{Site: "tokyo", ClusterClass: "v1-36-3-tokyo"}, {Site: "osaka"}},
			Conditions: []metav1.Condition{ready("True", "SitesIncomplete", "osaka: the image kube-v1.36.3 is not there; upload it, or give the site another name for it in spec.images")}},
	}}
	sites := []fleetv1.Site{
		{ObjectMeta: metav1.ObjectMeta{Name: "osaka"}, Status: fleetv1.SiteStatus{Region: "west",
			Conditions: []metav1.Condition{ready("False", "Unreachable", "the cloud does not answer")}}},
		{ObjectMeta: metav1.ObjectMeta{Name: "tokyo"}, Status: fleetv1.SiteStatus{Region: "east", Clusters: 12, ObservedTime: ago(1),
			Conditions: []metav1.Condition{ready("True", "Available", "")},
			Capacity: []fleetv1.GPUCapacity{
				{Model: "A100-40GB", FailureDomain: "az1", Free: ptr.To[int32](16), Source: fleetv1.CapacityFromPlacement},
				{Model: "A100-40GB", FailureDomain: "az2", Free: ptr.To[int32](0), Source: fleetv1.CapacityFromFailures, Waiting: 2},
				{Model: "H100-80GB", Free: ptr.To[int32](24), Source: fleetv1.CapacityFromLimits},
			}}},
	}
	tenants := []fleetv1.Tenant{tenant()}
	addonList := []fleetv1.Addon{{ObjectMeta: metav1.ObjectMeta{Name: "cni"},
		Spec:   fleetv1.AddonSpec{Versions: []fleetv1.AddonVersion{{Version: "v1.1.0"}, {Version: "v1.2.0"}}},
		Status: fleetv1.AddonStatus{Clusters: 12, Healthy: 11, Conditions: []metav1.Condition{ready("False", "ClustersFailing", "fails in team-vision/training")}}}}

	for name, write := range map[string]func(*bytes.Buffer) error{
		"clusters.golden":       func(b *bytes.Buffer) error { return writeClusters(b, members, false, false, now) },
		"clusters-all.golden":   func(b *bytes.Buffer) error { return writeClusters(b, members, true, true, now) },
		"cluster.golden":        func(b *bytes.Buffer) error { return writeCluster(b, &degraded, now) },
		"cluster-fine.golden":   func(b *bytes.Buffer) error { return writeCluster(b, &healthy, now) },
		"templates.golden":      func(b *bytes.Buffer) error { return writeTemplates(b, templates, false) },
		"templates-wide.golden": func(b *bytes.Buffer) error { return writeTemplates(b, templates, true) },
		"releases.golden":       func(b *bytes.Buffer) error { return writeReleases(b, releases, false) },
		"releases-wide.golden":  func(b *bytes.Buffer) error { return writeReleases(b, releases, true) },
		"sites.golden":          func(b *bytes.Buffer) error { return writeSites(b, sites, false, now) },
		"sites-wide.golden":     func(b *bytes.Buffer) error { return writeSites(b, sites, true, now) },
		"usage.golden":          func(b *bytes.Buffer) error { return writeTenants(b, tenants) },
		"usage-wide.golden":     func(b *bytes.Buffer) error { return writeUsage(b, []fleetv1.FleetMember{degraded}) },
		"addons.golden":         func(b *bytes.Buffer) error { return writeAddonList(b, addonList, false) },
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := write(&out); err != nil {
				t.Fatal(err)
			}
			golden(t, name, out.String())
		})
	}
}

func tenant() fleetv1.Tenant {
	return fleetv1.Tenant{
		ObjectMeta: metav1.ObjectMeta{Name: "team-vision"},
		Spec: fleetv1.TenantSpec{Quota: fleetv1.TenantQuota{
			Clusters: ptr.To[int64](3), Nodes: ptr.To[int64](20), MemoryGiB: ptr.To[int64](4096),
			GPUs:      []fleetv1.GPUQuota{{Model: "H100-80GB", Count: ptr.To[int64](16)}, {Model: "L4", Count: ptr.To[int64](0)}},
			MIGSlices: []fleetv1.MIGSliceQuota{{Profile: "1g.5gb", Count: ptr.To[int64](112)}},
		}},
		Status: fleetv1.TenantStatus{
			Usage:      fleetv1.Usage{Clusters: 1, Nodes: 6, VCPUs: 300, MemoryMiB: 2_969_601, GPUs: map[string]int64{"H100-80GB": 8}, MIGSlices: map[string]int64{"1g.5gb": 168}},
			Conditions: []metav1.Condition{{Type: fleetv1.WithinQuotaCondition, Status: "False", Reason: "OverQuota", Message: "MIG slices 1g.5gb: 168 of 112 used. Scale down."}},
		},
	}
}

const before = `
kubernetesVersion: v1.35.6
channels: [stable]
images:
- {family: ubuntu-24.04, image: kube-1.35}
- {family: ubuntu-24.04, image: kube-1.35-nvidia, generations: [Ampere, Volta], driver: {version: 570.172.08, cuda: "12.8", kernel: 6.8.0-60}}
controlPlane: {flavor: m1.medium, imageFamily: ubuntu-24.04}
nodeTemplates:
- name: a100-mig
  spec:
    flavor: g1.a100.8
    imageFamily: ubuntu-24.04
    gpu: {model: A100-40GB, count: 8, sharing: MIG, migLayout: {instances: [{profile: 1g.5gb, count: 5}, {profile: 2g.10gb, count: 1}]}}
    labels: {example.com/purpose: training}
- name: v100
  spec: {flavor: g1.v100.4, imageFamily: ubuntu-24.04, gpu: {model: V100-32GB, count: 4}}
addons:
- {name: cni, version: v1.1.0}
- {name: dashboard, version: v2.0.0}
- {name: plugin, version: v1.0.0, manifests: "a: 1\n"}
`

const after = `
kubernetesVersion: v1.36.3
channels: [stable, rapid]
images:
- {family: ubuntu-24.04, image: kube-1.36}
- {family: ubuntu-24.04, image: kube-1.36-nvidia, generations: [Ampere, Hopper], driver: {version: 580.65.06, cuda: "13.0", kernel: 6.8.0-60, fabricManager: true}}
controlPlane: {flavor: m1.large, imageFamily: ubuntu-24.04}
nodeTemplates:
- name: h100
  spec: {flavor: g1.h100.8, imageFamily: ubuntu-24.04, gpu: {model: H100-80GB, count: 8}}
- name: a100-mig
  spec:
    flavor: g1.a100.8
    imageFamily: ubuntu-24.04
    gpu: {model: A100-40GB, count: 8, sharing: MIG, migLayout: {instances: [{profile: 2g.10gb, count: 2}, {profile: 1g.5gb, count: 3}]}}
    labels: {example.com/purpose: serving}
    kubelet: {maxPods: 250}
addons:
- {name: cni, version: v1.2.0}
- {name: monitoring, version: v0.1.0}
- {name: plugin, version: v1.0.0, manifests: "a: 1\nb: 2\n"}
`

func release(t *testing.T, text string) fleetv1.ReleaseSpec {
	t.Helper()
	var spec fleetv1.ReleaseSpec
	if err := yaml.UnmarshalStrict([]byte(text), &spec); err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestWhatDiffersBetweenTwoReleases(t *testing.T) {
	changes, err := compareReleases(release(t, before), release(t, after))
	if err != nil {
		t.Fatal(err)
	}
	for format, name := range map[string]string{formatTable: "release-diff.golden", formatYAML: "release-diff.golden.yaml"} {
		var out bytes.Buffer
		if err := writeChanges(&out, changes, format); err != nil {
			t.Fatal(err)
		}
		golden(t, name, out.String())
	}
}

func TestAReleaseDoesNotDifferFromOneThatOnlyOrdersItsListsOtherwise(t *testing.T) {
	other := release(t, strings.Replace(before, "generations: [Ampere, Volta]", "generations: [Volta, Ampere]", 1))
	other.Channels = []string{"rapid"}
	other.NodeTemplates[0], other.NodeTemplates[1] = other.NodeTemplates[1], other.NodeTemplates[0]
	changes, err := compareReleases(release(t, before), other)
	if err != nil || len(changes) != 0 {
		t.Errorf("changes %+v, %v", changes, err)
	}
}

func TestTheDifferencesBackAreTheSameTheOtherWayRound(t *testing.T) {
	there, err := compareReleases(release(t, before), release(t, after))
	if err != nil {
		t.Fatal(err)
	}
	back, err := compareReleases(release(t, after), release(t, before))
	if err != nil {
		t.Fatal(err)
	}
	for i := range back {
		back[i].From, back[i].To = back[i].To, back[i].From
	}
	if difference := cmp.Diff(there, back); difference != "" {
		t.Error(difference)
	}
}

func TestChangesOfAnAddonAreShownAndDecideTheVerdict(t *testing.T) {
	same := addons.Change{Addon: "cni", Object: "ConfigMap kube-system/cni", Action: addons.Unchanged}
	drifted := addons.Change{Addon: "cni", Object: "DaemonSet kube-system/cni", Action: addons.Changed, Text: "-a\n+b\n"}
	broken := addons.Change{Addon: "cni", Action: addons.Failing, Text: "no value\nfor ${A}"}
	var out bytes.Buffer
	if err := writeAddonChanges(&out, []addons.Change{same}); err != nil || out.Len() > 0 {
		t.Errorf("unchanged: %v, %s", err, out.String())
	}
	if err := writeAddonChanges(&out, []addons.Change{same, drifted}); !errors.Is(err, errDifferent) || out.String() != "DaemonSet kube-system/cni changed\n-a\n+b\n" {
		t.Errorf("changed: %v, %s", err, out.String())
	}
	if err := writeAddonChanges(&out, []addons.Change{drifted, broken}); err == nil || errors.Is(err, errDifferent) || err.Error() != "add-on cni: no value for ${A}" {
		t.Errorf("failing: %v", err)
	}
}

func TestADeletionIsConfirmedByTheNameAlone(t *testing.T) {
	for answer, confirmed := range map[string]bool{"training\n": true, "training": true, "y\n": false, "": false, "Training\n": false} {
		if err := confirm(strings.NewReader(answer), &bytes.Buffer{}, "team-vision", "training"); (err == nil) != confirmed {
			t.Errorf("%q: %v", answer, err)
		}
	}
}

const kubeconfig = `
apiVersion: v1
kind: Config
clusters: [{name: training, cluster: {server: "https://203.0.113.9:6443"}}]
users: [{name: training-admin, user: {token: %}}]
contexts: [{name: training-admin@training, context: {cluster: training, user: training-admin}}]
current-context: training-admin@training
`

func TestKubeconfigsAreMergedUnderNamesOfTheirOwn(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	for _, merge := range [][2]string{{"a/training", "one"}, {"b/training", "two"}, {"a/training", "renewed"}} {
		if err := mergeInto(file, merge[0], []byte(strings.Replace(kubeconfig, "%", merge[1], 1))); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "merged.golden", string(text))
	if err := mergeInto(file, "c/broken", []byte("apiVersion: v1\nkind: Config\n")); err == nil {
		t.Error("a kubeconfig without a context was merged")
	}
}
