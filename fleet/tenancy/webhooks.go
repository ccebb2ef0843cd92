package tenancy

import (
	"errors"
	"fmt"
	"sync"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// clusterPath is not the one that controller-runtime generates for Clusters: other capabilities look at Clusters too.
const clusterPath = "/validate-tenancy-cluster"

// SetupWebhooksWithManager serves the webhooks from the manager's webhook server.
func SetupWebhooksWithManager(options Options) func(ctrl.Manager) error {
	return func(mgr ctrl.Manager) error {
		look := reads{cached: mgr.GetClient(), live: mgr.GetAPIReader()}
		tenants := tenantValidator{reads: look, systemNamespace: options.SystemNamespace}
		clusters := clusterValidator{
			reads: look, status: mgr.GetClient().Status(), clock: options.Clock,
			systemNamespace: options.SystemNamespace, turns: options.Turns, written: &sync.Map{},
		}
		err := errors.Join(
			ctrl.NewWebhookManagedBy(mgr, &fleetv1.Tenant{}).WithValidator(tenants).Complete(),
			ctrl.NewWebhookManagedBy(mgr, &clusterv1.Cluster{}).WithValidatorCustomPath(clusterPath).WithValidator(clusters).Complete(),
		)
		if err != nil {
			return fmt.Errorf("set up the webhooks of tenancy: %w", err)
		}
		return nil
	}
}
