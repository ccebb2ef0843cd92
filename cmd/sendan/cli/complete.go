package cli

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// completionDeadline is how long a person waits for a shell.
const completionDeadline = 3 * time.Second

// candidates are what the next word may be.
type candidates func(ctx context.Context, c *connection, args []string) []string

// complete offers candidates for the positional arguments, one function each. A shell shows no errors, so none is shown.
func (s *session) complete(positions ...candidates) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) >= len(positions) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return s.offered(cmd, args, typed, positions[len(args)]), cobra.ShellCompDirectiveNoFileComp
	}
}

// completeFlag offers candidates for the value of a flag.
func (s *session) completeFlag(find candidates) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		return s.offered(cmd, args, typed, find), cobra.ShellCompDirectiveNoFileComp
	}
}

func (s *session) offered(cmd *cobra.Command, args []string, typed string, find candidates) []string {
	c, err := s.connect(cmd)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionDeadline)
	defer cancel()
	var matching []string
	for _, name := range find(ctx, c, args) {
		if strings.HasPrefix(name, typed) {
			matching = append(matching, name)
		}
	}
	return matching
}

// offer completes a flag of the command.
func offer(cmd *cobra.Command, flag string, complete cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, complete); err != nil {
		panic(err) // the flag is not the command's: every run would show it
	}
}

func names(ctx context.Context, c *connection, list client.ObjectList, options ...client.ListOption) []string {
	if err := c.List(ctx, list, options...); err != nil {
		return nil
	}
	var found []string
	_ = meta.EachListItem(list, func(item runtime.Object) error {
		object, err := meta.Accessor(item)
		if err == nil {
			found = append(found, object.GetName())
		}
		return err
	})
	return found
}

func clusterNames(ctx context.Context, c *connection, _ []string) []string {
	return names(ctx, c, &clusterv1.ClusterList{}, client.InNamespace(c.namespace))
}

func templateNames(ctx context.Context, c *connection, _ []string) []string {
	return names(ctx, c, &fleetv1.NodeTemplateList{})
}

func releaseNames(ctx context.Context, c *connection, _ []string) []string {
	return names(ctx, c, &fleetv1.ReleaseList{})
}

// otherReleaseNames are those that the first argument can be compared with.
func otherReleaseNames(ctx context.Context, c *connection, args []string) []string {
	return slices.DeleteFunc(releaseNames(ctx, c, args), func(name string) bool { return name == args[0] })
}

func addonNames(ctx context.Context, c *connection, _ []string) []string {
	return names(ctx, c, &fleetv1.AddonList{})
}

func tenantNames(ctx context.Context, c *connection, _ []string) []string {
	return names(ctx, c, &fleetv1.TenantList{})
}

func siteNames(ctx context.Context, c *connection, _ []string) []string {
	sites, err := c.sites(ctx)
	if err != nil {
		return nil
	}
	var found []string
	for _, site := range sites.Items {
		found = append(found, site.Name)
	}
	return found
}
