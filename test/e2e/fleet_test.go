package e2e

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/gomega"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

const (
	fleetSystem   = "sendan-fleet-system"
	fleetCluster  = "notebooks"
	greeted       = "greeted"
	migSlice      = corev1.ResourceName("nvidia.com/mig-1g.5gb")
	migSlices     = 56
	driverVersion = "570.172.08"
	driverLabel   = "nvidia.com/cuda.driver-version.full"
	platformReady = 2 * time.Minute
)

// The fleet manager is asked about every Cluster there is, so it comes when the other specs are over, and goes afterwards.
var _ = ginkgo.Describe("The fleet manager", ginkgo.Serial, ginkgo.Ordered, ginkgo.ContinueOnFailure, func() {
	ginkgo.BeforeAll(func(ctx context.Context) {
		env.installFleetManager(ctx)
		env.giveCredentials(ctx, env.management, fleetSystem, fleet)
		env.describePlatform(ctx)
	})

	ginkgo.It("gives tenants nodes that have what their templates promise, and add-ons to clusters of any provider", func(ctx context.Context) {
		t := &tenant{management: env.management, namespace: fleet, name: fleetCluster}
		ginkgo.DeferCleanup(func(ctx context.Context) {
			if ginkgo.CurrentSpecReport().Failed() {
				collectFailure(ctx, t)
				t.isDeleted(ctx, machineWithin)
			}
		})

		ginkgo.By("applying the tenant's cluster, while one of another provider starts beside it")
		t.isApplied(ctx, readData("fleet", "cluster.yaml"))
		other := env.startOther(ctx)

		ginkgo.By("waiting for a node without devices, which takes no pods")
		node := t.nodeWithoutDevices(ctx)

		ginkgo.By("playing the device plugin")
		advertise(ctx, t.workload(ctx), node)
		t.becomesReady(ctx, 1, 1, 3*time.Minute)
		runSlicePod(ctx, t.workload(ctx))
		t.isMember(ctx, "SendanCluster", "sendan-cni")

		ginkgo.By("asking for more than the quota")
		refused := env.management.GetClient().Create(ctx, &clusterv1.Cluster{
			ObjectMeta: metav1.ObjectMeta{Namespace: fleet, Name: "second"}, Spec: t.cluster(ctx).Spec,
		})
		Expect(refused).To(MatchError(ContainSubstring("quota of tenant fleet is short")))

		ginkgo.By("looking at the cluster of the other provider")
		other.becomesReady(ctx, 1, 1, 5*time.Minute)
		other.isMember(ctx, "DevCluster", "greeting")
		other.isGreeted(ctx)

		other.isDeleted(ctx, 2*time.Minute)
		t.isDeleted(ctx, 2*time.Minute)
		env.expectNothingLeft(ctx, fleet)
		expectNoMembers(ctx)
	})

	ginkgo.It("gives tenants a cluster of one machine, which holds the address of its API server itself", func(ctx context.Context) {
		t := &tenant{management: env.management, namespace: fleet, name: "notebook"}
		t.isApplied(ctx, readData("fleet", "single.yaml"))
		ginkgo.DeferCleanup(func(ctx context.Context) {
			if ginkgo.CurrentSpecReport().Failed() {
				collectFailure(ctx, t)
				t.isDeleted(ctx, machineWithin)
			}
		})
		t.becomesReady(ctx, 1, 0, 3*time.Minute)
		t.isMember(ctx, "SendanCluster", "sendan-cni")
		Expect(env.Cloud.count(ctx, fleet)).NotTo(HaveKey("loadbalancers"))

		ginkgo.By("running a pod beside the control plane")
		pod := runServers(ctx, t.workload(ctx), "web", 1)[0]
		ask(ctx, t.workload(ctx), "by-name", pod.Spec.NodeName, "http://web.default.svc.cluster.local")
		t.isDeleted(ctx, 2*time.Minute)
		env.expectNothingLeft(ctx, fleet)
	})

	ginkgo.It("brings the cloud-controller-manager, by which a Service is served to the outside", servesThroughLoadBalancer)
})

func readData(elements ...string) []byte {
	content, err := os.ReadFile(filepath.Join(append([]string{*sourceDir, "data"}, elements...)...))
	Expect(err).NotTo(HaveOccurred())
	return content
}

