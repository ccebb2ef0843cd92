package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

const (
	// orphanAge is how old an orphan has to be by default before it is deleted.
	orphanAge = 24 * time.Hour
	// removalDeadline is how long servers, load balancers and volumes may take to go.
	removalDeadline = 10 * time.Minute
)

func (s *session) cloudOrphans() *cobra.Command {
	var with credentials
	var out output
	var going removal
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "Show what Sendan made in a project and no cluster owns any more, and delete it",
		Long: `Shows the objects of a project that carry Sendan's mark, and that no SendanCluster or SendanMachine of the management
cluster owns. With --delete those that are old enough are deleted. What another management cluster made in the same project
looks like an orphan, too: never delete where two share one.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cmp.Or(out.check(), with.check(), going.check(cmd)); err != nil {
				return err
			}
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			project, err := c.cloudSession(cmd.Context(), with)
			if err != nil {
				return err
			}
			return c.orphans(cmd.Context(), project, out, going)
		},
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	with.register(s, cmd)
	out.register(cmd, formatTable, formatJSON, formatYAML)
	going.register(cmd)
	return cmd
}

// removal says whether, and which, orphans are deleted.
type removal struct {
	wanted    bool
	olderThan time.Duration
	// project that the user has named, to release the guard against the wrong management cluster.
	project string
}

func (r *removal) register(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&r.wanted, "delete", false, "delete them")
	cmd.Flags().DurationVar(&r.olderThan, "older-than", orphanAge, "delete only what is older; what does not tell its age stays")
	cmd.Flags().StringVar(&r.project, "project", "", "id of the project; needed to delete where the management cluster has no cluster")
}

func (r *removal) check(cmd *cobra.Command) error {
	switch {
	case !r.wanted && (cmd.Flags().Changed("older-than") || r.project != ""):
		return usagef("--older-than and --project say what --delete deletes, which is not given")
	case r.olderThan <= 0:
		return usagef("--older-than %s: give a time above zero, such as %s", r.olderThan, orphanAge)
	}
	return nil
}

// orphans shows what nobody owns, and deletes it if that is wanted.
func (c *connection) orphans(ctx context.Context, project *cloud.Session, out output, removal removal) error {
	seen, err := c.look(ctx, project)
	if err != nil {
		return err
	}
	now := c.session.clock.Now()
	if err := writeOrphans(c.cmd.OutOrStdout(), out, seen.orphans, now); err != nil {
		return err
	}
	c.tell("Project %s: %d objects carry a mark, %d of them are orphans.", project.ProjectID(), seen.marked, len(seen.orphans))
	if !removal.wanted {
		return nil
	}
	if seen.clusters == 0 && removal.project != project.ProjectID() && len(seen.orphans) > 0 {
		return fmt.Errorf("no SendanCluster of this management cluster is in project %[1]s, and if it is the wrong one, nothing here is an orphan; if it is the right one, say --project %[1]s", project.ProjectID())
	}
	old := slices.DeleteFunc(seen.orphans, func(o cloud.Marked) bool { return c.keeps(o, now, removal.olderThan) })
	if len(old) == 0 {
		return nil
	}
	if seen, err = c.look(ctx, project); err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(o cloud.Marked) bool { return !slices.Contains(seen.orphans, o) })
	return c.removeAll(ctx, project, old)
}

// keeps tells of an orphan that is not deleted.
func (c *connection) keeps(o cloud.Marked, now time.Time, olderThan time.Duration) bool {
	switch {
	case o.Created.IsZero():
		c.tell("%s is kept: the cloud does not tell its age.", label(o))
	case now.Sub(o.Created) <= olderThan:
		c.tell("%s is kept: it is not older than %s.", label(o), olderThan)
	default:
		return false
	}
	return true
}

// looked is what was found in a project.
type looked struct {
	orphans []cloud.Marked
	// marked objects, orphans or not, and clusters of the management cluster that are in the project.
	marked, clusters int
}

// look lists the project and then the management cluster: what was made in between has its owner in the later list.
func (c *connection) look(ctx context.Context, project *cloud.Session) (looked, error) {
	snapshot, err := listAnew(ctx, project, c.session.clock.Now())
	if err != nil {
		return looked{}, fmt.Errorf("project %s cannot be listed, so nothing is known to be an orphan: %w", project.ProjectID(), err)
	}
	var found looked
	owners := map[string]bool{}
	clusters, machines := &infrav1.SendanClusterList{}, &infrav1.SendanMachineList{}
	for _, list := range []client.ObjectList{clusters, machines} {
		if err := c.List(ctx, list); err != nil {
			return looked{}, fmt.Errorf("the management cluster cannot be listed, so nothing is known to be an orphan: %w", err)
		}
	}
	for i := range clusters.Items {
		addOwner(owners, &clusters.Items[i])
		if clusters.Items[i].Annotations[infrav1.ProjectAnnotation] == project.ProjectID()+"@"+project.Region() {
			found.clusters++
		}
	}
	for i := range machines.Items {
		addOwner(owners, &machines.Items[i])
	}
	for _, kind := range cloud.Kinds() {
		all := snapshot.Marked(kind)
		found.marked += len(all)
		found.orphans = append(found.orphans, slices.DeleteFunc(all, func(o cloud.Marked) bool {
			return owners[o.Mark.Cluster] && (o.Mark.Machine == "" || owners[o.Mark.Machine])
		})...)
	}
	return found, nil
}

// addOwner counts the UID as well, which is the owner id unless the object was moved.
func addOwner(owners map[string]bool, object client.Object) {
	owners[object.GetAnnotations()[infrav1.OwnerIDAnnotation]], owners[string(object.GetUID())] = true, true
}

// listAnew lists every kind, none of which may fail.
func listAnew(ctx context.Context, project *cloud.Session, now time.Time) (*cloud.Snapshot, error) {
	inventory := project.Inventory()
	for _, kind := range cloud.Kinds() {
		inventory.Require(kind, now)
	}
	if err := inventory.Poll(ctx); err != nil {
		return nil, err
	}
	snapshot := inventory.Snapshot()
	for _, kind := range cloud.Kinds() {
		if err := snapshot.Suspicious(kind); err != nil {
			return nil, err
		}
		if !snapshot.ListedAfter(kind, now) {
			return nil, fmt.Errorf("list %ss: there was no listing after %s; try again in a minute", kind, now.Format(time.TimeOnly))
		}
	}
	return snapshot, nil
}

// removeAll deletes orphans kind by kind, what uses others first. What cannot be deleted does not keep the rest.
func (c *connection) removeAll(ctx context.Context, project *cloud.Session, orphans []cloud.Marked) error {
	var failures []error
	for _, kind := range cloud.Kinds() {
		var going []cloud.Marked
		for _, o := range orphans {
			if o.Kind != kind {
				continue
			}
			if err := project.Delete(ctx, kind, o.ID); err != nil {
				failures = append(failures, fmt.Errorf("delete %s: %w", label(o), err))
				continue
			}
			c.tell("%s is deleted.", label(o))
			going = append(going, o)
		}
		if err := c.wait(ctx, removalDeadline, func(ctx context.Context) (string, error) { return stillThere(ctx, project, going) }); err != nil {
			return errors.Join(append(failures, err)...)
		}
	}
	return errors.Join(failures...)
}

// stillThere names one of the objects that the cloud has not finished to delete.
func stillThere(ctx context.Context, project *cloud.Session, going []cloud.Marked) (string, error) {
	if len(going) == 0 {
		return "", nil
	}
	if err := project.Inventory().Poll(ctx); err != nil {
		return "", err
	}
	left := project.Inventory().Snapshot().Marked(going[0].Kind)
	for _, o := range going {
		if slices.ContainsFunc(left, func(l cloud.Marked) bool { return l.ID == o.ID }) {
			return "waiting for " + label(o) + " to go", nil
		}
	}
	return "", nil
}

func label(o cloud.Marked) string {
	return strings.TrimSuffix(fmt.Sprintf("%s %s (%s)", o.Kind, o.ID, o.Name), " ()")
}

// orphan is what programs see.
type orphan struct {
	Kind    string       `json:"kind"`
	ID      string       `json:"id"`
	Name    string       `json:"name,omitempty"`
	Cluster string       `json:"cluster"`
	Machine string       `json:"machine,omitempty"`
	Role    string       `json:"role,omitempty"`
	Created *metav1.Time `json:"created,omitempty"`
}

func writeOrphans(out io.Writer, format output, orphans []cloud.Marked, now time.Time) error {
	if format.forPeople() {
		return writeTable(out, false, []column[cloud.Marked]{
			{name: "Kind", cell: func(o cloud.Marked) string { return string(o.Kind) }},
			{name: "ID", cell: func(o cloud.Marked) string { return o.ID }},
			{name: "Name", cell: func(o cloud.Marked) string { return o.Name }},
			{name: "Cluster-Mark", cell: func(o cloud.Marked) string { return o.Mark.Cluster }},
			{name: "Age", cell: func(o cloud.Marked) string { return age(now, metav1.NewTime(o.Created)) }},
		}, orphans)
	}
	list := []orphan{}
	for _, o := range orphans {
		entry := orphan{Kind: string(o.Kind), ID: o.ID, Name: o.Name, Cluster: o.Mark.Cluster, Machine: o.Mark.Machine, Role: o.Mark.Role}
		if created := metav1.NewTime(o.Created); !created.IsZero() {
			entry.Created = &created
		}
		list = append(list, entry)
	}
	text, err := json.MarshalIndent(list, "", "    ")
	if err == nil && format.format == formatYAML {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, strings.TrimSpace(string(text)))
	return err
}
