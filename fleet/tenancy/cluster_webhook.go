package tenancy

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/jonboulle/clockwork"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/keymutex"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/refusal"
)

// It is called for every Cluster, since a marker cannot hold a namespaceSelector; those outside of tenants' namespaces pass.
// +kubebuilder:webhook:verbs=create;update,path=/validate-tenancy-cluster,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=cluster.x-k8s.io,resources=clusters,versions=v1beta2,name=tenancy.cluster.fleet.sendan.io,sideEffects=NoneOnDryRun,admissionReviewVersions=v1

type clusterValidator struct {
	reads           reads
	status          client.SubResourceWriter
	clock           clockwork.Clock
	systemNamespace string
	turns           keymutex.KeyMutex
	// written are the Tenants that admission wrote last, by their names: a *fleetv1.Tenant. Memory hears of that a little later.
	written *sync.Map
}

var _ admission.Validator[*clusterv1.Cluster] = clusterValidator{}

// ValidateCreate implements [admission.Validator].
func (v clusterValidator) ValidateCreate(ctx context.Context, cluster *clusterv1.Cluster) (admission.Warnings, error) {
	return nil, v.validate(ctx, request{cluster: cluster})
}

// ValidateUpdate implements [admission.Validator]. What Cluster API's controllers write passes without a look at anything.
func (v clusterValidator) ValidateUpdate(ctx context.Context, old, updated *clusterv1.Cluster) (admission.Warnings, error) {
	q := request{old: old, cluster: updated}
	hasTopology := old.Spec.Topology.IsDefined() || updated.Spec.Topology.IsDefined()
	changes := q.changesTopology() || q.changesLabel(fleetv1.SiteLabel) || q.changesLabel(fleetv1.TenantLabel)
	if !hasTopology || !changes {
		return nil, nil
	}
	return nil, v.validate(ctx, q)
}

// ValidateDelete implements [admission.Validator]. It is not called.
func (clusterValidator) ValidateDelete(context.Context, *clusterv1.Cluster) (admission.Warnings, error) {
	return nil, nil
}

// request is a Cluster that somebody wants, and all that says whether they may have it.
type request struct {
	old, cluster  *clusterv1.Cluster // old is nil for a new one
	class         *clusterv1.ClusterClass
	before, after demand
}

func (q request) changesTopology() bool {
	return q.old == nil || !equality.Semantic.DeepEqual(q.old.Spec.Topology, q.cluster.Spec.Topology)
}

func (q request) changesClass() bool {
	return q.old == nil || q.old.Spec.Topology.ClassRef != q.cluster.Spec.Topology.ClassRef
}

func (q request) grows() bool { return q.after.total().exceed(q.before.total()) }

func (q request) changesLabel(key string) bool {
	return q.old == nil || q.old.Labels[key] != q.cluster.Labels[key]
}

func (v clusterValidator) validate(ctx context.Context, q request) error {
	name, err := v.reads.tenantOf(ctx, q.cluster.Namespace)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if name == "" {
		return nil
	}
	wrong, err := v.gather(ctx, &q)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	if !q.cluster.DeletionTimestamp.IsZero() { // whatever else is wrong must not keep its last finalizer from going
		return invalid(q, refuseLeaving(q))
	}
	more, err := v.decide(ctx, name, q, len(wrong) == 0)
	if err != nil {
		return err
	}
	return invalid(q, append(wrong, more...))
}

func invalid(q request, wrong field.ErrorList) error {
	return refusal.Invalid(clusterv1.GroupVersion.WithKind("Cluster").GroupKind(), q.cluster, wrong)
}

// gather reads the classes and counts. What a Cluster has been let have is not questioned again: it may be older than its
// tenant.
func (v clusterValidator) gather(ctx context.Context, q *request) (field.ErrorList, error) {
	var err error
	if q.class, err = v.reads.class(ctx, q.cluster); err != nil {
		return nil, err
	}
	if q.changesClass() || q.changesLabel(fleetv1.SiteLabel) {
		if wrong := refuseClass(q.cluster, q.class, v.systemNamespace); len(wrong) > 0 {
			return wrong, nil
		}
	}
	sizes, err := v.reads.poolSizes(ctx, q.cluster)
	if err != nil {
		return nil, err
	}
	var wrong field.ErrorList
	q.after, wrong = demandOf(q.cluster, q.class, sizes)
	if q.old == nil {
		return wrong, nil
	}
	oldClass := q.class
	if q.changesClass() {
		if oldClass, err = v.reads.class(ctx, q.old); err != nil {
			return nil, err
		}
	}
	q.before, _ = demandOf(q.old, oldClass, sizes)
	if !q.changesTopology() {
		return nil, nil
	}
	return append(wrong, refuseUnset(q.old, q.cluster)...), nil
}

