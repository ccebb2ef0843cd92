package templates

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/refusal"
)

// The API server calls webhook configurations in the order of their names, and Cluster API's own refuses a Cluster without a
// class. Ours has to come before "capi-mutating-webhook-configuration".
// +kubebuilder:webhookconfiguration:mutating=true,name=admission-sendan-fleet
// +kubebuilder:webhookconfiguration:mutating=false,name=admission-sendan-fleet

// +kubebuilder:webhook:verbs=create;update,path=/mutate-cluster-x-k8s-io-v1beta2-cluster,mutating=true,failurePolicy=fail,matchPolicy=Equivalent,groups=cluster.x-k8s.io,resources=clusters,versions=v1beta2,name=default.cluster.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1,reinvocationPolicy=IfNeeded
// +kubebuilder:webhook:verbs=create;update,path=/validate-cluster-x-k8s-io-v1beta2-cluster,mutating=false,failurePolicy=fail,matchPolicy=Equivalent,groups=cluster.x-k8s.io,resources=clusters,versions=v1beta2,name=release.cluster.fleet.sendan.io,sideEffects=None,admissionReviewVersions=v1

// +kubebuilder:rbac:groups=fleet.sendan.io,resources=tenants,verbs=get;list;watch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=get;list;watch

// SetupWebhooksWithManager serves the webhooks from the manager's webhook server. Namespace is where the classes are.
func SetupWebhooksWithManager(namespace string) func(ctrl.Manager) error {
	return func(mgr ctrl.Manager) error {
		reader := mgr.GetAPIReader() // a copy must be of what is there now
		clusters := clusterAdmission{reader: mgr.GetClient(), namespace: namespace}
		for kind, serve := range map[string]func() error{
			"NodeTemplate": ctrl.NewWebhookManagedBy(mgr, &fleetv1.NodeTemplate{}).WithValidator(nodeTemplateValidator{}).Complete,
			"Release": ctrl.NewWebhookManagedBy(mgr, &fleetv1.Release{}).
				WithDefaulter(releaseDefaulter{reader: reader}).WithValidator(releaseValidator{reader: reader}).Complete,
			"Cluster": ctrl.NewWebhookManagedBy(mgr, &clusterv1.Cluster{}).WithDefaulter(clusters).WithValidator(clusters).Complete,
		} {
			if err := serve(); err != nil {
				return fmt.Errorf("set up the webhook of %s: %w", kind, err)
			}
		}
		return nil
	}
}

// clusterAdmission completes Clusters that are made of releases.
type clusterAdmission struct {
	reader    client.Reader
	namespace string
}

var (
	_ admission.Defaulter[*clusterv1.Cluster] = clusterAdmission{}
	_ admission.Validator[*clusterv1.Cluster] = clusterAdmission{}
)

// Default implements [admission.Defaulter].
func (a clusterAdmission) Default(ctx context.Context, cluster *clusterv1.Cluster) error {
	old, err := oldObject[clusterv1.Cluster](ctx)
	if err != nil {
		return err
	}
	if old != nil && isSettled(old, cluster) {
		return nil
	}
	request, err := admission.RequestFromContext(ctx)
	if err != nil {
		return err
	}
	in, err := a.gather(ctx, request.Namespace)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	in.cluster, in.old = cluster, old
	if !in.isConcerned() {
		return nil
	}
	return refusal.Invalid(clusterv1.GroupVersion.WithKind("Cluster").GroupKind(), cluster, fillIn(in))
}

// isSettled lets through what has nothing to do with releases: finalizers, the endpoint, other labels.
func isSettled(old, updated *clusterv1.Cluster) bool {
	for _, label := range []string{fleetv1.SiteLabel, fleetv1.ReleaseLabel, fleetv1.TenantLabel, fleetv1.SingleNodeLabel} {
		if old.Labels[label] != updated.Labels[label] {
			return false
		}
	}
	return equality.Semantic.DeepEqual(old.Spec.Topology, updated.Spec.Topology)
}

