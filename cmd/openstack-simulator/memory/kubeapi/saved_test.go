package kubeapi

import (
	"encoding/json"
	"testing"

	"github.com/jonboulle/clockwork"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// restored is the cluster of a fixture after a way over the disk.
func (f *fixture) restored(t *testing.T) *fixture {
	t.Helper()
	text, err := json.Marshal(f.Save())
	if err != nil {
		t.Fatal(err)
	}
	var saved Saved
	if err := json.Unmarshal(text, &saved); err != nil {
		t.Fatal(err)
	}
	cluster, err := RestoreCluster(saved, NewTypes(), clockwork.NewRealClock(), func() types.UID { return "uid-new" }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, cluster)
}

func TestARestoredClusterHasTheSameObjects(t *testing.T) {
	f := newFixture(t)
	created := f.createConfigMap(t, "one", map[string]string{"a": "b"})
	f.createConfigMap(t, "two", nil)
	again := f.restored(t)
	got, err := again.typed.CoreV1().ConfigMaps("default").List(t.Context(), metav1.ListOptions{LabelSelector: "a=b"})
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 1 || !equality.Semantic.DeepEqual(got.Items[0].ObjectMeta, created.ObjectMeta) || got.Items[0].Data["key"] != "value" {
		t.Errorf("got %v, want %v", got.Items, created)
	}
	if made := again.createConfigMap(t, "three", nil); made.UID == created.UID || len(made.ResourceVersion) <= len(created.ResourceVersion) {
		t.Errorf("a new object has uid %s and version %s, after %s and %s", made.UID, made.ResourceVersion, created.UID, created.ResourceVersion)
	}
}

func TestAWatchOfTheOriginalHasToListAgainAfterARestore(t *testing.T) {
	f := newFixture(t)
	again := f.restored(t)
	// This change comes after the save: the restored cluster does not know it.
	lost := f.createConfigMap(t, "lost", nil)
	stream, err := again.typed.CoreV1().ConfigMaps("default").Watch(t.Context(), metav1.ListOptions{ResourceVersion: lost.ResourceVersion})
	if err == nil {
		defer stream.Stop()
		err = apierrors.FromObject((<-stream.ResultChan()).Object)
	}
	if !apierrors.IsResourceExpired(err) {
		t.Errorf("the watch answers %v, want that the version expired", err)
	}
}

func TestCustomResourcesSurviveARestore(t *testing.T) {
	f := newFixture(t)
	saved := f.Save()
	saved.Objects = append(saved.Objects, SavedObject{
		Group: "example.org", Resource: "widgets",
		Object: json.RawMessage(`{"apiVersion":"example.org/v1","kind":"Widget","metadata":{"name":"w","resourceVersion":"7","uid":"u"}}`),
	})
	cluster, err := RestoreCluster(saved, NewTypes(), clockwork.NewRealClock(), func() types.UID { return "" }, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found, ok := cluster.store.objects[schema.GroupResource{Group: "example.org", Resource: "widgets"}][key{name: "w"}]; !ok || found.uid != "u" {
		t.Errorf("found %+v", found)
	}
}
