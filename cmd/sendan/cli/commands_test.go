package cli_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cmd/sendan/cli"
	"github.com/sendan-io/sendan/fleet/templates"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	system  = "sendan-fleet-system"
	team    = "team-vision"
	timeout = 30 * time.Second
)

// platform is a site, a node template with MIG and one that scales by itself, two releases, an add-on and a tenant.
const platform = `
apiVersion: fleet.sendan.io/v1alpha1
kind: Site
metadata: {name: tokyo}
spec:
  identityRef: {name: tokyo, cloudName: openstack}
  gpus: [{model: A100-40GB, pciAlias: a100}, {model: H100-80GB, pciAlias: h100}]
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
kind: NodeTemplate
metadata: {name: h100}
spec:
  flavor: g1.h100.8
  imageFamily: ubuntu-24.04
  gpu: {model: H100-80GB, count: 8}
  autoscaling: {minSize: 0, maxSize: 2}
  singleNode: true
---
apiVersion: fleet.sendan.io/v1alpha1
kind: Release
metadata: {name: v1-36-3}
spec:
  kubernetesVersion: v1.36.3
  channels: [stable]
  images: [{family: ubuntu-24.04, image: kube-1.36}]
  controlPlane: {flavor: m1.medium, imageFamily: ubuntu-24.04}
  nodeTemplates: [{name: a100-mig}, {name: h100}]
---
apiVersion: fleet.sendan.io/v1alpha1
kind: Release
metadata: {name: v1-36-4}
spec:
  kubernetesVersion: v1.36.4
  channels: [rapid]
  images: [{family: ubuntu-24.04, image: kube-1.36}]
  controlPlane: {flavor: m1.medium, imageFamily: ubuntu-24.04}
  nodeTemplates: [{name: a100-mig}, {name: h100}]
---
apiVersion: fleet.sendan.io/v1alpha1
kind: Addon
metadata: {name: motd}
spec:
  clusterSelector: {}
  versions:
  - version: v1.0.0
    source:
      manifests: |
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: motd, namespace: default}
        data: {motd: hello}
---
apiVersion: fleet.sendan.io/v1alpha1
kind: Tenant
metadata: {name: team-vision}
spec:
  sites: [tokyo]
  nodeTemplates: ["*"]
  quota: {clusters: 3}
---
apiVersion: v1
kind: Namespace
metadata: {name: team-vision, labels: {fleet.sendan.io/tenant: team-vision}}
`

type world struct{ *envtest.Env }

func TestTheCommands(t *testing.T) {
	w := world{envtest.Start(t, templates.SetupWebhooksWithManager(system))}
	w.setUp(t)
	t.Run("a dry run prints what is applied", w.dryRunIsWhatIsApplied)
	t.Run("a dry run on the server shows the completed cluster and stores nothing", w.dryRunOnTheServer)
	t.Run("a cluster of one machine is made", w.singleNode)
	t.Run("what admission refuses is told field by field", w.isRefused)
	t.Run("a cluster that is there is not made again", w.isThereAlready)
	t.Run("a pool is scaled, let scale by itself, and fixed again", w.scales)
	t.Run("an unknown pool is answered with those there are", w.unknownPool)
	t.Run("clusters are shown as the fleet knows them", w.gets)
	t.Run("a kubeconfig is printed and merged", w.kubeconfig)
	t.Run("an add-on is compared with a cluster", w.diffsAddon)
	t.Run("releases are compared with the exit codes of diff", w.diffsReleases)
	t.Run("a member sees their tenant and its sites, and no other", w.member)
	t.Run("everything else is listed", w.lists)
	t.Run("names are completed", w.completes)
	t.Run("a deletion wants a yes, and waits for the end", w.deletes)
}

