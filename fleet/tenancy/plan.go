package tenancy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/internal/message"
)

// AdoptAnnotation on a namespace names the tenant that may have it although it was there before. Whoever may annotate
// namespaces gives it away; nobody takes it.
const AdoptAnnotation = "fleet.sendan.io/adopt"

// The ClusterRoles in config/fleet/rbac/tenant_roles.yaml. Each holds what a role adds to those before it.
const (
	viewerRole   = "sendan-tenant-viewer"
	operatorRole = "sendan-tenant-operator"
	adminRole    = "sendan-tenant-admin"
	catalogRole  = "sendan-tenant-catalog"
	// kubeconfigsRole is a Role in every namespace: RBAC cannot select Secrets by their labels, only by their names.
	kubeconfigsRole = "sendan-tenant-kubeconfigs"
)

// ownRole is the ClusterRole of one tenant. No tenant's name has a colon, so it is no other role's name.
func ownRole(tenant *fleetv1.Tenant) string { return "sendan-tenant:" + tenant.Name }

// namespacesOf are those that a tenant is to have.
func namespacesOf(tenant *fleetv1.Tenant) []string {
	if len(tenant.Spec.Namespaces) == 0 {
		return []string{tenant.Name}
	}
	return tenant.Spec.Namespaces
}

// input is what the plan for a Tenant is made from.
type input struct {
	tenant *fleetv1.Tenant
	// namespaces that the spec names or that carry the tenant's label, as far as they are there.
	namespaces map[string]*corev1.Namespace
	// clusters by namespace, their names in order.
	clusters map[string][]string
}

// plan is what a Tenant's namespaces and bindings are to be.
type plan struct {
	// claim has the namespaces with the labels they are to have. Those without a resourceVersion are to be made.
	claim []*corev1.Namespace
	// release has those that are to lose the tenant's label.
	release []*corev1.Namespace
	// objects are all Roles and bindings that the tenant has.
	objects []client.Object
	// taken and deleting say which namespaces the tenant cannot have, and why; held, which it still has.
	taken, deleting, held []string
}

func planFor(in input) plan {
	p := plan{}
	wanted := slices.Sorted(slices.Values(namespacesOf(in.tenant)))
	for _, name := range wanted {
		p.planNamespace(in, name)
	}
	for _, name := range slices.Sorted(maps.Keys(in.namespaces)) {
		if !slices.Contains(wanted, name) {
			p.planFormer(in, name)
		}
	}
	p.objects = append(p.objects, catalogObjects(in.tenant)...)
	for _, namespace := range p.claim {
		p.objects = append(p.objects, namespaceObjects(in.tenant, namespace.Name, in.clusters[namespace.Name])...)
	}
	return p
}

func (p *plan) planNamespace(in input, name string) {
	namespace := in.namespaces[name]
	if namespace == nil {
		namespace = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		p.claim = append(p.claim, labeled(namespace, in.tenant))
		return
	}
	owner, owned := namespace.Labels[fleetv1.TenantLabel]
	switch {
	case owned && owner != in.tenant.Name:
		p.taken = append(p.taken, fmt.Sprintf("namespace %s belongs to tenant %s", name, owner))
	case !owned && namespace.Annotations[AdoptAnnotation] != in.tenant.Name:
		p.taken = append(p.taken, fmt.Sprintf("namespace %s was there before; if the tenant may have it with all that is in it, run: kubectl annotate namespace %s %s=%s",
			name, name, AdoptAnnotation, in.tenant.Name))
	case !namespace.DeletionTimestamp.IsZero():
		p.deleting = append(p.deleting, fmt.Sprintf("namespace %s is being deleted, and made again when it is gone", name))
	default:
		p.claim = append(p.claim, labeled(namespace, in.tenant))
	}
}

// planFormer keeps the label of a namespace that has left the spec as long as Clusters are there: they count until they are
// gone. Its bindings go at once, since they are not among the objects.
func (p *plan) planFormer(in input, name string) {
	if left := in.clusters[name]; len(left) > 0 {
		p.held = append(p.held, fmt.Sprintf("namespace %s is not in spec.namespaces any more, and has Clusters that count until they are deleted: %s", name, message.Some(left, ", ")))
		return
	}
	p.release = append(p.release, in.namespaces[name])
}

func labeled(namespace *corev1.Namespace, tenant *fleetv1.Tenant) *corev1.Namespace {
	namespace = namespace.DeepCopy()
	standard := strings.ToLower(string(tenant.Spec.PodSecurity))
	metav1.SetMetaDataLabel(&namespace.ObjectMeta, fleetv1.TenantLabel, tenant.Name)
	for _, mode := range []string{"enforce", "warn", "audit"} {
		metav1.SetMetaDataLabel(&namespace.ObjectMeta, "pod-security.kubernetes.io/"+mode, standard)
	}
	return namespace
}

// groupsOf are the members with one of the roles.
func groupsOf(tenant *fleetv1.Tenant, roles ...fleetv1.TenantRole) []rbacv1.Subject {
	var subjects []rbacv1.Subject
	for _, member := range tenant.Spec.Members {
		if slices.Contains(roles, member.Role) {
			subjects = append(subjects, rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: member.Group})
		}
	}
	slices.SortFunc(subjects, func(a, b rbacv1.Subject) int { return strings.Compare(a.Name, b.Name) })
	return subjects
}

