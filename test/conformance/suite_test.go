package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/sendan-io/sendan/cloud"
	"github.com/sendan-io/sendan/cloud/simulator"
)

// lacking is a front of a cloud without some of its services and extensions.
func lacking(services, extensions []string) func(http.Handler) http.Handler {
	return func(whole http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := httptest.NewRecorder()
			whole.ServeHTTP(answer, r)
			body := answer.Body.Bytes()
			switch {
			case strings.HasSuffix(r.URL.Path, "/auth/tokens"):
				body = without(body, []string{"token", "catalog"}, "type", services)
			case strings.HasSuffix(r.URL.Path, "/v2.0/extensions"):
				body = without(body, []string{"extensions"}, "alias", extensions)
			}
			for key, values := range answer.Header() {
				w.Header()[key] = values
			}
			w.Header().Del("Content-Length")
			w.WriteHeader(answer.Code)
			_, _ = w.Write(body)
		})
	}
}

// without is a JSON document in which a list, found by its path, lacks the items of some names.
func without(document []byte, path []string, key string, names []string) []byte {
	var whole map[string]any
	if json.Unmarshal(document, &whole) != nil {
		return document
	}
	inner := whole
	for _, step := range path[:len(path)-1] {
		inner, _ = inner[step].(map[string]any)
	}
	list, found := inner[path[len(path)-1]].([]any)
	if !found {
		return document
	}
	inner[path[len(path)-1]] = slices.DeleteFunc(list, func(item any) bool {
		name, _ := item.(map[string]any)[key].(string)
		return slices.Contains(names, name)
	})
	changed, err := json.Marshal(whole)
	if err != nil {
		return document
	}
	return changed
}

func TestWhatACloudLacksIsSkippedWithTheReason(t *testing.T) {
	at := simulated(t, lacking([]string{"load-balancer", "volumev3", "block-storage", "placement"}, []string{"standard-attr-tag", "quota_details", "trunk"}))
	s := newSuite(t, at.target, uuid.NewString())
	t.Run("suite", func(t *testing.T) { s.conduct(t, slices.Concat(operations(), provider())) })
	reasons := map[string]string{
		"load-balancer/providers":       "no load-balancer service in the catalog",
		"load-balancer/tree":            "no load-balancer service in the catalog",
		"block-storage/volume":          "no block-storage service in the catalog",
		"block-storage/volume-deletion": "it needs block-storage/volume, which did not pass",
		"placement/free":                "no placement service in the catalog",
		"network/tags":                  "Neutron has no extension standard-attr-tag",
		"network/quotas":                "Neutron has no extension quota_details",
		"network/trunk":                 "Neutron has no extension trunk",
	}
	for _, l := range s.report.lines {
		if l.feature == "provider/cluster" && os.Getenv("KUBEBUILDER_ASSETS") == "" {
			continue
		}
		want := line{l.feature, passed, l.detail}
		if why, lacks := reasons[l.feature]; lacks {
			want = line{l.feature, skipped, why}
		}
		if l != want {
			t.Errorf("%+v, want %+v", l, want)
		}
	}
	if got, want := len(s.report.lines), len(operations())+2; got != want {
		t.Errorf("%d lines, want %d", got, want)
	}
	at.wantEmpty(t)
}

func (at simulatedCloud) wantEmpty(t *testing.T) {
	t.Helper()
	if left := at.Objects().Total; left.Sum() != 0 {
		t.Errorf("left in the cloud: %v", left)
	}
}

