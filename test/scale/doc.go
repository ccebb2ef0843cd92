// Package scale runs Sendan's managers as processes against a real kube-apiserver that has a fleet on it, counts what they cost
// (memory, requests, how long admission takes), and lets one take over from another. What Cluster API and its providers would write
// to the management cluster is written by the test. The fleet manager's tenant clusters are API servers in the memory of the test,
// one for each; the provider's cloud is simulated, and most of its clusters are copies of some that it made.
//
// `go test` runs it with few clusters and asserts what is counted. `make bench-fleet` measures the fleet manager with many, and
// `make scale` the provider.
package scale
