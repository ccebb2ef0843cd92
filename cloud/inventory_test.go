package cloud

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

var ofC1 = Mark{Cluster: "c1"}

func TestTheFirstPollListsEveryKindOnceAndTheNextOneNothing(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	cloud.put(portsPath, cloud.port("p1"))
	session := cloud.poller(t)
	if got, want := cloud.total(), 2+len(allKinds()); got != want {
		t.Errorf("%d calls, want %d: the login, the compute version and one list per kind", got, want)
	}
	snapshot := session.Inventory().Snapshot()
	if !snapshot.Fresh(allKinds()...) {
		t.Error("not every kind is fresh")
	}
	wantIDs(t, snapshot.ServersOf(ofC1), "s1")
	wantIDs(t, snapshot.PortsOf(ofC1), "p1")
	if got := cloud.callsDuring(func() { cloud.poll(t, session) }); got != 0 {
		t.Errorf("the second poll made %d calls", got)
	}
}

func TestTheCostOfATickDependsOnPagesOnly(t *testing.T) {
	for _, test := range []struct{ servers, first, tick int }{{1, 1, 1}, {2000, 2, 1}} {
		t.Run(fmt.Sprint(test.servers, " servers"), func(t *testing.T) {
			cloud := newStoreCloud(t)
			for n := range test.servers {
				cloud.put(serversPath, cloud.server(fmt.Sprintf("s%04d", n), "ACTIVE"))
			}
			cloud.fake.Advance(time.Hour)
			cloud.put(serversPath, cloud.server("s0000", "ACTIVE"))
			session := cloud.poller(t)
			if got := cloud.lists(serversPath); got != test.first {
				t.Errorf("the first listing took %d calls, want %d", got, test.first)
			}
			if got := session.Inventory().Snapshot().Count(KindServer); got != test.servers {
				t.Errorf("%d servers known", got)
			}
			if got := cloud.callsDuring(func() { cloud.pollAfter(t, session, 2*time.Minute) }); got != test.tick {
				t.Errorf("a settled tick took %d calls, want %d", got, test.tick)
			}
		})
	}
}

func TestServerGroupsArePagedByOffsetEvenWhereTheCloudReturnsFewer(t *testing.T) {
	cloud := newStoreCloud(t)
	id := "6e0c3f0a-0000-4000-8000-000000000000"
	for n := range 250 {
		cloud.put(serverGroupsPath, fields{"id": fmt.Sprintf("g%03d", n), "name": ServerGroupName(Mark{Cluster: id, Role: fmt.Sprint(n)}), "policy": "soft-anti-affinity"})
	}
	session := cloud.poller(t, func(o *Options) { o.Polling.PageSize = 100 })
	if got := len(session.Inventory().Snapshot().ServerGroupsOf(Mark{Cluster: id})); got != 250 {
		t.Errorf("%d groups, want 250", got)
	}
}

func TestSettledServersAreAskedOnlyForChangesAndDeletedOnesGo(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	cloud.put(serversPath, cloud.server("s2", "ACTIVE"))
	session := cloud.poller(t)
	newest := cloud.fake.Now()
	cloud.fake.Advance(2 * time.Minute)
	cloud.put(serversPath, cloud.server("s1", "SHUTOFF"))
	cloud.put(serversPath, cloud.server("s2", "DELETED"))
	cloud.poll(t, session)
	since := "changes-since=" + strings.ReplaceAll(newest.Add(-clockSkew).Format(time.RFC3339), ":", "%3A")
	if got := cloud.lastQuery(serversPath); !strings.Contains(got, since) {
		t.Errorf("query %q, want %s", got, since)
	}
	snapshot := session.Inventory().Snapshot()
	wantIDs(t, snapshot.ServersOf(ofC1), "s1")
	if server, _ := snapshot.Server("s1"); server.Status != "SHUTOFF" {
		t.Errorf("s1 is %s", server.Status)
	}
	for range 4 {
		cloud.pollAfter(t, session, 2*time.Minute)
	}
	if got := cloud.lastQuery(serversPath); strings.Contains(got, "changes-since") {
		t.Error("no complete listing within 10 minutes")
	}
}

