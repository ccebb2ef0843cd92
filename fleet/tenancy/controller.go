package tenancy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/keymutex"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/finalizers"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/gathered"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// finalizer keeps a Tenant until its last Cluster is gone and its bindings are removed.
const finalizer = "fleet.sendan.io/tenant"

// gatherEvents is how long a growth stays pending at least, so that an apply of many Clusters does not make a write for each.
const gatherEvents = time.Second

const (
	// writeTries is how often a write of the status begins anew, in a row.
	writeTries = 5
	// manyClusters are listed, fewer are read one by one.
	manyClusters = 20
)

// Options say how tenancy is run.
type Options struct {
	// SystemNamespace has the ClusterClasses of Releases. It is no tenant's.
	SystemNamespace string
	Clock           clockwork.Clock
	Controller      controller.Options
	// Turns let those of one process who write the ledger of a tenant do it one after the other, so that they do not make each
	// other's writes fail. They only save work: what other processes write is excluded by resourceVersions.
	Turns keymutex.KeyMutex
}

// NewTurns is for as many tenants as can matter at the same time.
func NewTurns() keymutex.KeyMutex {
	const locks = 64
	return keymutex.NewHashed(locks)
}

// +kubebuilder:rbac:groups=fleet.sendan.io,resources=tenants,verbs=get;list;watch;patch
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=tenants/status,verbs=get;update
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=fleetmembers,verbs=get;list;watch
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=fleetmembers/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch;create;patch
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=roles;rolebindings;clusterroles;clusterrolebindings,verbs=get;list;watch;create;update;delete
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters;clusterclasses;machinedeployments,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// The rights that it hands out: those of the shipped roles by "bind", the others since it has them itself.
// +kubebuilder:rbac:groups=rbac.authorization.k8s.io,resources=clusterroles,verbs=bind,resourceNames=sendan-tenant-viewer;sendan-tenant-operator;sendan-tenant-admin;sendan-tenant-catalog
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=sites,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get

// Reconciler gives a Tenant its namespaces and bindings, and keeps its ledger.
type Reconciler struct {
	client client.Client
	reads  reads
	clock  clockwork.Clock
	events events.EventRecorder
	turns  keymutex.KeyMutex
	// known is what was read past memory of the Clusters of each tenant, by its name: a map[client.ObjectKey]stored. It is
	// nobody else's: only this controller, while it leads, takes growths from the ledger, and it reads their Clusters then.
	known sync.Map
}

// SetupWithManager makes the manager run the controller of Tenants.
func SetupWithManager(_ context.Context, mgr ctrl.Manager, options Options) error {
	r := &Reconciler{
		client: mgr.GetClient(), reads: reads{cached: mgr.GetClient(), live: mgr.GetAPIReader()},
		clock: options.Clock, events: mgr.GetEventRecorder("sendan"), turns: options.Turns,
	}
	usageChanged := builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, now := e.ObjectOld.(*fleetv1.FleetMember), e.ObjectNew.(*fleetv1.FleetMember)
		return !equality.Semantic.DeepEqual(before.Status.Usage, now.Status.Usage)
	}})
	ofLabel := handler.EnqueueRequestsFromMapFunc(tenantOfLabel)
	ofNamespace := gathered.Handler(gatherEvents, r.tenantOfNamespace)
	specChanged := predicate.GenerationChangedPredicate{}
	maximumChanged := predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		return e.ObjectOld.GetAnnotations()[clusterv1.AutoscalerMaxSizeAnnotation] != e.ObjectNew.GetAnnotations()[clusterv1.AutoscalerMaxSizeAnnotation]
	}}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&fleetv1.Tenant{}, builder.WithPredicates(specChanged)).
		// Admission writes its status.
		Watches(&fleetv1.Tenant{}, gathered.Handler(gatherEvents, itself)).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(r.tenantsNaming)).
		Watches(&rbacv1.Role{}, ofLabel).
		Watches(&rbacv1.RoleBinding{}, ofLabel).
		Watches(&rbacv1.ClusterRole{}, ofLabel).
		Watches(&rbacv1.ClusterRoleBinding{}, ofLabel).
		Watches(&clusterv1.Cluster{}, ofNamespace, builder.WithPredicates(specChanged)).
		// Pools that the autoscaler scales.
		Watches(&clusterv1.MachineDeployment{}, ofNamespace, builder.WithPredicates(predicate.Or[client.Object](specChanged, maximumChanged))).
		Watches(&clusterv1.ClusterClass{}, handler.EnqueueRequestsFromMapFunc(r.everyTenant), builder.WithPredicates(specChanged)).
		Watches(&fleetv1.FleetMember{}, ofNamespace, usageChanged).
		WithOptions(options.Controller).
		Named("tenant").
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of Tenants: %w", err)
	}
	return nil
}

