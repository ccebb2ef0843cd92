package templates

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// What a Cluster gets that says nothing of it.
const (
	stableChannel       = "stable"
	defaultPodCIDR      = "10.244.0.0/16"
	defaultServiceCIDR  = "10.96.0.0/16"
	defaultDomain       = "cluster.local"
	defaultControlPlane = 3
)

// clusterInput is all that decides what a Cluster is made of.
type clusterInput struct {
	cluster *clusterv1.Cluster // is changed
	// old is nil for a create.
	old *clusterv1.Cluster
	// tenant is nil in a namespace of nobody.
	tenant *fleetv1.Tenant
	// goneTenant is whose namespace it was.
	goneTenant string
	sites      []fleetv1.Site
	releases   []fleetv1.Release
	// classes of all releases.
	classes   []clusterv1.ClusterClass
	namespace string // of the classes
}

// isConcerned is false for Clusters that are not made of releases, and for changes that have nothing to do with them.
func (in clusterInput) isConcerned() bool {
	if !in.cluster.DeletionTimestamp.IsZero() {
		return false
	}
	topology := in.cluster.Spec.Topology
	if !topology.IsDefined() && in.cluster.Labels[fleetv1.SingleNodeLabel] == "" {
		return false
	}
	return topology.ClassRef.Name == "" || in.classNamed(topology.ClassRef.Name) != nil
}

func (in clusterInput) classNamed(name string) *clusterv1.ClusterClass {
	at := slices.IndexFunc(in.classes, func(class clusterv1.ClusterClass) bool { return class.Name == name })
	if at < 0 {
		return nil
	}
	return &in.classes[at]
}

// fillIn completes a Cluster. What it writes is owned by nobody, so that applying the user's file again changes nothing.
func fillIn(in clusterInput) field.ErrorList {
	if in.goneTenant != "" && in.old == nil {
		return field.ErrorList{field.Forbidden(field.NewPath("metadata", "namespace"),
			fmt.Sprintf("namespace %s is that of Tenant %s, which is gone or being deleted; use one of another tenant", in.cluster.Namespace, in.goneTenant))}
	}
	in.keepOld()
	in.followClassRef()
	site, wrong := in.chooseSite()
	if wrong != nil {
		return field.ErrorList{wrong}
	}
	release, wrong := in.chooseRelease(site)
	if wrong != nil {
		return field.ErrorList{wrong}
	}
	class, wrong := in.chooseClass(release, site)
	if wrong != nil {
		return field.ErrorList{wrong}
	}
	in.write(release, site, class)
	return in.completePools(release, class)
}

// keepOld puts back what a client has left out that replaces the whole object, so that this never moves a Cluster.
func (in clusterInput) keepOld() {
	if in.old == nil {
		return
	}
	for _, label := range []string{fleetv1.SiteLabel, fleetv1.ReleaseLabel, fleetv1.TenantLabel, fleetv1.SingleNodeLabel} {
		if value, had := in.old.Labels[label]; had && in.cluster.Labels[label] == "" {
			in.setLabel(label, value)
		}
	}
	topology, old := &in.cluster.Spec.Topology, in.old.Spec.Topology
	if topology.ClassRef.Name == "" {
		topology.ClassRef = old.ClassRef
	}
	topology.Version = cmp.Or(topology.Version, old.Version)
}

// followClassRef lets a Cluster that names a class have the labels of it.
func (in clusterInput) followClassRef() {
	name := in.cluster.Spec.Topology.ClassRef.Name
	if name == "" || in.old != nil && in.old.Spec.Topology.ClassRef.Name == name {
		return
	}
	class := in.classNamed(name)
	for _, label := range []string{fleetv1.SiteLabel, fleetv1.ReleaseLabel, fleetv1.SingleNodeLabel} {
		if value := class.Labels[label]; value != "" {
			in.setLabel(label, value)
		}
	}
	if in.cluster.Spec.Topology.Version == "" || in.old != nil && in.cluster.Spec.Topology.Version == in.old.Spec.Topology.Version {
		if release := in.releaseNamed(class.Labels[fleetv1.ReleaseLabel]); release != nil {
			in.cluster.Spec.Topology.Version = release.Spec.KubernetesVersion
		}
	}
}

