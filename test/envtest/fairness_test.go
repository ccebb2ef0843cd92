package envtest_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
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
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/controllers"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	// workers are far fewer than the clusters of the cloud that hangs.
	workers = 4
	hanging = 12
	// patience is how long a request to a cloud may take. Without fairness, everybody would wait for so long.
	patience = 40 * time.Second
	// inTime is what a cluster of another cloud may take meanwhile.
	inTime = 20 * time.Second
)

// TestACloudThatHangsHoldsUpNoOther gives the real controllers more work with a cloud that never answers than they have workers.
func TestACloudThatHangsHoldsUpNoOther(t *testing.T) {
	env := envtest.Start(t)
	sim, err := simulator.New(simulator.Options{Clock: clockwork.NewRealClock(), Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	well := httptest.NewServer(sim)
	var asked atomic.Int64
	hung := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client gives up
		<-r.Context().Done()
	}))
	t.Cleanup(func() { well.Close(); sim.Close(); hung.Close() })
	f := fairness{env}
	f.startControllers(t)

	for i := range hanging { // of a tenant each, so that they share no login
		text := strings.ReplaceAll(string(sim.CloudsYAML(hung.URL, "sim")), `password: "`, fmt.Sprintf(`password: "%d`, i))
		f.cluster(t, fmt.Sprintf("hanging-%d", i), text)
	}
	envtest.Eventually(t, inTime, func() error {
		if n := asked.Load(); n < workers/2 {
			return fmt.Errorf("the cloud that hangs was asked %d times", n)
		}
		return nil
	})
	f.cluster(t, "well", string(sim.CloudsYAML(well.URL, "sim")))
	envtest.Eventually(t, inTime, func() error {
		found := &infrav1.SendanCluster{}
		if err := env.Client.Get(t.Context(), client.ObjectKey{Namespace: "well", Name: "well"}, found); err != nil {
			return err
		}
		if !conditions.IsTrue(found, infrav1.NetworkReadyCondition) {
			return fmt.Errorf("the conditions are %+v", found.Status.Conditions)
		}
		return nil
	})
	if n := asked.Load(); n > workers/2 {
		t.Errorf("%d of %d workers waited for the cloud that hangs", n, workers)
	}
}

type fairness struct{ *envtest.Env }

func (f fairness) startControllers(t *testing.T) {
	t.Helper()
	mgr, err := ctrl.NewManager(f.Config, ctrl.Options{
		Scheme: f.Scheme, Metrics: metricsserver.Options{BindAddress: "0"}, Controller: config.Controller{SkipNameValidation: ptr.To(true)},
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	clock := clockwork.NewRealClock()
	sessions := cloud.NewSessions(cloud.Options{Clock: clock, RequestTimeout: patience})
	inventory := controllers.NewInventoryEvents(mgr.GetClient(), sessions)
	if err := mgr.Add(sessions); err != nil {
		t.Fatal(err)
	}
	reconciler := &controllers.SendanClusterReconciler{
		Client: mgr.GetClient(), Recorder: mgr.GetEventRecorder("test"), Clock: clock,
		Clouds: &controllers.Identities{Client: mgr.GetCache(), Secrets: mgr.GetAPIReader(), Sessions: sessions},
	}
	if err := controllers.IndexFields(t.Context(), mgr.GetFieldIndexer()); err != nil {
		t.Fatal(err)
	}
	if err := reconciler.SetupWithManager(t.Context(), mgr, inventory, controller.Options{MaxConcurrentReconciles: workers}); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
}

// cluster makes one in a namespace of its own.
func (f fairness) cluster(t *testing.T, name, clouds string) {
	t.Helper()
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: name}}
	cluster.Spec.InfrastructureRef = clusterv1.ContractVersionedObjectReference{APIGroup: infrav1.GroupVersion.Group, Kind: "SendanCluster", Name: name}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: "cloud"}, Data: map[string][]byte{"clouds.yaml": []byte(clouds)}},
		cluster,
	} {
		if err := f.Client.Create(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	infra := &infrav1.SendanCluster{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: name, Name: name, Labels: map[string]string{clusterv1.ClusterNameLabel: name},
			OwnerReferences: []metav1.OwnerReference{{APIVersion: clusterv1.GroupVersion.String(), Kind: "Cluster", Name: name, UID: cluster.UID}},
		},
		Spec: infrav1.SendanClusterSpec{
			IdentityRef: infrav1.IdentityReference{Name: "cloud", CloudName: "sim"},
			Network:     infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{CIDRs: []string{"10.6.0.0/24"}}},
		},
	}
	if err := f.Client.Create(t.Context(), infra); err != nil {
		t.Fatal(err)
	}
}
