//go:build !unix

package main

import "os"

func giveToOwnerOf(string, *os.File) error { return nil }
