package kubeadm_test

import (
	"net/netip"
	"testing"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/cloudinit"
	"github.com/sendan-io/sendan/cmd/openstack-simulator/kubeadm"
)

func TestOnlyAControlPlaneIsReachedAtTheSharedEndpoint(t *testing.T) {
	const (
		initialize = "kind: ClusterConfiguration\ncontrolPlaneEndpoint: 192.0.2.7:6443\n---\nkind: InitConfiguration\n"
		join       = "kind: JoinConfiguration\ndiscovery:\n  bootstrapToken: {apiServerEndpoint: \"192.0.2.7:6443\", token: a.b}\n"
	)
	for _, c := range []struct {
		name, command, config, want string
	}{
		{"the first machine", "kubeadm init --config /run/kubeadm/kubeadm.yaml", initialize, "192.0.2.7:6443"},
		{"the first machine, without a port", "kubeadm init --config=/run/kubeadm/kubeadm.yaml",
			"kind: ClusterConfiguration\ncontrolPlaneEndpoint: 192.0.2.7\n", "192.0.2.7:6443"},
		{"the first machine, on another port", "kubeadm init --config /run/kubeadm/kubeadm.yaml",
			"kind: ClusterConfiguration\ncontrolPlaneEndpoint: 192.0.2.7\n---\nkind: InitConfiguration\nlocalAPIEndpoint: {bindPort: 8443}\n", "192.0.2.7:8443"},
		{"another machine of the control plane", "kubeadm join --config /run/kubeadm/kubeadm.yaml", join + "controlPlane: {}\n", "192.0.2.7:6443"},
		{"a worker", "kubeadm join --config /run/kubeadm/kubeadm.yaml", join, ""},
		{"a name", "kubeadm init --config /run/kubeadm/kubeadm.yaml", "kind: ClusterConfiguration\ncontrolPlaneEndpoint: api.example.com:6443\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			told, err := kubeadm.Read(&cloudinit.Config{
				Files: []cloudinit.File{{Path: "/run/kubeadm/kubeadm.yaml", Content: c.config}}, RunCommands: []string{c.command},
			})
			if err != nil || told == nil {
				t.Fatalf("read %v, %v", told, err)
			}
			got, exists := told.SharedEndpoint()
			if exists != (c.want != "") || exists && got != netip.MustParseAddrPort(c.want) {
				t.Errorf("got %s, want %q", got, c.want)
			}
		})
	}
}

func TestAMachineWithoutKubeadmIsNone(t *testing.T) {
	told, err := kubeadm.Read(&cloudinit.Config{RunCommands: []string{"echo hello"}})
	if err != nil || told != nil {
		t.Errorf("read %v, %v", told, err)
	}
}
