package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func (s *session) clusterGet() *cobra.Command {
	var all bool
	var out output
	cmd := &cobra.Command{
		Use:     "get [NAME]",
		Aliases: []string{"list"},
		Short:   "Show clusters, or all about one: what is wrong with it, and what to do",
		Args:    arguments(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			if all && len(args) > 0 {
				return usagef("a name and --all-namespaces exclude each other; choose a namespace with -n")
			}
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				return c.showCluster(cmd.Context(), args[0], out)
			}
			return c.showClusters(cmd.Context(), all, out)
		},
		ValidArgsFunction: s.complete(clusterNames),
	}
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "clusters of all namespaces")
	out.registerAll(cmd)
	return cmd
}

func (c *connection) showClusters(ctx context.Context, all bool, out output) error {
	var where []client.ListOption
	if !all {
		where = append(where, client.InNamespace(c.namespace))
	}
	members := &fleetv1.FleetMemberList{}
	if err := c.List(ctx, members, where...); err != nil {
		return fmt.Errorf("list FleetMembers: %w", err)
	}
	switch {
	case out.format == formatName:
		for _, member := range members.Items {
			c.printf("%s/%s\n", clusterResource, member.Name)
		}
		return nil
	case !out.forPeople():
		return out.objects(c.cmd.OutOrStdout(), c.Scheme(), members)
	case len(members.Items) == 0 && all:
		c.tell("There are no clusters.")
		return nil
	case len(members.Items) == 0:
		c.tell("There are no clusters in namespace %s.", c.namespace)
		return nil
	}
	return writeClusters(c.cmd.OutOrStdout(), members.Items, all, out.wide(), c.session.clock.Now())
}

// writeClusters has a row for each cluster.
func writeClusters(out io.Writer, members []fleetv1.FleetMember, all, wide bool, now time.Time) error {
	type member = fleetv1.FleetMember
	columns := []column[member]{
		{name: "Name", cell: func(m member) string { return m.Name }},
		{name: "Tenant", cell: func(m member) string { return m.Status.Tenant }},
		{name: "Site", cell: func(m member) string { return m.Status.Site }},
		{name: "Release", cell: func(m member) string { return m.Status.Release }},
		{name: "Version", cell: func(m member) string { return m.Status.KubernetesVersion }},
		{name: "Health", cell: func(m member) string { return string(m.Status.Health) }},
		{name: "Nodes", cell: func(m member) string { return m.Status.Nodes.Text }},
		{name: "Pools", cell: func(m member) string { return poolSummary(m.Status.Pools) }},
		{name: "Phase", wide: true, cell: func(m member) string { return string(m.Status.ReleasePhase) }},
		{name: "Infrastructure", wide: true, cell: func(m member) string { return m.Status.Infrastructure }},
		{name: "Age", wide: true, cell: func(m member) string { return age(now, m.CreationTimestamp) }},
		{name: "Message", cell: func(m member) string {
			return shorten(condition(m.Status.Conditions, fleetv1.ReadyCondition).Message, wide)
		}},
	}
	if all {
		columns = slices.Insert(columns, 0, column[member]{name: "Namespace", cell: func(m member) string { return m.Namespace }})
	}
	return writeTable(out, wide, columns, members)
}

func poolSummary(pools []fleetv1.PoolStatus) string {
	var parts []string
	for _, pool := range pools {
		parts = append(parts, pool.Name+"="+pool.Nodes.Text)
	}
	return strings.Join(parts, ",")
}

func (c *connection) showCluster(ctx context.Context, name string, out output) error {
	member := &fleetv1.FleetMember{}
	err := c.Get(ctx, c.key(name), member)
	if apierrors.IsNotFound(err) {
		if _, err := c.cluster(ctx, name); err != nil {
			return err
		}
		return fmt.Errorf("cluster %s is there, and the fleet manager has not recorded it yet; try again in a moment, else see whether the fleet manager runs", name)
	}
	switch {
	case err != nil:
		return fmt.Errorf("get FleetMember %s: %w", name, err)
	case out.format == formatName:
		c.printf("%s/%s\n", clusterResource, name)
		return nil
	case !out.forPeople():
		return out.objects(c.cmd.OutOrStdout(), c.Scheme(), member)
	}
	return writeCluster(c.cmd.OutOrStdout(), member, c.session.clock.Now())
}

