package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"k8s.io/apimachinery/pkg/labels"
)

var everything = labels.Everything()

// changeRoutes takes away the routes that are no longer wanted and sets the others.
func changeRoutes(before, wanted map[string]string) error {
	for destination := range before {
		if _, still := wanted[destination]; still {
			continue
		}
		_, network, err := net.ParseCIDR(destination)
		if err != nil {
			return fmt.Errorf("route to %s: %w", destination, err)
		}
		_ = netlink.RouteDel(&netlink.Route{Dst: network}) // fails only when it is gone
	}
	for destination, hop := range wanted {
		_, network, err := net.ParseCIDR(destination)
		if err != nil {
			return fmt.Errorf("route to %s: %w", destination, err)
		}
		if err := netlink.RouteReplace(&netlink.Route{Dst: network, Gw: net.ParseIP(hop)}); err != nil {
			return fmt.Errorf("route to %s through %s: %w", destination, hop, err)
		}
	}
	return nil
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
