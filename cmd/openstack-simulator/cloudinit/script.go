package cloudinit

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"path"
	"strings"
)

// What cloud-init prints, in its own words, since whoever reads the console looks for them.
const (
	beganWords      = "Cloud-init v. simulated running 'modules:final'"
	finishedWords   = "Cloud-init v. simulated finished"
	badConfigWords  = "[WARNING]: Failed loading yaml blob. "
	unhandledWords  = "[WARNING]: Unhandled non-multipart (text/x-not-multipart) userdata: it is "
	bootFailedWords = "[WARNING]: Failed to run bootcmd module"
	runFailedWords  = "[WARNING]: Failed to run module scripts_user (scripts in " + scriptsDirectory + ")"
)

const (
	instanceDirectory = "/var/lib/cloud/instance"
	scriptsDirectory  = instanceDirectory + "/scripts"
	// heredocEnd cannot occur in base64.
	heredocEnd = "END-OF-FILE"
)

// Script is a shell script that does on a machine what cloud-init would do on its first boot, and in the same order:
// bootcmd, write_files, runcmd, scripts. It goes on after a failure, as cloud-init does, and its exit status says in
// the end whether there was one.
func (c *Config) Script() string {
	s := newScript()
	if len(c.Ignored) > 0 {
		s.say("[INFO]: not carried out here: " + strings.Join(c.Ignored, ", "))
	}
	if c.Unhandled != "" {
		s.fail(unhandledWords + c.Unhandled)
	}
	if len(c.BootCommands) > 0 {
		s.run("bootcmd", shellScript(c.BootCommands), bootFailedWords)
	}
	for _, f := range c.Files {
		s.write(f)
	}
	if len(c.RunCommands) > 0 {
		s.run("runcmd", shellScript(c.RunCommands), runFailedWords)
	}
	for i, text := range c.Scripts {
		s.run(fmt.Sprintf("part-%03d", i+1), text, runFailedWords)
	}
	return s.end()
}

// FailureScript is the script of a machine whose user data cannot be read.
func FailureScript(reason error) string {
	s := newScript()
	s.fail(badConfigWords + reason.Error())
	return s.end()
}

// script is a shell script in the making.
type script struct{ strings.Builder }

func newScript() *script {
	s := &script{}
	s.line("#!/bin/sh")
	s.line("failed=0")
	s.line("mkdir -p " + scriptsDirectory)
	s.say(beganWords)
	return s
}

func (s *script) line(text string) {
	s.WriteString(text)
	s.WriteByte('\n')
}

func (s *script) say(text string) { s.line("echo " + quote(text)) }

func (s *script) fail(text string) {
	s.say(text)
	s.line("failed=1")
}

// write makes a file, or adds to it.
func (s *script) write(f File) {
	redirect := ">"
	if f.Append {
		redirect = ">>"
	}
	target := quote(f.Path)
	s.line("mkdir -p " + quote(path.Dir(f.Path)))
	s.line(fmt.Sprintf("base64 -d %s %s <<'%s'", redirect, target, heredocEnd))
	s.line(base64.StdEncoding.EncodeToString([]byte(f.Content)))
	s.line(heredocEnd)
	s.line(fmt.Sprintf("chmod %s %s", quote(cmp.Or(f.Permissions, "0644")), target))
	s.line(fmt.Sprintf("chown %s %s", quote(cmp.Or(f.Owner, "root:root")), target))
}

// run executes a script under the interpreter that its first line names.
func (s *script) run(name, text, failureWords string) {
	file := scriptsDirectory + "/" + name
	s.write(File{Path: file, Content: text, Permissions: "0700"})
	s.line(fmt.Sprintf("%s || { failed=1; echo %s; }", quote(file), quote(failureWords)))
}

func (s *script) end() string {
	s.line(fmt.Sprintf(`echo "%s at $(date -R). Up $(cut -d' ' -f1 /proc/uptime) seconds"`, finishedWords))
	s.line("exit $failed")
	return s.String()
}

func shellScript(lines []string) string { return "#!/bin/sh\n" + strings.Join(lines, "\n") + "\n" }
