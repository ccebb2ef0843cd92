package plane

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestAStateDirectoryServesOneAtATime(t *testing.T) {
	file := filepath.Join(t.TempDir(), "lock")
	unlock, err := lockState(file)
	if err != nil {
		t.Fatal(err)
	}
	_, err = lockState(file)
	if err == nil || !strings.Contains(err.Error(), "process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("second lock: %v, want an error that names this process", err)
	}
	unlock()
	again, err := lockState(file)
	if err != nil {
		t.Fatalf("the lock was not released: %v", err)
	}
	again()
}

func TestDiscardRemovesOnlyStateThatIsNotInUse(t *testing.T) {
	t.Run("what is not there", func(t *testing.T) {
		if err := Discard(filepath.Join(t.TempDir(), "none")); err != nil {
			t.Error(err)
		}
	})
	t.Run("an earlier run", func(t *testing.T) {
		dir := stateDir(t)
		if err := Discard(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("the directory is still there: %v", err)
		}
	})
	t.Run("a run in progress", func(t *testing.T) {
		dir := stateDir(t)
		unlock, err := lockState(Layout{Dir: dir}.lock())
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		if err := Discard(dir); err == nil {
			t.Error("state in use was removed")
		}
	})
	t.Run("somebody's documents", func(t *testing.T) {
		dir := t.TempDir()
		letter := filepath.Join(dir, "letter.txt")
		if err := os.WriteFile(letter, []byte("Dear"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Discard(dir); err == nil {
			t.Error("no error")
		}
		if _, err := os.Stat(letter); err != nil {
			t.Error(err)
		}
	})
}

func TestTailShowsTheLastLines(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	long := strings.Repeat("x", tailBytes) + "\none\ntwo\nthree\n\n"
	if err := os.WriteFile(file, []byte(long), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Tail(file, 2); got != "two\nthree" {
		t.Errorf("tail is %q", got)
	}
	if got := Tail(file+".none", 2); !strings.Contains(got, "no such file") {
		t.Errorf("tail of a missing file is %q", got)
	}
}

func TestLogsOfTheRunBeforeAreKept(t *testing.T) {
	layout := Layout{Dir: t.TempDir()}
	if err := layout.create(); err != nil {
		t.Fatal(err)
	}
	for _, run := range []string{"first", "second"} {
		if err := rotateLogs(layout.Logs()); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(layout.Log("etcd"), []byte(run), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(read(t, filepath.Join(layout.Logs(), "etcd.previous"))); got != "first" {
		t.Errorf("the kept log is of the %s run", got)
	}
}

// stateDir is one that a plane has used.
func stateDir(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "state")
	layout := Layout{Dir: dir}
	if err := layout.create(); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockState(layout.lock())
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	return dir
}

func TestMissingProgramsAreNamedTogetherWithWhatToDo(t *testing.T) {
	tools := t.TempDir()
	if err := os.WriteFile(filepath.Join(tools, Etcd), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Start(t.Context(), Options{StateDir: t.TempDir(), ToolsDir: tools, ProgramsDir: "/nowhere"})
	if err == nil {
		t.Fatal("the start succeeded")
	}
	for _, want := range []string{tools + " has no kube-apiserver, ", "make tools", "/nowhere has no infrastructure-manager, fleet-manager, openstack-simulator", "make build"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q: %v", want, err)
		}
	}
}
