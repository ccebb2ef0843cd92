package controllers

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/utils/ptr"
	clusterv1 "sigs.k8s.io/cluster-api/api/core/v1beta2"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// apiServerPort is where kubeadm's API server listens on a control-plane machine.
const apiServerPort = 6443

// brokenGrace is how long a load balancer may stay in ERROR before anything is done about it:
// Octavia's own housekeeping often mends it.
const brokenGrace = time.Minute

type endpointKind int

const (
	modeLoadBalancer endpointKind = iota
	modeVirtualIP
	modeExternal
)

// endpointMode is how the API server is reached; unset means a load balancer.
func endpointMode(cluster *infrav1.SendanCluster) endpointKind {
	switch {
	case cluster.Spec.Endpoint.External != nil:
		return modeExternal
	case cluster.Spec.Endpoint.VirtualIP != nil:
		return modeVirtualIP
	}
	return modeLoadBalancer
}

// endpointPort is the port the API server is reached at.
func endpointPort(cluster *infrav1.SendanCluster) int32 {
	switch {
	case cluster.Spec.Endpoint.LoadBalancer != nil:
		return cmp.Or(cluster.Spec.Endpoint.LoadBalancer.Port, apiServerPort)
	case cluster.Spec.Endpoint.VirtualIP != nil:
		return cmp.Or(cluster.Spec.Endpoint.VirtualIP.Port, apiServerPort)
	}
	return apiServerPort
}

// wantedFloatingIP is what the spec says of a floating IP: a load balancer has one unless told
// otherwise, a virtual IP has one only when asked for.
func wantedFloatingIP(cluster *infrav1.SendanCluster) infrav1.FloatingIP {
	switch endpointMode(cluster) {
	case modeLoadBalancer:
		if lb := cluster.Spec.Endpoint.LoadBalancer; lb != nil {
			return lb.FloatingIP
		}
		return infrav1.FloatingIP{}
	case modeVirtualIP:
		if vip := cluster.Spec.Endpoint.VirtualIP; vip.FloatingIP != (infrav1.FloatingIP{}) {
			return vip.FloatingIP
		}
	}
	return infrav1.FloatingIP{Disabled: ptr.To(true)}
}

func wantsFloatingIP(cluster *infrav1.SendanCluster) bool {
	return !ptr.Deref(wantedFloatingIP(cluster).Disabled, false)
}

// needsExternalNetwork reports that something of the cluster is attached to the external network.
func needsExternalNetwork(cluster *infrav1.SendanCluster) bool {
	if wantsFloatingIP(cluster) && wantedFloatingIP(cluster).Address == "" {
		return true
	}
	managed := cluster.Spec.Network.Managed
	return managed != nil && !ptr.Deref(managed.RouterDisabled, false)
}

// endpointStep sees to the address of the API server.
func endpointStep(in clusterInput, has clusterObjects) step {
	const condition = infrav1.EndpointReadyCondition
	switch endpointMode(in.cluster) {
	case modeExternal:
		if !endpointOf(in, has).IsValid() {
			return waiting(condition, infrav1.WaitingForEndpointReason,
				"The endpoint is provided from outside: set spec.controlPlaneEndpoint of the Cluster or of this object.")
		}
		return done(condition)
	case modeVirtualIP:
		return virtualIPStep(in, has)
	}
	return loadBalancerStep(in, has)
}

