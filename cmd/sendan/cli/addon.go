package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/fleet/addons"
)

func (s *session) addonCommand() *cobra.Command {
	return s.noun("addon", "See what clusters get besides Kubernetes", s.addonList(), s.addonDiff())
}

func (s *session) addonList() *cobra.Command {
	return s.list("Show add-ons, and how they do in all clusters", func(c *connection, out output) error {
		list := &fleetv1.AddonList{}
		if err := c.List(c.cmd.Context(), list); err != nil {
			return fmt.Errorf("list Addons: %w", err)
		}
		if !out.forPeople() {
			return out.objects(c.cmd.OutOrStdout(), c.Scheme(), list)
		}
		return writeAddonList(c.cmd.OutOrStdout(), list.Items, out.wide())
	})
}

// writeAddonList has a row for each add-on.
func writeAddonList(out io.Writer, list []fleetv1.Addon, wide bool) error {
	type addon = fleetv1.Addon
	return writeTable(out, wide, []column[addon]{
		{name: "Name", cell: func(a addon) string { return a.Name }},
		{name: "Versions", cell: func(a addon) string {
			var versions []string
			for _, version := range a.Spec.Versions {
				versions = append(versions, version.Version)
			}
			return strings.Join(versions, ",")
		}},
		{name: "Depends on", wide: true, cell: func(a addon) string { return strings.Join(a.Spec.DependsOn, ",") }},
		{name: "Healthy", cell: func(a addon) string {
			return strconv.Itoa(int(a.Status.Healthy)) + "/" + strconv.Itoa(int(a.Status.Clusters))
		}},
		{name: "Suspended", wide: true, cell: func(a addon) string {
			if a.Spec.Suspended != nil && *a.Spec.Suspended {
				return "yes"
			}
			return "no"
		}},
		{name: "Ready", cell: func(a addon) string { return string(condition(a.Status.Conditions, fleetv1.ReadyCondition).Status) }},
		{name: "Message", cell: func(a addon) string {
			return shorten(condition(a.Status.Conditions, fleetv1.ReadyCondition).Message, wide)
		}},
	}, list)
}

func (s *session) addonDiff() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff ADDON CLUSTER",
		Short: "Show what applying an add-on now would change in a cluster",
		Long: `Shows what applying an add-on now would change in a cluster, without changing anything.

The exit code is 0 when nothing would change, 1 when something would, and 2 after an error, or when an object cannot be applied.`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect(cmd)
			if err != nil {
				return troubleError{err}
			}
			err = c.diffAddon(cmd.Context(), args[0], args[1])
			if err != nil && !errors.Is(err, errDifferent) {
				return troubleError{err}
			}
			return err
		},
		ValidArgsFunction: s.complete(addonNames, clusterNames),
	}
	return cmd
}

func (c *connection) diffAddon(ctx context.Context, addon, cluster string) error {
	if err := c.Get(ctx, client.ObjectKey{Name: addon}, &fleetv1.Addon{}); apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no add-on %q; see: sendan addon list", addon)
	} else if err != nil {
		return fmt.Errorf("get Addon %s: %w", addon, err)
	}
	kubeconfig, err := c.kubeconfig(ctx, cluster)
	if err != nil {
		return err
	}
	tenant, err := c.tenantClient(kubeconfig)
	if err != nil {
		return err
	}
	changes, err := addons.Diff(ctx, addons.DiffOptions{Management: c, Tenant: tenant, Cluster: c.key(cluster), Addon: addon})
	if err != nil {
		return err
	}
	if len(changes) == 0 {
		c.tell("Cluster %s does not get add-on %s, or it is suspended.", cluster, addon)
	}
	return writeAddonChanges(c.cmd.OutOrStdout(), changes)
}

// writeAddonChanges shows what would change, and returns that it would, or what cannot be.
func writeAddonChanges(out io.Writer, changes []addons.Change) error {
	var verdict error
	var failing []error
	for _, change := range changes {
		object := change.Object
		if object == "" {
			object = "add-on " + orDash(change.Addon)
		}
		switch change.Action {
		case addons.Unchanged:
			continue
		case addons.Failing:
			failing = append(failing, fmt.Errorf("%s: %s", object, oneLine(change.Text)))
			continue
		}
		verdict = errDifferent
		_, _ = fmt.Fprintf(out, "%s %s\n", object, change.Action)
		if change.Text != "" {
			_, _ = fmt.Fprintln(out, strings.TrimRight(change.Text, "\n"))
		}
	}
	if len(failing) > 0 {
		return errors.Join(failing...)
	}
	return verdict
}
