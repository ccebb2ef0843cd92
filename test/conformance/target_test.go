package conformance

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// target is the cloud to run against, as package cloud and the provider need it.
type target struct {
	identity cloud.Identity
	secret   map[string][]byte // what the provider reads
	options  cloud.Options
}

// realCloud is an entry of the clouds.yaml that OpenStack's own client would read.
func realCloud(t testing.TB, name string) target {
	t.Helper()
	at, err := readTarget(name, cloudsFiles(t))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// cloudsFiles are the places of clouds.yaml, the first one there counts.
func cloudsFiles(t testing.TB) []string {
	files := []string{fromRoot(t, "clouds.yaml"), "/etc/openstack/clouds.yaml"}
	if home, err := os.UserConfigDir(); err == nil {
		files = []string{files[0], filepath.Join(home, "openstack", "clouds.yaml"), files[1]}
	}
	if named := os.Getenv("OS_CLIENT_CONFIG_FILE"); named != "" {
		return []string{fromRoot(t, named)}
	}
	return files
}

func readTarget(name string, files []string) (target, error) {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return target{}, err
		}
		return parseTarget(name, file, text)
	}
	return target{}, fmt.Errorf("no clouds.yaml in any of %q: write one, or name it with OS_CLIENT_CONFIG_FILE", files)
}

func parseTarget(name, file string, text []byte) (target, error) {
	identity, err := cloud.ParseCloudsYAML(text, name)
	if err != nil {
		return target{}, fmt.Errorf("%s: %w", file, err)
	}
	at := target{identity: identity, secret: map[string][]byte{"clouds.yaml": text}, options: cloud.Options{UserAgent: "sendan-conformance"}}
	bundle, err := readBundle(identity.CloudName, text)
	if err != nil {
		return target{}, fmt.Errorf("%s: cacert of cloud %q: %w", file, identity.CloudName, err)
	}
	if bundle != nil {
		at.identity, at.secret["cacert"] = identity.WithCACert(bundle), bundle
	}
	return at, nil
}

// readBundle reads the certificate authority that an entry names by its path, as OpenStack's own client does. Sendan takes no
// paths, since they mean nothing in a Secret.
func readBundle(name string, text []byte) ([]byte, error) {
	var file struct {
		Clouds map[string]struct {
			CACert string `yaml:"cacert"`
		} `yaml:"clouds"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, err
	}
	path := cmp.Or(os.Getenv("OS_CACERT"), file.Clouds[name].CACert)
	if path == "" || bytes.Contains([]byte(path), []byte("-----BEGIN")) {
		return nil, nil
	}
	return os.ReadFile(path)
}

// simulatedCloud is the simulator, to look behind what it answers.
type simulatedCloud struct {
	target
	*simulator.Simulator
}

// simulated is a quick cloud in this process. The credentials are an application credential, as clusters should have them. Where
// front is given, it stands between the cloud and its clients.
func simulated(t testing.TB, front func(http.Handler) http.Handler) simulatedCloud {
	t.Helper()
	scenario := simulator.DefaultScenario()
	moment := simulator.Exactly(100 * time.Millisecond)
	scenario.Latency = simulator.Latencies{
		ServerBuild: moment, ServerDelete: moment, ServerPower: moment, PortActive: moment, VolumeCreate: moment, VolumeDelete: moment, VolumeAttach: moment,
		LoadBalancerCreate: moment, LoadBalancerUpdate: moment, LoadBalancerDelete: moment,
	}
	scenario.PlacementReadable = true
	sim, err := simulator.New(simulator.Options{Scenario: &scenario, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	handler := http.Handler(sim)
	if front != nil {
		handler = front(handler)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(func() { server.Close(); sim.Close() })
	account, err := sim.CredentialAccount("demo")
	if err != nil {
		t.Fatal(err)
	}
	at, err := parseTarget("simulator", "the simulator's clouds.yaml", account.CloudsYAML(server.URL, "simulator"))
	if err != nil {
		t.Fatal(err)
	}
	at.options.RequestsPerSecond, at.options.Burst = 1000, 1000
	at.options.Polling.Building = 100 * time.Millisecond
	return simulatedCloud{target: at, Simulator: sim}
}
