package webhooks

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"
	clusterctlv1 "sigs.k8s.io/cluster-api/cmd/clusterctl/api/v1alpha3"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

const (
	someID    = "0b0c3b5c-7a3d-4e0e-9c65-5f6f4f1b7a10"
	anotherID = "6f0c8a8e-29a1-4f5c-8a3b-1f4b2f4f9d21"
)

// cluster is a valid SendanCluster with every field that matters to updates, changed by the case.
func cluster(change func(*infrav1.SendanCluster)) *infrav1.SendanCluster {
	cluster := &infrav1.SendanCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "training", Annotations: map[string]string{}},
		Spec: infrav1.SendanClusterSpec{
			IdentityRef: infrav1.IdentityReference{Kind: infrav1.IdentitySecret, Name: "cloud", CloudName: "openstack", Region: "east"},
			Network: infrav1.ClusterNetwork{Managed: &infrav1.ManagedNetwork{
				CIDRs: []string{"10.6.0.0/24"}, DNSNameservers: []string{"10.0.0.2"}, MTU: 1450,
			}},
			ServerGroupPolicy: infrav1.SoftAntiAffinity,
			ProviderIDFormat:  infrav1.ProviderIDServer,
		},
	}
	change(cluster)
	return cluster
}

func TestAClusterUpdateIsRefusedWhereTheFieldIsImmutable(t *testing.T) {
	unchanged := func(*infrav1.SendanCluster) {}
	withLoadBalancer := func(c *infrav1.SendanCluster) {
		c.Spec.Endpoint.LoadBalancer = &infrav1.LoadBalancerEndpoint{Port: 6443}
	}
	withEndpoint := func(c *infrav1.SendanCluster) {
		c.Spec.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "192.0.2.4", Port: 6443}
	}
	annotated := func(key, value string) func(*infrav1.SendanCluster) {
		return func(c *infrav1.SendanCluster) { c.Annotations[key] = value }
	}
	cases := map[string]struct {
		before, after func(*infrav1.SendanCluster)
		want          []string
	}{
		"nothing":          {unchanged, unchanged, nil},
		"another Secret":   {unchanged, func(c *infrav1.SendanCluster) { c.Spec.IdentityRef.Name = "cloud-2" }, nil},
		"another identity": {unchanged, func(c *infrav1.SendanCluster) { c.Spec.IdentityRef.Kind = infrav1.IdentityClusterIdentity }, nil},
		"another region": {unchanged, func(c *infrav1.SendanCluster) { c.Spec.IdentityRef.Region = "west" },
			[]string{`spec.identityRef.region: Invalid value: "west": is immutable and was "east"; restore it`}},
		"other name servers": {unchanged, func(c *infrav1.SendanCluster) {
			c.Spec.Network.Managed.DNSNameservers = []string{"10.0.0.3", "10.0.0.4"}
		}, nil},
		"another CIDR": {unchanged, func(c *infrav1.SendanCluster) { c.Spec.Network.Managed.CIDRs[0] = "10.7.0.0/24" },
			[]string{`spec.network.managed.cidrs[0]: Invalid value: "10.7.0.0/24": is immutable and was "10.6.0.0/24"`}},
		"a second CIDR": {unchanged, func(c *infrav1.SendanCluster) { c.Spec.Network.Managed.CIDRs = []string{"10.6.0.0/24", "fd00:6::/64"} },
			[]string{`spec.network.managed.cidrs: Invalid value: ["10.6.0.0/24","fd00:6::/64"]: is immutable and was ["10.6.0.0/24"]`}},
		"no MTU": {unchanged, func(c *infrav1.SendanCluster) { c.Spec.Network.Managed.MTU = 0 },
			[]string{`spec.network.managed.mtu: Invalid value: null: is immutable and was 1450`}},
		"an existing network instead": {unchanged, func(c *infrav1.SendanCluster) { existingNetwork(&c.Spec) },
			[]string{`spec.network.existing: Invalid value`, `spec.network.managed: Invalid value`}},
		"another endpoint mode": {withLoadBalancer, func(c *infrav1.SendanCluster) { c.Spec.Endpoint.VirtualIP = &infrav1.VirtualIPEndpoint{Port: 6443} },
			[]string{`spec.endpoint.loadBalancer: Invalid value`, `spec.endpoint.virtualIP: Invalid value`}},
		"no floating IP any more": {withLoadBalancer, func(c *infrav1.SendanCluster) {
			withLoadBalancer(c)
			c.Spec.Endpoint.LoadBalancer.FloatingIP.Disabled = ptr.To(true)
		}, []string{`spec.endpoint.loadBalancer.floatingIP: Invalid value`}},
		"allowed ranges": {withLoadBalancer, func(c *infrav1.SendanCluster) {
			withLoadBalancer(c)
			c.Spec.Endpoint.LoadBalancer.AllowedCIDRs = []string{"192.0.2.0/24"}
		}, nil},
		"allowed ranges where the endpoint was left to the default": {unchanged, func(c *infrav1.SendanCluster) {
			withLoadBalancer(c)
			c.Spec.Endpoint.LoadBalancer.AllowedCIDRs = []string{"192.0.2.0/24"}
		}, nil},
		"garbled allowed ranges": {withLoadBalancer, func(c *infrav1.SendanCluster) {
			withLoadBalancer(c)
			c.Spec.Endpoint.LoadBalancer.AllowedCIDRs = []string{"office"}
		}, []string{`is not a CIDR`}},
		"the endpoint for the first time": {unchanged, withEndpoint, nil},
		"the endpoint once more": {withEndpoint, func(c *infrav1.SendanCluster) {
			c.Spec.ControlPlaneEndpoint = infrav1.APIEndpoint{Host: "192.0.2.5", Port: 6443}
		}, []string{`spec.controlPlaneEndpoint.host: Invalid value: "192.0.2.5": is immutable and was "192.0.2.4"`}},
		"the endpoint removed": {withEndpoint, unchanged, []string{`spec.controlPlaneEndpoint: Invalid value: null`}},
		"another format of provider ids": {unchanged, func(c *infrav1.SendanCluster) { c.Spec.ProviderIDFormat = infrav1.ProviderIDRegional },
			[]string{`spec.providerIDFormat: Invalid value: "RegionalServerID": is immutable`}},
		"another server group policy": {unchanged, func(c *infrav1.SendanCluster) { c.Spec.ServerGroupPolicy = infrav1.AntiAffinity },
			[]string{`spec.serverGroupPolicy: Invalid value: "AntiAffinity": is immutable`}},
		"failure domains, tags and rules": {unchanged, func(c *infrav1.SendanCluster) {
			c.Spec.FailureDomains = []infrav1.FailureDomain{{Name: "room-1"}}
			c.Spec.Tags = []string{"gpu"}
			c.Spec.SecurityGroups.Rules = []infrav1.SecurityGroupRule{{Name: "ssh", Protocol: "tcp", PortMin: 22}}
		}, nil},

		"the owner id for the first time": {unchanged, annotated(infrav1.OwnerIDAnnotation, someID), nil},
		"an owner id that is no UUID": {unchanged, annotated(infrav1.OwnerIDAnnotation, "training"),
			[]string{`metadata.annotations[infrastructure.cluster.x-k8s.io/sendan-owner-id]: Invalid value: "training": is not a UUID`}},
		"another owner id": {annotated(infrav1.OwnerIDAnnotation, someID), annotated(infrav1.OwnerIDAnnotation, anotherID),
			[]string{`is immutable once set and was "` + someID + `"`}},
		"no owner id any more": {annotated(infrav1.OwnerIDAnnotation, someID), unchanged, []string{`is immutable once set`}},
		"nothing but the mark of clusterctl move": {func(c *infrav1.SendanCluster) {
			c.Annotations = map[string]string{infrav1.OwnerIDAnnotation: someID, clusterv1.ManagedByAnnotation: "terraform"}
		}, annotated(clusterctlv1.DeleteForMoveAnnotation, ""), nil},
		"another owner id by clusterctl move": {annotated(infrav1.OwnerIDAnnotation, someID), func(c *infrav1.SendanCluster) {
			c.Annotations = map[string]string{infrav1.OwnerIDAnnotation: anotherID, clusterctlv1.DeleteForMoveAnnotation: ""}
		}, []string{`is immutable once set and was "` + someID + `"`}},
		"managed by something else":         {unchanged, annotated(clusterv1.ManagedByAnnotation, "terraform"), nil},
		"not managed by something any more": {annotated(clusterv1.ManagedByAnnotation, "terraform"), unchanged, []string{`metadata.annotations[cluster.x-k8s.io/managed-by]: Forbidden: "terraform" manages this cluster`}},
		"a label where an old rule let something through": {
			func(c *infrav1.SendanCluster) { c.Spec.Tags = []string{"a,b"} },
			func(c *infrav1.SendanCluster) {
				c.Spec.Tags = []string{"a,b"}
				c.Labels = map[string]string{"team": "a"}
			}, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			expectRefusals(t, validateClusterUpdate(cluster(c.before), cluster(c.after)), c.want...)
		})
	}
}

