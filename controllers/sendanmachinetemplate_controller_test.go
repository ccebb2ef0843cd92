package controllers

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// templateWorld is the reconciler of templates with a simulated cloud over HTTP.
type templateWorld struct {
	*SendanMachineTemplateReconciler
	t     *testing.T
	cloud *simulator.Simulator
	clock *clockwork.FakeClock
}

const templateNamespace = "team-a"

func newTemplateWorld(t *testing.T, objects ...client.Object) templateWorld {
	t.Helper()
	clock := clockwork.NewFakeClockAt(time.Now())
	simulated, err := simulator.New(simulator.Options{Clock: clock})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(simulated)
	t.Cleanup(func() {
		server.Close()
		simulated.Close()
	})
	objects = append(objects, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: templateNamespace, Name: "cloud"},
		Data:       map[string][]byte{secretKeyClouds: simulated.CloudsYAML(server.URL, "sim")},
	})
	kube := fake.NewClientBuilder().WithScheme(testScheme(t)).WithObjects(objects...).
		WithStatusSubresource(&infrav1.SendanMachineTemplate{}).Build()
	return templateWorld{
		t: t, cloud: simulated, clock: clock,
		SendanMachineTemplateReconciler: &SendanMachineTemplateReconciler{
			Client: kube, Clock: clock,
			Clouds: &Identities{Client: kube, Secrets: kube, Sessions: cloud.NewSessions(cloud.Options{Clock: clock, ManualPolling: true})},
		},
	}
}

// reconcile runs until the condition Paused has been written, as its event would have it.
func (w templateWorld) reconcile() (*infrav1.SendanMachineTemplate, time.Duration) {
	w.t.Helper()
	var result ctrl.Result
	key := client.ObjectKey{Namespace: templateNamespace, Name: "workers"}
	for range 2 {
		var err error
		if result, err = w.Reconcile(w.t.Context(), ctrl.Request{NamespacedName: key}); err != nil {
			w.t.Fatal(err)
		}
	}
	template := &infrav1.SendanMachineTemplate{}
	if err := w.Client.Get(w.t.Context(), key, template); err != nil {
		w.t.Fatal(err)
	}
	return template, result.RequeueAfter
}

// workers is a template of a GPU flavor that the cluster "training" uses.
func workers(change ...func(*infrav1.SendanMachineTemplate)) *infrav1.SendanMachineTemplate {
	template := &infrav1.SendanMachineTemplate{ObjectMeta: metav1.ObjectMeta{
		Namespace: templateNamespace, Name: "workers",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: "training", UID: "u"}},
	}}
	template.Spec.Template.Spec = infrav1.SendanMachineSpec{
		Flavor: "g1.a100.8", Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-v1.36.3"},
	}
	for _, apply := range change {
		apply(template)
	}
	return template
}

func trainingCluster(change ...func(*clusterv1.Cluster)) *clusterv1.Cluster {
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: templateNamespace, Name: "training"}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{
		APIGroup: infrav1.GroupVersion.Group, Kind: "SendanCluster", Name: "training-infra",
	}
	for _, apply := range change {
		apply(cluster)
	}
	return cluster
}

func trainingInfrastructure() *infrav1.SendanCluster {
	return &infrav1.SendanCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: templateNamespace, Name: "training-infra", Labels: map[string]string{clusterv1.ClusterNameLabel: "training"}},
		Spec:       infrav1.SendanClusterSpec{IdentityRef: infrav1.IdentityReference{Kind: infrav1.IdentitySecret, Name: "cloud", CloudName: "sim"}},
	}
}

func (w templateWorld) expectReady(template *infrav1.SendanMachineTemplate, status metav1.ConditionStatus, reason, message string) {
	w.t.Helper()
	ready := conditions.Get(template, infrav1.ReadyCondition)
	if ready == nil || ready.Status != status || ready.Reason != reason || !strings.Contains(ready.Message, message) {
		w.t.Errorf("condition Ready is %+v, want %s %s …%s…", ready, status, reason, message)
	}
}

func TestATemplateTellsWhatItsNodesWouldOffer(t *testing.T) {
	w := newTemplateWorld(t, workers(), trainingCluster(), trainingInfrastructure())
	template, again := w.reconcile()
	w.expectReady(template, metav1.ConditionTrue, infrav1.AvailableReason, "")
	expectResources(t, template.Status.Capacity, map[corev1.ResourceName]string{
		"cpu": "96", "memory": "983040Mi", "ephemeral-storage": "800Gi", "nvidia.com/gpu": "8",
	})
	if template.Status.NodeInfo != (infrav1.NodeInfo{Architecture: "amd64", OperatingSystem: "linux"}) {
		t.Errorf("node info %+v", template.Status.NodeInfo)
	}
	if again != capacityRecheck {
		t.Errorf("looks again after %s, want %s", again, capacityRecheck)
	}
}

func TestASettledTemplateCostsNoCalls(t *testing.T) {
	w := newTemplateWorld(t, workers(), trainingCluster(), trainingInfrastructure())
	before, _ := w.reconcile()
	w.cloud.ResetCalls()
	after, _ := w.reconcile()
	if calls := w.cloud.TotalCalls(); calls != 0 {
		t.Errorf("%d calls, want none: %v", calls, w.cloud.Calls())
	}
	if before.ResourceVersion != after.ResourceVersion {
		t.Error("the status was written again although nothing changed")
	}
}

