package plane

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Names of authorities and of certificates that are no program's own.
const (
	planeAuthority   = "ca"
	etcdAuthority    = "etcd-ca"
	webhookAuthority = "webhook-ca"
	etcdClient       = "etcd-client"
	admin            = "admin"

	manifestsDirectory = "manifests"
)

// The plane's own client does little, but applies hundreds of objects at the start.
const (
	clientQPS   = 200
	clientBurst = 400
)

// Options say what to run and where.
type Options struct {
	// StateDir is made when it is not there; what it holds is used again when it is.
	StateDir string
	// ToolsDir holds etcd, the API server, its controller manager, and Cluster API's managers and
	// manifests.
	ToolsDir string
	// ProgramsDir holds infrastructure-manager, fleet-manager and openstack-simulator.
	ProgramsDir string
	// Backend is what the simulator's servers run: memory, none or docker.
	Backend string
	// SimulatorImage and NodeImage are what the backend docker runs.
	SimulatorImage, NodeImage string
	// SimulatorArgs and ManagerArgs are added to the simulator's and the provider's arguments.
	SimulatorArgs []string
	ManagerArgs   []string
	// KeepCloud lets the simulated cloud outlive the plane, as the management cluster does.
	KeepCloud bool
	// Scenario is YAML that changes the simulated cloud.
	Scenario string
	// Scheme has the kinds that clients of the plane use.
	Scheme *runtime.Scheme
	Clock  clockwork.Clock
	// Report is told what happens to the programs. It may be called from several goroutines.
	Report func(Event)
}

// Plane is a management plane that runs.
type Plane struct {
	options Options
	layout  Layout
	ports   map[string]int
	unlock  func()
	block   *loopbackBlock
	// cloud and removeCloud are nil where the cloud is a process.
	cloud       *containerCloud
	removeCloud func()
	supervisor  *supervisor

	cloudURL          string
	planeTLS, etcdTLS *tls.Config
	webhookBundle     []byte
	restConfig        *rest.Config
	client            client.WithWatch
}

// Start brings a plane up. When that fails, or ctx ends, nothing is left running.
func Start(ctx context.Context, options Options) (*Plane, error) {
	p := &Plane{options: options}
	if err := p.prepare(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	if err := p.run(ctx); err != nil {
		p.Stop()
		return nil, err
	}
	return p, nil
}

// Stop ends every program in the reverse order of the start.
func (p *Plane) Stop() {
	if p.supervisor != nil {
		p.supervisor.stop()
	}
	if p.removeCloud != nil {
		p.removeCloud()
	}
	if p.block != nil {
		p.block.release()
	}
	if p.unlock != nil {
		p.unlock()
	}
}

// Layout tells where the plane's files are.
func (p *Plane) Layout() Layout { return p.layout }

// Client acts as administrator of the management cluster.
func (p *Plane) Client() client.WithWatch { return p.client }

// APIServerURL is where the management API server is reached.
func (p *Plane) APIServerURL() string { return "https://" + loopback(p.ports[APIServer]) }

// DiagnosticsURL is where a manager of the plane tells its metrics, below /metrics.
func (p *Plane) DiagnosticsURL(manager string) string {
	return "http://" + loopback(p.ports[manager+diagnosticsSuffix])
}

// SimulatorURL is where the simulated cloud is reached.
func (p *Plane) SimulatorURL() string { return p.cloudURL }

// ServerContainers are the names of the containers that are servers of the cloud, of all or of those that run; none
// where servers are not real.
func (p *Plane) ServerContainers(ctx context.Context, running bool) ([]string, error) {
	if p.cloud == nil {
		return nil, nil
	}
	return p.cloud.servers(ctx, running)
}

// PID of a program, false while it does not run.
func (p *Plane) PID(program string) (int, bool) { return p.supervisor.pid(program) }

// Kill ends one program as kill -9 does; nothing else is touched. It is started again at once. While it
// does not run the error is [ErrNotRunning].
func (p *Plane) Kill(program string) error { return p.supervisor.kill(program) }

// prepare writes everything the programs need.
func (p *Plane) prepare(ctx context.Context) error {
	dir, err := filepath.Abs(p.options.StateDir)
	if err != nil {
		return fmt.Errorf("find state directory: %w", err)
	}
	p.layout = Layout{Dir: dir}
	if err := p.requirePrograms(); err != nil {
		return err
	}
	if err := p.layout.create(); err != nil {
		return err
	}
	if p.unlock, err = lockState(p.layout.lock()); err != nil {
		return err
	}
	if err := rotateLogs(p.layout.Logs()); err != nil {
		return err
	}
	if err := p.layout.forgetURL(); err != nil {
		return err
	}
	if p.ports, err = choosePorts(p.layout.ports(), portNames()); err != nil {
		return err
	}
	if p.block, err = p.reserveBlock(); err != nil {
		return err
	}
	if err := p.layout.writeScenario(p.block, p.options.Scenario); err != nil {
		return err
	}
	if err := os.WriteFile(p.layout.authentication(), []byte(anonymousOnlyHealth), 0o600); err != nil {
		return fmt.Errorf("write authentication configuration: %w", err)
	}
	if err := p.issueCertificates(p.options.Clock.Now()); err != nil {
		return err
	}
	if err := p.connect(); err != nil {
		return err
	}
	return p.prepareCloud(ctx)
}

func (p *Plane) prepareCloud(ctx context.Context) error {
	if p.options.Backend != DockerBackend {
		return nil
	}
	cloud := newContainerCloud(p.layout.Dir)
	p.cloud = &cloud
	p.removeCloud = func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), cloudStopsWithin)
		defer cancel()
		cloud.remove(ending)
	}
	return cloud.prepare(ctx, p.options.SimulatorImage, p.options.NodeImage)
}

