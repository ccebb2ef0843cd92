package tenancy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/tenancy"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	systemNamespace = "sendan-fleet-system"
	manager         = "sendan-fleet-manager"
	soon            = 30 * time.Second
)

func TestTenancy(t *testing.T) {
	clock := clockwork.NewFakeClockAt(time.Now())
	options := tenancy.Options{SystemNamespace: systemNamespace, Clock: clock, Turns: tenancy.NewTurns()}
	p := platform{Env: envtest.Start(t, tenancy.SetupWebhooksWithManager(options)), clock: clock}
	p.install(t)
	p.startController(t, options)

	t.Run("a tenant gets namespaces and bindings, and keeps them", p.givesNamespacesAndBindings)
	t.Run("a namespace is adopted only when it was given away", p.adoptsWhatWasGivenAway)
	t.Run("members may do what their role says, and nothing else", p.givesRights)
	t.Run("a cluster is refused that its tenant may not have", p.refusesClusters)
	t.Run("a quota holds back growth and nothing else", p.holdsBackGrowth)
	t.Run("a ledger that is lost is written anew", p.rebuildsTheLedger)
	t.Run("a growth that was never stored is given back", p.givesBackWhatWasNeverStored)
	t.Run("a cluster that is being deleted is not held up", p.letsDeletedClustersGo)
	t.Run("a namespace that leaves the spec keeps counting while it has clusters", p.releasesNamespaces)
	t.Run("a tenant with clusters is not deleted, and one without leaves its namespaces", p.deletesTenants)
	t.Run("nothing is written once all is settled", p.settles)
	t.Run("a large tenant does not wait", p.isQuick)
	t.Run("growths are taken from the ledger while others come", p.keepsUp)
	t.Run("no storm of requests goes above a quota", p.withstandsAStorm)
}

// platform is an API server with the webhooks, and with the controller as the user that it is in production.
type platform struct {
	*envtest.Env
	clock *clockwork.FakeClock
}

func (p platform) install(t *testing.T) {
	t.Helper()
	p.create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: systemNamespace}})
	for _, file := range []string{"role.yaml", "tenant_roles.yaml"} {
		text, err := os.ReadFile(envtest.RepositoryFile(t, "config", "fleet", "rbac", file))
		if err != nil {
			t.Fatal(err)
		}
		decoder := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096)
		for {
			role := &rbacv1.ClusterRole{}
			if err := decoder.Decode(role); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			p.create(t, role)
		}
	}
	p.create(t, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: manager},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: manager},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: manager}},
	})
	p.create(t, classFor("tokyo", ""))
	p.create(t, classFor("osaka", ""))
	p.create(t, classFor("tokyo", "a100"))
	foreign := classFor("tokyo", "")
	foreign.Name, foreign.Labels = "foreign", nil
	p.create(t, foreign)
}

