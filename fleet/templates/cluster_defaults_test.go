package templates

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// fleetOf is a fleet with these releases compiled for these sites.
func fleetOf(sites []*fleetv1.Site, releases ...*fleetv1.Release) clusterInput {
	in := clusterInput{namespace: classes}
	for _, site := range sites {
		in.sites = append(in.sites, *site)
	}
	for i, release := range releases {
		release.CreationTimestamp = metav1.NewTime(time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC))
		for _, site := range sites {
			compiled := Compile(release, site, classes)
			for _, class := range compiled.Classes {
				in.classes = append(in.classes, *class)
			}
			release.Status.Sites = append(release.Status.Sites, siteStatus(site.Name, compiled))
		}
		in.releases = append(in.releases, *release)
	}
	return in
}

func osaka() *fleetv1.Site {
	site := tokyo()
	site.Name = "osaka"
	return site
}

func release(name, version string, change ...func(*fleetv1.Release)) *fleetv1.Release {
	release := testRelease(name, catalog(), "a100-mig", "h100", "npu")
	release.Spec.KubernetesVersion = version
	for _, c := range change {
		c(release)
	}
	return release
}

func inPhase(phase fleetv1.ReleasePhase) func(*fleetv1.Release) {
	return func(r *fleetv1.Release) { r.Status.Phase = phase }
}

func inChannels(channels ...string) func(*fleetv1.Release) {
	return func(r *fleetv1.Release) { r.Spec.Channels = channels }
}

func cluster(labels map[string]string, pools ...clusterv1.MachineDeploymentTopology) *clusterv1.Cluster {
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "training", Labels: labels}}
	cluster.Spec.Topology.Workers.MachineDeployments = pools
	return cluster
}

// restored has what Cluster API has given it, as `clusterctl move` brings it.
func restored(cluster *clusterv1.Cluster) *clusterv1.Cluster {
	ref := clusterv1.ContractVersionedObjectReference{APIGroup: "example.com", Kind: "Thing", Name: cluster.Name}
	cluster.Spec.InfrastructureRef, cluster.Spec.ControlPlaneRef = ref, ref
	cluster.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "192.0.2.10", Port: 6443}
	return cluster
}

func pool(class string) clusterv1.MachineDeploymentTopology {
	return clusterv1.MachineDeploymentTopology{Name: class, Class: class, Replicas: ptr.To[int32](1)}
}

func tenant(change ...func(*fleetv1.TenantSpec)) *fleetv1.Tenant {
	tenant := &fleetv1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "vision"}}
	tenant.Spec = fleetv1.TenantSpec{Sites: []string{"*"}, NodeTemplates: []string{"*"}, Channel: "stable"}
	for _, c := range change {
		c(&tenant.Spec)
	}
	return tenant
}

func TestNothingIsMadeInTheNamespaceOfATenantThatIsGone(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo()}, release("new", "v1.36.3"))
	in.cluster, in.goneTenant = cluster(nil, pool("a100-mig")), "vision"
	wantError(t, fillIn(in), "metadata.namespace", "namespace team is that of Tenant vision, which is gone or being deleted")

	in.goneTenant = ""
	if wrong := fillIn(in); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	in.goneTenant, in.old = "vision", in.cluster.DeepCopy()
	in.cluster.Spec.Topology.Workers.MachineDeployments[0].Replicas = ptr.To[int32](0)
	if wrong := fillIn(in); len(wrong) > 0 {
		t.Errorf("what is there cannot shrink: %v", wrong)
	}
}

func TestAClusterGetsWhatItDoesNotSay(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo()}, release("old", "v1.35.5"), release("new", "v1.36.3"), release("edge", "v1.37.0", inChannels("rapid")))
	in.cluster, in.tenant = cluster(nil, pool("a100-mig")), tenant()
	if wrong := fillIn(in); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	topology := in.cluster.Spec.Topology
	if topology.Version != "v1.36.3" || topology.ClassRef.Namespace != classes || *topology.ControlPlane.Replicas != 3 {
		t.Errorf("topology %+v", topology)
	}
	if labels := in.cluster.Labels; labels[fleetv1.ReleaseLabel] != "new" || labels[fleetv1.SiteLabel] != "tokyo" || labels[fleetv1.TenantLabel] != "vision" {
		t.Errorf("labels %v", labels)
	}
	if network := in.cluster.Spec.ClusterNetwork; network.Pods.CIDRBlocks[0] != defaultPodCIDR || network.ServiceDomain != "cluster.local" {
		t.Errorf("network %+v", network)
	}
}

