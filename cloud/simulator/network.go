package simulator

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
)

// networkService is Neutron.
type networkService struct {
	s *Simulator

	networks       table[*network]
	subnets        table[*subnet]
	routers        table[*virtualRouter]
	ports          table[*port]
	securityGroups table[*securityGroup]
	securityRules  table[*securityRule]
	floatingIPs    table[*floatingIP]
	trunks         table[*trunk]

	// These answer for thousands of servers without a scan.
	defaultGroups     map[string]*securityGroup // by project
	portsOfDevice     map[string][]*port
	floatingIPsOfPort map[string][]*floatingIP
	attributes        attributeIndex
	// macs counts the MAC addresses given out.
	macs uint32
}

func (n *networkService) setUp(s *Simulator) {
	n.s = s
	n.clear()
	for _, external := range s.scenario.ExternalNetworks {
		n.seedExternalNetwork(external)
	}
}

// clear forgets everything.
func (n *networkService) clear() {
	*n = networkService{s: n.s}
	n.defaultGroups = map[string]*securityGroup{}
	n.portsOfDevice = map[string][]*port{}
	n.floatingIPsOfPort = map[string][]*floatingIP{}
	n.attributes = attributeIndex{}
}

func (n *networkService) routes(rt *router) {
	n.versionRoutes(rt)
	mountResource(n, rt, n.networkResource())
	mountResource(n, rt, n.subnetResource())
	mountResource(n, rt, n.routerResource())
	mountResource(n, rt, n.portResource())
	mountResource(n, rt, n.securityGroupResource())
	mountResource(n, rt, n.securityRuleResource())
	mountResource(n, rt, n.floatingIPResource())
	mountResource(n, rt, n.trunkResource())
	n.routerInterfaceRoutes(rt)
	n.subPortRoutes(rt)
	n.quotaRoutes(rt)
	n.extensionRoutes(rt)
}

// record is what every Neutron object has.
type record struct {
	ID          string   `json:"id"`
	ProjectID   string   `json:"project_id"`
	TenantID    string   `json:"tenant_id"`
	Description string   `json:"description"`
	Tags        []string `json:"tags"`
	CreatedAt   string   `json:"created_at"`
	UpdatedAt   string   `json:"updated_at"`
	Revision    int      `json:"revision_number"`
	// given objects were there before anybody asked for them: the scenario's networks and the
	// default security groups. They count as nobody's leftovers.
	given bool
}

func (r *record) head() *record { return r }

func (r *record) identity() (id, project string) { return r.ID, r.ProjectID }

func (r *record) countable() bool { return !r.given }

// networkObject is any resource of Neutron.
type networkObject interface {
	stored
	head() *record
}

// newRecord begins an object of a project.
func (n *networkService) newRecord(project string) record {
	now := stamp(n.s.now())
	return record{ID: n.s.newID(), ProjectID: project, TenantID: project, Tags: []string{}, CreatedAt: now, UpdatedAt: now, Revision: 1}
}

// touch notes that an object changed.
func (n *networkService) touch(object interface{ head() *record }) {
	object.head().UpdatedAt = stamp(n.s.now())
	object.head().Revision++
}

// stored is what tables hold.
type stored interface {
	comparable
	identity() (id, project string)
	// countable objects are those that somebody asked for.
	countable() bool
}

// table holds the objects of one kind in the order they were made.
type table[T stored] struct {
	byID      map[string]T
	inOrder   []T
	ofProject map[string]int
}

func (t *table[T]) add(object T) {
	if t.byID == nil {
		t.byID, t.ofProject = map[string]T{}, map[string]int{}
	}
	id, project := object.identity()
	t.byID[id] = object
	t.inOrder = append(t.inOrder, object)
	t.ofProject[project]++
}

func (t *table[T]) remove(object T) {
	if !t.has(object) {
		return
	}
	id, project := object.identity()
	delete(t.byID, id)
	t.inOrder = without(t.inOrder, object)
	t.ofProject[project]--
}

func (t *table[T]) has(object T) bool {
	id, _ := object.identity()
	return t.byID[id] == object
}

