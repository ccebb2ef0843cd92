package webhooks

import (
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	infrav1 "github.com/sendan-io/sendan/api/infrastructure/v1alpha1"
)

// machine is a valid SendanMachine, changed by the case.
func machine(change func(*infrav1.SendanMachineSpec)) *infrav1.SendanMachine {
	machine := &infrav1.SendanMachine{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "training-1"},
		Spec: infrav1.SendanMachineSpec{
			Flavor: "g1.a100.8",
			Image:  infrav1.ResourceReference{Name: "ubuntu-24.04"},
			Ports:  []infrav1.Port{{VNICType: "normal"}},
		},
	}
	change(&machine.Spec)
	return machine
}

func rawJSON(text string) *apiextensionsv1.JSON { return &apiextensionsv1.JSON{Raw: []byte(text)} }

func TestAMachineSpecIsRefusedWhereItCannotWork(t *testing.T) {
	port := func(port infrav1.Port) func(*infrav1.SendanMachineSpec) {
		return func(s *infrav1.SendanMachineSpec) { s.Ports = []infrav1.Port{{}, port} }
	}
	pair := func(pair infrav1.AddressPair) func(*infrav1.SendanMachineSpec) {
		return port(infrav1.Port{AllowedAddressPairs: []infrav1.AddressPair{pair}})
	}
	cases := map[string]struct {
		change func(*infrav1.SendanMachineSpec)
		want   []string
	}{
		"as simple as can be":    {func(*infrav1.SendanMachineSpec) {}, nil},
		"a provider id":          {func(s *infrav1.SendanMachineSpec) { s.ProviderID = "openstack:///" + someID }, nil},
		"a regional provider id": {func(s *infrav1.SendanMachineSpec) { s.ProviderID = "openstack://east/" + someID }, nil},
		"another cloud's id":     {func(s *infrav1.SendanMachineSpec) { s.ProviderID = "aws:///i-1" }, []string{`spec.providerID: Invalid value: "aws:///i-1"`}},
		"a metadata key of ours": {func(s *infrav1.SendanMachineSpec) {
			s.Metadata = []infrav1.KeyValue{{Key: "sendan-cluster", Value: ptr.To("x")}}
		}, []string{`spec.metadata[0].key: Invalid value: "sendan-cluster": begins with "sendan-"`}},
		"a volume called root":      {func(s *infrav1.SendanMachineSpec) { s.Volumes = []infrav1.Volume{{Name: "root", SizeGiB: 1}} }, []string{`spec.volumes[0].name: Invalid value: "root"`}},
		"a tag with a slash":        {func(s *infrav1.SendanMachineSpec) { s.Tags = []string{"a/b"} }, []string{`spec.tags[0]: Invalid value: "a/b"`}},
		"scheduler hints":           {func(s *infrav1.SendanMachineSpec) { s.SchedulerHints = rawJSON(`{"different_host":["a"]}`) }, nil},
		"hints that are a list":     {func(s *infrav1.SendanMachineSpec) { s.SchedulerHints = rawJSON(`["a"]`) }, []string{`spec.schedulerHints: Invalid value: "[\"a\"]": is not an object`}},
		"hints that are null":       {func(s *infrav1.SendanMachineSpec) { s.SchedulerHints = rawJSON(`null`) }, []string{`is not an object`}},
		"a group in the hints":      {func(s *infrav1.SendanMachineSpec) { s.SchedulerHints = rawJSON(`{"group":"g"}`) }, []string{`spec.schedulerHints[group]: Invalid value: "g": is the managed server group's; set serverGroup`}},
		"a port for SR-IOV":         {port(infrav1.Port{VNICType: "direct", Profile: rawJSON(`{"capabilities":["switchdev"]}`)}), nil},
		"an unknown kind of port":   {port(infrav1.Port{VNICType: "sriov"}), []string{`spec.ports[1].vnicType: Unsupported value: "sriov"`}},
		"a profile that is text":    {port(infrav1.Port{Profile: rawJSON(`"switchdev"`)}), []string{`spec.ports[1].profile: Invalid value`}},
		"an open port":              {port(infrav1.Port{PortSecurityDisabled: ptr.To(true), Trunk: ptr.To(true)}), nil},
		"an open port with a group": {port(infrav1.Port{PortSecurityDisabled: ptr.To(true), SecurityGroups: []infrav1.ResourceReference{{Name: "g"}}}), []string{`spec.ports[1].securityGroups: Forbidden`}},
		"an open port with a pair": {port(infrav1.Port{PortSecurityDisabled: ptr.To(true), AllowedAddressPairs: []infrav1.AddressPair{{IPAddress: "10.0.0.1"}}}),
			[]string{`spec.ports[1].allowedAddressPairs: Forbidden`}},
		"an address pair":             {pair(infrav1.AddressPair{IPAddress: "10.0.0.1", MACAddress: "fa:16:3e:00:00:01"}), nil},
		"a range pair":                {pair(infrav1.AddressPair{IPAddress: "10.244.0.0/16"}), nil},
		"a pair without an address":   {pair(infrav1.AddressPair{IPAddress: "vip"}), []string{`spec.ports[1].allowedAddressPairs[0].ipAddress: Invalid value: "vip"`}},
		"a range pair with host bits": {pair(infrav1.AddressPair{IPAddress: "10.244.1.1/16"}), []string{`write 10.244.0.0/16`}},
		"a pair with a garbled MAC":   {pair(infrav1.AddressPair{IPAddress: "10.0.0.1", MACAddress: "fa:16:3e:00:00:zz"}), []string{`macAddress: Invalid value`}},
		"several mistakes, all named": {func(s *infrav1.SendanMachineSpec) { s.ProviderID, s.Tags = "x", []string{"a,b"} }, []string{`providerID`, `tags[0]`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			expectRefusals(t, validateMachineSpec(&machine(c.change).Spec, field.NewPath("spec")), c.want...)
		})
	}
}

