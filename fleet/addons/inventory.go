package addons

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// The inventory is a ConfigMap in the tenant cluster, with a key for each add-on.
const (
	inventoryNamespace = metav1.NamespaceSystem
	inventoryName      = "sendan-addons"
)

// record is what is known of one add-on in the cluster.
type record struct {
	// Version and Digest were applied last with success.
	Version string `json:"version,omitempty"`
	Digest  string `json:"digest,omitempty"`
	// Deletion is the Addon's policy, for the day on which the Addon is gone.
	Deletion fleetv1.AddonDeletion `json:"deletion,omitempty"`
	// Objects that may be there: all that were applied, and those that are about to be.
	Objects []reference `json:"objects,omitempty"`
}

// with returns the record that also has the objects.
func (r record) with(objects []reference) record {
	known := map[reference]bool{}
	for _, object := range r.Objects {
		known[object.key()] = true
	}
	r.Objects = slices.Clone(r.Objects)
	for _, object := range objects {
		if !known[object.key()] {
			r.Objects = append(r.Objects, object)
		}
	}
	return r
}

// inventory is what was applied to a cluster. It is written before anything is applied, and what is to be removed leaves it
// only after it has been.
type inventory struct {
	records map[string]record
	stored  *corev1.ConfigMap
}

func readInventory(ctx context.Context, c client.Client) (*inventory, error) {
	stored := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: inventoryNamespace, Name: inventoryName}}
	err := c.Get(ctx, client.ObjectKeyFromObject(stored), stored)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read the inventory: %w", err)
	}
	records := map[string]record{}
	for name, text := range stored.Data {
		var known record
		// What cannot be read was written by someone else. It is found again as a lost record is.
		if err := json.Unmarshal([]byte(text), &known); err == nil {
			records[name] = known
		}
	}
	return &inventory{records: records, stored: stored}, nil
}

// write stores the records if they have changed. Another writer is an error: there should be none.
func (i *inventory) write(ctx context.Context, c client.Client) error {
	data := map[string]string{}
	for name, known := range i.records {
		slices.SortFunc(known.Objects, compareText)
		text, err := json.MarshalIndent(known, "", " ")
		if err != nil {
			return fmt.Errorf("encode the inventory: %w", err)
		}
		data[name] = string(text)
	}
	if equality.Semantic.DeepEqual(data, i.stored.Data) {
		return nil
	}
	i.stored.Data = data
	write := func() error { return c.Update(ctx, i.stored, client.FieldOwner(fieldOwner)) }
	if i.stored.ResourceVersion == "" {
		write = func() error { return c.Create(ctx, i.stored, client.FieldOwner(fieldOwner)) }
	}
	if err := write(); err != nil {
		return fmt.Errorf("write the inventory: %w", err)
	}
	return nil
}

// recoverRecord finds what an add-on left in a cluster that has lost its record of it: objects with its label that this
// field owner has applied, of the kinds that it has today. Copies of the label that controllers make are not among them.
func recoverRecord(ctx context.Context, c client.Client, addon Addon) (record, error) {
	var found record
	asked := map[string]bool{}
	for _, object := range addon.Objects {
		kind := object.GroupVersionKind()
		if asked[kind.String()] {
			continue
		}
		asked[kind.String()] = true
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(kind)
		err := c.List(ctx, list, client.MatchingLabels{fleetv1.AddonLabel: addon.Name})
		if isUnknownKind(err) || apierrors.IsMethodNotSupported(err) {
			continue
		}
		if err != nil {
			return record{}, fmt.Errorf("look for what %s left: %w", addon.Name, err)
		}
		for _, item := range list.Items {
			if slices.ContainsFunc(item.ManagedFields, func(entry metav1.ManagedFieldsEntry) bool { return entry.Manager == fieldOwner }) {
				found.Objects = append(found.Objects, reference{kind, item.Namespace, item.Name})
			}
		}
	}
	return found, nil
}
