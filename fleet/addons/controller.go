package addons

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/events"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/labels"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// When a cluster is looked at again without an event in the management cluster.
const (
	// defaultRecheck is how long drift may last that workloads do not show.
	defaultRecheck = 10 * time.Minute
	// glance is how long it may take to notice that a workload has changed, and soon is that while an add-on is not up.
	glance = time.Minute
	soon   = 5 * time.Second
	// retry is for what does not come up or cannot be applied, and shows no change.
	retry = time.Minute
	// kindsAppear is how long new kinds take until their objects can be applied.
	kindsAppear = 2 * time.Second
	// clusterTimeout is how long one visit to one cluster may take, so that a slow one holds up no other for long.
	clusterTimeout = 2 * time.Minute
	// defaultConcurrency hides the time that slow clusters take.
	defaultConcurrency = 10
)

// Options of the controllers.
type Options struct {
	// Clock tells the time.
	Clock clockwork.Clock
	// Visit looks into a tenant cluster.
	Visit func(ctx context.Context, cluster client.ObjectKey, look func(context.Context, client.Client) error) error
	// WatchFilterValue restricts this process to Clusters with that value of the watch-filter label.
	WatchFilterValue string
	// Recheck is how often a settled cluster is compared with what it should be; every 10 minutes when unset.
	Recheck time.Duration
	// ClusterTimeout is how long one visit to one cluster may take; 2 minutes when unset.
	ClusterTimeout time.Duration
	// Controller says how many clusters are worked on at the same time; 10 when unset.
	Controller controller.Options
}

// +kubebuilder:rbac:groups=fleet.sendan.io,resources=addons;fleetmembers;releases;sites,verbs=get;list;watch
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=addons/status;fleetmembers/status,verbs=patch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=configmaps,verbs=get;list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

type reconciler struct {
	Options
	client   client.Client
	reads    reads
	recorder events.EventRecorder
	// known is a known for each cluster that was visited, by its client.ObjectKey.
	known sync.Map
}

// SetupWithManager makes the manager apply add-ons and sum up how they do.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	if options.Recheck == 0 {
		options.Recheck = defaultRecheck
	}
	if options.ClusterTimeout == 0 {
		options.ClusterTimeout = clusterTimeout
	}
	if options.Controller.MaxConcurrentReconciles == 0 {
		options.Controller.MaxConcurrentReconciles = defaultConcurrency
	}
	err := mgr.GetFieldIndexer().IndexField(ctx, &fleetv1.FleetMember{}, membersByAddon, func(object client.Object) []string {
		var names []string
		for _, addon := range object.(*fleetv1.FleetMember).Status.Addons {
			names = append(names, addon.Name)
		}
		return names
	})
	if err != nil {
		return fmt.Errorf("add the index %s: %w", membersByAddon, err)
	}
	r := &reconciler{
		Options: options, client: mgr.GetClient(), reads: reads{cached: mgr.GetClient(), live: mgr.GetAPIReader(), metadata: mgr.GetCache()},
		recorder: mgr.GetEventRecorder("sendan"),
	}
	if err := r.setUp(mgr); err != nil {
		return fmt.Errorf("set up the controller of add-ons: %w", err)
	}
	if err := (&summarizer{client: mgr.GetClient(), reads: r.reads}).setUp(mgr); err != nil {
		return fmt.Errorf("set up the controller of Addons: %w", err)
	}
	return nil
}

// Reconcile implements [reconcile.Reconciler]. The request names a Cluster and, with it, its FleetMember.
func (r *reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	cluster := &clusterv1.Cluster{}
	if err := r.client.Get(ctx, request.NamespacedName, cluster); err != nil {
		if apierrors.IsNotFound(err) {
			r.known.Delete(request.NamespacedName)
		}
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	isLeftAlone := !cluster.DeletionTimestamp.IsZero() || ptr.Deref(cluster.Spec.Paused, false) || annotations.HasPaused(cluster)
	if isLeftAlone || (r.WatchFilterValue != "" && !labels.HasWatchLabel(cluster, r.WatchFilterValue)) {
		return ctrl.Result{}, nil
	}
	member := &fleetv1.FleetMember{}
	if err := r.client.Get(ctx, request.NamespacedName, member); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err) // its creation is an event
	}
	addons, again, err := r.carryOut(ctx, cluster, member.Status.Addons)
	if err != nil {
		return ctrl.Result{}, err
	}
	if err := r.write(ctx, member, fit(addons)); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: again}, nil
}