func TestAnIncrementalListingProvesNoAbsence(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	session := cloud.poller(t)
	asked := cloud.fake.Now()
	cloud.pollAfter(t, session, 2*time.Minute)
	if session.Inventory().Snapshot().ListedAfter(KindServer, asked) {
		t.Error("a list of changes counts as complete")
	}
	session.Inventory().Require(KindServer, asked)
	cloud.pollAfter(t, session, 2*time.Second)
	if !session.Inventory().Snapshot().ListedAfter(KindServer, asked) {
		t.Error("a required listing is not complete")
	}
}

func TestManyRequirementsShareOneListing(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.fake.Advance(time.Minute)
	for range 50 {
		session.Inventory().Require(KindPort, cloud.fake.Now())
	}
	if got := session.Inventory().NextPoll().Sub(cloud.fake.Now()); got > time.Millisecond {
		t.Errorf("the listing comes in %s", got)
	}
	if got := cloud.callsDuring(func() { cloud.pollAfter(t, session, time.Second); cloud.pollAfter(t, session, time.Second) }); got != 1 {
		t.Errorf("%d calls, want 1", got)
	}
}

func TestTheTickFollowsTheAgeOfWhatIsChanging(t *testing.T) {
	for _, test := range []struct {
		age, want time.Duration
	}{
		{0, 2 * time.Second},
		{16 * time.Second, 2 * time.Second},
		{80 * time.Second, 10 * time.Second},
		{time.Hour, 30 * time.Second},
	} {
		cloud := newStoreCloud(t)
		cloud.put(serversPath, cloud.server("s1", "BUILD"))
		session := cloud.poller(t)
		if test.age > 0 {
			cloud.pollAfter(t, session, test.age)
		}
		if got := session.Inventory().NextPoll().Sub(cloud.fake.Now()); got != test.want {
			t.Errorf("at the age of %s the next poll comes in %s, want %s", test.age, got, test.want)
		}
	}
}

func TestOneStuckServerDoesNotSlowTheNextOneDown(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("stuck", "BUILD"))
	session := cloud.poller(t)
	cloud.pollAfter(t, session, time.Hour)
	cloud.put(serversPath, cloud.server("new", "BUILD"))
	cloud.pollAfter(t, session, 30*time.Second)
	if got := session.Inventory().NextPoll().Sub(cloud.fake.Now()); got != 2*time.Second {
		t.Errorf("the next poll comes in %s", got)
	}
}

func TestOnlyWhatSomebodyWaitsForIsPolledFast(t *testing.T) {
	cloud := newStoreCloud(t)
	stranger := cloud.server("stranger", "BUILD")
	stranger["metadata"] = map[string]any{}
	cloud.put(serversPath, stranger)
	cloud.put(volumesPath, fields{"id": "v1", "status": "creating", "metadata": Mark{Cluster: "c1"}.Metadata()})
	session := cloud.poller(t)
	before := cloud.total()
	cloud.pollAfter(t, session, 2*time.Second)
	if got := cloud.lists(volumesPath); got != 2 {
		t.Errorf("%d listings of volumes, want 2", got)
	}
	if got := cloud.total() - before; got != 1 {
		t.Errorf("%d calls, want the volumes alone", got)
	}
}

func TestAServerInErrorIsAskedForAgainUntilItsFaultIsThere(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ERROR"))
	session := cloud.poller(t)
	failed := cloud.server("s1", "ERROR")
	failed["fault"] = map[string]any{"code": 500, "message": "No valid host was found. ", "created": cloud.now()}
	cloud.put(serversPath, failed)
	cloud.pollAfter(t, session, 2*time.Second)
	server, _ := session.Inventory().Snapshot().Server("s1")
	if server.Fault == nil || server.Fault.Message != "No valid host was found. " {
		t.Fatalf("fault %+v", server.Fault)
	}
	if got := session.Inventory().NextPoll().Sub(cloud.fake.Now()); got != 2*time.Minute {
		t.Errorf("the next poll comes in %s", got)
	}
}