func loadBalancerStep(in clusterInput, has clusterObjects) step {
	const condition = infrav1.EndpointReadyCondition
	lb := has.loadBalancer
	switch {
	case len(has.subnets) == 0:
		return waiting(condition, infrav1.CreatingReason, "The load balancer follows once the network is there.")
	case in.lookups.flavor.err != nil:
		return failing(condition, in.lookups.flavor.err, in.now)
	case lb == nil && goesAway(in):
		return waiting(condition, infrav1.WaitingForCloudReason, "The old load balancer is being deleted; a new one follows.")
	case lb == nil:
		return acting(in.attempts, condition, "Making the load balancer.", createLoadBalancer(in, has))
	case lb.ProvisioningStatus == "ERROR":
		return brokenLoadBalancer(in, *lb)
	}
	if s := floatingIPStep(in, has, lb.VIPPortID); !s.done() {
		return s
	}
	if lb.ProvisioningStatus == "PENDING_CREATE" {
		return waiting(condition, infrav1.WaitingForCloudReason, "Octavia is building load balancer %s.", lb.ID)
	}
	if !lb.IsPending() && lb.TreeKnown {
		if apiPool(in.cluster, *lb) == nil {
			why := fmt.Sprintf("Load balancer %s has lost its listener on port %d or the pool behind it.", lb.ID, endpointPort(in.cluster))
			return acting(in.attempts, condition, why, replaceLoadBalancer(*lb, why)).as(infrav1.MissingReason)
		}
		if actions := updateAllowedCIDRs(in, has); len(actions) > 0 {
			return acting(in.attempts, condition, "Changing who may reach the API server.", actions...)
		}
		// A change at a time: each makes the load balancer immutable for a moment.
		if actions := retag(cloud.KindLoadBalancer, roleEndpoint, lb.ID, lb.Tags, in.cluster.Spec.Tags); len(actions) > 0 {
			return acting(in.attempts, condition, "Tagging the load balancer.", actions...)
		}
	}
	return done(condition)
}

// goesAway reports that a load balancer of ours is on its way out and still holds its address.
func goesAway(in clusterInput) bool {
	return len(in.snapshot.LoadBalancersOf(in.marked(roleEndpoint))) > 0
}

func createLoadBalancer(in clusterInput, has clusterObjects) action {
	spec := ptr.Deref(in.cluster.Spec.Endpoint.LoadBalancer, infrav1.LoadBalancerEndpoint{})
	name := in.name + "-api"
	request := cloud.LoadBalancerRequest{
		Name: name, Mark: in.marked(roleEndpoint), VIPSubnetID: has.subnets[0].ID,
		Provider: spec.Provider, FlavorID: in.lookups.flavor.value, Tags: in.cluster.Spec.Tags,
		Listeners: []cloud.ListenerRequest{{
			Name: name, Protocol: "TCP", Port: int(endpointPort(in.cluster)), AllowedCIDRs: allowedCIDRs(in, has),
			Pool: cloud.PoolRequest{
				Name: name, Protocol: "TCP", Method: balancingMethod(spec.Provider), Members: wantedMembers(in, has),
				Monitor: &cloud.HealthMonitor{Type: "TCP", DelaySeconds: 5, TimeoutSeconds: 3, MaxRetries: 2, MaxRetriesDown: 3},
			},
		}},
	}
	if !wantsFloatingIP(in.cluster) {
		// Kubeconfigs and certificates hold the address: a new load balancer has to take it over.
		request.VIPAddress = addressOnly(in.cluster.Spec.ControlPlaneEndpoint.Host)
	}
	return action{
		key: createLoadBalancerKey, creates: cloud.KindLoadBalancer, lasting: true, event: "Created load balancer " + name,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateLoadBalancer(ctx, request)
			return err
		},
	}
}

// createLoadBalancerKey is the key of the note that counts load balancers that ended in ERROR.
const createLoadBalancerKey = "create load balancer"

// balancingMethod is round robin, except for OVN, which knows nothing but its own.
func balancingMethod(provider string) string {
	if provider == "ovn" {
		return "SOURCE_IP_PORT"
	}
	return "ROUND_ROBIN"
}

// addressOnly is a host if it is an address: a name cannot be asked of Neutron.
func addressOnly(host string) string {
	if net.ParseIP(host) == nil {
		return ""
	}
	return host
}

