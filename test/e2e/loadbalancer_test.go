package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/gomega"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
)

const (
	cloudControllerManager = "openstack-cloud-controller-manager"
	// uninitializedTaint is on a node until it has been there.
	uninitializedTaint = "node.cloudprovider.kubernetes.io/uninitialized"
	// balancedWithin leaves room for Octavia, and for the cloud-controller-manager to try again.
	balancedWithin = 2 * time.Minute
)

// servesThroughLoadBalancer lets OpenStack's own cloud-controller-manager work on a cluster: a Service gets a load balancer
// and takes it along, and one that is forgotten holds up the deletion of the cluster until somebody removes it.
func servesThroughLoadBalancer(ctx context.Context) {
	t := &tenant{management: env.management, namespace: services, name: services}
	env.createNamespace(ctx, services)
	Expect(env.management.CreateOrUpdate(ctx, readData("cloud-provider", "addon.yaml"))).To(Succeed())
	ginkgo.DeferCleanup(func(ctx context.Context) {
		if ginkgo.CurrentSpecReport().Failed() {
			collectFailure(ctx, t)
			env.Cloud.removeBalancersOfServices(ctx, services)
			t.isDeleted(ctx, machineWithin)
		}
	})

	ginkgo.By("giving the cloud-controller-manager an application credential")
	t.isApplied(ctx, env.configureFlavor(ctx, sendan, "external-cloud-provider", services, services, 1, 1))
	t.answers(ctx)
	t.getsCloudConfig(ctx)

	ginkgo.By("waiting for the nodes, which nobody but the cloud-controller-manager makes ready for pods")
	t.becomesReady(ctx, 1, 1, 5*time.Minute)
	t.isMember(ctx, "SendanCluster", cloudControllerManager)
	t.nodesAreThoseOfTheCloud(ctx)

	ginkgo.By("asking for a load balancer")
	workload := t.workload(ctx)
	before := env.Cloud.count(ctx, services)
	pod := runServers(ctx, workload, "web", 1)[0]
	web := expose(ctx, workload, "web-outside", "web")
	answersFrom(ctx, web, pod.Name)
	Expect(more(before, env.Cloud.count(ctx, services))).To(Equal(simulator.ObjectCount{
		"loadbalancers": 1, "listeners": 1, "pools": 1, "healthmonitors": 1, "members": 1, "ports": 1, "floatingips": 1,
	}), "what the Service took, with the worker as the only member")

	ginkgo.By("removing the Service")
	Expect(workload.Delete(ctx, web)).To(Succeed())
	eventually(ctx, func(g Gomega) {
		g.Expect(env.Cloud.count(ctx, services)).To(Equal(before))
	}, balancedWithin, "the Service took along what it had in the cloud")

	ginkgo.By("deleting the cluster with a Service in it")
	answersFrom(ctx, expose(ctx, workload, "web-forgotten", "web"), pod.Name)
	t.deletionIsHeldUp(ctx)
	env.Cloud.removeBalancersOfServices(ctx, services)
	t.isDeleted(ctx, machineWithin)
	env.expectNothingLeft(ctx, services)
}

// answers waits for the first answer of the cluster's own API.
func (t *tenant) answers(ctx context.Context) {
	ginkgo.GinkgoHelper()
	eventually(ctx, func(g Gomega) {
		cluster := &clusterv1.Cluster{}
		g.Expect(t.management.GetClient().Get(ctx, t.key(), cluster)).To(Succeed())
		g.Expect(conditions.IsTrue(cluster, clusterv1.ClusterControlPlaneInitializedCondition)).To(BeTrue())
	}, 3*time.Minute, "wait until the API of cluster "+t.name+" answers")
}

// getsCloudConfig does what docs/addons.md asks of whoever gives tenants their secrets.
func (t *tenant) getsCloudConfig(ctx context.Context) {
	ginkgo.GinkgoHelper()
	credential := credentialOf(t.namespace)
	config := fmt.Sprintf(`[Global]
auth-url = %s/identity/v3
application-credential-id = %s
application-credential-secret = %s
region = %s

[LoadBalancer]
create-monitor = true
`, env.Cloud.URL, credential, credential, env.Cloud.region(t.namespace))
	Expect(t.workload(ctx).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "cloud-config"},
		StringData: map[string]string{"cloud.conf": config},
	})).To(Succeed())
}

