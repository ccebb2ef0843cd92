// Package controllers is the Cluster API infrastructure provider: it turns SendanClusters and
// SendanMachines into networks, load balancers and servers of an OpenStack cloud.
//
// A reconcile reads everything it needs (gather), asks a pure planner what to do (plan), and does it
// (carryOut). The planner is a list of small steps. Each looks at the wanted state and at the cloud's
// inventory and concludes that it is done, that it waits and for what, or which calls to make now.
// Calls put what they made into the inventory, so the next round of the same plan sees it. Nothing
// sleeps: an inventory event or a known time brings the object back.
//
// Runbook: docs/runbooks/conditions.md.
package controllers
