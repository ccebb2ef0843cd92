// Package config holds the manifests that the API server needs to know Sendan's kinds, for programs
// that set up a management plane themselves.
package config

import "embed"

// Manifests holds crd/bases and webhook/manifests.yaml, as generated from the source.
//
//go:embed crd/bases/*.yaml webhook/manifests.yaml
var Manifests embed.FS