// nodesAreThoseOfTheCloud compares what the cloud-controller-manager wrote with what Sendan and the cloud say.
func (t *tenant) nodesAreThoseOfTheCloud(ctx context.Context) {
	ginkgo.GinkgoHelper()
	servers, err := env.Cloud.servers(ctx, t.namespace)
	Expect(err).NotTo(HaveOccurred())
	for _, machine := range t.machines(ctx, Default, anyMachine) {
		server, node := servers[serverID(&machine)], &corev1.Node{}
		Expect(t.workload(ctx).Get(ctx, client.ObjectKey{Name: machine.Status.NodeRef.Name}, node)).To(Succeed())
		Expect(node.Spec.ProviderID).To(Equal(machine.Spec.ProviderID))
		Expect(node.Spec.Taints).NotTo(ContainElement(HaveField("Key", uninitializedTaint)))
		Expect(node.Labels).To(HaveKeyWithValue(corev1.LabelTopologyZone, server.Zone))
		Expect(node.Labels).To(HaveKeyWithValue(corev1.LabelTopologyRegion, env.Cloud.region(t.namespace)))
		Expect(node.Labels).To(HaveKeyWithValue(corev1.LabelInstanceTypeStable, server.Flavor))
		Expect(addressesOf(node, corev1.NodeInternalIP)).To(Equal(server.Addresses))
	}
}

func addressesOf(node *corev1.Node, kind corev1.NodeAddressType) []string {
	var found []string
	for _, address := range node.Status.Addresses {
		if address.Type == kind {
			found = append(found, address.Address)
		}
	}
	return found
}

// expose makes a Service that wants a load balancer, and waits until it has one.
func expose(ctx context.Context, workload client.Client, name, app string) *corev1.Service {
	ginkgo.GinkgoHelper()
	service := &corev1.Service{ObjectMeta: named(name), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": app},
		Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(probePort)}},
	}}
	Expect(workload.Create(ctx, service)).To(Succeed())
	eventually(ctx, func(g Gomega) {
		g.Expect(workload.Get(ctx, client.ObjectKeyFromObject(service), service)).To(Succeed())
		g.Expect(service.Status.LoadBalancer.Ingress).To(HaveLen(1))
	}, balancedWithin, "Service "+name+" gets an address")
	return service
}

// answersFrom asks a Service from outside of the cloud, where only floating IPs can be reached.
func answersFrom(ctx context.Context, service *corev1.Service, pod string) {
	ginkgo.GinkgoHelper()
	url := "http://" + service.Status.LoadBalancer.Ingress[0].IP
	eventually(ctx, func(g Gomega) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		g.Expect(err).NotTo(HaveOccurred())
		response, err := http.DefaultClient.Do(request)
		g.Expect(err).NotTo(HaveOccurred())
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		g.Expect(err).NotTo(HaveOccurred())
		g.Expect(string(body)).To(HavePrefix(pod + " saw "))
	}, balancedWithin, url+" leads to the pod")
}

func (c *cloud) count(ctx context.Context, project string) simulator.ObjectCount {
	ginkgo.GinkgoHelper()
	count, err := c.objects(ctx, project)
	Expect(err).NotTo(HaveOccurred())
	return count
}

// more is what there is now and was not before.
func more(before, now simulator.ObjectCount) simulator.ObjectCount {
	difference := maps.Clone(now)
	for kind, count := range before {
		difference[kind] -= count
	}
	maps.DeleteFunc(difference, func(_ string, count int) bool { return count == 0 })
	return difference
}

// deletionIsHeldUp begins to delete a cluster and waits until it is told why it does not end: the load balancer is on the
// cluster's network, and its floating IP needs the router.
func (t *tenant) deletionIsHeldUp(ctx context.Context) {
	ginkgo.GinkgoHelper()
	Expect(t.management.GetClient().Delete(ctx, t.cluster(ctx))).To(Succeed())
	eventually(ctx, func(g Gomega) {
		cluster := &infrav1.SendanCluster{}
		g.Expect(t.management.GetClient().Get(ctx, t.key(), cluster)).To(Succeed())
		ready := conditions.Get(cluster, infrav1.ReadyCondition)
		g.Expect(ready).NotTo(BeNil())
		g.Expect(ready.Message).To(Or(ContainSubstring("which Sendan did not make"), ContainSubstring("required by one or more floating IPs")))
	}, machineWithin, "the cluster tells that something holds it up")
}

// removeBalancersOfServices does what the runbook says about a deletion that hangs.
func (c *cloud) removeBalancersOfServices(ctx context.Context, project string) {
	ginkgo.GinkgoHelper()
	api, err := c.login(ctx, project)
	Expect(err).NotTo(HaveOccurred())
	var all struct {
		Balancers []struct{ ID, Name string }        `json:"loadbalancers"`
		Addresses []struct{ ID, Description string } `json:"floatingips"`
	}
	Expect(api.get(ctx, "/network/v2.0/floatingips", &all)).To(Succeed())
	Expect(api.get(ctx, "/load-balancer/v2/lbaas/loadbalancers", &all)).To(Succeed())
	for _, address := range all.Addresses {
		if strings.HasPrefix(address.Description, "Floating IP for Kubernetes external service") {
			Expect(api.delete(ctx, "/network/v2.0/floatingips/"+address.ID)).To(Succeed())
		}
	}
	for _, balancer := range all.Balancers {
		if strings.HasPrefix(balancer.Name, "kube_service_") {
			Expect(api.delete(ctx, "/load-balancer/v2/lbaas/loadbalancers/"+balancer.ID+"?cascade=true")).To(Succeed())
		}
	}
}
