package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

// savedBackend is what outlives the process. Certificates are issued anew by the clusters' own authorities, which are
// in the user data; connections end.
type savedBackend struct {
	Random   []byte         `json:"random"`
	Machines []savedMachine `json:"machines"`
	Clusters []savedCluster `json:"clusters"`
}

type savedMachine struct {
	Spec    simulator.Node `json:"spec"`
	Version string         `json:"version,omitempty"`
	// Cluster is the index of the cluster the machine is part of, -1 for none.
	Cluster int  `json:"cluster"`
	Powered bool `json:"powered,omitempty"`
	// Idle machines have done all they do by themselves since they were powered on.
	Idle         bool      `json:"idle,omitempty"`
	Console      string    `json:"console"`
	ConsoleStart time.Time `json:"consoleStart"`
}

type savedCluster struct {
	Fingerprint string          `json:"fingerprint"`
	Endpoint    string          `json:"endpoint"`
	Founder     simulator.Node  `json:"founder"`
	API         kubeapi.Saved   `json:"api"`
	EtcdID      uint64          `json:"etcdID"`
	EtcdTerm    uint64          `json:"etcdTerm"`
	EtcdLeader  uint64          `json:"etcdLeader"`
	EtcdMembers []savedMember   `json:"etcdMembers"`
	Silent      map[string]bool `json:"silent,omitempty"` // node name to whether it is a control plane
}

type savedMember struct {
	ID       uint64 `json:"id"`
	Name     string `json:"name"`
	PeerURL  string `json:"peerURL"`
	ServerID string `json:"serverID"`
	// Address is what the member told of itself: its machine may be gone.
	Address string `json:"address"`
}

// SaveServers implements [simulator.StatefulBackend].
func (b *Backend) SaveServers() ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	source, err := b.random.save()
	if err != nil {
		return nil, err
	}
	saved := savedBackend{Random: source}
	index := map[*cluster]int{nil: -1}
	for _, id := range slices.SortedFunc(maps.Keys(b.clusters), clusterID.compare) {
		index[b.clusters[id]] = len(saved.Clusters)
		saved.Clusters = append(saved.Clusters, b.clusters[id].save())
	}
	for _, id := range slices.Sorted(maps.Keys(b.machines)) {
		m := b.machines[id]
		saved.Machines = append(saved.Machines, savedMachine{
			Spec: m.spec, Version: m.savedVersion(), Cluster: index[m.cluster], Powered: m.powered, Idle: m.isIdle(),
			Console: m.console.String(), ConsoleStart: m.console.start,
		})
	}
	return json.Marshal(saved)
}

func (id clusterID) compare(other clusterID) int {
	return strings.Compare(id.endpoint+" "+id.fingerprint, other.endpoint+" "+other.fingerprint)
}

// savedVersion leaves out the version of a machine outside a cluster, which its first boot finds out. The lock is held.
func (m *machine) savedVersion() string {
	if m.cluster == nil {
		return ""
	}
	return m.version
}

func (m *machine) isIdle() bool {
	select {
	case <-m.idle:
		return true
	default:
		return false
	}
}

func (c *cluster) save() savedCluster {
	saved := savedCluster{
		Fingerprint: c.id.fingerprint, Endpoint: c.id.endpoint, Founder: c.founder, API: c.api.Save(),
		EtcdID: c.etcd.id, EtcdTerm: c.etcd.term, EtcdLeader: c.etcd.leader, Silent: map[string]bool{},
	}
	for _, member := range c.etcd.members {
		saved.EtcdMembers = append(saved.EtcdMembers, savedMember{
			ID: member.id, Name: member.name, PeerURL: member.peerURL, ServerID: member.machine.spec.ServerID, Address: member.machine.firstAddress(),
		})
	}
	for name, silent := range c.silent {
		saved.Silent[name] = silent.controlPlane
	}
	return saved
}

