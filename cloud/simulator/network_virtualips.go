package simulator

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// A virtual IP is an address that servers hold among themselves, as kube-vip and keepalived let them: a port without a
// device reserves it, and the servers' ports have it among their allowed address pairs. Which server answers for it is the
// servers' business; here it is one that takes connections, for as long as it does.

// virtualFront is where this machine listens for a virtual IP: on a floating IP on it, or on the address itself where no
// server can have it.
type virtualFront struct {
	n        *networkService
	reserved *port
	front    front
	socket   net.Listener
	links    map[*link]bool
	holder   string // the server that took the last connection
}

// virtualHolder is a server that may answer for a virtual IP, on the TCP port that it means to be reached at.
type virtualHolder struct {
	server   string
	reserved *port
	address  string
	port     uint16
}

// addressesChanged lets those follow who listen on the addresses of a port or on floating IPs on them.
func (n *networkService) addressesChanged(p *port) {
	n.s.loadBalancer.addressesChanged(p.ID)
	n.syncVirtualIPs(p.network)
}

// syncVirtualIPs opens and closes what is listened on for the virtual IPs of a network.
func (n *networkService) syncVirtualIPs(on *network) {
	wanted := map[front]*port{}
	if !n.s.loadBalancer.closed {
		for _, h := range n.virtualHolders(on) {
			for _, at := range n.virtualFronts(h) {
				wanted[at] = h.reserved
			}
		}
	}
	for at, v := range on.virtual {
		if wanted[at] != v.reserved {
			v.close()
		}
	}
	for at, reserved := range wanted {
		if on.virtual[at] == nil {
			n.listenFor(reserved, at)
		}
	}
}

// virtualHolders are the servers of a network whose user data say that they are to be reached at a virtual IP on it.
func (n *networkService) virtualHolders(on *network) []virtualHolder {
	if _, able := n.s.backend.(EndpointBackend); !able {
		return nil
	}
	var holders []virtualHolder
	for _, p := range on.ports {
		if len(p.AllowedAddressPairs) == 0 || !p.AdminStateUp || !strings.HasPrefix(p.DeviceOwner, ownerComputePrefix) {
			continue
		}
		endpoint, known := n.s.compute.endpoint(p.DeviceID)
		if !known {
			continue
		}
		if reserved, address := n.reservedFor(on, endpoint.Addr()); reserved != nil && p.mayHold(address) {
			holders = append(holders, virtualHolder{p.DeviceID, reserved, address, endpoint.Port()})
		}
	}
	return holders
}

// reservedFor is the port without a device that has an address, or whose address a floating IP leads to.
func (n *networkService) reservedFor(on *network, wanted netip.Addr) (reserved *port, address string) {
	for _, p := range on.ports {
		if p.DeviceID != "" {
			continue
		}
		for _, ip := range p.FixedIPs {
			if ip.IPAddress == wanted.String() {
				return p, ip.IPAddress
			}
		}
		for _, f := range n.floatingIPsOfPort[p.ID] {
			if f.FloatingIPAddress == wanted.String() {
				return p, textOf(f.FixedIPAddress)
			}
		}
	}
	return nil, ""
}

// mayHold says that the allowed address pairs let a port use an address. They are addresses and prefixes.
func (p *port) mayHold(address string) bool {
	wanted, _ := netip.ParseAddr(address) // a port's
	return slices.ContainsFunc(p.AllowedAddressPairs, func(pair addressPair) bool {
		if prefix, err := netip.ParsePrefix(pair.IPAddress); err == nil {
			return prefix.Contains(wanted)
		}
		return pair.IPAddress == address
	})
}

// virtualFronts are what can be listened on for a holder: the virtual IP, unless servers have addresses for real, and the
// floating IPs on it.
func (n *networkService) virtualFronts(h virtualHolder) []front {
	var fronts []front
	add := func(on *network, text string) {
		address, err := netip.ParseAddr(text)
		if err == nil && on != nil && n.s.loadBalancer.canListen(on, address) {
			fronts = append(fronts, front{on, netip.AddrPortFrom(address, h.port)})
		}
	}
	if _, wired := n.s.backend.(NetworkBackend); !wired {
		add(h.reserved.network, h.address)
	}
	for _, f := range n.floatingIPsOfPort[h.reserved.ID] {
		if textOf(f.FixedIPAddress) == h.address {
			add(n.networks.byID[f.FloatingNetworkID], f.FloatingIPAddress)
		}
	}
	return fronts
}