func (in clusterInput) setLabel(label, value string) {
	if in.cluster.Labels == nil {
		in.cluster.Labels = map[string]string{}
	}
	in.cluster.Labels[label] = value
}

func labelPath(label string) *field.Path { return field.NewPath("metadata", "labels").Key(label) }

// chooseSite takes the only one that the tenant may use where the Cluster names none.
func (in clusterInput) chooseSite() (*fleetv1.Site, *field.Error) {
	path := labelPath(fleetv1.SiteLabel)
	wanted := in.cluster.Labels[fleetv1.SiteLabel]
	allowed := in.allowedSites()
	names := slices.Sorted(maps.Keys(allowed))
	switch site := allowed[wanted]; {
	case site != nil:
		return site, nil
	case wanted != "":
		return nil, field.NotSupported(path, wanted, names)
	case len(names) == 1:
		return allowed[names[0]], nil
	case len(names) == 0:
		return nil, field.Required(path, "there is no site that clusters of this namespace may be in; ask the platform team")
	}
	return nil, field.Required(path, "choose a site: "+strings.Join(names, ", "))
}

func (in clusterInput) allowedSites() map[string]*fleetv1.Site {
	allowed := map[string]*fleetv1.Site{}
	for i := range in.sites {
		site := &in.sites[i]
		if in.tenant == nil || slices.Contains(in.tenant.Spec.Sites, "*") || slices.Contains(in.tenant.Spec.Sites, site.Name) {
			allowed[site.Name] = site
		}
	}
	return allowed
}

func (in clusterInput) releaseNamed(name string) *fleetv1.Release {
	at := slices.IndexFunc(in.releases, func(release fleetv1.Release) bool { return release.Name == name })
	if at < 0 {
		return nil
	}
	return &in.releases[at]
}

// chooseRelease follows what has changed: the release that is named, the version, or else the channel of a new Cluster.
func (in clusterInput) chooseRelease(site *fleetv1.Site) (*fleetv1.Release, *field.Error) {
	wanted, version := in.cluster.Labels[fleetv1.ReleaseLabel], in.cluster.Spec.Topology.Version
	isNamed := wanted != "" && (in.old == nil || in.old.Labels[fleetv1.ReleaseLabel] != wanted)
	hasVersion := version != "" && (in.old == nil || in.old.Spec.Topology.Version != version)
	switch {
	case isNamed:
		return in.byName(wanted, version, hasVersion)
	case hasVersion:
		return in.byVersion(version, site)
	case wanted != "": // as it was
		if release := in.releaseNamed(wanted); release != nil {
			return release, nil
		}
		return nil, field.NotSupported(labelPath(fleetv1.ReleaseLabel), wanted, in.releaseNames())
	}
	return in.byChannel(site)
}

func (in clusterInput) byName(name, version string, hasVersion bool) (*fleetv1.Release, *field.Error) {
	release := in.releaseNamed(name)
	switch {
	case release == nil:
		return nil, field.NotSupported(labelPath(fleetv1.ReleaseLabel), name, in.releaseNames())
	case release.Status.Phase == fleetv1.ReleaseExpired && !in.wasMadeBefore():
		return nil, field.Invalid(labelPath(fleetv1.ReleaseLabel), name, "the release has expired; "+in.alternatives())
	case hasVersion && version != release.Spec.KubernetesVersion:
		return nil, field.Invalid(field.NewPath("spec", "topology", "version"), version,
			fmt.Sprintf("release %s has %s; leave the version out, or choose another release", name, release.Spec.KubernetesVersion))
	}
	return release, nil
}

// wasMadeBefore reports that a Cluster comes with what Cluster API once gave it: `clusterctl move` brings it here, or somebody
// restores it. It is not a new one, and its release may have expired since it was.
func (in clusterInput) wasMadeBefore() bool {
	spec := in.cluster.Spec
	return in.old == nil && spec.ControlPlaneEndpoint.IsValid() && spec.InfrastructureRef.IsDefined() && spec.ControlPlaneRef.IsDefined()
}

