// Package kubeadm reads from a machine's user data what kubeadm is told on its first boot, as far as it shows from outside of
// the machine.
package kubeadm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/cloudinit"
)

// DefaultAPIPort is where an API server listens that is told nothing else.
const DefaultAPIPort = 6443

// kubeadmCommand finds what a machine's first boot makes of it.
var kubeadmCommand = regexp.MustCompile(`\bkubeadm\s+(init|join)\b[^;&|]*?--config[= ]\s*([^\s;&|]+)`)

// Bootstrap is what kubeadm is told on one machine.
type Bootstrap struct {
	Cluster ClusterConfiguration
	// ClusterYAML is Cluster as written, which kubeadm keeps in the cluster.
	ClusterYAML string
	// One of the two.
	Init *InitConfiguration
	Join *JoinConfiguration
}

// ControlPlane says that the machine gets a control plane.
func (b *Bootstrap) ControlPlane() bool { return b.Init != nil || b.Join.ControlPlane != nil }

// Registration is how the machine's node is registered.
func (b *Bootstrap) Registration() NodeRegistration {
	if b.Init != nil {
		return b.Init.NodeRegistration
	}
	return b.Join.NodeRegistration
}

// APIEndpoint is where the machine's own API server listens.
func (b *Bootstrap) APIEndpoint() LocalAPIEndpoint {
	var endpoint LocalAPIEndpoint
	if b.Init != nil {
		endpoint = b.Init.LocalAPIEndpoint
	} else if b.Join.ControlPlane != nil {
		endpoint = b.Join.ControlPlane.LocalAPIEndpoint
	}
	if endpoint.BindPort == 0 {
		endpoint.BindPort = DefaultAPIPort
	}
	return endpoint
}

// The parts of kubeadm's configuration (kubeadm.k8s.io v1beta3 and v1beta4) that show from outside the machine.
type (
	// ClusterConfiguration is of all machines.
	ClusterConfiguration struct {
		KubernetesVersion    string `json:"kubernetesVersion"`
		ControlPlaneEndpoint string `json:"controlPlaneEndpoint"`
		ClusterName          string `json:"clusterName"`
		ImageRepository      string `json:"imageRepository"`
		APIServer            struct {
			CertSANs []string `json:"certSANs"`
		} `json:"apiServer"`
		DNS struct {
			ImageRepository string `json:"imageRepository"`
			ImageTag        string `json:"imageTag"`
		} `json:"dns"`
		Networking struct {
			ServiceSubnet string `json:"serviceSubnet"`
		} `json:"networking"`
	}

	// InitConfiguration is of the first machine.
	InitConfiguration struct {
		NodeRegistration NodeRegistration `json:"nodeRegistration"`
		LocalAPIEndpoint LocalAPIEndpoint `json:"localAPIEndpoint"`
	}

	// JoinConfiguration is of another machine.
	JoinConfiguration struct {
		NodeRegistration NodeRegistration `json:"nodeRegistration"`
		Discovery        struct {
			BootstrapToken *TokenDiscovery `json:"bootstrapToken"`
		} `json:"discovery"`
		ControlPlane *struct {
			LocalAPIEndpoint LocalAPIEndpoint `json:"localAPIEndpoint"`
		} `json:"controlPlane"`
	}

	// TokenDiscovery is how a machine finds the cluster that it joins.
	TokenDiscovery struct {
		APIServerEndpoint        string   `json:"apiServerEndpoint"`
		Token                    string   `json:"token"`
		CACertHashes             []string `json:"caCertHashes"`
		UnsafeSkipCAVerification bool     `json:"unsafeSkipCAVerification"`
	}

	// NodeRegistration is of the machine's kubelet and node.
	NodeRegistration struct {
		Name string `json:"name"`
		// Taints are kubeadm's default when absent, and none when empty.
		Taints           *[]corev1.Taint `json:"taints"`
		KubeletExtraArgs Arguments       `json:"kubeletExtraArgs"`
	}

	// LocalAPIEndpoint is where the machine's own API server listens.
	LocalAPIEndpoint struct {
		AdvertiseAddress string `json:"advertiseAddress"`
		BindPort         int    `json:"bindPort"`
	}
)

