package cloud

import (
	"cmp"
	"context"
	"net/http"
	"slices"
)

type wirePort struct {
	wireOwned
	Name           string            `json:"name"`
	Description    string            `json:"description"`
	NetworkID      string            `json:"network_id"`
	Status         string            `json:"status"`
	MACAddress     string            `json:"mac_address"`
	FixedIPs       []wireFixedIP     `json:"fixed_ips"`
	SecurityGroups []string          `json:"security_groups"`
	DeviceID       string            `json:"device_id"`
	DeviceOwner    string            `json:"device_owner"`
	VNICType       string            `json:"binding:vnic_type"`
	Tags           []string          `json:"tags"`
	AddressPairs   []wireAddressPair `json:"allowed_address_pairs"`
	Trunk          *struct {
		ID string `json:"trunk_id"`
	} `json:"trunk_details"`
}

type wireFixedIP struct {
	SubnetID  string `json:"subnet_id,omitempty"`
	IPAddress string `json:"ip_address,omitempty"`
}

type wireAddressPair struct {
	IPAddress  string `json:"ip_address"`
	MACAddress string `json:"mac_address,omitempty"`
}

func (w wirePort) object() object { return w.port() }

func (w wirePort) port() Port {
	port := Port{
		ID: w.ID, Name: w.Name, Mark: ParseMark(w.Description), NetworkID: w.NetworkID, Status: w.Status,
		MACAddress: w.MACAddress, SecurityGroups: sorted(w.SecurityGroups), DeviceID: w.DeviceID,
		DeviceOwner: w.DeviceOwner, VNICType: w.VNICType, Tags: sorted(w.Tags), Created: w.Created.Time,
	}
	for _, ip := range w.FixedIPs {
		port.FixedIPs = append(port.FixedIPs, FixedIP(ip))
	}
	for _, pair := range w.AddressPairs {
		port.AllowedAddressPairs = append(port.AllowedAddressPairs, AddressPair(pair))
	}
	slices.SortFunc(port.AllowedAddressPairs, func(a, b AddressPair) int {
		return cmp.Or(cmp.Compare(a.IPAddress, b.IPAddress), cmp.Compare(a.MACAddress, b.MACAddress))
	})
	if w.Trunk != nil {
		port.TrunkID = w.Trunk.ID
	}
	return port
}

// wirePortRequest creates a port, and changes it by the fields that are set.
type wirePortRequest struct {
	Name           string             `json:"name,omitempty"`
	Description    string             `json:"description,omitempty"`
	NetworkID      string             `json:"network_id,omitempty"`
	FixedIPs       []wireFixedIP      `json:"fixed_ips,omitempty"`
	SecurityGroups *[]string          `json:"security_groups,omitempty"`
	VNICType       string             `json:"binding:vnic_type,omitempty"`
	Profile        map[string]any     `json:"binding:profile,omitempty"`
	AddressPairs   *[]wireAddressPair `json:"allowed_address_pairs,omitempty"`
	PortSecurity   *bool              `json:"port_security_enabled,omitempty"`
	MACAddress     string             `json:"mac_address,omitempty"`
	AdminStateUp   *bool              `json:"admin_state_up,omitempty"`
}

func wireAddressPairs(pairs []AddressPair) *[]wireAddressPair {
	out := make([]wireAddressPair, 0, len(pairs))
	for _, pair := range pairs {
		out = append(out, wireAddressPair(pair))
	}
	return &out
}

// wireList is a list that may be absent; one that is there and empty is written as such.
func wireList(list *[]string) *[]string {
	if list == nil {
		return nil
	}
	out := present(*list)
	return &out
}

// CreatePort creates a port.
func (s *Session) CreatePort(ctx context.Context, request PortRequest) (Port, error) {
	wanted := wirePortRequest{
		Name: request.Name, Description: request.Mark.String(), NetworkID: request.NetworkID,
		SecurityGroups: wireList(request.SecurityGroups), VNICType: request.VNICType, Profile: request.Profile,
		PortSecurity: request.PortSecurity, MACAddress: request.MACAddress,
	}
	for _, ip := range request.FixedIPs {
		wanted.FixedIPs = append(wanted.FixedIPs, wireFixedIP(ip))
	}
	if len(request.AllowedAddressPairs) > 0 {
		wanted.AddressPairs = wireAddressPairs(request.AllowedAddressPairs)
	}
	if request.AdminStateDown {
		wanted.AdminStateUp = new(bool)
	}
	var answer struct{ Port wirePort }
	if err := s.create(ctx, KindPort, networkService, "ports", map[string]any{"port": wanted}, &answer); err != nil {
		return Port{}, err
	}
	made := answer.Port.port()
	s.Inventory().created(made)
	return made, nil
}

// UpdatePort changes a port.
func (s *Session) UpdatePort(ctx context.Context, id string, update PortUpdate) (Port, error) {
	wanted := wirePortRequest{Name: update.Name, SecurityGroups: wireList(update.SecurityGroups)}
	if update.AllowedAddressPairs != nil {
		wanted.AddressPairs = wireAddressPairs(*update.AllowedAddressPairs)
	}
	return s.onePort(ctx, http.MethodPut, id, map[string]any{"port": wanted})
}

// GetPort asks for one port.
func (s *Session) GetPort(ctx context.Context, id string) (Port, error) {
	return s.onePort(ctx, http.MethodGet, id, nil)
}

// onePort makes a request that answers with the port.
func (s *Session) onePort(ctx context.Context, method, id string, body any) (Port, error) {
	var answer struct{ Port wirePort }
	if err := s.send(ctx, networkService, method, "ports/"+id, body, &answer); err != nil {
		return Port{}, err
	}
	seen := answer.Port.port()
	s.Inventory().observed(seen)
	return seen, nil
}

// DeletePort deletes a port.
func (s *Session) DeletePort(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindPort, networkService, "ports/"+id); err != nil {
		return err
	}
	s.Inventory().deleted(KindPort, id)
	return nil
}

// CreateTrunk makes a port the parent of a trunk, which must happen before a server uses it.
func (s *Session) CreateTrunk(ctx context.Context, request TrunkRequest) (Trunk, error) {
	body := map[string]any{"trunk": map[string]any{
		"name": request.Name, "description": request.Mark.String(), "port_id": request.PortID,
	}}
	var answer struct {
		Trunk struct {
			ID          string `json:"id"`
			Name        string `json:"name"`
			Description string `json:"description"`
			PortID      string `json:"port_id"`
			Status      string `json:"status"`
		}
	}
	if err := s.create(ctx, KindPort, networkService, "trunks", body, &answer); err != nil {
		return Trunk{}, err
	}
	made := Trunk{
		ID: answer.Trunk.ID, Name: answer.Trunk.Name, Mark: ParseMark(answer.Trunk.Description),
		PortID: answer.Trunk.PortID, Status: answer.Trunk.Status,
	}
	amend(s.Inventory(), made.PortID, func(p *Port) { p.TrunkID = made.ID })
	return made, nil
}

// DeleteTrunk deletes a trunk but not its port, which cannot be deleted before.
func (s *Session) DeleteTrunk(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindPort, networkService, "trunks/"+id); err != nil {
		return err
	}
	if parent, found := search(s.Inventory().Snapshot(), func(p Port) bool { return p.TrunkID == id }); found {
		amend(s.Inventory(), parent.ID, func(p *Port) { p.TrunkID = "" })
	}
	return nil
}
