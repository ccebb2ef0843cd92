package controllers

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// What workloads of a cluster make in the cloud goes by the words below, which are those of cloud-provider-openstack
// v1.36.0. The machines are gone by now, and with them everybody who would remove it.
const (
	// serviceBalancer begins the name of a load balancer that the cloud-controller-manager made, and a tag for each
	// Service that shares one: lbFormat in pkg/openstack/loadbalancer.go. The name of the cluster follows, and an
	// underscore, which is in no Kubernetes name.
	serviceBalancer = "kube_service_"
	// serviceAddress begins the description of a floating IP that it made; it goes by that itself
	// (deleteFIPIfCreatedByProvider, same file).
	serviceAddress = "Floating IP for Kubernetes external service"
	// driverCluster is the key of the metadata of a volume that holds the cluster as the CSI driver's --cluster names it:
	// cinderCSIClusterIDKey in pkg/csi/cinder/controllerserver.go.
	driverCluster = "cinder.csi.openstack.org/cluster"
)

// leftoverAge is how old a listing may be in which leftovers are looked for. It is longer than strangerRecheck, so that
// one that was asked for at one look will do at the next.
const leftoverAge = 2 * strangerRecheck

// balancerPrefix begins the names of the cluster's own load balancers: our add-on openstack-cloud-controller-manager has
// --cluster-name=<namespace>-<name>.
func balancerPrefix(cluster *infrav1.SendanCluster) string {
	return serviceBalancer + cluster.Namespace + "-" + clusterName(cluster) + "_"
}

func clusterName(cluster *infrav1.SendanCluster) string {
	return cmp.Or(cluster.Labels[clusterv1.ClusterNameLabel], ownerClusterName(cluster))
}

func (in clusterInput) sweeps(what infrav1.Leftover) bool {
	return slices.Contains(in.cluster.Spec.Deletion.Sweep, what)
}

// clearLeftovers sees to what workloads left, before the router goes that it is reached through.
func clearLeftovers(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	if in.cluster.Spec.Network.Managed != nil && len(in.snapshot.NetworksOf(in.mark)) == 0 {
		return done(condition) // the network went when nothing was left on it
	}
	since := in.now.Add(-leftoverAge)
	if deleted := in.cluster.DeletionTimestamp; deleted != nil { // before it, workloads may still have been at work
		since = later(since, deleted.Time)
	}
	for _, kind := range leftoverKinds(in) {
		if in.snapshot.ListedAfter(kind, since) {
			continue
		}
		if err := in.snapshot.Err(kind); err != nil {
			return failing(condition, err, in.now)
		}
		return lookingAgain(in, waiting(condition, infrav1.WaitingForInventoryReason, "Looking for what the cluster's workloads left in the cloud.")).
			until(in.now.Add(firstListing))
	}
	if s := sweepVolumes(in); !s.done() {
		return s
	}
	return clearNetwork(in)
}

// leftoverKinds are the kinds that must have been listed lately. Where nobody asked to delete something, a service that
// does not answer is no reason to keep the cluster.
func leftoverKinds(in clusterInput) []cloud.Kind {
	kinds := []cloud.Kind{cloud.KindPort}
	if in.sweeps(infrav1.SweepLoadBalancers) {
		kinds = append(kinds, cloud.KindFloatingIP)
	}
	if in.sweeps(infrav1.SweepLoadBalancers) || in.snapshot.Err(cloud.KindLoadBalancer) == nil {
		kinds = append(kinds, cloud.KindLoadBalancer)
	}
	if in.sweeps(infrav1.SweepVolumes) || in.snapshot.Err(cloud.KindVolume) == nil {
		kinds = append(kinds, cloud.KindVolume)
	}
	return kinds
}

// lookingAgain has everything listed by the next look at what is in the way.
func lookingAgain(in clusterInput, s step) step {
	for _, kind := range leftoverKinds(in) {
		s = s.requiring(kind, in.now)
	}
	return s.until(in.now.Add(strangerRecheck))
}

// clearNetwork waits until no load balancer but the cluster's own is on its network, and deletes those of its Services if
// that is wanted.
func clearNetwork(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	for _, network := range in.snapshot.NetworksOf(in.mark) {
		balancers := slices.DeleteFunc(in.snapshot.LoadBalancersOnNetwork(network.ID), func(lb cloud.LoadBalancer) bool { return lb.Mark.Cluster == in.mark.Cluster })
		var actions []action
		for _, lb := range balancers {
			if in.sweeps(infrav1.SweepLoadBalancers) && isOfServices(lb, balancerPrefix(in.cluster)) && !lb.IsPending() {
				actions = append(actions, sweepBalancer(in, lb, network.ID)...)
			}
		}
		if len(actions) > 0 {
			return acting(in.attempts, condition, "Deleting load balancers of the cluster's Services, with their floating IPs.", actions...)
		}
		if i := slices.IndexFunc(balancers, cloud.LoadBalancer.IsPending); i >= 0 {
			return lookingAgain(in, waiting(condition, infrav1.DeletingReason, "Waiting for Octavia: load balancer %s is %s.", balancers[i].ID, balancers[i].ProvisioningStatus)).
				until(in.now.Add(leftoverRecheck))
		}
		if len(balancers) > 0 {
			return lookingAgain(in, waiting(condition, infrav1.DeletingReason, "Network %s still has %s, which Sendan did not make. %s",
				network.Name, balancerNames(balancers), howToClear(in, balancers)))
		}
	}
	return done(condition)
}

