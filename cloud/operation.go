package cloud

import "strings"

// isOperationWord reports that a path segment names a resource or an action. Everything else is an id
// or a name, so the number of operations in the metrics is bounded whatever the cloud holds.
func isOperationWord(segment string) bool {
	switch segment {
	case "auth", "tokens", "extensions", "limits", "quotas", "details.json", "tags", "detail", "action",
		"servers", "flavors", "os-extra_specs", "os-keypairs", "os-availability-zone", "os-server-groups",
		"os-interface", "os-volume_attachments", "metadata",
		"networks", "subnets", "ports", "security-groups", "security-group-rules", "floatingips",
		"routers", "add_router_interface", "remove_router_interface",
		"trunks", "add_subports", "remove_subports", "get_subports",
		"lbaas", "loadbalancers", "listeners", "pools", "members", "healthmonitors", "status", "failover",
		"providers", "amphorae",
		"volumes", "types", "snapshots", "attachments", "images",
		"resource_providers", "allocation_candidates":
		return true
	}
	return false
}

// operationOf is the method and path template of a request: "GET /servers/{id}".
func operationOf(method, path string) string {
	var b strings.Builder
	b.WriteString(method)
	b.WriteString(" ")
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if len(segments) == 1 && segments[0] == "" {
		b.WriteString("/")
		return b.String()
	}
	for _, segment := range segments {
		if !isOperationWord(segment) {
			segment = "{id}"
		}
		b.WriteString("/")
		b.WriteString(segment)
	}
	return b.String()
}
