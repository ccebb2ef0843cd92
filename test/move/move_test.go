package move_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/annotations"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/fleet/members"
	"github.com/sendan-io/sendan/fleet/templates"
	"github.com/sendan-io/sendan/fleet/tenancy"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	system  = "sendan-fleet-system"
	timeout = 30 * time.Second
)

// catalog is in the platform team's repository.
const catalog = `
apiVersion: v1
kind: Namespace
metadata: {name: sendan-fleet-system}
---
apiVersion: fleet.sendan.io/v1alpha1
kind: Site
metadata: {name: tokyo}
spec:
  identityRef: {name: tokyo, cloudName: openstack}
  gpus: [{model: A100-40GB, pciAlias: a100}]
---
apiVersion: fleet.sendan.io/v1alpha1
kind: NodeTemplate
metadata: {name: a100}
spec:
  flavor: g1.a100.8
  imageFamily: ubuntu-24.04
  gpu: {model: A100-40GB, count: 8}
`

// releases are the same but for their names, so that their classes would have every template in common.
const releases = `
apiVersion: fleet.sendan.io/v1alpha1
kind: Release
metadata: {name: aging}
spec:
  kubernetesVersion: v1.36.3
  images: [{family: ubuntu-24.04, image: kube-1.36}]
  controlPlane: {flavor: m1.medium, imageFamily: ubuntu-24.04}
  nodeTemplates: [{name: a100}]
---
apiVersion: fleet.sendan.io/v1alpha1
kind: Release
metadata: {name: current}
spec:
  kubernetesVersion: v1.36.3
  channels: [stable]
  images: [{family: ubuntu-24.04, image: kube-1.36}]
  controlPlane: {flavor: m1.medium, imageFamily: ubuntu-24.04}
  nodeTemplates: [{name: a100}]
`

// expired is what the lifecycle of a release comes to while clusters still have it.
const expired = `{"spec": {"lifecycle": {"expiredFrom": "2026-01-01T00:00:00Z"}}}`

// tenant has room for the one cluster that it has.
const tenant = `
apiVersion: fleet.sendan.io/v1alpha1
kind: Tenant
metadata: {name: NAME}
spec:
  sites: [tokyo]
  nodeTemplates: [a100]
  quota: {clusters: 1}
`

const training = `
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata:
  name: training
  namespace: NAME
  labels: {fleet.sendan.io/release: aging}
spec:
  topology:
    workers:
      machineDeployments: [{name: gpu, class: a100, replicas: 2}]
`

// management is a management cluster with the fleet manager.
type management struct{ *envtest.Env }

func TestATenantMovesToAnotherManagementCluster(t *testing.T) {
	from, to := start(t), start(t)
	page := commands(t)
	for _, m := range []management{from, to} {
		m.apply(t, catalog)
		m.readSite(t)
	}
	from.apply(t, releases)
	for _, name := range []string{"team-vision", "team-speech"} {
		from.apply(t, strings.ReplaceAll(tenant, "NAME", name))
		from.makeCluster(t, name)
	}
	from.expire(t, "aging")

	run := page.with(t, from, to)
	run(t, "platform", "team-vision")
	moves := func(name string) func(*testing.T) {
		return func(t *testing.T) {
			before := get(t, from, &clusterv1.Cluster{}, name, "training")
			for _, step := range []string{"namespace", "clusters", "tenant"} {
				run(t, step, name)
			}
			isThere(t, to, before)
			isGone(t, from, before)
			isCounted(t, to, name)
		}
	}
	t.Run("the first takes its class along, and leaves it to the others", moves("team-vision"))
	t.Run("the second goes the same way", moves("team-speech"))
	t.Run("a class that is not used there any more goes with its release", func(t *testing.T) { wantUnused(t, from) })
}

