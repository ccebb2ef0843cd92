package e2e

import (
	"context"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"

	. "github.com/onsi/gomega"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

var _ = ginkgo.Describe("A first boot that fails", func() {
	ginkgo.It("is told by the Machine, with the end of the console", func(ctx context.Context) {
		t := &tenant{management: env.management, namespace: failedBoot, name: failedBoot}
		env.createNamespace(ctx, failedBoot)
		manifests := failToBoot(string(env.configureCluster(ctx, sendan, failedBoot, failedBoot, 1, 0)))
		t.isApplied(ctx, manifests)
		ginkgo.DeferCleanup(func(ctx context.Context) {
			if ginkgo.CurrentSpecReport().Failed() {
				collectFailure(ctx, t)
			}
			t.isDeleted(ctx, machineWithin)
			env.expectNothingLeft(ctx, failedBoot)
		})
		eventually(ctx, func(g Gomega) {
			var list infrav1.SendanMachineList
			t.list(ctx, g, &list)
			g.Expect(list.Items).To(HaveLen(1))
			boot := conditions.Get(&list.Items[0], infrav1.BootSucceededCondition)
			g.Expect(boot).NotTo(BeNil(), "condition BootSucceeded")
			g.Expect(boot.Status).To(Equal(metav1.ConditionFalse))
			g.Expect(boot.Reason).To(Equal(infrav1.BootFailedReason))
			g.Expect(boot.Message).To(ContainSubstring("no such package: gpu-driver"), "what the command said")
			ready := conditions.Get(&t.machines(ctx, g, controlPlane)[0], clusterv1.MachineInfrastructureReadyCondition)
			g.Expect(ready).NotTo(BeNil())
			g.Expect(ready.Message).To(ContainSubstring("no such package: gpu-driver"), "what a user sees at the Machine")
		}, 5*time.Minute, "wait until somebody has looked at the console")
	})
})

// failToBoot makes a command fail that comes before kubeadm.
func failToBoot(manifests string) []byte {
	ginkgo.GinkgoHelper()
	const spec = "  kubeadmConfigSpec:\n"
	Expect(manifests).To(ContainSubstring(spec))
	return []byte(strings.Replace(manifests, spec, spec+`    preKubeadmCommands: ["echo no such package: gpu-driver", "exit 1"]`+"\n", 1))
}
