package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// TestTheManagerTakesTheFlagsOfItsDeployment reads the manifest as clusterctl does when no variable is set: what it says
// must be the defaults of the program, so that both ways to run it are the same.
func TestTheManagerTakesTheFlagsOfItsDeployment(t *testing.T) {
	var deployment appsv1.Deployment
	read(t, filepath.Join("manager", "manager.yaml"), &deployment)
	arguments := deployment.Spec.Template.Spec.Containers[0].Args
	for i := range arguments {
		arguments[i] = regexp.MustCompile(`\$\{[A-Z_]+:=([^}]*)\}`).ReplaceAllString(arguments[i], "$1")
	}
	var o options
	flags := pflag.NewFlagSet("manager", pflag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse(arguments); err != nil {
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
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "infrastructure", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %s: %v", file, err)
	}
}
