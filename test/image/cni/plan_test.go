package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func node(name, address string, podCIDRs ...string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.NodeSpec{PodCIDRs: podCIDRs},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address},
		}},
	}
}

func TestPodsOfOtherNodesAreReachedThroughThem(t *testing.T) {
	p := plan("a", []*corev1.Node{
		node("a", "10.6.0.3", "192.168.0.0/24"), node("b", "10.6.0.4", "192.168.1.0/24"),
		node("no pods yet", "10.6.0.5"), node("no address yet", "", "192.168.3.0/24"), node("other version", "10.6.0.6", "fd00::/64"),
	})
	if want := map[string]string{"192.168.1.0/24": "10.6.0.4"}; !maps.Equal(p.routes, want) {
		t.Errorf("routes %v, want %v", p.routes, want)
	}
	if want := []string{"192.168.0.0/24", "192.168.1.0/24", "192.168.3.0/24", "fd00::/64"}; !slices.Equal(p.allPodCIDRs, want) {
		t.Errorf("pods of all nodes %v, want %v", p.allPodCIDRs, want)
	}
	if !json.Valid([]byte(p.config)) || !strings.Contains(p.config, `"subnet": "192.168.0.0/24"`) || strings.Contains(p.config, "192.168.1.0") {
		t.Errorf("configuration %s", p.config)
	}
}

func TestPodsWaitUntilTheirNodeHasAddressesForThem(t *testing.T) {
	if p := plan("a", []*corev1.Node{node("a", "10.6.0.3")}); p.config != "" {
		t.Errorf("configuration %s", p.config)
	}
}

func TestTheConfigurationIsReplacedAsAWhole(t *testing.T) {
	file := filepath.Join(t.TempDir(), "net.d", "10.conflist")
	for _, content := range []string{"a longer one", "short"} {
		if err := replaceFile(file, content); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(file); err != nil || string(got) != content {
			t.Errorf("%q, %v", got, err)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(file)); len(entries) != 1 {
		t.Errorf("%d files, want one", len(entries))
	}
}
