// Package demo holds the cluster that `sendan demo` makes.
package demo

import (
	_ "embed"

	"github.com/sendan-io/sendan/templates/addons"
)

// Cluster is cluster.yaml.
//
//go:embed cluster.yaml
var Cluster []byte

// PodNetwork is what real nodes need to become Ready.
var PodNetwork = addons.PodNetwork
