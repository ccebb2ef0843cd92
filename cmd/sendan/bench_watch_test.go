package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sendan-io/sendan/test/envtest"
)

const seenWithin = 30 * time.Second

// TestBenchWithAnAPIServer shares one, since starting it takes seconds.
func TestBenchWithAnAPIServer(t *testing.T) {
	env := envtest.Start(t)
	t.Run("clusters are followed until they are gone", func(t *testing.T) { followsClusters(t, env) })
	t.Run("requests are counted", func(t *testing.T) { countsRequests(t, env) })
}

func followsClusters(t *testing.T, env *envtest.Env) {
	var out bytes.Buffer
	clock := clockwork.NewFakeClock()
	w := newWatcher(clock, &out, 2)
	if err := w.watch(t.Context(), env.Config, env.Scheme); err != nil {
		t.Fatal(err)
	}
	quick, slow := w.expect("quick"), w.expect("slow")
	clock.Advance(20 * time.Second)
	for _, namespace := range []string{"nobody-expects", "quick", "slow"} {
		createCluster(t, env, namespace)
	}
	for _, status := range onItsWay() {
		setStatus(t, env, "nobody-expects", status)
		setStatus(t, env, "quick", status)
	}
	await(t, "quick is ready", quick.ready)

	b := new(benchmark)
	over, end := context.WithCancel(t.Context())
	end()
	err := b.await(over, &benchCluster{tenant: &tenant{client: env.Client, namespace: "slow", name: "demo"}}, slow.ready)
	if err == nil || !strings.Contains(err.Error(), "the Cluster is not Available yet") {
		t.Errorf("a cluster that is not ready in time is told as %v", err)
	}

	clock.Advance(20 * time.Second)
	for _, status := range onItsWay() {
		setStatus(t, env, "slow", status)
	}
	await(t, "slow is ready", slow.ready)
	if quick.reached[readyStage] != 20*time.Second || slow.reached[readyStage] != 40*time.Second {
		t.Errorf("ready after %s and %s, want 20 s and 40 s", quick.reached[readyStage], slow.reached[readyStage])
	}
	if err := env.Client.Delete(t.Context(), demoCluster("quick")); err != nil {
		t.Fatal(err)
	}
	await(t, "quick is gone", quick.gone)
	select {
	case <-slow.gone:
		t.Error("a cluster is gone that was not deleted")
	default:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	const want = "  quick ready after 20.0s (1 of 2)\n  slow ready after 40.0s (2 of 2)\n"
	if out.String() != want {
		t.Errorf("it told\n%swant\n%s", out.String(), want)
	}
}

func await(t *testing.T, what string, event <-chan struct{}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), seenWithin)
	defer cancel()
	select {
	case <-event:
	case <-ctx.Done():
		t.Fatalf("not within %s: %s", seenWithin, what)
	}
}

func demoCluster(namespace string) *clusterv1.Cluster {
	return &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "demo"}}
}

func createCluster(t *testing.T, env *envtest.Env, namespace string) {
	t.Helper()
	if err := env.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}); err != nil {
		t.Fatal(err)
	}
	cluster := demoCluster(namespace)
	cluster.Spec.ClusterNetwork.ServiceDomain = "cluster.local"
	if err := env.Client.Create(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
}

func setStatus(t *testing.T, env *envtest.Env, namespace string, status clusterv1.ClusterStatus) {
	t.Helper()
	cluster := demoCluster(namespace)
	if err := env.Client.Get(t.Context(), client.ObjectKeyFromObject(cluster), cluster); err != nil {
		t.Fatal(err)
	}
	cluster.Status = status
	if err := env.Client.Status().Update(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
}
