package main

import (
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"

	"github.com/sendan-io/sendan/cmd/internal/manifesttest"
)

const manifests = "fleet"

func TestTheManagerTakesTheFlagsOfItsDeployment(t *testing.T) {
	manifesttest.TakesFlags(t, manifests, new(options).addFlags)
}

func TestReleasesAreCompiledWhereTheManagerRuns(t *testing.T) {
	var namespace corev1.Namespace
	manifesttest.Read(t, filepath.Join(manifests, "default", "namespace.yaml"), &namespace)
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
	manifesttest.IsForLease(t, manifests, "sendan-"+name)
}
