package scale

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	providerSettlesWithin = 20 * time.Minute
	// stillFor is how many looks in a row, a second apart, see no reconcile of a settled provider.
	stillFor = 5
	// tellsEvery is how often all machines are listed, which costs the API server more than the provider does.
	tellsEvery = 10 * time.Second
)

// provider is an infrastructure provider with a management cluster and a cloud.
type provider struct {
	*envtest.Env
	manager *manager
	cloud   *servedCloud
	size    fleetSize
	// clusters are the names of all; a cluster is in the project of its number.
	clusters []string
}

// fleetSize is what a provider looks after.
type fleetSize struct{ projects, clusters, machinesOfCluster int }

func (s fleetSize) machines() int { return s.clusters * s.machinesOfCluster }

// startProvider returns when the provider has that many clusters, and has been stopped: one cluster of each project it has made
// itself, the others are copies of these.
func startProvider(t testing.TB, size fleetSize, arguments ...string) *provider {
	t.Helper()
	program := buildProgram(t, "infrastructure-manager")
	p := &provider{Env: envtest.Start(t), cloud: serveCloud(t, size), size: size}
	p.manager = newManager(t, p.Env, program, arguments...)
	p.manager.start(t)
	fresh := p.cloud.snapshot(t)
	seeds := min(size.projects, size.clusters)
	for i := range seeds {
		p.clusters = append(p.clusters, clusterName(i))
	}
	p.eachCluster(t, p.clusters, p.makeCluster)
	p.awaitStill(t)
	p.manager.stop(t)
	p.copyClusters(t, fresh, seeds)
	return p
}

