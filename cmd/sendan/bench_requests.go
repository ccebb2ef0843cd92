package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/sendan-io/sendan/cmd/sendan/plane"
)

// requests of one program to the management API server. A conflict costs as much as a write, and has to be repeated.
type requests struct{ all, conflicts int }

func (r requests) since(before requests) requests {
	if r.all < before.all {
		return r // it was started anew and counts from zero
	}
	return requests{all: r.all - before.all, conflicts: r.conflicts - before.conflicts}
}

// managers tell how much they ask.
func managers() []string {
	return []string{plane.InfrastructureManager, plane.FleetManager, plane.CoreManager, plane.BootstrapManager, plane.ControlPlaneManager}
}

// managementRequests are those of each manager since it started.
func (b *benchmark) managementRequests(ctx context.Context) map[string]requests {
	apiServer := strings.TrimPrefix(b.plane.APIServerURL(), "https://")
	asked := map[string]requests{}
	for _, program := range managers() {
		metrics, err := readMetrics(ctx, b.cloud.client, b.plane.DiagnosticsURL(program))
		if err != nil {
			continue // it ended, which is counted elsewhere
		}
		asked[program] = parseRequests(metrics, apiServer)
	}
	return asked
}

func readMetrics(ctx context.Context, client *http.Client, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return string(text), err
}

// requestSeries is a line such as rest_client_requests_total{code="200",host="127.0.0.1:6443",method="GET"} 42.
var requestSeries = regexp.MustCompile(`^rest_client_requests_total\{code="([^"]*)",host="([^"]*)",method="[^"]*"\} (\S+)$`)

// parseRequests counts those to one host: managers talk to tenant clusters as well.
func parseRequests(metrics, host string) requests {
	var r requests
	for lines := bufio.NewScanner(strings.NewReader(metrics)); lines.Scan(); {
		series := requestSeries.FindStringSubmatch(lines.Text())
		if len(series) == 0 || series[2] != host {
			continue
		}
		count, err := strconv.ParseFloat(series[3], 64)
		if err != nil {
			continue
		}
		r.all += int(count)
		if series[1] == strconv.Itoa(http.StatusConflict) {
			r.conflicts += int(count)
		}
	}
	return r
}
