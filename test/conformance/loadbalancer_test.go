package conformance

import (
	"fmt"

	"github.com/sendan-io/sendan/cloud"
)

func balancing() []feature {
	return []feature{
		{name: "load-balancer/providers", needs: []string{"identity/catalog"}, check: readProviders},
		{name: "load-balancer/tree", needs: []string{"network/router"}, check: makeTree},
	}
}

func readProviders(p *probe) error {
	names, err := p.session.LoadBalancerProviders(p.Context())
	p.note = fmt.Sprint(names)
	return firstOf(err, expect(len(names) > 0, "Octavia lists no provider"))
}

// makeTree makes a load balancer as the provider does, in one call, changes it and deletes it.
func makeTree(p *probe) error {
	method := "ROUND_ROBIN"
	if wishes.balancerProvider == "ovn" {
		method = "SOURCE_IP_PORT"
	}
	made, err := p.session.CreateLoadBalancer(p.Context(), cloud.LoadBalancerRequest{
		Name: p.name("api"), Mark: p.role("api"), VIPSubnetID: p.made.subnet.ID, Provider: wishes.balancerProvider,
		Listeners: []cloud.ListenerRequest{{Name: p.name("api"), Protocol: "TCP", Port: 6443, Pool: cloud.PoolRequest{
			Name: p.name("api"), Protocol: "TCP", Method: method,
			Members: []cloud.MemberRequest{{Name: "first", Address: address, Port: 6443, SubnetID: p.made.subnet.ID}},
			Monitor: &cloud.HealthMonitor{Type: "TCP", DelaySeconds: 5, TimeoutSeconds: 3, MaxRetries: 2, MaxRetriesDown: 3},
		}}},
	})
	if err != nil {
		return err
	}
	built, err := p.untilMembers(made.ID, address)
	if err != nil {
		return err
	}
	p.note = "provider " + built.Provider
	listener, pool := built.Listeners[0], built.Pools[0]
	if built.Mark != p.role("api") || built.VIPAddress == "" || listener.Port != 6443 || listener.DefaultPoolID != pool.ID || pool.Method != method || pool.Monitor == nil {
		return fmt.Errorf("it is %+v", built)
	}
	if err := p.session.SetPoolMembers(p.Context(), pool.ID, []cloud.MemberRequest{{Name: "second", Address: pairAddress, Port: 6443, SubnetID: p.made.subnet.ID}}); err != nil {
		return err
	}
	if _, err := p.untilMembers(made.ID, pairAddress); err != nil {
		return err
	}
	if err := p.session.DeleteLoadBalancer(p.Context(), made.ID); err != nil {
		return err
	}
	return p.until("the load balancer is gone", func(now *cloud.Snapshot) error {
		balancer, there := now.LoadBalancer(made.ID)
		return expect(!there, "it is %+v", balancer)
	})
}

// untilMembers waits until a load balancer is ACTIVE with one member.
func (p *probe) untilMembers(id, address string) (balancer cloud.LoadBalancer, err error) {
	err = p.until("the load balancer is ACTIVE with the member "+address, func(now *cloud.Snapshot) error {
		balancer, _ = now.LoadBalancer(id)
		if balancer.ProvisioningStatus == "ERROR" {
			return permanent{fmt.Errorf("Octavia could not do it: %+v", balancer)}
		}
		built := balancer.ProvisioningStatus == "ACTIVE" && balancer.TreeKnown && len(balancer.Listeners) == 1 && len(balancer.Pools) == 1
		return expect(built && len(balancer.Pools[0].Members) == 1 && balancer.Pools[0].Members[0].Address == address && balancer.Pools[0].Members[0].ID != "",
			"it is %+v", balancer)
	})
	return balancer, err
}
