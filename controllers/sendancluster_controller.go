package controllers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/finalizers"
	"sigs.k8s.io/cluster-api/util/paused"
	"sigs.k8s.io/cluster-api/util/predicates"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// clusterReadyConditions make up the Ready condition of a SendanCluster.
var clusterReadyConditions = []string{
	infrav1.IdentityReadyCondition, infrav1.NetworkReadyCondition, infrav1.SecurityGroupsReadyCondition,
	infrav1.EndpointReadyCondition, infrav1.FailureDomainsReadyCondition, infrav1.ServerGroupsReadyCondition,
}

// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanclusters,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanclusters/status,verbs=get;patch;update
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanclusters/finalizers,verbs=update
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanclusteridentities,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters;clusters/status,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets;namespaces,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups="",resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=authentication.k8s.io,resources=tokenreviews,verbs=create
// +kubebuilder:rbac:groups=authorization.k8s.io,resources=subjectaccessreviews,verbs=create

// SendanClusterReconciler makes and removes the infrastructure of clusters.
type SendanClusterReconciler struct {
	Client           client.Client
	Clouds           CloudGetter
	Recorder         events.EventRecorder
	Clock            clockwork.Clock
	WatchFilterValue string

	crowd *crowd
}

// SetupWithManager registers the controller and what wakes it.
func (r *SendanClusterReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, inventory *InventoryEvents, options controller.Options) error {
	r.crowd = newCrowd(options.MaxConcurrentReconciles)
	scheme, log := mgr.GetScheme(), ctrl.LoggerFrom(ctx)
	clusterGVK := infrav1.GroupVersion.WithKind("SendanCluster")
	return ctrl.NewControllerManagedBy(mgr).
		For(&infrav1.SendanCluster{}, builder.WithPredicates(
			predicates.ResourceHasFilterLabel(scheme, log, r.WatchFilterValue),
			predicates.ResourceIsNotExternallyManaged(scheme, log),
		)).
		WithOptions(options).
		Watches(&clusterv1.Cluster{},
			handler.EnqueueRequestsFromMapFunc(util.ClusterToInfrastructureMapFunc(ctx, clusterGVK, mgr.GetClient(), &infrav1.SendanCluster{}))).
		Watches(&infrav1.SendanMachine{}, handler.EnqueueRequestsFromMapFunc(r.clusterOfMachine), builder.WithPredicates(machineComesOrGoes())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.clustersUsingSecret), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&infrav1.SendanClusterIdentity{}, handler.EnqueueRequestsFromMapFunc(r.clustersUsingIdentity)).
		WatchesRawSource(inventory.source(clusterRequests)).
		WatchesRawSource(r.crowd.calls()).
		Complete(r)
}

// Reconcile brings one cluster's infrastructure closer to its spec.
func (r *SendanClusterReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	visit := r.crowd.begin(req)
	defer visit.end()
	obj := &infrav1.SendanCluster{}
	if err := r.Client.Get(ctx, req.NamespacedName, obj); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if annotations.IsExternallyManaged(obj) || !isOurs(obj, r.WatchFilterValue) {
		return ctrl.Result{}, nil
	}
	cluster, err := util.GetOwnerCluster(ctx, r.Client, obj.ObjectMeta)
	if client.IgnoreNotFound(err) != nil {
		return ctrl.Result{}, err
	}
	if cluster == nil {
		if obj.DeletionTimestamp.IsZero() {
			return ctrl.Result{}, nil // the owner reference comes with an update of this object
		}
		cluster = &clusterv1.Cluster{} // somebody removed it by force; what it had in the cloud still has to go
	}
	if isPaused, again, err := paused.EnsurePausedCondition(ctx, r.Client, cluster, obj); err != nil || isPaused || again {
		return ctrl.Result{}, err
	}
	if added, err := finalizers.EnsureFinalizer(ctx, r.Client, obj, infrav1.ClusterFinalizer); err != nil || added {
		return ctrl.Result{}, err
	}
	if !visit.enter(r.Clouds.Address(ctx, obj.Namespace, obj.Spec.IdentityRef)) {
		return ctrl.Result{}, nil
	}
	if obj.DeletionTimestamp.IsZero() {
		return againIfStale(r.reconcileNormal(ctx, cluster, obj))
	}
	return againIfStale(r.reconcileDelete(ctx, cluster, obj))
}

