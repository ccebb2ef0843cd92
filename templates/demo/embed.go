// Package demo holds the cluster that `sendan demo` makes.
package demo

import _ "embed"

// Cluster is cluster.yaml.
//
//go:embed cluster.yaml
var Cluster []byte
