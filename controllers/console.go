package controllers

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

const (
	// consoleLines is how much of a console is asked for. kubeadm says a lot before it fails, and cloud-init still some
	// lines after that.
	consoleLines = 80
	// shownLines and shownBytes are how much of it a condition shows.
	shownLines = 10
	shownBytes = 1024
)

// failedBoot are the words of cloud-init, and of systemd about it, that mean that a first boot went wrong for good. A
// failure of a module that has nothing to do with the node, such as ntp, is not among them.
var failedBoot = []*regexp.Regexp{
	regexp.MustCompile(`Failed to run module (scripts[_-]user|runcmd|write[_-]files|bootcmd)`),
	regexp.MustCompile(`Failed to run bootcmd`),
	regexp.MustCompile(`Failed loading yaml blob`),
	regexp.MustCompile(`Unhandled non-multipart \(text/x-not-multipart\) userdata`),
	regexp.MustCompile(`Failed to start cloud-(final|config|init)\.service`),
}

var (
	terminalCodes = regexp.MustCompile("\x1b\\[[0-9;?]*[[:alpha:]@~]")
	// secrets are what kubeadm prints that lets others in: bootstrap tokens, and keys and hashes in hex.
	secrets = regexp.MustCompile(`\b[a-z0-9]{6}\.[a-z0-9]{16}\b|\b[0-9a-f]{64}\b`)
)

// describeFailedBoot says what a console tells about a first boot that failed, and nothing about any other.
func describeFailedBoot(serverID, console string) string {
	lines := readable(console)
	evidence := ""
	for _, line := range lines {
		for _, words := range failedBoot {
			if evidence == "" && words.MatchString(line) {
				evidence = strings.TrimSpace(line)
			}
		}
	}
	if evidence == "" {
		return ""
	}
	return fmt.Sprintf("The first boot of server %s failed: %s\nSee `openstack console log show %[1]s`, and mend the kubeadm config or the image. "+
		"Delete the Machine, or let a MachineHealthCheck, to have it replaced. Its console ends with:\n%[3]s", serverID, truncate(evidence, shownBytes/2), tail(lines))
}

// readable is a console without what only a terminal understands, without empty lines and without secrets.
func readable(console string) []string {
	var lines []string
	for line := range strings.Lines(secrets.ReplaceAllString(terminalCodes.ReplaceAllString(console, ""), "(secret)")) {
		line = strings.Map(func(r rune) rune {
			if unicode.IsPrint(r) {
				return r
			}
			return -1
		}, strings.ReplaceAll(line, "\t", " "))
		if strings.TrimSpace(line) != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// tail is the end of a console, whole lines as far as possible.
func tail(lines []string) string {
	lines = lines[max(0, len(lines)-shownLines):]
	for len(lines) > 1 && len(strings.Join(lines, "\n")) > shownBytes {
		lines = lines[1:]
	}
	return truncate(strings.Join(lines, "\n"), shownBytes)
}
