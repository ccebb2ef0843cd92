package members

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// maxOperations is a limit of the API.
const maxOperations = 10

// operationsOf puts what has changed before what is known already. The facts of the old status are what was seen last; so
// a change is told once, and when the status is lost the list begins anew.
func operationsOf(before, after fleetv1.FleetMemberStatus, now time.Time) []fleetv1.MemberOperation {
	changes := changesBetween(before, after)
	operations := make([]fleetv1.MemberOperation, 0, len(changes)+len(before.Operations))
	for _, description := range changes {
		operations = append(operations, fleetv1.MemberOperation{Time: metav1.NewTime(now.Truncate(time.Second)), Description: message.Clip(description, 1024)})
	}
	operations = append(operations, before.Operations...)
	return operations[:min(len(operations), maxOperations)]
}

func changesBetween(before, after fleetv1.FleetMemberStatus) []string {
	if before.Health == "" || before.Health == fleetv1.HealthDeleting {
		return nil
	}
	if after.Health == fleetv1.HealthDeleting { // that its pools shrink then is no news
		return []string{"deletion asked for"}
	}
	var changes []string
	if before.Release != after.Release {
		changes = append(changes, fmt.Sprintf("release changed from %s to %s", cmp.Or(before.Release, "none"), cmp.Or(after.Release, "none")))
	}
	if before.KubernetesVersion != "" && after.KubernetesVersion != "" && before.KubernetesVersion != after.KubernetesVersion {
		changes = append(changes, fmt.Sprintf("control plane changed from Kubernetes %s to %s", before.KubernetesVersion, after.KubernetesVersion))
	}
	return append(changes, changesOfPools(before.Pools, after.Pools)...)
}

func changesOfPools(before, after []fleetv1.PoolStatus) []string {
	var changes []string
	for _, pool := range after {
		i := slices.IndexFunc(before, func(p fleetv1.PoolStatus) bool { return p.Name == pool.Name })
		switch {
		case i < 0:
			changes = append(changes, fmt.Sprintf("pool %s added with %d nodes", pool.Name, pool.Nodes.Desired))
		case before[i].Nodes.Desired != pool.Nodes.Desired:
			changes = append(changes, fmt.Sprintf("pool %s scaled from %d to %d nodes", pool.Name, before[i].Nodes.Desired, pool.Nodes.Desired))
		}
	}
	for _, pool := range before {
		if !slices.ContainsFunc(after, func(p fleetv1.PoolStatus) bool { return p.Name == pool.Name }) {
			changes = append(changes, fmt.Sprintf("pool %s removed", pool.Name))
		}
	}
	return changes
}
