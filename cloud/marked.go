package cloud

import (
	"context"
	"time"
)

// Marked is any object that carries a mark.
type Marked struct {
	Kind     Kind
	ID, Name string
	Mark     Mark
	// Created is zero where the cloud does not tell, as Nova does not of server groups.
	Created time.Time
}

// Marked are the objects of a kind that carry a mark, whoever's, ordered by it.
func (s *Snapshot) Marked(kind Kind) []Marked {
	var found []Marked
	s.tables[kind].index.walk(byOwner, func(_ string, o object) bool {
		name, created := nameAndAge(o)
		found = append(found, Marked{Kind: kind, ID: o.id(), Name: name, Mark: o.mark(), Created: created})
		return true
	})
	return found
}

func nameAndAge(o object) (name string, created time.Time) {
	switch o := o.(type) {
	case Network:
		return o.Name, o.Created
	case Subnet:
		return o.Name, o.Created
	case Router:
		return o.Name, o.Created
	case SecurityGroup:
		return o.Name, o.Created
	case ServerGroup:
		return o.Name, time.Time{}
	case Port:
		return o.Name, o.Created
	case Volume:
		return o.Name, o.Created
	case Server:
		return o.Name, o.Created
	case FloatingIP:
		return o.Address, o.Created
	case LoadBalancer:
		return o.Name, o.Created
	}
	return "", time.Time{}
}

// Kinds are all that the inventory holds, in the order in which objects can be deleted: each before what it uses.
func Kinds() []Kind {
	return []Kind{
		KindServer, KindLoadBalancer, KindFloatingIP, KindPort, KindVolume,
		KindRouter, KindSubnet, KindNetwork, KindSecurityGroup, KindServerGroup,
	}
}

// Delete begins to delete an object of any kind, with what it holds itself: the trunk of a port, and the interfaces of a
// router to subnets of the same cluster.
func (s *Session) Delete(ctx context.Context, kind Kind, id string) error {
	switch kind {
	case KindServer:
		return s.DeleteServer(ctx, id)
	case KindLoadBalancer:
		return s.DeleteLoadBalancer(ctx, id)
	case KindFloatingIP:
		return s.DeleteFloatingIP(ctx, id)
	case KindPort:
		return s.deletePortWithTrunk(ctx, id)
	case KindVolume:
		return s.DeleteVolume(ctx, id)
	case KindRouter:
		return s.deleteRouterWithInterfaces(ctx, id)
	case KindSubnet:
		return s.DeleteSubnet(ctx, id)
	case KindNetwork:
		return s.DeleteNetwork(ctx, id)
	case KindSecurityGroup:
		return s.DeleteSecurityGroup(ctx, id)
	case KindServerGroup:
		return s.DeleteServerGroup(ctx, id)
	}
	return Errorf(Config, "nothing is known about the kind %q", kind)
}

func (s *Session) deletePortWithTrunk(ctx context.Context, id string) error {
	if port, _ := s.Inventory().Snapshot().Port(id); port.TrunkID != "" {
		if err := s.DeleteTrunk(ctx, port.TrunkID); err != nil {
			return err
		}
	}
	return s.DeletePort(ctx, id)
}

func (s *Session) deleteRouterWithInterfaces(ctx context.Context, id string) error {
	snapshot := s.Inventory().Snapshot()
	router, _ := snapshot.Router(id)
	for _, port := range snapshot.PortsOfDevice(id) {
		for _, ip := range port.FixedIPs {
			if subnet, _ := snapshot.Subnet(ip.SubnetID); subnet.Mark.IsZero() || subnet.Mark.Cluster != router.Mark.Cluster {
				continue // the external network's, or somebody else's
			}
			if err := s.RemoveRouterInterface(ctx, id, ip.SubnetID); err != nil {
				return err
			}
		}
	}
	return s.DeleteRouter(ctx, id)
}
