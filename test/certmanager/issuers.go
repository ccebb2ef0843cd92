package main

import (
	"context"
	"fmt"

	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// issuers says of the issuers of one kind whether they can issue.
type issuers struct {
	client.Client
	kind cmapi.GenericIssuer
}

func setUpIssuers(manager ctrl.Manager, kind cmapi.GenericIssuer) error {
	r := &issuers{Client: manager.GetClient(), kind: kind}
	if err := ctrl.NewControllerManagedBy(manager).For(kind).Complete(r); err != nil {
		return fmt.Errorf("set up the controller of %T: %w", kind, err)
	}
	return nil
}

func (r *issuers) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	issuer := r.kind.DeepCopyObject().(cmapi.GenericIssuer)
	if err := r.Get(ctx, req.NamespacedName, issuer); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	before := issuer.DeepCopyObject().(cmapi.GenericIssuer)
	if obstacle := whyNot(issuer); obstacle != "" {
		setIssuerReady(issuer, cmmeta.ConditionFalse, "NotSupported", obstacle)
	} else {
		setIssuerReady(issuer, cmmeta.ConditionTrue, "IsReady", "Certificates are signed with their own keys")
	}
	if equality.Semantic.DeepEqual(before, issuer) {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, client.IgnoreNotFound(r.Status().Patch(ctx, issuer, client.MergeFrom(before)))
}

func setIssuerReady(issuer cmapi.GenericIssuer, status cmmeta.ConditionStatus, reason, message string) {
	conditions := &issuer.GetStatus().Conditions
	now := metav1.Now()
	ready := cmapi.IssuerCondition{
		Type: cmapi.IssuerConditionReady, Status: status, LastTransitionTime: &now,
		Reason: reason, Message: message, ObservedGeneration: issuer.GetGeneration(),
	}
	if len(*conditions) == 1 && (*conditions)[0].Status == status {
		ready.LastTransitionTime = (*conditions)[0].LastTransitionTime
	}
	*conditions = []cmapi.IssuerCondition{ready}
}

// whyNot says what keeps an issuer from issuing, and is empty when nothing does.
func whyNot(issuer cmapi.GenericIssuer) string {
	if issuer.GetSpec().SelfSigned != nil {
		return ""
	}
	return "This stand-in for cert-manager knows selfSigned issuers only; install cert-manager itself for others"
}
