package devices

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/controllers/clustercache"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/labels"
	"sigs.k8s.io/cluster-api/util/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

const (
	controllerName = "devices"
	// Indexes of the Machines of whose nodes something is promised, named after the package since all capabilities share
	// the manager's cache.
	byCluster = "devices.cluster"
	byNode    = "devices.node"
)

// Options of the controller.
type Options struct {
	// Clusters reaches the tenants' clusters.
	Clusters clustercache.ClusterCache
	// Clock tells the time.
	Clock clockwork.Clock
	// Grace is how long after its creation a node may lack devices; DefaultGrace when zero.
	Grace time.Duration
	// Metrics is where the numbers of machines are told; nowhere when nil.
	Metrics prometheus.Registerer
	// WatchFilterValue restricts this process to Clusters with that value of the watch-filter label.
	WatchFilterValue string
	// Controller says how many machines are worked on at the same time.
	Controller controller.Options
}

// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters;machines,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=machines/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

type reconciler struct {
	client      client.Client
	clusters    clustercache.ClusterCache
	clock       clockwork.Clock
	grace       time.Duration
	recorder    events.EventRecorder
	watchFilter string
	controller  controller.Controller
}

// SetupWithManager makes the manager keep pods off nodes that are not what was promised.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	r := &reconciler{
		client: mgr.GetClient(), clusters: options.Clusters, clock: options.Clock, grace: cmp.Or(options.Grace, DefaultGrace),
		recorder: mgr.GetEventRecorder("sendan"), watchFilter: options.WatchFilterValue,
	}
	for index, value := range map[string]client.IndexerFunc{byCluster: clusterNameOf, byNode: nodeKeyOf} {
		if err := mgr.GetFieldIndexer().IndexField(ctx, &clusterv1.Machine{}, index, value); err != nil {
			return fmt.Errorf("add the index %s: %w", index, err)
		}
	}
	if options.Metrics != nil {
		if err := options.Metrics.Register(machinesCollector{reader: mgr.GetClient()}); err != nil {
			return fmt.Errorf("register the metrics of devices: %w", err)
		}
	}
	var err error
	r.controller, err = ctrl.NewControllerManagedBy(mgr).
		For(&clusterv1.Machine{}, builder.WithPredicates(predicate.NewPredicateFuncs(isPromised))).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(r.machinesOfCluster), builder.WithPredicates(pauseChanged())).
		// On every new connection the watch of Nodes has to be made anew.
		WatchesRawSource(options.Clusters.GetClusterSource(controllerName, r.machinesOfCluster)).
		WithOptions(options.Controller).
		Named(controllerName).
		Build(r)
	if err != nil {
		return fmt.Errorf("set up the controller of devices: %w", err)
	}
	return nil
}

// Reconcile implements [reconcile.Reconciler]. The request names a Machine.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	machine := &clusterv1.Machine{}
	if err := r.client.Get(ctx, request.NamespacedName, machine); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !isPromised(machine) || !machine.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	cluster := &clusterv1.Cluster{}
	if err := r.client.Get(ctx, clusterKeyOf(machine), cluster); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if annotations.IsPaused(cluster, machine) || r.watchFilter != "" && !labels.HasWatchLabel(cluster, r.watchFilter) {
		return ctrl.Result{}, nil
	}
	promise, err := PromiseOf(machine.Annotations)
	if err != nil {
		return ctrl.Result{}, r.carryOut(ctx, nil, machine, nil, Intent{Reason: fleetv1.InvalidReason, Message: err.Error()})
	}
	tenant, node, err := r.nodeOf(ctx, machine)
	if errors.Is(err, clustercache.ErrClusterNotConnected) {
		return ctrl.Result{}, nil // what is known stays; a new connection is an event
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	intent := Plan(Input{
		Promise: promise, NodeName: machine.Status.NodeRef.Name, Node: node,
		Before: conditions.Get(machine, fleetv1.DevicesReadyCondition), Grace: r.grace, Now: r.clock.Now(),
	})
	if err := r.carryOut(ctx, tenant, machine, node, intent); err != nil || intent.LookAgain.IsZero() {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: max(intent.LookAgain.Sub(r.clock.Now()), time.Millisecond)}, nil // 0 would be never
}

// nodeOf reads the node from the cache of its cluster, and sees to it that its changes are events. Both are nil while the
// Machine has no node: nobody has to be asked then.
func (r *reconciler) nodeOf(ctx context.Context, machine *clusterv1.Machine) (client.Client, *corev1.Node, error) {
	if machine.Status.NodeRef.Name == "" {
		return nil, nil, nil
	}
	key := clusterKeyOf(machine)
	err := r.clusters.Watch(ctx, key, clustercache.NewWatcher(clustercache.WatcherOptions{
		Name:         controllerName + "-nodes",
		Watcher:      r.controller,
		Kind:         &corev1.Node{},
		EventHandler: handler.EnqueueRequestsFromMapFunc(r.machinesOfNode(key)),
		Predicates:   []predicate.Predicate{nodeChanged()},
	}))
	if err != nil {
		return nil, nil, fmt.Errorf("watch the nodes of %s: %w", key, err)
	}
	tenant, err := r.clusters.GetClient(ctx, key)
	if err != nil {
		return nil, nil, fmt.Errorf("reach %s: %w", key, err)
	}
	node := &corev1.Node{}
	err = tenant.Get(ctx, client.ObjectKey{Name: machine.Status.NodeRef.Name}, node)
	switch {
	case apierrors.IsNotFound(err):
		return tenant, nil, nil
	case err != nil:
		return nil, nil, fmt.Errorf("get node %s of %s: %w", machine.Status.NodeRef.Name, key, err)
	}
	return tenant, node, nil
}

