package manager

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"
)

func TestPodsOutlastAManagerThatStops(t *testing.T) {
	for _, name := range []string{"infrastructure", "fleet"} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join("..", "..", "..", "config", name, "manager", "manager.yaml"))
			if err != nil {
				t.Fatal(err)
			}
			deployment := &appsv1.Deployment{}
			if err := yaml.UnmarshalStrict(text, deployment); err != nil {
				t.Fatal(err)
			}
			grace := time.Duration(ptr.Deref(deployment.Spec.Template.Spec.TerminationGracePeriodSeconds, 30)) * time.Second
			if grace <= shutdownTimeout {
				t.Errorf("the pod is killed after %s, and the manager waits for %s", grace, shutdownTimeout)
			}
		})
	}
}
