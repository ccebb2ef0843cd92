package kubeapi

import (
	"maps"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	corev1helpers "k8s.io/component-helpers/scheduling/corev1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// No pods of workloads run here. What asks whether they do reads the status, which says at once what a healthy cluster's
// controllers and kubelets arrive at after a while.

// nodes and daemonSets are the resources that follow each other.
func nodes() resource { return resource{version: "v1", plural: "nodes", kind: "Node"} }
func daemonSets() resource {
	return resource{group: appsv1.GroupName, version: "v1", plural: "daemonsets", kind: "DaemonSet"}
}

// settle sets the status of an object that is about to be stored. The lock is held.
func (s *store) settle(res resource, obj *unstructured.Unstructured) error {
	var err error
	switch res.groupResource() {
	case daemonSets().groupResource():
		obj.Object["status"], err = statusFrom(obj, s.daemonSetStatus)
	case schema.GroupResource{Group: appsv1.GroupName, Resource: "deployments"}:
		obj.Object["status"], err = statusFrom(obj, deploymentStatus)
	case schema.GroupResource{Group: appsv1.GroupName, Resource: "statefulsets"}:
		obj.Object["status"], err = statusFrom(obj, statefulSetStatus)
	case schema.GroupResource{Group: apiextensionsGroup, Resource: customResourceDefinitions}:
		obj.Object["status"] = definitionStatus(obj)
	}
	return err
}

// statusFrom computes the status of an object in its Go type.
func statusFrom[T, S any](obj *unstructured.Unstructured, compute func(*T) S) (map[string]any, error) {
	typed := new(T)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj.Object, typed); err != nil {
		return nil, err
	}
	status := compute(typed)
	return runtime.DefaultUnstructuredConverter.ToUnstructured(&status)
}

func deploymentStatus(d *appsv1.Deployment) appsv1.DeploymentStatus {
	replicas := ptr.Deref(d.Spec.Replicas, 1)
	condition := func(kind appsv1.DeploymentConditionType, reason string) appsv1.DeploymentCondition {
		return appsv1.DeploymentCondition{
			Type: kind, Status: corev1.ConditionTrue, Reason: reason, LastUpdateTime: d.CreationTimestamp, LastTransitionTime: d.CreationTimestamp,
		}
	}
	return appsv1.DeploymentStatus{
		ObservedGeneration: d.Generation, Replicas: replicas, UpdatedReplicas: replicas, ReadyReplicas: replicas, AvailableReplicas: replicas,
		Conditions: []appsv1.DeploymentCondition{
			condition(appsv1.DeploymentAvailable, "MinimumReplicasAvailable"), condition(appsv1.DeploymentProgressing, "NewReplicaSetAvailable"),
		},
	}
}

func statefulSetStatus(set *appsv1.StatefulSet) appsv1.StatefulSetStatus {
	replicas := ptr.Deref(set.Spec.Replicas, 1)
	return appsv1.StatefulSetStatus{
		ObservedGeneration: set.Generation, Replicas: replicas, CurrentReplicas: replicas, UpdatedReplicas: replicas,
		ReadyReplicas: replicas, AvailableReplicas: replicas,
	}
}

// daemonSetStatus counts the nodes that have a pod of it, and those of them that are Ready.
func (s *store) daemonSetStatus(set *appsv1.DaemonSet) appsv1.DaemonSetStatus {
	pod := &corev1.Pod{ObjectMeta: set.Spec.Template.ObjectMeta, Spec: set.Spec.Template.Spec}
	status := appsv1.DaemonSetStatus{ObservedGeneration: set.Generation}
	for _, r := range s.objects[nodes().groupResource()] {
		node := r.node()
		if !takes(node, pod) {
			continue
		}
		status.DesiredNumberScheduled++
		if isReady(node) {
			status.NumberReady++
		}
	}
	status.CurrentNumberScheduled, status.UpdatedNumberScheduled = status.DesiredNumberScheduled, status.DesiredNumberScheduled
	status.NumberAvailable, status.NumberUnavailable = status.NumberReady, status.DesiredNumberScheduled-status.NumberReady
	return status
}

func takes(node *corev1.Node, pod *corev1.Pod) bool {
	if matches, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node); err != nil || !matches {
		return false
	}
	_, refuses := corev1helpers.FindMatchingUntoleratedTaint(klog.Background(), node.Spec.Taints, pod.Spec.Tolerations, func(taint *corev1.Taint) bool {
		return taint.Effect != corev1.TaintEffectPreferNoSchedule && !isToleratedByAll(taint.Key)
	}, false)
	return !refuses
}

// isToleratedByAll names the taints of node conditions, which the pods of every DaemonSet tolerate.
func isToleratedByAll(taint string) bool {
	switch taint {
	case corev1.TaintNodeNotReady, corev1.TaintNodeUnreachable, corev1.TaintNodeDiskPressure, corev1.TaintNodeMemoryPressure,
		corev1.TaintNodePIDPressure, corev1.TaintNodeUnschedulable, corev1.TaintNodeNetworkUnavailable:
		return true
	}
	return false
}

func isReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

func (r *record) node() *corev1.Node {
	node := &corev1.Node{}
	if r != nil {
		// An object that does not fit its type has none of what is looked for.
		_ = runtime.DefaultUnstructuredConverter.FromUnstructured(r.decode().Object, node)
	}
	return node
}

// followNode settles the DaemonSets after a node came, went or changed. The lock is held.
func (s *store) followNode(before, after *record) {
	sets := s.objects[daemonSets().groupResource()]
	if len(sets) == 0 {
		return
	}
	was, is := before.node(), after.node()
	if maps.Equal(was.Labels, is.Labels) && equality.Semantic.DeepEqual(was.Spec.Taints, is.Spec.Taints) && isReady(was) == isReady(is) && was.Name == is.Name {
		return
	}
	for _, r := range sets {
		obj := r.decode()
		if err := s.settle(daemonSets(), obj); err != nil || equality.Semantic.DeepEqual(r.decode().Object, obj.Object) {
			continue
		}
		if next, err := s.encode(obj); err == nil {
			s.put(daemonSets(), r, next)
		}
	}
}

// definitionStatus says that a kind is served, which it is from its definition on.
func definitionStatus(definition *unstructured.Unstructured) map[string]any {
	created := definition.GetCreationTimestamp().UTC().Format(time.RFC3339)
	condition := func(kind, reason string) any {
		return map[string]any{"type": kind, "status": "True", "reason": reason, "lastTransitionTime": created}
	}
	names, _, _ := unstructured.NestedMap(definition.Object, "spec", "names")
	kind, _ := definedBy(definition)
	return map[string]any{
		"acceptedNames": names, "storedVersions": []any{kind.version},
		"conditions": []any{condition("NamesAccepted", "NoConflicts"), condition("Established", "InitialNamesAccepted")},
	}
}
