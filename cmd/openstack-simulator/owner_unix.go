//go:build unix

package main

import (
	"fmt"
	"os"
	"syscall"
)

// giveToOwnerOf lets a file belong to whom its directory belongs to: as root in a container, this program would
// otherwise write files that the user it works for cannot read.
func giveToOwnerOf(directory string, file *os.File) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(directory)
	if err != nil {
		return err
	}
	owner, known := info.Sys().(*syscall.Stat_t)
	if !known {
		return nil
	}
	if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
		return fmt.Errorf("give it to the owner of %s: %w", directory, err)
	}
	return nil
}
