package controllers

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/finalizers"
	"sigs.k8s.io/cluster-api/util/paused"
	"sigs.k8s.io/cluster-api/util/predicates"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// machineReadyConditions make up the Ready condition of a SendanMachine.
var machineReadyConditions = []string{infrav1.VolumesReadyCondition, infrav1.PortsReadyCondition, infrav1.ServerReadyCondition, infrav1.BootSucceededCondition}

// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanmachines,verbs=get;list;watch;patch;update
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanmachines/status,verbs=get;patch;update
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanmachines/finalizers,verbs=update
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=machines;machines/status,verbs=get;list;watch

// SendanMachineReconciler makes and removes servers.
type SendanMachineReconciler struct {
	Client           client.Client
	Clouds           CloudGetter
	Recorder         events.EventRecorder
	Clock            clockwork.Clock
	WatchFilterValue string

	crowd *crowd
}

// SetupWithManager registers the controller and what wakes it.
func (r *SendanMachineReconciler) SetupWithManager(ctx context.Context, mgr ctrl.Manager, inventory *InventoryEvents, options controller.Options) error {
	r.crowd = newCrowd(options.MaxConcurrentReconciles)
	scheme, log := mgr.GetScheme(), ctrl.LoggerFrom(ctx)
	clusterToMachines, err := util.ClusterToTypedObjectsMapper(mgr.GetClient(), &infrav1.SendanMachineList{}, scheme)
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		For(&infrav1.SendanMachine{}, builder.WithPredicates(predicates.ResourceHasFilterLabel(scheme, log, r.WatchFilterValue))).
		WithOptions(options).
		Watches(&clusterv1.Machine{},
			handler.EnqueueRequestsFromMapFunc(util.MachineToInfrastructureMapFunc(infrav1.GroupVersion.WithKind("SendanMachine"))),
			// The resync of SendanMachines is enough: that of Machines would lead to the same.
			builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		Watches(&clusterv1.Cluster{}, handler.EnqueueRequestsFromMapFunc(clusterToMachines),
			builder.WithPredicates(predicates.ClusterPausedTransitionsOrInfrastructureProvisioned(scheme, log))).
		Watches(&infrav1.SendanCluster{}, handler.EnqueueRequestsFromMapFunc(r.pendingMachines), builder.WithPredicates(networkChanged())).
		WatchesMetadata(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(r.machinesUsingSecret), builder.WithPredicates(predicate.ResourceVersionChangedPredicate{})).
		WatchesRawSource(inventory.source(machineRequests)).
		WatchesRawSource(r.crowd.calls()).
		Complete(r)
}

// machineComesOrGoes lets through what a cluster looks at in its machines.
func machineComesOrGoes() predicate.Funcs {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.GetDeletionTimestamp().IsZero() != e.ObjectNew.GetDeletionTimestamp().IsZero() ||
				e.ObjectOld.GetAnnotations()[infrav1.OwnerIDAnnotation] != e.ObjectNew.GetAnnotations()[infrav1.OwnerIDAnnotation]
		},
	}
}

// networkChanged lets through what a machine looks at in its cluster.
func networkChanged() predicate.Funcs {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, isCluster := e.ObjectOld.(*infrav1.SendanCluster)
			after, isClusterToo := e.ObjectNew.(*infrav1.SendanCluster)
			return isCluster && isClusterToo && (before.Status.Network.ID != after.Status.Network.ID ||
				before.Status.Network.WorkerSecurityGroupID != after.Status.Network.WorkerSecurityGroupID ||
				before.Spec.IdentityRef != after.Spec.IdentityRef)
		},
	}
}

// machinesUsingSecret are the machines with an identity of their own. Those without follow their
// cluster.
func (r *SendanMachineReconciler) machinesUsingSecret(ctx context.Context, secret client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, key := range keysOfSecret(ctx, r.Client, secret) {
		machines := &infrav1.SendanMachineList{}
		if err := r.Client.List(ctx, machines, client.MatchingFields{identityIndex: key}); err != nil {
			continue
		}
		requests = append(requests, requestsOf(machines.Items)...)
	}
	return requests
}