func (in clusterInput) releaseNames() []string {
	var names []string
	for _, release := range in.releases {
		if release.Status.Phase != fleetv1.ReleaseExpired {
			names = append(names, release.Name)
		}
	}
	slices.Sort(names)
	return names
}

// alternatives are for a message.
func (in clusterInput) alternatives() string {
	if names := in.releaseNames(); len(names) > 0 {
		return "there are " + strings.Join(names, ", ")
	}
	return "there is no other; ask the platform team"
}

// byVersion prefers a supported release to one that has yet to be, or no longer is; of equal ones the newest.
func (in clusterInput) byVersion(version string, site *fleetv1.Site) (*fleetv1.Release, *field.Error) {
	path := field.NewPath("spec", "topology", "version")
	if !strings.HasPrefix(version, "v") {
		version = "v" + version // as Cluster API's own defaulting has it
	}
	order := []fleetv1.ReleasePhase{fleetv1.ReleaseSupported, fleetv1.ReleaseDeprecated, fleetv1.ReleasePreview}
	candidates := in.inSite(site, func(release fleetv1.Release) bool {
		return release.Spec.KubernetesVersion == version && slices.Contains(order, release.Status.Phase)
	})
	if len(candidates) == 0 {
		return nil, field.NotSupported(path, version, in.versions(site))
	}
	slices.SortStableFunc(candidates, func(a, b *fleetv1.Release) int {
		return slices.Index(order, a.Status.Phase) - slices.Index(order, b.Status.Phase)
	})
	return candidates[0], nil
}

func (in clusterInput) versions(site *fleetv1.Site) []string {
	var versions []string
	for _, release := range in.inSite(site, func(release fleetv1.Release) bool { return release.Status.Phase != fleetv1.ReleaseExpired }) {
		versions = append(versions, release.Spec.KubernetesVersion)
	}
	slices.Sort(versions)
	return slices.Compact(versions)
}

func (in clusterInput) byChannel(site *fleetv1.Site) (*fleetv1.Release, *field.Error) {
	channel := in.cluster.Labels[fleetv1.ChannelLabel]
	if channel == "" && in.tenant != nil {
		channel = in.tenant.Spec.Channel
	}
	channel = cmp.Or(channel, stableChannel)
	candidates := in.inSite(site, func(release fleetv1.Release) bool {
		return release.Status.Phase == fleetv1.ReleaseSupported && slices.Contains(release.Spec.Channels, channel)
	})
	if len(candidates) == 0 {
		return nil, field.Invalid(labelPath(fleetv1.ChannelLabel), channel, fmt.Sprintf(
			"the channel has no supported release that site %s offers; set the label %s, or spec.topology.version: %s", site.Name, fleetv1.ReleaseLabel, in.alternatives()))
	}
	return candidates[0], nil
}

// inSite are the releases that clusters in the site can be made of, of the highest version first, then the newest.
func (in clusterInput) inSite(site *fleetv1.Site, matches func(fleetv1.Release) bool) []*fleetv1.Release {
	var found []*fleetv1.Release
	for i := range in.releases {
		if release := &in.releases[i]; matches(*release) && offer(release, site.Name).ClusterClass != "" {
			found = append(found, release)
		}
	}
	slices.SortFunc(found, func(a, b *fleetv1.Release) int {
		return cmp.Or(
			compareVersions(b.Spec.KubernetesVersion, a.Spec.KubernetesVersion),
			b.CreationTimestamp.Compare(a.CreationTimestamp.Time),
			strings.Compare(b.Name, a.Name),
		)
	})
	return found
}

// compareVersions takes what the API server has checked to be versions.
func compareVersions(a, b string) int {
	left, errLeft := semver.ParseTolerant(a)
	right, errRight := semver.ParseTolerant(b)
	if errLeft != nil || errRight != nil {
		return strings.Compare(a, b)
	}
	return left.Compare(right)
}

func offer(release *fleetv1.Release, site string) fleetv1.ReleaseSite {
	for _, offered := range release.Status.Sites {
		if offered.Site == site {
			return offered
		}
	}
	return fleetv1.ReleaseSite{}
}