func (p platform) startController(t *testing.T, options tenancy.Options) {
	t.Helper()
	config := rest.CopyConfig(p.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: manager}
	mgr, err := ctrl.NewManager(config, ctrl.Options{Scheme: p.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := tenancy.SetupWithManager(t.Context(), mgr, options); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
}

func charged(charge fleetv1.NodeCharge) clusterv1.ObjectMeta {
	text, err := json.Marshal(charge)
	if err != nil {
		panic(err)
	}
	return clusterv1.ObjectMeta{Annotations: map[string]string{fleetv1.NodeChargeAnnotation: string(text)}}
}

// classFor is what release r1 is compiled to for a site, with the classes cpu, a100 (8 GPUs) and mig (56 slices of A100-40GB).
func classFor(site, singleNode string) *clusterv1.ClusterClass {
	class := &clusterv1.ClusterClass{ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "r1-" + site,
		Labels: map[string]string{fleetv1.SiteLabel: site, fleetv1.ReleaseLabel: "r1"}}}
	template := func(group, kind string) clusterv1.ClusterClassTemplateReference {
		return clusterv1.ClusterClassTemplateReference{APIVersion: group + "/v1", Kind: kind, Name: "r1"}
	}
	charges := map[string]fleetv1.NodeCharge{
		"cpu":  {VCPUs: 8, MemoryMiB: 16384},
		"a100": {VCPUs: 64, MemoryMiB: 524288, GPUModel: "A100-80GB", GPUs: 8},
		"mig":  {VCPUs: 64, MemoryMiB: 524288, GPUModel: "A100-40GB", MIGSlices: map[string]int64{"1g.5gb": 56}},
	}
	class.Spec.Infrastructure.TemplateRef = template("infrastructure.cluster.x-k8s.io", "SendanClusterTemplate")
	class.Spec.ControlPlane.TemplateRef = template("controlplane.cluster.x-k8s.io", "KubeadmControlPlaneTemplate")
	class.Spec.ControlPlane.Metadata = charged(fleetv1.NodeCharge{VCPUs: 4, MemoryMiB: 8192})
	if singleNode != "" {
		class.Name += "-" + singleNode
		class.Labels[fleetv1.SingleNodeLabel] = singleNode
		class.Spec.ControlPlane.Metadata = charged(charges[singleNode])
		return class
	}
	for _, name := range []string{"a100", "cpu", "mig"} {
		pool := clusterv1.MachineDeploymentClass{Class: name, Metadata: charged(charges[name])}
		pool.Bootstrap.TemplateRef = template("bootstrap.cluster.x-k8s.io", "KubeadmConfigTemplate")
		pool.Infrastructure.TemplateRef = template("infrastructure.cluster.x-k8s.io", "SendanMachineTemplate")
		class.Spec.Workers.MachineDeployments = append(class.Spec.Workers.MachineDeployments, pool)
	}
	return class
}

func tenant(name string, change func(*fleetv1.TenantSpec)) *fleetv1.Tenant {
	tenant := &fleetv1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: fleetv1.TenantSpec{
		Sites: []string{"tokyo"}, NodeTemplates: []string{"cpu", "a100"},
		Members: []fleetv1.TenantMember{
			{Group: name + "-admins", Role: fleetv1.RoleAdmin}, {Group: name + "-operators", Role: fleetv1.RoleOperator}, {Group: name + "-viewers", Role: fleetv1.RoleViewer},
		},
	}}
	if change != nil {
		change(&tenant.Spec)
	}
	return tenant
}

// limited has a quota of A100-80GB.
func limited(count int64) func(*fleetv1.TenantSpec) {
	return func(s *fleetv1.TenantSpec) {
		s.Quota.GPUs = []fleetv1.GPUQuota{{Model: "A100-80GB", Count: &count}}
	}
}

// cluster has a control plane of one and a pool "gpu" of nodes with 8 A100-80GB.
func cluster(namespace, name string, gpuNodes int32) *clusterv1.Cluster {
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{fleetv1.SiteLabel: "tokyo"}}}
	cluster.Spec.Topology = clusterv1.Topology{
		ClassRef: clusterv1.ClusterClassRef{Namespace: systemNamespace, Name: "r1-tokyo"}, Version: "v1.36.0",
		ControlPlane: clusterv1.ControlPlaneTopology{Replicas: ptr.To[int32](1)},
		Workers: clusterv1.WorkersTopology{MachineDeployments: []clusterv1.MachineDeploymentTopology{
			{Name: "gpu", Class: "a100", Replicas: &gpuNodes},
		}},
	}
	return cluster
}

func (p platform) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := p.Client.Create(t.Context(), object); err != nil {
		t.Fatalf("create %T %s: %v", object, object.GetName(), err)
	}
}

func (p platform) get(t *testing.T, object client.Object) {
	t.Helper()
	if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		t.Fatalf("get %T %s: %v", object, object.GetName(), err)
	}
}