// Reconcile implements [reconcile.Reconciler].
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	tenant := &fleetv1.Tenant{}
	if err := r.client.Get(ctx, request.NamespacedName, tenant); err != nil {
		if apierrors.IsNotFound(err) {
			r.known.Delete(request.Name)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if added, err := finalizers.EnsureFinalizer(ctx, r.client, tenant, finalizer); err != nil || added {
		return ctrl.Result{}, err
	}
	in, found, err := r.gather(ctx, tenant)
	if err != nil {
		return ctrl.Result{}, err
	}
	before := tenant.DeepCopy()
	counted, err := r.count(ctx, tenant, found)
	if err != nil {
		return ctrl.Result{}, err
	}
	again := counted.settle(tenant)
	if !tenant.DeletionTimestamp.IsZero() {
		return ctrl.Result{RequeueAfter: again}, errors.Join(r.finish(ctx, in), r.writeStatus(ctx, before, tenant, counted))
	}
	p := planFor(in)
	ready := p.ready()
	err = r.carryOut(ctx, tenant, in, p)
	if err != nil {
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, fleetv1.NotReadyReason, err.Error()
	}
	conditions.Set(tenant, ready)
	return ctrl.Result{RequeueAfter: again}, errors.Join(err, r.writeStatus(ctx, before, tenant, counted), r.tellMembers(ctx, in.namespaces, counted.clusters))
}

func (r *Reconciler) gather(ctx context.Context, tenant *fleetv1.Tenant) (input, []clusterv1.Cluster, error) {
	namespaces, err := r.reads.namespaces(ctx, tenant)
	if err != nil {
		return input{}, nil, err
	}
	found, err := clustersIn(ctx, r.reads.cached, tenant.Name, namespaces)
	return input{tenant: tenant, namespaces: namespaces, clusters: clusterNames(found)}, found, err
}

// count is all Clusters of a tenant as they are stored. What memory shows only tells where to look: what is counted was read past it.
func (r *Reconciler) count(ctx context.Context, tenant *fleetv1.Tenant, found []clusterv1.Cluster) (census, error) {
	l := ledgerOf(tenant.Status)
	c := census{pending: l.pending, asked: r.clock.Now()}
	var err error
	c.clusters, err = r.read(ctx, tenant, l, found)
	return c, err
}

// census is the Clusters of a tenant, when it was asked for them, and the growths that were pending then.
type census struct {
	clusters map[client.ObjectKey]stored
	pending  []growth
	asked    time.Time
}

// settle sets the ledger and what is said of it, and returns when to look at it again. The Tenant may be newer than the one that
// told which Clusters to read.
func (c census) settle(tenant *fleetv1.Tenant) time.Duration {
	l, again := ledgerOf(tenant.Status).settle(c.clusters, c.pending, c.asked)
	l = l.count(c.clusters)
	l.writeTo(&tenant.Status)
	conditions.Set(tenant, withinQuota(l.used, limitsOf(tenant.Spec.Quota)))
	return again
}

// read is all Clusters of a tenant: at first every one is read, and then those that memory shows to have changed or that are pending.
func (r *Reconciler) read(ctx context.Context, tenant *fleetv1.Tenant, l ledger, found []clusterv1.Cluster) (map[client.ObjectKey]stored, error) {
	known, isKnown := r.known.Load(tenant.Name)
	if !isKnown || !conditions.Has(tenant, fleetv1.WithinQuotaCondition) { // growths that were pending are lost with the status
		return r.readAnew(ctx, tenant)
	}
	all := known.(map[client.ObjectKey]stored) //nolint:forcetypeassert // nothing else is stored
	inMemory, err := r.reads.countAll(ctx, found)
	if err != nil {
		return nil, err
	}
	changed := l.toRead(all, inMemory)
	if len(changed) > manyClusters { // as after many applies at once
		return r.readAnew(ctx, tenant)
	}
	for _, key := range changed {
		cluster, err := r.reads.stored(ctx, key)
		if err != nil {
			return nil, err
		}
		if delete(all, key); cluster.uid != "" {
			all[key] = cluster
		}
	}
	return all, nil
}

func (r *Reconciler) readAnew(ctx context.Context, tenant *fleetv1.Tenant) (map[client.ObjectKey]stored, error) {
	all, err := r.reads.everything(ctx, tenant)
	if err == nil {
		r.known.Store(tenant.Name, all)
	}
	return all, err
}

// tellMembers writes what a Cluster takes of the quota where its tenant sees how it does. Nothing is decided by it.
func (r *Reconciler) tellMembers(ctx context.Context, namespaces map[string]*corev1.Namespace, all map[client.ObjectKey]stored) error {
	var failed []error
	for namespace := range namespaces {
		var members fleetv1.FleetMemberList
		if err := r.client.List(ctx, &members, client.InNamespace(namespace), client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list FleetMembers: %w", err)
		}
		for i := range members.Items {
			cluster, found := all[client.ObjectKeyFromObject(&members.Items[i])]
			usage := cluster.usage.usage()
			if !found || equality.Semantic.DeepEqual(members.Items[i].Status.Usage, usage) {
				continue
			}
			member := members.Items[i].DeepCopy()
			member.Status.Usage = usage
			failed = append(failed, client.IgnoreNotFound(r.client.Status().Patch(ctx, member, client.MergeFrom(&members.Items[i]))))
		}
	}
	return errors.Join(failed...)
}

// finish gives back what a Tenant that is being deleted has, once its last Cluster is gone. Until then all of it stays, so that its
// admins can delete them. Namespaces stay in any case.
func (r *Reconciler) finish(ctx context.Context, in input) error {
	if status := in.tenant.Status; status.Usage.Clusters > 0 || len(status.PendingGrowths) > 0 {
		var names []string
		for _, namespace := range slices.Sorted(maps.Keys(in.clusters)) {
			for _, name := range in.clusters[namespace] {
				names = append(names, namespace+"/"+name)
			}
		}
		conditions.Set(in.tenant, metav1.Condition{Type: fleetv1.ReadyCondition, Status: metav1.ConditionFalse, Reason: fleetv1.DeletingReason,
			Message: "waiting until its Clusters are gone: " + message.Some(names, ", ")})
		return nil
	}
	everything := plan{}
	for _, namespace := range in.namespaces {
		if namespace.Labels[fleetv1.TenantLabel] == in.tenant.Name {
			everything.release = append(everything.release, namespace)
		}
	}
	if err := r.carryOut(ctx, in.tenant, in, everything); err != nil {
		return err
	}
	kept := in.tenant.DeepCopy()
	controllerutil.RemoveFinalizer(kept, finalizer)
	return client.IgnoreNotFound(r.client.Patch(ctx, kept, client.MergeFrom(in.tenant)))
}

// writeStatus names the resourceVersion that was read, as the ledger demands. When admission was faster, it goes on from what that
// wrote: in a long series of applies it always is.
func (r *Reconciler) writeStatus(ctx context.Context, before, tenant *fleetv1.Tenant, c census) error {
	if equality.Semantic.DeepEqual(before.Status, tenant.Status) {
		return nil
	}
	r.turns.LockKey(tenant.Name)
	defer func() { _ = r.turns.UnlockKey(tenant.Name) }()
	for range writeTries {
		err := r.client.Status().Update(ctx, tenant)
		if !apierrors.IsConflict(err) {
			return client.IgnoreNotFound(err)
		}
		newer := &fleetv1.Tenant{}
		if err := r.reads.live.Get(ctx, client.ObjectKeyFromObject(tenant), newer); err != nil {
			return client.IgnoreNotFound(err)
		}
		if !conditions.Has(newer, fleetv1.WithinQuotaCondition) {
			return nil // the status is lost, and growths with it: that is an event
		}
		c.settle(newer)
		if ready := conditions.Get(tenant, fleetv1.ReadyCondition); ready != nil {
			conditions.Set(newer, *ready)
		}
		tenant = newer
	}
	return nil // what others wrote is an event
}

// carryOut writes what differs from the plan, and goes on after a failure: one namespace does not hold up the others.
func (r *Reconciler) carryOut(ctx context.Context, tenant *fleetv1.Tenant, in input, p plan) error {
	var failed []error
	try := func(err error) bool {
		if err != nil {
			failed = append(failed, err)
		}
		return err == nil
	}
	isOurs := map[string]bool{"": true}
	for _, namespace := range p.claim {
		isOurs[namespace.Name] = try(r.claim(ctx, tenant, in.namespaces[namespace.Name], namespace))
	}
	for _, want := range p.objects {
		if isOurs[want.GetNamespace()] { // else somebody may have made it in this moment, and it is theirs
			try(r.ensure(ctx, tenant, want))
		}
	}
	try(r.prune(ctx, tenant, p.objects))
	for _, namespace := range p.release {
		try(r.release(ctx, tenant, namespace))
	}
	return errors.Join(failed...)
}

func (r *Reconciler) claim(ctx context.Context, tenant *fleetv1.Tenant, have, want *corev1.Namespace) error {
	if have == nil {
		if err := r.client.Create(ctx, want); err != nil {
			return fmt.Errorf("create namespace %s: %w", want.Name, err)
		}
		r.events.Eventf(tenant, want, corev1.EventTypeNormal, "NamespaceCreated", "Create", "Created namespace %s", want.Name)
		return nil
	}
	if equality.Semantic.DeepEqual(have.Labels, want.Labels) {
		return nil
	}
	if err := r.client.Patch(ctx, want, client.MergeFromWithOptions(have, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("label namespace %s: %w", want.Name, err)
	}
	if have.Labels[fleetv1.TenantLabel] == "" {
		r.events.Eventf(tenant, want, corev1.EventTypeNormal, "NamespaceAdopted", "Adopt", "Adopted namespace %s, as its annotation %s allows", want.Name, AdoptAnnotation)
	}
	return nil
}

// release leaves the labels of Pod Security: to loosen them is for a person.
func (r *Reconciler) release(ctx context.Context, tenant *fleetv1.Tenant, have *corev1.Namespace) error {
	without := have.DeepCopy()
	delete(without.Labels, fleetv1.TenantLabel)
	err := client.IgnoreNotFound(r.client.Patch(ctx, without, client.MergeFromWithOptions(have, client.MergeFromWithOptimisticLock{})))
	if err != nil {
		return fmt.Errorf("take the tenant's label off namespace %s: %w", have.Name, err)
	}
	r.events.Eventf(tenant, without, corev1.EventTypeNormal, "NamespaceReleased", "Release", "Namespace %s is no longer the tenant's; it stays, with what is in it", have.Name)
	return nil
}

// ensure makes an object what it is to be. Its name is ours, so whatever differs is drift.
func (r *Reconciler) ensure(ctx context.Context, tenant *fleetv1.Tenant, want client.Object) error {
	want.SetLabels(map[string]string{fleetv1.TenantLabel: tenant.Name})
	if err := controllerutil.SetControllerReference(tenant, want, r.client.Scheme(), controllerutil.WithBlockOwnerDeletion(false)); err != nil {
		return err
	}
	have, ok := want.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%T is not an object of the API", want)
	}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(want), have)
	if apierrors.IsNotFound(err) {
		return describe("create", want, r.client.Create(ctx, want))
	}
	if err != nil {
		return describe("get", want, err)
	}
	takeOver(want, have)
	if equality.Semantic.DeepEqual(have, want) {
		return nil
	}
	err = r.client.Update(ctx, want)
	if apierrors.IsInvalid(err) { // a binding cannot be turned to another role
		err = errors.Join(r.client.Delete(ctx, have), r.recreate(ctx, want))
	}
	return describe("update", want, err)
}

