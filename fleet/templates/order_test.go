package templates_test

import (
	"fmt"
	"net"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/utils/ptr"
	clusterv1beta1 "sigs.k8s.io/cluster-api/api/core/v1beta1" //nolint:staticcheck // what Cluster API still converts from
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	capi "sigs.k8s.io/cluster-api/core/webhooks/admission"
	"sigs.k8s.io/cluster-api/feature"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/sendan-io/sendan/test/envtest"
)

// comesBeforeClusterAPI holds the name of the webhook configuration to its purpose: Cluster API's own defaulting refuses a
// Cluster without a class, and the API server goes by the names.
func (w world) comesBeforeClusterAPI(t *testing.T) {
	configuration := w.serveClusterAPI(t)
	for name, want := range map[string]string{
		"capi-mutating-webhook-configuration": "", // as clusterctl installs it
		"aaa-mutating-webhook-configuration":  "spec.topology.classRef.name",
	} {
		installed := configuration.DeepCopy()
		installed.Name = name
		if err := w.Client.Create(t.Context(), installed); err != nil {
			t.Fatal(err)
		}
		fresh := strings.ReplaceAll(training, "name: training", "name: order-"+name[:4])
		w.eventually(t, func() error { // the API server learns of a new configuration in a moment
			err := w.tryApply(t, objects(t, fresh)[0])
			switch {
			case want == "" && err == nil, want != "" && err != nil && strings.Contains(err.Error(), want):
				return nil
			case err == nil:
				return client.IgnoreNotFound(w.Client.Delete(t.Context(), objects(t, fresh)[0]))
			}
			return fmt.Errorf("with %s: %w", name, err)
		})
		if want == "" {
			if stored := get(t, w, &clusterv1.Cluster{}, "default", "order-"+name[:4]); stored.Spec.Topology.Version != "v1.36.3" {
				t.Errorf("with Cluster API after us: %+v", stored.Spec.Topology)
			}
		}
		if err := w.Client.Delete(t.Context(), installed); err != nil {
			t.Fatal(err)
		}
	}
}

// serveClusterAPI runs Cluster API's webhook of Clusters, and tells how it is called.
func (w world) serveClusterAPI(t *testing.T) *admissionregistrationv1.MutatingWebhookConfiguration {
	t.Helper()
	if err := feature.MutableGates.Set(string(feature.ClusterTopology) + "=true"); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := listener.Addr().(*net.TCPAddr).Port
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	server := webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port, CertDir: w.CertDir})
	scheme := envtest.NewScheme(t)
	if err := clusterv1beta1.AddToScheme(scheme); err != nil { // which it converts from
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(w.Config, ctrl.Options{Scheme: scheme, WebhookServer: server, Metrics: metricsserver.Options{BindAddress: "0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := (&capi.Cluster{Client: mgr.GetClient()}).SetupWebhookWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	envtest.Run(t, mgr)
	envtest.Eventually(t, timeout, func() error { return server.StartedChecker()(nil) })

	ours := get(t, w, &admissionregistrationv1.MutatingWebhookConfiguration{}, "", "admission-sendan-fleet")
	theirs := &admissionregistrationv1.MutatingWebhookConfiguration{}
	for _, hook := range ours.Webhooks {
		if hook.Name == "default.cluster.fleet.sendan.io" {
			hook.Name = "default.cluster.cluster.x-k8s.io"
			hook.ClientConfig.URL = ptr.To(fmt.Sprintf("https://127.0.0.1:%d/mutate-cluster-x-k8s-io-v1beta2-cluster", port))
			theirs.Webhooks = []admissionregistrationv1.MutatingWebhook{hook}
		}
	}
	return theirs
}