// change writes an object as it is now, with a change.
func change[T client.Object](t *testing.T, p platform, object T, change func(T)) error {
	t.Helper()
	for {
		p.get(t, object)
		change(object)
		if err := p.Client.Update(t.Context(), object); !apierrors.IsConflict(err) {
			return err
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// await waits until a Tenant is as wanted.
func (p platform) await(t *testing.T, name string, want func(*fleetv1.Tenant) error) {
	t.Helper()
	envtest.Eventually(t, soon, func() error {
		tenant := &fleetv1.Tenant{}
		if err := p.Client.Get(t.Context(), client.ObjectKey{Name: name}, tenant); err != nil {
			return err
		}
		return want(tenant)
	})
}

func has(conditionType, reason, message string) func(*fleetv1.Tenant) error {
	return func(tenant *fleetv1.Tenant) error {
		condition := conditions.Get(tenant, conditionType)
		if condition == nil || condition.Reason != reason || !strings.Contains(condition.Message, message) {
			return fmt.Errorf("%s is %+v, want %s: …%s…", conditionType, condition, reason, message)
		}
		return nil
	}
}

var isReady = has(fleetv1.ReadyCondition, fleetv1.AvailableReason, "")

func (p platform) newTenant(t *testing.T, name string, change func(*fleetv1.TenantSpec)) *fleetv1.Tenant {
	t.Helper()
	made := tenant(name, change)
	p.create(t, made)
	p.await(t, name, isReady)
	return made
}

// usesGPUs also wants the ledger to be sure of it.
func usesGPUs(count int64) func(*fleetv1.Tenant) error {
	return func(tenant *fleetv1.Tenant) error {
		pending := tenant.Status.PendingGrowths
		if got := tenant.Status.Usage.GPUs["A100-80GB"]; got != count || len(pending) > 0 {
			return fmt.Errorf("%d GPUs are used, want %d; pending: %+v", got, count, pending)
		}
		return nil
	}
}

func (p platform) as(t *testing.T, group string) client.Client {
	t.Helper()
	config := rest.CopyConfig(p.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "somebody", Groups: []string{group}}
	c, err := client.New(config, client.Options{Scheme: p.Scheme})
	must(t, err)
	return c
}

func expectRefused(t *testing.T, err error, want string) {
	t.Helper()
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), want) {
		t.Errorf("got  %v\nwant …%s…", err, want)
	}
}

func (p platform) givesNamespacesAndBindings(t *testing.T) {
	p.newTenant(t, "plain", nil)
	p.newTenant(t, "several", func(s *fleetv1.TenantSpec) {
		s.Namespaces, s.PodSecurity = []string{"several-a", "several-b"}, fleetv1.PodSecurityBaseline
	})
	for name, standard := range map[string]string{"plain": "restricted", "several-a": "baseline", "several-b": "baseline"} {
		n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		p.get(t, n)
		if n.Labels["pod-security.kubernetes.io/enforce"] != standard {
			t.Errorf("%s has the labels %v", name, n.Labels)
		}
	}

	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: "plain", Name: "sendan-tenant-admin"}}
	p.get(t, binding)
	uid := binding.UID
	isAsMade := func() error {
		have := &rbacv1.RoleBinding{}
		if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(binding), have); err != nil {
			return err
		}
		if len(have.Subjects) != 1 || have.Subjects[0].Name != "plain-admins" || have.Labels[fleetv1.TenantLabel] != "plain" || have.RoleRef.Name != "sendan-tenant-admin" {
			return fmt.Errorf("it is %+v", have)
		}
		return nil
	}
	must(t, change(t, p, binding, func(b *rbacv1.RoleBinding) { b.Subjects[0].Name, b.Labels = "intruders", nil }))
	envtest.Eventually(t, soon, isAsMade)
	must(t, p.Client.Delete(t.Context(), binding))
	envtest.Eventually(t, soon, isAsMade)
	p.get(t, binding)
	if binding.UID == uid {
		t.Error("it was not deleted")
	}
	must(t, p.Client.Delete(t.Context(), binding))
	other := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: "plain", Name: "sendan-tenant-admin", Labels: map[string]string{fleetv1.TenantLabel: "plain"}},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}
	if err := p.Client.Create(t.Context(), other); err != nil && !apierrors.IsAlreadyExists(err) { // the controller may be faster
		t.Fatal(err)
	}
	envtest.Eventually(t, soon, isAsMade)

	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "plain"}}
	must(t, change(t, p, n, func(n *corev1.Namespace) { n.Labels["pod-security.kubernetes.io/enforce"] = "privileged" }))
	envtest.Eventually(t, soon, func() error {
		if p.get(t, n); n.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
			return fmt.Errorf("labels %v", n.Labels)
		}
		return nil
	})
	must(t, change(t, p, tenant("plain", nil), func(x *fleetv1.Tenant) { x.Spec.Members = x.Spec.Members[1:] }))
	envtest.Eventually(t, soon, func() error {
		if err := p.Client.Get(t.Context(), client.ObjectKeyFromObject(binding), &rbacv1.RoleBinding{}); !apierrors.IsNotFound(err) {
			return fmt.Errorf("the binding of a role that nobody has is there, error %w", err)
		}
		return nil
	})
}

