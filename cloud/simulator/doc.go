// Package simulator is an OpenStack over HTTP for tests, demos and drills. Keystone, Nova, Neutron,
// Octavia, Glance, Cinder and Placement answer as the real services do, down to error bodies, asynchronous
// states, quotas, microversions and paging, so that gophercloud, python-openstackclient and the
// OpenStack cloud-controller-manager cannot tell the difference for what they use.
//
// Everything is deterministic under a seed and an injected clock: a change that takes time is put on
// an agenda, and the agenda is worked off before each request is answered. On a real clock a
// goroutine works it off as well. Faults, latencies and capacity are data: see [Scenario] and the
// control API under /_simulator.
package simulator
