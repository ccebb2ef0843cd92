package cloud

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func TestASessionSendsNothingBesidesItsLoginAndWhatIsAsked(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	session := cloud.session()
	for _, of := range []service{networkService, loadBalancerService, volumeService, imageService} {
		if _, err := session.client(t.Context(), of); err != nil {
			t.Fatal(err)
		}
	}
	if got := cloud.total(); got != 1 {
		t.Errorf("%d calls for a login and four clients, want 1", got)
	}
	for range 3 {
		if _, err := session.client(t.Context(), computeService); err != nil {
			t.Fatal(err)
		}
	}
	if got := cloud.total(); got != 2 {
		t.Errorf("%d calls after three compute clients, want one more for the microversion", got)
	}
}

func TestATokenIsRenewedBeforeItExpires(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.skew = -9 * time.Hour // a cloud with a wrong clock
	session := cloud.session()
	clock.Advance(49 * time.Minute)
	if err := session.login(t.Context()); err != nil || cloud.loginCount() != 1 {
		t.Fatalf("%d logins after 49 of 60 minutes (%v), want 1", cloud.loginCount(), err)
	}
	clock.Advance(2 * time.Minute)
	if err := session.login(t.Context()); err != nil || cloud.loginCount() != 2 {
		t.Fatalf("%d logins after 51 of 60 minutes (%v), want 2", cloud.loginCount(), err)
	}
}

func TestAShortTokenIsNotRenewedAllTheTime(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.tokenLife = 4 * time.Minute
	session := cloud.session()
	for range 60 {
		clock.Advance(time.Minute)
		if err := session.login(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := cloud.loginCount(); got > 21 { // every 3 minutes
		t.Errorf("%d logins in an hour, want at most 21", got)
	}
}

func TestAGoodTokenOutlivesADeadKeystone(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	session := cloud.session()
	cloud.answerStatus(loginCall, http.StatusInternalServerError)
	clock.Advance(55 * time.Minute)
	if err := session.login(t.Context()); err != nil {
		t.Errorf("the token is good for 5 more minutes: %v", err)
	}
	clock.Advance(6 * time.Minute)
	wantClass(t, session.login(t.Context()), Transient)
}

func TestA401LogsInAgainOnceForEverybody(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answerJSON("GET /compute/v2.1/x", map[string]any{})
	session := cloud.session(func(o *Options) { o.Burst = 1000 })
	if err := get(t, session, "x"); err != nil {
		t.Fatal(err)
	}
	cloud.revokeTokens()
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if err := get(t, session, "x"); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if got := cloud.loginCount(); got != 2 {
		t.Errorf("%d logins, want the first and one more", got)
	}
}

func TestAPostIsRepeatedWithItsBodyAfterA401(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	body := make(chan string, 1)
	cloud.answer("POST /compute/v2.1/x", func(w http.ResponseWriter, r *http.Request) {
		body <- readAll(t, r.Body)
		writeJSON(w, http.StatusAccepted, map[string]any{})
	})
	session := cloud.session()
	cloud.revokeTokens()
	if err := post(t, session, "x"); err != nil {
		t.Fatal(err)
	}
	if got := <-body; got != `{"x":1}` {
		t.Errorf("the repeated body is %q", got)
	}
}

func TestARevokedCredentialEndsInAuthWithoutALoop(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerJSON("GET /compute/v2.1/x", map[string]any{})
	session := cloud.session()
	if err := get(t, session, "x"); err != nil {
		t.Fatal(err)
	}
	cloud.revokeTokens()
	cloud.setPassword("changed")
	before := cloud.total()
	for range 60 {
		wantClass(t, get(t, session, "x"), Auth)
		clock.Advance(time.Second)
	}
	if got := cloud.total() - before; got > 6 { // one request with the old token, logins at 0, 10 and 30 s
		t.Errorf("%d calls in a minute, want at most 6", got)
	}
	if IsUncertain(post(t, session, "x")) {
		t.Error("a POST that was never sent cannot have had an effect")
	}
	cloud.setPassword("s3cret")
	clock.Advance(rejectedLoginLongestPause)
	if err := get(t, session, "x"); err != nil {
		t.Errorf("no recovery: %v", err)
	}
}

func TestAServiceThatRejectsGoodTokensCausesFewLogins(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerStatus("GET /compute/v2.1/x", http.StatusUnauthorized)
	session := cloud.session(func(o *Options) { o.Burst = 1000 })
	for range 120 {
		wantClass(t, get(t, session, "x"), Auth)
		clock.Advance(time.Second)
	}
	if got := cloud.loginCount(); got > 1+rejectionBurst+4 {
		t.Errorf("%d logins in two minutes", got)
	}
}

func TestAMissingServiceIsNamed(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.catalog = func(base string) []map[string]any {
		return []map[string]any{{"type": "network", "endpoints": []map[string]any{{"interface": "public", "region": "RegionOne", "url": base + "/network"}}}}
	}
	_, err := cloud.session().client(t.Context(), loadBalancerService)
	wantClass(t, err, Config, "load-balancer", "RegionOne")
}
