package memory

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

const (
	controlPlaneLabel     = "node-role.kubernetes.io/control-plane"
	excludeFromLoadLabel  = "node.kubernetes.io/exclude-from-external-load-balancers"
	uninitializedTaint    = "node.cloudprovider.kubernetes.io/uninitialized"
	maximumPods           = 110
	evictionReserveMiB    = 100 // the kubelet's default memory.available threshold
	nodefsReserveFraction = 10  // a tenth: the kubelet's default nodefs.available threshold
)

// registerNode is what a kubelet does first: the Node exists, not ready and not yet seen by the cloud controller
// manager. A Node that is there from before keeps what others wrote. The lock is held.
func (m *machine) registerNode() error {
	m.cluster.endSilence(m.nodeName)
	existing := &corev1.Node{}
	if err := kubeapi.Get(m.cluster.api, "", m.nodeName, existing); err == nil && existing.Status.NodeInfo.SystemUUID == m.spec.ServerID {
		return nil
	}
	now := metav1.NewTime(m.backend.Clock.Now())
	node := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: m.nodeName, Labels: m.kubeletLabels()},
		Spec:       corev1.NodeSpec{Taints: m.taints()},
		Status: corev1.NodeStatus{
			Capacity: m.capacity(), Allocatable: m.allocatable(), Addresses: m.addresses(), NodeInfo: m.nodeInfo(),
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
			Conditions:      kubeletConditions(now, corev1.ConditionFalse, "KubeletNotReady", "container runtime network not ready"),
		},
	}
	node.Labels[corev1.LabelHostname] = m.nodeName
	return m.cluster.api.Put(node)
}

// makeNodeReady is the kubelet's next report, and what the cloud controller manager adds. The lock is held.
func (m *machine) makeNodeReady() error {
	now := metav1.NewTime(m.backend.Clock.Now())
	err := kubeapi.Modify(m.cluster.api, "", m.nodeName, func(node *corev1.Node) {
		node.Status.Conditions = kubeletConditions(now, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status")
		node.Spec.Taints = slices.DeleteFunc(node.Spec.Taints, func(t corev1.Taint) bool {
			return slices.Contains([]string{uninitializedTaint, corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable}, t.Key)
		})
		node.Spec.ProviderID = cmp.Or(node.Spec.ProviderID, m.providerID())
		maps.Copy(node.Labels, m.cloudLabels())
		m.removeDevices(node, nil)
		m.showDevices(node)
	})
	if err != nil || !m.kubeadm.ControlPlane() {
		return err
	}
	return m.cluster.setStaticPodsReady(m)
}

// makeNodeUnknown is what the node lifecycle controller does about a silent node. The lock is held. A Node that is gone
// needs nothing.
func (c *cluster) makeNodeUnknown(nodeName string, controlPlane bool) {
	now := metav1.NewTime(c.backend.Clock.Now())
	err := kubeapi.Modify(c.api, "", nodeName, func(node *corev1.Node) {
		for i := range node.Status.Conditions {
			condition := &node.Status.Conditions[i]
			condition.Status, condition.Reason = corev1.ConditionUnknown, "NodeStatusUnknown"
			condition.Message, condition.LastTransitionTime = "Kubelet stopped posting node status.", now
		}
		for _, effect := range []corev1.TaintEffect{corev1.TaintEffectNoSchedule, corev1.TaintEffectNoExecute} {
			node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: corev1.TaintNodeUnreachable, Effect: effect, TimeAdded: &now})
		}
	})
	if err == nil && controlPlane {
		err = c.setStaticPodsUnready(nodeName)
	}
	if err == nil {
		c.backend.Logger.Info("a node fell silent", "node", nodeName, "endpoint", c.id.endpoint)
	}
}

// kubeletLabels are those that a kubelet registers its node with, and kubeadm's.
func (m *machine) kubeletLabels() map[string]string {
	labels := map[string]string{
		corev1.LabelHostname: m.nodeName, corev1.LabelOSStable: "linux", corev1.LabelArchStable: "amd64",
		"beta.kubernetes.io/os": "linux", "beta.kubernetes.io/arch": "amd64",
	}
	if m.kubeadm.ControlPlane() {
		labels[controlPlaneLabel], labels[excludeFromLoadLabel] = "", ""
	}
	for pair := range strings.SplitSeq(m.kubeadm.Registration().KubeletExtraArgs["node-labels"], ",") {
		if name, value, ok := strings.Cut(strings.TrimSpace(pair), "="); ok {
			labels[name] = value
		}
	}
	return labels
}

