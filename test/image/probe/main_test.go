package main

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestTryGoesOnUntilItWorks(t *testing.T) {
	calls := 0
	err := try(t.Context(), func(context.Context) error {
		if calls++; calls < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if err != nil || calls != 3 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestTrySaysWhatWentWrongWhenItGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cause := errors.New("connection refused")
	err := try(ctx, func(context.Context) error {
		cancel()
		return cause
	})
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestGetAsksAgainWhileTheServerIsBusy(t *testing.T) {
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	if err := run(t.Context(), []string{"get", server.URL}); err != nil || requests.Load() != 2 {
		t.Errorf("%d requests, %v", requests.Load(), err)
	}
}

func TestPauseEndsWhenToldTo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"pause"}); err != nil {
		t.Error(err)
	}
}

func TestMisunderstandingsAreNamed(t *testing.T) {
	for _, args := range [][]string{{"get"}, {"fetch", "x"}, {"resolve"}} {
		if err := run(t.Context(), args); err == nil || !strings.Contains(err.Error(), args[0]) {
			t.Errorf("%v: %v", args, err)
		}
	}
}