// isOfServices reports that the cluster's cloud-controller-manager made a load balancer, and that no other cluster shares it.
func isOfServices(lb cloud.LoadBalancer, prefix string) bool {
	return lb.Mark.IsZero() && strings.HasPrefix(lb.Name, prefix) && !slices.ContainsFunc(lb.Tags, func(tag string) bool {
		return strings.HasPrefix(tag, serviceBalancer) && !strings.HasPrefix(tag, prefix)
	})
}

func balancerNames(balancers []cloud.LoadBalancer) string {
	return someOf(balancers, func(lb cloud.LoadBalancer) string { return fmt.Sprintf("load balancer %s (%s)", lb.ID, lb.Name) })
}

// someOf enumerates the first few.
func someOf[T any](items []T, text func(T) string) string {
	var texts []string
	for _, item := range items[:min(len(items), 5)] {
		texts = append(texts, text(item))
	}
	if more := len(items) - len(texts); more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, ", ")
}

// howToClear tells what to do about load balancers, which may be other people's.
func howToClear(in clusterInput, balancers []cloud.LoadBalancer) string {
	text := fmt.Sprintf("Delete each with: openstack loadbalancer delete --cascade %s; and its floating IP, which stays behind.", balancers[0].ID)
	ours := slices.ContainsFunc(balancers, func(lb cloud.LoadBalancer) bool { return isOfServices(lb, balancerPrefix(in.cluster)) })
	if !ours || in.sweeps(infrav1.SweepLoadBalancers) {
		return text
	}
	return text + " Sendan deletes those of the cluster's Services after: " + sweepCommand(in, infrav1.SweepLoadBalancers)
}

func sweepCommand(in clusterInput, what infrav1.Leftover) string {
	return fmt.Sprintf(`kubectl patch sendancluster -n %s %s --type=merge -p '{"spec":{"deletion":{"sweep":[%s]}}}'`,
		in.cluster.Namespace, in.cluster.Name, quoted(append(slices.Clone(in.cluster.Spec.Deletion.Sweep), what)))
}

func quoted(leftovers []infrav1.Leftover) string {
	return someOf(leftovers, func(l infrav1.Leftover) string { return fmt.Sprintf("%q", l) })
}

// sweepBalancer deletes the floating IPs that the cloud-controller-manager made for a load balancer and, when they are
// gone, the load balancer: the other way round nothing would tell any more what they were for. What is deleted is asked
// for once more.
func sweepBalancer(in clusterInput, lb cloud.LoadBalancer, networkID string) []action {
	addresses := slices.DeleteFunc(in.snapshot.FloatingIPsOfPort(lb.VIPPortID), func(ip cloud.FloatingIP) bool { return !isOfService(ip, lb.VIPPortID) })
	if len(addresses) > 0 {
		return removals(cloud.KindFloatingIP, addresses, func(ip cloud.FloatingIP) string { return ip.ID }, func(s *cloud.Session, ctx context.Context, id string) error {
			return removeSeen(ctx, id, s.GetFloatingIP, func(ip cloud.FloatingIP) bool { return isOfService(ip, lb.VIPPortID) }, s.DeleteFloatingIP)
		})
	}
	return []action{removal(cloud.KindLoadBalancer, lb.ID, func(ctx context.Context, s *cloud.Session) error {
		port, err := s.GetPort(ctx, lb.VIPPortID)
		if err != nil {
			return err
		}
		return removeSeen(ctx, lb.ID, s.GetLoadBalancer, func(lb cloud.LoadBalancer) bool {
			return isOfServices(lb, balancerPrefix(in.cluster)) && lb.VIPPortID == port.ID && port.NetworkID == networkID
		}, s.DeleteLoadBalancer)
	})}
}

func isOfService(ip cloud.FloatingIP, portID string) bool {
	return ip.PortID == portID && strings.HasPrefix(ip.Description, serviceAddress)
}

// removeSeen deletes an object unless it is not any more what it was taken for. One that is gone counts as deleted.
func removeSeen[T any](ctx context.Context, id string, get func(context.Context, string) (T, error), is func(T) bool, remove func(context.Context, string) error) error {
	seen, err := get(ctx, id)
	if err != nil && !cloud.IsNotFound(err) {
		return err
	}
	if err == nil && !is(seen) {
		return cloud.Errorf(cloud.Conflict, "%s has changed, and is not deleted as it is", id)
	}
	return remove(ctx, id)
}

