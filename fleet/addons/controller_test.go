package addons_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/addons"
	builtins "github.com/sendan-io/sendan/templates/addons"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	soon = 30 * time.Second
	team = "team-a"
	// recheck is short, so that a test sees many passes.
	recheck = time.Second
)

// world is a management cluster with add-ons. Its API server is that of all tenant clusters too.
type world struct {
	*envtest.Env
	tenants *tenants
	// writes to the management cluster by the controllers, Events aside.
	writes *writes
}

// tenants can be visited. Each cluster has a kube-system of its own in the one API server: the namespace
// kube-system-<cluster>, which its client sees as kube-system.
type tenants struct {
	config *rest.Config
	scheme client.Options

	mutex   sync.Mutex
	reached map[client.ObjectKey]*tenant
}

// tenant counts the requests to one cluster.
type tenant struct {
	client.Client
	connected atomic.Bool
	hangs     atomic.Bool
	reads     atomic.Int64
	dryRuns   atomic.Int64
	writes    atomic.Int64
	// firstWrite is its method and path.
	firstWrite atomic.Pointer[string]
}

func (ts *tenants) of(key client.ObjectKey) *tenant {
	ts.mutex.Lock()
	defer ts.mutex.Unlock()
	return ts.reached[key]
}

func (ts *tenants) add(t testing.TB, key client.ObjectKey) *tenant {
	t.Helper()
	made := &tenant{}
	config := rest.CopyConfig(ts.config)
	config.QPS, config.DisableCompression, config.ContentType = -1, true, "application/json"
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return renaming{next: next, tenant: made, namespace: "kube-system-" + key.Name}
	})
	var err error
	if made.Client, err = client.New(config, ts.scheme); err != nil {
		t.Fatal(err)
	}
	ts.mutex.Lock()
	defer ts.mutex.Unlock()
	ts.reached[key] = made
	return made
}

// renaming gives a tenant cluster its own kube-system, and counts.
type renaming struct {
	next      http.RoundTripper
	tenant    *tenant
	namespace string
}

var everywhere = regexp.MustCompile(`^(/api/v1|/apis/apps/v1)/(configmaps|services|deployments|daemonsets|statefulsets)$`)

func (r renaming) RoundTrip(request *http.Request) (*http.Response, error) {
	if r.tenant.hangs.Load() {
		<-request.Context().Done()
		return nil, request.Context().Err()
	}
	switch {
	case request.Method == http.MethodGet:
		r.tenant.reads.Add(1)
	case request.URL.Query().Get("dryRun") != "":
		r.tenant.dryRuns.Add(1)
	default:
		r.tenant.writes.Add(1)
		r.tenant.firstWrite.CompareAndSwap(nil, ptr.To(request.Method+" "+request.URL.Path))
	}
	request = request.Clone(request.Context())
	request.URL.Path = strings.Replace(request.URL.Path, "/namespaces/kube-system/", "/namespaces/"+r.namespace+"/", 1)
	// A list of all there are is of this cluster's.
	request.URL.Path = everywhere.ReplaceAllString(request.URL.Path, "$1/namespaces/"+r.namespace+"/$2")
	if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.ReplaceAll(body, []byte(`"namespace":"kube-system"`), []byte(`"namespace":"`+r.namespace+`"`))
		request.Body, request.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	response, err := r.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	body = bytes.ReplaceAll(body, []byte(`"namespace":"`+r.namespace+`"`), []byte(`"namespace":"kube-system"`))
	response.Body, response.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	response.Header.Del("Content-Length")
	return response, nil
}

func (ts *tenants) visit(ctx context.Context, key client.ObjectKey, look func(context.Context, client.Client) error) error {
	found := ts.of(key)
	if found == nil || !found.connected.Load() {
		return &url.Error{Op: http.MethodGet, URL: key.String(), Err: errors.New("connection refused")}
	}
	return look(ctx, found)
}

func (ts *tenants) connect(key client.ObjectKey, connected bool) {
	ts.of(key).connected.Store(connected)
}

