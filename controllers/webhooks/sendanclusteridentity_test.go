package webhooks

import (
	"fmt"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func identity(change func(*infrav1.SendanClusterIdentity)) *infrav1.SendanClusterIdentity {
	identity := &infrav1.SendanClusterIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: "shared"},
		Spec: infrav1.SendanClusterIdentitySpec{
			SecretRef:         infrav1.IdentitySecretReference{Name: "cloud", Namespace: "sendan-system"},
			NamespaceSelector: &metav1.LabelSelector{},
		},
	}
	change(identity)
	return identity
}

func TestAnIdentityIsRefusedWhereNothingCouldBeFound(t *testing.T) {
	expectRefusals(t, validateIdentity(identity(func(*infrav1.SendanClusterIdentity) {})))
	expectRefusals(t, validateIdentity(identity(func(i *infrav1.SendanClusterIdentity) {
		i.Spec.SecretRef = infrav1.IdentitySecretReference{Name: "Cloud", Namespace: "a.b"}
		i.Spec.NamespaceSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Is"}}
	})),
		`spec.secretRef.name: Invalid value: "Cloud"`,
		`spec.secretRef.namespace: Invalid value: "a.b"`,
		`spec.namespaceSelector: Invalid value`,
	)
}

func TestAnIdentityNobodyMayUseIsWarnedAbout(t *testing.T) {
	closed := identity(func(i *infrav1.SendanClusterIdentity) { i.Spec.NamespaceSelector = nil })
	warnings, err := identityValidator{}.ValidateCreate(t.Context(), closed)
	if err != nil || len(warnings) != 1 {
		t.Errorf("got warnings %q and error %v, want one warning", warnings, err)
	}
}

func TestAnIdentityInUseIsNotDeleted(t *testing.T) {
	users := func(count int) []client.Object {
		var users []client.Object
		for i := range count {
			users = append(users, cluster(func(c *infrav1.SendanCluster) {
				c.Name = fmt.Sprintf("training-%d", i)
				c.Spec.IdentityRef = infrav1.IdentityReference{Kind: infrav1.IdentityClusterIdentity, Name: "shared", CloudName: "openstack"}
			}))
		}
		return users
	}
	worker := machine(func(s *infrav1.SendanMachineSpec) {
		s.IdentityRef = &infrav1.IdentityReference{Kind: infrav1.IdentityClusterIdentity, Name: "shared", CloudName: "openstack"}
	})
	ofASecret := cluster(func(c *infrav1.SendanCluster) { c.Spec.IdentityRef.Name = "shared" })
	for name, c := range map[string]struct {
		objects []client.Object
		want    string
	}{
		"unused":                            {nil, ""},
		"a Secret has the same name":        {[]client.Object{ofASecret}, ""},
		"a cluster":                         {users(1), "used by SendanCluster team-a/training-0; delete"},
		"many clusters, some of them named": {users(7), "SendanCluster team-a/training-4 and 2 more"},
		"a machine":                         {[]client.Object{worker}, "used by SendanMachine team-a/training-1"},
	} {
		t.Run(name, func(t *testing.T) {
			reader := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(c.objects...).Build()
			_, err := identityValidator{reader: reader}.ValidateDelete(t.Context(), identity(func(*infrav1.SendanClusterIdentity) {}))
			switch {
			case c.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.want != "" && (!apierrors.IsForbidden(err) || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want …%s…", err, c.want)
			}
		})
	}
}
