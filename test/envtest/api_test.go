package envtest_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/test/envtest"
)

// TestTheAPI runs against a real API server what neither a schema nor a webhook shows alone.
func TestTheAPI(t *testing.T) {
	env := envtest.Start(t)
	api := api{env}
	t.Run("a schema refuses what one field decides", api.refusesBySchema)
	t.Run("a webhook refuses what several fields decide", api.refusesByWebhook)
	t.Run("the defaults are those of the schema", api.defaults)
	t.Run("a machine template rotates through a topology dry run", api.rotatesTemplate)
	t.Run("a cluster's immutable fields hold and the others change", api.keepsImmutableFields)
	t.Run("an identity in use is kept", api.keepsIdentityInUse)
	t.Run("the status of a failing cluster comes back as written", api.keepsClusterStatus)
	t.Run("the status of a failing machine comes back as written", api.keepsMachineStatus)
	t.Run("the status of a template comes back as written", api.keepsTemplateStatus)
	t.Run("every kind carries the contract's labels", api.carriesContractLabels)
}

type api struct{ *envtest.Env }

// object is a minimal object of a kind, as a user writes it.
func object(kind, name, spec string) *unstructured.Unstructured {
	object := &unstructured.Unstructured{}
	if err := object.UnmarshalJSON([]byte(`{"apiVersion":"infrastructure.cluster.x-k8s.io/v1alpha1","kind":"` + kind + `",
		"metadata":{"name":"` + name + `","namespace":"default"},"spec":` + spec + `}`)); err != nil {
		panic(err)
	}
	return object
}

const (
	identityRef = `"identityRef":{"name":"cloud","cloudName":"openstack"}`
	network     = `"network":{"managed":{"cidrs":["10.6.0.0/24"]}}`
	machineSpec = `"flavor":"m1","image":{"name":"ubuntu"}`
)

func clusterWith(name, more string) *unstructured.Unstructured {
	return object("SendanCluster", name, `{`+identityRef+`,`+network+more+`}`)
}

func machineWith(name, more string) *unstructured.Unstructured {
	return object("SendanMachine", name, `{`+machineSpec+more+`}`)
}

func (a api) expectRefused(t *testing.T, want string, write func() error) {
	t.Helper()
	err := write()
	if !apierrors.IsInvalid(err) && !apierrors.IsForbidden(err) {
		t.Errorf("got %v, want a refusal with …%s…", err, want)
		return
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("got %v\nwant …%s…", err, want)
	}
}

func (a api) refusesBySchema(t *testing.T) {
	for name, c := range map[string]struct {
		object *unstructured.Unstructured
		want   string
	}{
		"managed and existing network": {object("SendanCluster", "x", `{`+identityRef+`,"network":{"managed":{"cidrs":["10.6.0.0/24"]},"existing":{"network":{"name":"n"}}}}`), "spec.network"},
		"no network":                   {object("SendanCluster", "x", `{`+identityRef+`}`), "spec.network"},
		"two endpoint modes":           {clusterWith("x", `,"endpoint":{"external":{},"virtualIP":{}}`), "spec.endpoint"},
		"an id and a name":             {object("SendanCluster", "x", `{`+identityRef+`,"network":{"existing":{"network":{"name":"n","id":"i"}}}}`), "id stands alone"},
		"an address without a floating IP": {clusterWith("x", `,"endpoint":{"loadBalancer":{"floatingIP":{"disabled":true,"address":"192.0.2.4"}}}`),
			"address needs a floating IP"},
		"a last port without a first":     {clusterWith("x", `,"securityGroups":{"rules":[{"name":"r","protocol":"tcp","portMax":1}]}`), "portMax needs portMin"},
		"ports of ICMP":                   {clusterWith("x", `,"securityGroups":{"rules":[{"name":"r","protocol":"icmp","portMin":1}]}`), "ports need protocol"},
		"two failure domains of a name":   {clusterWith("x", `,"failureDomains":[{"name":"a"},{"name":"a"}]`), "Duplicate value"},
		"a machine without a flavor":      {object("SendanMachine", "x", `{"image":{"name":"ubuntu"}}`), "spec.flavor"},
		"a machine without an image":      {object("SendanMachine", "x", `{"flavor":"m1","image":{}}`), "spec.image"},
		"scheduler hints that are a list": {machineWith("x", `,"schedulerHints":["a"]`), "spec.schedulerHints"},
		"a device without a domain":       {machineWith("x", `,"devices":[{"resourceName":"gpu","count":1}]`), "spec.devices[0].resourceName"},
	} {
		t.Run(name, func(t *testing.T) {
			a.expectRefused(t, c.want, func() error { return a.Client.Create(t.Context(), c.object) })
		})
	}
}

