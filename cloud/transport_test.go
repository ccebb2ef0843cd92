package cloud

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/networking/v2/networks"
	"github.com/jonboulle/clockwork"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestEveryRequestCarriesAnIDAndKeepsTheAnswers(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answerStatus("GET /compute/v2.1/x", http.StatusForbidden, requestIDHeader, "req-of-nova")
	cloud.answerStatus("GET /compute/v2.1/y", http.StatusForbidden)
	session := cloud.session(func(o *Options) { o.UserAgent = "sendan-test" })
	wantClass(t, get(t, session, "x"), Auth, "req-of-nova")
	sent := cloud.header("GET /compute/v2.1/x")
	if id := sent.Get(requestIDHeader); !regexp.MustCompile(`^req-[0-9a-f-]{36}$`).MatchString(id) {
		t.Errorf("sent the id %q", id)
	}
	if agent := sent.Get("User-Agent"); !strings.HasPrefix(agent, "sendan-test ") {
		t.Errorf("User-Agent %q", agent)
	}
	// A service that gives no id was at least given ours.
	wantClass(t, get(t, session, "y"), Auth, cloud.header("GET /compute/v2.1/y").Get(requestIDHeader))
}

func TestARequestThatHangsEndsAfterItsTimeout(t *testing.T) {
	for name, partly := range map[string]bool{"before its answer": false, "in the middle of its answer": true} {
		t.Run(name, func(t *testing.T) {
			cloud := newLoginCloud(t, clockwork.NewFakeClock())
			hang := func(w http.ResponseWriter, r *http.Request) {
				readAll(t, r.Body) // or the server does not see the client go
				if partly {
					w.Header().Set("Content-Length", "100")
					_, _ = w.Write([]byte("{"))
					w.(http.Flusher).Flush()
				}
				<-r.Context().Done()
			}
			cloud.answer("GET /compute/v2.1/x", hang)
			cloud.answer("POST /compute/v2.1/x", hang)
			session := cloud.session(func(o *Options) { o.RequestTimeout = 50 * time.Millisecond })
			err := get(t, session, "x")
			wantClass(t, err, Transient, "no answer", "50ms")
			if IsUncertain(err) {
				t.Error("a GET changes nothing")
			}
			if err := post(t, session, "x"); !IsUncertain(err) {
				t.Errorf("the POST may have had its effect: %v", err)
			}
			if got := cloud.count("GET /compute/v2.1/x"); got != 1 {
				t.Errorf("a request that timed out was sent %d times", got)
			}
		})
	}
}

func TestABrokenConnectionIsTriedAgainForAGetOnly(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.Config.SetKeepAlivesEnabled(false) // net/http itself tries again on a connection it used before
	var failed atomic.Bool
	cloud.answer("GET /compute/v2.1/x", func(w http.ResponseWriter, r *http.Request) {
		if !failed.Swap(true) {
			hangUp(w, r)
		}
		writeJSON(w, http.StatusOK, map[string]any{})
	})
	cloud.answer("GET /compute/v2.1/always", hangUp)
	cloud.answer("POST /compute/v2.1/x", hangUp)
	session := cloud.session()
	if err := get(t, session, "x"); err != nil {
		t.Error(err)
	}
	wantClass(t, get(t, session, "always"), Transient)
	if got := cloud.count("GET /compute/v2.1/always"); got != 2 {
		t.Errorf("sent %d times, want 2", got)
	}
	err := post(t, session, "x")
	wantClass(t, err, Transient, "req-")
	if !IsUncertain(err) {
		t.Error("the POST may have had its effect")
	}
	if got := cloud.count("POST /compute/v2.1/x"); got != 1 {
		t.Errorf("the POST was sent %d times", got)
	}
}

func TestNobodyListeningIsNotUncertain(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	cloud.catalog = func(string) []map[string]any { return catalogOf(gone.URL, "RegionOne") }
	session := cloud.session()
	client, err := session.client(t.Context(), networkService)
	if err != nil {
		t.Fatal(err)
	}
	err = session.classify("POST /networks", networks.Create(t.Context(), client, networks.CreateOpts{Name: "n"}).Err)
	wantClass(t, err, Transient, "POST /networks")
	if IsUncertain(err) {
		t.Errorf("no connection, no effect: %v", err)
	}
}

func TestARedirectIsNotFollowedWithTheToken(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host got %s with the token %q", r.URL, r.Header.Get("X-Auth-Token"))
	}))
	t.Cleanup(thief.Close)
	cloud.answer("GET /compute/v2.1/x", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief.URL+"/x", http.StatusFound) })
	wantClass(t, get(t, cloud.session(), "x"), Config)
}

