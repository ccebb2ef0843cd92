package webhooks

import (
	"fmt"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// SetupWithManager serves the webhooks of every kind from the manager's webhook server.
func SetupWithManager(mgr ctrl.Manager) error {
	// Uncached: a decision that turns on other objects must not miss the one written just before.
	reader := mgr.GetAPIReader()
	for kind, serve := range map[string]func() error{
		"Cluster":               validate(mgr, &clusterv1.Cluster{}, deletionValidator{}),
		"SendanCluster":         validate(mgr, &infrav1.SendanCluster{}, clusterValidator{reader: reader}),
		"SendanClusterTemplate": validate(mgr, &infrav1.SendanClusterTemplate{}, clusterTemplateValidator{}),
		"SendanMachine":         validate(mgr, &infrav1.SendanMachine{}, machineValidator{}),
		"SendanMachineTemplate": validate(mgr, &infrav1.SendanMachineTemplate{}, machineTemplateValidator{}),
		"SendanClusterIdentity": validate(mgr, &infrav1.SendanClusterIdentity{}, identityValidator{reader: reader}),
	} {
		if err := serve(); err != nil {
			return fmt.Errorf("set up the webhook of %s: %w", kind, err)
		}
	}
	return nil
}

func validate[T client.Object](mgr ctrl.Manager, object T, validator admission.Validator[T]) func() error {
	return ctrl.NewWebhookManagedBy(mgr, object).WithValidator(validator).Complete
}
