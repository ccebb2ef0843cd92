package cloud

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// The collections of storeCloud, by path.
const (
	serversPath       = "/compute/v2.1/servers"
	serverGroupsPath  = "/compute/v2.1/os-server-groups"
	networksPath      = "/network/v2.0/networks"
	subnetsPath       = "/network/v2.0/subnets"
	routersPath       = "/network/v2.0/routers"
	groupsPath        = "/network/v2.0/security-groups"
	portsPath         = "/network/v2.0/ports"
	floatingIPsPath   = "/network/v2.0/floatingips"
	loadBalancersPath = "/lb/v2.0/lbaas/loadbalancers"
	listenersPath     = "/lb/v2.0/lbaas/listeners"
	poolsPath         = "/lb/v2.0/lbaas/pools"
	monitorsPath      = "/lb/v2.0/lbaas/healthmonitors"
	volumesPath       = "/volume/v3/p1/volumes"
)

// fields is an object as a service writes it.
type fields map[string]any

// storeCloud is a cloud that lists what a test puts there, in pages, and counts the calls.
type storeCloud struct {
	*loginCloud
	fake *clockwork.FakeClock

	mu      sync.Mutex
	objects map[string][]fields
	queries map[string][]string // of the lists, by path
	// before runs ahead of the answer to a call ("GET /network/v2.0/ports") and may take it over.
	before map[string]func(http.ResponseWriter, *http.Request) bool
	bodies map[string]string // the last ones sent, by call
}

func newStoreCloud(t *testing.T) *storeCloud {
	t.Helper()
	fake := clockwork.NewFakeClockAt(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	c := &storeCloud{
		loginCloud: newLoginCloud(t, fake), fake: fake,
		objects: map[string][]fields{}, queries: map[string][]string{},
		before: map[string]func(http.ResponseWriter, *http.Request) bool{}, bodies: map[string]string{},
	}
	c.Config.Handler = c
	return c
}

func (c *storeCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimSuffix(r.URL.Path, "/detail")
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(strings.NewReader(string(body)))
	c.mu.Lock()
	c.bodies[r.Method+" "+r.URL.Path] = string(body)
	before := c.before[r.Method+" "+path]
	c.mu.Unlock()
	if before != nil && before(w, r) {
		c.countOnly(r)
		return
	}
	if r.Method != http.MethodGet || !isCollection(path) {
		c.loginCloud.ServeHTTP(w, r)
		return
	}
	c.countOnly(r)
	c.list(w, r, path)
}

// countOnly counts a call that the login cloud does not answer.
func (c *storeCloud) countOnly(r *http.Request) {
	c.loginCloud.mu.Lock()
	defer c.loginCloud.mu.Unlock()
	c.calls[r.Method+" "+strings.TrimSuffix(r.URL.Path, "/detail")]++
}

func isCollection(path string) bool {
	return slices.Contains([]string{
		serversPath, serverGroupsPath, networksPath, subnetsPath, routersPath, groupsPath, portsPath, floatingIPsPath,
		loadBalancersPath, listenersPath, poolsPath, monitorsPath, volumesPath,
	}, path)
}

// list answers with a page, as Nova, Neutron, Octavia and Cinder do.
func (c *storeCloud) list(w http.ResponseWriter, r *http.Request, path string) {
	c.mu.Lock()
	c.queries[path] = append(c.queries[path], r.URL.RawQuery)
	all := slices.Clone(c.objects[path])
	c.mu.Unlock()
	query := r.URL.Query()
	if path == serversPath {
		all = changedSince(all, query.Get("changes-since"))
	}
	if id := query.Get("loadbalancer_id"); id != "" {
		all = slices.DeleteFunc(all, func(o fields) bool { return o["loadbalancer_id"] != id })
	}
	start, _ := strconv.Atoi(query.Get("offset"))
	if marker := query.Get("marker"); marker != "" {
		start = 1 + slices.IndexFunc(all, func(o fields) bool { return o["id"] == marker })
	}
	limit, _ := strconv.Atoi(query.Get("limit"))
	end := min(len(all), start+limit)
	key := strings.ReplaceAll(strings.TrimPrefix(path[strings.LastIndex(path, "/")+1:], "os-"), "-", "_")
	answer := map[string]any{key: all[min(start, end):end]}
	if end < len(all) && path != serverGroupsPath {
		answer[key+"_links"] = []map[string]string{{"rel": "next", "href": "http://behind.a.proxy.invalid/"}}
	}
	writeJSON(w, http.StatusOK, answer)
}

// changedSince is what Nova lists: all but the deleted ones, or all that changed since a time.
func changedSince(all []fields, since string) []fields {
	var out []fields
	for _, o := range all {
		deleted := o["status"] == "DELETED"
		if since == "" && !deleted || since != "" && fmt.Sprint(o["updated"]) >= since {
			out = append(out, o)
		}
	}
	return out
}

// put adds or replaces an object.
func (c *storeCloud) put(path string, o fields) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, said := o["project_id"]; !said {
		o["project_id"] = "p1"
	}
	for n, old := range c.objects[path] {
		if old["id"] == o["id"] {
			c.objects[path][n] = o
			return
		}
	}
	c.objects[path] = append(c.objects[path], o)
}

