package templates

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/events"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
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
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/gathered"
)

// gatherClusters is how long Clusters that come and go are gathered: each look compiles the Release.
const gatherClusters = 5 * time.Second

// releaseReconciler makes the classes of a Release, and removes them when nobody uses them. A class is not owned by its Release:
// `clusterctl move` takes no object along whose owner it does not move, nor then the Clusters that are made of it.
type releaseReconciler struct {
	client    client.Client
	recorder  events.EventRecorder
	clock     clockwork.Clock
	namespace string
}

// +kubebuilder:rbac:groups=fleet.sendan.io,resources=releases/status,verbs=get;update;patch
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusterclasses,verbs=get;list;watch;create;update;patch;delete
// +kubebuilder:rbac:groups=cluster.x-k8s.io,resources=clusters,verbs=get;list;watch
// +kubebuilder:rbac:groups=infrastructure.cluster.x-k8s.io,resources=sendanclustertemplates;sendanmachinetemplates,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=bootstrap.cluster.x-k8s.io,resources=kubeadmconfigtemplates,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=controlplane.cluster.x-k8s.io,resources=kubeadmcontrolplanetemplates,verbs=get;list;watch;create
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

func (r *releaseReconciler) setUpWithManager(mgr ctrl.Manager, options controller.Options) error {
	err := ctrl.NewControllerManagedBy(mgr).
		For(&fleetv1.Release{}).
		Watches(&fleetv1.Site{}, handler.EnqueueRequestsFromMapFunc(r.allReleases), builder.WithPredicates(siteFactsChanged())).
		Watches(&clusterv1.ClusterClass{}, handler.EnqueueRequestsFromMapFunc(releaseOf)).
		// They only tell how many there are, and which classes nobody uses.
		Watches(&clusterv1.Cluster{}, gathered.Handler(gatherClusters, releaseOf),
			builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}))).
		WithOptions(options).
		Named("release").
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of Releases: %w", err)
	}
	return nil
}

// siteFactsChanged leaves out what a site says every minute about free GPUs.
func siteFactsChanged() predicate.Predicate {
	facts := func(object client.Object) string {
		site, _ := object.(*fleetv1.Site)
		return compactJSON([]any{site.Spec, site.Status.Flavors, site.Status.Images})
	}
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return facts(e.ObjectOld) != facts(e.ObjectNew) }}
}

// releaseOf is the release that an object's label names. A label that changes is seen twice, before and after.
func releaseOf(_ context.Context, object client.Object) []reconcile.Request {
	name := object.GetLabels()[fleetv1.ReleaseLabel]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name}}}
}

func (r *releaseReconciler) allReleases(ctx context.Context, _ client.Object) []reconcile.Request {
	var releases fleetv1.ReleaseList
	if err := r.client.List(ctx, &releases); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot list Releases")
		return nil
	}
	requests := make([]reconcile.Request, 0, len(releases.Items))
	for _, release := range releases.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&release)})
	}
	return requests
}

