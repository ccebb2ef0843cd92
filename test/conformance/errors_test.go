package conformance

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/sendan-io/sendan/cloud"
)

// misfortunes are requests that the cloud has to refuse. The class of each decides what a cluster's owner is told, and how soon
// Sendan tries again.
func misfortunes() []feature {
	return []feature{
		{name: "errors/unknown-object", needs: []string{"identity/catalog"}, check: askForNothing},
		{name: "errors/unknown-flavor", needs: []string{"compute/server"}, check: makeServerOfUnknownFlavor},
		{name: "errors/address-taken", needs: []string{"network/port"}, check: takeAddressAgain},
		{name: "errors/in-use", needs: []string{"network/port"}, check: deleteWhatIsUsed},
		{name: "errors/forbidden", needs: []string{"network/router"}, check: askForbidden},
	}
}

func wantClass(err error, class cloud.Class, what string) error {
	if got := cloud.ClassOf(err); got != class {
		return errors.Join(fmt.Errorf("%s: the class is %q, want %q", what, got, class), err)
	}
	return nil
}

// firstOf is the first error there is.
func firstOf(all ...error) error {
	for _, err := range all {
		if err != nil {
			return err
		}
	}
	return nil
}

func askForNothing(p *probe) error {
	_, err := p.session.GetServer(p.Context(), uuid.NewString())
	_, byName := p.session.FlavorByName(p.Context(), p.name("flavor"))
	return firstOf(wantClass(err, cloud.Config, "a server that is not there"), expect(cloud.IsNotFound(err), "a server that is not there is not said to be so"),
		wantClass(byName, cloud.Config, "a flavor that is not there"))
}

func makeServerOfUnknownFlavor(p *probe) error {
	_, err := p.session.CreateServer(p.Context(), cloud.ServerRequest{
		Name: p.name("refused"), Mark: p.role("refused"), FlavorID: uuid.NewString(), ImageID: p.chosen.image.ID, PortIDs: []string{p.made.port.ID},
	})
	return wantClass(err, cloud.Config, "a server of a flavor that is not there")
}

func takeAddressAgain(p *probe) error {
	_, err := p.session.CreatePort(p.Context(), cloud.PortRequest{
		Name: p.name("refused"), Mark: p.role("refused"), NetworkID: p.made.network.ID, FixedIPs: []cloud.FixedIP{{SubnetID: p.made.subnet.ID, IPAddress: address}},
	})
	return wantClass(err, cloud.Conflict, "a port with an address that is taken")
}

func deleteWhatIsUsed(p *probe) error {
	return firstOf(wantClass(p.session.DeleteSecurityGroup(p.Context(), p.made.group.ID), cloud.Conflict, "a security group that a port has"),
		wantClass(p.session.DeleteNetwork(p.Context(), p.made.network.ID), cloud.Conflict, "a network with a port"))
}

// askForbidden asks for the floating IP that the router has: only administrators may choose one, and even they do not get it.
func askForbidden(p *probe) error {
	if len(p.made.router.ExternalIPs) == 0 {
		return skipf("the router has no outer address to ask for")
	}
	_, err := p.session.CreateFloatingIP(p.Context(), cloud.FloatingIPRequest{
		Mark: p.role("refused"), FloatingNetworkID: p.chosen.external.ID, Address: p.made.router.ExternalIPs[0],
	})
	var refusal *cloud.Error
	if errors.As(err, &refusal) && refusal.StatusCode == 409 {
		return skipf("these credentials may choose floating IPs, so nothing is known to be forbidden to them")
	}
	return wantClass(err, cloud.Auth, "a floating IP of one's choice")
}
