package memory

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/cloudinit"
)

// imageVersion finds the Kubernetes version that an image was built with in its name.
var imageVersion = regexp.MustCompile(`\bv?(1\.[0-9]{2,}\.[0-9]+)\b`)

// machine is one server.
type machine struct {
	backend *Backend
	spec    simulator.Node
	console console

	// version is the Kubernetes version of the image, or what kubeadm found in the cluster when the image's name tells
	// none. It is final before the machine enters a cluster.
	version string

	// Guarded by Backend.mu from here; kubeadm and nodeName are written once, by the first boot.
	// kubeadm is nil when the machine runs no Kubernetes.
	kubeadm  *bootstrap
	nodeName string
	powered  bool
	cluster  *cluster // from the moment kubeadm was done
	// apiTLS and etcdTLS are set while the API server and the etcd member serve.
	apiTLS, etcdTLS *tls.Config
	connections     map[*machineConn]struct{}
	devices         deviceStage
	// stop ends what runs since the machine was powered on, and idle is closed when it has ended.
	stop context.CancelFunc
	idle chan struct{}
}

func newMachine(b *Backend, node simulator.Node) *machine {
	m := &machine{
		backend: b, spec: node, nodeName: strings.ToLower(node.Name),
		console:     console{start: b.Clock.Now()},
		connections: map[*machineConn]struct{}{},
	}
	if match := imageVersion.FindStringSubmatch(node.Image); match != nil {
		m.version = "v" + match[1]
	}
	return m
}

func (m *machine) printf(format string, args ...any) {
	m.console.printf(m.backend.Clock.Now(), format, args...)
}

// start powers the machine on. The lock is held.
func (m *machine) start() { m.live(m.run) }

// live lets the powered machine do something by itself. The lock is held.
func (m *machine) live(run func(context.Context) error) {
	ctx, stop := context.WithCancel(m.backend.ctx)
	idle := make(chan struct{})
	m.powered, m.stop, m.idle = true, stop, idle
	m.backend.done.Go(func() {
		defer close(idle)
		defer stop()
		if err := run(ctx); err != nil && !errors.Is(err, context.Canceled) {
			m.printf("%v", err)
			m.backend.Logger.Warn("machine did not come up", "server", m.spec.Name, "id", m.spec.ServerID, "error", err)
		}
	})
}

// halt cuts the power and returns the connections to close once the lock, which is held, is not.
func (m *machine) halt() []net.Conn {
	if !m.powered {
		return nil
	}
	m.printf("Power down")
	m.stop()
	m.powered, m.devices = false, noDevices
	if m.cluster != nil {
		m.cluster.watchSilence(m.nodeName, m.kubeadm.ControlPlane())
	}
	return m.stopServing()
}

// stopServing takes the API server and the etcd member away. The lock is held.
func (m *machine) stopServing() []net.Conn {
	m.apiTLS, m.etcdTLS = nil, nil
	if m.cluster != nil {
		m.cluster.etcd.elect()
	}
	open := make([]net.Conn, 0, len(m.connections))
	for c := range m.connections {
		open = append(open, c)
	}
	return open
}

// run is the machine's life from power on until it has nothing more to do by itself.
func (m *machine) run(ctx context.Context) error {
	m.printf("Linux version 6.12.0-simulated (%s)", m.spec.Image)
	if m.joined() {
		return m.restart(ctx)
	}
	if m.kubeadm == nil {
		if err := m.readUserData(); err != nil {
			return err
		}
	}
	switch {
	case m.kubeadm == nil:
		m.printf("cloud-init: finished; no kubeadm among its commands")
		return nil
	case m.kubeadm.Init != nil:
		return m.initCluster(ctx)
	default:
		return m.joinCluster(ctx)
	}
}

func (m *machine) readUserData() error {
	kubeadm, err := m.parseUserData()
	if err != nil || kubeadm == nil {
		return err
	}
	m.backend.mu.Lock()
	defer m.backend.mu.Unlock()
	m.follow(kubeadm)
	return nil
}

