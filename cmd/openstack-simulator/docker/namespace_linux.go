package docker

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
)

// onThread runs do on an operating system thread that ends with it, since the network namespace of a thread that Go
// uses for other goroutines as well must not change.
func onThread(do func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- do()
	}()
	return <-done
}

// newNamespace makes a network namespace that lives as long as its handle, or what is in it.
func newNamespace() (netns.NsHandle, error) {
	handle := netns.None()
	err := onThread(func() (err error) {
		handle, err = netns.New()
		return err
	})
	if err != nil {
		return handle, fmt.Errorf("make network namespace: %w; the simulator's container needs --privileged", err)
	}
	return handle, nil
}

// within runs do in a network namespace. Sockets that it opens stay there.
func within(namespace netns.NsHandle, do func() error) error {
	return onThread(func() error {
		if err := netns.Set(namespace); err != nil {
			return fmt.Errorf("enter network namespace: %w", err)
		}
		return do()
	})
}

// forward lets a network namespace pass on packets. What Docker mounts read-only without --privileged is told.
func forward(namespace netns.NsHandle) error {
	return within(namespace, func() error {
		var failed error
		for _, file := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
			err := os.WriteFile(file, []byte("1"), 0o600)
			if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel may have no IPv6
				failed = errors.Join(failed, fmt.Errorf("switch on forwarding: %w; the simulator's container needs --privileged", err))
			}
		}
		return failed
	})
}
