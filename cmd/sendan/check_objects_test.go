package main

import (
	"encoding/json"
	"testing"
)

func TestEveryDuplicateAndEveryGapInTheCloudIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		change func(objectCounts)
		want   string // "" for none
	}{
		"as it should be":              {func(objectCounts) {}, ""},
		"any number of rules":          {func(c objectCounts) { c["security-group-rules"] = 9 }, ""},
		"a kind counted as none":       {func(c objectCounts) { c["volumes"] = 0 }, ""},
		"a second router":              {func(c objectCounts) { c["routers"]++ }, "the cloud has 2 routers instead of 1"},
		"no floating IP":               {func(c objectCounts) { delete(c, "floatingips") }, "the cloud has 0 floatingips instead of 1"},
		"a kind nobody asked for":      {func(c objectCounts) { c["volumes"] = 3 }, "the cloud has 3 volumes instead of 0"},
		"an orphan server and no port": {func(c objectCounts) { c["servers"]++; c["ports"]-- }, "the cloud has 6 ports instead of 7, 6 servers instead of 5"},
	} {
		t.Run(name, func(t *testing.T) {
			have := clusterObjects(twoWorkers())
			c.change(have)
			got := ""
			if err := have.difference(clusterObjects(twoWorkers())); err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestWritesToTheCloudAreNeitherReadsNorLogins(t *testing.T) {
	var counts callCounts
	answer := `{"total": 21, "calls": [
		{"service": "identity", "method": "POST", "path": "/v3/auth/tokens", "status": 201, "count": 1},
		{"service": "compute", "method": "GET", "path": "/v2.1/servers/detail", "status": 200, "count": 15},
		{"service": "compute", "method": "POST", "path": "/v2.1/servers", "status": 202, "count": 3},
		{"service": "network", "method": "DELETE", "path": "/v2.0/ports/{id}", "status": 204, "count": 2}]}`
	if err := json.Unmarshal([]byte(answer), &counts); err != nil {
		t.Fatal(err)
	}
	if counts.Total != 21 || counts.writes() != 5 {
		t.Errorf("%d calls, %d writes; want 21 and 5", counts.Total, counts.writes())
	}
}

func twoWorkers() map[string]*wantedPool {
	return map[string]*wantedPool{demoPool: {nodes: 2, spread: true}}
}
