package tenancy

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func team(change func(*fleetv1.Tenant)) *fleetv1.Tenant {
	tenant := &fleetv1.Tenant{ObjectMeta: metav1.ObjectMeta{Name: "team-vision", UID: "1"}, Spec: fleetv1.TenantSpec{
		PodSecurity: fleetv1.PodSecurityRestricted, Sites: []string{"tokyo"}, NodeTemplates: []string{"a100"},
		Members: []fleetv1.TenantMember{
			{Group: "oidc:vision-leads", Role: fleetv1.RoleAdmin}, {Group: "oidc:vision", Role: fleetv1.RoleOperator}, {Group: "oidc:audit", Role: fleetv1.RoleViewer},
		},
	}}
	if change != nil {
		change(tenant)
	}
	return tenant
}

func TestATenantIsRefusedThatCannotBe(t *testing.T) {
	others := []fleetv1.Tenant{
		{ObjectMeta: metav1.ObjectMeta{Name: "team-speech"}},
		{ObjectMeta: metav1.ObjectMeta{Name: "team-robots"}, Spec: fleetv1.TenantSpec{Namespaces: []string{"robots-lab", "robots"}}},
		*team(nil), // itself
	}
	for name, c := range map[string]struct {
		change func(*fleetv1.Tenant)
		want   string
	}{
		"good": {},
		"everything allowed": {change: func(t *fleetv1.Tenant) {
			t.Spec.Sites, t.Spec.NodeTemplates = []string{"*"}, []string{"*"}
		}},
		"robots by their namespace": {change: func(t *fleetv1.Tenant) { t.Spec.Members[0].Group = "system:serviceaccounts:gitops" }},
		"a namespace that cannot be": {
			change: func(t *fleetv1.Tenant) { t.Spec.Namespaces = []string{"vision", "Vision.Lab"} },
			want:   `spec.namespaces[1]: Invalid value: "Vision.Lab": cannot be the name of a namespace; use lower-case letters, digits and -`,
		},
		"a namespace of another tenant": {
			change: func(t *fleetv1.Tenant) { t.Spec.Namespaces = []string{"robots"} },
			want:   `spec.namespaces[0]: Invalid value: "robots": is a namespace of Tenant team-robots; a namespace belongs to one tenant`,
		},
		"the default namespace of another tenant": {
			change: func(t *fleetv1.Tenant) { t.Spec.Namespaces = []string{"team-speech"} },
			want:   `spec.namespaces[0]: Invalid value: "team-speech": is a namespace of Tenant team-speech`,
		},
		"a name that is a namespace of another tenant": {
			change: func(t *fleetv1.Tenant) { t.Name = "robots-lab" },
			want:   `metadata.name: Invalid value: "robots-lab": is a namespace of Tenant team-robots`,
		},
		"a namespace of Kubernetes": {
			change: func(t *fleetv1.Tenant) { t.Spec.Namespaces = []string{"kube-system"} },
			want:   `spec.namespaces[0]: Invalid value: "kube-system": belongs to Kubernetes or to the platform`,
		},
		"the namespace of the releases": {
			change: func(t *fleetv1.Tenant) { t.Spec.Namespaces = []string{"sendan-fleet-system"} },
			want:   `spec.namespaces[0]: Invalid value: "sendan-fleet-system": belongs to Kubernetes or to the platform`,
		},
		"the default namespace": {
			change: func(t *fleetv1.Tenant) { t.Name = "default" },
			want:   `metadata.name: Invalid value: "default": belongs to Kubernetes or to the platform; give the tenant a namespace of its own in spec.namespaces`,
		},
		"everybody who has logged in": {
			change: func(t *fleetv1.Tenant) { t.Spec.Members[0].Group = "system:authenticated" },
			want:   `spec.members[0].group: Invalid value: "system:authenticated": is a group of Kubernetes itself`,
		},
		"a group with a space": {
			change: func(t *fleetv1.Tenant) { t.Spec.Members[1].Group = "oidc:vision " },
			want:   `spec.members[1].group: Invalid value: "oidc:vision ": has spaces at its ends`,
		},
		"every site and one": {
			change: func(t *fleetv1.Tenant) { t.Spec.Sites = []string{"tokyo", "*"} },
			want:   `spec.sites[1]: Invalid value: "*": stands for every Site, so it stands alone`,
		},
		"a node template that cannot be": {
			change: func(t *fleetv1.Tenant) { t.Spec.NodeTemplates = []string{"a100*"} },
			want:   `spec.nodeTemplates[0]: Invalid value: "a100*": cannot be the name of a NodeTemplate`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			expectWrong(t, validateTenant(team(c.change), others, "sendan-fleet-system").ToAggregate(), c.want)
		})
	}
}

func TestATenantThatCanMakeNothingIsWarnedAbout(t *testing.T) {
	if warnings := warnTenant(team(nil)); len(warnings) > 0 {
		t.Errorf("got %q", warnings)
	}
	if warnings := warnTenant(&fleetv1.Tenant{}); len(warnings) != 2 {
		t.Errorf("got %q, want two", warnings)
	}
}
