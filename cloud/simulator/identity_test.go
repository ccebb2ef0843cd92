package simulator_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/applicationcredentials"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/projects"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	"github.com/gophercloud/gophercloud/v2/pagination"

	"github.com/sendan-io/sendan/cloud/simulator"
)

// authRejected is Keystone's whole body for every failed login.
const authRejected = `{"error":{"code":401,"message":"The request you have made requires authentication.","title":"Unauthorized"}}`

func (c *testCloud) auth(opts gophercloud.AuthOptions) (*gophercloud.ProviderClient, error) {
	opts.IdentityEndpoint = c.url + "/identity/v3"
	return openstack.AuthenticatedClient(c.ctx(), opts)
}

func TestPasswordLoginIsScopedAndHasACatalog(t *testing.T) {
	s := newTestCloud(t).demo()
	result := tokens.Get(s.ctx(), s.client(openstack.NewIdentityV3), s.provider.Token())
	project := must[*tokens.Project](t)(result.ExtractProject())
	if project.Name != "demo" || project.Domain.Name != "Default" {
		t.Errorf("scoped to %+v, want project demo", project)
	}
	catalog := must[*tokens.ServiceCatalog](t)(result.ExtractServiceCatalog())
	got := map[string]string{}
	for _, entry := range catalog.Entries {
		for _, endpoint := range entry.Endpoints {
			if endpoint.Interface == "public" {
				got[entry.Type] = strings.TrimPrefix(endpoint.URL, s.url)
			}
		}
	}
	want := map[string]string{
		"identity": "/identity/v3", "compute": "/compute/v2.1", "network": "/network", "load-balancer": "/load-balancer", "image": "/image",
		"volumev3": "/volume/v3/" + project.ID, "block-storage": "/volume/v3/" + project.ID, "placement": "/placement",
	}
	for kind, path := range want {
		if got[kind] != path {
			t.Errorf("endpoint of %s is %q, want %q", kind, got[kind], path)
		}
	}
}

