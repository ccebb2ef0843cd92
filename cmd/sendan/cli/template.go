package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

func (s *session) templateCommand() *cobra.Command {
	return s.noun("template", "See the machine shapes that pools can be made of", s.templateList())
}

func (s *session) templateList() *cobra.Command {
	return s.list("Show node templates", func(c *connection, out output) error {
		templates := &fleetv1.NodeTemplateList{}
		if err := c.List(c.cmd.Context(), templates); err != nil {
			return fmt.Errorf("list NodeTemplates: %w", err)
		}
		if !out.forPeople() {
			return out.objects(c.cmd.OutOrStdout(), c.Scheme(), templates)
		}
		return writeTemplates(c.cmd.OutOrStdout(), templates.Items, out.wide())
	})
}

// list is a command that shows all there are.
func (s *session) list(short string, show func(*connection, output) error) *cobra.Command {
	var out output
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"get"},
		Short:   short,
		Args:    arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			return show(c, out)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	out.registerAll(cmd)
	return cmd
}

// writeTemplates has a row for each template.
func writeTemplates(out io.Writer, templates []fleetv1.NodeTemplate, wide bool) error {
	type template = fleetv1.NodeTemplate
	return writeTable(out, wide, []column[template]{
		{name: "Name", cell: func(t template) string { return t.Name }},
		{name: "Flavor", cell: func(t template) string { return t.Spec.Flavor }},
		{name: "GPU", cell: func(t template) string { return gpuText(t.Spec.GPU) }},
		{name: "Sharing", cell: func(t template) string {
			if t.Spec.GPU == nil {
				return ""
			}
			return string(t.Spec.GPU.Sharing)
		}},
		{name: "Devices", cell: func(t template) string { return t.Status.DevicesText }},
		{name: "Driver", wide: true, cell: func(t template) string { return driverText(t.Spec.GPU) }},
		{name: "Images", wide: true, cell: func(t template) string { return t.Spec.ImageFamily }},
		{name: "Scaling", cell: func(t template) string { return scalingText(t.Spec.Autoscaling) }},
		{name: "Price", cell: func(t template) string { return t.Spec.PricePerHour }},
		{name: "Sites", cell: func(t template) string { return strings.Join(t.Status.Sites, ",") }},
		{name: "Releases", wide: true, cell: func(t template) string { return strings.Join(t.Status.Releases, ",") }},
		{name: "Ready", cell: func(t template) string { return string(condition(t.Status.Conditions, fleetv1.ReadyCondition).Status) }},
		{name: "Message", wide: true, cell: func(t template) string {
			return oneLine(condition(t.Status.Conditions, fleetv1.ReadyCondition).Message)
		}},
	}, templates)
}

func gpuText(gpu *fleetv1.GPU) string {
	if gpu == nil {
		return ""
	}
	return fmt.Sprintf("%d × %s", gpu.Count, gpu.Model)
}

func driverText(gpu *fleetv1.GPU) string {
	switch {
	case gpu == nil:
		return ""
	case gpu.Driver.Version != "":
		return gpu.Driver.Version
	}
	return gpu.Driver.Branch
}

func scalingText(scaling fleetv1.Autoscaling) string {
	if scaling.MaxSize == 0 {
		return ""
	}
	least := int32(0)
	if scaling.MinSize != nil {
		least = *scaling.MinSize
	}
	return fmt.Sprintf("%d-%s", least, strconv.Itoa(int(scaling.MaxSize)))
}
