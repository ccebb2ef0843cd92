package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

const mibPerGiB = 1024

func (s *session) tenantCommand() *cobra.Command {
	return s.noun("tenant", "See what tenants have, and may have", s.tenantUsage())
}

func (s *session) tenantUsage() *cobra.Command {
	var all bool
	var out output
	cmd := &cobra.Command{
		Use:   "usage [NAME]",
		Short: "Show how much of their quota tenants use",
		Long: `Shows how much of its quota a tenant uses: the one that is named, or else the one that the namespace belongs to.
Pools that scale by themselves count at their maximum. With -o wide, what each cluster counts is shown too.`,
		Args: arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if all && len(args) > 0 {
				return usagef("a name and --all exclude each other")
			}
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			if all {
				tenants := &fleetv1.TenantList{}
				if err := c.List(cmd.Context(), tenants); err != nil {
					return fmt.Errorf("list Tenants: %w", err)
				}
				if !out.forPeople() {
					return out.objects(cmd.OutOrStdout(), c.Scheme(), tenants)
				}
				return c.showUsage(cmd.Context(), cmd.OutOrStdout(), tenants.Items, out.wide())
			}
			tenant, err := c.tenant(cmd.Context(), args)
			if err != nil {
				return err
			}
			if !out.forPeople() {
				return out.objects(cmd.OutOrStdout(), c.Scheme(), tenant)
			}
			return c.showUsage(cmd.Context(), cmd.OutOrStdout(), []fleetv1.Tenant{*tenant}, out.wide())
		},
		ValidArgsFunction: s.complete(tenantNames),
	}
	cmd.Flags().BoolVarP(&all, "all", "A", false, "all tenants")
	out.registerAll(cmd)
	return cmd
}

// tenant is the one that is named, or else the one that the namespace belongs to: members may read only their own.
func (c *connection) tenant(ctx context.Context, args []string) (*fleetv1.Tenant, error) {
	var name string
	if len(args) > 0 {
		name = args[0]
	} else {
		namespace := &corev1.Namespace{}
		if err := c.Get(ctx, client.ObjectKey{Name: c.namespace}, namespace); err != nil {
			return nil, fmt.Errorf("see which tenant namespace %s belongs to: %w", c.namespace, err)
		}
		if name = namespace.Labels[fleetv1.TenantLabel]; name == "" {
			return nil, fmt.Errorf("namespace %s belongs to no tenant; name one, choose a namespace with -n, or see all with -A", c.namespace)
		}
	}
	tenant := &fleetv1.Tenant{}
	err := c.Get(ctx, client.ObjectKey{Name: name}, tenant)
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("there is no tenant %q; see all with: sendan tenant usage -A", name)
	case err != nil:
		return nil, fmt.Errorf("get Tenant %s: %w", name, err)
	}
	return tenant, nil
}

func (c *connection) showUsage(ctx context.Context, out io.Writer, tenants []fleetv1.Tenant, wide bool) error {
	if err := writeTenants(out, tenants); err != nil || !wide {
		return err
	}
	var members []fleetv1.FleetMember
	for i := range tenants {
		found, err := c.membersOf(ctx, &tenants[i])
		if err != nil {
			return err
		}
		members = append(members, found...)
	}
	return writeUsage(out, members)
}

// membersOf looks into each namespace of the tenant, since its members may not look into all at once.
func (c *connection) membersOf(ctx context.Context, tenant *fleetv1.Tenant) ([]fleetv1.FleetMember, error) {
	namespaces := tenant.Spec.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{tenant.Name}
	}
	var members []fleetv1.FleetMember
	for _, namespace := range namespaces {
		var found fleetv1.FleetMemberList
		if err := c.List(ctx, &found, client.InNamespace(namespace)); err != nil {
			return nil, fmt.Errorf("list FleetMembers: %w", err)
		}
		members = append(members, found.Items...)
	}
	return slices.DeleteFunc(members, func(m fleetv1.FleetMember) bool { return m.Status.Tenant != tenant.Name }), nil
}

// amount is how much of one dimension there is. Limit is nil where there is none.
type amount struct {
	tenant, what string
	used         int64
	limit        *int64
	unit         string
}

