package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
)

// resource says how one collection of Neutron's API works. All of them list, show, create (one or
// many at once), update, delete and tag the same way.
type resource[T networkObject] struct {
	singular, plural string // as in bodies: "security_group"
	path             string // as in URLs: "security-groups"
	objects          *table[T]
	// missing is the error for an id that is not there.
	missing func(id string) *problem
	create  func(c *call, body []byte) (T, error)
	update  func(c *call, object T, body []byte) error
	// blocked says why an object may not be deleted; nil when it may.
	blocked func(c *call, object T) error
	// discard takes an object away, whatever uses it.
	discard func(object T)
	// shared objects are seen by projects that do not own them.
	shared func(object T) bool
	// view is the object as the caller may see it.
	view func(c *call, object T) any
	// filter answers for query parameters that are no plain attributes.
	filter func(object T, name string, values []string) (matched, known bool)
	// beforeList runs before a list is made.
	beforeList func(c *call)
	// bare resources have neither tags nor an update.
	bare bool
}

func mountResource[T networkObject](n *networkService, rt *router, k resource[T]) {
	collection := "/v2.0/" + k.path
	rt.handle("GET "+collection, k.list(n))
	rt.handle("POST "+collection, k.post(n))
	rt.handle("GET "+collection+"/{id}", k.show(n))
	rt.handle("DELETE "+collection+"/{id}", k.delete)
	if k.bare {
		return
	}
	rt.handle("PUT "+collection+"/{id}", k.put(n))
	k.tagRoutes(n, rt)
}

// find is the object of the request's URL, which the caller has to be allowed to see.
func (k resource[T]) find(c *call) (T, error) {
	object, known := k.objects.byID[c.id("id")]
	if !known || !k.visible(c, object) {
		return object, k.missing(c.id("id"))
	}
	return object, nil
}

// findToChange is find for an object the caller has to own.
func (k resource[T]) findToChange(c *call, verb string) (T, error) {
	object, err := k.find(c)
	if err != nil {
		return object, err
	}
	if !owns(c, object) {
		return object, disallowed(verb + "_" + k.singular)
	}
	return object, k.checkRevision(c, object)
}

// checkRevision honors If-Match: revision_number=N, Neutron's guard against lost updates.
func (k resource[T]) checkRevision(c *call, object T) error {
	want, given := strings.CutPrefix(c.r.Header.Get("If-Match"), "revision_number=")
	if given && want != fmt.Sprint(object.head().Revision) {
		return networkProblem(http.StatusPreconditionFailed, "RevisionNumberConstraintFailed",
			"Constrained to %s, but current revision is %d", want, object.head().Revision)
	}
	return nil
}

func owns(c *call, object interface{ head() *record }) bool {
	return c.isAdmin() || object.head().ProjectID == c.project()
}

func (k resource[T]) visible(c *call, object T) bool {
	return owns(c, object) || k.shared != nil && k.shared(object)
}

func (k resource[T]) show(n *networkService) handler {
	return func(c *call) (reply, error) {
		object, err := k.find(c)
		if err != nil {
			return reply{}, err
		}
		view, err := n.attributes.only(c, k.seen(c, object))
		return reply{status: http.StatusOK, body: fields{k.singular: view}}, err
	}
}

func (k resource[T]) seen(c *call, object T) any {
	if k.view == nil {
		return object
	}
	return k.view(c, object)
}

func (k resource[T]) list(n *networkService) handler {
	return func(c *call) (reply, error) {
		if k.beforeList != nil {
			k.beforeList(c)
		}
		return listReply(c, n.attributes, k.plural, k.objects.inOrder, listing[T]{
			visible: func(object T) bool { return k.visible(c, object) },
			tags:    func(object T) []string { return object.head().Tags },
			filter:  k.filter,
			view:    func(object T) any { return k.seen(c, object) },
		})
	}
}

// post creates one object, or many of which either all come into being or none.
func (k resource[T]) post(n *networkService) handler {
	return func(c *call) (reply, error) {
		var body map[string]json.RawMessage
		if err := c.decode(&body); err != nil {
			return reply{}, err
		}
		if many, bulk := body[k.plural]; bulk {
			return k.postMany(c, many)
		}
		one, ok := body[k.singular]
		if !ok {
			return reply{}, networkProblem(http.StatusBadRequest, "HTTPBadRequest", "Unable to find '%s' in request body", k.singular)
		}
		object, err := k.create(c, one)
		if err != nil {
			return reply{}, err
		}
		view, err := n.attributes.only(c, k.seen(c, object))
		return reply{status: http.StatusCreated, body: fields{k.singular: view}}, err
	}
}

