// Package sites keeps what is known of each cloud in the status of its Site: what it offers, what is free of it,
// and since when it does not answer; for platform engineers, and for the releases that are compiled for it. It also tells
// pools that wait for hardware their place in line.
//
// One reconcile asks one cloud once. docs/sites.md tells what the numbers promise, and what it takes to see them. Decisions
// are in plan.go, capacity.go and queue.go; everything that is read is in gather.go and credentials.go.
package sites
