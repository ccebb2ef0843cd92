package cloud

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rotated is the identity with another password.
func (c *storeCloud) rotated(password string) Identity {
	identity := c.identity()
	identity.Password = password
	return identity
}

// obtain is Get, which has to work.
func obtain(t *testing.T, sessions *Sessions, identity Identity) *Session {
	t.Helper()
	session, err := sessions.Get(t.Context(), identity)
	if err != nil {
		t.Fatal(err)
	}
	return session
}

// checkTokens makes the lists of ports want a good token, as a real Neutron does.
func (c *storeCloud) checkTokens() {
	c.on("GET "+portsPath, func(w http.ResponseWriter, r *http.Request) bool {
		if c.knows(r) {
			return false
		}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
}

func TestCredentialsOfOneProjectShareAnInventory(t *testing.T) {
	cloud := newStoreCloud(t)
	sessions := cloud.sessions()
	old := obtain(t, sessions, cloud.identity())
	cloud.setPassword("new")
	session := obtain(t, sessions, cloud.rotated("new"))
	if old == session || old.Inventory() != session.Inventory() {
		t.Fatal("a rotated password must give a session of its own with the inventory of the project")
	}
	cloud.answer("POST "+portsPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusCreated, fields{"port": cloud.port("made")})
	})
	if _, err := old.CreatePort(t.Context(), PortRequest{NetworkID: "n1", Mark: ofC1}); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, session.Inventory().Snapshot().PortsOf(ofC1), "made")
	cloud.poll(t, old)
	cloud.poll(t, session)
	if got := cloud.lists(portsPath); got != 1 {
		t.Errorf("%d listings for two credentials, want 1", got)
	}
}

func TestCredentialsThatComeAtTheSameTimeShareOneInventoryThatTheHooksKnow(t *testing.T) {
	cloud := newStoreCloud(t)
	sessions := cloud.sessions()
	var hooked atomic.Int32
	sessions.OnNewInventory(func(*Inventory) { hooked.Add(1) })
	found := make([]*Inventory, 20)
	var callers sync.WaitGroup
	for n := range found {
		callers.Go(func() {
			identity := cloud.identity()
			identity.CloudName = fmt.Sprint("cloud ", n)
			session, err := sessions.Get(t.Context(), identity)
			if err != nil {
				t.Error(err)
				return
			}
			if hooked.Load() != 1 {
				t.Errorf("the hook was called %d times before a session was handed out", hooked.Load())
			}
			found[n] = session.Inventory()
		})
	}
	callers.Wait()
	if len(slices.Compact(found)) != 1 || hooked.Load() != 1 {
		t.Errorf("%d inventories, %d calls of the hook", len(slices.Compact(found)), hooked.Load())
	}
}

func TestASessionDroppedWhileItLoggedInIsNotHandedOut(t *testing.T) {
	cloud := newStoreCloud(t)
	sessions := cloud.sessions()
	dropped := false
	cloud.on(loginCall, func(http.ResponseWriter, *http.Request) bool {
		if !dropped {
			dropped = true
			cloud.fake.Advance(sessionIdleTimeout)
			sessions.dropIdle()
		}
		return false
	})
	session := obtain(t, sessions, cloud.identity())
	cloud.put(portsPath, cloud.port("p1"))
	cloud.poll(t, session)
	wantIDs(t, session.Inventory().Snapshot().PortsOf(ofC1), "p1")
	if sessions.size() != 1 || obtain(t, sessions, cloud.identity()) != session {
		t.Error("the session handed out is not the one that is kept")
	}
}

func TestRegionsAndProjectsHaveInventoriesOfTheirOwn(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.catalog = func(base string) []map[string]any { return catalogOf(base, "RegionOne", "RegionTwo") }
	sessions := cloud.sessions()
	one := obtain(t, sessions, cloud.identity())
	two := obtain(t, sessions, cloud.identity().WithRegion("RegionTwo"))
	cloud.projectID = "p2"
	elsewhere := cloud.identity()
	elsewhere.CloudName = "elsewhere"
	three := obtain(t, sessions, elsewhere)
	if one.Inventory() == two.Inventory() || one.Inventory() == three.Inventory() {
		t.Error("an inventory is shared beyond its project")
	}
}

func TestAProjectReplacedByOneOfTheSameNameGetsAnotherInventory(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("old"))
	sessions := cloud.sessions()
	session := obtain(t, sessions, cloud.identity())
	before := session.Inventory()
	cloud.poll(t, session)
	cloud.projectID = "p2"
	cloud.fake.Advance(time.Hour) // the token expires
	_ = before.Poll(t.Context())  // and this is who notices
	if got := before.Snapshot().Count(KindPort); got != 1 {
		t.Errorf("%d ports, but those of the other project say nothing of them", got)
	}
	session = obtain(t, sessions, cloud.identity())
	if session.Inventory() == before {
		t.Error("the objects of two projects are in one inventory")
	}
	cloud.fake.Advance(time.Minute)
	wantClass(t, before.Poll(t.Context()), Auth, "p1")
}