func TestWhichReleaseANewClusterGets(t *testing.T) {
	everything := func() clusterInput {
		return fleetOf([]*fleetv1.Site{tokyo()},
			release("a", "v1.35.5"), release("b", "v1.36.3"), release("c", "v1.36.3"), release("edge", "v1.37.0", inChannels("rapid")),
			release("preview", "v1.38.0", inPhase(fleetv1.ReleasePreview)), release("tired", "v1.34.9", inPhase(fleetv1.ReleaseDeprecated)),
			release("gone", "v1.33.1", inPhase(fleetv1.ReleaseExpired)))
	}
	cases := map[string]struct {
		cluster *clusterv1.Cluster
		version string
		want    string
		wrong   []string
	}{
		"the newest of the channel":       {cluster: cluster(nil), want: "c"},
		"of another channel":              {cluster: cluster(map[string]string{fleetv1.ChannelLabel: "rapid"}), want: "edge"},
		"of no channel":                   {cluster: cluster(map[string]string{fleetv1.ChannelLabel: "slow"}), wrong: []string{"metadata.labels[fleet.sendan.io/channel]", `"slow"`, "no supported release"}},
		"by version":                      {cluster: cluster(nil), version: "v1.35.5", want: "a"},
		"by version without v":            {cluster: cluster(nil), version: "1.35.5", want: "a"},
		"a preview by version":            {cluster: cluster(nil), version: "v1.38.0", want: "preview"},
		"a version that nobody has":       {cluster: cluster(nil), version: "v1.36.9", wrong: []string{"spec.topology.version", `"v1.36.9"`, `"v1.36.3"`}},
		"a version that has expired":      {cluster: cluster(nil), version: "v1.33.1", wrong: []string{"spec.topology.version", `"v1.33.1"`}},
		"by name":                         {cluster: cluster(map[string]string{fleetv1.ReleaseLabel: "tired"}), want: "tired"},
		"by name, expired":                {cluster: cluster(map[string]string{fleetv1.ReleaseLabel: "gone"}), wrong: []string{"metadata.labels[fleet.sendan.io/release]", "has expired", "there are a, b, c, edge, preview, tired"}},
		"by name, expired, but restored":  {cluster: restored(cluster(map[string]string{fleetv1.ReleaseLabel: "gone"})), want: "gone"},
		"by a name that nobody has":       {cluster: cluster(map[string]string{fleetv1.ReleaseLabel: "x"}), wrong: []string{"metadata.labels[fleet.sendan.io/release]", `"x"`, `"a", "b"`}},
		"by name with another version":    {cluster: cluster(map[string]string{fleetv1.ReleaseLabel: "a"}), version: "v1.36.3", wrong: []string{"spec.topology.version", "release a has v1.35.5"}},
		"an unknown site":                 {cluster: cluster(map[string]string{fleetv1.SiteLabel: "kyoto"}), wrong: []string{"metadata.labels[fleet.sendan.io/site]", `"kyoto"`, `"tokyo"`}},
		"a pool of no template":           {cluster: cluster(nil, pool("b200")), wrong: []string{"spec.topology.workers.machineDeployments[0].class", `"b200"`, `"a100-mig", "h100", "npu"`}},
		"one machine of no such template": {cluster: cluster(map[string]string{fleetv1.SingleNodeLabel: "h100"}), wrong: []string{"metadata.labels[fleet.sendan.io/single-node]", `"h100"`, `"npu"`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			in := everything()
			in.cluster = c.cluster
			in.cluster.Spec.Topology.Version = c.version
			wrong := fillIn(in)
			if c.wrong != nil {
				wantError(t, wrong, c.wrong...)
				return
			}
			if len(wrong) > 0 || in.cluster.Labels[fleetv1.ReleaseLabel] != c.want {
				t.Errorf("release %s, %v; want %s", in.cluster.Labels[fleetv1.ReleaseLabel], wrong, c.want)
			}
		})
	}
}

func TestASiteIsChosenOnlyWhereThereIsOne(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo(), osaka()}, release("r", "v1.36.3"))
	in.cluster = cluster(nil)
	wantError(t, fillIn(in), "metadata.labels[fleet.sendan.io/site]", "choose a site: osaka, tokyo")

	in.cluster, in.tenant = cluster(nil), tenant(func(s *fleetv1.TenantSpec) { s.Sites = []string{"osaka"} })
	if wrong := fillIn(in); len(wrong) > 0 || in.cluster.Labels[fleetv1.SiteLabel] != "osaka" {
		t.Errorf("site %s, %v", in.cluster.Labels[fleetv1.SiteLabel], wrong)
	}
	in.cluster = cluster(map[string]string{fleetv1.SiteLabel: "tokyo"})
	wantError(t, fillIn(in), "metadata.labels[fleet.sendan.io/site]", `"tokyo"`, `"osaka"`)
	in.cluster, in.tenant = cluster(nil), tenant(func(s *fleetv1.TenantSpec) { s.Sites = nil })
	wantError(t, fillIn(in), "there is no site that clusters of this namespace may be in")
}

