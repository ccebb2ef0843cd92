package e2e

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/cluster-api/test/framework"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// tenant is a tenant cluster, seen from the management cluster it is in.
type tenant struct {
	management framework.ClusterProxy
	namespace  string
	name       string
}

func (t *tenant) key() client.ObjectKey {
	return client.ObjectKey{Namespace: t.namespace, Name: t.name}
}

func (t *tenant) list(ctx context.Context, g Gomega, list client.ObjectList) {
	g.Expect(t.management.GetClient().List(ctx, list, client.InNamespace(t.namespace), client.MatchingLabels{clusterv1.ClusterNameLabel: t.name})).To(Succeed())
}

// machines are all of them, or those of the control plane, or workers.
func (t *tenant) machines(ctx context.Context, g Gomega, wanted func(*clusterv1.Machine) bool) []clusterv1.Machine {
	var list clusterv1.MachineList
	t.list(ctx, g, &list)
	return slices.DeleteFunc(list.Items, func(m clusterv1.Machine) bool { return !wanted(&m) })
}

func anyMachine(*clusterv1.Machine) bool { return true }

func controlPlane(m *clusterv1.Machine) bool {
	_, labeled := m.Labels[clusterv1.MachineControlPlaneLabel]
	return labeled
}

func worker(m *clusterv1.Machine) bool { return !controlPlane(m) }

// isApplied does what `kubectl apply` does. It may come right after a provider, whose webhooks can be reached a moment after
// its pod is Ready.
func (t *tenant) isApplied(ctx context.Context, manifests []byte) {
	ginkgo.GinkgoHelper()
	eventually(ctx, func(g Gomega) { g.Expect(t.management.CreateOrUpdate(ctx, manifests)).To(Succeed()) }, time.Minute, "apply cluster "+t.name)
}

// becomesReady waits until the cluster is Available and has exactly so many machines, all of them Ready and up to date.
func (t *tenant) becomesReady(ctx context.Context, controlPlanes, workers int, within time.Duration) {
	ginkgo.GinkgoHelper()
	eventually(ctx, func(g Gomega) {
		var cluster clusterv1.Cluster
		g.Expect(t.management.GetClient().Get(ctx, t.key(), &cluster)).To(Succeed())
		available := conditions.Get(&cluster, clusterv1.ClusterAvailableCondition)
		g.Expect(available).NotTo(BeNil(), "the cluster's condition Available")
		g.Expect(available.Status).To(Equal(metav1.ConditionTrue), "the cluster is not Available: %s", available.Message)
		machines := t.machines(ctx, g, anyMachine)
		g.Expect(slices.DeleteFunc(slices.Clone(machines), func(m clusterv1.Machine) bool { return worker(&m) })).To(HaveLen(controlPlanes), "control-plane machines")
		g.Expect(machines).To(HaveLen(controlPlanes+workers), "machines")
		for _, machine := range machines {
			for _, condition := range []string{clusterv1.MachineReadyCondition, clusterv1.MachineUpToDateCondition} {
				found := conditions.Get(&machine, condition)
				g.Expect(found).NotTo(BeNil(), "%s's condition %s", machine.Name, condition)
				g.Expect(found.Status).To(Equal(metav1.ConditionTrue), "%s is not %s: %s", machine.Name, condition, found.Message)
			}
		}
	}, within, "wait until all machines of cluster "+t.name+" are Ready")
}

// workload is the cluster's own API.
func (t *tenant) workload(ctx context.Context) client.Client {
	return t.management.GetWorkloadCluster(ctx, t.namespace, t.name).GetClient()
}

func (t *tenant) pool(ctx context.Context) *clusterv1.MachineDeployment {
	ginkgo.GinkgoHelper()
	var list clusterv1.MachineDeploymentList
	t.list(ctx, Default, &list)
	Expect(list.Items).To(HaveLen(1), "worker pools")
	return &list.Items[0]
}

func (t *tenant) scaleWorkers(ctx context.Context, replicas int32) {
	ginkgo.GinkgoHelper()
	pool := t.pool(ctx)
	before := pool.DeepCopy()
	pool.Spec.Replicas = ptr.To(replicas)
	Expect(t.management.GetClient().Patch(ctx, pool, client.MergeFrom(before))).To(Succeed(), "scale workers to %d", replicas)
}

