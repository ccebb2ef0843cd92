// Package templates_test feeds the templates to the programs they are for: clusterctl, a real API
// server with the kinds and webhooks, and Cluster API's topology controller.
package templates_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/cluster-api/util/conditions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/test/envtest"
)

const (
	clusterName       = "training"
	kubernetesVersion = "v1.36.3"
	// controllerTimeout is generous: the topology controller needs seconds.
	controllerTimeout = 2 * time.Minute
)

func TestTheTemplates(t *testing.T) {
	env := envtest.Start(t)
	templates := templates{env}
	t.Run("the API server takes what clusterctl makes of each", templates.areAccepted)
	t.Run("clusterctl says which variables have to be set", templates.nameTheirVariables)
	t.Run("the class makes the cluster that its variables describe", templates.makeTheCluster)
}

type templates struct{ *envtest.Env }

func (e templates) areAccepted(t *testing.T) {
	for file, kinds := range map[string]string{
		"cluster-template.yaml":          "Cluster SendanCluster KubeadmControlPlane SendanMachineTemplate MachineDeployment KubeadmConfigTemplate SendanMachineTemplate",
		"cluster-template-topology.yaml": "Cluster",
		"clusterclass-sendan.yaml":       "ClusterClass SendanClusterTemplate KubeadmControlPlaneTemplate SendanMachineTemplate KubeadmConfigTemplate SendanMachineTemplate",
	} {
		t.Run(file, func(t *testing.T) {
			var got []string
			for _, object := range e.generate(t, file) {
				got = append(got, object.GetKind())
				e.apply(t, object, client.DryRunAll)
			}
			if strings.Join(got, " ") != kinds {
				t.Errorf("got %v, want %s", got, kinds)
			}
		})
	}
}

func (e templates) nameTheirVariables(t *testing.T) {
	text := e.clusterctl(t, nil, "generate", "cluster", clusterName, "--target-namespace", "default", "--from", "cluster-template.yaml", "--list-variables")
	required, _, _ := strings.Cut(text, "Optional Variables")
	for _, name := range []string{"SENDAN_CONTROL_PLANE_FLAVOR", "SENDAN_WORKER_FLAVOR", "SENDAN_IMAGE"} {
		if !strings.Contains(required, name) {
			t.Errorf("%s is not among the required variables:\n%s", name, text)
		}
	}
	if strings.Count(required, "SENDAN_") != 3 {
		t.Errorf("more variables are required than need be:\n%s", text)
	}
}

// makeTheCluster lets Cluster API's own controller apply the class, and then change a flavor, which
// it does by a server-side apply dry run and a new template.
func (e templates) makeTheCluster(t *testing.T) {
	e.startClusterAPI(t)
	for _, file := range []string{"clusterclass-sendan.yaml", "cluster-template-topology.yaml"} {
		for _, object := range e.generate(t, file) {
			e.apply(t, object)
		}
	}

	t.Run("its infrastructure", func(t *testing.T) {
		spec := e.sendanCluster(t).Spec
		if spec.IdentityRef.Name != "credentials" || spec.IdentityRef.CloudName != "private" {
			t.Errorf("identity %+v is not the variable's", spec.IdentityRef)
		}
		if managed := spec.Network.Managed; managed == nil || managed.CIDRs[0] != "10.9.0.0/24" || managed.ExternalNetwork.Name != "public" {
			t.Errorf("network %+v is not the variables'", managed)
		}
	})
	t.Run("its machines", func(t *testing.T) { e.eventuallyFlavors(t, "m1.large", "g1.a100.8") })
	t.Run("another worker flavor rotates the template", func(t *testing.T) {
		cluster := e.reconciledCluster(t)
		before := cluster.DeepCopy()
		for i := range cluster.Spec.Topology.Variables {
			if cluster.Spec.Topology.Variables[i].Name == "workerFlavor" {
				cluster.Spec.Topology.Variables[i].Value = apiextensionsv1.JSON{Raw: []byte(`"g1.h100.8"`)}
			}
		}
		if err := e.Client.Patch(t.Context(), cluster, client.MergeFrom(before)); err != nil {
			t.Fatal(err)
		}
		e.eventuallyFlavors(t, "m1.large", "g1.h100.8")
	})
}

// reconciledCluster waits until the topology controller has ended a first pass. At its end it writes all variables with
// their defaults, since no webhook did, and with them it would take back what somebody changed meanwhile.
func (e templates) reconciledCluster(t *testing.T) *clusterv1.Cluster {
	t.Helper()
	cluster := &clusterv1.Cluster{}
	envtest.Eventually(t, controllerTimeout, func() error {
		if err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: clusterName}, cluster); err != nil {
			return err
		}
		if !conditions.IsTrue(cluster, clusterv1.ClusterTopologyReconciledCondition) {
			return fmt.Errorf("the topology is not reconciled: %+v", cluster.Status.Conditions)
		}
		return nil
	})
	return cluster
}