func TestAMachineUpdateIsRefusedWhereTheFieldIsImmutable(t *testing.T) {
	unchanged := func(*infrav1.SendanMachineSpec) {}
	identity := func(name, region string) func(*infrav1.SendanMachineSpec) {
		return func(s *infrav1.SendanMachineSpec) {
			s.IdentityRef = &infrav1.IdentityReference{Name: name, CloudName: "openstack", Region: region}
		}
	}
	providerID := func(id string) func(*infrav1.SendanMachineSpec) {
		return func(s *infrav1.SendanMachineSpec) { s.ProviderID = "openstack:///" + id }
	}
	cases := map[string]struct {
		before, after func(*infrav1.SendanMachineSpec)
		want          []string
	}{
		"nothing":                            {unchanged, unchanged, nil},
		"the provider id for the first time": {unchanged, providerID(someID), nil},
		"another provider id":                {providerID(someID), providerID(anotherID), []string{`spec.providerID: Invalid value: "openstack:///` + anotherID + `": is immutable and was "openstack:///` + someID + `"`}},
		"another identity":                   {identity("a", "east"), identity("b", "east"), nil},
		"an identity of its own":             {unchanged, identity("b", ""), nil},
		"an identity in another region":      {identity("a", "east"), identity("a", "west"), []string{`spec.identityRef.region: Invalid value: "west": is immutable and was "east"`}},
		"another flavor":                     {unchanged, func(s *infrav1.SendanMachineSpec) { s.Flavor = "m1" }, []string{`spec.flavor: Invalid value: "m1": is immutable and was "g1.a100.8"; restore it, or change the template`}},
		"another kind of port":               {unchanged, func(s *infrav1.SendanMachineSpec) { s.Ports[0].VNICType = "direct" }, []string{`spec.ports[0].vnicType: Invalid value: "direct"`}},
		"one more port, named as a whole":    {unchanged, func(s *infrav1.SendanMachineSpec) { s.Ports = append(s.Ports, infrav1.Port{}) }, []string{`spec.ports: Invalid value`}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			expectRefusals(t, validateMachineUpdate(machine(c.before), machine(c.after)), c.want...)
		})
	}
}