func (r *Reconciler) recreate(ctx context.Context, want client.Object) error {
	want.SetResourceVersion("")
	want.SetUID("")
	return r.client.Create(ctx, want)
}

// takeOver copies what the API server and others have put into an object.
func takeOver(want, have client.Object) {
	want.SetResourceVersion(have.GetResourceVersion())
	want.SetUID(have.GetUID())
	want.SetGeneration(have.GetGeneration())
	want.SetCreationTimestamp(have.GetCreationTimestamp())
	want.SetDeletionTimestamp(have.GetDeletionTimestamp())
	want.SetFinalizers(have.GetFinalizers())
	want.SetAnnotations(have.GetAnnotations())
	want.SetManagedFields(have.GetManagedFields())
}

func describe(verb string, object client.Object, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", verb, nameOf(object), err)
}

// prune deletes what the tenant had and is not to have any more.
func (r *Reconciler) prune(ctx context.Context, tenant *fleetv1.Tenant, wanted []client.Object) error {
	keep := map[string]bool{}
	for _, object := range wanted {
		keep[nameOf(object)] = true
	}
	lists := []client.ObjectList{&rbacv1.RoleBindingList{}, &rbacv1.RoleList{}, &rbacv1.ClusterRoleBindingList{}, &rbacv1.ClusterRoleList{}}
	for _, list := range lists {
		if err := r.client.List(ctx, list, client.MatchingLabels{fleetv1.TenantLabel: tenant.Name}); err != nil {
			return fmt.Errorf("list what the tenant has: %w", err)
		}
		err := meta.EachListItem(list, func(item runtime.Object) error {
			object, ok := item.(client.Object)
			if !ok || keep[nameOf(object)] || !metav1.IsControlledBy(object, tenant) {
				return nil
			}
			return describe("delete", object, client.IgnoreNotFound(r.client.Delete(ctx, object)))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func nameOf(object client.Object) string {
	return fmt.Sprintf("%T %s", object, client.ObjectKeyFromObject(object))
}

func itself(_ context.Context, tenant client.Object) []reconcile.Request {
	return requestsFor(tenant.GetName())
}

func tenantOfLabel(_ context.Context, object client.Object) []reconcile.Request {
	if tenant := object.GetLabels()[fleetv1.TenantLabel]; tenant != "" {
		return requestsFor(tenant)
	}
	return nil
}

func (r *Reconciler) tenantOfNamespace(ctx context.Context, object client.Object) []reconcile.Request {
	namespace := &corev1.Namespace{}
	if err := r.client.Get(ctx, client.ObjectKey{Name: object.GetNamespace()}, namespace); err != nil {
		return nil // its own event follows
	}
	return tenantOfLabel(ctx, namespace)
}

// tenantsNaming are those that have a namespace, and those that would like to.
func (r *Reconciler) tenantsNaming(ctx context.Context, namespace client.Object) []reconcile.Request {
	requests := tenantOfLabel(ctx, namespace)
	for _, tenant := range r.tenants(ctx) {
		if slices.Contains(namespacesOf(&tenant), namespace.GetName()) {
			requests = append(requests, requestsFor(tenant.Name)...)
		}
	}
	return requests
}

func (r *Reconciler) everyTenant(ctx context.Context, _ client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, tenant := range r.tenants(ctx) {
		requests = append(requests, requestsFor(tenant.Name)...)
	}
	return requests
}

func (r *Reconciler) tenants(ctx context.Context) []fleetv1.Tenant {
	var all fleetv1.TenantList
	if err := r.client.List(ctx, &all); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Tenants")
	}
	return all.Items
}

func requestsFor(tenant string) []reconcile.Request {
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: tenant}}}
}
