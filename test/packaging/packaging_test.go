// Package packaging_test holds a release to what is promised of it: it renders one, and reads it as clusterctl and an
// API server would.
package packaging_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/utils/ptr"

	"github.com/sendan-io/sendan/test/envtest"
)

const (
	image            = "registry.example:5000/team/infrastructure-manager:v0.1.0"
	systemNamespace  = "sendan-system"
	providerLabel    = "cluster.x-k8s.io/provider"
	contractLabel    = "cluster.x-k8s.io/v1beta2"
	injectAnnotation = "cert-manager.io/inject-ca-from"
)

func TestTheComponents(t *testing.T) {
	all := components(t, release(t, "--image", image))
	keepPromises(t, all, promises{
		namespace: systemNamespace, image: image, label: providerLabel, value: "infrastructure-sendan", secrets: []string{"get", "list", "watch"},
	})
	t.Run("every variable has a default", func(t *testing.T) { haveDefaults(t, manager(t, all)) })
	t.Run("kinds follow the contract in their stored version", func(t *testing.T) { followTheContract(t, all) })
}

// promises are what both managers keep, and the names in it.
type promises struct {
	namespace    string
	image        string
	label, value string
	secrets      []string
}

func keepPromises(t *testing.T, all []unstructured.Unstructured, p promises) {
	t.Run("there is one namespace, which holds its pods to the restricted profile", func(t *testing.T) { hasOneNamespace(t, all, p.namespace) })
	t.Run("every object says whose it is", func(t *testing.T) { haveLabel(t, all, p.label, p.value) })
	t.Run("nothing is granted by a wildcard", func(t *testing.T) { grantsNoWildcard(t, all) })
	t.Run("nobody can grant themselves more", func(t *testing.T) { raisesNobody(t, all) })
	t.Run("Secrets are only read", func(t *testing.T) { readsSecretsOnly(t, all, p.secrets) })
	t.Run("the manager has what the restricted profile wants, and no root filesystem to write to", func(t *testing.T) { isLockedDown(t, all) })
	t.Run("the manager is probed, and asks for what it uses", func(t *testing.T) { isProbed(t, all, p.image) })
	t.Run("cert-manager certifies the name that the API server calls", func(t *testing.T) { areCertified(t, all) })
}

func hasOneNamespace(t *testing.T, all []unstructured.Unstructured, name string) {
	namespaces := typed[corev1.Namespace](t, all, "Namespace")
	if len(namespaces) != 1 || namespaces[0].Name != name {
		t.Fatalf("namespaces %+v, want %s alone", namespaces, name)
	}
	if got := namespaces[0].Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("its pod security profile is %q, want restricted", got)
	}
	for _, object := range all {
		if got := object.GetNamespace(); got != "" && got != name {
			t.Errorf("%s %s is in the namespace %s", object.GetKind(), object.GetName(), got)
		}
	}
}

func haveLabel(t *testing.T, all []unstructured.Unstructured, label, value string) {
	for _, object := range all {
		if got := object.GetLabels()[label]; got != value {
			t.Errorf("%s %s has %s=%q", object.GetKind(), object.GetName(), label, got)
		}
	}
}

func grantsNoWildcard(t *testing.T, all []unstructured.Unstructured) {
	granted := rules(t, all)
	if len(granted) < 5 {
		t.Fatalf("there are %d rules, so not all were found", len(granted))
	}
	for _, rule := range granted {
		for _, part := range [][]string{rule.APIGroups, rule.Resources, rule.Verbs, rule.NonResourceURLs} {
			if strings.Contains(strings.Join(part, ","), "*") {
				t.Errorf("a rule has a wildcard: %+v", rule)
			}
		}
	}
}

// raisesNobody: who may bind a role has all that it grants, so it has to be a role that is installed with the manager.
func raisesNobody(t *testing.T, all []unstructured.Unstructured) {
	for _, rule := range rules(t, all) {
		for _, verb := range rule.Verbs {
			if verb == "escalate" || verb == "impersonate" || verb == "bind" && len(rule.ResourceNames) == 0 {
				t.Errorf("a rule lets the manager be anybody: %+v", rule)
			}
		}
		if !slices.Contains(rule.Verbs, "bind") {
			continue
		}
		for _, name := range rule.ResourceNames {
			if !slices.ContainsFunc(all, func(o unstructured.Unstructured) bool { return o.GetKind() == "ClusterRole" && o.GetName() == name }) {
				t.Errorf("it may bind %s, which is not installed", name)
			}
		}
	}
}