// decide looks at the Tenant and, when the request is good, writes a growth into its ledger. Memory will do to let something pass:
// a growth is only written down if the Tenant has not changed since. What memory would refuse is looked at again.
func (v clusterValidator) decide(ctx context.Context, name string, q request, good bool) (field.ErrorList, error) {
	v.turns.LockKey(name)
	defer func() { _ = v.turns.UnlockKey(name) }()
	if err := ctx.Err(); err != nil { // others may have had their turns first
		return nil, err
	}
	if tenant, err := v.remembered(ctx, name); err == nil {
		if wrong, err := v.decideOnce(ctx, tenant, name, q, good); err == nil && len(wrong) == 0 {
			return nil, nil
		}
	}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		tenant := &fleetv1.Tenant{}
		if err := client.IgnoreNotFound(v.reads.live.Get(ctx, client.ObjectKey{Name: name}, tenant)); err != nil {
			return nil, apierrors.NewInternalError(fmt.Errorf("get Tenant %s: %w", name, err))
		}
		wrong, err := v.decideOnce(ctx, tenant, name, q, good)
		if !apierrors.IsConflict(err) { // else somebody else got through, and the next try sees what they wrote
			return wrong, err
		}
	}
}

// remembered is the newest Tenant that can be had without a request.
func (v clusterValidator) remembered(ctx context.Context, name string) (*fleetv1.Tenant, error) {
	tenant := &fleetv1.Tenant{}
	if err := v.reads.cached.Get(ctx, client.ObjectKey{Name: name}, tenant); err != nil {
		return nil, err
	}
	if last, found := v.written.Load(name); found {
		written := last.(*fleetv1.Tenant) //nolint:forcetypeassert // nothing else is stored
		if order, err := resourceversion.CompareResourceVersion(written.ResourceVersion, tenant.ResourceVersion); err == nil && order > 0 {
			return written.DeepCopy(), nil
		}
		v.written.Delete(name)
	}
	return tenant, nil
}

func (v clusterValidator) decideOnce(ctx context.Context, tenant *fleetv1.Tenant, name string, q request, good bool) (field.ErrorList, error) {
	if isThere := tenant.Name != ""; !isThere || !tenant.DeletionTimestamp.IsZero() {
		return refuseGone(name, q), nil
	}
	if wrong := refuseNew(tenant, q); len(wrong) > 0 || !good {
		return wrong, nil
	}
	return v.account(ctx, tenant, q)
}

// refuseGone lets nothing grow that no quota holds.
func refuseGone(tenant string, q request) field.ErrorList {
	if !q.grows() {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("metadata", "namespace"),
		fmt.Sprintf("namespace %s is that of Tenant %s, which is gone or being deleted; use one of another tenant", q.cluster.Namespace, tenant))}
}

func (v clusterValidator) account(ctx context.Context, tenant *fleetv1.Tenant, q request) (field.ErrorList, error) {
	if !q.grows() {
		return nil, nil
	}
	l, have, err := v.look(ctx, tenant, q)
	if err != nil {
		return nil, apierrors.NewInternalError(err)
	}
	want := growth{client.ObjectKeyFromObject(q.cluster), q.cluster.UID, q.after.total(), metav1.NewMicroTime(v.clock.Now())}
	l, short := l.admit(want, have, limitsOf(tenant.Spec.Quota))
	if len(short) > 0 {
		return field.ErrorList{refuseQuota(tenant, q, short)}, nil
	}
	if isDryRun(ctx) {
		return nil, nil
	}
	l.writeTo(&tenant.Status)
	if err := v.status.Update(ctx, tenant); err != nil {
		return nil, err
	}
	v.written.Store(tenant.Name, tenant)
	return nil, nil
}

