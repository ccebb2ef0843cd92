package sites

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	wording "github.com/sendan-io/sendan/fleet/internal/message"
	"github.com/sendan-io/sendan/fleet/internal/naming"
)

// observedEvery is how old observedTime becomes while nothing else changes: a write each minute would only say that
// nothing happened.
const observedEvery = 10 * time.Minute

// mostMessage is how many characters of a condition a person reads.
const mostMessage = 4096

// Facts are what the cloud answered.
type Facts struct {
	Region string
	cloud.Offers
	Quotas []cloud.QuotaUsage
	// Free are the hosts with GPUs left, by model; a model that Placement does not tell of is not in it.
	Free map[string][]cloud.HostResources
}

// Input is everything that the plan of a Site may look at.
type Input struct {
	Site *fleetv1.Site
	// Facts are nil when Trouble says why there are none.
	Facts   *Facts
	Trouble error
	// Needed is what releases count on, by logical name.
	Needed cloud.OfferNames
	// Clusters in the site.
	Clusters map[types.NamespacedName]bool
	Waiting  []Waiting
	Interval time.Duration
	Now      time.Time
}

// Intent is what to write.
type Intent struct {
	Status fleetv1.SiteStatus
	// Pools says what each pool that waits for hardware is to read.
	Pools map[types.NamespacedName]string
	// Again is when to look next.
	Again time.Duration
}

// Plan turns what a cloud answered into the status of its Site. What it says depends on its input alone.
func Plan(in Input) Intent {
	status := *in.Site.Status.DeepCopy()
	status.Clusters = toInt32(len(in.Clusters))
	intent := Intent{Again: in.Interval}
	if in.Facts == nil {
		judgeTrouble(in, &status)
		intent.Again = retryAfter(in, status)
	} else {
		tell(in, &status)
		judge(in, &status)
	}
	intent.Pools = queue(in.Site.Name, in.Waiting, status.Flavors, status.Capacity)
	intent.Status = status
	return intent
}

// tell fills in the facts.
func tell(in Input, status *fleetv1.SiteStatus) {
	facts, site := in.Facts, in.Site.Spec
	status.Region = facts.Region
	status.FailureDomains = failureDomains(site, facts.Zones)
	status.Flavors = flavors(in)
	status.Images = keepNames(imageNames(facts), inCloud(site.Images, in.Needed.Images))
	status.Quotas = quotas(facts.Quotas)
	status.Capacity = capacityOf(site.GPUs, status.Flavors, status.FailureDomains, *facts, in.Waiting)
}

// failureDomains are the zones that are available and that the Site lets clusters use.
func failureDomains(site fleetv1.SiteSpec, zones []cloud.Zone) []string {
	var names []string
	for _, zone := range zones {
		allowed := len(site.FailureDomains) == 0 || slices.Contains(site.FailureDomains, zone.Name)
		if zone.Available && allowed && zone.Name != "internal" { // Nova's own services live in "internal"
			names = append(names, zone.Name)
		}
	}
	slices.Sort(names)
	return names
}

func flavors(in Input) []fleetv1.SiteFlavor {
	byName := map[string]cloud.Flavor{}
	for _, flavor := range in.Facts.Flavors {
		byName[flavor.Name] = flavor
	}
	needed := inCloud(in.Site.Spec.Flavors, in.Needed.Flavors)
	for name, flavor := range byName {
		if _, gpus := gpusOf(flavor, in.Site.Spec.GPUs); gpus > 0 {
			needed = append(needed, name) // capacity is counted by them
		}
	}
	var all []fleetv1.SiteFlavor
	for _, name := range keepNames(flavorNames(in.Facts), needed) {
		all = append(all, siteFlavor(byName[name], in.Site.Spec.GPUs))
	}
	return all
}

// inCloud are the cloud's names of what a Site maps and of what releases count on.
func inCloud(mapped []fleetv1.NameInCloud, logical []string) []string {
	var names []string
	for _, entry := range mapped {
		names = append(names, entry.NameInCloud)
	}
	for _, name := range logical {
		names = append(names, naming.InCloud(mapped, name))
	}
	return names
}

func flavorNames(facts *Facts) []string {
	return namesOf(facts.Flavors, func(f cloud.Flavor) string { return f.Name })
}

func imageNames(facts *Facts) []string {
	return namesOf(facts.Images, func(i cloud.Image) string { return i.Name })
}

func namesOf[T any](all []T, nameOf func(T) string) []string {
	names := make([]string, 0, len(all))
	for _, one := range all {
		names = append(names, nameOf(one))
	}
	return names
}

func quotas(all []cloud.QuotaUsage) fleetv1.SiteQuotas {
	of := func(resource string) fleetv1.UsedOf {
		quota, known := cloud.QuotaOf(all, resource)
		if !known {
			return fleetv1.UsedOf{}
		}
		return fleetv1.UsedOf{Used: ptr.To(int64(quota.Used)), Limit: ptr.To(int64(quota.Limit))}
	}
	return fleetv1.SiteQuotas{Instances: of("instances"), VCPUs: of("cores"), MemoryMiB: of("ram")}
}