// filled completes a cluster that was valid before.
func filled(t *testing.T, in clusterInput) *clusterv1.Cluster {
	t.Helper()
	if wrong := fillIn(in); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	return in.cluster
}

func TestApplyingAgainChangesNothing(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"))
	in.cluster = cluster(nil, pool("a100-mig"))
	stored := filled(t, in).DeepCopy()

	newer := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"), release("s", "v1.37.0"))
	newer.old, newer.cluster = stored, cluster(nil, pool("a100-mig")) // a client that replaces all that it does not know
	if again := filled(t, newer); again.Spec.Topology.ClassRef != stored.Spec.Topology.ClassRef || again.Labels[fleetv1.ReleaseLabel] != "r" {
		t.Errorf("the cluster moved to %s", again.Labels[fleetv1.ReleaseLabel])
	}
}

func TestAnotherVersionOrReleaseMovesTheCluster(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"), release("s", "v1.37.0"))
	in.cluster = cluster(map[string]string{fleetv1.ReleaseLabel: "r"}, pool("a100-mig"))
	stored := filled(t, in).DeepCopy()
	for name, change := range map[string]func(*clusterv1.Cluster){
		"by version": func(c *clusterv1.Cluster) { c.Spec.Topology.Version = "v1.37.0" },
		"by label":   func(c *clusterv1.Cluster) { c.Labels[fleetv1.ReleaseLabel] = "s" },
		"by class": func(c *clusterv1.Cluster) {
			c.Spec.Topology.ClassRef.Name = offer(&in.releases[1], "tokyo").ClusterClass
		},
	} {
		in.old, in.cluster = stored, stored.DeepCopy()
		change(in.cluster)
		moved := filled(t, in)
		if moved.Labels[fleetv1.ReleaseLabel] != "s" || moved.Spec.Topology.Version != "v1.37.0" || in.classNamed(moved.Spec.Topology.ClassRef.Name).Labels[fleetv1.ReleaseLabel] != "s" {
			t.Errorf("%s: %v, %s, %s", name, moved.Labels, moved.Spec.Topology.Version, moved.Spec.Topology.ClassRef.Name)
		}
	}
}

func TestAClusterKeepsItsClassWhenTheSiteChanges(t *testing.T) {
	before := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"))
	before.cluster = cluster(nil, pool("h100"))
	stored := filled(t, before).DeepCopy()

	renamed := tokyo()
	renamed.Spec.Flavors[2].NameInCloud, renamed.Status.Flavors[2].Name = "g2.h100.8", "g2.h100.8"
	after := fleetOf([]*fleetv1.Site{renamed}, release("r", "v1.36.3"))
	after.classes = append(after.classes, before.classes...)
	after.old, after.cluster = stored, stored.DeepCopy()
	after.cluster.Spec.Topology.Workers.MachineDeployments[0].Replicas = ptr.To[int32](2)
	if scaled := filled(t, after); scaled.Spec.Topology.ClassRef != stored.Spec.Topology.ClassRef {
		t.Error("scaling moved the cluster to a class with another flavor, which would replace its machines")
	}
	after.old, after.cluster = nil, cluster(nil, pool("h100"))
	if fresh := filled(t, after); fresh.Spec.Topology.ClassRef == stored.Spec.Topology.ClassRef {
		t.Error("a new cluster got the class with the old flavor")
	}
}

func TestAPoolThatASiteOffersOnlyNowCanBeAdded(t *testing.T) {
	poor := tokyo()
	poor.Status.Images = []string{"kube-1.36", "kube-1.36-nvidia"} // nothing for npu
	before := fleetOf([]*fleetv1.Site{poor}, release("r", "v1.36.3"))
	before.cluster = cluster(nil, pool("h100"), pool("npu"))
	wantError(t, fillIn(before), "machineDeployments[1].class", "is not offered there: site tokyo has no image kube-1.36-mncore")
	before.cluster = cluster(nil, pool("h100"))
	stored := filled(t, before).DeepCopy()

	after := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"))
	after.classes = append(after.classes, before.classes...)
	after.old, after.cluster = stored, stored.DeepCopy()
	after.cluster.Spec.Topology.Workers.MachineDeployments = append(after.cluster.Spec.Topology.Workers.MachineDeployments, pool("npu"))
	if moved := filled(t, after); moved.Spec.Topology.ClassRef.Name != offer(&after.releases[0], "tokyo").ClusterClass {
		t.Error("the pool is in the newer class, and the cluster is not")
	}
}

