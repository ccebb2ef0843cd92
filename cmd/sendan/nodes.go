package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	corev1 "k8s.io/api/core/v1"
)

const (
	gpuResource       = corev1.ResourceName("nvidia.com/gpu")
	controlPlaneLabel = "node-role.kubernetes.io/control-plane"
)

// writeNodes shows a cluster's nodes with their devices, control plane first.
func writeNodes(out io.Writer, nodes []corev1.Node) {
	nodes = slices.SortedFunc(slices.Values(nodes), func(a, b corev1.Node) int {
		return cmp.Or(cmp.Compare(nodeRole(a), nodeRole(b)), cmp.Compare(a.Name, b.Name))
	})
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "  NODE\tROLE\tSTATUS\tVERSION\tZONE\tCPU\tDEVICES")
	for _, node := range nodes {
		status := "NotReady"
		if nodeIsReady(node) {
			status = "Ready"
		}
		_, _ = fmt.Fprintf(table, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", node.Name, nodeRole(node), status,
			node.Status.NodeInfo.KubeletVersion, orDash(node.Labels[corev1.LabelTopologyZone]), node.Status.Capacity.Cpu(), devices(node))
	}
	_ = table.Flush()
}

func nodeRole(node corev1.Node) string {
	if _, found := node.Labels[controlPlaneLabel]; found {
		return "control plane"
	}
	return "worker"
}

// devices that pods on the node can ask for: all resources that are not Kubernetes' own, which have no domain.
func devices(node corev1.Node) string {
	var all []string
	for name, count := range node.Status.Allocatable {
		if strings.Contains(string(name), "/") && !count.IsZero() {
			all = append(all, fmt.Sprintf("%d %s", count.Value(), name))
		}
	}
	slices.Sort(all)
	return orDash(strings.Join(all, ", "))
}
