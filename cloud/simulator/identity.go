package simulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// identityService is Keystone v3.
type identityService struct {
	s           *Simulator
	domains     []*domain
	projects    []*project
	users       []*user
	roles       []string
	credentials map[string]*applicationCredential
	tokens      map[string]*token
}

type domain struct{ id, name string }

type project struct {
	id, name string
	domain   *domain
}

type user struct {
	id, name, password string
	domain             *domain
	roles              map[*project][]string
}

type applicationCredential struct {
	id, name, description, secret string
	user                          *user
	project                       *project
	roles                         []string
	expires                       time.Time // zero: never
	unrestricted                  bool
	seeded                        bool
}

// token is a Keystone token. project is empty when it is not scoped to one.
type token struct {
	id              string
	project         string
	user            *user
	scope           *project
	roles           []string
	methods         []string
	credential      *applicationCredential
	issued, expires time.Time
	auditID         string
}

// hasRole reports a role of the token in its project.
func (t *token) hasRole(role string) bool { return slices.Contains(t.roles, role) }

// isAdmin reports the cloud-wide power that Keystone's admin role gives in any project.
func (c *call) isAdmin() bool { return c.token.hasRole("admin") }

// identityErrors writes problems as Keystone does; its middleware in the other services answers 401
// the same way.
func identityErrors(p *problem, _ string) (string, []byte) {
	body, _ := json.Marshal(fields{"error": fields{"code": p.status, "message": p.message, "title": http.StatusText(p.status)}})
	return "application/json", body
}

func (k *identityService) setUp(s *Simulator) {
	k.s, k.tokens, k.credentials = s, map[string]*token{}, map[string]*applicationCredential{}
	k.domains = []*domain{{id: "default", name: "Default"}}
	for _, name := range s.scenario.Domains {
		k.domains = append(k.domains, &domain{id: shortID("domain", name), name: name})
	}
	for _, p := range s.scenario.Projects {
		k.projects = append(k.projects, &project{id: p.ID, name: p.Name, domain: k.domainOf(p.Domain)})
		for resource, limit := range p.Quotas {
			s.quotas.set(p.ID, resource, limit)
		}
	}
	for _, u := range s.scenario.Users {
		account := &user{id: u.ID, name: u.Name, password: u.Password, domain: k.domainOf(u.Domain), roles: map[*project][]string{}}
		for name, roles := range u.Roles {
			account.roles[k.projectNamed(name)] = roles
			k.roles = append(k.roles, roles...)
		}
		k.users = append(k.users, account)
	}
	slices.Sort(k.roles)
	k.roles = slices.Compact(k.roles)
	k.seedCredentials()
}

// seedCredentials adds the application credentials of the scenario.
func (k *identityService) seedCredentials() {
	for _, ac := range k.s.scenario.ApplicationCredentials {
		credential := &applicationCredential{id: ac.ID, name: ac.Name, secret: ac.Secret, user: k.userNamed(ac.User), project: k.projectNamed(ac.Project), roles: ac.Roles, seeded: true}
		if len(credential.roles) == 0 {
			credential.roles = credential.user.roles[credential.project]
		}
		k.credentials[ac.ID] = credential
	}
}

// domainOf finds a domain by name, the default one when a scenario names one that it does not list.
func (k *identityService) domainOf(name string) *domain {
	for _, d := range k.domains {
		if d.name == name || d.id == name {
			return d
		}
	}
	return k.domains[0]
}

func (k *identityService) projectNamed(name string) *project {
	return find(k.projects, func(p *project) bool { return p.name == name })
}

func (k *identityService) projectByID(id string) *project {
	return find(k.projects, func(p *project) bool { return p.id == id })
}

func (k *identityService) userNamed(name string) *user {
	return find(k.users, func(u *user) bool { return u.name == name })
}

// find is the first item that fits, nil when none does.
func find[T any](items []*T, fits func(*T) bool) *T {
	if i := slices.IndexFunc(items, fits); i >= 0 {
		return items[i]
	}
	return nil
}

