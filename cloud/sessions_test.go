package cloud

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

const loginCall = "POST /identity/v3/auth/tokens"

func TestCallersAtTheSameTimeShareOneLogin(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	sessions := cloud.sessions()
	found := make([]*Session, 30)
	var callers sync.WaitGroup
	for i := range found {
		callers.Go(func() {
			session, err := sessions.Get(t.Context(), cloud.identity())
			if err != nil {
				t.Errorf("caller %d: %v", i, err)
			}
			found[i] = session
		})
	}
	callers.Wait()
	if len(slices.Compact(found)) != 1 {
		t.Error("the callers got different sessions")
	}
	if got := cloud.total(); got != 1 {
		t.Errorf("%d calls, want the login alone", got)
	}
}

func TestALoginSurvivesTheCallerThatBeganIt(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	reached, release := make(chan struct{}), make(chan struct{})
	cloud.answer(loginCall, func(w http.ResponseWriter, r *http.Request) {
		close(reached)
		<-release
		cloud.login(w, r)
	})
	sessions := cloud.sessions()
	impatient, giveUp := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := sessions.Get(impatient, cloud.identity())
		first <- err
	}()
	<-reached
	giveUp()
	if err := <-first; err == nil {
		t.Fatal("the caller that gave up got a session")
	}
	close(release)
	if _, err := sessions.Get(t.Context(), cloud.identity()); err != nil {
		t.Fatal(err)
	}
	if got := cloud.loginCount(); got != 1 {
		t.Errorf("%d logins, want 1", got)
	}
}

func TestIdentitiesNeverShareASession(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.catalog = func(base string) []map[string]any { return catalogOf(base, "RegionOne", "RegionTwo") }
	sessions := cloud.sessions()
	one, err := sessions.Get(t.Context(), cloud.identity())
	if err != nil {
		t.Fatal(err)
	}
	two, err := sessions.Get(t.Context(), cloud.identity().WithRegion("RegionTwo"))
	if err != nil {
		t.Fatal(err)
	}
	if one == two || one.Region() != "RegionOne" || two.Region() != "RegionTwo" {
		t.Errorf("regions %q and %q", one.Region(), two.Region())
	}
	if one.ProjectID() != "p1" || one.ProjectName() != "team-a" || one.CloudName() != "test" {
		t.Errorf("project %q %q, cloud %q", one.ProjectID(), one.ProjectName(), one.CloudName())
	}
}

func TestAnExpiredPasswordDoesNotHammerKeystone(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	sessions := cloud.sessions()
	cloud.setPassword("changed")
	for range 600 { // a reconciler that asks every second for ten minutes
		_, err := sessions.Get(t.Context(), cloud.identity())
		wantClass(t, err, Auth, "password", `"demo"`, `"team-a"`, "requires authentication", "clouds.yaml")
		clock.Advance(time.Second)
	}
	// 10, 20, 40, 80 s and then every 2 min.
	if got := cloud.loginCount(); got < 5 || got > 10 {
		t.Errorf("%d logins in ten minutes, want 5 to 10", got)
	}

	rotated := cloud.identity()
	rotated.Password = "changed"
	before := cloud.loginCount()
	if _, err := sessions.Get(t.Context(), rotated); err != nil {
		t.Errorf("the new password must be tried at once: %v", err)
	}
	if got := cloud.loginCount(); got != before+1 {
		t.Errorf("%d logins with the new password, want 1", got-before)
	}

	cloud.setPassword("s3cret")
	clock.Advance(rejectedLoginLongestPause)
	if _, err := sessions.Get(t.Context(), cloud.identity()); err != nil {
		t.Errorf("no recovery within the longest pause: %v", err)
	}
}

func TestARememberedFailureSaysWhenToComeBack(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.setPassword("changed")
	sessions := cloud.sessions()
	_, _ = sessions.Get(t.Context(), cloud.identity())
	clock.Advance(3 * time.Second)
	_, err := sessions.Get(t.Context(), cloud.identity())
	if got := retryAfterOf(err); got != rejectedLoginFirstPause-3*time.Second {
		t.Errorf("RetryAfter %s", got)
	}
}

