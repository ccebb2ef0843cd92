package kubeapi

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/duration"
)

const (
	nodeRoleLabelPrefix = "node-role.kubernetes.io/"
	unknownCell         = "<none>"
)

// column is a column of a table for people; wide ones show with -o wide.
type column struct {
	name string
	wide bool
	cell func(*unstructured.Unstructured) any
}

// columns are those of a real API server for the types people look at most; the rest have a name and an age.
func (c *Cluster) columns(res resource) []column {
	age := column{name: "Age", cell: func(u *unstructured.Unstructured) any {
		return duration.HumanDuration(c.clock.Since(u.GetCreationTimestamp().Time).Truncate(time.Second))
	}}
	name := column{name: "Name", cell: func(u *unstructured.Unstructured) any { return u.GetName() }}
	if res.group != "" {
		return []column{name, age}
	}
	switch res.plural {
	case "nodes":
		return slices.Concat([]column{name, nodeColumn("Status", nodeState), nodeColumn("Roles", nodeRoles), age,
			nodeColumn("Version", func(n *corev1.Node) string { return n.Status.NodeInfo.KubeletVersion })}, wideNodeColumns())
	case "pods":
		return []column{name, podColumn("Ready", podReady), podColumn("Status", podState), podColumn("Restarts", podRestarts), age,
			{name: "IP", wide: true, cell: func(u *unstructured.Unstructured) any { return textAt(u, "status", "podIP") }},
			{name: "Node", wide: true, cell: func(u *unstructured.Unstructured) any { return orNone(nodeName(u)) }}}
	case "namespaces":
		return []column{name, {name: "Status", cell: func(u *unstructured.Unstructured) any { return textAt(u, "status", "phase") }}, age}
	}
	return []column{name, age}
}

func wideNodeColumns() []column {
	wide := func(name string, cell func(*corev1.Node) string) column {
		c := nodeColumn(name, cell)
		c.wide = true
		return c
	}
	return []column{
		wide("Internal-IP", nodeAddress(corev1.NodeInternalIP)), wide("External-IP", nodeAddress(corev1.NodeExternalIP)),
		wide("OS-Image", func(n *corev1.Node) string { return n.Status.NodeInfo.OSImage }),
		wide("Kernel-Version", func(n *corev1.Node) string { return n.Status.NodeInfo.KernelVersion }),
		wide("Container-Runtime", func(n *corev1.Node) string { return n.Status.NodeInfo.ContainerRuntimeVersion }),
	}
}

// table is the answer to kubectl get.
func (c *Cluster) table(req *request, records []*record, version string) *metav1.Table {
	columns := c.columns(req.resource)
	table := &metav1.Table{
		TypeMeta: metav1.TypeMeta{Kind: "Table", APIVersion: metav1.SchemeGroupVersion.String()},
		ListMeta: metav1.ListMeta{ResourceVersion: version},
		Rows:     []metav1.TableRow{},
	}
	for _, column := range columns {
		definition := metav1.TableColumnDefinition{Name: column.name, Type: "string"}
		if column.name == "Name" {
			definition.Format = "name"
		}
		if column.wide {
			definition.Priority = 1
		}
		table.ColumnDefinitions = append(table.ColumnDefinitions, definition)
	}
	for _, r := range records {
		table.Rows = append(table.Rows, row(columns, r, req.query.Get("includeObject")))
	}
	return table
}

func row(columns []column, r *record, include string) metav1.TableRow {
	obj := r.decode()
	var out metav1.TableRow
	for _, column := range columns {
		out.Cells = append(out.Cells, column.cell(obj))
	}
	switch metav1.IncludeObjectPolicy(include) {
	case metav1.IncludeNone:
	case metav1.IncludeObject:
		out.Object.Raw = r.data
	default:
		if data, err := asMetadata.render(r); err == nil {
			out.Object.Raw = data
		}
	}
	return out
}

func nodeColumn(name string, cell func(*corev1.Node) string) column {
	return column{name: name, cell: func(u *unstructured.Unstructured) any {
		node := &corev1.Node{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, node); err != nil {
			return err.Error()
		}
		return cell(node)
	}}
}

func podColumn(name string, cell func(*corev1.Pod) string) column {
	return column{name: name, cell: func(u *unstructured.Unstructured) any {
		pod := &corev1.Pod{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, pod); err != nil {
			return err.Error()
		}
		return cell(pod)
	}}
}

func nodeState(node *corev1.Node) string {
	state := "Unknown"
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			state = "NotReady"
			if condition.Status == corev1.ConditionTrue {
				state = "Ready"
			}
		}
	}
	if node.Spec.Unschedulable {
		state += ",SchedulingDisabled"
	}
	return state
}

func nodeRoles(node *corev1.Node) string {
	var roles []string
	for _, label := range slices.Sorted(maps.Keys(node.Labels)) {
		if role, ok := strings.CutPrefix(label, nodeRoleLabelPrefix); ok && role != "" {
			roles = append(roles, role)
		}
	}
	return orNone(strings.Join(roles, ","))
}

func nodeAddress(kind corev1.NodeAddressType) func(*corev1.Node) string {
	return func(node *corev1.Node) string {
		for _, address := range node.Status.Addresses {
			if address.Type == kind {
				return address.Address
			}
		}
		return unknownCell
	}
}

func podReady(pod *corev1.Pod) string {
	ready := 0
	for _, status := range pod.Status.ContainerStatuses {
		if status.Ready {
			ready++
		}
	}
	return fmt.Sprintf("%d/%d", ready, len(pod.Spec.Containers))
}

func podState(pod *corev1.Pod) string {
	if pod.DeletionTimestamp != nil {
		return "Terminating"
	}
	return orNone(string(pod.Status.Phase))
}

func podRestarts(pod *corev1.Pod) string {
	var restarts int32
	for _, status := range pod.Status.ContainerStatuses {
		restarts += status.RestartCount
	}
	return fmt.Sprint(restarts)
}

func textAt(u *unstructured.Unstructured, path ...string) string {
	text, _, _ := unstructured.NestedString(u.Object, path...)
	return orNone(text)
}

func orNone(text string) string {
	if text == "" {
		return unknownCell
	}
	return text
}
