package webhooks

import (
	"testing"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func TestWhatGoesWithAClusterMayChange(t *testing.T) {
	keeps := cluster(func(*infrav1.SendanCluster) {})
	sweeps := cluster(func(c *infrav1.SendanCluster) { c.Spec.Deletion.Sweep = []infrav1.Leftover{infrav1.SweepVolumes} })
	if wrong := append(validateClusterUpdate(keeps, sweeps), validateClusterUpdate(sweeps, keeps)...); len(wrong) > 0 {
		t.Error(wrong.ToAggregate())
	}
}
