package plane

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Names of the programs, as they appear in logs and to the user.
const (
	Etcd                  = "etcd"
	APIServer             = "kube-apiserver"
	ControllerManager     = "kube-controller-manager"
	CoreManager           = "cluster-api-core"
	BootstrapManager      = "cluster-api-bootstrap-kubeadm"
	ControlPlaneManager   = "cluster-api-control-plane-kubeadm"
	InfrastructureManager = "infrastructure-manager"
	FleetManager          = "fleet-manager"
	Simulator             = "openstack-simulator"
)

// Ports that are not simply a program's own.
const (
	etcdPeerPort      = "etcd-peer"
	webhookSuffix     = "-webhook"
	healthSuffix      = "-health"
	diagnosticsSuffix = "-diagnostics"
)

// FleetNamespace is where the fleet manager compiles releases to.
const FleetNamespace = "sendan-fleet-system"

// Starting takes seconds; these bounds leave room for a small machine under load.
const (
	readyWithin = 2 * time.Minute
	stopWithin  = 20 * time.Second
)

// controllersWithoutNodes are those that work, and are of use, where no pods run.
const controllersWithoutNodes = "garbage-collector-controller,namespace-controller," +
	"serviceaccount-controller,serviceaccount-token-controller,root-ca-certificate-publisher-controller," +
	"clusterrole-aggregation-controller,resourcequota-controller,validatingadmissionpolicy-status-controller"

// admissionForNodes are defaults of the API server that only matter where pods and volumes run.
const admissionForNodes = "TaintNodesByCondition,PodTopologyLabels,NodeDeclaredFeatureValidator," +
	"StorageObjectInUseProtection,DefaultStorageClass,PersistentVolumeClaimResize,RuntimeClass,DefaultIngressClass"

