package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// The states of Octavia's objects.
const (
	pendingCreate = "PENDING_CREATE"
	pendingUpdate = "PENDING_UPDATE"
	pendingDelete = "PENDING_DELETE"
	stateActive   = "ACTIVE"
	stateError    = "ERROR"

	online    = "ONLINE"
	offline   = "OFFLINE"
	degraded  = "DEGRADED"
	draining  = "DRAINING"
	noMonitor = "NO_MONITOR"
)

// loadBalancerService is Octavia.
type loadBalancerService struct {
	s *Simulator

	balancers  table[*loadBalancer]
	listeners  table[*listener]
	pools      table[*pool]
	members    table[*member]
	monitors   table[*healthMonitor]
	attributes attributeIndex
	// byVIPPort finds the load balancer whose addresses change with a port.
	byVIPPort map[string]*loadBalancer

	forwarders    map[front]*forwarder
	hostAddresses map[netip.Addr]bool
	closed        bool
}

func (lb *loadBalancerService) setUp(s *Simulator) {
	lb.s = s
	lb.attributes = attributeIndex{}
	lb.byVIPPort = map[string]*loadBalancer{}
	lb.forwarders = map[front]*forwarder{}
	lb.hostAddresses = addressesOfHost()
}

func (lb *loadBalancerService) routes(rt *router) {
	lb.versionRoutes(rt)
	lb.balancerRoutes(rt)
	lb.listenerRoutes(rt)
	lb.poolRoutes(rt)
	lb.memberRoutes(rt)
	lb.monitorRoutes(rt)
	lb.catalogRoutes(rt)
	lb.quotaRoutes(rt)
}

// handle mounts a handler under both paths that clients use, for tokens that Octavia's policy lets
// in.
func (lb *loadBalancerService) handle(rt *router, pattern string, h handler) {
	method, path, _ := strings.Cut(pattern, " ")
	for _, version := range []string{"/v2", "/v2.0"} {
		rt.handle(method+" "+version+path, func(c *call) (reply, error) {
			if !mayUseLoadBalancers(c, method) {
				return reply{}, policyForbids()
			}
			return h(c)
		})
	}
}

func mayUseLoadBalancers(c *call, method string) bool {
	return c.isAdmin() || c.token.hasRole("load-balancer_member") || c.token.hasRole("load-balancer_admin") ||
		method == http.MethodGet && c.token.hasRole("load-balancer_observer")
}

func policyForbids() *problem {
	return problemf(http.StatusForbidden, "Policy does not allow this request to be performed.")
}

// balancerRecord is what every Octavia object has.
type balancerRecord struct {
	ID                 string   `json:"id"`
	ProjectID          string   `json:"project_id"`
	Name               string   `json:"name"`
	AdminStateUp       bool     `json:"admin_state_up"`
	ProvisioningStatus string   `json:"provisioning_status"`
	OperatingStatus    string   `json:"operating_status"`
	CreatedAt          string   `json:"created_at"`
	UpdatedAt          *string  `json:"updated_at"`
	Tags               []string `json:"tags"`
}

func (r *balancerRecord) head() *balancerRecord { return r }

func (r *balancerRecord) identity() (id, project string) { return r.ID, r.ProjectID }

func (r *balancerRecord) countable() bool { return true }

// balancerObject is any object of Octavia's trees.
type balancerObject interface {
	stored
	head() *balancerRecord
	// balancerOf is the load balancer at the root of the tree.
	balancerOf() *loadBalancer
}

// balancerStamp writes a time as Octavia does.
func (lb *loadBalancerService) balancerStamp() string {
	return lb.s.now().UTC().Format("2006-01-02T15:04:05")
}

func (lb *loadBalancerService) newRecord(project string, from balancerCommon) balancerRecord {
	return balancerRecord{
		ID: lb.s.newID(), ProjectID: project, Name: from.Name.value, AdminStateUp: from.AdminStateUp.or(true),
		ProvisioningStatus: pendingCreate, OperatingStatus: offline, CreatedAt: lb.balancerStamp(), Tags: from.Tags.or([]string{}),
	}
}

// touch notes that an object's row changed.
func (lb *loadBalancerService) touch(object interface{ head() *balancerRecord }) {
	now := lb.balancerStamp()
	object.head().UpdatedAt = &now
}

// balancerCommon are the attributes that every Octavia object may be given.
type balancerCommon struct {
	Name         optional[string]   `json:"name"`
	AdminStateUp optional[bool]     `json:"admin_state_up"`
	Tags         optional[[]string] `json:"tags"`
	ProjectID    optional[string]   `json:"project_id"`
	TenantID     optional[string]   `json:"tenant_id"`
}

func (from balancerCommon) change(r *balancerRecord) {
	from.Name.to(&r.Name)
	if from.AdminStateUp.set {
		r.AdminStateUp = from.AdminStateUp.or(true)
	}
	if from.Tags.set {
		r.Tags = from.Tags.or([]string{})
	}
}

// countObjects reports what the projects hold.
func (lb *loadBalancerService) countObjects(add func(project, objectType string)) {
	lb.balancers.count("loadbalancers", add)
	lb.listeners.count("listeners", add)
	lb.pools.count("pools", add)
	lb.members.count("members", add)
	lb.monitors.count("healthmonitors", add)
}