// without is a list less one of its items.
func without[T comparable](list []T, item T) []T {
	if at := slices.Index(list, item); at >= 0 {
		return slices.Delete(list, at, at+1)
	}
	return list
}

// count reports every object of the table that somebody asked for.
func (t *table[T]) count(objectType string, add func(project, objectType string)) {
	for _, object := range t.inOrder {
		if _, project := object.identity(); object.countable() {
			add(project, objectType)
		}
	}
}

// countObjects reports what the projects hold. The scenario's networks, default security groups and
// ports that belong to no project (router gateways, floating IPs) are left out.
func (n *networkService) countObjects(add func(project, objectType string)) {
	ofProjects := func(project, objectType string) {
		if project != "" {
			add(project, objectType)
		}
	}
	n.networks.count("networks", ofProjects)
	n.subnets.count("subnets", ofProjects)
	n.routers.count("routers", ofProjects)
	n.ports.count("ports", ofProjects)
	n.securityGroups.count("security-groups", ofProjects)
	n.securityRules.count("security-group-rules", ofProjects)
	n.floatingIPs.count("floatingips", ofProjects)
	n.trunks.count("trunks", ofProjects)
}

// checkQuota refuses one more object of a project when its limit is reached.
func (n *networkService) checkQuota(project, resource string, used int) error {
	if n.s.overQuota(project, resource, used, 1) {
		return networkProblem(http.StatusConflict, "OverQuota", "Quota exceeded for resources: ['%s'].", resource)
	}
	return nil
}

// networkProblem is a failure under the name that Neutron has for it.
func networkProblem(status int, kind, format string, args ...any) *problem {
	return &problem{status: status, kind: kind, message: fmt.Sprintf(format, args...)}
}

// invalidInput is how Neutron reports an attribute its validators refuse.
func invalidInput(attribute, format string, args ...any) *problem {
	return networkProblem(http.StatusBadRequest, "HTTPBadRequest", "Invalid input for %s. Reason: %s.", attribute, fmt.Sprintf(format, args...))
}

// disallowed is a refusal by Neutron's policy.
func disallowed(rule string) *problem {
	return networkProblem(http.StatusForbidden, "PolicyNotAuthorized", "rule:%s is disallowed by policy", rule)
}

func networkErrors(p *problem, _ string) (string, []byte) {
	kind, message := p.kind, p.message
	switch {
	case kind != "":
	case p.status == http.StatusInternalServerError:
		kind, message = "HTTPInternalServerError", "Request Failed: internal server error while processing your request."
	default:
		kind = "HTTP" + compact(http.StatusText(p.status))
	}
	return "application/json", encode(fields{"NeutronError": fields{"type": kind, "message": message, "detail": ""}})
}

// compact drops the spaces of a status text: "Bad Request" is HTTPBadRequest.
func compact(text string) string {
	return string(slices.DeleteFunc([]byte(text), func(b byte) bool { return b == ' ' }))
}

// encode is for bodies that cannot fail to encode.
func encode(body fields) []byte {
	data, err := json.Marshal(body)
	if err != nil {
		panic(err) // strings and numbers only
	}
	return data
}

// optional tells an attribute that was left out from one that is null.
type optional[T any] struct {
	set, null bool
	value     T
}

func (o *optional[T]) UnmarshalJSON(data []byte) error {
	o.set = true
	if string(data) == "null" {
		o.null = true
		return nil
	}
	return json.Unmarshal(data, &o.value)
}

// or is the value, or another when there is none.
func (o optional[T]) or(other T) T {
	if !o.set || o.null {
		return other
	}
	return o.value
}

// to writes the value where it belongs; null becomes the zero value.
func (o optional[T]) to(field *T) {
	if o.set {
		*field = o.value
	}
}

// whole is an integer that clients also send as text.
type whole int

func (w *whole) UnmarshalJSON(data []byte) error {
	text := string(data)
	if unquoted, err := strconv.Unquote(text); err == nil {
		text = unquoted
	}
	value, err := strconv.Atoi(text)
	if err != nil {
		return fmt.Errorf("'%s' is not an integer", text)
	}
	*w = whole(value)
	return nil
}
