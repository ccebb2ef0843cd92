package members

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// Limits of the API, so that a status is never refused.
const (
	maxName    = 63
	maxMessage = 2048
)

// Input is what is known of one cluster. Plan changes nothing of it.
type Input struct {
	// Cluster it is about.
	Cluster *clusterv1.Cluster
	// MachineDeployments of the cluster.
	MachineDeployments []clusterv1.MachineDeployment
	// Machines of the cluster that lack their devices. Others do no harm.
	Machines []clusterv1.Machine
	// Tenant that the namespace belongs to.
	Tenant string
	// ReleasePhase of the cluster's release.
	ReleasePhase fleetv1.ReleasePhase
	// Before is the status as it is; empty when there is none yet, or when it was lost.
	Before fleetv1.FleetMemberStatus
	// Now is the time.
	Now time.Time
}

// Plan is what the status should be. Add-ons, and conditions of others, stay as they are.
func Plan(in Input) fleetv1.FleetMemberStatus {
	status := *in.Before.DeepCopy()
	status.Tenant = in.Tenant
	status.Site = in.Cluster.Labels[fleetv1.SiteLabel]
	status.Release = in.Cluster.Labels[fleetv1.ReleaseLabel]
	status.ReleasePhase = in.ReleasePhase
	status.KubernetesVersion = versionOf(in.Cluster)
	status.Infrastructure = in.Cluster.Spec.InfrastructureRef.Kind
	status.Pools = poolsOf(in)
	status.Nodes = nodesOf(in, status.Pools)

	why := fleetv1.NotReadyReason
	if !wasReady(in) {
		why = fleetv1.ProvisioningReason
	}
	parts := []metav1.Condition{
		controlPlaneHealthy(in.Cluster, why),
		reachable(in.Cluster),
		nodesHealthy(in, status, why),
		addonsHealthy(status.Addons, why),
	}
	status.Health = healthOf(in, parts)
	for _, condition := range append(parts, ready(in.Cluster, status.Health, parts)) {
		condition.LastTransitionTime = metav1.NewTime(in.Now.Truncate(time.Second))
		meta.SetStatusCondition(&status.Conditions, condition)
	}
	status.Operations = operationsOf(in.Before, status, in.Now)
	return status
}

// wasReady says whether the cluster has been ready before. A FleetMember is made together with its Cluster; so one without a
// status whose control plane is initialized has lost it, or the fleet manager came later than the cluster.
func wasReady(in Input) bool {
	if in.Before.Health == "" {
		return controlPlaneInitialized(in.Cluster)
	}
	return in.Before.Health != fleetv1.HealthProvisioning
}

func controlPlaneInitialized(cluster *clusterv1.Cluster) bool {
	return ptr.Deref(cluster.Status.Initialization.ControlPlaneInitialized, false)
}

func healthOf(in Input, parts []metav1.Condition) fleetv1.FleetMemberHealth {
	works := problemWithTopology(in.Cluster) == "" &&
		!slices.ContainsFunc(parts, func(c metav1.Condition) bool { return c.Status != metav1.ConditionTrue })
	switch {
	case !in.Cluster.DeletionTimestamp.IsZero():
		return fleetv1.HealthDeleting
	case works:
		return fleetv1.HealthHealthy
	case !wasReady(in):
		return fleetv1.HealthProvisioning
	case meta.IsStatusConditionFalse(parts, fleetv1.ReachableCondition):
		return fleetv1.HealthUnreachable
	}
	return fleetv1.HealthDegraded
}

// ready sums up the parts in one line for people.
func ready(cluster *clusterv1.Cluster, health fleetv1.FleetMemberHealth, parts []metav1.Condition) metav1.Condition {
	condition := metav1.Condition{Type: fleetv1.ReadyCondition, Status: metav1.ConditionFalse}
	var problems []string
	if problem := problemWithTopology(cluster); problem != "" {
		problems = append(problems, problem)
	}
	for _, part := range parts {
		if part.Status != metav1.ConditionTrue {
			problems = append(problems, part.Message)
		}
	}
	switch health {
	case fleetv1.HealthHealthy:
		condition.Status, condition.Reason = metav1.ConditionTrue, fleetv1.AvailableReason
	case fleetv1.HealthDeleting:
		condition.Reason = fleetv1.DeletingReason
		condition.Message = cmp.Or(flat(conditions.GetMessage(cluster, clusterv1.ClusterDeletingCondition)), "being deleted")
	case fleetv1.HealthProvisioning: // a cluster comes up in the order of the parts, so the first is what it is at
		condition.Reason, condition.Message = fleetv1.ProvisioningReason, problems[0]
	case fleetv1.HealthUnreachable: // what else is known is from before
		condition.Reason, condition.Message = fleetv1.UnreachableReason, meta.FindStatusCondition(parts, fleetv1.ReachableCondition).Message
	case fleetv1.HealthDegraded:
		condition.Reason, condition.Message = fleetv1.NotReadyReason, strings.Join(problems, "; ")
	}
	condition.Message = message.Clip(condition.Message, maxMessage)
	return condition
}

// problemWithTopology tells why Cluster API cannot do what the Cluster asks. That an upgrade takes its time is none.
func problemWithTopology(cluster *clusterv1.Cluster) string {
	topology := conditions.Get(cluster, clusterv1.ClusterTopologyReconciledCondition)
	if topology == nil || topology.Status != metav1.ConditionFalse {
		return ""
	}
	switch topology.Reason {
	case clusterv1.ClusterTopologyReconciledFailedReason, clusterv1.ClusterTopologyReconciledClusterClassNotReconciledReason:
		return message.Clip("the Cluster's topology cannot be carried out: "+flat(topology.Message), maxMessage)
	}
	return ""
}

