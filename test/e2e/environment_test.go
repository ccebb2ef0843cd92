package e2e

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	"github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/controller-runtime/pkg/client"

	. "github.com/onsi/gomega"
	"sigs.k8s.io/cluster-api/test/framework"
	"sigs.k8s.io/cluster-api/test/framework/clusterctl"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

const (
	managementName = "sendan-e2e"
	cloudName      = "sendan-e2e-cloud"
	// sendan and capd are names of infrastructure providers.
	sendan = "sendan"
	capd   = "docker"
)

// environment is made once and known to every process that runs specs.
type environment struct {
	Kubeconfig string
	Clusterctl string
	Cloud      *cloud

	config     *clusterctl.E2EConfig
	management framework.ClusterProxy
}

// makeEnvironment starts what all specs share: a management cluster, still without providers, and a cloud.
func makeEnvironment(ctx context.Context) (*environment, error) {
	if err := requireDocker(ctx, *nodeImage, *simulatorImage); err != nil {
		return nil, err
	}
	images, err := providerImages()
	if err != nil {
		return nil, err
	}
	if err := addTemplates(ctx); err != nil {
		return nil, err
	}
	e := &environment{
		Kubeconfig: filepath.Join(*artifactsDir, managementName+".kubeconfig"),
		Clusterctl: filepath.Join(*artifactsDir, "clusterctl.yaml"),
	}
	if !*keep { // a run that was killed may have left it
		if err := deleteKindCluster(secondName); err != nil {
			return nil, err
		}
	}
	// The cloud's network is made by kind.
	if err := makeKindCluster(ctx, managementName, e.Kubeconfig, images); err != nil {
		return nil, err
	}
	if e.Cloud, err = startCloud(ctx, cloudName, projects()); err != nil {
		return nil, err
	}
	if err := e.writeClusterctlConfig(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

func (e *environment) writeClusterctlConfig(ctx context.Context) error {
	config, err := readConfig()
	if err != nil {
		return err
	}
	address, err := addressOn(ctx, controlPlaneContainer(managementName), dockerNetwork)
	if err != nil {
		return err
	}
	variables := map[string]string{
		"MANAGEMENT_HOST": controlPlaneContainer(managementName), "MANAGEMENT_ADDRESS": address, "NODE_IMAGE": *nodeImage,
	}
	maps.Copy(variables, config.Variables)
	return configureClusterctl(ctx, e.Clusterctl, variables)
}

// connect makes an environment usable in this process.
func (e *environment) connect() error {
	config, err := readConfig()
	if err != nil {
		return err
	}
	e.config = config
	e.management = framework.NewClusterProxy(managementName, e.Kubeconfig, newScheme(),
		framework.WithMachineLogCollector(logCollector{}))
	return nil
}

// remove takes away everything that was made.
func (e *environment) remove(ctx context.Context) error {
	if err := e.Cloud.remove(ctx); err != nil {
		return err
	}
	for _, name := range []string{managementName, secondName} {
		if err := deleteKindCluster(name); err != nil {
			return err
		}
	}
	return nil
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	framework.TryAddDefaultSchemes(scheme)
	utilruntime.Must(infrav1.AddToScheme(scheme))
	utilruntime.Must(fleetv1.AddToScheme(scheme))
	utilruntime.Must(policyv1.AddToScheme(scheme))
	return scheme
}

// installProviders does what `clusterctl init` does, unless it was done already.
func (e *environment) installProviders(ctx context.Context, into framework.ClusterProxy, infrastructure ...string) {
	clusterctl.InitManagementClusterAndWatchControllerLogs(ctx, clusterctl.InitManagementClusterAndWatchControllerLogsInput{
		ClusterProxy: into, ClusterctlConfigPath: e.Clusterctl, InfrastructureProviders: infrastructure,
		LogFolder: filepath.Join(*artifactsDir, "clusters", into.GetName()), DisableMetricsCollection: true,
	}, e.config.GetIntervals("default", "wait-controllers")...)
}

// credentials makes the hook of one of upstream's specs, which hands on no context.
func (e *environment) credentials(project string) func(framework.ClusterProxy, string) {
	return func(in framework.ClusterProxy, namespace string) {
		e.giveCredentials(context.Background(), in, namespace, project)
	}
}

// addProvider adds one infrastructure provider to the management cluster.
func (e *environment) addProvider(ctx context.Context, infrastructure string) {
	ginkgo.GinkgoHelper()
	var providers clusterctlv1.ProviderList
	Expect(e.management.GetClient().List(ctx, &providers)).To(Succeed())
	if slices.ContainsFunc(providers.Items, func(p clusterctlv1.Provider) bool { return p.ProviderName == infrastructure }) {
		return
	}
	clusterctl.Init(ctx, clusterctl.InitInput{
		LogFolder: filepath.Join(*artifactsDir, "clusters", managementName), ClusterctlConfigPath: e.Clusterctl, KubeconfigPath: e.Kubeconfig,
		InfrastructureProviders: []string{infrastructure},
	})
}

// giveCredentials gives a namespace the way to a project of the cloud. The label takes the Secret along when the clusters
// move.
func (e *environment) giveCredentials(ctx context.Context, in framework.ClusterProxy, namespace, project string) {
	clouds, err := e.Cloud.cloudsYAML(project)
	Expect(err).NotTo(HaveOccurred())
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: "sendan-cloud", Namespace: namespace, Labels: map[string]string{clusterctlv1.ClusterctlMoveLabel: ""},
		},
		Data: map[string][]byte{"clouds.yaml": clouds},
	}
	err = in.GetClient().Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) { // left by a run that kept everything, and perhaps of another cloud
		err = in.GetClient().Update(ctx, secret)
	}
	Expect(err).NotTo(HaveOccurred(), "store credentials in namespace %s", namespace)
}