func readsSecretsOnly(t *testing.T, all []unstructured.Unstructured, verbs []string) {
	found := false
	for _, rule := range rules(t, all) {
		if !slices.Contains(rule.Resources, "secrets") {
			continue
		}
		found = true
		for _, verb := range rule.Verbs {
			if !slices.Contains(verbs, verb) {
				t.Errorf("it may %s them", verb)
			}
		}
	}
	if !found {
		t.Error("it cannot read credentials at all")
	}
}

func isLockedDown(t *testing.T, all []unstructured.Unstructured) {
	pod, security := deployment(t, all).Spec.Template.Spec, manager(t, all).SecurityContext
	if !ptr.Deref(pod.SecurityContext.RunAsNonRoot, false) || pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("pod: %+v", pod.SecurityContext)
	}
	if ptr.Deref(security.AllowPrivilegeEscalation, true) || ptr.Deref(security.Privileged, true) ||
		!ptr.Deref(security.ReadOnlyRootFilesystem, false) || ptr.Deref(security.RunAsUser, 0) == 0 ||
		!slices.Equal(security.Capabilities.Drop, []corev1.Capability{"ALL"}) || len(security.Capabilities.Add) != 0 {
		t.Errorf("container: %+v", security)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC {
		t.Error("it shares a namespace of the host")
	}
	for _, volume := range pod.Volumes {
		if volume.Secret == nil {
			t.Errorf("the volume %s is not a Secret", volume.Name)
		}
	}
}

func isProbed(t *testing.T, all []unstructured.Unstructured, image string) {
	container := manager(t, all)
	if container.LivenessProbe == nil || container.ReadinessProbe == nil {
		t.Error("a probe is missing")
	}
	if container.Resources.Requests.Cpu().IsZero() || container.Resources.Requests.Memory().IsZero() {
		t.Errorf("it requests %v, want CPU and memory", container.Resources.Requests)
	}
	if container.Image != image || container.ImagePullPolicy != corev1.PullIfNotPresent {
		t.Errorf("image %s, pulled %s; want %s, IfNotPresent", container.Image, container.ImagePullPolicy, image)
	}
	if !slices.Contains(container.Args, "--leader-elect") {
		t.Errorf("several would work at once: %q", container.Args)
	}
}

var (
	variable    = regexp.MustCompile(`\$\{[^}]*\}`)
	withDefault = regexp.MustCompile(`^\$\{SENDAN_[A-Z_]+:=[^}]+\}$`)
)

func haveDefaults(t *testing.T, container corev1.Container) {
	found := variable.FindAllString(strings.Join(container.Args, "\n"), -1)
	if len(found) == 0 {
		t.Fatal("there are no variables")
	}
	for _, reference := range found {
		if !withDefault.MatchString(reference) {
			t.Errorf("%s is not of Sendan with a default, as in ${SENDAN_LOG_LEVEL:=0}", reference)
		}
	}
}

func followTheContract(t *testing.T, all []unstructured.Unstructured) {
	definitions := typed[apiextensionsv1.CustomResourceDefinition](t, all, "CustomResourceDefinition")
	if len(definitions) != 5 {
		t.Errorf("there are %d kinds, want 5", len(definitions))
	}
	for _, definition := range definitions {
		stored := slices.IndexFunc(definition.Spec.Versions, func(v apiextensionsv1.CustomResourceDefinitionVersion) bool { return v.Storage })
		if got := definition.Labels[contractLabel]; got != definition.Spec.Versions[stored].Name {
			t.Errorf("%s has %s=%q, and stores %s", definition.Name, contractLabel, got, definition.Spec.Versions[stored].Name)
		}
		// There is one version, so nothing is converted and no authority is needed.
		if _, asks := definition.Annotations[injectAnnotation]; asks {
			t.Errorf("%s asks for an authority", definition.Name)
		}
		_, moves := definition.Labels["clusterctl.cluster.x-k8s.io/move-hierarchy"]
		if isShared := definition.Spec.Scope == apiextensionsv1.ClusterScoped; moves != isShared {
			t.Errorf("%s moves on its own: %t, want %t", definition.Name, moves, isShared)
		}
	}
}