func (a clusterAdmission) gather(ctx context.Context, namespace string) (clusterInput, error) {
	in := clusterInput{namespace: a.namespace}
	var sites fleetv1.SiteList
	var releases fleetv1.ReleaseList
	var classes clusterv1.ClusterClassList
	for list, options := range map[client.ObjectList][]client.ListOption{
		&sites: nil, &releases: nil, &classes: {client.InNamespace(a.namespace), client.HasLabels{fleetv1.ReleaseLabel}},
	} {
		// Nothing of them is changed.
		if err := a.reader.List(ctx, list, append(options, client.UnsafeDisableDeepCopy)...); err != nil {
			return in, fmt.Errorf("list %T: %w", list, err)
		}
	}
	in.sites, in.releases, in.classes = sites.Items, releases.Items, classes.Items
	err := a.addTenant(ctx, &in, namespace)
	return in, err
}

func (a clusterAdmission) addTenant(ctx context.Context, in *clusterInput, namespace string) error {
	var object corev1.Namespace
	if err := a.reader.Get(ctx, client.ObjectKey{Name: namespace}, &object); err != nil {
		return client.IgnoreNotFound(err)
	}
	name := object.Labels[fleetv1.TenantLabel]
	if name == "" {
		return nil
	}
	tenant := &fleetv1.Tenant{}
	err := a.reader.Get(ctx, client.ObjectKey{Name: name}, tenant)
	switch {
	case apierrors.IsNotFound(err):
		in.goneTenant = name
	case err != nil:
		return fmt.Errorf("read Tenant %s of namespace %s: %w", name, namespace, err)
	default:
		in.tenant = tenant
	}
	return nil
}

// ValidateCreate implements [admission.Validator].
func (a clusterAdmission) ValidateCreate(ctx context.Context, cluster *clusterv1.Cluster) (admission.Warnings, error) {
	return a.warn(ctx, cluster)
}

// ValidateUpdate implements [admission.Validator].
func (a clusterAdmission) ValidateUpdate(ctx context.Context, old, updated *clusterv1.Cluster) (admission.Warnings, error) {
	if !updated.DeletionTimestamp.IsZero() {
		return nil, nil
	}
	var wrong field.ErrorList
	for _, label := range []string{fleetv1.SiteLabel, fleetv1.SingleNodeLabel} {
		if before, now := old.Labels[label], updated.Labels[label]; old.Labels[fleetv1.ReleaseLabel] != "" && before != now {
			wrong = append(wrong, field.Forbidden(labelPath(label), fmt.Sprintf("cannot change from %q to %q; make another cluster", before, now)))
		}
	}
	if err := refusal.Invalid(clusterv1.GroupVersion.WithKind("Cluster").GroupKind(), updated, wrong); err != nil {
		return nil, err
	}
	if old.Labels[fleetv1.ReleaseLabel] == updated.Labels[fleetv1.ReleaseLabel] {
		return nil, nil
	}
	return a.warn(ctx, updated)
}

// ValidateDelete implements [admission.Validator].
func (clusterAdmission) ValidateDelete(context.Context, *clusterv1.Cluster) (admission.Warnings, error) {
	return nil, nil
}

// warn tells about releases that are not for everybody.
func (a clusterAdmission) warn(ctx context.Context, cluster *clusterv1.Cluster) (admission.Warnings, error) {
	name := cluster.Labels[fleetv1.ReleaseLabel]
	if name == "" {
		return nil, nil
	}
	release := &fleetv1.Release{}
	if err := a.reader.Get(ctx, client.ObjectKey{Name: name}, release); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	switch release.Status.Phase {
	case fleetv1.ReleasePreview:
		return admission.Warnings{fmt.Sprintf("release %s is a preview and may still be withdrawn", name)}, nil
	case fleetv1.ReleaseDeprecated:
		return admission.Warnings{fmt.Sprintf("release %s is deprecated; plan an upgrade%s", name, before(release.Spec.Lifecycle))}, nil
	}
	return nil, nil
}

func before(lifecycle fleetv1.ReleaseLifecycle) string {
	if lifecycle.ExpiredFrom.IsZero() {
		return ""
	}
	return " before " + lifecycle.ExpiredFrom.Format("2006-01-02") + ", when it expires"
}
