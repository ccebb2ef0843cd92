package cloudinit

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// execute runs the script of some user data on this machine, below a directory instead of the root.
func execute(t *testing.T, userData string) (root, console string, err error) {
	t.Helper()
	root = t.TempDir()
	config, err := Parse([]byte(strings.ReplaceAll(userData, "ROOT", root)), machine())
	if err != nil {
		t.Fatal(err)
	}
	for i := range config.Files {
		config.Files[i].Owner = ownerOfTest(t)
	}
	text := strings.ReplaceAll(config.Script(), instanceDirectory, filepath.Join(root, "instance"))
	text = strings.ReplaceAll(text, "chown root:root", "chown "+ownerOfTest(t))
	output, err := exec.CommandContext(t.Context(), "sh", "-c", text).CombinedOutput()
	return root, string(output), err
}

func ownerOfTest(t *testing.T) string {
	t.Helper()
	output, err := exec.CommandContext(t.Context(), "sh", "-c", "echo $(id -u):$(id -g)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(output))
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestTheScriptDoesWhatTheUserDataSayInOrder(t *testing.T) {
	root, console, err := execute(t, `#cloud-config
bootcmd:
- test ! -e ROOT/etc/file && echo boot >> ROOT/order
write_files:
- path: ROOT/etc/file
  content: |
    it's "quoted" $HOME
- path: ROOT/etc/file
  append: true
  permissions: '0640'
  content: more
runcmd:
- cat ROOT/etc/file > ROOT/copy && echo run >> ROOT/order
- [sh, -c, 'echo "two words" >> ROOT/order']
`)
	if err != nil {
		t.Fatalf("%v:\n%s", err, console)
	}
	if got, want := read(t, root+"/order"), "boot\nrun\ntwo words\n"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
	if got, want := read(t, root+"/copy"), "it's \"quoted\" $HOME\nmore"; got != want {
		t.Errorf("file %q, want %q", got, want)
	}
	info, err := os.Stat(root + "/etc/file")
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("permissions %v, %v", info.Mode(), err)
	}
	if !strings.Contains(console, finishedWords) || strings.Contains(console, "WARNING") {
		t.Errorf("console:\n%s", console)
	}
}

func TestAFailedCommandIsOnTheConsoleAndInTheExitStatus(t *testing.T) {
	_, console, err := execute(t, "#cloud-config\nruncmd:\n- echo no such cluster >&2; false\n")
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Errorf("ended with %v", err)
	}
	for _, want := range []string{"no such cluster", "[WARNING]: Failed to run module scripts_user (scripts in ", finishedWords} {
		if !strings.Contains(console, want) {
			t.Errorf("no %q on the console:\n%s", want, console)
		}
	}
}

func TestOnlyTheLastCommandDecidesAsInAShell(t *testing.T) {
	if _, console, err := execute(t, "#cloud-config\nruncmd:\n- exit_status_1 || false\n- echo fine\n"); err != nil {
		t.Errorf("%v:\n%s", err, console)
	}
}

func TestUserDataThatAreAScriptAreRun(t *testing.T) {
	root, console, err := execute(t, "#!/bin/sh\necho yes > ROOT/ran\n")
	if err != nil || read(t, root+"/ran") != "yes\n" {
		t.Errorf("%v:\n%s", err, console)
	}
}

func TestUserDataThatCloudInitCannotReadFailTheBoot(t *testing.T) {
	for userData, want := range map[string]string{
		`{"ignition":{"version":"3.4.0"}}`: "an Ignition config",
		"hello: world\n":                   `text that begins with "hello: world" and not with #cloud-config`,
	} {
		_, console, err := execute(t, userData)
		if err == nil || !strings.Contains(console, unhandledWords+want) {
			t.Errorf("%s: %v:\n%s", userData, err, console)
		}
	}
	text := FailureScript(errors.New("line 3: it's no mapping"))
	text = strings.ReplaceAll(text, instanceDirectory, filepath.Join(t.TempDir(), "instance"))
	output, err := exec.CommandContext(t.Context(), "sh", "-c", text).CombinedOutput()
	if err == nil || !strings.Contains(string(output), badConfigWords+"line 3: it's no mapping") {
		t.Errorf("%v:\n%s", err, output)
	}
}

func TestModulesThatAreNotCarriedOutAreNamed(t *testing.T) {
	_, console, err := execute(t, "#cloud-config\nusers: []\nntp:\n  enabled: true\n")
	if err != nil || !strings.Contains(console, "not carried out here: ntp, users") {
		t.Errorf("%v:\n%s", err, console)
	}
}