// anonymousOnlyHealth lets nobody in without a certificate or a token, except to ask for health.
const anonymousOnlyHealth = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
`

// portNames are all ports a plane needs.
func portNames() []string {
	names := []string{Etcd, etcdPeerPort, APIServer, ControllerManager, Simulator}
	for _, manager := range managers() {
		names = append(names, manager+webhookSuffix, manager+healthSuffix, manager+diagnosticsSuffix)
	}
	return names
}

// managers all have the same flags, since Sendan's keeps to those of Cluster API's.
func managers() []string {
	return []string{CoreManager, BootstrapManager, ControlPlaneManager, InfrastructureManager, FleetManager}
}

func (p *Plane) etcd() Program {
	client, peer := "https://"+loopback(p.ports[Etcd]), "https://"+loopback(p.ports[etcdPeerPort])
	certificate, key := certificateFiles(p.layout.pki(), Etcd)
	authority, _ := certificateFiles(p.layout.pki(), etcdAuthority)
	return Program{
		Name: Etcd,
		Path: p.Tool(Etcd),
		Args: []string{
			"--name=sendan",
			"--data-dir=" + p.layout.etcdData(),
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=sendan=" + peer,
			"--cert-file=" + certificate, "--key-file=" + key, "--trusted-ca-file=" + authority, "--client-cert-auth",
			"--peer-cert-file=" + certificate, "--peer-key-file=" + key, "--peer-trusted-ca-file=" + authority, "--peer-client-cert-auth",
			// What a killed process wrote survives without fsync; only a crash of the machine loses it.
			"--unsafe-no-fsync",
			"--auto-compaction-mode=periodic", "--auto-compaction-retention=5m",
			"--log-level=warn",
		},
		Ready:       p.answers(client+"/health", p.etcdTLS),
		ReadyWithin: readyWithin,
		StopWithin:  stopWithin,
	}
}

func (p *Plane) apiServer() Program {
	pki := p.layout.pki()
	certificate, key := certificateFiles(pki, APIServer)
	clientAuthority, _ := certificateFiles(pki, planeAuthority)
	etcdBundle, _ := certificateFiles(pki, etcdAuthority)
	etcdCertificate, etcdKey := certificateFiles(pki, etcdClient)
	return Program{
		Name: APIServer,
		Path: p.Tool(APIServer),
		Args: []string{
			"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", port("--secure-port", p.ports[APIServer]),
			"--tls-cert-file=" + certificate, "--tls-private-key-file=" + key,
			"--etcd-servers=https://" + loopback(p.ports[Etcd]),
			"--etcd-cafile=" + etcdBundle, "--etcd-certfile=" + etcdCertificate, "--etcd-keyfile=" + etcdKey,
			"--client-ca-file=" + clientAuthority,
			"--authentication-config=" + p.layout.authentication(),
			"--authorization-mode=RBAC",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + p.serviceAccountKey(), "--service-account-signing-key-file=" + p.serviceAccountKey(),
			"--service-cluster-ip-range=10.0.0.0/24",
			"--disable-admission-plugins=" + admissionForNodes,
			// There is one API server, and it need not tell load balancers that it is about to end.
			"--endpoint-reconciler-type=none",
			"--shutdown-delay-duration=0s",
			"--profiling=false",
		},
		Ready:       p.answers("https://"+loopback(p.ports[APIServer])+"/readyz", p.planeTLS),
		ReadyWithin: readyWithin,
		StopWithin:  stopWithin,
	}
}

func (p *Plane) controllerManager() Program {
	certificate, key := certificateFiles(p.layout.pki(), ControllerManager)
	authority, _ := certificateFiles(p.layout.pki(), planeAuthority)
	return Program{
		Name: ControllerManager,
		Path: p.Tool(ControllerManager),
		Args: []string{
			"--kubeconfig=" + p.layout.Kubeconfig(),
			"--bind-address=127.0.0.1", port("--secure-port", p.ports[ControllerManager]),
			"--tls-cert-file=" + certificate, "--tls-private-key-file=" + key,
			"--leader-elect=false",
			"--controllers=" + controllersWithoutNodes,
			"--service-account-private-key-file=" + p.serviceAccountKey(),
			"--root-ca-file=" + authority,
			"--profiling=false",
		},
		Ready:       p.answers("https://"+loopback(p.ports[ControllerManager])+"/healthz", p.planeTLS),
		ReadyWithin: readyWithin,
		StopWithin:  stopWithin,
	}
}

// manager is one of Cluster API's managers, or Sendan's. Its health check includes its webhooks.
func (p *Plane) manager(name, path string, extra ...string) Program {
	return Program{
		Name: name,
		Path: path,
		Args: append([]string{
			"--kubeconfig=" + p.layout.Kubeconfig(),
			"--leader-elect=false",
			port("--webhook-port", p.ports[name+webhookSuffix]),
			"--webhook-cert-dir=" + p.layout.webhookCertificates(),
			"--health-addr=" + loopback(p.ports[name+healthSuffix]),
			"--diagnostics-address=" + loopback(p.ports[name+diagnosticsSuffix]), "--insecure-diagnostics",
		}, extra...),
		Ready:       p.answers("http://"+loopback(p.ports[name+healthSuffix])+"/readyz", nil),
		ReadyWithin: readyWithin,
		StopWithin:  stopWithin,
	}
}

func (p *Plane) managerPrograms() []Program {
	const topology = "--feature-gates=ClusterTopology=true"
	return []Program{
		p.manager(CoreManager, p.Tool(CoreManager), topology),
		p.manager(BootstrapManager, p.Tool(BootstrapManager), topology),
		p.manager(ControlPlaneManager, p.Tool(ControlPlaneManager), topology),
		p.manager(InfrastructureManager, p.own(InfrastructureManager), p.options.ManagerArgs...),
		p.manager(FleetManager, p.own(FleetManager), "--system-namespace="+FleetNamespace),
	}
}

func (p *Plane) simulator() Program {
	args := []string{
		"--clouds-yaml=" + p.layout.CloudsYAML(),
		"--url-file=" + p.layout.SimulatorURL(),
	}
	if p.options.KeepCloud {
		args = append(args, "--state="+p.layout.cloudState())
	}
	program := Program{Name: Simulator, Path: p.own(Simulator), ReadyWithin: readyWithin, StopWithin: stopWithin}
	if p.cloud != nil {
		program = p.cloud.program(p.layout, p.options.SimulatorImage, p.options.NodeImage, args)
	} else {
		args = append(args, "--listen="+loopback(p.ports[Simulator]), "--backend="+p.options.Backend, "--scenario="+p.layout.scenario())
		program.Args = args
	}
	program.Args = append(program.Args, p.options.SimulatorArgs...)
	program.Ready = p.cloudAnswers
	return program
}

func (p *Plane) cloudAnswers(ctx context.Context) error {
	url, err := p.layout.writtenURL()
	if err != nil {
		return err
	}
	return p.answers(url+"/_simulator/health", nil)(ctx)
}

// answers is a health check that wants status 200.
func (p *Plane) answers(url string, trust *tls.Config) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		body, _ := io.ReadAll(io.LimitReader(response.Body, 2048))
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s: %s", url, response.Status, strings.TrimSpace(string(body)))
		}
		return nil
	}
}

// Tool is the path of a tool, such as kubectl.
func (p *Plane) Tool(name string) string { return filepath.Join(p.options.ToolsDir, name) }

func (p *Plane) own(name string) string { return filepath.Join(p.options.ProgramsDir, name) }

func (p *Plane) serviceAccountKey() string {
	return filepath.Join(p.layout.pki(), "service-account.key")
}

func port(flag string, port int) string { return flag + "=" + strconv.Itoa(port) }