// brokenLoadBalancer mends a load balancer in ERROR, in which Octavia refuses every change. One that
// still serves is only failed over, which keeps its traffic; any other is deleted and made anew
// behind the same floating IP.
func brokenLoadBalancer(in clusterInput, lb cloud.LoadBalancer) step {
	const condition = infrav1.EndpointReadyCondition
	message := fmt.Sprintf("Load balancer %s is in ERROR (operating status %s); Octavia does not say why: see openstack loadbalancer show.", lb.ID, lb.OperatingStatus)
	since, known := in.since(condition, infrav1.LoadBalancerErrorReason)
	if !known {
		since = in.now
	}
	if act := since.Add(brokenGrace); isProvisioned(in.cluster) && in.now.Before(act) {
		s := waiting(condition, infrav1.LoadBalancerErrorReason, "%s Mending it at %s unless Octavia does.", message, act.UTC().Format(time.TimeOnly)).until(act)
		s.failed = true
		return s
	}
	mend := replaceLoadBalancer(lb, message)
	if lb.OperatingStatus == "ONLINE" || lb.OperatingStatus == "DEGRADED" {
		message += " It still serves, so it is failed over, for which Octavia may want an operator's rights."
		mend = action{
			key: "fail over load balancer", event: "Failed over load balancer " + lb.ID + ", which was in ERROR",
			run: func(ctx context.Context, s *cloud.Session) error { return s.FailoverLoadBalancer(ctx, lb.ID) },
		}
	}
	s := acting(in.attempts, condition, message, mend)
	if s.reason != infrav1.CreatingReason { // held back by a note
		s.message = message + " " + s.message
	}
	s.reason, s.failed = infrav1.LoadBalancerErrorReason, true
	return s
}

// replaceLoadBalancer deletes a load balancer that is of no use, so that a new one is made. The note
// it leaves holds the new one back the longer, the more often that happened.
func replaceLoadBalancer(lb cloud.LoadBalancer, why string) action {
	return action{
		key: "delete broken load balancer", event: "Deleted load balancer " + lb.ID + " to make a new one. " + why,
		run: func(ctx context.Context, s *cloud.Session) error { return s.DeleteLoadBalancer(ctx, lb.ID) },
		after: func(notes []infrav1.Attempt, now time.Time) []infrav1.Attempt {
			return noteFailure(notes, action{key: createLoadBalancerKey, creates: cloud.KindLoadBalancer}, cloud.Errorf(cloud.Transient, "%s", why), now)
		},
	}
}

// since is when a condition took its present reason.
func (in clusterInput) since(condition, reason string) (time.Time, bool) {
	for _, c := range in.cluster.Status.Conditions {
		if c.Type == condition && c.Reason == reason {
			return c.LastTransitionTime.Time, true
		}
	}
	return time.Time{}, false
}

// floatingIPStep sees that the endpoint's floating IP leads to a port.
func floatingIPStep(in clusterInput, has clusterObjects, portID string) step {
	const condition = infrav1.EndpointReadyCondition
	wanted := wantedFloatingIP(in.cluster)
	switch {
	case !wantsFloatingIP(in.cluster):
		return done(condition)
	case has.router != nil && !isConnected(in.snapshot, has.router.ID, has.subnets[0].ID):
		return waiting(condition, infrav1.CreatingReason, "The floating IP follows once the router is connected.")
	case has.floatingIP == nil && wanted.Address != "":
		return failing(condition, cloud.Errorf(cloud.Config, "spec.endpoint: floating IP %s does not exist in the project; allocate it, or remove address to have one made", wanted.Address), in.now).
			requiring(cloud.KindFloatingIP, in.now)
	case has.floatingIP == nil && in.lookups.externalNetwork.err != nil:
		return failing(condition, in.lookups.externalNetwork.err, in.now)
	case has.floatingIP == nil:
		return acting(in.attempts, condition, "Making the floating IP.", createFloatingIP(in, portID))
	case has.floatingIP.PortID == portID:
		return tagFloatingIP(in, *has.floatingIP)
	case has.floatingIP.PortID != "" && wanted.Address != "" && !in.isOurPort(has.floatingIP.PortID):
		return failing(condition, cloud.Errorf(cloud.Config, "spec.endpoint: floating IP %s is in use by port %s; free it or name another", wanted.Address, has.floatingIP.PortID), in.now).
			requiring(cloud.KindFloatingIP, in.now).requiring(cloud.KindPort, in.now)
	}
	id := has.floatingIP.ID
	return acting(in.attempts, condition, "Leading the floating IP to the endpoint.", action{
		key: "associate floating IP", event: "Associated floating IP " + has.floatingIP.Address,
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.AssociateFloatingIP(ctx, id, portID)
			return err
		},
	})
}

