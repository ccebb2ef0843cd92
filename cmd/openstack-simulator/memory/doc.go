// Package memory is the simulator's node backend `memory`: servers that behave as Kubernetes nodes as far as anybody
// can see from outside, at a cost of kilobytes.
//
// A server's user data decides what it becomes, as on a real machine: kubeadm init makes a tenant cluster, kubeadm join
// adds to one that is found by its endpoint and the hash of its certificate authority, and no kubeadm makes a server
// that runs nothing. A tenant cluster has an API (package kubeapi) and an etcd membership; each control-plane machine
// serves both with certificates of the tenant's own authorities and stops doing so when it is powered off, destroyed,
// or removed from etcd. What no machine does is run containers.
//
// Of the controllers of a real cluster, those are imitated whose effects a fleet depends on: node lifecycle (a silent
// node becomes Unknown), the cloud controller manager (provider id, zone, addresses; it is taken to be in every
// cluster, and the network to be ready), garbage collection, and the vendors' device plugins with NVIDIA's MIG manager and
// GPU feature discovery.
package memory
