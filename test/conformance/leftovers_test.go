package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/sendan-io/sendan/cloud"
)

// clear deletes what carries the run's mark until a listing shows none of it. Nothing that is remembered counts: each look is
// that of a new session, so it finds what a lost reply, a killed run or the provider left as well.
func (s *suite) clear(ctx context.Context) error {
	options := s.options
	options.ManualPolling = true
	return eventually(ctx, s.pace(), "everything of the run is gone", func() error {
		session, err := cloud.NewSessions(options).Get(ctx, s.identity)
		if cloud.ClassOf(err) == cloud.Auth { // a wrong password that is tried again locks the account
			return permanent{err}
		}
		if err != nil {
			return err
		}
		err = session.Inventory().Poll(ctx)
		left := listed(session.Inventory().Snapshot(), s.mark())
		if len(left) == 0 {
			return err
		}
		return errors.Join(fmt.Errorf("left: %q", left), err, remove(ctx, session, s.mark()))
	})
}

// listed names what carries a mark, in order.
func listed(now *cloud.Snapshot, mark cloud.Mark) []string {
	var all []string
	add := func(kind cloud.Kind, name, id string) { all = append(all, fmt.Sprintf("%s %s %s", kind, name, id)) }
	for _, o := range now.NetworksOf(mark) {
		add(cloud.KindNetwork, o.Name, o.ID)
	}
	for _, o := range now.SubnetsOf(mark) {
		add(cloud.KindSubnet, o.Name, o.ID)
	}
	for _, o := range now.RoutersOf(mark) {
		add(cloud.KindRouter, o.Name, o.ID)
	}
	for _, o := range now.SecurityGroupsOf(mark) {
		add(cloud.KindSecurityGroup, o.Name, o.ID)
	}
	for _, o := range now.ServerGroupsOf(mark) {
		add(cloud.KindServerGroup, o.Name, o.ID)
	}
	for _, o := range now.PortsOf(mark) {
		add(cloud.KindPort, o.Name, o.ID)
	}
	for _, o := range now.VolumesOf(mark) {
		add(cloud.KindVolume, o.Name, o.ID)
	}
	for _, o := range now.ServersOf(mark) {
		add(cloud.KindServer, o.Name, o.ID)
	}
	for _, o := range now.FloatingIPsOf(mark) {
		add(cloud.KindFloatingIP, o.Address, o.ID)
	}
	for _, o := range now.LoadBalancersOf(mark) {
		add(cloud.KindLoadBalancer, o.Name, o.ID)
	}
	slices.Sort(all)
	return all
}

// remove deletes what can go now. What stands in the way of the rest goes first, and the next look tries again.
func remove(ctx context.Context, session *cloud.Session, mark cloud.Mark) error {
	now := session.Inventory().Snapshot()
	var refusals []error
	try := func(err error) { refusals = append(refusals, err) }
	for _, server := range now.ServersOf(mark) {
		if !server.Deleting {
			try(session.DeleteServer(ctx, server.ID))
		}
	}
	for _, address := range now.FloatingIPsOf(mark) {
		try(session.DeleteFloatingIP(ctx, address.ID))
	}
	for _, balancer := range now.LoadBalancersOf(mark) {
		if !balancer.IsPending() {
			try(session.DeleteLoadBalancer(ctx, balancer.ID))
		}
	}
	for _, port := range now.PortsOf(mark) {
		if port.TrunkID != "" {
			try(session.DeleteTrunk(ctx, port.TrunkID))
		}
		try(session.DeletePort(ctx, port.ID))
	}
	for _, volume := range now.VolumesOf(mark) {
		if volume.Status != "deleting" {
			try(session.DeleteVolume(ctx, volume.ID))
		}
	}
	for _, router := range now.RoutersOf(mark) {
		for _, subnet := range now.SubnetsOf(mark) {
			try(session.RemoveRouterInterface(ctx, router.ID, subnet.ID))
		}
		try(session.DeleteRouter(ctx, router.ID))
	}
	for _, network := range now.NetworksOf(mark) {
		try(session.DeleteNetwork(ctx, network.ID))
	}
	for _, group := range now.SecurityGroupsOf(mark) {
		try(session.DeleteSecurityGroup(ctx, group.ID))
	}
	for _, group := range now.ServerGroupsOf(mark) {
		try(session.DeleteServerGroup(ctx, group.ID))
	}
	return errors.Join(refusals...)
}
