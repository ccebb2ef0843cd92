package addons

import (
	"net/netip"
	"slices"
	"strconv"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// fact is a variable that needs no declaration. docs/addons.md lists them.
type fact struct {
	name string
	// example stands for the value where there is no cluster yet.
	example string
	// value is empty where the cluster does not have it; the variable is unset then.
	value func(Input) string
}

func allFacts() []fact {
	label := func(name string) func(Input) string {
		return func(in Input) string { return in.Cluster.Labels[name] }
	}
	ofSite := func(value func(*fleetv1.Site) string) func(Input) string {
		return func(in Input) string {
			if in.Site == nil {
				return ""
			}
			return value(in.Site)
		}
	}
	return []fact{
		{"CLUSTER_NAME", "example", func(in Input) string { return in.Cluster.Name }},
		{"CLUSTER_NAMESPACE", "example", func(in Input) string { return in.Cluster.Namespace }},
		{"KUBERNETES_VERSION", "v1.36.0", func(in Input) string { return kubernetesVersion(in.Cluster) }},
		{"POD_CIDR", "10.244.0.0/16", func(in Input) string { return in.Cluster.Spec.ClusterNetwork.Pods.String() }},
		{"SERVICE_CIDR", "10.96.0.0/12", func(in Input) string { return in.Cluster.Spec.ClusterNetwork.Services.String() }},
		{"CLUSTER_DNS", "10.96.0.10", func(in Input) string { return dnsService(in.Cluster.Spec.ClusterNetwork.Services.CIDRBlocks) }},
		{"SERVICE_DOMAIN", "cluster.local", func(in Input) string { return in.Cluster.Spec.ClusterNetwork.ServiceDomain }},
		{"CONTROL_PLANE_ENDPOINT", "192.0.2.1:6443", func(in Input) string {
			if !in.Cluster.Spec.ControlPlaneEndpoint.IsValid() {
				return ""
			}
			return in.Cluster.Spec.ControlPlaneEndpoint.String()
		}},
		{"CONTROL_PLANE_ENDPOINT_HOST", "192.0.2.1", func(in Input) string { return in.Cluster.Spec.ControlPlaneEndpoint.Host }},
		{"CONTROL_PLANE_ENDPOINT_PORT", "6443", func(in Input) string { return portOf(in.Cluster.Spec.ControlPlaneEndpoint) }},
		{"RELEASE", "example", label(fleetv1.ReleaseLabel)},
		{"CHANNEL", "stable", label(fleetv1.ChannelLabel)},
		{"TENANT", "example", label(fleetv1.TenantLabel)},
		{"SITE", "example", label(fleetv1.SiteLabel)},
		{"REGION", "example", ofSite(func(site *fleetv1.Site) string {
			if site.Spec.IdentityRef.Region != "" {
				return site.Spec.IdentityRef.Region
			}
			return site.Status.Region
		})},
		{"EXTERNAL_NETWORK", "example", ofSite(func(site *fleetv1.Site) string { return site.Spec.ExternalNetwork })},
		{"CLOUD_NAME", "example", ofSite(func(site *fleetv1.Site) string { return site.Spec.IdentityRef.CloudName })},
	}
}

// dnsService is the address that kubeadm gives the DNS service: the tenth of the first range.
func dnsService(ranges []string) string {
	if len(ranges) == 0 {
		return ""
	}
	services, err := netip.ParsePrefix(ranges[0])
	if err != nil {
		return ""
	}
	address := services.Masked().Addr()
	for range 10 {
		address = address.Next()
	}
	return address.String()
}

func portOf(endpoint clusterv1.APIEndpoint) string {
	if endpoint.Port == 0 {
		return ""
	}
	return strconv.Itoa(int(endpoint.Port))
}

func factNames() []string {
	var names []string
	for _, fact := range allFacts() {
		names = append(names, fact.name)
	}
	return names
}

func isFact(name string) bool { return slices.Contains(factNames(), name) }

// valuesFor are the Addon's variables and the facts of the cluster, which win.
func valuesFor(addon *fleetv1.Addon, in Input) map[string]string {
	values := declared(addon)
	for _, fact := range allFacts() {
		if value := fact.value(in); value != "" {
			values[fact.name] = value
		}
	}
	return values
}

// exampleValues let manifests be read without a cluster.
func exampleValues(addon *fleetv1.Addon) map[string]string {
	values := declared(addon)
	for _, fact := range allFacts() {
		values[fact.name] = fact.example
	}
	return values
}

func declared(addon *fleetv1.Addon) map[string]string {
	values := map[string]string{}
	for _, variable := range addon.Spec.Variables {
		if variable.Value != nil {
			values[variable.Name] = *variable.Value
		}
	}
	return values
}
