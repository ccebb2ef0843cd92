package manager

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
)

func TestLeaseIsHeldUntilItWasNotRenewedInTime(t *testing.T) {
	const path = "/apis/coordination.k8s.io/v1/namespaces/sendan-system/leases"
	clock, status, takes := clockwork.NewFakeClock(), http.StatusCreated, time.Duration(0)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		clock.Advance(takes)
		w.WriteHeader(status)
	}))
	t.Cleanup(server.Close)
	l := &lease{clock: clock, deadline: 10 * time.Second}
	elector := &http.Client{Transport: l.watch(http.DefaultTransport)}
	send := func(method, path string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := elector.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	want := func(held bool, when string) {
		t.Helper()
		if err := l.held(); (err == nil) != held {
			t.Errorf("%s: %v", when, err)
		}
	}

	want(false, "at first")
	send(http.MethodPost, "/api/v1/namespaces/sendan-system/events")
	want(false, "after an Event")
	send(http.MethodPost, path)
	want(true, "when it was taken")
	clock.Advance(10 * time.Second)
	want(true, "at the deadline")
	clock.Advance(time.Millisecond)
	want(false, "after the deadline")

	status = http.StatusOK
	send(http.MethodGet, path+"/it")
	want(false, "when it was only read")
	takes = 6 * time.Second
	send(http.MethodPut, path+"/it")
	want(true, "when it was renewed")
	clock.Advance(5 * time.Second)
	want(false, "10 s after the request that renewed it, which took 6 s")
	takes, status = 0, http.StatusConflict
	send(http.MethodPut, path+"/it")
	want(false, "when another has it")
	status = http.StatusOK
	send(http.MethodPut, path+"/it")
	clock.Advance(-time.Hour)
	want(false, "when the clock was put back")
}