func (r *SendanMachineReconciler) pendingMachines(ctx context.Context, obj client.Object) []reconcile.Request {
	machines, err := machinesOf(ctx, r.Client, obj.(*infrav1.SendanCluster))
	if err != nil {
		return nil
	}
	return requestsOf(machines)
}

// serverDeleting is the state shown from Sendan's own delete call on. Nova has no such state.
const serverDeleting = "DELETING"

// machineScope is what a reconcile of a machine needs from around it.
type machineScope struct {
	cluster      *clusterv1.Cluster
	machine      *clusterv1.Machine // nil when the owner is gone
	infraCluster *infrav1.SendanCluster
	obj          *infrav1.SendanMachine
}

// Reconcile brings one machine closer to its spec.
func (r *SendanMachineReconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	visit := r.crowd.begin(req)
	defer visit.end()
	obj := &infrav1.SendanMachine{}
	if err := r.Client.Get(ctx, req.NamespacedName, obj); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !isOurs(obj, r.WatchFilterValue) {
		return ctrl.Result{}, nil
	}
	if !obj.DeletionTimestamp.IsZero() && obj.Annotations[infrav1.OwnerIDAnnotation] == "" && !annotations.HasPaused(obj) {
		return againIfStale(ctrl.Result{}, r.release(ctx, obj)) // nothing was ever made
	}
	scope, err := r.scope(ctx, obj)
	if err != nil || scope == nil {
		return ctrl.Result{}, err
	}
	if isPaused, again, err := paused.EnsurePausedCondition(ctx, r.Client, scope.cluster, obj); err != nil || isPaused || again {
		return ctrl.Result{}, err
	}
	if added, err := finalizers.EnsureFinalizer(ctx, r.Client, obj, infrav1.MachineFinalizer); err != nil || added {
		return ctrl.Result{}, err
	}
	if !visit.enter(r.Clouds.Address(ctx, obj.Namespace, identityOf(scope))) {
		return ctrl.Result{}, nil
	}
	if obj.DeletionTimestamp.IsZero() {
		return againIfStale(r.reconcileNormal(ctx, scope))
	}
	return againIfStale(r.reconcileDelete(ctx, scope))
}

// scope finds the machine's surroundings; nil when there is nothing to do before they are there.
func (r *SendanMachineReconciler) scope(ctx context.Context, obj *infrav1.SendanMachine) (*machineScope, error) {
	machine, err := util.GetOwnerMachine(ctx, r.Client, obj.ObjectMeta)
	if client.IgnoreNotFound(err) != nil {
		return nil, err
	}
	if machine == nil && obj.DeletionTimestamp.IsZero() {
		return nil, nil // the owner reference comes with an update of this object
	}
	scope := &machineScope{machine: machine, obj: obj, infraCluster: &infrav1.SendanCluster{}}
	if scope.cluster, err = util.GetClusterFromMetadata(ctx, r.Client, obj.ObjectMeta); err == nil {
		err = r.Client.Get(ctx, client.ObjectKey{Namespace: obj.Namespace, Name: scope.cluster.Spec.InfrastructureRef.Name}, scope.infraCluster)
	}
	if apierrors.IsNotFound(err) && !obj.DeletionTimestamp.IsZero() {
		return nil, r.forsaken(ctx, obj)
	}
	if err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return scope, nil
}

// forsaken tells a machine that is to go how to, when somebody has removed its cluster by force.
func (r *SendanMachineReconciler) forsaken(ctx context.Context, obj *infrav1.SendanMachine) error {
	s := waiting(infrav1.DeletingCondition, infrav1.WaitingForInfrastructureReason,
		"The Cluster or its SendanCluster is gone, and with it the credentials. Delete what carries the mark %s in the cloud, then remove the finalizer %s.",
		obj.Annotations[infrav1.OwnerIDAnnotation], infrav1.MachineFinalizer)
	_, err := r.deleting(ctx, obj, []step{s}, obj.GetAttempts(), machineObjects{})
	return err
}

