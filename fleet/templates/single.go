package templates

import (
	_ "embed"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// holdAddress makes the machine hold the address of the API server, see the file.
//
//go:embed hold-address.sh
var holdAddress string

const holdAddressPath = "/usr/local/sbin/sendan-hold-address"

const holdAddressUnit = `[Unit]
Description=Hold the address of the API server
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=` + holdAddressPath + `
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
`

// singleNodeEndpoint is an address that the machine itself holds, behind a floating IP. A second machine, which there is only
// while the first one is replaced, takes it over.
func (s siteFacts) singleNodeEndpoint() infrav1.Endpoint {
	return infrav1.Endpoint{VirtualIP: &infrav1.VirtualIPEndpoint{Address: s.heldAddress(), FloatingIP: infrav1.FloatingIP{Disabled: ptr.To(false)}}}
}

// heldAddress is the last of the network, so that it can be told to the machine before the cluster exists: kubeadm knows the
// floating IP only.
func (s siteFacts) heldAddress() string {
	prefix, err := netip.ParsePrefix(s.networkCIDR())
	if err != nil {
		return "" // the API server has checked it
	}
	last := prefix.Masked().Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(last)*8-1; bit++ { // all but the lowest: what is above it is the broadcast address
		last[bit/8] |= 0x80 >> (bit % 8)
	}
	address, _ := netip.AddrFromSlice(last)
	return address.String()
}

// singleNode is the control plane of a cluster of one machine, which takes pods as well.
func (c *compiler) singleNode(node located) clusterv1.ControlPlaneClass {
	// Not nil, which would give it kubeadm's taint of control planes.
	registration := nodeRegistration(node, []corev1.Taint{})
	if registration.Taints == nil {
		registration.Taints = &[]corev1.Taint{}
	}
	class := c.controlPlaneClass("single-"+node.name, registration, bootstrapv1.KubeadmConfigSpec{
		Files: []bootstrapv1.File{
			{Path: holdAddressPath, Permissions: "0755", Content: strings.Replace(holdAddress, "ADDRESS", c.site.heldAddress(), 1)},
			{Path: "/etc/systemd/system/sendan-hold-address.service", Permissions: "0644", Content: holdAddressUnit},
		},
		PreKubeadmCommands: []string{"systemctl daemon-reload", "systemctl enable --now sendan-hold-address.service"},
	})
	class.Metadata = c.machineMetadata(node)
	class.MachineInfrastructure.TemplateRef = c.machineTemplate(node)
	if len(node.shape.Devices) > 0 {
		class.ReadinessGates = devicesGate()
	}
	return class
}