func TestAddons(t *testing.T) {
	w := start(t, envtest.Start(t, addons.SetupWebhooksWithManager), recheck)
	t.Run("the webhook names what is wrong", w.webhook)
	t.Run("add-ons come up in their order, and their health is told", w.lifeOfAnAddon)
	t.Run("drift is corrected", w.drift)
	t.Run("what is no longer rendered is removed, and so is the whole add-on", w.removal)
	t.Run("an orphaned add-on stays, a suspended one is left alone", w.orphanedAndSuspended)
	t.Run("a bad add-on holds up only those that depend on it", w.oneBad)
	t.Run("kinds come before their objects", w.kindsFirst)
	t.Run("an unreachable cluster keeps its status and holds up no other", w.unreachable)
	t.Run("a lost status and a lost inventory come back", w.lost)
	t.Run("a missing release removes nothing", w.missingRelease)
	t.Run("the CLI sees what would happen", w.diff)
	t.Run("the API server takes every builtin", w.builtins)
	t.Run("settled clusters are not written to", w.settled)
}

func start(t testing.TB, env *envtest.Env, recheck time.Duration) world {
	t.Helper()
	w := world{Env: env, writes: &writes{}, tenants: &tenants{
		config: env.Config, scheme: client.Options{Scheme: env.Scheme}, reached: map[client.ObjectKey]*tenant{},
	}}
	counted := rest.CopyConfig(env.Config)
	counted.QPS = -1
	counted.Wrap(func(next http.RoundTripper) http.RoundTripper { return counter{next: next, writes: w.writes} })
	mgr, err := ctrl.NewManager(counted, ctrl.Options{Scheme: env.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	err = addons.SetupWithManager(t.Context(), mgr, addons.Options{
		Clock: clockwork.NewRealClock(), Visit: w.tenants.visit, Recheck: recheck, ClusterTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
	w.namespace(t, team)
	return w
}

// writes are the requests that were made, in their order.
type writes struct {
	mutex    sync.Mutex
	requests []string
}

func (w *writes) since(count int) []string {
	w.mutex.Lock()
	defer w.mutex.Unlock()
	return slices.Clone(w.requests[count:])
}

type counter struct {
	next   http.RoundTripper
	writes *writes
}

func (c counter) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Method != http.MethodGet && !strings.Contains(request.URL.Path, "/events") {
		c.writes.mutex.Lock()
		c.writes.requests = append(c.writes.requests, request.Method+" "+request.URL.Path)
		c.writes.mutex.Unlock()
	}
	return c.next.RoundTrip(request)
}

func (w world) create(t testing.TB, object client.Object) {
	t.Helper()
	if err := w.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func (w world) namespace(t testing.TB, name string) {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := w.Client.Create(t.Context(), namespace); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// cluster makes a connected Cluster with its FleetMember. The label of its name lets an add-on of a test select it alone.
func (w world) cluster(t testing.TB, name string) *tenant {
	t.Helper()
	w.namespace(t, "kube-system-"+name)
	key := client.ObjectKey{Namespace: team, Name: name}
	tenant := w.tenants.add(t, key)
	tenant.connected.Store(true)
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name, Labels: map[string]string{"cluster": name}}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: "infrastructure.cluster.x-k8s.io", Kind: "SendanCluster", Name: name}
	w.create(t, cluster)
	before := cluster.DeepCopy()
	cluster.Status.Initialization.ControlPlaneInitialized = ptr.To(true)
	cluster.Status.ControlPlane = &clusterv1.ClusterControlPlaneStatus{Versions: []clusterv1.StatusVersion{{Version: "v1.36.3", Replicas: 1}}}
	if err := w.Client.Status().Patch(t.Context(), cluster, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	w.create(t, &fleetv1.FleetMember{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: name}})
	return tenant
}

// addon is one for that cluster.
func (w world) addon(t testing.TB, cluster, name, manifests string, change ...func(*fleetv1.AddonSpec)) *fleetv1.Addon {
	t.Helper()
	addon := &fleetv1.Addon{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: fleetv1.AddonSpec{
		ClusterSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"cluster": cluster}},
		Versions:        []fleetv1.AddonVersion{{Version: "v1", Source: fleetv1.AddonSource{Manifests: manifests}}},
	}}
	for _, change := range change {
		change(&addon.Spec)
	}
	w.create(t, addon)
	return addon
}

func (w world) change(t *testing.T, addon *fleetv1.Addon, change func(*fleetv1.AddonSpec)) {
	t.Helper()
	before := addon.DeepCopy()
	change(&addon.Spec)
	if err := w.Client.Patch(t.Context(), addon, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func dependsOn(names ...string) func(*fleetv1.AddonSpec) {
	return func(spec *fleetv1.AddonSpec) { spec.DependsOn = names }
}

func manifests(text string) func(*fleetv1.AddonSpec) {
	return func(spec *fleetv1.AddonSpec) { spec.Versions[0].Source.Manifests = text }
}

func configMap(name, value string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: kube-system}\ndata: {key: %q}\n---\n", name, value)
}

func deployment(name string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, namespace: kube-system}
spec:
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s}}
    spec: {containers: [{name: main, image: "example/%[1]s:v1"}]}
