package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	. "github.com/onsi/gomega"
)

var (
	repositoryDir  = flag.String("e2e.repository", "", "clusterctl repository that test/repository/build.sh wrote; without it the suite is skipped")
	toolsDir       = flag.String("e2e.tools", "", "directory with kubectl, as hack/build-tools.sh --dir prints it")
	sourceDir      = flag.String("e2e.source", ".", "directory of this package")
	artifactsDir   = flag.String("e2e.artifacts", "_artifacts", "directory for logs, consoles and results")
	nodeImage      = flag.String("e2e.node-image", "sendan/node:v1.36.3", "image of nodes")
	simulatorImage = flag.String("e2e.simulator-image", "sendan/openstack-simulator:dev", "image of the simulated cloud")
	processes      = flag.Int("e2e.processes", 2, "how many specs run at the same time; two clusters of five nodes keep two cores busy")
	keep           = flag.Bool("e2e.keep", false, "leave the management clusters and the cloud running at the end, and use those that a run with this flag left")
)

// env is set in every process before its first spec.
var env *environment

func TestE2E(t *testing.T) {
	if *repositoryDir == "" {
		t.Skip("real nodes need Docker and images: `make e2e` runs this")
	}
	for _, path := range []*string{repositoryDir, toolsDir, sourceDir, artifactsDir} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			t.Fatal(err)
		}
		*path = absolute
	}
	if err := os.MkdirAll(*artifactsDir, 0o755); err != nil { //nolint:gosec // everybody may look
		t.Fatal(err)
	}
	ctrl.SetLogger(klog.Background())
	RegisterFailHandler(ginkgo.Fail)
	suite, _ := ginkgo.GinkgoConfiguration()
	if suite.ParallelTotal == 1 && *processes > 1 {
		runParallel(t)
		return
	}
	ginkgo.RunSpecs(t, "Sendan end to end")
}

// runParallel lets ginkgo start this program several times, since much of a spec is waiting for something to boot. Flags
// of ginkgo are handed on, such as -ginkgo.focus.
func runParallel(t *testing.T) {
	args := []string{"tool", "ginkgo", "run", fmt.Sprintf("--procs=%d", *processes), "--timeout=1h", "--poll-progress-after=10m", "--no-color", "--silence-skips"}
	ours := []string{"--"}
	for _, arg := range os.Args[1:] { // some of ginkgo's flags do not tell their value
		if setting, isGinkgo := strings.CutPrefix(strings.TrimLeft(arg, "-"), "ginkgo."); isGinkgo {
			args = append(args, "--"+setting)
		}
	}
	flag.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Name, "e2e.") {
			ours = append(ours, fmt.Sprintf("-%s=%s", f.Name, f.Value))
		}
	})
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{tableFile(), raceFile()} {
		_ = os.Remove(file) // it is of an earlier run
	}
	command := exec.CommandContext(t.Context(), "go", append(append(args, program), ours...)...)
	command.Dir = *sourceDir
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	err = command.Run()
	for _, file := range []string{raceFile(), tableFile()} {
		if table, unread := os.ReadFile(file); unread == nil {
			fmt.Printf("\n%s\n", table)
		}
	}
	if err != nil {
		t.Fatalf("some specs failed, or did not run; logs and consoles are in %s", *artifactsDir)
	}
}

var _ = ginkgo.SynchronizedBeforeSuite(func(ctx context.Context) []byte {
	e, err := makeEnvironment(ctx)
	Expect(err).NotTo(HaveOccurred())
	Expect(e.connect()).To(Succeed())
	e.installProviders(ctx, e.management, sendan)
	encoded, err := json.Marshal(e)
	Expect(err).NotTo(HaveOccurred())
	return encoded
}, func(encoded []byte) {
	env = &environment{}
	Expect(json.Unmarshal(encoded, env)).To(Succeed())
	Expect(env.connect()).To(Succeed())
}, ginkgo.NodeTimeout(10*time.Minute))

var _ = ginkgo.SynchronizedAfterSuite(func() {}, func(ctx context.Context) {
	if env == nil {
		return // nothing was made, which was said already
	}
	env.collectLogs(ctx)
	if !*keep {
		Expect(env.remove(ctx)).To(Succeed())
	}
}, ginkgo.NodeTimeout(5*time.Minute))
