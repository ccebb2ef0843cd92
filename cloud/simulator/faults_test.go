package simulator_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

func (c *testCloud) fault(f simulator.Fault) {
	c.t.Helper()
	if err := c.sim.AddFault(f); err != nil {
		c.t.Fatal(err)
	}
}

const groupBody = `{"server_group":{"name":"g","policies":["affinity"]}}`

func (s *session) postGroup() answered {
	s.t.Helper()
	return s.request("POST", "/compute/v2.1/os-server-groups", groupBody)
}

func (s *session) groups() int { return s.sim.Objects().Total["server_groups"] }

func TestAFaultStrikesTheCallsItNames(t *testing.T) {
	s := newTestCloud(t).demo()
	s.fault(simulator.Fault{Service: "compute", Method: "POST", Path: "/v2.1/os-server-groups", Skip: 1, Times: 2, Status: 503})
	var got []int
	for range 5 {
		got = append(got, s.postGroup().status)
	}
	for i, want := range []int{200, 503, 503, 200, 200} {
		if got[i] != want {
			t.Fatalf("answers %v, want the second and third to fail", got)
		}
	}
	if s.groups() != 3 {
		t.Errorf("%d groups, want those of the three calls that succeeded", s.groups())
	}
}

func TestALostReplyHasTakenEffect(t *testing.T) {
	s := newTestCloud(t).demo()
	s.fault(simulator.Fault{Method: "POST", Path: "/v2.1/os-server-groups", AfterEffect: true, Status: 502})
	if a := s.postGroup(); a.status != 502 {
		t.Fatalf("got %d", a.status)
	}
	if s.groups() != 1 {
		t.Error("the call had no effect")
	}
}

func TestAThrottledCallSaysWhenToComeBack(t *testing.T) {
	s := newTestCloud(t).demo()
	s.fault(simulator.Fault{Path: "/v2.1/servers*", Status: 429, RetryAfterSeconds: 7, Message: "slow down"})
	a := s.request("GET", "/compute/v2.1/servers", "")
	if a.status != 429 || a.header.Get("Retry-After") != "7" || a.message(t, "overLimit") != "slow down" {
		t.Errorf("got %d %v %s", a.status, a.header, a.body)
	}
}

func TestAResetConnectionGivesNoAnswer(t *testing.T) {
	for name, after := range map[string]bool{"before the effect": false, "after the effect": true} {
		t.Run(name, func(t *testing.T) {
			s := newTestCloud(t).demo()
			s.fault(simulator.Fault{Method: "POST", Path: "/v2.1/os-server-groups", Reset: true, AfterEffect: after})
			if err := s.post(t.Context()); err == nil {
				t.Fatal("the call was answered")
			}
			if want := map[bool]int{false: 0, true: 1}[after]; s.groups() != want {
				t.Errorf("%d groups, want %d", s.groups(), want)
			}
		})
	}
}

// post creates a server group over plain HTTP and tells how that failed.
func (s *session) post(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, "POST", s.url+"/compute/v2.1/os-server-groups", strings.NewReader(groupBody))
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", s.provider.Token())
	res, err := http.DefaultClient.Do(req)
	if err == nil {
		res.Body.Close()
	}
	return err
}

func TestAHangLastsUntilTheClientGivesUp(t *testing.T) {
	s := newTestCloud(t).demo()
	s.fault(simulator.Fault{Path: "/v2.1/os-server-groups", Hang: true})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.post(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want the client's own deadline", err)
	}
	if a := s.postGroup(); a.status != 200 {
		t.Errorf("the next call gets %d", a.status)
	}
}

func TestADelayedAnswerIsTheRealOne(t *testing.T) {
	s := newTestCloud(t).demo()
	s.fault(simulator.Fault{Path: "/v2.1/os-server-groups", DelaySeconds: 30})
	done := make(chan answered)
	go func() { done <- s.postGroup() }()
	if err := s.clock.BlockUntilContext(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-done:
		t.Fatalf("answered %d before the delay was over", a.status)
	default:
	}
	s.clock.Advance(30 * time.Second)
	if a := <-done; a.status != 200 || s.groups() != 1 {
		t.Errorf("answered %d, %d groups", a.status, s.groups())
	}
}

func TestAFaultCanBeLimitedToAProject(t *testing.T) {
	c := newTestCloud(t)
	s, admin := c.demo(), c.login("admin", "admin")
	account := must[simulator.Account](t)(c.sim.Account("demo", "demo"))
	c.fault(simulator.Fault{Name: "demo down", Project: account.ProjectID, Times: -1, Status: 500})
	if got := s.request("GET", "/compute/v2.1/servers", "").status; got != 500 {
		t.Errorf("project demo gets %d", got)
	}
	if got := admin.request("GET", "/compute/v2.1/servers", "").status; got != 200 {
		t.Errorf("project admin gets %d", got)
	}
	c.sim.ClearFaults("demo down")
	if got := s.request("GET", "/compute/v2.1/servers", "").status; got != 200 {
		t.Errorf("project demo gets %d after the fault's end", got)
	}
}

func TestAFaultThatCannotStrikeIsRefused(t *testing.T) {
	sim := newTestCloud(t).sim
	for text, f := range map[string]simulator.Fault{
		"does nothing": {Name: "empty"},
		"status 200":   {Status: 200},
		"syntax error": {Status: 500, Path: "["},
	} {
		if err := sim.AddFault(f); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: error %v, want …%q…", f, err, text)
		}
	}
}
