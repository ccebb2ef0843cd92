package main

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// onItsWay is what a Cluster says after each step of its way.
func onItsWay() []clusterv1.ClusterStatus {
	var status clusterv1.ClusterStatus
	var all []clusterv1.ClusterStatus
	for _, change := range []func(){
		func() {},
		func() {
			// Nothing is wanted as long as nothing is known.
			status.ControlPlane, status.Workers = &clusterv1.ClusterControlPlaneStatus{}, &clusterv1.WorkersStatus{}
			status.Conditions = append(status.Conditions, isTrue(clusterv1.ClusterInfrastructureReadyCondition))
		},
		func() {
			status.ControlPlane = &clusterv1.ClusterControlPlaneStatus{DesiredReplicas: ptr.To[int32](3), Replicas: ptr.To[int32](1)}
			status.Workers = &clusterv1.WorkersStatus{DesiredReplicas: ptr.To[int32](2), Replicas: ptr.To[int32](2), UpToDateReplicas: ptr.To[int32](2)}
			status.Conditions = append(status.Conditions, isTrue(clusterv1.ClusterControlPlaneInitializedCondition))
		},
		// Available is true before all replicas are there.
		func() { status.Conditions = append(status.Conditions, isTrue(clusterv1.ClusterAvailableCondition)) },
		func() {
			three := ptr.To[int32](3)
			status.ControlPlane.Replicas, status.ControlPlane.UpToDateReplicas, status.ControlPlane.AvailableReplicas = three, three, three
		},
		func() { status.Workers.AvailableReplicas = ptr.To[int32](2) },
	} {
		change()
		all = append(all, *status.DeepCopy())
	}
	return all
}

func isTrue(conditionType string) metav1.Condition {
	return metav1.Condition{Type: conditionType, Status: metav1.ConditionTrue, Reason: "Because", LastTransitionTime: metav1.Now()}
}

func TestAClusterReachesOneStageAfterTheOther(t *testing.T) {
	applied := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	one := newTimeline(applied)
	for i, status := range onItsWay() {
		isReady := one.note(status, applied.Add(time.Duration(10*i)*time.Second))
		if last := i == len(onItsWay())-1; isReady != last {
			t.Errorf("after step %d it is ready: %t", i, isReady)
		}
	}
	want := []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 50 * time.Second, 50 * time.Second}
	var got []time.Duration
	for _, stage := range stages() {
		got = append(got, one.reached[stage.name])
	}
	if !slices.Equal(got, want) {
		t.Errorf("stages after %v, want %v", got, want)
	}
}

func TestAStageCountsFromTheFirstTime(t *testing.T) {
	one, way := newTimeline(time.Time{}), onItsWay()
	for minutes, status := range []clusterv1.ClusterStatus{way[0], way[5], way[0], way[5]} {
		one.note(status, time.Time{}.Add(time.Duration(minutes)*time.Minute))
	}
	if got := one.reached[readyStage]; got != time.Minute {
		t.Errorf("ready after %s, and it was so for the first time after a minute", got)
	}
}

func TestPercentilesAreThoseOfWholeClusters(t *testing.T) {
	var durations []time.Duration
	for i := range 100 { // in no order
		durations = append(durations, time.Duration(37*i%100+1)*time.Second)
	}
	hundred := newSpread(durations)
	for _, c := range []struct {
		of      spread
		percent float64
		want    time.Duration
	}{
		{nil, 50, 0},
		{hundred[:1], 50, 1 * time.Second},
		{hundred[:1], 99, 1 * time.Second},
		{hundred[:4], 50, 2 * time.Second},
		{hundred[:20], 99, 20 * time.Second},
		{hundred, 50, 50 * time.Second},
		{hundred, 99, 99 * time.Second},
		{hundred, 100, 100 * time.Second},
	} {
		if got := c.of.percentile(c.percent); got != c.want {
			t.Errorf("p%.0f of %d is %s, want %s", c.percent, len(c.of), got, c.want)
		}
	}
}
