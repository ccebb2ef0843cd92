package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"

	"sigs.k8s.io/cluster-api/test/framework/clusterctl"
)

// templates are what our kustomizations are called in the repository, by the label of the provider they belong to.
var templates = map[string]map[string]string{
	"infrastructure-sendan": {
		"cluster-template":                         "cluster-template.yaml",
		"cluster-template-taints":                  "cluster-template-taints.yaml",
		"cluster-template-kcp-remediation":         "cluster-template-kcp-remediation.yaml",
		"cluster-template-external-cloud-provider": "cluster-template-external-cloud-provider.yaml",
		"cluster-template-topology":                "cluster-template-topology.yaml",
		"clusterclass-sendan":                      "clusterclass-sendan.yaml",
	},
	"infrastructure-docker": {"cluster-template-capd": "cluster-template.yaml"},
}

// addTemplates puts our templates into every version of their provider in the repository.
func addTemplates(ctx context.Context) error {
	pause, err := pauseImage(ctx)
	if err != nil {
		return err
	}
	for label, ofProvider := range templates {
		versions, err := filepath.Glob(filepath.Join(*repositoryDir, label, "v*"))
		if err != nil || len(versions) == 0 {
			return fmt.Errorf("the repository %s has no %s; `make e2e` writes it", *repositoryDir, label)
		}
		for directory, file := range ofProvider {
			rendered, err := kustomize(ctx, filepath.Join(*sourceDir, "data", directory))
			if err != nil {
				return err
			}
			rendered = []byte(strings.ReplaceAll(string(rendered), "PAUSE_IMAGE", pause))
			for _, version := range versions {
				if err := os.WriteFile(filepath.Join(version, file), rendered, 0o600); err != nil {
					return fmt.Errorf("add template: %w", err)
				}
			}
		}
	}
	return nil
}

// kustomize lets a kustomization use the templates of users, which are not below it.
func kustomize(ctx context.Context, directory string) ([]byte, error) {
	command := exec.CommandContext(ctx, filepath.Join(*toolsDir, "kubectl"), "kustomize", "--load-restrictor=LoadRestrictionsNone", directory)
	output, err := command.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("kustomize %s: %w", directory, said(string(output), err))
	}
	return output, nil
}

var pauseImagePattern = regexp.MustCompile(`Image:\s+"([^"]+/pause:[^"]+)"`)

// pauseImage is what upstream's specs let pods run. They have no setting for it.
func pauseImage(ctx context.Context) (string, error) {
	command := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api/test")
	command.Dir = *sourceDir
	directory, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("find the source of upstream's specs: %w", err)
	}
	source, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(directory)), "framework", "deployment_helpers.go"))
	if err != nil {
		return "", fmt.Errorf("find the pause image of upstream's specs: %w", err)
	}
	found := pauseImagePattern.FindSubmatch(source)
	if found == nil {
		return "", fmt.Errorf("upstream's specs run no pause image any more: remove PAUSE_IMAGE from data/clusterclass-sendan")
	}
	return string(found[1]), nil
}

// providerImages are what has to be on the nodes of a management cluster.
func providerImages() ([]string, error) {
	content, err := os.ReadFile(filepath.Join(*repositoryDir, "images"))
	if err != nil {
		return nil, fmt.Errorf("read the images of the repository: %w; `make e2e` writes it", err)
	}
	return strings.Fields(string(content)), nil
}

// configureClusterctl writes clusterctl's configuration: the repository's, with variables.
func configureClusterctl(ctx context.Context, file string, variables map[string]string) error {
	return clusterctl.CopyAndAmendClusterctlConfig(ctx, clusterctl.CopyAndAmendClusterctlConfigInput{
		ClusterctlConfigPath: filepath.Join(*repositoryDir, "clusterctl.yaml"), OutputPath: file, Variables: variables,
	})
}

func readConfig() (*clusterctl.E2EConfig, error) {
	content, err := os.ReadFile(filepath.Join(*sourceDir, "data", "e2e.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	config := &clusterctl.E2EConfig{}
	if err := yaml.UnmarshalStrict(content, config); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return config, nil
}