// look is what the ledger says, and what it has in it for the Cluster as that is stored. A new one is not stored: another of its
// name goes first, and counts until it is gone.
func (v clusterValidator) look(ctx context.Context, tenant *fleetv1.Tenant, q request) (ledger, amounts, error) {
	l := ledgerOf(tenant.Status)
	if !conditions.Has(tenant, fleetv1.WithinQuotaCondition) { // the status is lost, or has never been written
		found, err := v.reads.everything(ctx, tenant)
		if err != nil {
			return ledger{}, nil, err
		}
		l = l.count(found)
	}
	if q.old == nil {
		return l, nil, nil
	}
	have, err := v.reads.stored(ctx, client.ObjectKeyFromObject(q.old))
	return l, have.usage, err
}

func isDryRun(ctx context.Context) bool {
	request, err := admission.RequestFromContext(ctx)
	return err == nil && ptr.Deref(request.DryRun, false)
}

func refuseQuota(tenant *fleetv1.Tenant, q request, short []shortage) *field.Error {
	var parts []string
	for _, s := range short {
		parts = append(parts, s.String())
	}
	return field.Forbidden(growing(q, short), fmt.Sprintf("quota of tenant %s is short: %s; scale down, or ask for a larger quota", tenant.Name, strings.Join(parts, "; ")))
}

// growing is the field that asks for too much.
func growing(q request, short []shortage) *field.Path {
	grows := func(before, after amounts) bool {
		return slices.ContainsFunc(short, func(s shortage) bool { return after[s.dimension] > before[s.dimension] })
	}
	switch {
	case grows(q.before.pools, q.after.pools):
		return topologyPath.Child("workers", "machineDeployments")
	case grows(q.before.controlPlane, q.after.controlPlane):
		return topologyPath.Child("controlPlane", "replicas")
	}
	return topologyPath
}

// refuseLeaving keeps a Cluster from counting less while its machines are still there.
func refuseLeaving(q request) field.ErrorList {
	if !q.changesClass() && maps.Equal(q.before.total(), q.after.total()) {
		return nil
	}
	return field.ErrorList{field.Forbidden(topologyPath, "the Cluster is being deleted, and counts until it is gone; its class and its size stay")}
}

// refuseClass says why a Cluster cannot be made of a ClusterClass.
func refuseClass(cluster *clusterv1.Cluster, class *clusterv1.ClusterClass, systemNamespace string) field.ErrorList {
	if !cluster.Spec.Topology.IsDefined() {
		path, fix := topologyPath, "remove spec.infrastructureRef and spec.controlPlaneRef, and give the Cluster a topology: its class is filled in"
		if cluster.Spec.InfrastructureRef.IsDefined() {
			return field.ErrorList{field.Invalid(field.NewPath("spec", "infrastructureRef"), cluster.Spec.InfrastructureRef.Name,
				"Clusters of tenants are made of Releases, since nothing counts others; "+fix)}
		}
		return field.ErrorList{field.Required(path, "Clusters of tenants are made of Releases; "+fix)}
	}
	ref, path := cluster.Spec.Topology.ClassRef, topologyPath.Child("classRef")
	const fix = "; leave classRef out, and it is filled in"
	if ref.Namespace != systemNamespace {
		return field.ErrorList{field.Invalid(path.Child("namespace"), ref.Namespace, "the ClusterClasses of Releases are in namespace "+systemNamespace+fix)}
	}
	path = path.Child("name")
	if class == nil {
		return field.ErrorList{field.Invalid(path, ref.Name, "is not there"+fix)}
	}
	if !isOfRelease(class) {
		return field.ErrorList{field.Invalid(path, ref.Name, "was not made from a Release"+fix)}
	}
	if site, own := class.Labels[fleetv1.SiteLabel], cluster.Labels[fleetv1.SiteLabel]; own != site {
		return field.ErrorList{field.Invalid(path, ref.Name, fmt.Sprintf("is for site %s, and the Cluster's label %s says %q%s", site, fleetv1.SiteLabel, own, fix))}
	}
	return nil
}

func isOfRelease(class *clusterv1.ClusterClass) bool {
	return class != nil && class.Labels[fleetv1.SiteLabel] != "" && class.Labels[fleetv1.ReleaseLabel] != ""
}

