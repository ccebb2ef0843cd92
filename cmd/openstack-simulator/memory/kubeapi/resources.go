package kubeapi

import (
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// resource is one type of object the API serves.
type resource struct {
	group, version   string
	plural, kind     string
	namespaced       bool
	hasStatus        bool
	shortNames       []string
	extraSubresource []string
}

func (r resource) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: r.group, Resource: r.plural}
}

func (r resource) groupVersion() schema.GroupVersion {
	return schema.GroupVersion{Group: r.group, Version: r.version}
}

func (r resource) gvk() schema.GroupVersionKind { return r.groupVersion().WithKind(r.kind) }

// The resources that definitions and the store itself refer to.
const (
	customResourceDefinitions = "customresourcedefinitions"
	apiextensionsGroup        = "apiextensions.k8s.io"
)

// builtIn are the types of a fresh cluster, by group and version in the order discovery shows them. A line is
// "plural Kind flags short,names"; flags are n for namespaced, s for a status subresource, - for none.
func builtIn() []resource {
	var all []resource
	add := func(group, version string, lines ...string) {
		for _, line := range lines {
			all = append(all, parseResource(group, version, line))
		}
	}
	add("", "v1",
		"configmaps ConfigMap n cm", "endpoints Endpoints n ep", "events Event n ev", "limitranges LimitRange n limits",
		"namespaces Namespace s ns", "nodes Node s no", "persistentvolumeclaims PersistentVolumeClaim ns pvc",
		"persistentvolumes PersistentVolume s pv", "pods Pod ns po", "podtemplates PodTemplate n",
		"replicationcontrollers ReplicationController ns rc", "resourcequotas ResourceQuota ns quota",
		"secrets Secret n", "serviceaccounts ServiceAccount n sa", "services Service ns svc")
	add("admissionregistration.k8s.io", "v1",
		"mutatingwebhookconfigurations MutatingWebhookConfiguration -",
		"validatingadmissionpolicies ValidatingAdmissionPolicy s",
		"validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding -",
		"validatingwebhookconfigurations ValidatingWebhookConfiguration -")
	add(apiextensionsGroup, "v1", customResourceDefinitions+" CustomResourceDefinition s crd,crds")
	add("apiregistration.k8s.io", "v1", "apiservices APIService s")
	add("apps", "v1",
		"controllerrevisions ControllerRevision n", "daemonsets DaemonSet ns ds", "deployments Deployment ns deploy",
		"replicasets ReplicaSet ns rs", "statefulsets StatefulSet ns sts")
	add("autoscaling", "v2", "horizontalpodautoscalers HorizontalPodAutoscaler ns hpa")
	add("batch", "v1", "cronjobs CronJob ns cj", "jobs Job ns")
	add("coordination.k8s.io", "v1", "leases Lease n")
	add("discovery.k8s.io", "v1", "endpointslices EndpointSlice n")
	add("networking.k8s.io", "v1", "ingressclasses IngressClass -", "ingresses Ingress ns ing", "networkpolicies NetworkPolicy n netpol")
	add("node.k8s.io", "v1", "runtimeclasses RuntimeClass -")
	add("policy", "v1", "poddisruptionbudgets PodDisruptionBudget ns pdb")
	add("rbac.authorization.k8s.io", "v1",
		"clusterrolebindings ClusterRoleBinding -", "clusterroles ClusterRole -", "rolebindings RoleBinding n", "roles Role n")
	add("resource.k8s.io", "v1",
		"deviceclasses DeviceClass -", "resourceclaims ResourceClaim ns", "resourceclaimtemplates ResourceClaimTemplate n",
		"resourceslices ResourceSlice -")
	add("scheduling.k8s.io", "v1", "priorityclasses PriorityClass - pc")
	add("storage.k8s.io", "v1",
		"csidrivers CSIDriver -", "csinodes CSINode -", "storageclasses StorageClass - sc", "volumeattachments VolumeAttachment s")
	return all
}

func parseResource(group, version, line string) resource {
	fields := strings.Fields(line)
	r := resource{
		group: group, version: version, plural: fields[0], kind: fields[1],
		namespaced: strings.Contains(fields[2], "n"), hasStatus: strings.Contains(fields[2], "s"),
	}
	if len(fields) > 3 {
		r.shortNames = strings.Split(fields[3], ",")
	}
	if r.kind == "Pod" {
		r.extraSubresource = []string{"eviction", "portforward"}
	}
	return r
}

// definedBy are the types a CustomResourceDefinition brings. Its storage version is the only one served: nothing here
// converts between versions.
func definedBy(definition *unstructured.Unstructured) (resource, bool) {
	spec, _ := definition.Object["spec"].(map[string]any)
	names, _ := spec["names"].(map[string]any)
	text := func(from map[string]any, field string) string {
		value, _ := from[field].(string)
		return value
	}
	r := resource{
		group: text(spec, "group"), plural: text(names, "plural"), kind: text(names, "kind"),
		namespaced: text(spec, "scope") == "Namespaced",
	}
	r.shortNames, _, _ = unstructured.NestedStringSlice(names, "shortNames")
	versions, _ := spec["versions"].([]any)
	for _, v := range versions {
		version, _ := v.(map[string]any)
		if stored, _ := version["storage"].(bool); !stored {
			continue
		}
		r.version = text(version, "name")
		_, r.hasStatus, _ = unstructured.NestedFieldNoCopy(version, "subresources", "status")
	}
	return r, r.group != "" && r.version != "" && r.plural != "" && r.kind != ""
}

func verbs() metav1.Verbs {
	return metav1.Verbs{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}
}

// apiResources is the discovery document of one resource and its subresources.
func (r resource) apiResources() []metav1.APIResource {
	main := metav1.APIResource{
		Name: r.plural, SingularName: strings.ToLower(r.kind), Kind: r.kind, Namespaced: r.namespaced,
		ShortNames: r.shortNames, Verbs: verbs(),
	}
	if slices.Contains([]string{"pods", "services", "daemonsets", "deployments", "statefulsets", "replicasets", "jobs", "cronjobs"}, r.plural) {
		main.Categories = []string{"all"}
	}
	all := []metav1.APIResource{main}
	if r.hasStatus {
		all = append(all, metav1.APIResource{
			Name: r.plural + "/status", Kind: r.kind, Namespaced: r.namespaced, Verbs: metav1.Verbs{"get", "patch", "update"},
		})
	}
	for _, name := range r.extraSubresource {
		sub := metav1.APIResource{Name: r.plural + "/" + name, Kind: r.kind, Namespaced: r.namespaced, Verbs: metav1.Verbs{"create", "get"}}
		if name == "eviction" {
			sub.Group, sub.Version, sub.Kind, sub.Verbs = "policy", "v1", "Eviction", metav1.Verbs{"create"}
		}
		all = append(all, sub)
	}
	return all
}
