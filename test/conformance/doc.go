// Package conformance tells whether Sendan works with an OpenStack cloud: the operations of package cloud, feature by feature,
// then the provider with its real controllers. `make conformance OS_CLOUD=name` runs it against any cloud, `make test` against
// the simulator. See docs/operations/conformance.md.
package conformance
