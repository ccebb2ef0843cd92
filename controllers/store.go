package controllers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// staleRecheck is when to look again at an object that was older than the stored one. Caches rarely lag behind by more.
const staleRecheck = time.Second

// store stores what change does to an object. It insists on the version that was read, since a patch replaces whole lists, and does not
// wait for a newer one as Cluster API's patch helper does: againIfStale ends the pass.
func store(ctx context.Context, c client.Client, obj client.Object, change func()) error {
	before := obj.DeepCopyObject().(client.Object)
	change()
	err := storeChanges(ctx, c, before, obj)
	if !obj.GetDeletionTimestamp().IsZero() {
		return client.IgnoreNotFound(err) // it went when its finalizer did
	}
	return err
}

// storeChanges writes metadata and spec first: whoever reads in the status that something is provisioned finds its id and its address.
func storeChanges(ctx context.Context, c client.Client, before, obj client.Object) error {
	data, err := client.MergeFrom(before).Data(obj)
	if err != nil {
		return fmt.Errorf("compare an object with what it was: %w", err)
	}
	changed := map[string]json.RawMessage{}
	if err := json.Unmarshal(data, &changed); err != nil {
		return fmt.Errorf("read what has changed of an object: %w", err)
	}
	_, status := changed["status"]
	delete(changed, "status")
	whatWasRead := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if len(changed) > 0 {
		stored := obj.DeepCopyObject().(client.Object) // takes the answer, which has the old status
		if err := c.Patch(ctx, stored, whatWasRead); err != nil {
			return fmt.Errorf("store metadata and spec: %w", err)
		}
		before.SetResourceVersion(stored.GetResourceVersion())
	}
	if status {
		if err := c.Status().Patch(ctx, obj, whatWasRead); err != nil {
			return fmt.Errorf("store the status: %w", err)
		}
	}
	return nil
}

// againIfStale ends a pass over an object. One that could not be stored because the object had changed since it was read has not failed:
// what it did in the cloud was noted ahead, and the next pass sees the newer object.
func againIfStale(result ctrl.Result, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: staleRecheck}, nil
	}
	return result, err
}
