package plane

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// Load balancers of the simulated cloud are reached at loopback addresses, all at the same port. So
// that several planes can run on one machine, each has a block of its own.
const (
	firstLoopbackBlock = 64
	lastLoopbackBlock  = 254
	// reservationPort is any port: listening there is what tells other planes that a block is taken,
	// for exactly as long as the process lives.
	reservationPort = "6443"
)

// loopbackBlock is 127.<second octet>.0.0/16.
type loopbackBlock struct {
	cidr        string
	reservation net.Listener
}

// reserveLoopbackBlock takes the first block that no other plane uses. The address reserved is the
// gateway of the external network, which the cloud gives to nobody.
func reserveLoopbackBlock() (*loopbackBlock, error) {
	var err error
	for octet := firstLoopbackBlock; octet <= lastLoopbackBlock; octet++ {
		var listener net.Listener
		listener, err = net.Listen("tcp", net.JoinHostPort(fmt.Sprintf("127.%d.0.1", octet), reservationPort))
		if err == nil {
			return &loopbackBlock{cidr: fmt.Sprintf("127.%d.0.0/16", octet), reservation: listener}, nil
		}
	}
	return nil, fmt.Errorf("reserve loopback addresses for load balancers: %w", err)
}

func (b *loopbackBlock) release() { _ = b.reservation.Close() }

// scenario is the simulated cloud's, where it differs from the simulator's default.
func (l Layout) scenario() string { return filepath.Join(l.Dir, "scenario.yaml") }

func (l Layout) writeScenario(block *loopbackBlock, extra string) error {
	text := fmt.Sprintf("externalNetworks:\n- name: public\n  cidr: %s\n%s", block.cidr, extra)
	if err := os.WriteFile(l.scenario(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("write scenario: %w", err)
	}
	return nil
}
