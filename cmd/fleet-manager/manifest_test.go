package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// TestTheManagerTakesTheFlagsOfItsDeployment: what the manifest says must be the defaults of the program, so that both ways to
// run it are the same.
func TestTheManagerTakesTheFlagsOfItsDeployment(t *testing.T) {
	var deployment appsv1.Deployment
	read(t, filepath.Join("manager", "manager.yaml"), &deployment)
	var o options
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse(deployment.Spec.Template.Spec.Containers[0].Args); err != nil {
		t.Fatal(err)
	}
	if !o.manager.LeaderElect() {
		t.Error("it does not elect a leader")
	}
	flags.Visit(func(flag *pflag.Flag) {
		if flag.Name != "leader-elect" && flag.Value.String() != flag.DefValue {
			t.Errorf("--%s=%s, and the program's default is %s", flag.Name, flag.Value, flag.DefValue)
		}
	})
}

func TestReleasesAreCompiledWhereTheManagerRuns(t *testing.T) {
	var namespace corev1.Namespace
	read(t, filepath.Join("default", "namespace.yaml"), &namespace)
	for from, want := range map[string]string{"": namespace.Name, "elsewhere": "elsewhere"} {
		t.Setenv("POD_NAMESPACE", from)
		var o options
		o.addFlags(pflag.NewFlagSet(name, pflag.ContinueOnError))
		if o.systemNamespace != want {
			t.Errorf("in the namespace %q it compiles to %s, want %s", from, o.systemNamespace, want)
		}
	}
}

func TestTheRoleIsForTheLeaseThatTheManagerTakes(t *testing.T) {
	const lease = "sendan-" + name
	var role rbacv1.Role
	read(t, filepath.Join("rbac", "leader_election_role.yaml"), &role)
	for _, rule := range role.Rules {
		if slices.Contains(rule.Verbs, "update") && !slices.Equal(rule.ResourceNames, []string{lease}) {
			t.Errorf("it may update the leases %q, and takes %s", rule.ResourceNames, lease)
		}
	}
}

// read decodes the first document of a manifest.
func read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "fleet", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %s: %v", file, err)
	}
}
