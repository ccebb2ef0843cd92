package e2e

import (
	"context"
	"path/filepath"
	"time"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/cluster-api/test/framework"
	"sigs.k8s.io/cluster-api/test/framework/clusterctl"
)

const (
	// secondName is another management cluster, to move to and to upgrade the provider in.
	secondName = "sendan-e2e-second"

	controlPlanes = 3
	workers       = 2
	// machineWithin is how long a machine may take to be replaced while other specs keep the processors busy.
	machineWithin = 4 * time.Minute
)

// One cluster lives through everything that machines and operators do to it. It takes longer than any other story, so it
// begins first.
var _ = ginkgo.Describe("The life of a cluster", ginkgo.Ordered, ginkgo.SpecPriority(1), func() {
	var (
		t      *tenant
		second framework.ClusterProxy
		sides  struct{ first, second tenant }
	)

	ginkgo.BeforeAll(func(ctx context.Context) {
		t = &tenant{management: env.management, namespace: life, name: life}
		env.createNamespace(ctx, life)
		ginkgo.DeferCleanup(func(ctx context.Context) { t.isDeleted(ctx, machineWithin) })
	})

	ginkgo.JustAfterEach(func(ctx context.Context) {
		if ginkgo.CurrentSpecReport().Failed() {
			collectFailure(ctx, t)
		}
	})

	ginkgo.It("begins with three control-plane nodes and two workers", func(ctx context.Context) {
		manifests := env.configureCluster(ctx, sendan, life, life, controlPlanes, workers)
		t.isApplied(ctx, manifests)
		t.becomesReady(ctx, controlPlanes, workers, 8*time.Minute)
	})

	ginkgo.It("lets pods of different nodes talk by address, by name and through a Service", func(ctx context.Context) {
		workload := t.workload(ctx)
		pods := runServers(ctx, workload, "web", workers)
		from := pods[0].Spec.NodeName
		ask(ctx, workload, "by-address", from, "http://"+pods[1].Status.PodIP+":8080")
		ask(ctx, workload, "by-name", from, "http://web.default.svc.cluster.local")
		ask(ctx, workload, "from-control-plane", t.machines(ctx, Default, controlPlane)[0].Status.NodeRef.Name, "http://web.default.svc.cluster.local")
	})

	ginkgo.It("gets a third worker", func(ctx context.Context) {
		t.scaleWorkers(ctx, workers+1)
		t.becomesReady(ctx, controlPlanes, workers+1, machineWithin)
	})

	ginkgo.It("keeps a worker whose pods may not be evicted, and removes it when they may", func(ctx context.Context) {
		workload := t.workload(ctx)
		budget := forbidEviction(ctx, workload, "web")
		leaving := t.machineOn(ctx, awaitPods(ctx, workload, "web", workers)[0].Spec.NodeName)
		t.annotate(ctx, leaving, clusterv1.DeleteMachineAnnotation)
		t.scaleWorkers(ctx, workers)
		eventually(ctx, func(g Gomega) { blockedByBudget(ctx, g, t, leaving) }, time.Minute, "wait until the drain is blocked")
		Consistently(ctx, func(g Gomega) { blockedByBudget(ctx, g, t, leaving) }, "10s", "1s").Should(Succeed(), "the drain stays blocked")
		Expect(workload.Delete(ctx, budget)).To(Succeed())
		t.becomesReady(ctx, controlPlanes, workers, machineWithin)
		awaitPods(ctx, workload, "web", workers)
	})

	ginkgo.It("gets a new control plane, one node after the other", func(ctx context.Context) {
		before := serverIDs(t.machines(ctx, Default, controlPlane))
		t.rollControlPlane(ctx)
		eventually(ctx, func(g Gomega) {
			g.Expect(serverIDs(t.machines(ctx, g, controlPlane))).NotTo(ContainElement(BeElementOf(before)), "the old nodes are gone")
		}, 3*machineWithin, "wait until no machine of the control plane is an old one")
		t.becomesReady(ctx, controlPlanes, workers, machineWithin)
	})

	ginkgo.It("gets over the death of a control-plane node and of a worker", func(ctx context.Context) {
		const dead = "dead"
		check := t.replaceUnreachable(ctx, dead)
		victims := []clusterv1.Machine{t.machines(ctx, Default, controlPlane)[0], t.machines(ctx, Default, worker)[0]}
		for i := range victims {
			t.label(ctx, &victims[i], dead)
			container, err := env.Cloud.serverContainer(ctx, serverID(&victims[i]))
			Expect(err).NotTo(HaveOccurred())
			_, err = docker(ctx, "kill", container)
			Expect(err).NotTo(HaveOccurred())
		}
		eventually(ctx, func(g Gomega) {
			g.Expect(serverIDs(t.machines(ctx, g, anyMachine))).NotTo(ContainElement(BeElementOf(serverIDs(victims))), "the dead machines are gone")
		}, 2*machineWithin, "wait until dead machines are removed")
		t.becomesReady(ctx, controlPlanes, workers, machineWithin)
		Expect(t.management.GetClient().Delete(ctx, check)).To(Succeed())
	})

	ginkgo.It("moves to another management cluster and back, and the cloud does not notice", func(ctx context.Context) {
		second = env.makeSecond(ctx)
		sides.first = *t
		sides.second = tenant{management: second, namespace: t.namespace, name: t.name}
		servers := serverIDs(t.machines(ctx, Default, anyMachine))
		began := time.Now()
		env.move(ctx, &sides.first, &sides.second)
		t = &sides.second
		t.infrastructureReady(ctx, controlPlanes+workers)
		t.becomesReady(ctx, controlPlanes, workers, machineWithin)
		env.move(ctx, &sides.second, &sides.first)
		t = &sides.first
		t.infrastructureReady(ctx, controlPlanes+workers)
		t.becomesReady(ctx, controlPlanes, workers, machineWithin)
		Expect(env.Cloud.changes(ctx, life, began)).To(BeEmpty(), "calls that made or removed something")
		Expect(serverIDs(t.machines(ctx, Default, anyMachine))).To(Equal(servers))
	})

	ginkgo.It("outlives an upgrade of the provider", func(ctx context.Context) {
		began := time.Now()
		env.move(ctx, &sides.first, &sides.second)
		t = &sides.second
		t.infrastructureReady(ctx, controlPlanes+workers)
		clusterctl.UpgradeManagementClusterAndWait(ctx, clusterctl.UpgradeManagementClusterAndWaitInput{
			ClusterProxy: second, ClusterctlConfigPath: env.Clusterctl, InfrastructureProviders: []string{"sendan:v0.1.1"},
			LogFolder: filepath.Join(*artifactsDir, "clusters", secondName),
		}, env.config.GetIntervals("default", "wait-controllers")...)
		Expect(installedVersion(ctx, second)).To(Equal("v0.1.1"))
		t.infrastructureReady(ctx, controlPlanes+workers)
		t.becomesReady(ctx, controlPlanes, workers, machineWithin)
		Expect(env.Cloud.changes(ctx, life, began)).To(BeEmpty(), "calls that made or removed something")
	})

	ginkgo.It("still scales after it", func(ctx context.Context) {
		t.scaleWorkers(ctx, workers-1)
		t.becomesReady(ctx, controlPlanes, workers-1, machineWithin)
	})

	ginkgo.It("is deleted and leaves nothing in the cloud", func(ctx context.Context) {
		servers, err := env.Cloud.servers(ctx, life)
		Expect(err).NotTo(HaveOccurred())
		Expect(servers).To(HaveLen(controlPlanes + workers - 1))
		t.isDeleted(ctx, machineWithin)
		env.expectNothingLeft(ctx, life)
		for id := range servers {
			Expect(containers(ctx, serverLabel+"="+id)).To(BeEmpty(), "containers of server %s", id)
		}
	})
})

