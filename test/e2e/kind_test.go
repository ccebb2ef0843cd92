package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	kindv1 "sigs.k8s.io/kind/pkg/apis/config/v1alpha4"
	kind "sigs.k8s.io/kind/pkg/cluster"

	"sigs.k8s.io/cluster-api/test/framework"
)

// dockerNetwork is the one that kind puts its nodes on, and CAPD as well.
const dockerNetwork = "kind"

const (
	// Kubernetes asks for this setting on hosts with cgroup v1; elsewhere it changes nothing.
	allowCgroupV1 = "kind: KubeletConfiguration\napiVersion: kubelet.config.k8s.io/v1beta1\nfailCgroupV1: false\n"
	// Some distributions enable this plugin, which refuses owner references that RBAC does not allow.
	enforceOwnerReferences = "kind: ClusterConfiguration\napiServer:\n  extraArgs:\n    enable-admission-plugins: OwnerReferencesPermissionEnforcement\n"
)

func controlPlaneContainer(cluster string) string { return cluster + "-control-plane" }

// makeKindCluster makes a cluster of one node from the node image, with its pod network and images, and writes its
// kubeconfig. One of that name is used when it may be kept, and replaced otherwise.
func makeKindCluster(ctx context.Context, name, kubeconfig string, images []string) error {
	provider := kind.NewProvider(kind.ProviderWithDocker())
	existing, err := provider.List()
	if err != nil {
		return fmt.Errorf("list kind clusters: %w", err)
	}
	if slices.Contains(existing, name) && *keep {
		if err := provider.ExportKubeConfig(name, kubeconfig, false); err != nil {
			return fmt.Errorf("find the way to kind cluster %s: %w", name, err)
		}
		return loadImages(ctx, controlPlaneContainer(name), images)
	}
	if err := deleteKindCluster(name); err != nil {
		return err
	}
	if err := provider.Create(name,
		kind.CreateWithNodeImage(*nodeImage), kind.CreateWithKubeconfigPath(kubeconfig), kind.CreateWithV1Alpha4Config(kindConfig()),
		kind.CreateWithDisplayUsage(false), kind.CreateWithDisplaySalutation(false)); err != nil {
		return fmt.Errorf("create kind cluster %s: %w", name, err)
	}
	if err := loadImages(ctx, controlPlaneContainer(name), images); err != nil {
		return err
	}
	return applyPodNetwork(ctx, kubeconfig)
}

func kindConfig() *kindv1.Cluster {
	config := &kindv1.Cluster{
		Nodes: []kindv1.Node{{
			Role: kindv1.ControlPlaneRole,
			// CAPD makes containers from within.
			ExtraMounts: []kindv1.Mount{{HostPath: "/var/run/docker.sock", ContainerPath: "/var/run/docker.sock"}},
		}},
		Networking:           kindv1.Networking{DisableDefaultCNI: true, KubeProxyMode: kindv1.NFTablesProxyMode},
		KubeadmConfigPatches: []string{allowCgroupV1, enforceOwnerReferences},
	}
	kindv1.SetDefaultsCluster(config)
	return config
}

func applyPodNetwork(ctx context.Context, kubeconfig string) error {
	manifests, err := os.ReadFile(filepath.Join(*sourceDir, "..", "..", "templates", "addons", "sendan-cni", "v1.0.0", "cni.yaml"))
	if err != nil {
		return fmt.Errorf("read pod network: %w", err)
	}
	proxy := framework.NewClusterProxy("kind", kubeconfig, newScheme())
	if err := proxy.CreateOrUpdate(ctx, manifests); err != nil {
		return fmt.Errorf("apply pod network: %w", err)
	}
	return nil
}

func deleteKindCluster(name string) error {
	kubeconfig, err := os.CreateTemp("", "sendan-e2e-*.kubeconfig")
	if err != nil {
		return fmt.Errorf("delete kind cluster %s: %w", name, err)
	}
	defer func() { _ = os.Remove(kubeconfig.Name()) }()
	// Deleting edits a kubeconfig, which must not be the user's.
	if err := kind.NewProvider(kind.ProviderWithDocker()).Delete(name, kubeconfig.Name()); err != nil {
		return fmt.Errorf("delete kind cluster %s: %w", name, err)
	}
	return kubeconfig.Close()
}
