package cloud

import (
	"context"
	"net/http"
	"time"
)

// SetTags replaces the tags of an object. Server groups and volumes have none. Tags are for people,
// so on a cloud whose Neutron lacks them nothing is sent and nothing fails; the inventory shows them
// as set all the same, because a caller that compares would ask for them again and again.
func (s *Session) SetTags(ctx context.Context, kind Kind, id string, tags []string) error {
	tags = sorted(tags)
	if kind == KindLoadBalancer {
		return s.setLoadBalancerTags(ctx, id, tags)
	}
	of, path := taggedPath(kind)
	if path == "" {
		return Errorf(Config, "a %s cannot have tags", kind)
	}
	if of == networkService {
		supported, err := s.extension(ctx, "standard-attr-tag")
		if err != nil {
			return err
		}
		if !supported {
			s.Inventory().assumeTags(kind, id, tags)
			return nil
		}
	}
	body := map[string]any{"tags": present(tags)}
	if err := s.send(ctx, of, http.MethodPut, path+"/"+id+"/tags", body, nil); err != nil {
		return err
	}
	s.Inventory().tagged(kind, id, tags)
	return nil
}

func taggedPath(kind Kind) (service, string) {
	switch kind {
	case KindServer:
		return computeService, "servers"
	case KindNetwork:
		return networkService, "networks"
	case KindSubnet:
		return networkService, "subnets"
	case KindRouter:
		return networkService, "routers"
	case KindSecurityGroup:
		return networkService, "security-groups"
	case KindPort:
		return networkService, "ports"
	case KindFloatingIP:
		return networkService, "floatingips"
	}
	return "", ""
}

// tagged notes the new tags of an object.
func (i *Inventory) tagged(kind Kind, id string, tags []string) {
	i.write(kind, id, func(e *edit) {
		delete(i.kinds[kind].assumed, id)
		if old, known := e.get(kind, id); known {
			e.put(withTags(old, tags))
		}
	})
}

// assumedTags are tags that the cloud cannot hold. They are believed for as long as what is known of
// Neutron's extensions: a Neutron that has learned about tags in the meantime then gets them.
type assumedTags struct {
	tags  []string
	until time.Time
}

// assumeTags shows an object, in this snapshot and in those to come, with tags the cloud knows
// nothing of.
func (i *Inventory) assumeTags(kind Kind, id string, tags []string) {
	i.write(kind, id, func(e *edit) {
		if old, known := e.get(kind, id); known {
			i.kinds[kind].assumed[id] = assumedTags{tags: tags, until: e.now.Add(extensionLife)}
			e.put(withTags(old, tags))
		}
	})
}

// withAssumedTags adds to an object what [Inventory.assumeTags] was told of it.
func (k *kindState) withAssumedTags(o object, now time.Time) object {
	assumed, found := k.assumed[o.id()]
	if !found {
		return o
	}
	if !now.Before(assumed.until) {
		delete(k.assumed, o.id())
		return o
	}
	return withTags(o, assumed.tags)
}

// withTags is an object with other tags.
func withTags(o object, tags []string) object {
	switch o := o.(type) {
	case Server:
		o.Tags = tags
		return o
	case Network:
		o.Tags = tags
		return o
	case Subnet:
		o.Tags = tags
		return o
	case Router:
		o.Tags = tags
		return o
	case SecurityGroup:
		o.Tags = tags
		return o
	case Port:
		o.Tags = tags
		return o
	case FloatingIP:
		o.Tags = tags
		return o
	}
	return o
}

// setLoadBalancerTags replaces tags in a request that Octavia treats like any other change: the load
// balancer is immutable for a moment.
func (s *Session) setLoadBalancerTags(ctx context.Context, id string, tags []string) error {
	body := map[string]any{"loadbalancer": map[string]any{"tags": present(tags)}}
	if err := s.send(ctx, loadBalancerService, http.MethodPut, "lbaas/loadbalancers/"+id, body, nil); err != nil {
		return err
	}
	amend(s.Inventory(), id, func(lb *LoadBalancer) {
		lb.Tags, lb.ProvisioningStatus = tags, pendingUpdate
	})
	return nil
}
