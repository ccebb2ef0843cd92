package cloud

import (
	"fmt"
	"slices"
	"strings"
)

// FloatingIPByAddress finds a floating IP of the project, ours or not, by its address. It looks at
// all of them, so it is for the rare case that a user names one.
func (s *Snapshot) FloatingIPByAddress(address string) *FloatingIP {
	for _, ip := range all[FloatingIP](s) {
		if ip.Address == address {
			return &ip
		}
	}
	return nil
}

// The next three look at all objects of a kind, too. They are for the end of a cluster.

// LoadBalancersOnNetwork are the project's load balancers, ours and others', whose ports are on a network.
func (s *Snapshot) LoadBalancersOnNetwork(networkID string) []LoadBalancer {
	return slices.DeleteFunc(all[LoadBalancer](s), func(lb LoadBalancer) bool {
		port, known := s.Port(lb.VIPPortID)
		return !known || port.NetworkID != networkID
	})
}

// FloatingIPsOfPort are the project's floating IPs, ours and others', that lead to a port.
func (s *Snapshot) FloatingIPsOfPort(portID string) []FloatingIP {
	return slices.DeleteFunc(all[FloatingIP](s), func(ip FloatingIP) bool { return portID == "" || ip.PortID != portID })
}

// VolumesWith are the project's volumes, ours and others', with an entry of metadata.
func (s *Snapshot) VolumesWith(key, value string) []Volume {
	return slices.DeleteFunc(all[Volume](s), func(v Volume) bool {
		found, there := v.Metadata[key]
		return !there || found != value
	})
}

// FindSecurityGroup finds the one security group of the project that matches. Fields left empty
// match anything. None or several is a Config error that lists what there is.
func (s *Snapshot) FindSecurityGroup(id, name string, tags []string) (SecurityGroup, error) {
	var found []SecurityGroup
	var names []string
	for _, group := range all[SecurityGroup](s) {
		names = append(names, fmt.Sprintf("%s (%s)", group.Name, group.ID))
		if (id == "" || id == group.ID) && (name == "" || name == group.Name) &&
			!slices.ContainsFunc(tags, func(tag string) bool { return !slices.Contains(group.Tags, tag) }) {
			found = append(found, group)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	return SecurityGroup{}, Errorf(Config, "%d security groups match %s, one must; the project has: %s",
		len(found), filterText("security group", id, name, tags), strings.Join(names[:min(len(names), 20)], ", "))
}

// all are the objects of a kind in the order of their ids.
func all[T object](s *Snapshot) []T {
	var none T
	var objects []T
	s.tables[none.kind()].byID.walk("", func(_ string, o object) bool {
		objects = append(objects, o.(T))
		return true
	})
	return objects
}
