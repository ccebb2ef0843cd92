// Package move takes a tenant's clusters from one management cluster to another by the commands of the documentation, with
// clusterctl, kubectl and two real API servers. In place of Cluster API's controllers the test writes what they would.
package move