// setUp lets the release controller compile what the platform team has applied.
func (w world) setUp(t *testing.T) {
	t.Helper()
	w.apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: "+system+"}")
	w.apply(t, platform)
	site := &fleetv1.Site{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "tokyo"}, site); err != nil {
		t.Fatal(err)
	}
	free := int32(16)
	site.Status = fleetv1.SiteStatus{
		Region: "east", Images: []string{"kube-1.36"},
		Flavors: []fleetv1.SiteFlavor{
			{Name: "m1.medium", VCPUs: 4, MemoryMiB: 8192},
			{Name: "g1.a100.8", VCPUs: 96, MemoryMiB: 983_040, GPUModel: "A100-40GB", GPUs: 8},
			{Name: "g1.h100.8", VCPUs: 96, MemoryMiB: 983_040, GPUModel: "H100-80GB", GPUs: 8},
		},
		Capacity: []fleetv1.GPUCapacity{{Model: "A100-40GB", FailureDomain: "az1", Free: &free, Source: fleetv1.CapacityFromPlacement}},
	}
	if err := w.Client.Status().Update(t.Context(), site); err != nil {
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(w.Config, ctrl.Options{Scheme: w.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := templates.SetupWithManager(mgr, templates.Options{SystemNamespace: system, Clock: clockwork.NewRealClock()}); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
	envtest.Eventually(t, timeout, func() error { // until the webhook knows the classes
		for _, create := range [][]string{{"--pool", "a=h100"}, {"--single-node", "h100"}, {"--pool", "a=h100", "--release", "v1-36-4"}} {
			r := w.run(t, append([]string{"cluster", "create", "probe", "--dry-run=server"}, create...)...)
			if r.code != 0 {
				return fmt.Errorf("%s", r.errors)
			}
		}
		return nil
	})
}

func (w world) apply(t *testing.T, manifests string) {
	t.Helper()
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			t.Fatal(err)
		}
		if err := w.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("sendan-cli")); err != nil {
			t.Fatalf("apply %s %s: %v", object.GetKind(), object.GetName(), err)
		}
	}
}

// result is what a user sees.
type result struct {
	out, errors string
	code        int
}

// run is the program with a kubeconfig that reaches the API server, in the namespace of the team.
func (w world) run(t *testing.T, args ...string) result {
	t.Helper()
	if !slices.Contains(args, "-n") {
		args = append(args, "-n", team)
	}
	return run(t, append(args, "--kubeconfig", w.Kubeconfig)...)
}

func run(t *testing.T, args ...string) result {
	t.Helper()
	var out, errors bytes.Buffer
	root := &cobra.Command{Use: "sendan", SilenceUsage: true, SilenceErrors: true}
	root.SetOut(&out)
	root.SetErr(&errors)
	root.SetIn(&bytes.Buffer{})
	cli.AddTo(root, "/usr/local/bin/sendan")
	root.SetArgs(args)
	code := cli.Report(&errors, root.ExecuteContext(t.Context()))
	return result{out: out.String(), errors: errors.String(), code: code}
}

// succeeds is the output of a command that must not fail.
func (w world) succeeds(t *testing.T, args ...string) string {
	t.Helper()
	r := w.run(t, args...)
	if r.code != 0 || strings.Contains(r.errors, "sendan:") {
		t.Fatalf("sendan %q: exit code %d: %s", args, r.code, r.errors)
	}
	return r.out
}

func (r result) expect(t *testing.T, code int, out, errors string) {
	t.Helper()
	if r.code != code || r.out != out || r.errors != errors {
		t.Errorf("exit code %d, want %d\noutput:\n%s\nwant:\n%s\nerrors:\n%s\nwant:\n%s", r.code, code, r.out, out, r.errors, errors)
	}
}

func (w world) cluster(t *testing.T, namespace, name string) *clusterv1.Cluster {
	t.Helper()
	cluster := &clusterv1.Cluster{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, cluster); err != nil {
		t.Fatal(err)
	}
	return cluster
}

func (w world) dryRunIsWhatIsApplied(t *testing.T) {
	create := []string{"cluster", "create", "training", "--pool", "mig=a100-mig:2", "--pool", "big=h100", "--site", "tokyo", "--channel", "stable", "--control-plane-replicas", "1"}
	created := w.run(t, create...)
	created.expect(t, 0, "cluster.cluster.x-k8s.io/training created: site tokyo, release v1-36-3, Kubernetes v1.36.3\n", "")
	manifest := w.succeeds(t, append(create, "--dry-run", "-n", "default")...)
	w.apply(t, manifest)
	byCommand, byManifest := w.cluster(t, team, "training"), w.cluster(t, "default", "training")
	if difference := cmp.Diff(owned(t, byCommand), owned(t, byManifest)); difference != "" {
		t.Errorf("the command owns other fields than the manifest it prints (-command +manifest):\n%s", difference)
	}
	delete(byCommand.Labels, fleetv1.TenantLabel) // the other namespace is nobody's
	if difference := cmp.Diff([]any{byCommand.Labels, byCommand.Spec}, []any{byManifest.Labels, byManifest.Spec}); difference != "" {
		t.Errorf("-command +manifest:\n%s", difference)
	}
}