// expectNothingLeft asks the cloud what a project still has, and Docker as well.
func (e *environment) expectNothingLeft(ctx context.Context, project string) {
	Eventually(func() (map[string]int, error) {
		return e.Cloud.objects(ctx, project)
	}, "30s", "500ms").Should(BeEmpty(), "objects of project %s in the cloud", project)
	servers, err := e.Cloud.servers(ctx, project)
	Expect(err).NotTo(HaveOccurred())
	Expect(servers).To(BeEmpty(), "servers of project %s", project)
}

// createNamespace makes the namespace of a spec of ours, named as its project of the cloud; upstream's make theirs.
func (e *environment) createNamespace(ctx context.Context, name string) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	Expect(client.IgnoreAlreadyExists(e.management.GetClient().Create(ctx, namespace))).To(Succeed(), "create namespace %s", name)
	e.giveCredentials(ctx, e.management, name, name)
}

// configureCluster is `clusterctl generate cluster`.
func (e *environment) configureCluster(ctx context.Context, provider, namespace, name string, controlPlane, workers int64) []byte {
	return e.configureFlavor(ctx, provider, clusterctl.DefaultFlavor, namespace, name, controlPlane, workers)
}

// configureFlavor is `clusterctl generate cluster --flavor`.
func (e *environment) configureFlavor(ctx context.Context, provider, flavor, namespace, name string, controlPlane, workers int64) []byte {
	manifests := clusterctl.ConfigCluster(ctx, clusterctl.ConfigClusterInput{
		LogFolder:            filepath.Join(*artifactsDir, "clusters", managementName),
		ClusterctlConfigPath: e.Clusterctl, KubeconfigPath: e.Kubeconfig, InfrastructureProvider: provider,
		Namespace: namespace, ClusterName: name, KubernetesVersion: e.config.MustGetVariable("KUBERNETES_VERSION"),
		ControlPlaneMachineCount: &controlPlane, WorkerMachineCount: &workers, Flavor: flavor,
	})
	Expect(manifests).NotTo(BeEmpty(), fmt.Sprintf("the template of %s", provider))
	return manifests
}
