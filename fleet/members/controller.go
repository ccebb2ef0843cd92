package members

import (
	"context"
	"fmt"
	"strings"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// Indexes, named after the package since all capabilities share the manager's cache.
const (
	poolsByCluster    = "members.pools"
	shortByCluster    = "members.short" // Machines with DevicesReady=False
	clustersByRelease = "members.release"
)

// Options of the controller.
type Options struct {
	// Clock tells the time.
	Clock clockwork.Clock
	// WatchFilterValue restricts this process to Clusters with that value of the watch-filter label.
	WatchFilterValue string
	// Controller says how many clusters are worked on at the same time.
	Controller controller.Options
}

// +kubebuilder:rbac:groups=fleet.sendan.io,resources=fleetmembers,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=fleetmembers/status,verbs=patch
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=releases,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters;machinedeployments;machines,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

type reconciler struct {
	client      client.Client
	clock       clockwork.Clock
	recorder    events.EventRecorder
	watchFilter string
}

// SetupWithManager makes the manager keep a FleetMember for every Cluster.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	r := &reconciler{client: mgr.GetClient(), clock: options.Clock, recorder: mgr.GetEventRecorder("sendan"), watchFilter: options.WatchFilterValue}
	if err := addIndexes(ctx, mgr); err != nil {
		return err
	}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&clusterv1.Cluster{}).
		// They have the Cluster's name.
		Watches(&fleetv1.FleetMember{}, &handler.EnqueueRequestForObject{}).
		Watches(&clusterv1.MachineDeployment{}, handler.EnqueueRequestsFromMapFunc(clusterOfPool)).
		Watches(&clusterv1.Machine{}, handler.EnqueueRequestsFromMapFunc(clusterOfMachine), builder.WithPredicates(devicesChanged())).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.clustersOfNamespace), builder.WithPredicates(tenantChanged())).
		Watches(&fleetv1.Release{}, handler.EnqueueRequestsFromMapFunc(r.clustersOfRelease), builder.WithPredicates(phaseChanged())).
		WithOptions(options.Controller).
		Named("fleetmember").
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of FleetMembers: %w", err)
	}
	return nil
}

func addIndexes(ctx context.Context, mgr ctrl.Manager) error {
	for _, index := range []struct {
		object client.Object
		field  string
		value  client.IndexerFunc
	}{
		{&clusterv1.MachineDeployment{}, poolsByCluster, func(o client.Object) []string {
			return []string{o.(*clusterv1.MachineDeployment).Spec.ClusterName}
		}},
		{&clusterv1.Machine{}, shortByCluster, func(o client.Object) []string {
			machine := o.(*clusterv1.Machine)
			if !conditions.IsFalse(machine, fleetv1.DevicesReadyCondition) {
				return nil
			}
			return []string{machine.Spec.ClusterName}
		}},
		{&clusterv1.Cluster{}, clustersByRelease, func(o client.Object) []string {
			return []string{o.GetLabels()[fleetv1.ReleaseLabel]}
		}},
	} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, index.object, index.field, index.value); err != nil {
			return fmt.Errorf("add the index %s: %w", index.field, err)
		}
	}
	return nil
}

// Reconcile implements [reconcile.Reconciler]. The request names a Cluster and, with it, its FleetMember.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cluster := &clusterv1.Cluster{}
	if err := r.client.Get(ctx, request.NamespacedName, cluster); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // the garbage collector removes its FleetMember
	}
	if r.watchFilter != "" && !labels.HasWatchLabel(cluster, r.watchFilter) {
		return ctrl.Result{}, nil
	}
	member, err := r.ensureMember(ctx, cluster)
	if err != nil || member == nil {
		return ctrl.Result{}, err
	}
	in, err := r.gather(ctx, cluster, member)
	if err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{}, r.write(ctx, member, Plan(in))
}

