package webhooks

import (
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"strings"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// providerIDPattern is both forms that the OpenStack cloud-controller-manager writes.
var providerIDPattern = regexp.MustCompile(`^openstack://[^/]*/[^/]+$`)

// takenMetadataPrefix is how the keys of the marks on servers begin.
const takenMetadataPrefix = "sendan-"

// rootVolumeName is the name of the root volume among the volumes of a machine.
const rootVolumeName = "root"

// validateMachineSpec holds the rules that SendanMachines and their templates share.
func validateMachineSpec(spec *infrav1.SendanMachineSpec, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	if spec.ProviderID != "" && !providerIDPattern.MatchString(spec.ProviderID) {
		wrong = append(wrong, field.Invalid(path.Child("providerID"), spec.ProviderID,
			"is not openstack:///<server id> or openstack://<region>/<server id>; remove it, the controller writes it"))
	}
	for i := range spec.Ports {
		wrong = append(wrong, validatePort(&spec.Ports[i], path.Child("ports").Index(i))...)
	}
	for i, volume := range spec.Volumes {
		if volume.Name == rootVolumeName {
			wrong = append(wrong, field.Invalid(path.Child("volumes").Index(i).Child("name"), volume.Name, "is the name of the root volume; choose another"))
		}
	}
	for i, entry := range spec.Metadata {
		if strings.HasPrefix(entry.Key, takenMetadataPrefix) {
			wrong = append(wrong, field.Invalid(path.Child("metadata").Index(i).Child("key"), entry.Key,
				fmt.Sprintf("begins with %q, which marks what is Sendan's own; choose another key", takenMetadataPrefix)))
		}
	}
	wrong = append(wrong, validateSchedulerHints(spec.SchedulerHints, path.Child("schedulerHints"))...)
	return append(wrong, validateTags(spec.Tags, path.Child("tags"))...)
}

func validateSchedulerHints(hints *apiextensionsv1.JSON, path *field.Path) field.ErrorList {
	object, bad := parseObject(hints, path)
	if bad != nil {
		return field.ErrorList{bad}
	}
	if group, set := object["group"]; set {
		return field.ErrorList{field.Invalid(path.Key("group"), group, "is the managed server group's; set serverGroup to join another")}
	}
	return nil
}

// parseObject reads a free-form field, which the clouds take as a JSON object only.
func parseObject(value *apiextensionsv1.JSON, path *field.Path) (map[string]any, *field.Error) {
	if value == nil {
		return nil, nil
	}
	var object map[string]any
	if err := json.Unmarshal(value.Raw, &object); err != nil || object == nil {
		return nil, field.Invalid(path, string(value.Raw), `is not an object; write it like {"key": "value"}`)
	}
	return object, nil
}

func validatePort(port *infrav1.Port, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	if bad := validateVNICType(port.VNICType, path.Child("vnicType")); bad != nil {
		wrong = append(wrong, bad)
	}
	if _, bad := parseObject(port.Profile, path.Child("profile")); bad != nil {
		wrong = append(wrong, bad)
	}
	for i, pair := range port.AllowedAddressPairs {
		wrong = append(wrong, validateAddressPair(pair, path.Child("allowedAddressPairs").Index(i))...)
	}
	if ptr.Deref(port.PortSecurityDisabled, false) {
		wrong = append(wrong, validateNoFilter(port, path)...)
	}
	return wrong
}

// validateNoFilter: Neutron refuses both on a port without port security.
func validateNoFilter(port *infrav1.Port, path *field.Path) field.ErrorList {
	const reason = "the port has no filter that could use it; remove it or portSecurityDisabled"
	var wrong field.ErrorList
	if len(port.SecurityGroups) > 0 {
		wrong = append(wrong, field.Forbidden(path.Child("securityGroups"), reason))
	}
	if len(port.AllowedAddressPairs) > 0 {
		wrong = append(wrong, field.Forbidden(path.Child("allowedAddressPairs"), reason))
	}
	return wrong
}

// validateVNICType knows the types of Neutron's port binding extension.
func validateVNICType(value string, path *field.Path) *field.Error {
	switch value {
	case "", "normal", "direct", "direct-physical", "macvtap", "baremetal", "virtio-forwarder", "vdpa",
		"remote-managed", "smart-nic", "accelerator-direct", "accelerator-direct-physical":
		return nil
	}
	return field.NotSupported(path, value, []string{"normal", "direct", "direct-physical", "macvtap", "baremetal", "virtio-forwarder", "vdpa", "remote-managed"})
}

func validateAddressPair(pair infrav1.AddressPair, path *field.Path) field.ErrorList {
	var wrong field.ErrorList
	parse := func(path *field.Path, value string) *field.Error {
		_, bad := parseAddress(path, value)
		return bad
	}
	if strings.Contains(pair.IPAddress, "/") {
		parse = func(path *field.Path, value string) *field.Error {
			_, bad := parseCIDR(path, value)
			return bad
		}
	}
	if bad := parse(path.Child("ipAddress"), pair.IPAddress); bad != nil {
		wrong = append(wrong, bad)
	}
	if _, err := net.ParseMAC(pair.MACAddress); pair.MACAddress != "" && err != nil {
		wrong = append(wrong, field.Invalid(path.Child("macAddress"), pair.MACAddress, "is not a MAC address; write it like fa:16:3e:00:00:01"))
	}
	return wrong
}
