// Package plane runs a management plane on one machine: etcd, an API server with garbage collection,
// the three managers of Cluster API, Sendan's provider and a simulated cloud, as child processes
// below one state directory.
//
// [Start] brings it up and [Plane.Stop] takes it down. In between a child that dies is started again
// with back-off. Everything is on loopback; nothing needs root, Docker or a container registry.
package plane