func TestTheInventoryListsWithTheSessionObtainedLast(t *testing.T) {
	cloud := newStoreCloud(t)
	sessions := cloud.sessions()
	old := obtain(t, sessions, cloud.identity())
	cloud.setPassword("new")
	obtain(t, sessions, cloud.rotated("new"))
	cloud.poll(t, old)
	if got := cloud.header("GET /compute/v2.1/").Get("X-Auth-Token"); got != "token-2" {
		t.Errorf("listed with %s, want the second login", got)
	}
}

func TestAnInventoryIsFedByWhicheverCredentialsWork(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("p1"))
	cloud.checkTokens()
	sessions := cloud.sessions()
	working := obtain(t, sessions, cloud.identity())
	cloud.setPassword("short-lived")
	obtain(t, sessions, cloud.rotated("short-lived"))
	cloud.setPassword("s3cret")
	cloud.revokeTokens()
	cloud.poll(t, working)
	wantIDs(t, working.Inventory().Snapshot().PortsOf(ofC1), "p1")
}

func TestNoPollerRepeatsALoginThatWasRejected(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("p1"))
	cloud.checkTokens()
	sessions := cloud.sessions()
	session := obtain(t, sessions, cloud.identity())
	cloud.poll(t, session)
	cloud.setPassword("changed")
	cloud.revokeTokens()
	pollFor := func(d time.Duration) (logins int) {
		before := cloud.loginCount()
		for range int(d / (10 * time.Second)) {
			cloud.fake.Advance(10 * time.Second)
			_ = session.Inventory().Poll(t.Context())
		}
		return cloud.loginCount() - before
	}
	if got := pollFor(time.Hour); got != 1 {
		t.Errorf("%d logins by pollers in an hour, want the one that was rejected", got)
	}
	for range 5 {
		before := cloud.loginCount()
		_, err := sessions.Get(t.Context(), cloud.identity())
		wantClass(t, err, Auth)
		if got := cloud.loginCount() - before; got > 1 {
			t.Errorf("%d logins by one Get", got)
		}
		if got := pollFor(2 * time.Minute); got != 0 {
			t.Errorf("%d logins by pollers", got)
		}
	}
	wantClass(t, session.Inventory().Snapshot().Err(KindPort), Auth)

	cloud.setPassword("s3cret")
	if got := pollFor(10 * time.Minute); got != 0 {
		t.Errorf("%d logins that nobody asked for", got)
	}
	obtain(t, sessions, cloud.identity())
	cloud.poll(t, session)
	if err := session.Inventory().Snapshot().Err(KindPort); err != nil {
		t.Errorf("the password works again, but: %v", err)
	}
}

func TestANewPasswordFeedsTheInventoryAtOnce(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.checkTokens()
	sessions := cloud.sessions()
	session := obtain(t, sessions, cloud.identity())
	cloud.poll(t, session)
	cloud.setPassword("new")
	cloud.revokeTokens()
	for range 60 {
		cloud.fake.Advance(time.Minute)
		_ = session.Inventory().Poll(t.Context())
	}
	wantClass(t, session.Inventory().Snapshot().Err(KindPort), Auth)
	cloud.put(portsPath, cloud.port("p1"))
	rotated := obtain(t, sessions, cloud.rotated("new"))
	cloud.poll(t, rotated)
	wantIDs(t, rotated.Inventory().Snapshot().PortsOf(ofC1), "p1")
	if err := rotated.Inventory().Snapshot().Err(KindPort); err != nil {
		t.Errorf("the old password's error is still there: %v", err)
	}
}

func TestAPollerEndsWithTheLastSessionOfItsProject(t *testing.T) {
	cloud := newStoreCloud(t)
	sessions := cloud.sessions(func(o *Options) { o.ManualPolling = false })
	start(t, sessions)
	first := obtain(t, sessions, cloud.identity())
	cloud.setPassword("new")
	obtain(t, sessions, cloud.rotated("new"))
	eventually(t, "the project is polled", func() bool { return sessions.polled() == 1 })
	cloud.fake.Advance(20 * time.Minute)
	obtain(t, sessions, cloud.rotated("new"))
	cloud.fake.Advance(10 * time.Minute)
	sessions.dropIdle()
	if sessions.size() != 1 || sessions.polled() != 1 {
		t.Errorf("%d sessions and %d pollers, want the session in use to keep the poller", sessions.size(), sessions.polled())
	}
	cloud.fake.Advance(20 * time.Minute)
	sessions.dropIdle()
	if sessions.size() != 0 || sessions.polled() != 0 {
		t.Errorf("%d sessions and %d pollers are left", sessions.size(), sessions.polled())
	}
	sessions.pollers.Wait()
	if again := obtain(t, sessions, cloud.rotated("new")); again.Inventory() == first.Inventory() {
		t.Error("an inventory that nobody feeds was handed out")
	}
}
