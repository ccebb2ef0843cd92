package simulator

import (
	"net/http"
	"slices"
)

// trunk is a Neutron trunk: a port that carries others by VLAN.
type trunk struct {
	record
	Name         string    `json:"name"`
	AdminStateUp bool      `json:"admin_state_up"`
	PortID       string    `json:"port_id"`
	Status       string    `json:"status"`
	SubPorts     []subPort `json:"sub_ports"`
}

type subPort struct {
	PortID           string `json:"port_id"`
	SegmentationType string `json:"segmentation_type"`
	SegmentationID   int    `json:"segmentation_id"`
	// MACAddress is told only in a port's trunk_details.
	MACAddress string `json:"mac_address,omitempty"`
}

// trunkDetails is what a parent port tells about its trunk.
type trunkDetails struct {
	TrunkID  string    `json:"trunk_id"`
	SubPorts []subPort `json:"sub_ports"`
}

type trunkAttributes struct {
	common
	AdminStateUp optional[bool]      `json:"admin_state_up"`
	PortID       optional[string]    `json:"port_id"`
	SubPorts     optional[[]subPort] `json:"sub_ports"`
}

type trunkChange struct {
	Name         optional[string] `json:"name"`
	Description  optional[string] `json:"description"`
	AdminStateUp optional[bool]   `json:"admin_state_up"`
}

func (n *networkService) trunkResource() resource[*trunk] {
	return resource[*trunk]{
		singular: "trunk", plural: "trunks", path: "trunks", objects: &n.trunks,
		missing: trunkMissing, create: n.createTrunk, update: n.updateTrunk,
		blocked: n.trunkBlocked, discard: n.discardTrunk,
	}
}

func trunkMissing(id string) *problem {
	return networkProblem(http.StatusNotFound, "TrunkNotFound", "Trunk %s could not be found.", id)
}

func (n *networkService) trunkDetailsOf(t *trunk) *trunkDetails {
	details := &trunkDetails{TrunkID: t.ID, SubPorts: []subPort{}}
	for _, sub := range t.SubPorts {
		sub.MACAddress = n.ports.byID[sub.PortID].MACAddress
		details.SubPorts = append(details.SubPorts, sub)
	}
	return details
}

func (n *networkService) createTrunk(c *call, body []byte) (*trunk, error) {
	var asked trunkAttributes
	if err := readNew(body, &asked, trunk{}); err != nil {
		return nil, err
	}
	parent, err := n.freePort(c, asked.PortID.value)
	if err != nil {
		return nil, err
	}
	if parent.host != "" {
		return nil, networkProblem(http.StatusConflict, "ParentPortInUse", "Parent port %s is currently in use and is not eligible for use as a parent port.", parent.ID)
	}
	head, err := n.begin(c, asked.common, "trunk", n.trunks.ofProject)
	if err != nil {
		return nil, err
	}
	t := &trunk{record: head, Name: asked.Name.value, AdminStateUp: asked.AdminStateUp.or(true), PortID: parent.ID, Status: "DOWN", SubPorts: []subPort{}}
	parent.trunk = t
	n.trunks.add(t)
	if err := n.addSubPorts(c, t, asked.SubPorts.value); err != nil {
		n.discardTrunk(t)
		return nil, err
	}
	return t, nil
}

// freePort is a port of the caller that belongs to no trunk yet.
func (n *networkService) freePort(c *call, id string) (*port, error) {
	p, known := n.ports.byID[id]
	switch {
	case !known || !owns(c, p):
		return nil, portMissing(id)
	case p.trunk != nil:
		return nil, networkProblem(http.StatusConflict, "PortInUseAsTrunkParent", "Port %s is currently a parent port for trunk %s.", id, p.trunk.ID)
	case p.carrier != nil:
		return nil, networkProblem(http.StatusConflict, "PortInUseAsSubPort", "Port %s is currently a subport for trunk %s.", id, p.carrier.ID)
	}
	return p, nil
}