// rollControlPlane asks for new control-plane machines.
func (t *tenant) rollControlPlane(ctx context.Context) {
	ginkgo.GinkgoHelper()
	var list controlplanev1.KubeadmControlPlaneList
	t.list(ctx, Default, &list)
	Expect(list.Items).To(HaveLen(1), "control planes")
	plane := &list.Items[0]
	before := plane.DeepCopy()
	plane.Spec.Rollout.After = metav1.Now()
	Expect(t.management.GetClient().Patch(ctx, plane, client.MergeFrom(before))).To(Succeed(), "roll the control plane")
}

// serverID is the id of the Nova server that a machine is.
func serverID(machine *clusterv1.Machine) string {
	return strings.TrimPrefix(machine.Spec.ProviderID, "openstack:///")
}

func serverIDs(machines []clusterv1.Machine) []string {
	ids := make([]string, 0, len(machines))
	for i := range machines {
		ids = append(ids, serverID(&machines[i]))
	}
	slices.Sort(ids)
	return ids
}

// machineOn is the machine whose node a pod runs on.
func (t *tenant) machineOn(ctx context.Context, node string) *clusterv1.Machine {
	ginkgo.GinkgoHelper()
	machines := t.machines(ctx, Default, func(m *clusterv1.Machine) bool { return m.Status.NodeRef.Name == node })
	Expect(machines).To(HaveLen(1), "machines with node %s", node)
	return &machines[0]
}

func (t *tenant) annotate(ctx context.Context, machine *clusterv1.Machine, annotation string) {
	ginkgo.GinkgoHelper()
	before := machine.DeepCopy()
	metav1.SetMetaDataAnnotation(&machine.ObjectMeta, annotation, "true")
	Expect(t.management.GetClient().Patch(ctx, machine, client.MergeFrom(before))).To(Succeed(), "annotate machine %s", machine.Name)
}

// infrastructureReady waits until Sendan itself says of every object that it is fine, which a management cluster that has
// just got them has to find out anew.
func (t *tenant) infrastructureReady(ctx context.Context, machines int) {
	ginkgo.GinkgoHelper()
	eventually(ctx, func(g Gomega) {
		var cluster infrav1.SendanCluster
		g.Expect(t.management.GetClient().Get(ctx, t.key(), &cluster)).To(Succeed())
		g.Expect(conditions.IsTrue(&cluster, infrav1.ReadyCondition)).To(BeTrue(), "SendanCluster is Ready")
		var list infrav1.SendanMachineList
		t.list(ctx, g, &list)
		g.Expect(list.Items).To(HaveLen(machines), "SendanMachines")
		for _, machine := range list.Items {
			g.Expect(conditions.IsTrue(&machine, infrav1.ReadyCondition)).To(BeTrue(), "SendanMachine %s is Ready", machine.Name)
		}
	}, time.Minute, "wait until the infrastructure of cluster "+t.name+" is Ready")
}

// replaceUnreachable has the machines replaced that a label marks once their nodes have been silent for a moment.
func (t *tenant) replaceUnreachable(ctx context.Context, label string) *clusterv1.MachineHealthCheck {
	ginkgo.GinkgoHelper()
	check := &clusterv1.MachineHealthCheck{
		ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: t.name + "-" + label},
		Spec: clusterv1.MachineHealthCheckSpec{
			ClusterName: t.name,
			Selector:    metav1.LabelSelector{MatchLabels: map[string]string{label: "true"}},
			Checks: clusterv1.MachineHealthCheckChecks{UnhealthyNodeConditions: []clusterv1.UnhealthyNodeCondition{
				{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, TimeoutSeconds: ptr.To[int32](5)},
			}},
		},
	}
	Expect(t.management.GetClient().Create(ctx, check)).To(Succeed())
	return check
}

func (t *tenant) label(ctx context.Context, machine *clusterv1.Machine, label string) {
	ginkgo.GinkgoHelper()
	before := machine.DeepCopy()
	metav1.SetMetaDataLabel(&machine.ObjectMeta, label, "true")
	Expect(t.management.GetClient().Patch(ctx, machine, client.MergeFrom(before))).To(Succeed(), "label machine %s", machine.Name)
}

func (t *tenant) isDeleted(ctx context.Context, within time.Duration) {
	ginkgo.GinkgoHelper()
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: t.name}}
	Expect(client.IgnoreNotFound(t.management.GetClient().Delete(ctx, cluster))).To(Succeed(), "delete cluster %s", t.name)
	eventually(ctx, func(g Gomega) {
		err := t.management.GetClient().Get(ctx, t.key(), cluster)
		g.Expect(client.IgnoreNotFound(err)).To(Succeed())
		g.Expect(err).To(HaveOccurred(), "cluster %s is still there", t.name)
	}, within, "wait until cluster "+t.name+" is gone")
}