func TestAnOwnerIDOfAnotherClusterIsRefused(t *testing.T) {
	owner := cluster(func(c *infrav1.SendanCluster) {
		c.Name, c.UID = "owner", someID
		c.Annotations[infrav1.OwnerIDAnnotation] = someID
	})
	fresh := cluster(func(c *infrav1.SendanCluster) { c.Name, c.UID, c.Annotations = "fresh", anotherID, nil })
	reader := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(owner, fresh).Build()

	thief := func(id string) *infrav1.SendanCluster {
		return cluster(func(c *infrav1.SendanCluster) { c.Annotations[infrav1.OwnerIDAnnotation] = id })
	}
	const free = "f2b9c7f0-8b1e-4a6f-bb0c-3b1c7d2f5e32"
	for name, c := range map[string]struct {
		cluster *infrav1.SendanCluster
		refused bool
	}{
		"a moved cluster keeps its id":                           {thief(free), false},
		"the annotation of another":                              {thief(someID), true},
		"the UID of another that has not written its annotation": {thief(anotherID), true},
		"its own":                  {owner, false},
		"none, for the first time": {cluster(func(*infrav1.SendanCluster) {}), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := clusterValidator{reader: reader}.ValidateCreate(t.Context(), c.cluster)
			if refused := err != nil; refused != c.refused {
				t.Errorf("got %v, want refused: %v", err, c.refused)
			}
		})
	}
}

func scheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := infrav1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	return scheme
}
