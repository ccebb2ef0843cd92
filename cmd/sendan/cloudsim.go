package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
)

// simulatedCloud asks the simulator's control API. What it asks is not among the counted calls.
type simulatedCloud struct {
	baseURL string
	client  *http.Client
}

// callCounts are the HTTP requests that the cloud has answered.
type callCounts struct {
	Total int         `json:"total"`
	Rows  []callCount `json:"calls"`
}

type callCount struct {
	Service string `json:"service"`
	Method  string `json:"method"`
	Count   int    `json:"count"`
}

// writes are those that may have changed the cloud; logging in does not.
func (c callCounts) writes() int {
	sum := 0
	for _, row := range c.Rows {
		if row.Method != http.MethodGet && row.Service != "identity" {
			sum += row.Count
		}
	}
	return sum
}

// calls is how many HTTP requests the cloud has answered.
func (c simulatedCloud) calls(ctx context.Context) (int, error) {
	counts, err := c.callCounts(ctx)
	return counts.Total, err
}

// writes is how many requests may have changed the cloud.
func (c simulatedCloud) writes(ctx context.Context) (int, error) {
	counts, err := c.callCounts(ctx)
	return counts.writes(), err
}

func (c simulatedCloud) callCounts(ctx context.Context) (callCounts, error) {
	var counts callCounts
	err := c.get(ctx, "/_simulator/calls", &counts)
	return counts, err
}

// objectCounts are counts by type, over all projects.
type objectCounts map[string]int

// total of all types.
func (c objectCounts) total() int {
	sum := 0
	for _, count := range c {
		sum += count
	}
	return sum
}

func (c objectCounts) String() string {
	var parts []string
	for _, kind := range slices.Sorted(maps.Keys(c)) {
		if c[kind] != 0 {
			parts = append(parts, fmt.Sprintf("%d %s", c[kind], kind))
		}
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// objects counts what was made in the cloud and is still there.
func (c simulatedCloud) objects(ctx context.Context) (objectCounts, error) {
	var answer struct {
		Total objectCounts `json:"total"`
	}
	err := c.get(ctx, "/_simulator/objects", &answer)
	return answer.Total, err
}

// server is one of the cloud's servers, as the cloud itself knows it.
type server struct {
	Name   string `json:"name"`
	Status string `json:"status"`
	Flavor string `json:"flavor"`
	Host   string `json:"host"`
}

func (c simulatedCloud) servers(ctx context.Context) ([]server, error) {
	var answer struct {
		Servers []server `json:"servers"`
	}
	err := c.get(ctx, "/_simulator/servers", &answer)
	return answer.Servers, err
}

// switchHost lets a hypervisor fail with all that runs on it, or brings it back.
func (c simulatedCloud) switchHost(ctx context.Context, name string, up bool) error {
	change := fmt.Sprintf(`{"up":%t}`, up)
	return c.ask(ctx, http.MethodPost, "/_simulator/hosts/"+name, change, &struct{}{})
}

func (c simulatedCloud) get(ctx context.Context, path string, answer any) error {
	return c.ask(ctx, http.MethodGet, path, "", answer)
}

func (c simulatedCloud) ask(ctx context.Context, method, path, body string, answer any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.baseURL+path, strings.NewReader(body))
	if err != nil {
		return fmt.Errorf("ask the simulator: %w", err)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return fmt.Errorf("ask the simulator: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the simulator: %s %s: %s", method, path, response.Status)
	}
	if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
		return fmt.Errorf("read the simulator's answer to %s %s: %w", method, path, err)
	}
	return nil
}
