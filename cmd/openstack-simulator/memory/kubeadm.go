package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/sendan-io/sendan/cmd/openstack-simulator/cloudinit"
)

const (
	defaultAPIPort = 6443
	pkiDirectory   = "/etc/kubernetes/pki/"
)

// kubeadmCommand finds what a machine's first boot makes of it.
var kubeadmCommand = regexp.MustCompile(`\bkubeadm\s+(init|join)\b[^;&|]*?--config[= ]\s*([^\s;&|]+)`)

// bootstrap is what kubeadm is told on one machine.
type bootstrap struct {
	cluster clusterConfiguration
	// clusterYAML is the ClusterConfiguration as written, which kubeadm keeps in the cluster.
	clusterYAML string
	init        *initConfiguration
	join        *joinConfiguration
	clusterCA   *authority
	etcdCA      *authority
}

func (b *bootstrap) controlPlane() bool { return b.init != nil || b.join.ControlPlane != nil }

func (b *bootstrap) registration() nodeRegistration {
	if b.init != nil {
		return b.init.NodeRegistration
	}
	return b.join.NodeRegistration
}

func (b *bootstrap) apiEndpoint() localAPIEndpoint {
	var endpoint localAPIEndpoint
	if b.init != nil {
		endpoint = b.init.LocalAPIEndpoint
	} else if b.join.ControlPlane != nil {
		endpoint = b.join.ControlPlane.LocalAPIEndpoint
	}
	if endpoint.BindPort == 0 {
		endpoint.BindPort = defaultAPIPort
	}
	return endpoint
}

// The parts of kubeadm's configuration (kubeadm.k8s.io v1beta3 and v1beta4) that show from outside the machine.
type (
	clusterConfiguration struct {
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

	initConfiguration struct {
		NodeRegistration nodeRegistration `json:"nodeRegistration"`
		LocalAPIEndpoint localAPIEndpoint `json:"localAPIEndpoint"`
	}

	joinConfiguration struct {
		NodeRegistration nodeRegistration `json:"nodeRegistration"`
		Discovery        struct {
			BootstrapToken *tokenDiscovery `json:"bootstrapToken"`
		} `json:"discovery"`
		ControlPlane *struct {
			LocalAPIEndpoint localAPIEndpoint `json:"localAPIEndpoint"`
		} `json:"controlPlane"`
	}

	tokenDiscovery struct {
		APIServerEndpoint        string   `json:"apiServerEndpoint"`
		Token                    string   `json:"token"`
		CACertHashes             []string `json:"caCertHashes"`
		UnsafeSkipCAVerification bool     `json:"unsafeSkipCAVerification"`
	}

	nodeRegistration struct {
		Name string `json:"name"`
		// Taints are kubeadm's default when absent, and none when empty.
		Taints           *[]corev1.Taint `json:"taints"`
		KubeletExtraArgs arguments       `json:"kubeletExtraArgs"`
	}

	localAPIEndpoint struct {
		AdvertiseAddress string `json:"advertiseAddress"`
		BindPort         int    `json:"bindPort"`
	}
)

// arguments are flags by name: a map until v1beta3, a list of pairs since v1beta4.
type arguments map[string]string

func (a *arguments) UnmarshalJSON(data []byte) error {
	*a = arguments{}
	var pairs []struct{ Name, Value string }
	if err := json.Unmarshal(data, &pairs); err == nil {
		for _, pair := range pairs {
			(*a)[pair.Name] = pair.Value
		}
		return nil
	}
	return json.Unmarshal(data, (*map[string]string)(a))
}

// readBootstrap finds kubeadm's part in a machine's first boot; nil when the machine is to run no Kubernetes.
func readBootstrap(config *cloudinit.Config) (*bootstrap, error) {
	for _, line := range config.Commands() {
		match := kubeadmCommand.FindStringSubmatch(line)
		if match == nil {
			continue
		}
		path := strings.Trim(match[2], `"'`)
		files := config.Contents()
		content, written := files[path]
		if !written {
			return nil, fmt.Errorf("kubeadm %s: %s does not exist", match[1], path)
		}
		b, err := parseBootstrap(match[1], content)
		if err != nil {
			return nil, fmt.Errorf("kubeadm %s: %s: %w", match[1], path, err)
		}
		if b.controlPlane() {
			err = b.readAuthorities(files)
		}
		if err != nil {
			return nil, fmt.Errorf("kubeadm %s: %w", match[1], err)
		}
		return b, nil
	}
	return nil, nil
}

func parseBootstrap(command, content string) (*bootstrap, error) {
	b := &bootstrap{}
	for _, document := range strings.Split("\n"+content, "\n---") {
		if err := b.addDocument(document); err != nil {
			return nil, err
		}
	}
	switch {
	case command == "init" && b.init == nil:
		b.init = &initConfiguration{}
	case command == "join" && b.join == nil:
		return nil, errors.New("no JoinConfiguration")
	case command == "join" && b.join.Discovery.BootstrapToken == nil:
		return nil, errors.New("discovery.bootstrapToken: only discovery by token is supported")
	}
	if command == "join" {
		b.init = nil
	} else {
		b.join = nil
	}
	return b, nil
}

func (b *bootstrap) addDocument(document string) error {
	var header struct{ Kind string }
	if err := yaml.Unmarshal([]byte(document), &header); err != nil {
		return err
	}
	var target any
	switch header.Kind {
	case "ClusterConfiguration":
		b.clusterYAML = strings.TrimSpace(document) + "\n"
		target = &b.cluster
	case "InitConfiguration":
		b.init = &initConfiguration{}
		target = b.init
	case "JoinConfiguration":
		b.join = &joinConfiguration{}
		target = b.join
	default:
		return nil
	}
	if err := yaml.Unmarshal([]byte(document), target); err != nil {
		return fmt.Errorf("%s: %w", header.Kind, err)
	}
	return nil
}

func (b *bootstrap) readAuthorities(files map[string]string) error {
	var err error
	if b.clusterCA, err = readAuthority(files, pkiDirectory+"ca"); err != nil {
		return err
	}
	b.etcdCA, err = readAuthority(files, pkiDirectory+"etcd/ca")
	return err
}

// endpoint is the address that the cluster is known by.
func (b *bootstrap) endpoint(firstAddress string) string {
	if b.join != nil {
		return b.join.Discovery.BootstrapToken.APIServerEndpoint
	}
	endpoint := b.cluster.ControlPlaneEndpoint
	if endpoint == "" {
		return net.JoinHostPort(firstAddress, strconv.Itoa(b.apiEndpoint().BindPort))
	}
	if _, _, err := net.SplitHostPort(endpoint); err != nil {
		return net.JoinHostPort(strings.Trim(endpoint, "[]"), strconv.Itoa(b.apiEndpoint().BindPort))
	}
	return endpoint
}