// ensureMember returns nil where there is none to write to, now. What changes that is an event.
func (r *reconciler) ensureMember(ctx context.Context, cluster *clusterv1.Cluster) (*fleetv1.FleetMember, error) {
	member := &fleetv1.FleetMember{}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(cluster), member)
	switch {
	case apierrors.IsNotFound(err):
		return nil, r.createMember(ctx, cluster)
	case err != nil:
		return nil, fmt.Errorf("get FleetMember: %w", err)
	case !member.DeletionTimestamp.IsZero():
		return nil, nil
	}
	for _, owner := range member.OwnerReferences {
		switch {
		case owner.UID == cluster.UID:
			return member, nil
		case owner.Kind == "Cluster" && strings.HasPrefix(owner.APIVersion, clusterv1.GroupVersion.Group+"/"):
			return nil, nil // an earlier Cluster of that name left it to the garbage collector
		}
	}
	before := member.DeepCopy()
	member.OwnerReferences = append(member.OwnerReferences, ownerReference(cluster))
	if err := r.client.Patch(ctx, member, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return nil, fmt.Errorf("make the Cluster own its FleetMember: %w", err)
	}
	return member, nil
}

// createMember makes none for a Cluster that is paused, since clusterctl may be moving it and bring or take the FleetMember.
func (r *reconciler) createMember(ctx context.Context, cluster *clusterv1.Cluster) error {
	if !cluster.DeletionTimestamp.IsZero() || ptr.Deref(cluster.Spec.Paused, false) || annotations.HasPaused(cluster) {
		return nil
	}
	member := &fleetv1.FleetMember{ObjectMeta: metav1.ObjectMeta{
		Namespace: cluster.Namespace, Name: cluster.Name,
		Labels:          map[string]string{clusterv1.ClusterNameLabel: cluster.Name},
		OwnerReferences: []metav1.OwnerReference{ownerReference(cluster)},
	}}
	if value, labeled := cluster.Labels[clusterv1.WatchLabel]; labeled {
		member.Labels[clusterv1.WatchLabel] = value
	}
	if err := r.client.Create(ctx, member); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("create FleetMember: %w", err)
	}
	return nil
}

// ownerReference lets clusterctl move the FleetMember with the Cluster, and the garbage collector remove it after it. It is
// not the controller's reference: the FleetMember is a record, not a part of the Cluster.
func ownerReference(cluster *clusterv1.Cluster) metav1.OwnerReference {
	return metav1.OwnerReference{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: cluster.Name, UID: cluster.UID}
}

func (r *reconciler) gather(ctx context.Context, cluster *clusterv1.Cluster, member *fleetv1.FleetMember) (Input, error) {
	in := Input{Cluster: cluster, Before: member.Status, Now: r.clock.Now()}
	// Plan changes nothing, so it may see the cache's own objects.
	ofCluster := func(index string) []client.ListOption {
		return []client.ListOption{client.InNamespace(cluster.Namespace), client.MatchingFields{index: cluster.Name}, client.UnsafeDisableDeepCopy}
	}
	var made clusterv1.MachineDeploymentList
	if err := r.client.List(ctx, &made, ofCluster(poolsByCluster)...); err != nil {
		return Input{}, fmt.Errorf("list MachineDeployments: %w", err)
	}
	var machines clusterv1.MachineList
	if err := r.client.List(ctx, &machines, ofCluster(shortByCluster)...); err != nil {
		return Input{}, fmt.Errorf("list Machines without their devices: %w", err)
	}
	in.MachineDeployments, in.Machines = made.Items, machines.Items

	namespace := &corev1.Namespace{}
	if err := client.IgnoreNotFound(r.client.Get(ctx, client.ObjectKey{Name: cluster.Namespace}, namespace)); err != nil {
		return Input{}, fmt.Errorf("get Namespace %s: %w", cluster.Namespace, err)
	}
	in.Tenant = namespace.Labels[fleetv1.TenantLabel]
	if name := cluster.Labels[fleetv1.ReleaseLabel]; name != "" {
		release := &fleetv1.Release{}
		if err := client.IgnoreNotFound(r.client.Get(ctx, client.ObjectKey{Name: name}, release)); err != nil {
			return Input{}, fmt.Errorf("get Release %s: %w", name, err)
		}
		in.ReleasePhase = release.Status.Phase
	}
	return in, nil
}

