// Package members keeps a FleetMember beside every Cluster, of any infrastructure provider: the fleet at a glance, and the
// place where the other capabilities keep what they know of the cluster.
//
// [Plan] sums up what Cluster API and the fleet manager already know: Cluster, MachineDeployments, the Machines without their
// devices, namespace, Release and the add-ons in the FleetMember itself. It asks no tenant cluster anything. The controller
// writes every part of the status except status.addons, which the capability of that name writes.
//
// docs/fleet.md shows it to people.
package members
