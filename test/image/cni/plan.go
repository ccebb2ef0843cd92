package main

import (
	"encoding/json"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// planned is what a node's network should be.
type planned struct {
	podCIDRs []string
	// allPodCIDRs are those of every node, in order. What goes from one of them to elsewhere has the node's address.
	allPodCIDRs []string
	// config is the CNI configuration; empty while the node has no addresses for pods.
	config string
	// routes are next hops by destination.
	routes map[string]string
}

// plan decides from the nodes of the cluster what the network of one of them should be.
func plan(nodeName string, nodes []*corev1.Node) planned {
	p := planned{routes: map[string]string{}}
	for _, node := range nodes {
		p.allPodCIDRs = append(p.allPodCIDRs, node.Spec.PodCIDRs...)
		if node.Name == nodeName {
			p.podCIDRs = node.Spec.PodCIDRs
			continue
		}
		// A route needs a next hop of its own IP version, and a node names one InternalIP of each at most.
		for _, podCIDR := range node.Spec.PodCIDRs {
			if hop := internalIP(node); sameVersion(podCIDR, hop) {
				p.routes[podCIDR] = hop
			}
		}
	}
	slices.Sort(p.allPodCIDRs)
	if len(p.podCIDRs) > 0 {
		p.config = configOf(p.podCIDRs)
	}
	return p
}

func sameVersion(prefix, address string) bool {
	p, err := netip.ParsePrefix(prefix)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(address)
	return err == nil && p.Addr().Is4() == a.Is4()
}

// configOf is a CNI configuration list. It leaves addresses as they are: ptp would translate between nodes as well.
func configOf(podCIDRs []string) string {
	type object = map[string]any
	var ranges [][]object
	routes := []object{}
	for _, podCIDR := range podCIDRs {
		ranges = append(ranges, []object{{"subnet": podCIDR}})
		everywhere := "0.0.0.0/0"
		if prefix, err := netip.ParsePrefix(podCIDR); err == nil && prefix.Addr().Is6() {
			everywhere = "::/0"
		}
		routes = append(routes, object{"dst": everywhere})
	}
	text, _ := json.MarshalIndent(object{ // maps of strings always can be written
		"cniVersion": "0.4.0",
		"name":       "sendan",
		"plugins": []object{
			{"type": "ptp", "ipam": object{"type": "host-local", "dataDir": "/run/cni-ipam-state", "ranges": ranges, "routes": routes}},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	}, "", "  ")
	return string(text)
}
