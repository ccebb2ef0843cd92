// Package e2e runs Sendan as its users do: in a kind cluster, installed by clusterctl, with a simulated cloud whose servers
// are containers that boot real Kubernetes nodes. Upstream's own specs judge it, and stories of ours do.
//
// `make e2e` builds what it takes and runs the suite. Without the repository that it is given there, `go test` compiles the
// suite and skips it, so that it stays in step with the code on machines without Docker.
//
//	suite_test.go        what is started once, and how specs share two processors
//	environment_test.go  what every spec gets to know about it
//	kind_test.go, cloud_test.go, openstack_test.go, docker_test.go, repository_test.go   the parts of the environment
//	tenant_test.go, pods_test.go   a tenant cluster, seen from its management cluster, and what runs in it
//	life_test.go         one cluster from its creation to its deletion in another management cluster
//	boot_test.go         a machine whose first boot fails
//	race_test.go         the same cluster beside one of Cluster API's provider for containers
//	fleet_test.go        the fleet manager, from what a platform team writes to what a tenant gets
//	loadbalancer_test.go Services of a cluster, served by OpenStack's own cloud-controller-manager
//	upstream_test.go     upstream's specs with our templates
//	report_test.go       tables of results, and what is kept of a failure
//	data                 templates, as kustomizations of those that users get
//
// Everything that is made carries the prefix sendan-e2e and is removed at the end. While developing,
// `make e2e E2E_FLAGS=-e2e.keep` leaves the management clusters and the cloud running, and the next run uses them.
package e2e