// carryOut lets pods onto the node before it says so; after a crash in between, the rest is done the next time.
func (r *reconciler) carryOut(ctx context.Context, tenant client.Client, machine *clusterv1.Machine, node *corev1.Node, intent Intent) error {
	if intent.RemoveTaint {
		if err := removeTaint(ctx, tenant, node); err != nil {
			return err
		}
		r.recorder.Eventf(machine, nil, corev1.EventTypeNormal, fleetv1.DevicesReadyCondition, "RemoveTaint",
			"node %s has what was promised and takes pods", node.Name)
	}
	before := conditions.GetReason(machine, fleetv1.DevicesReadyCondition)
	helper, err := patch.NewHelper(machine, r.client)
	if err != nil {
		return fmt.Errorf("prepare to patch: %w", err)
	}
	conditions.Set(machine, metav1.Condition{
		Type: fleetv1.DevicesReadyCondition, Status: conditions.BoolToStatus(intent.Ready), Reason: intent.Reason, Message: intent.Message,
		LastTransitionTime: metav1.NewTime(r.clock.Now()),
	})
	// Cluster API writes the other conditions of the Machine.
	if err := helper.Patch(ctx, machine, patch.WithOwnedConditions{Conditions: []string{fleetv1.DevicesReadyCondition}}); err != nil {
		return client.IgnoreNotFound(err)
	}
	if intent.Reason != before && isTrouble(intent.Reason) {
		r.recorder.Eventf(machine, nil, corev1.EventTypeWarning, intent.Reason, "Compare", "%s", intent.Message)
	}
	return nil
}

func isTrouble(reason string) bool {
	return slices.Contains([]string{fleetv1.DeviceShortReason, fleetv1.DriverDriftReason, fleetv1.BurnInFailedReason, fleetv1.InvalidReason}, reason)
}

// removeTaint insists on the version of the node that was judged: a patch replaces the whole list of taints.
func removeTaint(ctx context.Context, tenant client.Client, node *corev1.Node) error {
	before := node.DeepCopy()
	node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, isGate)
	if err := tenant.Patch(ctx, node, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("take the taint %s off node %s: %w", fleetv1.DevicesTaint, node.Name, err)
	}
	return nil
}

func clusterKeyOf(machine *clusterv1.Machine) client.ObjectKey {
	return client.ObjectKey{Namespace: machine.Namespace, Name: machine.Spec.ClusterName}
}

func clusterNameOf(object client.Object) []string {
	if !isPromised(object) {
		return nil
	}
	return []string{object.(*clusterv1.Machine).Spec.ClusterName}
}

// nodeKeyOf names the cluster too: clusters may have nodes of the same name.
func nodeKeyOf(object client.Object) []string {
	machine := object.(*clusterv1.Machine)
	if !isPromised(object) || machine.Status.NodeRef.Name == "" {
		return nil
	}
	return []string{nodeKey(machine.Spec.ClusterName, machine.Status.NodeRef.Name)}
}

func nodeKey(cluster, node string) string { return cluster + "/" + node }

func (r *reconciler) machinesOfCluster(ctx context.Context, cluster client.Object) []reconcile.Request {
	return r.machines(ctx, cluster.GetNamespace(), client.MatchingFields{byCluster: cluster.GetName()})
}

func (r *reconciler) machinesOfNode(cluster client.ObjectKey) handler.MapFunc {
	return func(ctx context.Context, node client.Object) []reconcile.Request {
		return r.machines(ctx, cluster.Namespace, client.MatchingFields{byNode: nodeKey(cluster.Name, node.GetName())})
	}
}

func (r *reconciler) machines(ctx context.Context, namespace string, which client.MatchingFields) []reconcile.Request {
	var machines clusterv1.MachineList
	if err := r.client.List(ctx, &machines, client.InNamespace(namespace), which, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Machines", "namespace", namespace)
		return nil
	}
	requests := make([]reconcile.Request, 0, len(machines.Items))
	for i := range machines.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&machines.Items[i])})
	}
	return requests
}

func pauseChanged() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(event.CreateEvent) bool { return false }, // its Machines have events of their own
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, after := e.ObjectOld.(*clusterv1.Cluster), e.ObjectNew.(*clusterv1.Cluster)
			return annotations.IsPaused(before, before) != annotations.IsPaused(after, after)
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	}
}

func nodeChanged() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return isOfInterest(e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node))
	}}
}