// owned are the fields that were applied.
func owned(t *testing.T, cluster *clusterv1.Cluster) map[string]any {
	t.Helper()
	for _, entry := range cluster.ManagedFields {
		if entry.Manager == "sendan-cli" && entry.Operation == metav1.ManagedFieldsOperationApply {
			var fields map[string]any
			if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields); err != nil {
				t.Fatal(err)
			}
			return fields
		}
	}
	t.Fatalf("sendan-cli owns nothing: %+v", cluster.ManagedFields)
	return nil
}

func (w world) dryRunOnTheServer(t *testing.T) {
	shown := &clusterv1.Cluster{}
	if err := yaml.Unmarshal([]byte(w.succeeds(t, "cluster", "create", "never", "--pool", "big=h100", "--dry-run=server")), shown); err != nil {
		t.Fatal(err)
	}
	if shown.Labels[fleetv1.ReleaseLabel] != "v1-36-3" || shown.Spec.Topology.ClassRef.Namespace != system || len(shown.ManagedFields) > 0 {
		t.Errorf("the server would make %+v", shown)
	}
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(shown), shown); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("a dry run left a cluster: %v", err)
	}
}

func (w world) singleNode(t *testing.T) {
	w.succeeds(t, "cluster", "create", "edge", "--single-node", "h100", "--release", "v1-36-4")
	if cluster := w.cluster(t, team, "edge"); *cluster.Spec.Topology.ControlPlane.Replicas != 1 || cluster.Spec.Topology.Version != "v1.36.4" {
		t.Errorf("topology %+v", cluster.Spec.Topology)
	}
}

func (w world) isRefused(t *testing.T) {
	for name, c := range map[string]struct {
		flags  []string
		errors string
	}{
		"one field": {[]string{"--pool", "mig=a100"}, `sendan: spec.topology.workers.machineDeployments[0].class: Unsupported value: "a100": supported values: "a100-mig", "h100"` + "\n"},
		"two fields": {[]string{"--pool", "mig=a100", "--pool", "big=b200:1"}, `sendan: spec.topology.workers.machineDeployments[0].class: Unsupported value: "a100": supported values: "a100-mig", "h100"` + "\n" +
			`sendan: spec.topology.workers.machineDeployments[1].class: Unsupported value: "b200": supported values: "a100-mig", "h100"` + "\n"},
		"a site":    {[]string{"--pool", "big=h100", "--site", "osaka"}, `sendan: metadata.labels[fleet.sendan.io/site]: Unsupported value: "osaka": supported values: "tokyo"` + "\n"},
		"a version": {[]string{"--pool", "big=h100", "--version", "v1.30.0"}, `sendan: spec.topology.version: Unsupported value: "v1.30.0": supported values: "v1.36.3", "v1.36.4"` + "\n"},
	} {
		t.Run(name, func(t *testing.T) {
			w.run(t, append([]string{"cluster", "create", "refused"}, c.flags...)...).expect(t, 1, "", c.errors)
		})
	}
}

func (w world) isThereAlready(t *testing.T) {
	before := w.cluster(t, team, "training")
	w.run(t, "cluster", "create", "training", "--pool", "big=h100").expect(t, 1, "",
		"sendan: cluster \"training\" is in namespace team-vision already; change it with sendan cluster scale, or with kubectl\n")
	if now := w.cluster(t, team, "training"); now.ResourceVersion != before.ResourceVersion {
		t.Error("the cluster was changed")
	}
}

