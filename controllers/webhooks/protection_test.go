package webhooks

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func TestWhatIsProtectedIsNotDeleted(t *testing.T) {
	const refusal = `metadata.annotations[infrastructure.cluster.x-k8s.io/sendan-deletion-protection]: Forbidden: protects it from being deleted; ` +
		`to delete it all the same, remove the annotation first: kubectl annotate `
	protected := map[string]string{infrav1.DeletionProtectionAnnotation: "production"}
	leaving := ptr.To(metav1.Now())
	for name, c := range map[string]struct {
		cluster, infra metav1.ObjectMeta
		// of the Cluster, and of the SendanCluster; empty when they may go.
		ofCluster, ofInfra string
	}{
		"nothing protects them": {},
		"the Cluster is protected": {
			cluster:   metav1.ObjectMeta{Annotations: protected},
			ofCluster: "cluster -n team-a training ", ofInfra: "cluster -n team-a training ",
		},
		"the SendanCluster is protected": {infra: metav1.ObjectMeta{Annotations: protected}, ofInfra: "sendancluster -n team-a training-x7k2p "},
		"both are going already": {
			cluster: metav1.ObjectMeta{Annotations: protected, DeletionTimestamp: leaving, Finalizers: []string{"a/b"}},
			infra:   metav1.ObjectMeta{Annotations: protected, DeletionTimestamp: leaving, Finalizers: []string{"a/b"}},
		},
		"clusterctl has moved the SendanCluster": {
			cluster:   metav1.ObjectMeta{Annotations: protected},
			infra:     metav1.ObjectMeta{Annotations: map[string]string{clusterctlv1.DeleteForMoveAnnotation: ""}},
			ofCluster: "cluster -n team-a training ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster, infra := &clusterv1.Cluster{ObjectMeta: c.cluster}, &infrav1.SendanCluster{ObjectMeta: c.infra}
			cluster.Namespace, cluster.Name = "team-a", "training"
			infra.Namespace, infra.Name, infra.Labels = "team-a", "training-x7k2p", map[string]string{clusterv1.ClusterNameLabel: "training"}
			scheme := runtime.NewScheme()
			if err := clusterv1.AddToScheme(scheme); err != nil {
				t.Fatal(err)
			}
			reader := fake.NewClientBuilder().WithScheme(scheme).WithObjects(cluster).Build()
			_, err := deletionValidator{}.ValidateDelete(t.Context(), cluster)
			expectRefusal(t, err, refusal, c.ofCluster)
			_, err = clusterValidator{reader: reader}.ValidateDelete(t.Context(), infra)
			expectRefusal(t, err, refusal, c.ofInfra)
		})
	}
	_, err := clusterValidator{reader: fake.NewClientBuilder().WithScheme(runtime.NewScheme()).Build()}.ValidateDelete(t.Context(), &infrav1.SendanCluster{})
	expectRefusal(t, err, "", "") // of nobody
}

func TestOnlyWhatHasBeenIsConfirmedToBeMissing(t *testing.T) {
	const refusal = `metadata.annotations[infrastructure.cluster.x-k8s.io/sendan-missing-confirmed]: Invalid value: `
	for value, want := range map[string]string{
		"2026-11-27T11:40:00Z": "",
		"yesterday":            refusal + `"yesterday": is not a time that has been`,
		"2999-01-01T00:00:00Z": refusal + `"2999-01-01T00:00:00Z": is not a time that has been`,
	} {
		old, updated := &infrav1.SendanCluster{}, &infrav1.SendanCluster{}
		updated.Annotations = map[string]string{infrav1.MissingConfirmedAnnotation: value}
		wanted := []string{want}
		if want == "" {
			wanted = nil
		}
		expectRefusals(t, validateClusterUpdate(old, updated), wanted...)
		expectRefusals(t, validateClusterUpdate(updated, updated)) // what was written before the rule
	}
}

// expectRefusal wants none when the end is empty.
func expectRefusal(t *testing.T, err error, begin, end string) {
	t.Helper()
	switch {
	case end == "" && err != nil:
		t.Errorf("refused: %v", err)
	case end != "" && (err == nil || !strings.Contains(err.Error(), begin+end)):
		t.Errorf("got %v\nwant …%s%s…", err, begin, end)
	}
}