func start(t *testing.T) management {
	t.Helper()
	options := tenancy.Options{SystemNamespace: system, Clock: clockwork.NewRealClock(), Turns: tenancy.NewTurns()}
	m := management{envtest.Start(t, templates.SetupWebhooksWithManager(system), tenancy.SetupWebhooksWithManager(options))}
	m.labelKinds(t)
	mgr, err := ctrl.NewManager(m.Config, ctrl.Options{
		Scheme: m.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		templates.SetupWithManager(mgr, templates.Options{SystemNamespace: system, Clock: clockwork.NewRealClock()}),
		tenancy.SetupWithManager(t.Context(), mgr, options),
		members.SetupWithManager(t.Context(), mgr, members.Options{Clock: clockwork.NewRealClock()}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	envtest.Run(t, mgr)
	return m
}

// labelKinds does to the kinds of providers what `clusterctl init` does. The fleet manager is installed by kubectl, so its
// kinds have only the labels that they bring.
func (m management) labelKinds(t *testing.T) {
	t.Helper()
	var kinds apiextensionsv1.CustomResourceDefinitionList
	if err := m.Client.List(t.Context(), &kinds); err != nil {
		t.Fatal(err)
	}
	for i := range kinds.Items {
		kind := &kinds.Items[i]
		if !strings.HasSuffix(kind.Spec.Group, "cluster.x-k8s.io") {
			continue
		}
		before := kind.DeepCopy()
		metav1.SetMetaDataLabel(&kind.ObjectMeta, "clusterctl.cluster.x-k8s.io", "")
		if err := m.Client.Patch(t.Context(), kind, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
	}
}

func (m management) apply(t *testing.T, manifests string) {
	t.Helper()
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		envtest.Eventually(t, timeout, func() error { // webhooks learn of what was applied before in a moment
			return m.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.FieldOwner("gitops"), client.ForceOwnership)
		})
	}
}

// readSite writes what the controller of Sites reads.
func (m management) readSite(t *testing.T) {
	t.Helper()
	site := get(t, m, &fleetv1.Site{}, "", "tokyo")
	site.Status.Flavors = []fleetv1.SiteFlavor{{Name: "m1.medium", VCPUs: 4, MemoryMiB: 8192}, {Name: "g1.a100.8", VCPUs: 96, MemoryMiB: 983_040, GPUModel: "A100-40GB", GPUs: 8}}
	site.Status.Images = []string{"kube-1.36"}
	if err := m.Client.Status().Update(t.Context(), site); err != nil {
		t.Fatal(err)
	}
}

// expire lets a release end.
func (m management) expire(t *testing.T, name string) {
	t.Helper()
	release := &fleetv1.Release{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := m.Client.Patch(t.Context(), release, client.RawPatch("application/merge-patch+json", []byte(expired))); err != nil {
		t.Fatal(err)
	}
}

func get[T client.Object](t *testing.T, m management, into T, namespace, name string) T {
	t.Helper()
	if err := m.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// makeCluster applies a tenant's Cluster and writes what Cluster API makes of it, as far as clusterctl looks at it.
func (m management) makeCluster(t *testing.T, namespace string) {
	t.Helper()
	m.apply(t, strings.ReplaceAll(training, "NAME", namespace))
	cluster := get(t, m, &clusterv1.Cluster{}, namespace, "training")
	m.ownTemplates(t)

	class := get(t, m, &clusterv1.ClusterClass{}, system, cluster.Spec.Topology.ClassRef.Name)
	blueprint := get(t, m, &infrav1.SendanClusterTemplate{}, system, class.Spec.Infrastructure.TemplateRef.Name)
	infrastructure := &infrav1.SendanCluster{ObjectMeta: ownedBy(t, m, cluster, cluster.Name), Spec: blueprint.Spec.Template.Spec}
	machine := &clusterv1.Machine{ObjectMeta: ownedBy(t, m, cluster, "training-gpu-1"), Spec: clusterv1.MachineSpec{
		ClusterName: cluster.Name, Bootstrap: clusterv1.Bootstrap{DataSecretName: ptr.To("training-gpu-1")},
		InfrastructureRef: clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanMachine", Name: "training-gpu-1"},
	}}
	for _, object := range []client.Object{infrastructure, machine} {
		if err := m.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	machine.Status.NodeRef = clusterv1.MachineNodeReference{Name: "gpu-1"}
	m.updateStatus(t, machine)

	cluster.Finalizers = []string{clusterv1.ClusterFinalizer}
	cluster.Spec.ControlPlaneEndpoint = clusterv1.APIEndpoint{Host: "192.0.2.10", Port: 6443}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanCluster", Name: cluster.Name}
	cluster.Spec.ControlPlaneRef = clusterv1.ContractVersionedObjectReference{APIGroup: "controlplane.cluster.x-k8s.io", Kind: "KubeadmControlPlane", Name: cluster.Name}
	if err := m.Client.Update(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	cluster.Status.Initialization = clusterv1.ClusterInitializationStatus{InfrastructureProvisioned: ptr.To(true), ControlPlaneInitialized: ptr.To(true)}
	conditions.Set(cluster, metav1.Condition{Type: clusterv1.ClusterControlPlaneInitializedCondition, Status: metav1.ConditionTrue, Reason: clusterv1.ClusterControlPlaneInitializedReason})
	m.updateStatus(t, cluster)
	m.lock(t, namespace)
}

func (m management) updateStatus(t *testing.T, object client.Object) {
	t.Helper()
	if err := m.Client.Status().Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// lock waits for the FleetMember and holds it.
func (m management) lock(t *testing.T, namespace string) {
	t.Helper()
	member := &fleetv1.FleetMember{}
	envtest.Eventually(t, timeout, func() error {
		if err := m.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: "training"}, member); err != nil {
			return err
		}
		member.Spec.Locks = []fleetv1.FleetMemberLock{{Holder: "operator:aiko", Reason: "looks at it", Since: metav1.NewTime(time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC))}}
		return m.Client.Update(t.Context(), member)
	})
}

// ownTemplates makes each class an owner of what it refers to, as Cluster API's controller of classes does.
func (m management) ownTemplates(t *testing.T) {
	t.Helper()
	var classes clusterv1.ClusterClassList
	if err := m.Client.List(t.Context(), &classes); err != nil {
		t.Fatal(err)
	}
	for i := range classes.Items {
		class := &classes.Items[i]
		spec := class.Spec
		refs := []clusterv1.ClusterClassTemplateReference{spec.Infrastructure.TemplateRef, spec.ControlPlane.TemplateRef, spec.ControlPlane.MachineInfrastructure.TemplateRef}
		for _, pool := range spec.Workers.MachineDeployments {
			refs = append(refs, pool.Bootstrap.TemplateRef, pool.Infrastructure.TemplateRef)
		}
		for _, ref := range refs {
			template := &unstructured.Unstructured{Object: map[string]any{"apiVersion": ref.APIVersion, "kind": ref.Kind}}
			get(t, m, template, system, ref.Name)
			template.SetOwnerReferences(append(template.GetOwnerReferences(), ownedBy(t, m, class, "").OwnerReferences...))
			if err := m.Client.Update(t.Context(), template); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func ownedBy(t *testing.T, m management, owner client.Object, name string) metav1.ObjectMeta {
	t.Helper()
	kind, err := apiutil.GVKForObject(owner, m.Scheme)
	if err != nil {
		t.Fatal(err)
	}
	return metav1.ObjectMeta{
		Namespace: owner.GetNamespace(), Name: name, Labels: map[string]string{clusterv1.ClusterNameLabel: owner.GetName()},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: owner.GetName(), UID: owner.GetUID()}},
	}
}

// script is what a page has the reader type, by the name of the step.
type script map[string]string

// commands are the fenced blocks of the section of the page, named by what they begin with.
func commands(t *testing.T) script {
	t.Helper()
	text, err := os.ReadFile(envtest.RepositoryFile(t, "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## Move a tenant to another management cluster\n")
	if !found {
		t.Fatal("docs/fleet.md does not say how to move a tenant")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	all := script{}
	for _, match := range regexp.MustCompile("(?s)```sh\n# (\\w+):[^\n]*\n(.*?)```").FindAllStringSubmatch(section, -1) {
		all[match[1]] = match[2]
	}
	return all
}

// with lets the steps be carried out as a reader would.
func (s script) with(t *testing.T, from, to management) func(t *testing.T, step, name string) {
	t.Helper()
	directory := t.TempDir()
	kubeconfig, err := os.ReadFile(to.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "other.kubeconfig"), kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, step, name string) {
		t.Helper()
		text := s[step]
		if text == "" {
			t.Fatalf("docs/fleet.md has no step %q", step)
		}
		command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", strings.ReplaceAll(text, "team-vision", name))
		command.Dir = directory
		command.Env = append(os.Environ(), "KUBECONFIG="+from.Kubeconfig, "PATH="+from.AssetsDir+":"+os.Getenv("PATH"), "CLUSTERCTL_DISABLE_VERSIONCHECK=true")
		output, err := command.CombinedOutput()
		if err != nil {
			t.Fatalf("step %s for %s: %v\n%s", step, name, err, output)
		}
	}
}

func isThere(t *testing.T, to management, before *clusterv1.Cluster) {
	t.Helper()
	cluster := get(t, to, &clusterv1.Cluster{}, before.Namespace, before.Name)
	if ptr.Deref(cluster.Spec.Paused, false) || cluster.Spec.Topology.ClassRef != before.Spec.Topology.ClassRef || cluster.Labels[fleetv1.ReleaseLabel] != "aging" {
		t.Errorf("the cluster came as %+v, %v", cluster.Spec, cluster.Labels)
	}
	class := get(t, to, &clusterv1.ClusterClass{}, system, cluster.Spec.Topology.ClassRef.Name)
	if annotations.HasPaused(class) {
		t.Error("its class is still paused")
	}
	get(t, to, &infrav1.SendanClusterTemplate{}, system, class.Spec.Infrastructure.TemplateRef.Name)
	get(t, to, &infrav1.SendanCluster{}, cluster.Namespace, cluster.Name)
	envtest.Eventually(t, timeout, func() error {
		member := get(t, to, &fleetv1.FleetMember{}, cluster.Namespace, cluster.Name)
		if len(member.Spec.Locks) != 1 || len(member.OwnerReferences) != 1 || member.OwnerReferences[0].UID != cluster.UID {
			t.Fatalf("its FleetMember came as %+v, owned by %+v", member.Spec, member.OwnerReferences)
		}
		if member.Status.Health == "" || member.Status.Tenant != cluster.Namespace {
			return fmt.Errorf("the status of its FleetMember is %+v", member.Status)
		}
		return nil
	})
}

func isGone(t *testing.T, from management, before *clusterv1.Cluster) {
	t.Helper()
	for _, object := range []client.Object{&clusterv1.Cluster{}, &fleetv1.FleetMember{}, &infrav1.SendanCluster{}} {
		if err := from.Client.Get(t.Context(), client.ObjectKeyFromObject(before), object); !apierrors.IsNotFound(err) {
			t.Errorf("the old management cluster still has its %T (%v)", object, err)
		}
	}
	if err := from.Client.Get(t.Context(), client.ObjectKey{Name: before.Namespace}, &fleetv1.Tenant{}); !apierrors.IsNotFound(err) {
		t.Errorf("the old management cluster still has its Tenant (%v)", err)
	}
	if class := get(t, from, &clusterv1.ClusterClass{}, system, before.Spec.Topology.ClassRef.Name); annotations.HasPaused(class) {
		t.Error("the class that others use is left paused")
	}
}

// isCounted expects the quota to hold at once.
func isCounted(t *testing.T, to management, tenant string) {
	t.Helper()
	object := &unstructured.Unstructured{}
	manifest := strings.NewReplacer("NAME", tenant, "name: training", "name: second", "labels: {fleet.sendan.io/release: aging}", "").Replace(training)
	if err := yaml.Unmarshal([]byte(manifest), &object.Object); err != nil {
		t.Fatal(err)
	}
	err := to.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("tenant"))
	if err == nil || !strings.Contains(err.Error(), "quota of tenant "+tenant+" is short: clusters: 1 of 1 used") {
		t.Errorf("a second cluster: %v", err)
	}
}

// wantUnused expects the fleet manager to see that a class has lost its last cluster.
func wantUnused(t *testing.T, from management) {
	t.Helper()
	if err := from.Client.Delete(t.Context(), &fleetv1.Release{ObjectMeta: metav1.ObjectMeta{Name: "aging"}}); err != nil {
		t.Fatal(err)
	}
	envtest.Eventually(t, timeout, func() error {
		var classes clusterv1.ClusterClassList
		if err := from.Client.List(t.Context(), &classes, client.MatchingLabels{fleetv1.ReleaseLabel: "aging"}); err != nil {
			return err
		}
		for _, class := range classes.Items {
			if class.Annotations["fleet.sendan.io/unused-since"] == "" {
				return fmt.Errorf("%s is not marked as unused: %v", class.Name, class.Annotations)
			}
		}
		return nil
	})
}
