// Package kubeapi is a Kubernetes API server small enough that one process holds thousands of them: a store of encoded
// objects for each cluster and an HTTP handler over it.
//
// It serves what controllers use of a tenant cluster: discovery, get, list with label and field selectors, watch with
// bookmarks and WatchList, create, update, the four kinds of patch (server-side apply included), the status and
// eviction subresources, deletion with finalizers and owner references, custom resources, tables for kubectl, and port
// forwarding. Workloads say at once that they run, though no pods do. It does not validate or default objects, run
// admission, serve OpenAPI, or decide who may do what: whoever a request comes from is the business of the handler in
// front.
package kubeapi
