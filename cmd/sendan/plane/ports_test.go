package plane

import (
	"io"
	"log"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestPortsAreTheSameAfterARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	names := []string{"a", "b", "c"}
	first, second := ports(t, file, names), ports(t, file, names)
	if !maps.Equal(first, second) {
		t.Errorf("ports were %v and then %v", first, second)
	}
}

func TestAPortThatSomebodyTookIsReplacedAndTheOthersStay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	names := []string{"a", "b"}
	first := ports(t, file, names)
	listener, err := net.Listen("tcp", loopback(first["a"]))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()

	second := ports(t, file, names)
	if second["a"] == first["a"] {
		t.Errorf("port %d was chosen although it is taken", first["a"])
	}
	if second["b"] != first["b"] {
		t.Errorf("port of b changed from %d to %d", first["b"], second["b"])
	}
	if third := ports(t, file, names); !maps.Equal(second, third) {
		t.Errorf("the new choice was not remembered: %v and then %v", second, third)
	}
}

func TestNoTwoNamesGetOnePort(t *testing.T) {
	seen := map[int]string{}
	for name, port := range ports(t, filepath.Join(t.TempDir(), "ports.json"), portNames()) {
		if other, taken := seen[port]; taken {
			t.Errorf("%s and %s both got %d", name, other, port)
		}
		seen[port] = name
	}
}

func TestGarbageInThePortsFileNamesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ports.json")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := choosePorts(file, []string{"a"})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("error is %v, want one that names %s", err, file)
	}
}

func TestTwoPlanesGetDifferentLoopbackBlocks(t *testing.T) {
	first, err := reserveLoopbackBlock()
	if err != nil {
		t.Skip("this machine has only one loopback address:", err)
	}
	second, err := reserveLoopbackBlock()
	if err != nil {
		t.Fatal(err)
	}
	if first.cidr == second.cidr {
		t.Errorf("both got %s", first.cidr)
	}
	second.release()
	first.release()
}

func ports(t *testing.T, file string, names []string) map[string]int {
	t.Helper()
	chosen, err := choosePorts(file, names)
	if err != nil {
		t.Fatal(err)
	}
	return chosen
}
