package plane

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
)

// Ports are taken from below the range that the kernel picks outgoing ports from, so that nothing
// takes one while its program restarts.
const (
	firstPort    = 10000
	lastPort     = 19999
	portAttempts = 1000
)

// choosePorts gives each name a free loopback port. The choice is remembered in file, so that after a
// restart a copied kubeconfig still works, as long as nobody took its port meanwhile.
func choosePorts(file string, names []string) (map[string]int, error) {
	remembered, err := readPorts(file)
	if err != nil {
		return nil, err
	}
	ports := make(map[string]int, len(names))
	var held []net.Listener // until all are chosen, so that no two get the same
	defer func() {
		for _, listener := range held {
			_ = listener.Close()
		}
	}()
	for _, name := range names {
		listener, err := listenAtOrNear(remembered[name])
		if err != nil {
			return nil, fmt.Errorf("choose port for %s: %w", name, err)
		}
		held = append(held, listener)
		ports[name] = listener.Addr().(*net.TCPAddr).Port
	}
	data, err := json.MarshalIndent(ports, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode ports: %w", err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return nil, fmt.Errorf("remember ports: %w", err)
	}
	return ports, nil
}

func readPorts(file string) (map[string]int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read remembered ports: %w", err)
	}
	var ports map[string]int
	if err := json.Unmarshal(data, &ports); err != nil {
		return nil, fmt.Errorf("read remembered ports from %s: %w", file, err)
	}
	return ports, nil
}

// listenAtOrNear listens at the wanted port if it is set and free, else at any free one.
func listenAtOrNear(wanted int) (net.Listener, error) {
	if wanted != 0 {
		if listener, err := net.Listen("tcp", loopback(wanted)); err == nil {
			return listener, nil
		}
	}
	var err error
	for range portAttempts {
		var listener net.Listener
		listener, err = net.Listen("tcp", loopback(firstPort+rand.IntN(lastPort-firstPort+1)))
		if err == nil {
			return listener, nil
		}
	}
	return nil, fmt.Errorf("none of %d ports tried between %d and %d is free: %w", portAttempts, firstPort, lastPort, err)
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