// tagFloatingIP leaves one that the user named as it is.
func tagFloatingIP(in clusterInput, ip cloud.FloatingIP) step {
	const condition = infrav1.EndpointReadyCondition
	if ip.Mark.Cluster != in.mark.Cluster {
		return done(condition)
	}
	if actions := retag(cloud.KindFloatingIP, roleEndpoint, ip.ID, ip.Tags, in.cluster.Spec.Tags); len(actions) > 0 {
		return acting(in.attempts, condition, "Tagging the floating IP.", actions...)
	}
	return done(condition)
}

// isOurPort reports that a port is the cluster's own: one with its mark, or its load balancer's. A
// port that is not listed yet may be anybody's.
func (in clusterInput) isOurPort(id string) bool {
	port, known := in.snapshot.Port(id)
	return known && port.Mark.Cluster == in.mark.Cluster || slices.ContainsFunc(
		in.snapshot.LoadBalancersOf(in.marked(roleEndpoint)), func(lb cloud.LoadBalancer) bool { return lb.VIPPortID == id })
}

func createFloatingIP(in clusterInput, portID string) action {
	request := cloud.FloatingIPRequest{
		Mark: in.marked(roleEndpoint), FloatingNetworkID: in.lookups.externalNetwork.value.ID, PortID: portID,
		// After somebody deleted it, only the same address keeps the cluster alive.
		Address: lostAddress(in.cluster),
	}
	return action{
		key: "create floating IP", creates: cloud.KindFloatingIP, event: "Created the endpoint's floating IP",
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreateFloatingIP(ctx, request)
			return err
		},
	}
}

// lostAddress is the floating IP that a provisioned cluster had.
func lostAddress(cluster *infrav1.SendanCluster) string {
	if !isProvisioned(cluster) {
		return ""
	}
	return addressOnly(cluster.Spec.ControlPlaneEndpoint.Host)
}

// allowedCIDRs are those the spec names and, since the cluster's own machines come from there, the
// subnets and the router's outer addresses. None means everybody.
func allowedCIDRs(in clusterInput, has clusterObjects) []string {
	lb := in.cluster.Spec.Endpoint.LoadBalancer
	if lb == nil || len(lb.AllowedCIDRs) == 0 {
		return nil
	}
	cidrs := slices.Clone(lb.AllowedCIDRs)
	isIPv4 := len(has.subnets) > 0 && has.subnets[0].CIDR.Addr().Is4() // the family of the load balancer's address
	for _, subnet := range has.subnets {
		if subnet.CIDR.Addr().Is4() == isIPv4 {
			cidrs = append(cidrs, subnet.CIDR.String())
		}
	}
	for _, address := range outerAddresses(in, has) {
		if ip, err := netip.ParseAddr(address); err == nil && ip.Is4() == isIPv4 {
			cidrs = append(cidrs, netip.PrefixFrom(ip, ip.BitLen()).String())
		}
	}
	slices.Sort(cidrs)
	return slices.Compact(cidrs)
}

// outerAddresses are those that the machines' traffic to the floating IP comes from.
func outerAddresses(in clusterInput, has clusterObjects) []string {
	if has.router != nil {
		return has.router.ExternalIPs
	}
	return in.lookups.router.value.ExternalIPs
}

func updateAllowedCIDRs(in clusterInput, has clusterObjects) []action {
	want := allowedCIDRs(in, has)
	var actions []action
	for _, listener := range has.loadBalancer.Listeners {
		if listener.Port != int(endpointPort(in.cluster)) || slices.Equal(slices.Sorted(slices.Values(listener.AllowedCIDRs)), want) {
			continue
		}
		id := listener.ID
		actions = append(actions, action{
			key: "update allowed CIDRs", event: "Changed the CIDRs that may reach the API server",
			run: func(ctx context.Context, s *cloud.Session) error { return s.UpdateListenerAllowedCIDRs(ctx, id, want) },
		})
	}
	return actions
}

