package addons

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/utils"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// fieldOwner is this capability's name in managedFields, in tenant clusters.
const fieldOwner = "sendan-addons"

// systemNamespaces are never removed, even if an add-on once had one of them.
var systemNamespaces = []string{metav1.NamespaceDefault, metav1.NamespaceSystem, metav1.NamespacePublic, "kube-node-lease"}

// pass is one look at one tenant cluster.
type pass struct {
	client    *witness
	manager   *ssa.ResourceManager
	inventory *inventory
	results   map[string]fleetv1.MemberAddon
	// kept are the objects of all add-ons, which none of them may remove.
	kept map[reference]bool
	// isIncomplete means that some objects wait for their kinds, which takes a second or two.
	isIncomplete bool
}

// outcome is what a pass found and did.
type outcome struct {
	addons       []fleetv1.MemberAddon
	isIncomplete bool
}

// carryOut makes the cluster what the intent says, as far as it is possible now. The error is about the cluster, which mostly
// does not answer; what is wrong with one add-on is in its result.
func carryOut(ctx context.Context, tenant client.Client, intent Intent) (outcome, error) {
	seeing := &witness{Client: tenant, seen: map[reference]*unstructured.Unstructured{}}
	p := &pass{
		client: seeing, manager: ssa.NewResourceManager(seeing, nil, ssa.Owner{Field: fieldOwner}),
		results: map[string]fleetv1.MemberAddon{}, kept: map[reference]bool{},
	}
	var err error
	if p.inventory, err = readInventory(ctx, tenant); err != nil {
		return outcome{}, err
	}
	if err := p.announce(ctx, intent); err != nil {
		return outcome{}, err
	}
	for _, addon := range intent.Addons {
		if err := p.carryOutOne(ctx, addon); err != nil {
			return outcome{}, err
		}
	}
	if err := p.removeOthers(ctx, intent); err != nil {
		return outcome{}, err
	}
	if err := p.inventory.write(ctx, tenant); err != nil {
		return outcome{}, err
	}
	return outcome{addons: sortedResults(p.results), isIncomplete: p.isIncomplete}, nil
}

// announce stores what is about to be applied beside what already is.
func (p *pass) announce(ctx context.Context, intent Intent) error {
	for i, addon := range intent.Addons {
		if !addon.isApplicable() {
			continue
		}
		known, found := p.inventory.records[addon.Name]
		if !found {
			recovered, err := recoverRecord(ctx, p.client, addon)
			if isSilence(err) {
				return err
			}
			if err != nil {
				intent.Addons[i].Problem = err.Error()
				continue
			}
			known = recovered
		}
		known.Deletion = addon.Deletion
		p.inventory.records[addon.Name] = known.with(referencesTo(addon.Objects))
		for _, object := range addon.Objects {
			p.kept[referenceTo(object).key()] = true
		}
	}
	return p.inventory.write(ctx, p.client)
}

// carryOutOne returns an error only when the cluster does not answer.
func (p *pass) carryOutOne(ctx context.Context, addon Addon) error {
	known := p.inventory.records[addon.Name]
	result := fleetv1.MemberAddon{Name: addon.Name, Version: known.Version, Digest: known.Digest}
	var err error
	switch waitsFor := p.waitsFor(addon); {
	case addon.Suspended:
		result.Phase, result.Message = fleetv1.AddonSuspended, "it is left as it is while spec.suspended of the Addon is true"
	case addon.Problem != "":
		result.Phase, result.Message = fleetv1.AddonFailed, addon.Problem
	// One that has been applied is kept in shape even while what it depends on has trouble.
	case waitsFor != "" && known.Digest != addon.Digest:
		result.Phase, result.Message = fleetv1.AddonPending, waitsFor
	default:
		err = p.apply(ctx, addon, &result)
	}
	if isSilence(err) {
		return err
	}
	if err != nil {
		result.Phase, result.Message = fleetv1.AddonFailed, err.Error()
	}
	p.results[addon.Name] = result
	return nil
}

// waitsFor names the first dependency in this cluster that is not up; empty when there is none.
func (p *pass) waitsFor(addon Addon) string {
	for _, name := range addon.DependsOn {
		dependency, here := p.results[name]
		if here && dependency.Phase != fleetv1.AddonHealthy && dependency.Phase != fleetv1.AddonSuspended {
			return fmt.Sprintf("it waits for the add-on %s, which is %s", name, dependency.Phase)
		}
	}
	return ""
}

// apply corrects what has drifted, removes what is no longer rendered and tells the health.
func (p *pass) apply(ctx context.Context, addon Addon, result *fleetv1.MemberAddon) error {
	isComplete, err := p.applyObjects(ctx, addon.Objects)
	if err != nil {
		return err
	}
	result.Phase, result.Message = p.health(addon.Objects)
	if !isComplete {
		p.isIncomplete = true
		return nil
	}
	known := p.inventory.records[addon.Name]
	if err := p.remove(ctx, addon.Name, known.Objects); err != nil {
		return fmt.Errorf("remove what the add-on no longer has: %w", err)
	}
	p.inventory.records[addon.Name] = record{
		Version: addon.Version, Digest: addon.Digest, Deletion: addon.Deletion, Objects: referencesTo(addon.Objects),
	}
	result.Version, result.Digest = addon.Version, addon.Digest
	return nil
}