// refuseUnset keeps sizes from being left open that were given before: Cluster API would leave the machines that are there,
// and nothing would count them. A size that was never given is 1, and tenants cannot change what is made of their Cluster.
func refuseUnset(old, updated *clusterv1.Cluster) field.ErrorList {
	var wrong field.ErrorList
	refuse := func(path *field.Path) {
		wrong = append(wrong, field.Required(path.Child("replicas"), "it was given before, so say how many there are to be"))
	}
	if updated.Spec.Topology.ControlPlane.Replicas == nil && old.Spec.Topology.ControlPlane.Replicas != nil {
		refuse(topologyPath.Child("controlPlane"))
	}
	isOpen := func(pool *clusterv1.MachineDeploymentTopology) bool {
		_, autoscaled, _ := poolMaximum(pool, nil)
		return pool.Replicas == nil && !autoscaled
	}
	for i := range updated.Spec.Topology.Workers.MachineDeployments {
		pool := &updated.Spec.Topology.Workers.MachineDeployments[i]
		if was := poolNamed(old, pool.Name); was != nil && isOpen(pool) && !isOpen(was) {
			refuse(poolPath(i))
		}
	}
	return wrong
}

func poolNamed(cluster *clusterv1.Cluster, name string) *clusterv1.MachineDeploymentTopology {
	if cluster == nil {
		return nil
	}
	for i := range cluster.Spec.Topology.Workers.MachineDeployments {
		if pool := &cluster.Spec.Topology.Workers.MachineDeployments[i]; pool.Name == name {
			return pool
		}
	}
	return nil
}

// refuseNew looks at what a request brings in. What a Cluster has already, it keeps when its tenant may no longer have it.
func refuseNew(tenant *fleetv1.Tenant, q request) field.ErrorList {
	var wrong field.ErrorList
	labels := field.NewPath("metadata", "labels")
	if owner := q.cluster.Labels[fleetv1.TenantLabel]; owner != "" && owner != tenant.Name {
		wrong = append(wrong, field.Invalid(labels.Key(fleetv1.TenantLabel), owner, fmt.Sprintf("namespace %s is that of tenant %s; leave the label out", q.cluster.Namespace, tenant.Name)))
	}
	if site := q.cluster.Labels[fleetv1.SiteLabel]; isOfRelease(q.class) && q.changesLabel(fleetv1.SiteLabel) && !mayUse(tenant.Spec.Sites, site) {
		wrong = append(wrong, notAllowed(labels.Key(fleetv1.SiteLabel), site, tenant, "sites", tenant.Spec.Sites))
	}
	if template := singleNodeTemplate(q.class); template != "" && q.changesClass() && !mayUse(tenant.Spec.NodeTemplates, template) {
		wrong = append(wrong, notAllowed(labels.Key(fleetv1.SingleNodeLabel), template, tenant, "nodeTemplates", tenant.Spec.NodeTemplates))
	}
	for i := range q.cluster.Spec.Topology.Workers.MachineDeployments {
		pool := &q.cluster.Spec.Topology.Workers.MachineDeployments[i]
		if !mayUse(tenant.Spec.NodeTemplates, pool.Class) && q.poolGrows(pool) {
			wrong = append(wrong, notAllowed(poolPath(i).Child("class"), pool.Class, tenant, "nodeTemplates", tenant.Spec.NodeTemplates))
		}
	}
	return wrong
}

// poolGrows reports that a pool is new, of another class, or larger.
func (q request) poolGrows(pool *clusterv1.MachineDeploymentTopology) bool {
	was := poolNamed(q.old, pool.Name)
	if was == nil || was.Class != pool.Class {
		return true
	}
	before, _ := poolCount(was, nil, nil, nil)
	after, _ := poolCount(pool, nil, nil, nil)
	return after > before
}

func singleNodeTemplate(class *clusterv1.ClusterClass) string {
	if class == nil {
		return ""
	}
	return class.Labels[fleetv1.SingleNodeLabel]
}

func notAllowed(path *field.Path, value string, tenant *fleetv1.Tenant, list string, allowed []string) *field.Error {
	if len(allowed) == 0 {
		allowed = []string{"none"}
	}
	if value == "" {
		return field.Required(path, fmt.Sprintf("spec.%s of Tenant %s has: %s", list, tenant.Name, strings.Join(allowed, ", ")))
	}
	return field.Invalid(path, value, fmt.Sprintf("tenant %s may not use it; spec.%s of the Tenant has: %s", tenant.Name, list, strings.Join(allowed, ", ")))
}