---
`, name)
}

// expect returns the add-on of a cluster when it is as it should be.
func (w world) expect(t testing.TB, cluster, addon string, is func(fleetv1.MemberAddon) bool) {
	t.Helper()
	eventually(t, func() error {
		member := &fleetv1.FleetMember{}
		if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: team, Name: cluster}, member); err != nil {
			return err
		}
		i := slices.IndexFunc(member.Status.Addons, func(a fleetv1.MemberAddon) bool { return a.Name == addon })
		var found fleetv1.MemberAddon
		if i >= 0 {
			found = member.Status.Addons[i]
		}
		if !is(found) {
			return fmt.Errorf("%s in %s is %+v", addon, cluster, found)
		}
		return nil
	})
}

// eventually is [envtest.Eventually], for benchmarks too.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", soon, err)
		case <-ticker.C:
		}
	}
}

func phase(phase fleetv1.AddonPhase, message string) func(fleetv1.MemberAddon) bool {
	return func(addon fleetv1.MemberAddon) bool {
		return addon.Phase == phase && strings.Contains(addon.Message, message)
	}
}

func absent(addon fleetv1.MemberAddon) bool { return addon.Name == "" }

// data of a ConfigMap of kube-system; an error when there is none.
func (tn *tenant) data(ctx context.Context, name string) (map[string]string, error) {
	found := &corev1.ConfigMap{}
	err := tn.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: name}, found)
	return found.Data, err
}

func (tn *tenant) expectGone(t *testing.T, name string) {
	t.Helper()
	eventually(t, func() error {
		_, err := tn.data(t.Context(), name)
		if err == nil {
			return fmt.Errorf("ConfigMap %s is still there", name)
		}
		return client.IgnoreNotFound(err)
	})
}

func (tn *tenant) expectValue(t *testing.T, name, value string) {
	t.Helper()
	eventually(t, func() error {
		data, err := tn.data(t.Context(), name)
		if err != nil {
			return err
		}
		if data["key"] != value {
			return fmt.Errorf("ConfigMap %s has %v, want %q", name, data, value)
		}
		return nil
	})
}

// passes waits until the cluster was looked at so many times more.
func (tn *tenant) passes(t testing.TB, times int64) {
	t.Helper()
	before := tn.dryRuns.Load()
	eventually(t, func() error {
		if now := tn.dryRuns.Load(); now < before+times {
			return fmt.Errorf("%d dry runs, want %d more than %d", now, times, before)
		}
		return nil
	})
}

func (tn *tenant) deploymentIs(t *testing.T, name string, available int32) {
	t.Helper()
	found := &appsv1.Deployment{}
	eventually(t, func() error {
		return tn.Get(t.Context(), client.ObjectKey{Namespace: "kube-system", Name: name}, found)
	})
	before := found.DeepCopy()
	found.Status = appsv1.DeploymentStatus{
		ObservedGeneration: found.Generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: available, AvailableReplicas: available,
		Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "NewReplicaSetAvailable"},
		},
	}
	if err := tn.Status().Patch(t.Context(), found, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
}

func (w world) lifeOfAnAddon(t *testing.T) {
	c := w.cluster(t, "life")
	w.addon(t, "life", "network", deployment("network"))
	addon := w.addon(t, "life", "plugin", configMap("plugin", "${CLUSTER_NAME} ${KUBERNETES_VERSION} ${REGION:=nowhere}"), dependsOn("network"))
	w.expect(t, "life", "plugin", phase(fleetv1.AddonPending, "it waits for the add-on network, which is Progressing"))
	w.expect(t, "life", "network", phase(fleetv1.AddonProgressing, "Deployment kube-system/network: "))
	if _, err := c.data(t.Context(), "plugin"); !apierrors.IsNotFound(err) {
		t.Errorf("plugin did not wait: %v", err)
	}

	c.deploymentIs(t, "network", 1)
	w.expect(t, "life", "network", phase(fleetv1.AddonHealthy, ""))
	w.expect(t, "life", "plugin", func(addon fleetv1.MemberAddon) bool {
		return addon.Phase == fleetv1.AddonHealthy && addon.Version == "v1" && strings.HasPrefix(addon.Digest, "sha256:")
	})
	c.expectValue(t, "plugin", "life v1.36.3 nowhere")
	// Objects are applied by PATCH; the inventory is made before the first of them.
	if first := *c.firstWrite.Load(); first != "POST /api/v1/namespaces/kube-system/configmaps" {
		t.Errorf("the first write was %s", first)
	}

	// What has been applied is kept in shape while its dependency has trouble.
	c.deploymentIs(t, "network", 0)
	w.expect(t, "life", "network", phase(fleetv1.AddonProgressing, ""))
	w.expect(t, "life", "plugin", phase(fleetv1.AddonHealthy, ""))

	eventually(t, func() error {
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(addon), addon); err != nil {
			return err
		}
		if addon.Status.Clusters != 1 || addon.Status.Healthy != 1 || !conditions.IsTrue(addon, fleetv1.ReadyCondition) {
			return fmt.Errorf("the Addon says %+v", addon.Status)
		}
		return nil
	})
}

func (w world) drift(t *testing.T) {
	c := w.cluster(t, "drift")
	w.addon(t, "drift", "drifting", configMap("drifting", "right"))
	w.expect(t, "drift", "drifting", phase(fleetv1.AddonHealthy, ""))
	wrong := &corev1.ConfigMap{}
	if err := c.Get(t.Context(), client.ObjectKey{Namespace: "kube-system", Name: "drifting"}, wrong); err != nil {
		t.Fatal(err)
	}
	wrong.Data["key"] = "wrong"
	if err := c.Update(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	c.expectValue(t, "drifting", "right")
	if err := c.Delete(t.Context(), wrong); err != nil {
		t.Fatal(err)
	}
	c.expectValue(t, "drifting", "right")
}

func (w world) removal(t *testing.T) {
	c := w.cluster(t, "removal")
	addon := w.addon(t, "removal", "shrinking", configMap("stays", "1")+configMap("goes", "1")+configMap("taken", "1"))
	w.expect(t, "removal", "shrinking", phase(fleetv1.AddonHealthy, ""))
	// Someone takes one over: what does not carry the add-on's label any more is not removed.
	taken := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "taken"}}
	w.change(t, addon, manifests(configMap("stays", "2")+configMap("taken", "1")))
	c.expectGone(t, "goes")
	c.expectValue(t, "stays", "2")
	w.change(t, addon, func(spec *fleetv1.AddonSpec) { spec.Suspended = ptr.To(true) })
	w.expect(t, "removal", "shrinking", phase(fleetv1.AddonSuspended, ""))
	if err := c.Patch(t.Context(), taken, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"labels":null}}`))); err != nil {
		t.Fatal(err)
	}
	if err := w.Client.Delete(t.Context(), addon); err != nil {
		t.Fatal(err)
	}
	c.expectGone(t, "stays")
	w.expect(t, "removal", "shrinking", absent)
	c.expectValue(t, "taken", "1")
	inventory, err := c.data(t.Context(), "sendan-addons")
	if err != nil || len(inventory) > 0 {
		t.Errorf("the inventory still has %v (%v)", inventory, err)
	}
}