func (p platform) adoptsWhatWasGivenAway(t *testing.T) {
	old := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "old-lab", Labels: map[string]string{"mine": "stays"}}}
	p.create(t, old)
	p.create(t, tenant("adopter", func(s *fleetv1.TenantSpec) { s.Namespaces = []string{"old-lab"} }))
	p.await(t, "adopter", has(fleetv1.ReadyCondition, fleetv1.NamespaceTakenReason, "namespace old-lab was there before"))
	var bindings rbacv1.RoleBindingList
	if must(t, p.Client.List(t.Context(), &bindings, client.InNamespace("old-lab"))); len(bindings.Items) > 0 {
		t.Errorf("bindings in a namespace of somebody else: %v", bindings.Items)
	}
	must(t, change(t, p, old, func(n *corev1.Namespace) { n.Annotations = map[string]string{tenancy.AdoptAnnotation: "adopter"} }))
	p.await(t, "adopter", isReady)
	if p.get(t, old); old.Labels[fleetv1.TenantLabel] != "adopter" || old.Labels["mine"] != "stays" {
		t.Errorf("labels %v", old.Labels)
	}
	expectRefused(t, p.Client.Create(t.Context(), tenant("thief", func(s *fleetv1.TenantSpec) { s.Namespaces = []string{"old-lab"} })),
		`spec.namespaces[0]: Invalid value: "old-lab": is a namespace of Tenant adopter`)
}

