package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/retry"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// poolSize is either a number of nodes, or bounds within which the pool scales by itself.
type poolSize struct{ replicas, least, most *int32 }

func (s *session) clusterScale() *cobra.Command {
	var replicas, least, most int32
	cmd := &cobra.Command{
		Use:   "scale NAME (POOL=REPLICAS | POOL --replicas N | POOL --min N --max N)",
		Short: "Change the size of a pool, or let it scale by itself",
		Long: `Changes the size of a pool. With a number of nodes the pool keeps that size; with --min and --max it scales by itself
between them, starting from the size that it has.`,
		Example: `  sendan cluster scale training mig=3
  sendan cluster scale training big --min 0 --max 4`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			pool, number, inName := strings.Cut(args[1], "=")
			var size poolSize
			for flag, value := range map[string]struct {
				from *int32
				to   **int32
			}{"replicas": {&replicas, &size.replicas}, "min": {&least, &size.least}, "max": {&most, &size.most}} {
				if cmd.Flags().Changed(flag) {
					*value.to = value.from
				}
			}
			if inName {
				if size.replicas != nil {
					return usagef("%s and --replicas exclude each other", args[1])
				}
				parsed, err := parseReplicas(number)
				if err != nil {
					return usageError{err}
				}
				size.replicas = &parsed
			}
			if err := size.check(); err != nil {
				return err
			}
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			return c.scale(cmd.Context(), args[0], pool, size)
		},
		ValidArgsFunction: s.complete(clusterNames, poolNames),
	}
	cmd.Flags().Int32Var(&replicas, "replicas", 0, "number of nodes")
	cmd.Flags().Int32Var(&least, "min", 0, "fewest nodes of a pool that scales by itself")
	cmd.Flags().Int32Var(&most, "max", 0, "most nodes of a pool that scales by itself; quotas count it")
	return cmd
}

func (s poolSize) check() error {
	bounded := s.least != nil || s.most != nil
	switch {
	case s.replicas == nil && !bounded:
		return usagef("say how large the pool is to be: POOL=REPLICAS, --replicas, or --min and --max")
	case s.replicas != nil && bounded:
		return usagef("a number of nodes and --min or --max exclude each other: a pool either has a size or scales by itself")
	case s.least != nil && s.most != nil && *s.least > *s.most:
		return usagef("--min %d is above --max %d", *s.least, *s.most)
	}
	for _, n := range []*int32{s.replicas, s.least, s.most} {
		if n != nil && *n < 0 {
			return usagef("%d is not a number of nodes", *n)
		}
	}
	return nil
}

func (c *connection) scale(ctx context.Context, name, pool string, size poolSize) error {
	var before, after string
	// Only the list of pools is sent, and as a whole: a change by somebody else in between must not be lost.
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		cluster, err := c.cluster(ctx, name)
		if err != nil {
			return err
		}
		patch := client.MergeFromWithOptions(cluster.DeepCopy(), client.MergeFromWithOptimisticLock{})
		if before, after, err = resize(cluster, pool, size); err != nil || before == after {
			return err
		}
		return c.Patch(ctx, cluster, patch, fieldOwner)
	})
	if err != nil {
		return fmt.Errorf("scale cluster %s: %w", name, err)
	}
	if before == after {
		c.printf("%s/%s unchanged: pool %s has %s\n", clusterResource, name, pool, before)
		return nil
	}
	c.printf("%s/%s scaled: pool %s from %s to %s\n", clusterResource, name, pool, before, after)
	return nil
}

func pools(cluster *unstructured.Unstructured) []any {
	found, _, _ := unstructured.NestedSlice(cluster.Object, "spec", "topology", "workers", "machineDeployments")
	return found
}

func poolNames(ctx context.Context, c *connection, args []string) []string {
	cluster, err := c.cluster(ctx, args[0])
	if err != nil {
		return nil
	}
	return namesOf(pools(cluster))
}

func namesOf(pools []any) []string {
	var found []string
	for _, pool := range pools {
		if content, ok := pool.(map[string]any); ok {
			found = append(found, fmt.Sprint(content["name"]))
		}
	}
	return found
}

// resize changes one pool of a Cluster, and tells in words what it was and is.
func resize(cluster *unstructured.Unstructured, name string, size poolSize) (before, after string, err error) {
	all := pools(cluster)
	for _, pool := range all {
		content, ok := pool.(map[string]any)
		if !ok || content["name"] != name {
			continue
		}
		before = sizeOf(content)
		if err := size.writeTo(content); err != nil {
			return "", "", err
		}
		return before, sizeOf(content), unstructured.SetNestedSlice(cluster.Object, all, "spec", "topology", "workers", "machineDeployments")
	}
	if there := namesOf(all); len(there) > 0 {
		return "", "", fmt.Errorf("there is no pool %q; there are %s", name, strings.Join(there, ", "))
	}
	return "", "", fmt.Errorf("there is no pool %q; the cluster has none", name)
}

// writeTo takes the bounds away from a pool of fixed size: the autoscaler would go on to change it.
func (s poolSize) writeTo(pool map[string]any) error {
	if s.replicas != nil {
		pool["replicas"] = int64(*s.replicas)
		for _, annotation := range []string{clusterv1.AutoscalerMinSizeAnnotation, clusterv1.AutoscalerMaxSizeAnnotation} {
			unstructured.RemoveNestedField(pool, "metadata", "annotations", annotation)
		}
		removeIfEmpty(pool, "metadata", "annotations")
		removeIfEmpty(pool, "metadata")
		return nil
	}
	delete(pool, "replicas")
	for annotation, bound := range map[string]*int32{clusterv1.AutoscalerMinSizeAnnotation: s.least, clusterv1.AutoscalerMaxSizeAnnotation: s.most} {
		if bound == nil {
			continue
		}
		if err := unstructured.SetNestedField(pool, strconv.Itoa(int(*bound)), "metadata", "annotations", annotation); err != nil {
			return fmt.Errorf("set the bounds of the pool: %w", err)
		}
	}
	return nil
}

func removeIfEmpty(object map[string]any, fields ...string) {
	if content, found, _ := unstructured.NestedMap(object, fields...); found && len(content) == 0 {
		unstructured.RemoveNestedField(object, fields...)
	}
}

func sizeOf(pool map[string]any) string {
	if replicas, found, _ := unstructured.NestedInt64(pool, "replicas"); found {
		return count(replicas, "node")
	}
	bound := func(annotation string) string {
		value, _, _ := unstructured.NestedString(pool, "metadata", "annotations", annotation)
		return orDash(value)
	}
	least, most := bound(clusterv1.AutoscalerMinSizeAnnotation), bound(clusterv1.AutoscalerMaxSizeAnnotation)
	return fmt.Sprintf("between %s and %s nodes", least, most)
}

func count(n int64, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}
