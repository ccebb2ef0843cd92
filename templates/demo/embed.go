// Package demo holds the cluster that `sendan demo` makes.
package demo

import _ "embed"

// Cluster is cluster.yaml.
//
//go:embed cluster.yaml
var Cluster []byte

// PodNetwork is cni.yaml, which real nodes need to become Ready.
//
//go:embed cni.yaml
var PodNetwork []byte
