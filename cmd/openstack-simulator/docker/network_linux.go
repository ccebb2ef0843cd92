package docker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/sendan-io/sendan/cloud/simulator"
)

const (
	bridgeName = "bridge"
	// uplinkName is the router's way out, in the network's namespace.
	uplinkName = "uplink"
	ifaceNoDAD = unix.IFA_F_NODAD
)

// uplinks are the networks between routers and the outside, four addresses each. They are shared address space
// (RFC 6598), which no tenant and no data center has in use.
var uplinks = netip.MustParsePrefix("100.64.0.0/16")

// tenantNetwork is a Neutron network: a bridge in a namespace of its own, and a router that leads out of it.
type tenantNetwork struct {
	segment
	index  int
	users  map[string]bool
	routed map[netip.Prefix]bool
	// outside is the other end of the uplink.
	outside netlink.Link
	close   func()
}

// newTenantNetwork makes one behind the external network.
func (s *segment) newTenantNetwork(index, mtu int) (*tenantNetwork, error) {
	namespace, err := newNamespace()
	if err != nil {
		return nil, err
	}
	n := &tenantNetwork{index: index, users: map[string]bool{}, routed: map[netip.Prefix]bool{}}
	n.namespace, n.addresses = namespace, map[netip.Addr]int{}
	n.close = func() { n.end(s.handle) }
	if err := n.build(s.handle, mtu); err != nil {
		n.close()
		return nil, err
	}
	return n, nil
}

func (n *tenantNetwork) build(outer *netlink.Handle, mtu int) error {
	var err error
	if n.handle, err = netlink.NewHandleAt(n.namespace); err != nil {
		return fmt.Errorf("enter network namespace: %w", err)
	}
	if err := up(n.handle, "lo"); err != nil {
		return err
	}
	if err := n.handle.LinkAdd(&netlink.Bridge{LinkAttrs: attributes(bridgeName, mtu)}); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	if n.link, err = n.handle.LinkByName(bridgeName); err != nil {
		return fmt.Errorf("find bridge: %w", err)
	}
	if err := up(n.handle, bridgeName); err != nil {
		return err
	}
	return n.connectOutside(outer)
}

// connectOutside lays the uplink: the namespace's default route, behind an address of the simulator's own.
func (n *tenantNetwork) connectOutside(outer *netlink.Handle) error {
	near, far := uplinkAddresses(n.index)
	name := fmt.Sprintf("uplink%d", n.index)
	if stale, err := outer.LinkByName(name); err == nil { // the kernel takes a moment to end a namespace
		_ = outer.LinkDel(stale)
	}
	cable := &netlink.Veth{LinkAttrs: attributes(name, 0), PeerName: uplinkName, PeerNamespace: netlink.NsFd(n.namespace)}
	if err := outer.LinkAdd(cable); err != nil {
		return fmt.Errorf("add uplink: %w", err)
	}
	var err error
	if n.outside, err = outer.LinkByName(name); err != nil {
		return fmt.Errorf("find uplink: %w", err)
	}
	if err := outer.AddrReplace(n.outside, on(far)); err != nil {
		return fmt.Errorf("address uplink: %w", err)
	}
	if err := up(outer, name); err != nil {
		return err
	}
	inside, err := n.handle.LinkByName(uplinkName)
	if err != nil {
		return fmt.Errorf("find uplink: %w", err)
	}
	if err := n.handle.AddrReplace(inside, on(near)); err != nil {
		return fmt.Errorf("address uplink: %w", err)
	}
	if err := up(n.handle, uplinkName); err != nil {
		return err
	}
	if err := n.handle.RouteReplace(&netlink.Route{LinkIndex: inside.Attrs().Index, Gw: far.Addr().AsSlice()}); err != nil {
		return fmt.Errorf("route to the outside: %w", err)
	}
	if err := forward(n.namespace); err != nil {
		return err
	}
	return masquerade(n.namespace, uplinkName)
}

// uplinkAddresses are the two ends of an uplink.
func uplinkAddresses(index int) (near, far netip.Prefix) {
	base := uplinks.Addr().As4()
	base[2], base[3] = byte(index>>6), byte(index<<2)
	base[3]++
	far = netip.PrefixFrom(netip.AddrFrom4(base), 30)
	base[3]++
	return netip.PrefixFrom(netip.AddrFrom4(base), 30), far
}

