package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	. "github.com/onsi/gomega"

	"github.com/sendan-io/sendan/cloud/simulator"
)

const (
	cloudAnswersWithin = 30 * time.Second
	controlWithin      = 10 * time.Second
)

// cloud is the simulated cloud. Each spec has a project of its own, so that what it leaves over is known to be its own.
type cloud struct {
	// Container runs the simulator; servers are containers with its name as a label.
	Container string
	URL       string
	// Clouds are the entries of clouds.yaml by project.
	Clouds map[string]json.RawMessage
}

// serverLabel is on a server's container, with the id of the server.
const serverLabel = "io.sendan.server"

func simulatorLabel(container string) string { return "io.sendan.simulator=" + container }

// startCloud starts the simulator, with what an earlier run left removed.
func startCloud(ctx context.Context, container string, projects []string) (*cloud, error) {
	c := &cloud{Container: container}
	if _, err := docker(ctx, "inspect", container); err != nil || !*keep {
		if err := c.start(ctx, projects); err != nil {
			return nil, err
		}
	}
	address, err := addressOn(ctx, container, dockerNetwork)
	if err != nil {
		return nil, err
	}
	c.URL = "http://" + address + ":5000"
	if err := c.awaitAnswer(ctx); err != nil {
		return nil, err
	}
	if err := c.readClouds(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *cloud) start(ctx context.Context, projects []string) error {
	if err := c.remove(ctx); err != nil {
		return err
	}
	scenario, err := yaml.Marshal(scenarioOf(projects))
	if err != nil {
		return fmt.Errorf("write scenario: %w", err)
	}
	file := filepath.Join(*artifactsDir, "scenario.yaml")
	if err := os.WriteFile(file, scenario, 0o600); err != nil {
		return fmt.Errorf("write scenario: %w", err)
	}
	if _, err := docker(ctx, "create", "--name", c.Container, "--network", dockerNetwork, "--privileged", "--pid", "host",
		"--volume", "/var/run/docker.sock:/var/run/docker.sock", *simulatorImage,
		"--backend=docker", "--listen=0.0.0.0:5000", "--clouds-yaml=/clouds.yaml", "--scenario=/scenario.yaml", "--node-image="+*nodeImage); err != nil {
		return err
	}
	if _, err := docker(ctx, "cp", file, c.Container+":/scenario.yaml"); err != nil {
		return err
	}
	_, err = docker(ctx, "start", c.Container)
	return err
}

// scenarioOf is the default cloud with more projects, each with an id and a user of the same name, and an application
// credential of that user.
func scenarioOf(projects []string) simulator.Scenario {
	scenario := simulator.DefaultScenario()
	for _, project := range projects {
		scenario.Projects = append(scenario.Projects, simulator.Project{Name: project, ID: project})
		scenario.Users = append(scenario.Users, simulator.User{
			Name: project, Password: project, Roles: map[string][]string{project: {"member", "load-balancer_member"}},
		})
		scenario.ApplicationCredentials = append(scenario.ApplicationCredentials, simulator.ApplicationCredential{
			Name: credentialOf(project), ID: credentialOf(project), Secret: credentialOf(project), User: project, Project: project,
		})
	}
	// A container takes the time it takes.
	scenario.Latency.ServerBuild, scenario.Latency.ServerDelete, scenario.Latency.ServerPower = simulator.Range{}, simulator.Range{}, simulator.Range{}
	return scenario
}

func (c *cloud) awaitAnswer(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cloudAnswersWithin)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.control(ctx, "health", nil)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(err, fmt.Errorf("`docker logs %s` tells more", c.Container))
		case <-tick.C:
		}
	}
}

func (c *cloud) readClouds(ctx context.Context) error {
	file := filepath.Join(*artifactsDir, "clouds.yaml")
	if _, err := docker(ctx, "cp", c.Container+":/clouds.yaml", file); err != nil {
		return err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	var accounts struct {
		Clouds map[string]json.RawMessage `json:"clouds"`
	}
	if err := yaml.Unmarshal(content, &accounts); err != nil {
		return fmt.Errorf("read accounts: %w", err)
	}
	c.Clouds = accounts.Clouds
	return nil
}

// cloudsYAML leads to a project, under the name that our templates expect.
func (c *cloud) cloudsYAML(project string) ([]byte, error) {
	account, known := c.Clouds[project]
	if !known {
		return nil, fmt.Errorf("the cloud has no project %q", project)
	}
	return yaml.Marshal(map[string]any{"clouds": map[string]any{"openstack": account}})
}

// region is where a project's clouds.yaml leads.
func (c *cloud) region(project string) string {
	var account struct {
		Region string `json:"region_name"`
	}
	Expect(json.Unmarshal(c.Clouds[project], &account)).To(Succeed())
	return account.Region
}

// remove ends the simulator, which removes its servers, unless somebody killed it.
func (c *cloud) remove(ctx context.Context) error {
	if _, err := docker(ctx, "stop", "--time", "40", c.Container); err != nil && !strings.Contains(err.Error(), "No such container") {
		return err
	}
	if _, err := docker(ctx, "rm", "--force", "--volumes", c.Container); err != nil && !strings.Contains(err.Error(), "No such container") {
		return err
	}
	left, err := containers(ctx, simulatorLabel(c.Container))
	if err != nil || len(left) == 0 {
		return err
	}
	_, err = docker(ctx, append([]string{"rm", "--force", "--volumes"}, left...)...)
	return err
}

// control asks the simulator's control API.
func (c *cloud) control(ctx context.Context, path string, out any) error {
	ctx, cancel := context.WithTimeout(ctx, controlWithin)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+"/_simulator/"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the cloud: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the cloud for %s: %s", path, response.Status)
	}
	if out == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(out)
}

// objects counts what a project has in the cloud, by type.
func (c *cloud) objects(ctx context.Context, project string) (simulator.ObjectCount, error) {
	var all simulator.Objects
	if err := c.control(ctx, "objects", &all); err != nil {
		return nil, err
	}
	return all.Projects[project].Objects, nil
}

// servers are a project's, by id.
func (c *cloud) servers(ctx context.Context, project string) (map[string]simulator.ServerState, error) {
	var all struct {
		Servers []simulator.ServerState `json:"servers"`
	}
	if err := c.control(ctx, "servers", &all); err != nil {
		return nil, err
	}
	servers := map[string]simulator.ServerState{}
	for _, server := range all.Servers {
		if server.Project == project {
			servers[server.ID] = server
		}
	}
	return servers, nil
}

// changes are the calls since a moment that made or removed something in a project. Tokens are not counted.
func (c *cloud) changes(ctx context.Context, project string, since time.Time) ([]string, error) {
	var all struct {
		Log []struct {
			Service, Method, URL, Project string
			Time                          time.Time
			Status                        int
		} `json:"log"`
	}
	if err := c.control(ctx, "calls/log", &all); err != nil {
		return nil, err
	}
	var changes []string
	for _, call := range all.Log {
		writes := call.Method == http.MethodPost || call.Method == http.MethodDelete
		if writes && call.Service != "identity" && call.Project == project && call.Time.After(since) {
			changes = append(changes, fmt.Sprintf("%s %s: %d", call.Method, call.URL, call.Status))
		}
	}
	return changes, nil
}

// serverContainer is the name of the container that a server is.
func (c *cloud) serverContainer(ctx context.Context, serverID string) (string, error) {
	found, err := containers(ctx, serverLabel+"="+serverID)
	if err != nil {
		return "", err
	}
	if len(found) != 1 {
		return "", fmt.Errorf("server %s is %d containers", serverID, len(found))
	}
	return found[0], nil
}
