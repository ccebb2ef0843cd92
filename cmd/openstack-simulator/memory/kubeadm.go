package memory

import (
	"fmt"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/cloudinit"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
)

const pkiDirectory = "/etc/kubernetes/pki/"

// bootstrap is what kubeadm is told on one machine, with what a control plane signs certificates by.
type bootstrap struct {
	*kubeadm.Bootstrap
	clusterCA *authority
	etcdCA    *authority
}

// readBootstrap finds kubeadm's part in a machine's first boot; nil when the machine is to run no Kubernetes.
func readBootstrap(config *cloudinit.Config) (*bootstrap, error) {
	told, err := kubeadm.Read(config)
	if err != nil || told == nil {
		return nil, err
	}
	b := &bootstrap{Bootstrap: told}
	if !b.ControlPlane() {
		return b, nil
	}
	if err := b.readAuthorities(config.Contents()); err != nil {
		return nil, fmt.Errorf("kubeadm: %w", err)
	}
	return b, nil
}

func (b *bootstrap) readAuthorities(files map[string]string) error {
	var err error
	if b.clusterCA, err = readAuthority(files, pkiDirectory+"ca"); err != nil {
		return err
	}
	b.etcdCA, err = readAuthority(files, pkiDirectory+"etcd/ca")
	return err
}
