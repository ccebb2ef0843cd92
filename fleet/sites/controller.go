package sites

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/cluster-api/util/patch"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	wording "github.com/sendan-io/sendan/fleet/internal/message"
)

const (
	defaultInterval = time.Minute
	// defaultConcurrency is more than there are clouds that hang at a time: most of a look is waiting for answers.
	defaultConcurrency = 16
	// defaultPatience is how long one look may take, and so for how long a cloud that hangs takes a worker.
	defaultPatience = 30 * time.Second
)

// Options configures [SetupWithManager]. The zero value works.
type Options struct {
	// Clock is the real clock when nil.
	Clock clockwork.Clock
	// Interval between two looks at a cloud, a minute when unset. Up to a tenth is added by chance, so that the clouds are
	// not all asked at once.
	Interval time.Duration
	// Cloud says how sessions are made. Its Clock is that of the options, and nothing is polled: no inventory is needed here.
	Cloud cloud.Options
	// Controller has 16 workers when it says nothing else.
	Controller controller.Options
}

// Reconciler keeps the status of Sites, and the condition CapacityAvailable of the MachineDeployments of their Clusters.
type Reconciler struct {
	Client client.Client
	// Secrets reads Secrets, uncached.
	Secrets  client.Reader
	Sessions *cloud.Sessions
	Recorder events.EventRecorder
	Clock    clockwork.Clock
	// Interval between two looks at a cloud, and Patience for one of them.
	Interval, Patience time.Duration
}

// +kubebuilder:rbac:groups=fleet.sendan.io,resources=sites;releases,verbs=get;list;watch
// +kubebuilder:rbac:groups=fleet.sendan.io,resources=sites/status,verbs=get;patch;update
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanclusteridentities;sendanmachines,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters;machines;machinedeployments,verbs=get;list;watch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=machinedeployments/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=secrets,verbs=get
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// SetupWithManager makes the manager look at the clouds of all Sites.
func SetupWithManager(ctx context.Context, mgr ctrl.Manager, options Options) error {
	if options.Clock == nil {
		options.Clock = clockwork.NewRealClock()
	}
	options.Cloud.Clock, options.Cloud.ManualPolling = options.Clock, true
	sessions := cloud.NewSessions(options.Cloud)
	if err := mgr.Add(sessions); err != nil { // drops those that nobody uses any more
		return err
	}
	if err := indexFields(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	options.Controller.MaxConcurrentReconciles = cmp.Or(options.Controller.MaxConcurrentReconciles, defaultConcurrency)
	r := &Reconciler{
		Client: mgr.GetClient(), Secrets: mgr.GetAPIReader(), Sessions: sessions, Recorder: mgr.GetEventRecorder("sendan"), Clock: options.Clock,
		Interval: cmp.Or(options.Interval, defaultInterval), Patience: defaultPatience,
	}
	err := ctrl.NewControllerManagedBy(mgr).
		For(&fleetv1.Site{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&infrav1.SendanClusterIdentity{}, handler.EnqueueRequestsFromMapFunc(r.sitesOfIdentity)).
		Watches(&fleetv1.Release{}, handler.EnqueueRequestsFromMapFunc(r.allSites), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		WithOptions(options.Controller).
		Named("site").
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of Sites: %w", err)
	}
	return nil
}

// Reconcile implements [reconcile.Reconciler].
func (r *Reconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	site := &fleetv1.Site{}
	if err := r.Client.Get(ctx, request.NamespacedName, site); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if !site.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, nil
	}
	in, err := r.gather(ctx, site)
	if err != nil {
		return ctrl.Result{}, err
	}
	intent := Plan(*in)
	if err := r.writeStatus(ctx, site, intent.Status); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if err := r.writePools(ctx, in.Clusters, intent.Pools); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: intent.Again + r.jitter(site.Name)}, nil
}

// jitter is up to a tenth of the interval, different for each Site and each time.
func (r *Reconciler) jitter(site string) time.Duration {
	digest := fnv.New64a()
	fmt.Fprintf(digest, "%s %d", site, r.Clock.Now().UnixNano())
	return 1 + time.Duration(digest.Sum64()%uint64(max(r.Interval/10, 1)))
}