func (w world) orphanedAndSuspended(t *testing.T) {
	c := w.cluster(t, "orphan")
	addon := w.addon(t, "orphan", "left", configMap("left", "1"), func(spec *fleetv1.AddonSpec) { spec.Deletion = fleetv1.AddonOrphan })
	still := w.addon(t, "orphan", "still", configMap("still", "1"))
	w.expect(t, "orphan", "left", phase(fleetv1.AddonHealthy, ""))
	w.change(t, still, func(spec *fleetv1.AddonSpec) {
		spec.Suspended = ptr.To(true)
		manifests(configMap("still", "2"))(spec)
	})
	if err := w.Client.Delete(t.Context(), addon); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "orphan", "left", absent)
	w.expect(t, "orphan", "still", func(addon fleetv1.MemberAddon) bool {
		return addon.Phase == fleetv1.AddonSuspended && addon.Version == "v1" && addon.Digest != ""
	})
	c.expectValue(t, "left", "1")
	c.expectValue(t, "still", "1")
	w.change(t, still, func(spec *fleetv1.AddonSpec) { spec.Suspended = nil })
	c.expectValue(t, "still", "2")
}

func (w world) oneBad(t *testing.T) {
	c := w.cluster(t, "bad")
	refused := "apiVersion: v1\nkind: Service\nmetadata: {name: refused, namespace: kube-system}\nspec: {ports: [{port: 99999999}]}\n"
	bad := w.addon(t, "bad", "b-bad", refused)
	w.addon(t, "bad", "a-fine", configMap("fine", "1"))
	w.addon(t, "bad", "c-behind", configMap("behind", "1"), dependsOn("b-bad"))
	w.expect(t, "bad", "a-fine", phase(fleetv1.AddonHealthy, ""))
	w.expect(t, "bad", "b-bad", phase(fleetv1.AddonFailed, "Service/kube-system/refused dry-run failed (Invalid)"))
	w.expect(t, "bad", "c-behind", phase(fleetv1.AddonPending, "it waits for the add-on b-bad, which is Failed"))
	eventually(t, func() error {
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(bad), bad); err != nil {
			return err
		}
		if conditions.GetReason(bad, fleetv1.ReadyCondition) != fleetv1.ClustersFailingReason ||
			conditions.GetMessage(bad, fleetv1.ReadyCondition) != "it fails in 1 of 1 clusters: team-a/bad; status.addons of their FleetMembers says why" {
			return fmt.Errorf("the Addon says %+v", bad.Status)
		}
		return nil
	})
	w.change(t, bad, manifests(configMap("repaired", "1")))
	c.expectValue(t, "behind", "1")

	missing := w.addon(t, "bad", "d-missing", "", func(spec *fleetv1.AddonSpec) {
		spec.Versions[0].Source = fleetv1.AddonSource{ConfigMap: &fleetv1.ConfigMapReference{Namespace: team, Name: "manifests"}}
	})
	w.expect(t, "bad", "d-missing", phase(fleetv1.AddonFailed, "the ConfigMap team-a/manifests with the manifests does not exist"))
	eventually(t, func() error {
		if err := w.Client.Get(t.Context(), client.ObjectKeyFromObject(missing), missing); err != nil {
			return err
		}
		if reason := conditions.GetReason(missing, fleetv1.ReadyCondition); reason != fleetv1.SourceNotFoundReason {
			return fmt.Errorf("the Addon's reason is %q", reason)
		}
		return nil
	})
	w.create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: team, Name: "manifests"}, Data: map[string]string{"a.yaml": configMap("found", "1")}})
	c.expectValue(t, "found", "1")
}

