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
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
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

const controllerName = "devices"

// byCluster is an index of the Machines of whose nodes something is promised, named after the package since all capabilities share
// the manager's cache.
const byCluster = "devices.cluster"

const (
	// defaultInterval is how long it may take to notice that a node is no longer what was promised.
	defaultInterval = time.Minute
	// soon is for nodes that are getting ready.
	soon = 5 * time.Second
	// visitTimeout is how long a cluster may take to answer, and how long it may hold up others.
	visitTimeout = 30 * time.Second
)

// Options of the controller.
type Options struct {
	// Visit looks into a tenant cluster.
	Visit func(ctx context.Context, cluster client.ObjectKey, look func(context.Context, client.Client) error) error
	// Clock tells the time.
	Clock clockwork.Clock
	// Grace is how long after its creation a node may lack devices; DefaultGrace when zero.
	Grace time.Duration
	// Interval is how often the nodes of a cluster are looked at, more often while some are getting ready; every minute when zero.
	Interval time.Duration
	// Metrics is where the numbers of machines are told; nowhere when nil.
	Metrics prometheus.Registerer
	// WatchFilterValue restricts this process to Clusters with that value of the watch-filter label.
	WatchFilterValue string
	// Controller says how many clusters are worked on at the same time.
	Controller controller.Options
}

// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters;machines,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=machines/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

type reconciler struct {
	Options
	client   client.Client
	recorder events.EventRecorder
}

// SetupWithManager makes the manager keep pods off nodes that are not what was promised.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	options.Grace, options.Interval = cmp.Or(options.Grace, DefaultGrace), cmp.Or(options.Interval, defaultInterval)
	r := &reconciler{Options: options, client: mgr.GetClient(), recorder: mgr.GetEventRecorder("sendan")}
	if err := mgr.GetFieldIndexer().IndexField(ctx, &clusterv1.Machine{}, byCluster, clusterNameOf); err != nil {
		return fmt.Errorf("add the index %s: %w", byCluster, err)
	}
	if options.Metrics != nil {
		if err := options.Metrics.Register(machinesCollector{reader: mgr.GetClient()}); err != nil {
			return fmt.Errorf("register the metrics of devices: %w", err)
		}
	}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&clusterv1.Cluster{}, builder.WithPredicates(pauseChanged())).
		Watches(&clusterv1.Machine{}, handler.EnqueueRequestsFromMapFunc(clusterOfMachine), builder.WithPredicates(promiseChanged())).
		WithOptions(options.Controller).
		Named(controllerName).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of devices: %w", err)
	}
	return nil
}

// Reconcile implements [reconcile.Reconciler]. The request names a Cluster: one look at its nodes is for all of its Machines.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cluster := &clusterv1.Cluster{}
	if err := r.client.Get(ctx, request.NamespacedName, cluster); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if annotations.IsPaused(cluster, cluster) || r.WatchFilterValue != "" && !labels.HasWatchLabel(cluster, r.WatchFilterValue) {
		return ctrl.Result{}, nil
	}
	machines, err := r.promised(ctx, request.NamespacedName)
	if err != nil || len(machines) == 0 {
		return ctrl.Result{}, err
	}
	if !slices.ContainsFunc(machines, hasNode) { // nobody has to be asked, and a node is an event
		_, err := r.compare(ctx, machines, nil, nil)
		return ctrl.Result{}, err
	}
	isSoon, failed := false, error(nil)
	inTime, cancel := context.WithTimeout(ctx, visitTimeout)
	defer cancel()
	err = r.Visit(inTime, request.NamespacedName, func(ctx context.Context, tenant client.Client) error {
		nodes := &corev1.NodeList{}
		if err := tenant.List(ctx, nodes); err != nil {
			return err
		}
		isSoon, failed = r.compare(ctx, machines, tenant, nodes.Items)
		return nil
	})
	if err != nil { // what is known stays
		ctrl.LoggerFrom(ctx).Info("The nodes cannot be looked at", "error", err.Error())
	}
	again := r.Interval
	if isSoon {
		again = min(soon, again)
	}
	return ctrl.Result{RequeueAfter: wait.Jitter(again, 0.2)}, failed
}

// promised are the Machines of a cluster of whose nodes something is promised.
func (r *reconciler) promised(ctx context.Context, cluster client.ObjectKey) ([]clusterv1.Machine, error) {
	var machines clusterv1.MachineList
	if err := r.client.List(ctx, &machines, client.InNamespace(cluster.Namespace), client.MatchingFields{byCluster: cluster.Name}); err != nil {
		return nil, fmt.Errorf("list Machines: %w", err)
	}
	return slices.DeleteFunc(machines.Items, func(machine clusterv1.Machine) bool {
		return !machine.DeletionTimestamp.IsZero() || annotations.HasPaused(&machine)
	}), nil
}

// compare says whether one is on its way, so that it should be looked at soon. One Machine that cannot be written does not hold up the
// others.
func (r *reconciler) compare(ctx context.Context, machines []clusterv1.Machine, tenant client.Client, nodes []corev1.Node) (isSoon bool, err error) {
	byName := map[string]*corev1.Node{}
	for i := range nodes {
		byName[nodes[i].Name] = &nodes[i]
	}
	now := r.Clock.Now()
	var failed []error
	for i := range machines {
		machine := &machines[i]
		intent, node := r.plan(machine, byName, now), byName[machine.Status.NodeRef.Name]
		isSoon = isSoon || isWaiting(intent.Reason)
		if err := r.carryOut(ctx, tenant, machine, node, intent); err != nil {
			failed = append(failed, fmt.Errorf("machine %s: %w", machine.Name, err))
		}
	}
	return isSoon, errors.Join(failed...)
}

func (r *reconciler) plan(machine *clusterv1.Machine, nodes map[string]*corev1.Node, now time.Time) Intent {
	promise, err := PromiseOf(machine.Annotations)
	if err != nil {
		return Intent{Reason: fleetv1.InvalidReason, Message: err.Error()}
	}
	return Plan(Input{
		Promise: promise, NodeName: machine.Status.NodeRef.Name, Node: nodes[machine.Status.NodeRef.Name],
		Before: conditions.Get(machine, fleetv1.DevicesReadyCondition), Grace: r.Grace, Now: now,
	})
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
		LastTransitionTime: metav1.NewTime(r.Clock.Now()),
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

func clusterNameOf(object client.Object) []string {
	if !isPromised(object) {
		return nil
	}
	return []string{object.(*clusterv1.Machine).Spec.ClusterName}
}

func hasNode(machine clusterv1.Machine) bool { return machine.Status.NodeRef.Name != "" }

func clusterOfMachine(_ context.Context, object client.Object) []reconcile.Request {
	machine := object.(*clusterv1.Machine)
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: machine.Namespace, Name: machine.Spec.ClusterName}}}
}

// promiseChanged lets through what changes what is promised of a Machine, or of which node.
func promiseChanged() predicate.Predicate {
	facts := func(object client.Object) any {
		machine := object.(*clusterv1.Machine)
		return []any{machine.Annotations, machine.Status.NodeRef.Name, conditions.Has(machine, fleetv1.DevicesReadyCondition)}
	}
	return predicate.And[client.Object](predicate.NewPredicateFuncs(isPromised), predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return !equality.Semantic.DeepEqual(facts(e.ObjectOld), facts(e.ObjectNew))
		},
		DeleteFunc: func(event.DeleteEvent) bool { return false },
	})
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