// writeStatus writes what has changed, facts and conditions together, so that nobody reads Ready without them. It tells when
// the cloud goes away or comes back.
func (r *Reconciler) writeStatus(ctx context.Context, site *fleetv1.Site, status fleetv1.SiteStatus) error {
	if equality.Semantic.DeepEqual(site.Status, status) {
		return nil
	}
	old := site.DeepCopy()
	site.Status = status
	if err := r.Client.Status().Patch(ctx, site, client.MergeFrom(old)); err != nil {
		return fmt.Errorf("patch the status: %w", err)
	}
	before := meta.FindStatusCondition(old.Status.Conditions, fleetv1.ReachableCondition)
	after := meta.FindStatusCondition(status.Conditions, fleetv1.ReachableCondition)
	switch {
	case before != nil && before.Status == after.Status, before == nil && after.Status == metav1.ConditionTrue:
	case after.Status == metav1.ConditionTrue:
		r.Recorder.Eventf(site, nil, corev1.EventTypeNormal, "Reachable", "Look", "The cloud answers again")
	default:
		r.Recorder.Eventf(site, nil, corev1.EventTypeWarning, after.Reason, "Look", "%s", after.Message)
	}
	return nil
}

// writePools tells pools their place in line, and those that no longer wait that they do not.
func (r *Reconciler) writePools(ctx context.Context, clusters map[types.NamespacedName]bool, messages map[types.NamespacedName]string) error {
	told := &clusterv1.MachineDeploymentList{}
	if err := r.Client.List(ctx, told, client.MatchingFields{waitingIndex: isWaiting}); err != nil {
		return fmt.Errorf("list MachineDeployments: %w", err)
	}
	for _, pool := range told.Items {
		if _, waits := messages[client.ObjectKeyFromObject(&pool)]; waits || !clusters[clusterOf(&pool)] {
			continue
		}
		if err := r.writePool(ctx, &pool, metav1.ConditionTrue, fleetv1.AvailableReason, ""); err != nil {
			return err
		}
	}
	for key, message := range messages {
		pool := &clusterv1.MachineDeployment{}
		err := r.Client.Get(ctx, key, pool)
		if err == nil {
			err = r.writePool(ctx, pool, metav1.ConditionFalse, fleetv1.WaitingForCapacityReason, message)
		}
		if client.IgnoreNotFound(err) != nil {
			return err
		}
	}
	return nil
}

func (r *Reconciler) writePool(ctx context.Context, pool *clusterv1.MachineDeployment, status metav1.ConditionStatus, reason, message string) error {
	helper, err := patch.NewHelper(pool, r.Client)
	if err != nil {
		return fmt.Errorf("prepare to patch: %w", err)
	}
	conditions.Set(pool, metav1.Condition{
		Type: fleetv1.CapacityAvailableCondition, Status: status, Reason: reason, Message: wording.Clip(message, mostMessage),
		LastTransitionTime: metav1.NewTime(r.Clock.Now().Truncate(time.Second)),
	})
	if err := helper.Patch(ctx, pool, patch.WithOwnedConditions{Conditions: []string{fleetv1.CapacityAvailableCondition}}); err != nil {
		return fmt.Errorf("patch MachineDeployment %s: %w", client.ObjectKeyFromObject(pool), err)
	}
	return nil
}

func (r *Reconciler) sitesOfIdentity(ctx context.Context, identity client.Object) []reconcile.Request {
	return r.sitesWhere(ctx, func(site *fleetv1.Site) bool { return site.Spec.IdentityRef.Name == identity.GetName() })
}

func (r *Reconciler) allSites(ctx context.Context, _ client.Object) []reconcile.Request {
	return r.sitesWhere(ctx, func(*fleetv1.Site) bool { return true })
}

func (r *Reconciler) sitesWhere(ctx context.Context, wanted func(*fleetv1.Site) bool) []reconcile.Request {
	sites := &fleetv1.SiteList{}
	if err := r.Client.List(ctx, sites); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List Sites")
		return nil
	}
	var requests []reconcile.Request
	for i := range sites.Items {
		if wanted(&sites.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&sites.Items[i])})
		}
	}
	return requests
}