// eventuallyFlavors waits until the templates in use by the control plane and the workers have the
// flavors wanted.
func (e templates) eventuallyFlavors(t *testing.T, controlPlane, workers string) {
	t.Helper()
	envtest.Eventually(t, controllerTimeout, func() error {
		plane, err := e.flavorBehind(t, "controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlane", "spec", "machineTemplate", "spec", "infrastructureRef", "name")
		if err != nil {
			return err
		}
		worker, err := e.flavorBehind(t, "cluster.x-k8s.io/v1beta2", "MachineDeployment", "spec", "template", "spec", "infrastructureRef", "name")
		if err != nil {
			return err
		}
		if plane != controlPlane || worker != workers {
			return fmt.Errorf("control plane has flavor %s and workers %s, want %s and %s", plane, worker, controlPlane, workers)
		}
		return nil
	})
}

func (e templates) flavorBehind(t *testing.T, apiVersion, kind string, reference ...string) (string, error) {
	users := &unstructured.UnstructuredList{}
	users.SetAPIVersion(apiVersion)
	users.SetKind(kind + "List")
	if err := e.Client.List(t.Context(), users, client.InNamespace("default")); err != nil {
		return "", err
	}
	if len(users.Items) != 1 {
		return "", fmt.Errorf("there are %d objects of kind %s, want 1", len(users.Items), kind)
	}
	name, _, err := unstructured.NestedString(users.Items[0].Object, reference...)
	if err != nil {
		return "", err
	}
	template := &infrav1.SendanMachineTemplate{}
	if err := e.Client.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, template); err != nil {
		return "", err
	}
	return template.Spec.Template.Spec.Flavor, nil
}

// sendanCluster waits for the one that the class makes.
func (e templates) sendanCluster(t *testing.T) infrav1.SendanCluster {
	t.Helper()
	var clusters infrav1.SendanClusterList
	envtest.Eventually(t, controllerTimeout, func() error {
		if err := e.Client.List(t.Context(), &clusters, client.InNamespace("default")); err != nil {
			return err
		}
		if len(clusters.Items) != 1 {
			return fmt.Errorf("there are %d SendanClusters, want 1", len(clusters.Items))
		}
		return nil
	})
	return clusters.Items[0]
}

// generate runs a template through clusterctl.
func (e templates) generate(t *testing.T, file string) []*unstructured.Unstructured {
	t.Helper()
	text := e.clusterctl(t, []string{
		"SENDAN_CONTROL_PLANE_FLAVOR=m1.large", "SENDAN_WORKER_FLAVOR=g1.a100.8", "SENDAN_IMAGE=ubuntu",
		"SENDAN_IDENTITY_NAME=credentials", "SENDAN_CLOUD_NAME=private", "SENDAN_NETWORK_CIDR=10.9.0.0/24",
	}, "generate", "cluster", clusterName, "--target-namespace", "default", "--from", file,
		"--kubernetes-version", kubernetesVersion, "--control-plane-machine-count", "3", "--worker-machine-count", "2")
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("read what clusterctl made of %s: %v\n%s", file, err, text)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

func (e templates) clusterctl(t *testing.T, environment []string, arguments ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(e.AssetsDir, "clusterctl"), arguments...)
	// A home of its own keeps the user's configuration out; GOPROXY=off, the look for a newer clusterctl.
	command.Env = append(os.Environ(), append(environment, "HOME="+t.TempDir(), "XDG_CONFIG_HOME=", "GOPROXY=off", "KUBECONFIG=")...)
	var diagnosis bytes.Buffer
	command.Stderr = &diagnosis
	output, err := command.Output()
	if err != nil {
		t.Fatalf("clusterctl %s: %v\n%s", strings.Join(arguments, " "), err, diagnosis.String())
	}
	return string(output)
}

func (e templates) apply(t *testing.T, object *unstructured.Unstructured, options ...client.ApplyOption) {
	t.Helper()
	if object.GetNamespace() == "" {
		object.SetNamespace("default")
	}
	options = append(options, client.FieldOwner("user"))
	if err := e.Client.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), options...); err != nil {
		t.Errorf("apply %s %s: %v", object.GetKind(), object.GetName(), err)
	}
}

// startClusterAPI runs Cluster API's core controllers until the test ends. Their webhooks are not
// registered; the controllers check and default variables themselves.
func (e templates) startClusterAPI(t *testing.T) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "cluster-api-core.log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(e.AssetsDir, "cluster-api-core"),
		"--kubeconfig", e.Kubeconfig, "--leader-elect=false", "--feature-gates=ClusterTopology=true",
		"--webhook-cert-dir", e.CertDir, "--webhook-port", freePort(t),
		"--health-addr=127.0.0.1:0", "--diagnostics-address=127.0.0.1:0", "--insecure-diagnostics",
		"--skip-crd-migration-phases=StorageVersionMigration,CleanupManagedFields")
	command.Stdout, command.Stderr = log, log
	if err := command.Start(); err != nil {
		t.Fatalf("start Cluster API: %v", err)
	}
	// The test's context, which ends before its cleanups, has stopped it by then.
	t.Cleanup(func() {
		_ = command.Wait() // ends by a signal
		if !t.Failed() {
			return
		}
		if text, err := os.ReadFile(log.Name()); err == nil {
			t.Logf("Cluster API's log ends with:\n%s", text[max(0, len(text)-8000):])
		}
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}