func (r *SendanClusterReconciler) reconcileNormal(ctx context.Context, cluster *clusterv1.Cluster, obj *infrav1.SendanCluster) (ctrl.Result, error) {
	session, trouble, err := openSession(ctx, r.Client, r.Clouds, obj, obj.Spec.IdentityRef)
	if err != nil {
		return ctrl.Result{}, err
	}
	if trouble != nil {
		return r.untrusted(ctx, obj, trouble)
	}
	r.confirmMissing(session, obj)
	in, err := r.gather(ctx, session, cluster, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	steps, notes, err := r.writer().carryOut(ctx, session, obj, func(a attempts) []step {
		in.attempts = a
		return planCluster(*in)
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	in.attempts = attempts{notes: notes, snapshot: session.Inventory().Snapshot(), now: r.Clock.Now()}
	return r.finish(ctx, obj, steps, func() {
		obj.SetAttempts(notes)
		if s, untrusted := isUntrusted(steps); untrusted {
			setUntrusted(obj, s, clusterReadyConditions, isProvisioned(obj), in.now)
			return
		}
		setConditions(obj, steps, clusterReadyConditions, in.now)
		setClusterStatus(*in, steps)
	})
}

// confirmMissing passes on a person's word. One about the future would be one about everything that ever vanishes.
func (r *SendanClusterReconciler) confirmMissing(session *cloud.Session, obj *infrav1.SendanCluster) {
	at, err := time.Parse(time.RFC3339, obj.Annotations[infrav1.MissingConfirmedAnnotation])
	if err == nil && !at.After(r.Clock.Now()) {
		session.Inventory().ConfirmMissing(at)
	}
}

// untrusted tells why there is no session to work with.
func (r *SendanClusterReconciler) untrusted(ctx context.Context, obj *infrav1.SendanCluster, err error) (ctrl.Result, error) {
	s := identityStep(infrav1.IdentityReadyCondition, err, r.Clock.Now())
	return r.finish(ctx, obj, []step{s}, func() { setUntrusted(obj, s, clusterReadyConditions, isProvisioned(obj), r.Clock.Now()) })
}

func isProvisioned(obj *infrav1.SendanCluster) bool {
	return ptr.Deref(obj.Status.Initialization.Provisioned, false)
}

func (r *SendanClusterReconciler) reconcileDelete(ctx context.Context, cluster *clusterv1.Cluster, obj *infrav1.SendanCluster) (ctrl.Result, error) {
	if obj.Annotations[infrav1.OwnerIDAnnotation] == "" {
		return ctrl.Result{}, r.release(ctx, obj) // nothing was ever made
	}
	session, trouble, err := openSession(ctx, r.Client, r.Clouds, obj, obj.Spec.IdentityRef)
	if err != nil {
		return ctrl.Result{}, err
	}
	if trouble != nil {
		s := identityStep(infrav1.IdentityReadyCondition, trouble, r.Clock.Now())
		return r.finish(ctx, obj, []step{s}, func() { setDeleting(obj, s) })
	}
	r.confirmMissing(session, obj)
	machines, err := machinesOf(ctx, r.Client, obj)
	if err != nil {
		return ctrl.Result{}, err
	}
	in := r.input(cluster, obj, machines)
	if in.namesakes, err = namesakesOf(ctx, r.Client, obj); err != nil {
		return ctrl.Result{}, err
	}
	steps, notes, err := r.writer().carryOut(ctx, session, obj, func(a attempts) []step {
		in.attempts = a
		return []step{planClusterDeletion(*in)}
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if _, open := firstOpen(steps); !open {
		r.tellOfVolumes(*in)
		return ctrl.Result{}, r.release(ctx, obj)
	}
	return r.finish(ctx, obj, steps, func() {
		obj.SetAttempts(notes)
		setDeleting(obj, steps[0])
	})
}

// gather asks the cloud's catalog for what the spec names. The answers are cached by the session.
func (r *SendanClusterReconciler) gather(ctx context.Context, session *cloud.Session, cluster *clusterv1.Cluster, obj *infrav1.SendanCluster) (*clusterInput, error) {
	machines, err := machinesOf(ctx, r.Client, obj)
	if err != nil {
		return nil, err
	}
	in := r.input(cluster, obj, machines)
	in.lookups = lookUpCluster(ctx, session, obj)
	return in, nil
}

func (r *SendanClusterReconciler) input(cluster *clusterv1.Cluster, obj *infrav1.SendanCluster, machines []infrav1.SendanMachine) *clusterInput {
	return &clusterInput{
		cluster: obj, name: obj.Namespace + "-" + cluster.Name, machines: machines, ownerEndpoint: cluster.Spec.ControlPlaneEndpoint,
		mark: cloud.Mark{Cluster: obj.Annotations[infrav1.OwnerIDAnnotation]},
	}
}

func (r *SendanClusterReconciler) writer() *writer {
	return &writer{client: r.Client, recorder: r.Recorder, clock: r.Clock}
}

// finish stores what was concluded and says when to look again.
func (r *SendanClusterReconciler) finish(ctx context.Context, obj *infrav1.SendanCluster, steps []step, change func()) (ctrl.Result, error) {
	before := conditions.GetReason(obj, infrav1.IdentityReadyCondition)
	if err := store(ctx, r.Client, obj, change); err != nil {
		return ctrl.Result{}, err
	}
	if now := conditions.Get(obj, infrav1.IdentityReadyCondition); now != nil && now.Reason == infrav1.SuspiciousReason && now.Reason != before {
		r.writer().event(obj, corev1.EventTypeWarning, now.Reason, "%s", now.Message)
	}
	return requeue(patient(obj, steps, r.Clock.Now()), r.Clock.Now()), nil
}

// release lets the object go.
func (r *SendanClusterReconciler) release(ctx context.Context, obj *infrav1.SendanCluster) error {
	return store(ctx, r.Client, obj, func() { controllerutil.RemoveFinalizer(obj, infrav1.ClusterFinalizer) })
}

// setClusterStatus writes what the plan found out. What could not be looked up this time stays.
func setClusterStatus(in clusterInput, steps []step) {
	obj, has := in.cluster, in.objects()
	if in.lookups.zones.err == nil {
		obj.Status.FailureDomains = failureDomainsOf(in)
	}
	if in.lookups.network.err == nil && in.lookups.subnets.err == nil && in.lookups.externalNetwork.err == nil {
		obj.Status.Network = networkStatus(in, has)
		obj.Status.Endpoint = endpointStatus(in.cluster, has)
	}
	if provisioned(steps) {
		obj.Spec.ControlPlaneEndpoint = endpointOf(in, has)
		obj.Status.Initialization.Provisioned = ptr.To(true)
	}
}

func networkStatus(in clusterInput, has clusterObjects) infrav1.NetworkStatus {
	status := infrav1.NetworkStatus{ExternalNetworkID: in.lookups.externalNetwork.value.ID}
	if has.network != nil {
		status.ID = has.network.ID
	}
	for _, subnet := range has.subnets {
		status.SubnetIDs = append(status.SubnetIDs, subnet.ID)
	}
	if has.router != nil {
		status.RouterID = has.router.ID
	}
	if has.controlPlane != nil && has.worker != nil {
		status.ControlPlaneSecurityGroupID, status.WorkerSecurityGroupID = has.controlPlane.ID, has.worker.ID
	}
	return status
}

// provisioned reports that machines can be made. Core reads the endpoint once, at that moment.
func provisioned(steps []step) bool {
	return !slices.ContainsFunc(steps, func(s step) bool {
		return !s.done() && s.condition != infrav1.ServerGroupsReadyCondition && s.condition != infrav1.MembersReadyCondition
	})
}

func endpointStatus(cluster *infrav1.SendanCluster, has clusterObjects) infrav1.EndpointStatus {
	status := infrav1.EndpointStatus{Address: has.innerAddress()}
	if lb := has.loadBalancer; lb != nil {
		status.LoadBalancerID, status.PortID = lb.ID, lb.VIPPortID
		if pool := apiPool(cluster, *lb); pool != nil {
			status.Members = ptr.To(int32(len(pool.Members)))
		}
	}
	if has.virtualIP != nil {
		status.PortID = has.virtualIP.ID
	}
	if has.floatingIP != nil {
		status.FloatingIPID, status.FloatingIP = has.floatingIP.ID, has.floatingIP.Address
	}
	return status
}

// setDeleting writes what a deletion waits for.
func setDeleting(obj owner, s step) {
	ready := metav1.Condition{Type: infrav1.ReadyCondition, Status: metav1.ConditionFalse, Reason: infrav1.DeletingReason, Message: s.message}
	conditions.Set(obj, ready)
	conditions.Set(obj, metav1.Condition{Type: infrav1.DeletingCondition, Status: metav1.ConditionTrue, Reason: s.reason, Message: s.message})
}

// openSession gives the session to look after an object with. Trouble is an error of the credentials or
// the cloud, to be told in a condition; err is one of Kubernetes, to be tried again.
func openSession(ctx context.Context, c client.Client, clouds CloudGetter, obj client.Object, ref infrav1.IdentityReference) (session *cloud.Session, trouble, err error) {
	session, err = clouds.Session(ctx, obj.GetNamespace(), ref)
	if err == nil {
		err = claim(ctx, c, obj, session)
	}
	var classified *cloud.Error
	if errors.As(err, &classified) {
		return nil, err, nil
	}
	return session, nil, err
}

// claim gives an object the id that its cloud objects are marked with, and pins it to the project
// they are in. Credentials that lead to another project are refused from then on.
func claim(ctx context.Context, c client.Client, obj client.Object, session *cloud.Session) error {
	project := session.ProjectID() + "@" + session.Region()
	if pinned := obj.GetAnnotations()[infrav1.ProjectAnnotation]; pinned != "" && pinned != project {
		return cloud.Errorf(cloud.Suspicious,
			"The credentials lead to project %s, but the objects in the cloud are in %s. Give credentials of that project. If it was really moved, change the annotation %s.",
			project, pinned, infrav1.ProjectAnnotation)
	} else if pinned != "" && obj.GetAnnotations()[infrav1.OwnerIDAnnotation] != "" {
		return nil
	}
	before := obj.DeepCopyObject().(client.Object)
	all := maps.Clone(obj.GetAnnotations())
	if all == nil {
		all = map[string]string{}
	}
	all[infrav1.OwnerIDAnnotation] = cmp.Or(all[infrav1.OwnerIDAnnotation], string(obj.GetUID()))
	all[infrav1.ProjectAnnotation] = project
	obj.SetAnnotations(all)
	if err := c.Patch(ctx, obj, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("store the owner id: %w", err)
	}
	return nil
}

// isOurs reports that an object belongs to this manager. Its own label says so, whatever its owners have: watches of other kinds
// lead to objects of other managers as well. `clusterctl move` marks what it is about to remove here because another manager has it now; it takes the
// finalizers off itself, and what is in the cloud is the other manager's.
func isOurs(obj client.Object, watchFilter string) bool {
	_, moved := obj.GetAnnotations()[clusterctlv1.DeleteForMoveAnnotation]
	return !moved && (watchFilter == "" || obj.GetLabels()[clusterv1.WatchLabel] == watchFilter)
}

// machinesOf are the cluster's SendanMachines in the order of their names.
func machinesOf(ctx context.Context, c client.Reader, obj *infrav1.SendanCluster) ([]infrav1.SendanMachine, error) {
	list := &infrav1.SendanMachineList{}
	name := cmp.Or(obj.Labels[clusterv1.ClusterNameLabel], ownerClusterName(obj))
	err := c.List(ctx, list, client.InNamespace(obj.Namespace), client.MatchingLabels{clusterv1.ClusterNameLabel: name})
	if err != nil {
		return nil, fmt.Errorf("list the machines of cluster %s: %w", name, err)
	}
	slices.SortFunc(list.Items, func(a, b infrav1.SendanMachine) int { return cmp.Compare(a.Name, b.Name) })
	return list.Items, nil
}

func ownerClusterName(obj client.Object) string {
	for _, ref := range obj.GetOwnerReferences() {
		if ref.Kind == "Cluster" {
			return ref.Name
		}
	}
	return ""
}

func (r *SendanClusterReconciler) clusterOfMachine(ctx context.Context, obj client.Object) []reconcile.Request {
	cluster, err := util.GetClusterFromMetadata(ctx, r.Client, metav1.ObjectMeta{Namespace: obj.GetNamespace(), Labels: obj.GetLabels()})
	if err != nil || cluster.Spec.InfrastructureRef.Kind != "SendanCluster" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: obj.GetNamespace(), Name: cluster.Spec.InfrastructureRef.Name}}}
}

func (r *SendanClusterReconciler) clustersUsingSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	return r.clustersWith(ctx, keysOfSecret(ctx, r.Client, secret)...)
}

func (r *SendanClusterReconciler) clustersUsingIdentity(ctx context.Context, identity client.Object) []reconcile.Request {
	return r.clustersWith(ctx, identityKey(infrav1.IdentityClusterIdentity, "", identity.GetName()))
}

func (r *SendanClusterReconciler) clustersWith(ctx context.Context, keys ...string) []reconcile.Request {
	var requests []reconcile.Request
	for _, key := range keys {
		clusters := &infrav1.SendanClusterList{}
		if err := r.Client.List(ctx, clusters, client.MatchingFields{identityIndex: key}); err != nil {
			continue
		}
		for i := range clusters.Items {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&clusters.Items[i])})
		}
	}
	return requests
}