// blockedByBudget holds while a machine is deleted and its drain waits, with the reason where a user looks for it.
func blockedByBudget(ctx context.Context, g Gomega, t *tenant, leaving *clusterv1.Machine) {
	machine := &clusterv1.Machine{}
	g.Expect(t.management.GetClient().Get(ctx, client.ObjectKeyFromObject(leaving), machine)).To(Succeed())
	deleting := conditions.Get(machine, clusterv1.MachineDeletingCondition)
	g.Expect(deleting).NotTo(BeNil())
	g.Expect(deleting.Reason).To(Equal(clusterv1.MachineDeletingDrainingNodeReason))
	g.Expect(deleting.Message).To(ContainSubstring("cannot evict pod as it would violate the pod's disruption budget"))
	servers, err := env.Cloud.servers(ctx, life)
	g.Expect(err).NotTo(HaveOccurred())
	g.Expect(servers).To(HaveKeyWithValue(serverID(leaving), HaveField("Status", "ACTIVE")))
}

// makeSecond makes a small management cluster with the first version of the provider.
func (e *environment) makeSecond(ctx context.Context) framework.ClusterProxy {
	ginkgo.GinkgoHelper()
	images, err := providerImages()
	Expect(err).NotTo(HaveOccurred())
	kubeconfig := filepath.Join(*artifactsDir, secondName+".kubeconfig")
	Expect(makeKindCluster(ctx, secondName, kubeconfig, images)).To(Succeed())
	proxy := framework.NewClusterProxy(secondName, kubeconfig, newScheme(), framework.WithMachineLogCollector(logCollector{}))
	e.installProviders(ctx, proxy, "sendan:v0.1.0")
	return proxy
}

func (e *environment) move(ctx context.Context, from, to *tenant) {
	ginkgo.GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: to.namespace}}
	Expect(client.IgnoreAlreadyExists(to.management.GetClient().Create(ctx, namespace))).To(Succeed())
	clusterctl.Move(ctx, clusterctl.MoveInput{
		LogFolder: filepath.Join(*artifactsDir, "clusters", from.management.GetName()), ClusterctlConfigPath: e.Clusterctl, Namespace: from.namespace,
		FromKubeconfigPath: from.management.GetKubeconfigPath(), ToKubeconfigPath: to.management.GetKubeconfigPath(),
	})
}

// installedVersion is that of Sendan, as clusterctl knows it.
func installedVersion(ctx context.Context, in framework.ClusterProxy) string {
	ginkgo.GinkgoHelper()
	var providers clusterctlv1.ProviderList
	Expect(in.GetClient().List(ctx, &providers)).To(Succeed())
	for _, provider := range providers.Items {
		if provider.ProviderName == sendan {
			return provider.Version
		}
	}
	return "not installed"
}

// collectFailure keeps what a person needs to find out why a spec of ours failed; upstream's keep theirs.
func collectFailure(ctx context.Context, t *tenant) {
	framework.DumpAllResources(ctx, framework.DumpAllResourcesInput{
		Lister: t.management.GetClient(), KubeConfigPath: t.management.GetKubeconfigPath(), ClusterctlConfigPath: env.Clusterctl,
		Namespace: t.namespace, LogPath: filepath.Join(*artifactsDir, "clusters", t.management.GetName(), "resources"),
	})
	t.management.CollectWorkloadClusterLogs(ctx, t.namespace, t.name, filepath.Join(*artifactsDir, "clusters", t.name))
}