func virtualIPStep(in clusterInput, has clusterObjects) step {
	const condition = infrav1.EndpointReadyCondition
	switch {
	case len(has.subnets) == 0:
		return waiting(condition, infrav1.CreatingReason, "The virtual IP follows once the network is there.")
	case has.virtualIP == nil && has.controlPlane == nil && managesSecurityGroups(in.cluster): // or Neutron gives it the project's default group
		return waiting(condition, infrav1.CreatingReason, "The virtual IP follows once the security groups are there.")
	case has.virtualIP == nil:
		return acting(in.attempts, condition, "Reserving the virtual IP.", reserveVirtualIP(in, has))
	}
	if actions := retag(cloud.KindPort, roleEndpoint, has.virtualIP.ID, has.virtualIP.Tags, in.cluster.Spec.Tags); len(actions) > 0 {
		return acting(in.attempts, condition, "Tagging the virtual IP.", actions...)
	}
	return floatingIPStep(in, has, has.virtualIP.ID)
}

func reserveVirtualIP(in clusterInput, has clusterObjects) action {
	address := in.cluster.Spec.Endpoint.VirtualIP.Address
	if address == "" && !wantsFloatingIP(in.cluster) {
		address = in.cluster.Spec.ControlPlaneEndpoint.Host
	}
	request := cloud.PortRequest{
		Name: in.name + "-api", Mark: in.marked(roleEndpoint), NetworkID: has.network.ID,
		FixedIPs: []cloud.FixedIP{{SubnetID: has.subnets[0].ID, IPAddress: address}},
	}
	if has.controlPlane != nil {
		request.SecurityGroups = &[]string{has.controlPlane.ID}
	}
	return action{
		key: "create virtual IP", creates: cloud.KindPort, event: "Reserved the endpoint's virtual IP",
		run: func(ctx context.Context, s *cloud.Session) error {
			_, err := s.CreatePort(ctx, request)
			return err
		},
	}
}

// innerAddress is the endpoint's address inside the network.
func (has clusterObjects) innerAddress() string {
	switch {
	case has.loadBalancer != nil:
		return has.loadBalancer.VIPAddress
	case has.virtualIP != nil && len(has.virtualIP.FixedIPs) > 0:
		return has.virtualIP.FixedIPs[0].IPAddress
	}
	return ""
}

// endpointOf is the endpoint as far as it is known. Once set it never changes.
func endpointOf(in clusterInput, has clusterObjects) infrav1.APIEndpoint {
	if in.cluster.Spec.ControlPlaneEndpoint.IsValid() {
		return in.cluster.Spec.ControlPlaneEndpoint
	}
	if endpointMode(in.cluster) == modeExternal {
		return infrav1.APIEndpoint{Host: in.ownerEndpoint.Host, Port: in.ownerEndpoint.Port}
	}
	host := has.innerAddress()
	if wantsFloatingIP(in.cluster) {
		host = ""
		if has.floatingIP != nil {
			host = has.floatingIP.Address
		}
	}
	if host == "" {
		return infrav1.APIEndpoint{}
	}
	return infrav1.APIEndpoint{Host: host, Port: endpointPort(in.cluster)}
}