func (p platform) givesRights(t *testing.T) {
	p.newTenant(t, "rights", nil)
	p.newTenant(t, "others", nil)
	p.create(t, cluster("rights", "training", 1))
	for _, name := range []string{"training-kubeconfig", "training-ca"} {
		p.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "rights", Name: name}})
	}
	p.create(t, &fleetv1.Site{ObjectMeta: metav1.ObjectMeta{Name: "tokyo"}, Spec: fleetv1.SiteSpec{IdentityRef: fleetv1.SiteIdentityReference{Name: "cloud", CloudName: "c"}}})
	p.create(t, &fleetv1.Site{ObjectMeta: metav1.ObjectMeta{Name: "osaka"}, Spec: fleetv1.SiteSpec{IdentityRef: fleetv1.SiteIdentityReference{Name: "cloud", CloudName: "c"}}})

	secret := func(namespace, name string) client.Object {
		return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	}
	read := func(object client.Object) func(context.Context, client.Client) error {
		return func(ctx context.Context, c client.Client) error {
			return c.Get(ctx, client.ObjectKeyFromObject(object), object)
		}
	}
	list := func(list client.ObjectList, options ...client.ListOption) func(context.Context, client.Client) error {
		return func(ctx context.Context, c client.Client) error { return c.List(ctx, list, options...) }
	}
	scale := func(ctx context.Context, c client.Client) error {
		patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"annotations":{"a":"b"}}}`))
		return c.Patch(ctx, cluster("rights", "training", 1), patch, client.DryRunAll)
	}
	makeOne := func(ctx context.Context, c client.Client) error {
		return c.Create(ctx, cluster("rights", "second", 1), client.DryRunAll)
	}
	remove := func(ctx context.Context, c client.Client) error {
		return c.Delete(ctx, cluster("rights", "training", 1), client.DryRunAll)
	}
	named := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	const nobody, viewers, operators, admins = "", "rights-viewers", "rights-operators", "rights-admins"
	order := []string{viewers, operators, admins}
	// The operators get the kubeconfig of a Cluster once the controller has seen it.
	envtest.Eventually(t, soon, func() error { return read(secret("rights", "training-kubeconfig"))(t.Context(), p.as(t, operators)) })
	for what, c := range map[string]struct {
		from string // the least role that may
		do   func(context.Context, client.Client) error
	}{
		"list clusters":                      {viewers, list(&clusterv1.ClusterList{}, client.InNamespace("rights"))},
		"list machines":                      {viewers, list(&clusterv1.MachineList{}, client.InNamespace("rights"))},
		"list fleet members":                 {viewers, list(&fleetv1.FleetMemberList{}, client.InNamespace("rights"))},
		"list events":                        {viewers, list(&corev1.EventList{}, client.InNamespace("rights"))},
		"list releases":                      {viewers, list(&fleetv1.ReleaseList{})},
		"list node templates":                {viewers, list(&fleetv1.NodeTemplateList{})},
		"read the tenant":                    {viewers, read(&fleetv1.Tenant{ObjectMeta: named("rights")})},
		"read a site of the tenant":          {viewers, read(&fleetv1.Site{ObjectMeta: named("tokyo")})},
		"read another site":                  {nobody, read(&fleetv1.Site{ObjectMeta: named("osaka")})},
		"read another tenant":                {nobody, read(&fleetv1.Tenant{ObjectMeta: named("others")})},
		"list all tenants":                   {nobody, list(&fleetv1.TenantList{})},
		"list clusters of another tenant":    {nobody, list(&clusterv1.ClusterList{}, client.InNamespace("others"))},
		"list all clusters":                  {nobody, list(&clusterv1.ClusterList{})},
		"scale a cluster":                    {operators, scale},
		"read a kubeconfig":                  {operators, read(secret("rights", "training-kubeconfig"))},
		"make a cluster":                     {admins, makeOne},
		"delete a cluster":                   {admins, remove},
		"read a certificate authority":       {nobody, read(secret("rights", "training-ca"))},
		"list secrets":                       {nobody, list(&corev1.SecretList{}, client.InNamespace("rights"))},
		"read secrets of the platform":       {nobody, read(secret(systemNamespace, "training-kubeconfig"))},
		"read secrets where no clusters are": {nobody, read(secret("others", "training-kubeconfig"))},
		"label the namespace": {nobody, func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, &corev1.Namespace{ObjectMeta: named("rights")}, client.RawPatch(types.MergePatchType, []byte(`{}`)))
		}},
		"read identities": {nobody, list(identities())},
		"scale past the topology": {nobody, func(ctx context.Context, c client.Client) error {
			return c.Patch(ctx, &clusterv1.MachineDeployment{ObjectMeta: metav1.ObjectMeta{Namespace: "rights", Name: "gpu"}}, client.RawPatch(types.MergePatchType, []byte(`{}`)))
		}},
	} {
		for i, group := range order {
			may := c.from != nobody && i >= slices.Index(order, c.from)
			if err := c.do(t.Context(), p.as(t, group)); may == apierrors.IsForbidden(err) || may && err != nil {
				t.Errorf("%s %s: %v, want that to be %t", group, what, err, may)
			}
		}
	}
}