func areCertified(t *testing.T, all []unstructured.Unstructured) {
	certificate := one(t, all, "Certificate")
	service := typed[corev1.Service](t, all, "Service")[0]
	names, _, err := unstructured.NestedStringSlice(certificate.Object, "spec", "dnsNames")
	if err != nil || !slices.Contains(names, service.Name+"."+service.Namespace+".svc") {
		t.Errorf("it is for %q (%v), the Service is %s in %s", names, err, service.Name, service.Namespace)
	}
	issuer, _, err := unstructured.NestedString(certificate.Object, "spec", "issuerRef", "name")
	if want := one(t, all, "Issuer").GetName(); err != nil || issuer != want {
		t.Errorf("its issuer is %s (%v), want %s", issuer, err, want)
	}
	secret, _, err := unstructured.NestedString(certificate.Object, "spec", "secretName")
	if mounted := deployment(t, all).Spec.Template.Spec.Volumes[0].Secret.SecretName; err != nil || secret != mounted {
		t.Errorf("it is in the Secret %s (%v), the manager mounts %s", secret, err, mounted)
	}
	for _, webhooks := range webhookConfigurations(t, all) {
		if got, want := webhooks.Annotations[injectAnnotation], certificate.GetNamespace()+"/"+certificate.GetName(); got != want {
			t.Errorf("%s asks for the authority of %s, want %s", webhooks.Name, got, want)
		}
		for _, webhook := range webhooks.Webhooks {
			if to := webhook.ClientConfig.Service; to.Name != service.Name || to.Namespace != service.Namespace {
				t.Errorf("%s calls %s in %s", webhook.Name, to.Name, to.Namespace)
			}
		}
	}
	if !labels.SelectorFromSet(service.Spec.Selector).Matches(labels.Set(deployment(t, all).Spec.Template.Labels)) || len(service.Spec.Selector) == 0 {
		t.Errorf("the Service selects %v, which is not the manager", service.Spec.Selector)
	}
}

// webhookConfigurations are those of both sorts. What they have in common is all that is read of them.
func webhookConfigurations(t *testing.T, all []unstructured.Unstructured) []admissionregistrationv1.ValidatingWebhookConfiguration {
	t.Helper()
	var found []admissionregistrationv1.ValidatingWebhookConfiguration
	for _, object := range all {
		if object.GroupVersionKind().Group != admissionregistrationv1.GroupName {
			continue
		}
		var out admissionregistrationv1.ValidatingWebhookConfiguration
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &out); err != nil {
			t.Fatalf("%s %s: %v", object.GetKind(), object.GetName(), err)
		}
		found = append(found, out)
	}
	if len(found) == 0 {
		t.Fatal("there are no webhooks")
	}
	return found
}

func TestTheHighlyAvailableOverlayHasASecondManager(t *testing.T) {
	all := components(t, release(t, "--image", image, "--config", overlay(t, "infrastructure")))
	haveLabel(t, all, providerLabel, "infrastructure-sendan")
	hasASecondManager(t, all, image)
}

// overlay is the one for high availability of a manager in config.
func overlay(t *testing.T, manager string) string {
	return envtest.RepositoryFile(t, "config", manager, "overlays", "highly-available")
}

func hasASecondManager(t *testing.T, all []unstructured.Unstructured, image string) {
	t.Helper()
	d := deployment(t, all)
	if ptr.Deref(d.Spec.Replicas, 0) != 2 || manager(t, all).Image != image {
		t.Errorf("%d replicas of %s, want 2 of %s", ptr.Deref(d.Spec.Replicas, 0), manager(t, all).Image, image)
	}
	budgets := typed[policyv1.PodDisruptionBudget](t, all, "PodDisruptionBudget")
	if len(budgets) != 1 {
		t.Fatalf("there are %d budgets, want 1", len(budgets))
	}
	spread := d.Spec.Template.Spec.Affinity.PodAntiAffinity.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm.LabelSelector
	for who, by := range map[string]*metav1.LabelSelector{"the budget": budgets[0].Spec.Selector, "the affinity": spread} {
		selector, err := metav1.LabelSelectorAsSelector(by)
		if err != nil || selector.Empty() || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
			t.Errorf("%s selects %v (%v), which is not the manager", who, by, err)
		}
	}
}