// judge says whether clusters can be made with what is there.
func judge(in Input, status *fleetv1.SiteStatus) {
	set(in, status, fleetv1.ReachableCondition, "", "")
	reason, wrong := shortcomings(in, status)
	set(in, status, fleetv1.ReadyCondition, reason, wrong)
	observed := status.ObservedTime
	if now := metav1.NewTime(in.Now.Truncate(time.Second)); !equality.Semantic.DeepEqual(*status, in.Site.Status) || now.Sub(observed.Time) >= observedEvery {
		status.ObservedTime = now
	}
}

// shortcomings are the names of the spec that the cloud does not have.
func shortcomings(in Input, status *fleetv1.SiteStatus) (reason, message string) {
	site, facts := in.Site.Spec, in.Facts
	var wrong []string
	lookFor := func(field, kind, name string, there []string) {
		if !slices.Contains(there, name) {
			wrong = append(wrong, missing(field, kind, name, there))
		}
	}
	for i, entry := range site.Flavors {
		lookFor(fmt.Sprintf("spec.flavors[%d].nameInCloud", i), "flavor", entry.NameInCloud, flavorNames(facts))
	}
	for i, entry := range site.Images {
		lookFor(fmt.Sprintf("spec.images[%d].nameInCloud", i), "active image", entry.NameInCloud, imageNames(facts))
	}
	for i, name := range site.FailureDomains {
		lookFor(fmt.Sprintf("spec.failureDomains[%d]", i), "compute zone", name, namesOf(facts.Zones, func(z cloud.Zone) string { return z.Name }))
	}
	networks := namesOf(facts.ExternalNetworks, func(n cloud.Network) string { return n.Name })
	if site.ExternalNetwork != "" {
		lookFor("spec.externalNetwork", "external network", site.ExternalNetwork, networks)
	}
	switch {
	case len(wrong) > 0:
		return fleetv1.NameNotFoundReason, strings.Join(wrong, ". ") + ". Correct the name, or make it known in the cloud: it is looked for every minute."
	case site.ExternalNetwork == "" && len(networks) != 1:
		return fleetv1.InvalidReason, fmt.Sprintf("spec.externalNetwork: unset, which takes a cloud with one external network; this one has %d: %s. Set it.", len(networks), strings.Join(networks, ", "))
	case len(status.FailureDomains) == 0:
		return fleetv1.NotReadyReason, "No compute zone that clusters may use is available to the project. Machines wait until one is."
	}
	return "", ""
}

// errNoCredentials says that what the credentials are read from is not there.
var errNoCredentials = errors.New("no credentials")

// judgeTrouble says why there are no facts. Those of before stay: what a cloud offers hardly changes while it is away.
func judgeTrouble(in Input, status *fleetv1.SiteStatus) {
	reason := fleetv1.UnreachableReason
	switch class := cloud.ClassOf(in.Trouble); {
	case errors.Is(in.Trouble, errNoCredentials):
		reason = fleetv1.IdentityNotFoundReason
	case class == cloud.Auth:
		reason = fleetv1.CredentialsRefusedReason
	case class == cloud.Config:
		reason = fleetv1.InvalidReason
	}
	message := strings.TrimSuffix(in.Trouble.Error(), ".") + ". Tried again every " + in.Interval.String() + "."
	if observed := status.ObservedTime; !observed.IsZero() {
		message += " What the status shows was last seen at " + observed.UTC().Format(timeFormat) + "."
	}
	for _, condition := range []string{fleetv1.ReachableCondition, fleetv1.ReadyCondition} {
		set(in, status, condition, reason, message)
	}
}

// varying are the parts of an error that differ with each try of the same thing: request ids, times, ports.
var varying = regexp.MustCompile(`req-[0-9a-f-]{36}|[0-9]+`)

// set writes a condition, True without a reason. A message that says the same again stays as it is.
func set(in Input, status *fleetv1.SiteStatus, condition, reason, message string) {
	wanted := metav1.Condition{
		Type: condition, Status: metav1.ConditionTrue, Reason: fleetv1.AvailableReason,
		ObservedGeneration: in.Site.Generation, LastTransitionTime: metav1.NewTime(in.Now.Truncate(time.Second)),
	}
	if reason != "" {
		wanted.Status, wanted.Reason, wanted.Message = metav1.ConditionFalse, reason, wording.Clip(message, mostMessage)
	}
	if old := meta.FindStatusCondition(status.Conditions, condition); in.Facts == nil && old != nil && old.Reason == wanted.Reason &&
		varying.ReplaceAllString(old.Message, "") == varying.ReplaceAllString(wanted.Message, "") {
		wanted.Message = old.Message
	}
	meta.SetStatusCondition(&status.Conditions, wanted)
}

// retryAfter tries soon after a cloud has just gone away, and then the later, the longer it is.
func retryAfter(in Input, status fleetv1.SiteStatus) time.Duration {
	gone := meta.FindStatusCondition(status.Conditions, fleetv1.ReachableCondition).LastTransitionTime
	return min(max(in.Now.Sub(gone.Time), in.Interval/4), in.Interval)
}
