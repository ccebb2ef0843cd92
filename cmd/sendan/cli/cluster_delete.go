package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const deleteDeadline = 30 * time.Minute

func (s *session) clusterDelete() *cobra.Command {
	var yes, wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a cluster, with all of its machines",
		Args:  arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			return c.delete(cmd.Context(), args[0], yes, wait, timeout)
		},
		ValidArgsFunction: s.complete(clusterNames),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until the cluster is gone")
	cmd.Flags().DurationVar(&timeout, "timeout", deleteDeadline, "how long to wait")
	return cmd
}

// delete removes the cluster that the user was asked about, and not another of its name.
func (c *connection) delete(ctx context.Context, name string, yes, wait bool, timeout time.Duration) error {
	cluster, err := c.cluster(ctx, name)
	if err != nil {
		return err
	}
	if !yes {
		if !isTerminal(c.cmd.InOrStdin()) {
			return usagef("cluster %s/%s would be deleted, and there is no terminal to ask at; say --yes", c.namespace, name)
		}
		if err := confirm(c.cmd.InOrStdin(), c.cmd.ErrOrStderr(), c.namespace, name); err != nil {
			return err
		}
	}
	uid := cluster.GetUID()
	if err := c.Delete(ctx, cluster, client.Preconditions{UID: &uid}); err != nil {
		return fmt.Errorf("delete cluster %s: %w", name, err)
	}
	c.printf("%s/%s is being deleted\n", clusterResource, name)
	if !wait {
		return nil
	}
	if err := c.wait(ctx, timeout, func(ctx context.Context) (string, error) { return c.leftOf(ctx, name, uid) }); err != nil {
		return err
	}
	c.printf("%s/%s is gone\n", clusterResource, name)
	return nil
}

// leftOf tells what there still is of a cluster.
func (c *connection) leftOf(ctx context.Context, name string, uid types.UID) (string, error) {
	cluster := &clusterv1.Cluster{}
	err := c.Get(ctx, c.key(name), cluster)
	if apierrors.IsNotFound(err) || err == nil && cluster.UID != uid {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("get Cluster %s: %w", name, err)
	}
	return strings.TrimSuffix("deleting: "+oneLine(condition(cluster.Status.Conditions, clusterv1.ClusterDeletingCondition).Message), ": "), nil
}

func isTerminal(in io.Reader) bool {
	file, isFile := in.(*os.File)
	return isFile && term.IsTerminal(int(file.Fd()))
}

// confirm lets the user type the name.
func confirm(in io.Reader, out io.Writer, namespace, name string) error {
	_, _ = fmt.Fprintf(out, "Cluster %s in namespace %s and all of its machines will be deleted, with what is on their disks.\nType its name to go on: ", name, namespace)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the answer: %w", err)
	}
	if strings.TrimSpace(answer) != name {
		return errors.New("that is not its name; nothing was deleted")
	}
	return nil
}
