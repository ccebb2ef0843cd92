package e2e

import (
	"context"
	"time"

	"github.com/onsi/ginkgo/v2"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/gomega"
)

const (
	probeImage    = "sendan/probe:dev" // part of the node image
	probePort     = 8080
	podsStartIn   = 90 * time.Second
	podsNamespace = metav1.NamespaceDefault
)

func probeContainer(args ...string) []corev1.Container {
	return []corev1.Container{{Name: "probe", Image: probeImage, ImagePullPolicy: corev1.PullNever, Args: args}}
}

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: podsNamespace, Name: name, Labels: map[string]string{"app": name}}
}

// runServers starts pods that answer, on different nodes, and a Service before them.
func runServers(ctx context.Context, workload client.Client, name string, replicas int32) []corev1.Pod {
	ginkgo.GinkgoHelper()
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	Expect(workload.Create(ctx, &appsv1.Deployment{ObjectMeta: named(name), Spec: appsv1.DeploymentSpec{
		Replicas: ptr.To(replicas), Selector: selector,
		Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: selector.MatchLabels}, Spec: corev1.PodSpec{
			Containers:                    probeContainer("serve"),
			TerminationGracePeriodSeconds: ptr.To[int64](1),
			Affinity: &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
				{LabelSelector: selector, TopologyKey: corev1.LabelHostname},
			}}},
		}},
	}})).To(Succeed())
	Expect(workload.Create(ctx, &corev1.Service{ObjectMeta: named(name), Spec: corev1.ServiceSpec{
		Selector: selector.MatchLabels, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(probePort)}},
	}})).To(Succeed())
	return awaitPods(ctx, workload, name, int(replicas))
}

// awaitPods waits until so many pods run, and no others are left.
func awaitPods(ctx context.Context, workload client.Client, name string, count int) []corev1.Pod {
	ginkgo.GinkgoHelper()
	var pods corev1.PodList
	eventually(ctx, func(g Gomega) {
		g.Expect(workload.List(ctx, &pods, client.InNamespace(podsNamespace), client.MatchingLabels{"app": name})).To(Succeed())
		g.Expect(pods.Items).To(HaveLen(count))
		for _, pod := range pods.Items {
			g.Expect(pod.Status.Phase).To(Equal(corev1.PodRunning), "pod %s: %s", pod.Name, pod.Status.Message)
		}
	}, podsStartIn, "wait until pods of "+name+" run")
	return pods.Items
}

// ask lets a pod on a node ask a URL, and fails unless it gets an answer.
func ask(ctx context.Context, workload client.Client, name, node, url string) {
	ginkgo.GinkgoHelper()
	pod := &corev1.Pod{ObjectMeta: named(name), Spec: corev1.PodSpec{
		NodeName: node, Containers: probeContainer("get", url), RestartPolicy: corev1.RestartPolicyNever,
		Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
	}}
	Expect(workload.Create(ctx, pod)).To(Succeed())
	eventually(ctx, func(g Gomega) {
		g.Expect(workload.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		g.Expect(pod.Status.Phase).To(BeElementOf(corev1.PodSucceeded, corev1.PodFailed))
	}, podsStartIn, "wait until pod "+name+" has asked")
	Expect(pod.Status.Phase).To(Equal(corev1.PodSucceeded), "pod %s on node %s asked %s", name, node, url)
	Expect(workload.Delete(ctx, pod)).To(Succeed())
}

// forbidEviction makes a PodDisruptionBudget that no eviction of these pods satisfies.
func forbidEviction(ctx context.Context, workload client.Client, name string) *policyv1.PodDisruptionBudget {
	ginkgo.GinkgoHelper()
	budget := &policyv1.PodDisruptionBudget{ObjectMeta: named(name), Spec: policyv1.PodDisruptionBudgetSpec{
		MaxUnavailable: ptr.To(intstr.FromInt32(0)),
		Selector:       &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}},
	}}
	Expect(workload.Create(ctx, budget)).To(Succeed())
	return budget
}
