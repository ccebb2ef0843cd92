// Command oci-runtime stands between Docker and runc on a machine that may not give away CAP_SYS_RESOURCE. Docker asks
// for that capability, for more open files and for protection from the OOM killer whenever a container is privileged,
// and runc fails if it cannot have them. This program takes those wishes out of what runc is given.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	runc       = "/usr/sbin/runc"
	notToBeHad = "CAP_SYS_RESOURCE"
	openFiles  = "RLIMIT_NOFILE"
	ownerOnly  = 0o600
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "oci-runtime:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if file := specification(args); file != "" {
		if err := lower(file); err != nil {
			return fmt.Errorf("change %s: %w", file, err)
		}
	}
	return syscall.Exec(runc, append([]string{runc}, args...), os.Environ())
}

// specification is the file that says what to run: a bundle's for a new container, the process's own for an exec.
func specification(args []string) string {
	switch {
	case slices.Contains(args, "create"), slices.Contains(args, "run"):
		return filepath.Join(option(args, "--bundle", "-b"), "config.json")
	case slices.Contains(args, "exec"):
		return option(args, "--process", "-p")
	}
	return ""
}

func option(args []string, names ...string) string {
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		if !slices.Contains(names, name) {
			continue
		}
		if joined {
			return value
		}
		if i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

// lower rewrites a specification; fields it does not know stay as they are.
func lower(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var specification map[string]any
	if err := json.Unmarshal(text, &specification); err != nil {
		return err
	}
	process := specification
	if inner, isContainer := specification["process"].(map[string]any); isContainer {
		process = inner
	}
	lowerCapabilities(process)
	lowerOpenFiles(process)
	if score, set := process["oomScoreAdj"].(float64); set && score < 0 {
		process["oomScoreAdj"] = 0
	}
	text, err = json.Marshal(specification)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, ownerOnly)
}

func lowerCapabilities(process map[string]any) {
	sets, _ := process["capabilities"].(map[string]any)
	for name, set := range sets {
		if list, ok := set.([]any); ok {
			sets[name] = slices.DeleteFunc(list, func(capability any) bool { return capability == notToBeHad })
		}
	}
}

func lowerOpenFiles(process map[string]any) {
	var most syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &most) != nil {
		return
	}
	limits, _ := process["rlimits"].([]any)
	for _, entry := range limits {
		limit, ok := entry.(map[string]any)
		if !ok || limit["type"] != openFiles {
			continue
		}
		for _, bound := range []string{"hard", "soft"} {
			if value, ok := limit[bound].(float64); ok && value > float64(most.Max) {
				limit[bound] = most.Max
			}
		}
	}
}
