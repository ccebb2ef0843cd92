package sites

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// waitingIndex finds, among all SendanMachines and MachineDeployments, the few that wait for hardware.
const waitingIndex = "fleet.sendan.io/waiting"

const isWaiting = "true"

// indexFields makes a manager's cache searchable the way this package searches it.
func indexFields(ctx context.Context, indexer client.FieldIndexer) error {
	for _, object := range []client.Object{&infrav1.SendanMachine{}, &clusterv1.MachineDeployment{}} {
		if err := indexer.IndexField(ctx, object, waitingIndex, indexWaiting); err != nil {
			return fmt.Errorf("index %T by who waits: %w", object, err)
		}
	}
	return nil
}

func indexWaiting(object client.Object) []string {
	waits := false
	switch object := object.(type) {
	case *infrav1.SendanMachine:
		waits = waitsForCapacity(object)
	case *clusterv1.MachineDeployment:
		waits = conditions.IsFalse(object, fleetv1.CapacityAvailableCondition)
	}
	if waits {
		return []string{isWaiting}
	}
	return nil
}

// waitsForCapacity reports that Nova has refused the machine for want of a host. While it is tried once more its Ready
// condition tells of that, and the note of the refusal stays: a queue should not turn with every try.
func waitsForCapacity(machine *infrav1.SendanMachine) bool {
	if machine.Spec.ProviderID != "" || !machine.DeletionTimestamp.IsZero() {
		return false
	}
	for _, attempt := range machine.Status.Attempts {
		if attempt.Reason == infrav1.CapacityReason && attempt.Failures > 0 {
			return true
		}
	}
	ready := conditions.Get(machine, infrav1.ReadyCondition)
	return ready != nil && ready.Reason == infrav1.CapacityReason
}

// SlimMachine leaves of a SendanMachine what this package reads, for a cache of tens of thousands in which nobody reads
// more.
func SlimMachine(object any) (any, error) {
	machine, isMachine := object.(*infrav1.SendanMachine)
	if !isMachine {
		return object, nil
	}
	slim := &infrav1.SendanMachine{TypeMeta: machine.TypeMeta}
	slim.Namespace, slim.Name, slim.UID, slim.ResourceVersion = machine.Namespace, machine.Name, machine.UID, machine.ResourceVersion
	slim.CreationTimestamp, slim.DeletionTimestamp = machine.CreationTimestamp, machine.DeletionTimestamp
	slim.Labels, slim.OwnerReferences = machine.Labels, machine.OwnerReferences
	slim.Spec.Flavor, slim.Spec.ProviderID = machine.Spec.Flavor, machine.Spec.ProviderID
	if waitsForCapacity(machine) {
		slim.Status.Conditions, slim.Status.Attempts = machine.Status.Conditions, machine.Status.Attempts
	}
	return slim, nil
}

// gather reads what the plan of a Site looks at. An error is one of the Kubernetes API; that the cloud does not answer is
// part of the input.
func (r *Reconciler) gather(ctx context.Context, site *fleetv1.Site) (*Input, error) {
	in := &Input{Site: site, Interval: r.Interval, Now: r.Clock.Now()}
	var err error
	if in.Needed, err = r.needed(ctx); err != nil {
		return nil, err
	}
	if in.Clusters, err = r.clusters(ctx, site.Name); err != nil {
		return nil, err
	}
	if in.Waiting, err = r.waiting(ctx, in.Clusters); err != nil {
		return nil, err
	}
	identity, trouble := credentials(ctx, r.Client, r.Secrets, site.Spec.IdentityRef)
	switch {
	case trouble == nil:
		in.Facts, in.Trouble = r.ask(ctx, identity, site, in.Needed)
	case cloud.ClassOf(trouble) == cloud.Config:
		in.Trouble = trouble
	default:
		return nil, trouble
	}
	return in, ctx.Err()
}

// ask asks the cloud, for so long as leaves its worker to others.
func (r *Reconciler) ask(ctx context.Context, identity cloud.Identity, site *fleetv1.Site, needed cloud.OfferNames) (*Facts, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Patience)
	defer cancel()
	facts, err := r.look(ctx, identity, site, needed)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		err = cloud.Errorf(cloud.Transient, "%s did not answer within %s", identity.AuthURL, r.Patience)
	}
	return facts, err
}