func TestAServerWithoutAFaultIsNotAskedForForever(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ERROR"))
	session := cloud.poller(t)
	cloud.pollAfter(t, session, time.Minute)
	if got := session.Inventory().NextPoll().Sub(cloud.fake.Now()); got != 2*time.Minute {
		t.Errorf("the next poll comes in %s", got)
	}
}

// listedMeanwhile runs write while a listing that has read the collection already is under way.
func (c *storeCloud) listedMeanwhile(t *testing.T, s *Session, path string, write func()) {
	t.Helper()
	read, release := make(chan struct{}), make(chan struct{})
	c.on("GET "+path, func(w http.ResponseWriter, r *http.Request) bool {
		held := &recorder{header: http.Header{}}
		c.list(held, r, path)
		close(read)
		<-release
		held.replay(w)
		return true
	})
	done := make(chan error, 1)
	go func() { done <- s.Inventory().Poll(t.Context()) }()
	<-read
	write()
	close(release)
	if err := <-done; err != nil {
		t.Fatalf("poll: %v", err)
	}
	c.heal("GET " + path)
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	status int
	body   []byte
}

func (r *recorder) Header() http.Header         { return r.header }
func (r *recorder) WriteHeader(status int)      { r.status = status }
func (r *recorder) Write(b []byte) (int, error) { r.body = append(r.body, b...); return len(b), nil }

func (r *recorder) replay(w http.ResponseWriter) {
	w.WriteHeader(r.status)
	_, _ = w.Write(r.body)
}

func TestAListingThatBeganBeforeACreateDoesNotUndoIt(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.answer("POST "+portsPath, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusCreated, fields{"port": cloud.port("new")})
	})
	cloud.fake.Advance(10 * time.Minute)
	cloud.listedMeanwhile(t, session, portsPath, func() {
		if _, err := session.CreatePort(t.Context(), PortRequest{NetworkID: "n1", Mark: ofC1}); err != nil {
			t.Fatal(err)
		}
		wantIDs(t, session.Inventory().Snapshot().PortsOf(ofC1), "new")
	})
	wantIDs(t, session.Inventory().Snapshot().PortsOf(ofC1), "new")
	cloud.pollAfter(t, session, 10*time.Minute) // this one began later, and the port is not there
	wantIDs(t, session.Inventory().Snapshot().PortsOf(ofC1))
}

func TestAListingThatBeganBeforeADeleteDoesNotUndoIt(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("p1"))
	session := cloud.poller(t)
	cloud.answer("DELETE "+portsPath+"/p1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	cloud.fake.Advance(10 * time.Minute)
	cloud.listedMeanwhile(t, session, portsPath, func() {
		if err := session.DeletePort(t.Context(), "p1"); err != nil {
			t.Fatal(err)
		}
	})
	wantIDs(t, session.Inventory().Snapshot().PortsOf(ofC1))
}