// write changes in one request what Plan changed; so status.addons, which Plan leaves alone, is not in it. It insists on the
// version that Plan saw, since a patch replaces whole lists: the conditions, which may be others' too, and the operations.
func (r *reconciler) write(ctx context.Context, member *fleetv1.FleetMember, status fleetv1.FleetMemberStatus) error {
	if equality.Semantic.DeepEqual(member.Status, status) {
		return nil
	}
	before := member.DeepCopy()
	member.Status = status
	err := r.client.Status().Patch(ctx, member, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	switch {
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil // the newer version comes with an event of its own
	case err != nil:
		return fmt.Errorf("write the status of the FleetMember: %w", err)
	}
	r.tell(member, before.Status.Health)
	return nil
}

// tell makes an Event of a change of health.
func (r *reconciler) tell(member *fleetv1.FleetMember, before fleetv1.FleetMemberHealth) {
	health := member.Status.Health
	if health == before {
		return
	}
	kind, note := corev1.EventTypeNormal, "the cluster is "+string(health)
	if health == fleetv1.HealthDegraded || health == fleetv1.HealthUnreachable {
		kind = corev1.EventTypeWarning
	}
	if isReady := meta.FindStatusCondition(member.Status.Conditions, fleetv1.ReadyCondition); isReady != nil {
		note = because(note, isReady.Message)
	}
	r.recorder.Eventf(member, nil, kind, string(health), "Observe", "%s", message.Clip(note, 1000))
}

func clusterOfPool(_ context.Context, object client.Object) []reconcile.Request {
	return requestFor(object.GetNamespace(), object.(*clusterv1.MachineDeployment).Spec.ClusterName)
}

func clusterOfMachine(_ context.Context, object client.Object) []reconcile.Request {
	return requestFor(object.GetNamespace(), object.(*clusterv1.Machine).Spec.ClusterName)
}

func requestFor(namespace, cluster string) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: namespace, Name: cluster}}}
}

func (r *reconciler) clustersOfNamespace(ctx context.Context, namespace client.Object) []reconcile.Request {
	return r.clusters(ctx, client.InNamespace(namespace.GetName()))
}

func (r *reconciler) clustersOfRelease(ctx context.Context, release client.Object) []reconcile.Request {
	return r.clusters(ctx, client.MatchingFields{clustersByRelease: release.GetName()})
}

func (r *reconciler) clusters(ctx context.Context, which client.ListOption) []reconcile.Request {
	var clusters clusterv1.ClusterList
	if err := r.client.List(ctx, &clusters, which, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Clusters")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(clusters.Items))
	for i := range clusters.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&clusters.Items[i])})
	}
	return requests
}

// devicesChanged lets few of the many events of Machines through: those that change what Plan reads of them.
func devicesChanged() predicate.Predicate {
	state := func(object client.Object) string {
		machine := object.(*clusterv1.Machine)
		if !conditions.IsFalse(machine, fleetv1.DevicesReadyCondition) {
			return ""
		}
		return machine.Status.NodeRef.Name + ": " + conditions.GetMessage(machine, fleetv1.DevicesReadyCondition)
	}
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool { return state(e.Object) != "" },
		DeleteFunc: func(e event.DeleteEvent) bool { return state(e.Object) != "" },
		UpdateFunc: func(e event.UpdateEvent) bool { return state(e.ObjectOld) != state(e.ObjectNew) },
	}
}

func tenantChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetLabels()[fleetv1.TenantLabel] != e.ObjectNew.GetLabels()[fleetv1.TenantLabel]
	}}
}

func phaseChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.(*fleetv1.Release).Status.Phase != e.ObjectNew.(*fleetv1.Release).Status.Phase
	}}
}
