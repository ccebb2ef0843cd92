package addons

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// known is what the last pass over a cluster found. As long as neither what is to be there nor a workload has changed, and a pass is
// not due, it is still true.
type known struct {
	outcome
	intent    string
	workloads string
	passDue   time.Time
	answered  time.Time
}

// look makes a pass over the cluster if there is a reason to. Versions of workloads are read before it: what changes during the
// pass is a reason for the next one.
func (r *reconciler) look(ctx context.Context, cluster client.ObjectKey, tenant client.Client, intent Intent) (known, error) {
	workloads, err := versionsOfWorkloads(ctx, tenant, intent)
	if err != nil {
		return known{}, err
	}
	now := r.Clock.Now()
	last := r.lastKnown(cluster)
	last.answered = now
	if last.intent != intent.text() || last.workloads != workloads || !now.Before(last.passDue) {
		result, err := carryOut(ctx, tenant, intent)
		if err != nil {
			return known{}, err
		}
		last = known{outcome: result, intent: intent.text(), workloads: workloads, passDue: now.Add(r.untilPass(result)), answered: now}
	}
	r.known.Store(cluster, last)
	return last, nil
}

// untilPass is how long the outcome of a pass is trusted, if nothing is seen to change.
func (r *reconciler) untilPass(result outcome) time.Duration {
	switch {
	case result.isIncomplete:
		return 0
	case isSettled(result.addons):
		return r.Recheck
	}
	return min(retry, r.Recheck)
}

func (r *reconciler) lastKnown(cluster client.ObjectKey) known {
	last, found := r.known.Load(cluster)
	if !found {
		return known{}
	}
	return last.(known) //nolint:forcetypeassert // nothing else is stored
}

// lastAnswer is now for a cluster that has not answered this process yet.
func (r *reconciler) lastAnswer(cluster client.ObjectKey) time.Time {
	if last := r.lastKnown(cluster).answered; !last.IsZero() {
		return last
	}
	return r.Clock.Now()
}

// text is different for every intent that may make a difference in the cluster.
func (i Intent) text() string {
	var text strings.Builder
	for _, addon := range i.Addons {
		fmt.Fprintf(&text, "%q %q %q %q %q %t %q\n", addon.Name, addon.Version, addon.Digest, addon.Deletion, addon.DependsOn, addon.Suspended, addon.Problem)
	}
	return text.String()
}

// versionsOfWorkloads tells of every change of a workload of an add-on, its health included, for one request for each kind.
func versionsOfWorkloads(ctx context.Context, tenant client.Client, intent Intent) (string, error) {
	var text strings.Builder
	for _, kind := range []string{"DaemonSet", "Deployment", "StatefulSet"} {
		if !intent.has(appsv1.SchemeGroupVersion.WithKind(kind)) {
			continue
		}
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind(kind + "List"))
		if err := tenant.List(ctx, list, client.HasLabels{fleetv1.AddonLabel}); err != nil {
			return "", fmt.Errorf("list workloads of kind %s: %w", kind, err)
		}
		for _, workload := range list.Items { // in the order of their names
			fmt.Fprintf(&text, "%s %s/%s %s %s\n", kind, workload.Namespace, workload.Name, workload.UID, workload.ResourceVersion)
		}
	}
	return text.String(), nil
}
