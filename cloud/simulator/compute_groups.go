package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// serverGroup is a Nova server group.
type serverGroup struct {
	id, name, policy string
	project, user    string
	maxPerHost       int // of anti-affinity; 0 means 1
	created          time.Time
}

func (n *computeService) groupRoutes(rt *router) {
	n.handle(rt, "GET /v2.1/os-server-groups", n.listGroups)
	n.handle(rt, "POST /v2.1/os-server-groups", n.createGroup)
	n.handle(rt, "GET /v2.1/os-server-groups/{id}", n.showGroup)
	n.handle(rt, "DELETE /v2.1/os-server-groups/{id}", n.deleteGroup)
}

// group is a group by id, nil when there is none.
func (n *computeService) group(id string) *serverGroup {
	return find(n.groups, func(g *serverGroup) bool { return g.id == id })
}

// members are the servers of a group, oldest first.
func (n *computeService) members(g *serverGroup) []*server { return n.byGroup[g.id] }

// membersOn counts the group's servers on a host, one server left out.
func (g *serverGroup) membersOn(h *host, without *server) int {
	count := 0
	for _, srv := range h.members {
		if srv != without && srv.groupID == g.id {
			count++
		}
	}
	return count
}

// allows is the scheduler's filter for the hard policies; peersAt is where the group's other servers
// are. A nil group allows every host.
func (g *serverGroup) allows(h *host, srv *server, peersAt *host) bool {
	if g == nil {
		return true
	}
	switch g.policy {
	case "anti-affinity":
		return g.membersOn(h, srv) < max(g.maxPerHost, 1)
	case "affinity":
		return peersAt == nil || peersAt == h
	}
	return true
}

// whereabouts is the host of a group's other servers, nil while there is none.
func (n *computeService) whereabouts(g *serverGroup, srv *server) *host {
	if g == nil || g.policy != "affinity" {
		return nil
	}
	for _, other := range n.members(g) {
		if other != srv && other.host != nil {
			return other.host
		}
	}
	return nil
}

// weight is the scheduler's preference for the soft policies: less is better.
func (g *serverGroup) weight(h *host, srv *server) int {
	if g == nil {
		return 0
	}
	switch g.policy {
	case "soft-anti-affinity":
		return g.membersOn(h, srv)
	case "soft-affinity":
		return -g.membersOn(h, srv)
	}
	return 0
}

func (n *computeService) groupView(g *serverGroup, version int) fields {
	members := []string{}
	for _, srv := range n.members(g) {
		members = append(members, srv.id)
	}
	view := fields{"id": g.id, "name": g.name, "members": members}
	if version >= 13 {
		view["project_id"], view["user_id"] = g.project, g.user
	}
	if version < 64 {
		view["policies"], view["metadata"] = []string{g.policy}, fields{}
		return view
	}
	rules := fields{}
	if g.maxPerHost > 0 {
		rules["max_server_per_host"] = g.maxPerHost
	}
	view["policy"], view["rules"] = g.policy, rules
	return view
}

func (n *computeService) listGroups(c *call, version int) (reply, error) {
	everywhere := c.r.URL.Query().Has("all_projects") && c.isAdmin()
	views := []fields{}
	for _, g := range n.groups {
		if everywhere || g.project == c.project() {
			views = append(views, n.groupView(g, version))
		}
	}
	offset := min(atoiOr(c.query("offset"), 0), len(views))
	views = views[offset:]
	if limit := atoiOr(c.query("limit"), 0); limit > 0 && limit < len(views) {
		views = views[:limit]
	}
	return ok(fields{"server_groups": views})
}

func (n *computeService) createGroup(c *call, version int) (reply, error) {
	var in struct {
		Group struct {
			Name     string   `json:"name"`
			Policy   string   `json:"policy"`
			Policies []string `json:"policies"`
			Rules    struct {
				MaxServerPerHost json.RawMessage `json:"max_server_per_host"`
			} `json:"rules"`
		} `json:"server_group"`
	}
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	policy := in.Group.Policy
	if version < 64 {
		if len(in.Group.Policies) != 1 {
			return reply{}, schemaProblem("policies", in.Group.Policies, "[] is too short")
		}
		policy = in.Group.Policies[0]
	}
	known := []string{"anti-affinity", "affinity"}
	if version >= 15 {
		known = append(known, "soft-anti-affinity", "soft-affinity")
	}
	if !slices.Contains(known, policy) {
		return reply{}, schemaProblem("policy", policy, fmt.Sprintf("'%s' is not one of ['%s']", policy, strings.Join(known, "', '")))
	}
	if in.Group.Name == "" || len(in.Group.Name) > maxNameLength {
		return reply{}, schemaProblem("name", in.Group.Name, "the value has the wrong length")
	}
	mine := keep(n.groups, func(g *serverGroup) bool { return g.project == c.project() })
	if n.s.overQuota(c.project(), "server_groups", len(mine), 1) {
		return reply{}, problemf(http.StatusForbidden, "Quota exceeded, too many server groups.")
	}
	perHost, _ := strconv.Atoi(strings.Trim(string(in.Group.Rules.MaxServerPerHost), `"`))
	g := &serverGroup{
		id: n.s.newID(), name: in.Group.Name, policy: policy, project: c.project(), user: c.token.user.id, maxPerHost: perHost, created: n.s.now(),
	}
	n.groups = append(n.groups, g)
	return ok(fields{"server_group": n.groupView(g, version)})
}

func (n *computeService) findGroup(c *call) (*serverGroup, error) {
	g := n.group(c.id("id"))
	if g == nil || g.project != c.project() && !c.isAdmin() {
		return nil, problemf(http.StatusNotFound, "Instance group %s could not be found.", c.id("id"))
	}
	return g, nil
}

func (n *computeService) showGroup(c *call, version int) (reply, error) {
	g, err := n.findGroup(c)
	if err != nil {
		return reply{}, err
	}
	return ok(fields{"server_group": n.groupView(g, version)})
}

func (n *computeService) deleteGroup(c *call, _ int) (reply, error) {
	g, err := n.findGroup(c)
	if err != nil {
		return reply{}, err
	}
	n.groups = keep(n.groups, func(other *serverGroup) bool { return other != g })
	return noContent()
}