// writeCluster is the one page about a cluster.
func writeCluster(out io.Writer, member *fleetv1.FleetMember, now time.Time) error {
	status := member.Status
	release := status.Release
	if status.ReleasePhase != "" {
		release += " (" + string(status.ReleasePhase) + ")"
	}
	for _, line := range [][2]string{
		{"Cluster", member.Namespace + "/" + member.Name},
		{"Tenant", status.Tenant},
		{"Site", status.Site},
		{"Release", release},
		{"Kubernetes", status.KubernetesVersion},
		{"Health", string(status.Health)},
		{"Nodes", status.Nodes.Text + " ready"},
	} {
		_, _ = fmt.Fprintf(out, "%-12s%s\n", line[0], orDash(line[1]))
	}
	for _, lock := range member.Spec.Locks {
		_, _ = fmt.Fprintf(out, "%-12sby %s since %s: %s\n", "Locked", lock.Holder, lock.Since.UTC().Format(time.RFC3339), oneLine(lock.Reason))
	}
	writeWrong(out, member)
	if err := writePools(out, status.Pools); err != nil {
		return err
	}
	if err := writeAddons(out, status.Addons); err != nil {
		return err
	}
	return writeOperations(out, status.Operations, now)
}

// writeWrong shows each condition that is not as it should be, and where to look next.
func writeWrong(out io.Writer, member *fleetv1.FleetMember) {
	var wrong []metav1.Condition
	for _, c := range member.Status.Conditions {
		if c.Status != metav1.ConditionTrue {
			wrong = append(wrong, c)
		}
	}
	if len(wrong) > 1 { // Ready sums up the others
		wrong = slices.DeleteFunc(wrong, func(c metav1.Condition) bool { return c.Type == fleetv1.ReadyCondition })
	}
	if len(wrong) == 0 {
		return
	}
	_, _ = fmt.Fprintln(out, "\nNot as it should be:")
	for _, c := range wrong {
		_, _ = fmt.Fprintf(out, "  %s is %s (%s)\n", c.Type, c.Status, c.Reason)
		if c.Message != "" {
			_, _ = fmt.Fprintf(out, "    cause: %s\n", oneLine(c.Message))
		}
		if next := nextStep(member, c.Type); next != "" {
			_, _ = fmt.Fprintf(out, "    next:  %s\n", next)
		}
	}
}

// nextStep is a command that shows more of what a condition is about.
func nextStep(member *fleetv1.FleetMember, kind string) string {
	of := fmt.Sprintf("-n %s -l %s=%s", member.Namespace, clusterv1.ClusterNameLabel, member.Name)
	switch kind {
	case fleetv1.ControlPlaneHealthyCondition, fleetv1.ReachableCondition:
		return "kubectl describe kubeadmcontrolplane,sendancluster " + of
	case fleetv1.NodesHealthyCondition:
		return "kubectl get machines " + of
	case fleetv1.AddonsHealthyCondition:
		for _, addon := range member.Status.Addons {
			if addon.Phase != fleetv1.AddonHealthy && addon.Phase != fleetv1.AddonSuspended {
				return fmt.Sprintf("the platform team can run: sendan addon diff %s %s -n %s", addon.Name, member.Name, member.Namespace)
			}
		}
	}
	return ""
}

func writePools(out io.Writer, pools []fleetv1.PoolStatus) error {
	if len(pools) == 0 {
		return nil
	}
	type pool = fleetv1.PoolStatus
	_, _ = fmt.Fprintln(out)
	return writeTable(out, true, []column[pool]{
		{name: "Pool", cell: func(p pool) string { return p.Name }},
		{name: "Template", cell: func(p pool) string { return p.NodeTemplate }},
		{name: "Nodes", cell: func(p pool) string { return p.Nodes.Text }},
		{name: "Message", cell: func(p pool) string { return oneLine(p.Message) }},
	}, pools)
}

func writeAddons(out io.Writer, addons []fleetv1.MemberAddon) error {
	if len(addons) == 0 {
		return nil
	}
	type addon = fleetv1.MemberAddon
	_, _ = fmt.Fprintln(out)
	return writeTable(out, true, []column[addon]{
		{name: "Addon", cell: func(a addon) string { return a.Name }},
		{name: "Version", cell: func(a addon) string { return a.Version }},
		{name: "Phase", cell: func(a addon) string { return string(a.Phase) }},
		{name: "Message", cell: func(a addon) string { return oneLine(a.Message) }},
	}, addons)
}

func writeOperations(out io.Writer, operations []fleetv1.MemberOperation, now time.Time) error {
	if len(operations) == 0 {
		return nil
	}
	type operation = fleetv1.MemberOperation
	_, _ = fmt.Fprintln(out)
	return writeTable(out, true, []column[operation]{
		{name: "Ago", cell: func(o operation) string { return age(now, o.Time) }},
		{name: "Operation", cell: func(o operation) string { return oneLine(o.Description) }},
	}, operations)
}