func TestTheReleaseIsComplete(t *testing.T) {
	directory := release(t, "--version", "v0.1.7")
	if filepath.Base(directory) != "v0.1.7" || filepath.Base(filepath.Dir(directory)) != "infrastructure-sendan" {
		t.Errorf("it is in %s", directory)
	}
	for in, want := range map[string]string{
		directory:               "cluster-template-topology.yaml cluster-template.yaml clusterclass-sendan.yaml infrastructure-components.yaml metadata.yaml",
		fleetRelease(directory): "fleet-components.yaml",
		out(directory):          "clusterctl.yaml fleet-manager infrastructure-sendan",
	} {
		entries, err := os.ReadDir(in)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("in %s there is %s, want %s", in, got, want)
		}
	}
}

func TestTheClassHasNeitherVariablesNorNamespaces(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(release(t), "clusterclass-sendan.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if found := variable.FindAll(text, -1); found != nil {
		t.Errorf("clusterctl would ask for %s", found)
	}
	for _, object := range objects(t, text) {
		if object.GetNamespace() != "" {
			t.Errorf("%s %s is in the namespace %s", object.GetKind(), object.GetName(), object.GetNamespace())
		}
	}
}

func TestClusterctlReadsTheRelease(t *testing.T) {
	config := filepath.Join(out(release(t)), "clusterctl.yaml")

	t.Run("its components, without anything set", func(t *testing.T) {
		text := clusterctl(t, config, "generate", "provider", "--infrastructure", "sendan:v0.1.0")
		if found := variable.FindAll(text, -1); found != nil {
			t.Errorf("still open: %s", found)
		}
		// It takes full names only, and puts a short one in place of none.
		if got := manager(t, objects(t, text)).Image; !strings.HasSuffix(got, "/sendan/infrastructure-manager:dev") {
			t.Errorf("the image is %s", got)
		}
	})
	for flavor, kinds := range map[string]string{
		"":         "Cluster KubeadmConfigTemplate KubeadmControlPlane MachineDeployment SendanCluster SendanMachineTemplate",
		"topology": "Cluster ClusterClass KubeadmConfigTemplate KubeadmControlPlaneTemplate SendanClusterTemplate SendanMachineTemplate",
	} {
		t.Run("its template with the flavor "+flavor, func(t *testing.T) {
			text := clusterctl(t, config, "generate", "cluster", "training", "--infrastructure", "sendan:v0.1.0",
				"--flavor", flavor, "--target-namespace", "default", "--kubernetes-version", "v1.36.3")
			got := map[string]bool{}
			for _, object := range objects(t, text) {
				got[object.GetKind()] = true
			}
			if names := strings.Join(slices.Sorted(maps.Keys(got)), " "); names != kinds {
				t.Errorf("it makes %s, want %s", names, kinds)
			}
		})
	}
}

func TestAReleaseThatCannotBeUsedIsNotMade(t *testing.T) {
	for name, test := range map[string]struct {
		arguments []string
		says      string
	}{
		"a series without contract": {[]string{"--version", "v0.2.0"}, "metadata.yaml has no series 0.2"},
		"not a version":             {[]string{"--version", "latest"}, "is not a version such as v0.1.0"},
		"an unknown pull policy":    {[]string{"--pull-policy", "Sometimes"}, "Always, IfNotPresent or Never"},
		"an image with a blank":     {[]string{"--image", "a b"}, "is not the name of an image"},
		"a fleet image by no name":  {[]string{"--fleet-image", "-"}, "is not the name of an image"},
		"an unknown option":         {[]string{"--images", "a"}, "unknown option --images"},
		"an option without value":   {[]string{"--version"}, "--version needs a value"},
		"no kustomization":          {[]string{"--config", t.TempDir()}, "has no kustomization.yaml"},
		"none of the fleet manager": {[]string{"--fleet-config", t.TempDir()}, "has no kustomization.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			_, diagnosis, err := runRelease(t, append([]string{"--out", t.TempDir()}, test.arguments...)...)
			if err == nil || !strings.Contains(diagnosis, test.says) {
				t.Errorf("it says %q (%v), want %q", diagnosis, err, test.says)
			}
		})
	}
}

// release writes one and returns the directory of the provider.
func release(t *testing.T, arguments ...string) string {
	t.Helper()
	directory, diagnosis, err := runRelease(t, append([]string{"--out", t.TempDir()}, arguments...)...)
	if err != nil {
		t.Fatalf("hack/release.sh: %v\n%s", err, diagnosis)
	}
	return directory
}

