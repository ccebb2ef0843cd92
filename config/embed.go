// Package config holds the manifests that the API server needs to know Sendan's kinds, for programs
// that set up a management plane themselves.
package config

import (
	"embed"
	"io/fs"
)

//go:embed infrastructure/crd/bases/*.yaml infrastructure/webhook/manifests.yaml
//go:embed fleet/crd/bases/*.yaml fleet/rbac/tenant_roles.yaml
var manifests embed.FS

// Infrastructure holds crd/bases and webhook/manifests.yaml of the infrastructure provider, as generated from the source.
func Infrastructure() fs.FS { return below("infrastructure") }

// Fleet holds crd/bases of the fleet manager, and the roles of tenants. Its webhooks are [FleetWebhooks].
func Fleet() fs.FS { return below("fleet") }

// below cannot fail: the folder is embedded above.
func below(directory string) fs.FS {
	sub, err := fs.Sub(manifests, directory)
	if err != nil {
		panic(err)
	}
	return sub
}