func TestADeletedServerStaysDeletingUntilItIsGone(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	session := cloud.poller(t)
	cloud.answer("DELETE "+serversPath+"/s1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err := session.DeleteServer(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	deleting := func() bool { server, _ := session.Inventory().Snapshot().Server("s1"); return server.Deleting }
	if !deleting() {
		t.Error("not deleting right after the call")
	}
	session.Inventory().Require(KindServer, cloud.fake.Now())
	cloud.pollAfter(t, session, 2*time.Second)
	if !deleting() {
		t.Error("a listing that shows the server as it was undid the delete")
	}
	cloud.put(serversPath, cloud.server("s1", "DELETED"))
	cloud.pollAfter(t, session, 2*time.Second)
	if _, there := session.Inventory().Snapshot().Server("s1"); there {
		t.Error("the server is still there")
	}
}

func TestADeleteThatFailedInTheCloudIsNoticed(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	session := cloud.poller(t)
	cloud.answer("DELETE "+serversPath+"/s1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err := session.DeleteServer(t.Context(), "s1"); err != nil {
		t.Fatal(err)
	}
	cloud.fake.Advance(deleteTrust)
	cloud.put(serversPath, cloud.server("s1", "ERROR"))
	cloud.poll(t, session)
	if server, _ := session.Inventory().Snapshot().Server("s1"); server.Deleting || server.Status != "ERROR" {
		t.Errorf("%+v", server)
	}
}

func TestAFailedListingKeepsWhatIsKnownAndStopsNoOther(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("p1"))
	session := cloud.poller(t)
	cloud.fail("GET "+portsPath, http.StatusServiceUnavailable)
	cloud.put(networksPath, fields{"id": "n1", "description": ofC1.String()})
	cloud.fake.Advance(time.Hour)
	wantClass(t, session.Inventory().Poll(t.Context()), Transient, "list ports", "out of order")
	snapshot := session.Inventory().Snapshot()
	wantIDs(t, snapshot.PortsOf(ofC1), "p1")
	wantIDs(t, snapshot.NetworksOf(ofC1), "n1")
	wantClass(t, snapshot.Err(KindPort), Transient)
	if snapshot.Err(KindNetwork) != nil || !snapshot.Fresh(KindPort) {
		t.Error("the failure spread")
	}
	cloud.heal("GET " + portsPath)
	cloud.pollAfter(t, session, 2*time.Second)
	if err := session.Inventory().Snapshot().Err(KindPort); err != nil {
		t.Errorf("the error outlived its cause: %v", err)
	}
}

func TestAFailingKindIsTriedLessAndLessOften(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.fail("GET "+volumesPath, http.StatusInternalServerError)
	session := cloud.session(func(o *Options) { o.Polling.Jitter = -1 })
	for range 3600 {
		_ = session.Inventory().Poll(t.Context())
		cloud.fake.Advance(time.Second)
	}
	if got := cloud.lists(volumesPath); got < 20 || got > 40 {
		t.Errorf("%d attempts in an hour", got)
	}
}

func TestACloudThatAsksForQuietGetsIt(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.on("GET "+portsPath, func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Retry-After", "240")
		w.WriteHeader(http.StatusTooManyRequests)
		return true
	})
	cloud.fake.Advance(10 * time.Minute)
	wantClass(t, session.Inventory().Poll(t.Context()), Throttled)
	asked := cloud.lists(portsPath)
	cloud.fake.Advance(239 * time.Second)
	_ = session.Inventory().Poll(t.Context())
	if got := cloud.lists(portsPath); got != asked {
		t.Error("asked again before the time")
	}
}

func TestObjectsOfAnotherProjectAreIgnored(t *testing.T) {
	cloud := newStoreCloud(t)
	foreign := cloud.port("foreign")
	foreign["project_id"] = "p2"
	cloud.put(portsPath, foreign)
	cloud.put(portsPath, cloud.port("mine"))
	other := cloud.server("other", "ACTIVE")
	other["tenant_id"], other["project_id"] = "p2", ""
	cloud.put(serversPath, other)
	session := cloud.poller(t)
	wantIDs(t, session.Inventory().Snapshot().PortsOf(ofC1), "mine")
	wantIDs(t, session.Inventory().Snapshot().ServersOf(ofC1))
	if got := cloud.lastQuery(portsPath); !strings.Contains(got, "project_id=p1") {
		t.Errorf("query %q would list the whole cloud for an administrator", got)
	}
}