func TestATemplateTakesItsCloudFromWhereverItIsNamed(t *testing.T) {
	own := func(m *infrav1.SendanMachineTemplate) {
		m.OwnerReferences = nil
		m.Spec.Template.Spec.IdentityRef = &infrav1.IdentityReference{Kind: infrav1.IdentitySecret, Name: "cloud", CloudName: "sim"}
	}
	labeled := func(m *infrav1.SendanMachineTemplate) {
		m.OwnerReferences = nil
		m.Labels = map[string]string{clusterv1.ClusterNameLabel: "training"}
	}
	ofClass := func(m *infrav1.SendanMachineTemplate) {
		m.OwnerReferences = []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "ClusterClass", Name: "training", UID: "u"}}
	}
	for name, c := range map[string]struct {
		objects []client.Object
		status  metav1.ConditionStatus
		reason  string
	}{
		"its own identity":               {[]client.Object{workers(own)}, metav1.ConditionTrue, infrav1.AvailableReason},
		"the cluster that owns it":       {[]client.Object{workers(), trainingCluster(), trainingInfrastructure()}, metav1.ConditionTrue, infrav1.AvailableReason},
		"the cluster of its label":       {[]client.Object{workers(labeled), trainingCluster(), trainingInfrastructure()}, metav1.ConditionTrue, infrav1.AvailableReason},
		"nowhere, as a class's":          {[]client.Object{workers(ofClass), trainingCluster(), trainingInfrastructure()}, metav1.ConditionUnknown, infrav1.WaitingForClusterReason},
		"a cluster that is not there":    {[]client.Object{workers()}, metav1.ConditionUnknown, infrav1.WaitingForClusterReason},
		"infrastructure that is not yet": {[]client.Object{workers(), trainingCluster()}, metav1.ConditionUnknown, infrav1.WaitingForClusterReason},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTemplateWorld(t, c.objects...)
			template, _ := w.reconcile()
			w.expectReady(template, c.status, c.reason, "")
		})
	}
}

func TestATemplateThatCannotWorkSaysWhyAndIsLookedAtSeldom(t *testing.T) {
	flavor := func(name string) func(*infrav1.SendanMachineTemplate) {
		return func(m *infrav1.SendanMachineTemplate) { m.Spec.Template.Spec.Flavor = name }
	}
	for name, c := range map[string]struct {
		change  func(*infrav1.SendanMachineTemplate)
		reason  string
		message string
	}{
		"unknown flavor": {flavor("nope"), infrav1.ConfigReason, `flavor "nope" not found`},
		"unknown image": {func(m *infrav1.SendanMachineTemplate) { m.Spec.Template.Spec.Image.Name = "nope" },
			infrav1.ConfigReason, `nope`},
		"unknown identity": {func(m *infrav1.SendanMachineTemplate) {
			m.Spec.Template.Spec.IdentityRef = &infrav1.IdentityReference{Name: "nope", CloudName: "sim"}
		}, infrav1.ConfigReason, `nope does not exist`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newTemplateWorld(t, workers(c.change), trainingCluster(), trainingInfrastructure())
			template, first := w.reconcile()
			w.expectReady(template, metav1.ConditionFalse, c.reason, c.message)
			if first != backoff(cloud.Config, 1) {
				t.Errorf("looks again after %s at first, want %s", first, backoff(cloud.Config, 1))
			}
			w.clock.Advance(time.Hour)
			if _, later := w.reconcile(); later != backoff(cloud.Config, 100) {
				t.Errorf("looks again after %s an hour later, want %s", later, backoff(cloud.Config, 100))
			}
		})
	}
}

func TestATemplateKeepsItsCapacityWhileTheCloudIsAway(t *testing.T) {
	w := newTemplateWorld(t, workers(), trainingCluster(), trainingInfrastructure())
	w.reconcile()
	if err := w.cloud.AddFault(simulator.Fault{Service: "compute", Status: 503, Times: -1}); err != nil {
		t.Fatal(err)
	}
	w.clock.Advance(capacityRecheck + time.Second) // the session has forgotten the flavors
	template, _ := w.reconcile()
	if ready := conditions.Get(template, infrav1.ReadyCondition); ready.Status != metav1.ConditionFalse {
		t.Errorf("condition Ready is %+v, want False", ready)
	}
	if gpus := template.Status.Capacity["nvidia.com/gpu"]; gpus.Value() != 8 {
		t.Errorf("capacity %v has lost its GPUs", template.Status.Capacity)
	}
}

func TestAPausedClusterLeavesItsTemplatesAlone(t *testing.T) {
	w := newTemplateWorld(t, workers(), trainingInfrastructure(), trainingCluster(func(c *clusterv1.Cluster) { c.Spec.Paused = ptr.To(true) }))
	template, _ := w.reconcile()
	if !conditions.IsTrue(template, clusterv1.PausedCondition) || conditions.Has(template, infrav1.ReadyCondition) || w.cloud.TotalCalls() != 0 {
		t.Errorf("conditions %+v after %d calls, want Paused only and none", template.Status.Conditions, w.cloud.TotalCalls())
	}
}

func TestTemplatesFollowTheirCluster(t *testing.T) {
	other := workers(func(m *infrav1.SendanMachineTemplate) { m.Name, m.OwnerReferences[0].Name = "others", "inference" })
	w := newTemplateWorld(t, workers(), other, trainingCluster(), trainingInfrastructure())
	for name, requests := range map[string][]ctrl.Request{
		"Cluster":       w.templatesOfCluster(context.Background(), trainingCluster()),
		"SendanCluster": w.templatesOfInfrastructure(context.Background(), trainingInfrastructure()),
	} {
		if len(requests) != 1 || requests[0].Name != "workers" {
			t.Errorf("a change of the %s brings back %v, want workers alone", name, requests)
		}
	}
}