func TestLoginFailuresAllReadTheSame(t *testing.T) {
	c := newTestCloud(t)
	for name, body := range map[string]string{
		"wrong password":     `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo","domain":{"id":"default"},"password":"no"}}},"scope":{"project":{"name":"demo","domain":{"id":"default"}}}}}`,
		"unknown user":       `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"nobody","domain":{"id":"default"},"password":"no"}}}}}`,
		"unknown project":    `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo","domain":{"id":"default"},"password":"demo"}}},"scope":{"project":{"name":"nope","domain":{"id":"default"}}}}}`,
		"no role there":      `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo","domain":{"id":"default"},"password":"demo"}}},"scope":{"project":{"name":"admin","domain":{"id":"default"}}}}}`,
		"unknown credential": `{"auth":{"identity":{"methods":["application_credential"],"application_credential":{"id":"nope","secret":"x"}}}}`,
		"unknown token":      `{"auth":{"identity":{"methods":["token"],"token":{"id":"nope"}}}}`,
		"unknown method":     `{"auth":{"identity":{"methods":["magic"]}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			if a := c.send("POST", "/identity/v3/auth/tokens", body); a.status != 401 || strings.TrimSpace(a.body) != authRejected {
				t.Errorf("answer %d %s, want 401 %s", a.status, a.body, authRejected)
			}
		})
	}
}

func TestEveryServiceRefusesAStrangersToken(t *testing.T) {
	c := newTestCloud(t)
	for _, path := range []string{"/compute/v2.1/servers", "/network/v2.0/ports", "/image/v2/images", "/volume/v3/x/volumes", "/identity/v3/projects"} {
		a := c.send("GET", path, "", "X-Auth-Token: nope")
		if a.status != 401 || strings.TrimSpace(a.body) != authRejected || a.header.Get("WWW-Authenticate") == "" {
			t.Errorf("GET %s: %d %s %v", path, a.status, a.body, a.header)
		}
	}
}

func TestTokenExpiresWithTheClock(t *testing.T) {
	s := newTestCloud(t).demo()
	s.advance(time.Hour - time.Second)
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != 200 {
		t.Fatalf("a second before its expiry the token gets %d", a.status)
	}
	s.advance(time.Second)
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != 401 {
		t.Fatalf("at its expiry the token gets %d, want 401", a.status)
	}
}

func TestATokenMadeOfATokenDoesNotOutliveIt(t *testing.T) {
	c := newTestCloud(t)
	s := c.demo()
	c.advance(30 * time.Minute)
	provider := must[*gophercloud.ProviderClient](t)(c.auth(gophercloud.AuthOptions{
		TokenID: s.provider.Token(), TenantName: "demo", DomainName: "Default",
	}))
	token := must[*tokens.Token](t)(tokens.Get(c.ctx(), (&session{c, provider}).client(openstack.NewIdentityV3), provider.Token()).ExtractToken())
	if left := token.ExpiresAt.Sub(c.clock.Now()); left != 30*time.Minute {
		t.Errorf("the second token lives for %s more, want the first one's 30m", left)
	}
}

func TestApplicationCredentialWorksUntilItIsRevoked(t *testing.T) {
	c := newTestCloud(t)
	account := must[simulator.Account](t)(c.sim.CredentialAccount("demo"))
	opts := gophercloud.AuthOptions{ApplicationCredentialID: account.CredentialID, ApplicationCredentialSecret: account.CredentialSecret}
	provider := must[*gophercloud.ProviderClient](t)(c.auth(opts))
	s := &session{c, provider}
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != 200 {
		t.Fatalf("GET servers: %d", a.status)
	}
	if err := c.sim.RevokeCredential("demo"); err != nil {
		t.Fatal(err)
	}
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != 401 {
		t.Errorf("a token of the revoked credential gets %d, want 401", a.status)
	}
	_, err := c.auth(opts)
	expectCode(t, err, http.StatusUnauthorized)
	c.sim.RestoreCredentials()
	if _, err := c.auth(opts); err != nil {
		t.Errorf("after its restoration: %v", err)
	}
}

func TestAnApplicationCredentialShowsItsSecretOnce(t *testing.T) {
	c := newTestCloud(t)
	s := c.demo()
	client := s.client(openstack.NewIdentityV3)
	user := must[*tokens.User](t)(tokens.Get(s.ctx(), client, s.provider.Token()).ExtractUser())
	made := must[*applicationcredentials.ApplicationCredential](t)(applicationcredentials.Create(s.ctx(), client, user.ID, applicationcredentials.CreateOpts{Name: "robot"}).Extract())
	if made.Secret == "" || len(made.Roles) == 0 {
		t.Fatalf("created %+v, want secret and roles", made)
	}
	shown := must[*applicationcredentials.ApplicationCredential](t)(applicationcredentials.Get(s.ctx(), client, user.ID, made.ID).Extract())
	if shown.Secret != "" {
		t.Errorf("the secret is shown again")
	}
	if _, err := c.auth(gophercloud.AuthOptions{ApplicationCredentialName: "robot", ApplicationCredentialSecret: made.Secret, Username: "demo", DomainName: "Default"}); err != nil {
		t.Errorf("login by the credential's name: %v", err)
	}
	if err := applicationcredentials.Delete(s.ctx(), client, user.ID, made.ID).ExtractErr(); err != nil {
		t.Fatal(err)
	}
	if left := c.sim.Objects().Total.Sum(); left != 0 {
		t.Errorf("%d objects left", left)
	}
}

func TestOnlyAdminsListProjects(t *testing.T) {
	c := newTestCloud(t)
	a := c.demo().request("GET", "/identity/v3/projects", "")
	const want = `{"error":{"code":403,"message":"You are not authorized to perform the requested action: identity:list_projects.","title":"Forbidden"}}`
	if strings.TrimSpace(a.body) != want {
		t.Errorf("got %s, want %s", a.body, want)
	}
	admin := c.login("admin", "admin").client(openstack.NewIdentityV3)
	pages := must[pagination.Page](t)(projects.List(admin, nil).AllPages(c.ctx()))
	if all := must[[]projects.Project](t)(projects.ExtractProjects(pages)); len(all) != 3 {
		t.Errorf("%d projects, want 3", len(all))
	}
}

func TestASecondRegionIsInTheCatalog(t *testing.T) {
	c := newTestCloud(t, withScenario(func(sc *simulator.Scenario) { sc.Regions = []string{"RegionOne", "RegionTwo"} }))
	if _, err := openstack.NewComputeV2(c.demo().provider, gophercloud.EndpointOpts{Region: "RegionTwo"}); err != nil {
		t.Error(err)
	}
	if _, err := openstack.NewComputeV2(c.demo().provider, gophercloud.EndpointOpts{Region: "RegionThree"}); err == nil {
		t.Error("a region that does not exist has an endpoint")
	}
}

func TestAChangedPasswordEndsTheUsersTokens(t *testing.T) {
	c := newTestCloud(t)
	s := c.demo()
	if err := c.sim.SetPassword("demo", "changed"); err != nil {
		t.Fatal(err)
	}
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != 401 {
		t.Errorf("an old token gets %d, want 401", a.status)
	}
	_, err := c.auth(gophercloud.AuthOptions{Username: "demo", Password: "demo", DomainName: "Default", TenantName: "demo"})
	expectCode(t, err, http.StatusUnauthorized)
}

func TestRevokedTokenIsUnknown(t *testing.T) {
	s := newTestCloud(t).demo()
	client := s.client(openstack.NewIdentityV3)
	if err := tokens.Revoke(s.ctx(), client, s.provider.Token()).Err; err != nil {
		t.Fatal(err)
	}
	if a := s.request("GET", "/compute/v2.1/servers", ""); a.status != 401 {
		t.Errorf("revoked token gets %d, want 401", a.status)
	}
}

func TestAnUnscopedTokenOpensOnlyKeystone(t *testing.T) {
	c := newTestCloud(t)
	a := c.send("POST", "/identity/v3/auth/tokens", `{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo","domain":{"id":"default"},"password":"demo"}}}}}`)
	token := "X-Auth-Token: " + a.header.Get("X-Subject-Token")
	if own := c.send("GET", "/identity/v3/auth/projects", "", token); own.status != 200 || !strings.Contains(own.body, `"name":"demo"`) {
		t.Errorf("own projects: %d %s", own.status, own.body)
	}
	if servers := c.send("GET", "/compute/v2.1/servers", "", token); servers.status != 401 {
		t.Errorf("servers: %d, want 401", servers.status)
	}
}
