package packaging_test

import (
	"bytes"
	"fmt"
	"net"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
	"github.com/sendan-io/sendan/cloud/simulator"
	"github.com/sendan-io/sendan/templates/demo"
	"github.com/sendan-io/sendan/test/envtest"
)

// worksWithin is how long the fleet manager may take to start and to do something.
const worksWithin = 2 * time.Minute

// account is who the fleet manager is to the API server.
const account = "system:serviceaccount:" + fleetNamespace + ":" + fleetName

// TestTheFleetManagerWorksWithItsRights runs it as its service account. What the account may not do, the API server says.
func TestTheFleetManagerWorksWithItsRights(t *testing.T) {
	env := envtest.Start(t)
	for _, object := range fleetComponents(t, release(t)) {
		switch object.GetKind() {
		case "Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding":
			create(t, env, &object)
		}
	}
	t.Run("it can do what it has to and no more", func(t *testing.T) { mayDo(t, env) })

	createPlatform(t, env)
	cluster := createCluster(t, env)
	said := runFleetManager(t, env)
	t.Run("a Release is compiled", func(t *testing.T) { becomesReady(t, env, "Release", "v1-36-3", said) })
	t.Run("a Tenant gets a namespace", func(t *testing.T) { becomesReady(t, env, "Tenant", "team-vision", said) })
	t.Run("a Cluster gets a record", func(t *testing.T) {
		envtest.Eventually(t, worksWithin, func() error {
			member := &fleetv1.FleetMember{}
			if err := env.Client.Get(t.Context(), client.ObjectKeyFromObject(cluster), member); err != nil || member.Status.Health == "" {
				return fmt.Errorf("it has no health (%w): %s", err, refusals(t, said))
			}
			return nil
		})
	})
	if refused := refusals(t, said); refused != "" {
		t.Errorf("it was refused:\n%s", refused)
	}
}

// mayDo asks about what neither a test nor a role shows at a glance.
func mayDo(t *testing.T, env *envtest.Env) {
	for _, test := range []struct {
		may                          bool
		verb, group, resource, where string
	}{
		{true, "create", "coordination.k8s.io", "leases", fleetNamespace},
		{false, "create", "coordination.k8s.io", "leases", "kube-system"},
		{true, "create", "authentication.k8s.io", "tokenreviews", ""},
		{true, "create", "authorization.k8s.io", "subjectaccessreviews", ""},
		{true, "get", "", "secrets", "team-vision"},
		{false, "list", "", "secrets", "team-vision"},
		{false, "patch", "cluster.x-k8s.io", "clusters", "team-vision"},
		{false, "delete", "cluster.x-k8s.io", "machines", "team-vision"},
		{false, "delete", "", "namespaces", ""},
	} {
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User: account, Groups: []string{"system:serviceaccounts", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: test.verb, Group: test.group, Resource: test.resource, Namespace: test.where},
		}}
		create(t, env, review)
		if review.Status.Allowed != test.may {
			t.Errorf("it may %s %s in %q: %t, want %t", test.verb, test.resource, test.where, review.Status.Allowed, test.may)
		}
	}
}

// createPlatform is what the demo's platform team says, with a simulated cloud.
func createPlatform(t *testing.T, env *envtest.Env) {
	t.Helper()
	sim, err := simulator.New(simulator.Options{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(sim)
	t.Cleanup(func() { server.Close(); sim.Close() })
	create(t, env, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: fleetNamespace, Name: "tokyo-cloud"},
		Data:       map[string][]byte{"clouds.yaml": sim.CloudsYAML(server.URL, "demo")},
	})
	for _, object := range objects(t, demo.Platform) {
		create(t, env, &object)
	}
}

// createCluster makes one that looks as if it could be reached.
func createCluster(t *testing.T, env *envtest.Env) *clusterv1.Cluster {
	t.Helper()
	cluster := &clusterv1.Cluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "training"},
		Spec:       clusterv1.ClusterSpec{ClusterNetwork: clusterv1.ClusterNetwork{ServiceDomain: "cluster.local"}},
	}
	create(t, env, cluster)
	cluster.Status.Initialization.InfrastructureProvisioned = ptr.To(true)
	if err := env.Client.Status().Update(t.Context(), cluster); err != nil {
		t.Fatal(err)
	}
	return cluster
}

// runFleetManager runs it as its account until the test ends, and returns the file that it writes to.
func runFleetManager(t *testing.T, env *envtest.Env) string {
	t.Helper()
	lookAtInputs(t, "api", "cloud", "cmd", "fleet", "templates", "go.mod")
	directory := t.TempDir()
	program, kubeconfig := filepath.Join(directory, "fleet-manager"), filepath.Join(directory, "kubeconfig")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/fleet-manager")
	build.Dir = envtest.RepositoryFile(t, ".")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the fleet manager: %v\n%s", err, output)
	}
	credentials, err := clientcmd.LoadFromFile(env.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, user := range credentials.AuthInfos {
		user.Impersonate = account
	}
	if err := clientcmd.WriteToFile(*credentials, kubeconfig); err != nil {
		t.Fatal(err)
	}
	said, err := os.Create(filepath.Join(directory, "log"))
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), program, "--kubeconfig="+kubeconfig, "--system-namespace="+fleetNamespace,
		"--diagnostics-address=127.0.0.1:0", "--health-addr=0", "--webhook-cert-dir="+env.CertDir, fmt.Sprint("--webhook-port=", freePort(t)))
	command.Stdout, command.Stderr = said, said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Wait() }) // the end of the test has killed it
	return said.Name()
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().(*net.TCPAddr).Port
}

func becomesReady(t *testing.T, env *envtest.Env, kind, name, said string) {
	envtest.Eventually(t, worksWithin, func() error {
		object := &unstructured.Unstructured{}
		object.SetGroupVersionKind(fleetv1.GroupVersion.WithKind(kind))
		if err := env.Client.Get(t.Context(), client.ObjectKey{Name: name}, object); err != nil {
			return err
		}
		var seen struct {
			Status struct {
				Conditions []metav1.Condition `json:"conditions"`
			} `json:"status"`
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &seen); err != nil {
			return err
		}
		if ready := meta.FindStatusCondition(seen.Status.Conditions, fleetv1.ReadyCondition); ready == nil || ready.Status != metav1.ConditionTrue {
			return fmt.Errorf("%s %s is not ready: %+v\n%s", kind, name, ready, refusals(t, said))
		}
		return nil
	})
}

// refusals are the lines of the log about what the API server did not allow.
func refusals(t *testing.T, said string) string {
	t.Helper()
	text, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for line := range bytes.Lines(text) {
		if bytes.Contains(line, []byte("orbidden")) {
			found = append(found, string(line))
		}
	}
	return strings.Join(found, "")
}

func create(t *testing.T, env *envtest.Env, object client.Object) {
	t.Helper()
	if err := env.Client.Create(t.Context(), object); err != nil {
		t.Fatalf("create %T %s: %v", object, object.GetName(), err)
	}
}
