// Package templates turns what a platform team says about GPU machines into nodes that have exactly that.
//
// A NodeTemplate means a [Shape]: devices, labels, what a node costs of a quota. A Release keeps copies of its templates and is
// compiled ([Compile]) to one ClusterClass for each Site, named by a hash of its content, so that nothing that is edited
// changes a cluster that is there. Admission completes a tenant's short Cluster from the release of their channel.
//
// User guide: docs/templates.md, docs/releases.md. Runbook: docs/runbooks/fleet-conditions.md.
package templates