func TestAPoolWithoutASizeScalesBySelf(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"))
	sized, own := pool("h100"), pool("h100")
	sized.Name, own.Name, own.Replicas = "sized", "own", nil
	own.Metadata.Annotations = map[string]string{clusterv1.AutoscalerMaxSizeAnnotation: "9"}
	free := pool("h100")
	free.Replicas = nil
	in.cluster = cluster(nil, free, sized, own)
	pools := filled(t, in).Spec.Topology.Workers.MachineDeployments
	for i, want := range []struct{ lowest, highest string }{{"0", "4"}, {"", ""}, {"0", "9"}} {
		got := pools[i].Metadata.Annotations
		if got[clusterv1.AutoscalerMinSizeAnnotation] != want.lowest || got[clusterv1.AutoscalerMaxSizeAnnotation] != want.highest {
			t.Errorf("pool %d has %v, want %v", i, got, want)
		}
	}
}

func TestAClusterOfOneMachine(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"))
	in.cluster = cluster(map[string]string{fleetv1.SingleNodeLabel: "npu"})
	if !in.isConcerned() {
		t.Fatal("a cluster with nothing but the label is not looked at")
	}
	topology := filled(t, in).Spec.Topology
	if *topology.ControlPlane.Replicas != 1 || in.classNamed(topology.ClassRef.Name).Labels[fleetv1.SingleNodeLabel] != "npu" {
		t.Errorf("topology %+v", topology)
	}
	in.cluster = cluster(map[string]string{fleetv1.SingleNodeLabel: "npu"}, pool("h100"))
	in.cluster.Spec.Topology.ControlPlane.Replicas = ptr.To[int32](3)
	wrong := fillIn(in)
	wantError(t, wrong, "spec.topology.workers.machineDeployments", "has no pools")
	wantError(t, wrong, "spec.topology.controlPlane.replicas", "3", "has one")
}

func TestClustersOfOthersAreLeftAlone(t *testing.T) {
	in := fleetOf([]*fleetv1.Site{tokyo()}, release("r", "v1.36.3"))
	for name, change := range map[string]func(*clusterv1.Cluster){
		"another class": func(c *clusterv1.Cluster) { c.Spec.Topology.ClassRef.Name = "quick-start" },
		"no topology": func(c *clusterv1.Cluster) {
			c.Spec = clusterv1.ClusterSpec{InfrastructureRef: clusterv1.ContractVersionedObjectReference{Kind: "DevCluster", Name: "x"}}
		},
		"being deleted": func(c *clusterv1.Cluster) { c.DeletionTimestamp = ptr.To(metav1.Now()) },
	} {
		in.cluster = cluster(nil, pool("a100-mig"))
		change(in.cluster)
		if in.isConcerned() {
			t.Errorf("%s: it is looked at", name)
		}
	}
}

func TestPhasesFollowTheDates(t *testing.T) {
	day := func(n int) metav1.Time { return metav1.NewTime(time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC)) }
	life := fleetv1.ReleaseLifecycle{SupportedFrom: day(2), DeprecatedFrom: day(4), ExpiredFrom: day(6)}
	for n, want := range []fleetv1.ReleasePhase{1: "Preview", 2: "Supported", 3: "Supported", 4: "Deprecated", 5: "Deprecated", 6: "Expired", 7: "Expired"} {
		if n == 0 {
			continue
		}
		phase, next := phaseOf(life, day(n).Time)
		if phase != want || !next.IsZero() && !next.After(day(n).Time) || next.IsZero() != (want == "Expired") {
			t.Errorf("day %d: %s until %s, want %s", n, phase, next, want)
		}
	}
	if phase, next := phaseOf(fleetv1.ReleaseLifecycle{}, day(1).Time); phase != fleetv1.ReleaseSupported || !next.IsZero() {
		t.Errorf("without dates: %s until %s", phase, next)
	}
	if phase, next := phaseOf(fleetv1.ReleaseLifecycle{ExpiredFrom: day(6)}, day(1).Time); phase != fleetv1.ReleaseSupported || !next.Equal(day(6).Time) {
		t.Errorf("with an end only: %s until %s", phase, next)
	}
	wrong := checkLifecycle(&fleetv1.Release{Spec: fleetv1.ReleaseSpec{Lifecycle: fleetv1.ReleaseLifecycle{SupportedFrom: day(4), ExpiredFrom: day(2)}}})
	wantError(t, wrong, "spec.lifecycle.expiredFrom", "2026-01-02", "must not be before supportedFrom, which is 2026-01-04")
}