func TestTheNextPageComesFromTheCatalogsHost(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answer("GET /network/v2.0/networks", func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]any{"networks": []any{map[string]any{"id": "n" + r.URL.Query().Get("marker")}}}
		if r.URL.Query().Get("marker") == "" {
			answer["networks_links"] = []any{map[string]any{"rel": "next", "href": "http://internal.example/network/v2.0/networks?marker=2"}}
		}
		writeJSON(w, http.StatusOK, answer)
	})
	client, err := cloud.session().client(t.Context(), networkService)
	if err != nil {
		t.Fatal(err)
	}
	pages, err := networks.List(client, networks.ListOpts{}).AllPages(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if found, _ := networks.ExtractNetworks(pages); len(found) != 2 {
		t.Errorf("%d networks, want 2", len(found))
	}
}

func TestCertificatesAreCheckedUnlessToldOtherwise(t *testing.T) {
	plain := newLoginCloud(t, clockwork.NewFakeClock())
	secure := httptest.NewTLSServer(plain)
	t.Cleanup(secure.Close)
	identity := plain.identity()
	identity.AuthURL = secure.URL + "/identity"

	_, err := plain.sessions().Get(t.Context(), identity)
	wantClass(t, err, Config, "not trusted", "cacert")

	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if _, err := plain.sessions().Get(t.Context(), identity.WithCACert(authority)); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	identity.Insecure = true
	if _, err := plain.sessions().Get(t.Context(), identity); err != nil {
		t.Errorf("with checks turned off: %v", err)
	}
}

func TestOneTenantsWrongCertificateDoesNotShutOutTheOthers(t *testing.T) {
	plain := newLoginCloud(t, clockwork.NewFakeClock())
	secure := httptest.NewUnstartedServer(plain)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // it would log every handshake
	secure.StartTLS()
	t.Cleanup(secure.Close)
	identity := plain.identity()
	identity.AuthURL = secure.URL + "/identity"
	sessions := plain.sessions()
	for i := range 2 * breakerThreshold {
		identity.CloudName = fmt.Sprint("tenant-", i)
		_, err := sessions.Get(t.Context(), identity)
		wantClass(t, err, Config, "not trusted")
	}
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	if _, err := sessions.Get(t.Context(), identity.WithCACert(authority)); err != nil {
		t.Errorf("a tenant with the right certificate: %v", err)
	}
}

func TestRetryAfterQuietensTheWholeCloud(t *testing.T) {
	for name, status := range map[string]int{"429": http.StatusTooManyRequests, "503": http.StatusServiceUnavailable} {
		t.Run(name, func(t *testing.T) {
			clock := clockwork.NewFakeClock()
			cloud := newLoginCloud(t, clock)
			cloud.answerStatus("POST /compute/v2.1/x", status, "Retry-After", "30")
			cloud.answerJSON("GET /compute/v2.1/y", map[string]any{})
			sessions := cloud.sessions()
			one, err := sessions.Get(t.Context(), cloud.identity())
			if err != nil {
				t.Fatal(err)
			}
			neighbor := cloud.identity()
			neighbor.CloudName = "neighbor"
			two, err := sessions.Get(t.Context(), neighbor)
			if err != nil {
				t.Fatal(err)
			}
			if err := get(t, two, "y"); err != nil {
				t.Fatal(err)
			}
			err = post(t, one, "x")
			wantClass(t, err, Throttled)
			if got := retryAfterOf(err); got != 30*time.Second || IsUncertain(err) {
				t.Errorf("RetryAfter %s, uncertain %t", got, IsUncertain(err))
			}
			before := cloud.total()
			clock.Advance(10 * time.Second)
			for _, session := range []*Session{one, two} {
				err := get(t, session, "y")
				wantClass(t, err, Throttled, "asked for quiet", "until")
				if got := retryAfterOf(err); got != 20*time.Second {
					t.Errorf("RetryAfter %s, want 20s", got)
				}
			}
			if got := cloud.total(); got != before {
				t.Errorf("%d calls during the pause", got-before)
			}
			clock.Advance(20 * time.Second)
			if err := get(t, two, "y"); err != nil {
				t.Errorf("after the pause: %v", err)
			}
			if got := cloud.count("POST /compute/v2.1/x"); got != 1 {
				t.Errorf("the POST was sent %d times", got)
			}
		})
	}
}

func TestA429WithoutATimeStillPauses(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerStatus("GET /compute/v2.1/x", http.StatusTooManyRequests)
	session := cloud.session()
	err := get(t, session, "x")
	wantClass(t, err, Throttled)
	if retryAfterOf(err) <= 0 {
		t.Error("no RetryAfter")
	}
	wantClass(t, get(t, session, "x"), Throttled, "asked for quiet")
}