func (w world) scales(t *testing.T) {
	const bounds = `{"cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size":"4","cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size":"1"}`
	for _, c := range []struct {
		args              []string
		out               string
		replicas, pattern string
	}{
		{[]string{"mig=3"}, "scaled: pool mig from 2 nodes to 3 nodes", "3", "{}"},
		{[]string{"mig", "--replicas", "3"}, "unchanged: pool mig has 3 nodes", "3", "{}"},
		{[]string{"mig", "--min", "1", "--max", "4"}, "scaled: pool mig from 3 nodes to between 1 and 4 nodes", "null", bounds},
		{[]string{"mig", "--max", "6"}, "scaled: pool mig from between 1 and 4 nodes to between 1 and 6 nodes", "null", strings.Replace(bounds, `"4"`, `"6"`, 1)},
		{[]string{"mig=1"}, "scaled: pool mig from between 1 and 6 nodes to 1 node", "1", "{}"},
	} {
		w.run(t, append([]string{"cluster", "scale", "training"}, c.args...)...).expect(t, 0, "cluster.cluster.x-k8s.io/training "+c.out+"\n", "")
		pools := w.cluster(t, team, "training").Spec.Topology.Workers.MachineDeployments
		if pools[0].Name != "mig" || len(pools) != 2 {
			t.Fatalf("pools %+v", pools)
		}
		annotations := pools[0].Metadata.Annotations
		if annotations == nil {
			annotations = map[string]string{}
		}
		if replicas, got := asJSON(t, pools[0].Replicas), asJSON(t, annotations); replicas != c.replicas || got != c.pattern {
			t.Errorf("%q: replicas %s, annotations %s", c.args, replicas, got)
		}
	}
}