// RestoreServers implements [simulator.StatefulBackend].
func (b *Backend) RestoreServers(text []byte) ([]string, error) {
	var saved savedBackend
	if err := json.Unmarshal(text, &saved); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.random.restore(saved.Random); err != nil {
		return nil, fmt.Errorf("random numbers: %w", err)
	}
	clusters := make([]*cluster, 0, len(saved.Clusters))
	for _, one := range saved.Clusters {
		c, err := b.restoreCluster(one)
		if err != nil {
			return nil, fmt.Errorf("tenant cluster at %s: %w", one.Endpoint, err)
		}
		clusters = append(clusters, c)
	}
	var ids []string
	for _, one := range saved.Machines {
		if one.Cluster >= len(clusters) {
			return nil, fmt.Errorf("server %s: cluster %d is missing", one.Spec.ServerID, one.Cluster)
		}
		var c *cluster
		if one.Cluster >= 0 {
			c = clusters[one.Cluster]
		}
		if err := b.restoreMachine(one, c); err != nil {
			return nil, fmt.Errorf("server %s: %w", one.Spec.ServerID, err)
		}
		ids = append(ids, one.Spec.ServerID)
	}
	for i, one := range saved.Clusters {
		clusters[i].restoreEtcd(one)
	}
	if err := b.resume(saved.Machines); err != nil {
		return nil, err
	}
	for i, one := range saved.Clusters {
		etcd := clusters[i].etcd
		etcd.term, etcd.leader = one.EtcdTerm, one.EtcdLeader
		etcd.elect()
	}
	return ids, nil
}

// restoreCluster makes a cluster without machines.
func (b *Backend) restoreCluster(saved savedCluster) (*cluster, error) {
	kubeadm, err := newMachine(b, saved.Founder).parseKubeadm()
	if err != nil {
		return nil, err
	}
	c := &cluster{
		backend: b, id: clusterID{fingerprint: saved.Fingerprint, endpoint: saved.Endpoint}, founder: saved.Founder, kubeadm: kubeadm,
		etcd: newEtcdCluster(saved.EtcdID), machines: map[string]*machine{}, silent: map[string]silence{},
	}
	if c.api, err = kubeapi.RestoreCluster(saved.API, b.types, b.Clock, b.random.uid, c.forward); err != nil {
		return nil, err
	}
	b.clusters[c.id] = c
	for name, controlPlane := range saved.Silent {
		c.watchSilence(name, controlPlane)
	}
	return c, nil
}

// restoreMachine makes a machine that does nothing yet.
func (b *Backend) restoreMachine(saved savedMachine, c *cluster) error {
	m := newMachine(b, saved.Spec)
	m.console.start = saved.ConsoleStart
	m.console.text.WriteString(saved.Console)
	m.idle = closedChannel()
	m.stop = func() {}
	b.machines[saved.Spec.ServerID] = m
	if c == nil {
		return nil
	}
	kubeadm, err := m.parseKubeadm()
	if err != nil {
		return err
	}
	m.follow(kubeadm)
	m.version, m.cluster = saved.Version, c
	c.machines[saved.Spec.ServerID] = m
	return nil
}

// parseKubeadm is parseUserData of a machine that is known to have run kubeadm.
func (m *machine) parseKubeadm() (*bootstrap, error) {
	kubeadm, err := m.parseUserData()
	if err == nil && kubeadm == nil {
		err = errors.New("it is part of a cluster, but there is no kubeadm in its user data")
	}
	return kubeadm, err
}

func closedChannel() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// restoreEtcd gives the cluster its members back, also those of machines that are gone.
func (c *cluster) restoreEtcd(saved savedCluster) {
	for _, one := range saved.EtcdMembers {
		m := c.machines[one.ServerID]
		if m == nil {
			m = newMachine(c.backend, simulator.Node{ServerID: one.ServerID, Name: one.Name, Addresses: []string{one.Address}})
			m.cluster = c
		}
		c.etcd.members = append(c.etcd.members, &etcdMember{id: one.ID, name: one.Name, peerURL: one.PeerURL, machine: m})
	}
}

// resume powers those machines on that ran. Those of a cluster serve at once, before anybody connects; a boot that was
// not finished goes on. The lock is held.
func (b *Backend) resume(saved []savedMachine) error {
	for _, one := range saved {
		m := b.machines[one.Spec.ServerID]
		if !one.Powered {
			continue
		}
		m.powered = true
		if m.cluster != nil {
			if err := m.startServing(); err != nil {
				return fmt.Errorf("server %s: %w", one.Spec.ServerID, err)
			}
		}
		switch {
		case one.Idle && m.cluster != nil:
			m.devices = finalDevices
		case one.Idle:
		case m.cluster != nil:
			m.live(m.startKubelet)
		default:
			m.start()
		}
	}
	return nil
}