func TestAMassDisappearanceIsHeldUntilAPersonConfirmsIt(t *testing.T) {
	cloud := newStoreCloud(t)
	for n := range 20 {
		cloud.put(portsPath, cloud.port(fmt.Sprintf("p%02d", n)))
	}
	session := cloud.poller(t)
	inventory := session.Inventory()
	known := func() int { return len(inventory.Snapshot().PortsOf(ofC1)) }
	suspected := func() float64 {
		return testutil.ToFloat64(inventory.metrics.metrics.missing.WithLabelValues(session.cloud(), string(KindPort)))
	}
	inventory.ConfirmMissing(cloud.fake.Now()) // of something else, long ago
	cloud.clear(portsPath)
	before := inventory.Snapshot().ListedAt(KindPort)
	cloud.pollAfter(t, session, 10*time.Minute)
	wantClass(t, inventory.Snapshot().Suspicious(KindPort), Suspicious, "20 of 20 ports", "kept")
	if got := inventory.Snapshot().ListedAt(KindPort); got != before {
		t.Error("a suspicious listing counts as complete")
	}
	inventory.Require(KindPort, cloud.fake.Now())
	cloud.pollAfter(t, session, 2*time.Second) // too soon to be worth a call
	for range 60 {
		cloud.pollAfter(t, session, time.Minute)
	}
	if known() != 20 || suspected() != 20 {
		t.Fatalf("%d ports are left after an hour in which nobody confirmed anything, the metric says that %v are missing", known(), suspected())
	}
	if got := cloud.lists(portsPath); got != 2+60 {
		t.Errorf("%d listings, want one a minute", got)
	}
	inventory.ConfirmMissing(cloud.fake.Now())
	cloud.pollAfter(t, session, time.Minute)
	if known() != 0 || inventory.Snapshot().Suspicious(KindPort) != nil || suspected() != 0 {
		t.Errorf("%d ports are kept although their absence is confirmed, the metric says that %v are missing", known(), suspected())
	}
}

func TestASuspicionEndsWhenTheObjectsAreBack(t *testing.T) {
	cloud := newStoreCloud(t)
	for n := range 20 {
		cloud.put(portsPath, cloud.port(fmt.Sprintf("p%02d", n)))
	}
	session := cloud.poller(t)
	cloud.mu.Lock()
	saved := cloud.objects[portsPath]
	cloud.objects[portsPath] = nil
	cloud.mu.Unlock()
	cloud.pollAfter(t, session, 10*time.Minute)
	cloud.mu.Lock()
	cloud.objects[portsPath] = saved
	cloud.mu.Unlock()
	cloud.pollAfter(t, session, time.Minute)
	snapshot := session.Inventory().Snapshot()
	if snapshot.Suspicious(KindPort) != nil || len(snapshot.PortsOf(ofC1)) != 20 {
		t.Errorf("%v, %d ports", snapshot.Suspicious(KindPort), len(snapshot.PortsOf(ofC1)))
	}
}

func TestAFewMissingObjectsAreGone(t *testing.T) {
	cloud := newStoreCloud(t)
	for n := range 10 {
		cloud.put(portsPath, cloud.port(fmt.Sprintf("p%02d", n)))
	}
	session := cloud.poller(t)
	cloud.clear(portsPath)
	cloud.pollAfter(t, session, 10*time.Minute)
	if got := len(session.Inventory().Snapshot().PortsOf(ofC1)); got != 0 {
		t.Errorf("%d ports are left", got)
	}
}

func TestServersWeDeleteMayDisappearInAnyNumber(t *testing.T) {
	cloud := newStoreCloud(t)
	for n := range 30 {
		server := cloud.server(fmt.Sprintf("s%02d", n), "ACTIVE")
		server["OS-EXT-STS:task_state"] = "deleting"
		cloud.put(serversPath, server)
		cloud.put(volumesPath, fields{"id": fmt.Sprintf("v%02d", n), "status": "in-use", "metadata": ofC1.Metadata(), "attachments": []fields{{"server_id": server["id"]}}})
	}
	session := cloud.poller(t)
	cloud.clear(serversPath)
	cloud.clear(volumesPath)
	cloud.pollAfter(t, session, 10*time.Minute)
	snapshot := session.Inventory().Snapshot()
	if len(snapshot.ServersOf(ofC1)) != 0 || len(snapshot.VolumesOf(ofC1)) != 0 {
		t.Errorf("%d servers and %d volumes are kept", len(snapshot.ServersOf(ofC1)), len(snapshot.VolumesOf(ofC1)))
	}
}