// membersStep keeps the load balancer's members equal to the control-plane machines that are there
// to stay, written as one set.
func membersStep(in clusterInput, has clusterObjects) step {
	const condition = infrav1.MembersReadyCondition
	lb := has.loadBalancer
	if endpointMode(in.cluster) != modeLoadBalancer || lb == nil || len(has.subnets) == 0 {
		return done(condition) // without its subnets a machine's address in them is not known
	}
	if lb.ProvisioningStatus == "ERROR" {
		return waiting(condition, infrav1.LoadBalancerErrorReason, "Load balancer %s is in ERROR.", lb.ID)
	}
	pool := apiPool(in.cluster, *lb)
	if lb.IsPending() || !lb.TreeKnown || pool == nil {
		return waiting(condition, infrav1.WaitingForCloudReason, "Octavia is working on load balancer %s.", lb.ID)
	}
	want := wantedMembers(in, has)
	if sameMembers(pool.Members, want) {
		return expectingPorts(in, has, done(condition))
	}
	return acting(in.attempts, condition, "Setting the members of the load balancer.", action{
		key: "set members", event: "Set the load balancer's members: " + memberNames(want),
		run: func(ctx context.Context, s *cloud.Session) error { return s.SetPoolMembers(ctx, pool.ID, want) },
	}).as(infrav1.WaitingForCloudReason)
}

// apiPool is the pool behind the API server's listener. Somebody may have added others.
func apiPool(cluster *infrav1.SendanCluster, lb cloud.LoadBalancer) *cloud.Pool {
	for _, listener := range lb.Listeners {
		if listener.Port != int(endpointPort(cluster)) {
			continue
		}
		if i := slices.IndexFunc(lb.Pools, func(p cloud.Pool) bool { return p.ID == listener.DefaultPoolID }); i >= 0 {
			return &lb.Pools[i]
		}
	}
	return nil
}

// wantedMembers are the control-plane machines with an address that are not being deleted.
func wantedMembers(in clusterInput, has clusterObjects) []cloud.MemberRequest {
	members := []cloud.MemberRequest{}
	for _, machine := range in.machines {
		if !isControlPlane(&machine) || !machine.DeletionTimestamp.IsZero() {
			continue
		}
		if address := nodeAddress(in.snapshot, in.mark.Cluster, &machine, has.subnets); address.IPAddress != "" {
			members = append(members, cloud.MemberRequest{Name: machine.Name, Address: address.IPAddress, Port: apiServerPort, SubnetID: address.SubnetID})
		}
	}
	return members
}

// expectingPorts has the ports listed soon while a control-plane machine makes its own with
// credentials of its own, which this inventory does not hear of.
func expectingPorts(in clusterInput, has clusterObjects, s step) step {
	for _, machine := range in.machines {
		if isControlPlane(&machine) && machine.Spec.IdentityRef != nil && machine.DeletionTimestamp.IsZero() &&
			nodeAddress(in.snapshot, in.mark.Cluster, &machine, has.subnets).IPAddress == "" {
			return s.requiring(cloud.KindPort, in.now).until(in.now.Add(otherSessionRecheck))
		}
	}
	return s
}

func memberNames(members []cloud.MemberRequest) string {
	names := []string{}
	for _, member := range members {
		names = append(names, member.Name)
	}
	return cmp.Or(strings.Join(names, ", "), "none")
}

func sameMembers(have []cloud.Member, want []cloud.MemberRequest) bool {
	if len(have) != len(want) {
		return false
	}
	for _, member := range want {
		if !slices.ContainsFunc(have, func(m cloud.Member) bool { return m.Address == member.Address && m.Port == member.Port }) {
			return false
		}
	}
	return true
}

// nodeAddress is the address of a machine's first port, in the cluster's primary subnet if it is.
func nodeAddress(snapshot *cloud.Snapshot, cluster string, machine *infrav1.SendanMachine, subnets []cloud.Subnet) cloud.FixedIP {
	id := machine.Annotations[infrav1.OwnerIDAnnotation]
	if id == "" {
		return cloud.FixedIP{}
	}
	port := first(snapshot.PortsOf(cloud.Mark{Cluster: cluster, Machine: id, Role: portRole(0)}))
	if port == nil || len(port.FixedIPs) == 0 {
		return cloud.FixedIP{}
	}
	for _, ip := range port.FixedIPs {
		if len(subnets) > 0 && ip.SubnetID == subnets[0].ID {
			return ip
		}
	}
	return port.FixedIPs[0]
}

func isControlPlane(machine *infrav1.SendanMachine) bool {
	_, is := machine.Labels[clusterv1.MachineControlPlaneLabel]
	return is
}
