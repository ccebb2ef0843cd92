package controllers

import (
	"net/netip"
	"slices"

	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// The roles of a cluster's cloud objects.
const (
	roleNetwork           = "network"
	roleSubnet            = "subnet-" // and its number
	roleRouter            = "router"
	roleControlPlaneGroup = "control-plane"
	roleWorkerGroup       = "worker"
	roleEndpoint          = "api"
	rolePool              = "pool-" // and the name of the machine deployment or set
)

// clusterInput is everything the plan of a cluster may look at.
type clusterInput struct {
	attempts
	cluster *infrav1.SendanCluster
	mark    cloud.Mark
	// name is what cloud objects are called: "<namespace>-<name>", for people only.
	name string
	// ownerEndpoint is the endpoint the Cluster was given, for the mode External.
	ownerEndpoint clusterv1.APIEndpoint
	lookups       clusterLookups
	// machines of the cluster, in the order of their names.
	machines []infrav1.SendanMachine
	// namesakes are other clusters of the same name in the project; known during a deletion.
	namesakes []string
}

// clusterLookups are answers of the cloud's catalog to what the spec names.
type clusterLookups struct {
	externalNetwork lookup[cloud.Network]
	network         lookup[cloud.Network]  // existing
	subnets         lookup[[]cloud.Subnet] // existing
	router          lookup[cloud.Router]   // existing
	flavor          lookup[string]         // of the load balancer, its id
	zones           lookup[[]cloud.Zone]
}

// lookup is an answer or the reason there is none. One that nobody asked for is the zero value.
type lookup[T any] struct {
	value T
	err   error
}

// clusterObjects are the cloud objects a cluster has by now.
type clusterObjects struct {
	network      *cloud.Network
	subnets      []cloud.Subnet // in the order of the spec, as far as they are there
	router       *cloud.Router
	controlPlane *cloud.SecurityGroup
	worker       *cloud.SecurityGroup
	loadBalancer *cloud.LoadBalancer
	virtualIP    *cloud.Port
	floatingIP   *cloud.FloatingIP
}

// planCluster is the ordered list of steps to a working cluster infrastructure.
func planCluster(in clusterInput) []step {
	if s, stale := inventoryStep(in.attempts, clusterKinds(in.cluster)); stale {
		return []step{s}
	}
	has := in.objects()
	return []step{
		done(infrav1.IdentityReadyCondition),
		networkStep(in, has),
		securityGroupsStep(in, has),
		endpointStep(in, has),
		failureDomainsStep(in),
		serverGroupsStep(in),
		membersStep(in, has),
	}
}

// clusterKinds are the kinds of objects the plan of a cluster reads.
func clusterKinds(cluster *infrav1.SendanCluster) []cloud.Kind {
	kinds := []cloud.Kind{
		cloud.KindNetwork, cloud.KindSubnet, cloud.KindRouter, cloud.KindSecurityGroup, cloud.KindPort,
		cloud.KindFloatingIP, cloud.KindServerGroup,
	}
	if endpointMode(cluster) == modeLoadBalancer {
		kinds = append(kinds, cloud.KindLoadBalancer)
	}
	return kinds
}

// inventoryStep holds everything back until the kinds have been listed, and while what was listed
// is not to be believed.
func inventoryStep(in attempts, kinds []cloud.Kind) (step, bool) {
	for _, kind := range kinds {
		if err := in.snapshot.Err(kind); cloud.ClassOf(err) == cloud.Auth || err != nil && !in.snapshot.Fresh(kind) {
			return failing(infrav1.IdentityReadyCondition, err, in.now), true
		}
		if err := in.snapshot.Suspicious(kind); err != nil {
			return failing(infrav1.IdentityReadyCondition, err, in.now), true
		}
	}
	if !in.snapshot.Fresh(kinds...) {
		return waiting(infrav1.IdentityReadyCondition, infrav1.WaitingForInventoryReason, "The project is being listed for the first time.").
			until(in.now.Add(firstListing)), true
	}
	return step{}, false
}

// objects finds the cluster's objects in the inventory.
func (in clusterInput) objects() clusterObjects {
	has := clusterObjects{
		controlPlane: first(in.snapshot.SecurityGroupsOf(in.marked(roleControlPlaneGroup))),
		worker:       first(in.snapshot.SecurityGroupsOf(in.marked(roleWorkerGroup))),
		virtualIP:    first(in.snapshot.PortsOf(in.marked(roleEndpoint))),
	}
	balancers := in.snapshot.LoadBalancersOf(in.marked(roleEndpoint))
	balancers = slices.DeleteFunc(balancers, func(lb cloud.LoadBalancer) bool { return lb.ProvisioningStatus == "PENDING_DELETE" })
	has.loadBalancer = first(balancers)
	has.floatingIP = in.floatingIP()
	if existing := in.cluster.Spec.Network.Existing; existing != nil {
		if in.lookups.network.value.ID != "" {
			has.network = &in.lookups.network.value
		}
		has.subnets = in.lookups.subnets.value
		return has
	}
	has.network = first(in.snapshot.NetworksOf(in.marked(roleNetwork)))
	has.router = first(in.snapshot.RoutersOf(in.marked(roleRouter)))
	for i := range in.cluster.Spec.Network.Managed.CIDRs {
		if subnet := first(in.snapshot.SubnetsOf(in.marked(subnetRole(i)))); subnet != nil {
			has.subnets = append(has.subnets, *subnet)
		}
	}
	return has
}

// floatingIP is the endpoint's floating IP: ours, or the one the spec names.
func (in clusterInput) floatingIP() *cloud.FloatingIP {
	if address := wantedFloatingIP(in.cluster).Address; address != "" {
		return in.snapshot.FloatingIPByAddress(address)
	}
	return first(in.snapshot.FloatingIPsOf(in.marked(roleEndpoint)))
}

func (in clusterInput) marked(role string) cloud.Mark {
	return cloud.Mark{Cluster: in.mark.Cluster, Role: role}
}

// families are the IP versions of the cluster's network: "IPv4", "IPv6".
func (has clusterObjects) families() []string {
	var families []string
	for _, subnet := range has.subnets {
		if family := familyOf(subnet.CIDR); !slices.Contains(families, family) {
			families = append(families, family)
		}
	}
	slices.Sort(families)
	return families
}

func familyOf(prefix netip.Prefix) string {
	if prefix.Addr().Is4() {
		return "IPv4"
	}
	return "IPv6"
}

func first[T any](items []T) *T {
	if len(items) == 0 {
		return nil
	}
	return &items[0]
}
