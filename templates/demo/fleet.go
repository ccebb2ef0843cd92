package demo

import _ "embed"

// Platform is platform.yaml: a site, node templates, an add-on, a release and a tenant.
//
//go:embed platform.yaml
var Platform []byte

// Training is training.yaml, a cluster made of them.
//
//go:embed training.yaml
var Training []byte

// Notebook is notebook.yaml, a cluster of one machine.
//
//go:embed notebook.yaml
var Notebook []byte