// cloudLabels are those of the cloud controller manager.
func (m *machine) cloudLabels() map[string]string {
	labels := map[string]string{
		corev1.LabelInstanceTypeStable: m.spec.Flavor, corev1.LabelInstanceType: m.spec.Flavor,
		corev1.LabelTopologyRegion: m.backend.Region, corev1.LabelFailureDomainBetaRegion: m.backend.Region,
	}
	if m.spec.Zone != "" {
		labels[corev1.LabelTopologyZone], labels[corev1.LabelFailureDomainBetaZone] = m.spec.Zone, m.spec.Zone
	}
	return labels
}

func (m *machine) taints() []corev1.Taint {
	taints := []corev1.Taint{
		{Key: uninitializedTaint, Value: "true", Effect: corev1.TaintEffectNoSchedule},
		{Key: corev1.TaintNodeNotReady, Effect: corev1.TaintEffectNoSchedule},
	}
	registration := m.kubeadm.Registration()
	switch {
	case registration.Taints != nil:
		taints = append(taints, *registration.Taints...)
	case m.kubeadm.ControlPlane():
		taints = append(taints, corev1.Taint{Key: controlPlaneLabel, Effect: corev1.TaintEffectNoSchedule})
	}
	return append(taints, parseTaints(registration.KubeletExtraArgs["register-with-taints"])...)
}

// parseTaints reads the kubelet's flag: KEY=VALUE:EFFECT or KEY:EFFECT, separated by commas.
func parseTaints(flag string) []corev1.Taint {
	var taints []corev1.Taint
	for text := range strings.SplitSeq(flag, ",") {
		label, effect, ok := strings.Cut(strings.TrimSpace(text), ":")
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(label, "=")
		taints = append(taints, corev1.Taint{Key: name, Value: value, Effect: corev1.TaintEffect(effect)})
	}
	return taints
}

func (m *machine) providerID() string {
	if given := m.kubeadm.Registration().KubeletExtraArgs["provider-id"]; given != "" {
		return given
	}
	if m.backend.RegionInProviderID {
		return fmt.Sprintf("openstack://%s/%s", m.backend.Region, m.spec.ServerID)
	}
	return "openstack:///" + m.spec.ServerID
}

// capacity is what a kubelet finds by itself. Devices are advertised later, by others.
func (m *machine) capacity() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:              *resource.NewQuantity(int64(m.spec.VCPUs), resource.DecimalSI),
		corev1.ResourceMemory:           *resource.NewQuantity(int64(m.spec.MemoryMiB)<<20, resource.BinarySI),
		corev1.ResourceEphemeralStorage: *resource.NewQuantity(int64(m.spec.DiskGiB)<<30, resource.BinarySI),
		corev1.ResourcePods:             *resource.NewQuantity(maximumPods, resource.DecimalSI),
	}
}

func (m *machine) allocatable() corev1.ResourceList {
	allocatable := m.capacity()
	memory := max(int64(m.spec.MemoryMiB)-evictionReserveMiB, 0) << 20
	disk := int64(m.spec.DiskGiB) << 30
	allocatable[corev1.ResourceMemory] = *resource.NewQuantity(memory, resource.BinarySI)
	allocatable[corev1.ResourceEphemeralStorage] = *resource.NewQuantity(disk-disk/nodefsReserveFraction, resource.BinarySI)
	return allocatable
}

func (m *machine) addresses() []corev1.NodeAddress {
	var addresses []corev1.NodeAddress
	for _, address := range m.spec.Addresses {
		if net.ParseIP(address) != nil {
			addresses = append(addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
		}
	}
	return append(addresses, corev1.NodeAddress{Type: corev1.NodeHostName, Address: m.nodeName})
}

func (m *machine) nodeInfo() corev1.NodeSystemInfo {
	return corev1.NodeSystemInfo{
		MachineID: strings.ReplaceAll(m.spec.ServerID, "-", ""), SystemUUID: m.spec.ServerID,
		BootID: string(m.backend.random.uid()), KernelVersion: "6.12.0-simulated", OSImage: "Simulated Linux (" + m.spec.Image + ")",
		ContainerRuntimeVersion: "containerd://2.3.4", KubeletVersion: m.version, OperatingSystem: "linux", Architecture: "amd64",
	}
}

// kubeletConditions are the conditions a kubelet reports; only its readiness ever differs here.
func kubeletConditions(now metav1.Time, ready corev1.ConditionStatus, reason, message string) []corev1.NodeCondition {
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: reason, Message: message, LastHeartbeatTime: now, LastTransitionTime: now}
	}
	return []corev1.NodeCondition{
		condition(corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
		condition(corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
		condition(corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
		condition(corev1.NodeReady, ready, reason, message),
	}
}

func isReady(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