func (a api) refusesByWebhook(t *testing.T) {
	for name, c := range map[string]struct {
		object *unstructured.Unstructured
		want   string
	}{
		"SendanCluster":         {object("SendanCluster", "x", `{`+identityRef+`,"network":{"managed":{"cidrs":["10.6.0.1/24"]}}}`), "write 10.6.0.0/24"},
		"SendanClusterTemplate": {object("SendanClusterTemplate", "x", `{"template":{"spec":{`+identityRef+`,`+network+`,"controlPlaneEndpoint":{"host":"a","port":1}}}}`), "spec.template.spec.controlPlaneEndpoint: Forbidden"},
		"SendanMachine":         {machineWith("x", `,"metadata":[{"key":"sendan-role","value":"x"}]`), `begins with "sendan-"`},
		"SendanMachineTemplate": {object("SendanMachineTemplate", "x", `{"template":{"spec":{`+machineSpec+`,"providerID":"openstack:///x"}}}`), "spec.template.spec.providerID: Forbidden"},
		"SendanClusterIdentity": {object("SendanClusterIdentity", "x", `{"secretRef":{"name":"Cloud","namespace":"default"}}`), "cannot be the name of a Secret"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "SendanClusterIdentity" {
				c.object.SetNamespace("")
			}
			a.expectRefused(t, c.want, func() error { return a.Client.Create(t.Context(), c.object) })
		})
	}
}

func (a api) defaults(t *testing.T) {
	cluster := clusterWith("defaults", `,"endpoint":{"loadBalancer":{}},"failureDomains":[{"name":"a"}],"securityGroups":{"rules":[{"name":"r"}]}`)
	a.create(t, cluster)
	got := &infrav1.SendanCluster{}
	a.get(t, cluster, got)
	want := infrav1.SendanClusterSpec{
		IdentityRef:       infrav1.IdentityReference{Kind: infrav1.IdentitySecret, Name: "cloud", CloudName: "openstack"},
		Network:           infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}},
		Endpoint:          infrav1.Endpoint{LoadBalancer: &infrav1.LoadBalancerEndpoint{Port: 6443}},
		SecurityGroups:    infrav1.SecurityGroups{Rules: []infrav1.SecurityGroupRule{{Name: "r", Target: infrav1.TargetAll, Direction: "ingress"}}},
		FailureDomains:    []infrav1.FailureDomain{{Name: "a", ControlPlane: ptr.To(true)}},
		ServerGroupPolicy: infrav1.SoftAntiAffinity,
		ProviderIDFormat:  infrav1.ProviderIDServer,
	}
	if diff := cmp.Diff(want, got.Spec); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}

	bare := clusterWith("no-endpoint", "")
	a.create(t, bare)
	a.get(t, bare, got)
	if got.Spec.Endpoint != (infrav1.Endpoint{}) {
		t.Errorf("an unset endpoint was filled in: %+v", got.Spec.Endpoint)
	}
}

// rotatesTemplate does what Cluster API's topology controller does: a server-side apply dry run of the
// changed template under the name of the old one, then a new template.
func (a api) rotatesTemplate(t *testing.T) {
	apply := func(flavor string, annotations map[string]string, options ...client.ApplyOption) error {
		template := object("SendanMachineTemplate", "rotated", `{"template":{"spec":{"flavor":"`+flavor+`","image":{"name":"ubuntu"}}}}`)
		template.SetAnnotations(annotations)
		return a.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(template),
			append(options, client.FieldOwner("capi-topology"), client.ForceOwnership)...)
	}
	dryRun := map[string]string{clusterv1.TopologyDryRunAnnotation: ""}
	if err := apply("m1", nil); err != nil {
		t.Fatal(err)
	}
	if err := apply("m2", dryRun, client.DryRunAll); err != nil {
		t.Errorf("the topology's dry run is refused: %v", err)
	}
	const want = `spec.template.spec.flavor: Invalid value: "m2": is immutable and was "m1"; make a new template`
	a.expectRefused(t, want, func() error { return apply("m2", nil, client.DryRunAll) })
	a.expectRefused(t, want, func() error { return apply("m2", dryRun) })
	a.expectRefused(t, want, func() error { return apply("m2", nil) })
}

