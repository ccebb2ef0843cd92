package controllers

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/cluster-api/util/conditions"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// Nova does not know whether a server that is ACTIVE has become a node. Cluster API does; and where the node does not
// come, the console tells why.

const (
	// firstBootLook is how long after its server became ACTIVE a node is overdue. Most nodes are there by then, so that
	// they cost no call at all.
	firstBootLook = time.Minute
	// bootLooks is how often a console is read, after twice as long each time: the last time after half an hour.
	bootLooks = 6
	// bootLookWindow is how late a look may be. There is no note of looks: whoever comes outside of the windows does not
	// look, and so the console is read about once in each.
	bootLookWindow = 15 * time.Second
)

// bootState is what is known about the boot of a machine.
type bootState struct {
	// joined: Cluster API has found the machine's node.
	joined bool
	// since is when the server became ACTIVE, or was first seen so; zero while it is not.
	since time.Time
	// failure is what an earlier look found, and told says that there is a condition about it.
	failure string
	told    bool
}

func bootStateOf(scope *machineScope) bootState {
	var state bootState
	state.joined = scope.machine == nil || scope.machine.Status.NodeRef.IsDefined()
	if ready := conditions.Get(scope.obj, infrav1.ServerReadyCondition); ready != nil && ready.Status == metav1.ConditionTrue {
		state.since = ready.LastTransitionTime.Time
	}
	if boot := conditions.Get(scope.obj, infrav1.BootSucceededCondition); boot != nil {
		state.told = true
		if boot.Status == metav1.ConditionFalse {
			state.failure = boot.Message
		}
	}
	return state
}

// over says that nobody has to look any more.
func (b bootState) over() bool { return b.joined || b.failure != "" }

// looks are the times to look, counted from when the server became ACTIVE.
func (b bootState) looks() []time.Time {
	at := make([]time.Time, bootLooks)
	for i := range at {
		at[i] = b.since.Add(firstBootLook << i)
	}
	return at
}

// lookDue says that the console should be read now.
func (b bootState) lookDue(now time.Time) bool {
	if b.over() || b.since.IsZero() {
		return false
	}
	for _, at := range b.looks() {
		if !now.Before(at) && now.Before(at.Add(bootLookWindow)) {
			return true
		}
	}
	return false
}

// nextLook is when to come again; zero for never.
func (b bootState) nextLook(now time.Time) time.Time {
	switch {
	case b.over():
		return time.Time{}
	case b.since.IsZero():
		return now.Add(firstBootLook) // it has just become ACTIVE
	}
	for _, at := range b.looks() {
		if at.After(now) {
			return at
		}
	}
	return time.Time{}
}

// bootStep tells of a boot that failed, until a node comes nevertheless. There is nothing to tell of any other.
func bootStep(in machineInput, has machineObjects) (step, bool) {
	failure := in.boot.failure
	if failure == "" && in.lookups.console.err == nil && has.server != nil {
		failure = describeFailedBoot(has.server.ID, in.lookups.console.value)
	}
	switch {
	case in.boot.joined:
		return done(infrav1.BootSucceededCondition), in.boot.told
	case failure != "":
		s := waiting(infrav1.BootSucceededCondition, infrav1.BootFailedReason, "%s", failure)
		s.failed = true
		return s, true
	}
	return step{}, false
}

// tellOfFailedBoot records an Event when it is news.
func (r *SendanMachineReconciler) tellOfFailedBoot(obj *infrav1.SendanMachine, before bootState, steps []step) {
	for _, s := range steps {
		if s.condition == infrav1.BootSucceededCondition && s.failed && before.failure == "" {
			r.writer().event(obj, corev1.EventTypeWarning, infrav1.BootFailedReason, "%s", s.message)
		}
	}
}
