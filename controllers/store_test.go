package controllers

import (
	"context"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// storedMachine is a machine in an API server that tells of every patch.
func storedMachine(t *testing.T) (kube client.Client, machine *infrav1.SendanMachine, writes *[]string) {
	t.Helper()
	writes = &[]string{}
	machine = &infrav1.SendanMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "one", Finalizers: []string{infrav1.MachineFinalizer}}}
	kube = fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(machine).WithStatusSubresource(machine).
		WithInterceptorFuncs(interceptor.Funcs{
			Patch: func(ctx context.Context, c client.WithWatch, obj client.Object, patch client.Patch, options ...client.PatchOption) error {
				*writes = append(*writes, "object")
				return c.Patch(ctx, obj, patch, options...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, name string, obj client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
				*writes = append(*writes, name)
				return c.SubResource(name).Patch(ctx, obj, patch, options...)
			},
		}).Build()
	if err := kube.Get(t.Context(), client.ObjectKeyFromObject(machine), machine); err != nil {
		t.Fatal(err)
	}
	return kube, machine, writes
}

func TestStoreWritesWhatHasChanged(t *testing.T) {
	ready := func(machine *infrav1.SendanMachine) {
		conditions.Set(machine, metav1.Condition{Type: infrav1.ReadyCondition, Status: metav1.ConditionTrue, Reason: infrav1.AvailableReason})
		machine.Status.Initialization.Provisioned = ptr.To(true)
	}
	for name, test := range map[string]struct {
		change func(*infrav1.SendanMachine)
		writes []string
	}{
		"nothing": {func(*infrav1.SendanMachine) {}, nil},
		"status":  {ready, []string{"status"}},
		"spec":    {func(machine *infrav1.SendanMachine) { machine.Spec.ProviderID = "openstack:///x" }, []string{"object"}},
		"both, the spec first": {func(machine *infrav1.SendanMachine) {
			machine.Spec.ProviderID = "openstack:///x"
			ready(machine)
		}, []string{"object", "status"}},
	} {
		t.Run(name, func(t *testing.T) {
			kube, machine, writes := storedMachine(t)
			if err := store(t.Context(), kube, machine, func() { test.change(machine) }); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(*writes, test.writes) {
				t.Errorf("wrote %v, want %v", *writes, test.writes)
			}
			stored := &infrav1.SendanMachine{}
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(machine), stored); err != nil {
				t.Fatal(err)
			}
			wanted := &infrav1.SendanMachine{}
			test.change(wanted)
			if stored.Spec.ProviderID != wanted.Spec.ProviderID || conditions.IsTrue(stored, infrav1.ReadyCondition) != conditions.IsTrue(wanted, infrav1.ReadyCondition) {
				t.Errorf("stored are %+v and %+v", stored.Spec, stored.Status)
			}
		})
	}
}

func TestStoreKeepsNothingOfAStaleObject(t *testing.T) {
	for name, change := range map[string]func(*infrav1.SendanMachine){
		"status":    func(machine *infrav1.SendanMachine) { machine.Status.Phase = infrav1.PhaseDeleting },
		"finalizer": func(machine *infrav1.SendanMachine) { machine.Finalizers = nil },
	} {
		t.Run(name, func(t *testing.T) {
			kube, stale, _ := storedMachine(t)
			others := stale.DeepCopy()
			others.Finalizers = append(others.Finalizers, "example.com/hold")
			if err := kube.Update(t.Context(), others); err != nil {
				t.Fatal(err)
			}
			err := store(t.Context(), kube, stale, func() { change(stale) })
			if !apierrors.IsConflict(err) {
				t.Fatalf("got %v, want a conflict", err)
			}
			stored := &infrav1.SendanMachine{}
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(stale), stored); err != nil {
				t.Fatal(err)
			}
			if stored.ResourceVersion != others.ResourceVersion {
				t.Errorf("stored is %+v", stored)
			}
			if result, err := againIfStale(ctrl.Result{}, err); err != nil || result.RequeueAfter != staleRecheck {
				t.Errorf("the pass ended with %+v and %v, want another look after %s", result, err, staleRecheck)
			}
		})
	}
}
