package kubeapi

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/jonboulle/clockwork"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
)

// Saved is the content of a cluster. What changed before is not part of it.
type Saved struct {
	Version uint64        `json:"version"`
	Objects []SavedObject `json:"objects"`
}

// SavedObject is one object with the resource it is stored under, whose plural the object does not tell.
type SavedObject struct {
	Group    string          `json:"group,omitempty"`
	Resource string          `json:"resource"`
	Object   json.RawMessage `json:"object"`
}

// versionLeap sets a restored cluster's next resource version apart from all that the original may have handed out
// after it was saved. So nobody waits for changes after a version that means something else now.
const versionLeap = 1_000_000

// Save reads the whole cluster at one moment.
func (c *Cluster) Save() Saved { return c.store.save() }

// RestoreCluster makes a cluster that goes on from what was saved. Whoever watched the original has to list again.
func RestoreCluster(saved Saved, known *Types, clock clockwork.Clock, newUID func() types.UID, forward PortForward) (*Cluster, error) {
	c := NewCluster(known, clock, newUID, forward)
	return c, c.store.restore(saved)
}

func (s *store) save() Saved {
	s.mu.RLock()
	defer s.mu.RUnlock()
	saved := Saved{Version: s.version}
	for gr, objects := range s.objects {
		for _, r := range objects {
			saved.Objects = append(saved.Objects, SavedObject{Group: gr.Group, Resource: gr.Resource, Object: r.data})
		}
	}
	slices.SortFunc(saved.Objects, func(a, b SavedObject) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource), slices.Compare(a.Object, b.Object))
	})
	return saved
}

func (s *store) restore(saved Saved) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range saved.Objects {
		obj := &unstructured.Unstructured{}
		if err := obj.UnmarshalJSON(one.Object); err != nil {
			return fmt.Errorf("%s: %w", one.Resource, err)
		}
		r, err := newRecord(obj, one.Object)
		if err != nil {
			return err
		}
		gr := schema.GroupResource{Group: one.Group, Resource: one.Resource}
		if s.objects[gr] == nil {
			s.objects[gr] = map[key]*record{}
		}
		s.objects[gr][r.key] = r
	}
	s.version = saved.Version + versionLeap
	s.forgotten = s.version
	return nil
}
