package docker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// segment is an interface in a network namespace that addresses can be added to.
type segment struct {
	namespace netns.NsHandle
	handle    *netlink.Handle
	link      netlink.Link
	prefix    netip.Prefix

	mu sync.Mutex
	// addresses counts the listeners at each.
	addresses map[netip.Addr]int
}

// listen adds an address to the interface for as long as something listens there; released is called after that.
func (s *segment) listen(address netip.AddrPort, released func()) (net.Listener, error) {
	if err := s.hold(address.Addr()); err != nil {
		return nil, err
	}
	var (
		config net.ListenConfig
		socket net.Listener
	)
	err := within(s.namespace, func() (err error) {
		socket, err = config.Listen(context.Background(), "tcp", address.String())
		return err
	})
	if err != nil {
		s.release(address.Addr())
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	return &listener{Listener: socket, release: sync.OnceFunc(func() {
		s.release(address.Addr())
		released()
	})}, nil
}

func (s *segment) hold(address netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.addresses[address] == 0 {
		// Alone on its prefix, so that it does not change where packets to its neighbors go.
		if err := s.handle.AddrReplace(s.link, single(address)); err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
	}
	s.addresses[address]++
	return nil
}

func (s *segment) release(address netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addresses[address]--
	if s.addresses[address] == 0 {
		delete(s.addresses, address)
		_ = s.handle.AddrDel(s.link, single(address)) // fails only when it is gone
	}
}

// single is one address as netlink wants it. IPv6 is used at once, without asking the network for duplicates.
func single(address netip.Addr) *netlink.Addr {
	return on(netip.PrefixFrom(address, address.BitLen()))
}

func on(prefix netip.Prefix) *netlink.Addr {
	address := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}}
	if prefix.Addr().Is6() {
		address.Flags = ifaceNoDAD
	}
	return address
}

// listener gives its address back when it is closed.
type listener struct {
	net.Listener
	release func()
}

func (l *listener) Close() error {
	err := l.Listener.Close()
	l.release()
	return err
}
