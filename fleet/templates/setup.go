package templates

import (
	"github.com/jonboulle/clockwork"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/controller"
)

// Options of the controllers.
type Options struct {
	// SystemNamespace is where Releases are compiled to.
	SystemNamespace string
	// Clock tells the time.
	Clock clockwork.Clock
	// Controller says how many objects of a kind are worked on at the same time.
	Controller controller.Options
}

// SetupWithManager makes the manager run the controllers of NodeTemplates and Releases.
func SetupWithManager(mgr ctrl.Manager, options Options) error {
	nodeTemplates := &nodeTemplateReconciler{client: mgr.GetClient()}
	if err := nodeTemplates.setUpWithManager(mgr, options.Controller); err != nil {
		return err
	}
	releases := &releaseReconciler{
		client: mgr.GetClient(), recorder: mgr.GetEventRecorder("sendan"), clock: options.Clock, namespace: options.SystemNamespace,
	}
	return releases.setUpWithManager(mgr, options.Controller)
}
