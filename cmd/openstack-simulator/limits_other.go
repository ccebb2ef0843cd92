//go:build !unix

package main

// raiseOpenFileLimit has nothing to raise.
func raiseOpenFileLimit() error { return nil }