// applyObjects applies kinds, namespaces and cluster roles first. It returns false when those are not ready for the others
// yet. The library has a function for the stages too; it waits inside, which would hold up other clusters.
func (p *pass) applyObjects(ctx context.Context, objects []*unstructured.Unstructured) (bool, error) {
	var definitions, others []*unstructured.Unstructured
	for _, object := range objects {
		if utils.IsClusterDefinition(object) {
			definitions = append(definitions, object)
		} else {
			others = append(others, object)
		}
	}
	if _, err := p.manager.ApplyAll(ctx, definitions, ssa.DefaultApplyOptions()); err != nil {
		return false, err
	}
	if phase, _ := p.health(definitions); phase != fleetv1.AddonHealthy {
		return false, nil
	}
	_, err := p.manager.ApplyAll(ctx, others, ssa.DefaultApplyOptions())
	return true, err
}

// health looks at the objects as they were seen last.
func (p *pass) health(objects []*unstructured.Unstructured) (fleetv1.AddonPhase, string) {
	var failed, waiting []string
	for _, object := range objects {
		reference := referenceTo(object)
		seen, found := p.client.seen[reference.key()]
		if !found {
			waiting = append(waiting, reference.String()+" is not there yet")
			continue
		}
		result, err := status.Compute(seen)
		switch {
		case err != nil:
			failed = append(failed, fmt.Sprintf("%s: %s", reference, err))
		case result.Status == status.FailedStatus:
			failed = append(failed, fmt.Sprintf("%s: %s", reference, result.Message))
		case result.Status != status.CurrentStatus:
			waiting = append(waiting, fmt.Sprintf("%s: %s", reference, result.Message))
		}
	}
	slices.Sort(failed)
	slices.Sort(waiting)
	switch {
	case len(failed) > 0:
		return fleetv1.AddonFailed, message.Some(failed, "; ")
	case len(waiting) > 0:
		return fleetv1.AddonProgressing, message.Some(waiting, "; ")
	}
	return fleetv1.AddonHealthy, ""
}

// removeOthers parts with add-ons that the cluster no longer gets.
func (p *pass) removeOthers(ctx context.Context, intent Intent) error {
	for name, known := range p.inventory.records {
		if slices.ContainsFunc(intent.Addons, func(addon Addon) bool { return addon.Name == name }) {
			continue
		}
		if known.Deletion != fleetv1.AddonOrphan {
			err := p.remove(ctx, name, known.Objects)
			if isSilence(err) {
				return err
			}
			if err != nil {
				p.results[name] = fleetv1.MemberAddon{Name: name, Version: known.Version, Digest: known.Digest, Phase: fleetv1.AddonFailed,
					Message: fmt.Sprintf("the cluster no longer gets it, and it cannot be removed: %s", err)}
				continue
			}
		}
		delete(p.inventory.records, name)
	}
	return nil
}

// remove deletes those of the objects that still are the add-on's and that no add-on has.
func (p *pass) remove(ctx context.Context, addon string, objects []reference) error {
	var gone []*unstructured.Unstructured
	for _, object := range objects {
		isSystem := object.Kind == "Namespace" && slices.Contains(systemNamespaces, object.name)
		if !p.kept[object.key()] && !isSystem {
			gone = append(gone, object.empty())
		}
	}
	slices.SortFunc(gone, func(a, b *unstructured.Unstructured) int {
		switch pair := (ssa.SortableUnstructureds{a, b}); {
		case pair.Less(0, 1):
			return 1 // the order of applying, backwards
		case pair.Less(1, 0):
			return -1
		}
		return 0
	})
	options := ssa.DefaultDeleteOptions()
	options.Inclusions = map[string]string{fleetv1.AddonLabel: addon}
	for _, object := range gone {
		_, err := p.manager.Delete(ctx, object, options)
		if err != nil && !isUnknownKind(err) && !apierrors.IsNotFound(err) {
			return err
		}
	}
	return nil
}

// witness remembers how objects were seen last, so that their health costs no further request.
type witness struct {
	client.Client
	seen map[reference]*unstructured.Unstructured
}

// Get implements [client.Client].
func (w *witness) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	err := w.Client.Get(ctx, key, object, options...)
	if err == nil {
		w.see(object)
	}
	return err
}

// Patch implements [client.Client].
func (w *witness) Patch(ctx context.Context, object client.Object, patch client.Patch, options ...client.PatchOption) error {
	err := w.Client.Patch(ctx, object, patch, options...)
	isDryRun := len((&client.PatchOptions{}).ApplyOptions(options).DryRun) > 0
	if err == nil && !isDryRun {
		w.see(object)
	}
	return err
}

func (w *witness) see(object client.Object) {
	if seen, ok := object.(*unstructured.Unstructured); ok {
		w.seen[referenceTo(seen).key()] = seen.DeepCopy()
	}
}

// isSilence reports that the API server did not answer, or that it cannot now. Anything else is about the add-on.
func isSilence(err error) bool {
	var transport *url.Error
	switch {
	case err == nil:
		return false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.As(err, &transport):
		return true
	}
	// The client's own limit of requests hides the context's error behind these words.
	isLate := strings.Contains(err.Error(), "would exceed context deadline")
	return isLate || apierrors.IsTimeout(err) || apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err)
}

func isUnknownKind(err error) bool { return meta.IsNoMatchError(err) }

func referencesTo(objects []*unstructured.Unstructured) []reference {
	references := make([]reference, 0, len(objects))
	for _, object := range objects {
		references = append(references, referenceTo(object))
	}
	slices.SortFunc(references, compareText)
	return references
}

func compareText(a, b reference) int {
	return strings.Compare(a.GroupVersion().String()+" "+a.String(), b.GroupVersion().String()+" "+b.String())
}

func sortedResults(results map[string]fleetv1.MemberAddon) []fleetv1.MemberAddon {
	sorted := make([]fleetv1.MemberAddon, 0, len(results))
	for _, result := range results {
		sorted = append(sorted, result)
	}
	slices.SortFunc(sorted, func(a, b fleetv1.MemberAddon) int { return strings.Compare(a.Name, b.Name) })
	return sorted
}
