package cloud

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

// loginCloud is a Keystone with a catalog, and whatever a test makes the other services answer. It
// counts every call.
type loginCloud struct {
	*httptest.Server
	t     *testing.T
	clock clockwork.Clock

	mu sync.Mutex
	// password is the one Keystone accepts.
	password  string
	tokenLife time.Duration
	skew      time.Duration // of the cloud's clock
	tokens    map[string]bool
	issued    int
	logins    []map[string]any // their bodies
	calls     map[string]int
	headers   map[string]http.Header // the last ones by call
	queries   map[string]url.Values  // the last ones by call
	answers   map[string]http.HandlerFunc
	catalog   func(base string) []map[string]any
	projectID string // of every login
}

func newLoginCloud(t *testing.T, clock clockwork.Clock) *loginCloud {
	t.Helper()
	c := &loginCloud{
		t: t, clock: clock, password: "s3cret", tokenLife: time.Hour,
		tokens: map[string]bool{}, calls: map[string]int{}, headers: map[string]http.Header{}, queries: map[string]url.Values{},
		answers: map[string]http.HandlerFunc{}, catalog: oneRegion, projectID: "p1",
	}
	c.Server = httptest.NewServer(c)
	t.Cleanup(c.Close)
	c.answerJSON("GET /compute/v2.1/", map[string]any{"version": map[string]any{"id": "v2.1", "version": "2.93", "min_version": "2.1"}})
	return c
}

func oneRegion(base string) []map[string]any {
	return catalogOf(base, "RegionOne")
}

func catalogOf(base string, regions ...string) []map[string]any {
	var catalog []map[string]any
	for of, path := range map[string]string{
		"identity": "/identity", "compute": "/compute/v2.1", "network": "/network", "load-balancer": "/lb",
		"volumev3": "/volume/v3/p1", "image": "/image",
	} {
		var endpoints []map[string]any
		for _, region := range regions {
			endpoints = append(endpoints,
				map[string]any{"interface": "public", "region": region, "region_id": region, "url": base + path},
				map[string]any{"interface": "internal", "region": region, "region_id": region, "url": base + "/internal" + path})
		}
		catalog = append(catalog, map[string]any{"type": of, "name": of, "endpoints": endpoints})
	}
	return catalog
}

// identity logs in with the password the cloud starts with.
func (c *loginCloud) identity() Identity {
	return Identity{
		CloudName: "test", AuthURL: c.URL + "/identity", Region: "RegionOne",
		Username: "demo", UserDomainID: "default", Password: "s3cret",
		ProjectName: "team-a", ProjectDomainID: "default",
	}
}

func (c *loginCloud) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := r.Method + " " + r.URL.Path
	c.mu.Lock()
	c.calls[call]++
	c.headers[call] = r.Header.Clone()
	c.queries[call] = r.URL.Query()
	answer := c.answers[call]
	known := c.tokens[r.Header.Get("X-Auth-Token")]
	c.mu.Unlock()
	switch {
	case call == "POST /identity/v3/auth/tokens" && answer == nil:
		c.login(w, r)
	case strings.HasPrefix(r.URL.Path, "/identity") && answer == nil:
		http.NotFound(w, r)
	case !known && !strings.HasPrefix(r.URL.Path, "/identity"):
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}})
	case answer != nil:
		answer(w, r)
	default:
		writeJSON(w, http.StatusNotFound, map[string]any{"itemNotFound": map[string]any{"code": 404, "message": "nothing at " + call}})
	}
}

