package templates

import (
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// allowedCIDRs is the one thing that a Cluster may say about its infrastructure; the rest is the site's and the release's.
const allowedCIDRs = "apiAllowedCIDRs"

func allowedCIDRsVariable() []clusterv1.ClusterClassVariable {
	return []clusterv1.ClusterClassVariable{{
		Name: allowedCIDRs, Required: ptr.To(false),
		Schema: clusterv1.VariableSchema{OpenAPIV3Schema: clusterv1.JSONSchemaProps{
			Type: "array", Description: "The ranges that may reach the API server; everybody when empty.", MaxItems: ptr.To[int64](64),
			Items: &clusterv1.JSONSchemaProps{Type: "string", MinLength: ptr.To[int64](1), MaxLength: ptr.To[int64](43)},
		}},
	}}
}

func allowedCIDRsPatch() []clusterv1.ClusterClassPatch {
	return []clusterv1.ClusterClassPatch{{
		Name: allowedCIDRs, EnabledIf: "{{ if .apiAllowedCIDRs }}true{{ end }}",
		Definitions: []clusterv1.PatchDefinition{{
			Selector: clusterv1.PatchSelector{
				APIVersion: infrav1.GroupVersion.String(), Kind: "SendanClusterTemplate",
				MatchResources: clusterv1.PatchSelectorMatch{InfrastructureCluster: ptr.To(true)},
			},
			JSONPatches: []clusterv1.JSONPatch{{
				Op: "add", Path: "/spec/template/spec/endpoint/loadBalancer/allowedCIDRs", ValueFrom: &clusterv1.JSONPatchValue{Variable: allowedCIDRs},
			}},
		}},
	}}
}
