package plane

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"time"
)

// DockerBackend is the name of the simulator's backend of real nodes.
const DockerBackend = "docker"

const (
	// cloudPort is where the simulator listens in its container.
	cloudPort = "5000"
	// cloudStopsWithin leaves time to remove the containers of many servers.
	cloudStopsWithin = time.Minute
	dockerSocket     = "/var/run/docker.sock"
)

// runCloud replaces what an earlier run left, which a killed plane cannot do itself.
const runCloud = `docker rm --force --volumes "$1" >/dev/null 2>&1; shift; exec docker run "$@"`

// containerCloud is a simulated cloud that runs in a container, so that its servers can be containers as well without
// anybody being root. It has a Docker network of its own, which is the cloud's external network.
type containerCloud struct {
	// name is that of the container and of the network. It follows from the state directory.
	name string
}

func newContainerCloud(stateDir string) containerCloud {
	return containerCloud{name: fmt.Sprintf("sendan-cloud-%.4x", sha256.Sum256([]byte(stateDir)))}
}

// prepare says in one line what is missing.
func (c containerCloud) prepare(ctx context.Context, images ...string) error {
	if _, err := exec.LookPath("docker"); err != nil {
		return errors.New("real nodes need Docker, and there is no docker command: install Docker, or leave out NODES=docker")
	}
	if _, err := docker(ctx, "version"); err != nil {
		return fmt.Errorf("real nodes need Docker, and it does not answer: %w; start it, and see that you may use it", err)
	}
	for _, image := range images {
		if _, err := docker(ctx, "image", "inspect", image); err != nil {
			return fmt.Errorf("find image %s: %w; `make images` builds it", image, err)
		}
	}
	c.remove(ctx)
	if _, err := docker(ctx, "network", "create", c.name); err != nil {
		return fmt.Errorf("make a network for the cloud: %w", err)
	}
	return nil
}

// remove takes away the network, and the container if it did not end by itself. What is not there is no error.
func (c containerCloud) remove(ctx context.Context) {
	_, _ = docker(ctx, "rm", "--force", "--volumes", c.name)
	_, _ = docker(ctx, "network", "rm", c.name)
}

// servers are the names of the containers that are servers of this cloud, of all or of those that run.
func (c containerCloud) servers(ctx context.Context, running bool) ([]string, error) {
	output, err := docker(ctx, "ps", fmt.Sprintf("--all=%t", !running), "--filter", "label=io.sendan.simulator="+c.name, "--format", "{{.Names}}")
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return strings.Fields(output), nil
}

// docker runs a command and returns its output; its error is the last line of what the command said.
func docker(ctx context.Context, args ...string) (string, error) {
	output, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err == nil {
		return string(output), nil
	}
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return "", errors.New(last)
	}
	return "", err
}

// program runs the simulator. Its files come out in the state directory, which has the same path inside.
func (c containerCloud) program(layout Layout, image, nodeImage string, args []string) Program {
	run := []string{
		"-c", runCloud, "sh", c.name,
		"--rm", "--name", c.name, "--network", c.name, "--privileged", "--pid", "host",
		"--volume", dockerSocket + ":" + dockerSocket, "--volume", layout.Dir + ":" + layout.Dir,
		image, "--listen=0.0.0.0:" + cloudPort, "--backend=" + DockerBackend, "--node-image=" + nodeImage,
	}
	return Program{
		Name: Simulator, Path: "/bin/sh", Args: append(run, args...),
		ReadyWithin: readyWithin, StopWithin: cloudStopsWithin,
	}
}

// forgetURL makes sure that what is written from now on is of this run.
func (l Layout) forgetURL() error {
	if err := os.Remove(l.SimulatorURL()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the last simulated cloud: %w", err)
	}
	return nil
}

// writtenURL is what the simulator says about itself once it serves.
func (l Layout) writtenURL() (string, error) {
	url, err := os.ReadFile(l.SimulatorURL())
	if err != nil {
		return "", fmt.Errorf("find the simulated cloud: %w", err)
	}
	return strings.TrimSpace(string(url)), nil
}