func (a api) keepsImmutableFields(t *testing.T) {
	created := clusterWith("immutable", "")
	a.create(t, created)
	change := func(change func(*infrav1.SendanCluster)) error {
		cluster := &infrav1.SendanCluster{}
		a.get(t, created, cluster)
		change(cluster)
		return a.Client.Update(t.Context(), cluster)
	}
	if err := change(func(c *infrav1.SendanCluster) {
		c.Annotations = map[string]string{infrav1.OwnerIDAnnotation: string(c.UID)}
		c.Spec.Network.Managed.DNSNameservers = []string{"10.0.0.2"}
		c.Spec.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "192.0.2.4", Port: 6443}
		c.Spec.Tags = []string{"gpu"}
	}); err != nil {
		t.Errorf("what may change is refused: %v", err)
	}
	a.expectRefused(t, `spec.controlPlaneEndpoint.port: Invalid value: 443: is immutable and was 6443`, func() error {
		return change(func(c *infrav1.SendanCluster) { c.Spec.ControlPlaneEndpoint.Port = 443 })
	})
	a.expectRefused(t, `spec.network.managed.cidrs[0]: Invalid value: "10.7.0.0/24"`, func() error {
		return change(func(c *infrav1.SendanCluster) { c.Spec.Network.Managed.CIDRs[0] = "10.7.0.0/24" })
	})
	a.expectRefused(t, `metadata.annotations[`+infrav1.OwnerIDAnnotation+`]: Invalid value`, func() error {
		return change(func(c *infrav1.SendanCluster) { delete(c.Annotations, infrav1.OwnerIDAnnotation) })
	})

	stolen := &infrav1.SendanCluster{}
	a.get(t, created, stolen)
	thief := clusterWith("thief", "")
	thief.SetAnnotations(stolen.Annotations)
	a.expectRefused(t, "belongs to another SendanCluster", func() error { return a.Client.Create(t.Context(), thief) })
}