func (w world) kindsFirst(t *testing.T) {
	w.cluster(t, "kinds")
	w.addon(t, "kinds", "kinds", `apiVersion: things.example.com/v1
kind: Thing
metadata: {name: one, namespace: things}
spec: {size: 1}
---
apiVersion: v1
kind: Namespace
metadata: {name: things}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.things.example.com}
spec:
  group: things.example.com
  names: {kind: Thing, listKind: ThingList, plural: things, singular: thing}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {size: {type: integer}}}}}}
`)
	w.expect(t, "kinds", "kinds", phase(fleetv1.AddonHealthy, ""))
}

func (w world) unreachable(t *testing.T) {
	c := w.cluster(t, "away")
	addon := w.addon(t, "away", "away", configMap("away", "1"))
	w.expect(t, "away", "away", phase(fleetv1.AddonHealthy, ""))
	key := client.ObjectKey{Namespace: team, Name: "away"}
	w.tenants.connect(key, false)
	kept := func(addon fleetv1.MemberAddon) bool {
		return addon.Phase == fleetv1.AddonHealthy && addon.Version == "v1" && strings.HasPrefix(addon.Message, "unreachable since 20")
	}
	w.expect(t, "away", "away", kept)

	// Connected, and nothing is answered: others go on meanwhile.
	c.hangs.Store(true)
	w.tenants.connect(key, true)
	other := w.cluster(t, "there")
	w.addon(t, "there", "there", configMap("there", "1"))
	other.expectValue(t, "there", "1")
	w.expect(t, "away", "away", kept)

	w.change(t, addon, manifests(configMap("away", "2")))
	c.hangs.Store(false)
	w.tenants.connect(key, true)
	c.expectValue(t, "away", "2")
	w.expect(t, "away", "away", func(addon fleetv1.MemberAddon) bool {
		return addon.Phase == fleetv1.AddonHealthy && addon.Message == ""
	})
}

