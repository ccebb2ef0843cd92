// Package scale runs the fleet manager as a process against a real kube-apiserver that has a fleet on it, and counts what it
// costs: memory, requests, and how long its admission takes. Tenant clusters are API servers in the memory of the test, one for
// each; what Cluster API and its providers would write to the management cluster is written by the test.
//
// `go test` runs it with few clusters and asserts what is counted. `make bench-fleet` runs it with many, and writes
// bench/fleet.md.
package scale
