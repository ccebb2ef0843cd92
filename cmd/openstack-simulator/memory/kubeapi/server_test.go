package kubeapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	applycorev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	eventually = 20 * time.Second
	protobuf   = "application/vnd.kubernetes.protobuf"
)

// fixture is one cluster with a namespace, and clients for it.
type fixture struct {
	*Cluster
	url     string
	typed   *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	var uid atomic.Int64
	cluster := NewCluster(NewTypes(), clockwork.NewRealClock(), func() types.UID {
		return types.UID(fmt.Sprintf("uid-%d", uid.Add(1)))
	}, nil)
	if err := cluster.Create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}}); err != nil {
		t.Fatal(err)
	}
	return serve(t, cluster)
}

func serve(t *testing.T, cluster *Cluster) *fixture {
	t.Helper()
	server := httptest.NewServer(cluster)
	t.Cleanup(server.Close)
	config := &rest.Config{Host: server.URL, QPS: -1}
	f := &fixture{Cluster: cluster, url: server.URL}
	var err error
	if f.dynamic, err = dynamic.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = protobuf, protobuf+",application/json"
	if f.typed, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) createConfigMap(t *testing.T, name string, labels map[string]string) *corev1.ConfigMap {
	t.Helper()
	created, err := f.typed.CoreV1().ConfigMaps("default").Create(t.Context(), &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}, Data: map[string]string{"key": "value"},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return created
}

func TestAnObjectIsCreatedInProtobufReadListedAndDeleted(t *testing.T) {
	f := newFixture(t)
	created := f.createConfigMap(t, "one", map[string]string{"app": "a"})
	f.createConfigMap(t, "two", map[string]string{"app": "b"})
	if created.UID == "" || created.ResourceVersion == "" || created.CreationTimestamp.IsZero() {
		t.Errorf("a created object lacks metadata: %+v", created.ObjectMeta)
	}
	maps := f.typed.CoreV1().ConfigMaps("default")
	list, err := maps.List(t.Context(), metav1.ListOptions{LabelSelector: "app=a"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Data["key"] != "value" {
		t.Errorf("list by label: %v, %v", list, err)
	}
	list, err = maps.List(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=two"})
	if err != nil || len(list.Items) != 1 || list.Items[0].Name != "two" {
		t.Errorf("list by field: %v, %v", list, err)
	}
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "one"}}, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
		t.Errorf("create again: %v, want already exists", err)
	}
	wrong := types.UID("another")
	if err := maps.Delete(t.Context(), "one", metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &wrong}}); !apierrors.IsConflict(err) {
		t.Errorf("delete with another UID: %v, want conflict", err)
	}
	if err := maps.Delete(t.Context(), "one", metav1.DeleteOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := maps.Get(t.Context(), "one", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("get after delete: %v, want not found", err)
	}
}

func TestAStaleUpdateConflictsAndAnUnchangedOneWritesNothing(t *testing.T) {
	f := newFixture(t)
	first := f.createConfigMap(t, "one", nil)
	maps := f.typed.CoreV1().ConfigMaps("default")
	unchanged, err := maps.Update(t.Context(), first, metav1.UpdateOptions{})
	if err != nil || unchanged.ResourceVersion != first.ResourceVersion {
		t.Errorf("an update without a change: version %s after %s, %v", unchanged.ResourceVersion, first.ResourceVersion, err)
	}
	changed := first.DeepCopy()
	changed.Data["key"] = "other"
	if _, err := maps.Update(t.Context(), changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Update(t.Context(), first, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("a stale update: %v, want conflict", err)
	}
}

func TestStatusAndSpecHaveSeparateEndpoints(t *testing.T) {
	f := newFixture(t)
	nodes := f.typed.CoreV1().Nodes()
	node, err := nodes.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	node.Status.Phase, node.Spec.ProviderID = corev1.NodeRunning, "x"
	node, err = nodes.UpdateStatus(t.Context(), node, metav1.UpdateOptions{})
	if err != nil || node.Status.Phase != corev1.NodeRunning || node.Spec.ProviderID != "" {
		t.Fatalf("after a status update: phase %q, provider id %q, %v", node.Status.Phase, node.Spec.ProviderID, err)
	}
	node.Status.Phase, node.Spec.ProviderID = corev1.NodePending, "x"
	node, err = nodes.Update(t.Context(), node, metav1.UpdateOptions{})
	if err != nil || node.Status.Phase != corev1.NodeRunning || node.Spec.ProviderID != "x" || node.Generation != 2 {
		t.Errorf("after an update: phase %q, provider id %q, generation %d, %v", node.Status.Phase, node.Spec.ProviderID, node.Generation, err)
	}
}

func TestPatchesMergeAsTheirTypeSays(t *testing.T) {
	f := newFixture(t)
	nodes := f.typed.CoreV1().Nodes()
	if _, err := nodes.Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{"a": "1", "b": "2"}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind  types.PatchType
		patch string
	}{
		{types.MergePatchType, `{"metadata":{"labels":{"a":null}}}`},
		{types.StrategicMergePatchType, `{"metadata":{"labels":{"c":"3"}},"spec":{"unschedulable":true}}`},
		{types.JSONPatchType, `[{"op":"replace","path":"/metadata/labels/b","value":"4"}]`},
	} {
		if _, err := nodes.Patch(t.Context(), "n", c.kind, []byte(c.patch), metav1.PatchOptions{}); err != nil {
			t.Errorf("%s: %v", c.kind, err)
		}
	}
	node, err := nodes.Get(t.Context(), "n", metav1.GetOptions{})
	if err != nil || fmt.Sprint(node.Labels) != "map[b:4 c:3]" || !node.Spec.Unschedulable {
		t.Errorf("labels %v, unschedulable %t, %v", node.Labels, node.Spec.Unschedulable, err)
	}
	stale := `{"metadata":{"resourceVersion":"1","labels":{"d":"5"}}}`
	if _, err := nodes.Patch(t.Context(), "n", types.MergePatchType, []byte(stale), metav1.PatchOptions{}); !apierrors.IsConflict(err) {
		t.Errorf("a patch of an old version: %v, want conflict", err)
	}
}

