package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/cluster-api/test/framework"
)

func tableFile() string { return filepath.Join(*artifactsDir, "specs.md") }

var _ = ginkgo.ReportAfterSuite("table of specs", func(report ginkgo.Report) {
	Expect(os.WriteFile(tableFile(), []byte(table(report)), 0o644)).To(Succeed()) //nolint:gosec // everybody may look
})

// table has a row for each spec, so that a reader sees what was tested, and what took how long.
func table(report ginkgo.Report) string {
	var rows strings.Builder
	fmt.Fprintf(&rows, "| spec | result | seconds |\n|---|---|---|\n")
	for _, spec := range report.SpecReports {
		if spec.State == types.SpecStateSkipped && spec.Failure.Message == "" {
			continue // it was not asked for
		}
		name := strings.Join(append(spec.ContainerHierarchyTexts, spec.LeafNodeText), ": ")
		if spec.LeafNodeType.Is(types.NodeTypeSynchronizedBeforeSuite) && spec.ParallelProcess == 1 {
			name = "(start of the management cluster and the cloud)"
		} else if !spec.LeafNodeType.Is(types.NodeTypeIt) && !spec.Failed() {
			continue
		}
		fmt.Fprintf(&rows, "| %s | %s | %.0f |\n", strings.TrimPrefix(name, ": "), spec.State, spec.RunTime.Seconds())
	}
	fmt.Fprintf(&rows, "| all, with up to %d at the same time | %s | %.0f |\n", *processes, outcome(report), report.RunTime.Seconds())
	return rows.String()
}

func outcome(report ginkgo.Report) string {
	if report.SuiteSucceeded {
		return "passed"
	}
	return "failed"
}

// logCollector keeps what a machine's console showed, and what its kubelet said.
type logCollector struct{}

var _ framework.ClusterLogCollector = logCollector{}

func (logCollector) CollectMachineLog(ctx context.Context, _ client.Client, machine *clusterv1.Machine, directory string) error {
	container := machine.Name // as CAPD names it
	if id, ours := strings.CutPrefix(machine.Spec.ProviderID, "openstack:///"); ours {
		var err error
		if container, err = env.Cloud.serverContainer(ctx, id); err != nil {
			return err
		}
	}
	return keepLogs(ctx, container, directory)
}

func (logCollector) CollectMachinePoolLog(context.Context, client.Client, *clusterv1.MachinePool, string) error {
	return nil
}

func (logCollector) CollectInfrastructureLogs(context.Context, client.Client, *clusterv1.Cluster, string) error {
	return nil
}

// keepLogs keeps what it can; a node that is down has only a console.
func keepLogs(ctx context.Context, container, directory string) error {
	if err := os.MkdirAll(directory, 0o755); err != nil { //nolint:gosec // everybody may look
		return err
	}
	for file, command := range map[string][]string{
		"console.log":    {"logs", container},
		"kubelet.log":    {"exec", container, "journalctl", "--no-pager", "--unit=kubelet"},
		"containerd.log": {"exec", container, "journalctl", "--no-pager", "--unit=containerd"},
	} {
		output, err := docker(ctx, command...)
		if err != nil {
			output = err.Error()
		}
		if err := os.WriteFile(filepath.Join(directory, file), []byte(output), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// collectLogs keeps what is left of the cloud and the management cluster. Managers' logs were kept while they ran.
func (e *environment) collectLogs(ctx context.Context) {
	output, err := docker(ctx, "logs", e.Cloud.Container)
	if err != nil {
		output = err.Error()
	}
	if err := os.WriteFile(filepath.Join(*artifactsDir, "cloud.log"), []byte(output), 0o600); err != nil {
		ginkgo.GinkgoWriter.Printf("the cloud's log is not kept: %v\n", err)
	}
	for _, name := range []string{"calls", "objects", "servers"} {
		var answer any
		if err := e.Cloud.control(ctx, name, &answer); err == nil {
			_ = os.WriteFile(filepath.Join(*artifactsDir, "cloud-"+name+".json"), []byte(framework.PrettyPrint(answer)), 0o600)
		}
	}
	if err := keepLogs(ctx, controlPlaneContainer(managementName), filepath.Join(*artifactsDir, "clusters", managementName, "node")); err != nil {
		ginkgo.GinkgoWriter.Printf("the management cluster's logs are not kept: %v\n", err)
	}
}

// eventually is for conditions of machines, which take their time but shall not keep a failed run waiting for ever.
func eventually(ctx context.Context, check func(g Gomega), within time.Duration, doing string) {
	ginkgo.GinkgoHelper()
	Eventually(ctx, check).WithTimeout(within).WithPolling(time.Second).Should(Succeed(), doing)
}