// end removes the network. The namespace goes with the last handle.
func (n *tenantNetwork) end(outer *netlink.Handle) {
	if n.outside != nil {
		_ = outer.LinkDel(n.outside) // its other end goes with it; fails only when it is gone
	}
	if n.handle != nil {
		n.handle.Close()
	}
	_ = n.namespace.Close() // nothing was written
}

// route lets a router answer at its addresses on the network.
func (n *tenantNetwork) route(gateways []netip.Prefix) error {
	for _, gateway := range gateways {
		if n.routed[gateway] {
			continue
		}
		if err := n.handle.AddrReplace(n.link, on(gateway)); err != nil {
			return fmt.Errorf("add address %s: %w", gateway, err)
		}
		n.routed[gateway] = true
	}
	return nil
}

// plug lays a cable from the bridge to a process's network namespace.
func (n *tenantNetwork) plug(pid, index int, port simulator.Port) error {
	name := cableName(port)
	if stale, err := n.handle.LinkByName(name); err == nil { // of the server's last run
		_ = n.handle.LinkDel(stale)
	}
	hardware, err := net.ParseMAC(port.MACAddress)
	if err != nil {
		return fmt.Errorf("hardware address: %w", err)
	}
	cable := &netlink.Veth{
		LinkAttrs: attributes(name, port.Network.MTU), PeerName: fmt.Sprintf("eth%d", index),
		PeerHardwareAddr: hardware, PeerNamespace: netlink.NsPid(pid),
	}
	cable.MasterIndex = n.link.Attrs().Index
	if err := n.handle.LinkAdd(cable); err != nil {
		return fmt.Errorf("add cable: %w", err)
	}
	if err := up(n.handle, name); err != nil {
		return err
	}
	return n.configure(pid, index, port)
}

// configure does in a server what DHCP would.
func (n *tenantNetwork) configure(pid, index int, port simulator.Port) error {
	namespace, err := netns.GetFromPid(pid)
	if err != nil {
		return fmt.Errorf("find the server's network namespace: %w; the simulator's container needs --pid host", err)
	}
	defer func() { _ = namespace.Close() }()
	inside, err := netlink.NewHandleAt(namespace)
	if err != nil {
		return fmt.Errorf("enter the server's network namespace: %w", err)
	}
	defer inside.Close()
	name := fmt.Sprintf("eth%d", index)
	link, err := inside.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	for _, address := range port.Addresses {
		if err := inside.AddrReplace(link, on(address)); err != nil {
			return fmt.Errorf("add address %s: %w", address, err)
		}
	}
	if err := up(inside, name); err != nil {
		return err
	}
	if index > 0 {
		return nil // the first interface has the default route
	}
	for _, gateway := range port.Network.Gateways {
		if err := inside.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.Addr().AsSlice()}); err != nil {
			return fmt.Errorf("route through %s: %w", gateway.Addr(), err)
		}
	}
	return nil
}

// setLink pulls a cable out of the bridge's side, so that the server sees its carrier go, or plugs it in.
func (n *tenantNetwork) setLink(port simulator.Port) error {
	link, err := n.handle.LinkByName(cableName(port))
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil // the server is off; plug looks at the port again
	}
	if err != nil {
		return fmt.Errorf("find cable of port %s: %w", port.ID, err)
	}
	if port.Up {
		return n.handle.LinkSetUp(link)
	}
	return n.handle.LinkSetDown(link)
}

// cableName fits into the 15 characters that Linux allows.
func cableName(port simulator.Port) string {
	return "p" + strings.ReplaceAll(port.ID, "-", "")[:14]
}

func attributes(name string, mtu int) netlink.LinkAttrs {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = name, mtu
	return attrs
}

func up(handle *netlink.Handle, name string) error {
	link, err := handle.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := handle.LinkSetUp(link); err != nil {
		return fmt.Errorf("switch on %s: %w", name, err)
	}
	return nil
}

// masquerade hides what leaves a namespace through an interface behind the interface's own address.
func masquerade(namespace netns.NsHandle, out string) error {
	filter, err := nftables.New(nftables.WithNetNSFd(int(namespace)))
	if err != nil {
		return fmt.Errorf("masquerade: %w", err)
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, out)
	table := filter.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "sendan"})
	filter.FlushTable(table)
	chain := filter.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	filter.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: name},
		&expr.Masq{},
	}})
	if err := filter.Flush(); err != nil {
		return fmt.Errorf("masquerade what leaves through %s: %w", out, err)
	}
	return nil
}
