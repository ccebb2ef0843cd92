package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	fleetv1 "github.com/sendan-io/sendan/api/fleet/v1alpha1"
)

// change is one thing that differs between two releases.
type change struct {
	// Part of the release: kubernetes, control plane, images, node templates, add-ons.
	Part string `json:"part"`
	// Name of the image's family and generation, of the template, or of the add-on.
	Name string `json:"name,omitempty"`
	// Field that differs; empty where the whole thing comes or goes.
	Field string `json:"field,omitempty"`
	// From is empty for what comes.
	From string `json:"from,omitempty"`
	// To is empty for what goes.
	To string `json:"to,omitempty"`
}

// fields of one thing, by their path.
type fields map[string]string

// things of one part of a release, by their name.
type things map[string]fields

// compareReleases finds what a cluster would get with another release, part by part.
func compareReleases(from, to fleetv1.ReleaseSpec) ([]change, error) {
	before, err := partsOf(from)
	if err != nil {
		return nil, err
	}
	after, err := partsOf(to)
	if err != nil {
		return nil, err
	}
	var changes []change
	for i := range before {
		changes = append(changes, compareThings(before[i].name, before[i].things, after[i].things)...)
	}
	return changes, nil
}

type part struct {
	name   string
	things things
}

// partsOf a release in the order in which they are shown.
func partsOf(release fleetv1.ReleaseSpec) ([]part, error) {
	controlPlane, err := flatten(&release.ControlPlane)
	if err != nil {
		return nil, err
	}
	templates := things{}
	for _, template := range release.NodeTemplates {
		spec := template.Spec
		if spec == nil {
			spec = &fleetv1.NodeTemplateSpec{}
		}
		if templates[template.Name], err = flatten(spec); err != nil {
			return nil, err
		}
	}
	addons := things{}
	for _, addon := range release.Addons {
		addons[addon.Name] = fields{"version": addon.Version}
		if addon.Manifests != "" {
			addons[addon.Name]["manifests"] = addon.Manifests
		}
	}
	return []part{
		{"Kubernetes", things{"": {"version": release.KubernetesVersion}}},
		{"Control plane", things{"": controlPlane}},
		{"Images", imagesOf(release.Images)},
		{"Node templates", templates},
		{"Add-ons", addons},
	}, nil
}

// imagesOf has one thing for each generation, since that is what a machine is given its image by.
func imagesOf(images []fleetv1.ReleaseImage) things {
	found := things{}
	for _, image := range images {
		generations := image.Generations
		if len(generations) == 0 {
			generations = []string{"any other"}
		}
		content := fields{"image": image.Image}
		for path, value := range map[string]string{
			"driver": image.Driver.Version, "cuda": image.Driver.CUDA, "kernel": image.Driver.Kernel,
		} {
			if value != "" {
				content[path] = value
			}
		}
		if image.Driver.FabricManager != nil {
			content["fabricManager"] = fmt.Sprint(*image.Driver.FabricManager)
		}
		for _, generation := range generations {
			found[image.Family+" for "+generation] = content
		}
	}
	return found
}

func compareThings(part string, from, to things) []change {
	var changes []change
	for _, name := range keysOf(from, to) {
		before, was := from[name]
		after, is := to[name]
		switch {
		case !was:
			changes = append(changes, change{Part: part, Name: name, To: summary(after)})
		case !is:
			changes = append(changes, change{Part: part, Name: name, From: summary(before)})
		default:
			for _, path := range keysOf(before, after) {
				if before[path] != after[path] {
					changes = append(changes, change{Part: part, Name: name, Field: path, From: before[path], To: after[path]})
				}
			}
		}
	}
	return changes
}

func keysOf[V any](all ...map[string]V) []string {
	keys := map[string]bool{}
	for _, each := range all {
		for key := range each {
			keys[key] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}

// summary of something that comes or goes: what is most asked about it.
func summary(content fields) string {
	for _, path := range []string{"image", "version", "flavor"} {
		if content[path] == "" {
			continue
		}
		text := content[path]
		if model := content["gpu.model"]; model != "" {
			text += ", " + content["gpu.count"] + " × " + model
		}
		if driver := content["driver"]; driver != "" {
			text += ", driver " + driver
		}
		return text
	}
	return "there"
}

// flatten turns an object into fields. Entries of lists that have a name are known by it, so that one in the middle can come
// or go without changing those after it.
func flatten(object any) (fields, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("convert %T: %w", object, err)
	}
	result := fields{}
	flattenInto(result, "", content)
	return result, nil
}

func flattenInto(result fields, path string, value any) {
	switch value := value.(type) {
	case map[string]any:
		for key, inner := range value {
			flattenInto(result, strings.TrimPrefix(path+"."+quotedIfDotted(key), "."), inner)
		}
	case []any:
		for i, inner := range value {
			flattenInto(result, fmt.Sprintf("%s[%s]", path, nameOf(inner, i)), inner)
		}
	default:
		result[path] = fmt.Sprint(value)
	}
}

func quotedIfDotted(key string) string {
	if strings.ContainsAny(key, "./") {
		return "[" + key + "]"
	}
	return key
}

// nameOf an entry of a list is the value of its key, or its place.
func nameOf(entry any, at int) string {
	if content, isObject := entry.(map[string]any); isObject {
		for _, key := range []string{"name", "profile", "resourceName", "key"} {
			if name, hasName := content[key].(string); hasName {
				return name
			}
		}
	}
	return fmt.Sprint(at)
}

// writeChanges shows the parts that differ: + is what comes, - what goes, ~ what changes.
func writeChanges(out io.Writer, changes []change, format string) error {
	switch format {
	case formatJSON:
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "    ")
		return encoder.Encode(append([]change{}, changes...))
	case formatYAML:
		text, err := yaml.Marshal(append([]change{}, changes...))
		if err == nil {
			_, err = out.Write(text)
		}
		return err
	}
	part, name := "", ""
	for _, c := range changes {
		if c.Part != part {
			_, _ = fmt.Fprintln(out, c.Part)
			part, name = c.Part, ""
		}
		switch {
		case c.Field == "" && c.From == "":
			_, _ = fmt.Fprintf(out, "  + %s: %s\n", c.Name, c.To)
		case c.Field == "":
			_, _ = fmt.Fprintf(out, "  - %s: %s\n", c.Name, c.From)
		case c.Name == "":
			_, _ = fmt.Fprintf(out, "  ~ %s: %s\n", c.Field, arrow(c))
		default:
			if c.Name != name {
				_, _ = fmt.Fprintf(out, "  ~ %s\n", c.Name)
				name = c.Name
			}
			_, _ = fmt.Fprintf(out, "      %s: %s\n", c.Field, arrow(c))
		}
	}
	return nil
}

// arrow shows what a field was and is. Of whole manifests only the length.
func arrow(c change) string {
	show := func(value string) string {
		switch lines := strings.Count(value, "\n"); {
		case value == "":
			return "unset"
		case lines == 0:
			return value
		default:
			return count(int64(lines), "line")
		}
	}
	return show(c.From) + " → " + show(c.To)
}
