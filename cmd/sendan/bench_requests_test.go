package main

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/sendan-io/sendan/test/envtest"
)

// countsRequests reads what controller-runtime tells, as it does in every manager, of requests to a real API server.
func countsRequests(t *testing.T, env *envtest.Env) {
	program := httptest.NewServer(promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	defer program.Close()
	count := func() requests {
		text, err := readMetrics(t.Context(), http.DefaultClient, program.URL)
		if err != nil {
			t.Fatal(err)
		}
		return parseRequests(text, "127.0.0.1:"+strconv.Itoa(portOf(t, env.Config.Host)))
	}
	createCluster(t, env, "stale")
	before := count()
	stale := &clusterv1.Cluster{}
	if err := env.Client.Get(t.Context(), client.ObjectKey{Namespace: "stale", Name: "demo"}, stale); err != nil {
		t.Fatal(err)
	}
	stale.ResourceVersion = "1"
	if err := env.Client.Update(t.Context(), stale); err == nil {
		t.Error("an update of what has changed is let in")
	}
	if got := count().since(before); got != (requests{all: 2, conflicts: 1}) {
		t.Errorf("a read and a conflict count as %+v", got)
	}
}

func portOf(t *testing.T, address string) int {
	t.Helper()
	parsed, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(parsed.Port())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

func TestOnlyRequestsToTheManagementClusterCount(t *testing.T) {
	const text = `# TYPE rest_client_requests_total counter
rest_client_requests_total{code="200",host="127.0.0.1:10002",method="GET"} 3
rest_client_requests_total{code="200",host="127.64.0.20:6443",method="GET"} 500
rest_client_requests_total{code="409",host="127.0.0.1:10002",method="PATCH"} 4
rest_client_requests_total{code="201",host="127.0.0.1:10002",method="POST"} 1.2e+06
rest_client_requests_total{code="200",host="127.0.0.1:10002",method="PUT"} many
workqueue_depth{name="machine"} 7
`
	if got := parseRequests(text, "127.0.0.1:10002"); got != (requests{all: 1_200_007, conflicts: 4}) {
		t.Errorf("got %+v", got)
	}
}

func TestRequestsOfAProgramThatWasStartedAnewAreAllOfThem(t *testing.T) {
	before := requests{all: 50, conflicts: 5}
	if got := (requests{all: 70, conflicts: 6}).since(before); got != (requests{all: 20, conflicts: 1}) {
		t.Errorf("the same program: %+v", got)
	}
	if got := (requests{all: 8, conflicts: 2}).since(before); got != (requests{all: 8, conflicts: 2}) {
		t.Errorf("the next one: %+v", got)
	}
}
