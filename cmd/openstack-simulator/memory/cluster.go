package memory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"github.com/jonboulle/clockwork"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

// clusterID tells tenant clusters apart by what their machines know of them. Names are for people: two clusters may
// share one, as two in isolated networks may share an endpoint.
type clusterID struct{ fingerprint, endpoint string }

// cluster is one tenant cluster. Its fields are guarded by Backend.mu; api has a lock of its own.
type cluster struct {
	backend *Backend
	id      clusterID
	api     *kubeapi.Cluster
	etcd    *etcdCluster
	// kubeadm is what the founder was told, a machine that may be gone.
	founder  simulator.Node
	kubeadm  *bootstrap
	machines map[string]*machine // by server id
	// silent are nodes whose kubelet stopped, by node name.
	silent map[string]silence
}

// silence is a node that becomes Unknown when its timer fires.
type silence struct {
	timer        clockwork.Timer
	controlPlane bool
}

func newCluster(b *Backend, id clusterID, founder *machine) *cluster {
	c := &cluster{
		backend: b, id: id, founder: founder.spec, kubeadm: founder.kubeadm, etcd: newEtcdCluster(b.random.uint64()),
		machines: map[string]*machine{}, silent: map[string]silence{},
	}
	c.api = kubeapi.NewCluster(b.types, b.Clock, b.random.uid, c.forward)
	return c
}

// serves tells whether an API server answers.
func (c *cluster) serves() bool {
	if !c.etcd.hasQuorum() {
		return false
	}
	for _, m := range c.machines {
		if m.apiTLS != nil {
			return true
		}
	}
	return false
}

func (c *cluster) hasControlPlane() bool {
	for _, m := range c.machines {
		if m.kubeadm.ControlPlane() {
			return true
		}
	}
	return false
}

// canGrow tells whether etcd takes another member now.
func (c *cluster) canGrow() error {
	if !c.etcd.hasQuorum() {
		return errors.New("etcd cluster is unavailable: no leader")
	}
	return nil
}

// currentVersion is the Kubernetes version that kubeadm finds in its ConfigMap.
func (c *cluster) currentVersion() string {
	stored := &corev1.ConfigMap{}
	var configuration kubeadm.ClusterConfiguration
	if err := kubeapi.Get(c.api, metav1.NamespaceSystem, kubeadmConfigMap, stored); err == nil {
		if err := yaml.Unmarshal([]byte(stored.Data[clusterConfigurationKey]), &configuration); err == nil && configuration.KubernetesVersion != "" {
			return configuration.KubernetesVersion
		}
	}
	return c.kubeadm.Cluster.KubernetesVersion
}

// apiHosts are the names and addresses in the certificate of a machine's API server, as kubeadm chooses them.
func (c *cluster) apiHosts(m *machine) []string {
	hosts := []string{
		m.nodeName, "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		m.kubeadm.APIEndpoint().AdvertiseAddress, serviceAddress(c.kubeadm.Cluster.Networking.ServiceSubnet, 1),
	}
	if host, _, err := net.SplitHostPort(c.id.endpoint); err == nil {
		hosts = append(hosts, host)
	}
	return slices.Concat(hosts, m.spec.Addresses, c.kubeadm.Cluster.APIServer.CertSANs)
}

// forward connects to a port of a pod on its node. Only etcd and the API server listen.
func (c *cluster) forward(ctx context.Context, namespace, pod, port string) (net.Conn, error) {
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("port %q: %w", port, err)
	}
	return c.backend.dial(ctx, func() (*machine, error) {
		for _, m := range c.machines {
			served := map[string]int{etcdPodName(m.nodeName): etcdPort, apiServerPodName(m.nodeName): m.kubeadm.APIEndpoint().BindPort}
			if namespace == metav1.NamespaceSystem && served[pod] == number && m.kubeadm.ControlPlane() {
				return m, nil
			}
		}
		return nil, fmt.Errorf("nothing listens on port %s of pod %s/%s", port, namespace, pod)
	}, number)
}

// watchSilence makes a node Unknown once its kubelet has been silent for too long. The lock is held.
func (c *cluster) watchSilence(nodeName string, controlPlane bool) {
	c.endSilence(nodeName)
	var timer clockwork.Timer
	timer = c.backend.Clock.AfterFunc(c.backend.NodeMonitorGrace, func() {
		c.backend.mu.Lock()
		defer c.backend.mu.Unlock()
		if c.silent[nodeName].timer == timer && c.backend.clusters[c.id] == c {
			delete(c.silent, nodeName)
			c.makeNodeUnknown(nodeName, controlPlane)
		}
	})
	c.silent[nodeName] = silence{timer: timer, controlPlane: controlPlane}
}

// endSilence is called when a kubelet reports. The lock is held.
func (c *cluster) endSilence(nodeName string) {
	if silent, ok := c.silent[nodeName]; ok {
		silent.timer.Stop()
		delete(c.silent, nodeName)
	}
}

func (c *cluster) stopTimers() {
	for name, silent := range c.silent {
		silent.timer.Stop()
		delete(c.silent, name)
	}
}
