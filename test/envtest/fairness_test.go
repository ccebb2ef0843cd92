package envtest_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	// workers are far fewer than the clusters of the cloud that hangs.
	workers = 4
	hanging = 12
	// patience is how long a request to a cloud may take. Without fairness, everybody would wait for so long.
	patience = 4 * time.Minute
	// inTime is what a cluster of another cloud may take meanwhile.
	inTime = 2 * time.Minute
)

// TestACloudThatHangsHoldsUpNoOther gives the real controllers more work with a cloud that never answers than they have workers.
func TestACloudThatHangsHoldsUpNoOther(t *testing.T) {
	p := plane{envtest.Start(t)}
	sim := newCloud(t, "well", "hanging")
	well := httptest.NewServer(sim)
	t.Cleanup(well.Close)
	ofClusters, ofTemplates := hungCloud(t), hungCloud(t)
	p.startControllers(t, controllerOptions{name: "provider", workers: workers, patience: patience})
	t.Cleanup(func() { ofClusters.end(); ofTemplates.end() }) // the controllers stop when their requests end

	for i := range hanging { // of a tenant each, so that they share no login
		clusters, templates := fmt.Sprint("clusters-", i), fmt.Sprint("templates-", i)
		p.tenant(t, clusters, withPassword(cloudsYAML(t, sim, ofClusters.Server, "hanging"), i))
		p.cluster(t, clusters, nil)
		p.tenant(t, templates, withPassword(cloudsYAML(t, sim, ofTemplates.Server, "hanging"), i))
		p.ownTemplate(t, templates)
	}
	for _, hung := range []*hungServer{ofClusters, ofTemplates} {
		hung.isAskedBy(t, workers/2)
	}
	p.tenant(t, "well", cloudsYAML(t, sim, well, "well"))
	cluster := p.cluster(t, "well", nil)
	template := p.template(t, "well", nil)
	p.hasCondition(t, cluster, infrav1.NetworkReadyCondition, metav1.ConditionTrue)
	p.hasCondition(t, template, infrav1.ReadyCondition, metav1.ConditionTrue)
	for _, hung := range []*hungServer{ofClusters, ofTemplates} {
		if n := hung.asked.Load(); n > workers/2 {
			t.Errorf("%d of %d workers waited for a cloud that hangs", n, workers)
		}
	}
}

func withPassword(clouds string, number int) string {
	return strings.ReplaceAll(clouds, `password: "`, fmt.Sprintf(`password: "%d`, number))
}

// hungServer never answers.
type hungServer struct {
	*httptest.Server
	asked atomic.Int64
	end   func()
}

func hungCloud(t *testing.T) *hungServer {
	ended := make(chan struct{})
	hung := &hungServer{end: func() { close(ended) }}
	hung.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		hung.asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body) // or the server does not notice that the client gives up
		select {
		case <-ended:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(hung.Close)
	return hung
}

func (h *hungServer) isAskedBy(t *testing.T, most int64) {
	t.Helper()
	envtest.Eventually(t, inTime, func() error {
		if n := h.asked.Load(); n < most {
			return fmt.Errorf("the cloud that hangs was asked %d times", n)
		}
		return nil
	})
}

// ownTemplate makes one with credentials of its own.
func (p plane) ownTemplate(t *testing.T, namespace string) {
	t.Helper()
	template := &infrav1.SendanMachineTemplate{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "workers"}}
	template.Spec.Template.Spec = infrav1.SendanMachineSpec{
		Flavor: "m1.small", Image: infrav1.ResourceReference{Name: "ubuntu-24.04-kube-v1.36.3"},
		IdentityRef: &infrav1.IdentityReference{Name: "cloud", CloudName: "sim"},
	}
	p.create(t, template)
}

const (
	// noisyMachines all fail. They are far more than there are workers.
	noisyMachines = 200
	sharedWorkers = 8
	// placesOfATenant at one cloud: half of the half that one cloud may have.
	placesOfATenant = sharedWorkers / 4
	// passesInLine is far less than what 200 machines take that come back every other second to look for room.
	passesInLine = 5
	// requestsOfAFailedMachine: a port and a server that is refused. The rest is for the cluster and for listings.
	requestsOfAFailedMachine = 2
	requestsOfANoisyCluster  = 150
)

