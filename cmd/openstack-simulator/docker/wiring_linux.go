package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// wiring is every network of the cloud. The external one is the network that the simulator's own container is on; each
// of the others exists while somebody is on it.
type wiring struct {
	external *segment

	mu       sync.Mutex
	networks map[string]*tenantNetwork // by Neutron id
}

// newWiring finds the external network in a namespace, the simulator's own.
func newWiring(namespace netns.NsHandle) (*wiring, error) {
	handle, err := netlink.NewHandleAt(namespace)
	if err != nil {
		return nil, fmt.Errorf("find the external network: %w", err)
	}
	link, prefix, err := defaultInterface(handle)
	if err != nil {
		return nil, fmt.Errorf("find the external network: %w", err)
	}
	if err := forward(namespace); err != nil {
		return nil, err
	}
	if err := masquerade(namespace, link.Attrs().Name); err != nil {
		return nil, err
	}
	external := &segment{namespace: namespace, handle: handle, link: link, prefix: prefix, addresses: map[netip.Addr]int{}}
	return &wiring{external: external, networks: map[string]*tenantNetwork{}}, nil
}

// defaultInterface is the one that leads out.
func defaultInterface(handle *netlink.Handle) (netlink.Link, netip.Prefix, error) {
	routes, err := handle.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return nil, netip.Prefix{}, fmt.Errorf("list routes: %w", err)
	}
	for _, route := range routes {
		if route.Gw == nil || route.Dst != nil && !route.Dst.IP.IsUnspecified() {
			continue
		}
		link, err := handle.LinkByIndex(route.LinkIndex)
		if err != nil {
			return nil, netip.Prefix{}, fmt.Errorf("find interface %d: %w", route.LinkIndex, err)
		}
		addresses, err := handle.AddrList(link, netlink.FAMILY_V4)
		if err != nil || len(addresses) == 0 {
			return nil, netip.Prefix{}, errors.Join(fmt.Errorf("interface %s has no address", link.Attrs().Name), err)
		}
		prefix, err := netip.ParsePrefix(addresses[0].IPNet.String())
		return link, prefix, err
	}
	return nil, netip.Prefix{}, errors.New("there is no default route: put the simulator's container on a network")
}

// close ends every network. What is plugged in is gone by then.
func (w *wiring) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, n := range w.networks {
		delete(w.networks, id)
		n.close()
	}
}

// plug puts the process with a pid on a port's network, as its index-th interface.
func (w *wiring) plug(pid, index int, serverID string, port simulator.Port) error {
	if port.Network.External {
		return errors.New("it is on an external network: servers can be on a project's own networks only, reached through a floating IP")
	}
	n, err := w.join(port.Network, userOf(serverID, port))
	if err != nil {
		return err
	}
	if err := n.plug(pid, index, port); err != nil {
		return err
	}
	if port.Up {
		return nil
	}
	return n.setLink(port)
}

// forget is the reverse of plug for a server that is gone; the cable went with it.
func (w *wiring) forget(serverID string, port simulator.Port) {
	w.leave(port.Network.ID, userOf(serverID, port))
}

func userOf(serverID string, port simulator.Port) string { return serverID + "/" + port.ID }

func (w *wiring) setLink(port simulator.Port) error {
	w.mu.Lock()
	n := w.networks[port.Network.ID]
	w.mu.Unlock()
	if n == nil {
		return fmt.Errorf("nothing is plugged into network %s", port.Network.ID)
	}
	return n.setLink(port)
}

// dial connects to an address on a network.
func (w *wiring) dial(ctx context.Context, network simulator.Network, address netip.AddrPort) (connection net.Conn, err error) {
	w.mu.Lock()
	n := w.networks[network.ID]
	w.mu.Unlock()
	if n == nil {
		return nil, fmt.Errorf("connect to %s: nothing is plugged into network %s", address, network.ID)
	}
	var dialer net.Dialer
	err = within(n.namespace, func() (err error) {
		connection, err = dialer.DialContext(ctx, "tcp", address.String())
		return err
	})
	return connection, err
}

// listen makes an address one of a network's own, and listens there until the listener is closed.
func (w *wiring) listen(network simulator.Network, address netip.AddrPort) (net.Listener, error) {
	if network.External {
		return w.external.listen(address, func() {})
	}
	user := address.String()
	n, err := w.join(network, user)
	if err != nil {
		return nil, err
	}
	listener, err := n.listen(address, func() { w.leave(network.ID, user) })
	if err != nil {
		w.leave(network.ID, user)
	}
	return listener, err
}

// join finds a network, or makes it for its first user, and lets its routers answer.
func (w *wiring) join(network simulator.Network, user string) (*tenantNetwork, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.networks[network.ID]
	if n == nil {
		var err error
		if n, err = w.external.newTenantNetwork(w.freeIndex(), network.MTU); err != nil {
			return nil, fmt.Errorf("make network %s: %w", network.ID, err)
		}
		w.networks[network.ID] = n
	}
	n.users[user] = true
	if err := n.route(network.Gateways); err != nil {
		return nil, fmt.Errorf("route network %s: %w", network.ID, err)
	}
	return n, nil
}

// leave lets a network end with its last user.
func (w *wiring) leave(networkID, user string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.networks[networkID]
	if n == nil {
		return
	}
	delete(n.users, user)
	if len(n.users) == 0 {
		delete(w.networks, networkID)
		n.close()
	}
}

// freeIndex is the smallest that no network has.
func (w *wiring) freeIndex() int {
	taken := map[int]bool{}
	for _, n := range w.networks {
		taken[n.index] = true
	}
	index := 0
	for taken[index] {
		index++
	}
	return index
}
