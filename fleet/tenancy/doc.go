// Package tenancy gives teams their place in the management cluster and keeps them within their quota.
//
// The controller makes a Tenant's namespaces and the RBAC of its members, and keeps the ledger of what its Clusters use. The
// webhooks refuse Tenants that cannot be, and Clusters that a tenant may not have: another site, another node template, more
// than the quota.
//
// The ledger ([fleetv1.TenantStatus].Usage and its PendingGrowths) is what makes the quota hold while many requests run at once. Its rules are in
// ledger.go, what a Cluster counts as is in demand.go, and who gets which right is in plan.go and in
// config/fleet/rbac/tenant_roles.yaml.
package tenancy
