package simulator

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// listenAgain is how long an address that somebody else uses is left alone.
	listenAgain = 5 * time.Second
	// acceptAgain is the pause after a connection could not be accepted.
	acceptAgain = 100 * time.Millisecond
	// dialTimeout is Octavia's default for connecting to a member.
	dialTimeout = 5 * time.Second
)

// forwarder listens on one address of a listener and passes connections on to its members.
type forwarder struct {
	lb       *loadBalancerService
	listener *listener
	front    front
	socket   net.Listener
	links    map[*link]bool
}

// link is one connection that is being forwarded. far is nil until a member answered.
type link struct {
	near, far net.Conn
	member    *member
}

func (k *link) close() {
	_ = k.near.Close()
	if k.far != nil {
		_ = k.far.Close()
	}
}

// addressesOfHost are those that can be listened on beside the loopback network.
func addressesOfHost() map[netip.Addr]bool {
	found := map[netip.Addr]bool{}
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return found // loopback still works
	}
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			found[prefix.Addr()] = true
		}
	}
	return found
}

// front is an address that a load balancer is reached at, on one of the cloud's networks.
type front struct {
	network *network
	address netip.AddrPort
}

// fronts are what one listener of a load balancer can listen on: the VIP and the floating IPs on it.
func (lb *loadBalancerService) fronts(l *listener) []front {
	b, neutron := l.balancer, &lb.s.network
	var fronts []front
	add := func(networkID, text string) {
		address, err := netip.ParseAddr(text)
		network := neutron.networks.byID[networkID]
		if err == nil && network != nil && lb.canListen(network, address) {
			fronts = append(fronts, front{network, netip.AddrPortFrom(address, uint16(l.ProtocolPort))})
		}
	}
	add(b.VIPNetworkID, b.VIPAddress)
	for _, f := range neutron.floatingIPsOfPort[b.VIPPortID] {
		if textOf(f.FixedIPAddress) == b.VIPAddress {
			add(f.FloatingNetworkID, f.FloatingIPAddress)
		}
	}
	return fronts
}

// canListen says that an address is one of this machine's, unless the backend makes it so. An address
// on a project's own network counts only inside 127.0.0.0/8: elsewhere it would be chance if the
// machine had the same one.
func (lb *loadBalancerService) canListen(network *network, address netip.Addr) bool {
	_, wired := lb.s.backend.(NetworkBackend)
	return wired || address.IsLoopback() || network.External && lb.hostAddresses[address]
}

// serves says whether connections of a listener should be accepted now.
func (lb *loadBalancerService) serves(l *listener) bool {
	b := l.balancer
	for _, head := range []*balancerRecord{&b.balancerRecord, &l.balancerRecord} {
		if !head.AdminStateUp || head.ProvisioningStatus == pendingCreate || head.ProvisioningStatus == pendingDelete {
			return false
		}
	}
	if transport(l.Protocol) != "TCP" || l.Protocol == "PROMETHEUS" {
		return false
	}
	return !lb.runsNoNodes() || l.pool != nil && slices.ContainsFunc(l.pool.members, func(m *member) bool {
		address, err := netip.ParseAddr(m.Address)
		return err == nil && address.IsLoopback()
	})
}

// addressesChanged follows floating IPs and addresses of a port that may be a VIP's.
func (lb *loadBalancerService) addressesChanged(portID string) {
	if b := lb.byVIPPort[portID]; b != nil {
		lb.syncForwarders(b)
	}
}

// syncForwarders opens and closes what a load balancer listens on.
func (lb *loadBalancerService) syncForwarders(b *loadBalancer) {
	wanted := map[front]*listener{}
	if lb.balancers.has(b) && !lb.closed {
		for _, l := range b.listeners {
			l.refused = false
			if !lb.serves(l) {
				continue
			}
			for _, at := range lb.fronts(l) {
				wanted[at] = l
			}
		}
	}
	for at, f := range lb.forwarders {
		if f.listener.balancer == b && wanted[at] != f.listener {
			f.close()
		}
	}
	for _, l := range b.listeners {
		for at, owner := range wanted {
			if owner == l && !lb.listens(l, at) {
				l.refused = true
			}
		}
	}
	lb.retryRefused(b)
}

// listens makes sure that a listener's address is open.
func (lb *loadBalancerService) listens(l *listener, at front) bool {
	if f := lb.forwarders[at]; f != nil {
		return f.listener == l
	}
	socket, err := lb.open(at)
	if err != nil {
		lb.s.log.Warn("load balancer cannot listen", "load balancer", l.balancer.Name, "address", at.address.String(), "error", err)
		return false
	}
	f := &forwarder{lb: lb, listener: l, front: at, socket: socket, links: map[*link]bool{}}
	lb.forwarders[at] = f
	lb.s.log.Info("load balancer listens", "load balancer", l.balancer.Name, "address", at.address.String())
	lb.s.background(f.accept)
	return true
}

func (lb *loadBalancerService) open(at front) (net.Listener, error) {
	if backend, wired := lb.s.backend.(NetworkBackend); wired {
		return backend.Listen(at.network.forBackend(), at.address)
	}
	var config net.ListenConfig
	return config.Listen(lb.s.ctx, "tcp", at.address.String())
}

