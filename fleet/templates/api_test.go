package templates_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/templates"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	system  = "sendan-fleet-system"
	timeout = 30 * time.Second
)

// platform is what a platform engineer applies.
const platform = `
apiVersion: fleet.sendan.io/v1alpha1
kind: Site
metadata: {name: tokyo}
spec:
  identityRef: {name: tokyo, cloudName: openstack}
  gpus: [{model: A100-40GB, pciAlias: a100}]
---
apiVersion: fleet.sendan.io/v1alpha1
kind: NodeTemplate
metadata: {name: a100-mig}
spec:
  flavor: g1.a100.8
  imageFamily: ubuntu-24.04
  gpu: {model: A100-40GB, count: 8, sharing: MIG, migLayout: {uniform: all-1g}}
---
apiVersion: fleet.sendan.io/v1alpha1
kind: Release
metadata: {name: v1-36-3}
spec:
  kubernetesVersion: v1.36.3
  channels: [stable]
  images:
  - {family: ubuntu-24.04, image: kube-1.36}
  - {family: ubuntu-24.04, image: kube-1.36-nvidia, generations: [Ampere], driver: {version: 570.172.08}}
  controlPlane: {flavor: m1.medium, imageFamily: ubuntu-24.04}
  nodeTemplates: [{name: a100-mig}]
`

// training is what a tenant applies.
const training = `
apiVersion: cluster.x-k8s.io/v1beta2
kind: Cluster
metadata: {name: training, namespace: default}
spec:
  topology:
    workers:
      machineDeployments: [{name: mig, class: a100-mig, replicas: 2}]
`

type world struct{ *envtest.Env }

func TestTheCatalog(t *testing.T) {
	w := world{envtest.Start(t, templates.SetupWebhooksWithManager(system))}
	if err := w.Client.Create(t.Context(), namespace(system)); err != nil {
		t.Fatal(err)
	}
	w.runControllers(t)
	w.apply(t, platform)
	t.Run("a release waits for a site that has not been read", w.waitsForTheSite)
	w.readSite(t)
	t.Run("a release becomes classes, once", w.isCompiledOnce)
	t.Run("a short cluster is completed, and applying it again changes nothing", w.completesClusters)
	t.Run("its webhooks come before those of Cluster API", w.comesBeforeClusterAPI)
	t.Run("a change of a node template reaches no release that is there", w.keepsCopies)
	t.Run("a release never changes but for channels and lifecycle", w.neverChanges)
	t.Run("what is wrong is refused with field, value and fix", w.refuses)
	t.Run("a node template tells what it means", w.describesTemplates)
}

func namespace(name string) *corev1.Namespace {
	object := &corev1.Namespace{}
	object.Name = name
	return object
}

func (w world) runControllers(t *testing.T) {
	t.Helper()
	yes := true
	mgr, err := ctrl.NewManager(w.Config, ctrl.Options{
		Scheme: w.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: &yes},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := templates.SetupWithManager(mgr, templates.Options{SystemNamespace: system, Clock: clockwork.NewRealClock()}); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
}

func objects(t *testing.T, manifests string) []*unstructured.Unstructured {
	t.Helper()
	var all []*unstructured.Unstructured
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		all = append(all, object)
	}
	return all
}