func TestWhatDoesNotWorkIsFoundAndNothingIsLeft(t *testing.T) {
	at := simulated(t, nil)
	for _, fault := range []simulator.Fault{
		{Service: "network", Method: "POST", Path: "/v2.0/routers", AfterEffect: true, Status: http.StatusBadGateway},
		{Service: "network", Method: "POST", Path: "/v2.0/security-group-rules", Skip: 1, Status: http.StatusBadRequest},
	} {
		if err := at.AddFault(fault); err != nil {
			t.Fatal(err)
		}
	}
	s := newSuite(t, at.target, uuid.NewString())
	for _, f := range operations() {
		s.examine(t, f)
	}
	for feature, want := range map[string]line{
		"network/network":        {result: passed},
		"network/router":         {result: failed, detail: "HTTP 502"},
		"network/security-group": {result: failed, detail: `the class is "Config", want "Conflict"`},
		"network/port":           {result: skipped, detail: "it needs network/security-group"},
		"compute/server":         {result: skipped, detail: "it needs network/router"},
		"block-storage/volume":   {result: passed},
	} {
		if got := s.report.of(feature); got.result != want.result || !strings.Contains(got.detail, want.detail) {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	if at.Objects().Total["routers"] != 1 {
		t.Errorf("the router whose reply was lost is not there: %v", at.Objects().Total)
	}
	if err := s.clear(t.Context()); err != nil {
		t.Error(err)
	}
	at.wantEmpty(t)
}

func TestAWrongPasswordIsNotTriedAgainAndAgain(t *testing.T) {
	at := simulated(t, nil)
	at.identity.ApplicationCredentialSecret = "wrong"
	s := newSuite(t, at.target, uuid.NewString())
	for _, f := range operations() {
		s.examine(t, f)
	}
	if got := s.report.of("identity/login"); got.result != failed || !strings.Contains(got.detail, "Check the credentials") {
		t.Errorf("%+v", got)
	}
	if err := s.clear(t.Context()); cloud.ClassOf(err) != cloud.Auth {
		t.Error(err)
	}
	if got := at.TotalCalls(); got != 2 {
		t.Errorf("%d calls, want one login of the run and one of the clean-up", got)
	}
}

func TestALineOfTheTableStaysOne(t *testing.T) {
	r := &report{}
	r.add(lineOf("a", nil, "zone az1", 1500*time.Millisecond))
	r.add(lineOf("b/long", errors.New("one\nor | another"), "", time.Second))
	r.add(lineOf("c", fmt.Errorf("wrapped: %w", skipf("no %s", "Octavia")), "", time.Second))
	want := "| feature | result  | seconds, or reason |\n| ---     | ---     | --- |\n| a       | passed  | 1.5 s: zone az1 |\n" +
		"| b/long  | FAILED  | one or \\| another |\n| c       | skipped | no Octavia |\n"
	if got := r.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestCloudsYAMLIsFoundWhereOpenStacksOwnClientLooks(t *testing.T) {
	t.Setenv("OS_CACERT", "")
	directory := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	entry := "clouds:\n  one:\n    cacert: " + write("ca.pem", "the bundle") + "\n    auth: {auth_url: 'http://KEYSTONE', username: u, password: p, project_id: x, user_domain_id: default}\n"
	first, second := write("first", strings.ReplaceAll(entry, "KEYSTONE", "first")), write("second", strings.ReplaceAll(entry, "KEYSTONE", "second"))
	missing := filepath.Join(directory, "missing")

	for _, files := range [][]string{{first, second}, {missing, first, second}} {
		at, err := readTarget("one", files)
		if err != nil || at.identity.AuthURL != "http://first" || string(at.identity.CACert) != "the bundle" || string(at.secret["cacert"]) != "the bundle" {
			t.Errorf("%q: %v, %v", files, at.identity, err)
		}
	}
	for want, of := range map[string]struct{ name, file string }{
		"no clouds.yaml in any of":   {"one", missing},
		`which has: one; set`:        {"two", first},
		"OS_CLIENT_CONFIG_FILE":      {"one", missing},
		"cacert of cloud \"broken\"": {"broken", write("broken", "clouds: {broken: {cacert: "+missing+", auth: {auth_url: 'http://x', token: t}}}")},
	} {
		if _, err := readTarget(of.name, []string{of.file}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}

	t.Setenv("OS_CLIENT_CONFIG_FILE", second)
	if got := cloudsFiles(t); !slices.Equal(got, []string{second}) {
		t.Errorf("with OS_CLIENT_CONFIG_FILE it is looked for in %q", got)
	}
	t.Setenv("OS_CLIENT_CONFIG_FILE", "")
	t.Setenv("XDG_CONFIG_HOME", directory)
	if got, want := cloudsFiles(t)[1:], []string{filepath.Join(directory, "openstack", "clouds.yaml"), "/etc/openstack/clouds.yaml"}; !slices.Equal(got, want) {
		t.Errorf("it is looked for in %q, want %q after the present folder", got, want)
	}
}