func TestAServerWhoseCellIsDownKeepsWhatIsKnownOfIt(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	session := cloud.poller(t)
	cloud.put(serversPath, fields{"id": "s1", "status": "UNKNOWN", "created": "2026-01-01T00:00:00Z", "tenant_id": "p1"})
	cloud.pollAfter(t, session, 10*time.Minute)
	server, _ := session.Inventory().Snapshot().Server("s1")
	if server.Mark.Cluster != "c1" || server.Status != "ACTIVE" {
		t.Errorf("%+v", server)
	}
}

func TestSubscribersHearOfWhatChangedAndNothingElse(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	cloud.put(serversPath, cloud.server("s2", "ACTIVE"))
	session := cloud.poller(t)
	var heard []Change
	cancel := session.Inventory().Subscribe(func(changes []Change) { heard = append(heard, changes...) })
	cloud.fake.Advance(2 * time.Minute)
	cloud.put(serversPath, cloud.server("s1", "SHUTOFF"))
	cloud.put(serversPath, cloud.server("s2", "ACTIVE")) // only its time of change differs
	cloud.poll(t, session)
	want := []Change{{Kind: KindServer, ID: "s1", Mark: Mark{Cluster: "c1", Machine: "m-s1"}}}
	if !slices.Equal(heard, want) {
		t.Errorf("heard %+v", heard)
	}
	heard = nil
	cloud.fake.Advance(2 * time.Minute)
	cloud.put(serversPath, cloud.server("s1", "DELETED"))
	cloud.poll(t, session)
	if len(heard) != 1 || !heard[0].Gone || heard[0].Mark.Cluster != "c1" {
		t.Errorf("heard %+v", heard)
	}
	heard = nil
	cancel()
	cloud.take(serversPath, "s2")
	cloud.pollAfter(t, session, 10*time.Minute)
	if len(heard) != 0 {
		t.Errorf("heard %+v after the end", heard)
	}
}

func TestASubscriberMayCallOperations(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(portsPath, cloud.port("p1"))
	session := cloud.session()
	cloud.answer("DELETE "+portsPath+"/p1", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	var heard []Change
	session.Inventory().Subscribe(func(changes []Change) {
		for _, change := range changes {
			heard = append(heard, change)
			if !change.Gone {
				if err := session.DeletePort(t.Context(), change.ID); err != nil {
					t.Error(err)
				}
			}
		}
	})
	cloud.poll(t, session)
	if len(heard) != 2 || heard[0].Gone || !heard[1].Gone {
		t.Errorf("heard %+v", heard)
	}
}

func TestAnUncertainCreateBringsTheListingForward(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	cloud.answer("POST "+portsPath, func(w http.ResponseWriter, _ *http.Request) {
		cloud.put(portsPath, cloud.port("lost"))
		w.WriteHeader(http.StatusBadGateway)
	})
	asked := cloud.fake.Now()
	_, err := session.CreatePort(t.Context(), PortRequest{NetworkID: "n1", Mark: ofC1})
	if !IsUncertain(err) {
		t.Fatalf("error %v", err)
	}
	cloud.pollAfter(t, session, 2*time.Second)
	snapshot := session.Inventory().Snapshot()
	if !snapshot.ListedAfter(KindPort, asked) {
		t.Error("the ports have not been listed since")
	}
	wantIDs(t, snapshot.PortsOf(ofC1), "lost")
}

func TestSnapshotsAreNumberedAndReadersNeverSeeHalfAnUpdate(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	ctx, stop := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			last := uint64(0)
			for ctx.Err() == nil {
				s := session.Inventory().Snapshot()
				if s.Seq < last {
					t.Errorf("snapshot %d after %d", s.Seq, last)
				}
				last = s.Seq
				if got := len(s.PortsOf(ofC1)); got != s.Count(KindPort) {
					t.Errorf("%d ports by owner, %d in all", got, s.Count(KindPort))
				}
			}
		})
	}
	for n := range 300 {
		session.Inventory().created(Port{ID: fmt.Sprint(n), Mark: ofC1})
	}
	stop()
	readers.Wait()
	if got := session.Inventory().Snapshot().Count(KindPort); got != 300 {
		t.Errorf("%d ports", got)
	}
}

