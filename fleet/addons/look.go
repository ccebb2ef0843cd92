package addons

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// known is what the last pass over a cluster found. As long as neither what is to be there nor a workload has changed, and a pass is
// not due, it is still true.
type known struct {
	outcome
	// inputs that the pass was planned with.
	inputs string
	// kinds of workloads that the cluster is to have, and the versions of those that it had.
	kinds     []string
	workloads string
	passDue   time.Time
	answered  time.Time
}

// glance says whether what is known of the cluster is still true. It costs one request for each kind of workload.
func (r *reconciler) glance(ctx context.Context, cluster client.ObjectKey, inputs string) (bool, error) {
	last := r.lastKnown(cluster)
	if last.inputs != inputs || !r.Clock.Now().Before(last.passDue) {
		return false, nil
	}
	isTrue := false
	err := r.Visit(ctx, cluster, func(ctx context.Context, tenant client.Client) error {
		workloads, err := versionsOfWorkloads(ctx, tenant, last.kinds)
		isTrue = err == nil && workloads == last.workloads
		return err
	})
	if err == nil {
		last.answered = r.Clock.Now()
		r.known.Store(cluster, last)
	}
	return isTrue, err
}

// pass compares all that the cluster is to have. The versions of workloads are read before it: what changes during the pass is a
// reason for the next one.
func (r *reconciler) pass(ctx context.Context, cluster client.ObjectKey, inputs string, intent Intent) error {
	now := r.Clock.Now()
	made := known{inputs: inputs, kinds: intent.workloadKinds(), answered: now}
	err := r.Visit(ctx, cluster, func(ctx context.Context, tenant client.Client) (err error) {
		if made.workloads, err = versionsOfWorkloads(ctx, tenant, made.kinds); err != nil {
			return err
		}
		made.outcome, err = carryOut(ctx, tenant, intent)
		return err
	})
	if err == nil {
		made.passDue = now.Add(r.untilPass(made.outcome))
		r.known.Store(cluster, made)
	}
	return err
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

// untilGlance spreads the looks at clusters that were made at the same time.
func (r *reconciler) untilGlance(last known) time.Duration {
	switch {
	case last.isIncomplete:
		return kindsAppear
	case isSettled(last.addons):
		return wait.Jitter(min(glance, r.Recheck), 0.2)
	}
	return wait.Jitter(min(soon, r.Recheck), 0.2)
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

// workloadKinds are those of apps/v1 that add-ons have.
func (i Intent) workloadKinds() []string {
	return slices.DeleteFunc([]string{"DaemonSet", "Deployment", "StatefulSet"}, func(kind string) bool {
		return !i.has(appsv1.SchemeGroupVersion.WithKind(kind))
	})
}

// versionsOfWorkloads tells of every change of a workload of an add-on, its health included.
func versionsOfWorkloads(ctx context.Context, tenant client.Client, kinds []string) (string, error) {
	var text strings.Builder
	for _, kind := range kinds {
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