// installFleetManager does what `kubectl apply -f fleet-components.yaml` does, and takes it away at the end.
func (e *environment) installFleetManager(ctx context.Context) {
	ginkgo.GinkgoHelper()
	found, err := filepath.Glob(filepath.Join(*repositoryDir, "fleet-manager", "*", "fleet-components.yaml"))
	Expect(err).NotTo(HaveOccurred())
	Expect(found).NotTo(BeEmpty(), "the repository has no fleet manager")
	slices.Sort(found)
	components, err := os.ReadFile(found[0])
	Expect(err).NotTo(HaveOccurred())
	eventually(ctx, func(g Gomega) { g.Expect(e.management.CreateOrUpdate(ctx, components)).To(Succeed()) }, time.Minute, "install the fleet manager")
	ginkgo.DeferCleanup(func(ctx context.Context) {
		if !*keep { // what is used goes after what uses it, and the manager last
			kubectl(ctx, e.Kubeconfig, "delete", "tenants,releases,nodetemplates,sites,addons", "--all")
			kubectl(ctx, e.Kubeconfig, "delete", "--ignore-not-found", "-f", found[0])
		}
	})
	eventually(ctx, func(g Gomega) {
		var deployments appsv1.DeploymentList
		g.Expect(e.management.GetClient().List(ctx, &deployments, client.InNamespace(fleetSystem))).To(Succeed())
		g.Expect(deployments.Items).To(HaveLen(1))
		g.Expect(deployments.Items[0].Status.AvailableReplicas).To(BeEquivalentTo(1))
	}, platformReady, "the fleet manager runs")
}

// describePlatform applies what a platform team writes, and waits until clusters can be made of it.
func (e *environment) describePlatform(ctx context.Context) {
	ginkgo.GinkgoHelper()
	clouds, err := e.Cloud.cloudsYAML(fleet)
	Expect(err).NotTo(HaveOccurred())
	Expect(string(clouds)).To(ContainSubstring("openstack:"), "the cloud's name in clouds.yaml")
	manifests := readData("fleet", "platform.yaml")
	eventually(ctx, func(g Gomega) { g.Expect(e.management.CreateOrUpdate(ctx, manifests)).To(Succeed()) }, time.Minute, "apply the platform")
	eventually(ctx, func(g Gomega) {
		release, tenant := &fleetv1.Release{}, &fleetv1.Tenant{}
		g.Expect(e.management.GetClient().Get(ctx, client.ObjectKey{Name: "v1-36-3"}, release)).To(Succeed())
		g.Expect(e.management.GetClient().Get(ctx, client.ObjectKey{Name: fleet}, tenant)).To(Succeed())
		for _, found := range [][]metav1.Condition{release.Status.Conditions, tenant.Status.Conditions} {
			g.Expect(meta.IsStatusConditionTrue(found, fleetv1.ReadyCondition)).To(BeTrue(), "%+v", found)
		}
	}, platformReady, "the release and the tenant are ready")
}

// startOther makes a cluster of Cluster API's provider for containers, which has the label that an add-on selects.
func (e *environment) startOther(ctx context.Context) *tenant {
	ginkgo.GinkgoHelper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: greeted}}
	Expect(client.IgnoreAlreadyExists(e.management.GetClient().Create(ctx, namespace))).To(Succeed())
	e.addProvider(ctx, capd)
	t := &tenant{management: e.management, namespace: greeted, name: greeted}
	t.isApplied(ctx, e.configureCluster(ctx, capd, greeted, greeted, 1, 1))
	cluster := t.cluster(ctx)
	before := client.MergeFrom(cluster.DeepCopy())
	cluster.Labels["example.com/greeted"] = "true"
	Expect(e.management.GetClient().Patch(ctx, cluster, before)).To(Succeed())
	return t
}

func (t *tenant) cluster(ctx context.Context) *clusterv1.Cluster {
	ginkgo.GinkgoHelper()
	cluster := &clusterv1.Cluster{}
	Expect(t.management.GetClient().Get(ctx, t.key(), cluster)).To(Succeed())
	return cluster
}

// nodeWithoutDevices waits for the worker's node, and sees that it is kept free of pods, with a reason.
func (t *tenant) nodeWithoutDevices(ctx context.Context) string {
	ginkgo.GinkgoHelper()
	var name string
	eventually(ctx, func(g Gomega) {
		machines := t.machines(ctx, g, worker)
		g.Expect(machines).To(HaveLen(1))
		g.Expect(machines[0].Status.NodeRef.IsDefined()).To(BeTrue(), "the machine has no node yet")
		name = machines[0].Status.NodeRef.Name
		devices := conditions.Get(&machines[0], fleetv1.DevicesReadyCondition)
		g.Expect(devices).NotTo(BeNil())
		g.Expect(devices.Status).NotTo(Equal(metav1.ConditionTrue))
		g.Expect(devices.Message).To(ContainSubstring("0 of 56 nvidia.com/mig-1g.5gb"))
		g.Expect(conditions.IsTrue(&machines[0], clusterv1.MachineReadyCondition)).To(BeFalse(), "the machine is Ready without its devices")
	}, 5*time.Minute, "a worker without devices")
	node := &corev1.Node{}
	Expect(t.workload(ctx).Get(ctx, client.ObjectKey{Name: name}, node)).To(Succeed())
	Expect(hasDevicesTaint(node)).To(BeTrue(), "taints %v", node.Spec.Taints)
	Expect(node.Labels).To(HaveKeyWithValue("nvidia.com/mig.config", "all-1g.5gb"))
	Expect(node.Labels).To(HaveKeyWithValue("example.com/purpose", "notebooks"))
	return name
}