func TestRunPollsByItselfAndAHungServiceHoldsUpNoOther(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(serversPath, cloud.server("s1", "BUILD"))
	release := make(chan struct{})
	cloud.on("GET "+loadBalancersPath, func(_ http.ResponseWriter, r *http.Request) bool {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return true
	})
	session := cloud.session(func(o *Options) { o.Polling.Jitter = -1 })
	active := make(chan struct{})
	session.Inventory().Subscribe(func([]Change) {
		if server, _ := session.Inventory().Snapshot().Server("s1"); server.Status == "ACTIVE" {
			close(active)
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { session.Inventory().Run(ctx); close(done) }()
	waitUntil(t, func() bool { return session.Inventory().Snapshot().Fresh(KindServer, KindPort, KindServerGroup) })
	cloud.put(serversPath, cloud.server("s1", "ACTIVE"))
	deadline := time.After(20 * time.Second)
	for waiting := true; waiting; {
		select {
		case <-active:
			waiting = false
		case <-deadline:
			t.Fatal("the change was not noticed")
		case <-time.After(time.Millisecond):
			cloud.fake.Advance(time.Second)
		}
	}
	close(release)
	stop()
	<-done
}

// waitUntil polls a condition until it holds.
func waitUntil(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatal("the condition never held")
		}
		<-time.After(time.Millisecond)
	}
}

func TestACloudWithoutVolumesOrLoadBalancersHasNone(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.catalog = without("volumev3", "load-balancer")
	session := cloud.poller(t)
	snapshot := session.Inventory().Snapshot()
	for _, kind := range []Kind{KindVolume, KindLoadBalancer} {
		if !snapshot.Fresh(kind) || snapshot.Err(kind) != nil || snapshot.Count(kind) != 0 {
			t.Errorf("%s: fresh %t, %v", kind, snapshot.Fresh(kind), snapshot.Err(kind))
		}
	}
	_, err := session.CreateVolume(t.Context(), VolumeRequest{Mark: ofC1})
	wantClass(t, err, Config, "no block-storage service in region", "RegionOne")
	_, err = session.CreateLoadBalancer(t.Context(), LoadBalancerRequest{Mark: ofC1})
	wantClass(t, err, Config, "no load-balancer service in region", "RegionOne")
}

func TestVolumesDoNotVanishWithAnEntryOfTheCatalog(t *testing.T) {
	cloud := newStoreCloud(t)
	cloud.put(volumesPath, fields{"id": "v1", "status": "in-use", "metadata": ofC1.Metadata()})
	session := cloud.poller(t)
	cloud.catalog = without("volumev3")
	cloud.fake.Advance(time.Hour) // and the token expires
	wantClass(t, session.Inventory().Poll(t.Context()), Config, "no block-storage service")
	snapshot := session.Inventory().Snapshot()
	wantIDs(t, snapshot.VolumesOf(ofC1), "v1")
	wantClass(t, snapshot.Err(KindVolume), Config)
}

func TestWhatIsSettledCostsLittle(t *testing.T) {
	cloud := newStoreCloud(t)
	session := cloud.poller(t)
	before := map[string]int{}
	lists := map[string]int{
		serversPath: 6, portsPath: 6, volumesPath: 6, loadBalancersPath: 6, groupsPath: 6,
		networksPath: 1, subnetsPath: 1, routersPath: 1, floatingIPsPath: 1, serverGroupsPath: 1,
	}
	for path := range lists {
		before[path] = cloud.lists(path)
	}
	for range 6 {
		cloud.pollAfter(t, session, 10*time.Minute)
	}
	for path, want := range lists {
		if got := cloud.lists(path) - before[path]; got != want {
			t.Errorf("%d listings of %s in an hour, want %d", got, path, want)
		}
	}
	session.Inventory().Require(KindNetwork, cloud.fake.Now())
	if got := session.Inventory().NextPoll().Sub(cloud.fake.Now()); got > 2*time.Second {
		t.Errorf("the listing somebody needs comes in %s", got)
	}
}