func asJSON(t *testing.T, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (w world) unknownPool(t *testing.T) {
	w.run(t, "cluster", "scale", "training", "gpu=3").expect(t, 1, "", "sendan: scale cluster training: there is no pool \"gpu\"; there are mig, big\n")
	w.run(t, "cluster", "scale", "edge", "gpu=3").expect(t, 1, "", "sendan: scale cluster edge: there is no pool \"gpu\"; the cluster has none\n")
	w.run(t, "cluster", "scale", "nothing", "gpu=3").expect(t, 1, "",
		"sendan: scale cluster nothing: there is no cluster \"nothing\" in namespace team-vision; choose another namespace with -n, or see all with: sendan cluster get -A\n")
}

func (w world) gets(t *testing.T) {
	w.run(t, "cluster", "get", "training").expect(t, 1, "",
		"sendan: cluster training is there, and the fleet manager has not recorded it yet; try again in a moment, else see whether the fleet manager runs\n")
	member := &fleetv1.FleetMember{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "training"}}
	if err := w.Client.Create(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	member.Status = fleetv1.FleetMemberStatus{Health: fleetv1.HealthHealthy, Tenant: team, Nodes: fleetv1.NodeCounts{Text: "2/2"}}
	if err := w.Client.Status().Update(t.Context(), member); err != nil {
		t.Fatal(err)
	}
	w.run(t, "cluster", "get").expect(t, 0, `NAME       TENANT        SITE   RELEASE   VERSION   HEALTH    NODES   POOLS   MESSAGE
training   team-vision   -      -         -         Healthy   2/2     -       -
`, "")
	w.run(t, "cluster", "get", "-n", "default").expect(t, 0, "", "There are no clusters in namespace default.\n")
	w.run(t, "cluster", "get", "-A", "-o", "name").expect(t, 0, "cluster.cluster.x-k8s.io/training\n", "")
	var list struct {
		Kind  string
		Items []fleetv1.FleetMember
	}
	if err := json.Unmarshal([]byte(w.succeeds(t, "cluster", "get", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "List" || len(list.Items) != 1 || list.Items[0].Kind != "FleetMember" || list.Items[0].ManagedFields != nil {
		t.Errorf("list %+v", list)
	}
	if page := w.succeeds(t, "cluster", "get", "training"); !strings.Contains(page, "Health      Healthy\n") {
		t.Error(page)
	}
}

func (w world) kubeconfig(t *testing.T) {
	w.run(t, "cluster", "kubeconfig", "training").expect(t, 1, "",
		"sendan: cluster training has no kubeconfig yet, since its control plane is not there; see: sendan cluster get training -n team-vision\n")
	text, err := os.ReadFile(w.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "training-kubeconfig"}, Data: map[string][]byte{"value": text}}
	if err := w.Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
	w.run(t, "cluster", "kubeconfig", "training").expect(t, 0, string(text), "")
	file := filepath.Join(t.TempDir(), "config")
	w.run(t, "cluster", "kubeconfig", "training", "--merge", file).expect(t, 0, "",
		"Merged into "+file+"; use it with: kubectl --context team-vision/training\n")
	// The merged context works: here it leads to the management cluster itself.
	run(t, "cluster", "get", "-o", "name", "-n", team, "--kubeconfig", file, "--context", "team-vision/training").expect(t, 0, "cluster.cluster.x-k8s.io/training\n", "")
}

// diffsAddon has the management cluster for a tenant cluster, by the kubeconfig of the test before.
func (w world) diffsAddon(t *testing.T) {
	w.run(t, "addon", "diff", "motd", "training").expect(t, 1, "ConfigMap default/motd created\n", "")
	w.run(t, "addon", "diff", "other", "training").expect(t, 2, "", "sendan: there is no add-on \"other\"; see: sendan addon list\n")
}

func (w world) diffsReleases(t *testing.T) {
	w.run(t, "release", "diff", "v1-36-3", "v1-36-4").expect(t, 1, "Kubernetes\n  ~ version: v1.36.3 → v1.36.4\n", "")
	w.run(t, "release", "diff", "v1-36-3", "v1-36-3").expect(t, 0, "", "")
	w.run(t, "release", "diff", "v1-36-3", "v1-37-0").expect(t, 2, "", "sendan: there is no release \"v1-37-0\"; see: sendan release list\n")
}

// member has the rights that the fleet manager gives to a member of a tenant.
func (w world) member(t *testing.T) {
	read := []string{"get", "list", "watch"}
	rule := func(group, resource string, names ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: read, ResourceNames: names}
	}
	subjects := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "mei"}}
	for _, object := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "own"}, Rules: []rbacv1.PolicyRule{rule("fleet.sendan.io", "tenants", team), rule("fleet.sendan.io", "sites", "tokyo")}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: "own"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "own"}, Subjects: subjects},
		&rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "viewer"}, Rules: []rbacv1.PolicyRule{rule("", "namespaces"), rule("fleet.sendan.io", "fleetmembers")}},
		&rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "viewer"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "viewer"}, Subjects: subjects},
	} {
		if err := w.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	tenant := &fleetv1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: team}}
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(tenant), tenant); err != nil {
		t.Fatal(err)
	}
	tenant.Status.Usage.Clusters = 2
	if err := w.Client.Status().Update(t.Context(), tenant); err != nil {
		t.Fatal(err)
	}
	record := &fleetv1.FleetMember{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "training"}}
	if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(record), record); err != nil {
		t.Fatal(err)
	}
	record.Status.Tenant, record.Status.Usage.Nodes = team, 5
	if err := w.Client.Status().Update(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	const usage = "TENANT        WHAT       USED   LIMIT   SHARE\nteam-vision   clusters   2      3       ██████░░░░ 66 %\n"
	envtest.Eventually(t, timeout, func() error { // the authorizer learns of roles by a watch
		if r := w.run(t, "tenant", "usage", "--as", "mei"); r.out != usage {
			return fmt.Errorf("%s%s", r.out, r.errors)
		}
		return nil
	})
	w.run(t, "tenant", "usage", team, "--as", "mei").expect(t, 0, usage, "")
	if r := w.run(t, "tenant", "usage", "-o", "wide", "--as", "mei"); !strings.Contains(r.out, "team-vision/training   5 ") {
		t.Errorf("what each cluster takes: %+v", r)
	}
	if r := w.run(t, "tenant", "usage", "-A", "--as", "mei"); r.code != 1 || !strings.Contains(r.errors, "forbidden") {
		t.Errorf("all tenants: %+v", r)
	}
	w.run(t, "site", "list", "--as", "mei", "-o", "name").expect(t, 0, "site.fleet.sendan.io/tokyo\n", "")
}

func (w world) lists(t *testing.T) {
	for args, word := range map[string]string{
		"template list": "a100-mig", "release list -o wide": "a100-mig,h100", "site list": "az1", "addon list": "v1.0.0", "tenant usage -A": "66 %", "template list -o yaml": "kind: NodeTemplate",
	} {
		if out := w.succeeds(t, strings.Fields(args)...); !strings.Contains(out, word) {
			t.Errorf("sendan %s shows no %s:\n%s", args, word, out)
		}
	}
}