func TestAnAbsurdRetryAfterIsBounded(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerStatus("GET /compute/v2.1/x", http.StatusTooManyRequests, "Retry-After", "31536000")
	session := cloud.session()
	if got := retryAfterOf(get(t, session, "x")); got != longestPause {
		t.Errorf("RetryAfter %s, want %s", got, longestPause)
	}
	clock.Advance(longestPause)
	cloud.answerJSON("GET /compute/v2.1/x", map[string]any{})
	if err := get(t, session, "x"); err != nil {
		t.Error(err)
	}
}

func TestRetryAfterMayBeADate(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	header := http.Header{"Retry-After": {now.Add(time.Minute).Format(http.TimeFormat)}}
	if got := retryAfter(header, now); got != time.Minute {
		t.Errorf("%s, want 1m", got)
	}
}

func TestABrokenServiceIsLeftInPeace(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerStatus("GET /compute/v2.1/x", http.StatusInternalServerError)
	cloud.answerJSON("GET /network/v2.0/x", map[string]any{})
	session := cloud.session()
	for range breakerThreshold {
		wantClass(t, get(t, session, "x"), Transient)
	}
	err := get(t, session, "x")
	wantClass(t, err, Throttled, "keeps failing", "until")
	if got := retryAfterOf(err); got != breakerFirstPause {
		t.Errorf("RetryAfter %s", got)
	}
	if got := cloud.count("GET /compute/v2.1/x"); got != breakerThreshold {
		t.Errorf("%d calls, want %d", got, breakerThreshold)
	}
	if err := session.read(t.Context(), networkService, "x", &struct{}{}); err != nil {
		t.Errorf("another service is not to blame: %v", err)
	}

	clock.Advance(breakerFirstPause)
	wantClass(t, get(t, session, "x"), Transient) // the probe
	wantClass(t, get(t, session, "x"), Throttled) // open again, for longer
	clock.Advance(breakerFirstPause)
	wantClass(t, get(t, session, "x"), Throttled)
	clock.Advance(breakerFirstPause)
	cloud.answerJSON("GET /compute/v2.1/x", map[string]any{})
	for range 3 {
		if err := get(t, session, "x"); err != nil {
			t.Fatalf("after a good probe: %v", err)
		}
	}
}

func TestARefusalIsNotAFailureOfTheService(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answerStatus("GET /compute/v2.1/x", http.StatusConflict)
	session := cloud.session()
	for range 2 * breakerThreshold {
		wantClass(t, get(t, session, "x"), Conflict)
	}
}

func TestTheLimiterSpreadsRequestsAndRefusesTooLongAQueue(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerJSON("GET /compute/v2.1/x", map[string]any{})
	session := cloud.session(func(o *Options) { o.RequestsPerSecond, o.Burst = 1, 2 })
	if err := get(t, session, "x"); err != nil { // the other of the two is the microversion's
		t.Fatal(err)
	}
	waiting := make(chan error)
	for range int(limiterLongestWait / time.Second) {
		go func() { waiting <- get(t, session, "x") }()
	}
	if err := clock.BlockUntilContext(t.Context(), int(limiterLongestWait/time.Second)); err != nil {
		t.Fatal(err)
	}
	if got := cloud.count("GET /compute/v2.1/x"); got != 1 {
		t.Errorf("%d calls before their turn", got)
	}
	wantClass(t, get(t, session, "x"), Throttled, "too many requests")

	clock.Advance(limiterLongestWait)
	for range int(limiterLongestWait / time.Second) {
		if err := <-waiting; err != nil {
			t.Error(err)
		}
	}
}

func TestAPauseAlsoHoldsWhoWaitsForTheLimiter(t *testing.T) {
	clock := clockwork.NewFakeClock()
	governor := newGovernor("c", Options{Clock: clock, RequestsPerSecond: 1, Burst: 1}, newRequestMetrics(nil))
	if _, err := governor.admit(t.Context(), computeService); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error)
	go func() {
		_, err := governor.admit(t.Context(), computeService)
		waiting <- err
	}()
	if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	governor.pause(time.Minute)
	clock.Advance(time.Second)
	wantClass(t, <-waiting, Throttled, "asked for quiet")
}

func TestARefusedRequestTakesNobodysTurn(t *testing.T) {
	clock := clockwork.NewFakeClock()
	governor := newGovernor("c", Options{Clock: clock, RequestsPerSecond: 0.001, Burst: 1}, newRequestMetrics(nil))
	governor.pause(time.Minute)
	for range 10 {
		_, err := governor.admit(t.Context(), computeService)
		wantClass(t, err, Throttled, "asked for quiet")
	}
	clock.Advance(time.Minute)
	if _, err := governor.admit(t.Context(), computeService); err != nil {
		t.Errorf("the turn is gone: %v", err)
	}
}