// carryOut returns how the add-ons do and when to look again; never, if only an event can help.
func (r *reconciler) carryOut(ctx context.Context, cluster *clusterv1.Cluster, before []fleetv1.MemberAddon) ([]fleetv1.MemberAddon, time.Duration, error) {
	in, err := r.reads.gather(ctx, cluster)
	if err != nil {
		return nil, 0, err
	}
	inputs, err := r.reads.fingerprint(ctx, in)
	if err != nil {
		return nil, 0, err
	}
	inTime, cancel := context.WithTimeout(ctx, r.ClusterTimeout)
	defer cancel()
	key := client.ObjectKeyFromObject(cluster)
	isTrue, silence := r.glance(inTime, key, inputs)
	if isTrue {
		last := r.lastKnown(key)
		return last.addons, r.untilGlance(last), nil
	}
	intent, err := r.reads.plan(ctx, in)
	switch {
	case err != nil:
		return nil, 0, err
	case intent.Hold != "":
		return keep(before, intent, intent.Hold), 0, nil
	case !ptr.Deref(cluster.Status.Initialization.ControlPlaneInitialized, false):
		return keep(before, intent, "the control plane is not initialized yet"), 0, nil
	}
	err = silence
	if err == nil {
		err = r.pass(inTime, key, inputs, intent)
	}
	switch {
	case isSilence(err):
		ctrl.LoggerFrom(ctx).Info("The cluster does not answer", "error", err.Error())
		return keep(before, intent, unreachable(before, r.lastAnswer(key))), min(retry, r.Recheck), nil
	case err != nil:
		return keep(before, intent, fmt.Sprintf("add-ons cannot be applied: %s; it is tried again every %s", err, retry)), min(retry, r.Recheck), nil
	}
	last := r.lastKnown(key)
	return last.addons, r.untilGlance(last), nil
}

// write patches status.addons alone, and only if it changed: a merge patch that names no other field can neither lose what
// the writer of the other sections wrote meanwhile nor run into a conflict with it.
func (r *reconciler) write(ctx context.Context, member *fleetv1.FleetMember, addons []fleetv1.MemberAddon) error {
	if equality.Semantic.DeepEqual(member.Status.Addons, addons) {
		return nil
	}
	before := member.DeepCopy()
	member.Status.Addons = addons
	if err := r.client.Status().Patch(ctx, member, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(fmt.Errorf("write the add-ons of the FleetMember: %w", err))
	}
	r.tell(member, before.Status.Addons)
	return nil
}

// tell makes Events of what was applied, failed or removed.
func (r *reconciler) tell(member *fleetv1.FleetMember, before []fleetv1.MemberAddon) {
	for _, addon := range member.Status.Addons {
		last := find(before, addon.Name)
		if addon.Digest != last.Digest {
			r.recorder.Eventf(member, nil, corev1.EventTypeNormal, "AddonApplied", "Apply", "applied the add-on %s %s", addon.Name, addon.Version)
		}
		if addon.Phase == fleetv1.AddonFailed && last.Phase != fleetv1.AddonFailed {
			r.recorder.Eventf(member, nil, corev1.EventTypeWarning, "AddonFailed", "Apply", "add-on %s: %s", addon.Name, message.Clip(addon.Message, 900))
		}
	}
	for _, last := range before {
		if find(member.Status.Addons, last.Name).Name == "" {
			r.recorder.Eventf(member, nil, corev1.EventTypeNormal, "AddonRemoved", "Remove", "the cluster no longer has the add-on %s", last.Name)
		}
	}
}

// find returns an empty one when there is none of that name.
func find(addons []fleetv1.MemberAddon, name string) fleetv1.MemberAddon {
	i := slices.IndexFunc(addons, func(addon fleetv1.MemberAddon) bool { return addon.Name == name })
	if i < 0 {
		return fleetv1.MemberAddon{}
	}
	return addons[i]
}