// Reconcile implements [reconcile.Reconciler].
func (r *releaseReconciler) Reconcile(ctx context.Context, request ctrl.Request) (ctrl.Result, error) {
	in, err := r.gather(ctx, request.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	return r.carryOut(ctx, in, planRelease(*in))
}

func (r *releaseReconciler) gather(ctx context.Context, name string) (*releaseInput, error) {
	in := &releaseInput{namespace: r.namespace, now: r.clock.Now()}
	release := &fleetv1.Release{}
	err := r.client.Get(ctx, client.ObjectKey{Name: name}, release)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return nil, fmt.Errorf("get Release %s: %w", name, err)
	case err == nil && release.DeletionTimestamp.IsZero():
		in.release = release
	}
	var sites fleetv1.SiteList
	var classes clusterv1.ClusterClassList
	var clusters clusterv1.ClusterList
	ofRelease := client.MatchingLabels{fleetv1.ReleaseLabel: name}
	for list, options := range map[client.ObjectList][]client.ListOption{
		&sites: nil, &classes: {client.InNamespace(r.namespace), ofRelease}, &clusters: {ofRelease, client.UnsafeDisableDeepCopy},
	} {
		if err := r.client.List(ctx, list, options...); err != nil {
			return nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	in.sites, in.classes, in.clusters = sites.Items, classes.Items, clusters.Items
	slices.SortFunc(in.sites, func(a, b fleetv1.Site) int { return strings.Compare(a.Name, b.Name) })
	templates, err := r.templates(ctx)
	in.has = func(object client.Object) bool {
		return templates[object.GetObjectKind().GroupVersionKind().Kind+"/"+object.GetName()]
	}
	return in, err
}

// templates are the kinds and names of all that is in the classes' namespace.
func (r *releaseReconciler) templates(ctx context.Context) (map[string]bool, error) {
	found := map[string]bool{}
	var infrastructures infrav1.SendanClusterTemplateList
	var machines infrav1.SendanMachineTemplateList
	var bootstraps bootstrapv1.KubeadmConfigTemplateList
	var controlPlanes controlplanev1.KubeadmControlPlaneTemplateList
	for _, list := range []client.ObjectList{&infrastructures, &machines, &bootstraps, &controlPlanes} {
		if err := r.client.List(ctx, list, client.InNamespace(r.namespace), client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	for i := range infrastructures.Items {
		found["SendanClusterTemplate/"+infrastructures.Items[i].Name] = true
	}
	for i := range machines.Items {
		found["SendanMachineTemplate/"+machines.Items[i].Name] = true
	}
	for i := range bootstraps.Items {
		found["KubeadmConfigTemplate/"+bootstraps.Items[i].Name] = true
	}
	for i := range controlPlanes.Items {
		found["KubeadmControlPlaneTemplate/"+controlPlanes.Items[i].Name] = true
	}
	return found, nil
}

func (r *releaseReconciler) carryOut(ctx context.Context, in *releaseInput, intent releaseIntent) (ctrl.Result, error) {
	for _, object := range intent.create {
		// Names are hashes of the content, so one that is there is the same.
		if err := client.IgnoreAlreadyExists(r.client.Create(ctx, object)); err != nil {
			return ctrl.Result{}, fmt.Errorf("create %s %s: %w", object.GetObjectKind().GroupVersionKind().Kind, object.GetName(), err)
		}
		if class, ok := object.(*clusterv1.ClusterClass); ok {
			r.recorder.Eventf(in.release, class, corev1.EventTypeNormal, "Compiled", "Compile", "Made the class %s for site %s.", class.Name, class.Labels[fleetv1.SiteLabel])
		}
	}
	if err := r.mark(ctx, intent.inUse, ""); err != nil {
		return ctrl.Result{}, err
	}
	if err := r.mark(ctx, intent.unused, in.now.UTC().Format(time.RFC3339)); err != nil {
		return ctrl.Result{}, err
	}
	for _, class := range intent.remove {
		if err := client.IgnoreNotFound(r.client.Delete(ctx, class, client.Preconditions{ResourceVersion: &class.ResourceVersion})); err != nil {
			return ctrl.Result{}, fmt.Errorf("delete ClusterClass %s: %w", class.Name, err)
		}
		var about client.Object = class
		if in.release != nil {
			about = in.release
		}
		r.recorder.Eventf(about, class, corev1.EventTypeNormal, "Removed", "Remove", "Removed the class %s, which nobody has used for %s.", class.Name, unusedFor)
	}
	if err := r.writeStatus(ctx, in, intent); err != nil || intent.recheck.IsZero() {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: intent.recheck.Sub(in.now)}, nil
}

// mark says since when classes are unused, or no longer does.
func (r *releaseReconciler) mark(ctx context.Context, classes []*clusterv1.ClusterClass, since string) error {
	for _, class := range classes {
		original := class.DeepCopy()
		if since == "" {
			delete(class.Annotations, unusedAnnotation)
		} else {
			class.SetAnnotations(withEntry(class.Annotations, unusedAnnotation, since))
		}
		if err := r.client.Patch(ctx, class, client.MergeFrom(original)); err != nil {
			return fmt.Errorf("mark ClusterClass %s: %w", class.Name, err)
		}
	}
	return nil
}

func withEntry(values map[string]string, key, value string) map[string]string {
	if values == nil {
		values = map[string]string{}
	}
	values[key] = value
	return values
}

func (r *releaseReconciler) writeStatus(ctx context.Context, in *releaseInput, intent releaseIntent) error {
	if in.release == nil {
		return nil
	}
	helper, err := patch.NewHelper(in.release, r.client)
	if err != nil {
		return err
	}
	in.release.Status = intent.status
	conditions.Set(in.release, intent.ready)
	return helper.Patch(ctx, in.release, patch.WithOwnedConditions{Conditions: []string{fleetv1.ReadyCondition}})
}
