package templates

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// localHostname is filled in by cloud-init on the machine, and so is the id in providerID.
const localHostname = "{{ local_hostname }}"

// providerID is said by the kubelet, since nobody can schedule a cloud controller manager before there is a node.
func providerID() bootstrapv1.Arg {
	return bootstrapv1.Arg{Name: "provider-id", Value: ptr.To("openstack:///{{ ds.meta_data.uuid }}")}
}

// nodeRegistration is how a node of the template registers. Pods are kept off it until its devices are there.
func nodeRegistration(node located, more []corev1.Taint) bootstrapv1.NodeRegistrationOptions {
	taints := more
	if len(node.shape.Devices) > 0 {
		taints = append(taints, corev1.Taint{Key: fleetv1.DevicesTaint, Effect: corev1.TaintEffectNoSchedule})
	}
	for _, taint := range node.spec.Taints {
		taints = append(taints, corev1.Taint{Key: taint.Key, Value: taint.Value, Effect: taint.Effect})
	}
	registration := bootstrapv1.NodeRegistrationOptions{
		Name:             localHostname,
		KubeletExtraArgs: append([]bootstrapv1.Arg{providerID(), {Name: "node-labels", Value: ptr.To(pairs(node.shape.NodeLabels))}}, kubeletArgs(node.spec.Kubelet)...),
	}
	if len(taints) > 0 {
		registration.Taints = &taints
	}
	return registration
}

func kubeletArgs(kubelet fleetv1.Kubelet) []bootstrapv1.Arg {
	var args []bootstrapv1.Arg
	for _, reserved := range []struct {
		flag      string
		resources corev1.ResourceList
	}{{"kube-reserved", kubelet.KubeReserved}, {"system-reserved", kubelet.SystemReserved}} {
		if len(reserved.resources) > 0 {
			args = append(args, bootstrapv1.Arg{Name: reserved.flag, Value: ptr.To(quantities(reserved.resources))})
		}
	}
	if kubelet.MaxPods > 0 {
		args = append(args, bootstrapv1.Arg{Name: "max-pods", Value: ptr.To(strconv.Itoa(int(kubelet.MaxPods)))})
	}
	return args
}

func quantities(resources corev1.ResourceList) string {
	text := map[string]string{}
	for name, quantity := range resources {
		text[string(name)] = quantity.String()
	}
	return pairs(text)
}

// pairs is a map as Kubernetes' flags take it, sorted.
func pairs(values map[string]string) string {
	parts := make([]string, 0, len(values))
	for _, key := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, key+"="+values[key])
	}
	return strings.Join(parts, ",")
}

// Annotations by which Cluster API's provider of the cluster-autoscaler learns what a node of an empty pool would be like; see
// "Scale from zero" in its README. It reads other resources, such as MIG slices, from the status of the machine template.
const (
	autoscalerCapacity = "capacity.cluster-autoscaler.kubernetes.io/"
	autoscalerGPUs     = autoscalerCapacity + "gpu-count"
	autoscalerGPUType  = autoscalerCapacity + "gpu-type"
	autoscalerLabels   = autoscalerCapacity + "labels"
	autoscalerTaints   = autoscalerCapacity + "taints"
	autoscalerMaxPods  = autoscalerCapacity + "maxPods"
	autoscalerCPU      = autoscalerCapacity + "cpu"
	autoscalerMemory   = autoscalerCapacity + "memory"
)

// autoscalerAnnotations leave out the taint that a node has only while it starts: a pod need not tolerate it. There is one
// pair for a GPU resource, which is taken where a node has one kind of device.
func autoscalerAnnotations(node located) map[string]string {
	annotations := map[string]string{
		autoscalerCPU:    strconv.Itoa(int(node.flavor.VCPUs)),
		autoscalerMemory: fmt.Sprintf("%dMi", node.flavor.MemoryMiB),
		autoscalerLabels: pairs(node.shape.NodeLabels),
	}
	if len(node.shape.Devices) == 1 {
		annotations[autoscalerGPUType] = node.shape.Devices[0].ResourceName
		annotations[autoscalerGPUs] = strconv.Itoa(int(node.shape.Devices[0].Count))
	}
	taints := make([]string, 0, len(node.spec.Taints))
	for _, taint := range node.spec.Taints {
		taints = append(taints, fmt.Sprintf("%s=%s:%s", taint.Key, taint.Value, taint.Effect))
	}
	if len(taints) > 0 {
		annotations[autoscalerTaints] = strings.Join(taints, ",")
	}
	if pods := cmp.Or(node.spec.Kubelet.MaxPods, 0); pods > 0 {
		annotations[autoscalerMaxPods] = strconv.Itoa(int(pods))
	}
	return annotations
}
