package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func (s *session) releaseCommand() *cobra.Command {
	return s.noun("release", "See what clusters can be made of, and what a change of release would change", s.releaseList(), s.releaseDiff())
}

func (s *session) releaseList() *cobra.Command {
	return s.list("Show releases", func(c *connection, out output) error {
		releases := &fleetv1.ReleaseList{}
		if err := c.List(c.cmd.Context(), releases); err != nil {
			return fmt.Errorf("list Releases: %w", err)
		}
		if !out.forPeople() {
			return out.objects(c.cmd.OutOrStdout(), c.Scheme(), releases)
		}
		return writeReleases(c.cmd.OutOrStdout(), releases.Items, out.wide())
	})
}

// writeReleases has a row for each release.
func writeReleases(out io.Writer, releases []fleetv1.Release, wide bool) error {
	type release = fleetv1.Release
	return writeTable(out, wide, []column[release]{
		{name: "Name", cell: func(r release) string { return r.Name }},
		{name: "Kubernetes", cell: func(r release) string { return r.Spec.KubernetesVersion }},
		{name: "Channels", cell: func(r release) string { return strings.Join(r.Spec.Channels, ",") }},
		{name: "Phase", cell: func(r release) string { return string(r.Status.Phase) }},
		{name: "Clusters", cell: func(r release) string { return strconv.Itoa(int(r.Status.Clusters)) }},
		{name: "Sites", cell: func(r release) string { return strings.Join(usableIn(r.Status.Sites), ",") }},
		{name: "Templates", wide: true, cell: func(r release) string {
			var names []string
			for _, template := range r.Spec.NodeTemplates {
				names = append(names, template.Name)
			}
			return strings.Join(names, ",")
		}},
		{name: "Addons", wide: true, cell: func(r release) string {
			var names []string
			for _, addon := range r.Spec.Addons {
				names = append(names, addon.Name+"="+addon.Version)
			}
			return strings.Join(names, ",")
		}},
		{name: "Ready", cell: func(r release) string { return string(condition(r.Status.Conditions, fleetv1.ReadyCondition).Status) }},
		{name: "Message", cell: func(r release) string {
			return shorten(condition(r.Status.Conditions, fleetv1.ReadyCondition).Message, wide)
		}},
	}, releases)
}

// usableIn are the sites where clusters of the release can be made.
func usableIn(sites []fleetv1.ReleaseSite) []string {
	var names []string
	for _, site := range sites {
		if site.ClusterClass != "" {
			names = append(names, site.Site)
		}
	}
	return names
}

func (s *session) releaseDiff() *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:   "diff FROM TO",
		Short: "Show what a cluster would get with another release",
		Long: `Shows what differs between two releases: versions, images and drivers, node templates field by field, add-ons.
Channels and lifecycle are not shown: no cluster changes by them.

The exit code is 0 when nothing differs, 1 when something does, and 2 after an error.`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := out.check(); err != nil {
				return err
			}
			c, err := s.connect(cmd)
			if err != nil {
				return troubleError{err}
			}
			return c.diffReleases(cmd.Context(), args[0], args[1], out)
		},
		ValidArgsFunction: s.complete(releaseNames, otherReleaseNames),
	}
	out.register(cmd, formatTable, formatJSON, formatYAML)
	return cmd
}

func (c *connection) diffReleases(ctx context.Context, from, to string, out output) error {
	var releases [2]fleetv1.Release
	for i, name := range []string{from, to} {
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &releases[i]); apierrors.IsNotFound(err) {
			return troubleError{fmt.Errorf("there is no release %q; see: sendan release list", name)}
		} else if err != nil {
			return troubleError{fmt.Errorf("get Release %s: %w", name, err)}
		}
	}
	changes, err := compareReleases(releases[0].Spec, releases[1].Spec)
	if err != nil {
		return troubleError{err}
	}
	if err := writeChanges(c.cmd.OutOrStdout(), changes, out.format); err != nil {
		return troubleError{err}
	}
	if len(changes) > 0 {
		return errDifferent
	}
	return nil
}