// parseUserData finds out what the first boot is to do about Kubernetes; nil for nothing.
func (m *machine) parseUserData() (*bootstrap, error) {
	config, err := cloudinit.Parse(m.spec.UserData, cloudinit.Instance{
		ID: m.spec.ServerID, Name: m.spec.Name, HostName: m.nodeName, Zone: m.spec.Zone, Region: m.backend.Region,
		Project: m.spec.ProjectID, Address: m.firstAddress(), Metadata: m.spec.Metadata,
	})
	if err != nil {
		return nil, fmt.Errorf("cloud-init: %w", err)
	}
	return readBootstrap(config)
}

// follow is the first boot's decision. The lock is held.
func (m *machine) follow(kubeadm *bootstrap) {
	m.kubeadm = kubeadm
	registration := kubeadm.Registration()
	m.nodeName = cmp.Or(registration.Name, registration.KubeletExtraArgs["hostname-override"], m.nodeName)
}

func (m *machine) firstAddress() string {
	if len(m.spec.Addresses) == 0 {
		return ""
	}
	return m.spec.Addresses[0]
}

func (m *machine) joined() bool {
	m.backend.mu.Lock()
	defer m.backend.mu.Unlock()
	return m.cluster != nil
}

// initCluster is kubeadm init.
func (m *machine) initCluster(ctx context.Context) error {
	if m.version == "" {
		m.version = m.kubeadm.Cluster.KubernetesVersion
	}
	m.printf("[init] Using Kubernetes version: %s", m.version)
	if err := m.wait(ctx, m.backend.APIServerStart); err != nil {
		return err
	}
	if err := m.whileRunning(ctx, m.foundCluster); err != nil {
		return fmt.Errorf("kubeadm init: %w", err)
	}
	m.printf("Your Kubernetes control-plane has initialized successfully!")
	return m.startKubelet(ctx)
}

// foundCluster makes the cluster that others join. The lock is held.
func (m *machine) foundCluster() error {
	id := clusterID{fingerprint: m.kubeadm.clusterCA.fingerprint(), endpoint: m.kubeadm.Endpoint(m.firstAddress())}
	if other := m.backend.clusters[id]; other != nil && other.hasControlPlane() {
		return fmt.Errorf("a cluster already answers at %s", id.endpoint)
	}
	c := newCluster(m.backend, id, m)
	if err := c.addKubeadmObjects(m); err != nil {
		return err
	}
	m.backend.clusters[id] = c
	if err := m.enter(c); err != nil {
		return err
	}
	m.backend.Logger.Info("a tenant cluster is initialized", "endpoint", id.endpoint, "server", m.spec.Name)
	return nil
}

// joinCluster is kubeadm join.
func (m *machine) joinCluster(ctx context.Context) error {
	c, err := m.discover(ctx)
	if err != nil {
		return fmt.Errorf("kubeadm join: %w", err)
	}
	if m.version == "" {
		m.version = c.currentVersion()
	}
	if m.kubeadm.ControlPlane() {
		if err := m.wait(ctx, m.backend.APIServerStart); err != nil {
			return err
		}
		if err := m.whileRunning(ctx, func() error { return c.canGrow() }); err != nil {
			return fmt.Errorf("kubeadm join: %w", err)
		}
	}
	if err := m.whileRunning(ctx, func() error { return m.enter(c) }); err != nil {
		return fmt.Errorf("kubeadm join: %w", err)
	}
	m.printf("This node has joined the cluster")
	return m.startKubelet(ctx)
}

// enter makes the machine a member of a cluster for good, with an etcd member of its own when it is a control plane.
// The lock is held.
func (m *machine) enter(c *cluster) error {
	if m.kubeadm.ControlPlane() {
		c.etcd.add(m)
		if err := c.addStaticPods(m); err != nil {
			return err
		}
	}
	m.cluster = c
	c.machines[m.spec.ServerID] = m
	return m.startServing()
}

