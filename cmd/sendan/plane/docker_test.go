package plane

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// fakeDocker puts a docker command on the path that notes its arguments and behaves as a script says. It returns the
// file with the notes.
func fakeDocker(t *testing.T, script string) string {
	t.Helper()
	dir := t.TempDir()
	notes := filepath.Join(dir, "notes")
	text := "#!/bin/sh\necho \"$@\" >>" + notes + "\n" + script + "\n"
	if err := os.WriteFile(filepath.Join(dir, "docker"), []byte(text), 0o755); err != nil { //nolint:gosec // it is to be executed
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/usr/bin:/bin")
	return notes
}

func TestWhatRealNodesLackIsToldInOneLine(t *testing.T) {
	cloud := newContainerCloud("/state")
	for want, script := range map[string]string{
		"it does not answer: permission denied; start it":                                `echo "Client: 1.0"; echo "permission denied" >&2; exit 1`,
		"find image sendan/node:v1: No such image: sendan/node:v1; `make images` builds": `case "$*" in "image inspect"*) echo "No such image: $3" >&2; exit 1;; esac`,
		"make a network for the cloud: pool is full":                                     `case "$*" in "network create"*) echo "pool is full" >&2; exit 1;; esac`,
	} {
		fakeDocker(t, script)
		err := cloud.prepare(t.Context(), "sendan/node:v1")
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want one line with %q", err, want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if err := cloud.prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "there is no docker command") {
		t.Errorf("without docker: %v", err)
	}
}

func TestACloudReplacesWhatAnEarlierRunLeft(t *testing.T) {
	notes := fakeDocker(t, "")
	cloud := newContainerCloud("/state")
	program := cloud.program(Layout{Dir: "/state"}, "simulator:dev", "node:v1", []string{"--url-file=/state/url"})
	if output, err := exec.CommandContext(t.Context(), program.Path, program.Args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	text, err := os.ReadFile(notes)
	if err != nil {
		t.Fatal(err)
	}
	removal, run, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
	if removal != "rm --force --volumes "+cloud.name {
		t.Errorf("first %q", removal)
	}
	for _, want := range []string{
		"run --rm --name " + cloud.name, "--network " + cloud.name, "--privileged --pid host", "--volume /state:/state",
		"simulator:dev --listen=0.0.0.0:5000 --backend=docker --node-image=node:v1 --url-file=/state/url",
	} {
		if !strings.Contains(run, want) {
			t.Errorf("then %q, want %q in it", run, want)
		}
	}
}

func TestCloudsOfDifferentStateDirectoriesDoNotMeet(t *testing.T) {
	if first, second := newContainerCloud("/a"), newContainerCloud("/b"); first == second {
		t.Errorf("both are called %s", first.name)
	}
}

func TestTheServersOfACloudAreThoseOfItsLabel(t *testing.T) {
	notes := fakeDocker(t, "printf 'one\\ntwo\\n'")
	cloud := newContainerCloud("/state")
	names, err := cloud.servers(t.Context(), true)
	if err != nil || strings.Join(names, " ") != "one two" {
		t.Errorf("%v, %v", names, err)
	}
	text, _ := os.ReadFile(notes)
	if !strings.Contains(string(text), "label=io.sendan.simulator="+cloud.name) {
		t.Errorf("asked for %q", text)
	}
}