func controlPlaneHealthy(cluster *clusterv1.Cluster, why string) metav1.Condition {
	condition := metav1.Condition{Type: fleetv1.ControlPlaneHealthyCondition, Status: metav1.ConditionFalse, Reason: why}
	available := conditions.Get(cluster, clusterv1.ClusterControlPlaneAvailableCondition)
	infrastructure := conditions.Get(cluster, clusterv1.ClusterInfrastructureReadyCondition)
	switch {
	case available != nil && available.Status == metav1.ConditionTrue:
		condition.Status, condition.Reason = metav1.ConditionTrue, fleetv1.AvailableReason
	case !controlPlaneInitialized(cluster) && infrastructure != nil && infrastructure.Status != metav1.ConditionTrue:
		condition.Message = because("the infrastructure is not ready", infrastructure.Message)
	case available == nil:
		condition.Message = "waiting for Cluster API to begin"
	default:
		condition.Status = available.Status
		condition.Message = because("the control plane is not available", available.Message)
	}
	return condition
}

// reachable repeats what Cluster API's own probe found.
func reachable(cluster *clusterv1.Cluster) metav1.Condition {
	condition := metav1.Condition{Type: fleetv1.ReachableCondition, Status: metav1.ConditionFalse, Reason: fleetv1.UnreachableReason}
	probe := conditions.Get(cluster, clusterv1.ClusterRemoteConnectionProbeCondition)
	switch {
	case probe != nil && probe.Status == metav1.ConditionTrue:
		condition.Status, condition.Reason = metav1.ConditionTrue, fleetv1.AvailableReason
	case !controlPlaneInitialized(cluster):
		condition.Reason, condition.Message = fleetv1.ProvisioningReason, "the cluster has no API server yet"
	case probe == nil:
		condition.Status, condition.Message = metav1.ConditionUnknown, "Cluster API has not tried to reach the API server yet"
	default:
		condition.Message = because("the API server does not answer", probe.Message) +
			"; look at the control-plane machines and the load balancer"
	}
	return condition
}

func nodesHealthy(in Input, status fleetv1.FleetMemberStatus, why string) metav1.Condition {
	condition := metav1.Condition{Type: fleetv1.NodesHealthyCondition, Status: metav1.ConditionTrue, Reason: fleetv1.AvailableReason}
	if status.Nodes.Ready >= status.Nodes.Desired {
		return condition
	}
	condition.Status, condition.Reason = metav1.ConditionFalse, why
	var short []string
	tell := func(what string, nodes fleetv1.NodeCounts, message string) {
		if nodes.Ready < nodes.Desired {
			short = append(short, because(fmt.Sprintf("%s has %d of %d", what, nodes.Ready, nodes.Desired), message))
		}
	}
	tell("the control plane", controlPlaneNodes(in.Cluster), withoutDevices(in.Machines, isControlPlane))
	for _, pool := range status.Pools {
		tell("pool "+pool.Name, pool.Nodes, pool.Message)
	}
	condition.Message = message.Clip(because(fmt.Sprintf("%d of %d nodes are ready", status.Nodes.Ready, status.Nodes.Desired), strings.Join(short, ", ")), maxMessage)
	return condition
}

func addonsHealthy(addons []fleetv1.MemberAddon, why string) metav1.Condition {
	condition := metav1.Condition{Type: fleetv1.AddonsHealthyCondition, Status: metav1.ConditionTrue, Reason: fleetv1.AvailableReason}
	var failed, waiting []string
	for _, addon := range addons {
		text := because(fmt.Sprintf("add-on %s is %s", addon.Name, addon.Phase), addon.Message)
		switch addon.Phase {
		case fleetv1.AddonHealthy, fleetv1.AddonSuspended:
		case fleetv1.AddonFailed:
			failed = append(failed, text)
		case fleetv1.AddonPending, fleetv1.AddonProgressing:
			waiting = append(waiting, text)
		}
	}
	if problems := slices.Concat(failed, waiting); len(problems) > 0 {
		condition.Status, condition.Reason = metav1.ConditionFalse, why
		condition.Message = message.Clip(strings.Join(problems, ", "), maxMessage)
	}
	return condition
}

// versionOf is the oldest that the control plane runs, and before it runs the one that is asked for.
func versionOf(cluster *clusterv1.Cluster) string {
	var versions []clusterv1.StatusVersion
	if cluster.Status.ControlPlane != nil {
		versions = cluster.Status.ControlPlane.Versions
	}
	if len(versions) == 0 {
		return message.Clip(cluster.Spec.Topology.Version, maxName)
	}
	oldest := slices.MinFunc(versions, func(a, b clusterv1.StatusVersion) int { return compareVersions(a.Version, b.Version) })
	return message.Clip(oldest.Version, maxName)
}

func compareVersions(a, b string) int {
	parsedA, errA := version.ParseSemantic(a)
	parsedB, errB := version.ParseSemantic(b)
	switch {
	case errA != nil || errB != nil:
		return cmp.Compare(a, b)
	case parsedA.LessThan(parsedB):
		return -1
	case parsedB.LessThan(parsedA):
		return 1
	}
	return 0
}

func because(what, why string) string {
	if why = flat(why); why == "" {
		return what
	}
	return what + ": " + why
}

// flat makes one line of Cluster API's messages, which are lists with bullets.
func flat(message string) string {
	var text strings.Builder
	for line := range strings.Lines(message) {
		line = strings.TrimSpace(strings.TrimLeft(line, " *\t"))
		switch {
		case line == "":
			continue
		case text.Len() == 0:
		case strings.HasSuffix(text.String(), ":"):
			text.WriteString(" ")
		default:
			text.WriteString("; ")
		}
		text.WriteString(line)
	}
	return text.String()
}
