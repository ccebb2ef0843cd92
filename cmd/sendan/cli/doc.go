// Package cli has the commands by which tenants and platform engineers use a fleet: they make and look at clusters, and see
// what there is to make them of. Each command is a thin layer over the objects of the Kubernetes API, which is where every
// rule is enforced: what a command is refused, kubectl is refused as well, in the same words.
//
// A file has the commands of one noun; those of clusters have a file each. What a command shows is made by functions that
// only know the objects, the time and how wide it may be. docs/cli.md is for readers of the output.
package cli
