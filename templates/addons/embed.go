// Package addons holds the add-ons that ship with the fleet manager, as <name>/<version>/*.yaml. docs/addons.md describes
// them and how to write one.
package addons

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

//go:embed */*/*.yaml
var files embed.FS

// PodNetwork is the add-on sendan-cni, which real nodes of the demo need to become Ready.
//
//go:embed sendan-cni/v1.0.0/cni.yaml
var PodNetwork []byte

// Names of the add-ons.
func Names() []string { return folders(".") }

// Versions of an add-on; none for a name that there is not.
func Versions(name string) []string {
	if !slices.Contains(Names(), name) {
		return nil
	}
	return folders(name)
}

// Manifests of one version, its files in alphabetical order. The error of a name or version that there is not says which
// there are.
func Manifests(name, version string) (string, error) {
	versions := Versions(name)
	if versions == nil {
		return "", fmt.Errorf("there is no builtin %q; there are %s", name, strings.Join(Names(), ", "))
	}
	if !slices.Contains(versions, version) {
		return "", fmt.Errorf("the builtin %s has no version %q; it has %s", name, version, strings.Join(versions, ", "))
	}
	folder := path.Join(name, version)
	entries, err := fs.ReadDir(files, folder)
	if err != nil {
		return "", fmt.Errorf("read the builtin %s: %w", name, err)
	}
	var texts []string
	for _, entry := range entries {
		text, err := fs.ReadFile(files, path.Join(folder, entry.Name()))
		if err != nil {
			return "", fmt.Errorf("read the builtin %s: %w", name, err)
		}
		texts = append(texts, string(text))
	}
	return strings.Join(texts, "\n---\n"), nil
}

func folders(parent string) []string {
	entries, err := fs.ReadDir(files, parent)
	if err != nil {
		return nil
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