func (n *networkService) listenFor(reserved *port, at front) {
	on := reserved.network
	socket, err := n.s.loadBalancer.open(at)
	if err != nil {
		n.s.log.Warn("virtual IP cannot be listened on", "port", reserved.ID, "address", at.address.String(), "error", err)
		if !on.retrying {
			on.retrying = true
			n.s.after(listenAgain, func() {
				on.retrying = false
				n.syncVirtualIPs(on)
			})
		}
		return
	}
	v := &virtualFront{n: n, reserved: reserved, front: at, socket: socket, links: map[*link]bool{}}
	if on.virtual == nil {
		on.virtual = map[front]*virtualFront{}
	}
	on.virtual[at] = v
	n.s.log.Info("virtual IP is listened on", "port", reserved.ID, "address", at.address.String())
	n.s.background(func(ctx context.Context) {
		acceptAll(ctx, socket, func() {}, func(near net.Conn) { n.s.done.Go(func() { v.forward(ctx, near) }) })
	})
}

// closeVirtualIPs ends all listening for good. The lock is held.
func (n *networkService) closeVirtualIPs() {
	for _, on := range n.networks.inOrder {
		for _, v := range on.virtual {
			v.close()
		}
	}
}

// close ends listening and its connections. The lock is held.
func (v *virtualFront) close() {
	delete(v.reserved.network.virtual, v.front)
	_ = v.socket.Close()
	for k := range v.links {
		k.close()
	}
}

// isOpen is false once it was closed. The lock is held.
func (v *virtualFront) isOpen() bool { return v.reserved.network.virtual[v.front] == v }

// forward carries one connection from beginning to end.
func (v *virtualFront) forward(ctx context.Context, near net.Conn) {
	k := &link{near: near}
	defer k.close()
	candidates := v.admit(k)
	defer v.forget(k)
	for _, server := range candidates {
		far, err := v.dial(ctx, server)
		if err != nil {
			continue
		}
		if !v.connect(k, server, far) {
			_ = far.Close()
			return
		}
		_, _ = exchange(near, far)
		return
	}
}

// admit lists the servers to try, the one that holds the address so far first.
func (v *virtualFront) admit(k *link) []string {
	v.n.s.mu.Lock()
	defer v.n.s.mu.Unlock()
	if !v.isOpen() {
		return nil
	}
	v.links[k] = true
	var servers []string
	for _, h := range v.n.virtualHolders(v.reserved.network) {
		switch {
		case h.reserved != v.reserved || h.port != v.front.address.Port():
		case h.server == v.holder:
			servers = slices.Insert(servers, 0, h.server)
		default:
			servers = append(servers, h.server)
		}
	}
	return servers
}

func (v *virtualFront) dial(ctx context.Context, server string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return v.n.s.backend.Dial(ctx, server, int(v.front.address.Port()))
}

// connect notes the server that answered; false when listening has ended meanwhile.
func (v *virtualFront) connect(k *link, server string, far net.Conn) bool {
	v.n.s.mu.Lock()
	defer v.n.s.mu.Unlock()
	if !v.isOpen() {
		return false
	}
	k.far, v.holder = far, server
	return true
}

func (v *virtualFront) forget(k *link) {
	v.n.s.mu.Lock()
	defer v.n.s.mu.Unlock()
	delete(v.links, k)
}

// endpoint is where a server means to be reached besides its ports' own addresses. Its user data are read once.
func (n *computeService) endpoint(serverID string) (netip.AddrPort, bool) {
	backend, able := n.s.backend.(EndpointBackend)
	srv := n.servers[serverID]
	if !able || srv == nil || srv.host == nil {
		return netip.AddrPort{}, false
	}
	if srv.endpointOf != srv.userData {
		srv.endpoint, _ = backend.Endpoint(n.nodeOf(srv))
		srv.endpointOf = srv.userData
	}
	return srv.endpoint, srv.endpoint.IsValid()
}
