package plane

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
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

// blockInScenario finds the block in what writeScenario wrote.
var blockInScenario = regexp.MustCompile(`(?m)^  cidr: 127\.([0-9]+)\.0\.0/16$`)

// loopbackBlock is 127.<second octet>.0.0/16.
type loopbackBlock struct {
	cidr        string
	reservation net.Listener
}

// reserveBlock takes the block that a kept cloud has its addresses in, or else any.
func (p *Plane) reserveBlock() (*loopbackBlock, error) {
	if p.options.KeepCloud {
		octet, err := p.layout.keptBlock()
		if err != nil {
			return nil, err
		}
		if octet != 0 {
			return reserveKeptBlock(octet)
		}
	}
	return reserveLoopbackBlock()
}

// keptBlock is the second octet of a kept cloud's block; zero when no cloud is kept.
func (l Layout) keptBlock() (int, error) {
	if _, err := os.Stat(l.cloudState()); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	text, err := os.ReadFile(l.scenario())
	if err != nil {
		return 0, fmt.Errorf("find the addresses of the kept cloud: %w", err)
	}
	match := blockInScenario.FindSubmatch(text)
	if match == nil {
		return 0, fmt.Errorf("find the addresses of the kept cloud: %s names no network 127.x.0.0/16; delete %s to start with an empty cloud", l.scenario(), l.cloudState())
	}
	return strconv.Atoi(string(match[1]))
}

// reserveKeptBlock has no choice: clusters are known by their addresses.
func reserveKeptBlock(octet int) (*loopbackBlock, error) {
	block, err := reserveOneBlock(octet)
	if err != nil {
		return nil, fmt.Errorf("127.%d.0.0/16, where the kept cloud has its load balancers, is in use by another plane, stop that one first: %w", octet, err)
	}
	return block, nil
}

// reserveLoopbackBlock takes the first block that no other plane uses.
func reserveLoopbackBlock() (*loopbackBlock, error) {
	var err error
	for octet := firstLoopbackBlock; octet <= lastLoopbackBlock; octet++ {
		var block *loopbackBlock
		if block, err = reserveOneBlock(octet); err == nil {
			return block, nil
		}
	}
	return nil, fmt.Errorf("reserve loopback addresses for load balancers: %w", err)
}

// reserveOneBlock reserves the gateway of the external network, which the cloud gives to nobody.
func reserveOneBlock(octet int) (*loopbackBlock, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(fmt.Sprintf("127.%d.0.1", octet), reservationPort))
	if err != nil {
		return nil, err
	}
	return &loopbackBlock{cidr: fmt.Sprintf("127.%d.0.0/16", octet), reservation: listener}, nil
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
