package simulator

import (
	"cmp"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

func (n *computeService) listServers(c *call, version int) (reply, error) {
	return n.list(c, version, func(srv *server) fields {
		return fields{"id": srv.id, "name": srv.name, "links": serverLinks(c, srv.id)}
	})
}

func (n *computeService) listServersInDetail(c *call, version int) (reply, error) {
	return n.list(c, version, func(srv *server) fields { return n.serverView(c, srv, version) })
}

func (n *computeService) list(c *call, version int, view func(*server) fields) (reply, error) {
	servers, err := n.selected(c, version)
	if err != nil {
		return reply{}, err
	}
	servers, next, err := page(c, servers, maxPage, func(srv *server) string { return srv.id })
	if err != nil {
		return reply{}, err
	}
	views := make([]fields, 0, len(servers))
	for _, srv := range servers {
		views = append(views, view(srv))
	}
	return pageReply("servers", views, next), nil
}

// selected are the servers that a list's query asks for, in its order.
func (n *computeService) selected(c *call, version int) ([]*server, error) {
	visible, err := n.visible(c)
	if err != nil {
		return nil, err
	}
	filters, err := n.serverFilters(c, version)
	if err != nil {
		return nil, err
	}
	servers := keep(visible, func(srv *server) bool {
		for _, fits := range filters {
			if !fits(srv) {
				return false
			}
		}
		return true
	})
	slices.Reverse(servers) // nearly the default order already, which makes sorting cheap
	slices.SortStableFunc(servers, serverOrder(c))
	return servers, nil
}

// visible are the servers of the caller's project, deleted ones only for changes-since and admins.
func (n *computeService) visible(c *call) ([]*server, error) {
	query := c.r.URL.Query()
	everywhere := query.Get("all_tenants") == "1" || strings.EqualFold(query.Get("all_tenants"), "true")
	if everywhere && !c.isAdmin() {
		return nil, problemf(http.StatusForbidden, "Policy doesn't allow os_compute_api:servers:index:get_all_tenants to be performed.")
	}
	var servers []*server
	deletedOnly := c.isAdmin() && strings.EqualFold(query.Get("deleted"), "true")
	if !deletedOnly {
		if everywhere {
			for _, srv := range n.servers {
				servers = append(servers, srv)
			}
		} else {
			servers = slices.Clip(n.byProject[c.project()]) // never appended to in place
		}
	}
	if query.Has("changes-since") || query.Has("changes-before") || deletedOnly || c.isAdmin() && strings.EqualFold(query.Get("status"), "deleted") {
		for _, srv := range n.deleted {
			if everywhere || srv.project == c.project() {
				servers = append(servers, srv)
			}
		}
	}
	return servers, nil
}

func serverOrder(c *call) func(a, b *server) int {
	keys, directions := c.r.URL.Query()["sort_key"], c.r.URL.Query()["sort_dir"]
	if len(keys) == 0 {
		return byCreation
	}
	return func(a, b *server) int {
		for i, key := range keys {
			order := cmp.Compare(sortValue(a, key), sortValue(b, key))
			if i >= len(directions) || directions[i] == "desc" {
				order = -order
			}
			if order != 0 {
				return order
			}
		}
		return byCreation(a, b)
	}
}

func sortValue(srv *server, key string) string {
	switch key {
	case "created_at":
		return srv.created.Format(time.RFC3339Nano)
	case "updated_at":
		return srv.updated.Format(time.RFC3339Nano)
	case "display_name", "name":
		return srv.name
	case "vm_state":
		return srv.vmState
	case "task_state":
		return srv.taskState
	case "availability_zone":
		return srv.zoneName()
	case "uuid", "id":
		return srv.id
	}
	return ""
}

type serverFilter func(*server) bool

// serverFilters reads the query parameters that select servers. Unknown ones are ignored, as Nova
// does for users without the admin role.
func (n *computeService) serverFilters(c *call, version int) ([]serverFilter, error) {
	var filters []serverFilter
	for parameter, values := range c.r.URL.Query() {
		if len(values) == 0 || values[0] == "" {
			continue
		}
		fits, err := n.serverFilter(parameter, values, version)
		if err != nil {
			return nil, err
		}
		if fits != nil {
			filters = append(filters, fits)
		}
	}
	return filters, nil
}

func (n *computeService) serverFilter(parameter string, values []string, version int) (serverFilter, error) {
	value := values[0]
	if field := plainServerField(parameter); field != nil {
		return func(srv *server) bool { return slices.Contains(values, field(srv)) }, nil
	}
	switch parameter {
	case "status":
		return func(srv *server) bool {
			return slices.ContainsFunc(values, func(v string) bool { return strings.EqualFold(v, srv.status()) })
		}, nil
	case "name", "display_name":
		return patternFilter(value, func(srv *server) []string { return []string{srv.name} }), nil
	case "ip", "ip6":
		return patternFilter(value, func(srv *server) []string { return n.addressesOf(srv) }), nil
	case "changes-since", "changes-before":
		return changesFilter(parameter, value)
	case "locked":
		return func(srv *server) bool { return fmt.Sprint(srv.locked) == strings.ToLower(value) }, nil
	case "tags", "tags-any", "not-tags", "not-tags-any":
		if version < 26 {
			return nil, nil
		}
		return tagFilter(parameter, strings.Split(value, ",")), nil
	}
	return nil, nil
}

// plainServerField is the value that a parameter compares with, nil for parameters of another kind.
func plainServerField(parameter string) func(*server) string {
	switch parameter {
	case "uuid":
		return func(srv *server) string { return srv.id }
	case "flavor":
		return func(srv *server) string { return srv.flavor.ID }
	case "image":
		return func(srv *server) string { return srv.imageID }
	case "host", "node":
		return func(srv *server) string {
			if srv.host == nil {
				return ""
			}
			return srv.host.Name
		}
	case "availability_zone":
		return (*server).zoneName
	case "hostname":
		return func(srv *server) string { return srv.hostname }
	case "key_name":
		return func(srv *server) string { return srv.keyName }
	case "user_id":
		return func(srv *server) string { return srv.user }
	case "project_id", "tenant_id":
		return func(srv *server) string { return srv.project }
	case "vm_state":
		return func(srv *server) string { return srv.vmState }
	case "task_state":
		return func(srv *server) string { return srv.taskState }
	case "power_state":
		return func(srv *server) string { return fmt.Sprint(srv.powerState) }
	case "reservation_id":
		return func(srv *server) string { return srv.reservation }
	}
	return nil
}

// patternFilter compares as Nova's database does: a regular expression anywhere in the value.
func patternFilter(pattern string, of func(*server) []string) serverFilter {
	expression, err := regexp.Compile(pattern)
	if err != nil {
		expression = regexp.MustCompile(regexp.QuoteMeta(pattern))
	}
	return func(srv *server) bool { return slices.ContainsFunc(of(srv), expression.MatchString) }
}

func (n *computeService) addressesOf(srv *server) []string {
	var addresses []string
	for _, port := range n.ports(srv) {
		for _, a := range port.addresses {
			addresses = append(addresses, a.address)
		}
	}
	return addresses
}

func changesFilter(parameter, value string) (serverFilter, error) {
	limit, valid := parseStamp(value)
	if !valid {
		return nil, badRequest("Invalid input for query parameters %s. Value: %s. '%s' is not a 'date-time'", parameter, value, value)
	}
	if parameter == "changes-before" {
		return func(srv *server) bool { return !srv.updated.After(limit) }, nil
	}
	return func(srv *server) bool { return !srv.updated.Before(limit) }, nil
}

// tagFilter is the tag query that Nova and Neutron share.
func tagFilter(parameter string, wanted []string) serverFilter {
	return func(srv *server) bool {
		has := func(tag string) bool { return slices.Contains(srv.tags, tag) }
		lacks := func(tag string) bool { return !has(tag) }
		switch parameter {
		case "tags":
			return !slices.ContainsFunc(wanted, lacks)
		case "tags-any":
			return slices.ContainsFunc(wanted, has)
		case "not-tags":
			return slices.ContainsFunc(wanted, lacks)
		default:
			return !slices.ContainsFunc(wanted, has)
		}
	}
}
