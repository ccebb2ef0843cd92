package controllers

import (
	"context"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

func TestAChangedSecretBringsBackWhoUsesItAndNobodyElse(t *testing.T) {
	w := newWorld(t)
	ctx := context.Background()
	w.must(w.client.Create(ctx, &infrav1.SendanClusterIdentity{
		ObjectMeta: metav1.ObjectMeta{Name: "shared"},
		Spec:       infrav1.SendanClusterIdentitySpec{SecretRef: infrav1.IdentitySecretReference{Namespace: "platform", Name: "operator"}},
	}))
	shared := infrav1.IdentityReference{Kind: infrav1.IdentityClusterIdentity, Name: "shared", CloudName: "sim"}
	w.addCluster("tenant", "own")
	w.addCluster("tenant", "shared", func(c *infrav1.SendanCluster) { c.Spec.IdentityRef = shared })
	w.addMachine("tenant", "own", "follows-its-cluster")
	w.addMachine("tenant", "own", "has-its-own", func(m *infrav1.SendanMachine) { m.Spec.IdentityRef = &shared })
	for _, c := range []struct{ namespace, name, cluster, machine string }{
		{"tenant", secretName, "own", ""},
		{"platform", "operator", "shared", "has-its-own"},
		{"platform", secretName, "", ""},
	} {
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: c.name}}
		var cluster, machine string
		for _, r := range w.process.clusters.clustersUsingSecret(ctx, secret) {
			cluster += r.Name
		}
		for _, r := range w.process.machines.machinesUsingSecret(ctx, secret) {
			machine += r.Name
		}
		if cluster != c.cluster || machine != c.machine {
			t.Errorf("Secret %s/%s brings back cluster %q and machine %q, want %q and %q", c.namespace, c.name, cluster, machine, c.cluster, c.machine)
		}
	}
}
