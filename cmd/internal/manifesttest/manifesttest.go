// Package manifesttest holds the manifests that a manager is installed from to the program, for the tests of the managers.
package manifesttest

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

// variables are filled in by clusterctl, with what follows them where the user sets none.
var variables = regexp.MustCompile(`\$\{[A-Z_]+:=([^}]*)\}`)

// TakesFlags reads the Deployment below a folder of config as it is when no variable is set: what it says must be the defaults
// of the program, so that both ways to run it are the same.
func TakesFlags(t *testing.T, folder string, addFlags func(*pflag.FlagSet)) {
	t.Helper()
	var deployment appsv1.Deployment
	Read(t, filepath.Join(folder, "manager", "manager.yaml"), &deployment)
	arguments := deployment.Spec.Template.Spec.Containers[0].Args
	for i := range arguments {
		arguments[i] = variables.ReplaceAllString(arguments[i], "$1")
	}
	flags := pflag.NewFlagSet(folder, pflag.ContinueOnError)
	addFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	if elects, err := flags.GetBool("leader-elect"); err != nil || !elects {
		t.Errorf("it does not elect a leader (%v)", err)
	}
	flags.Visit(func(flag *pflag.Flag) {
		if flag.Name != "leader-elect" && flag.Value.String() != flag.DefValue {
			t.Errorf("--%s=%s, and the program's default is %s", flag.Name, flag.Value, flag.DefValue)
		}
	})
}

// IsForLease looks at the role below a folder of config by which a manager elects a leader.
func IsForLease(t *testing.T, folder, lease string) {
	t.Helper()
	var role rbacv1.Role
	Read(t, filepath.Join(folder, "rbac", "leader_election_role.yaml"), &role)
	for _, rule := range role.Rules {
		if slices.Contains(rule.Verbs, "update") && !slices.Equal(rule.ResourceNames, []string{lease}) {
			t.Errorf("it may update the leases %q, and takes %s", rule.ResourceNames, lease)
		}
	}
}

// Read decodes the first document of a manifest in config, for the test of a program in cmd.
func Read(t *testing.T, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := utilyaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096).Decode(into); err != nil && !errors.Is(err, io.EOF) {
		t.Fatalf("read %s: %v", file, err)
	}
}
