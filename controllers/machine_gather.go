package controllers

import (
	"context"
	"fmt"
	"strconv"

	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
	"github.com/sendan-io/sendan/cloud"
)

// lookUpMachine asks the catalog for what the spec of a new machine names.
func lookUpMachine(ctx context.Context, session *cloud.Session, scope *machineScope) machineLookups {
	spec := scope.obj.Spec
	return machineLookups{
		flavor: look(flavorByNameOrID(ctx, session, spec.Flavor)),
		image:  look(session.Image(ctx, cloud.ImageFilter{ID: spec.Image.ID, Name: spec.Image.Name, Tags: spec.Image.Tags})),
		ports:  look(resolvePorts(ctx, session, scope)),
	}
}

// resolvePorts turns the ports of the spec into requests.
func resolvePorts(ctx context.Context, session *cloud.Session, scope *machineScope) ([]cloud.PortRequest, error) {
	var requests []cloud.PortRequest
	for i, port := range wantedPorts(scope.obj) {
		request, err := resolvePort(ctx, session, scope, i, port)
		if err != nil {
			return nil, fmt.Errorf("spec.ports[%d]: %w", i, err)
		}
		requests = append(requests, request)
	}
	return requests, nil
}

func resolvePort(ctx context.Context, session *cloud.Session, scope *machineScope, i int, port infrav1.Port) (cloud.PortRequest, error) {
	request := cloud.PortRequest{
		Name: scope.obj.Name + "-" + strconv.Itoa(i), NetworkID: scope.infraCluster.Status.Network.ID, VNICType: port.VNICType,
		Mark: cloud.Mark{
			Cluster: scope.infraCluster.Annotations[infrav1.OwnerIDAnnotation],
			Machine: scope.obj.Annotations[infrav1.OwnerIDAnnotation], Role: portRole(i),
		},
	}
	onClusterNetwork := true
	if port.Network.ID != "" || port.Network.Name != "" || len(port.Network.Tags) > 0 {
		network, err := session.Network(ctx, networkFilter(port.Network))
		if err != nil {
			return request, err
		}
		onClusterNetwork = network.ID == request.NetworkID
		request.NetworkID = network.ID
	}
	var err error
	if request.FixedIPs, err = fixedIPs(ctx, session, scope, port, request.NetworkID, onClusterNetwork); err != nil {
		return request, err
	}
	if request.Profile, err = jsonObject(port.Profile); err != nil {
		return request, cloud.Errorf(cloud.Config, "profile: %v", err)
	}
	if err := secure(&request, session, scope, port); err != nil {
		return request, err
	}
	for _, pair := range port.AllowedAddressPairs {
		request.AllowedAddressPairs = append(request.AllowedAddressPairs, cloud.AddressPair{IPAddress: pair.IPAddress, MACAddress: pair.MACAddress})
	}
	if i == 0 && isControlPlane(scope.obj) && endpointMode(scope.infraCluster) == modeVirtualIP {
		request.AllowedAddressPairs = append(request.AllowedAddressPairs, cloud.AddressPair{IPAddress: scope.infraCluster.Status.Endpoint.Address})
	}
	return request, nil
}

// fixedIPs says which subnets a port takes an address from: those it names, those of its failure
// domain, or one of the cluster's for each IP family. Nothing leaves it to Neutron.
func fixedIPs(ctx context.Context, session *cloud.Session, scope *machineScope, port infrav1.Port, networkID string, onClusterNetwork bool) ([]cloud.FixedIP, error) {
	refs := port.Subnets
	if len(refs) == 0 && onClusterNetwork {
		refs = domainSubnets(scope)
	}
	var ips []cloud.FixedIP
	for _, ref := range refs {
		subnet, err := session.Subnet(ctx, cloud.SubnetFilter{ID: ref.ID, Name: ref.Name, Tags: ref.Tags, NetworkID: networkID})
		if err != nil {
			return nil, err
		}
		ips = append(ips, cloud.FixedIP{SubnetID: subnet.ID})
	}
	if len(ips) > 0 || !onClusterNetwork {
		return ips, nil
	}
	if scope.infraCluster.Spec.Network.Managed != nil {
		for _, id := range scope.infraCluster.Status.Network.SubnetIDs {
			ips = append(ips, cloud.FixedIP{SubnetID: id})
		}
		return ips, nil
	}
	if len(scope.infraCluster.Spec.Network.Existing.Subnets) == 0 {
		return nil, nil
	}
	var subnets []cloud.Subnet
	for _, id := range scope.infraCluster.Status.Network.SubnetIDs {
		subnet, err := session.Subnet(ctx, cloud.SubnetFilter{ID: id})
		if err != nil {
			return nil, err
		}
		subnets = append(subnets, subnet)
	}
	for _, subnet := range onePerFamily(subnets) {
		ips = append(ips, cloud.FixedIP{SubnetID: subnet.ID})
	}
	return ips, nil
}

func domainSubnets(scope *machineScope) []infrav1.ResourceReference {
	if scope.machine == nil {
		return nil
	}
	for _, domain := range scope.infraCluster.Spec.FailureDomains {
		if domain.Name == scope.machine.Spec.FailureDomain {
			return domain.Subnets
		}
	}
	return nil
}

// secure gives a port its security groups: the managed one of its role and those the spec names.
func secure(request *cloud.PortRequest, session *cloud.Session, scope *machineScope, port infrav1.Port) error {
	if ptr.Deref(port.PortSecurityDisabled, false) {
		request.PortSecurity, request.SecurityGroups = ptr.To(false), &[]string{}
		return nil
	}
	var groups []string
	if managesSecurityGroups(scope.infraCluster) {
		group := scope.infraCluster.Status.Network.WorkerSecurityGroupID
		if isControlPlane(scope.obj) {
			group = scope.infraCluster.Status.Network.ControlPlaneSecurityGroupID
		}
		groups = append(groups, group)
	}
	for _, ref := range port.SecurityGroups {
		group, err := session.Inventory().Snapshot().FindSecurityGroup(ref.ID, ref.Name, ref.Tags)
		if err != nil {
			return err
		}
		groups = append(groups, group.ID)
	}
	if len(groups) > 0 {
		request.SecurityGroups = &groups
	}
	return nil
}