func (c *loginCloud) login(w http.ResponseWriter, r *http.Request) {
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	text, _ := json.Marshal(body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.logins = append(c.logins, body)
	if !strings.Contains(string(text), `"`+c.password+`"`) {
		writeJSON(w, http.StatusUnauthorized, map[string]any{"error": map[string]any{"code": 401, "message": "The request you have made requires authentication.", "title": "Unauthorized"}})
		return
	}
	c.issued++
	token := fmt.Sprintf("token-%d", c.issued)
	c.tokens[token] = true
	w.Header().Set("X-Subject-Token", token)
	now := c.clock.Now().Add(c.skew).UTC()
	writeJSON(w, http.StatusCreated, map[string]any{"token": map[string]any{
		"methods": []string{"password"}, "issued_at": now, "expires_at": now.Add(c.tokenLife),
		"project": map[string]any{"id": c.projectID, "name": "team-a", "domain": map[string]any{"id": "default"}},
		"catalog": c.catalog(c.URL),
	}})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

// answer sets what a call ("GET /compute/v2.1/limits") does.
func (c *loginCloud) answer(call string, handler http.HandlerFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[call] = handler
}

func (c *loginCloud) answerJSON(call string, body any) {
	c.answer(call, func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, http.StatusOK, body) })
}

func (c *loginCloud) answerStatus(call string, status int, header ...string) {
	c.answer(call, func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		writeJSON(w, status, map[string]any{"computeFault": map[string]any{"code": status, "message": "broken"}})
	})
}

// hangUp breaks the connection off without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func (c *loginCloud) count(call string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[call]
}

func (c *loginCloud) loginCount() int { return c.count("POST /identity/v3/auth/tokens") }

func (c *loginCloud) total() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	sum := 0
	for _, n := range c.calls {
		sum += n
	}
	return sum
}

func (c *loginCloud) header(call string) http.Header {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers[call]
}

// query is the last query of a call, without the size of a page.
func (c *loginCloud) query(call string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	query := maps.Clone(c.queries[call])
	query.Del("limit")
	return query.Encode()
}

func (c *loginCloud) lastLogin() map[string]any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.logins[len(c.logins)-1]
}

// revokeTokens makes every token so far worthless.
func (c *loginCloud) revokeTokens() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.tokens)
}

// knows reports that a request carries a token that is good.
func (c *loginCloud) knows(r *http.Request) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tokens[r.Header.Get("X-Auth-Token")]
}

func (c *loginCloud) setPassword(password string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.password = password
}

// sessions makes a set whose inventories wait for the test to poll.
func (c *loginCloud) sessions(change ...func(*Options)) *Sessions {
	options := Options{Clock: c.clock, ManualPolling: true}
	for _, apply := range change {
		apply(&options)
	}
	return NewSessions(options)
}

// without is the catalog of a cloud that lacks some services.
func without(types ...string) func(base string) []map[string]any {
	return func(base string) []map[string]any {
		return slices.DeleteFunc(oneRegion(base), func(entry map[string]any) bool {
			return slices.ContainsFunc(types, func(of string) bool { return entry["type"] == of })
		})
	}
}

// session logs in.
func (c *loginCloud) session(change ...func(*Options)) *Session {
	c.t.Helper()
	session, err := c.sessions(change...).Get(c.t.Context(), c.identity())
	if err != nil {
		c.t.Fatalf("log in: %v", err)
	}
	return session
}

// get is one GET of the compute service through everything a session has.
func get(t *testing.T, s *Session, path string) error {
	t.Helper()
	return s.read(t.Context(), computeService, path, &struct{}{})
}

// post is one POST to the compute service.
func post(t *testing.T, s *Session, path string) error {
	t.Helper()
	client, err := s.client(t.Context(), computeService)
	if err != nil {
		return err
	}
	var answer map[string]any
	response, err := client.Post(t.Context(), client.ServiceURL(path), map[string]any{"x": 1}, &answer, nil)
	if err == nil {
		err = response.Body.Close()
	}
	return s.classify("POST /"+path, err)
}

func readAll(t *testing.T, r io.Reader) string {
	t.Helper()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// wantClass checks the class of an error and the words in it.
func wantClass(t *testing.T, err error, class Class, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one of class %s", class)
	}
	if got := ClassOf(err); got != class {
		t.Errorf("class %s, want %s, of: %v", got, class, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in: %v", word, err)
		}
	}
}