// eachCluster works on several at a time.
func (p *provider) eachCluster(t testing.TB, names []string, do func(t testing.TB, number int, name string) error) {
	t.Helper()
	group := &errgroup.Group{}
	group.SetLimit(atOnce)
	for i, name := range names {
		group.Go(func() error { return do(t, i, name) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
}

// activity is what the provider does and has done since it was started.
type activity struct{ clusters, machines, reconciles, waiting, writes int }

func (p *provider) activity(t testing.TB) activity {
	t.Helper()
	text, err := fetch(t.Context(), p.manager.diagnostics, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	var seen activity
	for _, series := range metric(t, text, "controller_runtime_reconcile_total") {
		count := int(series.GetCounter().GetValue())
		seen.reconciles += count
		switch labels(series)["controller"] {
		case "sendancluster":
			seen.clusters += count
		case "sendanmachine":
			seen.machines += count
		}
	}
	for _, name := range []string{"workqueue_depth", "controller_runtime_active_workers"} {
		for _, series := range metric(t, text, name) {
			seen.waiting += int(series.GetGauge().GetValue())
		}
	}
	_, seen.writes = p.manager.toManagement(t)
	return seen
}

// awaitStill returns when everything has been looked at, and the provider has nothing to do. It tells when it was done.
func (p *provider) awaitStill(t testing.TB) time.Time {
	t.Helper()
	var last activity
	quiet, since := 0, time.Now()
	each(t, providerSettlesWithin, time.Second, func() bool {
		seen := p.activity(t)
		if seen != last || seen.waiting > 0 || seen.clusters < len(p.clusters) || seen.machines < len(p.clusters)*p.size.machinesOfCluster {
			last, quiet, since = seen, 0, time.Now()
			return false
		}
		quiet++
		return quiet >= stillFor
	}, func() { t.Fatalf("the provider does not settle: %+v", last) })
	return since
}

// unready tells which machine is not as it should be.
func (p *provider) unready(t testing.TB) error {
	t.Helper()
	var machines infrav1.SendanMachineList
	if err := p.Client.List(t.Context(), &machines); err != nil {
		return err
	}
	if len(machines.Items) != p.size.machines() {
		return fmt.Errorf("there are %d SendanMachines, not %d", len(machines.Items), p.size.machines())
	}
	for i := range machines.Items {
		if err := machineUnready(&machines.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

// spent is what happened between two looks.
type spent struct {
	after                               time.Duration
	processorSeconds                    float64
	reads, writes                       int
	cloudReads, cloudWrites, cloudPolls int
	reconciles                          int
	// written are the objects that anybody wrote, by kind.
	written objectWrites
}

// measure counts from here on, until the work is done.
func (p *provider) measure(t testing.TB, work func() time.Time) spent {
	t.Helper()
	p.cloud.resetCalls()
	before, began, written := p.totals(t), time.Now(), countObjectWrites(t, p.Env)
	end := work()
	now := p.totals(t)
	now.written = countObjectWrites(t, p.Env).since(written)
	now.after = end.Sub(began)
	now.processorSeconds -= before.processorSeconds
	now.reads, now.writes, now.reconciles = now.reads-before.reads, now.writes-before.writes, now.reconciles-before.reconciles
	now.cloudReads, now.cloudWrites, now.cloudPolls = p.cloud.calls()
	return now
}

// totals since the program was started; none while it is not.
func (p *provider) totals(t testing.TB) spent {
	t.Helper()
	if p.manager.command == nil {
		return spent{}
	}
	total := spent{processorSeconds: p.manager.processorSeconds(t), reconciles: p.activity(t).reconciles}
	total.reads, total.writes = p.manager.toManagement(t)
	return total
}

// restart measures until everything has been looked at.
func (p *provider) restart(t testing.TB) spent {
	t.Helper()
	p.manager.stop(t)
	return p.measure(t, func() time.Time {
		p.manager.start(t)
		return p.awaitStill(t)
	})
}

// rest measures a while in which nothing happens.
func (p *provider) rest(t testing.TB, window time.Duration) spent {
	t.Helper()
	return p.measure(t, func() time.Time {
		select {
		case <-time.After(window):
		case <-t.Context().Done():
			t.Fatal(t.Context().Err())
		}
		return time.Now()
	})
}

// churn measures how so many machines go and others take their place, spread over all clusters.
func (p *provider) churn(t testing.TB, count int) spent {
	t.Helper()
	return p.measure(t, func() time.Time {
		group := &errgroup.Group{}
		group.SetLimit(max(atOnce, count/4)) // machines are made at the same time, not one after the other
		for i := range count {
			cluster := i % len(p.clusters)
			group.Go(func() error {
				return p.replaceMachine(t, cluster, p.clusters[cluster], p.size.machinesOfCluster-1-i/len(p.clusters))
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		return p.awaitStill(t)
	})
}

// outage measures how all servers of a zone go down, and how they come up again. It tells how many they were.
func (p *provider) outage(t testing.TB, zone string) (down, up spent, servers int) {
	t.Helper()
	turn := func(status string) spent {
		return p.measure(t, func() time.Time {
			servers = p.cloud.turn(t, zone, status)
			var last error
			each(t, providerSettlesWithin, tellsEvery, func() bool {
				last = p.told(t, zone, status)
				return last == nil
			}, func() { t.Fatal(last) })
			return p.awaitStill(t)
		})
	}
	down = turn("SHUTOFF")
	up = turn("ACTIVE")
	return down, up, servers
}

// told looks whether the machines of a zone say what has become of their servers.
func (p *provider) told(t testing.TB, zone, status string) error {
	t.Helper()
	var machines infrav1.SendanMachineList
	if err := p.Client.List(t.Context(), &machines); err != nil {
		return err
	}
	for i := range machines.Items {
		machine := &machines.Items[i]
		if got := machine.Status.Server; got.Zone == zone && got.State != status {
			return fmt.Errorf("%s says that its server is %s", client.ObjectKeyFromObject(machine), got.State)
		}
		if !machine.DeletionTimestamp.IsZero() {
			return fmt.Errorf("%s is being deleted", client.ObjectKeyFromObject(machine))
		}
	}
	return nil
}

func TestASettledProviderCostsNothing(t *testing.T) {
	size := fleetSize{projects: 2, clusters: 6, machinesOfCluster: 5}
	p := startProvider(t, size, "--cloud-requests-per-second=200", "--cloud-request-burst=200", "--inventory-poll-servers=2s")

	first := p.restart(t) // the first time with the copies
	if err := p.unready(t); err != nil {
		t.Fatal(err)
	}
	if first.cloudWrites != 0 {
		t.Errorf("%d writes to the cloud when clusters came from elsewhere", first.cloudWrites)
	}
	again := p.restart(t)
	if again.cloudWrites != 0 || again.writes != 0 {
		t.Errorf("after a restart there were %d writes to the cloud and %d to Kubernetes", again.cloudWrites, again.writes)
	}
	if rest := p.rest(t, 5*time.Second); rest.cloudWrites != 0 || rest.writes != 0 || rest.reconciles != 0 || rest.cloudReads == 0 {
		t.Errorf("while nothing happened: %+v", rest)
	}

	const replaced = 4
	churn := p.churn(t, replaced)
	if err := p.unready(t); err != nil {
		t.Fatal(err)
	}
	if most := replaced * churnWritesPerMachine; churn.cloudWrites > most {
		t.Errorf("%d machines were replaced with %d writes to the cloud, more than %d:\n%s", replaced, churn.cloudWrites, most, p.cloud.table())
	}

	down, up, servers := p.outage(t, "az1")
	if servers == 0 || down.cloudWrites+up.cloudWrites != 0 {
		t.Errorf("an outage of %d servers led to %d writes to the cloud", servers, down.cloudWrites+up.cloudWrites)
	}
	if most := writesPerTurn * servers; max(down.writes, up.writes) > most {
		t.Errorf("an outage of %d servers was told by %v and %v", servers, down.written, up.written)
	}
	if err := p.unready(t); err != nil {
		t.Fatal(err)
	}
}

const (
	// churnWritesPerMachine are those for a port and a server, and for their deletion.
	churnWritesPerMachine = 4
	// writesPerTurn are at most those of a machine whose server has another state. Two are needed: Cluster API's patch writes
	// conditions and the other status one after the other.
	writesPerTurn = 3
)

// isWrite tells what changes the cloud from what reads it. Who logs in changes nothing.
func isWrite(method, path string) bool {
	return !slices.Contains([]string{http.MethodGet, http.MethodHead, http.MethodOptions}, method) && !strings.HasSuffix(path, "/auth/tokens")
}
