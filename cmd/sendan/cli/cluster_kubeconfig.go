package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

func (s *session) clusterKubeconfig() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "kubeconfig NAME",
		Short: "Print the kubeconfig of a cluster, or merge it into a file",
		Example: `  sendan cluster kubeconfig training > training.kubeconfig
  sendan cluster kubeconfig training --merge ~/.kube/config`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.connect(cmd)
			if err != nil {
				return err
			}
			kubeconfig, err := c.kubeconfig(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if file == "" {
				c.printf("%s", kubeconfig)
				return nil
			}
			name := c.namespace + "/" + args[0]
			if err := mergeInto(file, name, kubeconfig); err != nil {
				return err
			}
			c.tell("Merged into %s; use it with: kubectl --context %s", file, name)
			return nil
		},
		ValidArgsFunction: s.complete(clusterNames),
	}
	cmd.Flags().StringVar(&file, "merge", "", "file to add the cluster to, as the context <namespace>/<name>; its current context stays")
	return cmd
}

// mergeInto adds a context to a file, which is made when it is not there. What it has of the same name is replaced, so that
// doing it again renews the credentials.
func mergeInto(file, name string, kubeconfig []byte) error {
	added, err := renamed(kubeconfig, name)
	if err != nil {
		return err
	}
	config, err := clientcmd.LoadFromFile(file)
	if os.IsNotExist(err) {
		config, err = clientcmdapi.NewConfig(), nil
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	config.Clusters[name], config.AuthInfos[name], config.Contexts[name] = added.Clusters[name], added.AuthInfos[name], added.Contexts[name]
	if config.CurrentContext == "" {
		config.CurrentContext = name
	}
	if err := clientcmd.WriteToFile(*config, file); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// renamed has the current context, cluster and user under one name: clusters of equal names in two namespaces would otherwise
// replace each other.
func renamed(kubeconfig []byte, name string) (*clientcmdapi.Config, error) {
	config, err := clientcmd.Load(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig of cluster %s: %w", name, err)
	}
	current := config.Contexts[config.CurrentContext]
	if current == nil || config.Clusters[current.Cluster] == nil || config.AuthInfos[current.AuthInfo] == nil {
		return nil, fmt.Errorf("the kubeconfig of cluster %s has no current context that is complete", name)
	}
	result := clientcmdapi.NewConfig()
	result.Clusters[name], result.AuthInfos[name] = config.Clusters[current.Cluster], config.AuthInfos[current.AuthInfo]
	result.Contexts[name] = current.DeepCopy()
	result.Contexts[name].Cluster, result.Contexts[name].AuthInfo = name, name
	return result, nil
}
