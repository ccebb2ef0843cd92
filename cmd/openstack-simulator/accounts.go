package main

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/sendan-io/sendan/cloud/simulator"
)

const defaultDomain = "Default"

func region(scenario *simulator.Scenario) string {
	if len(scenario.Regions) == 0 {
		return "RegionOne"
	}
	return scenario.Regions[0]
}

// cloudsYAML has an entry for each user of the scenario, named as the user. It leads to the project of the same name
// where the user has a role there, and to the first of the user's projects otherwise.
func cloudsYAML(scenario *simulator.Scenario, url string) ([]byte, error) {
	clouds := map[string]any{}
	for _, user := range scenario.Users {
		projects := slices.Sorted(maps.Keys(user.Roles))
		if len(projects) == 0 {
			continue
		}
		project := projects[0]
		if slices.Contains(projects, user.Name) {
			project = user.Name
		}
		clouds[user.Name] = map[string]any{
			"auth": map[string]any{
				"auth_url":            url + "/identity/v3",
				"username":            user.Name,
				"password":            user.Password,
				"user_domain_name":    cmp.Or(user.Domain, defaultDomain),
				"project_name":        project,
				"project_domain_name": projectDomain(scenario, project),
			},
			"region_name":          region(scenario),
			"identity_api_version": 3,
		}
	}
	return yaml.Marshal(map[string]any{"clouds": clouds})
}

func projectDomain(scenario *simulator.Scenario, name string) string {
	for _, project := range scenario.Projects {
		if project.Name == name {
			return cmp.Or(project.Domain, defaultDomain)
		}
	}
	return defaultDomain
}

// replaceFile writes a file that only the owner of its directory may read; a reader sees the old content or the new.
func replaceFile(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // gone already when all went well
	_, err = temporary.Write(content)
	if err == nil {
		err = giveToOwnerOf(filepath.Dir(path), temporary)
	}
	if err == nil {
		err = temporary.Sync()
	}
	if closed := temporary.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", temporary.Name(), err)
	}
	return os.Rename(temporary.Name(), path)
}