// requirePrograms names everything that is missing at once, before anything is started.
func (p *Plane) requirePrograms() error {
	tools := []string{Etcd, APIServer, ControllerManager, CoreManager, BootstrapManager, ControlPlaneManager, manifestsDirectory}
	return errors.Join(
		require(p.options.ToolsDir, tools, "run `make tools`, and set --tools-dir to what `hack/build-tools.sh --dir` prints"),
		require(p.options.ProgramsDir, []string{InfrastructureManager, FleetManager, Simulator}, "run `make build`, or set --programs-dir"),
	)
}

func require(dir string, names []string, remedy string) error {
	missing := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	})
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%s has no %s: %s", dir, strings.Join(missing, ", "), remedy)
}

func (p *Plane) issueCertificates(now time.Time) error {
	pki := p.layout.pki()
	plane, err := openAuthority(pki, planeAuthority, now)
	if err != nil {
		return err
	}
	etcd, err := openAuthority(pki, etcdAuthority, now)
	if err != nil {
		return err
	}
	webhook, err := openAuthority(pki, webhookAuthority, now)
	if err != nil {
		return err
	}
	for _, certificate := range []struct {
		authority *authority
		dir, name string
		identity  identity
	}{
		{etcd, pki, Etcd, identity{name: Etcd, server: true}},
		{etcd, pki, etcdClient, identity{name: APIServer}},
		{plane, pki, APIServer, identity{name: APIServer, server: true}},
		{plane, pki, ControllerManager, identity{name: ControllerManager, server: true}},
		// The group that the API server lets do everything.
		{plane, pki, admin, identity{name: admin, groups: []string{"system:masters"}}},
		// The name that controller-runtime looks for.
		{webhook, p.layout.webhookCertificates(), "tls", identity{name: "webhook", server: true}},
	} {
		if err := certificate.authority.issue(certificate.dir, certificate.name, certificate.identity); err != nil {
			return err
		}
	}
	if err := ensureKey(p.serviceAccountKey()); err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	p.webhookBundle = webhook.bundle()
	if p.etcdTLS, err = clientTLS(etcd, etcdClient); err != nil {
		return err
	}
	if p.planeTLS, err = clientTLS(plane, admin); err != nil {
		return err
	}
	return p.writeAdminKubeconfig(plane)
}

// clientTLS trusts an authority and shows a certificate that it issued.
func clientTLS(a *authority, name string) (*tls.Config, error) {
	certFile, keyFile := certificateFiles(a.dir, name)
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("load certificate %s: %w", name, err)
	}
	return &tls.Config{RootCAs: a.pool(), Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12}, nil
}

func (p *Plane) writeAdminKubeconfig(a *authority) error {
	certFile, keyFile := certificateFiles(a.dir, admin)
	certificate, err := os.ReadFile(certFile)
	if err != nil {
		return fmt.Errorf("read certificate %s: %w", admin, err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("read key %s: %w", admin, err)
	}
	return writeKubeconfig(p.layout.Kubeconfig(), p.APIServerURL(), a.bundle(), certificate, key)
}

func (p *Plane) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", p.layout.Kubeconfig())
	if err != nil {
		return fmt.Errorf("read kubeconfig: %w", err)
	}
	config.QPS, config.Burst = clientQPS, clientBurst
	p.restConfig = config
	return nil
}

// run starts the programs: what stores, what serves, what the kinds are, then what acts on them.
func (p *Plane) run(ctx context.Context) error {
	p.supervisor = newSupervisor(p.layout, p.options.Clock, p.options.Report)
	err := p.supervisor.startStage(ctx, p.etcd())
	if err != nil {
		return err
	}
	if err := p.supervisor.startStage(ctx, p.apiServer(), p.simulator()); err != nil {
		return err
	}
	if p.cloudURL, err = p.layout.writtenURL(); err != nil {
		return err
	}
	manifests, err := providers(p.options.ToolsDir)
	if err != nil {
		return err
	}
	if p.client, err = client.NewWithWatch(p.restConfig, client.Options{Scheme: p.options.Scheme}); err != nil {
		return fmt.Errorf("connect to the management API server: %w", err)
	}
	if err := p.install(ctx, manifests); err != nil {
		return err
	}
	fleet := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: FleetNamespace}}
	if err := client.IgnoreAlreadyExists(p.client.Create(ctx, fleet)); err != nil {
		return fmt.Errorf("create namespace %s: %w", FleetNamespace, err)
	}
	return p.supervisor.startStage(ctx, append(p.managerPrograms(), p.controllerManager())...)
}