func (k *identityService) routes(rt *router) {
	rt.open("GET /{$}", k.versions)
	rt.open("GET /v3", k.version)
	rt.open("GET /v3/{$}", k.version)
	rt.open("POST /v3/auth/tokens", k.authenticate)
	rt.handle("GET /v3/auth/tokens", k.showToken) // HEAD as well
	rt.handle("DELETE /v3/auth/tokens", k.revokeToken)
	rt.handle("GET /v3/auth/catalog", k.showCatalog)
	rt.handle("GET /v3/auth/projects", k.ownProjects)
	rt.handle("GET /v3/auth/domains", k.ownDomains)
	rt.handle("GET /v3/projects", k.listProjects)
	rt.handle("GET /v3/projects/{id}", k.showProject)
	rt.handle("GET /v3/users", k.listUsers)
	rt.handle("GET /v3/users/{user}", k.showUser)
	rt.handle("GET /v3/users/{user}/projects", k.userProjects)
	rt.handle("GET /v3/users/{user}/application_credentials", k.listCredentials)
	rt.handle("POST /v3/users/{user}/application_credentials", k.createCredential)
	rt.handle("GET /v3/users/{user}/application_credentials/{id}", k.showCredential)
	rt.handle("DELETE /v3/users/{user}/application_credentials/{id}", k.deleteCredential)
	rt.handle("GET /v3/domains", k.listDomains)
	rt.handle("GET /v3/domains/{id}", k.showDomain)
	rt.handle("GET /v3/roles", k.listRoles)
	rt.handle("GET /v3/regions", k.listRegions)
	rt.handle("GET /v3/regions/{id}", k.showRegion)
	rt.handle("GET /v3/services", k.listServices)
	rt.handle("GET /v3/services/{id}", k.showService)
	rt.handle("GET /v3/endpoints", k.listEndpoints)
}

func (k *identityService) versionView(c *call) fields {
	return fields{
		"id": "v3.14", "status": "stable", "updated": "2020-04-07T00:00:00Z",
		"links":       []fields{{"rel": "self", "href": c.base("identity") + "/v3/"}},
		"media-types": []fields{{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}},
	}
}

func (k *identityService) versions(c *call) (reply, error) {
	return reply{status: http.StatusMultipleChoices, body: fields{"versions": fields{"values": []fields{k.versionView(c)}}}}, nil
}

func (k *identityService) version(c *call) (reply, error) {
	return reply{status: http.StatusOK, body: fields{"version": k.versionView(c)}}, nil
}

func unauthorized() *problem {
	return problemf(http.StatusUnauthorized, "The request you have made requires authentication.")
}

func notAuthorizedTo(action string) *problem {
	return problemf(http.StatusForbidden, "You are not authorized to perform the requested action: %s.", action)
}

func (k *identityService) validToken(id string, now time.Time) *token {
	t := k.tokens[id]
	if t == nil || !now.Before(t.expires) || t.credential != nil && !t.credential.validAt(now) {
		return nil
	}
	return t
}

func (ac *applicationCredential) validAt(now time.Time) bool {
	return ac.expires.IsZero() || now.Before(ac.expires)
}

// nameOrID is how Keystone lets requests name things.
type nameOrID struct {
	ID     string    `json:"id"`
	Name   string    `json:"name"`
	Domain *nameOrID `json:"domain"`
}

func (n *nameOrID) fits(id, name string, d *domain) bool {
	if n.ID != "" {
		return n.ID == id
	}
	return n.Name == name && n.Domain != nil && (n.Domain.ID == d.id || n.Domain.ID == "" && n.Domain.Name == d.name)
}

type authRequest struct {
	Auth struct {
		Identity struct {
			Methods  []string `json:"methods"`
			Password struct {
				User struct {
					nameOrID
					Password string `json:"password"`
				} `json:"user"`
			} `json:"password"`
			Token struct {
				ID string `json:"id"`
			} `json:"token"`
			ApplicationCredential struct {
				ID     string    `json:"id"`
				Name   string    `json:"name"`
				Secret string    `json:"secret"`
				User   *nameOrID `json:"user"`
			} `json:"application_credential"`
		} `json:"identity"`
		Scope json.RawMessage `json:"scope"` // an object or "unscoped"
	} `json:"auth"`
}