func (a api) keepsIdentityInUse(t *testing.T) {
	identity := object("SendanClusterIdentity", "shared", `{"secretRef":{"name":"cloud","namespace":"default"},"namespaceSelector":{}}`)
	identity.SetNamespace("")
	a.create(t, identity)
	user := object("SendanCluster", "user", `{"identityRef":{"kind":"SendanClusterIdentity","name":"shared","cloudName":"openstack"},`+network+`}`)
	a.create(t, user)
	a.expectRefused(t, "it is used by SendanCluster default/user", func() error { return a.Client.Delete(t.Context(), identity) })
	if err := a.Client.Delete(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if err := a.Client.Delete(t.Context(), identity); err != nil {
		t.Errorf("an unused identity is kept: %v", err)
	}
}

func failing(reason, message string) []metav1.Condition {
	return []metav1.Condition{{
		Type: infrav1.ReadyCondition, Status: metav1.ConditionFalse, Reason: reason, Message: message,
		LastTransitionTime: metav1.NewTime(time.Unix(1700000000, 0)),
	}}
}

func attempts(action string) []infrav1.Attempt {
	return []infrav1.Attempt{{Action: action, Outcome: infrav1.AttemptUnknown, Time: metav1.NewMicroTime(time.UnixMicro(1700000000123456)), Failures: 3}}
}

func (a api) keepsClusterStatus(t *testing.T) {
	cluster := clusterWith("status", "")
	a.create(t, cluster)
	for name, status := range map[string]infrav1.SendanClusterStatus{
		"nothing":                 {},
		"credentials are wrong":   {Conditions: failing(infrav1.AuthReason, "the request you have made requires authentication")},
		"a network is being made": {Conditions: failing(infrav1.CreatingReason, ""), Attempts: attempts("create network")},
		"half a network":          {Network: infrav1.NetworkStatus{ID: "n"}, Conditions: failing(infrav1.QuotaReason, "quota exceeded for routers")},
		"a load balancer in ERROR": {
			Endpoint:       infrav1.EndpointStatus{LoadBalancerID: "l", Members: ptr.To(int32(0))},
			FailureDomains: []clusterv1.FailureDomain{{Name: "a"}},
			Conditions:     failing(infrav1.LoadBalancerErrorReason, "the load balancer is in ERROR"),
		},
		"not provisioned, and said so": {Initialization: infrav1.SendanClusterInitialization{Provisioned: ptr.To(false)}},
		"fails after it was provisioned": {Initialization: infrav1.SendanClusterInitialization{Provisioned: ptr.To(true)},
			Conditions: failing(infrav1.MissingReason, "the network was removed")},
	} {
		t.Run(name, func(t *testing.T) {
			got := &infrav1.SendanCluster{}
			a.get(t, cluster, got)
			got.Status = status
			a.expectSameStatus(t, got)
		})
	}
}

func (a api) keepsMachineStatus(t *testing.T) {
	machine := machineWith("status", "")
	a.create(t, machine)
	for name, status := range map[string]infrav1.SendanMachineStatus{
		"nothing":           {},
		"waits":             {Phase: infrav1.PhasePending, Conditions: failing(infrav1.WaitingForBootstrapDataReason, "")},
		"no host":           {Phase: infrav1.PhaseFailed, Server: infrav1.ServerStatus{ID: "s", State: "ERROR"}, Conditions: failing(infrav1.CapacityReason, "No valid host was found. ")},
		"server disappears": {Phase: infrav1.PhaseFailed, Addresses: []clusterv1.MachineAddress{{Type: clusterv1.MachineInternalIP, Address: "10.6.0.5"}}, Conditions: failing(infrav1.MissingReason, "gone")},
		"create was lost":   {Phase: infrav1.PhaseBuilding, Attempts: attempts("create server"), Conditions: failing(infrav1.TransientReason, "502")},
		"deletion is held":  {Phase: infrav1.PhaseDeleting, FailureDomain: "a", Conditions: failing(infrav1.DeletingReason, "port p is in use")},
	} {
		t.Run(name, func(t *testing.T) {
			got := &infrav1.SendanMachine{}
			a.get(t, machine, got)
			got.Status = status
			a.expectSameStatus(t, got)
		})
	}
}

func (a api) keepsTemplateStatus(t *testing.T) {
	template := object("SendanMachineTemplate", "status", `{"template":{"spec":{`+machineSpec+`}}}`)
	a.create(t, template)
	for name, status := range map[string]infrav1.SendanMachineTemplateStatus{
		"nothing":        {},
		"unknown flavor": {Conditions: failing(infrav1.ConfigReason, `flavor "m1" not found`)},
		"GPUs": {
			Capacity: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("8"), corev1.ResourceMemory: resource.MustParse("64Gi"), "nvidia.com/gpu": resource.MustParse("4")},
			NodeInfo: infrav1.NodeInfo{Architecture: "arm64", OperatingSystem: "linux"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := &infrav1.SendanMachineTemplate{}
			a.get(t, template, got)
			got.Status = status
			a.expectSameStatus(t, got)
		})
	}
}

// expectSameStatus writes an object's status and reads it again.
func (a api) expectSameStatus(t *testing.T, object client.Object) {
	t.Helper()
	want, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Client.Status().Update(t.Context(), object); err != nil {
		t.Fatalf("the status is refused: %v", err)
	}
	a.get(t, object, object)
	got, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want["status"], got["status"]); diff != "" {
		t.Errorf("status (-written +read):\n%s", diff)
	}
}

// carriesContractLabels: without the label on the CRD, Cluster API cannot follow a reference to the kind.
func (a api) carriesContractLabels(t *testing.T) {
	definitions := &apiextensionsv1.CustomResourceDefinitionList{}
	if err := a.Client.List(t.Context(), definitions); err != nil {
		t.Fatal(err)
	}
	ours := 0
	for _, definition := range definitions.Items {
		if !strings.HasSuffix(definition.Name, infrav1.GroupVersion.Group) {
			continue
		}
		ours++
		if got := definition.Labels["cluster.x-k8s.io/v1beta2"]; got != infrav1.GroupVersion.Version {
			t.Errorf("%s has the contract label %q, want %q", definition.Name, got, infrav1.GroupVersion.Version)
		}
	}
	if ours != 5 {
		t.Errorf("the API server knows %d of our kinds, want 5", ours)
	}
}

func (a api) create(t *testing.T, object client.Object) {
	t.Helper()
	if err := a.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context ends before its cleanups.
		err := a.Client.Delete(context.WithoutCancel(t.Context()), object)
		if client.IgnoreNotFound(err) != nil {
			t.Errorf("clean up: %v", err)
		}
	})
}

func (a api) get(t *testing.T, named, into client.Object) {
	t.Helper()
	if err := a.Client.Get(t.Context(), client.ObjectKeyFromObject(named), into); err != nil {
		t.Fatal(err)
	}
}
