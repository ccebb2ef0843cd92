package docker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/sendan-io/sendan/cloud/simulator"
)

const (
	soon       = 10 * time.Second
	fruitless  = 500 * time.Millisecond
	serverPort = 6443
)

// newTestWiring is the wiring of a cloud whose external network, 192.0.2.0/24, exists in this test only.
func newTestWiring(t *testing.T) *wiring {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("making networks needs root")
	}
	namespace, err := newNamespace()
	must(t, err)
	t.Cleanup(func() { _ = namespace.Close() })
	handle, err := netlink.NewHandleAt(namespace)
	must(t, err)
	defer handle.Close()
	must(t, up(handle, "lo"))
	must(t, handle.LinkAdd(&netlink.Veth{LinkAttrs: attributes("eth0", 0), PeerName: "elsewhere"}))
	must(t, up(handle, "elsewhere"))
	link, err := handle.LinkByName("eth0")
	must(t, err)
	must(t, handle.AddrReplace(link, on(netip.MustParsePrefix("192.0.2.2/24"))))
	must(t, up(handle, "eth0"))
	must(t, handle.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(192, 0, 2, 1)}))
	w, err := newWiring(namespace)
	must(t, err)
	t.Cleanup(w.close)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// machine is a process in a network namespace of its own, as a container is.
type machine struct {
	t         *testing.T
	pid       int
	namespace netns.NsHandle
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sleep", "60")
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	must(t, command.Start())
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	namespace, err := netns.GetFromPid(command.Process.Pid)
	must(t, err)
	t.Cleanup(func() { _ = namespace.Close() })
	return &machine{t: t, pid: command.Process.Pid, namespace: namespace}
}

// answers lets the machine say a word to whoever connects.
func (m *machine) answers(address, word string) {
	m.t.Helper()
	var socket net.Listener
	must(m.t, within(m.namespace, func() (err error) {
		socket, err = new(net.ListenConfig).Listen(m.t.Context(), "tcp", address)
		return err
	}))
	answer(m.t, socket, word)
}

func answer(t *testing.T, socket net.Listener, word string) {
	t.Cleanup(func() { _ = socket.Close() })
	go func() {
		for {
			connection, err := socket.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(connection, word)
			_ = connection.Close()
		}
	}()
}

// hears is what an address says to this machine.
func (m *machine) hears(address string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), soon)
	defer cancel()
	var connection net.Conn
	err := within(m.namespace, func() (err error) {
		connection, err = new(net.Dialer).DialContext(ctx, "tcp", address)
		return err
	})
	if err != nil {
		return "", err
	}
	return readAll(connection)
}

func readAll(connection net.Conn) (string, error) {
	defer func() { _ = connection.Close() }()
	text, err := io.ReadAll(connection)
	return string(text), err
}

func (w *wiring) hears(t *testing.T, port simulator.Port, within time.Duration) (string, error) {
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	connection, err := w.dial(ctx, port.Network, netip.AddrPortFrom(port.Addresses[0].Addr(), serverPort))
	if err != nil {
		return "", err
	}
	return readAll(connection)
}

func portOn(network, id, address string) simulator.Port {
	return simulator.Port{
		ID: id, MACAddress: "fa:16:3e:00:00:01", Up: true,
		Network:   simulator.Network{ID: network, MTU: 1450, Gateways: []netip.Prefix{netip.MustParsePrefix("10.6.0.1/24")}},
		Addresses: []netip.Prefix{netip.MustParsePrefix(address)},
	}
}

const (
	firstPort  = "11111111-aaaa-4000-8000-000000000001"
	secondPort = "22222222-aaaa-4000-8000-000000000002"
)

func TestNetworksWithTheSameAddressesDoNotMeet(t *testing.T) {
	w := newTestWiring(t)
	for _, network := range []string{"red", "blue"} {
		m, port := newMachine(t), portOn(network, firstPort, "10.6.0.3/24")
		must(t, w.plug(m.pid, 0, network+"-server", port))
		m.answers("10.6.0.3:6443", network)
	}
	for _, network := range []string{"red", "blue"} {
		if got, err := w.hears(t, portOn(network, firstPort, "10.6.0.3/24"), soon); got != network || err != nil {
			t.Errorf("%s says %q, %v", network, got, err)
		}
	}
}

