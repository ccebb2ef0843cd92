package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"

	. "github.com/onsi/gomega"
)

// docker runs a command and returns its output; its error is the last line of what the command said.
func docker(ctx context.Context, args ...string) (string, error) {
	output, err := exec.CommandContext(ctx, "docker", args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w", args[0], said(string(output), err))
	}
	return string(output), nil
}

func said(output string, err error) error {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return errors.New(last)
	}
	return err
}

// requireDocker says in one line what is missing.
func requireDocker(ctx context.Context, images ...string) error {
	if _, err := docker(ctx, "version"); err != nil {
		return fmt.Errorf("real nodes need Docker, and it does not answer: %w; .ci/docker starts one on Debian", err)
	}
	for _, image := range images {
		if _, err := docker(ctx, "image", "inspect", image); err != nil {
			return fmt.Errorf("find image %q: %w; `make e2e` builds it", image, err)
		}
	}
	if _, err := docker(ctx, "run", "--rm", "--privileged", "--entrypoint", "true", images[0]); err != nil {
		return fmt.Errorf("start a privileged container: %w; nodes are such containers", err)
	}
	return nil
}

// containers are the names of those with a label, stopped ones as well.
func containers(ctx context.Context, label string) ([]string, error) {
	output, err := docker(ctx, "ps", "--all", "--filter", "label="+label, "--format", "{{.Names}}")
	return strings.Fields(output), err
}

// addressOn is a container's address on a network.
func addressOn(ctx context.Context, container, network string) (string, error) {
	output, err := docker(ctx, "inspect", "--format", `{{(index .NetworkSettings.Networks "`+network+`").IPAddress}}`, container)
	address := strings.TrimSpace(output)
	if err == nil && address == "" {
		err = fmt.Errorf("container %s has no address on network %s; `docker logs %s` tells why it ended", container, network, container)
	}
	return address, err
}

// loadImages copies images from Docker into the container runtime of a node.
func loadImages(ctx context.Context, container string, images []string) error {
	reader, writer := io.Pipe()
	save := exec.CommandContext(ctx, "docker", append([]string{"save"}, images...)...)
	save.Stdout = writer
	if err := save.Start(); err != nil {
		return fmt.Errorf("save images: %w", err)
	}
	go func() { _ = writer.CloseWithError(save.Wait()) }()
	load := exec.CommandContext(ctx, "docker", "exec", "--interactive", container, "ctr", "-n", "k8s.io", "images", "import", "-")
	load.Stdin = reader
	if output, err := load.CombinedOutput(); err != nil {
		return fmt.Errorf("load images into %s: %w", container, said(string(output), err))
	}
	return nil
}

func kubectl(ctx context.Context, kubeconfig string, args ...string) {
	output, err := exec.CommandContext(ctx, filepath.Join(*toolsDir, "kubectl"), append(args, "--kubeconfig", kubeconfig)...).CombinedOutput()
	Expect(err).NotTo(HaveOccurred(), string(output))
}