// TestATenantHoldsUpNoOther has two tenants at one cloud. All machines of one of them fail: slowly at first, then fast.
func TestATenantHoldsUpNoOther(t *testing.T) {
	p := plane{envtest.Start(t)}
	sim := newCloud(t, "noisy", "quiet")
	edge := newSlowEdge(t, sim, "noisy-")
	var passes atomic.Int64
	p.startControllers(t, controllerOptions{name: "provider", workers: sharedWorkers, patience: patience, onPass: func(machine client.ObjectKey) {
		if machine.Namespace == "noisy" {
			passes.Add(1)
		}
	}})

	p.tenant(t, "noisy", cloudsYAML(t, sim, edge.Server, "noisy"))
	p.provisioned(t, p.cluster(t, "noisy", nil))
	if err := sim.SetQuota("noisy", "instances", 0); err != nil {
		t.Fatal(err)
	}
	for i := range noisyMachines {
		p.bootstrap(t, p.machine(t, "noisy", fmt.Sprint("noisy-", i), nil))
	}
	envtest.Eventually(t, inTime, func() error {
		if held := edge.held.Load(); held < placesOfATenant {
			return fmt.Errorf("%d requests for a server are under way", held)
		}
		return nil
	})

	quiet := func(name string) {
		t.Helper()
		p.tenant(t, name, cloudsYAML(t, sim, edge.Server, "quiet"))
		p.provisioned(t, p.cluster(t, name, nil))
		machine := p.machine(t, name, name, nil)
		p.bootstrap(t, machine)
		p.runs(t, machine)
	}
	quiet("quiet-while-slow")
	if held := edge.held.Load(); held != placesOfATenant {
		t.Errorf("%d machines of the noisy tenant were at the cloud at the same time, want %d", held, placesOfATenant)
	}
	before := passes.Load()
	quiet("quiet-while-they-wait")
	if n := passes.Load() - before; n > passesInLine {
		t.Errorf("%d passes over machines that stood in line", n)
	}

	edge.release()
	quiet("quiet-while-fast")
	envtest.Eventually(t, inTime, func() error {
		if refused := edge.refused.Load(); refused < noisyMachines {
			return fmt.Errorf("%d of %d machines were tried", refused, noisyMachines)
		}
		return nil
	})
	if refused, requests := edge.refused.Load(), requestsIn(t, sim, "noisy"); refused > noisyMachines || requests > noisyMachines*requestsOfAFailedMachine+requestsOfANoisyCluster {
		t.Errorf("%d machines asked for a server %d times, and the cloud %d times for anything", noisyMachines, refused, requests)
	}
}

// slowEdge is in front of a cloud. It holds requests for servers whose names have a prefix.
type slowEdge struct {
	*httptest.Server
	release func()
	// held are under way now, and refused are all that were answered with 403.
	held, refused atomic.Int64
}

func newSlowEdge(t *testing.T, sim *simulator.Simulator, prefix string) *slowEdge {
	released := make(chan struct{})
	edge := &slowEdge{release: func() { close(released) }}
	edge.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !asksForServer(r, prefix) {
			sim.ServeHTTP(w, r)
			return
		}
		edge.held.Add(1)
		select {
		case <-released:
		case <-r.Context().Done():
		}
		edge.held.Add(-1)
		answer := &statusWriter{ResponseWriter: w}
		sim.ServeHTTP(answer, r)
		if answer.status == http.StatusForbidden {
			edge.refused.Add(1)
		}
	}))
	t.Cleanup(edge.Close)
	return edge
}

func asksForServer(r *http.Request, prefix string) bool {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/servers") {
		return false
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil && bytes.Contains(body, []byte(`"name":"`+prefix))
}

type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// requestsIn counts what a project was asked for.
func requestsIn(t *testing.T, sim *simulator.Simulator, project string) int {
	t.Helper()
	account, err := sim.Account(project, project)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for _, call := range sim.CallLog() {
		if call.Project == account.ProjectID {
			count++
		}
	}
	return count
}