func (k *identityService) authenticate(c *call) (reply, error) {
	var in authRequest
	if err := c.decode(&in); err != nil {
		return reply{}, err
	}
	if len(in.Auth.Identity.Methods) == 0 {
		return reply{}, problemf(http.StatusBadRequest, "'methods' is a required property")
	}
	t := &token{issued: k.s.now().UTC(), methods: in.Auth.Identity.Methods}
	t.expires = t.issued.Add(time.Duration(k.s.scenario.TokenLifetime))
	for _, method := range in.Auth.Identity.Methods {
		if !k.prove(t, method, &in) {
			return reply{}, unauthorized()
		}
	}
	if !k.scope(t, in.Auth.Scope) {
		return reply{}, unauthorized()
	}
	k.forgetExpired()
	t.id = "gAAAAAB" + strings.ReplaceAll(k.s.newID()+k.s.newID(), "-", "")
	t.auditID = k.s.newID()[:22]
	k.tokens[t.id] = t
	return reply{status: http.StatusCreated, header: map[string]string{"X-Subject-Token": t.id}, body: k.tokenView(c, t)}, nil
}

// forgetExpired keeps the token table small. It is called when a token is made, since an entry on
// the agenda would make the cloud look busy for an hour.
func (k *identityService) forgetExpired() {
	now := k.s.now()
	maps.DeleteFunc(k.tokens, func(_ string, t *token) bool { return !now.Before(t.expires) })
}

// prove checks one method of an auth request and notes what it proves on the token.
func (k *identityService) prove(t *token, method string, in *authRequest) bool {
	switch method {
	case "password":
		asked := in.Auth.Identity.Password.User
		t.user = find(k.users, func(u *user) bool { return asked.fits(u.id, u.name, u.domain) })
		return t.user != nil && t.user.password == asked.Password
	case "token":
		old := k.validToken(in.Auth.Identity.Token.ID, t.issued)
		if old == nil {
			return false
		}
		t.user, t.credential, t.scope, t.roles = old.user, old.credential, old.scope, old.roles
		t.expires = old.expires // a rescoped token does not outlive the first
		t.methods = slices.Compact(append(slices.Clone(old.methods), "token"))
		return true
	case "application_credential":
		return k.proveCredential(t, in)
	}
	return false
}

func (k *identityService) proveCredential(t *token, in *authRequest) bool {
	asked := in.Auth.Identity.ApplicationCredential
	for _, ac := range k.credentials {
		named := asked.User != nil && asked.Name == ac.name && asked.User.fits(ac.user.id, ac.user.name, ac.user.domain)
		if ac.id != asked.ID && (asked.ID != "" || !named) {
			continue
		}
		t.user, t.credential, t.scope, t.roles = ac.user, ac, ac.project, ac.roles
		return ac.secret == asked.Secret && ac.validAt(t.issued)
	}
	return false
}

// scope puts a token into the project that was asked for.
func (k *identityService) scope(t *token, raw json.RawMessage) bool {
	var asked struct {
		Project *nameOrID `json:"project"`
	}
	if len(raw) > 0 && raw[0] == '{' {
		if json.Unmarshal(raw, &asked) != nil || asked.Project == nil {
			return false // domain and system scope: nobody has a role there
		}
		t.scope = find(k.projects, func(p *project) bool { return asked.Project.fits(p.id, p.name, p.domain) })
		if t.scope == nil || t.credential != nil && t.credential.project != t.scope {
			return false
		}
		if t.credential == nil {
			t.roles = t.user.roles[t.scope]
		}
	}
	if t.scope == nil {
		return true
	}
	t.project = t.scope.id
	return len(t.roles) > 0
}

func keystoneTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }

func (k *identityService) tokenView(c *call, t *token) fields {
	view := fields{
		"methods": t.methods, "audit_ids": []string{t.auditID},
		"issued_at": keystoneTime(t.issued), "expires_at": keystoneTime(t.expires),
		"user": fields{"id": t.user.id, "name": t.user.name, "domain": domainRef(t.user.domain), "password_expires_at": nil},
	}
	if t.scope != nil {
		view["project"] = fields{"id": t.scope.id, "name": t.scope.name, "domain": domainRef(t.scope.domain)}
		view["is_domain"] = false
		view["roles"] = roleViews(t.roles)
		if !c.r.URL.Query().Has("nocatalog") {
			view["catalog"] = k.catalog(c, t.project)
		}
	}
	if ac := t.credential; ac != nil {
		view["application_credential"] = fields{"id": ac.id, "name": ac.name, "restricted": !ac.unrestricted}
	}
	return fields{"token": view}
}