// addSubPorts takes all or none.
func (n *networkService) addSubPorts(c *call, t *trunk, asked []subPort) error {
	used := slices.Clone(t.SubPorts)
	for _, sub := range asked {
		if _, err := n.freePort(c, sub.PortID); err != nil {
			return err
		}
		if sub.SegmentationType != "vlan" {
			return invalidInput("segmentation_type", "'%s' is not in ['vlan']", sub.SegmentationType)
		}
		if slices.ContainsFunc(used, func(other subPort) bool {
			return other.SegmentationID == sub.SegmentationID || other.PortID == sub.PortID
		}) {
			return networkProblem(http.StatusConflict, "DuplicateSubPort", "segmentation_type %s and segmentation_id %d already in use on trunk %s.", sub.SegmentationType, sub.SegmentationID, t.ID)
		}
		used = append(used, sub)
	}
	for _, sub := range asked {
		p := n.ports.byID[sub.PortID]
		p.carrier = t
		n.setDevice(p, t.ID, ownerSubPort)
		n.touch(p)
	}
	t.SubPorts = used
	return nil
}

func (n *networkService) removeSubPorts(_ *call, t *trunk, asked []subPort) error {
	for _, sub := range asked {
		if !slices.ContainsFunc(t.SubPorts, func(present subPort) bool { return present.PortID == sub.PortID }) {
			return networkProblem(http.StatusNotFound, "SubPortNotFound", "SubPort on trunk %s with parent port %s could not be found.", t.ID, sub.PortID)
		}
	}
	for _, sub := range asked {
		n.releaseSubPort(sub)
		t.SubPorts = slices.DeleteFunc(t.SubPorts, func(present subPort) bool { return present.PortID == sub.PortID })
	}
	return nil
}

func (n *networkService) releaseSubPort(sub subPort) {
	if p := n.ports.byID[sub.PortID]; p != nil {
		p.carrier = nil
		n.setDevice(p, "", "")
		n.touch(p)
	}
}

func (n *networkService) updateTrunk(_ *call, t *trunk, body []byte) error {
	var asked trunkChange
	if err := readChange(body, &asked, trunk{}); err != nil {
		return err
	}
	asked.Name.to(&t.Name)
	asked.Description.to(&t.Description)
	asked.AdminStateUp.to(&t.AdminStateUp)
	return nil
}

// trunkBlocked keeps the trunk of a bound port, as the Open vSwitch driver does.
func (n *networkService) trunkBlocked(_ *call, t *trunk) error {
	if n.ports.byID[t.PortID].host != "" {
		return networkProblem(http.StatusConflict, "TrunkInUse", "Trunk %s is currently in use.", t.ID)
	}
	return nil
}

func (n *networkService) discardTrunk(t *trunk) {
	for _, sub := range t.SubPorts {
		n.releaseSubPort(sub)
	}
	if parent := n.ports.byID[t.PortID]; parent != nil {
		parent.trunk = nil
	}
	n.trunks.remove(t)
}

// trunkFollows gives a trunk the state of its parent port.
func (n *networkService) trunkFollows(parent *port) {
	if t := parent.trunk; t != nil && t.Status != parent.Status {
		t.Status = parent.Status
		n.touch(t)
	}
}

func (n *networkService) subPortRoutes(rt *router) {
	k := n.trunkResource()
	rt.handle("GET /v2.0/trunks/{id}/get_subports", func(c *call) (reply, error) {
		t, err := k.find(c)
		if err != nil {
			return reply{}, err
		}
		return reply{status: http.StatusOK, body: fields{"sub_ports": t.SubPorts}}, nil
	})
	for action, change := range map[string]func(*call, *trunk, []subPort) error{"add_subports": n.addSubPorts, "remove_subports": n.removeSubPorts} {
		rt.handle("PUT /v2.0/trunks/{id}/"+action, func(c *call) (reply, error) {
			t, err := k.findToChange(c, "update")
			if err != nil {
				return reply{}, err
			}
			var asked struct {
				SubPorts []subPort `json:"sub_ports"`
			}
			if err := c.decode(&asked); err != nil {
				return reply{}, err
			}
			if err := change(c, t, asked.SubPorts); err != nil {
				return reply{}, err
			}
			n.touch(t)
			return reply{status: http.StatusOK, body: t}, nil
		})
	}
}
