package addons

import (
	"context"
	"fmt"

	"github.com/fluxcd/pkg/ssa"
	"github.com/pmezard/go-difflib/difflib"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// DiffOptions say what is compared.
type DiffOptions struct {
	// Management reads the cluster that has the Addons.
	Management client.Reader
	// Tenant reaches the cluster that gets them. Nothing is changed in it.
	Tenant client.Client
	// Cluster is the tenant cluster's.
	Cluster client.ObjectKey
	// Addon restricts the comparison to one; all when empty.
	Addon string
}

// What would happen to an object.
const (
	Created   = "created"
	Changed   = "changed"
	Unchanged = "unchanged"
	Pruned    = "pruned"
	// Failing cannot be compared; the text says why.
	Failing = "failing"
)

// Change is what would happen to one object.
type Change struct {
	Addon string
	// Object such as "DaemonSet kube-system/sendan-cni"; empty when the change is about the add-on as a whole.
	Object string
	Action string
	// Text is the difference of a changed object, or why it fails. Values of Secrets are masked.
	Text string
}

// Diff tells what the next pass would do to a cluster, in the order in which it would.
func Diff(ctx context.Context, options DiffOptions) ([]Change, error) {
	cluster := &clusterv1.Cluster{}
	if err := options.Management.Get(ctx, options.Cluster, cluster); err != nil {
		return nil, fmt.Errorf("get Cluster %s: %w", options.Cluster, err)
	}
	look := reads{cached: options.Management, live: options.Management}
	in, err := look.gather(ctx, cluster)
	if err != nil {
		return nil, err
	}
	intent, err := look.plan(ctx, in)
	if err != nil {
		return nil, err
	}
	if intent.Hold != "" {
		return []Change{{Action: Failing, Text: intent.Hold}}, nil
	}
	known, err := readInventory(ctx, options.Tenant)
	if err != nil {
		return nil, err
	}
	d := differ{manager: ssa.NewResourceManager(options.Tenant, nil, ssa.Owner{Field: fieldOwner}), only: options.Addon, kept: map[reference]bool{}}
	wanted := map[string]bool{}
	for _, addon := range intent.Addons {
		wanted[addon.Name] = true
		for _, object := range addon.Objects {
			d.kept[referenceTo(object).key()] = true
		}
	}
	for _, addon := range intent.Addons {
		if err := d.compare(ctx, addon, known.records[addon.Name]); err != nil {
			return nil, err
		}
	}
	for name, record := range known.records {
		if !wanted[name] && record.Deletion != fleetv1.AddonOrphan {
			d.prune(name, record)
		}
	}
	return d.changes, nil
}

type differ struct {
	manager *ssa.ResourceManager
	only    string
	kept    map[reference]bool
	changes []Change
}

func (d *differ) add(change Change) {
	if d.only == "" || d.only == change.Addon {
		d.changes = append(d.changes, change)
	}
}

func (d *differ) compare(ctx context.Context, addon Addon, known record) error {
	switch {
	case d.only != "" && d.only != addon.Name, addon.Suspended:
		return nil
	case addon.Problem != "":
		d.add(Change{Addon: addon.Name, Action: Failing, Text: addon.Problem})
		return nil
	}
	for _, object := range addon.Objects {
		change := Change{Addon: addon.Name, Object: referenceTo(object).String()}
		entry, before, after, err := d.manager.Diff(ctx, object, ssa.DefaultDiffOptions())
		switch {
		case isSilence(err):
			return fmt.Errorf("compare %s: %w", change.Object, err)
		case isUnknownKind(err), apierrors.IsNotFound(err):
			change.Action, change.Text = Created, "its kind or its namespace is not there yet"
		case err != nil:
			change.Action, change.Text = Failing, err.Error()
		case entry.Action == ssa.CreatedAction:
			change.Action = Created
		case entry.Action == ssa.ConfiguredAction:
			if change.Text, err = unified(before, after); err != nil {
				return fmt.Errorf("compare %s: %w", change.Object, err)
			}
			change.Action = Changed
		default:
			change.Action = Unchanged
		}
		d.add(change)
	}
	d.prune(addon.Name, known)
	return nil
}

func (d *differ) prune(addon string, known record) {
	for _, object := range known.Objects {
		if !d.kept[object.key()] {
			d.add(Change{Addon: addon, Object: object.String(), Action: Pruned})
		}
	}
}

// unified shows the lines of YAML that change, with some around them.
func unified(before, after *unstructured.Unstructured) (string, error) {
	var texts [2]string
	for i, object := range []*unstructured.Unstructured{before, after} {
		shown := object.DeepCopy()
		// Every write changes these.
		for _, fields := range [][]string{{"metadata", "resourceVersion"}, {"metadata", "generation"}, {"metadata", "managedFields"}, {"status"}} {
			unstructured.RemoveNestedField(shown.Object, fields...)
		}
		text, err := yaml.Marshal(shown.Object)
		if err != nil {
			return "", err
		}
		texts[i] = string(text)
	}
	return difflib.GetUnifiedDiffString(difflib.UnifiedDiff{
		A: difflib.SplitLines(texts[0]), B: difflib.SplitLines(texts[1]), FromFile: "in the cluster", ToFile: "as it would be", Context: 3,
	})
}
