package cloudinit

import (
	"fmt"
	"regexp"
	"strings"
)

// Instance is what the metadata service tells a machine about itself.
type Instance struct {
	ID       string
	Name     string
	HostName string
	Zone     string
	Region   string
	Project  string
	Address  string // the first fixed address
	Metadata map[string]string
}

var (
	jinjaComment    = regexp.MustCompile(`(?s)\{#.*?#\}`)
	jinjaExpression = regexp.MustCompile(`(?s)\{\{-?(.*?)-?\}\}`)
	jinjaIndex      = regexp.MustCompile(`\[\s*['"]([^'"]*)['"]\s*\]`)
	jinjaPath       = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_-]+)*$`)
)

// render replaces the expressions of a template: variables of cloud-init's instance data, with a few filters. What
// cloud-init does not know becomes a visible placeholder, as it does there.
func (i Instance) render(template string) (string, error) {
	template = jinjaComment.ReplaceAllString(template, "")
	if strings.Contains(template, "{%") {
		return "", fmt.Errorf("statements ({%% … %%}) are not supported, only expressions")
	}
	variables := i.variables()
	var failed error
	rendered := jinjaExpression.ReplaceAllStringFunc(template, func(match string) string {
		value, err := evaluate(jinjaExpression.FindStringSubmatch(match)[1], variables)
		if err != nil && failed == nil {
			failed = err
		}
		return value
	})
	return rendered, failed
}

func evaluate(expression string, variables map[string]string) (string, error) {
	parts := strings.Split(expression, "|")
	path := jinjaIndex.ReplaceAllString(strings.TrimSpace(parts[0]), ".$1")
	if !jinjaPath.MatchString(path) {
		return "", fmt.Errorf("expression %q is not a variable", strings.TrimSpace(expression))
	}
	value, known := variables[strings.ReplaceAll(path, "-", "_")]
	if !known {
		value = "CI_MISSING_JINJA_VAR/" + path[strings.LastIndex(path, ".")+1:]
	}
	for _, filter := range parts[1:] {
		switch filter = strings.TrimSpace(filter); filter {
		case "lower":
			value = strings.ToLower(value)
		case "upper":
			value = strings.ToUpper(value)
		case "trim", "string":
			value = strings.TrimSpace(value)
		default:
			return "", fmt.Errorf("filter %q is not supported", filter)
		}
	}
	return value, nil
}

// variables are cloud-init's instance data on OpenStack, flat. Hyphens of keys are underscores in templates.
func (i Instance) variables() map[string]string {
	standard := map[string]string{
		"instance_id": i.ID, "local_hostname": i.HostName, "availability_zone": i.Zone, "region": i.Region,
		"cloud_name": "openstack", "cloud_id": "openstack", "platform": "openstack",
	}
	known := map[string]string{
		"ds.meta_data.instance_id": i.ID, "ds.meta_data.uuid": i.ID, "ds.meta_data.project_id": i.Project,
		"ds.meta_data.name": i.Name, "ds.meta_data.hostname": i.HostName, "ds.meta_data.local_hostname": i.HostName,
		"ds.meta_data.availability_zone": i.Zone, "ds.meta_data.local_ipv4": i.Address,
		"ds.ec2_metadata.instance_id": i.ID, "ds.ec2_metadata.hostname": i.HostName, "ds.ec2_metadata.local_ipv4": i.Address,
		"ds.ec2_metadata.local_hostname": i.HostName,
	}
	for name, value := range standard {
		known[name], known["v1."+name] = value, value
	}
	for name, value := range i.Metadata {
		known["ds.meta_data.meta."+strings.ReplaceAll(name, "-", "_")] = value
	}
	return known
}
