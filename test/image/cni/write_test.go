package main

import (
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// ownNetwork gives the test a network namespace with one interface, which ends with the test's thread.
func ownNetwork(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make a network namespace")
	}
	runtime.LockOSThread() // for good: the thread has changed, nobody else may use it
	namespace, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = namespace.Close() })
	cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "elsewhere"}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"eth0", "elsewhere"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
	address, err := netlink.ParseAddr("10.6.0.3/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(cable, address); err != nil {
		t.Fatal(err)
	}
}

// hops are the next hops of all routes through another node, by destination.
func hops(t *testing.T) map[string]string {
	t.Helper()
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, route := range routes {
		if route.Gw != nil {
			found[route.Dst.String()] = route.Gw.String()
		}
	}
	return found
}

func TestRoutesFollowTheNodes(t *testing.T) {
	ownNetwork(t)
	_, foreign, _ := net.ParseCIDR("172.30.0.0/16")
	if err := netlink.RouteAdd(&netlink.Route{Dst: foreign, Gw: net.ParseIP("10.6.0.9")}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		wanted map[string]string
		fails  bool
	}{
		{name: "two nodes", wanted: map[string]string{"192.168.1.0/24": "10.6.0.4", "192.168.2.0/24": "10.6.0.5"}},
		{name: "one moves, one is gone", wanted: map[string]string{"192.168.1.0/24": "10.6.0.6"}},
		{name: "one is out of reach", wanted: map[string]string{"192.168.1.0/24": "10.6.0.6", "192.168.3.0/24": "203.0.113.1"}, fails: true},
		{name: "none", wanted: map[string]string{}},
	} {
		if err := changeRoutes(step.wanted); (err != nil) != step.fails {
			t.Fatalf("%s: %v", step.name, err)
		}
		found := hops(t)
		if found["172.30.0.0/16"] != "10.6.0.9" {
			t.Errorf("%s: the route of somebody else became %v", step.name, found)
		}
		delete(found, "172.30.0.0/16")
		delete(step.wanted, "192.168.3.0/24")
		if len(found) != len(step.wanted) || found["192.168.1.0/24"] != step.wanted["192.168.1.0/24"] {
			t.Errorf("%s: routes %v, want %v", step.name, found, step.wanted)
		}
	}
}

func TestOnlyWhatLeavesTheClusterIsTranslated(t *testing.T) {
	ownNetwork(t)
	// The second time there is a table already.
	for _, podCIDRs := range [][]string{{"192.168.0.0/24"}, {"192.168.0.0/24", "192.168.1.0/24", "fd00::/64"}} {
		if err := masquerade(podCIDRs); err != nil {
			t.Fatal(err)
		}
		table := &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
		rules, err := new(nftables.Conn).GetRules(table, &nftables.Chain{Name: "postrouting", Table: table})
		if err != nil {
			t.Fatal(err)
		}
		if len(rules) != 2*len(podCIDRs) {
			t.Fatalf("%d rules for %v", len(rules), podCIDRs)
		}
		for i, rule := range rules {
			_, translates := rule.Exprs[len(rule.Exprs)-1].(*expr.Masq)
			if translates != (i >= len(podCIDRs)) {
				t.Errorf("rule %d of %v translates: %v", i, podCIDRs, translates)
			}
		}
	}
}

func TestAddressesThatAreNoneAreRefused(t *testing.T) {
	if _, err := masqueradeRules([]string{"192.168.0.0"}); err == nil {
		t.Error("no error")
	}
}
