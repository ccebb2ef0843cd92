package templates

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// unusedAnnotation is since when a class has been neither current nor used.
const unusedAnnotation = "fleet.sendan.io/unused-since"

// unusedFor is how long a class is kept that nobody uses. A Cluster that was admitted with it just before it ceased to be
// current is stored long before.
const unusedFor = 10 * time.Minute

// releaseInput is all that decides what becomes of a release.
type releaseInput struct {
	release   *fleetv1.Release // nil when it is gone or going
	sites     []fleetv1.Site
	classes   []clusterv1.ClusterClass // of the release
	clusters  []clusterv1.Cluster      // of the release
	has       func(client.Object) bool // whether the API server has a template
	namespace string
	now       time.Time
}

// releaseIntent is what is to be written, in this order.
type releaseIntent struct {
	create  []client.Object // what the classes refer to, then the classes
	inUse   []*clusterv1.ClusterClass
	unused  []*clusterv1.ClusterClass
	remove  []*clusterv1.ClusterClass
	status  fleetv1.ReleaseStatus
	ready   metav1.Condition
	recheck time.Time // zero when only events matter
}

// planRelease compiles the release for every site and finds the classes that nobody needs any more. A class never changes:
// where a site calls something by another name now, there is a new class beside the old one, which new clusters get.
func planRelease(in releaseInput) releaseIntent {
	if in.release == nil {
		out := releaseIntent{}
		out.sortOut(in, nil)
		return out
	}
	out := releaseIntent{status: fleetv1.ReleaseStatus{Conditions: in.release.Status.Conditions, Clusters: int32(len(in.clusters))}} //nolint:gosec // far fewer
	out.status.Phase, out.recheck = phaseOf(in.release.Spec.Lifecycle, in.now)
	current := map[string]bool{}
	var incomplete []string
	for i := range in.sites {
		site := siteFacts{&in.sites[i]}
		if !site.isKnown() {
			out.status.Sites = append(out.status.Sites, fleetv1.ReleaseSite{Site: site.Name, Missing: []string{"the site has not been read yet"}})
			incomplete = append(incomplete, site.Name+" has not been read yet")
			continue
		}
		compiled := Compile(in.release, site.Site, in.namespace)
		out.addMissing(in, compiled)
		for _, class := range compiled.Classes {
			current[class.Name] = true
		}
		out.status.Sites = append(out.status.Sites, siteStatus(site.Name, compiled))
		incomplete = append(incomplete, prefixed(site.Name, compiled.Missing)...)
	}
	out.sortOut(in, current)
	out.ready = readyOf(out.status.Sites, incomplete)
	return out
}

func (o *releaseIntent) addMissing(in releaseInput, compiled Compiled) {
	for _, template := range compiled.Templates {
		if !in.has(template) {
			o.create = append(o.create, template)
		}
	}
	for _, class := range compiled.Classes {
		if !slices.ContainsFunc(in.classes, func(have clusterv1.ClusterClass) bool { return have.Name == class.Name }) {
			o.create = append(o.create, class)
		}
	}
}

// sortOut decides about the classes that there are.
func (o *releaseIntent) sortOut(in releaseInput, current map[string]bool) {
	for i := range in.classes {
		class := &in.classes[i]
		since, marked := class.Annotations[unusedAnnotation]
		switch {
		case current[class.Name] || isUsed(class, in.clusters):
			if marked {
				o.inUse = append(o.inUse, class)
			}
		case !marked:
			o.unused = append(o.unused, class)
			o.recheckAt(in.now.Add(unusedFor))
		default:
			began, err := time.Parse(time.RFC3339, since)
			if err != nil || !in.now.Before(began.Add(unusedFor)) {
				o.remove = append(o.remove, class)
				continue
			}
			o.recheckAt(began.Add(unusedFor))
		}
	}
}

func (o *releaseIntent) recheckAt(at time.Time) {
	if o.recheck.IsZero() || at.Before(o.recheck) {
		o.recheck = at
	}
}

func isUsed(class *clusterv1.ClusterClass, clusters []clusterv1.Cluster) bool {
	return slices.ContainsFunc(clusters, func(cluster clusterv1.Cluster) bool {
		return cluster.Spec.Topology.ClassRef.Name == class.Name
	})
}

func siteStatus(name string, compiled Compiled) fleetv1.ReleaseSite {
	status := fleetv1.ReleaseSite{Site: name, NodeTemplates: slices.Sorted(slices.Values(compiled.Offered)), Missing: compiled.Missing}
	for _, class := range compiled.Classes {
		if template := class.Labels[fleetv1.SingleNodeLabel]; template != "" {
			status.SingleNodeClasses = append(status.SingleNodeClasses, fleetv1.SingleNodeClass{NodeTemplate: template, ClusterClass: class.Name})
			continue
		}
		status.ClusterClass = class.Name
	}
	return status
}

func prefixed(site string, lines []string) []string {
	out := make([]string, 0, len(lines))
	for _, line := range lines {
		out = append(out, site+": "+line)
	}
	return out
}

func readyOf(sites []fleetv1.ReleaseSite, incomplete []string) metav1.Condition {
	condition := metav1.Condition{Type: fleetv1.ReadyCondition, Status: metav1.ConditionTrue, Reason: fleetv1.AvailableReason}
	usable := slices.ContainsFunc(sites, func(site fleetv1.ReleaseSite) bool { return site.ClusterClass != "" })
	switch {
	case len(sites) == 0:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, fleetv1.NoSiteReason, "There is no Site. Make one."
	case !usable:
		condition.Status, condition.Reason = metav1.ConditionFalse, fleetv1.NoSiteReason
		condition.Message = fmt.Sprintf("No cluster can be made of it in any site. %s.", strings.Join(firstOf(incomplete), "; "))
	case len(incomplete) > 0:
		condition.Reason = fleetv1.SitesIncompleteReason
		condition.Message = fmt.Sprintf("Not everything is offered in every site. %s.", strings.Join(firstOf(incomplete), "; "))
	}
	return condition
}

// firstOf keeps a message short; status.sites has it all.
func firstOf(lines []string) []string {
	const most = 5
	if len(lines) <= most {
		return lines
	}
	return append(slices.Clone(lines[:most]), fmt.Sprintf("and %d more in status.sites", len(lines)-most))
}
