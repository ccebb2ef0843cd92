package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
)

// clusterResource is how kubectl names a Cluster.
const clusterResource = "cluster.cluster.x-k8s.io"

// kubeconfigKey is where Cluster API puts a cluster's kubeconfig into its Secret.
const kubeconfigKey = "value"

func (s *session) clusterCommand() *cobra.Command {
	return s.noun("cluster", "Make, see, change and delete clusters",
		s.clusterCreate(), s.clusterGet(), s.clusterScale(), s.clusterKubeconfig(), s.clusterDelete())
}

// cluster reads a Cluster with all of its fields, also those that this program does not know yet.
func (c *connection) cluster(ctx context.Context, name string) (*unstructured.Unstructured, error) {
	cluster := &unstructured.Unstructured{}
	cluster.SetGroupVersionKind(clusterv1.GroupVersion.WithKind("Cluster"))
	err := c.Get(ctx, c.key(name), cluster)
	if apierrors.IsNotFound(err) {
		return nil, c.noCluster(name)
	}
	if err != nil {
		return nil, fmt.Errorf("get Cluster %s: %w", name, err)
	}
	return cluster, nil
}

func (c *connection) noCluster(name string) error {
	return fmt.Errorf("there is no cluster %q in namespace %s; choose another namespace with -n, or see all with: sendan cluster get -A", name, c.namespace)
}

func (c *connection) kubeconfig(ctx context.Context, name string) ([]byte, error) {
	secret := &corev1.Secret{}
	err := c.Get(ctx, c.key(name+"-kubeconfig"), secret)
	if apierrors.IsNotFound(err) {
		if _, err := c.cluster(ctx, name); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("cluster %s has no kubeconfig yet, since its control plane is not there; see: sendan cluster get %s -n %s", name, name, c.namespace)
	}
	if err != nil {
		return nil, fmt.Errorf("get the kubeconfig of cluster %s: %w", name, err)
	}
	if len(secret.Data[kubeconfigKey]) == 0 {
		return nil, fmt.Errorf("the Secret %s has no key %q", secret.Name, kubeconfigKey)
	}
	return secret.Data[kubeconfigKey], nil
}