// chooseClass keeps the class of a Cluster that stays with its release. Only where a pool needs a newer class of the release,
// and nothing that the Cluster has would change with it, that one is taken.
func (in clusterInput) chooseClass(release *fleetv1.Release, site *fleetv1.Site) (*clusterv1.ClusterClass, *field.Error) {
	offered := offer(release, site.Name)
	name, path, wanted := offered.ClusterClass, labelPath(fleetv1.ReleaseLabel), release.Name
	if template := in.cluster.Labels[fleetv1.SingleNodeLabel]; template != "" {
		path, wanted = labelPath(fleetv1.SingleNodeLabel), template
		at := slices.IndexFunc(offered.SingleNodeClasses, func(c fleetv1.SingleNodeClass) bool { return c.NodeTemplate == template })
		if at < 0 {
			return nil, field.NotSupported(path, template, singleNodeTemplates(offered))
		}
		name = offered.SingleNodeClasses[at].ClusterClass
	}
	if has := in.classNamed(in.cluster.Spec.Topology.ClassRef.Name); has != nil && belongs(has, in.cluster.Labels, release, site) {
		if newer := in.classNamed(name); newer == nil || !in.gainsBy(has, newer) {
			return has, nil
		}
	}
	class := in.classNamed(name)
	if class == nil {
		return nil, field.Invalid(path, wanted, fmt.Sprintf("release %s is not ready in site %s%s", release.Name, site.Name, because(offered.Missing)))
	}
	return class, nil
}

func because(missing []string) string {
	if len(missing) == 0 {
		return " yet; try again in a moment"
	}
	return ": " + strings.Join(firstOf(missing), "; ")
}

func singleNodeTemplates(offered fleetv1.ReleaseSite) []string {
	names := make([]string, 0, len(offered.SingleNodeClasses))
	for _, class := range offered.SingleNodeClasses {
		names = append(names, class.NodeTemplate)
	}
	return names
}

func belongs(class *clusterv1.ClusterClass, labels map[string]string, release *fleetv1.Release, site *fleetv1.Site) bool {
	return class.Labels[fleetv1.ReleaseLabel] == release.Name && class.Labels[fleetv1.SiteLabel] == site.Name &&
		class.Labels[fleetv1.SingleNodeLabel] == labels[fleetv1.SingleNodeLabel]
}

// gainsBy reports that the Cluster has a pool that only the newer class knows, while all else is the same in both.
func (in clusterInput) gainsBy(has, newer *clusterv1.ClusterClass) bool {
	differ := func(a, b clusterv1.ClusterClassTemplateReference) bool { return contentOf(a) != contentOf(b) }
	if differ(has.Spec.Infrastructure.TemplateRef, newer.Spec.Infrastructure.TemplateRef) ||
		differ(has.Spec.ControlPlane.TemplateRef, newer.Spec.ControlPlane.TemplateRef) ||
		differ(has.Spec.ControlPlane.MachineInfrastructure.TemplateRef, newer.Spec.ControlPlane.MachineInfrastructure.TemplateRef) {
		return false
	}
	gains := false
	for _, pool := range in.cluster.Spec.Topology.Workers.MachineDeployments {
		old, updated := poolClass(has, pool.Class), poolClass(newer, pool.Class)
		switch {
		case updated == nil:
			return false
		case old == nil:
			gains = true
		case differ(old.Infrastructure.TemplateRef, updated.Infrastructure.TemplateRef) || differ(old.Bootstrap.TemplateRef, updated.Bootstrap.TemplateRef):
			return false
		}
	}
	return gains
}

func poolClass(class *clusterv1.ClusterClass, name string) *clusterv1.MachineDeploymentClass {
	for i := range class.Spec.Workers.MachineDeployments {
		if class.Spec.Workers.MachineDeployments[i].Class == name {
			return &class.Spec.Workers.MachineDeployments[i]
		}
	}
	return nil
}

