package webhooks

import (
	"context"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func machineTemplate(change func(*infrav1.SendanMachineTemplate)) *infrav1.SendanMachineTemplate {
	template := &infrav1.SendanMachineTemplate{}
	template.Name = "training"
	template.Spec.Template.Spec = machine(func(*infrav1.SendanMachineSpec) {}).Spec
	change(template)
	return template
}

func clusterTemplate(change func(*infrav1.SendanClusterTemplate)) *infrav1.SendanClusterTemplate {
	template := &infrav1.SendanClusterTemplate{}
	template.Name = "training"
	template.Spec.Template.Spec = *clusterSpec(func(*infrav1.SendanClusterSpec) {})
	change(template)
	return template
}

func TestATemplateIsRefusedWhatOnlyAnObjectMayHave(t *testing.T) {
	expectRefusals(t, validateMachineTemplate(machineTemplate(func(m *infrav1.SendanMachineTemplate) {
		m.Spec.Template.ObjectMeta.Labels = map[string]string{"team": "not a label!"}
		m.Spec.Template.ObjectMeta.Annotations = map[string]string{infrav1.OwnerIDAnnotation: someID}
		m.Spec.Template.Spec.ProviderID = "openstack:///" + someID
		m.Spec.Template.Spec.Tags = []string{"a,b"}
	})),
		`spec.template.metadata.labels: Invalid value: "not a label!"`,
		`spec.template.metadata.annotations[infrastructure.cluster.x-k8s.io/sendan-owner-id]: Forbidden`,
		`spec.template.spec.providerID: Forbidden: every machine made from the template would be the same server`,
		`spec.template.spec.tags[0]: Invalid value`,
	)
	expectRefusals(t, validateClusterTemplate(clusterTemplate(func(c *infrav1.SendanClusterTemplate) {
		c.Spec.Template.Spec.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "192.0.2.4", Port: 6443}
		c.Spec.Template.Spec.Network.Managed.CIDRs = []string{"10.6.0.1/24"}
	})),
		`spec.template.spec.controlPlaneEndpoint: Forbidden: every cluster made from the template would have the same endpoint`,
		`spec.template.spec.network.managed.cidrs[0]: Invalid value: "10.6.0.1/24"`,
	)
}

func TestATemplateIsImmutableExceptInATopologyDryRun(t *testing.T) {
	dryRun := map[string]string{clusterv1.TopologyDryRunAnnotation: ""}
	for name, c := range map[string]struct {
		dryRun      bool
		annotations map[string]string
		refused     bool
	}{
		"a change":                           {false, nil, true},
		"a change with the annotation alone": {false, dryRun, true},
		"a dry run of somebody else's":       {true, nil, true},
		"a dry run of the topology's":        {true, dryRun, false},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := admission.NewContextWithRequest(t.Context(), admission.Request{
				AdmissionRequest: admissionv1.AdmissionRequest{DryRun: ptr.To(c.dryRun)},
			})
			changed := machineTemplate(func(m *infrav1.SendanMachineTemplate) {
				m.Annotations = c.annotations
				m.Spec.Template.Spec.Flavor = "m1"
			})
			expectRefused(t, c.refused, func() (admission.Warnings, error) {
				return machineTemplateValidator{}.ValidateUpdate(ctx, machineTemplate(func(*infrav1.SendanMachineTemplate) {}), changed)
			})
			changedCluster := clusterTemplate(func(m *infrav1.SendanClusterTemplate) {
				m.Annotations = c.annotations
				m.Spec.Template.Spec.ServerGroupPolicy = infrav1.NoServerGroup
			})
			expectRefused(t, c.refused, func() (admission.Warnings, error) {
				return clusterTemplateValidator{}.ValidateUpdate(ctx, clusterTemplate(func(*infrav1.SendanClusterTemplate) {}), changedCluster)
			})
		})
	}
}

func TestATopologyDryRunStillChecksWhatTheTemplateSays(t *testing.T) {
	ctx := admission.NewContextWithRequest(context.Background(), admission.Request{
		AdmissionRequest: admissionv1.AdmissionRequest{DryRun: ptr.To(true)},
	})
	changed := machineTemplate(func(m *infrav1.SendanMachineTemplate) {
		m.Annotations = map[string]string{clusterv1.TopologyDryRunAnnotation: ""}
		m.Spec.Template.Spec.Tags = []string{"a,b"}
	})
	expectRefused(t, true, func() (admission.Warnings, error) {
		return machineTemplateValidator{}.ValidateUpdate(ctx, machineTemplate(func(*infrav1.SendanMachineTemplate) {}), changed)
	})
}

func expectRefused(t *testing.T, want bool, write func() (admission.Warnings, error)) {
	t.Helper()
	if _, err := write(); (err != nil) != want {
		t.Errorf("got %v, want refused: %v", err, want)
	}
}