// startServing brings the API server and the etcd member up, if the machine has them. The lock is held.
func (m *machine) startServing() error {
	if !m.kubeadm.ControlPlane() || !m.cluster.etcd.hasMemberOf(m) {
		return nil
	}
	api, err := m.kubeadm.clusterCA.issue(m.backend.serverKey, "kube-apiserver", m.cluster.apiHosts(m))
	if err != nil {
		return err
	}
	etcd, err := m.kubeadm.etcdCA.issue(m.backend.serverKey, m.nodeName, append([]string{"localhost", "127.0.0.1", "::1", m.nodeName, etcdPodName(m.nodeName)}, m.spec.Addresses...))
	if err != nil {
		return err
	}
	m.apiTLS = m.kubeadm.clusterCA.serverTLS(api, tls.VerifyClientCertIfGiven)
	m.etcdTLS = m.kubeadm.etcdCA.serverTLS(etcd, tls.RequireAndVerifyClientCert)
	m.cluster.etcd.elect()
	return nil
}

// startKubelet registers the node and makes it Ready.
func (m *machine) startKubelet(ctx context.Context) error {
	if err := m.wait(ctx, m.backend.KubeletStart); err != nil {
		return err
	}
	if err := m.whileRunning(ctx, m.registerNode); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	m.printf("kubelet: Successfully registered node %s", m.nodeName)
	if err := m.wait(ctx, m.backend.NodeReady); err != nil {
		return err
	}
	pluginsAfter := m.backend.random.between(m.backend.DevicePlugin)
	if err := m.whileRunning(ctx, func() error {
		if pluginsAfter <= 0 {
			m.devices = wholeDevices
		}
		return m.makeNodeReady()
	}); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	m.printf("kubelet: node %s is Ready", m.nodeName)
	if err := m.startDevices(ctx, pluginsAfter); err != nil {
		return fmt.Errorf("device plugins: %w", err)
	}
	return nil
}

// restart is a boot of a machine that is part of a cluster.
func (m *machine) restart(ctx context.Context) error {
	if m.kubeadm.ControlPlane() {
		if err := m.wait(ctx, m.backend.APIServerStart); err != nil {
			return err
		}
		if err := m.whileRunning(ctx, m.startServing); err != nil {
			return err
		}
	}
	return m.startKubelet(ctx)
}

// wait lets time pass, with jitter, until the power is cut.
func (m *machine) wait(ctx context.Context, d time.Duration) error {
	return m.waitExactly(ctx, m.backend.random.jitter(d))
}

func (m *machine) waitExactly(ctx context.Context, d time.Duration) error {
	timer := m.backend.Clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.Chan():
		return nil
	}
}

// whileRunning does something with the lock held, unless the power was cut before.
func (m *machine) whileRunning(ctx context.Context, do func() error) error {
	m.backend.mu.Lock()
	defer m.backend.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	return do()
}

// connect makes both ends of a connection to one of the machine's ports. The lock is held.
func (m *machine) connect(port int) (client net.Conn, server *machineConn, err error) {
	if !m.powered {
		return nil, nil, syscall.EHOSTUNREACH
	}
	conn := &machineConn{machine: m, etcd: port == etcdPort}
	switch {
	case conn.etcd:
		conn.tls = m.etcdTLS
	case m.kubeadm != nil && port == m.kubeadm.APIEndpoint().BindPort:
		conn.tls = m.apiTLS
	}
	if conn.tls == nil {
		return nil, nil, syscall.ECONNREFUSED
	}
	client, conn.Conn = net.Pipe()
	m.connections[conn] = struct{}{}
	return client, conn, nil
}

func (m *machine) forget(c *machineConn) {
	m.backend.mu.Lock()
	defer m.backend.mu.Unlock()
	delete(m.connections, c)
}