func (in clusterInput) write(release *fleetv1.Release, site *fleetv1.Site, class *clusterv1.ClusterClass) {
	in.setLabel(fleetv1.SiteLabel, site.Name)
	in.setLabel(fleetv1.ReleaseLabel, release.Name)
	if in.tenant != nil {
		in.setLabel(fleetv1.TenantLabel, in.tenant.Name)
	}
	topology := &in.cluster.Spec.Topology
	topology.ClassRef = clusterv1.ClusterClassRef{Name: class.Name, Namespace: in.namespace}
	topology.Version = release.Spec.KubernetesVersion
	if topology.ControlPlane.Replicas == nil {
		topology.ControlPlane.Replicas = ptr.To[int32](defaultControlPlane)
		if class.Labels[fleetv1.SingleNodeLabel] != "" {
			topology.ControlPlane.Replicas = ptr.To[int32](1)
		}
	}
	network := &in.cluster.Spec.ClusterNetwork
	if len(network.Pods.CIDRBlocks) == 0 {
		network.Pods.CIDRBlocks = []string{defaultPodCIDR}
	}
	if len(network.Services.CIDRBlocks) == 0 {
		network.Services.CIDRBlocks = []string{defaultServiceCIDR}
	}
	network.ServiceDomain = cmp.Or(network.ServiceDomain, defaultDomain)
}

// completePools lets the autoscaler decide about pools that give no size, and refuses pools of what is not offered.
func (in clusterInput) completePools(release *fleetv1.Release, class *clusterv1.ClusterClass) field.ErrorList {
	var wrong field.ErrorList
	path := field.NewPath("spec", "topology", "workers", "machineDeployments")
	pools := in.cluster.Spec.Topology.Workers.MachineDeployments
	if template := class.Labels[fleetv1.SingleNodeLabel]; template != "" {
		if len(pools) > 0 {
			wrong = append(wrong, field.Forbidden(path, "a cluster of one machine has no pools; remove them, or the label "+fleetv1.SingleNodeLabel))
		}
		if ptr.Deref(in.cluster.Spec.Topology.ControlPlane.Replicas, 1) != 1 {
			wrong = append(wrong, field.Invalid(field.NewPath("spec", "topology", "controlPlane", "replicas"),
				*in.cluster.Spec.Topology.ControlPlane.Replicas, "a cluster of one machine has one; remove the field, or the label "+fleetv1.SingleNodeLabel))
		}
		return wrong
	}
	for i := range pools {
		if poolClass(class, pools[i].Class) == nil {
			wrong = append(wrong, in.unknownPool(path.Index(i).Child("class"), pools[i].Class, release, class))
			continue
		}
		scaleBySelf(&pools[i], release)
	}
	return wrong
}

func (in clusterInput) unknownPool(path *field.Path, template string, release *fleetv1.Release, class *clusterv1.ClusterClass) *field.Error {
	for _, missing := range offer(release, class.Labels[fleetv1.SiteLabel]).Missing {
		if strings.HasPrefix(missing, template+": ") {
			return field.Invalid(path, template, "is not offered there: "+strings.TrimPrefix(missing, template+": "))
		}
	}
	var names []string
	for _, pool := range class.Spec.Workers.MachineDeployments {
		if in.tenant == nil || slices.Contains(in.tenant.Spec.NodeTemplates, "*") || slices.Contains(in.tenant.Spec.NodeTemplates, pool.Class) {
			names = append(names, pool.Class)
		}
	}
	slices.Sort(names)
	return field.NotSupported(path, template, names)
}

// scaleBySelf gives a pool without a size the bounds of its template, where it has none of its own.
func scaleBySelf(pool *clusterv1.MachineDeploymentTopology, release *fleetv1.Release) {
	template := copyOf(release, pool.Class)
	if pool.Replicas != nil || template == nil || template.Autoscaling.MaxSize == 0 {
		return
	}
	bounds := map[string]string{
		clusterv1.AutoscalerMinSizeAnnotation: strconv.Itoa(int(ptr.Deref(template.Autoscaling.MinSize, 0))),
		clusterv1.AutoscalerMaxSizeAnnotation: strconv.Itoa(int(template.Autoscaling.MaxSize)),
	}
	for annotation, bound := range bounds {
		if pool.Metadata.Annotations[annotation] == "" {
			pool.Metadata.Annotations = withEntry(pool.Metadata.Annotations, annotation, bound)
		}
	}
}
