package e2e

import (
	"context"

	"github.com/onsi/ginkgo/v2"
	"k8s.io/utils/ptr"

	. "github.com/onsi/gomega"
	capie2e "sigs.k8s.io/cluster-api/test/e2e"
	"sigs.k8s.io/cluster-api/test/framework"
	"sigs.k8s.io/cluster-api/test/framework/clusterctl"
)

// Projects of the cloud, one for each spec.
const (
	quickStart     = "quick-start"
	rollout        = "rollout"
	kcpRemediation = "kcp-remediation"
	nodeDrain      = "node-drain"
	selfHosted     = "self-hosted"
	life           = "life"
	failedBoot     = "failed-boot"
	race           = "race"
	fleet          = "fleet"
	services       = "services"
)

func projects() []string {
	return []string{quickStart, rollout, kcpRemediation, nodeDrain, selfHosted, life, failedBoot, race, fleet, services}
}

var _ = ginkgo.Describe("Upstream", func() {
	ginkgo.Context("quick start", func() {
		capie2e.QuickStartSpec(context.Background(), func() capie2e.QuickStartSpecInput {
			return capie2e.QuickStartSpecInput{
				E2EConfig: env.config, ClusterctlConfigPath: env.Clusterctl, BootstrapClusterProxy: env.management, ArtifactFolder: *artifactsDir,
				InfrastructureProvider: ptr.To(sendan), PostNamespaceCreated: env.credentials(quickStart),
			}
		})
		leavesNothing(quickStart)
	})

	ginkgo.Context("rollout", func() {
		capie2e.KCPAndMachineDeploymentRolloutSpec(context.Background(), func() capie2e.KCPAndMachineDeploymentRolloutSpecInput {
			return capie2e.KCPAndMachineDeploymentRolloutSpecInput{
				E2EConfig: env.config, ClusterctlConfigPath: env.Clusterctl, BootstrapClusterProxy: env.management, ArtifactFolder: *artifactsDir,
				InfrastructureProvider: ptr.To(sendan), Flavor: "taints", PostNamespaceCreated: env.credentials(rollout),
			}
		})
		leavesNothing(rollout)
	})

	ginkgo.Context("remediation of the control plane", func() {
		capie2e.KCPRemediationSpec(context.Background(), func() capie2e.KCPRemediationSpecInput {
			return capie2e.KCPRemediationSpecInput{
				E2EConfig: env.config, ClusterctlConfigPath: env.Clusterctl, BootstrapClusterProxy: env.management, ArtifactFolder: *artifactsDir,
				InfrastructureProvider: ptr.To(sendan), Flavor: ptr.To("kcp-remediation"), PostNamespaceCreated: env.credentials(kcpRemediation),
			}
		})
		leavesNothing(kcpRemediation)
	})

	ginkgo.Context("drain of nodes", func() {
		capie2e.NodeDrainTimeoutSpec(context.Background(), func() capie2e.NodeDrainTimeoutSpecInput {
			return capie2e.NodeDrainTimeoutSpecInput{
				E2EConfig: env.config, ClusterctlConfigPath: env.Clusterctl, BootstrapClusterProxy: env.management, ArtifactFolder: *artifactsDir,
				InfrastructureProvider: ptr.To(sendan), Flavor: ptr.To("topology"), PostNamespaceCreated: env.credentials(nodeDrain),
			}
		})
		leavesNothing(nodeDrain)
	})

	ginkgo.Context("self-hosted", func() {
		capie2e.SelfHostedSpec(context.Background(), func() capie2e.SelfHostedSpecInput {
			return capie2e.SelfHostedSpecInput{
				E2EConfig: env.config, ClusterctlConfigPath: env.Clusterctl, BootstrapClusterProxy: env.management, ArtifactFolder: *artifactsDir,
				InfrastructureProvider: ptr.To(sendan), SkipUpgrade: true, PostNamespaceCreated: env.credentials(selfHosted),
				ControlPlaneWaiters: clusterctl.ControlPlaneWaiters{WaitForControlPlaneMachinesReady: loadProviders},
			}
		})
		leavesNothing(selfHosted)
	})
})

// leavesNothing comes after the spec's own clean-up, which is declared before.
func leavesNothing(project string) {
	ginkgo.AfterEach(func(ctx context.Context) { env.expectNothingLeft(ctx, project) })
}

// loadProviders waits for the nodes of a cluster that is to become a management cluster, and gives them the images of the
// providers, which no registry has.
func loadProviders(ctx context.Context, input clusterctl.ApplyCustomClusterTemplateAndWaitInput, result *clusterctl.ApplyCustomClusterTemplateAndWaitResult) {
	framework.WaitForControlPlaneAndMachinesReady(ctx, framework.WaitForControlPlaneAndMachinesReadyInput{
		GetLister: input.ClusterProxy.GetClient(), Cluster: result.Cluster, ControlPlane: result.ControlPlane,
	}, input.WaitForControlPlaneIntervals...)
	framework.DiscoveryAndWaitForMachineDeployments(ctx, framework.DiscoveryAndWaitForMachineDeploymentsInput{
		Lister: input.ClusterProxy.GetClient(), Cluster: result.Cluster,
	}, input.WaitForMachineDeployments...)
	images, err := providerImages()
	Expect(err).NotTo(HaveOccurred())
	servers, err := env.Cloud.servers(ctx, selfHosted)
	Expect(err).NotTo(HaveOccurred())
	for id := range servers {
		container, err := env.Cloud.serverContainer(ctx, id)
		Expect(err).NotTo(HaveOccurred())
		Expect(loadImages(ctx, container, images)).To(Succeed())
	}
}