func TestServersReachEachOtherAVIPAndAFloatingIP(t *testing.T) {
	w := newTestWiring(t)
	one, two := newMachine(t), newMachine(t)
	port := portOn("red", firstPort, "10.6.0.3/24")
	must(t, w.plug(one.pid, 0, "one", port))
	other := portOn("red", secondPort, "10.6.0.4/24")
	other.MACAddress = "fa:16:3e:00:00:02"
	must(t, w.plug(two.pid, 0, "two", other))
	two.answers("10.6.0.4:80", "two")

	vip, err := w.listen(port.Network, netip.MustParseAddrPort("10.6.0.9:6443"))
	must(t, err)
	answer(t, vip, "VIP")
	floating, err := w.listen(simulator.Network{ID: "public", External: true}, netip.MustParseAddrPort("192.0.2.77:6443"))
	must(t, err)
	answer(t, floating, "floating IP")

	for address, want := range map[string]string{"10.6.0.4:80": "two", "10.6.0.9:6443": "VIP", "192.0.2.77:6443": "floating IP"} {
		if got, err := one.hears(address); got != want || err != nil {
			t.Errorf("%s says %q, %v; want %q", address, got, err, want)
		}
	}
}

func TestAPulledCableCutsAServerOff(t *testing.T) {
	w := newTestWiring(t)
	m, port := newMachine(t), portOn("red", firstPort, "10.6.0.3/24")
	must(t, w.plug(m.pid, 0, "server", port))
	m.answers("10.6.0.3:6443", "here")
	port.Up = false
	must(t, w.setLink(port))
	if got, err := w.hears(t, port, fruitless); err == nil {
		t.Errorf("reached although cut off: %q", got)
	}
	port.Up = true
	must(t, w.setLink(port))
	if got, err := w.hears(t, port, soon); got != "here" || err != nil {
		t.Errorf("plugged in again it says %q, %v", got, err)
	}
}

func TestAServerThatStartsAgainIsPluggedInAgain(t *testing.T) {
	w := newTestWiring(t)
	port := portOn("red", firstPort, "10.6.0.3/24")
	must(t, w.plug(newMachine(t).pid, 0, "server", port))
	again := newMachine(t)
	must(t, w.plug(again.pid, 0, "server", port))
	again.answers("10.6.0.3:6443", "again")
	if got, err := w.hears(t, port, soon); got != "again" || err != nil {
		t.Errorf("it says %q, %v", got, err)
	}
}

func TestANetworkGoesWithItsLastUser(t *testing.T) {
	w := newTestWiring(t)
	m, port := newMachine(t), portOn("red", firstPort, "10.6.0.3/24")
	must(t, w.plug(m.pid, 0, "server", port))
	vip, err := w.listen(port.Network, netip.MustParseAddrPort("10.6.0.9:6443"))
	must(t, err)
	w.forget("server", port)
	if len(w.networks) != 1 {
		t.Error("the network is gone although a VIP is on it")
	}
	must(t, vip.Close())
	must(t, ignoreClosed(vip.Close())) // closing twice gives one address back once
	if len(w.networks) != 0 {
		t.Error("the network is left over")
	}
	if _, err := w.external.handle.LinkByName("uplink0"); err == nil {
		t.Error("its uplink is left over")
	}
	if _, err := w.hears(t, port, fruitless); err == nil {
		t.Error("its server is still reached")
	}
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func TestAListenersAddressIsGivenBackWithTheLastPort(t *testing.T) {
	w := newTestWiring(t)
	public := simulator.Network{ID: "public", External: true}
	api, err := w.listen(public, netip.MustParseAddrPort("192.0.2.77:6443"))
	must(t, err)
	web, err := w.listen(public, netip.MustParseAddrPort("192.0.2.77:443"))
	must(t, err)
	must(t, api.Close())
	if !hasAddress(t, w.external, "192.0.2.77/32") {
		t.Error("the address is gone while a port of it is open")
	}
	must(t, web.Close())
	if hasAddress(t, w.external, "192.0.2.77/32") {
		t.Error("the address is left over")
	}
}

func hasAddress(t *testing.T, s *segment, want string) bool {
	t.Helper()
	addresses, err := s.handle.AddrList(s.link, netlink.FAMILY_V4)
	must(t, err)
	for _, address := range addresses {
		if address.IPNet.String() == want {
			return true
		}
	}
	return false
}

func TestATakenPortIsRefusedAndItsAddressStays(t *testing.T) {
	w := newTestWiring(t)
	public, address := simulator.Network{ID: "public", External: true}, netip.MustParseAddrPort("192.0.2.77:6443")
	first, err := w.listen(public, address)
	must(t, err)
	answer(t, first, "first")
	if _, err := w.listen(public, address); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening twice: %v", err)
	}
	if !hasAddress(t, w.external, "192.0.2.77/32") {
		t.Error("the address is gone")
	}
}

func TestServersCannotBeOnAnExternalNetwork(t *testing.T) {
	w := newTestWiring(t)
	port := portOn("public", firstPort, "192.0.2.9/24")
	port.Network.External = true
	if err := w.plug(newMachine(t).pid, 0, "server", port); err == nil {
		t.Error("it was not refused")
	}
}
