package simulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// call is one request as a handler sees it. The simulator's lock is held while a handler runs.
type call struct {
	r     *http.Request
	token *token // nil on routes that need none
	body  []byte
	// requestID is what the answer's X-Openstack-Request-Id says.
	requestID string
}

// project is the project the caller's token is scoped to.
func (c *call) project() string { return c.token.project }

// id is a wildcard of the route's path.
func (c *call) id(name string) string { return c.r.PathValue(name) }

// query is a query parameter, empty when it was not sent.
func (c *call) query(name string) string { return c.r.URL.Query().Get(name) }

// decode reads the JSON body into v.
func (c *call) decode(v any) error {
	if err := json.Unmarshal(c.body, v); err != nil {
		return problemf(http.StatusBadRequest, "Malformed request body: %v", err)
	}
	return nil
}

// base is the URL under which the client reached a service: "http://host/compute".
func (c *call) base(service string) string {
	return origin(c.r) + "/" + service
}

// reply is what a handler answers.
type reply struct {
	status int
	// body becomes JSON; nil sends none. A func() any is called without the lock, for what may block.
	body   any
	header map[string]string
}

// origin is how the client reaches this server.
func origin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

// noContent is the answer of most deletes.
func noContent() (reply, error) { return reply{status: http.StatusNoContent}, nil }

// ok answers 200 with a body.
func ok(body any) (reply, error) { return reply{status: http.StatusOK, body: body}, nil }

// problem is a failure a service reports in its own error format.
type problem struct {
	status  int
	message string
	// kind is Neutron's error type, such as OverQuota; other services ignore it.
	kind string
	// header is sent with the answer.
	header map[string]string
}

func (p *problem) Error() string { return p.message }

func problemf(status int, format string, args ...any) *problem {
	return &problem{status: status, message: fmt.Sprintf(format, args...)}
}

// errorFormat writes a problem the way one service does.
type errorFormat func(p *problem, requestID string) (contentType string, body []byte)

type handler func(c *call) (reply, error)

// router mounts the handlers of one service.
type router struct {
	s       *Simulator
	mux     *http.ServeMux
	service string
	errors  errorFormat
}

// unknownPath is what calls of routes that do not exist are counted under.
const unknownPath = "(unknown)"

func (s *Simulator) mount(mux *http.ServeMux, service string, format errorFormat) *router {
	rt := &router{s: s, mux: mux, service: service, errors: format}
	unknown := func(w http.ResponseWriter, r *http.Request) {
		rt.serve(w, r, callKey{Service: service, Method: r.Method, Path: unknownPath}, false, func(*call) (reply, error) {
			return reply{}, problemf(http.StatusNotFound, "The resource could not be found.")
		})
	}
	mux.HandleFunc("/"+service, unknown)
	mux.HandleFunc("/"+service+"/", unknown)
	return rt
}

// handle mounts a handler that needs a valid token: rt.handle("GET /v2.1/servers/{id}", ...).
func (rt *router) handle(pattern string, h handler) { rt.add(pattern, true, h) }

// open mounts a handler that anybody may call.
func (rt *router) open(pattern string, h handler) { rt.add(pattern, false, h) }

func (rt *router) add(pattern string, needsToken bool, h handler) {
	method, path, _ := strings.Cut(pattern, " ")
	template := strings.TrimSuffix(path, "{$}")
	serve := func(w http.ResponseWriter, r *http.Request) {
		rt.serve(w, r, callKey{Service: rt.service, Method: method, Path: template}, needsToken, h)
	}
	rt.mux.HandleFunc(method+" /"+rt.service+path, serve)
	if template == "/" { // catalog entries and discovery leave the slash out
		rt.mux.HandleFunc(method+" /"+rt.service, serve)
	}
}

// serve runs one request: fault before, the handler, fault after, the answer. The handler's effect
// and the answer are decided under the lock; waiting and writing happen without it.
func (rt *router) serve(w http.ResponseWriter, r *http.Request, key callKey, needsToken bool, h handler) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 16<<20))
	if err != nil {
		return
	}
	requestID, answer := rt.answer(r, body, key, needsToken, h)
	w.Header().Set("X-Openstack-Request-Id", requestID)
	if rt.service == "compute" {
		w.Header().Set("X-Compute-Request-Id", requestID)
	}
	answer.write(r.Context(), w)
}

// answer decides what the client will see.
func (rt *router) answer(r *http.Request, body []byte, key callKey, needsToken bool, h handler) (string, answer) {
	s := rt.s
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	requestID := "req-" + s.newID()
	c := &call{r: r, body: body, requestID: requestID}
	if needsToken {
		c.token = s.identity.validToken(r.Header.Get("X-Auth-Token"), s.now())
		if c.token == nil || c.token.project == "" && rt.service != "identity" {
			return requestID, rt.record(key, c, rt.unauthenticated(r, requestID))
		}
	}
	fault := s.faults.match(key, c)
	if fault != nil && fault.prevents() {
		return requestID, rt.record(key, c, rt.faulty(fault, nil, requestID))
	}
	out, err := h(c)
	result := rt.succeeded(out)
	if err != nil {
		result = rt.failed(err, requestID)
	}
	if fault != nil {
		result = rt.faulty(fault, &result, requestID)
	}
	return requestID, rt.record(key, c, result)
}

// unauthenticated is what Keystone's middleware answers in front of every service.
func (rt *router) unauthenticated(r *http.Request, requestID string) answer {
	p := unauthorized()
	p.header = map[string]string{"WWW-Authenticate": `Keystone uri="` + origin(r) + `/identity"`}
	contentType, body := identityErrors(p, requestID)
	return answer{status: p.status, contentType: contentType, body: body, header: p.header}
}

func (rt *router) record(key callKey, c *call, a answer) answer {
	rt.s.calls.record(key, c, a.status, rt.s.now())
	a.delay += rt.s.scenario.Latency.of(rt.s.rng, key)
	a.clock, a.closing = rt.s.clock, rt.s.ctx.Done()
	return a
}

func (rt *router) succeeded(out reply) answer {
	a := answer{status: out.status, contentType: "application/json", header: out.header}
	switch body := out.body.(type) {
	case nil:
	case func() any:
		a.produce = body
	default:
		encoded, err := encodeJSON(body)
		if err != nil {
			return rt.failed(err, "")
		}
		a.body = encoded
	}
	return a
}

func encodeJSON(body any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(body)
	return b.Bytes(), err
}

func (rt *router) failed(err error, requestID string) answer {
	var p *problem
	if !errors.As(err, &p) {
		p = problemf(http.StatusInternalServerError, "%v", err)
	}
	contentType, body := rt.errors(p, requestID)
	return answer{status: p.status, contentType: contentType, body: body, header: p.header}
}
