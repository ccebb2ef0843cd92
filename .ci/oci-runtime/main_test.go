package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

const container = `{"ociVersion":"1.0.2","process":{"args":["init"],"oomScoreAdj":-500,
"capabilities":{"bounding":["CAP_CHOWN","CAP_SYS_RESOURCE"],"effective":["CAP_SYS_RESOURCE"]},
"rlimits":[{"type":"RLIMIT_NOFILE","hard":1e15,"soft":5},{"type":"RLIMIT_CORE","hard":1e15,"soft":1e15}]},"root":{"path":"rootfs"}}`

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func read(t *testing.T, file string) map[string]any {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var found map[string]any
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

// expectLowered looks at a process whose wishes were those of container.
func expectLowered(t *testing.T, process map[string]any) {
	t.Helper()
	capabilities := process["capabilities"].(map[string]any)
	if got := capabilities["bounding"].([]any); len(got) != 1 || got[0] != "CAP_CHOWN" {
		t.Errorf("bounding set %v", got)
	}
	if got := capabilities["effective"].([]any); len(got) != 0 {
		t.Errorf("effective set %v", got)
	}
	if process["oomScoreAdj"] != 0.0 {
		t.Errorf("OOM score %v", process["oomScoreAdj"])
	}
	limits := process["rlimits"].([]any)
	files, core := limits[0].(map[string]any), limits[1].(map[string]any)
	if files["hard"].(float64) >= 1e15 || files["soft"] != 5.0 {
		t.Errorf("open files %v", files)
	}
	if core["hard"] != 1e15 {
		t.Errorf("another limit %v", core)
	}
}

func TestAContainerAsksOnlyForWhatCanBeHad(t *testing.T) {
	file := write(t, "config.json", container)
	bundle := filepath.Dir(file)
	for _, args := range [][]string{{"--log", "x", "create", "--bundle", bundle, "id"}, {"run", "--bundle=" + bundle, "id"}, {"create", "-b", bundle, "id"}} {
		if got := specification(args); got != file {
			t.Errorf("%v: %q, want %q", args, got, file)
		}
	}
	if err := lower(file); err != nil {
		t.Fatal(err)
	}
	found := read(t, file)
	expectLowered(t, found["process"].(map[string]any))
	if root := found["root"].(map[string]any); root["path"] != "rootfs" || found["ociVersion"] != "1.0.2" {
		t.Errorf("the rest became %v", found)
	}
}

func TestAnExecAsksOnlyForWhatCanBeHad(t *testing.T) {
	var whole map[string]json.RawMessage
	if err := json.Unmarshal([]byte(container), &whole); err != nil {
		t.Fatal(err)
	}
	file := write(t, "process", string(whole["process"]))
	if got := specification([]string{"exec", "--process", file, "--detach", "id"}); got != file {
		t.Errorf("%q, want %q", got, file)
	}
	if err := lower(file); err != nil {
		t.Fatal(err)
	}
	expectLowered(t, read(t, file))
}

func TestOtherCommandsPassAsTheyAre(t *testing.T) {
	for _, args := range [][]string{{"state", "id"}, {"delete", "--force", "id"}, {"kill", "id", "9"}} {
		if got := specification(args); got != "" {
			t.Errorf("%v: %q", args, got)
		}
	}
}