func (c *storeCloud) take(path, id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[path] = slices.DeleteFunc(slices.Clone(c.objects[path]), func(o fields) bool { return o["id"] == id })
}

func (c *storeCloud) clear(path string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.objects[path] = nil
}

// on runs ahead of the answers to a call; nil ends that.
func (c *storeCloud) on(call string, before func(http.ResponseWriter, *http.Request) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before[call] = before
}

func (c *storeCloud) fail(call string, status int) {
	c.on(call, func(w http.ResponseWriter, _ *http.Request) bool {
		writeJSON(w, status, map[string]any{"computeFault": map[string]any{"code": status, "message": "out of order"}})
		return true
	})
}

func (c *storeCloud) heal(call string) { c.on(call, nil) }

func (c *storeCloud) lastQuery(path string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queries[path]) == 0 {
		return ""
	}
	return c.queries[path][len(c.queries[path])-1]
}

// body is the last body sent with a call.
func (c *storeCloud) body(t *testing.T, call string) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bodies[call]
}

// server is a server of machine m of cluster c1.
func (c *storeCloud) server(id, status string) fields {
	return fields{
		"id": id, "name": "name-" + id, "status": status, "updated": c.now(), "created": "2026-01-01T00:00:00Z", "tenant_id": "p1",
		"metadata": map[string]any{MetadataCluster: "c1", MetadataMachine: "m-" + id}, "flavor": map[string]any{"original_name": "gpu"}, "image": "",
	}
}

// now is the cloud's time as Nova writes it.
func (c *storeCloud) now() string { return c.fake.Now().UTC().Format(time.RFC3339) }

func (c *storeCloud) port(id string) fields {
	return fields{"id": id, "description": Mark{Cluster: "c1", Machine: "m", Role: id}.String(), "network_id": "n1", "status": "DOWN"}
}

// poller is a session whose inventory has listed everything once.
func (c *storeCloud) poller(t *testing.T, change ...func(*Options)) *Session {
	t.Helper()
	withoutJitter := func(o *Options) { o.Polling.Jitter = -1 }
	session := c.session(append([]func(*Options){withoutJitter}, change...)...)
	c.poll(t, session)
	return session
}

func (c *storeCloud) poll(t *testing.T, s *Session) {
	t.Helper()
	if err := s.Inventory().Poll(t.Context()); err != nil {
		t.Fatalf("poll: %v", err)
	}
}

// pollAfter lets time pass and polls.
func (c *storeCloud) pollAfter(t *testing.T, s *Session, d time.Duration) {
	t.Helper()
	c.fake.Advance(d)
	c.poll(t, s)
}

// lists is the number of GETs of a collection.
func (c *storeCloud) lists(path string) int { return c.count("GET " + path) }

// callsDuring counts the calls that something makes.
func (c *storeCloud) callsDuring(do func()) int {
	before := c.total()
	do()
	return c.total() - before
}

// wantJSON checks that a body holds what is wanted, and more or less nothing else.
func wantJSON(t *testing.T, body, want string) {
	t.Helper()
	var got, expected any
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("body %q: %v", body, err)
	}
	if err := json.Unmarshal([]byte(want), &expected); err != nil {
		t.Fatalf("bad want %q: %v", want, err)
	}
	gotText, _ := json.Marshal(got)
	wantText, _ := json.Marshal(expected)
	if string(gotText) != string(wantText) {
		t.Errorf("sent %s\nwant %s", gotText, wantText)
	}
}