// catalogObjects let members see what they can choose from: every Release and NodeTemplate, themselves, and the Sites they
// may use. A Site holds no credentials, only the name of a SendanClusterIdentity, which they cannot read.
func catalogObjects(tenant *fleetv1.Tenant) []client.Object {
	read := []string{"get", "list", "watch"}
	sites := rbacv1.PolicyRule{APIGroups: []string{fleetv1.GroupVersion.Group}, Resources: []string{"sites"}, Verbs: read, ResourceNames: tenant.Spec.Sites}
	rules := []rbacv1.PolicyRule{{APIGroups: sites.APIGroups, Resources: []string{"tenants"}, Verbs: read, ResourceNames: []string{tenant.Name}}}
	switch {
	case mayUseAll(tenant.Spec.Sites):
		sites.ResourceNames = nil
		rules = append(rules, sites)
	case len(tenant.Spec.Sites) > 0:
		rules = append(rules, sites)
	}
	everybody := groupsOf(tenant, fleetv1.RoleViewer, fleetv1.RoleOperator, fleetv1.RoleAdmin)
	if len(everybody) == 0 {
		return nil
	}
	name := ownRole(tenant)
	bind := func(name, role string) *rbacv1.ClusterRoleBinding {
		return &rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: roleRef("ClusterRole", role), Subjects: everybody}
	}
	return []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules},
		bind(name, name),
		bind(name+":catalog", catalogRole),
	}
}

// namespaceObjects are the Roles and bindings in one namespace. Who has a role also gets those before it.
func namespaceObjects(tenant *fleetv1.Tenant, namespace string, clusters []string) []client.Object {
	var objects []client.Object
	bind := func(kind, role string, roles ...fleetv1.TenantRole) {
		if groups := groupsOf(tenant, roles...); len(groups) > 0 {
			objects = append(objects, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: role}, RoleRef: roleRef(kind, role), Subjects: groups,
			})
		}
	}
	bind("ClusterRole", viewerRole, fleetv1.RoleViewer, fleetv1.RoleOperator, fleetv1.RoleAdmin)
	bind("ClusterRole", operatorRole, fleetv1.RoleOperator, fleetv1.RoleAdmin)
	bind("ClusterRole", adminRole, fleetv1.RoleAdmin)
	bind("Role", kubeconfigsRole, fleetv1.RoleOperator, fleetv1.RoleAdmin)
	return append(objects, kubeconfigs(namespace, clusters))
}

// kubeconfigs has no rule when there are no Clusters: a rule without names would be one for every Secret.
func kubeconfigs(namespace string, clusters []string) *rbacv1.Role {
	role := &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: kubeconfigsRole}}
	if len(clusters) == 0 {
		return role
	}
	var secrets []string
	for _, cluster := range clusters {
		secrets = append(secrets, cluster+"-kubeconfig")
	}
	role.Rules = []rbacv1.PolicyRule{{APIGroups: []string{corev1.GroupName}, Resources: []string{"secrets"}, Verbs: []string{"get"}, ResourceNames: secrets}}
	return role
}

func roleRef(kind, name string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name}
}

// ready is the condition for the plan.
func (p plan) ready() metav1.Condition {
	condition := metav1.Condition{Type: fleetv1.ReadyCondition, Status: metav1.ConditionFalse}
	switch {
	case len(p.taken) > 0:
		condition.Reason, condition.Message = fleetv1.NamespaceTakenReason, sentence(append(p.taken, p.deleting...))
	case len(p.deleting) > 0:
		condition.Reason, condition.Message = fleetv1.InvalidReason, sentence(p.deleting)
	default:
		condition.Status, condition.Reason, condition.Message = metav1.ConditionTrue, fleetv1.AvailableReason, sentence(p.held)
	}
	return condition
}

// withinQuota is the condition for what is used.
func withinQuota(used, limits amounts) metav1.Condition {
	var over []string
	for _, d := range slices.SortedFunc(maps.Keys(limits), compareDimensions) {
		if used[d] > limits[d] {
			over = append(over, fmt.Sprintf("%s: %s of %s used", d, d.number(used[d]), d.quantity(limits[d])))
		}
	}
	if len(over) == 0 {
		return metav1.Condition{Type: fleetv1.WithinQuotaCondition, Status: metav1.ConditionTrue, Reason: fleetv1.AvailableReason}
	}
	return metav1.Condition{Type: fleetv1.WithinQuotaCondition, Status: metav1.ConditionFalse, Reason: fleetv1.OverQuotaReason,
		Message: strings.Join(over, "; ") + ". What there is goes on, and nothing of it may grow; scale down, or raise spec.quota."}
}

func sentence(parts []string) string { return strings.Join(parts, "; ") }

func mayUseAll(names []string) bool { return slices.Contains(names, "*") }

func mayUse(names []string, name string) bool {
	return mayUseAll(names) || slices.Contains(names, name)
}