func (k resource[T]) postMany(c *call, many []byte) (reply, error) {
	var bodies []json.RawMessage
	if err := json.Unmarshal(many, &bodies); err != nil || len(bodies) == 0 {
		return reply{}, networkProblem(http.StatusBadRequest, "HTTPBadRequest", "Resources required")
	}
	var made []T
	for _, body := range bodies {
		object, err := k.create(c, body)
		if err != nil {
			for _, object := range made {
				k.discard(object)
			}
			return reply{}, err
		}
		made = append(made, object)
	}
	views := make([]any, len(made))
	for i, object := range made {
		views[i] = k.seen(c, object)
	}
	return reply{status: http.StatusCreated, body: fields{k.plural: views}}, nil
}

func (k resource[T]) put(n *networkService) handler {
	return func(c *call) (reply, error) {
		object, err := k.findToChange(c, "update")
		if err != nil {
			return reply{}, err
		}
		var body map[string]json.RawMessage
		if err := c.decode(&body); err != nil {
			return reply{}, err
		}
		if err := k.update(c, object, body[k.singular]); err != nil {
			return reply{}, err
		}
		n.touch(object)
		return reply{status: http.StatusOK, body: fields{k.singular: k.seen(c, object)}}, nil
	}
}

func (k resource[T]) delete(c *call) (reply, error) {
	object, err := k.findToChange(c, "delete")
	if err != nil {
		return reply{}, err
	}
	if k.blocked != nil {
		if err := k.blocked(c, object); err != nil {
			return reply{}, err
		}
	}
	k.discard(object)
	return reply{status: http.StatusNoContent}, nil
}

// readNew decodes the attributes of an object that is being made; like tells which attributes the
// resource has at all.
func readNew(body []byte, into, like any) error {
	return readAttributes(body, into, like, "Attribute '%s' not allowed in POST")
}

// readChange decodes the attributes of an update.
func readChange(body []byte, into, like any) error {
	return readAttributes(body, into, like, "Cannot update read-only attribute %s")
}

func readAttributes(body []byte, into, like any, forbidden string) error {
	if len(body) == 0 {
		return networkProblem(http.StatusBadRequest, "HTTPBadRequest", "Resource body required")
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	if err == nil {
		return nil
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return invalidInput(wrongType.Field, "'%s' is not a valid %s", wrongType.Value, wrongType.Type)
	}
	_, unknown, found := strings.Cut(err.Error(), `unknown field "`)
	if !found {
		return networkProblem(http.StatusBadRequest, "HTTPBadRequest", "Malformed request body: %v", err)
	}
	unknown = strings.TrimSuffix(unknown, `"`)
	if _, exists := fieldsByJSONName(reflect.TypeOf(like))[unknown]; exists {
		return networkProblem(http.StatusBadRequest, "HTTPBadRequest", forbidden, unknown)
	}
	return networkProblem(http.StatusBadRequest, "HTTPBadRequest", "Unrecognized attribute(s) '%s'", unknown)
}

// ownerOf is the project a new object belongs to: the caller's, unless an administrator names
// another.
func ownerOf(c *call, asked ...optional[string]) (string, error) {
	for _, project := range asked {
		named := project.or("")
		switch {
		case named == "" || named == c.project():
		case !c.isAdmin():
			return "", networkProblem(http.StatusBadRequest, "HTTPBadRequest",
				"Specifying 'project_id' or 'tenant_id' other than the authenticated project in request requires admin privileges")
		default:
			return named, nil
		}
	}
	return c.project(), nil
}

// common are the attributes that every new Neutron object may be given.
type common struct {
	Name        optional[string] `json:"name"`
	Description optional[string] `json:"description"`
	ProjectID   optional[string] `json:"project_id"`
	TenantID    optional[string] `json:"tenant_id"`
}

// begin starts an object's record after the project's quota allowed it.
func (n *networkService) begin(c *call, from common, quota string, used map[string]int) (record, error) {
	project, err := ownerOf(c, from.ProjectID, from.TenantID)
	if err != nil {
		return record{}, err
	}
	if err := n.checkQuota(project, quota, used[project]); err != nil {
		return record{}, err
	}
	begun := n.newRecord(project)
	from.Description.to(&begun.Description)
	return begun, nil
}