// retryRefused tries addresses again that somebody else used.
func (lb *loadBalancerService) retryRefused(b *loadBalancer) {
	refused := slices.ContainsFunc(b.listeners, func(l *listener) bool { return l.refused })
	lb.refresh(b)
	if !refused || b.retrying {
		return
	}
	b.retrying = true
	lb.s.after(listenAgain, func() {
		b.retrying = false
		lb.syncForwarders(b)
	})
}

// closeListeners ends all forwarding for good. The lock is not held.
func (lb *loadBalancerService) closeListeners() {
	lb.s.mu.Lock()
	defer lb.s.mu.Unlock()
	lb.closed = true
	for _, f := range lb.forwarders {
		f.close()
	}
	lb.s.network.closeVirtualIPs()
}

// close ends a forwarder and its connections. The lock is held.
func (f *forwarder) close() {
	delete(f.lb.forwarders, f.front)
	_ = f.socket.Close()
	for k := range f.links {
		k.close()
	}
}

// cutMember ends the connections to a member that was removed.
func (lb *loadBalancerService) cutMember(m *member) {
	for _, f := range lb.forwarders {
		if f.listener.balancer != m.balancerOf() {
			continue
		}
		for k := range f.links {
			if k.member == m {
				k.close()
			}
		}
	}
}

func (f *forwarder) accept(ctx context.Context) {
	acceptAll(ctx, f.socket, func() { f.listener.traffic.errors.Add(1) }, func(near net.Conn) {
		f.lb.s.done.Go(func() { f.forward(ctx, near) })
	})
}

// acceptAll hands over the connections to a socket until that is closed.
func acceptAll(ctx context.Context, socket net.Listener, failed func(), handle func(near net.Conn)) {
	for {
		connection, err := socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // descriptors ran short, which passes
			failed()
			select {
			case <-ctx.Done():
			case <-time.After(acceptAgain):
			}
			continue
		}
		handle(connection)
	}
}

// forward carries one connection from beginning to end.
func (f *forwarder) forward(ctx context.Context, near net.Conn) {
	k := &link{near: near}
	defer k.close()
	candidates, admitted := f.admit(k)
	if !admitted {
		return
	}
	defer f.forget(k)
	traffic := &f.listener.traffic
	traffic.total.Add(1)
	traffic.active.Add(1)
	defer traffic.active.Add(-1)
	for _, t := range candidates {
		far, err := f.dial(ctx, t)
		if err != nil {
			continue
		}
		if !f.connect(k, t, far) {
			_ = far.Close()
			return
		}
		in, out := exchange(near, far)
		traffic.bytesIn.Add(in)
		traffic.bytesOut.Add(out)
		return
	}
	traffic.errors.Add(1)
}

func (f *forwarder) dial(ctx context.Context, t target) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return f.lb.dial(ctx, t)
}

// admit decides whether a client may come in, and lists the members to try: all healthy ones,
// beginning with the one whose turn it is.
func (f *forwarder) admit(k *link) ([]target, bool) {
	f.lb.s.mu.Lock()
	defer f.lb.s.mu.Unlock()
	if f.lb.forwarders[f.front] != f || !f.listener.allows(k.near.RemoteAddr()) {
		return nil, false
	}
	f.links[k] = true
	return f.lb.candidates(f.listener), true
}

// connect notes the member that answered; false when forwarding has ended meanwhile.
func (f *forwarder) connect(k *link, t target, far net.Conn) bool {
	f.lb.s.mu.Lock()
	defer f.lb.s.mu.Unlock()
	if f.lb.forwarders[f.front] != f || !f.lb.members.has(t.member) {
		return false
	}
	k.far, k.member = far, t.member
	return true
}

func (f *forwarder) forget(k *link) {
	f.lb.s.mu.Lock()
	defer f.lb.s.mu.Unlock()
	delete(f.links, k)
}

// allows checks a client against allowed_cidrs.
func (l *listener) allows(client net.Addr) bool {
	from, err := netip.ParseAddrPort(client.String())
	if err != nil || len(l.AllowedCIDRs) == 0 {
		return err == nil
	}
	return slices.ContainsFunc(l.AllowedCIDRs, func(cidr string) bool {
		prefix, err := netip.ParsePrefix(cidr)
		return err == nil && prefix.Contains(from.Addr().Unmap())
	})
}

// candidates are the members a new connection may go to, backups last.
func (lb *loadBalancerService) candidates(l *listener) []target {
	if l.pool == nil || !l.pool.AdminStateUp {
		return nil
	}
	var main, backups []target
	for _, m := range l.pool.members {
		status := m.status()
		if m.ProvisioningStatus == pendingDelete || m.Weight == 0 || status == stateError || !m.AdminStateUp {
			continue
		}
		if m.Backup {
			backups = append(backups, lb.target(m, 0))
		} else {
			main = append(main, lb.target(m, 0))
		}
	}
	if len(main) > 0 {
		first := l.turn % len(main)
		l.turn++
		main = slices.Concat(main[first:], main[:first])
	}
	return append(main, backups...)
}

// exchange copies both ways until both have ended, and tells how much went to and from far. The end
// of one direction is passed on while the other goes on.
func exchange(near, far net.Conn) (in, out int64) {
	var both sync.WaitGroup
	both.Go(func() { in = carry(far, near) })
	both.Go(func() { out = carry(near, far) })
	both.Wait()
	return in, out
}

func carry(to, from net.Conn) int64 {
	n, err := io.Copy(to, from)
	half, ok := to.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		// Broken, or of a kind that can only be closed as a whole.
		_ = to.Close()
		_ = from.Close()
	}
	return n
}