func retryAfterOf(err error) time.Duration {
	var classified *Error
	if errors.As(err, &classified) {
		return classified.RetryAfter
	}
	return 0
}

func TestADeadKeystoneIsTriedAgainSoon(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	cloud.answerStatus(loginCall, http.StatusServiceUnavailable)
	sessions := cloud.sessions()
	_, err := sessions.Get(t.Context(), cloud.identity())
	wantClass(t, err, Transient, "log in at")
	if IsUncertain(err) {
		t.Error("a login makes nothing that could be left over")
	}
	cloud.answer(loginCall, cloud.login)
	clock.Advance(failedLoginFirstPause)
	if _, err := sessions.Get(t.Context(), cloud.identity()); err != nil {
		t.Error(err)
	}
}

func TestAWrongAuthURLIsAMistakeInTheConfiguration(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	identity := cloud.identity()
	identity.AuthURL = cloud.URL + "/identity/nowhere"
	_, err := cloud.sessions().Get(t.Context(), identity)
	wantClass(t, err, Config, "auth_url", "/nowhere", "Keystone v3")
}

func TestARegionTheCatalogLacksIsNamedWithThoseThereAre(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.catalog = func(base string) []map[string]any { return catalogOf(base, "b", "a") }
	sessions := cloud.sessions()
	_, err := sessions.Get(t.Context(), cloud.identity().WithRegion("c"))
	wantClass(t, err, Config, `"c"`, "a, b")

	none := cloud.identity()
	none.Region = ""
	_, err = sessions.Get(t.Context(), none)
	wantClass(t, err, Config, "a, b", "region_name")
}

func TestTheOnlyRegionNeedsNoName(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	identity := cloud.identity()
	identity.Region = ""
	session, err := cloud.sessions().Get(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	if session.Region() != "RegionOne" {
		t.Errorf("region %q", session.Region())
	}
}

func TestALoginWithoutAProjectIsAMistakeInTheConfiguration(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.answer(loginCall, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Subject-Token", "unscoped")
		writeJSON(w, http.StatusCreated, map[string]any{"token": map[string]any{"expires_at": "2030-01-01T00:00:00.000000Z"}})
	})
	_, err := cloud.sessions().Get(t.Context(), cloud.identity())
	wantClass(t, err, Config, "project_id")
}

func TestEveryKindOfCredentialIsSentAsKeystoneWantsIt(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	base := Identity{CloudName: "test", AuthURL: cloud.URL + "/identity/v3/", Region: "RegionOne"}
	password, token, byID, byName := base, base, base, base
	password.Username, password.UserDomainName, password.Password, password.ProjectID = "demo", "Default", "s3cret", "p1"
	token.Token, token.ProjectID = "s3cret", "p1"
	byID.ApplicationCredentialID, byID.ApplicationCredentialSecret = "ac1", "s3cret"
	byName.ApplicationCredentialName, byName.ApplicationCredentialSecret = "robot", "s3cret"
	byName.Username, byName.UserDomainID = "demo", "default"
	cases := map[string]struct {
		identity Identity
		scope    bool
		method   string
	}{
		"password":                       {password, true, "password"},
		"token":                          {token, true, "token"},
		"application credential":         {byID, false, "application_credential"},
		"application credential by name": {byName, false, "application_credential"},
	}
	sessions := cloud.sessions()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			if _, err := sessions.Get(t.Context(), c.identity); err != nil {
				t.Fatal(err)
			}
			auth, _ := cloud.lastLogin()["auth"].(map[string]any)
			proof, _ := auth["identity"].(map[string]any)
			if _, scoped := auth["scope"]; scoped != c.scope {
				t.Errorf("scope sent: %t, want %t", scoped, c.scope)
			}
			if methods, _ := proof["methods"].([]any); len(methods) != 1 || methods[0] != c.method {
				t.Errorf("methods %v, want %s", methods, c.method)
			}
		})
	}
}

