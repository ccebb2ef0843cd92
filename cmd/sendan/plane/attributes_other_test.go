//go:build !linux

package plane

import "syscall"

func diesWithSupervisor() bool { return false }

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }
