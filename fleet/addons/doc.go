// Package addons gives tenant clusters what they need beyond Kubernetes: a network, device plugins, storage.
//
// [Plan] decides from the management cluster's objects which Addons a Cluster gets, in which version, order and words. One
// reconcile for each Cluster then carries all of that out in a visit to the cluster: server-side apply of what has
// drifted, removal of what is no longer rendered, health by kstatus. What was applied is recorded in the tenant cluster before
// it is applied (see inventory), so neither a lost status nor a crash forgets an object. It writes FleetMember.status.addons
// and nothing else there; a second, small controller sums up those in the Addons' own status.
//
// docs/addons.md shows it to people; docs/runbooks/fleet-conditions.md has the reasons.
package addons
