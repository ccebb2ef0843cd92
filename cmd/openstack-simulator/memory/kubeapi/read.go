package kubeapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
)

func (c *Cluster) get(w http.ResponseWriter, req *request) error {
	found, err := c.store.get(req.resource, req.key)
	if err != nil {
		return err
	}
	return c.respond(w, req, http.StatusOK, found)
}

// respond writes one object in the form the client asked for.
func (c *Cluster) respond(w http.ResponseWriter, req *request, code int, r *record) error {
	if req.form == asTable {
		return writeJSON(w, code, c.table(req, []*record{r}, strconv.FormatUint(r.version, 10)))
	}
	data, err := req.form.render(r)
	if err != nil {
		return apierrors.NewInternalError(err)
	}
	writeRaw(w, code, data)
	return nil
}

// list answers with everything at once: limit is a wish that a server need not grant.
func (c *Cluster) list(w http.ResponseWriter, req *request) error {
	match, err := parseFilter(req.key.namespace, "", req.query)
	if err != nil {
		return err
	}
	found, version := c.store.list(req.resource, match)
	if req.form == asTable {
		return writeJSON(w, http.StatusOK, c.table(req, found, strconv.FormatUint(version, 10)))
	}
	kind, apiVersion := req.resource.kind+"List", req.resource.groupVersion().String()
	if req.form == asMetadata {
		kind, apiVersion = "PartialObjectMetadataList", metav1.SchemeGroupVersion.String()
	}
	var out bytes.Buffer
	out.WriteString(`{"kind":"` + kind + `","apiVersion":"` + apiVersion + `","metadata":{"resourceVersion":"` +
		strconv.FormatUint(version, 10) + `"},"items":[`)
	for i, r := range found {
		if i > 0 {
			out.WriteByte(',')
		}
		data, err := req.form.render(r)
		if err != nil {
			return apierrors.NewInternalError(err)
		}
		out.Write(data)
	}
	out.WriteString("]}")
	writeRaw(w, http.StatusOK, out.Bytes())
	return nil
}

// watcher sends the changes of one watch.
type watcher struct {
	w      http.ResponseWriter
	req    *request
	match  filter
	table  func(*record) any
	flush  func()
	failed error
}

// watch streams changes until the client leaves, its time is up, or it fell behind what is remembered.
func (c *Cluster) watch(w http.ResponseWriter, req *request) error {
	match, err := parseFilter(req.key.namespace, req.key.name, req.query)
	if err != nil {
		return err
	}
	from, initial, err := watchStart(req)
	if err != nil {
		return err
	}
	if !initial {
		if _, _, _, err := c.store.since(req.resource.groupResource(), from); err != nil {
			return err
		}
	}
	ctx, cancel := c.watchContext(req)
	defer cancel()
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusOK)
	controller := http.NewResponseController(w)
	out := &watcher{w: w, req: req, match: match, flush: func() { _ = controller.Flush() }}
	out.table = func(r *record) any { return c.table(req, []*record{r}, strconv.FormatUint(r.version, 10)) }
	if initial {
		from = c.sendInitial(out)
	}
	out.flush()
	c.follow(ctx, out, from)
	return nil
}

// watchStart reads from which version on to watch; initial asks for the present objects first. That is what version
// "" and "0" have always meant, and what sendInitialEvents says (the WatchList protocol).
func watchStart(req *request) (from uint64, initial bool, err error) {
	text := req.query.Get("resourceVersion")
	if req.query.Get("sendInitialEvents") == "true" || text == "" || text == "0" {
		return 0, true, nil
	}
	from, err = strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, apierrors.NewBadRequest("resourceVersion: " + err.Error())
	}
	return from, false, nil
}

func (c *Cluster) watchContext(req *request) (context.Context, context.CancelFunc) {
	seconds, err := strconv.Atoi(req.query.Get("timeoutSeconds"))
	if err != nil || seconds <= 0 {
		return context.WithCancel(req.Context())
	}
	// The client's own time, not the simulated one.
	return context.WithTimeout(req.Context(), time.Duration(seconds)*time.Second)
}

func (c *Cluster) sendInitial(out *watcher) uint64 {
	found, version := c.store.list(out.req.resource, out.match)
	for _, r := range found {
		out.send(watch.Added, r)
	}
	if out.req.query.Get("sendInitialEvents") == "true" {
		out.bookmark(version, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	}
	return version
}

func (c *Cluster) follow(ctx context.Context, out *watcher, from uint64) {
	for {
		changes, version, changed, err := c.store.since(out.req.resource.groupResource(), from)
		if err != nil {
			status := statusOf(err)
			out.write(watch.Error, status)
			out.flush()
			return
		}
		for _, change := range changes {
			out.sendChange(change)
		}
		if len(changes) > 0 {
			out.flush()
		}
		if out.failed != nil {
			return
		}
		from = version
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// sendChange tells of a change as seen through the filter: an object that stops matching is deleted to this watcher.
func (o *watcher) sendChange(c change) {
	was, is := o.match.accepts(c.before), o.match.accepts(c.after)
	switch {
	case is && was:
		o.send(watch.Modified, c.after)
	case is:
		o.send(watch.Added, c.after)
	case was && c.after != nil: // as it was when it still matched
		o.send(watch.Deleted, c.before.asOf(c.before.decode(), c.version))
	case was:
		o.send(watch.Deleted, c.last)
	}
}

func (o *watcher) send(event watch.EventType, r *record) {
	if o.req.form == asTable {
		o.write(event, o.table(r))
		return
	}
	data, err := o.req.form.render(r)
	if err != nil {
		o.failed = err
		return
	}
	o.write(event, json.RawMessage(data))
}

func (o *watcher) bookmark(version uint64, annotations map[string]string) {
	obj := unstructured.Unstructured{Object: map[string]any{}}
	gvk := o.req.resource.gvk()
	if o.req.form == asMetadata {
		gvk = metav1.SchemeGroupVersion.WithKind("PartialObjectMetadata")
	}
	obj.SetGroupVersionKind(gvk)
	obj.SetResourceVersion(strconv.FormatUint(version, 10))
	obj.SetAnnotations(annotations)
	o.write(watch.Bookmark, obj.Object)
}

func (o *watcher) write(event watch.EventType, object any) {
	data, err := json.Marshal(map[string]any{"type": event, "object": object})
	if err == nil {
		_, err = o.w.Write(append(data, '\n'))
	}
	if err != nil {
		o.failed = err
	}
}

// unsupportedMediaType is the answer to a body this server cannot read.
func unsupportedMediaType(req *request) error {
	return apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, req.Method,
		schema.GroupResource{Group: req.resource.group, Resource: req.resource.plural}, req.key.name,
		"the body of the request was in an unknown format: "+req.Header.Get("Content-Type"), 0, true)
}
