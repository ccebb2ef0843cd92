package cloud

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
)

const certificateText = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"

func TestCloudsYAMLGivesAnIdentityForEveryWayToLogIn(t *testing.T) {
	cases := map[string]struct {
		yaml string
		want Identity
	}{
		"a password": {`
clouds:
  x:
    auth: {auth_url: "https://ks:5000/v3", username: u, password: pw, project_name: p, user_domain_name: Default, project_domain_name: Default}
    region_name: R`,
			Identity{CloudName: "x", AuthURL: "https://ks:5000/v3", Region: "R", Username: "u", Password: "pw", ProjectName: "p", UserDomainName: "Default", ProjectDomainName: "Default"}},
		"a password with ids and the old words": {`
clouds:
  x:
    auth_type: password
    auth: {auth_url: "https://ks", user_id: u1, password: 12345, tenant_id: p1}
    interface: publicURL
    identity_api_version: 3`,
			Identity{CloudName: "x", AuthURL: "https://ks", UserID: "u1", Password: "12345", ProjectID: "p1", Interface: "public"}},
		"one domain for user and project": {`
clouds:
  x:
    auth: {auth_url: "https://ks", username: u, password: pw, project_name: p, domain_name: D}`,
			Identity{CloudName: "x", AuthURL: "https://ks", Username: "u", Password: "pw", ProjectName: "p", UserDomainName: "D", ProjectDomainName: "D"}},
		"an application credential by id": {`
clouds:
  x:
    auth_type: v3applicationcredential
    auth: {auth_url: "https://ks", application_credential_id: ac, application_credential_secret: sec, username: ignored, password: ignored}`,
			Identity{CloudName: "x", AuthURL: "https://ks", ApplicationCredentialID: "ac", ApplicationCredentialSecret: "sec"}},
		"an application credential by name, its type left out": {`
clouds:
  x:
    auth: {auth_url: "https://ks", application_credential_name: ac, application_credential_secret: sec, username: u, user_domain_id: default}`,
			Identity{CloudName: "x", AuthURL: "https://ks", ApplicationCredentialName: "ac", ApplicationCredentialSecret: "sec", Username: "u", UserDomainID: "default"}},
		"a token": {`
clouds:
  x:
    auth_type: v3token
    auth: {auth_url: "https://ks", token: tok, project_id: p1}`,
			Identity{CloudName: "x", AuthURL: "https://ks", Token: "tok", ProjectID: "p1"}},
		"certificate checks turned off": {`
clouds:
  x:
    auth: {auth_url: "https://ks", token: tok, project_id: p1}
    auth_type: token
    verify: false`,
			Identity{CloudName: "x", AuthURL: "https://ks", Token: "tok", ProjectID: "p1", Insecure: true}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			for _, chosen := range []string{"x", ""} {
				got, err := ParseCloudsYAML([]byte(c.yaml), chosen)
				if err != nil {
					t.Fatalf("cloud %q: %v", chosen, err)
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("cloud %q:\n got %#v\nwant %#v", chosen, describe(got), describe(c.want))
				}
			}
		})
	}
}

// describe shows a test's made-up secrets, which printing an Identity does not.
func describe(i Identity) any {
	type open Identity
	return open(i)
}

func TestBadCloudsYAMLNamesFieldValueAndFix(t *testing.T) {
	entry := func(lines ...string) string {
		return "clouds:\n  x:\n    " + strings.Join(lines, "\n    ")
	}
	cases := map[string]struct {
		yaml, cloud string
		words       []string
	}{
		"no clouds":                 {"a: b", "x", []string{`"clouds"`, "add one"}},
		"entry missing":             {"clouds: {a: {}, b: {}}", "x", []string{`"x"`, "a, b", "set cloudName"}},
		"no name and several":       {"clouds: {a: {}, b: {}}", "", []string{"a, b"}},
		"malformed":                 {"clouds:\n  x:\n    auth: {\n", "x", []string{"line "}},
		"a tab":                     {"clouds:\n\tx: 1", "x", []string{"line 2"}},
		"auth is a text":            {entry("auth: hunter2"), "x", []string{"line 3"}},
		"auth_url missing":          {entry("auth: {username: u}"), "x", []string{"auth.auth_url is missing", `"x"`}},
		"auth_url garbage":          {entry(`auth: {auth_url: "ks:5000", username: u}`), "x", []string{`"ks:5000"`, "https://"}},
		"auth_url with a password":  {entry(`auth: {auth_url: "https://u:hunter2@ks", username: u}`), "x", []string{"auth_url holds", "auth.password"}},
		"unknown auth_type":         {entry(`auth: {auth_url: "https://ks"}`, "auth_type: v3oidcpassword"), "x", []string{`"v3oidcpassword"`, "v3applicationcredential"}},
		"username missing":          {entry(`auth: {auth_url: "https://ks", password: hunter2}`), "x", []string{"auth.username is missing"}},
		"user domain missing":       {entry(`auth: {auth_url: "https://ks", password: hunter2, username: u, project_id: p}`), "x", []string{"user_domain_name"}},
		"password missing":          {entry(`auth: {auth_url: "https://ks", username: u, user_domain_id: d}`), "x", []string{"auth.password is missing"}},
		"project missing":           {entry(`auth: {auth_url: "https://ks", username: u, user_domain_id: d, password: hunter2}`), "x", []string{"project_name"}},
		"project domain missing":    {entry(`auth: {auth_url: "https://ks", username: u, user_domain_id: d, password: hunter2, project_name: p}`), "x", []string{"project_domain_name"}},
		"secret missing":            {entry(`auth: {auth_url: "https://ks", application_credential_id: a}`, "auth_type: v3applicationcredential"), "x", []string{"application_credential_secret is missing"}},
		"credential without id":     {entry(`auth: {auth_url: "https://ks", application_credential_secret: hunter2}`), "x", []string{"application_credential_id is missing"}},
		"token missing":             {entry(`auth: {auth_url: "https://ks"}`, "auth_type: v3token"), "x", []string{"auth.token is missing"}},
		"identity v2":               {entry(`auth: {auth_url: "https://ks"}`, "identity_api_version: 2.0"), "x", []string{"identity_api_version", "set it to 3"}},
		"unknown interface":         {entry(`auth: {auth_url: "https://ks", token: hunter2}`, "interface: secret"), "x", []string{`"secret"`, "internal"}},
		"password that is an alias": {entry(`auth: {password: *hunter2}`), "x", []string{"cannot be read"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := ParseCloudsYAML([]byte(c.yaml), c.cloud)
			wantClass(t, err, Config, c.words...)
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the secret is in the message: %v", err)
			}
		})
	}
}