// volumesOfDriver are the volumes that the cluster's CSI driver made: our add-on cinder-csi has --cluster=<name>.
func volumesOfDriver(in clusterInput) []cloud.Volume {
	name := clusterName(in.cluster)
	if name == "" {
		return nil // a driver that was given no name writes an empty one
	}
	return slices.DeleteFunc(in.snapshot.VolumesWith(driverCluster, name), func(v cloud.Volume) bool {
		return v.Status == "deleting" || !v.Mark.IsZero()
	})
}

// sweepVolumes deletes the volumes that no server uses, if that is wanted, and waits for those on their way there.
func sweepVolumes(in clusterInput) step {
	const condition = infrav1.DeletingCondition
	if !in.sweeps(infrav1.SweepVolumes) || len(in.namesakes) > 0 {
		return done(condition)
	}
	volumes := volumesOfDriver(in)
	free := slices.DeleteFunc(slices.Clone(volumes), func(v cloud.Volume) bool { return !isFree(v) })
	if len(free) > 0 {
		return acting(in.attempts, condition, "Deleting "+volumeList(free)+" of the cluster's workloads.",
			removals(cloud.KindVolume, free, func(v cloud.Volume) string { return v.ID }, func(s *cloud.Session, ctx context.Context, id string) error {
				return removeSeen(ctx, id, s.GetVolume, func(v cloud.Volume) bool { return isFree(v) && v.Metadata[driverCluster] == clusterName(in.cluster) }, s.DeleteVolume)
			})...)
	}
	for _, volume := range volumes {
		if !isStuck(in.snapshot, volume) {
			return lookingAgain(in, waiting(condition, infrav1.DeletingReason, "Waiting for Cinder: %s is %s.", volumeList([]cloud.Volume{volume}), volume.Status)).
				until(in.now.Add(leftoverRecheck))
		}
	}
	return done(condition)
}

func isFree(volume cloud.Volume) bool {
	return volume.Status == "available" && len(volume.AttachedTo) == 0
}

// isStuck reports that a volume will not become free by itself: it is in error, or a server that is there has it.
func isStuck(snapshot *cloud.Snapshot, volume cloud.Volume) bool {
	return strings.HasPrefix(volume.Status, "error") ||
		slices.ContainsFunc(volume.AttachedTo, func(id string) bool { _, there := snapshot.Server(id); return there })
}

func volumeList(volumes []cloud.Volume) string {
	return someOf(volumes, func(v cloud.Volume) string { return fmt.Sprintf("volume %s (%s)", v.ID, v.Name) })
}

// volumesThatStay tells of the volumes that the cluster leaves behind; empty when there are none.
func volumesThatStay(in clusterInput) string {
	volumes, sweeps := volumesOfDriver(in), in.sweeps(infrav1.SweepVolumes) && len(in.namesakes) == 0
	if sweeps {
		volumes = slices.DeleteFunc(volumes, func(v cloud.Volume) bool { return !isStuck(in.snapshot, v) })
	}
	switch {
	case len(volumes) == 0:
		return ""
	case len(in.namesakes) > 0:
		return fmt.Sprintf("What workloads keep on %s stays: it may be of the cluster %s, which has the same name in the same project.", volumeList(volumes), in.namesakes[0])
	case sweeps:
		return fmt.Sprintf("What workloads keep on %s stays, since it is attached or in error.", volumeList(volumes))
	}
	return fmt.Sprintf("What workloads keep on %s stays. Delete each with: openstack volume delete %s. While this cluster is there, Sendan deletes them after: %s",
		volumeList(volumes), volumes[0].ID, sweepCommand(in, infrav1.SweepVolumes))
}

// tellOfVolumes leaves word of what stays, with the last that is heard of a cluster.
func (r *SendanClusterReconciler) tellOfVolumes(in clusterInput) {
	if text := volumesThatStay(in); text != "" {
		r.writer().event(in.cluster, corev1.EventTypeWarning, "VolumesLeft", "%s", text)
	}
}

// namesakesOf are the other clusters in the project whose volumes cannot be told from those of this one.
func namesakesOf(ctx context.Context, c client.Reader, cluster *infrav1.SendanCluster) ([]string, error) {
	list := &infrav1.SendanClusterList{}
	if err := c.List(ctx, list, client.MatchingLabels{clusterv1.ClusterNameLabel: clusterName(cluster)}); err != nil {
		return nil, fmt.Errorf("list the clusters named %s: %w", clusterName(cluster), err)
	}
	var names []string
	for _, other := range list.Items {
		if other.UID != cluster.UID && other.Annotations[infrav1.ProjectAnnotation] == cluster.Annotations[infrav1.ProjectAnnotation] {
			names = append(names, other.Namespace+"/"+other.Name)
		}
	}
	return names, nil
}
