package addons

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// BenchmarkSettledClusters is one pass over 200 clusters that have all they should have: two add-ons of five objects each. One
// API server stands for all of them, with a namespace for each.
func BenchmarkSettledClusters(b *testing.B) {
	const clusters = 200
	var reads, dryRuns, writes atomic.Int64
	config := startAPIServer(b)
	config.QPS = -1
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(request *http.Request) (*http.Response, error) {
			switch {
			case request.Method == http.MethodGet:
				reads.Add(1)
			case request.URL.Query().Get("dryRun") != "":
				dryRuns.Add(1)
			default:
				writes.Add(1)
			}
			return next.RoundTrip(request)
		})
	})
	everything, err := client.NewWithWatch(config, client.Options{})
	if err != nil {
		b.Fatal(err)
	}
	var tenants []client.Client
	var inputs []Input
	for i := range clusters {
		name := fmt.Sprintf("cluster-%d", i)
		if err := everything.Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			b.Fatal(err)
		}
		tenants, inputs = append(tenants, ofNamespace(everything, name)), append(inputs, inputOfTwo(name))
	}
	pass := func() {
		for i := range tenants {
			result, err := carryOut(b.Context(), tenants[i], Plan(inputs[i]))
			if err != nil || len(result.addons) != 2 || !isSettled(result.addons) {
				b.Fatalf("got %+v (%v)", result.addons, err)
			}
		}
	}
	pass()
	reads.Store(0)
	dryRuns.Store(0)
	writes.Store(0)
	for b.Loop() {
		pass()
	}
	if writes.Load() > 0 {
		b.Errorf("settled clusters were written to %d times", writes.Load())
	}
	perCluster := func(value int64) float64 { return float64(value) / float64(b.N*clusters) }
	b.ReportMetric(perCluster(b.Elapsed().Milliseconds()), "ms/cluster")
	b.ReportMetric(perCluster(reads.Load()), "reads/cluster")
	b.ReportMetric(perCluster(dryRuns.Load()), "dry-runs/cluster")
	b.ReportMetric(perCluster(writes.Load()), "writes/cluster")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

func startAPIServer(b *testing.B) *rest.Config {
	b.Helper()
	if os.Getenv("KUBEBUILDER_ASSETS") == "" {
		b.Skip("KUBEBUILDER_ASSETS is not set: set it to the output of hack/build-tools.sh --dir")
	}
	server := &envtest.Environment{}
	config, err := server.Start()
	b.Cleanup(func() {
		if err := server.Stop(); err != nil {
			b.Error(err)
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	return config
}

func inputOfTwo(namespace string) Input {
	in := Input{Cluster: cluster("v1.36.3", nil)}
	for _, name := range []string{"one", "two"} {
		var manifests string
		for i := range 5 {
			manifests += fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s-%d, namespace: %s}\n---\n", name, i, namespace)
		}
		in.Addons = append(in.Addons, *from(addon(name, "v1"), fleetv1.AddonSource{Manifests: manifests}))
	}
	return in
}

// ofNamespace makes a cluster of a namespace: the inventory is in it, and nothing else is listed.
func ofNamespace(everything client.WithWatch, namespace string) client.Client {
	return interceptor.NewClient(everything, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
			if key.Name == inventoryName {
				key.Namespace = namespace
			}
			return c.Get(ctx, key, object, options...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, options ...client.ListOption) error {
			return c.List(ctx, list, append(options, client.InNamespace(namespace))...)
		},
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			object.SetNamespace(namespace)
			return c.Create(ctx, object, options...)
		},
	})
}
