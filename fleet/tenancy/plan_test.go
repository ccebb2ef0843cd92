package tenancy

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

func namespace(name, tenant string, options ...func(*corev1.Namespace)) *corev1.Namespace {
	n := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, ResourceVersion: "1"}}
	if tenant != "" {
		n.Labels = map[string]string{fleetv1.TenantLabel: tenant}
	}
	for _, option := range options {
		option(n)
	}
	return n
}

func adoptableBy(tenant string) func(*corev1.Namespace) {
	return func(n *corev1.Namespace) { n.Annotations = map[string]string{AdoptAnnotation: tenant} }
}

func deleting(n *corev1.Namespace) { n.DeletionTimestamp = ptr.To(metav1.Now()) }

func TestANamespaceIsTakenOnlyByWhoMayHaveIt(t *testing.T) {
	for name, c := range map[string]struct {
		there    *corev1.Namespace // "lab", which the spec names
		former   *corev1.Namespace // "old", which it does not
		clusters map[string][]string
		want     string
	}{
		"one that is not there is made": {want: "claim lab (new); Ready=True Available"},
		"the tenant's own":              {there: namespace("lab", "team-vision"), want: "claim lab; Ready=True Available"},
		"one that was there before is let be": {
			there: namespace("lab", ""),
			want:  "Ready=False NamespaceTaken namespace lab was there before; if the tenant may have it with all that is in it, run: kubectl annotate namespace lab fleet.sendan.io/adopt=team-vision",
		},
		"one that was given away": {there: namespace("lab", "", adoptableBy("team-vision")), want: "claim lab; Ready=True Available"},
		"one that was given to somebody else": {
			there: namespace("lab", "", adoptableBy("team-speech")), want: "Ready=False NamespaceTaken namespace lab was there before; …",
		},
		"one of another tenant, although somebody annotated it": {
			there: namespace("lab", "team-speech", adoptableBy("team-vision")), want: "Ready=False NamespaceTaken namespace lab belongs to tenant team-speech",
		},
		"one that is being deleted": {
			there: namespace("lab", "team-vision", deleting), want: "Ready=False Invalid namespace lab is being deleted, and made again when it is gone",
		},
		"one that has left the spec": {former: namespace("old", "team-vision"), want: "claim lab (new); release old; Ready=True Available"},
		"one that has left the spec and has Clusters": {
			former: namespace("old", "team-vision"), clusters: map[string][]string{"old": {"a", "b"}},
			want: "claim lab (new); Ready=True Available namespace old is not in spec.namespaces any more, and has Clusters that count until they are deleted: a, b",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := input{tenant: team(func(t *fleetv1.Tenant) { t.Spec.Namespaces = []string{"lab"} }), namespaces: map[string]*corev1.Namespace{}, clusters: c.clusters}
			for _, n := range []*corev1.Namespace{c.there, c.former} {
				if n != nil {
					in.namespaces[n.Name] = n
				}
			}
			want, isPrefix := strings.CutSuffix(c.want, "…")
			if got := tell(planFor(in)); got != want && (!isPrefix || !strings.HasPrefix(got, want)) {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// tell is a plan in one line, without its objects.
func tell(p plan) string {
	var parts []string
	for _, n := range p.claim {
		text := "claim " + n.Name
		if n.ResourceVersion == "" {
			text += " (new)"
		}
		parts = append(parts, text)
	}
	for _, n := range p.release {
		parts = append(parts, "release "+n.Name)
	}
	ready := p.ready()
	return strings.TrimSpace(strings.Join(append(parts, fmt.Sprintf("Ready=%s %s", ready.Status, ready.Reason)), "; ") + " " + ready.Message)
}

func TestWhoGetsWhichRight(t *testing.T) {
	tenant := team(func(t *fleetv1.Tenant) { t.Spec.Namespaces = []string{"vision", "vision-lab"} })
	p := planFor(input{tenant: tenant, clusters: map[string][]string{"vision": {"serving", "training"}}})
	var text strings.Builder
	for _, n := range p.claim {
		fmt.Fprintf(&text, "namespace %s %v\n", n.Name, n.Labels)
	}
	for _, object := range p.objects {
		switch o := object.(type) {
		case *rbacv1.Role:
			fmt.Fprintf(&text, "%s: role %s: %s\n", o.Namespace, o.Name, rulesText(o.Rules))
		case *rbacv1.ClusterRole:
			fmt.Fprintf(&text, "everywhere: role %s: %s\n", o.Name, rulesText(o.Rules))
		case *rbacv1.RoleBinding:
			fmt.Fprintf(&text, "%s: %s have %s %s\n", o.Namespace, groupsText(o.Subjects), o.RoleRef.Kind, o.RoleRef.Name)
		case *rbacv1.ClusterRoleBinding:
			fmt.Fprintf(&text, "everywhere: %s have %s\n", groupsText(o.Subjects), o.RoleRef.Name)
		}
	}
	golden := filepath.Join("testdata", "rights.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s\n(-update writes it anew)", text.String(), want)
	}
}

func rulesText(rules []rbacv1.PolicyRule) string {
	var parts []string
	for _, r := range rules {
		parts = append(parts, fmt.Sprintf("%s %s %v", strings.Join(r.Verbs, ","), strings.Join(r.Resources, ","), r.ResourceNames))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, "; ")
}

func groupsText(subjects []rbacv1.Subject) string {
	var groups []string
	for _, s := range subjects {
		groups = append(groups, s.Name)
	}
	return strings.Join(groups, ", ")
}

func TestARoleForNoKubeconfigsIsNotOneForAllSecrets(t *testing.T) {
	if rules := kubeconfigs("vision", nil).Rules; len(rules) > 0 {
		t.Errorf("got %v", rules)
	}
}

func TestATenantOverItsQuotaIsToldBy(t *testing.T) {
	limits := amounts{{what: clusters}: 5, {what: memory}: 2048, a100: 32}
	if c := withinQuota(amounts{{what: clusters}: 5, {what: memory}: 2048, a100: 32}, limits); c.Status != metav1.ConditionTrue {
		t.Errorf("a quota that is used up: %v", c)
	}
	c := withinQuota(amounts{{what: clusters}: 3, {what: memory}: 3072, a100: 40}, limits)
	const want = "memory: 3 of 2 GiB used; GPUs A100-80GB: 40 of 32 used. What there is goes on, and nothing of it may grow; scale down, or raise spec.quota."
	if c.Status != metav1.ConditionFalse || c.Reason != fleetv1.OverQuotaReason || c.Message != want {
		t.Errorf("got %+v", c)
	}
}