func (w world) completes(t *testing.T) {
	for args, want := range map[string]string{
		"cluster kubeconfig ":                "edge training",
		"cluster scale training m":           "mig",
		"release diff v1-36-3 ":              "v1-36-4",
		"cluster create x --pool mig=a":      "mig=a100-mig",
		"cluster create x --site ":           "tokyo",
		"cluster create x --release v1-36-4": "v1-36-4",
		"addon diff motd tr":                 "training",
		"site list -o ":                      "table wide json yaml name",
	} {
		words := strings.Split(args, " ")
		last := len(words) - 1
		line := slices.Concat([]string{"__complete"}, words[:last], []string{"-n", team, "--kubeconfig", w.Kubeconfig}, words[last:])
		if strings.HasPrefix(words[last-1], "-") { // a flag and its value belong together
			line = slices.Concat([]string{"__complete"}, words[:last-1], []string{"-n", team, "--kubeconfig", w.Kubeconfig}, words[last-1:])
		}
		offered, _, _ := strings.Cut(run(t, line...).out, "\n:")
		if got := strings.Join(strings.Fields(offered), " "); got != want {
			t.Errorf("sendan %s is completed with %q, want %q", args, got, want)
		}
	}
}

func (w world) deletes(t *testing.T) {
	w.run(t, "cluster", "delete", "training").expect(t, 2, "", "sendan: cluster team-vision/training would be deleted, and there is no terminal to ask at; say --yes\n")
	w.cluster(t, team, "training")
	w.run(t, "cluster", "delete", "training", "--yes", "--wait").expect(t, 0,
		"cluster.cluster.x-k8s.io/training is being deleted\ncluster.cluster.x-k8s.io/training is gone\n", "")
	held := w.cluster(t, team, "edge")
	held.Finalizers = []string{"test.sendan.io/hold"}
	if err := w.Client.Update(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	if r := w.run(t, "cluster", "delete", "edge", "--yes", "--wait", "--timeout", "1ms"); r.code != 1 || r.errors != "deleting\nsendan: gave up after 1ms, and the work goes on: deleting\n" {
		t.Errorf("a deletion that takes long: %+v", r)
	}
}

func TestWrongUsageIsToldWithTheFix(t *testing.T) {
	for args, want := range map[string]string{
		"cluser":                                             `sendan has no command "cluser": did you mean cluster?`,
		"cluster make":                                       `sendan cluster has no command "make": there are create, delete, get, kubeconfig, scale`,
		"cluster scale training":                             "usage: sendan cluster scale NAME (POOL=REPLICAS | POOL --replicas N | POOL --min N --max N) [flags]",
		"cluster scale training mig":                         "say how large the pool is to be: POOL=REPLICAS, --replicas, or --min and --max",
		"cluster scale training mig=2 --max 3":               "a number of nodes and --min or --max exclude each other: a pool either has a size or scales by itself",
		"cluster scale training mig=two":                     `"two" is not a number of nodes`,
		"cluster scale training mig --min 3 --max 2":         "--min 3 is above --max 2",
		"cluster create training":                            "say what the cluster is to have: --pool NAME=TEMPLATE:REPLICAS, or --single-node TEMPLATE; see: sendan template list",
		"cluster create training --pool mig":                 `--pool "mig" is not of the form NAME=TEMPLATE:REPLICAS, such as mig=a100-mig:2, or NAME=TEMPLATE`,
		"cluster create training --pool a=b:x":               `--pool "a=b:x": "x" is not a number of nodes`,
		"cluster create training --pool a=b --pool a=c":      `--pool "a=c": there is a pool of that name already`,
		"cluster create training --pool a=b --dry-run=maybe": `--dry-run "maybe" is not known: choose none, client, server`,
		"cluster get -o xml":                                 `--output "xml" is not known: choose table, wide, json, yaml, name`,
		"cluster get --bogus":                                "unknown flag: --bogus",
	} {
		r := run(t, strings.Fields(args)...)
		r.expect(t, 2, "", "sendan: "+want+"\n")
	}
}

func TestAsAPluginItCallsItselfWhatTheUserTypes(t *testing.T) {
	var out bytes.Buffer
	root := &cobra.Command{Use: "sendan"}
	root.SetOut(&out)
	cli.AddTo(root, "/opt/bin/kubectl-sendan")
	root.SetArgs([]string{"cluster", "scale", "--help"})
	if err := root.ExecuteContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "  kubectl sendan cluster scale NAME") {
		t.Error(out.String())
	}
}