func (r *SendanMachineReconciler) reconcileNormal(ctx context.Context, scope *machineScope) (ctrl.Result, error) {
	obj := scope.obj
	if scope.infraCluster.Annotations[infrav1.OwnerIDAnnotation] == "" {
		s := waiting(infrav1.ServerReadyCondition, infrav1.WaitingForInfrastructureReason, "Waiting for SendanCluster %s to be provisioned.", scope.infraCluster.Name)
		return r.conclude(ctx, obj, []step{s})
	}
	session, trouble, err := openSession(ctx, r.Client, r.Clouds, obj, identityOf(scope))
	if err != nil {
		return ctrl.Result{}, err
	}
	if trouble != nil {
		return r.untrusted(ctx, obj, identityStep(infrav1.ServerReadyCondition, trouble, r.Clock.Now()))
	}
	in, err := r.gather(ctx, session, scope)
	if err != nil {
		return ctrl.Result{}, err
	}
	steps, notes, err := r.writer().carryOut(ctx, session, obj, func(a attempts) []step {
		in.attempts = a
		return planMachine(*in)
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if s, untrusted := isUntrusted(steps); untrusted {
		s.condition = infrav1.ServerReadyCondition
		return r.untrusted(ctx, obj, s)
	}
	in.snapshot = session.Inventory().Snapshot()
	has := in.objects()
	r.tellOfFailedBoot(obj, in.boot, steps)
	return r.concludeWith(ctx, obj, steps, has, func() {
		obj.SetAttempts(notes)
		if has.server != nil && has.server.Status == "ACTIVE" {
			obj.Spec.ProviderID = providerID(scope.infraCluster, session.Region(), has.server.ID)
			obj.Status.Initialization.Provisioned = ptr.To(true)
			obj.Status.FailureDomain = failureDomainIn(scope.infraCluster, scope.machine, has.server.Zone)
		}
	})
}

// untrusted tells a machine that never ran why it has to wait. One that runs keeps what is known of it;
// its cluster tells.
func (r *SendanMachineReconciler) untrusted(ctx context.Context, obj *infrav1.SendanMachine, s step) (ctrl.Result, error) {
	if obj.Spec.ProviderID != "" && ptr.Deref(obj.Status.Initialization.Provisioned, false) {
		return ctrl.Result{RequeueAfter: runningRecheck}, nil
	}
	return r.conclude(ctx, obj, []step{s})
}

func (r *SendanMachineReconciler) reconcileDelete(ctx context.Context, scope *machineScope) (ctrl.Result, error) {
	obj := scope.obj
	session, trouble, err := openSession(ctx, r.Client, r.Clouds, obj, identityOf(scope))
	if err != nil {
		return ctrl.Result{}, err
	}
	if trouble != nil {
		s := identityStep(infrav1.DeletingCondition, trouble, r.Clock.Now())
		return r.deleting(ctx, obj, []step{s}, obj.GetAttempts(), machineObjects{})
	}
	in := inputOf(scope)
	in.snapshot = session.Inventory().Snapshot()
	if in.snapshot.Fresh(machineKinds(*in)...) && in.objects().server == nil && in.wasProvisioned() && obj.Status.Server.State != serverDeleting {
		in.lookups.server = look(session.GetServer(ctx, serverIDOf(obj.Spec.ProviderID)))
	}
	steps, notes, err := r.writer().carryOut(ctx, session, obj, func(a attempts) []step {
		in.attempts = a
		return []step{planMachineDeletion(*in)}
	})
	if err != nil {
		return ctrl.Result{}, err
	}
	if _, open := firstOpen(steps); !open {
		return ctrl.Result{}, r.release(ctx, obj)
	}
	in.snapshot = session.Inventory().Snapshot()
	return r.deleting(ctx, obj, steps, notes, in.objects())
}

// identityOf is the machine's own identity, or the cluster's.
func identityOf(scope *machineScope) infrav1.IdentityReference {
	if scope.obj.Spec.IdentityRef != nil {
		return *scope.obj.Spec.IdentityRef
	}
	return scope.infraCluster.Spec.IdentityRef
}

func (r *SendanMachineReconciler) writer() *writer {
	return &writer{client: r.Client, recorder: r.Recorder, clock: r.Clock}
}

func (r *SendanMachineReconciler) release(ctx context.Context, obj *infrav1.SendanMachine) error {
	return store(ctx, r.Client, obj, func() { controllerutil.RemoveFinalizer(obj, infrav1.MachineFinalizer) })
}

// conclude stores what keeps a machine from being looked at in the cloud.
func (r *SendanMachineReconciler) conclude(ctx context.Context, obj *infrav1.SendanMachine, steps []step) (ctrl.Result, error) {
	return r.concludeWith(ctx, obj, steps, machineObjects{}, func() {})
}

// concludeWith stores what was concluded and says when to look again.
func (r *SendanMachineReconciler) concludeWith(ctx context.Context, obj *infrav1.SendanMachine, steps []step, has machineObjects, more func()) (ctrl.Result, error) {
	err := store(ctx, r.Client, obj, func() {
		setConditions(obj, steps, machineReadyConditions, r.Clock.Now())
		obj.Status.Phase = phaseOf(steps, has)
		setServerStatus(obj, has)
		more()
	})
	return requeue(patient(obj, steps, r.Clock.Now()), r.Clock.Now()), err
}

func (r *SendanMachineReconciler) deleting(ctx context.Context, obj *infrav1.SendanMachine, steps []step, notes []infrav1.Attempt, has machineObjects) (ctrl.Result, error) {
	err := store(ctx, r.Client, obj, func() {
		obj.SetAttempts(notes)
		setDeleting(obj, steps[0])
		obj.Status.Phase = infrav1.PhaseDeleting
		setServerStatus(obj, has)
	})
	return requeue(patient(obj, steps, r.Clock.Now()), r.Clock.Now()), err
}

func setServerStatus(obj *infrav1.SendanMachine, has machineObjects) {
	if has.server != nil {
		obj.Status.Server = infrav1.ServerStatus{ID: has.server.ID, State: has.server.Status, Zone: has.server.Zone, HostID: has.server.HostID}
		if has.server.Deleting {
			obj.Status.Server.State = serverDeleting
		}
	}
	if len(has.ports) > 0 {
		obj.Status.Addresses = addressesOf(obj, has)
	}
}

// phaseOf sums up the steps in one word.
func phaseOf(steps []step, has machineObjects) infrav1.MachinePhase {
	open, isOpen := firstOpen(steps)
	switch {
	case !isOpen:
		return infrav1.PhaseRunning
	case open.failed:
		return infrav1.PhaseFailed
	case has.server != nil:
		return infrav1.PhaseBuilding
	case open.condition == infrav1.VolumesReadyCondition:
		return infrav1.PhaseVolumes
	case open.condition == infrav1.PortsReadyCondition:
		return infrav1.PhasePorts
	}
	return infrav1.PhasePending
}

// gather reads everything the plan of a machine looks at. What only a new machine needs is not
// asked for once there is a server.
func (r *SendanMachineReconciler) gather(ctx context.Context, session *cloud.Session, scope *machineScope) (*machineInput, error) {
	in := inputOf(scope)
	in.snapshot = session.Inventory().Snapshot()
	if !in.snapshot.Fresh(machineKinds(*in)...) {
		return in, nil
	}
	has := in.objects()
	switch {
	case has.server != nil:
		if has.server.Status == "ACTIVE" && in.boot.lookDue(r.Clock.Now()) {
			in.lookups.console = look(session.ConsoleLog(ctx, has.server.ID, consoleLines))
		}
		return in, nil
	case in.wasProvisioned():
		in.lookups.server = look(session.GetServer(ctx, serverIDOf(in.machine.Spec.ProviderID)))
		return in, nil
	case !in.infrastructureReady:
		return in, nil
	}
	var err error
	if in.userData, err = r.userData(ctx, scope.machine); err != nil || in.userData == nil {
		return in, err
	}
	in.lookups = lookUpMachine(ctx, session, scope)
	return in, nil
}

func inputOf(scope *machineScope) *machineInput {
	return &machineInput{
		machine: scope.obj, cluster: scope.infraCluster,
		mark: cloud.Mark{
			Cluster: scope.infraCluster.Annotations[infrav1.OwnerIDAnnotation],
			Machine: scope.obj.Annotations[infrav1.OwnerIDAnnotation],
		},
		infrastructureReady: ptr.Deref(scope.cluster.Status.Initialization.InfrastructureProvisioned, false),
		clusterDeleting:     !scope.cluster.DeletionTimestamp.IsZero() || !scope.infraCluster.DeletionTimestamp.IsZero(),
		placement:           placementOf(scope.infraCluster, scope.machine),
		boot:                bootStateOf(scope),
	}
}

// userData is what the bootstrap provider wrote; nil while it has not.
func (r *SendanMachineReconciler) userData(ctx context.Context, machine *clusterv1.Machine) ([]byte, error) {
	name := ptr.Deref(machine.Spec.Bootstrap.DataSecretName, "")
	if name == "" {
		return nil, nil
	}
	secret := &corev1.Secret{}
	if err := r.Client.Get(ctx, client.ObjectKey{Namespace: machine.Namespace, Name: name}, secret); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("get bootstrap data Secret %s: %w", name, err)
	}
	data, ok := secret.Data["value"]
	if !ok {
		return nil, fmt.Errorf("bootstrap data Secret %s has no key %q", name, "value")
	}
	return data, nil
}

// placementOf turns a Machine's failure domain into zones. A name that the spec does not list is a
// compute zone, as discovered failure domains are.
func placementOf(cluster *infrav1.SendanCluster, machine *clusterv1.Machine) placement {
	if machine == nil || machine.Spec.FailureDomain == "" {
		return placement{}
	}
	for _, domain := range cluster.Spec.FailureDomains {
		if domain.Name == machine.Spec.FailureDomain {
			return placement{computeZone: cmp.Or(domain.ComputeZone, domain.Name), volumeZone: domain.VolumeZone}
		}
	}
	return placement{computeZone: machine.Spec.FailureDomain}
}

// failureDomainIn is the failure domain of a compute zone, as truth after placement.
func failureDomainIn(cluster *infrav1.SendanCluster, machine *clusterv1.Machine, zone string) string {
	if machine != nil && machine.Spec.FailureDomain != "" && placementOf(cluster, machine).computeZone == zone {
		return machine.Spec.FailureDomain
	}
	for _, domain := range cluster.Spec.FailureDomains {
		if cmp.Or(domain.ComputeZone, domain.Name) == zone {
			return domain.Name
		}
	}
	return zone
}

// providerID is exactly what the OpenStack cloud-controller-manager writes on the Node.
func providerID(cluster *infrav1.SendanCluster, region, serverID string) string {
	if cluster.Spec.ProviderIDFormat == infrav1.ProviderIDRegional {
		return "openstack://" + region + "/" + serverID
	}
	return "openstack:///" + serverID
}

// serverIDOf is the last part of a provider id.
func serverIDOf(providerID string) string {
	return providerID[strings.LastIndex(providerID, "/")+1:]
}

// jsonObject reads a free-form JSON object of a spec.
func jsonObject(raw *apiextensionsv1.JSON) (map[string]any, error) {
	if raw == nil {
		return nil, nil
	}
	var object map[string]any
	if err := json.Unmarshal(raw.Raw, &object); err != nil {
		return nil, fmt.Errorf("%s is not a JSON object: %w", raw.Raw, err)
	}
	return object, nil
}
