package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

const eventually = 20 * time.Second

// start runs the program until the test ends and returns the URL it wrote.
func start(t *testing.T, args ...string) string {
	t.Helper()
	url, _ := startStoppable(t, args...)
	return url
}

// startStoppable is start of a program that stop ends before the test does.
func startStoppable(t *testing.T, args ...string) (url string, stop func()) {
	t.Helper()
	urlFile := filepath.Join(t.TempDir(), "simulator.url")
	ctx, cancel := context.WithCancel(context.Background())
	command := newCommand(io.Discard)
	command.SetArgs(append(args, "--url-file="+urlFile))
	done := make(chan error, 1)
	go func() { done <- command.ExecuteContext(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("the program ended with %v", err)
			}
		case <-time.After(eventually):
			t.Error("the program does not end when told to")
		}
	})
	t.Cleanup(stop)
	deadline := time.After(eventually)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		if url, err := os.ReadFile(urlFile); err == nil {
			return strings.TrimSpace(string(url)), stop
		}
		select {
		case <-tick.C:
		case err := <-done:
			t.Fatalf("the program ended with %v", err)
		case <-deadline:
			t.Fatal("no URL was written")
		}
	}
}

func TestTheProgramServesWritesItsFilesAndEndsWhenTold(t *testing.T) {
	for _, backend := range []string{noNodes, memoryNodes} {
		t.Run(backend, func(t *testing.T) {
			clouds := filepath.Join(t.TempDir(), "clouds.yaml")
			url := start(t, "--backend="+backend, "--clouds-yaml="+clouds)
			response, err := http.Get(url + "/_simulator/health")
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close()
			if response.StatusCode != http.StatusOK {
				t.Errorf("health answers %s", response.Status)
			}
			if err := checkClouds(clouds, url); err != nil {
				t.Error(err)
			}
		})
	}
}

func checkClouds(path, url string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var file struct {
		Clouds map[string]struct {
			Auth map[string]string `json:"auth"`
		} `json:"clouds"`
	}
	if err := yaml.Unmarshal(content, &file); err != nil {
		return err
	}
	auth := file.Clouds["demo"].Auth
	if auth["auth_url"] != url+"/identity/v3" || auth["username"] != "demo" || auth["project_name"] != "demo" {
		return fmt.Errorf("the demo account reads %v", auth)
	}
	return nil
}

func TestAnUnknownBackendIsRefusedByName(t *testing.T) {
	command := newCommand(io.Discard)
	command.SetArgs([]string{"--backend=docker"})
	if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), `"docker"`) {
		t.Errorf("got %v, want an error that names the backend", err)
	}
}
