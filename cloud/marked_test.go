package cloud

import (
	"encoding/json"
	"slices"
	"testing"
	"time"
)

func TestTimesOfAllServicesAreRead(t *testing.T) {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	for text, want := range map[string]time.Time{
		`"2026-03-04T05:06:07Z"`:       at,                             // Neutron
		`"2026-03-04T05:06:07"`:        at,                             // Octavia
		`"2026-03-04T05:06:07.250000"`: at.Add(250 * time.Millisecond), // Cinder
		`"yesterday"`:                  {},
		`""`:                           {},
		`null`:                         {},
		`1772600767`:                   {},
	} {
		var w wireOwned
		if err := json.Unmarshal([]byte(`{"id":"x","created_at":`+text+`}`), &w); err != nil || !w.Created.Equal(want) {
			t.Errorf("%s is read as %s, %v; want %s", text, w.Created, err, want)
		}
	}
}

func TestOnlyWhatCarriesAMarkIsMarked(t *testing.T) {
	made := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	ours := Mark{Cluster: "C", Role: "role"}
	for _, c := range []struct{ ours, others object }{
		{Network{ID: "1", Name: "n", Mark: ours, Created: made}, Network{ID: "2"}},
		{Subnet{ID: "1", Name: "n", Mark: ours, Created: made}, Subnet{ID: "2"}},
		{Router{ID: "1", Name: "n", Mark: ours, Created: made}, Router{ID: "2"}},
		{SecurityGroup{ID: "1", Name: "n", Mark: ours, Created: made}, SecurityGroup{ID: "2"}},
		{Port{ID: "1", Name: "n", Mark: ours, Created: made}, Port{ID: "2", NetworkID: "net", DeviceID: "server"}},
		{Volume{ID: "1", Name: "n", Mark: ours, Created: made}, Volume{ID: "2"}},
		{Server{ID: "1", Name: "n", Mark: ours, Created: made}, Server{ID: "2"}},
		{FloatingIP{ID: "1", Address: "n", Mark: ours, Created: made}, FloatingIP{ID: "2"}},
		{LoadBalancer{ID: "1", Name: "n", Mark: ours, Created: made}, LoadBalancer{ID: "2"}},
	} {
		want := []Marked{{Kind: c.ours.kind(), ID: "1", Name: "n", Mark: ours, Created: made}}
		if got := SnapshotOf(made, c.ours, c.others).Marked(c.ours.kind()); !slices.Equal(got, want) {
			t.Errorf("marked are %+v, want %+v", got, want)
		}
	}
	if kinds := slices.Sorted(slices.Values(Kinds())); !slices.Equal(kinds, slices.Sorted(slices.Values(allKinds()))) {
		t.Errorf("the order of deletion has the kinds %q", kinds)
	}
}

func TestLeftoversAreFoundByWhatProvesThem(t *testing.T) {
	s := SnapshotOf(time.Time{},
		LoadBalancer{ID: "here", VIPPortID: "p1"}, LoadBalancer{ID: "elsewhere", VIPPortID: "p2"}, LoadBalancer{ID: "nowhere", VIPPortID: "p3", VIPNetworkID: "net"}, LoadBalancer{ID: "without"},
		Port{ID: "p1", NetworkID: "net"}, Port{ID: "p2", NetworkID: "other"},
		FloatingIP{ID: "leads", PortID: "p1"}, FloatingIP{ID: "free"},
		Volume{ID: "named", Metadata: map[string]string{"key": "a"}}, Volume{ID: "empty", Metadata: map[string]string{"key": ""}}, Volume{ID: "bare"},
	)
	for _, c := range []struct {
		what string
		got  int
		id   bool
	}{
		{"load balancers on the network", len(s.LoadBalancersOnNetwork("net")), s.LoadBalancersOnNetwork("net")[0].ID == "here"},
		{"floating IPs of the port", len(s.FloatingIPsOfPort("p1")), s.FloatingIPsOfPort("p1")[0].ID == "leads"},
		{"volumes with the entry", len(s.VolumesWith("key", "a")), s.VolumesWith("key", "a")[0].ID == "named"},
		{"volumes with an empty entry", len(s.VolumesWith("key", "")), s.VolumesWith("key", "")[0].ID == "empty"},
	} {
		if c.got != 1 || !c.id {
			t.Errorf("%s: %d", c.what, c.got)
		}
	}
	if found := len(s.FloatingIPsOfPort("")); found != 0 {
		t.Errorf("%d floating IPs lead to no port", found)
	}
}