func TestWaitingForTheLimiterEndsWithTheContext(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	session := cloud.session(func(o *Options) { o.RequestsPerSecond, o.Burst = 1, 1 })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	if _, err := session.client(ctx, computeService); err != nil {
		t.Fatal(err)
	}
	go func() { ended <- session.read(ctx, computeService, "x", &struct{}{}) }()
	if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	cancel()
	wantClass(t, <-ended, Transient, "given up")
	if got := cloud.count("GET /compute/v2.1/x"); got != 0 {
		t.Errorf("sent %d times", got)
	}
}

func TestMetricsCountEveryRequestByTemplate(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answerJSON("GET /compute/v2.1/servers/4cf5f3a4", map[string]any{})
	cloud.answerStatus("GET /compute/v2.1/servers/5a6b", http.StatusNotFound)
	cloud.answer("POST /compute/v2.1/servers", hangUp)
	registry := prometheus.NewPedanticRegistry()
	session := cloud.session(func(o *Options) { o.Registerer = registry })
	if err := get(t, session, "servers/4cf5f3a4"); err != nil {
		t.Fatal(err)
	}
	_ = get(t, session, "servers/5a6b")
	_ = post(t, session, "servers")
	host := strings.TrimPrefix(cloud.URL, "http://")
	want := `
# HELP sendan_cloud_requests_total HTTP requests to the cloud; the code is 0 when no answer came.
# TYPE sendan_cloud_requests_total counter
sendan_cloud_requests_total{cloud="` + host + `",code="201",operation="POST /auth/tokens",service="identity"} 1
sendan_cloud_requests_total{cloud="` + host + `/RegionOne",code="200",operation="GET /",service="compute"} 1
sendan_cloud_requests_total{cloud="` + host + `/RegionOne",code="200",operation="GET /servers/{id}",service="compute"} 1
sendan_cloud_requests_total{cloud="` + host + `/RegionOne",code="404",operation="GET /servers/{id}",service="compute"} 1
sendan_cloud_requests_total{cloud="` + host + `/RegionOne",code="0",operation="POST /servers",service="compute"} 1
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sendan_cloud_requests_total"); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"sendan_cloud_request_duration_seconds", "sendan_cloud_breaker_open", "sendan_cloud_limiter_tokens"} {
		if n, err := testutil.GatherAndCount(registry, name); err != nil || n == 0 {
			t.Errorf("%s has %d series (%v)", name, n, err)
		}
	}
}

func TestSeveralSetsOfSessionsShareOneRegistry(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	registry := prometheus.NewPedanticRegistry()
	for range 2 {
		cloud.session(func(o *Options) { o.Registerer = registry })
	}
	if got := testutil.CollectAndCount(newRequestMetrics(registry).requests); got != 1 {
		t.Errorf("%d series, want the login's", got)
	}
}

func TestMetricsOfADroppedCloudGoAway(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	sessions := cloud.sessions(func(o *Options) { o.Registerer = registry })
	if _, err := sessions.Get(t.Context(), cloud.identity()); err != nil {
		t.Fatal(err)
	}
	clock.Advance(sessionIdleTimeout)
	sessions.dropIdle()
	if got := testutil.CollectAndCount(sessions.metrics.requests); got != 0 {
		t.Errorf("%d series left", got)
	}
}

func TestWhatMayNotChangeAnythingOnlyReads(t *testing.T) {
	fake := newLoginCloud(t, clockwork.NewFakeClock())
	asked := 0
	count := func(w http.ResponseWriter, _ *http.Request) {
		asked++
		writeJSON(w, http.StatusOK, map[string]any{})
	}
	for _, method := range []string{"GET", "POST", "PUT", "DELETE"} {
		fake.answer(method+" /compute/v2.1/x", count)
	}
	mayChange := errors.New("another one leads")
	sessions := NewSessions(Options{Clock: fake.clock, MayChange: func() error { return mayChange }})
	session, err := sessions.Get(t.Context(), fake.identity())
	if err != nil {
		t.Fatalf("it may log in: %v", err)
	}
	if err := session.send(t.Context(), computeService, http.MethodGet, "x", nil, nil); err != nil || asked != 1 {
		t.Errorf("it may read: %v", err)
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		err := session.send(t.Context(), computeService, method, "x", nil, nil)
		wantClass(t, err, Transient, "not sent", "another one leads")
		if IsUncertain(err) || asked != 1 {
			t.Errorf("%s was sent %d times: %v", method, asked-1, err)
		}
	}
	mayChange = nil
	if err := session.send(t.Context(), computeService, http.MethodPost, "x", nil, nil); err != nil || asked != 2 {
		t.Errorf("when it may again: %v", err)
	}
}
