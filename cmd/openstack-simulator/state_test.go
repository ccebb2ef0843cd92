package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// addImage changes a cloud through its control API.
func addImage(t *testing.T, url, name string) {
	t.Helper()
	response, err := http.Post(url+"/_simulator/images", "application/json", strings.NewReader(`{"name":"`+name+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode >= http.StatusBadRequest {
		t.Fatalf("add image: %s", response.Status)
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestTheStateFileIsWrittenAtTheEndAndReadAtTheStart(t *testing.T) {
	for _, backend := range []string{noNodes, memoryNodes} {
		t.Run(backend, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "cloud.json")
			url, stop := startStoppable(t, "--backend="+backend, "--state="+file)
			addImage(t, url, "mine")
			stop()
			if !strings.Contains(readFile(t, file), `"mine"`) {
				t.Fatal("the change is not in the state file")
			}
			_, stop = startStoppable(t, "--backend="+backend, "--state="+file)
			stop()
			if !strings.Contains(readFile(t, file), `"mine"`) {
				t.Error("the change did not survive the second run")
			}
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the state file, which holds secrets, has mode %v, error %v", info.Mode(), err)
			}
			if entries, err := os.ReadDir(filepath.Dir(file)); err != nil || len(entries) != 1 {
				t.Errorf("beside the state file are %v, error %v", entries, err)
			}
		})
	}
}

func TestAStateFileThatDoesNotFitIsRefusedByNameWithTheRemedy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cloud.json")
	_, stop := startStoppable(t, "--backend=none", "--state="+file)
	stop()
	good := readFile(t, file)
	scenario := filepath.Join(t.TempDir(), "scenario.yaml")
	if err := os.WriteFile(scenario, []byte("quotas: {instances: 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, content, want, extra string }{
		{"of another format", strings.Replace(good, `"format":1`, `"format":2`, 1), "format 2", "--seed=0"},
		{"of another scenario", good, "another scenario", "--scenario=" + scenario},
		{"empty", "", "empty", "--seed=0"},
		{"cut off", good[:len(good)/2], "not a snapshot", "--seed=0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
				t.Fatal(err)
			}
			command := newCommand(io.Discard)
			command.SetArgs([]string{"--backend=none", "--state=" + file, c.extra})
			err := command.ExecuteContext(t.Context())
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, want := range []string{file, c.want, "delete it"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
			if readFile(t, file) != c.content {
				t.Error("the refused file was changed")
			}
		})
	}
}

func TestAChangeIsSavedWithoutWaitingForTheEndAndNothingIsWrittenWithoutOne(t *testing.T) {
	cloud, err := simulator.New(simulator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer cloud.Close()
	file := filepath.Join(t.TempDir(), "cloud.json")
	keeper := &stateKeeper{cloud: cloud, file: file, every: time.Millisecond, log: slog.New(slog.DiscardHandler)}
	stop := keeper.start(context.WithoutCancel(t.Context()))
	defer stop()
	cloud.AddImage(simulator.Image{Name: "mine"})
	deadline := time.After(eventually)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for content := []byte(nil); !bytes.Contains(content, []byte(`"mine"`)); content, _ = os.ReadFile(file) {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the change was never saved")
		}
	}
	stop()
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := keeper.save(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(file); err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was written anew although nothing changed, error %v", err)
	}
}