func TestHooksSeeEveryInventoryOnce(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	sessions := cloud.sessions()
	var early, late []*Inventory
	sessions.OnNewInventory(func(i *Inventory) { early = append(early, i) })
	one, err := sessions.Get(t.Context(), cloud.identity())
	if err != nil {
		t.Fatal(err)
	}
	sessions.OnNewInventory(func(i *Inventory) { late = append(late, i) })
	sameProject := cloud.identity()
	sameProject.CloudName = "other"
	for _, identity := range []Identity{cloud.identity(), sameProject} {
		if _, err := sessions.Get(t.Context(), identity); err != nil {
			t.Fatal(err)
		}
	}
	if want := []*Inventory{one.Inventory()}; !slices.Equal(early, want) || !slices.Equal(late, want) {
		t.Errorf("hooks saw %d and %d inventories, want the one each", len(early), len(late))
	}
	cloud.setPassword("other")
	failing := cloud.identity()
	failing.Username = "nobody"
	if _, err := sessions.Get(t.Context(), failing); err == nil {
		t.Fatal("a wrong password logged in")
	}
	if len(early) != 1 {
		t.Error("a hook saw an inventory of a session that never logged in")
	}
}

// start runs the sessions until the test ends.
func start(t *testing.T, sessions *Sessions) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sessions.Start(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Start: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// eventually waits for a condition, which something in another goroutine is about to make true.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !condition() {
		select {
		case <-deadline:
			t.Fatalf("timed out waiting until %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (s *Sessions) polled() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := 0
	for _, held := range s.projects {
		if held.stopPoller != nil {
			sum++
		}
	}
	return sum
}

func (s *Sessions) size() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

func TestPollersRunFromStartUntilItsContextEnds(t *testing.T) {
	cloud := newLoginCloud(t, clockwork.NewFakeClock())
	cloud.catalog = func(base string) []map[string]any { return catalogOf(base, "RegionOne", "RegionTwo") }
	sessions := cloud.sessions(func(o *Options) { o.ManualPolling = false })
	if _, err := sessions.Get(t.Context(), cloud.identity()); err != nil {
		t.Fatal(err)
	}
	if sessions.polled() != 0 {
		t.Error("polling before Start")
	}
	stop := start(t, sessions)
	eventually(t, "the project that was there is polled", func() bool { return sessions.polled() == 1 })
	if _, err := sessions.Get(t.Context(), cloud.identity().WithRegion("RegionTwo")); err != nil {
		t.Fatal(err)
	}
	if sessions.polled() != 2 {
		t.Error("a project that came after Start is not polled")
	}
	stop() // and waits for the pollers
}

func TestManualPollingStartsNoPoller(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	sessions := cloud.sessions()
	start(t, sessions)
	if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := sessions.Get(t.Context(), cloud.identity()); err != nil {
		t.Fatal(err)
	}
	if sessions.polled() != 0 {
		t.Error("a poller runs")
	}
}

func TestASessionNobodyUsesIsDropped(t *testing.T) {
	clock := clockwork.NewFakeClock()
	cloud := newLoginCloud(t, clock)
	sessions := cloud.sessions()
	start(t, sessions)
	idle := cloud.identity()
	idle.CloudName = "idle"
	for _, identity := range []Identity{cloud.identity(), idle} {
		if _, err := sessions.Get(t.Context(), identity); err != nil {
			t.Fatal(err)
		}
	}
	for range 31 {
		if err := clock.BlockUntilContext(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		clock.Advance(time.Minute)
		if _, err := sessions.Get(t.Context(), cloud.identity()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the idle session is gone", func() bool { return sessions.size() == 1 })
	if _, err := sessions.Get(t.Context(), idle); err != nil {
		t.Errorf("a dropped session must come back: %v", err)
	}
}