// ref is how Octavia's objects name each other.
type ref struct {
	ID string `json:"id"`
}

func refs[T stored](objects ...T) []ref {
	list := []ref{}
	for _, object := range objects {
		id, _ := object.identity()
		list = append(list, ref{id})
	}
	return list
}

func balancerMissing(kind, id string) *problem {
	return problemf(http.StatusNotFound, "%s %s not found.", kind, id)
}

// invalidReference is Octavia's answer to an id in a body that leads nowhere.
func invalidReference(kind, id string) *problem {
	return problemf(http.StatusBadRequest, "%s %s not found.", kind, id)
}

func validationFailure(format string, args ...any) *problem {
	return problemf(http.StatusBadRequest, "Validation failure: %s", fmt.Sprintf(format, args...))
}

func invalidField(field string, value any, reason string) *problem {
	return problemf(http.StatusBadRequest, "Invalid input for field/attribute %s. Value: '%v'. %s", field, value, reason)
}

func missingField(field string) *problem {
	return invalidField(field, "None", "Mandatory field missing.")
}

func immutable(kind, id string) *problem {
	return problemf(http.StatusConflict, "%s %s is immutable and cannot be updated.", kind, id)
}

func loadBalancerErrors(p *problem, _ string) (string, []byte) {
	fault := "Client"
	if p.status >= http.StatusInternalServerError {
		fault = "Server"
	}
	return "application/json", encode(fields{"faultcode": fault, "faultstring": p.message, "debuginfo": nil})
}

// readBalancerBody decodes the object that a body wraps; attributes nobody knows are refused.
func readBalancerBody(c *call, wrapper string, into any) error {
	var body map[string]json.RawMessage
	if err := c.decode(&body); err != nil {
		return err
	}
	inner, ok := body[wrapper]
	if !ok {
		return invalidField(wrapper, "None", "Mandatory field missing.")
	}
	decoder := json.NewDecoder(bytes.NewReader(inner))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		return nil
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return invalidField(wrongType.Field, wrongType.Value, fmt.Sprintf("Wrong type. Expected '%s', got '%s'", wrongType.Type, wrongType.Value))
	}
	if _, unknown, found := strings.Cut(err.Error(), `unknown field "`); found {
		return problemf(http.StatusBadRequest, "Unknown attribute:\n%s", strings.TrimSuffix(unknown, `"`))
	}
	return problemf(http.StatusBadRequest, "%v", err)
}

// fixed refuses to change an attribute that is set for ever.
func fixed(attributes map[string]bool) error {
	for name, asked := range attributes {
		if asked {
			return problemf(http.StatusBadRequest, "Unknown attribute:\n%s", name)
		}
	}
	return nil
}

// findBalancerObject is an object of a table that the caller may see.
func findBalancerObject[T balancerObject](c *call, objects *table[T], kind, id string) (T, error) {
	object, known := objects.byID[id]
	if !known || !c.isAdmin() && object.head().ProjectID != c.project() {
		return object, balancerMissing(kind, id)
	}
	return object, nil
}

// listBalancerObjects answers a list of one kind.
func listBalancerObjects[T balancerObject](lb *loadBalancerService, collection string, objects func(c *call) ([]T, error), view func(T) any) handler {
	return func(c *call) (reply, error) {
		all, err := objects(c)
		if err != nil {
			return reply{}, err
		}
		return listReply(c, lb.attributes, collection, all, listing[T]{
			visible: func(object T) bool { return c.isAdmin() || object.head().ProjectID == c.project() },
			tags:    func(object T) []string { return object.head().Tags },
			filter: func(object T, name string, values []string) (matched, known bool) {
				return selectsParent(object, name, values)
			},
			view: view,
		})
	}
}

// selectsParent answers for the parameters by which clients list what belongs to one object, and to no other.
func selectsParent(object any, name string, values []string) (matched, known bool) {
	var parent string
	switch child := object.(type) {
	case *listener:
		known, parent = name == "loadbalancer_id", child.balancer.ID
	case *pool:
		known, parent = name == "loadbalancer_id", child.balancer.ID
	case *healthMonitor:
		known, parent = name == "pool_id", child.pool.ID
	}
	return known && slices.Contains(values, parent), known
}

// everyOne is the whole table, as listBalancerObjects wants it.
func everyOne[T balancerObject](objects *table[T]) func(*call) ([]T, error) {
	return func(*call) ([]T, error) { return objects.inOrder, nil }
}

// showBalancerObject answers with one object of a table.
func showBalancerObject[T balancerObject](lb *loadBalancerService, singular, kind string, objects *table[T], view func(T) any) handler {
	return func(c *call) (reply, error) {
		object, err := findBalancerObject(c, objects, kind, c.id("id"))
		if err != nil {
			return reply{}, err
		}
		shown, err := lb.attributes.only(c, view(object))
		return reply{status: http.StatusOK, body: fields{singular: shown}}, err
	}
}

// checkQuota refuses more objects than a project may have.
func (lb *loadBalancerService) checkQuota(project, resource, kind string, used, more int) error {
	if lb.s.overQuota(project, resource, used, more) {
		return problemf(http.StatusForbidden, "Quota has been met for resources: %s", kind)
	}
	return nil
}
