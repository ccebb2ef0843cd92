package memory

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/memory/kubeapi"
)

// kubeadm looks for its cluster every few seconds; the pause grows up to a limit so that many waiting machines cost
// little.
const (
	firstDiscoveryPause = time.Second
	longestDiscovery    = 10 * time.Second
)

// discover waits for the cluster to join, as kubeadm does, until its deadline.
func (m *machine) discover(ctx context.Context) (*cluster, error) {
	deadline := m.backend.Clock.Now().Add(m.backend.JoinTimeout)
	said := ""
	for pause := firstDiscoveryPause; ; pause = min(2*pause, longestDiscovery) {
		c, err := m.tryJoin(ctx)
		if err == nil {
			return c, nil
		}
		if errors.Is(err, context.Canceled) {
			return nil, err
		}
		if err.Error() != said {
			said = err.Error()
			m.printf("[discovery] %s, will try again", said)
		}
		if m.backend.Clock.Now().After(deadline) {
			return nil, fmt.Errorf("couldn't validate the identity of the API Server: %w (gave up after %s)", err, m.backend.JoinTimeout)
		}
		if err := m.wait(ctx, pause); err != nil {
			return nil, err
		}
	}
}

// tryJoin finds the cluster if it answers now and would let this machine in.
func (m *machine) tryJoin(ctx context.Context) (*cluster, error) {
	var found *cluster
	err := m.whileRunning(ctx, func() error {
		c, err := m.backend.lookUp(m.kubeadm.Join.Discovery.BootstrapToken)
		if err != nil {
			return err
		}
		if err := c.admits(m); err != nil {
			return err
		}
		if m.kubeadm.ControlPlane() {
			if err := c.canGrow(); err != nil {
				return err
			}
		}
		found = c
		return nil
	})
	return found, err
}

// lookUp finds a cluster by its endpoint and the hash of its authority. The lock is held.
func (b *Backend) lookUp(discovery *kubeadm.TokenDiscovery) (*cluster, error) {
	endpoint := discovery.APIServerEndpoint
	answered := false
	for id, c := range b.clusters {
		if id.endpoint != endpoint || !c.serves() {
			continue
		}
		answered = true
		if discovery.UnsafeSkipCAVerification || slices.Contains(discovery.CACertHashes, id.fingerprint) {
			return c, nil
		}
	}
	if answered {
		return nil, fmt.Errorf("the certificate authority of the API server at %s has none of the hashes in caCertHashes", endpoint)
	}
	return nil, fmt.Errorf("no API server answers at %s", endpoint)
}

// admits checks the bootstrap token, and that the node's name is free. The lock is held.
func (c *cluster) admits(m *machine) error {
	id, secret, ok := strings.Cut(m.kubeadm.Join.Discovery.BootstrapToken.Token, ".")
	if !ok {
		return errors.New("the bootstrap token is not of the form ID.SECRET")
	}
	token := &corev1.Secret{}
	if err := kubeapi.Get(c.api, metav1.NamespaceSystem, "bootstrap-token-"+id, token); err != nil {
		return fmt.Errorf("bootstrap token %s is unknown to the cluster", id)
	}
	if subtle.ConstantTimeCompare(token.Data["token-secret"], []byte(secret)) != 1 {
		return fmt.Errorf("bootstrap token %s has another secret", id)
	}
	if expiration := string(token.Data["expiration"]); expiration != "" {
		at, err := time.Parse(time.RFC3339, expiration)
		if err != nil || !m.backend.Clock.Now().Before(at) {
			return fmt.Errorf("bootstrap token %s expired at %s", id, expiration)
		}
	}
	node := &corev1.Node{}
	if err := kubeapi.Get(c.api, "", m.nodeName, node); err == nil && isReady(node) {
		return fmt.Errorf("a Node with name %q and status \"Ready\" already exists in the cluster", m.nodeName)
	}
	return nil
}
