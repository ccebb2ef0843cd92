package devices

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// DefaultGrace is how long a new node may take until its device plugins advertise everything. Drivers load, MIG is
// configured and plugins restart meanwhile.
const DefaultGrace = 10 * time.Minute

// vendor says where a node tells which driver its devices run.
type vendor struct {
	// domain of the vendor's resources.
	domain string
	// discovery is what puts the labels on nodes.
	discovery string
	// labels have the version, in one or in parts. All kinds may be there at once.
	labels [][]string
}

// vendors are those whose nodes tell it. GPU feature discovery still writes the labels of its first versions besides the others.
// AMD's label has the version of the kernel module amdgpu, where that is not the kernel's own.
func vendors() []vendor {
	return []vendor{
		{"nvidia.com", "GPU feature discovery", [][]string{
			{"nvidia.com/cuda.driver-version.full"},
			{"nvidia.com/cuda.driver-version.major", "nvidia.com/cuda.driver-version.minor", "nvidia.com/cuda.driver-version.revision"},
			{"nvidia.com/cuda.driver.major", "nvidia.com/cuda.driver.minor", "nvidia.com/cuda.driver.rev"},
		}},
		{"amd.com", "AMD's node labeller", [][]string{{"amd.com/gpu.driver-version"}}},
	}
}

// discoveryOf is that of the promised devices, NVIDIA where none of them is known.
func discoveryOf(devices []fleetv1.Device) vendor {
	all := vendors()
	for _, known := range all {
		if slices.ContainsFunc(devices, func(device fleetv1.Device) bool { return strings.HasPrefix(device.ResourceName, known.domain+"/") }) {
			return known
		}
	}
	return all[0]
}

// Input is what is known of one Machine's node.
type Input struct {
	// Promise to keep.
	Promise Promise
	// NodeName is the name of the node; empty while the Machine has none.
	NodeName string
	// Node as it is in its cluster; nil when it is not there.
	Node *corev1.Node
	// Before is the condition DevicesReady as it is; nil when there is none.
	Before *metav1.Condition
	// Grace is how long after its creation a node may lack devices.
	Grace time.Duration
	// Now is the time.
	Now time.Time
}

// Intent is what is to be done about it.
type Intent struct {
	// Ready, Reason and Message are those of the condition.
	Ready   bool
	Reason  string
	Message string
	// RemoveTaint lets the node take pods.
	RemoveTaint bool
}

// finding is one thing that is not as promised.
type finding struct {
	reason  string
	message string
}

// isWaiting says that time alone may mend it, or show that it does not.
func isWaiting(reason string) bool {
	return reason == fleetv1.WaitingForNodeReason || reason == fleetv1.BurnInRunningReason
}

// Plan compares the node with the promise.
func Plan(in Input) Intent {
	switch {
	case in.NodeName == "":
		return Intent{Reason: fleetv1.WaitingForNodeReason, Message: "the machine has no node yet"}
	case in.Node == nil:
		return Intent{Reason: fleetv1.WaitingForNodeReason, Message: "node " + in.NodeName + " is not in the cluster"}
	}
	var broken, waiting []finding
	for _, check := range []func(Input) (finding, bool){checkDevices, checkDriver, checkBurnIn} {
		switch found, wrong := check(in); {
		case wrong && isWaiting(found.reason):
			waiting = append(waiting, found)
		case wrong:
			broken = append(broken, found)
		}
	}
	findings := slices.Concat(broken, waiting) // what does not mend by itself comes first
	if len(findings) == 0 {
		return Intent{Ready: true, Reason: fleetv1.AvailableReason, RemoveTaint: isTainted(in.Node)}
	}
	var messages []string
	for _, found := range findings {
		messages = append(messages, found.message)
	}
	return Intent{Reason: findings[0].reason, Message: strings.Join(messages, "; ")}
}

