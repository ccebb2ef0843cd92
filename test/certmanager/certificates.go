package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
)

const (
	fieldOwner = "cert-manager-stand-in"
	// issuedLabel marks the Secrets that hold certificates, as cert-manager marks them.
	issuedLabel = cmapi.PartOfCertManagerControllerLabelKey
)

// certificates keeps for every Certificate a Secret that serves it.
type certificates struct {
	client.Client
	now func() time.Time
}

func (r *certificates) setUp(manager ctrl.Manager) error {
	err := ctrl.NewControllerManagedBy(manager).
		For(&cmapi.Certificate{}).
		// Whoever deletes a Secret gets a new one.
		Watches(&corev1.Secret{}, handler.EnqueueRequestsFromMapFunc(certificateOfSecret)).
		Watches(&cmapi.Issuer{}, handler.EnqueueRequestsFromMapFunc(r.certificatesOfIssuer)).
		Watches(&cmapi.ClusterIssuer{}, handler.EnqueueRequestsFromMapFunc(r.certificatesOfIssuer)).
		Complete(r)
	if err != nil {
		return fmt.Errorf("set up the controller of Certificates: %w", err)
	}
	return nil
}

func certificateOfSecret(_ context.Context, secret client.Object) []ctrl.Request {
	name := types.NamespacedName{Namespace: secret.GetNamespace(), Name: secret.GetAnnotations()[cmapi.CertificateNameKey]}
	if name.Name == "" {
		return nil
	}
	return []ctrl.Request{{NamespacedName: name}}
}

func (r *certificates) certificatesOfIssuer(ctx context.Context, issuer client.Object) []ctrl.Request {
	var list cmapi.CertificateList
	if err := r.List(ctx, &list, client.InNamespace(issuer.GetNamespace())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "List the Certificates of an issuer", "issuer", client.ObjectKeyFromObject(issuer))
		return nil
	}
	var requests []ctrl.Request
	for i := range list.Items {
		if list.Items[i].Spec.IssuerRef.Name == issuer.GetName() {
			requests = append(requests, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}

func (r *certificates) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	certificate := &cmapi.Certificate{}
	if err := r.Get(ctx, req.NamespacedName, certificate); err != nil || !certificate.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := certificate.DeepCopy()
	result, err := r.ensure(ctx, certificate)
	if err != nil || equality.Semantic.DeepEqual(before.Status, certificate.Status) {
		return result, err
	}
	return result, client.IgnoreNotFound(r.Status().Patch(ctx, certificate, client.MergeFrom(before)))
}

// ensure leaves in the status whether a Secret serves the Certificate.
func (r *certificates) ensure(ctx context.Context, certificate *cmapi.Certificate) (ctrl.Result, error) {
	obstacle, err := r.issuerObstacle(ctx, certificate)
	if err != nil {
		return ctrl.Result{}, err
	}
	if obstacle != "" {
		setReady(certificate, cmmeta.ConditionFalse, "IssuerNotReady", obstacle)
		return ctrl.Result{}, nil
	}
	content, err := r.ensureSecret(ctx, certificate)
	if err != nil {
		return ctrl.Result{}, err
	}
	certificate.Status.NotBefore = &metav1.Time{Time: content.NotBefore}
	certificate.Status.NotAfter = &metav1.Time{Time: content.NotAfter}
	certificate.Status.RenewalTime = &metav1.Time{Time: renewal(content)}
	setReady(certificate, cmmeta.ConditionTrue, "Ready", "Certificate is up to date and has not expired")
	return ctrl.Result{RequeueAfter: renewal(content).Sub(r.now())}, nil
}

// issuerObstacle says why the issuer does not issue; a later change of it comes as an event.
func (r *certificates) issuerObstacle(ctx context.Context, certificate *cmapi.Certificate) (string, error) {
	reference := certificate.Spec.IssuerRef
	var issuer cmapi.GenericIssuer
	key := client.ObjectKey{Name: reference.Name}
	switch reference.Kind {
	case "", cmapi.IssuerKind:
		issuer, key.Namespace = &cmapi.Issuer{}, certificate.Namespace
	case cmapi.ClusterIssuerKind:
		issuer = &cmapi.ClusterIssuer{}
	default:
		return fmt.Sprintf("spec.issuerRef: no issuer is of kind %s; use Issuer or ClusterIssuer", reference.Kind), nil
	}
	err := r.Get(ctx, key, issuer)
	if apierrors.IsNotFound(err) {
		return fmt.Sprintf("The issuer %s does not exist; the certificate follows once it does", reference.Name), nil
	}
	if err != nil {
		return "", fmt.Errorf("read the issuer %s: %w", reference.Name, err)
	}
	return whyNot(issuer), nil
}

// ensureSecret returns the certificate in the Secret, a new one where the old one does not serve any more.
func (r *certificates) ensureSecret(ctx context.Context, certificate *cmapi.Certificate) (*x509.Certificate, error) {
	secret := &corev1.Secret{}
	key := client.ObjectKey{Namespace: certificate.Namespace, Name: certificate.Spec.SecretName}
	if err := client.IgnoreNotFound(r.Get(ctx, key, secret)); err != nil {
		return nil, fmt.Errorf("read the Secret %s: %w", key, err)
	}
	if content := issued(certificate.Spec, secret.Data, r.now()); content != nil {
		return content, nil
	}
	data, err := issue(certificate.Spec, r.now())
	if err != nil {
		return nil, fmt.Errorf("issue the Certificate %s: %w", client.ObjectKeyFromObject(certificate), err)
	}
	if err := r.Apply(ctx, secretOf(certificate, data), client.FieldOwner(fieldOwner), client.ForceOwnership); err != nil {
		return nil, fmt.Errorf("write the Secret %s: %w", key, err)
	}
	ctrl.LoggerFrom(ctx).Info("Issued", "secret", key, "dnsNames", certificate.Spec.DNSNames)
	certificate.Status.Revision = ptr.To(ptr.Deref(certificate.Status.Revision, 0) + 1)
	return issued(certificate.Spec, data, r.now()), nil
}

func secretOf(certificate *cmapi.Certificate, data map[string][]byte) *applycorev1.SecretApplyConfiguration {
	return applycorev1.Secret(certificate.Spec.SecretName, certificate.Namespace).
		WithType(corev1.SecretTypeTLS).
		WithLabels(map[string]string{issuedLabel: "true"}).
		WithAnnotations(map[string]string{
			cmapi.CertificateNameKey:      certificate.Name,
			cmapi.IssuerNameAnnotationKey: certificate.Spec.IssuerRef.Name,
			cmapi.IssuerKindAnnotationKey: certificate.Spec.IssuerRef.Kind,
		}).
		WithData(data)
}

func setReady(certificate *cmapi.Certificate, status cmmeta.ConditionStatus, reason, message string) {
	now := metav1.Now()
	ready := cmapi.CertificateCondition{
		Type: cmapi.CertificateConditionReady, Status: status, LastTransitionTime: &now,
		Reason: reason, Message: message, ObservedGeneration: certificate.Generation,
	}
	if old := certificate.Status.Conditions; len(old) == 1 && old[0].Status == status {
		ready.LastTransitionTime = old[0].LastTransitionTime
	}
	certificate.Status.Conditions = []cmapi.CertificateCondition{ready}
}
