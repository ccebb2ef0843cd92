package cloud

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

type wireNetwork struct {
	wireOwned
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Status      string   `json:"status"`
	MTU         int      `json:"mtu"`
	External    bool     `json:"router:external"`
	Shared      bool     `json:"shared"`
	Tags        []string `json:"tags"`
	Subnets     []string `json:"subnets"`
}

func (w wireNetwork) object() object { return w.network() }

func (w wireNetwork) network() Network {
	return Network{
		ID: w.ID, Name: w.Name, Mark: ParseMark(w.Description), Status: w.Status, MTU: w.MTU,
		External: w.External, Shared: w.Shared, Tags: sorted(w.Tags), Subnets: sorted(w.Subnets),
		Created: w.Created.Time,
	}
}

// sorted makes lists comparable that the services return in no particular order. Empty is nil.
func sorted(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return slices.Sorted(slices.Values(list))
}

type wireNetworkRequest struct {
	Name         string `json:"name,omitempty"`
	Description  string `json:"description,omitempty"`
	MTU          int    `json:"mtu,omitempty"`
	PortSecurity *bool  `json:"port_security_enabled,omitempty"`
}

// CreateNetwork creates a network.
func (s *Session) CreateNetwork(ctx context.Context, request NetworkRequest) (Network, error) {
	wanted := wireNetworkRequest{Name: request.Name, Description: request.Mark.String(), MTU: request.MTU}
	if request.PortSecurityDisabled {
		wanted.PortSecurity = new(bool)
	}
	var answer struct{ Network wireNetwork }
	if err := s.create(ctx, KindNetwork, networkService, "networks", map[string]any{"network": wanted}, &answer); err != nil {
		return Network{}, err
	}
	made := answer.Network.network()
	s.Inventory().created(made)
	return made, nil
}

// UpdateNetwork changes a network.
func (s *Session) UpdateNetwork(ctx context.Context, id string, update NetworkUpdate) (Network, error) {
	body := map[string]any{"network": wireNetworkRequest{Name: update.Name, MTU: update.MTU}}
	var answer struct{ Network wireNetwork }
	if err := s.send(ctx, networkService, http.MethodPut, "networks/"+id, body, &answer); err != nil {
		return Network{}, err
	}
	changed := answer.Network.network()
	s.Inventory().observed(changed)
	return changed, nil
}

// DeleteNetwork deletes a network with its subnets.
func (s *Session) DeleteNetwork(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindNetwork, networkService, "networks/"+id); err != nil {
		return err
	}
	network, _ := s.Inventory().Snapshot().Network(id)
	s.Inventory().deleted(KindNetwork, id)
	for _, subnet := range network.Subnets {
		s.Inventory().deleted(KindSubnet, subnet)
	}
	return nil
}

type wireSubnet struct {
	wireOwned
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	NetworkID      string   `json:"network_id"`
	CIDR           string   `json:"cidr"`
	GatewayIP      string   `json:"gateway_ip"`
	DNSNameservers []string `json:"dns_nameservers"`
	Tags           []string `json:"tags"`
	IPv6Mode       string   `json:"ipv6_address_mode"`
}

func (w wireSubnet) object() object { return w.subnet() }

func (w wireSubnet) subnet() Subnet {
	cidr, _ := netip.ParsePrefix(w.CIDR) // Neutron accepts nothing else
	return Subnet{
		ID: w.ID, Name: w.Name, Mark: ParseMark(w.Description), NetworkID: w.NetworkID, CIDR: cidr,
		GatewayIP: w.GatewayIP, DNSNameservers: w.DNSNameservers, Tags: sorted(w.Tags), IPv6Mode: w.IPv6Mode,
		Created: w.Created.Time,
	}
}