func TestServerSideApplyCreatesMergesPrunesAndConflicts(t *testing.T) {
	f := newFixture(t)
	maps := f.typed.CoreV1().ConfigMaps("default")
	apply := func(manager string, force bool, data map[string]string) (*corev1.ConfigMap, error) {
		return maps.Apply(t.Context(), applycorev1.ConfigMap("cm", "default").WithData(data), metav1.ApplyOptions{FieldManager: manager, Force: force})
	}
	if _, err := apply("one", false, map[string]string{"a": "1", "b": "2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply("two", false, map[string]string{"c": "3"}); err != nil {
		t.Fatal(err)
	}
	if _, err := apply("two", false, map[string]string{"a": "9"}); !apierrors.IsConflict(err) {
		t.Errorf("two managers of one field: %v, want conflict", err)
	}
	got, err := apply("one", false, map[string]string{"a": "1"})
	if err != nil || fmt.Sprint(got.Data) != "map[a:1 c:3]" {
		t.Errorf("after b is no longer applied: %v, %v", got, err)
	}
	if got, err = apply("two", true, map[string]string{"a": "9"}); err != nil || fmt.Sprint(got.Data) != "map[a:9]" {
		t.Errorf("after a forced apply: %v, %v", got, err)
	}
}

func TestACustomResourceIsServedOnceItIsDefined(t *testing.T) {
	f := newFixture(t)
	definitions := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	definition := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": "ships.fleet.test"},
		"spec": map[string]any{
			"group": "fleet.test", "scope": "Namespaced", "names": map[string]any{"plural": "ships", "kind": "Ship"},
			"versions": []any{map[string]any{"name": "v1", "served": true, "storage": true, "subresources": map[string]any{"status": map[string]any{}}}},
		},
	}}
	if _, err := f.dynamic.Resource(definitions).Create(t.Context(), definition, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ships := f.dynamic.Resource(schema.GroupVersionResource{Group: "fleet.test", Version: "v1", Resource: "ships"}).Namespace("default")
	ship := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "fleet.test/v1", "kind": "Ship", "metadata": map[string]any{"name": "s", "namespace": "default"}, "spec": map[string]any{"masts": int64(3)},
	}}
	for range 2 { // the first time it is created, the second it is merged
		applied, err := ships.Apply(t.Context(), "s", ship, metav1.ApplyOptions{FieldManager: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if masts, _, _ := unstructured.NestedInt64(applied.Object, "spec", "masts"); masts != 3 {
			t.Errorf("masts %d, want 3", masts)
		}
	}
	if _, err := f.typed.Discovery().ServerResourcesForGroupVersion("fleet.test/v1"); err != nil {
		t.Errorf("discovery: %v", err)
	}
}

func TestAnInformerSeesWhatIsThereAndWhatChanges(t *testing.T) {
	f := newFixture(t)
	f.createConfigMap(t, "before", nil)
	factory := informers.NewSharedInformerFactory(f.typed, 0)
	informer := factory.Core().V1().ConfigMaps()
	events := make(chan string, 10)
	if _, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { events <- "add " + obj.(*corev1.ConfigMap).Name },
		UpdateFunc: func(_, obj any) { events <- "update " + obj.(*corev1.ConfigMap).Name },
		DeleteFunc: func(obj any) { events <- "delete " + obj.(*corev1.ConfigMap).Name },
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer factory.Shutdown()
	defer cancel()
	factory.Start(ctx.Done())
	expect(t, events, "add before")
	after := f.createConfigMap(t, "after", nil)
	expect(t, events, "add after")
	after.Data["key"] = "other"
	maps := f.typed.CoreV1().ConfigMaps("default")
	if _, err := maps.Update(t.Context(), after, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, events, "update after")
	if err := maps.Delete(t.Context(), "after", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	expect(t, events, "delete after")
}

func expect(t *testing.T, events <-chan string, want string) {
	t.Helper()
	select {
	case got := <-events:
		if got != want {
			t.Errorf("event %q, want %q", got, want)
		}
	case <-time.After(eventually):
		t.Fatalf("no event, want %q", want)
	}
}

func TestAnObjectThatStopsMatchingIsDeletedToItsWatcher(t *testing.T) {
	f := newFixture(t)
	first := f.createConfigMap(t, "one", map[string]string{"app": "a"})
	maps := f.typed.CoreV1().ConfigMaps("default")
	watcher, err := maps.Watch(t.Context(), metav1.ListOptions{LabelSelector: "app=a", ResourceVersion: first.ResourceVersion})
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Stop()
	first.Labels["app"] = "b"
	if _, err := maps.Update(t.Context(), first, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	select {
	case event := <-watcher.ResultChan():
		if event.Type != watch.Deleted {
			t.Fatalf("event %s, want %s", event.Type, watch.Deleted)
		}
		last := event.Object.(*corev1.ConfigMap)
		if last.Labels["app"] != "a" || last.ResourceVersion == first.ResourceVersion {
			t.Errorf("it was last seen with labels %v in version %s", last.Labels, last.ResourceVersion)
		}
	case <-time.After(eventually):
		t.Fatal("no event")
	}
}

func TestAWatchFromAForgottenVersionIsToldToListAgain(t *testing.T) {
	f := newFixture(t)
	first := f.createConfigMap(t, "first", nil)
	for i := range historyLength + 1 {
		f.createConfigMap(t, fmt.Sprintf("m-%d", i), nil)
	}
	_, err := f.typed.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: first.ResourceVersion})
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("got %v, want resource expired", err)
	}
}

