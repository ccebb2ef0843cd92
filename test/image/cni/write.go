package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/labels"
)

const (
	// routeProtocol marks the routes of this program, so that it finds them after a restart. No other is known to use it.
	routeProtocol = 83
	tableName     = "sendan-cni"
)

var everything = labels.Everything()

// changeRoutes takes away the routes that are no longer wanted and sets the others. One that cannot be set, such as to a
// node that is somewhere else, keeps no other from being set.
func changeRoutes(wanted map[string]string) error {
	existing, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return fmt.Errorf("list routes: %w", err)
	}
	var failures []error
	for _, route := range existing {
		if _, still := wanted[route.Dst.String()]; still {
			continue
		}
		if err := netlink.RouteDel(&route); err != nil && !errors.Is(err, unix.ESRCH) {
			failures = append(failures, fmt.Errorf("remove route to %s: %w", route.Dst, err))
		}
	}
	for destination, hop := range wanted {
		if err := setRoute(destination, hop); err != nil {
			failures = append(failures, fmt.Errorf("route to %s through %s: %w", destination, hop, err))
		}
	}
	return errors.Join(failures...)
}

func setRoute(destination, hop string) error {
	_, network, err := net.ParseCIDR(destination)
	if err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{Dst: network, Gw: net.ParseIP(hop), Protocol: routeProtocol})
}

// masquerade gives what leaves pods for elsewhere the address of the node, and leaves alone what goes to other pods.
func masquerade(podCIDRs []string) error {
	rules, err := masqueradeRules(podCIDRs)
	if err != nil {
		return err
	}
	filter, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	// All of it happens at once or not at all. The first line is for the second, which fails where there is no table.
	table := filter.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName})
	filter.DelTable(table)
	filter.AddTable(table)
	chain := filter.AddChain(&nftables.Chain{
		Name: "postrouting", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource,
	})
	for _, rule := range rules {
		filter.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
	}
	if err := filter.Flush(); err != nil {
		return fmt.Errorf("write the table %s of nftables: %w", tableName, err)
	}
	return nil
}

// masqueradeRules end at the first that fits: what goes to pods is let through before what comes from pods is translated.
func masqueradeRules(podCIDRs []string) ([][]expr.Any, error) {
	var pass, translate [][]expr.Any
	for _, podCIDR := range podCIDRs {
		_, network, err := net.ParseCIDR(podCIDR)
		if err != nil {
			return nil, fmt.Errorf("pods' addresses: %w", err)
		}
		pass = append(pass, append(addressIn(network, destination), &expr.Verdict{Kind: expr.VerdictAccept}))
		translate = append(translate, append(addressIn(network, source), &expr.Masq{}))
	}
	return append(pass, translate...), nil
}

// field is an address in the header of a packet: its offset by IP version.
type field struct{ v4, v6 uint32 }

var (
	source      = field{v4: 12, v6: 8}
	destination = field{v4: 16, v6: 24}
)

// addressIn holds for packets whose address is in a network.
func addressIn(network *net.IPNet, f field) []expr.Any {
	version, offset, address := byte(unix.NFPROTO_IPV6), f.v6, network.IP.To16()
	if v4 := network.IP.To4(); v4 != nil {
		version, offset, address = unix.NFPROTO_IPV4, f.v4, v4
	}
	size := uint32(len(address))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{version}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: network.Mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: address},
	}
}

// replaceFile never shows a reader half a file.
func replaceFile(path, content string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // everybody may look
		return err
	}
	temporary := filepath.Join(filepath.Dir(path), ".sendan.new")
	if err := os.WriteFile(temporary, []byte(content), 0o644); err != nil { //nolint:gosec // it holds no secrets
		return err
	}
	return os.Rename(temporary, path)
}