func hasDevicesTaint(node *corev1.Node) bool {
	return slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == fleetv1.DevicesTaint })
}

// advertise gives a node devices, as Kubernetes' documentation on extended resources has it, and the label of a driver.
func advertise(ctx context.Context, workload client.Client, name string) {
	ginkgo.GinkgoHelper()
	node := &corev1.Node{}
	Expect(workload.Get(ctx, client.ObjectKey{Name: name}, node)).To(Succeed())
	labeled := client.MergeFrom(node.DeepCopy())
	node.Labels[driverLabel] = driverVersion
	Expect(workload.Patch(ctx, node, labeled)).To(Succeed())
	advertised := client.MergeFrom(node.DeepCopy())
	node.Status.Capacity[migSlice] = *resource.NewQuantity(migSlices, resource.DecimalSI)
	Expect(workload.Status().Patch(ctx, node, advertised)).To(Succeed())
	eventually(ctx, func(g Gomega) {
		g.Expect(workload.Get(ctx, client.ObjectKey{Name: name}, node)).To(Succeed())
		g.Expect(hasDevicesTaint(node)).To(BeFalse(), "it has %v", node.Status.Allocatable)
	}, time.Minute, "the node takes pods")
}

// runSlicePod runs a pod on one slice.
func runSlicePod(ctx context.Context, workload client.Client) {
	ginkgo.GinkgoHelper()
	containers := probeContainer("serve")
	containers[0].Resources.Limits = corev1.ResourceList{migSlice: resource.MustParse("1")}
	pod := &corev1.Pod{ObjectMeta: named("slice"), Spec: corev1.PodSpec{Containers: containers}}
	Expect(workload.Create(ctx, pod)).To(Succeed())
	eventually(ctx, func(g Gomega) {
		g.Expect(workload.Get(ctx, client.ObjectKeyFromObject(pod), pod)).To(Succeed())
		g.Expect(pod.Status.Phase).To(Equal(corev1.PodRunning))
	}, podsStartIn, "a pod with a slice runs")
}

// isMember waits until the fleet's record of the cluster is as it should be.
func (t *tenant) isMember(ctx context.Context, infrastructure, addon string) {
	ginkgo.GinkgoHelper()
	eventually(ctx, func(g Gomega) {
		member := &fleetv1.FleetMember{}
		g.Expect(t.management.GetClient().Get(ctx, t.key(), member)).To(Succeed())
		g.Expect(member.Status.Infrastructure).To(Equal(infrastructure))
		g.Expect(member.Status.Health).To(Equal(fleetv1.HealthHealthy), "%+v", member.Status.Conditions)
		at := slices.IndexFunc(member.Status.Addons, func(a fleetv1.MemberAddon) bool { return a.Name == addon })
		g.Expect(at).To(BeNumerically(">=", 0), "add-ons %+v", member.Status.Addons)
		g.Expect(member.Status.Addons[at].Phase).To(Equal(fleetv1.AddonHealthy), member.Status.Addons[at].Message)
	}, 2*time.Minute, "the FleetMember of "+t.name)
}

func (t *tenant) isGreeted(ctx context.Context) {
	ginkgo.GinkgoHelper()
	greeting := &corev1.ConfigMap{}
	Expect(t.workload(ctx).Get(ctx, client.ObjectKey{Namespace: metav1.NamespaceDefault, Name: "greeting"}, greeting)).To(Succeed())
	Expect(strings.TrimSpace(greeting.Data["text"])).To(Equal("Hello " + t.name))
}

func expectNoMembers(ctx context.Context) {
	ginkgo.GinkgoHelper()
	eventually(ctx, func(g Gomega) {
		var members fleetv1.FleetMemberList
		g.Expect(env.management.GetClient().List(ctx, &members)).To(Succeed())
		g.Expect(members.Items).To(BeEmpty())
		tenant := &fleetv1.Tenant{}
		g.Expect(env.management.GetClient().Get(ctx, client.ObjectKey{Name: fleet}, tenant)).To(Succeed())
		g.Expect(tenant.Status.Usage.Clusters).To(BeZero())
	}, time.Minute, "the fleet has forgotten the clusters")
}