func TestDeletionWaitsForFinalizersAndTakesDependentsAlong(t *testing.T) {
	f := newFixture(t)
	maps := f.typed.CoreV1().ConfigMaps("default")
	owner, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owner", Finalizers: []string{"test/hold"}}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "owned", OwnerReferences: []metav1.OwnerReference{
		{APIVersion: "v1", Kind: "ConfigMap", Name: "owner", UID: owner.UID},
	}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := maps.Delete(t.Context(), "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	held, err := maps.Get(t.Context(), "owner", metav1.GetOptions{})
	if err != nil || held.DeletionTimestamp == nil {
		t.Fatalf("an object with a finalizer: %v, %v; want one that is being deleted", held, err)
	}
	held.Finalizers = nil
	if _, err := maps.Update(t.Context(), held, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"owner", "owned"} {
		if _, err := maps.Get(t.Context(), name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("%s: %v, want not found", name, err)
		}
	}
}

func TestABudgetHoldsAPodAgainstEviction(t *testing.T) {
	f := newFixture(t)
	labels := map[string]string{"app": "a"}
	if _, err := f.typed.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: labels}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	budgets := f.typed.PolicyV1().PodDisruptionBudgets("default")
	budget, err := budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: policyv1.PodDisruptionBudgetSpec{Selector: &metav1.LabelSelector{MatchLabels: labels}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "default"}}
	err = f.typed.PolicyV1().Evictions("default").Evict(t.Context(), eviction)
	if !apierrors.IsTooManyRequests(err) || !apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause) {
		t.Errorf("evict a held pod: %v, want too many requests because of the budget", err)
	}
	budget.Status.DisruptionsAllowed = 1
	if _, err := budgets.UpdateStatus(t.Context(), budget, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := f.typed.PolicyV1().Evictions("default").Evict(t.Context(), eviction); err != nil {
		t.Errorf("evict: %v", err)
	}
}

func TestKubectlGetsATableOfNodes(t *testing.T) {
	f := newFixture(t)
	if err := f.Create(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{nodeRoleLabelPrefix + "control-plane": ""}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
			NodeInfo:   corev1.NodeSystemInfo{KubeletVersion: "v1.36.3"},
		},
	}); err != nil {
		t.Fatal(err)
	}
	body, err := fetch(t.Context(), f.url+"/api/v1/nodes", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
	if err != nil {
		t.Fatal(err)
	}
	table := &metav1.Table{}
	if err := json.Unmarshal(body, table); err != nil {
		t.Fatal(err)
	}
	if len(table.Rows) != 1 || fmt.Sprint(table.Rows[0].Cells[:3]) != "[n Ready control-plane]" || table.Rows[0].Cells[4] != "v1.36.3" {
		t.Errorf("table: %s", body)
	}
}

func fetch(ctx context.Context, url, accept string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", accept)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	return body, errors.Join(err, response.Body.Close())
}