func (w world) lost(t *testing.T) {
	c := w.cluster(t, "lost")
	addon := w.addon(t, "lost", "lost", configMap("first", "1")+configMap("second", "1"))
	w.expect(t, "lost", "lost", phase(fleetv1.AddonHealthy, ""))
	member := &fleetv1.FleetMember{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: team, Name: "lost"}, member); err != nil {
		t.Fatal(err)
	}
	before := member.DeepCopy()
	member.Status = fleetv1.FleetMemberStatus{}
	if err := w.Client.Status().Patch(t.Context(), member, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "lost", "lost", func(addon fleetv1.MemberAddon) bool { return addon == before.Status.Addons[0] })

	// Without its inventory it still finds what it applied itself, and only that.
	stranger := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "stranger", Labels: map[string]string{fleetv1.AddonLabel: "lost"}}}
	if err := c.Create(t.Context(), stranger); err != nil {
		t.Fatal(err)
	}
	key := client.ObjectKey{Namespace: team, Name: "lost"}
	w.tenants.connect(key, false)
	w.expect(t, "lost", "lost", func(addon fleetv1.MemberAddon) bool { return strings.HasPrefix(addon.Message, "unreachable") })
	if err := c.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "sendan-addons"}}); err != nil {
		t.Fatal(err)
	}
	w.change(t, addon, manifests(configMap("second", "2")))
	w.tenants.connect(key, true)
	c.expectGone(t, "first")
	c.expectValue(t, "second", "2")
	if _, err := c.data(t.Context(), "stranger"); err != nil {
		t.Errorf("a stranger's object: %v", err)
	}
	inventory, err := c.data(t.Context(), "sendan-addons")
	if err != nil || !strings.Contains(inventory["lost"], "v1 ConfigMap kube-system/second") {
		t.Errorf("the inventory has %v (%v)", inventory, err)
	}
}

func (w world) missingRelease(t *testing.T) {
	c := w.cluster(t, "held")
	w.addon(t, "held", "held", configMap("held", "1"))
	w.expect(t, "held", "held", phase(fleetv1.AddonHealthy, ""))
	cluster := &clusterv1.Cluster{}
	if err := w.Client.Get(t.Context(), client.ObjectKey{Namespace: team, Name: "held"}, cluster); err != nil {
		t.Fatal(err)
	}
	before := cluster.DeepCopy()
	cluster.Labels = map[string]string{fleetv1.ReleaseLabel: "gone"} // and the add-on selects it no longer
	if err := w.Client.Patch(t.Context(), cluster, client.MergeFrom(before)); err != nil {
		t.Fatal(err)
	}
	w.expect(t, "held", "held", phase(fleetv1.AddonHealthy, "the Release gone of the cluster does not exist"))
	c.expectValue(t, "held", "1")
}

