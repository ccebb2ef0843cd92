package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
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
	command.SetArgs([]string{"--backend=kvm"})
	if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), `"kvm"`) {
		t.Errorf("got %v, want an error that names the backend", err)
	}
}

func TestFilesBelongToTheOwnerOfTheirDirectory(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	dir := t.TempDir()
	if err := os.Chown(dir, 1234, 1235); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile(filepath.Join(dir, "clouds.yaml"), []byte("clouds: {}")); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, "clouds.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	owner := info.Sys().(*syscall.Stat_t)
	if owner.Uid != 1234 || owner.Gid != 1235 || info.Mode().Perm() != 0o600 {
		t.Errorf("it belongs to %d:%d with mode %v", owner.Uid, owner.Gid, info.Mode())
	}
}

func TestListeningEverywhereIsToldAsAnAddressOfThisMachine(t *testing.T) {
	for address, want := range map[string]string{"127.0.0.1:5000": "127.0.0.1:5000", "10.6.0.3:80": "10.6.0.3:80"} {
		if got := reachable(addressOf(t, address)); got != want {
			t.Errorf("%s: %s", address, got)
		}
	}
	host, port, err := net.SplitHostPort(reachable(addressOf(t, "[::]:5000")))
	if ip := net.ParseIP(host); err != nil || port != "5000" || ip.To4() == nil || ip.IsUnspecified() {
		t.Errorf("[::]:5000: %s port %s, %v", host, port, err)
	}
}

func addressOf(t *testing.T, text string) net.Addr {
	t.Helper()
	address, err := net.ResolveTCPAddr("tcp", text)
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestTheBackendDockerSaysWhatItLacks(t *testing.T) {
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(t.TempDir(), "none.sock"))
	for want, args := range map[string][]string{
		"Docker does not answer": nil,
		"leave --state out":      {"--state=" + filepath.Join(t.TempDir(), "cloud.json")},
	} {
		command := newCommand(io.Discard)
		command.SetArgs(append([]string{"--backend=docker"}, args...))
		err := command.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, want one line with %q", args, err, want)
		}
	}
}
