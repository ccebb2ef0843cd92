package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/jonboulle/clockwork"
	"github.com/spf13/cobra"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	bootstrapv1 "sigs.k8s.io/cluster-api/api/bootstrap/kubeadm/v1beta2"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

// planeFlags are what every command that brings a plane up understands.
type planeFlags struct {
	stateDir      string
	toolsDir      string
	programsDir   string
	backend       string
	cloudImage    string
	nodeImage     string
	simulatorArgs []string
	managerArgs   []string
}

func (f *planeFlags) register(cmd *cobra.Command, defaultStateDir, stateDirUsage string) {
	flags := cmd.Flags()
	flags.StringVar(&f.stateDir, "state-dir", defaultStateDir, stateDirUsage)
	flags.StringVar(&f.toolsDir, "tools-dir", "", "where etcd, kube-apiserver and Cluster API's managers are, as `hack/build-tools.sh --dir` prints it (default: beside this program)")
	flags.StringVar(&f.programsDir, "programs-dir", "", "where infrastructure-manager, fleet-manager and openstack-simulator are (default: beside this program)")
	flags.StringVar(&f.backend, "backend", "memory", "what the simulated servers run: memory (nodes that exist only in memory), docker (real nodes in containers) or none")
	flags.StringVar(&f.cloudImage, "simulator-image", "sendan/openstack-simulator:dev", "image of openstack-simulator, for --backend=docker")
	flags.StringVar(&f.nodeImage, "node-image", "sendan/node:v1.36.3", "image that servers boot, for --backend=docker")
	flags.StringArrayVar(&f.simulatorArgs, "simulator-arg", nil, "further argument for openstack-simulator, such as --seed=7; may be repeated")
	flags.StringArrayVar(&f.managerArgs, "manager-arg", nil, "further argument for infrastructure-manager, such as --v=4; may be repeated")
}

// options turns flags into what a plane needs.
func (f *planeFlags) options(report func(plane.Event)) (plane.Options, error) {
	executable, err := os.Executable()
	if err != nil {
		return plane.Options{}, fmt.Errorf("find this program: %w", err)
	}
	beside := filepath.Dir(executable)
	options := plane.Options{
		StateDir:       f.stateDir,
		ToolsDir:       f.toolsDir,
		ProgramsDir:    f.programsDir,
		Backend:        f.backend,
		SimulatorImage: f.cloudImage, NodeImage: f.nodeImage,
		SimulatorArgs: f.simulatorArgs,
		ManagerArgs:   f.managerArgs,
		Clock:         clockwork.NewRealClock(),
		Report:        report,
	}
	if options.ToolsDir == "" {
		options.ToolsDir = beside
	}
	if options.ProgramsDir == "" {
		options.ProgramsDir = beside
	}
	options.Scheme, err = newScheme()
	return options, err
}

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientgoscheme.AddToScheme,
		apiextensionsv1.AddToScheme,
		clusterv1.AddToScheme,
		bootstrapv1.AddToScheme,
		controlplanev1.AddToScheme,
		infrav1.AddToScheme,
		fleetv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	return scheme, nil
}
