package kubeapi

import (
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	applymetav1 "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// daemonSet wants every node of that label, those with the taint "gate" too.
func daemonSet(image string) *applyappsv1.DaemonSetApplyConfiguration {
	labels := map[string]string{"app": "agent"}
	return applyappsv1.DaemonSet("agent", "default").WithLabels(labels).WithSpec(applyappsv1.DaemonSetSpec().
		WithSelector(applymetav1.LabelSelector().WithMatchLabels(labels)).
		WithTemplate(applycorev1.PodTemplateSpec().WithLabels(labels).WithSpec(applycorev1.PodSpec().
			WithNodeSelector(map[string]string{"gpu": "yes"}).
			WithTolerations(applycorev1.Toleration().WithKey("gate").WithOperator(corev1.TolerationOpExists)).
			WithContainers(applycorev1.Container().WithName("agent").WithImage(image)))))
}

func (f *fixture) applyDaemonSet(t *testing.T, image string, options metav1.ApplyOptions) *appsv1.DaemonSet {
	t.Helper()
	options.FieldManager = "test"
	applied, err := f.typed.AppsV1().DaemonSets("default").Apply(t.Context(), daemonSet(image), options)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

// scheduled is how many pods a DaemonSet says it has, and how many of them are ready.
func (f *fixture) scheduled(t *testing.T) string {
	t.Helper()
	set, err := f.typed.AppsV1().DaemonSets("default").Get(t.Context(), "agent", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	status := set.Status
	if status.ObservedGeneration != set.Generation || status.NumberUnavailable != status.DesiredNumberScheduled-status.NumberAvailable {
		t.Errorf("generation %d, status %+v", set.Generation, status)
	}
	return fmt.Sprintf("%d/%d", status.NumberReady, status.DesiredNumberScheduled)
}

func node(name string, labels map[string]string, ready corev1.ConditionStatus, taints ...string) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	for _, taint := range taints {
		n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: taint, Effect: corev1.TaintEffectNoSchedule})
	}
	return n
}

func TestADaemonSetFollowsTheNodes(t *testing.T) {
	f := newFixture(t)
	wanted := map[string]string{"gpu": "yes"}
	f.applyDaemonSet(t, "agent:1", metav1.ApplyOptions{})
	for _, step := range []struct {
		does string
		node *corev1.Node
		want string
	}{
		{"another node", node("cpu", nil, corev1.ConditionTrue), "0/0"},
		{"a node it wants", node("a", wanted, corev1.ConditionTrue), "1/1"},
		{"one with a taint that it tolerates", node("b", wanted, corev1.ConditionTrue, "gate"), "2/2"},
		{"one with a taint that it does not", node("c", wanted, corev1.ConditionTrue, "reserved"), "2/2"},
		{"a node that is no longer ready", node("a", wanted, corev1.ConditionFalse, corev1.TaintNodeNotReady), "1/2"},
		{"a node that loses its label", node("b", nil, corev1.ConditionTrue), "0/1"},
	} {
		if err := f.Put(step.node); err != nil {
			t.Fatal(err)
		}
		if got := f.scheduled(t); got != step.want {
			t.Errorf("after %s it has %s pods, want %s", step.does, got, step.want)
		}
	}
	if err := f.typed.CoreV1().Nodes().Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := f.scheduled(t); got != "0/0" {
		t.Errorf("after the last node is gone it has %s pods", got)
	}
}

func TestWorkloadsSayThatTheyRun(t *testing.T) {
	f := newFixture(t)
	three := int32(3)
	deployments, sets := f.typed.AppsV1().Deployments("default"), f.typed.AppsV1().StatefulSets("default")
	meta := metav1.ObjectMeta{Name: "w"}
	deployment, err := deployments.Create(t.Context(), &appsv1.Deployment{ObjectMeta: meta}, metav1.CreateOptions{})
	if err != nil || deployment.Status.AvailableReplicas != 1 {
		t.Fatalf("a Deployment: %+v, %v", deployment.Status, err)
	}
	deployment.Spec.Replicas = &three
	deployment, err = deployments.Update(t.Context(), deployment, metav1.UpdateOptions{})
	if status := deployment.Status; err != nil || status.ReadyReplicas != 3 || status.ObservedGeneration != 2 || len(status.Conditions) != 2 {
		t.Errorf("a Deployment of three: %+v, %v", status, err)
	}
	set, err := sets.Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Replicas: &three}}, metav1.CreateOptions{})
	if status := set.Status; err != nil || status.ReadyReplicas != 3 || status.CurrentReplicas != 3 || status.ObservedGeneration != 1 {
		t.Errorf("a StatefulSet: %+v, %v", status, err)
	}
}

func TestADefinitionIsEstablished(t *testing.T) {
	f := newFixture(t)
	definitions := f.dynamic.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	created, err := definitions.Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "ships.fleet.test"},
		"spec": map[string]any{
			"group": "fleet.test", "scope": "Namespaced", "names": map[string]any{"plural": "ships", "kind": "Ship"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true}},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	conditions, _, _ := unstructured.NestedSlice(created.Object, "status", "conditions")
	if len(conditions) != 2 || conditions[1].(map[string]any)["type"] != "Established" || conditions[1].(map[string]any)["status"] != "True" {
		t.Errorf("conditions %v", conditions)
	}
}

func TestApplyingTheSameAgainOrAsADryRunWritesNothing(t *testing.T) {
	f := newFixture(t)
	f.applyDaemonSet(t, "agent:1", metav1.ApplyOptions{})
	version := f.Save().Version
	f.applyDaemonSet(t, "agent:1", metav1.ApplyOptions{})
	asked := f.applyDaemonSet(t, "agent:2", metav1.ApplyOptions{DryRun: []string{metav1.DryRunAll}})
	if got := asked.Spec.Template.Spec.Containers[0].Image; got != "agent:2" {
		t.Errorf("a dry run answers with image %s", got)
	}
	if after := f.Save().Version; after != version {
		t.Errorf("the cluster went from version %d to %d", version, after)
	}
	if set := f.applyDaemonSet(t, "agent:2", metav1.ApplyOptions{}); set.Generation != 2 || set.Status.ObservedGeneration != 2 {
		t.Errorf("after a change: generation %d, observed %d", set.Generation, set.Status.ObservedGeneration)
	}
}

func TestMetadataAloneIsListedAndWatched(t *testing.T) {
	f := newFixture(t)
	f.applyDaemonSet(t, "agent:1", metav1.ApplyOptions{})
	client, err := metadata.NewForConfig(&rest.Config{Host: f.url})
	if err != nil {
		t.Fatal(err)
	}
	sets := client.Resource(appsv1.SchemeGroupVersion.WithResource("daemonsets"))
	list, err := sets.List(t.Context(), metav1.ListOptions{LabelSelector: "app"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "agent" || list.Items[0].Labels["app"] != "agent" {
		t.Fatalf("list %+v, %v", list, err)
	}
	watcher, err := sets.Watch(t.Context(), metav1.ListOptions{LabelSelector: "app", ResourceVersion: list.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	f.applyDaemonSet(t, "agent:2", metav1.ApplyOptions{})
	select {
	case event := <-watcher.ResultChan():
		seen, ok := event.Object.(*metav1.PartialObjectMetadata)
		if event.Type != watch.Modified || !ok || seen.Generation != 2 {
			t.Errorf("event %s of %+v", event.Type, event.Object)
		}
	case <-time.After(eventually):
		t.Fatal("no event")
	}
}