func (r *Reconciler) look(ctx context.Context, identity cloud.Identity, site *fleetv1.Site, needed cloud.OfferNames) (*Facts, error) {
	session, err := r.Sessions.Get(ctx, identity)
	if err != nil {
		return nil, err
	}
	facts := &Facts{Region: session.Region(), Free: map[string][]cloud.HostResources{}}
	facts.Offers, err = session.Offers(ctx, cloud.OfferNames{
		Flavors: inCloud(site.Spec.Flavors, needed.Flavors), Images: inCloud(site.Spec.Images, needed.Images),
	})
	if err != nil {
		return nil, err
	}
	if facts.Quotas, err = session.ComputeQuotas(ctx); err != nil {
		return nil, err
	}
	for _, gpu := range site.Spec.GPUs {
		if gpu.ResourceClass == "" {
			continue
		}
		hosts, err := session.FreeOnHosts(ctx, gpu.ResourceClass)
		if err != nil { // mostly for want of a right; the quota tells less, and something
			ctrl.LoggerFrom(ctx).V(1).Info("Placement does not tell", "resourceClass", gpu.ResourceClass, "reason", err.Error())
			continue
		}
		facts.Free[gpu.Model] = hosts
	}
	return facts, nil
}

// needed are the flavors and images that releases count on, by logical name.
func (r *Reconciler) needed(ctx context.Context) (cloud.OfferNames, error) {
	releases := &fleetv1.ReleaseList{}
	if err := r.Client.List(ctx, releases); err != nil {
		return cloud.OfferNames{}, fmt.Errorf("list Releases: %w", err)
	}
	var names cloud.OfferNames
	for _, release := range releases.Items {
		names.Flavors = append(names.Flavors, release.Spec.ControlPlane.Flavor)
		for _, template := range release.Spec.NodeTemplates {
			if template.Spec != nil {
				names.Flavors = append(names.Flavors, template.Spec.Flavor)
			}
		}
		for _, image := range release.Spec.Images {
			names.Images = append(names.Images, image.Image)
		}
	}
	return names, nil
}

// clusters are the names of the Clusters in a site.
func (r *Reconciler) clusters(ctx context.Context, site string) (map[types.NamespacedName]bool, error) {
	list := &clusterv1.ClusterList{}
	if err := r.Client.List(ctx, list, client.MatchingLabels{fleetv1.SiteLabel: site}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Clusters: %w", err)
	}
	names := map[types.NamespacedName]bool{}
	for _, cluster := range list.Items {
		names[client.ObjectKeyFromObject(&cluster)] = true
	}
	return names, nil
}

// waiting are the machines of clusters that wait for hardware.
func (r *Reconciler) waiting(ctx context.Context, clusters map[types.NamespacedName]bool) ([]Waiting, error) {
	list := &infrav1.SendanMachineList{}
	if err := r.Client.List(ctx, list, client.MatchingFields{waitingIndex: isWaiting}); err != nil {
		return nil, fmt.Errorf("list SendanMachines: %w", err)
	}
	var all []Waiting
	for _, machine := range list.Items {
		if !clusters[clusterOf(&machine)] {
			continue
		}
		owner, err := util.GetOwnerMachine(ctx, r.Client, machine.ObjectMeta)
		if client.IgnoreNotFound(err) != nil {
			return nil, fmt.Errorf("get the Machine of SendanMachine %s: %w", client.ObjectKeyFromObject(&machine), err)
		}
		wait := Waiting{Machine: client.ObjectKeyFromObject(&machine), Flavor: machine.Spec.Flavor, Since: machine.CreationTimestamp.Time}
		wait.Pool = types.NamespacedName{Namespace: machine.Namespace, Name: machine.Labels[clusterv1.MachineDeploymentNameLabel]}
		if owner != nil {
			wait.Zone = owner.Spec.FailureDomain // the failure domains of fleet clusters have the names of zones
		}
		all = append(all, wait)
	}
	return all, nil
}

// clusterOf is the name of the Cluster that an object belongs to.
func clusterOf(object client.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetLabels()[clusterv1.ClusterNameLabel]}
}
