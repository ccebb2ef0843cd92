package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// conflictRetry is how long to leave the field to whoever else writes the same object.
const conflictRetry = 200 * time.Millisecond

// injector puts the authority of a Certificate into the webhooks of objects that ask for it by annotation.
type injector struct {
	client.Client
	// uncached reads from the API server: definitions are large, and few of them are needed.
	uncached client.Reader
	kind     client.Object
	gvk      schema.GroupVersionKind
	// bundles are the fields of an object that hold the authority of a webhook's certificate.
	bundles func(client.Object) []*[]byte
}

func setUpInjectors(manager ctrl.Manager) error {
	for _, i := range []*injector{
		{kind: &admissionregistrationv1.ValidatingWebhookConfiguration{}, bundles: validatingBundles},
		{kind: &admissionregistrationv1.MutatingWebhookConfiguration{}, bundles: mutatingBundles},
		{kind: &apiextensionsv1.CustomResourceDefinition{}, bundles: conversionBundles},
	} {
		i.Client, i.uncached = manager.GetClient(), manager.GetAPIReader()
		if err := i.setUp(manager); err != nil {
			return fmt.Errorf("set up the injector for %T: %w", i.kind, err)
		}
	}
	return nil
}

func (i *injector) setUp(manager ctrl.Manager) error {
	var err error
	if i.gvk, err = apiutil.GVKForObject(i.kind, manager.GetScheme()); err != nil {
		return err
	}
	asks := predicate.NewPredicateFuncs(func(object client.Object) bool { return object.GetAnnotations()[cmapi.WantInjectAnnotation] != "" })
	return ctrl.NewControllerManagedBy(manager).
		For(i.kind, builder.OnlyMetadata, builder.WithPredicates(asks)).
		Watches(&cmapi.Certificate{}, handler.EnqueueRequestsFromMapFunc(i.objectsOfCertificate)).
		Complete(i)
}

func (i *injector) objectsOfCertificate(ctx context.Context, certificate client.Object) []ctrl.Request {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(i.gvk)
	if err := i.List(ctx, list); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List the objects that ask for an authority", "kind", i.gvk.Kind)
		return nil
	}
	var requests []ctrl.Request
	for j := range list.Items {
		if list.Items[j].Annotations[cmapi.WantInjectAnnotation] == client.ObjectKeyFromObject(certificate).String() {
			requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[j])})
		}
	}
	return requests
}

func (i *injector) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	object := i.kind.DeepCopyObject().(client.Object)
	if err := i.uncached.Get(ctx, req.NamespacedName, object); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	authority, err := i.authority(ctx, object.GetAnnotations()[cmapi.WantInjectAnnotation])
	if err != nil || authority == nil {
		return ctrl.Result{}, err
	}
	before := object.DeepCopyObject().(client.Object)
	for _, bundle := range i.bundles(object) {
		*bundle = authority
	}
	if equality.Semantic.DeepEqual(before, object) {
		return ctrl.Result{}, nil
	}
	// A merge patch replaces the whole list of webhooks, so it must not meet somebody else's change.
	err = i.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictRetry}, nil
	}
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	ctrl.LoggerFrom(ctx).Info("Injected the authority", "kind", i.gvk.Kind, "name", req.Name)
	return ctrl.Result{}, nil
}

// authority is nil until the Certificate has been issued, which comes as an event.
func (i *injector) authority(ctx context.Context, certificateName string) ([]byte, error) {
	namespace, name, isFull := strings.Cut(certificateName, "/")
	if !isFull {
		ctrl.LoggerFrom(ctx).Info("Ignored an annotation that is not namespace/name", "annotation", cmapi.WantInjectAnnotation, "value", certificateName)
		return nil, nil
	}
	certificate := &cmapi.Certificate{}
	if err := i.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, certificate); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	secret := &corev1.Secret{}
	if err := i.uncached.Get(ctx, client.ObjectKey{Namespace: namespace, Name: certificate.Spec.SecretName}, secret); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	return secret.Data[cmmeta.TLSCAKey], nil
}

func validatingBundles(object client.Object) []*[]byte {
	var all []*[]byte
	webhooks := object.(*admissionregistrationv1.ValidatingWebhookConfiguration).Webhooks
	for i := range webhooks {
		all = append(all, &webhooks[i].ClientConfig.CABundle)
	}
	return all
}

func mutatingBundles(object client.Object) []*[]byte {
	var all []*[]byte
	webhooks := object.(*admissionregistrationv1.MutatingWebhookConfiguration).Webhooks
	for i := range webhooks {
		all = append(all, &webhooks[i].ClientConfig.CABundle)
	}
	return all
}

func conversionBundles(object client.Object) []*[]byte {
	conversion := object.(*apiextensionsv1.CustomResourceDefinition).Spec.Conversion
	if conversion == nil || conversion.Webhook == nil || conversion.Webhook.ClientConfig == nil {
		return nil
	}
	return []*[]byte{&conversion.Webhook.ClientConfig.CABundle}
}
