package scale

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"k8s.io/client-go/rest"

	"github.com/sendan-io/sendan/test/envtest"
)

const (
	systemNamespace = "sendan-fleet-system"
	startsWithin    = 5 * time.Minute
	stopsWithin     = 30 * time.Second
)

// manager is one of Sendan's managers as it is shipped: the program, in a process of its own.
type manager struct {
	program   string
	arguments []string
	command   *exec.Cmd
	log       string
	apiServer string

	webhooks                      int
	health, diagnostics, profiler string
}

// buildProgram builds one of cmd, with this repository's go.mod and not the test's.
func buildProgram(t testing.TB, name string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	command := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/"+name)
	command.Dir = envtest.RepositoryFile(t)
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, output)
	}
	return program
}

// newManager chooses where the manager listens. It can be started more than once.
func newManager(t testing.TB, env *envtest.Env, program string, arguments ...string) *manager {
	t.Helper()
	host, err := url.Parse(env.Config.Host)
	if err != nil {
		t.Fatal(err)
	}
	ports := freePorts(t, 4)
	m := &manager{
		program: program, log: filepath.Join(t.TempDir(), filepath.Base(program)+".log"), apiServer: cmp.Or(host.Host, env.Config.Host),
		webhooks: ports[0], health: loopback(ports[1]), diagnostics: loopback(ports[2]), profiler: loopback(ports[3]),
	}
	m.arguments = append([]string{
		"--kubeconfig=" + env.Kubeconfig, "--webhook-port=" + strconv.Itoa(m.webhooks), "--webhook-cert-dir=" + env.CertDir,
		"--health-addr=" + m.health, "--diagnostics-address=" + m.diagnostics, "--insecure-diagnostics", "--profiler-address=" + m.profiler,
	}, arguments...)
	t.Cleanup(func() {
		m.stop(t)
		if t.Failed() {
			t.Logf("%s said last:\n%s", m.name(), tail(m.log, 30))
		}
	})
	return m
}

func (m *manager) name() string { return filepath.Base(m.program) }

// start returns when the manager answers. It goes on in the log of an earlier run.
func (m *manager) start(t testing.TB) {
	t.Helper()
	log, err := os.OpenFile(m.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the process has its own copy
	m.command = exec.Command(m.program, m.arguments...)
	m.command.Env = slices.DeleteFunc(os.Environ(), func(variable string) bool { return strings.HasPrefix(variable, "GOGC=") }) // of the API server
	m.command.Stdout, m.command.Stderr = log, log
	if err := m.command.Start(); err != nil {
		t.Fatal(err)
	}
	envtest.Eventually(t, startsWithin, func() error {
		_, err := fetch(t.Context(), m.health, "/readyz")
		return err
	})
}

// stop also tells whether it ended as it should.
func (m *manager) stop(t testing.TB) {
	t.Helper()
	if m.command == nil {
		return
	}
	_ = m.command.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(stopsWithin, func() { _ = m.command.Process.Kill() })
	defer kill.Stop()
	if err := m.command.Wait(); err != nil {
		t.Errorf("%s ended with %v", m.name(), err)
	}
	m.command = nil
}

// memoryMiB is what the process has resident, and the most that it had.
func (m *manager) memoryMiB(t testing.TB) (now, peak int) {
	t.Helper()
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", m.command.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = status.Close() }()
	fields := map[string]int{}
	for lines := bufio.NewScanner(status); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB")); err == nil {
			fields[name] = kib >> 10
		}
	}
	return fields["VmRSS"], fields["VmHWM"]
}

// toManagement counts the requests to the management cluster that the process has made.
func (m *manager) toManagement(t testing.TB) (reads, writes int) {
	t.Helper()
	text, err := fetch(t.Context(), m.diagnostics, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, series := range metric(t, text, "rest_client_requests_total") {
		labels := labels(series)
		switch count := int(series.GetCounter().GetValue()); {
		case labels["host"] != m.apiServer:
		case labels["method"] == http.MethodGet:
			reads += count
		default:
			writes += count
		}
	}
	return reads, writes
}

// processorSeconds is how much time of one core the process has taken.
func (m *manager) processorSeconds(t testing.TB) float64 {
	t.Helper()
	text, err := fetch(t.Context(), m.diagnostics, "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	series := metric(t, text, "process_cpu_seconds_total")
	if len(series) != 1 {
		t.Fatalf("%s does not tell process_cpu_seconds_total", m.name())
	}
	return series[0].GetCounter().GetValue()
}

// objectWrites count the writes to a management cluster by what was written, whoever did it.
type objectWrites map[string]int

func countObjectWrites(t testing.TB, env *envtest.Env) objectWrites {
	t.Helper()
	counts := objectWrites{}
	for _, series := range metric(t, apiServerMetrics(t, env), "apiserver_request_total") {
		labels := labels(series)
		if slices.Contains([]string{"APPLY", "DELETE", "PATCH", "POST", "PUT"}, labels["verb"]) {
			counts[strings.TrimSuffix(labels["resource"]+"/"+labels["subresource"], "/")] += int(series.GetCounter().GetValue())
		}
	}
	return counts
}

// since leaves out what was not written meanwhile, and the API server's own leases.
func (w objectWrites) since(before objectWrites) objectWrites {
	more := objectWrites{}
	for resource, count := range w {
		if count > before[resource] && resource != "leases" {
			more[resource] = count - before[resource]
		}
	}
	return more
}

func apiServerMetrics(t testing.TB, env *envtest.Env) string {
	t.Helper()
	transport, err := rest.HTTPClientFor(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, strings.TrimSuffix(env.Config.Host, "/")+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := answer(transport, request)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// metric is all series of one name in what a program tells at /metrics.
func metric(t testing.TB, text, name string) []*dto.Metric {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return families[name].GetMetric()
}

func labels(series *dto.Metric) map[string]string {
	labels := map[string]string{}
	for _, pair := range series.GetLabel() {
		labels[pair.GetName()] = pair.GetValue()
	}
	return labels
}

func fetch(ctx context.Context, address, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return "", err
	}
	return answer(http.DefaultClient, request)
}

func answer(client *http.Client, request *http.Request) (string, error) {
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", request.URL, response.Status)
	}
	return string(body), err
}

// freePorts are below those that connections are given, so that they are free again when the program is started once more.
func freePorts(t testing.TB, count int) []int {
	t.Helper()
	const first, last = 20000, 30000
	var ports []int
	var listeners []net.Listener // all at once, so that no port is chosen twice
	for len(ports) < count {
		port := first + rand.IntN(last-first) //nolint:gosec // nobody has to guess it
		listener, err := net.Listen("tcp", loopback(port))
		if err != nil {
			continue // somebody has it
		}
		listeners, ports = append(listeners, listener), append(ports, port)
	}
	for _, listener := range listeners {
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return ports
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func tail(file string, lines int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