// checkDevices wants every count to be exact, and nothing else of the same vendor: 8 whole GPUs in place of 56 slices mean
// that nobody has partitioned them.
func checkDevices(in Input) (finding, bool) {
	var waiting, short []string
	promised, vendors := map[string]bool{}, map[string]bool{}
	for _, device := range in.Promise.Devices {
		promised[device.ResourceName], vendors[vendorOf(device.ResourceName)] = true, true
		if found := allocatable(in.Node, device.ResourceName); found != int64(device.Count) {
			waiting = append(waiting, fmt.Sprintf("%d of %d %s", found, device.Count, device.ResourceName))
			short = append(short, fmt.Sprintf("promised %d %s, found %d", device.Count, device.ResourceName, found))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(in.Node.Status.Allocatable)) {
		name := string(key)
		if found := allocatable(in.Node, name); found > 0 && !promised[name] && vendors[vendorOf(name)] {
			text := fmt.Sprintf("found %d %s that are not promised", found, name)
			waiting, short = append(waiting, text), append(short, text)
		}
	}
	switch end := in.Node.CreationTimestamp.Add(in.Grace); {
	case len(short) == 0:
		return finding{}, false
	case in.Now.Before(end) && !hasBeenJudged(in):
		return finding{reason: fleetv1.WaitingForNodeReason, message: "waiting for devices: " + strings.Join(waiting, "; ")}, true
	}
	return finding{reason: fleetv1.DeviceShortReason, message: strings.Join(short, "; ")}, true
}

// hasBeenJudged says whether this node, and not one of the same name before it, had its devices or was found short. Then
// devices that are missing are no longer on their way.
func hasBeenJudged(in Input) bool {
	return in.Before != nil && !in.Before.LastTransitionTime.Before(&in.Node.CreationTimestamp) &&
		(in.Before.Status == metav1.ConditionTrue || in.Before.Reason == fleetv1.DeviceShortReason)
}

// vendorOf is what comes before the slash. Kubernetes' own resources have none, and are never counted.
func vendorOf(resource string) string {
	vendor, _, qualified := strings.Cut(resource, "/")
	if !qualified {
		return ""
	}
	return vendor
}

func allocatable(node *corev1.Node, resource string) int64 {
	quantity := node.Status.Allocatable[corev1.ResourceName(resource)]
	return quantity.Value()
}

func checkDriver(in Input) (finding, bool) {
	runs := driverOf(in.Node.Labels)
	switch {
	case in.Promise.Driver == "" || runs == in.Promise.Driver:
		return finding{}, false
	case runs == "":
		from := discoveryOf(in.Promise.Devices)
		return finding{reason: fleetv1.WaitingForNodeReason, message: fmt.Sprintf(
			"waiting for driver %s: %s has not put the label %s on the node yet", in.Promise.Driver, from.discovery, from.labels[0][0])}, true
	}
	return finding{reason: fleetv1.DriverDriftReason, message: fmt.Sprintf("promised driver %s, the node runs %s", in.Promise.Driver, runs)}, true
}

func driverOf(labels map[string]string) string {
	version := ""
	for _, known := range vendors() {
		for _, keys := range known.labels {
			var parts []string
			for _, key := range keys {
				if part := labels[key]; part != "" {
					parts = append(parts, part)
				}
			}
			version = cmp.Or(version, strings.Join(parts, "."))
		}
	}
	return version
}

// checkBurnIn takes a node that takes pods already for one that has passed, even when nobody reports the result any more.
func checkBurnIn(in Input) (finding, bool) {
	if in.Promise.BurnIn == nil {
		return finding{}, false
	}
	name, limit := in.Promise.BurnIn.ConditionType, timeout(in.Promise.BurnIn)
	result, message := burnInResult(in.Node, name)
	deadline := in.Node.CreationTimestamp.Add(limit)
	switch {
	case result == corev1.ConditionTrue:
		return finding{}, false
	case result == corev1.ConditionFalse:
		return finding{reason: fleetv1.BurnInFailedReason, message: strings.TrimSuffix(fmt.Sprintf("node condition %s is False: %s", name, message), ": ")}, true
	case !isTainted(in.Node):
		return finding{}, false
	case in.Now.Before(deadline):
		return finding{reason: fleetv1.BurnInRunningReason, message: fmt.Sprintf(
			"burn-in runs: waiting until %s for node condition %s", deadline.UTC().Format(time.RFC3339), name)}, true
	}
	return finding{reason: fleetv1.BurnInFailedReason, message: fmt.Sprintf("burn-in has no result after %s: node condition %s is not there", limit, name)}, true
}

func burnInResult(node *corev1.Node, conditionType string) (corev1.ConditionStatus, string) {
	for _, condition := range node.Status.Conditions {
		if string(condition.Type) == conditionType {
			return condition.Status, condition.Message
		}
	}
	return corev1.ConditionUnknown, ""
}

// isGate says whether it is the taint that nodes with devices register with.
func isGate(taint corev1.Taint) bool {
	return taint.Key == fleetv1.DevicesTaint && taint.Effect == corev1.TaintEffectNoSchedule
}

func isTainted(node *corev1.Node) bool { return slices.ContainsFunc(node.Spec.Taints, isGate) }
