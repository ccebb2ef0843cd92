package cloud

import (
	"context"
	"net/http"
)

type wireFloatingIP struct {
	wireOwned
	Description       string   `json:"description"`
	Address           string   `json:"floating_ip_address"`
	FloatingNetworkID string   `json:"floating_network_id"`
	PortID            string   `json:"port_id"`
	FixedIP           string   `json:"fixed_ip_address"`
	Status            string   `json:"status"`
	Tags              []string `json:"tags"`
}

func (w wireFloatingIP) object() object { return w.floatingIP() }

func (w wireFloatingIP) floatingIP() FloatingIP {
	return FloatingIP{
		ID: w.ID, Mark: ParseMark(w.Description), Description: w.Description, Address: w.Address,
		FloatingNetworkID: w.FloatingNetworkID, PortID: w.PortID, FixedIP: w.FixedIP, Status: w.Status,
		Tags: sorted(w.Tags), Created: w.Created.Time,
	}
}

// CreateFloatingIP allocates a floating IP.
func (s *Session) CreateFloatingIP(ctx context.Context, request FloatingIPRequest) (FloatingIP, error) {
	wanted := map[string]any{"description": request.Mark.String(), "floating_network_id": request.FloatingNetworkID}
	if request.PortID != "" {
		wanted["port_id"] = request.PortID
	}
	if request.Address != "" {
		wanted["floating_ip_address"] = request.Address
	}
	var answer struct{ FloatingIP wireFloatingIP }
	if err := s.create(ctx, KindFloatingIP, networkService, "floatingips", map[string]any{"floatingip": wanted}, &answer); err != nil {
		return FloatingIP{}, err
	}
	made := answer.FloatingIP.floatingIP()
	s.Inventory().created(made)
	return made, nil
}

// AssociateFloatingIP leads a floating IP to a port, or nowhere when portID is empty.
func (s *Session) AssociateFloatingIP(ctx context.Context, id, portID string) (FloatingIP, error) {
	return s.oneFloatingIP(ctx, http.MethodPut, id, map[string]any{"floatingip": map[string]any{"port_id": orNil(portID)}})
}

// GetFloatingIP asks for one floating IP.
func (s *Session) GetFloatingIP(ctx context.Context, id string) (FloatingIP, error) {
	return s.oneFloatingIP(ctx, http.MethodGet, id, nil)
}

// oneFloatingIP makes a request that answers with the floating IP.
func (s *Session) oneFloatingIP(ctx context.Context, method, id string, body any) (FloatingIP, error) {
	var answer struct{ FloatingIP wireFloatingIP }
	if err := s.send(ctx, networkService, method, "floatingips/"+id, body, &answer); err != nil {
		return FloatingIP{}, err
	}
	seen := answer.FloatingIP.floatingIP()
	s.Inventory().observed(seen)
	return seen, nil
}

// DeleteFloatingIP gives a floating IP back.
func (s *Session) DeleteFloatingIP(ctx context.Context, id string) error {
	if err := s.remove(ctx, KindFloatingIP, networkService, "floatingips/"+id); err != nil {
		return err
	}
	s.Inventory().deleted(KindFloatingIP, id)
	return nil
}
