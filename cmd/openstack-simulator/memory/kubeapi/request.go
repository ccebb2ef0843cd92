package kubeapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// bodyLimitBytes is what a real API server accepts at most.
const bodyLimitBytes = 3 << 20

// request is a call on a resource: the path and query taken apart.
type request struct {
	*http.Request
	resource    resource
	key         key // without a name for a collection
	subresource string
	query       url.Values
	form        form
}

func (r *request) dryRun() bool { return slices.Contains(r.query["dryRun"], metav1.DryRunAll) }

func (r *request) watching() bool {
	watch := r.query.Get("watch")
	return watch == "true" || watch == "1"
}

// parse reads /api/v1/… or /apis/GROUP/VERSION/…, followed by [namespaces/NAMESPACE/]RESOURCE[/NAME[/SUBRESOURCE]].
func (c *Cluster) parse(r *http.Request) (*request, error) {
	notFound := apierrors.NewGenericServerResponse(http.StatusNotFound, r.Method, schema.GroupResource{}, "", "the server could not find the requested resource", 0, true)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	var gv schema.GroupVersion
	switch {
	case len(parts) > 2 && parts[0] == "api":
		gv, parts = schema.GroupVersion{Version: parts[1]}, parts[2:]
	case len(parts) > 3 && parts[0] == "apis":
		gv, parts = schema.GroupVersion{Group: parts[1], Version: parts[2]}, parts[3:]
	default:
		return nil, notFound
	}
	req := &request{Request: r, query: r.URL.Query()}
	subresourcesOfNamespaces := []string{"status", "finalize"}
	if len(parts) > 2 && parts[0] == "namespaces" && !slices.Contains(subresourcesOfNamespaces, parts[2]) {
		req.key.namespace, parts = parts[1], parts[2:]
	}
	var ok bool
	if req.resource, ok = c.findResource(gv, parts[0]); !ok || len(parts) > 3 {
		return nil, notFound
	}
	if len(parts) > 1 {
		req.key.name = parts[1]
	}
	if len(parts) > 2 {
		req.subresource = parts[2]
	}
	req.form = negotiate(r.Header.Get("Accept"))
	return req, nil
}

// serve dispatches by method.
func (c *Cluster) serve(w http.ResponseWriter, req *request) error {
	if req.subresource != "" && req.subresource != "status" {
		return c.serveSubresource(w, req)
	}
	if req.subresource == "status" && !req.resource.hasStatus {
		return apierrors.NewNotFound(req.resource.groupResource(), req.key.name)
	}
	one := req.key.name != ""
	switch {
	case req.Method == http.MethodGet && req.watching():
		return c.watch(w, req)
	case req.Method == http.MethodGet && one:
		return c.get(w, req)
	case req.Method == http.MethodGet:
		return c.list(w, req)
	case req.Method == http.MethodPost && !one:
		return c.create(w, req)
	case req.Method == http.MethodPut && one:
		return c.update(w, req)
	case req.Method == http.MethodPatch && one:
		return c.patch(w, req)
	case req.Method == http.MethodDelete && one:
		return c.delete(w, req)
	case req.Method == http.MethodDelete:
		return c.deleteCollection(w, req)
	}
	return apierrors.NewMethodNotSupported(req.resource.groupResource(), req.Method)
}

func (c *Cluster) serveSubresource(w http.ResponseWriter, req *request) error {
	pods := req.resource.group == "" && req.resource.plural == "pods"
	switch {
	case pods && req.subresource == "eviction" && req.Method == http.MethodPost:
		return c.evict(w, req)
	case pods && req.subresource == "portforward":
		return c.portForward(w, req)
	}
	return apierrors.NewNotFound(req.resource.groupResource(), req.key.name)
}

func readBody(req *request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(req.Body, bodyLimitBytes+1))
	if err != nil {
		return nil, apierrors.NewBadRequest(fmt.Sprintf("read body: %v", err))
	}
	if len(body) > bodyLimitBytes {
		return nil, apierrors.NewRequestEntityTooLargeError(fmt.Sprintf("limit is %d", bodyLimitBytes))
	}
	return body, nil
}

func writeJSON(w http.ResponseWriter, code int, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	writeRaw(w, code, data)
	return nil
}

func writeRaw(w http.ResponseWriter, code int, data []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(data) // a client that left needs no answer
}

func writeError(w http.ResponseWriter, err error) {
	status := statusOf(err)
	if data, err := json.Marshal(status); err == nil {
		writeRaw(w, int(status.Code), data)
	}
}

// statusOf is an error as the API reports it.
func statusOf(err error) metav1.Status {
	var known apierrors.APIStatus
	if !errors.As(err, &known) {
		known = apierrors.NewInternalError(err)
	}
	status := known.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return status
}

// Reject answers a request with an error of the API, for what stands in front of it.
func Reject(w http.ResponseWriter, err error) { writeError(w, err) }
