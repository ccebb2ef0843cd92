package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/clientcmd"
	controlplanev1 "sigs.k8s.io/cluster-api/api/controlplane/kubeadm/v1beta2"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

const (
	fieldOwner = client.FieldOwner("sendan-cli")
	// cloudsYAMLKey is the key of an identity's Secret.
	cloudsYAMLKey = "clouds.yaml"
	// kubeconfigKey is where Cluster API puts a tenant cluster's kubeconfig into its Secret.
	kubeconfigKey = "value"
)

// tenant is one tenant cluster, seen from the management cluster.
type tenant struct {
	client    client.Client
	namespace string
	name      string
	manifests []*unstructured.Unstructured
}

// newTenant reads the manifests of one cluster, which is to live in namespace.
func newTenant(c client.Client, namespace string, manifests []byte) (*tenant, error) {
	objects, err := plane.ParseManifests(manifests)
	if err != nil {
		return nil, fmt.Errorf("read cluster manifests: %w", err)
	}
	t := &tenant{client: c, namespace: namespace, manifests: objects}
	for _, object := range objects {
		object.SetNamespace(namespace)
		if object.GetKind() == "Cluster" {
			t.name = object.GetName()
		}
	}
	if t.name == "" {
		return nil, errors.New("the manifests hold no Cluster")
	}
	return t, nil
}

// apply makes the namespace, the Secret with the credentials, and the cluster.
func (t *tenant) apply(ctx context.Context, cloudsYAML []byte) error {
	if err := t.applyNamespace(ctx); err != nil {
		return err
	}
	identity, err := t.identity()
	if err != nil {
		return err
	}
	if err := storeCredentials(ctx, t.client, t.namespace, identity, cloudsYAML); err != nil {
		return err
	}
	return applyAll(ctx, t.client, t.manifests)
}

func (t *tenant) delete(ctx context.Context) error {
	cluster := &clusterv1.Cluster{ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Name: t.name}}
	if err := t.client.Delete(ctx, cluster); err != nil {
		return fmt.Errorf("delete Cluster %s: %w", t.name, err)
	}
	return nil
}

func applyAll(ctx context.Context, c client.Client, objects []*unstructured.Unstructured) error {
	for _, object := range objects {
		if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

func storeCredentials(ctx context.Context, c client.Client, namespace, name string, cloudsYAML []byte) error {
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Data:       map[string][]byte{cloudsYAMLKey: cloudsYAML},
	}
	err := c.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		err = c.Update(ctx, secret)
	}
	if err != nil {
		return fmt.Errorf("store credentials in Secret %s: %w", name, err)
	}
	return nil
}

func (t *tenant) applyNamespace(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: t.namespace}}
	if err := client.IgnoreAlreadyExists(t.client.Create(ctx, namespace)); err != nil {
		return fmt.Errorf("create namespace %s: %w", t.namespace, err)
	}
	return nil
}

// identity is the name of the Secret that the manifests refer to.
func (t *tenant) identity() (string, error) {
	for _, object := range t.manifests {
		if object.GetKind() != "SendanCluster" {
			continue
		}
		name, _, err := unstructured.NestedString(object.Object, "spec", "identityRef", "name")
		if err == nil && name != "" {
			return name, nil
		}
	}
	return "", errors.New("the manifests hold no SendanCluster with an identityRef")
}

// state is everything about a tenant cluster at one moment.
type state struct {
	cluster        *clusterv1.Cluster // nil when it is not there
	infrastructure *infrav1.SendanCluster
	controlPlanes  []controlplanev1.KubeadmControlPlane
	pools          []clusterv1.MachineDeployment
	machines       []clusterv1.Machine // control plane first, then by age and name
	servers        map[string]infrav1.SendanMachine
}

func (t *tenant) state(ctx context.Context) (*state, error) {
	s := &state{cluster: &clusterv1.Cluster{}, servers: map[string]infrav1.SendanMachine{}}
	err := t.client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: t.name}, s.cluster)
	if apierrors.IsNotFound(err) {
		s.cluster = nil
	} else if err != nil {
		return nil, fmt.Errorf("read Cluster: %w", err)
	}
	infrastructure := &infrav1.SendanClusterList{}
	controlPlanes := &controlplanev1.KubeadmControlPlaneList{}
	pools := &clusterv1.MachineDeploymentList{}
	machines := &clusterv1.MachineList{}
	servers := &infrav1.SendanMachineList{}
	for _, list := range []client.ObjectList{infrastructure, controlPlanes, pools, machines, servers} {
		if err := t.client.List(ctx, list, client.InNamespace(t.namespace), client.MatchingLabels{clusterv1.ClusterNameLabel: t.name}); err != nil {
			return nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	if len(infrastructure.Items) > 0 {
		s.infrastructure = &infrastructure.Items[0]
	}
	s.controlPlanes, s.pools, s.machines = controlPlanes.Items, pools.Items, machines.Items
	slices.SortFunc(s.machines, compareMachines)
	for _, server := range servers.Items {
		s.servers[server.Name] = server
	}
	return s, nil
}

func compareMachines(a, b clusterv1.Machine) int {
	if isControlPlane(a) != isControlPlane(b) {
		if isControlPlane(a) {
			return -1
		}
		return 1
	}
	if byAge := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); byAge != 0 {
		return byAge
	}
	return strings.Compare(a.Name, b.Name)
}

func isControlPlane(machine clusterv1.Machine) bool {
	_, found := machine.Labels[clusterv1.MachineControlPlaneLabel]
	return found
}

// tenantAPI is a client of the tenant cluster's own API server.
func (t *tenant) tenantAPI(ctx context.Context) (client.Client, error) {
	kubeconfig, err := t.kubeconfig(ctx)
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig of cluster %s: %w", t.name, err)
	}
	api, err := client.New(config, client.Options{Scheme: t.client.Scheme()})
	if err != nil {
		return nil, fmt.Errorf("connect to cluster %s: %w", t.name, err)
	}
	return api, nil
}

func (t *tenant) kubeconfig(ctx context.Context) ([]byte, error) {
	secret := &corev1.Secret{}
	if err := t.client.Get(ctx, client.ObjectKey{Namespace: t.namespace, Name: t.name + "-kubeconfig"}, secret); err != nil {
		return nil, fmt.Errorf("get kubeconfig of cluster %s: %w", t.name, err)
	}
	return secret.Data[kubeconfigKey], nil
}

func (t *tenant) writeKubeconfig(ctx context.Context, file string) error {
	kubeconfig, err := t.kubeconfig(ctx)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig of cluster %s: %w", t.name, err)
	}
	return nil
}

// nodes of the tenant cluster, as its own API server shows them.
func (t *tenant) nodes(ctx context.Context) ([]corev1.Node, error) {
	api, err := t.tenantAPI(ctx)
	if err != nil {
		return nil, err
	}
	nodes := &corev1.NodeList{}
	if err := api.List(ctx, nodes); err != nil {
		return nil, fmt.Errorf("list nodes of cluster %s: %w", t.name, err)
	}
	return nodes.Items, nil
}