func (w world) apply(t *testing.T, manifests string) {
	t.Helper()
	for _, object := range objects(t, manifests) {
		if err := w.tryApply(t, object); err != nil {
			t.Fatalf("apply %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}

// tryApply is what a GitOps controller does.
func (w world) tryApply(t *testing.T, object *unstructured.Unstructured) error {
	t.Helper()
	return w.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object.DeepCopy()), client.FieldOwner("gitops"), client.ForceOwnership)
}

func get[T client.Object](t *testing.T, w world, into T, namespace, name string) T {
	t.Helper()
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// readSite does what the controller of Sites does.
func (w world) readSite(t *testing.T) {
	t.Helper()
	site := get(t, w, &fleetv1.Site{}, "", "tokyo")
	site.Status.Flavors = []fleetv1.SiteFlavor{{Name: "m1.medium", VCPUs: 4, MemoryMiB: 8192}, {Name: "g1.a100.8", VCPUs: 96, MemoryMiB: 983_040, GPUModel: "A100-40GB", GPUs: 8}}
	site.Status.Images = []string{"kube-1.36", "kube-1.36-nvidia"}
	if err := w.Client.Status().Update(t.Context(), site); err != nil {
		t.Fatal(err)
	}
}

func (w world) eventually(t *testing.T, check func() error) {
	t.Helper()
	envtest.Eventually(t, timeout, check)
}

func (w world) waitsForTheSite(t *testing.T) {
	w.eventually(t, func() error {
		release := get(t, w, &fleetv1.Release{}, "", "v1-36-3")
		for _, condition := range release.Status.Conditions {
			if condition.Reason == fleetv1.NoSiteReason && strings.Contains(condition.Message, "tokyo has not been read yet") {
				return nil
			}
		}
		return fmt.Errorf("conditions %+v", release.Status.Conditions)
	})
	err := w.tryApply(t, objects(t, training)[0])
	if err == nil || !strings.Contains(err.Error(), "the channel has no supported release that site tokyo offers") {
		t.Errorf("a cluster was let in: %v", err)
	}
}

func (w world) isCompiledOnce(t *testing.T) {
	var versions []string
	w.eventually(t, func() error {
		release := get(t, w, &fleetv1.Release{}, "", "v1-36-3")
		if len(release.Status.Sites) != 1 || release.Status.Sites[0].ClusterClass == "" || release.Status.Phase != fleetv1.ReleaseSupported {
			return fmt.Errorf("status %+v", release.Status)
		}
		versions = w.versions(t)
		return nil
	})
	// Another look at everything, after a change that means nothing to it.
	site := get(t, w, &fleetv1.Site{}, "", "tokyo")
	site.Status.Images = append(site.Status.Images, "another")
	if err := w.Client.Status().Update(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	w.apply(t, strings.ReplaceAll(platform, "channels: [stable]", "channels: [stable, marker]"))
	w.eventually(t, func() error { // the controller has looked at it
		release := get(t, w, &fleetv1.Release{}, "", "v1-36-3")
		ready := meta.FindStatusCondition(release.Status.Conditions, fleetv1.ReadyCondition)
		if ready == nil || ready.ObservedGeneration != release.Generation {
			return fmt.Errorf("generation %d has not been looked at: %+v", release.Generation, ready)
		}
		return nil
	})
	if now := w.versions(t); !slices.Equal(now, versions) {
		t.Errorf("classes or templates were written again:\n%v\n%v", versions, now)
	}
	w.apply(t, platform)
}

// versions of everything in the system namespace.
func (w world) versions(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, kind := range []struct{ version, kind string }{
		{"cluster.x-k8s.io/v1beta2", "ClusterClassList"}, {"bootstrap.cluster.x-k8s.io/v1beta2", "KubeadmConfigTemplateList"},
		{"controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlaneTemplateList"},
		{"infrastructure.cluster.x-k8s.io/v1alpha1", "SendanClusterTemplateList"}, {"infrastructure.cluster.x-k8s.io/v1alpha1", "SendanMachineTemplateList"},
	} {
		list := &unstructured.UnstructuredList{Object: map[string]any{"apiVersion": kind.version, "kind": kind.kind}}
		if err := w.Client.List(t.Context(), list, client.InNamespace(system)); err != nil {
			t.Fatal(err)
		}
		if len(list.Items) == 0 {
			t.Errorf("there is no %s", kind.kind)
		}
		for _, item := range list.Items {
			all = append(all, item.GetKind()+"/"+item.GetName()+"@"+item.GetResourceVersion())
		}
	}
	return all
}

func (w world) completesClusters(t *testing.T) {
	var stored *clusterv1.Cluster
	w.eventually(t, func() error { // the webhook's cache learns of the class
		if err := w.tryApply(t, objects(t, training)[0]); err != nil {
			return err
		}
		stored = get(t, w, &clusterv1.Cluster{}, "default", "training")
		return nil
	})
	class := get(t, w, &fleetv1.Release{}, "", "v1-36-3").Status.Sites[0].ClusterClass
	if topology := stored.Spec.Topology; topology.ClassRef != (clusterv1.ClusterClassRef{Name: class, Namespace: system}) || topology.Version != "v1.36.3" {
		t.Errorf("topology %+v", topology)
	}
	w.apply(t, training)
	if again := get(t, w, &clusterv1.Cluster{}, "default", "training"); again.ResourceVersion != stored.ResourceVersion {
		t.Errorf("a GitOps controller that applies the file again changes the cluster: %+v", again.ManagedFields)
	}
	for range 2 { // the first only writes down who applied what
		w.kubectl(t, training, "apply")
		again := get(t, w, &clusterv1.Cluster{}, "default", "training")
		if again.Generation != stored.Generation {
			t.Error("kubectl apply changes the cluster")
		}
		stored = again
	}
	w.kubectl(t, training, "apply", "--server-side", "--force-conflicts")
	if again := get(t, w, &clusterv1.Cluster{}, "default", "training"); again.Generation != stored.Generation {
		t.Error("kubectl apply --server-side changes the cluster")
	}
	w.kubectl(t, training, "replace")
	if again := get(t, w, &clusterv1.Cluster{}, "default", "training"); again.Spec.Topology.ClassRef.Name != class || again.Labels[fleetv1.ReleaseLabel] != "v1-36-3" {
		t.Errorf("kubectl replace moved the cluster: %+v", again.Spec.Topology)
	}
}

func (w world) kubectl(t *testing.T, manifests string, arguments ...string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(w.AssetsDir, "kubectl"), append(arguments, "--kubeconfig", w.Kubeconfig, "-f", "-")...)
	command.Stdin = strings.NewReader(manifests)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("kubectl %v: %v\n%s", arguments, err, output)
	}
}

func (w world) keepsCopies(t *testing.T) {
	before := get(t, w, &fleetv1.Release{}, "", "v1-36-3")
	w.apply(t, strings.ReplaceAll(platform, "all-1g", "all-2g"))
	w.apply(t, strings.ReplaceAll(platform, "all-1g", "all-2g")) // with the copies that the API server added left out again
	after := get(t, w, &fleetv1.Release{}, "", "v1-36-3")
	if got := after.Spec.NodeTemplates[0].Spec.GPU.MIGLayout.Uniform; got != "all-1g" || after.Generation != before.Generation {
		t.Errorf("the release has the layout %s now, and generation %d after %d", got, after.Generation, before.Generation)
	}
	w.apply(t, strings.NewReplacer("all-1g", "all-2g", "{name: v1-36-3}", "{name: v1-36-3-b}").Replace(platform))
	if next := get(t, w, &fleetv1.Release{}, "", "v1-36-3-b"); next.Spec.NodeTemplates[0].Spec.GPU.MIGLayout.Uniform != "all-2g" {
		t.Error("the next release does not have the change")
	}
}

func (w world) neverChanges(t *testing.T) {
	w.apply(t, strings.ReplaceAll(platform, "channels: [stable]", "channels: [stable, rapid]\n  lifecycle: {supportedFrom: 2026-01-01T00:00:00Z}"))
	err := w.tryApply(t, objects(t, strings.ReplaceAll(platform, "m1.medium", "m1.large"))[2])
	if err == nil || !strings.Contains(err.Error(), "spec: Forbidden: a release never changes") {
		t.Errorf("the control plane's flavor of a release changed: %v", err)
	}
	used := get(t, w, &fleetv1.Release{}, "", "v1-36-3")
	if err := w.Client.Delete(t.Context(), used); err == nil || !strings.Contains(err.Error(), "default/training") {
		t.Errorf("a release that a cluster consists of was deleted: %v", err)
	}
}

func (w world) refuses(t *testing.T) {
	for name, c := range map[string]struct {
		manifest string
		at       int
		change   []string
		words    []string
	}{
		"an impossible layout": {platform, 1, []string{"uniform: all-1g", "instances: [{profile: 4g.20gb, count: 2}]"}, []string{"spec.gpu.migLayout.instances", "2 × 4g.20gb", "possible are 1 × 4g.20gb"}},
		"a layout without MIG": {platform, 1, []string{"sharing: MIG, ", ""}, []string{"migLayout and sharing MIG go together"}},
		"an unknown template":  {platform, 2, []string{"{name: v1-36-3}", "{name: r2}", "[{name: a100-mig}]", "[{name: b200}]"}, []string{"spec.nodeTemplates[0].name", `"b200"`, `"a100-mig"`}},
		"no image for a GPU": {platform, 2, []string{"{name: v1-36-3}", "{name: r2}", "generations: [Ampere]", "generations: [Hopper]", "image: kube-1.36}", "image: kube-1.36, generations: [Volta]}"},
			[]string{"spec.nodeTemplates[0].name", "a100-mig", "only for Hopper, Volta, and none for Ampere"}},
		"a pool of no template": {training, 0, []string{"class: a100-mig", "class: h100"}, []string{"spec.topology.workers.machineDeployments[0].class", `"h100"`, `"a100-mig"`}},
		"another site":          {training, 0, []string{"namespace: default}", "namespace: default, labels: {fleet.sendan.io/site: osaka}}"}, []string{"metadata.labels[fleet.sendan.io/site]", `"osaka"`, `"tokyo"`}},
		"two pools of a name":   {training, 0, []string{"[{name: mig", "[{name: mig, class: a100-mig}, {name: mig"}, []string{"duplicate entries for key", `name="mig"`}},
		"a name too long":       {platform, 1, []string{"a100-mig", strings.Repeat("a", 64)}, []string{"at most 63 lower-case letters"}},
	} {
		t.Run(name, func(t *testing.T) {
			err := w.tryApply(t, objects(t, strings.NewReplacer(c.change...).Replace(c.manifest))[c.at])
			for _, word := range c.words {
				if err == nil || !strings.Contains(err.Error(), word) {
					t.Errorf("got %v, want %s", err, word)
				}
			}
		})
	}
}

func (w world) describesTemplates(t *testing.T) {
	w.apply(t, platform)
	w.eventually(t, func() error {
		status := get(t, w, &fleetv1.NodeTemplate{}, "", "a100-mig").Status
		if status.DevicesText != "nvidia.com/mig-1g.5gb=56" || status.Generation != "Ampere" || fmt.Sprint(status.Sites) != "[tokyo]" || fmt.Sprint(status.Releases) != "[v1-36-3 v1-36-3-b]" {
			return fmt.Errorf("status %+v", status)
		}
		return nil
	})
}