// CreateSubnet creates a subnet.
func (s *Session) CreateSubnet(ctx context.Context, request SubnetRequest) (Subnet, error) {
	wanted := map[string]any{
		"name": request.Name, "description": request.Mark.String(), "network_id": request.NetworkID,
		"cidr": request.CIDR.String(), "ip_version": 4,
	}
	if request.CIDR.Addr().Is6() {
		wanted["ip_version"] = 6
	}
	if len(request.DNSNameservers) > 0 {
		wanted["dns_nameservers"] = request.DNSNameservers
	}
	if request.IPv6Mode != "" {
		wanted["ipv6_address_mode"], wanted["ipv6_ra_mode"] = request.IPv6Mode, request.IPv6Mode
	}
	if len(request.AllocationPools) > 0 {
		wanted["allocation_pools"] = wireRanges(request.AllocationPools)
	}
	var answer struct{ Subnet wireSubnet }
	if err := s.create(ctx, KindSubnet, networkService, "subnets", map[string]any{"subnet": wanted}, &answer); err != nil {
		return Subnet{}, err
	}
	made := answer.Subnet.subnet()
	s.Inventory().created(made)
	amend(s.Inventory(), made.NetworkID, func(n *Network) { n.Subnets = sorted(withText(n.Subnets, made.ID)) })
	return made, nil
}

func wireRanges(ranges []AddressRange) []map[string]string {
	out := make([]map[string]string, 0, len(ranges))
	for _, r := range ranges {
		out = append(out, map[string]string{"start": r.Start, "end": r.End})
	}
	return out
}

// withText is a copy of the list that holds text.
func withText(list []string, text string) []string {
	if slices.Contains(list, text) {
		return list
	}
	return append(slices.Clone(list), text)
}

// withoutText is a copy of the list without text.
func withoutText(list []string, text string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(item string) bool { return item == text })
}

// UpdateSubnet changes a subnet.
func (s *Session) UpdateSubnet(ctx context.Context, id string, update SubnetUpdate) (Subnet, error) {
	wanted := map[string]any{}
	if update.Name != "" {
		wanted["name"] = update.Name
	}
	if update.DNSNameservers != nil {
		wanted["dns_nameservers"] = present(*update.DNSNameservers)
	}
	var answer struct{ Subnet wireSubnet }
	if err := s.send(ctx, networkService, http.MethodPut, "subnets/"+id, map[string]any{"subnet": wanted}, &answer); err != nil {
		return Subnet{}, err
	}
	changed := answer.Subnet.subnet()
	s.Inventory().observed(changed)
	return changed, nil
}

// present is the list as JSON's [] rather than null when it is empty.
func present[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// DeleteSubnet deletes a subnet.
func (s *Session) DeleteSubnet(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindSubnet, networkService, "subnets/"+id); err != nil {
		return err
	}
	subnet, _ := s.Inventory().Snapshot().Subnet(id)
	s.Inventory().deleted(KindSubnet, id)
	amend(s.Inventory(), subnet.NetworkID, func(n *Network) { n.Subnets = sorted(withoutText(n.Subnets, id)) })
	return nil
}

type wireRouter struct {
	wireOwned
	Name        string   `json:"name"`
	Description string   `json:"description"`
	Status      string   `json:"status"`
	Tags        []string `json:"tags"`
	Gateway     *struct {
		NetworkID string `json:"network_id"`
		FixedIPs  []struct {
			IPAddress string `json:"ip_address"`
		} `json:"external_fixed_ips"`
	} `json:"external_gateway_info"`
}

func (w wireRouter) object() object { return w.router() }

func (w wireRouter) router() Router {
	router := Router{ID: w.ID, Name: w.Name, Mark: ParseMark(w.Description), Status: w.Status, Tags: sorted(w.Tags), Created: w.Created.Time}
	if w.Gateway != nil {
		router.ExternalNetworkID = w.Gateway.NetworkID
		for _, fixed := range w.Gateway.FixedIPs {
			router.ExternalIPs = append(router.ExternalIPs, fixed.IPAddress)
		}
	}
	return router
}

type wireRouterRequest struct {
	Name        string       `json:"name,omitempty"`
	Description string       `json:"description,omitempty"`
	Gateway     *wireGateway `json:"external_gateway_info,omitempty"`
}

type wireGateway struct {
	NetworkID string `json:"network_id"`
}

func gatewayTo(networkID string) *wireGateway {
	if networkID == "" {
		return nil
	}
	return &wireGateway{NetworkID: networkID}
}