// Arguments are flags by name: a map until v1beta3, a list of pairs since v1beta4.
type Arguments map[string]string

// UnmarshalJSON reads both forms.
func (a *Arguments) UnmarshalJSON(data []byte) error {
	*a = Arguments{}
	var pairs []struct{ Name, Value string }
	if err := json.Unmarshal(data, &pairs); err == nil {
		for _, pair := range pairs {
			(*a)[pair.Name] = pair.Value
		}
		return nil
	}
	return json.Unmarshal(data, (*map[string]string)(a))
}

// Read finds kubeadm's part in a machine's first boot; nil when the machine is to run no Kubernetes.
func Read(config *cloudinit.Config) (*Bootstrap, error) {
	for _, line := range config.Commands() {
		match := kubeadmCommand.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		path := strings.Trim(match[2], `"'`)
		content, written := config.Contents()[path]
		if !written {
			return nil, fmt.Errorf("kubeadm %s: %s does not exist", match[1], path)
		}
		b, err := parse(match[1], content)
		if err != nil {
			return nil, fmt.Errorf("kubeadm %s: %s: %w", match[1], path, err)
		}
		return b, nil
	}
	return nil, nil
}

func parse(command, content string) (*Bootstrap, error) {
	b := &Bootstrap{}
	for _, document := range strings.Split("\n"+content, "\n---") {
		if err := b.addDocument(document); err != nil {
			return nil, err
		}
	}
	switch {
	case command == "init" && b.Init == nil:
		b.Init = &InitConfiguration{}
	case command == "join" && b.Join == nil:
		return nil, errors.New("no JoinConfiguration")
	case command == "join" && b.Join.Discovery.BootstrapToken == nil:
		return nil, errors.New("discovery.bootstrapToken: only discovery by token is supported")
	}
	if command == "join" {
		b.Init = nil
	} else {
		b.Join = nil
	}
	return b, nil
}

func (b *Bootstrap) addDocument(document string) error {
	var header struct{ Kind string }
	if err := yaml.Unmarshal([]byte(document), &header); err != nil {
		return err
	}
	var target any
	switch header.Kind {
	case "ClusterConfiguration":
		b.ClusterYAML = strings.TrimSpace(document) + "\n"
		target = &b.Cluster
	case "InitConfiguration":
		b.Init = &InitConfiguration{}
		target = b.Init
	case "JoinConfiguration":
		b.Join = &JoinConfiguration{}
		target = b.Join
	default:
		return nil
	}
	if err := yaml.Unmarshal([]byte(document), target); err != nil {
		return fmt.Errorf("%s: %w", header.Kind, err)
	}
	return nil
}

// Endpoint is the address that the cluster is known by; firstAddress is the machine's.
func (b *Bootstrap) Endpoint(firstAddress string) string {
	if b.Join != nil {
		return b.Join.Discovery.BootstrapToken.APIServerEndpoint
	}
	endpoint := b.Cluster.ControlPlaneEndpoint
	if endpoint == "" {
		return net.JoinHostPort(firstAddress, strconv.Itoa(b.APIEndpoint().BindPort))
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return net.JoinHostPort(strings.Trim(endpoint, "[]"), strconv.Itoa(b.APIEndpoint().BindPort))
	}
	return endpoint
}

// SharedEndpoint is the address at which a machine with a control plane is told to be reached besides its own; false for
// none.
func (b *Bootstrap) SharedEndpoint() (netip.AddrPort, bool) {
	if !b.ControlPlane() {
		return netip.AddrPort{}, false
	}
	endpoint, err := netip.ParseAddrPort(b.Endpoint(""))
	return endpoint, err == nil
}