func domainRef(d *domain) fields { return fields{"id": d.id, "name": d.name} }

func roleViews(names []string) []fields {
	views := []fields{}
	for _, name := range names {
		views = append(views, fields{"id": shortID("role", name), "name": name})
	}
	return views
}

// subject is the token that a request about tokens is about.
func (k *identityService) subject(c *call) (*token, error) {
	id := c.r.Header.Get("X-Subject-Token")
	t := k.validToken(id, k.s.now())
	if t == nil {
		return nil, problemf(http.StatusNotFound, "Could not find token: %s.", id)
	}
	if t.user != c.token.user && !c.isAdmin() && !c.token.hasRole("service") {
		return nil, notAuthorizedTo("identity:validate_token")
	}
	return t, nil
}

func (k *identityService) showToken(c *call) (reply, error) {
	t, err := k.subject(c)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, header: map[string]string{"X-Subject-Token": t.id}, body: k.tokenView(c, t)}, nil
}

func (k *identityService) revokeToken(c *call) (reply, error) {
	t, err := k.subject(c)
	if err != nil {
		return reply{}, err
	}
	delete(k.tokens, t.id)
	return reply{status: http.StatusNoContent}, nil
}

// revokeTokens ends every token of a project, all of them for "".
func (k *identityService) revokeTokens(projectID string) int {
	before := len(k.tokens)
	maps.DeleteFunc(k.tokens, func(_ string, t *token) bool { return projectID == "" || t.project == projectID })
	return before - len(k.tokens)
}

// removeCredential ends an application credential (by id or name) and the tokens made with it.
func (k *identityService) removeCredential(idOrName string) bool {
	removed := false
	for _, ac := range k.credentials {
		if ac.id != idOrName && ac.name != idOrName {
			continue
		}
		removed = true
		delete(k.credentials, ac.id)
		maps.DeleteFunc(k.tokens, func(_ string, t *token) bool { return t.credential == ac })
	}
	return removed
}

// setPassword changes a password and ends the user's tokens.
func (k *identityService) setPassword(userName, password string) bool {
	u := k.userNamed(userName)
	if u == nil {
		return false
	}
	u.password = password
	maps.DeleteFunc(k.tokens, func(_ string, t *token) bool { return t.user == u && t.credential == nil })
	return true
}

func (k *identityService) countObjects(add func(project, objectType string)) {
	for _, ac := range k.credentials {
		if !ac.seeded {
			add(ac.project.id, "application_credentials")
		}
	}
}

func (k *identityService) requireAdmin(c *call, action string) error {
	if c.isAdmin() {
		return nil
	}
	return notAuthorizedTo(action)
}

// list answers one of Keystone's collections, which carry a links object.
func (k *identityService) list(c *call, collection string, views []fields) (reply, error) {
	for _, field := range []string{"id", "name", "domain_id", "region_id", "service_id", "type", "interface"} {
		if want := c.query(field); want != "" {
			views = slices.DeleteFunc(views, func(v fields) bool { return v[field] != nil && fmt.Sprint(v[field]) != want })
		}
	}
	slices.SortStableFunc(views, func(a, b fields) int { return cmp.Compare(fmt.Sprint(a["id"]), fmt.Sprint(b["id"])) })
	links := fields{"next": nil, "previous": nil, "self": origin(c.r) + c.r.URL.Path}
	return reply{status: http.StatusOK, body: fields{collection: views, "links": links}}, nil
}

// one answers a single object out of a collection.
func (k *identityService) one(kind, id string, views []fields) (reply, error) {
	for _, v := range views {
		if v["id"] == id {
			return reply{status: http.StatusOK, body: fields{kind: v}}, nil
		}
	}
	return reply{}, problemf(http.StatusNotFound, "Could not find %s: %s.", kind, id)
}
