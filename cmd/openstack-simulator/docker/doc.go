// Package docker is the node backend whose servers are real: each is a container that boots systemd from a node image
// (kind's, or a compatible one), carries out its user data as cloud-init would and becomes a Kubernetes node.
//
// Networks are real as well, and private to each Neutron network as in a cloud: a bridge in a network namespace of its
// own, so that projects may use the same addresses. A router leads out of it to the network that the simulator's own
// container is on, which is the cloud's external network: floating IPs are addresses there.
//
// The simulator has to run in a container itself, with --privileged and --pid host and with Docker's socket mounted;
// then nobody needs to be root on the machine.
package docker
