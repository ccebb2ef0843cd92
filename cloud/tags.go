package cloud

import (
	"context"
	"net/http"
)

// SetTags replaces the tags of an object. Server groups and volumes have none. Tags are for people,
// so on a cloud whose Neutron lacks them nothing happens and nothing fails.
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
		if err != nil || !supported {
			return err
		}
	}
	body := map[string]any{"tags": present(tags)}
	if err := s.send(ctx, of, http.MethodPut, path+"/"+id+"/tags", body, nil); err != nil {
		return err
	}
	s.inventory.tagged(kind, id, tags)
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
	switch kind {
	case KindServer:
		amend(i, id, func(o *Server) { o.Tags = tags })
	case KindNetwork:
		amend(i, id, func(o *Network) { o.Tags = tags })
	case KindSubnet:
		amend(i, id, func(o *Subnet) { o.Tags = tags })
	case KindRouter:
		amend(i, id, func(o *Router) { o.Tags = tags })
	case KindSecurityGroup:
		amend(i, id, func(o *SecurityGroup) { o.Tags = tags })
	case KindPort:
		amend(i, id, func(o *Port) { o.Tags = tags })
	case KindFloatingIP:
		amend(i, id, func(o *FloatingIP) { o.Tags = tags })
	}
}

// setLoadBalancerTags replaces tags in a request that Octavia treats like any other change: the load
// balancer is immutable for a moment.
func (s *Session) setLoadBalancerTags(ctx context.Context, id string, tags []string) error {
	body := map[string]any{"loadbalancer": map[string]any{"tags": present(tags)}}
	if err := s.send(ctx, loadBalancerService, http.MethodPut, "lbaas/loadbalancers/"+id, body, nil); err != nil {
		return err
	}
	amend(s.inventory, id, func(lb *LoadBalancer) {
		lb.Tags, lb.ProvisioningStatus = tags, pendingUpdate
	})
	return nil
}