func TestACACertPathCountsOnlyUntilThePEMArrives(t *testing.T) {
	identity, err := ParseCloudsYAML([]byte(`{clouds: {x: {auth: {auth_url: "https://ks", token: t}, cacert: /etc/ca.pem}}}`), "x")
	if err != nil {
		t.Fatalf("a path alone must not fail, the PEM may come from elsewhere: %v", err)
	}
	wantClass(t, identity.validate(), Config, "/etc/ca.pem", "PEM")
	wantClass(t, identity.WithCACert([]byte("no certificate")).validate(), Config, "holds no certificate")
}

func TestACACertMayBeInline(t *testing.T) {
	data, err := json.Marshal(map[string]any{"clouds": map[string]any{"x": map[string]any{
		"auth": map[string]any{"auth_url": "https://ks", "token": "t"}, "cacert": certificateText,
	}}})
	if err != nil {
		t.Fatal(err)
	}
	identity, err := ParseCloudsYAML(data, "x")
	if err != nil {
		t.Fatal(err)
	}
	if string(identity.CACert) != certificateText {
		t.Errorf("CACert is %q", identity.CACert)
	}
}

func TestEveryFieldOfAnIdentityIsInItsKey(t *testing.T) {
	base := Identity{}
	keys := map[string]string{base.Key(): "the zero identity"}
	for i := range reflect.TypeFor[Identity]().NumField() {
		field := reflect.TypeFor[Identity]().Field(i)
		changed := base
		if !field.IsExported() {
			changed.caCertPath = "x"
		} else {
			switch value := reflect.ValueOf(&changed).Elem().Field(i); value.Kind() {
			case reflect.String:
				value.SetString("x")
			case reflect.Bool:
				value.SetBool(true)
			case reflect.Slice:
				value.SetBytes([]byte("x"))
			default:
				t.Fatalf("field %s has a kind this test does not know", field.Name)
			}
		}
		if other, taken := keys[changed.Key()]; taken {
			t.Errorf("a changed %s gives the key of %s", field.Name, other)
		}
		keys[changed.Key()] = field.Name
	}
	if (Identity{Username: "ab", Password: "c"}).Key() == (Identity{Username: "a", Password: "bc"}).Key() {
		t.Error("text that moves from one field to the next keeps the key")
	}
}

func TestPrintingShowsNoSecret(t *testing.T) {
	identity := Identity{
		CloudName: "x", AuthURL: "https://ks", Username: "demo",
		Password: "hunter2", ApplicationCredentialSecret: "hunter2", Token: "hunter2",
	}
	session := newSession(identity, NewSessions(Options{}))
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, identity, &identity, session, struct{ I Identity }{identity})
	}
	for _, logger := range []*slog.Logger{slog.New(slog.NewTextHandler(&out, nil)), slog.New(slog.NewJSONHandler(&out, nil))} {
		logger.Info("log in", "identity", identity, "pointer", &identity, "session", session, "any", []any{identity})
	}
	if err := json.NewEncoder(&out).Encode([]any{identity, &identity}); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), fmt.Sprintf("%x", "hunter2")) {
		t.Errorf("a secret was printed:\n%s", out.String())
	}
	if !strings.Contains(out.String(), "demo") {
		t.Errorf("nobody can tell who it was:\n%s", out.String())
	}
}