// CreateRouter creates a router.
func (s *Session) CreateRouter(ctx context.Context, request RouterRequest) (Router, error) {
	body := map[string]any{"router": wireRouterRequest{
		Name: request.Name, Description: request.Mark.String(), Gateway: gatewayTo(request.ExternalNetworkID),
	}}
	var answer struct{ Router wireRouter }
	if err := s.create(ctx, KindRouter, networkService, "routers", body, &answer); err != nil {
		return Router{}, err
	}
	made := answer.Router.router()
	s.Inventory().created(made)
	return made, nil
}

// UpdateRouter changes a router.
func (s *Session) UpdateRouter(ctx context.Context, id string, update RouterUpdate) (Router, error) {
	body := map[string]any{"router": wireRouterRequest{Name: update.Name, Gateway: gatewayTo(update.ExternalNetworkID)}}
	var answer struct{ Router wireRouter }
	if err := s.send(ctx, networkService, http.MethodPut, "routers/"+id, body, &answer); err != nil {
		return Router{}, err
	}
	changed := answer.Router.router()
	s.Inventory().observed(changed)
	return changed, nil
}

// DeleteRouter deletes a router, which must have no interfaces.
func (s *Session) DeleteRouter(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindRouter, networkService, "routers/"+id); err != nil {
		return err
	}
	s.Inventory().deleted(KindRouter, id)
	return nil
}

// RouterInterfaceOwner is the device owner of the port by which a router reaches a subnet; such a
// port carries no mark, because Neutron makes it. Distributed and highly available routers have
// other owners that begin alike.
const RouterInterfaceOwner = "network:router_interface"

// AddRouterInterface attaches a subnet to a router. A subnet that is attached already is fine. The
// port that Neutron makes for it appears in the inventory: see [Snapshot.PortsOfDevice].
func (s *Session) AddRouterInterface(ctx context.Context, routerID, subnetID string) error {
	var answer struct {
		PortID    string `json:"port_id"`
		NetworkID string `json:"network_id"`
	}
	path := "routers/" + routerID + "/add_router_interface"
	err := s.send(ctx, networkService, http.MethodPut, path, map[string]any{"subnet_id": subnetID}, &answer)
	if isAlreadyAttached(err) {
		s.Inventory().Require(KindPort, s.clock.Now())
		return nil
	}
	if err != nil {
		s.findUncertain(KindPort, err)
		return err
	}
	if answer.NetworkID == "" { // older Neutrons leave it out
		subnet, _ := s.Inventory().Snapshot().Subnet(subnetID)
		answer.NetworkID = subnet.NetworkID
	}
	s.Inventory().created(Port{
		ID: answer.PortID, NetworkID: answer.NetworkID, DeviceID: routerID, DeviceOwner: RouterInterfaceOwner,
		FixedIPs: []FixedIP{{SubnetID: subnetID}},
	})
	return nil
}

// isAlreadyAttached recognizes Neutron's 400 "Router already has a port on subnet …", which has no
// error type of its own.
func isAlreadyAttached(err error) bool {
	var classified *Error
	return errors.As(err, &classified) && classified.StatusCode == http.StatusBadRequest &&
		strings.Contains(classified.Message, "already has a port on subnet")
}

// RemoveRouterInterface detaches a subnet from a router. One that is not attached is fine.
func (s *Session) RemoveRouterInterface(ctx context.Context, routerID, subnetID string) error {
	var answer struct {
		PortID string `json:"port_id"`
	}
	path := "routers/" + routerID + "/remove_router_interface"
	err := s.send(ctx, networkService, http.MethodPut, path, map[string]any{"subnet_id": subnetID}, &answer)
	if err != nil && !IsNotFound(err) {
		s.findUncertain(KindPort, err)
		return err
	}
	for _, port := range s.Inventory().Snapshot().PortsOfDevice(routerID) {
		if port.ID == answer.PortID || isInterface(port, subnetID) {
			s.Inventory().deleted(KindPort, port.ID)
		}
	}
	return nil
}

func isInterface(port Port, subnetID string) bool {
	return port.DeviceOwner != "network:router_gateway" &&
		slices.ContainsFunc(port.FixedIPs, func(ip FixedIP) bool { return ip.SubnetID == subnetID })
}