func runRelease(t *testing.T, arguments ...string) (directory, diagnosis string, err error) {
	t.Helper()
	envtest.AssetsDir(t) // it renders with the pinned kubectl, which takes minutes to build where it is missing
	lookAtInputs(t, "config", "hack", "templates", "metadata.yaml")
	command := exec.CommandContext(t.Context(), envtest.RepositoryFile(t, "hack", "release.sh"), arguments...)
	command.Env = append(os.Environ(), "RELEASE_DIR=", "RELEASE_VERSION=", "RELEASE_IMAGE=", "RELEASE_FLEET_IMAGE=")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	return strings.TrimSpace(string(output)), stderr.String(), err
}

// lookAtInputs tells the go command, which cannot see what other programs read, when a passed test is to run again.
func lookAtInputs(t *testing.T, roots ...string) {
	t.Helper()
	for _, root := range roots {
		err := filepath.WalkDir(envtest.RepositoryFile(t, root), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func clusterctl(t *testing.T, config string, arguments ...string) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(envtest.AssetsDir(t), "clusterctl"), append([]string{"--config", config}, arguments...)...)
	// A home of its own keeps the user's configuration out; GOPROXY=off, the look for a newer clusterctl.
	command.Env = append(os.Environ(), "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "GOPROXY=off", "KUBECONFIG=",
		"SENDAN_CONTROL_PLANE_FLAVOR=m1.large", "SENDAN_WORKER_FLAVOR=g1.a100.8", "SENDAN_IMAGE=ubuntu")
	var diagnosis bytes.Buffer
	command.Stderr = &diagnosis
	output, err := command.Output()
	if err != nil {
		t.Fatalf("clusterctl %s: %v\n%s", strings.Join(arguments, " "), err, diagnosis.String())
	}
	return output
}

// out is where the release is whose provider is in a directory.
func out(directory string) string { return filepath.Dir(filepath.Dir(directory)) }

func fleetRelease(directory string) string {
	return filepath.Join(out(directory), "fleet-manager", filepath.Base(directory))
}

func components(t *testing.T, directory string) []unstructured.Unstructured {
	t.Helper()
	return objectsOf(t, filepath.Join(directory, "infrastructure-components.yaml"))
}

func fleetComponents(t *testing.T, directory string) []unstructured.Unstructured {
	t.Helper()
	return objectsOf(t, filepath.Join(fleetRelease(directory), "fleet-components.yaml"))
}

func objectsOf(t *testing.T, file string) []unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return objects(t, text)
}

func objects(t *testing.T, text []byte) []unstructured.Unstructured {
	t.Helper()
	var all []unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
	for {
		var object unstructured.Unstructured
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(object.Object) > 0 {
			all = append(all, object)
		}
	}
}

func typed[T any](t *testing.T, all []unstructured.Unstructured, kind string) []T {
	t.Helper()
	var found []T
	for _, object := range all {
		if object.GetKind() != kind {
			continue
		}
		var out T
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, &out, true); err != nil {
			t.Fatalf("%s %s: %v", kind, object.GetName(), err)
		}
		found = append(found, out)
	}
	if len(found) == 0 {
		t.Fatalf("there is no %s", kind)
	}
	return found
}

func one(t *testing.T, all []unstructured.Unstructured, kind string) *unstructured.Unstructured {
	t.Helper()
	var found []*unstructured.Unstructured
	for i := range all {
		if all[i].GetKind() == kind {
			found = append(found, &all[i])
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d objects of kind %s, want 1", len(found), kind)
	}
	return found[0]
}

func deployment(t *testing.T, all []unstructured.Unstructured) appsv1.Deployment {
	t.Helper()
	found := typed[appsv1.Deployment](t, all, "Deployment")
	if len(found) != 1 {
		t.Fatalf("there are %d Deployments, want 1", len(found))
	}
	return found[0]
}

// manager is the only container, under the name that clusterctl looks for.
func manager(t *testing.T, all []unstructured.Unstructured) corev1.Container {
	t.Helper()
	containers := deployment(t, all).Spec.Template.Spec.Containers
	if len(containers) != 1 || containers[0].Name != "manager" {
		t.Fatalf("containers %+v, want one called manager", containers)
	}
	return containers[0]
}

func rules(t *testing.T, all []unstructured.Unstructured) []rbacv1.PolicyRule {
	t.Helper()
	var granted []rbacv1.PolicyRule
	for _, role := range typed[rbacv1.ClusterRole](t, all, "ClusterRole") {
		granted = append(granted, role.Rules...)
	}
	for _, role := range typed[rbacv1.Role](t, all, "Role") {
		granted = append(granted, role.Rules...)
	}
	return granted
}
