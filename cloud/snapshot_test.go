package cloud

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

func ids[T object](objects []T) []string {
	var out []string
	for _, o := range objects {
		out = append(out, o.id())
	}
	return out
}

func wantIDs[T object](t *testing.T, got []T, want ...string) {
	t.Helper()
	if !slices.Equal(ids(got), want) {
		t.Errorf("got %v, want %v", ids(got), want)
	}
}

func TestASnapshotFindsObjectsByIdAndByOwner(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := SnapshotOf(at,
		Server{ID: "s3", Mark: Mark{Cluster: "c1", Machine: "m2"}},
		Server{ID: "s1", Mark: Mark{Cluster: "c1", Machine: "m1"}},
		Server{ID: "s2", Mark: Mark{Cluster: "c2", Machine: "m1"}},
		Server{ID: "stranger"},
		Port{ID: "p2", Mark: Mark{Cluster: "c1", Machine: "m1", Role: "port-1"}, NetworkID: "n1", DeviceID: "s1"},
		Port{ID: "p1", Mark: Mark{Cluster: "c1", Machine: "m1", Role: "port-0"}, NetworkID: "n1"},
		Port{ID: "p0", Mark: Mark{Cluster: "c1", Role: "port-0"}, NetworkID: "n2"},
		Port{ID: "dhcp", NetworkID: "n1", DeviceOwner: "network:dhcp"},
		LoadBalancer{ID: "lb", Mark: Mark{Cluster: "c1", Role: "api"}},
	)
	wantIDs(t, s.ServersOf(Mark{Cluster: "c1"}), "s1", "s3")
	wantIDs(t, s.ServersOf(Mark{Cluster: "c1", Machine: "m2"}), "s3")
	wantIDs(t, s.ServersOf(Mark{Cluster: "c"}))
	wantIDs(t, s.ServersOf(Mark{Machine: "m1"})) // no cluster: nothing is ours
	wantIDs(t, s.PortsOf(Mark{Cluster: "c1", Machine: "m1"}), "p1", "p2")
	wantIDs(t, s.PortsOf(Mark{Cluster: "c1", Role: "port-0"}), "p0", "p1")
	wantIDs(t, s.PortsOf(Mark{Cluster: "c1", Machine: "m1", Role: "port-1"}), "p2")
	wantIDs(t, s.PortsOnNetwork("n1"), "dhcp", "p1", "p2")
	wantIDs(t, s.PortsOfDevice("s1"), "p2")
	wantIDs(t, s.LoadBalancersOf(Mark{Cluster: "c1", Role: "api"}), "lb")
	if server, found := s.Server("stranger"); !found || server.ID != "stranger" {
		t.Error("a server without a mark is not found by its id")
	}
	if _, found := s.Server("p1"); found {
		t.Error("a port was found as a server")
	}
	if s.Count(KindPort) != 4 {
		t.Errorf("%d ports, want 4", s.Count(KindPort))
	}
}

func TestASnapshotSaysHowFarItCanBeTrusted(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	broken := errors.New("broken")
	s := SnapshotOf(at, Listing{Kind: KindVolume}, Listing{Kind: KindPort, Began: at, Err: broken})
	if !s.Fresh(KindServer, KindPort) || s.Fresh(KindServer, KindVolume) {
		t.Error("Fresh is wrong")
	}
	if !s.ListedAfter(KindServer, at.Add(-time.Second)) || s.ListedAfter(KindServer, at) || s.ListedAfter(KindVolume, time.Time{}) {
		t.Error("ListedAfter is wrong: it wants a complete listing that began later")
	}
	if !errors.Is(s.Err(KindPort), broken) || s.Err(KindServer) != nil {
		t.Error("Err is wrong")
	}
	if got := emptySnapshot(); got.Fresh(KindServer) || got.ServersOf(Mark{Cluster: "c"}) != nil {
		t.Error("an empty snapshot claims to know something")
	}
}

func TestMovingAnObjectToAnotherOwnerLeavesNothingBehind(t *testing.T) {
	s := SnapshotOf(time.Now(), Port{ID: "p", NetworkID: "n", DeviceID: "a", Mark: Mark{Cluster: "c1"}})
	s.tables[KindPort] = s.tables[KindPort].with(Port{ID: "p", NetworkID: "n", DeviceID: "b", Mark: Mark{Cluster: "c2"}})
	wantIDs(t, s.PortsOf(Mark{Cluster: "c1"}))
	wantIDs(t, s.PortsOfDevice("a"))
	wantIDs(t, s.PortsOf(Mark{Cluster: "c2"}), "p")
	if table := s.tables[KindPort]; table.count != 1 || table.marked != 1 {
		t.Errorf("counted %d, %d of them marked", table.count, table.marked)
	}
}

// manyServers is a table as in the largest project this is built for: 1,500 clusters in it.
func manyServers(count int) table {
	var servers table
	for n := range count {
		servers = servers.with(Server{
			ID: fmt.Sprintf("%08x-0000-4000-8000-000000000000", uint32(n)*2654435761), Name: fmt.Sprintf("machine-%d", n), Status: "ACTIVE",
			Mark: Mark{Cluster: fmt.Sprintf("cluster-%d", n%1500), Machine: fmt.Sprintf("machine-%d", n), Role: "server"},
		})
	}
	return servers
}

func BenchmarkOwnWriteAmong50000Servers(b *testing.B) {
	s := emptySnapshot()
	s.tables[KindServer] = manyServers(50_000)
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		next := s.next()
		next.tables[KindServer] = next.tables[KindServer].with(Server{ID: fmt.Sprintf("new-%d", n), Mark: Mark{Cluster: "cluster-7", Machine: "new"}})
	}
}

func BenchmarkServersOfOneClusterAmong50000(b *testing.B) {
	s := emptySnapshot()
	s.tables[KindServer] = manyServers(50_000)
	b.ReportAllocs()
	for b.Loop() {
		if len(s.ServersOf(Mark{Cluster: "cluster-7"})) == 0 {
			b.Fatal("nothing found")
		}
	}
}

func BenchmarkFirstListingOf50000Servers(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		manyServers(50_000)
	}
}