func (w world) diff(t *testing.T) {
	c := w.cluster(t, "diff")
	addon := w.addon(t, "diff", "diff", configMap("same", "1")+configMap("other", "1")+configMap("less", "1"))
	w.expect(t, "diff", "diff", phase(fleetv1.AddonHealthy, ""))
	key := client.ObjectKey{Namespace: team, Name: "diff"}
	w.tenants.connect(key, false)
	t.Cleanup(func() { w.tenants.connect(key, true) })
	w.expect(t, "diff", "diff", func(addon fleetv1.MemberAddon) bool { return addon.Message != "" })
	w.change(t, addon, manifests(configMap("same", "1")+configMap("other", "2")+configMap("more", "1")))
	w.addon(t, "diff", "failing", configMap("same", "1"))
	before := c.writes.Load()
	changes, err := addons.Diff(t.Context(), addons.DiffOptions{Management: w.Client, Tenant: c, Cluster: key})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, change := range changes {
		got = append(got, strings.TrimSpace(change.Addon+" "+change.Action+" "+change.Object))
		if change.Action == addons.Changed && (!strings.Contains(change.Text, "-  key: \"1\"\n") || !strings.Contains(change.Text, "+  key: \"2\"\n")) {
			t.Errorf("the difference is %s", change.Text)
		}
	}
	want := []string{
		"diff unchanged ConfigMap kube-system/same", "diff changed ConfigMap kube-system/other", "diff created ConfigMap kube-system/more",
		"diff pruned ConfigMap kube-system/less", "failing failing",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if now := c.writes.Load(); now != before {
		t.Errorf("it wrote %d times", now-before)
	}
}

func (w world) builtins(t *testing.T) {
	w.cluster(t, "builtins")
	images := []string{
		"NVIDIA_DEVICE_PLUGIN_IMAGE", "OPENSTACK_CCM_IMAGE", "CINDER_CSI_IMAGE", "CSI_PROVISIONER_IMAGE", "CSI_ATTACHER_IMAGE", "CSI_RESIZER_IMAGE",
		"CSI_LIVENESS_PROBE_IMAGE", "CSI_NODE_DRIVER_REGISTRAR_IMAGE", "LOCAL_DNS_IMAGE",
	}
	for _, name := range builtins.Names() {
		w.addon(t, "builtins", name, "", func(spec *fleetv1.AddonSpec) {
			spec.Versions = nil
			for _, version := range builtins.Versions(name) {
				spec.Versions = append(spec.Versions, fleetv1.AddonVersion{Version: version, Source: fleetv1.AddonSource{Builtin: name}})
			}
			for _, image := range images {
				spec.Variables = append(spec.Variables, fleetv1.AddonVariable{Name: image, Value: ptr.To("example/image:v1")})
			}
		})
	}
	for _, name := range builtins.Names() {
		// No workload comes up without a controller and nodes.
		w.expect(t, "builtins", name, func(addon fleetv1.MemberAddon) bool {
			return addon.Phase == fleetv1.AddonProgressing && addon.Digest != ""
		})
	}
}

// settled is last: it takes all other add-ons away, so that nothing else changes.
func (w world) settled(t *testing.T) {
	if err := w.Client.DeleteAllOf(t.Context(), &fleetv1.Addon{}); err != nil {
		t.Fatal(err)
	}
	const clusters = 20
	w.addonForAll(t)
	var all []*tenant
	for i := range clusters {
		all = append(all, w.cluster(t, fmt.Sprintf("settled-%d", i)))
	}
	for i := range clusters {
		w.expect(t, fmt.Sprintf("settled-%d", i), "everywhere", phase(fleetv1.AddonHealthy, ""))
	}
	var members fleetv1.FleetMemberList
	if err := w.Client.List(t.Context(), &members); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		addon := &fleetv1.Addon{}
		if err := w.Client.Get(t.Context(), client.ObjectKey{Name: "everywhere"}, addon); err != nil {
			return err
		}
		if wanted := len(members.Items) - 1; int(addon.Status.Healthy) < wanted { // all but the one that is held
			return fmt.Errorf("%d of %d are healthy, want %d", addon.Status.Healthy, addon.Status.Clusters, wanted)
		}
		return nil
	})
	count := func() (total int64) {
		for _, c := range all {
			total += c.writes.Load()
		}
		return total
	}
	before, beforeHere := count(), len(w.writes.since(0))
	for _, c := range all {
		c.passes(t, 2*2) // two passes over two objects
	}
	if made := count() - before; made > 0 {
		t.Errorf("settled clusters were written to %d times", made)
	}
	if made := w.writes.since(beforeHere); len(made) > 0 {
		t.Errorf("the management cluster was written to: %q", made)
	}
}

func (w world) addonForAll(t testing.TB) {
	t.Helper()
	w.addon(t, "", "everywhere", configMap("one", "${CLUSTER_NAME}")+configMap("two", "${CLUSTER_NAME}"), func(spec *fleetv1.AddonSpec) {
		spec.ClusterSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "cluster", Operator: metav1.LabelSelectorOpExists}}}
	})
}