// amountsOf a tenant: what is used or limited.
func amountsOf(tenant *fleetv1.Tenant) []amount {
	usage, quota := tenant.Status.Usage, tenant.Spec.Quota
	// As much memory as is needed, so that a little too much does not look like enough.
	gib := (usage.MemoryMiB + mibPerGiB - 1) / mibPerGiB
	all := []amount{
		{what: "clusters", used: usage.Clusters, limit: quota.Clusters},
		{what: "nodes", used: usage.Nodes, limit: quota.Nodes},
		{what: "vCPUs", used: usage.VCPUs, limit: quota.VCPUs},
		{what: "memory", used: gib, limit: quota.MemoryGiB, unit: " GiB"},
	}
	gpus, profiles := map[string]*int64{}, map[string]*int64{}
	for _, limit := range quota.GPUs {
		gpus[limit.Model] = limit.Count
	}
	for _, limit := range quota.MIGSlices {
		profiles[limit.Profile] = limit.Count
	}
	all = append(all, named("GPUs ", usage.GPUs, gpus)...)
	all = append(all, named("MIG slices ", usage.MIGSlices, profiles)...)
	all = slices.DeleteFunc(all, func(a amount) bool { return a.used == 0 && a.limit == nil })
	for i := range all {
		all[i].tenant = tenant.Name
	}
	return all
}

func named(what string, used map[string]int64, limits map[string]*int64) []amount {
	names := slices.Concat(slices.Collect(maps.Keys(used)), slices.Collect(maps.Keys(limits)))
	slices.Sort(names)
	var all []amount
	for _, name := range slices.Compact(names) {
		all = append(all, amount{what: what + name, used: used[name], limit: limits[name]})
	}
	return all
}

// bar has ten parts. Something is never shown as nothing, nor a rest as none.
func (a amount) bar() string {
	const parts = 10
	if a.limit == nil {
		return ""
	}
	if *a.limit == 0 {
		return strings.Repeat("█", parts)
	}
	percent := a.used * 100 / *a.limit
	filled := min(percent*parts/100, parts)
	if a.used > 0 {
		filled = max(filled, 1)
	}
	return strings.Repeat("█", int(filled)) + strings.Repeat("░", int(parts-filled)) + fmt.Sprintf(" %d %%", percent)
}

// writeTenants has a row for each dimension of each tenant.
func writeTenants(out io.Writer, tenants []fleetv1.Tenant) error {
	var amounts []amount
	for i := range tenants {
		amounts = append(amounts, amountsOf(&tenants[i])...)
	}
	if err := writeTable(out, false, []column[amount]{
		{name: "Tenant", cell: func(a amount) string { return a.tenant }},
		{name: "What", cell: func(a amount) string { return a.what }},
		{name: "Used", cell: func(a amount) string { return strconv.FormatInt(a.used, 10) + a.unit }},
		{name: "Limit", cell: func(a amount) string {
			if a.limit == nil {
				return ""
			}
			return strconv.FormatInt(*a.limit, 10) + a.unit
		}},
		{name: "Share", cell: amount.bar},
	}, amounts); err != nil {
		return err
	}
	for _, tenant := range tenants {
		if c := condition(tenant.Status.Conditions, fleetv1.WithinQuotaCondition); c.Status == "False" {
			_, _ = fmt.Fprintf(out, "\nTenant %s is over its quota: %s\n", tenant.Name, oneLine(c.Message))
		}
	}
	return nil
}

// writeUsage has a row for each cluster, under the rows of its tenant.
func writeUsage(out io.Writer, members []fleetv1.FleetMember) error {
	if len(members) == 0 {
		return nil
	}
	slices.SortFunc(members, func(a, b fleetv1.FleetMember) int {
		return cmp.Or(cmp.Compare(a.Status.Tenant, b.Status.Tenant), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	_, _ = fmt.Fprintln(out)
	ofUsage := func(name string, cell func(fleetv1.Usage) string) column[fleetv1.FleetMember] {
		return column[fleetv1.FleetMember]{name: name, cell: func(m fleetv1.FleetMember) string { return cell(m.Status.Usage) }}
	}
	return writeTable(out, false, []column[fleetv1.FleetMember]{
		{name: "Tenant", cell: func(m fleetv1.FleetMember) string { return m.Status.Tenant }},
		{name: "Cluster", cell: func(m fleetv1.FleetMember) string { return m.Namespace + "/" + m.Name }},
		ofUsage("Nodes", func(u fleetv1.Usage) string { return strconv.FormatInt(u.Nodes, 10) }),
		ofUsage("vCPUs", func(u fleetv1.Usage) string { return strconv.FormatInt(u.VCPUs, 10) }),
		ofUsage("Memory", func(u fleetv1.Usage) string {
			return strconv.FormatFloat(float64(u.MemoryMiB)/mibPerGiB, 'f', -1, 64) + " GiB"
		}),
		ofUsage("GPUs", func(u fleetv1.Usage) string { return counts(u.GPUs) }),
		ofUsage("MIG slices", func(u fleetv1.Usage) string { return counts(u.MIGSlices) }),
	}, members)
}

func counts(all map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		parts = append(parts, fmt.Sprintf("%s=%d", name, all[name]))
	}
	return strings.Join(parts, ",")
}
