package main

import (
	"math"
	"slices"
	"time"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// readyStage is the last of a cluster's way.
const readyStage = "Ready"

// stage is a point on a cluster's way to Ready, as its Cluster tells it.
type stage struct {
	name    string
	reached func(clusterv1.ClusterStatus) bool
}

// stages in the order in which most clusters reach them.
func stages() []stage {
	return []stage{
		{"infrastructure ready", conditionReached(clusterv1.ClusterInfrastructureReadyCondition)},
		{"control plane initialized", conditionReached(clusterv1.ClusterControlPlaneInitializedCondition)},
		{"control plane available, all replicas", controlPlaneIsComplete},
		{"workers ready, all replicas", workersAreComplete},
		{readyStage, isReady},
	}
}

func conditionReached(conditionType string) func(clusterv1.ClusterStatus) bool {
	return func(status clusterv1.ClusterStatus) bool {
		return conditionIsTrue(status.Conditions, conditionType) == nil
	}
}

func controlPlaneIsComplete(status clusterv1.ClusterStatus) bool {
	c := status.ControlPlane
	return c != nil && areComplete(c.DesiredReplicas, c.Replicas, c.UpToDateReplicas, c.AvailableReplicas)
}

func workersAreComplete(status clusterv1.ClusterStatus) bool {
	w := status.Workers
	return w != nil && areComplete(w.DesiredReplicas, w.Replicas, w.UpToDateReplicas, w.AvailableReplicas)
}

// areComplete is false as long as nothing is known: zero replicas are what a new Cluster has, not what it wants.
func areComplete(wanted, there, upToDate, available *int32) bool {
	return replicas(wanted) > 0 && replicasAreThere("", wanted, there, upToDate, available) == nil
}

// isReady asks for more than Available, which a Cluster is before it has all replicas.
func isReady(status clusterv1.ClusterStatus) bool {
	return conditionReached(clusterv1.ClusterAvailableCondition)(status) && controlPlaneIsComplete(status) && workersAreComplete(status)
}

// spread is how long something took each cluster, in ascending order.
type spread []time.Duration

func newSpread(durations []time.Duration) spread { return slices.Sorted(slices.Values(durations)) }

// percentile is the least duration that this share of the clusters did not exceed; of few clusters p99 is that of the slowest.
func (s spread) percentile(percent float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	rank := int(math.Ceil(percent / 100 * float64(len(s))))
	return s[max(1, rank)-1]
}

func (s spread) median() time.Duration  { return s.percentile(50) }
func (s spread) slowest() time.Duration { return s.percentile(100) }

// timeline is how long after it was applied one cluster reached each stage, for the first time.
type timeline struct {
	applied time.Time
	reached map[string]time.Duration
	// ready and gone are closed when the cluster is.
	ready, gone chan struct{}
}

func newTimeline(applied time.Time) *timeline {
	return &timeline{applied: applied, reached: map[string]time.Duration{}, ready: make(chan struct{}), gone: make(chan struct{})}
}

// note tells whether the cluster has just become ready.
func (t *timeline) note(status clusterv1.ClusterStatus, now time.Time) bool {
	for _, stage := range stages() {
		if _, before := t.reached[stage.name]; before || !stage.reached(status) {
			continue
		}
		t.reached[stage.name] = now.Sub(t.applied)
		if stage.name == readyStage {
			close(t.ready)
			return true
		}
	}
	return false
}

// spreadsOf many clusters, by stage.
func spreadsOf(timelines []*timeline) map[string]spread {
	spreads := map[string]spread{}
	for _, stage := range stages() {
		var durations []time.Duration
		for _, t := range timelines {
			durations = append(durations, t.reached[stage.name])
		}
		spreads[stage.name] = newSpread(durations)
	}
	return spreads
}
